//! What a person did in a recording, as changes of objects: what the plugin's commands write, patches, and answers of metric servers.

use crossfade_api::Rollout;
use jiff::Timestamp;
use serde_json::{Value, json};

/// One thing that a person did.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// A merge patch of the Rollout; what it says of `status` is meant for the status.
    Rollout(Value),
    /// A merge patch of the Deployment of this name.
    Deployment(&'static str, Value),
    /// A metric server answers otherwise from now on.
    Metric {
        /// The metric.
        name: String,
        /// What is answered: a value, a text as it stands, or `down`.
        answer: String,
    },
}

/// What the words of a recording mean for a Rollout as it stands now. `template_of` knows the templates of revisions; 0 is the one before the
/// newest.
pub fn act(
    words: &str,
    rollout: &Rollout,
    now: Timestamp,
    template_of: impl FnOnce(u64) -> Option<Value>,
) -> Option<Act> {
    if let Some(image) = words.strip_prefix("image := ") {
        let mut template = rollout.spec.template.as_json().clone();
        template["spec"]["containers"][0]["image"] = json!(format!("registry.example/app:{image}"));
        Some(Act::Rollout(json!({"spec": {"template": template}})))
    } else if let Some(rest) = words.strip_prefix("metric ") {
        let (name, answer) = rest.split_once(" answers ")?;
        let [name, answer] = [name, answer].map(str::to_owned);
        Some(Act::Metric { name, answer })
    } else if let Some(patch) = words.strip_prefix("patch rollouts ") {
        serde_json::from_str(patch).ok().map(Act::Rollout)
    } else if let Some(patch) = words.strip_prefix("patch deployments ") {
        let patch = serde_json::from_str(patch).ok()?;
        Some(Act::Deployment("app", patch))
    } else if let Some(command) = words.strip_prefix("kubectl argo rollouts ") {
        kubectl(command, rollout, now, template_of).map(Act::Rollout)
    } else if words == "blueGreen -> canary" {
        let steps = json!([{"setWeight": 50}, {"pause": {}}]);
        let strategy = json!({"blueGreen": null, "canary": {"steps": steps}});
        Some(Act::Rollout(json!({"spec": {"strategy": strategy}})))
    } else {
        None
    }
}

/// What the plugin's commands write.
fn kubectl(
    command: &str,
    rollout: &Rollout,
    now: Timestamp,
    template_of: impl FnOnce(u64) -> Option<Value>,
) -> Option<Value> {
    let status = &rollout.status;
    let index = status.current_step_index.unwrap_or(0);
    let steps = rollout
        .spec
        .strategy
        .canary
        .as_ref()
        .map_or(0, |canary| i32::try_from(canary.steps.len()).unwrap_or(0));
    let words: Vec<&str> = command.split(' ').collect();
    let patch = match words.as_slice() {
        ["promote", _, "--full"] => json!({"status": {"promoteFull": true}}),
        ["promote", _] => {
            let slot = status.canary.current_step_analysis_run_status.as_ref();
            let inconclusive = slot.is_some_and(|slot| slot.status.as_str() == "Inconclusive");
            if inconclusive && !status.pause_conditions.is_empty() && status.controller_pause {
                json!({"status": {"pauseConditions": null, "controllerPause": false, "currentStepIndex": index + 1}})
            } else if !status.pause_conditions.is_empty() {
                json!({"status": {"pauseConditions": null}})
            } else {
                json!({"status": {"pauseConditions": null, "currentStepIndex": (index + 1).min(steps)}})
            }
        }
        ["abort", _] => json!({"status": {"abort": true}}),
        ["retry", "rollout", _] => json!({"status": {"abort": false}}),
        ["pause", _] => json!({"spec": {"paused": true}}),
        ["restart", _] => {
            json!({"spec": {"restartAt": crossfade_api::time::text(now)}})
        }
        ["undo", _, rest @ ..] => {
            let wanted = rest
                .first()
                .and_then(|flag| flag.strip_prefix("--to-revision=")?.parse::<u64>().ok())
                .unwrap_or(0);
            json!({"spec": {"template": template_of(wanted)?}})
        }
        _ => return None,
    };
    Some(patch)
}
