//! A namespace with a running controller, and the objects in it as tests look at them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use crossfade_kube::{Controller, Settings};
use crossfade_test_cluster::{Actor, Cluster, Namespace, Trouble};
use futures_util::StreamExt as _;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Event, Service};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The roles that are shipped.
const ROLE: &str = include_str!("../../../../deploy/rbac/role.yaml");
const ACCOUNT: &str = include_str!("../../../../deploy/controller/account.yaml");

macro_rules! kinds {
    ($($(#[$meta:meta])* $name:ident, $group:literal, $version:literal, $plural:literal;)*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, Deserialize, Serialize)]
        #[serde(rename_all = "camelCase")]
        pub(crate) struct $name {
            api_version: String,
            kind: String,
            pub(crate) metadata: ObjectMeta,
            #[serde(default)]
            pub(crate) spec: Value,
            #[serde(default)]
            pub(crate) status: Value,
        }

        impl Resource for $name {
            type DynamicType = ();
            type Scope = NamespaceResourceScope;
            fn kind((): &()) -> Cow<'_, str> {
                stringify!($name).into()
            }
            fn group((): &()) -> Cow<'_, str> {
                $group.into()
            }
            fn version((): &()) -> Cow<'_, str> {
                $version.into()
            }
            fn plural((): &()) -> Cow<'_, str> {
                $plural.into()
            }
            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }
            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    )*};
}

kinds! {
    /// A Rollout as the API server shows it.
    Rollout, "argoproj.io", "v1alpha1", "rollouts";
    /// An AnalysisRun as the API server shows it.
    AnalysisRun, "argoproj.io", "v1alpha1", "analysisruns";
    /// An Experiment as the API server shows it.
    Experiment, "argoproj.io", "v1alpha1", "experiments";
    /// A Canary as the API server shows it.
    Canary, "flagger.app", "v1beta1", "canaries";
}

impl Rollout {
    pub(crate) fn phase(&self) -> &str {
        self.status["phase"].as_str().unwrap_or_default()
    }

    pub(crate) fn message(&self) -> &str {
        self.status["message"].as_str().unwrap_or_default()
    }

    /// All pods are of the present version, and that is the stable one.
    pub(crate) fn is_healthy(&self) -> bool {
        self.is_observed()
            && self.phase() == "Healthy"
            && self.status["stableRS"] == self.status["currentPodHash"]
    }

    /// The status is about the present spec.
    pub(crate) fn is_observed(&self) -> bool {
        let generation = self.metadata.generation.unwrap_or(0).to_string();
        self.status["observedGeneration"] == *generation
    }

    /// It waits at this step for a person or a time.
    pub(crate) fn is_paused_at(&self, step: i64) -> bool {
        self.is_observed() && self.phase() == "Paused" && self.status["currentStepIndex"] == step
    }

    /// The condition of this type, if there is one.
    pub(crate) fn condition(&self, kind: &str) -> Option<&Value> {
        let conditions = self.status["conditions"].as_array()?;
        conditions
            .iter()
            .find(|condition| condition["type"] == kind)
    }
}

/// A namespace in which Crossfade works.
pub(crate) struct Stage {
    pub(crate) namespace: Namespace,
    controller: Option<Controller>,
}

impl Stage {
    /// A new one, with a controller of its own.
    pub(crate) async fn new() -> Result<Self, Trouble> {
        let mut stage = Self::without_controller().await?;
        stage.namespace.grant(Actor::Crossfade, "crossfade").await?;
        stage.start().await?;
        Ok(stage)
    }

    /// A new one in which nobody works yet.
    pub(crate) async fn without_controller() -> Result<Self, Trouble> {
        let namespace = Namespace::new().await?;
        install(namespace.cluster()).await?;
        Ok(Self {
            namespace,
            controller: None,
        })
    }

    /// In a namespace on a control plane of a test's own, in which nobody works yet.
    pub(crate) async fn on(namespace: Namespace) -> Result<Self, Trouble> {
        let client = namespace.cluster().client(Actor::Admin).await?;
        install_once(client).await;
        Ok(Self::in_defined(namespace))
    }

    /// In a namespace on a control plane that knows our kinds already.
    pub(crate) fn in_defined(namespace: Namespace) -> Self {
        Self {
            namespace,
            controller: None,
        }
    }

