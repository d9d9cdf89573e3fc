//! Experiments: alone, and as a step of a release.

use crossfade_test_cluster::Trouble;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::analysis::server;
use crate::routers::{SERVICES, objects, until_weights};
use crate::stage::{AnalysisRun, Experiment, Stage};

/// A template with this name; `more` are members of it.
fn template(name: &str, more: &str) -> String {
    let labels = format!("{{app: exp, track: {name}}}");
    let container = format!(
        "{{name: main, image: '{name}', ports: [{{name: http, containerPort: 8080}}, {{name: metrics, containerPort: 9090}}]}}"
    );
    format!(
        "  - {{name: {name}, selector: {{matchLabels: {labels}}}, template: {{metadata: {{labels: {labels}}}, spec: {{containers: [{container}]}}}}{more}}}\n"
    )
}

fn experiment(more: &str, templates: &[String]) -> String {
    format!(
        "apiVersion: argoproj.io/v1alpha1
kind: Experiment
metadata: {{name: ab}}
spec:
  scaleDownDelaySeconds: 0
{more}  templates:
{}",
        templates.concat()
    )
}

impl Stage {
    async fn until_phase(&self, name: &str, phase: &str) -> Result<Experiment, Trouble> {
        let what = format!("phase {phase}");
        let is = |seen: &Experiment| seen.status["phase"] == phase;
        self.namespace.until(name, &what, is).await
    }

    async fn until_scaled(&self, set: &str, wanted: i32) -> Result<ReplicaSet, Trouble> {
        let what = format!("{wanted} pods");
        let is = |set: &ReplicaSet| {
            let spec = set.spec.as_ref().and_then(|spec| spec.replicas);
            let there = set.status.as_ref().map(|status| status.replicas);
            spec == Some(wanted) && there == Some(wanted)
        };
        self.namespace.until(set, &what, is).await
    }

    async fn terminate(&self, name: &str) {
        let patch = Patch::Merge(json!({"spec": {"terminate": true}}));
        let experiments = self.namespace.api::<Experiment>();
        let parameters = PatchParams::default();
        experiments.patch(name, &parameters, &patch).await.unwrap();
    }
}

fn hash(set: &ReplicaSet) -> &str {
    &set.metadata.labels.as_ref().unwrap()["rollouts-pod-template-hash"]
}

#[tokio::test]
async fn experiment_01_and_02_templates_run_for_their_time_and_go() -> Result<(), Trouble> {
    let stage = Stage::new().await?;
    let templates = [template("old", ""), template("new", ", replicas: 2")];
    let delay = experiment("  duration: 3s\n", &templates);
    let delay = delay.replace("scaleDownDelaySeconds: 0", "scaleDownDelaySeconds: 2");
    stage.namespace.apply(&delay).await?;
    let running = stage.until_phase("ab", "Running").await?;
    assert!(running.status["availableAt"].is_string());
    for (name, pods) in [("ab-old", 1), ("ab-new", 2)] {
        let set = stage.until_scaled(name, pods).await?;
        let owner = &set.metadata.owner_references.as_ref().unwrap()[0];
        assert_eq!(
            (owner.kind.as_str(), owner.name.as_str()),
            ("Experiment", "ab")
        );
    }
    let over = stage.until_phase("ab", "Successful").await?;
    assert_eq!(over.status["availableAt"], running.status["availableAt"]);
    for name in ["ab-old", "ab-new"] {
        let set = stage.until_scaled(name, 0).await?;
        let noted = set.metadata.annotations.unwrap();
        assert!(
            noted.contains_key("scale-down-deadline"),
            "it had its delay"
        );
    }
    for text in [
        "Scaled up ReplicaSet ab-new from 0 to 2",
        "Scaled down ReplicaSet ab-new from 2 to 0",
        "Experiment transitioned from Pending -> Running",
        "Experiment transitioned from Running -> Successful",
    ] {
        stage.until_told("Experiment", text).await;
    }
    Ok(())
}

