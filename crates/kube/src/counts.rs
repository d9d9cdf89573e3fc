//! Numbers of pods alone are in no hurry: while pods come and go, they are recorded together every now and then, and at once with whatever else
//! changes. Nothing is decided on recorded numbers, so nobody waits for them but people and autoscalers.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossfade_api::names::condition;
use crossfade_api::rollout_status::RolloutStatus;
use jiff::Timestamp;

/// How long numbers may lag behind: less than an autoscaler lets pass between two looks.
const LAG: Duration = Duration::from_secs(5);

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
                let since = since.entry(uid.to_owned()).or_insert_with(Instant::now);
                LAG.checked_sub(since.elapsed())
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

/// What a status says apart from how many pods there are.
fn without_numbers(status: &RolloutStatus) -> RolloutStatus {
    let mut status = status.clone();
    status.replicas = 0;
    status.updated_replicas = 0;
    status.ready_replicas = 0;
    status.available_replicas = 0;
    status.hpa_replicas = 0;
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
}
