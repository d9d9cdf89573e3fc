//! What people are told: Events on the subjects, the same one counted instead of written again.
//!
//! Telling holds nothing up: a task of its own writes, at a pace that leaves the API server to those who do something. Warnings go first. What has
//! come together about one object when its turn comes is one Event: nothing is left out, however many releases are under way.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;

use crossfade_api::time;
use crossfade_engine::action::Target;
use crossfade_engine::decision::Event;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::kind::Kind;
use crate::limit::Limit;
use crate::requests::{Refusal, Requests};

/// Who tells.
const COMPONENT: &str = "rollouts-controller";
/// Events that wait to be sorted; more are logged only.
const WAITING: usize = 4096;
/// Objects about which something waits to be written; more is logged only.
const OBJECTS: usize = 16_384;
/// How many Events a second are written on average.
const PER_SECOND: f64 = 5.0;
/// How many are written at once after a quiet time.
const AT_ONCE: u32 = 100;
/// So many texts about one object are told together; older ones are counted, and would not fit in [`LONGEST`].
const TEXTS: usize = 12;
/// Events that are remembered, so that another one of the kind is counted.
const REMEMBERED: usize = 1024;
/// So many different texts of one kind about one object are told one by one; what comes after them within [`TOGETHER`] is one event.
const APART: usize = 10;
/// How long events of one kind about one object belong together.
const TOGETHER: SignedDuration = SignedDuration::from_mins(10);
/// The longest text that the API server takes, in bytes.
const LONGEST: usize = 1024;

/// Something told about an object.
struct Telling {
    kind: Kind,
    target: Target,
    event: Event,
    at: Timestamp,
}

/// Tells people.
pub(crate) struct Events {
    sender: mpsc::Sender<Telling>,
    closing: CancellationToken,
}

/// What was told before, and how often.
struct Told {
    /// The end of its name.
    suffix: u64,
    count: u32,
}

/// Events of one kind about one object, whatever they say. There are thousands, so of each text a few bits are kept.
struct Similar {
    since: Timestamp,
    texts: Vec<u32>,
}

/// What waits to be written.
#[derive(Default)]
struct Waiting {
    warnings: VecDeque<Telling>,
    /// Uids of objects in the order of their turns.
    turns: VecDeque<String>,
    of_object: BTreeMap<String, Pile>,
}

/// What has come together about an object, oldest first.
struct Pile {
    kind: Kind,
    target: Target,
    events: VecDeque<(Event, Timestamp)>,
    left_out: usize,
}

impl Pile {
    /// The oldest by itself.
    fn first(&mut self) -> Option<Telling> {
        let (event, at) = self.events.pop_front()?;
        Some(Telling {
            kind: self.kind.clone(),
            target: self.target.clone(),
            event,
            at,
        })
    }

    /// All of it as one: the last, which tells of those before.
    fn together(mut self) -> Option<Telling> {
        let (mut last, at) = self.events.pop_back()?;
        if !self.events.is_empty() {
            // The newest first: what does not fit is old.
            let before = self.events.iter().rev();
            let before = before.map(|(event, _)| format!("{}: {}", event.reason, event.message));
            let before = before.collect::<Vec<_>>().join("; ");
            let _ = write!(last.message, " (before that: {before}");
            if self.left_out > 0 {
                let _ = write!(last.message, "; and {} more", self.left_out);
            }
            last.message.push(')');
        }
        Some(Telling {
            kind: self.kind,
            target: self.target,
            event: last,
            at,
        })
    }
}

