//! What an absent field means.
//!
//! Nothing is written back: an object keeps saying only what its user said. Accessors are named after their
//! fields; those of a canary know whether a router is configured.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::analysis::{Metric, TemplateRef};
use crate::experiment::{ExperimentSpec, TemplateSpec};
use crate::intstr::{self, PodAmount};
use crate::rollout::{
    BackgroundAnalysis, BlueGreenStrategy, CanaryStrategy, ReplicaProgressThreshold, RolloutSpec,
};
use crate::steps::{ExperimentStep, Pause, SetMirrorRoute, StringMatch};
use crate::traffic_routing::{
    AlbTrafficRouting, IstioTrafficRouting, IstioVirtualService, NginxTrafficRouting,
    TrafficRouting,
};

/// Pods, when `spec.replicas` is absent.
pub const REPLICAS: i32 = 1;
/// Old ReplicaSets that are kept, when `spec.revisionHistoryLimit` is absent.
pub const REVISION_HISTORY_LIMIT: i32 = 10;
/// Seconds without progress, when `spec.progressDeadlineSeconds` is absent.
pub const PROGRESS_DEADLINE_SECONDS: i32 = 600;
/// Finished analysis runs of one class that are kept, when the limit is absent.
pub const RUN_HISTORY_LIMIT: i32 = 5;
/// Seconds that pods without traffic stay, when the delay is absent and applies.
pub const SCALE_DOWN_DELAY_SECONDS: i32 = 30;
/// Percentage of `maxSurge` and `maxUnavailable`, when they are absent.
pub const SURGE_PERCENT: i32 = 25;
/// The weight that means all traffic, when `maxTrafficWeight` is absent.
pub const MAX_TRAFFIC_WEIGHT: i32 = 100;
/// Errors in a row that a metric tolerates, when its limit is absent.
pub const CONSECUTIVE_ERROR_LIMIT: i32 = 4;

impl RolloutSpec {
    /// Wanted number of pods.
    pub fn replicas(&self) -> i32 {
        self.replicas.unwrap_or(REPLICAS)
    }

    /// How many old ReplicaSets are kept.
    pub fn revision_history_limit(&self) -> i32 {
        self.revision_history_limit
            .unwrap_or(REVISION_HISTORY_LIMIT)
    }

    /// Seconds without progress after which the Rollout counts as stuck.
    pub fn progress_deadline_seconds(&self) -> i32 {
        self.progress_deadline_seconds
            .unwrap_or(PROGRESS_DEADLINE_SECONDS)
    }

    /// How many revisions may lie between for a rollback to be quick; 0 means never.
    pub fn rollback_window(&self) -> i32 {
        self.rollback_window
            .as_ref()
            .map_or(0, |window| window.revisions)
    }

    /// How many successful analysis runs are kept.
    pub fn successful_run_history_limit(&self) -> i32 {
        self.analysis
            .as_ref()
            .and_then(|limits| limits.successful_run_history_limit)
            .unwrap_or(RUN_HISTORY_LIMIT)
    }

    /// How many failed, errored and inconclusive analysis runs are kept together.
    pub fn unsuccessful_run_history_limit(&self) -> i32 {
        self.analysis
            .as_ref()
            .and_then(|limits| limits.unsuccessful_run_history_limit)
            .unwrap_or(RUN_HISTORY_LIMIT)
    }

    /// The weight that means all traffic.
    pub fn max_traffic_weight(&self) -> i32 {
        self.strategy
            .canary
            .as_ref()
            .map_or(MAX_TRAFFIC_WEIGHT, CanaryStrategy::max_traffic_weight)
    }
}

impl CanaryStrategy {
    /// The weight that means all traffic.
    pub fn max_traffic_weight(&self) -> i32 {
        self.traffic_routing
            .as_ref()
            .map_or(MAX_TRAFFIC_WEIGHT, TrafficRouting::max_traffic_weight)
    }

    /// How many pods may be added; `None` for a text that is no number.
    pub fn max_surge(&self) -> Option<PodAmount> {
        amount(self.max_surge.as_ref())
    }

    /// How many pods may be missing; `None` for a text that is no number.
    pub fn max_unavailable(&self) -> Option<PodAmount> {
        amount(self.max_unavailable.as_ref())
    }

