//! Gates as people and hooks use them: each call reads, decides by the rules, keeps, and tells what has changed.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::record::{
    Action, CanaryId, DEFAULT_GATE, Entry, GateId, Gates, LastCheck, Record, Who, moment,
};
use super::rules::{self, Asked, Opening, Refused, Verdict, Write};
use super::store::{Change, Store, StoreError};

/// Says what time it is.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Looks after all gates.
#[derive(Clone)]
pub struct Keeper {
    store: Store,
    clock: Clock,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

/// Why a gate was not changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ChangeError {
    /// The rules do not allow it.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It cannot be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A gate in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    /// Its Canary's namespace.
    pub namespace: String,
    /// Its Canary.
    pub name: String,
    /// Its name.
    pub gate: String,
    /// Whether a check may be granted.
    pub open: bool,
    /// Checks that may still be granted; null without limit.
    pub uses_left: Option<u32>,
    /// When it closes itself.
    pub expires_at: Option<Timestamp>,
    /// Who changed it last.
    pub by: String,
    /// When it was opened last.
    pub opened_at: Option<Timestamp>,
    /// The first refused check since the last granted one.
    pub waiting_since: Option<Timestamp>,
    /// Rises with every change.
    pub version: u64,
}

impl Keeper {
    /// Looks after the gates of this store.
    pub fn new(store: Store) -> Self {
        Self::with_clock(store, Arc::new(Timestamp::now))
    }

    /// The same by another clock.
    pub fn with_clock(store: Store, clock: Clock) -> Self {
        Self { store, clock }
    }

    /// What time it is, as gates keep it.
    pub fn now(&self) -> Timestamp {
        moment((self.clock)())
    }

    /// Answers a check.
    ///
    /// # Errors
    /// The store gives no answer, or a spent use cannot be kept: nobody may go on then.
    pub(super) async fn check(
        &self,
        gate: &GateId,
        asked: Asked,
        who: &Who,
    ) -> Result<Verdict, StoreError> {
        let (name, who, now) = (gate.gate.clone(), who.clone(), self.now());
        let waits = !gate.is_rollback();
        let change = move |gates: &mut Gates| {
            let mut record = gates.remove(&name).unwrap_or_default();
            let elsewhere = last_check(gates);
            let checked = rules::check(&mut record, &asked, elsewhere, waits, &who, now);
            let write = checked.write;
            gates.insert(name.clone(), record);
            Change {
                answer: checked,
                write,
            }
        };
        let checked = self.store.update(&gate.canary, change).await?;
        if let Some(entry) = &checked.entry {
            self.audit(gate, entry, checked.write > Write::No).await;
        }
        Ok(checked.verdict)
    }

    /// Opens a gate on these terms and gives it back as it is then.
    ///
    /// # Errors
    /// See [`ChangeError`]; nothing changed.
    pub async fn open(
        &self,
        gate: &GateId,
        opening: Opening,
        who: &Who,
    ) -> Result<Record, ChangeError> {
        let reason = opening.reason.clone();
        self.change(
            gate,
            Action::Open,
            &reason,
            who,
            move |record, seen, who, now| {
                let entry = rules::open(record, &opening, seen, who, now)?;
                let write = if entry.is_some() {
                    Write::Must
                } else {
                    Write::No
                };
                Ok((entry, write))
            },
        )
        .await
    }

    /// Closes a gate and gives it back as it is then.
    ///
    /// # Errors
    /// See [`ChangeError`]; nothing changed.
    pub async fn close(
        &self,
        gate: &GateId,
        reason: &str,
        expect_version: Option<u64>,
        who: &Who,
    ) -> Result<Record, ChangeError> {
        let why = reason.to_owned();
        self.change(
            gate,
            Action::Close,
            reason,
            who,
            move |record, _, who, now| rules::close(record, &why, expect_version, who, now),
        )
        .await
    }

