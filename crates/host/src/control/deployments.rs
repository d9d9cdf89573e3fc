//! Deployments: which ReplicaSets they need and of what size, so that enough pods serve at any time, and what they report.
//!
//! A Deployment that holds no more than a template (a Rollout names it, or nobody does) has no pods on one machine. One that a Canary
//! releases has, and its primary, and one that is annotated so.

use std::time::Duration;

use crossfade_api::canonical_json::Form;
use crossfade_api::hash::pod_template_hash;
use crossfade_api::intstr::PodAmount;
use crossfade_api::pod_template::PodTemplate;
use crossfade_api::time;
use crossfade_engine::action::Target;
use crossfade_engine::written::owner_reference;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::objects::{ObjectError, Stored};
use super::subjects::Context;
use super::views;
use crate::store::Kind;
use crate::wire::Part;

/// Names the version among the pods of a Deployment, as a cluster's own controller does.
pub(super) const VERSION: &str = "pod-template-hash";
/// `true` on a Deployment that nobody releases and that has pods nevertheless.
const PODS: &str = "crossfade.dev/pods";
/// Seconds that a version may take until it is there, where a Deployment does not say so.
const USUAL_DEADLINE: i64 = 600;
/// Former versions that are kept, where a Deployment does not say so.
const USUAL_HISTORY: i64 = 10;

/// What a Deployment needs now.
#[derive(Debug, Default, PartialEq)]
struct Change {
    /// A ReplicaSet to create.
    create: Option<Value>,
    /// Sizes to set, by name.
    sizes: Vec<(String, i32)>,
    /// Names of ReplicaSets to delete.
    delete: Vec<String>,
    /// What it reports.
    status: Value,
    /// When its deadline passes without anything else happening.
    look_again: Option<SignedDuration>,
}

