//! Gates in the memory of this process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{CanaryId, Change, Gates, Write};

/// Gates in the memory of this process.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory(Arc<Mutex<BTreeMap<CanaryId, Gates>>>);

impl Memory {
    fn all(&self) -> MutexGuard<'_, BTreeMap<CanaryId, Gates>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn read(&self, canary: &CanaryId) -> Gates {
        self.all().get(canary).cloned().unwrap_or_default()
    }

    pub(super) fn update<T>(
        &self,
        canary: &CanaryId,
        mut change: impl FnMut(&mut Gates) -> Change<T>,
    ) -> T {
        let mut all = self.all();
        let mut gates = all.get(canary).cloned().unwrap_or_default();
        let done = change(&mut gates);
        if done.write > Write::No {
            all.insert(canary.clone(), gates);
        }
        done.answer
    }

    pub(super) fn list(&self, namespace: Option<&str>) -> Vec<(CanaryId, Gates)> {
        let all = self.all();
        let of_namespace =
            |canary: &CanaryId| namespace.is_none_or(|wanted| canary.namespace == wanted);
        let found = all.iter().filter(|(canary, _)| of_namespace(canary));
        found
            .map(|(canary, gates)| (canary.clone(), gates.clone()))
            .collect()
    }
}
