//! Who looks at what: when a Service, a template or a route changes, the Rollouts and Experiments that name it are looked at again, and no others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use crossfade_engine::decision::Found;

use crate::cache::{Key, Trouble};
use crate::context::Subject;
use crate::kind::Kind;

/// An object that is named.
pub(crate) type Named = (Kind, Key);

/// What was looked at for a decision.
#[derive(Default)]
pub(crate) struct Looked {
    pub(crate) names: BTreeSet<Named>,
    /// What could not be seen because the API server does not allow it.
    pub(crate) denied: Option<String>,
}

impl Looked {
    /// What is not in a cache is missing, unless the cache has not been read.
    pub(crate) fn absent<T>(&mut self, trouble: Option<Trouble>) -> Found<T> {
        let Some(trouble) = trouble else {
            return Found::Missing;
        };
        if trouble.denied {
            self.denied.get_or_insert_with(|| trouble.why.clone());
        }
        Found::Unreadable(trouble.why)
    }
}

#[derive(Default)]
struct State {
    by_subject: BTreeMap<Subject, BTreeSet<Named>>,
    by_named: BTreeMap<Named, BTreeSet<Subject>>,
}

/// Which Rollouts and Experiments name which objects.
#[derive(Default)]
pub(crate) struct Referrers(Mutex<State>);

impl Referrers {
    /// From now on a subject names these objects. Tells which it named before and does no more.
    pub(crate) fn set(&self, subject: &Subject, names: BTreeSet<Named>) -> Vec<Named> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.by_subject.get(subject).unwrap_or(&BTreeSet::new()) == &names {
            return Vec::new();
        }
        let before = state.by_subject.remove(subject).unwrap_or_default();
        let left: Vec<Named> = before.difference(&names).cloned().collect();
        for named in &left {
            if let Some(subjects) = state.by_named.get_mut(named) {
                subjects.remove(subject);
                if subjects.is_empty() {
                    state.by_named.remove(named);
                }
            }
        }
        for named in names.difference(&before) {
            let subjects = state.by_named.entry(named.clone()).or_default();
            subjects.insert(subject.clone());
        }
        if !names.is_empty() {
            state.by_subject.insert(subject.clone(), names);
        }
        left
    }

    /// Who names an object.
    pub(crate) fn of(&self, named: &Named) -> Vec<Subject> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let subjects = state.by_named.get(named);
        subjects.into_iter().flatten().cloned().collect()
    }

    /// Who names any object of a kind.
    pub(crate) fn of_kind(&self, kind: &Kind) -> BTreeSet<Subject> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_kind = state.by_named.iter().filter(|((of, _), _)| of == kind);
        of_kind
            .flat_map(|(_, subjects)| subjects)
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
        let rollout = |name: &str| Subject::Rollout(key(name));
        let service = |name: &str| (Kind::Service, key(name));
        let referrers = Referrers::default();
        let both = BTreeSet::from([service("stable"), service("canary")]);
        assert!(referrers.set(&rollout("web"), both).is_empty());
        assert!(
            referrers
                .set(&rollout("api"), BTreeSet::from([service("stable")]))
                .is_empty()
        );
        assert_eq!(
            referrers.of(&service("stable")),
            [rollout("api"), rollout("web")]
        );
        assert_eq!(
            referrers.set(&rollout("web"), BTreeSet::new()),
            [service("canary"), service("stable")]
        );
        assert_eq!(referrers.of(&service("stable")), [rollout("api")]);
        assert!(referrers.of(&service("canary")).is_empty());
    }
}