/// Looks after one Deployment; tells when to look again.
pub(super) async fn deployment(
    context: &Context,
    namespace: &str,
    name: &str,
) -> Result<Option<Duration>, ObjectError> {
    let objects = &context.objects;
    let Some(deployment) = objects.get(Kind::Deployment, namespace, name) else {
        return Ok(None);
    };
    let uid = views::text(&deployment, "/metadata/uid");
    let sets = objects.controlled_by(Kind::ReplicaSet, uid);
    if views::is_deleting(&deployment) || (sets.is_empty() && !has_pods(context, &deployment)) {
        return Ok(None);
    }
    let own: Vec<&Value> = sets.iter().map(|set| &**set).collect();
    let change = decide(&deployment, &own, Timestamp::now());
    if let Some(set) = change.create {
        match objects.create(Kind::ReplicaSet, set).await {
            Ok(_) | Err(ObjectError::Exists(_)) => {}
            Err(error) => return Err(error),
        }
    }
    for (set, replicas) in &change.sizes {
        let patch = json!({"spec": {"replicas": replicas}});
        let target = place(namespace, set);
        objects
            .patch(Kind::ReplicaSet, &target, Part::Object, patch)
            .await?;
    }
    for set in &change.delete {
        match objects
            .delete(Kind::ReplicaSet, &place(namespace, set))
            .await
        {
            Ok(()) | Err(ObjectError::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
    }
    if deployment.get("status") != Some(&change.status) {
        let patch = json!({"status": change.status});
        objects
            .patch(
                Kind::Deployment,
                &place(namespace, name),
                Part::Status,
                patch,
            )
            .await?;
    }
    let wait = change.look_again;
    Ok(wait.map(|wait| Duration::try_from(wait).unwrap_or_default()))
}

fn place(namespace: &str, name: &str) -> Target {
    Target {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        ..Target::default()
    }
}

/// Whether it has pods: a Canary releases it, or made it, or it says so itself.
fn has_pods(context: &Context, deployment: &Stored) -> bool {
    let annotations = views::map(deployment, "/metadata/annotations");
    if annotations.get(PODS).is_some_and(|says| says == "true") {
        return true;
    }
    if views::controller(deployment).is_some_and(|(kind, ..)| kind == "Canary") {
        return true;
    }
    let (namespace, name) = (
        views::text(deployment, "/metadata/namespace"),
        views::text(deployment, "/metadata/name"),
    );
    let canaries = context.objects.list(Kind::Canary, Some(namespace));
    canaries.iter().any(|canary| {
        views::text(canary, "/spec/targetRef/kind") == "Deployment"
            && views::text(canary, "/spec/targetRef/name") == name
    })
}

/// What a Deployment with these ReplicaSets needs.
fn decide(deployment: &Value, sets: &[&Value], now: Timestamp) -> Change {
    let wanted = wanted(deployment);
    let template = deployment.pointer("/spec/template").cloned();
    let template = PodTemplate::from(template.unwrap_or_default());
    let hash = pod_template_hash(&template, None, Form::Current).to_string();
    let version = |set: &Value| views::map(set, "/metadata/labels").remove(VERSION);
    let (new, mut old): (Vec<&Value>, Vec<&Value>) = sets
        .iter()
        .partition(|set| version(set).as_deref() == Some(&hash));
    let new = new.first().copied();
    // Younger versions stay longer.
    old.sort_by_key(|set| views::instant(set, "/metadata/creationTimestamp"));
    let mut change = Change::default();
    let sizes = sizes(deployment, new, &old);
    match new {
        None => change.create = Some(replica_set(deployment, &template, &hash, sizes.new)),
        Some(set) if size(set) != sizes.new => change.sizes.push((name(set), sizes.new)),
        Some(_) => {}
    }
    for (set, wanted) in old.iter().zip(&sizes.old) {
        if size(set) != *wanted {
            change.sizes.push((name(set), *wanted));
        }
    }
    let counts = Counts::of(new, &old);
    let is_there = counts.is_there(wanted);
    if is_there {
        let gone = |set: &&&Value| size(set) == 0 && views::number(set, "/status/replicas") == 0;
        let history = deployment.pointer("/spec/revisionHistoryLimit");
        let history = history.and_then(Value::as_i64).unwrap_or(USUAL_HISTORY);
        let over = old
            .len()
            .saturating_sub(usize::try_from(history).unwrap_or(0));
        let past = old.iter().filter(gone).take(over);
        change.delete = past.map(|set| name(set)).collect();
    }
    let (status, look_again) = report(deployment, &counts, new.is_none(), now);
    change.status = status;
    change.look_again = look_again;
    change
}

fn name(set: &Value) -> String {
    views::text(set, "/metadata/name").to_owned()
}

fn size(set: &Value) -> i32 {
    views::number(set, "/spec/replicas")
}

fn wanted(deployment: &Value) -> i32 {
    let wanted = deployment.pointer("/spec/replicas");
    let wanted = wanted.and_then(Value::as_i64).unwrap_or(1);
    i32::try_from(wanted).unwrap_or(i32::MAX).max(0)
}

/// Sizes of the ReplicaSets: the new one, and the old ones in their order.
struct Sizes {
    new: i32,
    old: Vec<i32>,
}

/// How many pods may be there too many, and how many too few.
fn margins(deployment: &Value, wanted: i32) -> (i32, i32) {
    let amount = |member: &str| {
        let written = deployment.pointer(&format!("/spec/strategy/rollingUpdate/{member}"));
        let written = written.and_then(|value| serde_json::from_value(value.clone()).ok());
        let usual = PodAmount::Percent(25);
        written.as_ref().and_then(PodAmount::read).unwrap_or(usual)
    };
    let surge = amount("maxSurge").rounded_up(wanted);
    let unavailable = amount("maxUnavailable").rounded_down(wanted).min(wanted);
    // Something has to move.
    if surge <= 0 && unavailable <= 0 {
        (0, 1)
    } else {
        (surge.max(0), unavailable.max(0))
    }
}

fn sizes(deployment: &Value, new: Option<&Value>, old: &[&Value]) -> Sizes {
    let wanted = wanted(deployment);
    let now = new.map_or(0, size);
    let mut sizes = Sizes {
        new: now,
        old: old.iter().map(|set| size(set)).collect(),
    };
    if views::text(deployment, "/spec/strategy/type") == "Recreate" {
        sizes.old.fill(0);
        let is_alone = old
            .iter()
            .all(|set| views::number(set, "/status/replicas") == 0);
        if is_alone {
            sizes.new = wanted;
        }
        return sizes;
    }
    let (surge, unavailable) = margins(deployment, wanted);
    let all: i32 = now + sizes.old.iter().sum::<i32>();
    let room = (wanted + surge - all).max(0);
    sizes.new = now.min(wanted) + room.min((wanted - now).max(0));
    if sizes.new > now {
        return sizes;
    }
    let available = |set: &Value| views::number(set, "/status/availableReplicas");
    let least = wanted - unavailable;
    let missing = now - new.map_or(0, available);
    // Those that do not serve go first, then those that serve, as far as enough others do.
    let mut spare = (all - least - missing).max(0);
    for (size, set) in sizes.old.iter_mut().zip(old) {
        let idle = (*size - available(set)).clamp(0, spare);
        *size -= idle;
        spare -= idle;
    }
    let serving: i32 = new.map_or(0, available) + old.iter().map(|set| available(set)).sum::<i32>();
    let mut spare = (serving - least).max(0);
    for size in &mut sizes.old {
        let gone = (*size).min(spare);
        *size -= gone;
        spare -= gone;
    }
    sizes
}

fn replica_set(deployment: &Value, template: &PodTemplate, hash: &str, replicas: i32) -> Value {
    let text = |pointer| views::text(deployment, pointer);
    let mut template = template.clone();
    template.set_label(VERSION, hash);
    let mut selector = deployment.pointer("/spec/selector").cloned();
    let selector = selector.get_or_insert_with(|| json!({}));
    selector["matchLabels"][VERSION] = json!(hash);
    let owner = owner_reference("Deployment", text("/metadata/name"), text("/metadata/uid"));
    json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": format!("{}-{hash}", text("/metadata/name")),
            "namespace": text("/metadata/namespace"),
            "labels": template.labels(),
            "ownerReferences": [owner],
        },
        "spec": {
            "replicas": replicas,
            "minReadySeconds": views::number(deployment, "/spec/minReadySeconds"),
            "selector": selector,
            "template": template.as_json(),
        },
    })
}

