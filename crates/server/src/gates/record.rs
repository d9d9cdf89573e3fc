//! What is kept of a gate: whether it is open and on what terms, who changed it, and what it answered lately.

use std::collections::BTreeMap;
use std::fmt;

use jiff::{Timestamp, Unit};
use serde::{Deserialize, Serialize};

/// The gate of `/gate/*` for hooks that name none.
pub const DEFAULT_GATE: &str = "default";
/// The gate of `/rollback/*`.
pub const ROLLBACK_GATE: &str = "rollback";
/// The longest name of a gate, in characters.
const LONGEST_NAME: usize = 40;
/// How many changes a gate remembers.
const HISTORY: usize = 20;

/// All gates of a Canary by name.
pub type Gates = BTreeMap<String, Record>;

/// The Canary that gates belong to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CanaryId {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for CanaryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.name, self.namespace)
    }
}

/// One gate of a Canary.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GateId {
    /// Whose gate it is.
    pub canary: CanaryId,
    /// Which one: `default`, `rollback`, or a name that a hook gave it.
    pub gate: String,
}

impl GateId {
    /// The gate of this name.
    pub fn new(namespace: &str, name: &str, gate: &str) -> Self {
        Self {
            canary: CanaryId {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            },
            gate: gate.to_owned(),
        }
    }

    /// Whether an open gate means that a release is taken back.
    pub fn is_rollback(&self) -> bool {
        self.gate == ROLLBACK_GATE
    }
}

/// Says what is wrong with the name of a gate; `default` and `rollback` are fine.
///
/// # Errors
/// The text names the rule.
pub fn check_gate_name(gate: &str) -> Result<(), String> {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_label = gate.len() <= LONGEST_NAME
        && gate.bytes().next().is_some_and(letter)
        && gate.bytes().next_back().is_some_and(letter)
        && gate.bytes().all(|byte| letter(byte) || byte == b'-');
    if is_label {
        return Ok(());
    }
    Err(format!(
        "gate `{gate}` is no name of a gate: use lower-case letters, digits and `-`, at most {LONGEST_NAME} characters"
    ))
}

/// How long a gate stays open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Until it is closed.
    #[default]
    Sticky,
    /// For a number of granted checks.
    Once,
}

/// Which releases a gate is open for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// All.
    #[default]
    Any,
    /// That of one revision.
    Revision,
}

/// A gate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Record {
    /// Whether a check may be granted.
    pub open: bool,
    /// How long it stays open.
    pub mode: Mode,
    /// Checks that may still be granted; absent without limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uses_left: Option<u32>,
    /// When it was opened last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opened_at: Option<Timestamp>,
    /// When it closes itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Grants nothing before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// Grants nothing from then on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Timestamp>,
    /// Which releases it is open for.
    pub scope: Scope,
    /// The revision, with [`Scope::Revision`].
    #[serde(skip_serializing_if = "String::is_empty")]
    pub checksum: String,
    /// Who opened or closed it last.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub by: String,
    /// Why.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Rises with every change of what it may grant.
    pub version: u64,
    /// The last check that was remembered: not every one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_check: Option<LastCheck>,
    /// The first refused check since the last granted one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting_since: Option<Timestamp>,
    /// The last changes, oldest first.
    pub history: Vec<Entry>,
    /// Granted checks whose repetitions get the same answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<Call>,
}

impl Record {
    /// Whether its time is over although it is still marked open.
    pub fn is_past(&self, now: Timestamp) -> bool {
        let over = |limit: Option<Timestamp>| limit.is_some_and(|limit| now >= limit);
        self.open && (over(self.expires_at) || over(self.not_after))
    }

    /// Whether some check would be granted now.
    pub fn is_open(&self, now: Timestamp) -> bool {
        let early = self.not_before.is_some_and(|begin| now < begin);
        self.open && !early && !self.is_past(now) && self.uses_left != Some(0)
    }

    /// As people are shown it: closed when its time is over, and without the calls.
    #[must_use]
    pub fn shown(&self, now: Timestamp) -> Self {
        Self {
            open: self.open && !self.is_past(now),
            calls: Vec::new(),
            ..self.clone()
        }
    }

    /// Remembers a change.
    pub(super) fn note(&mut self, entry: Entry) {
        self.history.push(entry);
        let beyond = self.history.len().saturating_sub(HISTORY);
        self.history.drain(..beyond);
    }
}

/// A check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastCheck {
    /// When.
    pub time: Timestamp,
    /// Whether it was granted.
    pub granted: bool,
    /// The revision that it was about; empty when it did not say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub checksum: String,
    /// The id of the call, if it had one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub call_id: String,
}

/// A granted check that spent a use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Call {
    /// Its id.
    pub id: String,
    /// When it was granted.
    pub time: Timestamp,
    /// Its use can be given back: nobody has opened or closed the gate since.
    pub refundable: bool,
}

/// What was done to a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It was opened.
    Open,
    /// It was closed.
    Close,
    /// A use was given back.
    Refund,
    /// A check was granted.
    Grant,
    /// Its time was over.
    Expire,
}

impl Action {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Close => "close",
            Self::Refund => "refund",
            Self::Grant => "grant",
            Self::Expire => "expire",
        }
    }
}

/// One change of a gate, or an attempt at one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// When.
    pub time: Timestamp,
    /// What.
    pub action: Action,
    /// `ok`, or why it was refused.
    pub result: String,
    /// Who.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
    /// How that is known: `none`, `token`, `mtls` or `kubernetes`.
    pub auth: String,
    /// Where the request came from; empty for what was done without one.
    #[serde(default, rename = "sourceIP", skip_serializing_if = "String::is_empty")]
    pub source_ip: String,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The revision that it is about.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub checksum: String,
    /// Checks that may be granted after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses_left: Option<u32>,
    /// The version after it.
    pub version: u64,
}

impl Entry {
    /// The result of what was done.
    pub const OK: &str = "ok";

    /// Whether nothing was done.
    pub fn is_refusal(&self) -> bool {
        self.result != Self::OK
    }
}

/// Who asks for something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Who {
    /// Their name; empty when it is not known.
    pub by: String,
    /// How the name is known: `none`, `token`, `mtls` or `kubernetes`.
    pub auth: &'static str,
    /// The address that the request came from.
    pub source_ip: String,
}

/// A moment as it is kept: in milliseconds.
pub(super) fn moment(now: Timestamp) -> Timestamp {
    now.round(Unit::Millisecond).unwrap_or(now)
}
