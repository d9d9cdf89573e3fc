//! Gates beside their Canaries on a real API server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossfade_test_cluster::{Actor, Namespace};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::rig::{Said, Server, Start, crossfade, until};

const CANARY: &str = "
apiVersion: flagger.app/v1beta1
kind: Canary
metadata: {name: podinfo}
spec:
  targetRef: {apiVersion: apps/v1, kind: Deployment, name: podinfo}
  service: {port: 80}
  analysis:
    interval: 10s
    threshold: 2
    maxWeight: 50
    stepWeight: 10
    webhooks: [{name: ask, type: confirm-traffic-increase, url: 'http://gates/gate/check'}]
";

/// A namespace with Canaries, and a kubeconfig that names it.
struct Stage {
    namespace: Namespace,
    folder: tempfile::TempDir,
}

impl Stage {
    async fn new() -> Self {
        let namespace = Namespace::new().await.expect("a namespace");
        let stage = Self {
            namespace,
            folder: tempfile::tempdir().expect("a folder"),
        };
        let definition = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../deploy/crds/canaries.yaml"
        );
        let definition = std::fs::read_to_string(definition).expect("readable");
        stage.namespace.apply(&definition).await.expect("applied");
        until("Canaries are known", async || {
            stage.canaries().list(&ListParams::default()).await.is_ok()
        })
        .await;
        stage
    }

    fn canaries(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("flagger.app", "v1beta1", "Canary");
        let resource = ApiResource::from_gvk_with_plural(&kind, "canaries");
        Api::namespaced_with(
            self.namespace.api::<ConfigMap>().into_client(),
            self.namespace.name(),
            &resource,
        )
    }

    async fn canary(&self) {
        // A kind that was just defined comes and goes for a moment while the API server takes it in.
        until("a Canary is taken", async || {
            self.namespace.apply(CANARY).await.is_ok()
        })
        .await;
    }

    /// The kubeconfig; another address of the API server stands in for its own where one is given.
    fn kubeconfig(&self, address: Option<u16>) -> String {
        let text =
            std::fs::read_to_string(self.namespace.cluster().kubeconfig()).expect("readable");
        let mut config: Value = serde_saphyr::from_str(&text).expect("a kubeconfig");
        config["current-context"] = json!(Actor::Admin.name());
        for context in config["contexts"].as_array_mut().expect("contexts") {
            context["context"]["namespace"] = json!(self.namespace.name());
        }
        if let Some(port) = address {
            for cluster in config["clusters"].as_array_mut().expect("clusters") {
                cluster["cluster"]["server"] = json!(format!("https://127.0.0.1:{port}"));
            }
        }
        let path = self
            .folder
            .path()
            .join(format!("config-{}", address.unwrap_or(0)));
        std::fs::write(&path, config.to_string()).expect("writable");
        path.display().to_string()
    }

    async fn serve(&self, arguments: &[&str]) -> Server {
        let mut all = vec!["--gate-store=kubernetes"];
        all.extend(arguments);
        Start::with(&all)
            .variable("KUBECONFIG", &self.kubeconfig(None))
            .serve()
            .await
    }

    fn body(&self, further: &Value) -> String {
        let mut payload = json!({"name": "podinfo", "namespace": self.namespace.name()});
        let members = further.as_object().cloned().unwrap_or_default();
        payload.as_object_mut().expect("an object").extend(members);
        payload.to_string()
    }

    async fn open(&self, server: &Server, terms: &Value) -> Said {
        server.post("/gate/open", &self.body(terms)).await
    }

    async fn check(&self, server: &Server, call: &str) -> u16 {
        let headers = [("X-Crossfade-Call", call)];
        server
            .ask("POST", "/gate/check", &headers, &self.body(&json!({})))
            .await
            .status
    }

    async fn gates(&self) -> ConfigMap {
        self.namespace
            .api::<ConfigMap>()
            .get("crossfade-gates-podinfo")
            .await
            .expect("it is there")
    }

    async fn record(&self, gate: &str) -> Value {
        let data = self.gates().await.data.unwrap_or_default();
        serde_json::from_str(data.get(gate).map_or("null", String::as_str)).expect("JSON")
    }

    /// Events about the Canary with this reason.
    async fn events(&self, reason: &str) -> Vec<Event> {
        let all = self
            .namespace
            .api::<Event>()
            .list(&ListParams::default())
            .await
            .expect("a list");
        let fits = |event: &Event| {
            event.reason.as_deref() == Some(reason)
                && event.involved_object.kind.as_deref() == Some("Canary")
                && event.involved_object.name.as_deref() == Some("podinfo")
        };
        all.items.into_iter().filter(fits).collect()
    }
}

