//! Gates as ConfigMaps beside their Canaries, in a cluster or on a host: both speak the same language.
//!
//! A ConfigMap belongs to its Canary and goes with it. Until that has happened, gates of a Canary that is gone, or that was made anew under the
//! same name, count as unknown: whoever opened them meant another release.

use std::time::Duration;

use crossfade_host::client::{Client, Error, Part, Wanted};
use crossfade_host::store::Kind;
use crossfade_host::wire::Reason;
use http::Method;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::{CanaryId, Change, Entry, GateId, Gates, StoreError, Write};
use crate::gates::record::Action;

/// The label of all such ConfigMaps.
const LABEL: &str = "app.kubernetes.io/managed-by";
/// Its value.
const MANAGER: &str = "crossfade-gates";
/// The longest name of an object.
const LONGEST_NAME: usize = 253;
/// So much of a name that is too long is kept, before its digest.
const KEPT_OF_NAME: usize = 236;
/// How often a change is tried when others are quicker.
const ATTEMPTS: u32 = 9;

/// Gates as ConfigMaps.
#[derive(Clone, Debug)]
pub(super) struct Objects {
    client: Client,
}

/// The Canary that gates belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Owner {
    /// It is there.
    Uid(String),
    /// It is not.
    Missing,
    /// That cannot be known: its kind is not, or we may not look.
    Unknown,
}

/// What is kept of a Canary's gates, and in what.
struct Found {
    gates: Gates,
    /// The ConfigMap, if there is one.
    object: Option<Value>,
    owner: Owner,
}

/// The name of the ConfigMap with a Canary's gates.
fn object_name(canary: &str) -> String {
    let name = format!("crossfade-gates-{canary}");
    if name.len() <= LONGEST_NAME {
        return name;
    }
    let digest = Sha256::digest(canary.as_bytes());
    let digest = digest
        .iter()
        .take(8)
        .fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
    let kept: String = name.chars().take(KEPT_OF_NAME).collect();
    format!("{kept}-{digest:016x}")
}

fn unavailable(error: &Error) -> StoreError {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(deeper) = cause {
        text.push_str(&format!(": {deeper}"));
        cause = deeper.source();
    }
    match error {
        Error::Status(status) if status.code < 500 => StoreError::Refused(text),
        _ => StoreError::Unavailable(text),
    }
}

impl Objects {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    pub(super) async fn read(&self, canary: &CanaryId) -> Result<Gates, StoreError> {
        self.find(canary).await.map(|found| found.gates)
    }

    async fn find(&self, canary: &CanaryId) -> Result<Found, StoreError> {
        let name = object_name(&canary.name);
        let (object, owner) = tokio::join!(
            self.client.get(Kind::ConfigMap, &canary.namespace, &name),
            self.owner(canary)
        );
        let object = match object {
            Ok(object) => Some(object),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(unavailable(&error)),
        };
        let owner = owner?;
        let gates = object
            .as_ref()
            .filter(|object| is_of(object, &owner))
            .map(|object| gates_of(canary, object))
            .unwrap_or_default();
        Ok(Found {
            gates,
            object,
            owner,
        })
    }

    async fn owner(&self, canary: &CanaryId) -> Result<Owner, StoreError> {
        let path = ["namespaces", &canary.namespace, "canaries", &canary.name];
        let found = self
            .client
            .at(Method::GET, "/apis/flagger.app/v1beta1", &path, None);
        match found.await {
            Ok(object) => Ok(object["metadata"]["uid"]
                .as_str()
                .map_or(Owner::Unknown, |uid| Owner::Uid(uid.to_owned()))),
            Err(Error::Status(status)) => match status.reason {
                Reason::NotFound if status.details.is_some() => Ok(Owner::Missing),
                Reason::NotFound | Reason::Forbidden | Reason::BadRequest | Reason::Unknown => {
                    Ok(Owner::Unknown)
                }
                _ => Err(unavailable(&Error::Status(status))),
            },
            Err(Error::Name { .. }) => Ok(Owner::Missing),
            Err(error) => Err(unavailable(&error)),
        }
    }

