//! Rollouts as decisions need them: decoded once a version, with what follows from their specs and what a pass has to remember.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crossfade_api::rollout_status::RolloutStatus;
use crossfade_api::{Resource as _, Rollout};
use crossfade_engine::rollout::prepared::{Prepared, prepare};
use crossfade_engine::rollout::world::Peaks;
use serde_json::Value;

use super::views;

/// The version that was decoded, and what came of it.
type Decoded = (String, Arc<Rollout>, Arc<Prepared>);

/// Rollouts decoded once a version, and what follows from their specs.
#[derive(Default)]
pub(super) struct PreparedRollouts {
    known: Mutex<BTreeMap<String, Decoded>>,
    peaks: Mutex<BTreeMap<String, Peaks>>,
}

impl PreparedRollouts {
    /// A stored Rollout, decoded and prepared.
    pub(super) fn of(&self, object: &Value) -> (Arc<Rollout>, Arc<Prepared>) {
        let (uid, version) = (
            views::text(object, "/metadata/uid"),
            views::text(object, "/metadata/resourceVersion"),
        );
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, rollout, prepared)) = known.get(uid).filter(|(of, _, _)| of == version) {
            return (Arc::clone(rollout), Arc::clone(prepared));
        }
        let (rollout, unread) = Rollout::from_json(object.clone());
        let rollout = Arc::new(rollout);
        let prepared = Arc::new(prepare(&rollout).with_unread(unread));
        known.insert(
            uid.to_owned(),
            (
                version.to_owned(),
                Arc::clone(&rollout),
                Arc::clone(&prepared),
            ),
        );
        (rollout, prepared)
    }

    /// The most pods that a Rollout has had since its present step began.
    pub(super) fn peaks(&self, uid: &str) -> Peaks {
        self.peaks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(uid)
            .cloned()
            .unwrap_or_default()
    }

    /// Takes a recorded status into account for [`PreparedRollouts::peaks`].
    pub(super) fn follow(&self, uid: &str, status: &RolloutStatus) {
        self.peaks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(uid.to_owned())
            .or_default()
            .follow(status);
    }

    /// Forgets Rollouts that are gone.
    pub(super) fn forget(&self, uid: &str) {
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(uid);
        self.peaks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(uid);
    }
}
