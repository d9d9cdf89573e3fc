//! What is asked of the API server, and how it refuses.
//!
//! Every change of an object that exists carries the uid and resourceVersion it was decided on; what only needs the object to be the same one
//! leaves the version out. Nothing is asked again here: a refusal is an answer, and whoever asked decides what to do.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossfade_engine::action::{Failure, FailureKind, Target};
use crossfade_engine::views;
use kube::Client;
use kube::api::{
    Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy,
};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::kind::Kind;
use crate::lease::Leadership;
use crate::limit::Limit;
use crate::metrics::Page;
use crate::object::Object;
use crate::settings::RequestLimit;

/// How long the API server may take for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Writes that are under way at once, apart from those in a hurry. More would only wait for each other at the API server, and what is in a hurry
/// with them.
const WRITES_AT_ONCE: usize = 4;
/// Who takes longer keeps nobody else from writing: an API server that waits for others has room for more.
const LONG: Duration = Duration::from_millis(250);
/// So long others keep still after a write in a hurry has begun: the API server is all for it, and for the one that follows from it.
const STILL: Duration = Duration::from_millis(100);

/// How often a deletion is tried that others keep from happening by changing the object.
const DELETIONS: usize = 5;

/// Who writes, as the API server keeps it with each field.
const MANAGER: &str = "crossfade";

/// Why something asked for did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Exists(String),
    #[error("{0}")]
    Conflict(String),
    /// Too many requests, or a disruption budget.
    #[error("{0}")]
    TooMany(String),
    /// Understood, and not allowed or not valid.
    #[error("{0}")]
    Refused(String),
    /// Somebody else leads, or might.
    #[error("this controller does not lead any more")]
    NotLeading,
    #[error("{0}")]
    Other(String),
}