    pub(super) async fn update<T>(
        &self,
        canary: &CanaryId,
        mut change: impl FnMut(&mut Gates) -> Change<T>,
    ) -> Result<T, StoreError> {
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                let most = 20_u64 << attempt.min(5);
                tokio::time::sleep(Duration::from_millis(fastrand::u64(5..most))).await;
            }
            let Found {
                mut gates,
                object,
                owner,
            } = self.find(canary).await?;
            let done = change(&mut gates);
            if done.write == Write::No {
                return Ok(done.answer);
            }
            match self.keep(canary, &gates, object, &owner).await {
                Ok(()) => return Ok(done.answer),
                // Somebody else was quicker, or took the object away.
                Err(error)
                    if matches!(
                        error.reason(),
                        Some(Reason::Conflict | Reason::AlreadyExists)
                    ) || (error.is_not_found() && attempt == 0) => {}
                Err(error) if done.write == Write::May => {
                    tracing::warn!(canary = %canary, %error, "a check could not be remembered");
                    return Ok(done.answer);
                }
                Err(error) => return Err(unavailable(&error)),
            }
        }
        Err(StoreError::Busy(canary.clone()))
    }

    async fn keep(
        &self,
        canary: &CanaryId,
        gates: &Gates,
        object: Option<Value>,
        owner: &Owner,
    ) -> Result<(), Error> {
        let mut data = Map::new();
        for (gate, record) in gates {
            let text = serde_json::to_string(record).map_err(|source| Error::Answer {
                what: "gate",
                source,
            })?;
            data.insert(gate.clone(), Value::String(text));
        }
        let name = object_name(&canary.name);
        let is_new = object.is_none();
        let mut wanted = object.unwrap_or_else(|| {
            json!({
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": name, "namespace": canary.namespace},
            })
        });
        wanted["metadata"]["labels"][LABEL] = json!(MANAGER);
        wanted["data"] = Value::Object(data);
        if let Owner::Uid(uid) = owner {
            wanted["metadata"]["ownerReferences"] = json!([{
                "apiVersion": "flagger.app/v1beta1",
                "kind": "Canary",
                "name": canary.name,
                "uid": uid,
            }]);
        } else if *owner == Owner::Missing
            && let Some(metadata) = wanted["metadata"].as_object_mut()
        {
            metadata.remove("ownerReferences");
        }
        let namespace = &canary.namespace;
        let kind = Kind::ConfigMap;
        if is_new {
            self.client.create(kind, namespace, &wanted).await?;
        } else {
            let whole = Part::Object;
            self.client
                .replace(kind, namespace, &name, whole, &wanted)
                .await?;
        }
        Ok(())
    }

    pub(super) async fn list(
        &self,
        namespace: Option<&str>,
    ) -> Result<Vec<(CanaryId, Gates)>, StoreError> {
        let wanted = Wanted {
            labels: format!("{LABEL}={MANAGER}"),
            ..Wanted::default()
        };
        let list = self.client.list(Kind::ConfigMap, namespace, &wanted).await;
        let list = list.map_err(|error| unavailable(&error))?;
        let mut found = Vec::with_capacity(list.items.len());
        for object in list.items {
            let metadata = &object["metadata"];
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let named = text(&metadata["name"]);
            // The owner has the name whole; the object's own may be cut.
            let owner = owner_reference(&object).map(|owner| text(&owner["name"]));
            let name = owner
                .or_else(|| named.strip_prefix("crossfade-gates-").map(str::to_owned))
                .unwrap_or_default();
            let canary = CanaryId {
                namespace: text(&metadata["namespace"]),
                name,
            };
            let gates = gates_of(&canary, &object);
            found.push((canary, gates));
        }
        found.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(found)
    }

    pub(super) async fn tell(&self, gate: &GateId, entry: &Entry) {
        let canary = &gate.canary;
        let Ok(Owner::Uid(uid)) = self.owner(canary).await else {
            return;
        };
        let (reason, is_warning) = match (entry.is_refusal(), entry.action) {
            (true, _) => ("GateRefused", true),
            (false, Action::Open | Action::Refund) => ("GateOpened", false),
            (false, Action::Close) => ("GateClosed", false),
            (false, Action::Grant) => ("GateGranted", false),
            (false, Action::Expire) => ("GateExpired", true),
        };
        let time = crossfade_api::time::text(entry.time);
        let unique = fastrand::u64(..);
        let event = json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": format!("{}.{unique:016x}", canary.name), "namespace": canary.namespace},
            "involvedObject": {
                "apiVersion": "flagger.app/v1beta1",
                "kind": "Canary",
                "name": canary.name,
                "namespace": canary.namespace,
                "uid": uid,
            },
            "reason": reason,
            "message": sentence(gate, entry),
            "type": if is_warning { "Warning" } else { "Normal" },
            "source": {"component": MANAGER},
            "firstTimestamp": time,
            "lastTimestamp": time,
            "count": 1,
        });
        let told = self.client.create(Kind::Event, &canary.namespace, &event);
        if let Err(error) = told.await {
            tracing::warn!(canary = %canary, %error, "an Event could not be written");
        }
    }
}