#[tokio::test]
async fn experiment_03_a_template_without_pods_fails_at_its_deadline() -> Result<(), Trouble> {
    let stage = Stage::new().await?;
    let broken = [template("does-not-exist", "")];
    let manifest = experiment("  progressDeadlineSeconds: 2\n", &broken);
    stage.namespace.apply(&manifest).await?;
    let failed = stage.until_phase("ab", "Failed").await?;
    let told = "Template 'does-not-exist' exceeded its progressDeadlineSeconds (2)";
    assert_eq!(failed.status["message"], told);
    stage.until_scaled("ab-does-not-exist", 0).await?;
    Ok(())
}

#[tokio::test]
async fn experiment_04_a_selector_that_misses_its_pods_is_an_error() -> Result<(), Trouble> {
    let stage = Stage::new().await?;
    let astray = template("a", "").replacen("{app: exp, track: a}", "{app: other}", 1);
    stage.namespace.apply(&experiment("", &[astray])).await?;
    let ended = stage.until_phase("ab", "Error").await?;
    let told = ended.status["message"].as_str().unwrap();
    let begins = "Failed to create ReplicaSet for template 'a': ";
    assert!(
        told.starts_with(begins) && told.contains("selector"),
        "{told}"
    );
    Ok(())
}

#[tokio::test]
async fn experiment_08_a_service_has_the_ports_and_lives_as_long_as_the_pods() -> Result<(), Trouble>
{
    let stage = Stage::new().await?;
    let served = experiment("", &[template("a", ", service: {}")]);
    stage.namespace.apply(&served).await?;
    let is_served = |seen: &Experiment| {
        seen.status["templateStatuses"][0]["serviceName"] == "ab-a"
            && seen.status["phase"] == "Running"
    };
    let running: Experiment = stage.namespace.until("ab", "a Service", is_served).await?;
    let set = stage
        .namespace
        .api::<ReplicaSet>()
        .get("ab-a")
        .await
        .unwrap();
    let entry = &running.status["templateStatuses"][0];
    assert_eq!(entry["podTemplateHash"], *hash(&set));
    let service = stage.namespace.api::<Service>().get("ab-a").await.unwrap();
    let spec = service.spec.unwrap();
    let ports = spec.ports.unwrap();
    let ports: Vec<_> = ports
        .iter()
        .map(|port| (port.name.as_deref(), port.port))
        .collect();
    assert_eq!(ports, [(Some("http"), 8080), (Some("metrics"), 9090)]);
    assert_eq!(spec.selector, set.metadata.labels);

    stage.terminate("ab").await;
    stage.until_phase("ab", "Successful").await?;
    stage.namespace.until_gone::<Service>("ab-a").await?;
    stage.until_scaled("ab-a", 0).await?;
    let forgotten = |seen: &Experiment| {
        let entry = &seen.status["templateStatuses"][0];
        entry["serviceName"].as_str().unwrap_or_default().is_empty()
    };
    let _: Experiment = stage.namespace.until("ab", "no Service", forgotten).await?;
    Ok(())
}

#[tokio::test]
async fn experiment_09_a_service_of_somebody_else_is_an_error() -> Result<(), Trouble> {
    let stage = Stage::new().await?;
    stage.namespace.apply(SERVICES).await?;
    let served = experiment("", &[template("a", ", service: {name: stable}")]);
    stage.namespace.apply(&served).await?;
    let ended = stage.until_phase("ab", "Error").await?;
    let told = ended.status["message"].as_str().unwrap();
    let why = "service stable already exists and is not owned by experiment template a";
    assert!(told.ends_with(why), "{told}");
    let service = stage
        .namespace
        .api::<Service>()
        .get("stable")
        .await
        .unwrap();
    assert!(
        service.metadata.owner_references.is_none(),
        "it is left alone"
    );
    Ok(())
}

/// An analysis of one measurement, which asks this address.
fn analysis(address: std::net::SocketAddr) -> String {
    format!(
        "apiVersion: argoproj.io/v1alpha1
kind: AnalysisTemplate
metadata: {{name: errors}}
spec:
  args: [{{name: hash, value: none}}]
  metrics:
  - name: errors
    provider: {{web: {{url: 'http://{address}/', jsonPath: '{{$.rate}}'}}}}
    successCondition: result < 0.05
---
"
    )
}

