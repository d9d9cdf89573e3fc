//! Teaches a cluster our kinds and roles, from the files that are shipped.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crossfade_test_cluster::{Actor, Cluster};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::wait::{await_condition, conditions};
use serde_json::{Value, json};

use crate::Outcome;

/// How long the API server may take to serve a new kind.
const PATIENCE: Duration = Duration::from_mins(2);

/// How long to wait before asking again.
const PAUSE: Duration = Duration::from_millis(100);

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy")
}

/// Applies the definitions of our kinds, and binds Crossfade's users to the shipped roles in the whole cluster.
///
/// # Errors
/// A file cannot be read, or the cluster refuses.
pub async fn install(cluster: &Cluster) -> Outcome<()> {
    let client = cluster.client(Actor::Admin).await?;
    let apply = PatchParams::apply("test").force();
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for entry in std::fs::read_dir(deploy().join("crds"))? {
        let text = std::fs::read_to_string(entry?.path())?;
        let definition: Value = serde_saphyr::from_str(&text)?;
        let name = definition["metadata"]["name"].as_str().unwrap_or_default();
        definitions
            .patch(name, &apply, &Patch::Apply(&definition))
            .await?;
        let established =
            await_condition(definitions.clone(), name, conditions::is_crd_established());
        tokio::time::timeout(PATIENCE, established).await??;
        let text = |pointer| {
            let text = definition.pointer(pointer).and_then(Value::as_str);
            text.unwrap_or_default()
        };
        let kind = GroupVersionKind::gvk(
            text("/spec/group"),
            text("/spec/versions/0/name"),
            text("/spec/names/kind"),
        );
        let kind = ApiResource::from_gvk_with_plural(&kind, text("/spec/names/plural"));
        let objects: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
        tokio::time::timeout(PATIENCE, until_served(&objects)).await??;
    }
    let role = std::fs::read_to_string(deploy().join("rbac/role.yaml"))?;
    let role: Value = serde_saphyr::from_str(&role)?;
    let account = std::fs::read_to_string(deploy().join("controller/account.yaml"))?;
    let account: Vec<Value> = serde_saphyr::from_multiple(&account)?;
    let lease = account.into_iter().find(|one| one["kind"] == "Role");
    let lease = lease.ok_or("the shipped manifests have no role for the Lease")?;
    let group = "rbac.authorization.k8s.io";
    for (name, rules) in [
        ("fleet-crossfade", &role["rules"]),
        ("fleet-crossfade-lease", &lease["rules"]),
    ] {
        let role = json!({
            "apiVersion": format!("{group}/v1"),
            "kind": "ClusterRole",
            "metadata": {"name": name},
            "rules": rules,
        });
        let subjects = [Actor::Crossfade, Actor::CrossfadeOther]
            .map(|actor| json!({"apiGroup": group, "kind": "User", "name": actor.name()}));
        let binding = json!({
            "apiVersion": format!("{group}/v1"),
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
            "subjects": subjects,
        });
        for object in [role, binding] {
            let kind = object["kind"].as_str().unwrap_or_default();
            let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
            let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
            api.patch(name, &apply, &Patch::Apply(&object)).await?;
        }
    }
    Ok(())
}

/// A kind that is established is still answered with "not found" or "try again" for a moment.
async fn until_served(objects: &Api<DynamicObject>) -> Outcome<()> {
    let one = ListParams::default().limit(1);
    loop {
        match objects.list(&one).await {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if [404, 429, 503].contains(&status.code) => {
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}
