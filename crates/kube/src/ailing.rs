//! What keeps a pod from being ready, as far as it is more than a matter of time.

use crossfade_engine::decision::Wait;
use crossfade_engine::views;
use jiff::Timestamp;
use serde_json::Value;

/// What a pod that starts as it should waits for.
const STARTING: [&str; 2] = ["ContainerCreating", "PodInitializing"];

/// What is waited for of a pod that is not ready and does not look as if it would be; `None` for one that may just need time.
pub(crate) fn wait(pod: &Value) -> Option<Wait> {
    let ready = condition(pod, "Ready");
    let is_ready = ready.is_some_and(|ready| ready["status"] == "True");
    if is_ready || views::is_deleting(pod) || views::text(pod, "/status/phase") == "Succeeded" {
        return None;
    }
    let name = views::text(pod, "/metadata/name");
    let since = |condition: Option<&Value>| -> Option<Timestamp> {
        condition?["lastTransitionTime"].as_str()?.parse().ok()
    };
    let scheduled = condition(pod, "PodScheduled");
    if let Some(refused) = scheduled.filter(|one| one["status"] == "False") {
        let why = said(&refused["message"], &refused["reason"]);
        return Some(told(name, &why, since(scheduled)));
    }
    let why = containers(pod).find_map(cause).or_else(|| {
        let failed = views::text(pod, "/status/phase") == "Failed";
        failed.then(|| said(&pod["status"]["message"], &pod["status"]["reason"]))
    })?;
    Some(told(name, &why, since(ready)))
}

fn told(name: &str, why: &str, since: Option<Timestamp>) -> Wait {
    Wait {
        for_what: format!("pod {name} to be ready: {why}"),
        since,
        until: None,
        moved_by: &[],
    }
}

/// The longer text, where there is one.
fn said(message: &Value, reason: &Value) -> String {
    let (message, reason) = (message.as_str(), reason.as_str().unwrap_or_default());
    match message.filter(|message| !message.is_empty()) {
        Some(message) if reason.is_empty() => message.to_owned(),
        Some(message) => format!("{reason}: {message}"),
        None => reason.to_owned(),
    }
}

fn condition<'p>(pod: &'p Value, kind: &str) -> Option<&'p Value> {
    let conditions = pod["status"]["conditions"].as_array()?;
    conditions
        .iter()
        .find(|condition| condition["type"] == kind)
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["initContainerStatuses", "containerStatuses"]
        .into_iter()
        .filter_map(|member| pod["status"][member].as_array())
        .flatten()
}

/// What ails a container.
fn cause(container: &Value) -> Option<String> {
    let waiting = &container["state"]["waiting"];
    let exit = |state: &Value| state["terminated"]["exitCode"].as_i64();
    let last = exit(&container["state"]).or_else(|| exit(&container["lastState"]));
    let ended = last.map_or(String::new(), |code| format!(", last exit code {code}"));
    let reason = waiting["reason"].as_str().unwrap_or_default();
    if !reason.is_empty() && !STARTING.contains(&reason) {
        let text = waiting["message"].as_str().unwrap_or_default();
        let text = if text.is_empty() {
            String::new()
        } else {
            format!(": {text}")
        };
        return Some(format!("{reason}{ended}{text}"));
    }
    // One that has crashed before is worth a word, also while it runs again.
    let has_crashed = last.is_some_and(|code| code != 0);
    let restarts = container["restartCount"].as_i64().unwrap_or(0);
    (has_crashed && container["ready"] == false)
        .then(|| format!("restarted {restarts} times{ended}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn why(status: &Value) -> Option<String> {
        let wait = wait(&json!({"metadata": {"name": "shop-1"}, "status": status}))?;
        let why = wait.for_what.strip_prefix("pod shop-1 to be ready: ")?;
        Some(why.to_owned())
    }

    #[test]
    fn what_ails_a_pod_is_told_and_what_only_needs_time_is_not() {
        let ready = |status: &str| json!([{"type": "Ready", "status": status}]);
        let state =
            |state: Value| json!({"conditions": ready("False"), "containerStatuses": [state]});
        assert_eq!(why(&json!({"conditions": ready("True")})), None);
        assert_eq!(why(&json!({"phase": "Pending"})), None);
        let starting =
            json!({"ready": false, "state": {"waiting": {"reason": "ContainerCreating"}}});
        assert_eq!(why(&state(starting)), None);
        let unready = json!({"ready": false, "state": {"running": {}}});
        assert_eq!(why(&state(unready)), None);
        let missing =
            json!({"state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}});
        assert_eq!(
            why(&state(missing)).as_deref(),
            Some("ErrImagePull: no such image")
        );
        let crashing = json!({
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"exitCode": 1}},
        });
        assert_eq!(
            why(&state(crashing)).as_deref(),
            Some("CrashLoopBackOff, last exit code 1")
        );
        let again = json!({
            "ready": false, "restartCount": 2,
            "state": {"running": {}}, "lastState": {"terminated": {"exitCode": 1}},
        });
        assert_eq!(
            why(&state(again)).as_deref(),
            Some("restarted 2 times, last exit code 1")
        );
        let homeless = json!({"conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"},
        ]});
        assert_eq!(why(&homeless).as_deref(), Some("Unschedulable: 0/3 nodes"));
    }
}
