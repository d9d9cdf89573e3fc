//! What caches keep for Canaries, and by which kinds.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossfade_api::flagger::hash;
use crossfade_api::{Canary, Resource as _};
use crossfade_engine::canary::world::{Config, ConfigKey};
use crossfade_engine::views;
use serde_json::Value;

use crate::cache::View;
use crate::kind::Kind;

/// A Canary, read.
pub(crate) struct ReadCanary {
    pub(crate) canary: Arc<Canary>,
    /// A status was written, by whomever.
    pub(crate) has_status: bool,
}

impl View for ReadCanary {
    fn of(json: Value, _: Option<&Self>) -> Self {
        let has_status = json.get("status").is_some_and(|status| !status.is_null());
        Self {
            canary: Arc::new(Canary::from_json(json).0),
            has_status,
        }
    }
}

impl ReadCanary {
    /// Whether a change is one that nobody waits the interval for.
    pub(crate) fn differs(&self, before: &Self) -> bool {
        let (now, then) = (&self.canary.metadata, &before.canary.metadata);
        now.generation != then.generation
            || now.deletion_timestamp != then.deletion_timestamp
            || now.finalizers != then.finalizers
            || now.annotations != then.annotations
    }
}

/// A ConfigMap or a Secret, without what it holds.
pub(crate) struct ReadConfig(pub(crate) Config);

impl View for ReadConfig {
    fn of(json: Value, _: Option<&Self>) -> Self {
        let data: Option<BTreeMap<String, String>> = json
            .get("data")
            .filter(|data| data.is_object())
            .map(|_| views::map(&json, "/data"));
        Self(Config {
            target: views::target(&json),
            labels: views::map(&json, "/metadata/labels"),
            annotations: views::map(&json, "/metadata/annotations"),
            checksum: hash::config(data.as_ref()),
            kind: views::text(&json, "/type").to_owned(),
        })
    }
}

/// The kind of a tracked configuration.
pub(super) fn config_kind(key: &ConfigKey) -> Kind {
    match key {
        ConfigKey::ConfigMap(_) => Kind::ConfigMap,
        ConfigKey::Secret(_) => Kind::Secret,
    }
}

/// A kind whose objects are kept whole.
pub(super) fn whole(api_version: &str, kind: &str) -> Kind {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    Kind::Routed(Arc::new(crossfade_traffic::Kind {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: kind.to_owned(),
        plural: format!("{}s", kind.to_lowercase()),
    }))
}