    /// Seconds that old pods stay after promotion.
    pub fn scale_down_delay_seconds(&self) -> i32 {
        let absent = if self.traffic_routing.is_some() {
            SCALE_DOWN_DELAY_SECONDS
        } else {
            0
        };
        self.scale_down_delay_seconds.unwrap_or(absent)
    }

    /// How many old versions the delay may keep alive.
    pub fn scale_down_delay_revision_limit(&self) -> i32 {
        self.scale_down_delay_revision_limit.unwrap_or(i32::MAX)
    }

    /// Seconds that canary pods stay after an abort; `None` means for ever. Without a router they go at once.
    pub fn abort_scale_down_delay_seconds(&self) -> Option<i32> {
        if self.traffic_routing.is_none() {
            return Some(0);
        }
        abort_delay(self.abort_scale_down_delay_seconds)
    }

    /// The threshold that replaces "all wanted pods are available"; a negative one counts as absent.
    pub fn replica_progress_threshold(&self) -> Option<&ReplicaProgressThreshold> {
        self.replica_progress_threshold
            .as_ref()
            .filter(|threshold| threshold.value >= 0)
    }
}

impl BlueGreenStrategy {
    /// Whether the switch happens without a person.
    pub fn auto_promotion_enabled(&self) -> bool {
        self.auto_promotion_enabled.unwrap_or(true)
    }

    /// How many pods may be missing during a restart; `None` for a text that is no number.
    pub fn max_unavailable(&self) -> Option<PodAmount> {
        amount(self.max_unavailable.as_ref())
    }

    /// Seconds that old pods stay after the switch.
    pub fn scale_down_delay_seconds(&self) -> i32 {
        self.scale_down_delay_seconds
            .unwrap_or(SCALE_DOWN_DELAY_SECONDS)
    }

    /// How many old versions the delay may keep alive.
    pub fn scale_down_delay_revision_limit(&self) -> i32 {
        self.scale_down_delay_revision_limit.unwrap_or(i32::MAX)
    }

    /// Seconds that new pods stay after an abort; `None` means for ever.
    pub fn abort_scale_down_delay_seconds(&self) -> Option<i32> {
        abort_delay(self.abort_scale_down_delay_seconds)
    }
}

fn amount(value: Option<&IntOrString>) -> Option<PodAmount> {
    value.map_or(Some(PodAmount::Percent(SURGE_PERCENT)), PodAmount::read)
}

/// An explicit 0 means "never", which is not the same as "at once".
fn abort_delay(seconds: Option<i32>) -> Option<i32> {
    match seconds {
        None => Some(SCALE_DOWN_DELAY_SECONDS),
        Some(0) => None,
        Some(seconds) => Some(seconds),
    }
}

impl ReplicaProgressThreshold {
    /// Whether the value is a percentage of the wanted pods; otherwise it is a number of pods.
    pub fn is_percent(&self) -> bool {
        self.kind == "Percent"
    }
}

impl BackgroundAnalysis {
    /// Index of the step at which the analysis starts.
    pub fn starting_step(&self) -> i32 {
        self.starting_step.unwrap_or(0)
    }
}

impl TrafficRouting {
    /// The weight that means all traffic.
    pub fn max_traffic_weight(&self) -> i32 {
        self.max_traffic_weight.unwrap_or(MAX_TRAFFIC_WEIGHT)
    }
}

impl NginxTrafficRouting {
    /// Prefix of the annotations.
    pub fn annotation_prefix(&self) -> &str {
        or(&self.annotation_prefix, "nginx.ingress.kubernetes.io")
    }

    /// The Ingresses of the stable Service.
    pub fn ingresses(&self) -> Vec<&str> {
        one_or_many(&self.stable_ingress, self.stable_ingresses.as_deref())
    }
}

impl AlbTrafficRouting {
    /// Prefix of the annotations.
    pub fn annotation_prefix(&self) -> &str {
        or(&self.annotation_prefix, "alb.ingress.kubernetes.io")
    }

    /// The Ingresses to change.
    pub fn ingresses(&self) -> Vec<&str> {
        one_or_many(&self.ingress, self.ingresses.as_deref())
    }
}