#[tokio::test]
async fn gates_13_a_gate_in_the_cluster_outlives_its_server_and_is_known_to_all_of_them() {
    let stage = Stage::new().await;
    stage.canary().await;
    let (one, other) = (stage.serve(&[]).await, stage.serve(&[]).await);
    assert_eq!(stage.check(&one, "").await, 403);
    let opened = stage
        .open(&one, &json!({"by": "anna", "reason": "looks good"}))
        .await;
    opened.is(202, "");
    assert_eq!(stage.check(&other, "").await, 200);
    one.kill().await;
    let again = stage.serve(&[]).await;
    assert_eq!(stage.check(&again, "").await, 200);
    let object = stage.gates().await;
    assert_eq!(
        object.metadata.labels.unwrap_or_default()["app.kubernetes.io/managed-by"],
        "crossfade-gates"
    );
    let owners = object.metadata.owner_references.unwrap_or_default();
    assert_eq!(
        (
            owners[0].kind.as_str(),
            owners[0].name.as_str(),
            owners[0].controller
        ),
        ("Canary", "podinfo", None)
    );
    let told = stage.events("GateOpened").await;
    assert_eq!(told.len(), 1);
    let message = told[0].message.clone().unwrap_or_default();
    assert_eq!(
        message,
        "Gate default was opened by anna from 127.0.0.1: looks good"
    );
    // Checks that change nothing write nothing.
    let before = stage.gates().await.metadata.resource_version;
    for _ in 0..5 {
        assert_eq!(stage.check(&other, "").await, 200);
    }
    assert_eq!(stage.gates().await.metadata.resource_version, before);

    // The command line needs no server, only the rights.
    let kubeconfig = stage.kubeconfig(None);
    let run = async |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        crossfade(&[("KUBECONFIG", &kubeconfig)], &words).await
    };
    let (code, out, err) = run("gate close podinfo --reason enough").await;
    assert_eq!(
        (code, out.as_str()),
        (0, "gate 'default' of 'podinfo' is closed\n"),
        "{err}"
    );
    assert_eq!(stage.check(&other, "").await, 403);
    let (_, out, _) = run("gate history podinfo -o json").await;
    let history: Value = serde_json::from_str(&out).expect("JSON");
    let last = history["items"]
        .as_array()
        .and_then(|items| items.last())
        .cloned()
        .unwrap_or_default();
    assert_eq!(
        (
            last["action"].as_str(),
            last["auth"].as_str(),
            last["reason"].as_str()
        ),
        (Some("close"), Some("kubernetes"), Some("enough"))
    );
    assert_eq!(last["by"], Actor::Admin.name());
    let (code, out, _) = run("gate check podinfo").await;
    assert_eq!(
        (code, out.as_str()),
        (0, "podinfo may be changed: no release is under way\n")
    );
    let status = json!({"status": {"phase": "Progressing", "canaryWeight": 10, "failedChecks": 0, "iterations": 0}});
    let canaries = stage.canaries();
    canaries
        .patch_status("podinfo", &PatchParams::default(), &Patch::Merge(&status))
        .await
        .expect("patched");
    for service in ["podinfo", "podinfo-primary"] {
        let (code, out, _) = run(&format!("gate check {service}")).await;
        assert_eq!(code, 6, "{out}");
        assert!(out.starts_with("podinfo is under manual release: Progressing at 10 %, waiting at gate default since "), "{out}");
    }
    let (code, _, err) = run("gate check nobody").await;
    assert_eq!(code, 5, "{err}");
}

