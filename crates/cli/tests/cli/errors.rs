//! What goes wrong, as people and programs read it.

use serde_json::Value;

use crate::stage::{FULL, PLUGIN, Stage, canary, healthy, program};

#[tokio::test]
async fn cli_38_without_cluster_and_host_the_way_out_is_named() {
    let home = tempfile::tempdir().expect("a folder");
    let text = "Error: no Kubernetes configuration and no running crossfade host: set --kubeconfig, or start one with \"crossfade host\"\n  \
                hint: crossfade host\n";
    for name in [PLUGIN, FULL] {
        let output = program(name, home.path())
            .args(["get", "rollout", "web"])
            .output()
            .await;
        let output = output.expect("it runs");
        assert_eq!(output.status.code(), Some(10));
        assert_eq!(String::from_utf8_lossy(&output.stderr), text);
        assert!(output.stdout.is_empty());
    }
    let output = program(FULL, home.path())
        .args(["list", "--host", "/nowhere/control.sock"])
        .output()
        .await;
    let output = output.expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(10), "{said}");
    assert!(
        said.starts_with("Error: no host answers at /nowhere/control.sock: "),
        "{said}"
    );
    let output = program(FULL, home.path())
        .args(["list", "--kubeconfig", "k"])
        .output()
        .await;
    assert_eq!(output.expect("it runs").status.code(), Some(10));
}

#[tokio::test]
async fn cli_39_with_json_an_error_is_one_json_object() {
    let stage = Stage::new();
    stage
        .rollout("checkout", canary(&serde_json::json!([])), healthy())
        .await;
    for (arguments, code, reason, hint) in [
        (
            vec!["get", "rollout", "chekout", "-o", "json"],
            5,
            "NotFound",
            "did you mean \"checkout\"?",
        ),
        (
            vec!["promote", "chekout", "-ojson"],
            5,
            "NotFound",
            "did you mean \"checkout\"?",
        ),
        (
            vec!["promot", "x", "--output=json"],
            2,
            "Usage",
            "did you mean \"promote\"?",
        ),
        (
            vec!["undo", "checkout", "-o", "json"],
            5,
            "NotFound",
            "crossfade history checkout",
        ),
    ] {
        let ended = stage.full(&arguments).await;
        assert_eq!(ended.code, code, "{ended:?}");
        let json: Value = serde_json::from_str(&ended.stderr).expect("one object and nothing else");
        assert_eq!(json["error"]["code"], code);
        assert_eq!(json["error"]["reason"], reason, "{json}");
        assert_eq!(json["error"]["hint"], hint);
        assert!(
            json["error"]["message"]
                .as_str()
                .is_some_and(|text| !text.is_empty()),
            "{json}"
        );
        assert!(
            json["error"]
                .as_object()
                .is_some_and(|error| error.contains_key("field")),
            "{json}"
        );
    }
}

#[tokio::test]
async fn a_name_in_another_namespace_is_found_there() {
    let stage = Stage::new();
    stage
        .rollout("web", canary(&serde_json::json!([])), healthy())
        .await;
    let ended = stage.full(&["abort", "web", "-n", "shop"]).await;
    assert_eq!(ended.code, 5);
    assert!(
        ended
            .stderr
            .ends_with("  hint: there is one in another namespace: add -n default\n"),
        "{}",
        ended.stderr
    );
}

#[tokio::test]
async fn a_closed_pipe_is_no_error() {
    let stage = Stage::new();
    let command = format!("{} docs | head -n 1", env!("CARGO_BIN_EXE_crossfade"));
    let output = tokio::process::Command::new("bash")
        .args(["-c", &format!("set -o pipefail; {command}")])
        .env("HOME", stage.folder.path())
        .output()
        .await
        .expect("bash runs");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(output.status.success());
}
