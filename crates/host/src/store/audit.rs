//! Who did what, when and why: the rows that every write of a person, and every decision that changed something, leaves.
//!
//! A row is written in the transaction of what it tells about, so that neither exists without the other. Rows hold names
//! of fields, never their values; texts are cut to a bound, and the oldest rows go when there are too many or they are too old.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::wire::AuditSubject;

/// In whose name a write happens, and what the audit trail says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    actor: Arc<str>,
    by: By,
    action: Option<String>,
    reason: String,
    /// Say what would happen, with every check, and change nothing.
    pub(super) dry_run: bool,
}

/// Whether a person or the host itself acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// Every change leaves a row.
    Person,
    /// Only decisions leave a row, by [`Transaction::audit`](super::Transaction::audit): bookkeeping would drown them.
    Host,
}

impl Act {
    /// A write of a person; each change leaves a row in the audit trail.
    pub fn by_person(name: &str) -> Self {
        Self {
            actor: name.into(),
            by: By::Person,
            action: None,
            reason: String::new(),
            dry_run: false,
        }
    }

    /// A write of a part of the host, for example `rollouts-controller`.
    pub fn by_host(part: &str) -> Self {
        Self {
            by: By::Host,
            ..Self::by_person(part)
        }
    }

    /// The same with a word for the action (`promote`) in place of the verb of the write (`patch`), and the person's reason.
    #[must_use]
    pub fn doing(mut self, action: Option<&str>, reason: &str) -> Self {
        self.action = action.map(|a| cut(a, LONGEST_WORD));
        self.reason = cut(reason, LONGEST_TEXT);
        self
    }

    /// The same, with this word for the action if it has none yet.
    #[must_use]
    pub(super) fn or_doing(mut self, action: &str) -> Self {
        self.action.get_or_insert_with(|| action.to_owned());
        self
    }

    /// The same without effect: every check runs, nothing is stored.
    #[must_use]
    pub fn dry(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// Who acts.
    pub fn actor(&self) -> &str {
        &self.actor
    }

    /// The row that a change leaves; none when the host acts.
    pub(super) fn entry(
        &self,
        time: Timestamp,
        verb: &str,
        subject: AuditSubject,
        detail: &str,
    ) -> Option<AuditEntry> {
        (self.by == By::Person).then(|| AuditEntry {
            time,
            actor: self.actor.to_string(),
            action: self.action.clone().unwrap_or_else(|| verb.to_owned()),
            subject,
            reason: self.reason.clone(),
            detail: cut(detail, LONGEST_TEXT),
        })
    }

    /// The row of a decision.
    pub(super) fn decision(
        &self,
        time: Timestamp,
        action: &str,
        subject: AuditSubject,
        reason: &str,
        detail: &str,
    ) -> AuditEntry {
        AuditEntry {
            time,
            actor: self.actor.to_string(),
            action: cut(action, LONGEST_WORD),
            subject,
            reason: cut(reason, LONGEST_TEXT),
            detail: cut(detail, LONGEST_TEXT),
        }
    }
}

/// Bytes of an action's name.
const LONGEST_WORD: usize = 100;
/// Bytes of a reason or a detail.
const LONGEST_TEXT: usize = 2000;

fn cut(text: &str, longest: usize) -> String {
    text.get(..text.floor_char_boundary(longest))
        .unwrap_or(text)
        .to_owned()
}

/// A row before it has a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AuditEntry {
    pub(super) time: Timestamp,
    pub(super) actor: String,
    pub(super) action: String,
    pub(super) subject: AuditSubject,
    pub(super) reason: String,
    pub(super) detail: String,
}

/// How much of the audit trail is kept.
#[derive(Clone, Copy, Debug)]
pub struct AuditLimits {
    /// Rows.
    pub rows: u32,
    /// Age of the oldest.
    pub age: SignedDuration,
}

impl Default for AuditLimits {
    /// Two hundred thousand rows, a year.
    fn default() -> Self {
        Self {
            rows: 200_000,
            age: SignedDuration::from_hours(365 * 24),
        }
    }
}

/// Which rows are wanted; the default is the newest 10 000.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Of this namespace.
    pub namespace: Option<String>,
    /// About objects of this kind.
    pub kind: Option<String>,
    /// About objects of this name.
    pub name: Option<String>,
    /// Only the newest so many.
    pub newest: Option<usize>,
}
