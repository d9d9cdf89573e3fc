//! Other tools look at our objects as they do at the reference's: columns, short names, the scale, conditions to wait for, health.

use crossfade_test_cluster::{Actor, Trouble};
use kube::Client;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::stage::{AnalysisRun, Rollout, Stage};

fn manifest(image: &str) -> String {
    format!(
        "apiVersion: argoproj.io/v1alpha1
kind: AnalysisTemplate
metadata: {{name: good}}
spec:
  metrics:
  - name: good
    provider: {{job: {{spec: {{backoffLimit: 0, template: {{spec: {{restartPolicy: Never, containers: [{{name: main, image: x, command: ['true']}}]}}}}}}}}}}
---
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {{name: shop}}
spec:
  replicas: 3
  selector: {{matchLabels: {{app: shop}}}}
  template:
    metadata: {{labels: {{app: shop}}}}
    spec: {{containers: [{{name: main, image: {image}}}]}}
  strategy:
    canary:
      maxSurge: 1
      maxUnavailable: 0
      steps: [{{setWeight: 34}}, {{analysis: {{templates: [{{templateName: good}}]}}}}, {{pause: {{}}}}]
"
    )
}

/// Asks for a path with what is accepted as an answer.
async fn ask(client: &Client, path: &str, accept: &str) -> Value {
    let request = hyper::Request::get(path).header("accept", accept);
    let request = request.body(Vec::new()).unwrap();
    client.request(request).await.unwrap()
}

/// What `kubectl get` shows, a list of cells for each object, after the names of the columns.
async fn table(client: &Client, path: &str) -> Vec<Vec<Value>> {
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let table = ask(client, path, accept).await;
    let columns = table["columnDefinitions"].as_array().unwrap().iter();
    let mut lines = vec![columns.map(|column| column["name"].clone()).collect()];
    for row in table["rows"].as_array().unwrap() {
        lines.push(row["cells"].as_array().unwrap().clone());
    }
    lines
}

#[tokio::test]
async fn kubectl_shows_the_columns_and_knows_the_short_names() -> Result<(), Trouble> {
    let stage = Stage::new().await?;
    stage.namespace.apply(&manifest("shop:1")).await?;
    stage.until_healthy("shop").await?;
    stage.namespace.apply(&manifest("shop:2")).await?;
    let available = |rollout: &Rollout| {
        rollout.is_paused_at(2)
            && rollout.status["availableReplicas"] == 3
            && rollout.status["replicas"] == 3
    };
    stage
        .until("shop", "all pods at the pause", available)
        .await?;
    let client = stage.namespace.cluster().client(Actor::Admin).await?;
    let group = "/apis/argoproj.io/v1alpha1";
    let space = format!("{group}/namespaces/{}", stage.namespace.name());
    let rollouts = table(&client, &format!("{space}/rollouts")).await;
    let columns = [
        "Name",
        "Desired",
        "Current",
        "Up-to-date",
        "Available",
        "Age",
    ];
    assert_eq!(rollouts[0], columns);
    assert_eq!(
        rollouts[1][..5],
        [json!("shop"), json!(3), json!(3), json!(1), json!(3)]
    );
    let runs = table(&client, &format!("{space}/analysisruns")).await;
    assert_eq!(runs[0], ["Name", "Status", "Age"]);
    assert_eq!(runs[1][1], "Successful");

    let kinds = ask(&client, group, "application/json").await;
    let kinds = kinds["resources"].as_array().unwrap();
    for (plural, short) in [
        ("rollouts", "ro"),
        ("analysisruns", "ar"),
        ("analysistemplates", "at"),
        ("clusteranalysistemplates", "cat"),
        ("experiments", "exp"),
    ] {
        let kind = kinds.iter().find(|kind| kind["name"] == plural).unwrap();
        assert_eq!(kind["shortNames"], json!([short]));
    }
    Ok(())
}

