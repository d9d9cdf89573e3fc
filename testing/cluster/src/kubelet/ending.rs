//! The end of a pod that is being deleted: preStop, then its containers, then itself; at the latest when its grace period is over.

use std::process::Stdio;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout_at};

use super::behaviour::Behaviour;

/// The exit code of containers that had to be killed.
const KILLED: i32 = 137;

/// Waits as long as the pod takes to end, and returns the exit code of its containers.
pub(super) async fn end(pod: &Pod, behaviour: &Behaviour) -> i32 {
    let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(30);
    let grace = Duration::from_secs(u64::try_from(grace).unwrap_or_default());
    let latest = Instant::now() + grace;
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let ended = timeout_at(latest, async {
        for container in containers {
            before_stop(container).await;
        }
        sleep(behaviour.stops_after).await;
    });
    if ended.await.is_ok() { 0 } else { KILLED }
}

/// Carries out `lifecycle.preStop`: a pause, or a command of this machine. Requests go nowhere, as there is nobody to answer.
async fn before_stop(container: &Container) {
    let lifecycle = container.lifecycle.as_ref();
    let Some(hook) = lifecycle.and_then(|lifecycle| lifecycle.pre_stop.as_ref()) else {
        return;
    };
    if let Some(pause) = &hook.sleep {
        sleep(Duration::from_secs(
            u64::try_from(pause.seconds).unwrap_or_default(),
        ))
        .await;
    }
    let command = hook.exec.as_ref().and_then(|exec| exec.command.as_deref());
    if let Some([program, arguments @ ..]) = command {
        // Its success changes nothing about the end, as in a real kubelet.
        let _ = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .status()
            .await;
    }
}
