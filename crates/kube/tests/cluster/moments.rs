//! Moments at which an older controller was stopped, on a real API server: one controller takes all of them over at once, starts nothing anew,
//! and carries each release to its end.
//!
//! One moment in four is put there, in the order of releases, stories and names, so that each release and most stories have their share. All 160 are
//! with `CROSSFADE_MOMENTS=all cargo test --workspace --test cluster moments`, which takes some minutes; in virtual time all of them are taken over.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crossfade_kube::{Controller, Settings};
use crossfade_test_cluster::kubelet::Pace;
use crossfade_test_cluster::{Actor, Cluster, Namespace, Request, Trouble};
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::analysis::server;
use crate::routers::objects;
use crate::stage::{self, Rollout, Stage};
use crate::takeover;

/// Moments that are put on the API server at once.
const AT_ONCE: usize = 6;

/// One in so many moments is put there.
const ONE_IN: usize = 4;

/// All moments, by release, story and name.
fn all() -> Vec<(String, PathBuf)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sim/tests");
    let folders = |path: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(path).unwrap();
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    };
    let releases = folders(&root.join("takeover"));
    let releases = releases.into_iter().chain([root.join("recorded")]);
    let stories = releases.flat_map(|path| folders(&path));
    let files = stories.flat_map(|path| folders(&path));
    files
        .filter(|path| path.extension().is_some_and(|ending| ending == "json"))
        .map(|path| {
            let name = path.with_extension("");
            let name = name.strip_prefix(&root).unwrap().display().to_string();
            (name, path)
        })
        .collect()
}

/// The moments that are put on the API server: a share of them, or all if somebody asks for that.
fn chosen() -> Vec<(String, PathBuf)> {
    let all = all();
    assert_eq!(all.len(), 160);
    let asked = std::env::var_os("CROSSFADE_MOMENTS");
    let one_in = if asked.is_some_and(|asked| asked == "all") {
        1
    } else {
        ONE_IN
    };
    all.into_iter().step_by(one_in).collect()
}

/// Changes every text in it.
fn visit(value: &mut Value, change: &mut impl FnMut(&mut String)) {
    match value {
        Value::String(text) => change(text),
        Value::Array(all) => all.iter_mut().for_each(|one| visit(one, change)),
        Value::Object(all) => all.values_mut().for_each(|one| visit(one, change)),
        _ => {}
    }
}

/// The moment as if it were now: pauses and delays have as much time left as they had.
fn made_present(path: &Path) -> Value {
    let mut moment: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let read = |text: &str| {
        let is_time = text.len() >= 20 && text.ends_with('Z');
        is_time.then(|| text.parse::<Timestamp>().ok()).flatten()
    };
    let now = Timestamp::now();
    let mut last = Timestamp::UNIX_EPOCH;
    for item in moment["items"].as_array().unwrap() {
        for condition in item["status"]["conditions"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let time = condition["lastUpdateTime"].as_str().and_then(read);
            last = last.max(time.unwrap_or(last));
        }
    }
    let later = now.duration_since(last);
    visit(&mut moment["items"], &mut |text| {
        if let Some(time) = read(text) {
            *text = time
                .saturating_add(later)
                .unwrap()
                .strftime("%Y-%m-%dT%H:%M:%SZ")
                .to_string();
        }
    });
    moment
}

/// A moment on the API server.
struct Taken {
    name: String,
    stage: Stage,
    before: Rollout,
    sets: Vec<String>,
    pods: BTreeMap<String, String>,
    /// What is named by the release and was not there.
    missing: Vec<Value>,
}

/// Names and uids of the pods that are not on their way out.
async fn pods(stage: &Stage) -> BTreeMap<String, String> {
    let pods = stage.namespace.api::<Pod>();
    let pods = pods.list(&ListParams::default()).await.unwrap();
    let here = pods
        .into_iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none());
    here.map(|pod| (pod.metadata.name.unwrap(), pod.metadata.uid.unwrap()))
        .collect()
}

/// The objects, asking this server instead of the one that was there when they were recorded.
fn asking(objects: &str, metrics: SocketAddr) -> String {
    let mut parts = objects.split("http://127.0.0.1:");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let rest = part.trim_start_matches(|digit: char| digit.is_ascii_digit());
        text + &format!("http://{metrics}") + rest
    })
}