#[tokio::test]
async fn gates_14_of_two_checks_at_two_servers_one_gets_the_last_use() {
    let stage = Stage::new().await;
    stage.canary().await;
    let servers = [
        Arc::new(stage.serve(&[]).await),
        Arc::new(stage.serve(&[]).await),
    ];
    for round in 0..10 {
        stage
            .open(&servers[round % 2], &json!({"mode": "once"}))
            .await
            .is(202, "");
        let body = stage.body(&json!({}));
        let ask = |server: &Arc<Server>| {
            let (server, body) = (Arc::clone(server), body.clone());
            tokio::spawn(async move { server.post("/gate/check", &body).await.status })
        };
        let calls = [ask(&servers[0]), ask(&servers[1])];
        let mut answers = Vec::new();
        for call in calls {
            answers.push(call.await.expect("no panic"));
        }
        answers.sort_unstable();
        assert_eq!(answers, [200, 403], "round {round}");
    }
}

#[tokio::test]
async fn gates_16_a_refund_in_the_cluster_opens_the_gate_again_and_is_told() {
    let stage = Stage::new().await;
    stage.canary().await;
    let server = stage.serve(&[]).await;
    stage
        .open(&server, &json!({"mode": "once"}))
        .await
        .is(202, "");
    assert_eq!(stage.check(&server, "one").await, 200);
    assert_eq!(stage.check(&server, "two").await, 403);
    let body = stage.body(&json!({}));
    server
        .ask(
            "POST",
            "/gate/refund",
            &[("X-Crossfade-Call", "one")],
            &body,
        )
        .await
        .is(202, "");
    assert_eq!(stage.check(&server, "two").await, 200);
    let record = stage.record("default").await;
    let actions: Vec<_> = record["history"]
        .as_array()
        .expect("a history")
        .iter()
        .map(|entry| entry["action"].as_str().unwrap_or_default())
        .collect();
    assert_eq!(actions, ["open", "grant", "refund", "grant"]);
    assert_eq!(stage.events("GateGranted").await.len(), 2);
    assert_eq!(stage.events("GateOpened").await.len(), 2);
}

#[tokio::test]
async fn gates_17_a_gate_closes_itself_when_its_time_is_over() {
    let stage = Stage::new().await;
    stage.canary().await;
    let server = stage.serve(&[]).await;
    stage.open(&server, &json!({"ttl": "1h"})).await.is(202, "");
    assert_eq!(stage.check(&server, "").await, 200);
    // An hour passes: what is kept is from an hour ago.
    let mut record = stage.record("default").await;
    for time in ["openedAt", "expiresAt"] {
        let then: jiff::Timestamp = record[time]
            .as_str()
            .and_then(|text| text.parse().ok())
            .expect("a time");
        record[time] = json!((then - jiff::SignedDuration::from_hours(1)).to_string());
    }
    let opened: jiff::Timestamp = record["openedAt"]
        .as_str()
        .and_then(|text| text.parse().ok())
        .expect("a time");
    let expires: jiff::Timestamp = record["expiresAt"]
        .as_str()
        .and_then(|text| text.parse().ok())
        .expect("a time");
    assert_eq!(
        expires.duration_since(opened),
        jiff::SignedDuration::from_hours(1)
    );
    let patch = json!({"data": {"default": record.to_string()}});
    let objects = stage.namespace.api::<ConfigMap>();
    objects
        .patch(
            "crossfade-gates-podinfo",
            &PatchParams::default(),
            &Patch::Merge(&patch),
        )
        .await
        .expect("patched");
    let status = format!(
        "/gate/status?name=podinfo&namespace={}",
        stage.namespace.name()
    );
    assert_eq!(server.get(&status).await.json()["open"], false);
    for _ in 0..3 {
        assert_eq!(stage.check(&server, "").await, 403);
    }
    assert_eq!(server.get(&status).await.json()["open"], false);
    let told = stage.events("GateExpired").await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].type_.as_deref(), Some("Warning"));
}

