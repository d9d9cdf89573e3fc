//! Canaries on a real API server: by themselves to their end, taken back, taken over from another controller, and refused.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use crossfade_test_cluster::{Actor, Trouble};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::routers::definition;
use crate::stage::{Canary, Stage};

/// What the server beside answers.
#[derive(Default)]
struct Answers {
    /// The percentage of good answers; 100 where it is not told.
    success: Option<&'static str>,
    /// Hooks that say no.
    closed: BTreeSet<&'static str>,
    /// Hooks that were called, in order.
    called: Vec<String>,
    /// The metric server is broken, or gives no answer at all.
    ails: Option<Ailment>,
    /// Paths under which it was asked.
    asked: BTreeSet<String>,
}

/// What ails the metric server.
#[derive(Clone, Copy, PartialEq)]
enum Ailment {
    Broken,
    Silent,
}

/// A Prometheus and gates, for as long as the test runs.
struct Beside {
    address: SocketAddr,
    answers: Arc<Mutex<Answers>>,
}

impl Beside {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answers = Arc::new(Mutex::new(Answers::default()));
        let shared = Arc::clone(&answers);
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(answer(connection, Arc::clone(&shared)));
            }
        });
        Self { address, answers }
    }

    fn set(&self, change: impl FnOnce(&mut Answers)) {
        change(&mut self.answers.lock().unwrap());
    }

    fn called(&self, name: &str) -> usize {
        let answers = self.answers.lock().unwrap();
        answers.called.iter().filter(|one| *one == name).count()
    }
}

async fn answer(mut connection: TcpStream, answers: Arc<Mutex<Answers>>) {
    let mut request = Vec::new();
    let mut part = [0; 4096];
    let whole = loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let line = line.to_lowercase();
                line.strip_prefix("content-length: ")?.trim().parse().ok()
            });
            if body.len() >= length.unwrap_or(0) {
                break text;
            }
        }
        match connection.read(&mut part).await {
            Ok(count @ 1..) => request.extend_from_slice(&part[..count]),
            _ => return,
        }
    };
    let path = whole.split(' ').nth(1).unwrap_or_default();
    let ails = answers.lock().unwrap().ails;
    if ails == Some(Ailment::Silent) {
        // Whoever asks hangs up.
        let _ = connection.read(&mut part).await;
        return;
    }
    let (status, body) = {
        let mut answers = answers.lock().unwrap();
        if let Some((path, _)) = path.split_once('?') {
            answers.asked.insert(path.to_owned());
        }
        if let Some(hook) = path.strip_prefix("/hook/") {
            let name = hook.rsplit('/').next().unwrap_or_default().to_owned();
            let is_closed = answers.closed.contains(name.as_str());
            answers.called.push(name);
            (if is_closed { 403 } else { 200 }, "closed".to_owned())
        } else if ails == Some(Ailment::Broken) {
            (503, "come back later".to_owned())
        } else {
            let value = if path.contains("vector") {
                "1"
            } else if path.contains("quantile") || path.contains("1000") {
                "0.1"
            } else {
                answers.success.unwrap_or("100")
            };
            let result = json!([{"metric": {}, "value": [1, value]}]);
            let data = json!({"resultType": "vector", "result": result});
            (200, json!({"status": "success", "data": data}).to_string())
        }
    };
    let head =
        format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nconnection: close");
    let text = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let _ = connection.write_all(text.as_bytes()).await;
}

fn deployment(image: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: shop, labels: {{app: shop}}}}
spec:
  replicas: 2
  progressDeadlineSeconds: 300
  selector: {{matchLabels: {{app: shop}}}}
  template:
    metadata: {{labels: {{app: shop}}}}
    spec: {{containers: [{{name: main, image: {image}}}]}}
"
    )
}

const INGRESS: &str = "apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop}
spec:
  ingressClassName: nginx
  rules:
  - http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: shop, port: {number: 80}}}}]}
";