#[tokio::test]
async fn kubectl_scales_through_the_scale_and_an_autoscaler_finds_the_pods() -> Result<(), Trouble>
{
    let stage = Stage::new().await?;
    stage.namespace.apply(&manifest("shop:1")).await?;
    stage.until_healthy("shop").await?;
    let rollouts = stage.namespace.api::<Rollout>();
    let scale = rollouts.get_scale("shop").await.unwrap();
    let status = scale.status.unwrap();
    assert_eq!(status.replicas, 3);
    assert_eq!(status.selector.as_deref(), Some("app=shop"));
    // As `kubectl scale --replicas=5 --current-replicas=3` does.
    let mut scale = rollouts.get_scale("shop").await.unwrap();
    scale.spec.as_mut().unwrap().replicas = Some(5);
    let parameters = PatchParams::default();
    let patch = Patch::Merge(json!({
        "metadata": {"resourceVersion": scale.metadata.resource_version},
        "spec": {"replicas": 5},
    }));
    rollouts
        .patch_scale("shop", &parameters, &patch)
        .await
        .unwrap();
    let scaled = |rollout: &Rollout| {
        rollout.is_healthy()
            && rollout.status["availableReplicas"] == 5
            && rollout.status["HPAReplicas"] == 5
    };
    stage.until("shop", "five pods", scaled).await?;
    assert_eq!(stage.sizes().await["shop:1"], 5);
    Ok(())
}

/// True as `kubectl wait --for=condition=…` has it.
fn has(kind: &'static str, status: &'static str) -> impl Fn(&Rollout) -> bool {
    move |rollout| {
        rollout
            .condition(kind)
            .is_some_and(|one| one["status"] == status)
    }
}

#[tokio::test]
async fn kubectl_waits_for_conditions_and_gitops_tools_read_the_health() -> Result<(), Trouble> {
    let stage = Stage::new().await?;
    stage.namespace.apply(&manifest("shop:1")).await?;
    stage
        .until("shop", "Completed", has("Completed", "True"))
        .await?;
    stage
        .until("shop", "Available", has("Available", "True"))
        .await?;
    stage
        .until("shop", "Healthy", has("Healthy", "True"))
        .await?;
    stage.namespace.apply(&manifest("shop:2")).await?;
    stage
        .until("shop", "Completed", has("Completed", "False"))
        .await?;
    stage.until("shop", "Paused", has("Paused", "True")).await?;
    stage
        .change_status("shop", json!({"pauseConditions": null}))
        .await;
    stage
        .until("shop", "Healthy", has("Healthy", "True"))
        .await?;
    let out = stage.until_healthy("shop").await?;
    assert!(has("Completed", "True")(&out) && has("Paused", "False")(&out));

    // Health is read from a text that is a number, and from the phase beside it.
    let observed = out.status["observedGeneration"].as_str().unwrap();
    assert_eq!(observed.parse::<i64>().ok(), out.metadata.generation);
    let cluster = stage.namespace.cluster();
    let requests = cluster.requests(Actor::Crossfade, stage.namespace.name())?;
    let statuses = requests.unwrap_or_default().into_iter();
    let statuses: Vec<_> = statuses
        .filter(|one| one.resource == "rollouts/status" && one.verb == "patch")
        .map(|one| one.body["status"].clone())
        .collect();
    let observed = |status: &&Value| status["observedGeneration"].is_string();
    let first = statuses
        .iter()
        .find(observed)
        .expect("what was observed is told");
    assert!(first["phase"].is_string(), "both come together: {first}");
    let phases = ["Healthy", "Degraded", "Progressing", "Paused"];
    for status in statuses {
        let phase = &status["phase"];
        assert!(
            phase.is_null() || phases.iter().any(|one| phase == one),
            "{status}"
        );
    }
    let runs = stage.namespace.api::<AnalysisRun>();
    let runs = runs.list(&kube::api::ListParams::default()).await.unwrap();
    for run in runs {
        assert_eq!(
            run.status["phase"], "Successful",
            "Healthy, as GitOps tools see it"
        );
    }
    Ok(())
}