const ANALYSES: &str = "  duration: 1h
  analyses:
  - {name: compare, templateName: errors, requiredForCompletion: true, args: [{name: hash, value: '{{templates.new.podTemplateHash}}'}]}
";

#[tokio::test]
async fn experiment_11_12_and_16_it_ends_when_what_is_required_was_measured() -> Result<(), Trouble>
{
    let stage = Stage::new().await?;
    let address = server("{\"rate\": 0.01}").await;
    let manifest = experiment(ANALYSES, &[template("new", "")]);
    stage
        .namespace
        .apply(&(analysis(address) + &manifest))
        .await?;
    let ended = stage.until_phase("ab", "Successful").await?;
    assert_eq!(ended.status["message"], "Required AnalysisRuns completed");
    let run = stage
        .namespace
        .api::<AnalysisRun>()
        .get("ab-compare")
        .await
        .unwrap();
    let owner = &run.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!(
        (owner.kind.as_str(), owner.name.as_str()),
        ("Experiment", "ab")
    );
    let available = &ended.status["availableAt"];
    let made = run.metadata.creation_timestamp.unwrap().0.to_string();
    assert!(
        available.as_str().unwrap() <= made.as_str(),
        "{available}, {made}"
    );
    let set = stage.until_scaled("ab-new", 0).await?;
    assert_eq!(run.spec["args"][0]["value"], *hash(&set));
    Ok(())
}

#[tokio::test]
async fn experiment_15_what_is_measured_badly_ends_it_at_once() -> Result<(), Trouble> {
    let stage = Stage::new().await?;
    let address = server("{\"rate\": 0.5}").await;
    let manifest = experiment(ANALYSES, &[template("new", "")]);
    let manifest = manifest.replace(", requiredForCompletion: true", "");
    stage
        .namespace
        .apply(&(analysis(address) + &manifest))
        .await?;
    let ended = stage.until_phase("ab", "Failed").await?;
    let run = stage
        .namespace
        .api::<AnalysisRun>()
        .get("ab-compare")
        .await
        .unwrap();
    assert_eq!(ended.status["message"], run.status["message"]);
    stage.until_scaled("ab-new", 0).await?;
    Ok(())
}

#[tokio::test]
async fn experiment_22_a_pod_that_is_lost_shows_until_another_is_there() -> Result<(), Trouble> {
    let stage = Stage::new().await?;
    let slow = template("a", "").replace(
        "metadata: {labels",
        "metadata: {annotations: {kubelet.crossfade.dev/ready-after: 1s}, labels",
    );
    stage.namespace.apply(&experiment("", &[slow])).await?;
    let before = stage.until_phase("ab", "Running").await?;
    let pods = stage.namespace.api::<Pod>();
    let pod = pods
        .list(&ListParams::default())
        .await
        .unwrap()
        .items
        .remove(0);
    let now = DeleteParams::default().grace_period(0);
    pods.delete(&pod.metadata.name.unwrap(), &now)
        .await
        .unwrap();
    stage.until_phase("ab", "Pending").await?;
    let after = stage.until_phase("ab", "Running").await?;
    assert_eq!(after.status["availableAt"], before.status["availableAt"]);
    Ok(())
}

/// A Rollout whose only step is an Experiment.
fn rollout(image: &str, strategy: &str, experiment: &str) -> String {
    format!(
        "apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {{name: shop}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: shop}}}}
  template:
    metadata: {{labels: {{app: shop}}}}
    spec: {{containers: [{{name: main, image: {image}, ports: [{{containerPort: 80}}]}}]}}
  strategy:
    canary:
{strategy}      steps:
      - experiment: {experiment}
"
    )
}

/// The name of the Experiment that the release waits for.
async fn current(stage: &Stage) -> Result<String, Trouble> {
    let name = |status: &Value| {
        status["canary"]["currentExperiment"]
            .as_str()
            .map(str::to_owned)
    };
    let waiting = stage
        .until("shop", "an Experiment", |rollout| {
            name(&rollout.status).is_some()
        })
        .await?;
    Ok(name(&waiting.status).unwrap())
}

const SIDES: &str = "templates: [{name: old, specRef: stable}, {name: new, specRef: canary}]";