/// A Canary of the Deployment, judged by the server beside.
fn canary(beside: &Beside, provider: &str, analysis: &str) -> String {
    format!(
        "apiVersion: flagger.app/v1beta1
kind: Canary
metadata: {{name: shop}}
spec:
  provider: {provider}
  metricsServer: http://{}
  targetRef: {{apiVersion: apps/v1, kind: Deployment, name: shop}}
  ingressRef: {{apiVersion: networking.k8s.io/v1, kind: Ingress, name: shop}}
  progressDeadlineSeconds: 300
  service: {{port: 80, targetPort: 8080}}
  analysis:
    interval: 10s
    threshold: 1
    metrics:
    - {{name: request-success-rate, interval: 1m, thresholdRange: {{min: 99}}}}
    - {{name: request-duration, interval: 1m, thresholdRange: {{max: 500}}}}
{analysis}",
        beside.address
    )
}

fn phase(canary: &Canary) -> &str {
    canary.status["phase"].as_str().unwrap_or_default()
}

async fn until_phase(stage: &Stage, name: &str, wanted: &str) -> Result<Canary, Trouble> {
    let is = |canary: &Canary| phase(canary) == wanted;
    let reached = stage.namespace.until(name, wanted, is).await;
    let told = stage.told("Canary").await;
    assert!(reached.is_ok(), "{told:#?}\n{:?}", stage.writes());
    reached
}