#[tokio::test]
async fn gates_19_who_shows_no_identity_changes_nothing_and_is_told_by_address() {
    let stage = Stage::new().await;
    stage.canary().await;
    let server = stage.serve(&["--gate-auth=mutations"]).await;
    stage
        .open(&server, &json!({}))
        .await
        .is(401, "Unauthorized");
    assert_eq!(stage.check(&server, "").await, 403);
    let told = stage.events("GateRefused").await;
    assert_eq!(told.len(), 1, "{told:?}");
    let message = told[0].message.clone().unwrap_or_default();
    assert!(
        message.contains("from 127.0.0.1") && message.contains("Unauthorized"),
        "{message}"
    );
    assert_eq!(told[0].type_.as_deref(), Some("Warning"));
}

#[tokio::test]
async fn gates_20_a_token_of_the_cluster_may_what_its_user_may() {
    let stage = Stage::new().await;
    stage.canary().await;
    let server = stage.serve(&["--gate-auth=mutations"]).await;
    stage
        .namespace
        .apply(&format!(
            "
apiVersion: v1
kind: ServiceAccount
metadata: {{name: releaser}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: visitor}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: releaser}}
rules: [{{apiGroups: [flagger.app], resources: [canaries/gate], verbs: [update]}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: releaser}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: releaser}}
subjects: [{{kind: ServiceAccount, name: releaser, namespace: {}}}]
",
            stage.namespace.name()
        ))
        .await
        .expect("applied");
    let token = async |name: &str| {
        let wanted = TokenRequest {
            spec: Some(TokenRequestSpec::default()),
            ..TokenRequest::default()
        };
        let accounts = stage.namespace.api::<ServiceAccount>();
        let made = accounts
            .create_token_request(name, &PostParams::default(), &wanted)
            .await;
        let token = made.expect("a token").status.expect("a token").token;
        token.expect("a token")
    };
    let open = async |path: &str, token: &str| {
        let bearer = format!("Bearer {token}");
        server
            .ask(
                "POST",
                path,
                &[("Authorization", &bearer)],
                &stage.body(&json!({})),
            )
            .await
    };
    let (releaser, visitor) = (token("releaser").await, token("visitor").await);
    open("/gate/open", &visitor).await.is(403, "Forbidden");
    assert_eq!(stage.check(&server, "").await, 403);
    open("/gate/open", "no token of this cluster")
        .await
        .is(401, "Unauthorized");
    open("/rollback/open", &releaser).await.is(403, "Forbidden");
    assert_eq!(stage.check(&server, "").await, 403, "nothing has changed");
    open("/gate/open", &releaser).await.is(202, "");
    assert_eq!(stage.check(&server, "").await, 200);
    let record = stage.record("default").await;
    let user = format!("system:serviceaccount:{}:releaser", stage.namespace.name());
    assert_eq!(record["by"], json!(user));
    assert!(!server.messages().concat().contains(&releaser));
}