/// Puts a moment on the API server, with the templates that its release names; they ask `metrics`.
async fn put(
    cluster: &Cluster,
    metrics: SocketAddr,
    name: String,
    path: &Path,
) -> Result<Taken, Trouble> {
    let namespace = Namespace::on(cluster.clone(), Pace::default()).await?;
    let stage = Stage::in_defined(namespace);
    let applied = std::fs::read_to_string(path.with_file_name("applied.yaml")).unwrap();
    let applied = asking(&applied, metrics);
    let applied: Vec<Value> = serde_saphyr::from_multiple(&applied).unwrap();
    let mut missing = Vec::new();
    for document in applied {
        let is_template = document["kind"] == "AnalysisTemplate";
        if name.ends_with("analysis-missing-template/invalid") && is_template
            || name.ends_with("invalid-specs/service-missing") && document["kind"] == "Service"
        {
            missing.push(document);
        } else if is_template {
            stage.namespace.apply(&document.to_string()).await?;
        }
    }
    let moment = asking(&made_present(path).to_string(), metrics);
    takeover::load_all(&stage, &serde_json::from_str(&moment).unwrap()).await?;
    let before = stage.namespace.api::<Rollout>().get("app").await.unwrap();
    Ok(Taken {
        sets: takeover::set_names(&stage).await,
        pods: pods(&stage).await,
        name,
        stage,
        before,
        missing,
    })
}

/// True while nothing in the release waits for a time that comes by itself, or is done otherwise than there by design.
fn stands(name: &str) -> bool {
    let moving = [
        "pause-5s",
        "switched",
        "running",
        "aborted",
        "failed",
        "promoted",
        "header-gone",
        "error",
        "canary-now",
        "old-again",
        "second-paused",
        // A pause by hand stops steps, not sizes.
        "paused-by-hand",
        "scaled-while-paused",
    ];
    !moving.iter().any(|moving| name.contains(moving))
}

impl Taken {
    /// Nothing began anew; a healthy release was left in peace.
    async fn is_carried_on(&self, requests: &[Request]) {
        let name = &self.name;
        let after = self
            .stage
            .namespace
            .api::<Rollout>()
            .get("app")
            .await
            .unwrap();
        assert_eq!(
            takeover::set_names(&self.stage).await,
            self.sets,
            "{name}: ReplicaSets"
        );
        let told = |rollout: &Rollout, member: &str| rollout.status[member].clone();
        assert_eq!(
            told(&after, "currentPodHash"),
            told(&self.before, "currentPodHash"),
            "{name}"
        );
        assert_eq!(
            after.metadata.generation, self.before.metadata.generation,
            "{name}"
        );
        let revision = |rollout: &Rollout| {
            let notes = rollout.metadata.annotations.clone().unwrap_or_default();
            notes.get("rollout.argoproj.io/revision").cloned()
        };
        assert_eq!(revision(&after), revision(&self.before), "{name}");
        // A pod may go because its delay is over; none comes, unless a pause is over, or sizes follow although it is paused by hand.
        let moving = [
            "pause-5s-at-60",
            "experiment-step/running",
            "analysis-background-passes/running",
            "scaled-while-paused",
        ];
        let moves_on = moving.iter().any(|moving| name.ends_with(moving));
        let pods = pods(&self.stage).await;
        for (pod, uid) in pods.into_iter().filter(|_| !moves_on) {
            assert_eq!(
                self.pods.get(&pod),
                Some(&uid),
                "{name}: the pod {pod} is new"
            );
        }
        if !stands(name) {
            return;
        }
        for member in [
            "phase",
            "stableRS",
            "currentStepIndex",
            "pauseConditions",
            "blueGreen",
        ] {
            assert_eq!(
                told(&after, member),
                told(&self.before, member),
                "{name}: {member}"
            );
        }
        let writes: Vec<_> = requests
            .iter()
            .filter(|one| takeover::writes_to(one))
            .collect();
        let count = |what: &str| {
            let done = |one: &&&Request| format!("{} {}", one.verb, one.resource) == what;
            writes.iter().filter(done).count()
        };
        // One status, and one note on the ReplicaSet of the present template.
        let (status, sets) = (count("patch rollouts/status"), count("patch replicasets"));
        assert!(status <= 1 && sets <= 1, "{name}: {writes:#?}");
        assert_eq!(writes.len(), status + sets, "{name}: {writes:#?}");
    }