/// Pods of a Deployment.
struct Counts {
    all: i32,
    updated: i32,
    ready: i32,
    available: i32,
}

impl Counts {
    fn of(new: Option<&Value>, old: &[&Value]) -> Self {
        let sum = |member: &str| {
            let count = |set: &&Value| views::number(set, &format!("/status/{member}"));
            new.iter().chain(old).map(count).sum()
        };
        Self {
            all: sum("replicas"),
            updated: new.map_or(0, |set| views::number(set, "/status/replicas")),
            ready: sum("readyReplicas"),
            available: sum("availableReplicas"),
        }
    }

    /// All pods are of the new version and serve.
    fn is_there(&self, wanted: i32) -> bool {
        self.updated == wanted && self.all == wanted && self.available >= wanted
    }
}

/// What a Deployment reports, and when it is to be looked at again because of its deadline.
fn report(
    deployment: &Value,
    counts: &Counts,
    begins: bool,
    now: Timestamp,
) -> (Value, Option<SignedDuration>) {
    let wanted = wanted(deployment);
    let before = |member: &str| views::number(deployment, &format!("/status/{member}"));
    let (old, was_old) = (
        counts.all - counts.updated,
        before("replicas") - before("updatedReplicas"),
    );
    let goes_on = counts.updated > before("updatedReplicas")
        || old < was_old
        || counts.ready > before("readyReplicas")
        || counts.available > before("availableReplicas");
    let there = |kind: &str| {
        let conditions = deployment.pointer("/status/conditions")?.as_array()?;
        conditions
            .iter()
            .find(|one| views::text(one, "/type") == kind)
    };
    let last = there("Progressing");
    let was = |reason: &str| last.is_some_and(|last| views::text(last, "/reason") == reason);
    let deadline = deployment.pointer("/spec/progressDeadlineSeconds");
    let deadline = deadline.and_then(Value::as_i64).unwrap_or(USUAL_DEADLINE);
    let due = last
        .and_then(|last| views::instant(last, "/lastUpdateTime"))
        .map(|since| since + SignedDuration::from_secs(deadline));
    let (progressing, reason) = if counts.is_there(wanted) && !begins {
        ("True", "NewReplicaSetAvailable")
    } else if begins {
        ("True", "NewReplicaSetCreated")
    } else if goes_on || last.is_none() {
        ("True", "ReplicaSetUpdated")
    } else if was("NewReplicaSetAvailable") {
        // It was there: what ails its pods now is no matter of this version's coming.
        ("True", "NewReplicaSetAvailable")
    } else if was("ProgressDeadlineExceeded") || due.is_some_and(|due| due <= now) {
        ("False", "ProgressDeadlineExceeded")
    } else if was("NewReplicaSetCreated") {
        ("True", "NewReplicaSetCreated")
    } else {
        ("True", "ReplicaSetUpdated")
    };
    let (_, unavailable) = margins(deployment, wanted);
    let (available, why) = if counts.available >= wanted - unavailable {
        ("True", "MinimumReplicasAvailable")
    } else {
        ("False", "MinimumReplicasUnavailable")
    };
    let moves = (goes_on || begins) && reason != "NewReplicaSetAvailable";
    let conditions = [
        condition(there("Available"), "Available", available, why, false, now),
        condition(last, "Progressing", progressing, reason, moves, now),
    ];
    let status = json!({
        "observedGeneration": deployment.pointer("/metadata/generation"),
        "replicas": counts.all,
        "updatedReplicas": counts.updated,
        "readyReplicas": counts.ready,
        "availableReplicas": counts.available,
        "unavailableReplicas": (wanted - counts.available).max(0),
        "conditions": conditions,
    });
    let waits = !["ProgressDeadlineExceeded", "NewReplicaSetAvailable"].contains(&reason);
    let since = if moves {
        now
    } else {
        due.map_or(now, |due| due - SignedDuration::from_secs(deadline))
    };
    let due = since + SignedDuration::from_secs(deadline);
    let rest = due.duration_since(now).max(SignedDuration::from_secs(1));
    (status, waits.then_some(rest))
}