#[tokio::test]
async fn the_rights_that_are_installed_are_all_that_a_server_needs() {
    let stage = Stage::new().await;
    stage.canary().await;
    let file = |name: &str| {
        let path = format!("{}/../../deploy/gates/{name}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(path).expect("readable")
    };
    // Of the whole cluster, hence under a name of the test's own.
    let own = format!("gates-{}", stage.namespace.name());
    let here = format!("namespace: {}", stage.namespace.name());
    for name in ["role.yaml", "account.yaml"] {
        let rights = file(name)
            .replace("namespace: crossfade", &here)
            .replace("flagger-loadtester", &own);
        stage.namespace.apply(&rights).await.expect("applied");
    }
    stage
        .namespace
        .apply(&file("gates.yaml"))
        .await
        .expect("applied");
    let accounts = stage.namespace.api::<ServiceAccount>();
    let wanted = TokenRequest {
        spec: Some(TokenRequestSpec::default()),
        ..TokenRequest::default()
    };
    let made = accounts
        .create_token_request(&own, &PostParams::default(), &wanted)
        .await;
    let token = made
        .expect("a token")
        .status
        .expect("a token")
        .token
        .expect("a token");
    let deployment: Value = serde_saphyr::from_multiple(&file("gates.yaml"))
        .expect("YAML")
        .remove(0);
    let arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let mut words: Vec<String> = arguments
        .iter()
        .filter_map(|word| word.as_str().map(str::to_owned))
        .collect();
    for word in &mut words {
        if word == "-port=8080" {
            "-port=0".clone_into(word);
        }
    }
    let kubeconfig = stage.kubeconfig(None);
    words.extend([
        "--gate-store=kubernetes".to_owned(),
        format!("--kubeconfig={kubeconfig}"),
        format!("--token={token}"),
    ]);
    // The token stands in for the admin's certificate, which would win.
    let mut config: Value =
        serde_json::from_str(&std::fs::read_to_string(&kubeconfig).expect("readable"))
            .expect("JSON");
    for user in config["users"].as_array_mut().expect("users") {
        user["user"] = json!({"token": token});
    }
    std::fs::write(&kubeconfig, config.to_string()).expect("writable");
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let server = Start::program(env!("CARGO_BIN_EXE_crossfade").as_ref(), &words)
        .serve()
        .await;
    assert_eq!(stage.check(&server, "").await, 403);
    stage
        .open(&server, &json!({}))
        .await
        .is(401, "Unauthorized");
    assert_eq!(stage.events("GateRefused").await.len(), 1);
    // Whether a token of the cluster is known is asked with its own rights; it may not open gates itself.
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str())];
    server
        .ask("POST", "/gate/open", &headers, &stage.body(&json!({})))
        .await
        .is(403, "Forbidden");
    assert_eq!(stage.record("default").await["open"], false);
    let refused = server.messages();
    assert!(
        !refused
            .iter()
            .any(|message| message.contains("could not be")),
        "{refused:?}"
    );
    assert!(
        server
            .get("/metrics")
            .await
            .body
            .contains("crossfade_gate_open{")
    );
}

/// What becomes of connections through a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Open,
    Silent,
    Shut,
}

/// A way to the API server that can be blocked.
async fn relay(to: u16) -> (u16, watch::Sender<Way>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (set, way) = watch::channel(Way::Open);
    tokio::spawn(async move {
        while let Ok((mut inside, _)) = listener.accept().await {
            let mut way = way.clone();
            tokio::spawn(async move {
                if *way.borrow() == Way::Open
                    && let Ok(mut outside) = TcpStream::connect(("127.0.0.1", to)).await
                {
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut inside, &mut outside) => return,
                        _ = way.wait_for(|way| *way != Way::Open) => {}
                    }
                }
                // Held without a word until that changes.
                let _ = way.wait_for(|way| *way != Way::Silent).await;
            });
        }
    });
    (port, set)
}

