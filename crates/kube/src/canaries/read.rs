//! What caches keep for Canaries, and by which kinds.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

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
    target: String,
}

/// What a Canary releases versions of.
pub(super) fn target_of(canary: &Canary) -> String {
    let reference = &canary.spec.target_ref;
    format!("{}/{}", reference.kind, reference.name)
}

impl View for ReadCanary {
    fn of(json: Value, before: Option<&Self>) -> Self {
        let has_status = json.get("status").is_some_and(|status| !status.is_null());
        let (mut canary, _) = match before {
            Some(before) => Canary::from_json_after(json, &before.canary),
            None => Canary::from_json(json),
        };
        canary.origin.forget_json();
        Self {
            target: target_of(&canary),
            canary: Arc::new(canary),
            has_status,
        }
    }

    /// Its target: two Canaries of one show so.
    fn found_by(&self) -> [Option<&str>; 2] {
        [Some(&self.target), None]
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

/// Kinds whose objects are looked at all the time.
static FREQUENT: LazyLock<Vec<(&str, &str, Kind)>> = LazyLock::new(|| {
    let kinds = [
        ("v1", "Service"),
        ("apps/v1", "Deployment"),
        ("apps/v1", "DaemonSet"),
        ("autoscaling/v2", "HorizontalPodAutoscaler"),
        ("flagger.app/v1beta1", "MetricTemplate"),
    ];
    let kinds = kinds.into_iter();
    kinds
        .map(|(api_version, kind)| (api_version, kind, kept_whole(api_version, kind)))
        .collect()
});

/// A kind whose objects are kept whole.
pub(super) fn whole(api_version: &str, kind: &str) -> Kind {
    let mut known = FREQUENT.iter();
    let known = known.find(|(of, name, _)| *of == api_version && *name == kind);
    known.map_or_else(
        || kept_whole(api_version, kind),
        |(_, _, kind)| kind.clone(),
    )
}

fn kept_whole(api_version: &str, kind: &str) -> Kind {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    Kind::Routed(Arc::new(crossfade_traffic::Kind {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: kind.to_owned(),
        plural: format!("{}s", kind.to_lowercase()),
    }))
}