/// A condition as it is now, with its times as far as they hold.
fn condition(
    last: Option<&Value>,
    kind: &str,
    status: &str,
    reason: &str,
    moves: bool,
    now: Timestamp,
) -> Value {
    let now = time::text(now);
    let kept = |same: bool, member: &str| {
        let last = last.filter(|_| same)?;
        Some(views::text(last, &format!("/{member}")).to_owned()).filter(|time| !time.is_empty())
    };
    let is = |member: &str, word: &str| {
        last.is_some_and(|last| views::text(last, &format!("/{member}")) == word)
    };
    let same_status = is("status", status);
    let same = same_status && is("reason", reason) && !moves;
    json!({
        "type": kind,
        "status": status,
        "reason": reason,
        "lastUpdateTime": kept(same, "lastUpdateTime").unwrap_or_else(|| now.clone()),
        "lastTransitionTime": kept(same_status, "lastTransitionTime").unwrap_or(now),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:01:00Z".parse().expect("a time")
    }

    fn deployment(replicas: i32, image: &str) -> Value {
        json!({
            "metadata": {"name": "web", "namespace": "prod", "uid": "u", "generation": 2},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "main", "image": image}]},
                },
            },
        })
    }

    fn set(of: &Value, replicas: i32, available: i32) -> Value {
        let mut set = decide(of, &[], now()).create.expect("a ReplicaSet");
        set["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
        set["spec"]["replicas"] = json!(replicas);
        set["status"] = json!({"replicas": replicas, "readyReplicas": available, "availableReplicas": available});
        set
    }

    #[test]
    fn a_version_gets_a_replica_set_of_its_own_that_finds_no_other_pods() {
        let change = decide(&deployment(2, "a"), &[], now());
        let set = change.create.expect("a ReplicaSet");
        let hash = set["metadata"]["labels"][VERSION].as_str().expect("a hash");
        assert_eq!(set["metadata"]["name"], format!("web-{hash}"));
        assert_eq!(
            set["spec"]["selector"]["matchLabels"],
            json!({"app": "web", VERSION: hash})
        );
        assert_eq!(set["spec"]["template"]["metadata"]["labels"][VERSION], hash);
        assert_eq!(set["spec"]["replicas"], 2);
        assert_eq!(set["metadata"]["ownerReferences"][0]["kind"], "Deployment");
    }

    #[test]
    fn a_new_version_comes_before_the_old_one_goes() {
        let (before, after) = (deployment(4, "a"), deployment(4, "b"));
        let (old, new) = (set(&before, 4, 4), set(&after, 1, 0));
        // 25 % of 4 more than wanted at first, then fewer of those that serve, as far as enough others do.
        let change = decide(&after, &[&old], now());
        assert_eq!(change.create.expect("new")["spec"]["replicas"], 1);
        assert_eq!(change.sizes, []);
        let change = decide(&after, &[&old, &new], now());
        assert_eq!(change.sizes, [(name(&old), 3)]);
        let smaller = set(&before, 3, 3);
        let change = decide(&after, &[&smaller, &new], now());
        assert_eq!(change.sizes, [(name(&new), 2)]);
        let new = set(&after, 2, 0);
        assert_eq!(decide(&after, &[&smaller, &new], now()).sizes, []);
        let new = set(&after, 2, 1);
        let change = decide(&after, &[&smaller, &new], now());
        assert_eq!(change.sizes, [(name(&old), 2)]);
    }

    #[test]
    fn a_deployment_that_sleeps_has_no_pods_and_is_complete() {
        let asleep = deployment(0, "a");
        let awake = set(&asleep, 2, 2);
        assert_eq!(decide(&asleep, &[&awake], now()).sizes, [(name(&awake), 0)]);
        let gone = set(&asleep, 0, 0);
        let status = decide(&asleep, &[&gone], now()).status;
        assert_eq!(status["conditions"][1]["reason"], "NewReplicaSetAvailable");
    }

    #[test]
    fn recreate_waits_until_nobody_of_the_old_version_is_left() {
        let (before, mut after) = (deployment(2, "a"), deployment(2, "b"));
        after["spec"]["strategy"] = json!({"type": "Recreate"});
        let change = decide(&after, &[&set(&before, 2, 2)], now());
        assert_eq!(change.create.expect("new")["spec"]["replicas"], 0);
        assert_eq!(change.sizes.len(), 1);
        let change = decide(&after, &[&set(&before, 0, 0), &set(&after, 0, 0)], now());
        assert_eq!(change.sizes, [(name(&set(&after, 0, 0)), 2)]);
    }

    #[test]
    fn a_version_that_does_not_come_in_time_is_reported_until_it_does() {
        let mut web = deployment(1, "a");
        web["spec"]["progressDeadlineSeconds"] = json!(30);
        let new = set(&web, 1, 0);
        let first = decide(&web, &[&new], now());
        assert_eq!(first.status["conditions"][1]["reason"], "ReplicaSetUpdated");
        assert_eq!(first.look_again, Some(SignedDuration::from_secs(30)));
        web["status"] = first.status;
        let late = decide(&web, &[&new], now() + SignedDuration::from_secs(30));
        assert_eq!(
            late.status["conditions"][1]["reason"],
            "ProgressDeadlineExceeded"
        );
        assert_eq!(
            late.status["conditions"][0]["reason"],
            "MinimumReplicasUnavailable"
        );
        assert_eq!(late.look_again, None);
        web["status"] = late.status;
        let there = decide(
            &web,
            &[&set(&web, 1, 1)],
            now() + SignedDuration::from_secs(40),
        );
        assert_eq!(
            there.status["conditions"][1]["reason"],
            "NewReplicaSetAvailable"
        );
    }

    #[test]
    fn former_versions_are_kept_as_long_as_the_deployment_says() {
        let mut web = deployment(1, "d");
        web["spec"]["revisionHistoryLimit"] = json!(1);
        let new = set(&web, 1, 1);
        let mut old: Vec<Value> = ["a", "b", "c"]
            .map(|image| set(&deployment(0, image), 0, 0))
            .into();
        for (age, set) in old.iter_mut().enumerate() {
            set["metadata"]["creationTimestamp"] = json!(format!("2026-01-01T00:00:0{age}Z"));
        }
        let all: Vec<&Value> = old.iter().chain([&new]).collect();
        assert_eq!(
            decide(&web, &all, now()).delete,
            [name(&old[0]), name(&old[1])]
        );
    }
}
