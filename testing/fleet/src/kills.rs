//! A fleet whose controller is killed again and again, and what must be true of it in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crossfade_test_cluster::Actor;
use serde_json::Value;

use crate::Outcome;
use crate::fleet::{Fleet, Shape};
use crate::history::{History, Version};
use crate::manifests::Kind;
use crate::program::Program;

/// The shortest Lease.
const LEASE: Duration = Duration::from_secs(2);
/// Kinds that are looked into: group, version, kind.
const RUN: (&str, &str, &str) = ("argoproj.io", "v1alpha1", "AnalysisRun");
const JOB: (&str, &str, &str) = ("batch", "v1", "Job");
const SET: (&str, &str, &str) = ("apps", "v1", "ReplicaSet");
const INGRESS: (&str, &str, &str) = ("networking.k8s.io", "v1", "Ingress");
const LEASES: (&str, &str, &str) = ("coordination.k8s.io", "v1", "Lease");
/// Where the router keeps the canary's share.
const WEIGHT: &str = "/metadata/annotations/nginx.ingress.kubernetes.io~1canary-weight";
const HASH: &str = "rollouts-pod-template-hash";

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Survived {
    /// How often the controller was killed.
    pub kills: usize,
    /// How many versions each Rollout released meanwhile.
    pub updates: u32,
}

/// Lets a controller release versions on a fleet and kills it `kills` times at random moments; then everything must be as if nobody had.
///
/// # Errors
/// A sentence that says what is not as it should be.
pub async fn survive(fleet: &Fleet, of_each: usize, kills: usize) -> Outcome<Survived> {
    let shape = |prefix, kind| Shape {
        prefix,
        rollouts: of_each,
        kind,
        replicas: 2,
    };
    let shapes = [
        shape("plain", Kind::Plain),
        shape("job", Kind::Job),
        shape("routed", Kind::Routed),
    ];
    let mut names = Vec::new();
    let (sets, ingresses) = (fleet.history(SET), fleet.history(INGRESS));
    let (runs, jobs) = (fleet.history(RUN), fleet.history(JOB));
    let leases = fleet.history(LEASES);
    for shape in shapes {
        fleet.create_all(shape).await?;
        names.extend(shape.names());
    }
    let controller = fleet.start(Actor::Crossfade, LEASE)?;
    fleet.until_released(&names, 1).await?;
    controller.kill().await?;

    let killing = async {
        for _ in 0..kills {
            let from = leases.len();
            let controller = fleet.start(Actor::Crossfade, LEASE)?;
            // Who does not lead does nothing that a kill could hurt.
            let leads = leads(&leases, from, &controller);
            leads.await.map_err(|why| {
                format!(
                    "{why}; the controller said last:\n{}",
                    fleet.last_words(Actor::Crossfade)
                )
            })?;
            tokio::time::sleep(Duration::from_millis(fastrand::u64(0..900))).await;
            controller.kill().await?;
        }
        fleet.start(Actor::Crossfade, LEASE)
    };
    let over = std::sync::atomic::AtomicBool::new(false);
    let releasing = async {
        let mut version = 1;
        while version < 2 || !over.load(std::sync::atomic::Ordering::Relaxed) {
            version += 1;
            fleet.update_all(&names, version).await?;
            fleet.until_released(&names, version).await?;
        }
        Outcome::Ok(version)
    };
    let killing = async {
        let controller = killing.await;
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        controller
    };
    let (controller, version) = tokio::try_join!(killing, releasing)?;
    fleet.until_released(&names, version).await?;
    controller.stop().await?;

    nothing_is_made_twice(&runs, &jobs)?;
    no_weight_is_without_pods(&sets, &ingresses)?;
    for (kind, at_most) in [(SET, 11), (RUN, 11)] {
        let objects = fleet.list(kind).await?.len();
        if objects > names.len() * at_most {
            return Err(format!("{objects} of kind {} are left", kind.2).into());
        }
    }
    Ok(Survived {
        kills,
        updates: version - 1,
    })
}

/// Waits until this controller has the Lease.
///
/// # Errors
/// It does not get it.
pub async fn leads(leases: &History, from: usize, controller: &Program) -> Outcome<()> {
    let own = format!("_{}_", controller.pid());
    let leads = leases.first(
        from,
        "a controller that leads",
        Duration::from_mins(1),
        |lease| {
            let holder = lease.data.pointer("/spec/holderIdentity");
            holder
                .and_then(Value::as_str)
                .is_some_and(|holder| holder.contains(&own))
        },
    );
    leads.await.map(drop)
}

fn text<'v>(object: &'v Value, pointer: &str) -> &'v str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn json(version: &Version) -> Value {
    serde_json::to_value(&*version.object).unwrap_or_default()
}

/// One AnalysisRun for each release and step, one Job for each measurement.
fn nothing_is_made_twice(runs: &History, jobs: &History) -> Outcome<()> {
    let mut made: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for version in runs.versions() {
        let run = json(&version);
        let label = |key: &str| text(&run, &format!("/metadata/labels/{key}")).to_owned();
        let owner = text(&run, "/metadata/ownerReferences/0/name");
        let what = format!(
            "AnalysisRun of {owner}, {} at step {}",
            label(HASH),
            label("step-index")
        );
        made.entry(what)
            .or_default()
            .insert(text(&run, "/metadata/uid").to_owned());
    }
    for version in jobs.versions() {
        let job = json(&version);
        let run = text(&job, "/metadata/ownerReferences/0/uid");
        let what = format!("Job of the AnalysisRun {run}");
        made.entry(what)
            .or_default()
            .insert(text(&job, "/metadata/uid").to_owned());
    }
    let mut twice = made.iter().filter(|(_, uids)| uids.len() > 1);
    match twice.next() {
        Some((what, uids)) => Err(format!("{what} was made {} times", uids.len()).into()),
        None if made.is_empty() => Err("nothing was ever judged".into()),
        None => Ok(()),
    }
}

/// Whenever an ingress gave the canary a share, there were pods for it.
fn no_weight_is_without_pods(sets: &History, ingresses: &History) -> Outcome<()> {
    let mut all = sets.versions();
    all.extend(ingresses.versions());
    all.sort_by_key(|version| version.number);
    let mut available: BTreeMap<String, BTreeMap<String, i64>> = BTreeMap::new();
    let mut shares = 0;
    for version in all {
        let object = json(&version);
        if text(&object, "/kind") == "ReplicaSet" || object.pointer("/spec/template").is_some() {
            let owner = text(&object, "/metadata/ownerReferences/0/name");
            let hash = text(&object, &format!("/metadata/labels/{HASH}"));
            let pods = object
                .pointer("/status/availableReplicas")
                .and_then(Value::as_i64);
            let pods = pods.filter(|_| !version.gone).unwrap_or(0);
            let of_owner = available.entry(owner.to_owned()).or_default();
            of_owner.insert(hash.to_owned(), pods);
            continue;
        }
        let weight: u32 = text(&object, WEIGHT).parse().unwrap_or(0);
        if weight == 0 || version.gone {
            continue;
        }
        shares += 1;
        let owner = text(&object, "/metadata/ownerReferences/0/name");
        let of_owner = available.get(owner);
        let with_pods = of_owner.map_or(0, |sets| sets.values().filter(|pods| **pods > 0).count());
        if with_pods < 2 && weight < 100 || with_pods < 1 {
            return Err(
                format!("{owner} gives its canary {weight} % without pods: {of_owner:?}").into(),
            );
        }
    }
    if shares == 0 {
        return Err("no ingress ever gave a canary a share".into());
    }
    Ok(())
}