impl Waiting {
    /// Takes one in; false if there is no room.
    fn add(&mut self, telling: Telling) -> bool {
        if telling.event.warning {
            let room = self.warnings.len() < OBJECTS;
            if room {
                self.warnings.push_back(telling);
            }
            return room;
        }
        let Telling {
            kind,
            target,
            mut event,
            at,
        } = telling;
        // It may wait for minutes, and thousands with it.
        event.message.shrink_to_fit();
        if let Some(pile) = self.of_object.get_mut(&target.uid) {
            if pile.events.len() >= TEXTS {
                pile.events.pop_front();
                pile.left_out += 1;
            }
            pile.target = target;
            pile.events.push_back((event, at));
            return true;
        }
        if self.turns.len() >= OBJECTS {
            return false;
        }
        self.turns.push_back(target.uid.clone());
        let pile = Pile {
            kind,
            events: VecDeque::from([(event, at)]),
            left_out: 0,
            target,
        };
        self.of_object.insert(pile.target.uid.clone(), pile);
        true
    }

    /// What is to be written next: one, or all that has come `together` about an object.
    fn next(&mut self, together: bool) -> Option<Telling> {
        if let Some(warning) = self.warnings.pop_front() {
            return Some(warning);
        }
        let uid = self.turns.pop_front()?;
        let mut pile = self.of_object.remove(&uid)?;
        if together {
            return pile.together();
        }
        let first = pile.first();
        if !pile.events.is_empty() {
            self.of_object.insert(uid.clone(), pile);
            self.turns.push_back(uid);
        }
        first
    }

    fn is_empty(&self) -> bool {
        self.warnings.is_empty() && self.turns.is_empty()
    }
}

/// Writes what [`Events`] are told.
pub(crate) struct Teller {
    told: mpsc::Receiver<Telling>,
    waiting: Waiting,
    closing: CancellationToken,
    known: BTreeMap<[u8; 16], Told>,
    order: VecDeque<[u8; 16]>,
    similar: BTreeMap<[u8; 16], Similar>,
}

/// Both ends.
pub(crate) fn events() -> (Events, Teller) {
    let (sender, told) = mpsc::channel(WAITING);
    let closing = CancellationToken::new();
    let teller = Teller {
        told,
        waiting: Waiting::default(),
        closing: closing.clone(),
        known: BTreeMap::new(),
        order: VecDeque::new(),
        similar: BTreeMap::new(),
    };
    (Events { sender, closing }, teller)
}

impl Events {
    /// Nothing more will be told.
    pub(crate) fn close(&self) {
        self.closing.cancel();
    }

    /// Tells people of events about an object.
    pub(crate) fn publish(&self, kind: &Kind, target: &Target, events: Vec<Event>, now: Timestamp) {
        for event in events {
            tracing::info!(
                kind = kind.resource().kind,
                namespace = target.namespace,
                name = target.name,
                reason = event.reason,
                "{}",
                event.message
            );
            let telling = Telling {
                kind: kind.clone(),
                target: target.clone(),
                event,
                at: now,
            };
            if self.sender.try_send(telling).is_err() {
                tracing::warn!("too many events at once; one was not written");
            }
        }
    }
}

impl Teller {
    /// Writes what it is told, until nothing more will be told and all is written.
    pub(crate) async fn run(mut self, requests: Requests) {
        let pace = Limit::new(PER_SECOND, AT_ONCE);
        let mut due = None;
        let mut waited = false;
        loop {
            while let Ok(telling) = self.told.try_recv() {
                self.sort(telling);
            }
            if self.waiting.is_empty() {
                let telling = tokio::select! {
                    biased;
                    telling = self.told.recv() => telling,
                    () = self.closing.cancelled() => None,
                };
                let Some(telling) = telling else {
                    return;
                };
                self.sort(telling);
                continue;
            }
            // What is told meanwhile may go first, or along.
            let now = Instant::now();
            let turn = *due.get_or_insert_with(|| {
                let later = pace.as_ref().and_then(|pace| pace.place(now));
                later.unwrap_or(now)
            });
            if turn > now && !self.closing.is_cancelled() {
                waited = true;
                tokio::select! {
                    () = tokio::time::sleep_until(turn) => {}
                    () = self.closing.cancelled() => {}
                    Some(telling) = self.told.recv() => self.sort(telling),
                }
                continue;
            }
            due = None;
            let together = std::mem::take(&mut waited) || turn > now;
            if let Some(telling) = self.waiting.next(together) {
                let namespace = telling.target.namespace.clone();
                // A namespace that goes takes no more events.
                if let Err(refusal) = self.tell(&requests, telling).await {
                    tracing::debug!(namespace, "an Event was not written: {refusal}");
                }
            }
        }
    }

