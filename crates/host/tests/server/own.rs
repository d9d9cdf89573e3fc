//! What is below `/crossfade/v1`.

use crossfade_host::client::ApplyMode;
use crossfade_host::wire::{ApplyRequest, ApplyResult};

use super::*;

fn request(documents: Vec<Value>) -> ApplyRequest {
    ApplyRequest {
        documents,
        overlays: Vec::new(),
    }
}

#[tokio::test]
async fn apply_tells_what_became_of_each_document() {
    let f = Fixture::new();
    let documents = vec![
        json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "metadata": {"name": "web"}, "spec": {"odd": 1}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "b"}}),
    ];
    let dry = ApplyMode {
        dry_run: true,
        ..ApplyMode::default()
    };
    let applied = f
        .client
        .apply(&request(documents.clone()), "a", dry)
        .await
        .unwrap();
    assert_eq!(
        applied.iter().map(|a| a.result).collect::<Vec<_>>(),
        [ApplyResult::Created; 2]
    );
    assert!(
        f.client
            .get(Kind::Rollout, "a", "web")
            .await
            .unwrap_err()
            .is_not_found()
    );
    let applied = f
        .client
        .apply(&request(documents.clone()), "a", ApplyMode::default())
        .await
        .unwrap();
    assert_eq!(applied[0].namespace, "a");
    assert_eq!(applied[0].warnings, ["unknown field \"spec.odd\""]);
    assert_eq!(applied[1].namespace, "b");
    let again = f
        .client
        .apply(&request(documents), "a", ApplyMode::default())
        .await
        .unwrap();
    assert_eq!(again[0].result, ApplyResult::Unchanged);
    let flux = json!({"apiVersion": "x/v1", "kind": "Flux", "metadata": {"name": "x"}});
    let error = f
        .client
        .apply(&request(vec![flux]), "a", ApplyMode::default())
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("no matches for kind \"Flux\" in version \"x/v1\"; the host knows"),
        "{error}"
    );
}

#[tokio::test]
async fn the_audit_trail_names_the_user_the_action_and_the_reason() {
    let f = Fixture::new();
    f.create(Kind::Rollout, rollout("web")).await;
    let promote = f.client.acting("promote", Some("looks good: 100 % ✓"));
    let merge = json!({"status": {"promoteFull": true}});
    let patch = crossfade_host::client::Patch::Merge;
    promote
        .patch(
            Kind::Rollout,
            "default",
            "web",
            crossfade_host::client::Part::Status,
            patch,
            &merge,
        )
        .await
        .unwrap();
    f.loopback_client(&f.token)
        .create(
            Kind::ConfigMap,
            "default",
            &json!({"metadata": {"name": "c"}}),
        )
        .await
        .unwrap();
    let rows = f
        .client
        .audit(Some("default"), Some("ro/web"))
        .await
        .unwrap();
    let told: Vec<(&str, &str)> = rows
        .iter()
        .map(|r| (r.action.as_str(), r.reason.as_str()))
        .collect();
    assert_eq!(told, [("create", ""), ("promote", "looks good: 100 % ✓")]);
    let me = std::process::Command::new("id")
        .arg("-un")
        .output()
        .unwrap()
        .stdout;
    assert_eq!(rows[0].actor, String::from_utf8(me).unwrap().trim());
    let rows = f.client.audit(None, Some("c")).await.unwrap();
    assert_eq!((rows.len(), rows[0].actor.as_str()), (1, "token"));
    assert_eq!(f.client.audit(Some("other"), None).await.unwrap(), []);
}

#[tokio::test]
async fn information_says_who_and_where_the_host_is() {
    let f = Fixture::new();
    let info = f.client.info().await.unwrap();
    assert_eq!(info.pid, std::process::id());
    assert_eq!(info.state, f.folder.path().display().to_string());
    assert_eq!(
        (info.listeners.len(), info.metrics.as_deref()),
        (1, Some("127.0.0.1:9090"))
    );
    assert!(f.client.ready().await.unwrap());
}

#[tokio::test]
async fn logs_arrive_as_they_are_written() {
    let f = Fixture::new();
    let wanted = LogQuery {
        container: Some("app x".to_owned()),
        tail_lines: Some(5),
        since_seconds: Some(9),
        previous: true,
        follow: false,
    };
    let mut log = f.client.logs("default", "web-1", &wanted).await.unwrap();
    let mut text = Vec::new();
    while let Some(piece) = log.next().await {
        text.extend_from_slice(&piece.unwrap());
    }
    assert_eq!(
        String::from_utf8(text).unwrap(),
        format!("default/web-1 {wanted:?}\nsecond\n")
    );
    let mut followed = f
        .client
        .logs(
            "default",
            "web-1",
            &LogQuery {
                follow: true,
                ..LogQuery::default()
            },
        )
        .await
        .unwrap();
    assert!(
        followed.next().await.unwrap().is_ok(),
        "before the log ends"
    );
    let error = f
        .client
        .logs("default", "none", &LogQuery::default())
        .await
        .unwrap_err();
    assert!(error.is_not_found());
}

#[tokio::test]
async fn explanations_come_from_the_control_plane() {
    let f = Fixture::new();
    let explanation = f
        .client
        .explain(Kind::Rollout, "default", "web")
        .await
        .unwrap();
    assert_eq!(
        (explanation.rollout.as_str(), explanation.phase.as_str()),
        ("web", "Paused")
    );
}

#[tokio::test]
async fn the_metric_store_gets_path_query_and_body_and_never_the_token() {
    let f = Fixture::new();
    let client = f.loopback_client(&f.token);
    let (code, body) = client
        .prometheus("api/v1/query", &[("query", "sum(up{a=\"b\"})".to_owned())])
        .await
        .unwrap();
    assert_eq!(code, 207);
    assert_eq!(
        String::from_utf8_lossy(&body),
        "GET /api/v1/query?query=sum%28up%7Ba%3D%22b%22%7D%29 authorization=false "
    );
    let answer = raw(&f, b"POST /crossfade/v1/prometheus/api/v1/query HTTP/1.1\r\nhost: x\r\ncontent-length: 8\r\n\r\nquery=up").await;
    assert!(
        answer.ends_with("POST /api/v1/query authorization=false query=up"),
        "{answer}"
    );
}
