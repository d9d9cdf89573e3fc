//! The store as subjects use it: short words for reading and writing objects, and for telling people.

use std::ops::Deref;
use std::sync::Arc;

use crossfade_engine::action::Target;
use serde_json::{Value, json};

use crate::store::{
    Act, EventType, Happening, Key, Kind, Object, Seen, Selector, Store, StoreError, event_key,
};
use crate::supervisor::PodEvent;
use crate::wire::{Deletion, Part, Preconditions};

/// Who writes, in the audit trail and in Events.
const COMPONENT: &str = "rollouts-controller";
/// Who tells what happens to Canaries: tools look for it.
const OF_CANARIES: &str = "flagger";
/// Who tells what happens to pods: here it does what the kubelet does on a node.
const SUPERVISOR: &str = "supervisor";

/// Why an object could not be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ObjectError {
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Exists(String),
    #[error("{0}")]
    Conflict(String),
    #[error("{0}")]
    Other(String),
}

impl From<StoreError> for ObjectError {
    fn from(error: StoreError) -> Self {
        let text = error.to_string();
        match error {
            StoreError::NotFound(_) => Self::NotFound(text),
            StoreError::AlreadyExists(_) => Self::Exists(text),
            StoreError::Conflict(_) | StoreError::OtherUid { .. } => Self::Conflict(text),
            _ => Self::Other(text),
        }
    }
}

/// A stored object, read as its JSON.
#[derive(Clone)]
pub(super) struct Stored(Arc<Object>);

impl Deref for Stored {
    type Target = Value;

    fn deref(&self) -> &Value {
        self.0.value()
    }
}

/// The objects of this machine.
#[derive(Clone)]
pub(super) struct Objects(Store);

impl Objects {
    /// The objects of a store.
    pub(super) fn new(store: Store) -> Self {
        Self(store)
    }

    /// Finishes the writes that were asked for, and closes the store.
    pub(super) async fn close(&self) {
        self.0.close().await;
    }

    /// One object, if it exists.
    pub(super) fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<Stored> {
        self.0.find(&Key::new(kind, namespace, name)).map(Stored)
    }

    /// All objects of a kind, in one namespace or in all.
    pub(super) fn list(&self, kind: Kind, namespace: Option<&str>) -> Vec<Stored> {
        self.0
            .list(kind, namespace, &Selector::default())
            .items
            .into_iter()
            .map(Stored)
            .collect()
    }

    /// The objects of a kind that this owner controls.
    pub(super) fn controlled_by(&self, kind: Kind, uid: &str) -> Vec<Stored> {
        let owned = self
            .0
            .dependents(uid)
            .into_iter()
            .filter(|object| object.kind() == kind && object.controller() == Some(uid));
        owned.map(Stored).collect()
    }

    /// Stores a new object.
    pub(super) async fn create(&self, kind: Kind, object: Value) -> Result<Stored, ObjectError> {
        let namespace = object
            .pointer("/metadata/namespace")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        Ok(Stored(
            self.0
                .create(Act::by_host(COMPONENT), kind, &namespace, object)
                .await?,
        ))
    }

    /// Merges a patch into an object, on the uid and version that the target names, if it names them.
    pub(super) async fn patch(
        &self,
        kind: Kind,
        target: &Target,
        part: Part,
        mut patch: Value,
    ) -> Result<Stored, ObjectError> {
        if !target.resource_version.is_empty() {
            patch["metadata"]["resourceVersion"] = json!(target.resource_version);
        }
        if !target.uid.is_empty() {
            patch["metadata"]["uid"] = json!(target.uid);
        }
        let key = Key::new(kind, &target.namespace, &target.name);
        Ok(Stored(
            self.0
                .patch_merge(Act::by_host(COMPONENT), key, part, patch)
                .await?,
        ))
    }

    /// Deletes an object of this uid; what it owns follows.
    pub(super) async fn delete(&self, kind: Kind, target: &Target) -> Result<(), ObjectError> {
        self.delete_by(kind, target, Deletion::default()).await
    }

