//! The state of a pod in one word, as kubectl's STATUS column shows it.

use k8s_openapi::api::core::v1::{ContainerState, Pod};

use super::icon::{Icon, State};

/// What a line about a pod says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodFacts {
    /// The word and its sign.
    pub(crate) state: State,
    /// Containers that are ready.
    pub(crate) ready: usize,
    /// Containers in all, init containers not counted.
    pub(crate) containers: usize,
    /// Restarts of the containers that count at present.
    pub(crate) restarts: i32,
}

impl PodFacts {
    /// Looks at a pod.
    pub(crate) fn of(pod: &Pod) -> Self {
        let status = pod.status.clone().unwrap_or_default();
        let spec = pod.spec.as_ref();
        let set = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let mut word = set(&status.reason)
            .or_else(|| set(&status.phase))
            .unwrap_or_else(|| "Unknown".to_owned());
        let (mut ready, mut restarts) = (0, 0);
        let mut initialising = None;
        let init_containers = spec
            .and_then(|spec| spec.init_containers.as_deref())
            .unwrap_or_default();
        for (index, container) in status.init_container_statuses.iter().flatten().enumerate() {
            restarts += container.restart_count;
            let state = container.state.clone().unwrap_or_default();
            let is_sidecar = init_containers.iter().any(|declared| {
                declared.name == container.name
                    && declared.restart_policy.as_deref() == Some("Always")
            });
            if is_sidecar && container.started == Some(true) {
                continue;
            }
            let reason = match (ended(&state), waiting(&state)) {
                (Some(Ended { exit_code: 0, .. }), _) => continue,
                (Some(ended), _) => format!("Init:{}", ended.word()),
                (None, Some(reason)) if reason != "PodInitializing" => format!("Init:{reason}"),
                (None, _) => format!("Init:{index}/{}", init_containers.len()),
            };
            initialising = Some(reason);
            break;
        }
        if let Some(reason) = initialising {
            word = reason;
        } else {
            restarts = 0;
            let mut has_running = false;
            for container in status.container_statuses.iter().flatten().rev() {
                restarts += container.restart_count;
                let state = container.state.clone().unwrap_or_default();
                if let Some(reason) = waiting(&state) {
                    word = reason;
                } else if let Some(ended) = ended(&state) {
                    word = ended.word();
                } else if container.ready && state.running.is_some() {
                    has_running = true;
                    ready += 1;
                }
            }
            if word == "Completed" && has_running {
                "Running".clone_into(&mut word);
            }
        }
        if pod.metadata.deletion_timestamp.is_some() {
            let lost = status.reason.as_deref() == Some("NodeLost");
            if lost { "Unknown" } else { "Terminating" }.clone_into(&mut word);
        }
        Self {
            state: State::new(icon(&word), word),
            ready,
            containers: spec.map_or(0, |spec| spec.containers.len()),
            restarts,
        }
    }

    /// `ready:<ready>/<containers>` and the restarts, if there were any.
    pub(crate) fn info(&self) -> String {
        let ready = format!("ready:{}/{}", self.ready, self.containers);
        match self.restarts {
            0 => ready,
            restarts => format!("{ready},restarts:{restarts}"),
        }
    }
}

struct Ended {
    exit_code: i32,
    signal: i32,
    reason: String,
}

impl Ended {
    fn word(&self) -> String {
        match (self.reason.as_str(), self.signal) {
            ("", 0) => format!("ExitCode:{}", self.exit_code),
            ("", signal) => format!("Signal:{signal}"),
            (reason, _) => reason.to_owned(),
        }
    }
}

fn ended(state: &ContainerState) -> Option<Ended> {
    state.terminated.as_ref().map(|ended| Ended {
        exit_code: ended.exit_code,
        signal: ended.signal.unwrap_or(0),
        reason: ended.reason.clone().unwrap_or_default(),
    })
}

fn waiting(state: &ContainerState) -> Option<String> {
    let reason = state.waiting.as_ref()?.reason.clone()?;
    (!reason.is_empty()).then_some(reason)
}

