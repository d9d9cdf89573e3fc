//! What a plan says is what an API server takes: creations and patches are accepted, a version that has passed is a conflict, and what the server fills
//! in is no difference.

use std::sync::Arc;

use crossfade_api::split::{Destination, Split};
use crossfade_api::traffic_routing::TrafficRouting;
use crossfade_api::words::{PodHash, Weight};
use crossfade_test_cluster::{Actor, Namespace, Trouble};
use crossfade_traffic::{
    Need, ObjectRef, Observed, Plan, Router, Settings, Subject, Write, routers,
};
use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

const INGRESS: &str = "apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec:
  ingressClassName: nginx
  rules:
  - host: shop.example
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: shop-stable, port: {number: 80}}}}]}
";

/// Whose objects a router makes. The garbage collector takes away what belongs to nobody that exists.
const ROLLOUT: &str = "apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {name: shop}
spec: {}
";

/// A VirtualService to an API server that knows nothing of what is in it. The tests of other programs run on the same one at the same time, and some of them
/// need the other version.
const ISTIO: &str = "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: virtualservices.networking.istio.io}
spec:
  group: networking.istio.io
  scope: Namespaced
  names: {kind: VirtualService, plural: virtualservices, singular: virtualservice}
  versions:
  - name: v1alpha3
    served: true
    storage: true
    schema: &anything {openAPIV3Schema: {type: object, properties: {
      spec: {type: object, x-kubernetes-preserve-unknown-fields: true},
      status: {type: object, x-kubernetes-preserve-unknown-fields: true},
    }}}
  - name: v1beta1
    served: true
    storage: false
    schema: *anything
";

const VIRTUAL_SERVICE: &str = "apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: shop}
spec:
  hosts: [shop.example]
  http:
  - name: main
    timeout: 5s
    route:
    - {destination: {host: shop-stable}, weight: 100}
    - {destination: {host: shop-canary}, weight: 0}
";

fn split(weight: i32) -> Split {
    let side = |weight, service: &str, hash| Destination {
        weight: Weight(weight),
        service: service.to_owned(),
        hash: PodHash::from(hash),
    };
    Split {
        max: Weight(100),
        canary: side(weight, "shop-canary", "new"),
        stable: side(100 - weight, "shop-stable", "old"),
        ..Split::default()
    }
}

struct World {
    client: Client,
    namespace: Namespace,
    router: Box<dyn Router>,
    uid: String,
}

impl World {
    async fn new(routing: Value) -> Result<Self, Trouble> {
        let namespace = Namespace::new().await?;
        let routing: TrafficRouting = serde_json::from_value(routing).expect("a router");
        let mut routers = routers(&routing, &Settings::default());
        for (_, definition) in crossfade_api::crd::render_all() {
            namespace.apply(&definition).await?;
        }
        let rollout = served(&namespace, ROLLOUT).await;
        Ok(Self {
            client: namespace.cluster().client(Actor::Admin).await?,
            router: routers.remove(0),
            uid: rollout.metadata.uid.unwrap_or_default(),
            namespace,
        })
    }

