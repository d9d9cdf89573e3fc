//! Wrong rules on purpose: the engine as it would be with one mistake in it.
//!
//! A net that has never caught a fish may have holes. So each rule of the engine can be swapped for a wrong one, and a test lives releases
//! under each of them until somebody objects. One wrong rule at a time, for one thread at a time, in one build: the feature `mutants`, which
//! only tests have. Without it [`wrong`] is always false, and nothing of this is left in what is built.

/// Names the wrong rules, each with a sentence that says what is wrong.
macro_rules! mutants {
    ($($name:ident: $sentence:literal,)*) => {
        /// A wrong rule.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mutant {
            $(#[doc = $sentence] $name,)*
        }

        #[cfg(feature = "mutants")]
        impl Mutant {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Its name.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// What is wrong, in a sentence.
            pub fn sentence(self) -> &'static str {
                match self {
                    $(Self::$name => $sentence,)*
                }
            }
        }
    };
}

mutants! {
    // Steps and promotion of a canary.
    AdvanceUngated: "A step is left although it is not done.",
    StepLeftOut: "One completed step counts for two.",
    GoOnAtOldStep: "A new template goes on at the step that the former one had reached.",
    AbortKeepsStep: "A release that was taken back goes on at the step it had reached when it is tried again.",
    PromoteAborted: "A release is promoted although it is being taken back.",
    PromoteBeforeLastStep: "A release is promoted before its steps are done.",
    PromoteWithoutPods: "A canary is promoted before its pods are there.",
    PromoteUnconfirmed: "A canary is promoted although a router has not confirmed the full weight.",
    PromotionNotRecorded: "A promoted version does not become the stable one.",
    PromoteFullSticks: "A full promotion that was asked for one version holds for the next one, too.",
    WeightNotAwaited: "A weight step is left before the weight is recorded.",
    StepWithoutPods: "A step is left before its pods are there.",
    StepUnjudged: "An analysis step is left before its run has ended.",
    RouteNotAwaited: "A header route step is left before the router has the route.",
    PauseCutShort: "A pause with a duration ends as soon as it has begun.",
    PauseNeedsNobody: "A pause without a duration ends as soon as it has begun.",

    // Pauses and aborts.
    ForgetAbort: "An abort holds for one pass only.",
    ForgetPause: "A pause that was recorded is forgotten.",
    ScaleWhileHalted: "Sizes change although a person or a doubtful analysis holds the release.",
    StepWhilePaused: "Steps go on although a person has paused the release.",

    // Traffic.
    WeightBeforePods: "The canary's weight rises before its pods are there.",
    LeaveBeforeStable: "Traffic leaves the canary before stable pods can carry it.",
    RetreatAtOnce: "With stable pods that follow the weight, an abort takes all traffic back at once.",
    AbortKeepsWeight: "After an abort the canary keeps its weight.",
    WeightKeptAfterPromotion: "After a promotion the canary's side keeps its weight.",
    RoutesKept: "Header and mirror routes stay after the release.",
    RouteLate: "A header or mirror route comes one step late.",
    RouterErrorIgnored: "A router that refuses a weight is taken to carry it.",
    DriftIgnored: "A weight that somebody else has changed stays changed.",
    UnverifiedIsVerified: "A router that does not confirm a weight is taken to have confirmed it.",
    ServiceBeforeWeight: "The canary's Service moves to a newer version while it still carries weight.",
    ServiceBeforePods: "A Service is pointed at a version without pods.",
    StableServiceForgotten: "The stable Service is not moved to the promoted version.",
    CanaryServiceForgotten: "After an abort behind a router the canary's Service stays with the failed version.",

    // Sizes.
    GrowBeyondSurge: "Pods are added beyond the surge.",
    ShrinkBelowFloor: "Pods are taken away beyond what may be missing.",
    ShrinkUnconfirmed: "Pods are taken away although routers failed or have not confirmed.",
    PodsRoundedDown: "A weight gets the pods that it needs rounded down.",
    StableShrinksBeforeWeight: "Stable pods that follow the weight go in the pass that takes the traffic off them.",
    FailedGoesBeforeTraffic: "A version that was taken back loses its pods while it still has traffic.",
    AbortDelayIgnored: "A version that was taken back loses its pods without its delay.",
    AbortDelayBeforeStable: "The delay of a version that was taken back begins before stable pods are there.",
    DelayIgnored: "A former version loses its pods without its delay.",
    DelayWithoutEnd: "A former version keeps its pods after its delay.",
    DelayLimitIgnored: "More former versions keep their pods than are allowed to.",
    DelayKept: "A version that is in use again keeps the end of its former delay.",
    DropReferenced: "A former version loses its pods although traffic or a Service names it.",
    DesiredForgotten: "A ReplicaSet does not remember for how many pods it was last sized.",

    // Blue-green.
    SwitchBeforePods: "The active Service is switched before the new version has its pods.",
    SwitchUnjudged: "The active Service is switched before the pre-promotion analysis has succeeded.",
    SwitchWithoutPause: "The active Service is switched before its pause is over.",
    SwitchWhilePaused: "The active Service is switched although a person has paused the release.",
    SwitchBackForgotten: "After an abort the active Service stays with the failed version.",
    SwitchBackBeforePods: "After an abort the active Service is switched back before stable pods are there.",
    SkipPostPromotion: "A blue-green release is promoted before its post-promotion analysis has succeeded.",
    PromoteBeforeSwitch: "A blue-green release is promoted before the active Service is switched.",
    OldGoesUnproven: "The former version loses its pods before the new one has proved itself.",
    FailedGoesWhileActive: "A version that was taken back loses its pods while the active Service selects it.",
    BackToFailed: "A version that failed counts as one to go back to at once.",
    PreviewStaysSmall: "A preview of fewer pods is not brought to its full size before the switch.",
    PreviewForgotten: "The preview Service is not pointed at the new version.",

    // The runs of a release.
    InconclusiveIsGood: "An inconclusive run counts as a successful one.",
    FailureIsNoProof: "A failed run does not take the release back.",
    BackgroundIgnored: "A failed run beside the steps does not take the release back.",
    BackgroundNotRun: "The run beside the steps is not started.",
    BackgroundTooEarly: "The run beside the steps starts before its step.",
    JudgedBeforePods: "A blue-green release is judged before its pods are there.",
    WrongVersionJudged: "A run judges the stable version instead of the new one.",
    RetryWithOldEvidence: "A retry counts the runs of the try before.",
    RunTwice: "After a crash a run is started a second time.",
    RunsNotEnded: "Runs that nobody needs any more are not asked to end.",
    RunHistoryWithoutLimit: "Finished runs are kept beyond their limits.",

    // Experiments.
    ExperimentNotAwaited: "An experiment step is left before its Experiment has succeeded.",
    ExperimentFailureIgnored: "A failed Experiment does not take the release back.",

    // Measurements.
    ErrorIsSuccess: "A provider's error counts as a success.",
    FailureLimitOffByOne: "One failure more than the limit is forgiven.",
    InconclusiveLimitOffByOne: "One inconclusive result more than the limit is forgiven.",
    ErrorLimitOffByOne: "One error in a row more than the limit is forgiven.",
    CountOffByOne: "A metric ends one measurement too early.",
    IntervalIgnored: "Measurements do not keep their interval.",
    InitialDelayIgnored: "The first measurement does not wait for its delay.",
    DryRunCounts: "A metric that is tried out counts.",
    FirstMetricDecides: "A run ends with the first of its metrics.",
    DoubtIsGood: "A value that meets neither condition counts as a success.",
    FailureConditionIgnored: "The failure condition is not looked at.",
    JobFailureIsSuccess: "A failed Job counts as a success.",
    JobTwice: "After a crash a Job is started a second time.",
    JobLeftBehind: "A Job goes on after its run was ended.",
    RunWrittenAlways: "The status of a run is written when nothing has changed.",

    // Status.
    WriteAlways: "The status of a Rollout is written when nothing has changed.",
    HealthyTooEarly: "A canary is called healthy before it is promoted.",
    NoDeadline: "The progress deadline never passes.",
    DeadlineNotAwaited: "Nobody looks again when the progress deadline passes.",
    DeadlineWithoutAbort: "The progress deadline passes without the abort that was asked for.",
    DeadlineDuringAnalysis: "The progress deadline passes while an analysis takes its time.",
    InvalidIgnored: "A release goes on although something that it refers to is missing.",

    // Versions and pods.
    RevisionNotRaised: "A new version gets the number of the one before.",
    ForgetNewest: "Of the former versions the newest are deleted first.",
    ForgetWithPods: "A former version is deleted although it has pods.",
    ForgetNothing: "Former versions are never deleted.",
    MinReadyForgotten: "Pods count as available as soon as they are ready.",
    AntiAffinityForgotten: "A new version is not kept away from the nodes of the stable one.",
    RolesForgotten: "Pods keep the labels of the role that they had.",
    RollbackWindowOffByOne: "The rollback window reaches one version further back.",
    RestartAllAtOnce: "A restart takes all pods at once.",
    RestartTooEarly: "A restart counts as done before its pods are replaced.",

    // Canaries: the tests know the first and the last of these.
    CanaryGateIgnored: "Traffic grows although a gate of traffic is closed.",
    CanaryStartUnconfirmed: "A release starts although the gate before it is closed.",
    CanaryPromotionUnconfirmed: "A Canary is promoted although the gate of promotion is closed.",
    CanaryPreRolloutIgnored: "The new version gets its first request although a check before that failed.",
    CanaryCallBackIgnored: "A rollback webhook that agrees does not take the release back.",
    CanaryBadIsGood: "A value beyond its bounds counts as a good one.",
    CanaryErrorIsGood: "A provider's error counts as a good value.",
    CanaryHoldCounts: "What nobody knows counts as a failed check although a policy says that it does not.",
    CanaryThresholdOffByOne: "A release goes on with as many failed checks as its threshold.",
    CanaryStepTwice: "Traffic grows by two steps at once.",
    CanaryTargetUnawaited: "Traffic grows although the new version's pods are not there.",
    CanaryPrimaryUnawaited: "Traffic returns to a primary whose pods are not there.",
    CanarySleepsFirst: "The new version that failed sleeps before its traffic is taken back.",
    CanaryNewerIgnored: "A newer revision in the middle of a release is judged as the one before.",
    CanaryNewerKeepsTraffic: "A newer revision gets the traffic of the one before.",
    CanaryConfigsForgotten: "A promotion does not copy the configuration.",
    CanaryLookTooFew: "A release that counts looks is promoted one look too early.",
    CanaryCookieTurns: "The cookie of session affinity changes with each step.",
    CanarySuspendIgnored: "A suspended Canary goes on.",

    // Passes.
    ActOnStale: "A pass acts on an observation that is older than its own last write.",
}