impl From<kube::Error> for Refusal {
    fn from(error: kube::Error) -> Self {
        let kube::Error::Api(status) = error else {
            return Self::Other(error.to_string());
        };
        let text = status.message.clone();
        match status.code {
            404 => Self::NotFound(text),
            409 if status.reason == "AlreadyExists" => Self::Exists(text),
            409 => Self::Conflict(text),
            429 => Self::TooMany(text),
            400 | 403 | 405 | 413 | 422 => Self::Refused(text),
            _ => Self::Other(text),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let kind = match &refusal {
            Refusal::Conflict(_) => FailureKind::Conflict,
            Refusal::NotFound(_) => FailureKind::NotFound,
            Refusal::Refused(_) => FailureKind::Refused,
            Refusal::Exists(_) | Refusal::TooMany(_) | Refusal::NotLeading | Refusal::Other(_) => {
                FailureKind::Other
            }
        };
        Self {
            kind,
            message: refusal.to_string(),
        }
    }
}

/// The version of an object that an answer holds.
pub(crate) fn version_of(object: &Value) -> String {
    views::text(object, "/metadata/resourceVersion").to_owned()
}

tokio::task_local! {
    /// What is done now has its place among the writes, or is in too much of a hurry to wait for one.
    static PLACED: ();
}

fn is_placed() -> bool {
    PLACED.try_with(|()| ()).is_ok()
}

/// Where requests go.
#[derive(Clone)]
pub(crate) struct Requests {
    client: Client,
    leadership: Leadership,
    limit: Option<Arc<Limit>>,
    places: Arc<Semaphore>,
    /// When a write in a hurry has begun last.
    hurried: Arc<Mutex<Option<Instant>>>,
    counts: Arc<Mutex<BTreeMap<Counted, u64>>>,
}

/// Requests of one sort: kind, verb and status code; 0 where none came.
type Counted = (String, &'static str, u16);

impl Requests {
    /// Asks by this client, and writes only while this controller leads.
    pub(crate) fn new(client: Client, leadership: Leadership, limit: Option<RequestLimit>) -> Self {
        let limit = limit.and_then(|limit| Limit::new(limit.per_second, limit.burst));
        Self {
            client,
            leadership,
            limit: limit.map(Arc::new),
            places: Arc::new(Semaphore::new(WRITES_AT_ONCE)),
            hurried: Arc::default(),
            counts: Arc::default(),
        }
    }

    /// What was asked for so far, as Prometheus is told.
    pub(crate) fn render(&self, page: &mut Page) {
        let name = "controller_clientset_k8s_request_total";
        page.head(
            name,
            "counter",
            "Requests to the API server, watches apart.",
        );
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for ((kind, verb, code), count) in counts.iter() {
            let labels = [
                ("kind", kind.as_str()),
                ("namespace", "N/A"),
                ("name", "N/A"),
                ("verb", verb),
                ("status_code", &code.to_string()),
            ];
            page.line(name, &labels, count);
        }
    }

    /// Does something whose writes wait for nobody else's: a release is taken back.
    pub(crate) async fn urgently<T>(&self, work: impl Future<Output = T>) -> T {
        *self.hurried.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        PLACED.scope((), work).await
    }

    /// For how long those who are in no hurry still keep still.
    fn still_for(&self) -> Option<Duration> {
        let hurried = self.hurried.lock().unwrap_or_else(PoisonError::into_inner);
        STILL.checked_sub((*hurried)?.elapsed())
    }

    /// Does something once there is a place for its writes, so that what it decides on does not grow old while it waits for one.
    pub(crate) async fn in_turn<T>(&self, work: impl Future<Output = T>) -> T {
        if is_placed() {
            return work.await;
        }
        let place = self.places.acquire().await;
        let begun = Instant::now();
        while let Some(left) = self.still_for().filter(|_| begun.elapsed() < LONG) {
            tokio::time::sleep(left).await;
        }
        let mut work = pin!(PLACED.scope((), work));
        if let Ok(done) = tokio::time::timeout(LONG, &mut work).await {
            return done;
        }
        drop(place);
        work.await
    }

    /// True while nobody else can lead.
    pub(crate) fn may_write(&self) -> bool {
        self.leadership.holds()
    }

    /// Objects to be read, when it is our turn. A Lease waits for nobody.
    async fn readable(&self, kind: &Kind, namespace: &str) -> Api<Object> {
        if let Some(limit) = self.limit.as_ref().filter(|_| *kind != Kind::Lease) {
            limit.turn().await;
        }
        self.api(kind, namespace)
    }

    /// Writes an object when it is our turn, as one who leads then.
    async fn write<T, W>(
        &self,
        kind: &Kind,
        namespace: &str,
        verb: &'static str,
        writing: impl FnOnce(Api<Object>) -> W,
    ) -> Result<T, Refusal>
    where
        W: Future<Output = kube::Result<T>>,
    {
        // Boxed: whoever waits for it keeps room for it otherwise, several times over.
        let writing = Box::pin(async {
            let api = self.readable(kind, namespace).await;
            if !kind.is_free() && !self.may_write() {
                return Err(Refusal::NotLeading);
            }
            self.ask(kind, verb, writing(api)).await
        });
        if *kind == Kind::Lease {
            writing.await
        } else {
            self.in_turn(writing).await
        }
    }

    /// The objects of a kind in a namespace; in all of them, or in none, if it is empty.
    pub(crate) fn api(&self, kind: &Kind, namespace: &str) -> Api<Object> {
        let resource = kind.resource();
        if namespace.is_empty() {
            Api::all_with(self.client.clone(), &resource)
        } else {
            Api::namespaced_with(self.client.clone(), namespace, &resource)
        }
    }

    /// One object as it is now.
    pub(crate) async fn get(
        &self,
        kind: &Kind,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, Refusal> {
        let api = self.readable(kind, namespace).await;
        let object = self.ask(kind, "Get", api.get_opt(name)).await?;
        Ok(object.map(Object::into_json))
    }

    /// The objects of a namespace that these labels select, as they are now.
    pub(crate) async fn list(
        &self,
        kind: &Kind,
        namespace: &str,
        labels: &str,
    ) -> Result<Vec<Value>, Refusal> {
        let parameters = ListParams::default().labels(labels);
        let api = self.readable(kind, namespace).await;
        let list = self.ask(kind, "List", api.list(&parameters)).await?;
        Ok(list.items.into_iter().map(Object::into_json).collect())
    }

    /// Creates an object.
    pub(crate) async fn create(
        &self,
        kind: &Kind,
        namespace: &str,
        object: Value,
    ) -> Result<Value, Refusal> {
        let created = self.make(kind, namespace, object).await?;
        Ok(created.into_json())
    }

    /// Creates an object whose present state nobody asks for.
    pub(crate) async fn make(
        &self,
        kind: &Kind,
        namespace: &str,
        object: Value,
    ) -> Result<Object, Refusal> {
        let parameters = PostParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PostParams::default()
        };
        let object = Object::new(object);
        let create = async |api: Api<Object>| api.create(&parameters, &object).await;
        self.write(kind, namespace, "Create", create).await
    }

    /// Merges a patch into an object of this uid and version.
    pub(crate) async fn merge(
        &self,
        kind: &Kind,
        target: &Target,
        patch: Value,
    ) -> Result<Value, Refusal> {
        self.patch(kind, target, &Patch::Merge(on(target, patch)))
            .await
    }

    /// Merges a patch into an object of a kind that is built in, lists by their keys.
    pub(crate) async fn merge_lists(
        &self,
        kind: &Kind,
        target: &Target,
        patch: Value,
    ) -> Result<Value, Refusal> {
        self.patch(kind, target, &Patch::Strategic(on(target, patch)))
            .await
    }

    /// Patches an object by JSON pointers; the patch itself says which version it is for.
    pub(crate) async fn patch_by_pointers(
        &self,
        kind: &Kind,
        target: &Target,
        patch: Value,
    ) -> Result<Value, Refusal> {
        let operations = serde_json::from_value(patch)
            .map_err(|why| Refusal::Other(format!("a patch that is none: {why}")))?;
        self.patch(kind, target, &Patch::<Value>::Json(operations))
            .await
    }

    async fn patch<P: Serialize + std::fmt::Debug>(
        &self,
        kind: &Kind,
        target: &Target,
        patch: &Patch<P>,
    ) -> Result<Value, Refusal> {
        let parameters = parameters();
        let write = async |api: Api<Object>| api.patch(&target.name, &parameters, patch).await;
        let patched = self.write(kind, &target.namespace, "Patch", write).await?;
        Ok(patched.into_json())
    }

    /// Merges a patch into the status of an object of this uid and version.
    pub(crate) async fn merge_status(
        &self,
        kind: &Kind,
        target: &Target,
        patch: Value,
    ) -> Result<Value, Refusal> {
        if !kind.has_status_subresource() {
            return self.merge(kind, target, patch).await;
        }
        let (name, patch) = (&target.name, Patch::Merge(on(target, patch)));
        let parameters = parameters();
        let write = async |api: Api<Object>| api.patch_status(name, &parameters, &patch).await;
        let patched = self.write(kind, &target.namespace, "Patch", write).await?;
        Ok(patched.into_json())
    }

    /// Deletes an object of this uid; what it owns follows. Someone else's change in between is looked at and does not keep it. One that
    /// is gone already counts as deleted.
    pub(crate) async fn delete(
        &self,
        kind: &Kind,
        target: &Target,
        propagation: PropagationPolicy,
    ) -> Result<(), Refusal> {
        let mut version = target.resource_version.clone();
        let mut refused = None;
        for _ in 0..DELETIONS {
            let parameters = DeleteParams {
                propagation_policy: Some(propagation.clone()),
                preconditions: Some(Preconditions {
                    uid: Some(target.uid.clone()),
                    resource_version: Some(version.clone()).filter(|version| !version.is_empty()),
                }),
                ..DeleteParams::default()
            };
            let delete = async |api: Api<Object>| api.delete(&target.name, &parameters).await;
            let deleted = self.write(kind, &target.namespace, "Delete", delete).await;
            match deleted {
                Ok(_) | Err(Refusal::NotFound(_)) => return Ok(()),
                Err(Refusal::Conflict(text)) => refused = Some(Refusal::Conflict(text)),
                Err(other) => return Err(other),
            }
            match self.get(kind, &target.namespace, &target.name).await? {
                Some(now) if views::text(&now, "/metadata/uid") == target.uid => {
                    if views::is_deleting(&now) {
                        return Ok(());
                    }
                    version = version_of(&now);
                }
                _ => return Ok(()),
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// Evicts a pod, so that disruption budgets are honoured.
    pub(crate) async fn evict(&self, target: &Target) -> Result<(), Refusal> {
        let eviction = json!({
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": target.name, "namespace": target.namespace},
            "deleteOptions": {"preconditions": {"uid": target.uid}},
        });
        let parameters = PostParams::default();
        let name = &target.name;
        let evict = async |api: Api<Object>| {
            let asked = api.create_subresource("eviction", name, &parameters, &eviction);
            asked.await.map(|_: Value| ())
        };
        let asked = self.write(&Kind::Pod, &target.namespace, "Create", evict);
        match asked.await {
            Ok(()) | Err(Refusal::NotFound(_)) => Ok(()),
            Err(refusal) => Err(refusal),
        }
    }

    /// An answer that does not come is a refusal, too: whether anything was done shows when the object is looked at again.
    async fn ask<T>(
        &self,
        kind: &Kind,
        verb: &'static str,
        asking: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Refusal> {
        let answer = tokio::time::timeout(PATIENCE, asking).await;
        let code = match &answer {
            Ok(Ok(_)) => 200,
            Ok(Err(kube::Error::Api(status))) => status.code,
            Ok(Err(_)) | Err(_) => 0,
        };
        let counted = (kind.resource().plural, verb, code);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(counted).or_default() += 1;
        drop(counts);
        match answer {
            Ok(answer) => answer.map_err(Refusal::from),
            Err(_) => Err(Refusal::Other(format!(
                "the API server did not answer within {} s",
                PATIENCE.as_secs()
            ))),
        }
    }
}

fn parameters() -> PatchParams {
    PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

/// A merge patch that only the object of this uid and version takes.
fn on(target: &Target, mut patch: Value) -> Value {
    if !target.resource_version.is_empty() {
        patch["metadata"]["resourceVersion"] = json!(target.resource_version);
    }
    if !target.uid.is_empty() {
        patch["metadata"]["uid"] = json!(target.uid);
    }
    patch
}