async fn until_told(stage: &Stage, text: &str) {
    for _ in 0..600 {
        let told = stage.told("Canary").await;
        if told.iter().any(|one| one.contains(text)) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    let told = stage.told("Canary").await;
    assert_eq!(told, [text], "it was never told");
}

/// Image and number of pods that a Deployment wants.
async fn wants(stage: &Stage, name: &str) -> (String, i32) {
    let deployment = stage.namespace.api::<Deployment>().get(name).await.unwrap();
    let spec = deployment.spec.unwrap();
    let pods = spec.template.spec.unwrap();
    let image = pods.containers[0].image.clone().unwrap();
    (image, spec.replicas.unwrap())
}

fn weight(ingress: &Ingress) -> &str {
    let annotations = ingress.metadata.annotations.as_ref();
    let weight = annotations.and_then(|all| all.get("nginx.ingress.kubernetes.io/canary-weight"));
    weight.map_or("", String::as_str)
}

async fn selects(stage: &Stage, name: &str) -> BTreeMap<String, String> {
    let service = stage.namespace.api::<Service>().get(name).await.unwrap();
    service.spec.unwrap().selector.unwrap_or_default()
}

#[tokio::test]
async fn a_canary_without_a_router_is_promoted_after_its_looks() -> Result<(), Trouble> {
    let stage = Stage::new().await?;
    let beside = Beside::new().await;
    let manifest = canary(&beside, "kubernetes", "    iterations: 2\n");
    stage.namespace.apply(&deployment("shop:1")).await?;
    stage.namespace.apply(&manifest).await?;
    until_phase(&stage, "shop", "Initialized").await?;
    assert_eq!(
        wants(&stage, "shop-primary").await,
        ("shop:1".to_owned(), 2)
    );
    assert_eq!(wants(&stage, "shop").await.1, 0);
    let label = |value: &str| BTreeMap::from([("app".to_owned(), value.to_owned())]);
    assert_eq!(selects(&stage, "shop").await, label("shop-primary"));
    assert_eq!(selects(&stage, "shop-canary").await, label("shop"));

    stage.namespace.apply(&deployment("shop:2")).await?;
    until_phase(&stage, "shop", "Succeeded").await?;
    assert_eq!(
        wants(&stage, "shop-primary").await,
        ("shop:2".to_owned(), 2)
    );
    assert_eq!(wants(&stage, "shop").await.1, 0);
    let namespace = stage.namespace.name();
    until_told(
        &stage,
        &format!("Promotion completed! Scaling down shop.{namespace}"),
    )
    .await;
    let told = stage.told("Canary").await;
    for text in [
        "all the metrics providers are available!".to_owned(),
        format!("Initialization done! shop.{namespace}"),
        format!("New revision detected! Scaling up shop.{namespace}"),
        format!("Advance shop.{namespace} canary iteration 2/2"),
    ] {
        assert!(told.contains(&text), "{text} is missing in {told:#?}");
    }
    let refused: Vec<_> = stage
        .writes()
        .into_iter()
        .filter(|(_, _, code)| *code >= 400)
        .collect();
    assert_eq!(refused, [], "no write is refused");
    Ok(())
}

#[tokio::test]
async fn nginx_takes_a_canary_by_weight_to_its_promotion() -> Result<(), Trouble> {
    let stage = Stage::new().await?;
    let beside = Beside::new().await;
    let hooks = format!(
        "    stepWeights: [20, 50]
    webhooks:
    - {{name: gate, type: confirm-traffic-increase, url: 'http://{}/hook/gate'}}
",
        beside.address
    );
    let manifest = canary(&beside, "nginx", &hooks);
    stage.namespace.apply(INGRESS).await?;
    stage.namespace.apply(&deployment("shop:1")).await?;
    stage.namespace.apply(&manifest).await?;
    until_phase(&stage, "shop", "Initialized").await?;
    let is = |wanted: &'static str| move |ingress: &Ingress| weight(ingress) == wanted;
    let namespace = &stage.namespace;
    namespace.until("shop-canary", "weight 0", is("0")).await?;
    stage.namespace.apply(&deployment("shop:2")).await?;
    namespace
        .until("shop-canary", "weight 20", is("20"))
        .await?;
    beside.set(|answers| {
        answers.closed.insert("gate");
    });
    until_told(&stage, "waiting for traffic increase approval gate").await;
    beside.set(|answers| {
        answers.closed.remove("gate");
    });
    namespace
        .until("shop-canary", "weight 50", is("50"))
        .await?;
    until_phase(&stage, "shop", "Succeeded").await?;
    namespace.until("shop-canary", "weight 0", is("0")).await?;
    assert_eq!(
        wants(&stage, "shop-primary").await,
        ("shop:2".to_owned(), 2)
    );
    assert!(beside.called("gate") >= 3);
    Ok(())
}

#[tokio::test]
async fn a_canary_that_is_judged_bad_is_taken_back() -> Result<(), Trouble> {
    let stage = Stage::new().await?;
    let beside = Beside::new().await;
    let manifest = canary(&beside, "nginx", "    stepWeight: 20\n    maxWeight: 40\n");
    stage.namespace.apply(INGRESS).await?;
    stage.namespace.apply(&deployment("shop:1")).await?;
    stage.namespace.apply(&manifest).await?;
    until_phase(&stage, "shop", "Initialized").await?;
    stage.namespace.apply(&deployment("shop:2")).await?;
    let is = |wanted: &'static str| move |ingress: &Ingress| weight(ingress) == wanted;
    stage
        .namespace
        .until("shop-canary", "weight 20", is("20"))
        .await?;
    beside.set(|answers| answers.success = Some("40"));
    let failed = until_phase(&stage, "shop", "Failed").await?;
    assert_eq!(failed.status["canaryWeight"], 0);
    assert_eq!(
        wants(&stage, "shop-primary").await,
        ("shop:1".to_owned(), 2)
    );
    assert_eq!(wants(&stage, "shop").await.1, 0);
    let ingress = stage.namespace.api::<Ingress>().get("shop-canary").await;
    assert_eq!(weight(&ingress.unwrap()), "0");
    let namespace = stage.namespace.name();
    until_told(
        &stage,
        &format!("Canary failed! Scaling down shop.{namespace}"),
    )
    .await;
    let told = stage.told("Canary").await;
    let why = format!("Halt shop.{namespace} advancement success rate 40.00% < 99%");
    assert!(told.contains(&why), "{told:#?}");
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_run_is_told_and_touches_nothing() -> Result<(), Trouble> {
    let stage = Stage::new().await?;
    let beside = Beside::new().await;
    let manifest = canary(&beside, "linkerd", "    stepWeight: 10\n");
    stage.namespace.apply(&deployment("shop:1")).await?;
    stage.namespace.apply(&manifest).await?;
    let text = "the provider linkerd cannot be driven yet; use one of kubernetes, nginx, istio, gatewayapi:v1, gatewayapi:v1beta1";
    let told = |canary: &Canary| canary.status["conditions"][0]["message"] == text;
    stage.namespace.until("shop", "its refusal", told).await?;
    until_told(&stage, &format!("invalid canary spec: {text}")).await;
    assert_eq!(wants(&stage, "shop").await, ("shop:1".to_owned(), 2));
    let services = stage.namespace.api::<Service>();
    assert!(services.get_opt("shop-canary").await.unwrap().is_none());

    // A target that is not there, and one that somebody else has.
    let missing = manifest
        .replace("linkerd", "kubernetes")
        .replace("name: shop}\n  ingress", "name: lost}\n  ingress")
        .replace("metadata: {name: shop}", "metadata: {name: lost}");
    stage.namespace.apply(&missing).await?;
    let namespace = stage.namespace.name();
    let text =
        format!("deployment lost.{namespace} get query error: deployments.apps \"lost\" not found");
    until_told(&stage, &text).await;
    let second = manifest
        .replace("linkerd", "kubernetes")
        .replace("metadata: {name: shop}", "metadata: {name: zweite}");
    stage.namespace.apply(&second).await?;
    until_told(&stage, "Found more than one canary with the same target").await;
    assert!(services.get_opt("shop-canary").await.unwrap().is_none());
    Ok(())
}

#[tokio::test]
async fn flagger_routing_40_a_metric_server_has_a_path_a_limit_and_words_of_its_own()
-> Result<(), Trouble> {
    let stage = Stage::new().await?;
    let beside = Beside::new().await;
    let manifest = canary(&beside, "kubernetes", "    iterations: 9\n")
        .replace(
            &beside.address.to_string(),
            &format!("{}/base", beside.address),
        )
        .replace("threshold: 1", "threshold: 9");
    stage.namespace.apply(&deployment("shop:1")).await?;
    stage.namespace.apply(&manifest).await?;
    until_phase(&stage, "shop", "Initialized").await?;
    stage.namespace.apply(&deployment("shop:2")).await?;
    let looked = |canary: &Canary| canary.status["iterations"] == 1;
    stage
        .namespace
        .until("shop", "its first look", looked)
        .await?;
    let asked = beside.answers.lock().unwrap().asked.clone();
    assert_eq!(asked, BTreeSet::from(["/base/api/v1/query".to_owned()]));
    beside.set(|answers| answers.ails = Some(Ailment::Broken));
    until_told(
        &stage,
        "error response: Status 503 Service Unavailable: come back later",
    )
    .await;
    let told = stage.told("Canary").await;
    let failed = told.iter().filter(|text| text.contains("Status 503"));
    for text in failed {
        assert!(text.starts_with("Prometheus query failed: "), "{text}");
    }
    beside.set(|answers| answers.ails = Some(Ailment::Silent));
    until_told(&stage, "Prometheus query failed: request failed: ").await;
    Ok(())
}

/// The manifest of a user, with an interval that tests wait for; `overlay` is merged in.
fn of_a_user(beside: &Beside, overlay: Option<&str>) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cli/tests/data/manifests");
    let read = |name: &str| -> Value {
        let text = std::fs::read_to_string(folder.join(name)).unwrap();
        serde_saphyr::from_str(&text).unwrap()
    };
    let mut canary = read("flagger-canary.yaml");
    if let Some(name) = overlay {
        crossfade_api::merge_patch::apply(&mut canary, &read(name));
    }
    canary["spec"]["metricsServer"] = json!(format!("http://{}", beside.address));
    canary["spec"]["analysis"]["interval"] = json!("10s");
    let hooks = canary.pointer_mut("/spec/analysis/webhooks");
    let hooks = hooks.and_then(Value::as_array_mut);
    for hook in hooks.into_iter().flatten() {
        let name = hook["name"].as_str().unwrap().to_owned();
        hook["url"] = json!(format!("http://{}/hook/{name}", beside.address));
    }
    canary
}

async fn released(overlay: Option<&str>) -> Result<(Stage, Beside), Trouble> {
    let stage = Stage::new().await?;
    let beside = Beside::new().await;
    // A gate that takes back says so by a yes.
    beside.set(|answers| {
        answers.closed.insert("rollback");
    });
    for (kind, plural) in [
        ("VirtualService", "virtualservices"),
        ("DestinationRule", "destinationrules"),
    ] {
        let definition = definition("networking.istio.io", "v1beta1", kind, plural);
        stage.define(definition).await?;
    }
    let target = |image: &str| {
        deployment(image)
            .replace("name: shop,", "name: payment-api,")
            .replace("app: shop", "app: payment-api")
    };
    stage.namespace.apply(&target("pay:1")).await?;
    let canary = of_a_user(&beside, overlay).to_string();
    stage.namespace.apply(&canary).await?;
    until_phase(&stage, "payment-api", "Initialized").await?;
    stage.namespace.apply(&target("pay:2")).await?;
    let half = |canary: &Canary| canary.status["canaryWeight"] == 50;
    let name = "payment-api";
    stage
        .namespace
        .until(name, "its greatest weight", half)
        .await?;
    until_phase(&stage, name, "Succeeded").await?;
    let primary = wants(&stage, "payment-api-primary").await;
    assert_eq!(primary, ("pay:2".to_owned(), 2));
    Ok((stage, beside))
}

#[tokio::test]
async fn the_canary_of_a_user_runs_to_its_end_behind_istio() -> Result<(), Trouble> {
    released(None).await?;
    Ok(())
}

#[tokio::test]
async fn the_canary_of_a_user_runs_to_its_end_with_gates_that_are_open() -> Result<(), Trouble> {
    let (_stage, beside) = released(Some("flagger-manual-gating.yaml")).await?;
    let called = beside.answers.lock().unwrap().called.clone();
    assert!(!called.is_empty(), "gates are asked");
    Ok(())
}

/// Puts the objects of a moment into a namespace where nobody works yet, as Flagger left them.
async fn load(stage: &Stage, beside: &Beside, moment: &str) -> Result<(), Trouble> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sim/tests/takeover-canaries");
    let text = std::fs::read_to_string(folder.join(format!("{moment}.json"))).unwrap();
    let text = text.replace("127.0.0.1:19090", &beside.address.to_string());
    let moment: Value = serde_json::from_str(&text).unwrap();
    let client = stage.namespace.cluster().client(Actor::Admin).await?;
    let name = stage.namespace.name();
    let mut objects = moment["items"].as_array().unwrap().clone();
    objects.retain(|object| object["kind"] != "ConfigMap");
    objects.sort_by_key(|object| object["kind"] != "Canary");
    let mut uid = Value::Null;
    for mut object in objects {
        let kind = object["kind"].as_str().unwrap().to_owned();
        let version = object["apiVersion"].as_str().unwrap().to_owned();
        let (group, version) = version.split_once('/').unwrap_or(("", &version));
        let status = object.as_object_mut().unwrap().remove("status");
        let metadata = object["metadata"].as_object_mut().unwrap();
        for member in ["uid", "resourceVersion", "generation", "creationTimestamp"] {
            metadata.remove(member);
        }
        metadata.insert("namespace".to_owned(), json!(name));
        if let Some(owners) = metadata.get_mut("ownerReferences") {
            owners[0]["uid"] = uid.clone();
        }
        if kind == "Service" {
            for member in ["clusterIP", "clusterIPs"] {
                object["spec"].as_object_mut().unwrap().remove(member);
            }
        }
        if kind == "Canary" {
            object["spec"]["metricsServer"] = json!(format!("http://{}", beside.address));
        }
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &kind));
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), name, &resource);
        let own = object["metadata"]["name"].as_str().unwrap().to_owned();
        let merge = PatchParams::default();
        if kind == "Deployment" && own == "app" {
            // The version before has its ReplicaSet.
            let image = object["spec"]["template"]["spec"]["containers"][0]["image"].clone();
            let mut first = object.clone();
            let text = image.as_str().unwrap().replace(":v2", ":v1");
            first["spec"]["template"]["spec"]["containers"][0]["image"] = json!(text);
            let first: DynamicObject = serde_json::from_value(first).unwrap();
            api.create(&PostParams::default(), &first).await.unwrap();
            let seen = |deployment: &Deployment| {
                let status = deployment.status.as_ref();
                status.and_then(|one| one.observed_generation) == Some(1)
            };
            stage
                .namespace
                .until(&own, "its first version", seen)
                .await?;
            let patch = Patch::Merge(json!({"spec": {"template": object["spec"]["template"]}}));
            api.patch(&own, &merge, &patch).await.unwrap();
        } else {
            let object: DynamicObject = serde_json::from_value(object).unwrap();
            let made = api.create(&PostParams::default(), &object).await.unwrap();
            if kind == "Canary" {
                uid = json!(made.metadata.uid);
                let patch = Patch::Merge(json!({"status": status}));
                api.patch_status(&own, &merge, &patch).await.unwrap();
            }
        }
        if kind == "Deployment" {
            let ready = |deployment: &Deployment| {
                let (spec, status) = (deployment.spec.as_ref(), deployment.status.as_ref());
                let wanted = spec.and_then(|spec| spec.replicas).unwrap_or(1);
                status.is_some_and(|status| {
                    status.available_replicas.unwrap_or(0) == wanted
                        && status.updated_replicas.unwrap_or(0) == wanted
                        && status.replicas.unwrap_or(0) == wanted
                        && status.observed_generation == deployment.metadata.generation
                })
            };
            stage.namespace.until(&own, "its pods", ready).await?;
        }
    }
    Ok(())
}

