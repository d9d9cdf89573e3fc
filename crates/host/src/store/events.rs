//! What happened to an object, for people: Kubernetes Events.
//!
//! The same reason and message about the same object is one Event whose count rises. The name of an Event is a digest of
//! what makes it the same, so that finding the earlier one is a look-up. How many are kept is bounded for each object
//! (a busy one does not push out the others) and in all.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::error::Result;
use super::kind::{Kind, Scope};
use super::object::{Key, Object, wire_time};
use super::selector::Selector;
use super::transaction::Transaction;
use crate::wire::{Deletion, Part};

/// Whether an Event is good to know or a reason to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// Good to know.
    Normal,
    /// A reason to look.
    Warning,
}

impl EventType {
    fn text(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening<'a> {
    /// How serious it is.
    pub event_type: EventType,
    /// One word (`RolloutStepCompleted`).
    pub reason: &'a str,
    /// One sentence; never a secret.
    pub message: &'a str,
    /// Who says so (`rollouts-controller`).
    pub component: &'a str,
}

/// How many Events are kept.
#[derive(Clone, Copy, Debug)]
pub struct EventLimits {
    /// About one object.
    pub each: usize,
    /// In all.
    pub total: usize,
    /// Age of the oldest, counted from the last time that it happened.
    pub age: SignedDuration,
}

impl Default for EventLimits {
    /// 200 about one object, 10 000 in all, for two weeks.
    fn default() -> Self {
        Self {
            each: 200,
            total: 10_000,
            age: SignedDuration::from_hours(14 * 24),
        }
    }
}

/// How often something has happened, counted elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When it happened first.
    pub first: Timestamp,
    /// When it happened last.
    pub last: Timestamp,
    /// How often.
    pub count: u32,
}

impl Seen {
    /// True of a stored Event that says the same already.
    pub fn is_told_by(&self, event: &Value) -> bool {
        event.get("count").and_then(Value::as_u64) == Some(u64::from(self.count))
            && event.get("lastTimestamp").and_then(Value::as_str) == Some(&wire_time(self.last))
    }
}

/// The key of the Event that tells a happening.
pub fn event_key(about: &Object, happening: &Happening<'_>) -> Key {
    let namespace = match about.kind().scope() {
        Scope::Namespaced => about.namespace(),
        Scope::Cluster => "default",
    };
    Key::new(Kind::Event, namespace, event_name(about, happening))
}

impl Transaction<'_> {
    /// Records that something happened to an object.
    ///
    /// # Errors
    /// When the object's namespace is being deleted.
    pub fn event(&mut self, about: &Object, happening: &Happening<'_>) -> Result<()> {
        let known = self.find(&event_key(about, happening)).cloned();
        let count = known.map_or(0, |known| {
            let count = known.at("/count").and_then(Value::as_u64).unwrap_or(1);
            u32::try_from(count).unwrap_or(u32::MAX)
        });
        let seen = Seen {
            first: self.now(),
            last: self.now(),
            count: count.saturating_add(1),
        };
        self.event_seen(about, happening, seen)
    }

    /// Records what somebody else has counted: the Event says the same afterwards, however often it is recorded.
    ///
    /// # Errors
    /// When the object's namespace is being deleted.
    pub fn event_seen(
        &mut self,
        about: &Object,
        happening: &Happening<'_>,
        seen: Seen,
    ) -> Result<()> {
        let key = event_key(about, happening);
        if let Some(old) = self.find(&key).cloned() {
            if seen.is_told_by(old.value()) {
                return Ok(());
            }
            let mut event = old.value().clone();
            if let Some(event) = event.as_object_mut() {
                event.insert("count".to_owned(), json!(seen.count));
                event.insert("lastTimestamp".to_owned(), json!(wire_time(seen.last)));
                event.insert("involvedObject".to_owned(), involved(about));
            }
            return self.update(&key, event, Part::Object).map(drop);
        }
        self.make_room(about, &key.namespace, self.events.each)?;
        let event = json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": key.name},
            "involvedObject": involved(about),
            "type": happening.event_type.text(),
            "reason": happening.reason,
            "message": happening.message,
            "source": {"component": happening.component},
            "reportingComponent": happening.component,
            "reportingInstance": "",
            "firstTimestamp": wire_time(seen.first),
            "lastTimestamp": wire_time(seen.last),
            "count": seen.count,
        });
        self.create(Kind::Event, &key.namespace, event).map(drop)
    }

    /// Drops the oldest Events about an object, so that one more fits.
    fn make_room(&mut self, about: &Object, namespace: &str, each: usize) -> Result<()> {
        let mut events = self.list(Kind::Event, Some(namespace), &Selector::default());
        events.retain(|e| e.at("/involvedObject/uid").and_then(Value::as_str) == Some(about.uid()));
        events.sort_by_key(|e| last_seen(e));
        let surplus = (events.len() + 1).saturating_sub(each);
        for event in events.iter().take(surplus) {
            self.delete(event.key(), &Deletion::default())?;
        }
        Ok(())
    }

    /// Drops the Events that are too old, and the oldest of too many.
    pub(super) fn trim_events(&mut self, limits: EventLimits) -> Result<()> {
        let mut events = self.list(Kind::Event, None, &Selector::default());
        events.sort_by_key(|e| last_seen(e));
        let surplus = events.len().saturating_sub(limits.total);
        let oldest = self.now().checked_sub(limits.age).unwrap_or(Timestamp::MIN);
        for (index, event) in events.iter().enumerate() {
            if index < surplus || last_seen(event) < oldest {
                self.delete(event.key(), &Deletion::default())?;
            }
        }
        Ok(())
    }
}

fn last_seen(event: &Object) -> Timestamp {
    [
        "/lastTimestamp",
        "/eventTime",
        "/metadata/creationTimestamp",
    ]
    .into_iter()
    .find_map(|at| event.at(at)?.as_str()?.parse().ok())
    .unwrap_or(Timestamp::MIN)
}

fn involved(about: &Object) -> Value {
    let mut reference = json!({
        "apiVersion": about.at("/apiVersion"),
        "kind": about.kind().name(),
        "name": about.name(),
        "uid": about.uid(),
        "resourceVersion": about.revision().to_string(),
    });
    if let (false, Some(reference)) = (about.namespace().is_empty(), reference.as_object_mut()) {
        reference.insert("namespace".to_owned(), json!(about.namespace()));
    }
    reference
}

fn event_name(about: &Object, happening: &Happening<'_>) -> String {
    let mut digest = Sha256::new();
    for part in [
        about.uid(),
        happening.event_type.text(),
        happening.reason,
        happening.message,
        happening.component,
    ] {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    let mut head = [0; 8];
    for (place, byte) in head.iter_mut().zip(digest.finalize()) {
        *place = byte;
    }
    let hex = format!("{:016x}", u64::from_be_bytes(head));
    let room = 253 - 1 - hex.len();
    let name = about.name();
    let name = name
        .get(..name.len().min(room))
        .unwrap_or(name)
        .trim_end_matches(['.', '-']);
    format!("{name}.{hex}")
}