fn or<'a>(text: &'a str, absent: &'a str) -> &'a str {
    if text.is_empty() { absent } else { text }
}

fn one_or_many<'a>(one: &'a str, many: Option<&'a [String]>) -> Vec<&'a str> {
    match many {
        Some(many) => many.iter().map(String::as_str).collect(),
        None => Some(one)
            .filter(|one| !one.is_empty())
            .into_iter()
            .collect(),
    }
}

impl IstioTrafficRouting {
    /// The VirtualServices to change.
    pub fn virtual_services(&self) -> Vec<&IstioVirtualService> {
        self.virtual_service
            .iter()
            .chain(self.virtual_services.iter().flatten())
            .collect()
    }
}

impl IstioVirtualService {
    /// Name and namespace of the object; `namespace` is that of the Rollout.
    pub fn name_and_namespace<'a>(&'a self, namespace: &'a str) -> (&'a str, &'a str) {
        let name = self
            .name
            .strip_suffix(".cluster.local")
            .unwrap_or(&self.name);
        name.rsplit_once('.').unwrap_or((name, namespace))
    }
}

impl StringMatch {
    /// How many of the three members are set.
    pub fn members(&self) -> usize {
        [&self.exact, &self.prefix, &self.regex]
            .into_iter()
            .filter(|text| !text.is_empty())
            .count()
    }
}

impl Pause {
    /// Seconds to wait; `None` means until a person resumes, −1 stands for a duration that cannot be read.
    pub fn duration_seconds(&self) -> Option<i64> {
        self.duration.as_ref().map(intstr::pause_seconds)
    }
}

impl SetMirrorRoute {
    /// How many requests are copied, in percent.
    pub fn percentage(&self) -> i32 {
        self.percentage.unwrap_or(100)
    }
}

impl ExperimentStep {
    /// Seconds that the experiment's pods stay after its end.
    pub fn scale_down_delay_seconds(&self) -> i32 {
        self.scale_down_delay_seconds
            .unwrap_or(SCALE_DOWN_DELAY_SECONDS)
    }
}

impl ExperimentSpec {
    /// Seconds that a template may go without progress.
    pub fn progress_deadline_seconds(&self) -> i32 {
        self.progress_deadline_seconds
            .unwrap_or(PROGRESS_DEADLINE_SECONDS)
    }

    /// Seconds that pods stay after the end.
    pub fn scale_down_delay_seconds(&self) -> i32 {
        self.scale_down_delay_seconds
            .unwrap_or(SCALE_DOWN_DELAY_SECONDS)
    }
}

impl TemplateSpec {
    /// Wanted number of pods.
    pub fn replicas(&self) -> i32 {
        self.replicas.unwrap_or(1)
    }
}

impl Metric {
    /// How many measurements are taken; `None` means without end. A negative count counts as 1.
    pub fn effective_count(&self) -> Option<i32> {
        match self.count.as_ref().map_or(0, intstr::count) {
            0 if self.interval.is_empty() => Some(1),
            0 => None,
            count => Some(count),
        }
    }

    /// Bad measurements that are tolerated; −1 means any number.
    pub fn failure_limit(&self) -> i32 {
        self.failure_limit.as_ref().map_or(0, intstr::count)
    }

    /// Inconclusive measurements that are tolerated.
    pub fn inconclusive_limit(&self) -> i32 {
        self.inconclusive_limit.as_ref().map_or(0, intstr::count)
    }

    /// Errors in a row that are tolerated.
    pub fn consecutive_error_limit(&self) -> i32 {
        self.consecutive_error_limit
            .as_ref()
            .map_or(CONSECUTIVE_ERROR_LIMIT, intstr::count)
    }

    /// Good measurements in a row that are enough; 0 means that this does not apply.
    pub fn consecutive_success_limit(&self) -> i32 {
        self.consecutive_success_limit
            .as_ref()
            .map_or(0, intstr::count)
    }
}

impl TemplateRef {
    /// Whether the template is a ClusterAnalysisTemplate.
    pub fn is_cluster_scope(&self) -> bool {
        self.cluster_scope.unwrap_or(false)
    }
}
