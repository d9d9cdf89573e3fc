//! What people are told: Events on the subjects, the same one counted instead of written again.
//!
//! Telling holds nothing up: a task of its own writes, and what it cannot keep up with is only logged.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;

use crossfade_api::{resource, time};
use crossfade_engine::action::Target;
use crossfade_engine::decision::Event;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::kind::Kind;
use crate::requests::{Refusal, Requests};

/// Who tells.
const COMPONENT: &str = "rollouts-controller";
/// Events that wait to be written; more are logged only.
const WAITING: usize = 4096;
/// Events that are remembered, so that another one of the kind is counted.
const REMEMBERED: usize = 4096;
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
    name: String,
    count: u32,
}

/// Events of one kind about one object, whatever they say.
struct Similar {
    since: Timestamp,
    texts: BTreeSet<[u8; 16]>,
}

/// Writes what [`Events`] are told.
pub(crate) struct Teller {
    told: mpsc::Receiver<Telling>,
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
        loop {
            let telling = tokio::select! {
                biased;
                telling = self.told.recv() => telling,
                () = self.closing.cancelled() => None,
            };
            let Some(telling) = telling else {
                return;
            };
            let namespace = telling.target.namespace.clone();
            match self.tell(&requests, telling).await {
                Ok(()) => {}
                // A namespace that goes takes no more events.
                Err(refusal) => tracing::debug!(namespace, "an Event was not written: {refusal}"),
            }
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
                name: told.name.clone(),
                ..Target::default()
            };
            let patch = json!({"count": told.count, "lastTimestamp": now, "message": message});
            match requests.merge(&Kind::Event, &known, patch).await {
                // It has expired.
                Err(Refusal::NotFound(_)) => {}
                other => return other.map(drop),
            }
        }
        let mut digits = String::new();
        let moment = at.as_nanosecond().to_be_bytes();
        for byte in Sha256::digest([identity.as_slice(), moment.as_slice()].concat())
            .iter()
            .take(8)
        {
            let _ = write!(digits, "{byte:02x}");
        }
        let name = format!("{}.{digits}", target.name);
        let kind = kind.resource();
        let object: Value = json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": target.namespace},
            "involvedObject": {
                "apiVersion": resource::API_VERSION,
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
        requests
            .create(&Kind::Event, &target.namespace, object)
            .await?;
        if self
            .known
            .insert(identity, Told { name, count: 1 })
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
        if self.similar.len() >= REMEMBERED {
            self.similar
                .retain(|_, similar| at.duration_since(similar.since) < TOGETHER);
        }
        let new = || Similar {
            since: at,
            texts: BTreeSet::new(),
        };
        let similar = self.similar.entry(all).or_insert_with(new);
        if at.duration_since(similar.since) >= TOGETHER {
            *similar = new();
        }
        if similar.texts.len() < APART {
            similar.texts.insert(identity);
        }
        if similar.texts.contains(&identity) {
            return (identity, Cow::Borrowed(text));
        }
        let text = format!("(combined from similar events): {text}");
        (all, Cow::Owned(text))
    }
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
    use super::*;

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
    }
}
