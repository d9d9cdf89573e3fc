//! Who looks at what: when a Service, a template or a route changes, the Rollouts that name it are looked at again, and no others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use crate::cache::Key;
use crate::kind::Kind;

/// An object that is named.
pub(crate) type Named = (Kind, Key);

#[derive(Default)]
struct State {
    by_rollout: BTreeMap<Key, BTreeSet<Named>>,
    by_named: BTreeMap<Named, BTreeSet<Key>>,
}

/// Which Rollouts name which objects.
#[derive(Default)]
pub(crate) struct Referrers(Mutex<State>);

impl Referrers {
    /// From now on a Rollout names these objects. Tells which it named before and does no more.
    pub(crate) fn set(&self, rollout: &Key, names: BTreeSet<Named>) -> Vec<Named> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.by_rollout.get(rollout).unwrap_or(&BTreeSet::new()) == &names {
            return Vec::new();
        }
        let before = state.by_rollout.remove(rollout).unwrap_or_default();
        let left: Vec<Named> = before.difference(&names).cloned().collect();
        for named in &left {
            if let Some(rollouts) = state.by_named.get_mut(named) {
                rollouts.remove(rollout);
                if rollouts.is_empty() {
                    state.by_named.remove(named);
                }
            }
        }
        for named in names.difference(&before) {
            let rollouts = state.by_named.entry(named.clone()).or_default();
            rollouts.insert(rollout.clone());
        }
        if !names.is_empty() {
            state.by_rollout.insert(rollout.clone(), names);
        }
        left
    }

    /// The Rollouts that name an object.
    pub(crate) fn of(&self, named: &Named) -> Vec<Key> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rollouts = state.by_named.get(named);
        rollouts.into_iter().flatten().cloned().collect()
    }
}

impl Referrers {
    /// The Rollouts that name any object of a kind.
    pub(crate) fn of_kind(&self, kind: &Kind) -> BTreeSet<Key> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_kind = state.by_named.iter().filter(|((of, _), _)| of == kind);
        of_kind
            .flat_map(|(_, rollouts)| rollouts)
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_no_longer_names_an_object_is_not_woken_by_it() {
        let key = |name: &str| ("shop".to_owned(), name.to_owned());
        let service = |name: &str| (Kind::Service, key(name));
        let referrers = Referrers::default();
        let both = BTreeSet::from([service("stable"), service("canary")]);
        assert!(referrers.set(&key("web"), both).is_empty());
        assert!(
            referrers
                .set(&key("api"), BTreeSet::from([service("stable")]))
                .is_empty()
        );
        assert_eq!(referrers.of(&service("stable")), [key("api"), key("web")]);
        assert_eq!(
            referrers.set(&key("web"), BTreeSet::new()),
            [service("canary"), service("stable")]
        );
        assert_eq!(referrers.of(&service("stable")), [key("api")]);
        assert!(referrers.of(&service("canary")).is_empty());
    }
}