    /// Whatever it waits for is given.
    async fn ends(&self) -> Result<(), Trouble> {
        let name = &self.name;
        let is_invalid = self.before.message().starts_with("InvalidSpec");
        let is_stuck = name.contains("deadline");
        for document in &self.missing {
            self.stage.namespace.apply(&document.to_string()).await?;
        }
        if name.ends_with("invalid-specs/invalid") {
            let canary = json!({"maxSurge": 1, "maxUnavailable": null, "steps": []});
            let mended = json!({"spec": {"strategy": {"canary": canary}}});
            self.stage.change("app", mended).await;
        } else if is_stuck {
            // Its image cannot be pulled: only the way back leads to an end.
            let mut template = self.before.spec["template"].clone();
            template["spec"]["containers"][0]["image"] = json!("registry.example/app:v1");
            let back = json!({"spec": {"template": template}});
            self.stage.change("app", back).await;
        } else if !self.before.is_healthy() {
            if self.before.spec["paused"] == true {
                let go_on = json!({"spec": {"paused": false}});
                self.stage.change("app", go_on).await;
            }
            let go_on = json!({"abort": false, "promoteFull": true, "pauseConditions": null});
            self.stage.change_status("app", go_on).await;
        }
        let after = self.stage.until_healthy("app").await?;
        if is_invalid {
            return Ok(());
        }
        let wanted = if is_stuck {
            "stableRS"
        } else {
            "currentPodHash"
        };
        assert_eq!(
            after.status["stableRS"], self.before.status[wanted],
            "{name}"
        );
        for set in takeover::set_names(&self.stage).await {
            assert!(self.sets.contains(&set), "{name}: {set} is new");
        }
        Ok(())
    }
}

/// A Rollout of everybody's: once it is healthy in a namespace, what was there before has been looked at.
const OTHER: &str = takeover::OTHER;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behaviour_39_moments_of_older_controllers_are_carried_to_their_ends() -> Result<(), Trouble>
{
    // All namespaces are looked after, which only a control plane of one's own allows.
    let (cluster, plane) = Cluster::own().await?;
    let first = Stage::on(Namespace::on(cluster.clone(), Pace::default()).await?).await?;
    let istio = ("networking.istio.io", "v1beta1");
    objects(
        &first,
        istio.0,
        istio.1,
        "VirtualService",
        "virtualservices",
    )
    .await?;
    stage::everywhere(&cluster).await?;

    let cluster = Arc::new(cluster);
    let metrics = server(r#"{"value": 0.99}"#).await;
    let taken: Vec<Taken> = stream::iter(chosen())
        .map(async |(name, path)| put(&cluster, metrics, name, &path).await)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    let settings = Settings {
        routers: crossfade_traffic::Settings {
            istio_version: istio.1.to_owned(),
            ..crossfade_traffic::Settings::default()
        },
        ..Settings::default()
    };
    let client = cluster.client(Actor::Crossfade).await?;
    let controller = Controller::start(client, settings).await.unwrap();
    first.namespace.apply(OTHER).await?;
    first.until_healthy("other").await?;
    let mut failed = Vec::new();
    // Who was looked at and found unchanged leaves no trace to wait for; all were looked at before the last one was healthy.
    for one in &taken {
        let requests = cluster.requests(Actor::Crossfade, one.stage.namespace.name())?;
        let carried = one.is_carried_on(requests.as_deref().unwrap_or_default());
        // All that fail are told, not only the first.
        if AssertUnwindSafe(carried).catch_unwind().await.is_err() {
            failed.push(format!("{} is not carried on", one.name));
        }
    }
    let ended: Vec<_> = stream::iter(&taken)
        .map(async |one| (one, AssertUnwindSafe(one.ends()).catch_unwind().await))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    for (one, ended) in ended {
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(why)) => failed.push(format!("{} does not end: {why}", one.name)),
            Err(_) => failed.push(format!("{} ends otherwise", one.name)),
        }
    }
    tokio::time::timeout(Duration::from_mins(1), controller.stop())
        .await
        .unwrap();
    drop(taken);
    drop(first);
    tokio::task::spawn_blocking(move || drop(plane))
        .await
        .unwrap();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}