fn icon(word: &str) -> Icon {
    if word.starts_with("Init:") {
        return Icon::Progressing;
    }
    if word.starts_with("Signal:") || word.starts_with("ExitCode:") {
        return Icon::Bad;
    }
    if word.ends_with("Error") || word.starts_with("Err") {
        return Icon::Warning;
    }
    match word {
        "Running" | "Completed" => Icon::Ok,
        "Pending" | "Terminating" | "ContainerCreating" => Icon::Progressing,
        "Failed" | "InvalidImageName" | "CrashLoopBackOff" => Icon::Bad,
        "ImagePullBackOff" | "RegistryUnavailable" => Icon::Warning,
        "Unknown" => Icon::Unknown,
        _ => Icon::Blank,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn facts(pod: Value) -> PodFacts {
        PodFacts::of(&serde_json::from_value(pod).expect("the test's pod is one"))
    }

    fn pod(status: &Value) -> Value {
        json!({"metadata": {"name": "p"},
            "spec": {"initContainers": [{"name": "i"}, {"name": "j"}], "containers": [{"name": "a"}, {"name": "b"}]},
            "status": status})
    }

    fn container(name: &str, ready: bool, state: &Value) -> Value {
        json!({"name": name, "image": "x", "imageID": "", "ready": ready, "restartCount": 1, "state": state})
    }

    #[test]
    fn the_first_container_that_has_something_to_say_speaks_for_the_pod() {
        let running = json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
        let waiting = |reason: &str| json!({"waiting": {"reason": reason}});
        let ended = |code: i32, signal: i32, reason: &str| json!({"terminated": {"exitCode": code, "signal": signal, "reason": reason}});
        let containers = |a: &Value, b: &Value| {
            json!({"phase": "Running", "containerStatuses": [
                container("a", a == &running, a), container("b", b == &running, b)]})
        };
        let init = |state: &Value| {
            json!({"phase": "Pending", "initContainerStatuses": [container("i", false, state)],
                "containerStatuses": [container("a", false, &waiting("PodInitializing"))]})
        };
        let table = [
            (json!({"phase": "Pending"}), "◌ Pending"),
            (json!({"phase": "Failed", "reason": "Evicted"}), "  Evicted"),
            (containers(&running, &running), "✔ Running"),
            (
                containers(&waiting("ErrImagePull"), &running),
                "⚠ ErrImagePull",
            ),
            (
                containers(&waiting("CrashLoopBackOff"), &waiting("ErrImagePull")),
                "✖ CrashLoopBackOff",
            ),
            (containers(&ended(1, 0, "Error"), &running), "⚠ Error"),
            (containers(&ended(3, 0, ""), &running), "✖ ExitCode:3"),
            (containers(&ended(0, 9, ""), &running), "✖ Signal:9"),
            (containers(&ended(0, 0, "Completed"), &running), "✔ Running"),
            (
                containers(&ended(0, 0, "Completed"), &ended(0, 0, "Completed")),
                "✔ Completed",
            ),
            (init(&waiting("PodInitializing")), "◌ Init:0/2"),
            (init(&ended(1, 0, "")), "◌ Init:ExitCode:1"),
            (init(&ended(1, 9, "")), "◌ Init:Signal:9"),
            (init(&ended(1, 0, "Error")), "◌ Init:Error"),
            (json!({"phase": "Unknown"}), "? Unknown"),
        ];
        let look = super::super::icon::Look::default();
        for (status, line) in table {
            assert_eq!(facts(pod(&status)).state.painted(look), line, "{status}");
        }
    }

    #[test]
    fn cli_07_a_pod_that_crash_loops_in_an_init_container_is_still_starting() {
        let state = facts(pod(&json!({"phase": "Pending", "initContainerStatuses": [
            container("i", false, &json!({"waiting": {"reason": "CrashLoopBackOff"}}))]})))
        .state;
        assert_eq!(
            state,
            State::new(Icon::Progressing, "Init:CrashLoopBackOff")
        );
    }

    #[test]
    fn a_pod_that_is_deleted_is_terminating_unless_its_node_is_lost() {
        let mut leaving = pod(&json!({"phase": "Running"}));
        leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(facts(leaving.clone()).state.word, "Terminating");
        leaving["status"]["reason"] = json!("NodeLost");
        assert_eq!(facts(leaving).state, State::new(Icon::Unknown, "Unknown"));
    }

    #[test]
    fn readiness_counts_containers_and_restarts_show_when_there_were_any() {
        let running = json!({"running": {}});
        let both = json!({"containerStatuses": [container("a", true, &running), container("b", false, &running)]});
        assert_eq!(facts(pod(&both)).info(), "ready:1/2,restarts:2");
        assert_eq!(facts(pod(&json!({}))).info(), "ready:0/2");
    }
}