    fn subject(&self) -> Subject<'_> {
        Subject {
            namespace: self.namespace.name(),
            name: "shop",
            uid: &self.uid,
            replicas: 10,
            canary_service: "shop-canary",
            stable_service: "shop-stable",
            former_additional: &[],
        }
    }

    fn api(&self, object: &ObjectRef) -> Api<DynamicObject> {
        let kind = &object.kind;
        let kind = GroupVersionKind::gvk(&kind.group, &kind.version, &kind.kind);
        let resource = ApiResource::from_gvk_with_plural(&kind, &object.kind.plural);
        Api::namespaced_with(self.client.clone(), &object.namespace, &resource)
    }

    async fn observe(&self) -> kube::Result<Observed> {
        let mut observed = Observed::default();
        for need in self.router.needs(&self.subject(), &split(0)) {
            let Need::Object(object) = need else { continue };
            if let Some(there) = self.api(&object).get_opt(&object.name).await? {
                let there = serde_json::to_value(there).expect("an object is JSON");
                observed.objects.insert(object, Arc::new(there));
            }
        }
        Ok(observed)
    }

    async fn plan(&self, weight: i32) -> kube::Result<Plan> {
        let observed = self.observe().await?;
        Ok(self.router.plan(&self.subject(), &observed, &split(weight)))
    }

    async fn perform(&self, plan: Plan) -> kube::Result<()> {
        assert_eq!(plan.errors, []);
        for change in plan.changes {
            let api = self.api(&change.object);
            match change.write {
                Write::Create(made) => {
                    let made: DynamicObject = serde_json::from_value(*made).expect("an object");
                    api.create(&PostParams::default(), &made).await?;
                }
                Write::Patch(operations) => {
                    let operations = serde_json::from_value(operations).expect("a JSON patch");
                    let patch: Patch<DynamicObject> = Patch::Json(operations);
                    let parameters = PatchParams::default();
                    api.patch(&change.object.name, &parameters, &patch).await?;
                }
            }
        }
        Ok(())
    }

    /// Brings the objects from 0 to 30, once by a plan that has grown old in between.
    async fn release(&self, kind: &str, name: &str) -> kube::Result<Value> {
        self.perform(self.plan(0).await?).await?;
        assert!(
            self.plan(0).await?.is_done(),
            "what the server filled in is no difference"
        );
        let old = self.plan(5).await?;
        let object = old
            .changes
            .iter()
            .map(|change| change.object.clone())
            .next();
        let object = object.expect("a change");
        assert_eq!(
            (object.kind.kind.as_str(), object.name.as_str()),
            (kind, name)
        );
        let note = json!({"metadata": {"annotations": {"example.com/note": "mine"}}});
        let api = self.api(&object);
        api.patch(name, &PatchParams::default(), &Patch::Merge(&note))
            .await?;
        let refusal = self.perform(old).await;
        assert!(
            matches!(&refusal, Err(kube::Error::Api(status)) if status.code == 409),
            "somebody else was faster: {refusal:?}"
        );
        self.perform(self.plan(30).await?).await?;
        assert!(self.plan(30).await?.is_done());
        let after = serde_json::to_value(api.get(name).await?).expect("an object is JSON");
        assert_eq!(after["metadata"]["annotations"]["example.com/note"], "mine");
        Ok(after)
    }
}

/// Applies an object of a kind that was defined just now: it is served a moment after it is known.
async fn served(namespace: &Namespace, manifest: &str) -> DynamicObject {
    let begun = std::time::Instant::now();
    loop {
        match namespace.apply(manifest).await {
            Ok(mut applied) => return applied.remove(0),
            Err(why) => assert!(begun.elapsed().as_secs() < 60, "{why}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_canary_ingress_is_made_and_changed() -> Result<(), Box<dyn std::error::Error>> {
    let world = World::new(json!({"nginx": {"stableIngress": "web"}})).await?;
    world.namespace.apply(INGRESS).await?;
    let canary = world.release("Ingress", "shop-web-canary").await?;
    let weight = &canary["metadata"]["annotations"]["nginx.ingress.kubernetes.io/canary-weight"];
    assert_eq!(*weight, "30");
    Ok(())
}

#[tokio::test]
async fn a_virtual_service_is_changed() -> Result<(), Box<dyn std::error::Error>> {
    let world = World::new(json!({"istio": {"virtualService": {"name": "shop"}}})).await?;
    world.namespace.apply(ISTIO).await?;
    served(&world.namespace, VIRTUAL_SERVICE).await;
    let service = world.release("VirtualService", "shop").await?;
    assert_eq!(service["spec"]["http"][0]["timeout"], "5s");
    assert_eq!(service["spec"]["http"][0]["route"][1]["weight"], 30);
    Ok(())
}