    /// Teaches the API server a kind.
    pub(crate) async fn define(&self, definition: Value) -> Result<(), Trouble> {
        let client = self.namespace.cluster().client(Actor::Admin).await?;
        let definitions: Api<CustomResourceDefinition> = Api::all(client);
        let name = definition["metadata"]["name"].as_str().unwrap().to_owned();
        let parameters = PatchParams::apply("test").force();
        definitions
            .patch(&name, &parameters, &Patch::Apply(&definition))
            .await
            .unwrap();
        let established = conditions::is_crd_established();
        await_condition(definitions, &name, established)
            .await
            .unwrap();
        Ok(())
    }

    /// Starts the controller.
    pub(crate) async fn start(&mut self) -> Result<(), Trouble> {
        self.controller = Some(self.controller(Settings::default()).await?);
        Ok(())
    }

    /// A controller of this namespace, set up otherwise than usual.
    pub(crate) async fn controller(&self, settings: Settings) -> Result<Controller, Trouble> {
        let client = self.namespace.cluster().client(Actor::Crossfade).await?;
        let settings = Settings {
            namespaces: vec![self.namespace.name().to_owned()],
            ..settings
        };
        Ok(Controller::start(client, settings).await.unwrap())
    }

    /// Gives Crossfade the shipped role without any right to this resource.
    pub(crate) async fn grant_without(&self, resource: &str) -> Result<(), Trouble> {
        let mut role: Value = serde_saphyr::from_str(ROLE).unwrap();
        for rule in role["rules"].as_array_mut().unwrap() {
            let resources = rule["resources"].as_array_mut().unwrap();
            resources.retain(|one| one.as_str().unwrap().split('/').next() != Some(resource));
        }
        let rules = role["rules"].as_array_mut().unwrap();
        rules.retain(|rule| rule["resources"] != json!([]));
        let name = format!("crossfade-without-{resource}");
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": name},
            "rules": rules,
        });
        let client = self.namespace.cluster().client(Actor::Admin).await?;
        let parameters = PatchParams::apply("test").force();
        Api::<ClusterRole>::all(client)
            .patch(&name, &parameters, &Patch::Apply(&role))
            .await
            .unwrap();
        self.namespace.grant(Actor::Crossfade, &name).await
    }

    /// Stops the controller, and returns when nothing of it is left.
    pub(crate) async fn stop(&mut self) {
        if let Some(controller) = self.controller.take() {
            controller.stop().await;
        }
    }

    /// Waits until the Rollout is as `check` wants it.
    pub(crate) async fn until(
        &self,
        name: &str,
        what: &str,
        check: impl Fn(&Rollout) -> bool,
    ) -> Result<Rollout, Trouble> {
        self.namespace.until(name, what, check).await
    }

    /// Waits until a release has come to its end.
    pub(crate) async fn until_healthy(&self, name: &str) -> Result<Rollout, Trouble> {
        self.until(name, "a healthy Rollout", Rollout::is_healthy)
            .await
    }

    /// Changes an object as a person does.
    pub(crate) async fn merge<K>(&self, name: &str, patch: Value)
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
        K::DynamicType: Default,
    {
        let (parameters, patch) = (PatchParams::default(), Patch::Merge(patch));
        let objects = self.namespace.api::<K>();
        objects.patch(name, &parameters, &patch).await.unwrap();
    }

    /// Changes a Rollout as a person does.
    pub(crate) async fn change(&self, name: &str, patch: Value) {
        self.merge::<Rollout>(name, patch).await;
    }

    /// Changes a Rollout's status as the command line does.
    pub(crate) async fn change_status(&self, name: &str, patch: Value) {
        let rollouts = self.namespace.api::<Rollout>();
        let patch = Patch::Merge(json!({"status": patch}));
        rollouts
            .patch_status(name, &PatchParams::default(), &patch)
            .await
            .unwrap();
    }

    /// The image of each ReplicaSet's pods, with the number of pods wanted.
    pub(crate) async fn sizes(&self) -> BTreeMap<String, i32> {
        let sets = self.namespace.api::<ReplicaSet>();
        let sets = sets.list(&ListParams::default()).await.unwrap();
        let size = |set: ReplicaSet| {
            let spec = set.spec.unwrap();
            let pods = spec.template.unwrap().spec.unwrap();
            (
                pods.containers[0].image.clone().unwrap(),
                spec.replicas.unwrap(),
            )
        };
        sets.into_iter().map(size).collect()
    }

    /// The version that a Service selects.
    pub(crate) async fn selected(&self, service: &str) -> String {
        let service = self.namespace.api::<Service>().get(service).await.unwrap();
        let selector = service.spec.unwrap().selector.unwrap_or_default();
        selector
            .get("rollouts-pod-template-hash")
            .cloned()
            .unwrap_or_default()
    }

    /// Texts of the Events about objects of a kind.
    pub(crate) async fn told(&self, kind: &str) -> Vec<String> {
        let events = self.namespace.api::<Event>();
        let events = events.list(&ListParams::default()).await.unwrap();
        let of_kind = events
            .into_iter()
            .filter(|event| event.involved_object.kind.as_deref() == Some(kind));
        of_kind.filter_map(|event| event.message).collect()
    }

    /// Waits until an Event about an object of a kind says something.
    pub(crate) async fn until_told(&self, kind: &str, text: &str) {
        let says = |event: &Event| {
            let message = event.message.as_deref();
            message.is_some_and(|message| message.contains(text))
        };
        self.until_event(kind, text, says).await;
    }

    /// Waits until an Event about an object of a kind has a reason.
    pub(crate) async fn until_reason(&self, kind: &str, reason: &str) {
        let has = |event: &Event| event.reason.as_deref() == Some(reason);
        self.until_event(kind, reason, has).await;
    }

    async fn until_event(&self, kind: &str, what: &str, is: impl Fn(&Event) -> bool) {
        let events = watcher::watcher(self.namespace.api::<Event>(), watcher::Config::default());
        let mut events = events.default_backoff().boxed();
        let told = async {
            while let Some(event) = events.next().await {
                // The watcher begins again after an error.
                let Ok(watcher::Event::Apply(event) | watcher::Event::InitApply(event)) = event
                else {
                    continue;
                };
                if event.involved_object.kind.as_deref() == Some(kind) && is(&event) {
                    return;
                }
            }
        };
        let came = tokio::time::timeout(Duration::from_mins(2), told).await;
        assert!(
            came.is_ok(),
            "{what} is never told, but {:#?}",
            self.told(kind).await
        );
    }

    /// The writes that Crossfade has asked for, Events apart: verb, resource, status code.
    pub(crate) fn writes(&self) -> Vec<(String, String, u16)> {
        let cluster = self.namespace.cluster();
        let requests = cluster
            .requests(Actor::Crossfade, self.namespace.name())
            .unwrap();
        requests
            .unwrap_or_default()
            .into_iter()
            .filter(|request| !["get", "list", "watch"].contains(&request.verb.as_str()))
            .filter(|request| request.resource != "events")
            .map(|request| (request.verb, request.resource, request.code))
            .collect()
    }
}

