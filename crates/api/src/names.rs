//! Names that objects carry: labels, annotations, condition types and reasons.

/// Labels and selector keys.
pub mod label {
    /// Names a version; on ReplicaSets, pods, Services, analysis runs and experiments.
    pub const POD_HASH: &str = "rollouts-pod-template-hash";
    /// What an analysis run is for: `Step`, `Background`, `PrePromotion`, `PostPromotion`.
    pub const ROLLOUT_TYPE: &str = "rollout-type";
    /// Index of the step that an analysis run belongs to.
    pub const STEP_INDEX: &str = "step-index";
    /// Which controller looks after the object.
    pub const INSTANCE_ID: &str = "argo-rollouts.argoproj.io/controller-instance-id";
    /// The uid of the analysis run that a Job and its pods belong to.
    pub const ANALYSIS_RUN_UID: &str = "analysisrun.argoproj.io/uid";
}

/// Annotations.
pub mod annotation {
    /// Number of the revision.
    pub const REVISION: &str = "rollout.argoproj.io/revision";
    /// Former revision numbers of a ReplicaSet, separated by commas.
    pub const REVISION_HISTORY: &str = "rollout.argoproj.io/revision-history";
    /// Wanted pods of the Rollout when its ReplicaSet was last scaled.
    pub const DESIRED_REPLICAS: &str = "rollout.argoproj.io/desired-replicas";
    /// Generation of the referenced workload.
    pub const WORKLOAD_GENERATION: &str = "rollout.argoproj.io/workload-generation";
    /// Labels and annotations that were put into a ReplicaSet's pods, as JSON.
    pub const EPHEMERAL_METADATA: &str = "rollout.argoproj.io/ephemeral-metadata";
    /// Digest of the template that a ReplicaSet was made from.
    pub const TEMPLATE_DIGEST: &str = "crossfade.dev/template-digest";
    /// When a ReplicaSet may be scaled to zero.
    pub const SCALE_DOWN_DEADLINE: &str = "scale-down-deadline";
    /// Name of the Rollout that manages a Service or DestinationRule.
    pub const MANAGED_BY: &str = "argo-rollouts.argoproj.io/managed-by-rollouts";
    /// Name of the experiment that a ReplicaSet or Service belongs to.
    pub const EXPERIMENT_NAME: &str = "experiment.argoproj.io/name";
    /// Name of the experiment's template that a ReplicaSet or Service belongs to.
    pub const EXPERIMENT_TEMPLATE: &str = "experiment.argoproj.io/template-name";
    /// What notifications were sent; never copied to ReplicaSets.
    pub const NOTIFIED: &str = "notified.notifications.argoproj.io";
    /// What `kubectl apply` last applied; never copied to ReplicaSets.
    pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
    /// Name of the analysis run that a Job belongs to.
    pub const ANALYSIS_RUN_NAME: &str = "analysisrun.argoproj.io/name";
    /// Namespace of the analysis run that a Job belongs to.
    pub const ANALYSIS_RUN_NAMESPACE: &str = "analysisrun.argoproj.io/namespace";
    /// Name of the metric that a Job measures.
    pub const ANALYSIS_RUN_METRIC: &str = "analysisrun.argoproj.io/metric-name";
    /// How a routed canary grows: `max-surge` for so many pods at a time.
    pub const CANARY_GROWTH: &str = "crossfade.dev/canary-growth";
    /// Seconds during which a canary's weight does not rise after a router was told of its pods' hash.
    pub const WEIGHT_UPDATE_DELAY: &str = "crossfade.dev/weight-update-delay";
    /// When routers were told of a ReplicaSet's hash, where the weight waits for that.
    pub const ROUTED_SINCE: &str = "crossfade.dev/routed-since";
    /// When the try began for which an analysis run was made: the attempt's start as the Rollout's status has it.
    pub const ATTEMPT: &str = "crossfade.dev/attempt";
    /// Longest time that an analysis run may take, as a Go duration.
    pub const MAX_DURATION: &str = "crossfade.dev/max-duration";
}

/// Types of a Rollout's conditions.
pub mod condition {
    /// The spec cannot be acted on.
    pub const INVALID_SPEC: &str = "InvalidSpec";
    /// All pods are of the newest version and available.
    pub const HEALTHY: &str = "Healthy";
    /// The newest version is the stable one.
    pub const COMPLETED: &str = "Completed";
    /// Enough pods are available.
    pub const AVAILABLE: &str = "Available";
    /// A pause is being served.
    pub const PAUSED: &str = "Paused";
    /// A ReplicaSet cannot make its pods.
    pub const REPLICA_FAILURE: &str = "ReplicaFailure";
    /// The release makes progress.
    pub const PROGRESSING: &str = "Progressing";
}

/// Reasons of a Rollout's conditions.
pub mod reason {
    /// The spec cannot be acted on.
    pub const INVALID_SPEC: &str = "InvalidSpec";
    /// Of the condition Healthy.
    pub const HEALTHY: &str = "RolloutHealthy";
    /// Of the condition Completed.
    pub const COMPLETED: &str = "RolloutCompleted";
    /// Of the condition Available.
    pub const AVAILABLE: &str = "AvailableReason";
    /// A pause is being served.
    pub const PAUSED: &str = "RolloutPaused";
    /// A pause has ended.
    pub const RESUMED: &str = "RolloutResumed";
    /// The update was taken back.
    pub const ABORTED: &str = "RolloutAborted";
    /// A person asked for another try.
    pub const RETRY: &str = "RolloutRetry";
    /// All pods of the newest version are available.
    pub const NEW_RS_AVAILABLE: &str = "NewReplicaSetAvailable";
    /// A ReplicaSet moved on.
    pub const RS_UPDATED: &str = "ReplicaSetUpdated";
    /// A promoted version lost pods.
    pub const RS_NOT_AVAILABLE: &str = "ReplicaSetNotAvailable";
    /// No progress for too long.
    pub const DEADLINE_EXCEEDED: &str = "ProgressDeadlineExceeded";
    /// A ReplicaSet was made.
    pub const NEW_RS_CREATED: &str = "NewReplicaSetCreated";
    /// A ReplicaSet of this template was there already.
    pub const FOUND_NEW_RS: &str = "FoundNewReplicaSet";
    /// A ReplicaSet could not be made.
    pub const RS_CREATE_ERROR: &str = "ReplicaSetCreateError";
}