    fn sort(&mut self, telling: Telling) {
        if !self.waiting.add(telling) {
            tracing::warn!("too many events at once; one was not written");
        }
    }

    async fn tell(&mut self, requests: &Requests, telling: Telling) -> Result<(), Refusal> {
        let Telling {
            kind,
            target,
            event,
            at,
        } = telling;
        let (identity, message) = self.combined(&target.uid, &event, at);
        let message = cut(&message);
        let now = time::text(at);
        if let Some(told) = self.known.get_mut(&identity) {
            told.count += 1;
            let known = Target {
                namespace: target.namespace.clone(),
                name: name_of(&target, told.suffix),
                ..Target::default()
            };
            let patch = json!({"count": told.count, "lastTimestamp": now, "message": message});
            match requests.merge(&Kind::Event, &known, patch).await {
                // It has expired.
                Err(Refusal::NotFound(_)) => {}
                other => return other.map(drop),
            }
        }
        let moment = at.as_nanosecond().to_be_bytes();
        let digest = Sha256::digest([identity.as_slice(), moment.as_slice()].concat());
        let suffix = digest
            .iter()
            .take(8)
            .fold(0, |suffix, byte| suffix << 8 | u64::from(*byte));
        let name = name_of(&target, suffix);
        let kind = kind.resource();
        let object: Value = json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": target.namespace},
            "involvedObject": {
                "apiVersion": kind.api_version,
                "kind": kind.kind,
                "namespace": target.namespace,
                "name": target.name,
                "uid": target.uid,
                "resourceVersion": target.resource_version,
            },
            "type": if event.warning { "Warning" } else { "Normal" },
            "reason": event.reason,
            "message": message,
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
            "reportingInstance": "",
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        });
        let told = requests.make(&Kind::Event, &target.namespace, object);
        told.await?;
        if self
            .known
            .insert(identity, Told { suffix, count: 1 })
            .is_none()
        {
            self.order.push_back(identity);
        }
        while self.order.len() > REMEMBERED {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
        Ok(())
    }
}

impl Teller {
    /// What an event counts as, and what it says: of many similar ones the last stands for all.
    fn combined<'e>(
        &mut self,
        uid: &str,
        event: &'e Event,
        at: Timestamp,
    ) -> ([u8; 16], Cow<'e, str>) {
        let text = event.message.as_str();
        let identity = identity(uid, event, text);
        let all = self::identity(uid, event, "");
        if self.similar.len() >= REMEMBERED && !self.similar.contains_key(&all) {
            let ages = self.similar.iter();
            let oldest = ages.min_by_key(|(_, similar)| similar.since);
            if let Some(oldest) = oldest.map(|(identity, _)| *identity) {
                self.similar.remove(&oldest);
            }
        }
        let new = || Similar {
            since: at,
            texts: Vec::new(),
        };
        let similar = self.similar.entry(all).or_insert_with(new);
        if at.duration_since(similar.since) >= TOGETHER {
            *similar = new();
        }
        let [a, b, c, d, ..] = identity;
        let bits = u32::from_be_bytes([a, b, c, d]);
        if similar.texts.contains(&bits) {
            return (identity, Cow::Borrowed(text));
        }
        if similar.texts.len() < APART {
            similar.texts.push(bits);
            return (identity, Cow::Borrowed(text));
        }
        let text = format!("(combined from similar events): {text}");
        (all, Cow::Owned(text))
    }
}

/// The name of an Event about an object.
fn name_of(target: &Target, suffix: u64) -> String {
    format!("{}.{suffix:016x}", target.name)
}