/// Gives Crossfade the shipped role in all namespaces of a control plane of a test's own.
pub(crate) async fn everywhere(cluster: &Cluster) -> Result<(), Trouble> {
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "everywhere"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "crossfade"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": Actor::Crossfade.name()}],
    });
    let binding: ClusterRoleBinding = serde_json::from_value(binding).unwrap();
    let bindings: Api<ClusterRoleBinding> = Api::all(cluster.client(Actor::Admin).await?);
    bindings
        .create(&PostParams::default(), &binding)
        .await
        .unwrap();
    Ok(())
}

/// The definitions of the kinds and the role, once for all tests of this process.
async fn install(cluster: &Cluster) -> Result<(), Trouble> {
    static DONE: tokio::sync::OnceCell<()> = tokio::sync::OnceCell::const_new();
    let client = cluster.client(Actor::Admin).await?;
    DONE.get_or_init(|| install_once(client)).await;
    Ok(())
}

async fn install_once(client: Client) {
    let parameters = PatchParams::apply("test").force();
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in crossfade_api::crd::crds() {
        let name = definition.metadata.name.clone().unwrap();
        let patch = Patch::Apply(&definition);
        definitions.patch(&name, &parameters, &patch).await.unwrap();
        let established = conditions::is_crd_established();
        await_condition(definitions.clone(), &name, established)
            .await
            .unwrap();
    }
    let roles: Api<ClusterRole> = Api::all(client);
    let role: Value = serde_saphyr::from_str(ROLE).unwrap();
    let account: Vec<Value> = serde_saphyr::from_multiple(ACCOUNT).unwrap();
    let mut account = account.into_iter();
    let lease = account.find(|manifest| manifest["kind"] == "Role").unwrap();
    for (name, manifest) in [("crossfade", role), ("crossfade-lease", lease)] {
        let patch = Patch::Apply(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": name},
            "rules": manifest["rules"],
        }));
        roles.patch(name, &parameters, &patch).await.unwrap();
    }
}
