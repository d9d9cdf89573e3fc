//! What a pod belongs to, as metrics name it: its workload, its application, the Service that speaks for it.

use std::collections::BTreeMap;

use crossfade_api::Rollout;
use serde_json::Value;

use super::objects::Objects;
use super::{routes, views};
use crate::store::Kind;
use crate::supervisor::PodIdentity;
use crate::telemetry::ingest::proxy::Role;

/// What a pod belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Belonging {
    /// Name of the Rollout or Job that it was made for; else of its ReplicaSet; else its own.
    pub(super) workload: String,
    /// Its label `app`, else `app.kubernetes.io/name`, else the workload.
    pub(super) app: String,
}

impl Belonging {
    /// What a pod belongs to, by the owners of its object; `None` when the object is gone.
    pub(super) fn of(objects: &Objects, pod: &PodIdentity) -> Option<Self> {
        let object = objects.get(Kind::Pod, &pod.namespace, &pod.name)?;
        let workload = match views::controller(&object) {
            Some(("ReplicaSet", name, _)) => {
                let set = objects.get(Kind::ReplicaSet, &pod.namespace, name);
                let above = set.as_deref().and_then(views::controller);
                above.map_or(name, |(_, name, _)| name).to_owned()
            }
            Some((_, name, _)) => name.to_owned(),
            None => pod.name.clone(),
        };
        let label = |name: &str| pod.labels.get(name).filter(|value| !value.is_empty());
        let app = label("app").or_else(|| label("app.kubernetes.io/name"));
        Some(Self {
            app: app.unwrap_or(&workload).clone(),
            workload,
        })
    }
}

/// On which side of its release a version is.
pub(super) fn role(rollout: Option<&Rollout>, version: &str) -> Role {
    match rollout.map(|rollout| &rollout.status) {
        Some(status) if version == status.stable_rs.as_str() => Role::Stable,
        Some(status) if version == status.current_pod_hash.as_str() => Role::Canary,
        _ => Role::Other,
    }
}

/// The Service that speaks for a pod, of those of its namespace that select it: the one that its release names for the pod's side,
/// else the first by name.
pub(super) fn service(
    services: &[&Value],
    rollout: Option<&Rollout>,
    role: Role,
    pod: &PodIdentity,
) -> Option<String> {
    let mut selecting: Vec<&str> = services
        .iter()
        .filter(|service| views::text(service, "/metadata/namespace") == pod.namespace)
        .filter(|service| selects(service, &pod.labels))
        .map(|service| views::text(service, "/metadata/name"))
        .collect();
    selecting.sort_unstable();
    let named = rollout.map_or([""; 2], |rollout| named(rollout, role));
    let chosen = selecting.iter().find(|service| named.contains(service));
    Some((*chosen.or(selecting.first())?).to_owned())
}

fn selects(service: &Value, labels: &BTreeMap<String, String>) -> bool {
    routes::matches(&views::map(service, "/spec/selector"), labels, None)
}

/// The Services that a Rollout names for a side, by strategy.
fn named(rollout: &Rollout, role: Role) -> [&str; 2] {
    let strategy = &rollout.spec.strategy;
    let canary = strategy.canary.as_ref();
    let blue_green = strategy.blue_green.as_ref();
    match role {
        Role::Stable => [
            canary.map_or("", |canary| &canary.stable_service),
            blue_green.map_or("", |blue_green| &blue_green.active_service),
        ],
        Role::Canary => [
            canary.map_or("", |canary| &canary.canary_service),
            blue_green.map_or("", |blue_green| &blue_green.preview_service),
        ],
        Role::Other => [""; 2],
    }
}

#[cfg(test)]
mod tests {
    use crossfade_api::Resource as _;
    use serde_json::json;

    use super::*;

    fn pod(hash: &str) -> PodIdentity {
        let labels = [("app", "web"), ("hash", hash)];
        PodIdentity {
            namespace: "prod".to_owned(),
            name: format!("web-{hash}-1"),
            uid: "u".to_owned(),
            labels: labels
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            annotations: BTreeMap::new(),
        }
    }

    fn service_of(name: &str, selector: &Value) -> Value {
        json!({"metadata": {"namespace": "prod", "name": name}, "spec": {"selector": selector}})
    }

    #[test]
    fn the_service_of_a_pod_is_the_one_that_its_release_names_for_its_side() {
        let rollout = Rollout::from_json(json!({"spec": {"strategy": {"canary": {
            "stableService": "web-stable", "canaryService": "web-canary",
        }}}}))
        .0;
        let services = [
            &service_of("all", &json!({"app": "web"})),
            &service_of("web-canary", &json!({"app": "web", "hash": "new"})),
            &service_of("web-stable", &json!({"app": "web", "hash": "old"})),
            &service_of("other", &json!({"app": "shop"})),
            &service_of("nobody", &json!({})),
        ];
        let of = |rollout, role, hash| service(&services, rollout, role, &pod(hash));
        let rollout = Some(&rollout);
        assert_eq!(
            of(rollout, Role::Canary, "new").as_deref(),
            Some("web-canary")
        );
        assert_eq!(
            of(rollout, Role::Stable, "old").as_deref(),
            Some("web-stable")
        );
        assert_eq!(of(None, Role::Other, "old").as_deref(), Some("all"));
        // Neither side's, but requests still reach it.
        assert_eq!(of(rollout, Role::Other, "older").as_deref(), Some("all"));
        assert_eq!(
            service(&services[1..], rollout, Role::Other, &pod("older")),
            None
        );
    }
}
