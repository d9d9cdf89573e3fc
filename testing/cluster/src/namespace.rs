//! A namespace of one test, with its kubelet.

use std::fmt::Debug;
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Namespace as Object;
use k8s_openapi::api::rbac::v1::{RoleBinding, RoleRef, Subject};
use kube::api::{Api, DynamicObject, ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::{GroupVersionKind, NamespaceResourceScope};
use kube::discovery::{Scope, pinned_kind};
use kube::runtime::watcher::watch_object;
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cluster::{Actor, Cluster};
use crate::kubelet::{Kubelet, Pace};
use crate::trouble::Trouble;

/// How long something may take that is not about time, on a machine with much else to do.
const PATIENCE: Duration = Duration::from_mins(2);

/// A namespace of one test. Its pods live as long as this does.
pub struct Namespace {
    name: String,
    cluster: Cluster,
    client: Client,
    _kubelet: Kubelet,
}

impl Namespace {
    /// A new one on the shared cluster, with a kubelet whose pods take no time where their annotations ask for none.
    ///
    /// # Errors
    /// There is no cluster, or it refuses.
    pub async fn new() -> Result<Self, Trouble> {
        Self::on(Cluster::shared().await?, Pace::default()).await
    }

    /// A new one on this cluster, whose pods take their time as `pace` says.
    ///
    /// # Errors
    /// The cluster refuses.
    pub async fn on(cluster: Cluster, pace: Pace) -> Result<Self, Trouble> {
        let client = cluster.client(Actor::Admin).await?;
        let namespaces: Api<Object> = Api::all(client.clone());
        let wanted = Object {
            metadata: ObjectMeta {
                generate_name: Some("test-".to_owned()),
                ..ObjectMeta::default()
            },
            ..Object::default()
        };
        let made = namespaces
            .create(&PostParams::default(), &wanted)
            .await
            .map_err(Trouble::request("a namespace"))?;
        let name = made.metadata.name.unwrap_or_default();
        let kubelet = Kubelet::start(cluster.client(Actor::Kubelet).await?, &name, pace).await?;
        Ok(Self {
            name,
            cluster,
            client,
            _kubelet: kubelet,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The cluster that it is part of.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Its objects of one kind, as the admin sees them.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// Applies manifests (YAML documents) as a GitOps tool does: server-side, by force, here where they name no namespace. Kinds without namespaces
    /// are applied as they are.
    ///
    /// # Errors
    /// A document is no object, or the cluster refuses it.
    pub async fn apply(&self, manifests: &str) -> Result<Vec<DynamicObject>, Trouble> {
        let client = self.cluster.client(Actor::Gitops).await?;
        let documents: Vec<DynamicObject> = serde_saphyr::from_multiple(manifests)
            .map_err(|why| Trouble::Manifest(format!("the manifests of the test: {why}")))?;
        let mut applied = Vec::new();
        for document in documents {
            applied.push(self.apply_one(&client, document).await?);
        }
        Ok(applied)
    }

    async fn apply_one(
        &self,
        client: &Client,
        document: DynamicObject,
    ) -> Result<DynamicObject, Trouble> {
        let types = document.types.clone().unwrap_or_default();
        let name = document.metadata.name.clone().unwrap_or_default();
        let what = format!("apply {} {name}", types.kind);
        let kind = GroupVersionKind::try_from(&types)
            .map_err(|why| Trouble::Manifest(format!("{what}: {why}")))?;
        let (resource, capabilities) = pinned_kind(client, &kind)
            .await
            .map_err(Trouble::request(what.clone()))?;
        let api: Api<DynamicObject> = match (&capabilities.scope, &document.metadata.namespace) {
            (Scope::Cluster, _) => Api::all_with(client.clone(), &resource),
            (Scope::Namespaced, Some(namespace)) => {
                Api::namespaced_with(client.clone(), namespace, &resource)
            }
            (Scope::Namespaced, None) => {
                Api::namespaced_with(client.clone(), &self.name, &resource)
            }
        };
        let parameters = PatchParams::apply(Actor::Gitops.name()).force();
        api.patch(&name, &parameters, &Patch::Apply(&document))
            .await
            .map_err(Trouble::request(what))
    }

    /// Gives an actor the rights of a ClusterRole within this namespace.
    ///
    /// # Errors
    /// The cluster refuses.
    pub async fn grant(&self, actor: Actor, cluster_role: &str) -> Result<(), Trouble> {
        let group = "rbac.authorization.k8s.io";
        let binding = RoleBinding {
            metadata: ObjectMeta {
                generate_name: Some(format!("{}-", actor.name())),
                ..ObjectMeta::default()
            },
            role_ref: RoleRef {
                api_group: Some(group.to_owned()),
                kind: "ClusterRole".to_owned(),
                name: cluster_role.to_owned(),
            },
            subjects: Some(vec![Subject {
                api_group: Some(group.to_owned()),
                kind: "User".to_owned(),
                name: actor.name().to_owned(),
                namespace: None,
            }]),
        };
        self.api::<RoleBinding>()
            .create(&PostParams::default(), &binding)
            .await
            .map_err(Trouble::request(format!("grant {cluster_role}")))?;
        Ok(())
    }

    /// Waits until the object of this name is as `check` wants it, and returns it. `what` ends the sentence "waited in vain for …".
    ///
    /// # Errors
    /// It does not come about within two minutes, or the watch breaks off.
    pub async fn until<K>(
        &self,
        name: &str,
        what: &str,
        check: impl Fn(&K) -> bool,
    ) -> Result<K, Trouble>
    where
        K: Watched,
        K::DynamicType: Default,
    {
        let found = self
            .watch(name, what, |seen: Option<&K>| seen.is_some_and(&check))
            .await?;
        // The check has seen it.
        found.ok_or_else(|| Trouble::Manifest(format!("{name} is gone")))
    }

    /// Waits until there is no object of this kind and name.
    ///
    /// # Errors
    /// It is there for two minutes more, or the watch breaks off.
    pub async fn until_gone<K>(&self, name: &str) -> Result<(), Trouble>
    where
        K: Watched,
        K::DynamicType: Default,
    {
        let what = format!("the end of {name}");
        self.watch(name, &what, |seen: Option<&K>| seen.is_none())
            .await?;
        Ok(())
    }

    async fn watch<K>(
        &self,
        name: &str,
        what: &str,
        check: impl Fn(Option<&K>) -> bool,
    ) -> Result<Option<K>, Trouble>
    where
        K: Watched,
        K::DynamicType: Default,
    {
        let mut last: Option<K> = None;
        let seen = async {
            let mut versions = watch_object(self.api::<K>(), name).boxed();
            while let Some(version) = versions.next().await {
                // Whoever watches through a restart of the API server sees errors in between.
                let Ok(version) = version else {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                };
                last = version;
                if check(last.as_ref()) {
                    return true;
                }
            }
            false
        };
        if matches!(tokio::time::timeout(PATIENCE, seen).await, Ok(true)) {
            return Ok(last);
        }
        Err(Trouble::Timeout {
            seconds: PATIENCE.as_secs(),
            what: what.to_owned(),
            last: last
                .and_then(|object| serde_saphyr::to_string(&object).ok())
                .unwrap_or_else(|| "not there".to_owned()),
        })
    }
}

/// A kind of object in namespaces that can be watched.
pub trait Watched:
    Resource<Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Serialize
    + Send
    + 'static
{
}

impl<K> Watched for K where
    K: Resource<Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize
        + Send
        + 'static
{
}
