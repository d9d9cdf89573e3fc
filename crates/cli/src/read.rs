//! Reads objects and decodes them.

use crossfade_api::{AnalysisRun, Resource, Rollout};
use crossfade_host::client::Client;
use crossfade_host::store::Kind;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit;
use crate::feed::Feed;
use crate::target;
use crate::view::rollout::Surroundings;

/// One object as JSON; a missing one is told as the server tells it, with the nearest name.
pub(crate) async fn object(
    context: &Context,
    client: &Client,
    kind: Kind,
    name: &str,
) -> Result<Value> {
    let namespace = context.namespace();
    match client.get(kind, namespace, name).await {
        Ok(object) => Ok(object),
        Err(error) => Err(target::with_nearest(error.into(), client, kind, namespace, name).await),
    }
}

/// One Rollout.
pub(crate) async fn rollout(context: &Context, client: &Client, name: &str) -> Result<Rollout> {
    let (rollout, _) = Rollout::from_json(object(context, client, Kind::Rollout, name).await?);
    Ok(rollout)
}

/// Decodes objects of the built-in kinds.
pub(crate) fn objects<'v, T: DeserializeOwned>(
    objects: impl IntoIterator<Item = &'v Value>,
) -> Result<Vec<T>> {
    objects
        .into_iter()
        .map(|object| {
            T::deserialize(object).map_err(|error| {
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                let kind = object["kind"].as_str().unwrap_or("object");
                CliError::failure(format!(
                    "the server's {kind} {name} cannot be read: {error}"
                ))
            })
        })
        .collect()
}

/// The objects around Rollouts and Experiments, as far as the feed watches them.
pub(crate) fn surroundings(feed: &Feed) -> Result<Surroundings> {
    Ok(Surroundings {
        replica_sets: objects(feed.objects(Kind::ReplicaSet))?,
        pods: objects(feed.objects(Kind::Pod))?,
        runs: feed
            .objects(Kind::AnalysisRun)
            .map(|run| AnalysisRun::from_json(run.clone()).0)
            .collect(),
        experiments: objects(feed.objects(Kind::Experiment))?,
    })
}

/// What a reader says about an object that does not exist.
///
/// The reference reads through a cache whose text names one object; its server's text, which actions show, names the collection.
pub(crate) fn not_found(context: &Context, kind: Kind, name: &str) -> CliError {
    let resource = if context.is_full() {
        kind.resource()
    } else {
        kind.qualified().to_lowercase()
    };
    let mut error = CliError::new(exit::NOT_FOUND, format!("{resource} \"{name}\" not found"));
    "NotFound".clone_into(&mut error.reason);
    error
}