/// A namespace with what Flagger left, and a controller that finds it.
async fn taken_over(beside: &Beside, moment: &str) -> Result<Stage, Trouble> {
    let mut stage = Stage::without_controller().await?;
    stage.namespace.grant(Actor::Crossfade, "crossfade").await?;
    load(&stage, beside, moment).await?;
    stage.start().await?;
    Ok(stage)
}

#[tokio::test]
async fn a_release_at_20_percent_is_carried_on_from_there() -> Result<(), Trouble> {
    let beside = Beside::new().await;
    let stage = taken_over(&beside, "nginx-promotes.at-20").await?;
    let at_30 = |canary: &Canary| canary.status["canaryWeight"] == 30;
    stage.namespace.until("app", "weight 30", at_30).await?;
    let told = stage.told("Canary").await;
    let restarted = told
        .iter()
        .find(|text| text.contains("New revision detected"));
    assert_eq!(restarted, None, "{told:#?}");
    until_phase(&stage, "app", "Succeeded").await?;
    let (image, replicas) = wants(&stage, "app-primary").await;
    assert!(
        image.ends_with(":v2") && replicas == 2,
        "{image} {replicas}"
    );
    Ok(())
}

#[tokio::test]
async fn a_release_that_waits_for_approval_goes_on_waiting() -> Result<(), Trouble> {
    let beside = Beside::new().await;
    beside.set(|answers| answers.closed.extend(["rollout-gate", "back"]));
    let stage = taken_over(&beside, "nginx-gates.waiting").await?;
    for _ in 0..600 {
        if beside.called("rollout-gate") >= 1 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    assert!(beside.called("rollout-gate") >= 1, "the gate is asked");
    let waiting = stage.namespace.api::<Canary>().get("app").await.unwrap();
    assert_eq!(phase(&waiting), "Waiting");
    assert_eq!(wants(&stage, "app").await.1, 0);
    beside.set(|answers| {
        answers.closed.remove("rollout-gate");
    });
    until_phase(&stage, "app", "Succeeded").await?;
    let (image, _) = wants(&stage, "app-primary").await;
    assert!(image.ends_with(":v2"), "{image}");
    Ok(())
}

#[tokio::test]
async fn a_release_held_at_10_percent_is_held_until_its_gate_opens() -> Result<(), Trouble> {
    let beside = Beside::new().await;
    beside.set(|answers| answers.closed.extend(["traffic-gate", "back"]));
    let stage = taken_over(&beside, "nginx-manual-gating-one-step.held-at-10").await?;
    until_told(&stage, "traffic-gate").await;
    let held = stage.namespace.api::<Canary>().get("app").await.unwrap();
    assert_eq!(
        (phase(&held), &held.status["canaryWeight"]),
        ("Progressing", &json!(10))
    );
    let ingress = stage.namespace.api::<Ingress>().get("app-canary").await;
    assert_eq!(weight(&ingress.unwrap()), "10");
    beside.set(|answers| {
        answers.closed.remove("traffic-gate");
    });
    until_phase(&stage, "app", "Succeeded").await?;
    Ok(())
}
