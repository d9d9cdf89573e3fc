//! Everything a decision about one AnalysisRun is taken on.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossfade_api::AnalysisRun;
use jiff::Timestamp;

use crate::action::Target;

/// One AnalysisRun and the Jobs it has started.
#[derive(Clone, Debug)]
pub struct World {
    /// The run as stored, spec and status.
    pub run: Arc<AnalysisRun>,
    /// Every Job that carries the run's uid as a label, by name. A Job that is not here does not exist, also by a live read.
    pub jobs: BTreeMap<String, Job>,
    /// Namespace for Jobs where it is not the run's own.
    pub job_namespace: Option<String>,
}

/// A Job as far as decisions look at it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Job {
    /// Which one, and in which version.
    pub target: Target,
    /// When it was created.
    pub created: Timestamp,
    /// Uid of its controller, if it has one.
    pub controller: Option<String>,
    /// Uid of the run that its label names.
    pub run_uid: String,
    /// Name of the metric that its annotation names.
    pub metric: String,
    /// Its condition `Complete` is True.
    pub complete: bool,
    /// Its condition `Failed` is True.
    pub failed: bool,
    /// Why a pod of it can never start: pod, container, reason and message.
    pub blocked: Option<BlockedPod>,
}

impl Job {
    /// True once it has ended, well or badly.
    pub fn finished(&self) -> bool {
        self.complete || self.failed
    }
}

/// A pod that waits with an image that cannot be had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockedPod {
    /// Name of the pod.
    pub pod: String,
    /// Name of the container.
    pub container: String,
    /// The waiting reason, for example `ImagePullBackOff`.
    pub reason: String,
    /// The waiting message.
    pub message: String,
}