#[cfg(feature = "mutants")]
pub use live::{Asked, live};

#[cfg(feature = "mutants")]
pub(crate) use live::wrong;

/// Whether this rule is to be a wrong one. Asked last, where the answer makes a difference.
#[cfg(not(feature = "mutants"))]
#[inline]
pub(crate) const fn wrong(_: Mutant) -> bool {
    false
}

#[cfg(feature = "mutants")]
mod live {
    use std::cell::Cell;

    use super::Mutant;

    const _: () = assert!(Mutant::ALL.len() <= 128, "each has a bit in `Asked`");

    thread_local! {
        static WRONG: Cell<Option<Mutant>> = const { Cell::new(None) };
        static ASKED: Cell<u128> = const { Cell::new(0) };
    }

    /// The rules that were asked whether they are to be wrong: under any other the same would have happened.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Asked(u128);

    impl Asked {
        /// This one was asked.
        pub fn has(self, rule: Mutant) -> bool {
            self.0 & bit(rule) != 0
        }
    }

    fn bit(rule: Mutant) -> u128 {
        1 << rule as u32
    }

    /// Whether this rule is to be a wrong one. Asked last, where the answer makes a difference.
    #[inline]
    pub(crate) fn wrong(rule: Mutant) -> bool {
        ASKED.set(ASKED.get() | bit(rule));
        WRONG.get() == Some(rule)
    }

    /// Does something on this thread under a wrong rule, or under none.
    pub fn live<T>(rule: Option<Mutant>, what: impl FnOnce() -> T) -> (T, Asked) {
        struct Back(Option<Mutant>, u128);
        impl Drop for Back {
            fn drop(&mut self) {
                WRONG.set(self.0);
                ASKED.set(self.1);
            }
        }
        let _back = Back(WRONG.replace(rule), ASKED.replace(0));
        let done = what();
        (done, Asked(ASKED.get()))
    }
}