#[tokio::test]
async fn experiment_23_and_30_a_release_waits_for_its_experiment_also_after_a_restart()
-> Result<(), Trouble> {
    let mut stage = Stage::new().await?;
    let step = format!("{{scaleDownDelaySeconds: 0, {SIDES}}}");
    stage.namespace.apply(&rollout("shop:1", "", &step)).await?;
    stage.until_healthy("shop").await?;
    stage.namespace.apply(&rollout("shop:2", "", &step)).await?;
    let name = current(&stage).await?;
    stage.until_phase(&name, "Running").await?;
    stage.stop().await;
    // As if the controller had been killed before it could store the name.
    let lost = json!({"canary": {"currentExperiment": null}});
    stage.change_status("shop", lost).await;
    stage.start().await?;
    assert_eq!(current(&stage).await?, name);
    let experiments = stage.namespace.api::<Experiment>();
    let all = experiments
        .list(&ListParams::default())
        .await
        .unwrap()
        .items;
    assert_eq!(all.len(), 1, "one, never two");
    assert!(name.ends_with("-2-0"), "{name}: revision and step");
    assert_eq!(
        all[0].spec["templates"][0]["template"]["spec"]["containers"][0]["image"],
        "shop:1"
    );
    assert_eq!(
        all[0].spec["templates"][1]["template"]["spec"]["containers"][0]["image"],
        "shop:2"
    );

    stage.terminate(&name).await;
    let ended = stage.until_healthy("shop").await?;
    assert_eq!(ended.status["currentStepIndex"], 1);
    assert!(ended.status["canary"]["currentExperiment"].is_null());
    Ok(())
}

#[tokio::test]
async fn experiment_24_one_that_fails_takes_the_release_back() -> Result<(), Trouble> {
    let stage = Stage::new().await?;
    let address = server("{\"rate\": 0.5}").await;
    let analyses = "analyses: [{name: check, templateName: errors}]";
    let only = format!("{{scaleDownDelaySeconds: 0, {SIDES}, {analyses}}}");
    let manifest = |image| analysis(address) + &rollout(image, "", &only);
    stage.namespace.apply(&manifest("shop:1")).await?;
    stage.until_healthy("shop").await?;
    stage.namespace.apply(&manifest("shop:2")).await?;
    let back = stage
        .until("shop", "the release to be taken back", |rollout| {
            rollout.phase() == "Degraded"
        })
        .await?;
    let told = back.message();
    assert!(
        told.contains("Experiment analysis phase is error/failed: "),
        "{told}"
    );
    let of_run = "AnalysisRun 'check' transitioned from ";
    stage.until_told("Rollout", of_run).await;
    Ok(())
}

#[tokio::test]
async fn experiment_26_and_28_istio_gives_each_template_its_share_until_the_abort()
-> Result<(), Trouble> {
    let stage = Stage::new().await?;
    let group = "networking.istio.io";
    let plural = "virtualservices";
    let services = objects(&stage, group, "v1alpha3", "VirtualService", plural).await?;
    let route = "apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: web}
spec:
  hosts: [web]
  http: [{route: [{destination: {host: stable}, weight: 100}, {destination: {host: canary}, weight: 0}]}]
";
    let strategy = "      stableService: stable
      canaryService: canary
      trafficRouting: {istio: {virtualService: {name: web}}}
";
    let sides = SIDES.replace('}', ", weight: 5}");
    let step = format!("{{scaleDownDelaySeconds: 0, {sides}}}");
    stage
        .namespace
        .apply(&format!("{SERVICES}---\n{route}"))
        .await?;
    stage
        .namespace
        .apply(&rollout("shop:1", strategy, &step))
        .await?;
    stage.until_healthy("shop").await?;
    stage
        .namespace
        .apply(&rollout("shop:2", strategy, &step))
        .await?;
    let name = current(&stage).await?;
    until_weights(&services, "web", "/spec/http/0/route", &[90, 0, 5, 5]).await;
    stage.change_status("shop", json!({"abort": true})).await;
    let ended: Experiment = stage.until_phase(&name, "Successful").await?;
    assert_eq!(ended.spec["terminate"], true);
    until_weights(&services, "web", "/spec/http/0/route", &[100, 0]).await;
    Ok(())
}