#[tokio::test]
async fn gates_21_without_the_api_server_no_gate_is_open_and_nothing_changes() {
    let stage = Stage::new().await;
    stage.canary().await;
    let text = std::fs::read_to_string(stage.namespace.cluster().kubeconfig()).expect("readable");
    let config: Value = serde_saphyr::from_str(&text).expect("a kubeconfig");
    let server = config["clusters"][0]["cluster"]["server"]
        .as_str()
        .expect("an address");
    let to = server
        .rsplit(':')
        .next()
        .and_then(|port| port.trim_end_matches('/').parse().ok())
        .expect("a port");
    let (port, way) = relay(to).await;
    let kubeconfig = stage.kubeconfig(Some(port));
    let server = Start::with(&["--gate-store=kubernetes"])
        .variable("KUBECONFIG", &kubeconfig)
        .serve()
        .await;
    stage.open(&server, &json!({})).await.is(202, "");
    let rollback = stage.body(&json!({}));
    server.post("/rollback/open", &rollback).await.is(202, "");
    assert_eq!(stage.check(&server, "").await, 200);
    for blocked in [Way::Silent, Way::Shut] {
        way.send_replace(blocked);
        for path in [
            "/gate/check",
            "/rollback/check",
            "/gate/open",
            "/gate/close",
            "/rollback/close",
        ] {
            let begun = Instant::now();
            let said = server.post(path, &rollback).await;
            assert_eq!(
                (said.status, said.body.as_str()),
                (503, "gate store unavailable"),
                "{path} {blocked:?}"
            );
            assert!(
                begun.elapsed() < Duration::from_secs(5),
                "{path} {blocked:?}: {:?}",
                begun.elapsed()
            );
        }
    }
    let page = server.get("/metrics").await.body;
    assert!(
        page.contains(r#"crossfade_gate_store_errors_total{op="check"} 4"#),
        "{page}"
    );
    way.send_replace(Way::Open);
    until("it answers again", async || {
        stage.check(&server, "").await == 200
    })
    .await;
    server
        .post("/rollback/check", &rollback)
        .await
        .is(200, "Approved");
}

#[tokio::test]
async fn gates_26_gates_go_with_their_canary() {
    let stage = Stage::new().await;
    stage.canary().await;
    let server = stage.serve(&[]).await;
    stage.open(&server, &json!({})).await.is(202, "");
    server
        .post("/rollback/open", &stage.body(&json!({})))
        .await
        .is(202, "");
    assert_eq!(stage.check(&server, "").await, 200);
    let gone = DeleteParams::default();
    stage
        .canaries()
        .delete("podinfo", &gone)
        .await
        .expect("deleted");
    // Made anew at once: whether the old gates have been collected by then must not matter.
    stage.canary().await;
    assert_eq!(stage.check(&server, "").await, 403);
    server
        .post("/rollback/check", &stage.body(&json!({})))
        .await
        .is(403, "Forbidden");
    stage
        .canaries()
        .delete("podinfo", &gone)
        .await
        .expect("deleted");
    stage
        .namespace
        .until_gone::<ConfigMap>("crossfade-gates-podinfo")
        .await
        .expect("collected");
    let list = server
        .get(&format!("/gate/list?namespace={}", stage.namespace.name()))
        .await
        .json();
    assert_eq!(list, json!([]));
}

#[tokio::test]
async fn a_canary_of_a_cluster_is_approved_and_rejected_without_its_gate_server() {
    let stage = Stage::new().await;
    stage.canary().await;
    let server = stage.serve(&[]).await;
    let status = json!({"status": {
        "phase": "Progressing", "canaryWeight": 10, "failedChecks": 0, "iterations": 0, "lastAppliedSpec": "cf1:abc",
    }});
    let canaries = stage.canaries();
    canaries
        .patch_status("podinfo", &PatchParams::default(), &Patch::Merge(&status))
        .await
        .expect("patched");
    let kubeconfig = stage.kubeconfig(None);
    let run = async |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        crossfade(&[("KUBECONFIG", &kubeconfig)], &words).await
    };
    let (code, _, err) = run("approve podinfo").await;
    assert_eq!(code, 6, "{err}");
    assert!(
        err.contains("is not kept beside the Canaries") && err.contains("--gates"),
        "{err}"
    );
    assert_eq!(stage.check(&server, "").await, 403);
    let (code, out, err) = run("explain canary/podinfo").await;
    assert_eq!(code, 0, "{err}");
    assert!(
        out.contains("gate ask to open") && out.contains("crossfade approve canary/podinfo"),
        "{out}"
    );
    let (code, out, err) = run("approve podinfo --reason fine").await;
    assert_eq!(
        (code, out.as_str()),
        (
            0,
            "canary 'podinfo' approved: gate 'default' is open for one check\n"
        ),
        "{err}"
    );
    assert_eq!(stage.check(&server, "").await, 200);
    assert_eq!(stage.check(&server, "").await, 403, "for one step only");
    let (_, out, _) = run("history canary/podinfo").await;
    assert!(
        out.contains("open gate default") && out.contains("fine"),
        "{out}"
    );
    let (code, _, err) = run("reject podinfo").await;
    assert_eq!(code, 0, "{err}");
    let canary = canaries.get("podinfo").await.expect("it is there");
    let annotations = canary.metadata.annotations.unwrap_or_default();
    assert_eq!(annotations["crossfade.dev/abort"], "cf1:abc");
}

