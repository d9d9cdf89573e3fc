//! A fake kubelet and scheduler: gives the pods of one namespace the life of real pods, as seen through the API server.
//!
//! A pod is bound to a fake node, is pending, runs, becomes ready (its readiness gates permitting), and goes gracefully when it is deleted. What else
//! befalls it is said by annotations on it, and so on the pod template; those that can change are obeyed while the pod lives:
//!
//! | annotation | value | meaning |
//! |---|---|---|
//! | [`STARTS_AFTER`] | duration | the containers start that long after the pod is bound |
//! | [`READY_AFTER`] | duration | they are ready that long after they started |
//! | [`READY`] | `false` | they are not ready, from now on |
//! | [`IMAGE`] | `missing` | the image cannot be pulled; so it is with any whose name contains `does-not-exist` |
//! | [`CRASHES_AFTER`] | duration | the containers exit with code 1 that long after each start |
//! | [`CRASHES`] | number | how often they do so; without it, always |
//! | [`RESTARTS_AFTER`] | duration | how long a crashed container waits before it starts again; 500 ms without it |
//! | [`STOPS_AFTER`] | duration | the containers take that long to end once they are asked to |
//! | [`SCHEDULABLE`] | `false` | no node takes it |
//!
//! Durations are written `300ms` or `1.5s`. Without annotations everything happens as soon as [`Pace`] lets it.
//!
//! Pods of Jobs are not simulated: their containers run as commands of this machine, and end with the exit codes of those.

mod behaviour;
mod command;
mod ending;
mod life;
mod pod;
mod status;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::{Node, NodeStatus, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::runtime::watcher::{self, Event};
use kube::{Client, ResourceExt};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::trouble::Trouble;

pub use behaviour::{
    CRASHES, CRASHES_AFTER, IMAGE, READY, READY_AFTER, RESTARTS_AFTER, SCHEDULABLE, STARTS_AFTER,
    STOPS_AFTER,
};

/// The fake nodes; pods are spread over them by uid, those of DaemonSets as these ask for it.
const NODES: [&str; 3] = ["fake-node-0", "fake-node-1", "fake-node-2"];

/// How long pods take where their annotations do not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// From bound to running.
    pub starts_after: Duration,
    /// From asked to end to gone.
    pub stops_after: Duration,
}

/// The life of all pods in one namespace; it stops when this is dropped, with the pods left as they are.
#[derive(Debug)]
pub struct Kubelet {
    _pods: JoinSet<()>,
}

impl Kubelet {
    /// Begins to look after the pods of a namespace. One kubelet looks after a namespace.
    ///
    /// # Errors
    /// The nodes cannot be created.
    pub async fn start(client: Client, namespace: &str, pace: Pace) -> Result<Self, Trouble> {
        for name in NODES {
            create_node(&client, name).await?;
        }
        let mut pods = JoinSet::new();
        pods.spawn(look_after(Api::namespaced(client, namespace), pace));
        Ok(Self { _pods: pods })
    }
}

async fn create_node(client: &Client, name: &str) -> Result<(), Trouble> {
    let room: BTreeMap<String, Quantity> = [("cpu", "1000"), ("memory", "1Ti"), ("pods", "10000")]
        .map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned())))
        .into();
    let node = Node {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some([("kubernetes.io/hostname".to_owned(), name.to_owned())].into()),
            ..ObjectMeta::default()
        },
        status: Some(NodeStatus {
            allocatable: Some(room.clone()),
            capacity: Some(room),
            ..NodeStatus::default()
        }),
        ..Node::default()
    };
    let nodes: Api<Node> = Api::all(client.clone());
    match nodes.create(&PostParams::default(), &node).await {
        // All tests of a run share the nodes.
        Err(kube::Error::Api(refusal)) if refusal.code == 409 => Ok(()),
        Err(why) => Err(Trouble::request(format!("node {name}"))(why)),
        Ok(_) => Ok(()),
    }
}

/// Hands every version of a pod to the task that lives its life; one task a pod.
async fn look_after(api: Api<Pod>, pace: Pace) {
    let mut lives = JoinSet::new();
    let mut known: BTreeMap<String, watch::Sender<Arc<Pod>>> = BTreeMap::new();
    let mut listed: BTreeSet<String> = BTreeSet::new();
    let mut events = watcher::watcher(api.clone(), watcher::Config::default()).boxed();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitDone) => known.retain(|uid, _| listed.contains(uid)),
            Ok(Event::InitApply(pod) | Event::Apply(pod)) => {
                let uid = pod.uid().unwrap_or_default();
                listed.insert(uid.clone());
                let pod = Arc::new(pod);
                if let Some(versions) = known.get(&uid) {
                    versions.send_replace(pod);
                } else {
                    let (versions, seen) = watch::channel(pod);
                    known.insert(uid, versions);
                    lives.spawn(pod::live(api.clone(), seen, pace));
                }
            }
            // The task sees that nobody tells it anything any more, and ends.
            Ok(Event::Delete(pod)) => {
                known.remove(&pod.uid().unwrap_or_default());
            }
            // The API server is away; the watcher begins again.
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
        while lives.try_join_next().is_some() {}
    }
}