/// What makes two events the same.
fn identity(uid: &str, event: &Event, message: &str) -> [u8; 16] {
    let mut digest = Sha256::new();
    for part in [
        uid,
        &event.reason,
        if event.warning { "W" } else { "N" },
        message,
    ] {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part.as_bytes());
    }
    let mut identity = [0; 16];
    identity.copy_from_slice(&digest.finalize()[..16]);
    identity
}

/// A text that the API server takes.
fn cut(text: &str) -> &str {
    let end = (0..=LONGEST.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn telling(uid: &str, warning: bool, text: &str) -> Telling {
        Telling {
            kind: Kind::Rollout,
            target: Target {
                uid: uid.to_owned(),
                ..Target::default()
            },
            event: Event {
                warning,
                reason: "Told".to_owned(),
                message: text.to_owned(),
                done: true,
                for_owner: false,
            },
            at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn what_waits_about_one_object_is_told_together_and_warnings_go_first() {
        let mut waiting = Waiting::default();
        for (uid, warning, text) in [
            ("a", false, "one"),
            ("b", false, "alone"),
            ("a", false, "two"),
            ("a", true, "bad"),
            ("a", false, "three"),
        ] {
            assert!(waiting.add(telling(uid, warning, text)));
        }
        let told = std::iter::from_fn(|| waiting.next(true));
        let told: Vec<_> = told.map(|told| told.event.message).collect();
        let together = "three (before that: Told: two; Told: one)";
        assert_eq!(told, ["bad", together, "alone"]);
        assert!(waiting.is_empty());

        for (uid, text) in [("a", "one"), ("a", "two"), ("b", "alone")] {
            assert!(waiting.add(telling(uid, false, text)));
        }
        let told = std::iter::from_fn(|| waiting.next(false));
        let told: Vec<_> = told.map(|told| told.event.message).collect();
        assert_eq!(told, ["one", "alone", "two"], "each by itself");

        for number in 0..TEXTS + 3 {
            assert!(waiting.add(telling("a", false, &number.to_string())));
        }
        let told = waiting.next(true).expect("something waits").event.message;
        assert!(told.starts_with("14 (before that: Told: 13; "), "{told}");
        assert!(told.ends_with("Told: 3; and 3 more)"), "{told}");
    }

    #[test]
    fn of_many_similar_events_the_last_stands_for_all() {
        let (_, mut teller) = events();
        let now = Timestamp::UNIX_EPOCH;
        let event = |reason: &str, text: String| Event {
            warning: false,
            reason: reason.to_owned(),
            message: text,
            done: true,
            for_owner: false,
        };
        let mut told = BTreeSet::new();
        for number in 0..APART {
            let scaled = event("Scaled", format!("to {number}"));
            told.insert(teller.combined("uid", &scaled, now).0);
        }
        assert_eq!(told.len(), APART, "each is told");
        for number in [20, 21] {
            let scaled = event("Scaled", format!("to {number}"));
            let (identity, text) = teller.combined("uid", &scaled, now);
            assert_eq!(text, format!("(combined from similar events): to {number}"));
            told.insert(identity);
        }
        assert_eq!(told.len(), APART + 1, "the others are one");
        let again = event("Scaled", "to 3".to_owned());
        assert_eq!(teller.combined("uid", &again, now).1, "to 3");
        let other = event("Paused", "now".to_owned());
        assert_eq!(teller.combined("uid", &other, now).1, "now");
        let scaled = event("Scaled", "to 22".to_owned());
        assert_eq!(teller.combined("other", &scaled, now).1, "to 22");
        assert_eq!(teller.combined("uid", &scaled, now + TOGETHER).1, "to 22");
        for number in 0..2 * REMEMBERED {
            teller.combined(&number.to_string(), &other, now);
        }
        assert_eq!(teller.similar.len(), REMEMBERED, "the oldest are forgotten");
    }
}
