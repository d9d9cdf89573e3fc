//! How a pod behaves: its annotations, read.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::Pace;

/// Annotation: how long after it is bound the pod's containers start.
pub const STARTS_AFTER: &str = "kubelet.crossfade.dev/starts-after";
/// Annotation: how long after their start the containers are ready.
pub const READY_AFTER: &str = "kubelet.crossfade.dev/ready-after";
/// Annotation: `false` makes the containers not ready.
pub const READY: &str = "kubelet.crossfade.dev/ready";
/// Annotation: `missing` for an image that cannot be pulled.
pub const IMAGE: &str = "kubelet.crossfade.dev/image";
/// Annotation: how long after each start the containers crash.
pub const CRASHES_AFTER: &str = "kubelet.crossfade.dev/crashes-after";
/// Annotation: how often the containers crash before they stay up.
pub const CRASHES: &str = "kubelet.crossfade.dev/crashes";
/// Annotation: how long a crashed container waits before it starts again.
pub const RESTARTS_AFTER: &str = "kubelet.crossfade.dev/restarts-after";
/// Annotation: how long the containers take to end.
pub const STOPS_AFTER: &str = "kubelet.crossfade.dev/stops-after";
/// Annotation: `false` for a pod that no node takes.
pub const SCHEDULABLE: &str = "kubelet.crossfade.dev/schedulable";

/// How a pod behaves.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Behaviour {
    pub(super) schedulable: bool,
    pub(super) image_missing: bool,
    pub(super) starts_after: Duration,
    pub(super) ready_after: Duration,
    pub(super) ready: bool,
    /// How long after each start the containers crash, if they do.
    pub(super) crashes_after: Option<Duration>,
    /// How often they crash at most.
    pub(super) crashes: i32,
    pub(super) restarts_after: Duration,
    pub(super) stops_after: Duration,
}

impl Behaviour {
    pub(super) fn of(pod: &Pod, pace: Pace) -> Self {
        let text = |key: &str| pod.annotations().get(key).map(String::as_str);
        let time = |key: &str| text(key).and_then(duration);
        let images = pod.spec.iter().flat_map(|spec| &spec.containers);
        let unknown = |image: &Option<String>| {
            image
                .as_deref()
                .is_some_and(|image| image.contains("does-not-exist"))
        };
        Self {
            schedulable: text(SCHEDULABLE) != Some("false"),
            image_missing: text(IMAGE) == Some("missing")
                || images
                    .into_iter()
                    .any(|container| unknown(&container.image)),
            starts_after: time(STARTS_AFTER).unwrap_or(pace.starts_after),
            ready_after: time(READY_AFTER).unwrap_or_default(),
            ready: text(READY) != Some("false"),
            crashes_after: time(CRASHES_AFTER),
            crashes: text(CRASHES)
                .and_then(|number| number.parse().ok())
                .unwrap_or(i32::MAX),
            restarts_after: time(RESTARTS_AFTER).unwrap_or(Duration::from_millis(500)),
            stops_after: time(STOPS_AFTER).unwrap_or(pace.stops_after),
        }
    }
}

/// Reads `300ms` or `1.5s`.
fn duration(text: &str) -> Option<Duration> {
    let seconds = if let Some(number) = text.strip_suffix("ms") {
        number.parse::<f64>().ok()? / 1000.0
    } else {
        text.strip_suffix('s')?.parse().ok()?
    };
    Duration::try_from_secs_f64(seconds).ok()
}
