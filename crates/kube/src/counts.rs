//! Numbers of pods alone are in no hurry, nor is it that an analysis has begun to measure: while pods come and go, they are recorded together every now
//! and then, and at once with whatever else changes. Nothing is decided on recorded numbers, so nobody waits for them but people and autoscalers, and
//! where a whole fleet is under way they leave the API server to those who do something.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossfade_api::analysis_run::AnalysisPhase;
use crossfade_api::names::condition;
use crossfade_api::rollout_status::RolloutStatus;
use jiff::Timestamp;

/// How long numbers may lag behind.
const LAG: Duration = Duration::from_secs(2);
/// For each Rollout whose numbers lag behind they may do so for this long, if that is longer: so many are recorded a second, however many there are.
const EACH: Duration = Duration::from_millis(100);
/// But never for longer than this.
const LONGEST: Duration = Duration::from_secs(20);

/// Since when each Rollout's recorded numbers lag behind, by uid.
#[derive(Debug, Default)]
pub(crate) struct Lagging(Mutex<BTreeMap<String, Instant>>);

impl Lagging {
    /// How long a status that differs from the recorded one by numbers alone may still wait to be recorded; `None` if it should be recorded now.
    pub(crate) fn may_wait(
        &self,
        uid: &str,
        recorded: &RolloutStatus,
        now: &RolloutStatus,
    ) -> Option<Duration> {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = without_numbers(recorded) == without_numbers(now);
        let left = waits
            .then(|| {
                let lag = LONGEST.min(EACH * u32::try_from(since.len()).unwrap_or(u32::MAX));
                let since = since.entry(uid.to_owned()).or_insert_with(Instant::now);
                lag.max(LAG).checked_sub(since.elapsed())
            })
            .flatten()
            .filter(|left| !left.is_zero());
        if left.is_none() {
            since.remove(uid);
        }
        left
    }

    /// The Rollout is gone.
    pub(crate) fn forget(&self, uid: &str) {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.remove(uid);
    }
}

/// What a status says apart from how many pods there are, and whether an analysis without a result has begun.
fn without_numbers(status: &RolloutStatus) -> RolloutStatus {
    let mut status = status.clone();
    status.replicas = 0;
    status.updated_replicas = 0;
    status.ready_replicas = 0;
    status.available_replicas = 0;
    status.hpa_replicas = 0;
    let canary = &mut status.canary;
    let blue_green = &mut status.blue_green;
    let runs = [
        &mut canary.current_step_analysis_run_status,
        &mut canary.current_background_analysis_run_status,
        &mut blue_green.pre_promotion_analysis_run_status,
        &mut blue_green.post_promotion_analysis_run_status,
    ];
    for run in runs.into_iter().flatten() {
        if matches!(run.status, AnalysisPhase::Pending | AnalysisPhase::Running) {
            run.status = AnalysisPhase::Unset;
        }
    }
    status
        .conditions
        .retain(|told| told.kind != condition::AVAILABLE);
    for told in &mut status.conditions {
        // That pods came is progress, and the time of it a number, too.
        if told.kind == condition::PROGRESSING {
            told.last_update_time = Timestamp::default();
            told.message.clear();
        }
    }
    status
        .conditions
        .sort_by(|left, right| left.kind.cmp(&right.kind));
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_wait_for_a_while_and_nothing_else_does() {
        let lagging = Lagging::default();
        let recorded = RolloutStatus::default();
        let pods = RolloutStatus {
            available_replicas: 3,
            ..RolloutStatus::default()
        };
        assert!(lagging.may_wait("a", &recorded, &pods).is_some());
        assert!(lagging.may_wait("a", &recorded, &pods).is_some());
        let aborted = RolloutStatus {
            abort: true,
            ..pods.clone()
        };
        assert!(lagging.may_wait("a", &recorded, &aborted).is_none());
        let past = Instant::now()
            .checked_sub(LAG)
            .expect("the machine has run for that long");
        let mut since = lagging.0.lock().expect("nobody panicked");
        since.insert("a".to_owned(), past);
        drop(since);
        assert!(lagging.may_wait("a", &recorded, &pods).is_none());
        assert!(
            lagging.may_wait("a", &recorded, &pods).is_some(),
            "they lag anew"
        );
    }

    #[test]
    fn where_many_are_under_way_their_numbers_wait_for_longer() {
        let lagging = Lagging::default();
        let recorded = RolloutStatus::default();
        let pods = RolloutStatus {
            available_replicas: 3,
            ..RolloutStatus::default()
        };
        let mut waits = || {
            let uid = lagging.0.lock().expect("nobody panicked").len().to_string();
            lagging.may_wait(&uid, &recorded, &pods).expect("it waits")
        };
        let all: Vec<Duration> = std::iter::repeat_with(&mut waits).take(500).collect();
        assert!(all.first().is_some_and(|first| *first <= LAG));
        assert!(all.iter().all(|wait| *wait <= LONGEST));
        let last = all.last().expect("they are many");
        assert!(*last + Duration::from_secs(1) > LONGEST, "{last:?}");
    }

    #[test]
    fn that_an_analysis_has_begun_waits_and_its_result_does_not() {
        let with = |status: AnalysisPhase| {
            let mut told = RolloutStatus::default();
            let slot = crossfade_api::rollout_status::AnalysisRunSlot {
                name: "web-1".to_owned(),
                status,
                ..Default::default()
            };
            told.canary.current_step_analysis_run_status = Some(slot);
            told
        };
        let lagging = Lagging::default();
        let recorded = with(AnalysisPhase::Unset);
        let may_wait = |status| lagging.may_wait("a", &recorded, &with(status)).is_some();
        assert!(may_wait(AnalysisPhase::Running));
        assert!(!may_wait(AnalysisPhase::Failed));
        assert!(!may_wait(AnalysisPhase::Successful));
    }
}
