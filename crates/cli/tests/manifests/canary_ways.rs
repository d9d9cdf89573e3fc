//! Canaries that go other ways than step by step: copies first, without an analysis, with a Service in place of a Deployment.

use crossfade_host::store::Kind;
use serde_json::json;

use crate::flagger::{FILES, OVERLAY};
use crate::stage::{Load, Stage};

impl Stage {
    /// The Canary of the manifests whose analysis is changed in this way, and requests to it.
    async fn canary_with(&self, spec: &serde_json::Value) -> Load {
        self.apply(&FILES, OVERLAY, &[]).await;
        self.canary_is("payment-api", "Initialized").await;
        let patch = json!({"spec": spec});
        self.change(Kind::Canary, "payment-api", &patch).await;
        Load::start(&self.address("payment-api").await)
    }
}

#[tokio::test]
async fn copies_of_requests_come_before_requests() {
    let stage = Stage::start("default").await;
    let load = stage
        .canary_with(&json!({"analysis": {"mirror": true, "mirrorWeight": 100}}))
        .await;
    stage.apply_new().await;
    let copies = r#"sum(http_requests_total{mirror="true",service="payment-api-canary"}) > 0"#;
    let users = stage
        .until("the new version gets copies", async || {
            // Counted before: whoever comes between two looks makes nothing true that is not.
            let users = load.counts().of("2.5.0");
            let answer = stage.query(copies).await;
            answer.pointer("/data/result/0").map(|_| users)
        })
        .await;
    assert_eq!(users, 0, "no user has met the new version yet");
    stage.canary_is("payment-api", "Succeeded").await;
    let told = stage.told("payment-api").await;
    let advances: Vec<&String> = told
        .iter()
        .filter(|told| told.starts_with("Advance"))
        .collect();
    assert_eq!(
        advances,
        [
            "Advance payment-api.default canary weight 0",
            "Advance payment-api.default canary weight 25",
            "Advance payment-api.default canary weight 50",
        ]
    );
    let counts = load.stop().await;
    counts.none_failed();
    assert!(counts.of("2.5.0") > 0, "{counts:?}");
    stage.end().await;
}

#[tokio::test]
async fn a_release_whose_analysis_is_skipped_in_the_middle_is_promoted_at_once() {
    let stage = Stage::start("default").await;
    let load = stage.canary_with(&json!({})).await;
    stage.apply_new().await;
    stage
        .until("it has its first share", async || {
            let canary = stage.get(Kind::Canary, "payment-api").await;
            (canary["status"]["canaryWeight"] == 25).then_some(())
        })
        .await;
    let skip = json!({"spec": {"skipAnalysis": true}});
    stage.change(Kind::Canary, "payment-api", &skip).await;
    stage.canary_is("payment-api", "Succeeded").await;
    let last = "Promotion completed! Canary analysis was skipped for payment-api.default";
    let told = stage
        .until("it is told", async || {
            let told = stage.told("payment-api").await;
            told.iter().any(|told| told == last).then_some(told)
        })
        .await;
    assert!(
        !told.iter().any(|told| told.ends_with("canary weight 50")),
        "{told:?}"
    );
    let skipped = r#"flagger_canary_successes_total{analysis_status="skipped"}"#;
    stage
        .until("it is counted as skipped", async || {
            let answer = stage.query(skipped).await;
            let found = answer.pointer("/data/result/0/value/1")?;
            (found == "1").then_some(())
        })
        .await;
    load.stop().await.none_failed();
    stage.end().await;
}

const SERVICE: &str = r"
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web, version: v1}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: flagger.app/v1beta1
kind: Canary
metadata: {name: web}
spec:
  targetRef: {apiVersion: v1, kind: Service, name: web}
  service: {port: 80, targetPort: 8080}
  analysis: {interval: 10s, threshold: 5, stepWeight: 50, maxWeight: 50}
";

/// Pods of one version that nobody releases.
fn pods(version: &str) -> String {
    format!(
        r#"
---
apiVersion: apps/v1
kind: ReplicaSet
metadata: {{name: web-{version}}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: web, version: {version}}}}}
  template:
    metadata: {{labels: {{app: web, version: {version}}}}}
    spec:
      containers:
        - name: web
          image: web:{version}
          command: ["crossfade", "sample"]
          args: ["--version={version}", "--port=$(PORT)"]
          ports: [{{containerPort: 8080}}]
          readinessProbe: {{httpGet: {{path: /healthz, port: 8080}}, periodSeconds: 1}}
"#
    )
}

#[tokio::test]
async fn a_service_as_target_is_released_by_what_it_selects() {
    let stage = Stage::start("default").await;
    stage
        .apply_text(&format!("{SERVICE}{}{}", pods("v1"), pods("v2")))
        .await;
    stage.canary_is("web", "Initialized").await;
    // Nobody waits for pods that no workload of a Canary has.
    stage
        .until("all pods are ready", async || {
            let sets = stage.all(Kind::ReplicaSet).await;
            let ready = |set: &serde_json::Value| set["status"]["readyReplicas"] == 2;
            (sets.len() == 2 && sets.iter().all(ready)).then_some(())
        })
        .await;
    let load = Load::start(&stage.address("web").await);
    let next = json!({"spec": {"selector": {"version": "v2"}}});
    stage.change(Kind::Service, "web", &next).await;
    stage
        .until("it has half of the requests", async || {
            let canary = stage.get(Kind::Canary, "web").await;
            (canary["status"]["canaryWeight"] == 50).then_some(())
        })
        .await;
    let before = load.counts();
    stage
        .until("both versions answer", async || {
            let now = load.counts();
            let both = ["v1", "v2"]
                .iter()
                .all(|version| now.of(version) > before.of(version));
            both.then_some(())
        })
        .await;
    stage.canary_is("web", "Succeeded").await;
    let primary = stage.get(Kind::Service, "web-primary").await;
    assert_eq!(primary["spec"]["selector"]["version"], "v2");
    for _ in 0..20 {
        let answered = crate::stage::version(&stage.address("web").await, None).await;
        assert_eq!(answered, "v2");
    }
    load.stop().await.none_failed();
    stage.end().await;
}