/// What people read of a change.
pub(super) fn sentence(gate: &GateId, entry: &Entry) -> String {
    let mut text = match (entry.is_refusal(), entry.action) {
        (true, action) => format!(
            "Gate {} was not changed ({}): {}",
            gate.gate,
            action.word(),
            entry.result
        ),
        (false, Action::Open) => format!("Gate {} was opened", gate.gate),
        (false, Action::Refund) => format!("Gate {} was opened again: {}", gate.gate, entry.reason),
        (false, Action::Close) => format!("Gate {} was closed", gate.gate),
        (false, Action::Grant) => format!("Gate {} granted a check", gate.gate),
        (false, Action::Expire) => {
            format!("Gate {} has closed itself: {}", gate.gate, entry.reason)
        }
    };
    if !entry.by.is_empty() {
        text.push_str(&format!(" by {}", entry.by));
    }
    if !entry.source_ip.is_empty() {
        text.push_str(&format!(" from {}", entry.source_ip));
    }
    let says_why = matches!(entry.action, Action::Open | Action::Close);
    if says_why && !entry.reason.is_empty() {
        text.push_str(&format!(": {}", entry.reason));
    }
    if let (Action::Open | Action::Grant | Action::Refund, Some(left)) =
        (entry.action, entry.uses_left)
    {
        text.push_str(&format!(" ({left} left)"));
    }
    text
}

fn owner_reference(object: &Value) -> Option<&Value> {
    let owners = object["metadata"]["ownerReferences"].as_array()?;
    owners.iter().find(|owner| owner["kind"] == "Canary")
}

/// Whether a ConfigMap is about the Canary that is there now.
fn is_of(object: &Value, owner: &Owner) -> bool {
    match (owner_reference(object), owner) {
        (None, _) | (Some(_), Owner::Unknown) => true,
        (Some(_), Owner::Missing) => false,
        (Some(reference), Owner::Uid(uid)) => reference["uid"] == uid.as_str(),
    }
}

/// The gates in a ConfigMap; one that cannot be read is closed.
fn gates_of(canary: &CanaryId, object: &Value) -> Gates {
    let mut gates = Gates::new();
    for (gate, text) in object["data"].as_object().into_iter().flatten() {
        match serde_json::from_str(text.as_str().unwrap_or_default()) {
            Ok(record) => {
                gates.insert(gate.clone(), record);
            }
            Err(error) => {
                tracing::warn!(canary = %canary, gate, %error, "a gate cannot be read and counts as closed");
            }
        }
    }
    gates
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_is_cut_and_stays_one_of_its_own() {
        assert_eq!(object_name("podinfo"), "crossfade-gates-podinfo");
        let long = "a".repeat(253);
        let (one, other) = (object_name(&long), object_name(&format!("{long}b")));
        assert_eq!((one.len(), other.len()), (253, 253));
        assert_ne!(one, other);
        assert_eq!(
            one.chars().take(236).collect::<String>(),
            format!("crossfade-gates-{}", "a".repeat(220))
        );
    }
}