    /// Gives back what the call of this id has spent, at whichever gate of the Canary.
    ///
    /// # Errors
    /// See [`ChangeError`]; nothing changed.
    pub(super) async fn refund(
        &self,
        canary: &CanaryId,
        call: &str,
        who: &Who,
    ) -> Result<Record, ChangeError> {
        let id = call.to_owned();
        let gates = self.store.read(canary).await?;
        let found = gates
            .iter()
            .find(|(_, record)| record.calls.iter().any(|known| known.id == id));
        let name = found.map_or(DEFAULT_GATE, |(name, _)| name.as_str());
        let gate = GateId {
            canary: canary.clone(),
            gate: name.to_owned(),
        };
        self.change(
            &gate,
            Action::Refund,
            "",
            who,
            move |record, _, who, now| {
                rules::refund(record, &id, who, now).map(|entry| (Some(entry), Write::Must))
            },
        )
        .await
    }

    async fn change(
        &self,
        gate: &GateId,
        action: Action,
        reason: &str,
        who: &Who,
        mut rule: impl FnMut(
            &mut Record,
            &str,
            &Who,
            Timestamp,
        ) -> Result<(Option<Entry>, Write), Refused>
        + Send
        + 'static,
    ) -> Result<Record, ChangeError> {
        let (name, now) = (gate.gate.clone(), self.now());
        let actor = who.clone();
        let change = move |gates: &mut Gates| {
            let seen = last_check(gates).map_or_else(String::new, |last| last.checksum.clone());
            let mut record = gates.remove(&name).unwrap_or_default();
            let mut entries: Vec<Entry> = rules::expire(&mut record, now).into_iter().collect();
            let done = rule(&mut record, &seen, &actor, now);
            let shown = record.clone();
            gates.insert(name.clone(), record);
            let (answer, write) = match done {
                Ok((entry, write)) => {
                    entries.extend(entry);
                    (Ok((shown, entries)), write)
                }
                Err(why) => (Err(why), Write::No),
            };
            Change { answer, write }
        };
        let (record, entries) = match self.store.update(&gate.canary, change).await? {
            Ok(done) => done,
            Err(why) => {
                self.refuse(gate, action, &why.to_string(), reason, who)
                    .await;
                return Err(why.into());
            }
        };
        for entry in &entries {
            self.audit(gate, entry, true).await;
        }
        Ok(record)
    }

    /// Remembers and tells that somebody was not allowed to change a gate.
    pub(super) async fn refuse(
        &self,
        gate: &GateId,
        action: Action,
        why: &str,
        reason: &str,
        who: &Who,
    ) {
        let (name, now, actor) = (gate.gate.clone(), self.now(), who.clone());
        let (why, reason) = (why.to_owned(), reason.to_owned());
        let (told, because, by) = (why.clone(), reason.clone(), who.clone());
        let change = move |gates: &mut Gates| {
            // A stranger makes no records.
            let Some(record) = gates.get_mut(&name) else {
                let entry = rules::refusal(&Record::default(), action, &why, &actor, &reason, now);
                return Change {
                    answer: (entry, true),
                    write: Write::No,
                };
            };
            let entry = rules::refusal(record, action, &why, &actor, &reason, now);
            let is_news = rules::note_refusal(record, &entry, now);
            Change {
                answer: (entry, is_news),
                write: if is_news { Write::May } else { Write::No },
            }
        };
        let (entry, is_news) = self
            .store
            .update(&gate.canary, change)
            .await
            .unwrap_or_else(|_| {
                let record = Record::default();
                (
                    rules::refusal(&record, action, &told, &by, &because, now),
                    false,
                )
            });
        self.audit(gate, &entry, is_news).await;
    }

    /// A gate as it is now, without its calls; `None` when nothing is known of it.
    ///
    /// # Errors
    /// The store gives no answer.
    pub async fn status(&self, gate: &GateId) -> Result<Option<Record>, StoreError> {
        let gates = self.store.read(&gate.canary).await?;
        let now = self.now();
        Ok(gates.get(&gate.gate).map(|record| record.shown(now)))
    }

    /// All gates of a Canary as they are now.
    ///
    /// # Errors
    /// The store gives no answer.
    pub async fn of(&self, canary: &CanaryId) -> Result<Gates, StoreError> {
        let now = self.now();
        let gates = self.store.read(canary).await?;
        Ok(gates
            .into_iter()
            .map(|(name, record)| (name, record.shown(now)))
            .collect())
    }

