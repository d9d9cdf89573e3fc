//! Rollouts that take their template from another object, as people have them who came from Deployments.

use crossfade_host::store::Kind;
use serde_json::json;

use crate::stage::{Load, Stage};

/// What holds the pods, with its template at this place, and a Rollout that refers to it.
fn manifests(api: &str, kind: &str, spec: &str, more: &str) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{selector: {{app: web}}, ports: [{{port: 80, targetPort: http}}]}}
---
apiVersion: {api}
kind: {kind}
metadata: {{name: web}}
{spec}
---
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {{name: web}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: web}}}}
  workloadRef: {{apiVersion: {api}, kind: {kind}, name: web{more}}}
  strategy: {{canary: {{steps: [{{setWeight: 50}}, {{pause: {{}}}}]}}}}
"
    )
}

/// The template of the sample service, one level deeper than the word `template`.
fn template(version: &str, indent: &str) -> String {
    let lines = [
        "metadata: {labels: {app: web}}".to_owned(),
        "spec:".to_owned(),
        "  containers:".to_owned(),
        "  - name: main".to_owned(),
        "    image: example.com/web:1".to_owned(),
        "    command: [crossfade, sample]".to_owned(),
        format!("    args: [--version={version}, --port=$(PORT)]"),
        "    ports: [{name: http, containerPort: 8080}]".to_owned(),
        "    readinessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1}".to_owned(),
    ];
    lines.map(|line| format!("{indent}{line}")).join("\n")
}

/// Waits until the release stands at its pause.
async fn half_way(stage: &Stage) {
    stage
        .until("it pauses half-way", async || {
            let rollout = stage.get(Kind::Rollout, "web").await;
            (rollout["status"]["currentStepIndex"] == 1).then_some(())
        })
        .await;
}

#[tokio::test]
async fn a_deployment_gives_its_template_its_pods_and_its_next_version_to_a_rollout() {
    let stage = Stage::start("default").await;
    let of = |version: &str| {
        let head = "spec:\n  replicas: 2\n  selector: {matchLabels: {app: web}}\n  template:\n";
        let spec = format!("{head}{}", template(version, "    "));
        manifests("apps/v1", "Deployment", &spec, ", scaleDown: onsuccess")
    };
    stage.apply_text(&of("1")).await;
    stage.healthy("web").await;
    stage
        .until("the Deployment wants no pods", async || {
            let deployment = stage.get(Kind::Deployment, "web").await;
            (deployment["spec"]["replicas"] == 0).then_some(())
        })
        .await;
    let rollout = stage.get(Kind::Rollout, "web").await;
    assert!(
        rollout["spec"]["template"].is_null(),
        "it is not written back"
    );
    let load = Load::start(&stage.address("web").await);

    // Who changes the Deployment releases a version.
    stage.apply_text(&of("2")).await;
    half_way(&stage).await;
    stage.done(&["promote", "web"]).await;
    stage.healthy("web").await;
    stage.only_pods_of("2", 2).await;
    // And goes back to the one before in the Deployment, not in the Rollout.
    stage.done(&["undo", "web"]).await;
    let deployment = stage.get(Kind::Deployment, "web").await;
    let args = &deployment["spec"]["template"]["spec"]["containers"][0]["args"];
    assert_eq!(args[0], "--version=1");
    half_way(&stage).await;
    stage.done(&["promote", "web", "--full", "--wait"]).await;
    stage.only_pods_of("1", 2).await;
    load.stop().await.none_failed();
    stage.end().await;
}

#[tokio::test]
async fn a_pod_template_is_stored_released_and_put_back() {
    let stage = Stage::start("default").await;
    let of = |version: &str| {
        let spec = format!("template:\n{}", template(version, "  "));
        manifests("v1", "PodTemplate", &spec, "")
    };
    stage.apply_text(&of("1")).await;
    stage.healthy("web").await;
    stage.only_pods_of("1", 2).await;
    stage.apply_text(&of("2")).await;
    half_way(&stage).await;
    stage.done(&["undo", "web"]).await;
    let back = stage.get(Kind::PodTemplate, "web").await;
    let container = &back["template"]["spec"]["containers"][0];
    assert_eq!(container["args"][0], "--version=1");
    stage.healthy("web").await;
    stage.only_pods_of("1", 2).await;
    let said = stage
        .done(&["set", "image", "web", "main=example.com/web:2"])
        .await;
    assert_eq!(said, "podtemplate \"web\" image updated\n");
    half_way(&stage).await;
    stage.done(&["promote", "web", "--full", "--wait"]).await;
    let pods = stage.all(Kind::Pod).await;
    let of_image = |image: &str| {
        let with = pods
            .iter()
            .filter(|pod| pod["spec"]["containers"][0]["image"] == image);
        with.count()
    };
    assert!(of_image("example.com/web:2") >= 2, "{pods:?}");
    stage.end().await;
}

#[tokio::test]
async fn what_holds_no_template_and_what_is_not_there_is_named() {
    let stage = Stage::start("default").await;
    let rollout = |reference: &str| {
        format!(
            "{{apiVersion: argoproj.io/v1alpha1, kind: Rollout, metadata: {{name: web}}, spec: {{replicas: 1, selector: {{matchLabels: {{app: web}}}}, workloadRef: {{{reference}}}, strategy: {{canary: {{}}}}}}}}"
        )
    };
    for (reference, why) in [
        (
            "apiVersion: apps/v1, kind: StatefulSet, name: db",
            "workload of type apps/StatefulSet is not supported",
        ),
        (
            "apiVersion: v1, kind: PodTemplate, name: none",
            "podtemplates \"default/none\" not found",
        ),
    ] {
        stage.apply_text(&rollout(reference)).await;
        stage
            .until(why, async || {
                let rollout = stage.get(Kind::Rollout, "web").await;
                let told = rollout["status"]["conditions"].to_string();
                told.contains(&json!(why).to_string().trim_matches('"').to_owned())
                    .then_some(())
            })
            .await;
    }
    assert_eq!(stage.all(Kind::Pod).await.len(), 0);
    stage.end().await;
}