#[tokio::test]
async fn an_answer_that_waits_says_by_its_exit_code_how_the_release_has_moved() {
    let stage = Stage::new().await;
    stage.canary().await;
    let server = stage.serve(&[]).await;
    let canaries = stage.canaries();
    let kubeconfig = stage.kubeconfig(None);
    let run = async |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        crossfade(&[("KUBECONFIG", &kubeconfig)], &words).await
    };
    let becomes = async |change: Value| {
        let params = PatchParams::default();
        if !change["status"].is_null() {
            let patch = Patch::Merge(json!({"status": change["status"]}));
            let patched = canaries.patch_status("podinfo", &params, &patch).await;
            patched.expect("patched");
        }
        if !change["spec"].is_null() {
            let patch = Patch::Merge(json!({"spec": change["spec"]}));
            let patched = canaries.patch("podinfo", &params, &patch).await;
            patched.expect("patched");
        }
    };
    let begun = json!({
        "status": {"phase": "Progressing", "canaryWeight": 10, "failedChecks": 0, "iterations": 0, "lastAppliedSpec": "cf1:abc"},
        "spec": {"suspend": false},
    });
    becomes(begun.clone()).await;
    assert_eq!(stage.check(&server, "").await, 403);
    let (code, out, err) = run("approve podinfo --wait --timeout 1s").await;
    assert_eq!(code, 4, "nobody looks at it: {err}");
    assert!(out.starts_with("canary 'podinfo' approved"), "{out}");
    assert!(err.contains("took longer than 1s to move on"), "{err}");

    for (change, ends, says) in [
        (
            json!({"status": {"canaryWeight": 20}}),
            0,
            "Progressing - weight 20",
        ),
        (
            json!({"status": {"phase": "WaitingPromotion"}}),
            0,
            "WaitingPromotion",
        ),
        (
            json!({"status": {"phase": "Failed", "canaryWeight": 0}}),
            3,
            "The canary has failed",
        ),
        (
            json!({"status": {"lastAppliedSpec": "cf1:def"}}),
            6,
            "another revision",
        ),
        (
            json!({"spec": {"suspend": true}}),
            7,
            "crossfade resume canary/podinfo",
        ),
    ] {
        becomes(begun.clone()).await;
        // Whatever is open is used up, and the next one asks in vain.
        while stage.check(&server, "").await == 200 {}
        let moved = async {
            until("the gate is opened", async || {
                stage.record("default").await["open"] == true
            })
            .await;
            becomes(change.clone()).await;
        };
        let ((code, out, err), ()) = tokio::join!(run("approve podinfo --wait"), moved);
        assert_eq!(code, ends, "{change}: {out}{err}");
        assert!(format!("{out}{err}").contains(says), "{change}: {out}{err}");
    }

    for (phase, ends) in [("Failed", 0), ("Promoting", 1)] {
        becomes(begun.clone()).await;
        let annotations = json!({"metadata": {"annotations": {"crossfade.dev/abort": null}}});
        let none = canaries
            .patch(
                "podinfo",
                &PatchParams::default(),
                &Patch::Merge(&annotations),
            )
            .await;
        none.expect("patched");
        let moved = async {
            until("it is asked to go back", async || {
                let canary = canaries.get("podinfo").await.expect("it is there");
                canary
                    .metadata
                    .annotations
                    .is_some_and(|all| all.contains_key("crossfade.dev/abort"))
            })
            .await;
            becomes(json!({"status": {"phase": phase}})).await;
        };
        let ((code, out, err), ()) = tokio::join!(run("reject podinfo --wait"), moved);
        assert_eq!(code, ends, "{phase}: {out}{err}");
    }
}