    /// Deletes an object of this uid once what it owns is gone.
    pub(super) async fn delete_in_foreground(
        &self,
        kind: Kind,
        target: &Target,
    ) -> Result<(), ObjectError> {
        let deletion = Deletion {
            propagation_policy: Some("Foreground".to_owned()),
            ..Deletion::default()
        };
        self.delete_by(kind, target, deletion).await
    }

    /// Deletes an object of this uid that has nothing left to end.
    pub(super) async fn delete_at_once(
        &self,
        kind: Kind,
        target: &Target,
    ) -> Result<(), ObjectError> {
        let deletion = Deletion {
            grace_period_seconds: Some(0),
            ..Deletion::default()
        };
        self.delete_by(kind, target, deletion).await
    }

    async fn delete_by(
        &self,
        kind: Kind,
        target: &Target,
        deletion: Deletion,
    ) -> Result<(), ObjectError> {
        let uid = Some(target.uid.clone()).filter(|uid| !uid.is_empty());
        let deletion = Deletion {
            preconditions: Some(Preconditions {
                uid,
                resource_version: None,
            }),
            ..deletion
        };
        let key = Key::new(kind, &target.namespace, &target.name);
        self.0
            .delete(Act::by_host(COMPONENT), key, deletion)
            .await?;
        Ok(())
    }

    /// Tells people something about an object; one that is gone needs no telling.
    pub(super) async fn event(
        &self,
        kind: Kind,
        target: &Target,
        warning: bool,
        reason: &str,
        message: &str,
    ) {
        let key = Key::new(kind, &target.namespace, &target.name);
        let (reason, message) = (reason.to_owned(), message.to_owned());
        let event_type = if warning {
            EventType::Warning
        } else {
            EventType::Normal
        };
        let told = self
            .0
            .transact(Act::by_host(COMPONENT), move |transaction| {
                let object = transaction.get(&key)?;
                let happening = Happening {
                    event_type,
                    reason: &reason,
                    message: &message,
                    component: if key.kind == Kind::Canary {
                        OF_CANARIES
                    } else {
                        COMPONENT
                    },
                };
                transaction.event(&object, &happening)
            });
        if let Err(error) = told.await
            && !matches!(error, StoreError::NotFound(_))
        {
            tracing::warn!("an Event could not be stored: {error}");
        }
    }

    /// Tells people what happened to a pod, with the counts of those who saw it; what is told already is not written again.
    pub(super) async fn pod_events(&self, pod: &Stored, events: &[PodEvent]) {
        let untold: Vec<PodEvent> = events
            .iter()
            .filter(|event| {
                let told = self.0.find(&event_key(&pod.0, &happening(event)));
                told.is_none_or(|told| !seen(event).is_told_by(told.value()))
            })
            .cloned()
            .collect();
        if untold.is_empty() {
            return;
        }
        let about = Arc::clone(&pod.0);
        let told = self
            .0
            .transact(Act::by_host(SUPERVISOR), move |transaction| {
                for event in &untold {
                    transaction.event_seen(&about, &happening(event), seen(event))?;
                }
                Ok(())
            });
        if let Err(error) = told.await {
            tracing::warn!("the Events of a pod could not be stored: {error}");
        }
    }

    /// Adds a decision to the audit trail.
    pub(super) async fn audit(&self, kind: Kind, target: &Target, action: &str, reason: &str) {
        let key = Key::new(kind, &target.namespace, &target.name);
        let (action, reason) = (action.to_owned(), reason.to_owned());
        let written = self
            .0
            .transact(Act::by_host(COMPONENT), move |transaction| {
                transaction.audit(&action, &key, &reason, "");
                Ok(())
            });
        if let Err(error) = written.await {
            tracing::warn!("the audit trail could not be written: {error}");
        }
    }
}

fn happening(event: &PodEvent) -> Happening<'_> {
    Happening {
        event_type: if event.warning {
            EventType::Warning
        } else {
            EventType::Normal
        },
        reason: &event.reason,
        message: &event.message,
        component: SUPERVISOR,
    }
}

fn seen(event: &PodEvent) -> Seen {
    Seen {
        first: event.first_seen,
        last: event.last_seen,
        count: event.count,
    }
}
