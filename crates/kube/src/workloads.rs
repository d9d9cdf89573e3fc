//! Objects that Rollouts take their templates from: watched as soon as a Rollout names one, by their numbers alone. A template is read when
//! its generation is new, and kept only for the Rollouts that use it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crossfade_api::{FieldError, Resource as _, Rollout};
use crossfade_engine::decision::Found;
use crossfade_engine::rollout::prepared::{Prepared, prepare};
use crossfade_engine::rollout::workload::{self, Workload};
use crossfade_engine::views;
use serde_json::{Value, json};

use crate::cache::{Entry, Key, View};
use crate::caches::ReadRollout;
use crate::context::Context;
use crate::kind::Kind;
use crate::referrers::Looked;
use crate::routes;

/// What is kept of an object that holds a template.
pub(crate) struct Numbers {
    generation: i64,
    replicas: i32,
}

impl View for Numbers {
    fn of(json: Value, _: Option<&Self>) -> Self {
        let generation = json.pointer("/metadata/generation").and_then(Value::as_i64);
        let replicas = json.pointer("/spec/replicas").and_then(Value::as_i64);
        Self {
            generation: generation.unwrap_or(0),
            replicas: replicas.map_or(1, |replicas| i32::try_from(replicas).unwrap_or(i32::MAX)),
        }
    }
}

/// A template that was read, and what a Rollout with it comes to.
struct Filled {
    /// Uid and generation of the object.
    from: (String, i64),
    object: Arc<Value>,
    prepared: Option<(State, Arc<Prepared>)>,
}

/// Generation and `status.collisionCount` of a Rollout: what it comes to changes with these.
type State = (Option<i64>, Option<i32>);

/// The templates of the Rollouts that refer to other objects.
#[derive(Default)]
pub(crate) struct Workloads(Mutex<BTreeMap<Key, Filled>>);

impl Workloads {
    /// A Rollout is gone, or refers to nothing.
    pub(crate) fn forget(&self, rollout: &Key) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(rollout);
    }

    fn object(&self, rollout: &Key, from: &(String, i64)) -> Option<Arc<Value>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let filled = known.get(rollout).filter(|filled| filled.from == *from)?;
        Some(Arc::clone(&filled.object))
    }

    fn keep(&self, rollout: &Key, from: (String, i64), object: &Arc<Value>) {
        let filled = Filled {
            from,
            object: Arc::clone(object),
            prepared: None,
        };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(rollout.clone(), filled);
    }

    /// What follows from the spec of a Rollout with its template filled in: worked out once.
    fn prepared(&self, key: &Key, rollout: &Rollout, unread: &[FieldError]) -> Arc<Prepared> {
        let state = (rollout.metadata.generation, rollout.status.collision_count);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let filled = known.get_mut(key);
        if let Some((of, prepared)) = filled.as_ref().and_then(|filled| filled.prepared.as_ref())
            && *of == state
        {
            return Arc::clone(prepared);
        }
        let mut prepared = prepare(rollout).with_unread(unread.to_vec());
        prepared.errors.extend(routes::unsupported(rollout));
        let prepared = Arc::new(prepared);
        if let Some(filled) = filled {
            filled.prepared = Some((state, Arc::clone(&prepared)));
        }
        prepared
    }
}

/// What is looked at for a Rollout, by kind and key.
fn looked_at(rollout: &Rollout) -> Option<(Kind, Key)> {
    let (kind, name) = workload::looked_at(rollout)?.ok()?;
    let key = (rollout.namespace().to_owned(), name.to_owned());
    Some((Kind::Workload(kind), key))
}

/// Whether what a Rollout refers to has been read; it is read from now on.
pub(crate) fn is_read(context: &Context, rollout: &Rollout, looked: &mut Looked) -> bool {
    let Some((kind, key)) = looked_at(rollout) else {
        return true;
    };
    context.routes.want(&kind);
    let read = context.caches.workloads(&kind).is_settled(&key.0);
    looked.names.insert((kind, key));
    read
}

/// A Rollout with the template that it refers to, and what follows from it; as it is, without a reference.
///
/// # Errors
/// The template could not be read for now.
pub(crate) async fn resolve(
    context: &Context,
    read: &ReadRollout,
    looked: &mut Looked,
) -> Result<(Arc<Rollout>, Option<Workload>, Arc<Prepared>), String> {
    let stored = &read.rollout;
    let own = (stored.namespace().to_owned(), stored.name().to_owned());
    let found = match looked_at(stored) {
        None => Found::NotNeeded,
        Some((kind, key)) => {
            let cache = context.caches.workloads(&kind);
            if let Some(entry) = cache.get(&key.0, &key.1) {
                template(context, &own, &kind, &key, &entry).await?
            } else {
                let plural = kind.resource().plural;
                let trouble = cache.trouble(&key.0);
                looked.absent(trouble.map(|trouble| trouble.of(&plural)))
            }
        }
    };
    let is_found = matches!(found, Found::Found(_));
    let (rollout, workload) = workload::resolve(stored, |_, _| found);
    if !is_found {
        context.workloads.forget(&own);
        return Ok((rollout, workload, Arc::clone(&read.prepared)));
    }
    let unread = stored.origin.faults();
    let prepared = context.workloads.prepared(&own, &rollout, unread);
    Ok((rollout, workload, prepared))
}

/// The object that a template is taken from: the template as it was read, with the numbers as they are watched.
async fn template(
    context: &Context,
    own: &Key,
    kind: &Kind,
    key: &Key,
    entry: &Entry<Numbers>,
) -> Result<Found<Arc<Value>>, String> {
    let from = (entry.uid.clone(), entry.view.generation);
    let object = if let Some(object) = context.workloads.object(own, &from) {
        object
    } else {
        let live = context.requests.get(kind, &key.0, &key.1).await;
        let live = live.map_err(|why| format!("{} {}: {why}", kind.resource().plural, key.1))?;
        let Some(live) = live else {
            return Ok(Found::Missing);
        };
        let live = Arc::new(live);
        let generation = live.pointer("/metadata/generation").and_then(Value::as_i64);
        let uid = views::text(&live, "/metadata/uid");
        if (uid, generation.unwrap_or(0)) != (&from.0, from.1) {
            // Whoever shows it wakes the Rollout again.
            return Err(format!("{} has just changed", key.1));
        }
        context.workloads.keep(own, from, &live);
        live
    };
    let mut object = Value::clone(&object);
    object["metadata"]["resourceVersion"] = json!(entry.version.to_string());
    if object.pointer("/spec/replicas").is_some() {
        object["spec"]["replicas"] = json!(entry.view.replicas);
    }
    Ok(Found::Found(Arc::new(object)))
}