/// An address of this machine at which an API server may ask: not its loopback.
fn address_of_this_machine() -> std::net::IpAddr {
    // Nothing is sent: it is only found out from where it would be.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("a port");
    socket.connect("192.0.2.1:9").expect("a way to others");
    socket.local_addr().expect("an address").ip()
}

#[tokio::test]
async fn a_gate_server_that_keeps_its_gates_itself_is_found_by_way_of_the_api_server() {
    let stage = Stage::new().await;
    stage.canary().await;
    let server = Server::new(&["--gate-store=memory"]).await;
    let namespace = stage.namespace.name();
    let behind = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "gates"},
        "spec": {"ports": [{"port": 80, "targetPort": server.port}]},
    });
    // The API server asks only where a pod says that it is.
    let address = address_of_this_machine();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "gates"},
        "spec": {"nodeName": "this-machine", "containers": [{"name": "gates", "image": "crossfade"}]},
    });
    let pod_status =
        json!({"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}});
    let of_pod = json!({"kind": "Pod", "name": "gates", "namespace": namespace});
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "gates"},
        "subsets": [{"addresses": [{"ip": address, "targetRef": of_pod}], "ports": [{"port": server.port}]}],
    });
    for object in [behind, pod, endpoints] {
        stage
            .namespace
            .apply(&object.to_string())
            .await
            .expect("applied");
    }
    let pods = stage.namespace.api::<Pod>();
    let params = PatchParams::default();
    let pod_status = Patch::Merge(&pod_status);
    let patched = pods.patch_status("gates", &params, &pod_status).await;
    patched.expect("patched");
    let status = json!({"status": {
        "phase": "Progressing", "canaryWeight": 10, "failedChecks": 0, "iterations": 0, "lastAppliedSpec": "cf1:abc",
    }});
    let patched = stage
        .canaries()
        .patch_status("podinfo", &PatchParams::default(), &Patch::Merge(&status))
        .await;
    patched.expect("patched");
    assert_eq!(stage.check(&server, "").await, 403);
    let kubeconfig = stage.kubeconfig(None);
    let run = async |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let (code, out, err) = crossfade(&[("KUBECONFIG", &kubeconfig)], &words).await;
        assert_eq!(code, 0, "{line}: {err}");
        out
    };
    // The API server needs a moment to know whom it asks.
    let client = stage.namespace.api::<ConfigMap>().into_client();
    let path = format!("/api/v1/namespaces/{namespace}/services/gates:80/proxy/healthz");
    until("the server is relayed", async || {
        let request = http::Request::get(&path).body(Vec::new());
        let answer = client.request_text(request.expect("a request")).await;
        answer.is_ok_and(|answer| answer == "OK")
    })
    .await;
    let out = run("approve podinfo --reason fine").await;
    assert_eq!(
        out,
        "canary 'podinfo' approved: gate 'default' is open for one check\n"
    );
    assert_eq!(stage.check(&server, "").await, 200);
    assert_eq!(stage.check(&server, "").await, 403);
    run("gate open podinfo").await;
    assert_eq!(stage.check(&server, "").await, 200);
    assert!(
        run("gate status podinfo")
            .await
            .starts_with("default: open")
    );
    run("gate close podinfo default").await;
    assert_eq!(stage.check(&server, "").await, 403);
    let history = run("gate history podinfo").await;
    assert!(
        history.contains("fine") && history.contains(Actor::Admin.name()),
        "{history}"
    );
    let kept = stage.namespace.api::<ConfigMap>();
    let kept = kept
        .get_opt("crossfade-gates-podinfo")
        .await
        .expect("an answer");
    assert_eq!(kept, None, "nothing that nobody would ask in {namespace}");
}