    /// All gates, of one namespace or all.
    ///
    /// # Errors
    /// The store gives no answer.
    pub async fn list(&self, namespace: Option<&str>) -> Result<Vec<Listed>, StoreError> {
        let now = self.now();
        let mut listed = Vec::new();
        for (canary, gates) in self.store.list(namespace).await? {
            for (gate, record) in gates {
                let record = record.shown(now);
                listed.push(Listed {
                    namespace: canary.namespace.clone(),
                    name: canary.name.clone(),
                    gate,
                    open: record.open,
                    uses_left: record.uses_left,
                    expires_at: record.expires_at,
                    by: record.by,
                    opened_at: record.opened_at,
                    waiting_since: record.waiting_since,
                    version: record.version,
                });
            }
        }
        Ok(listed)
    }

    /// All gates as they are kept.
    ///
    /// # Errors
    /// The store gives no answer.
    pub async fn all(&self) -> Result<Vec<(CanaryId, Gates)>, StoreError> {
        self.store.list(None).await
    }

    /// Closes gates whose time is over although nobody asks for them, and gives back all that are there.
    ///
    /// # Errors
    /// The store gives no answer.
    pub(super) async fn sweep(&self) -> Result<Vec<(CanaryId, Gates)>, StoreError> {
        let now = self.now();
        let all = self.store.list(None).await?;
        for (canary, gates) in &all {
            if !gates.values().any(|record| record.is_past(now)) {
                continue;
            }
            let change = move |gates: &mut Gates| {
                let mut entries = Vec::new();
                for (name, record) in gates.iter_mut() {
                    if let Some(entry) = rules::expire(record, now) {
                        entries.push((name.clone(), entry));
                    }
                }
                let write = if entries.is_empty() {
                    Write::No
                } else {
                    Write::Must
                };
                Change {
                    answer: entries,
                    write,
                }
            };
            for (gate, entry) in self.store.update(canary, change).await? {
                let canary = canary.clone();
                self.audit(&GateId { canary, gate }, &entry, true).await;
            }
        }
        Ok(all)
    }

    /// Logs a change; what is kept is told to the Canary's audience, too.
    async fn audit(&self, gate: &GateId, entry: &Entry, is_news: bool) {
        tracing::info!(
            gate = gate.gate,
            canary = gate.canary.name,
            namespace = gate.canary.namespace,
            action = entry.action.word(),
            result = entry.result,
            by = entry.by,
            auth = entry.auth,
            sourceIP = entry.source_ip,
            reason = entry.reason,
            checksum = entry.checksum,
            usesLeft = entry.uses_left,
            version = entry.version,
            "gate audit"
        );
        if is_news {
            self.store.tell(gate, entry).await;
        }
    }
}

/// The last check that named a revision, at whichever of these gates.
fn last_check(gates: &Gates) -> Option<&LastCheck> {
    gates
        .values()
        .filter_map(|record| record.last_check.as_ref())
        .filter(|check| !check.checksum.is_empty())
        .max_by_key(|check| check.time)
}

#[cfg(test)]
mod tests {
    use super::super::record::Scope;
    use super::*;

    // Given a clock that stands still, as fast machines see it,
    // when gates of one Canary are asked about several revisions in turn,
    // then an order that names no revision is for the one that was asked about last.
    #[tokio::test]
    async fn of_checks_in_one_moment_the_last_says_which_revision_is_meant() {
        let keeper = Keeper::with_clock(Store::memory(), Arc::new(|| Timestamp::UNIX_EPOCH));
        let gate = |name: &str| GateId {
            canary: CanaryId {
                namespace: "test".to_owned(),
                name: "podinfo".to_owned(),
            },
            gate: name.to_owned(),
        };
        for (name, revision) in [
            ("rollback", "A"),
            ("default", "B"),
            ("rollback", "A"),
            ("default", "B"),
        ] {
            let asked = Asked {
                revision: revision.to_owned(),
                ..Asked::default()
            };
            let checked = keeper.check(&gate(name), asked, &Who::default()).await;
            assert_eq!(checked.expect("the store answers"), Verdict::Refused);
            let opening = Opening {
                scope: Scope::Revision,
                ..Opening::default()
            };
            let opened = keeper.open(&gate("other"), opening, &Who::default()).await;
            assert_eq!(opened.expect("it opens").checksum, revision);
        }
    }
}
