//! A namespace full of Rollouts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crossfade_test_cluster::kubelet::Pace;
use crossfade_test_cluster::{Actor, Cluster, Namespace};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use kube::Client;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::board::Board;
use crate::history::{History, objects};
use crate::manifests::{self, Kind};
use crate::program::{Options, Program, free_port, tail};
use crate::{Outcome, Requests};

/// Requests of ours that are under way at once.
const AT_ONCE: usize = 16;
/// Where the API server has Rollouts.
const ROLLOUT: (&str, &str, &str) = ("argoproj.io", "v1alpha1", "Rollout");

/// Which Rollouts are made.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// What their names begin with.
    pub prefix: &'static str,
    /// How many.
    pub rollouts: usize,
    /// How they release.
    pub kind: Kind,
    /// Pods of each.
    pub replicas: u32,
}

impl Shape {
    /// The names of its Rollouts.
    pub fn names(&self) -> Vec<String> {
        (0..self.rollouts)
            .map(|number| format!("{}-{number}", self.prefix))
            .collect()
    }
}

/// A namespace full of Rollouts, with nodes whose pods take as long as real small ones.
pub struct Fleet {
    namespace: Namespace,
    client: Client,
    board: Board,
    folder: TempDir,
    program: PathBuf,
}

impl Fleet {
    /// A new namespace on this cluster, for controllers that are this program. Templates that ask `answers` are there.
    ///
    /// # Errors
    /// The cluster refuses.
    pub async fn new(
        cluster: Cluster,
        pace: Pace,
        program: PathBuf,
        answers: SocketAddr,
    ) -> Outcome<Self> {
        crate::install(&cluster).await?;
        let client = cluster.client(Actor::Admin).await?;
        let namespace = Namespace::on(cluster, pace).await?;
        let board = Board::new(objects(&client, namespace.name(), ROLLOUT));
        let fleet = Self {
            namespace,
            client,
            board,
            folder: tempfile::tempdir()?,
            program,
        };
        for template in manifests::templates(answers) {
            fleet.create(&template).await?;
        }
        Ok(fleet)
    }

    /// Its namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// What is seen of its Rollouts.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// How a controller for this namespace is started, as this user, with a Lease that lasts that long.
    ///
    /// # Errors
    /// There is no free port.
    pub fn options(&self, actor: Actor, lease: Duration) -> Outcome<Options> {
        Ok(Options {
            program: self.program.clone(),
            kubeconfig: self.namespace.cluster().kubeconfig().to_owned(),
            context: actor.name().to_owned(),
            namespaces: vec![self.namespace.name().to_owned()],
            lease: Some((self.namespace.name().to_owned(), lease)),
            metrics_port: free_port()?,
            health_port: free_port()?,
            log: self.log(actor),
        })
    }

    /// Starts a controller for this namespace.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&self, actor: Actor, lease: Duration) -> Outcome<Program> {
        Program::start(&self.options(actor, lease)?)
    }

    /// Where the log of this user's controllers is.
    pub fn log(&self, actor: Actor) -> PathBuf {
        self.folder.path().join(format!("{}.log", actor.name()))
    }

    /// The end of that log.
    pub fn last_words(&self, actor: Actor) -> String {
        tail(&self.log(actor))
    }

    /// Every version of the objects of a kind (group, version, kind) from now on.
    pub fn history(&self, kind: (&str, &str, &str)) -> History {
        History::new(objects(&self.client, self.namespace.name(), kind))
    }

    /// The objects of a kind (group, version, kind) as they are now.
    ///
    /// # Errors
    /// The cluster refuses.
    pub async fn list(&self, kind: (&str, &str, &str)) -> Outcome<Vec<Value>> {
        let objects = objects(&self.client, self.namespace.name(), kind);
        let list = objects.list(&kube::api::ListParams::default()).await?;
        let objects = list.items.iter().map(serde_json::to_value);
        Ok(objects.collect::<Result<_, _>>()?)
    }

    /// What is seen of the objects of a kind (group, version, kind) from now on.
    pub fn board_of(&self, kind: (&str, &str, &str)) -> Board {
        Board::new(objects(&self.client, self.namespace.name(), kind))
    }

    /// Creates objects, those of a list one after the other.
    ///
    /// # Errors
    /// The cluster refuses.
    pub async fn create_lists(&self, lists: impl IntoIterator<Item = Vec<Value>>) -> Outcome<()> {
        stream::iter(lists)
            .map(async |list| {
                for object in list {
                    self.create(&object).await?;
                }
                Outcome::Ok(())
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await
    }

    /// Changes objects of a kind (group, version, kind) as a person does, all in the same way.
    ///
    /// # Errors
    /// The cluster refuses.
    pub async fn change_all(
        &self,
        kind: (&str, &str, &str),
        names: &[String],
        change: &Value,
    ) -> Outcome<()> {
        let objects = objects(&self.client, self.namespace.name(), kind);
        let parameters = PatchParams::default();
        stream::iter(names)
            .map(async |name| {
                let change = Patch::Merge(change);
                objects.patch(name, &parameters, &change).await?;
                Outcome::Ok(())
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await
    }

    /// Creates Rollouts of a first version with what they name.
    ///
    /// # Errors
    /// The cluster refuses.
    pub async fn create_all(&self, shape: Shape) -> Outcome<()> {
        let names = shape.names().into_iter();
        let lists = names.map(|name| manifests::rollout(&name, shape.kind, shape.replicas, 1));
        self.create_lists(lists).await
    }

    /// Creates so many Rollouts without pods, each with three ReplicaSets, the last of which is the stable one.
    ///
    /// # Errors
    /// The cluster refuses.
    pub async fn create_resting(&self, rollouts: usize) -> Outcome<()> {
        stream::iter(0..rollouts)
            .map(async |number| {
                let name = format!("rest-{number}");
                for object in manifests::rollout(&name, Kind::Plain, 0, 3) {
                    let made = self.create(&object).await?;
                    let uid = made.metadata.uid.unwrap_or_default();
                    for version in 1..=3 {
                        let set = manifests::resting_set(&name, &uid, version);
                        self.create(&set).await?;
                    }
                }
                Outcome::Ok(())
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await
    }

    /// Gives Rollouts another version.
    ///
    /// # Errors
    /// The cluster refuses.
    pub async fn update_all(&self, names: &[String], version: u32) -> Outcome<()> {
        stream::iter(names)
            .map(async |name| self.update(name, version).await)
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await
    }

    /// Gives a Rollout another version.
    ///
    /// # Errors
    /// The cluster refuses.
    pub async fn update(&self, name: &str, version: u32) -> Outcome<()> {
        let containers = json!([{"name": "main", "image": manifests::image(version)}]);
        let change = json!({"spec": {"template": {"spec": {"containers": containers}}}});
        self.change(name, change).await
    }

    /// Changes a Rollout as a person does.
    ///
    /// # Errors
    /// The cluster refuses.
    pub async fn change(&self, name: &str, change: Value) -> Outcome<()> {
        let rollouts = objects(&self.client, self.namespace.name(), ROLLOUT);
        let parameters = PatchParams::default();
        rollouts
            .patch(name, &parameters, &Patch::Merge(change))
            .await?;
        Ok(())
    }

    /// Waits until all of these have released a version to its end.
    ///
    /// # Errors
    /// Nothing has happened for two minutes.
    pub async fn until_released(&self, names: &[String], version: u32) -> Outcome<()> {
        let image = manifests::image(version);
        let patience = Duration::from_mins(2);
        self.board
            .until_all(names, "releases to end", patience, |seen| {
                seen.is_released() && seen.image() == image
            })
            .await
    }

    /// What this user has asked the API server for within the namespace.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn requests(&self, actor: Actor) -> Outcome<Requests> {
        let cluster = self.namespace.cluster();
        let requests = cluster.requests(actor, self.namespace.name())?;
        Ok(Requests(requests.unwrap_or_default()))
    }

    /// What this user has asked the API server for, wherever.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn all_requests(&self, actor: Actor) -> Outcome<Requests> {
        let requests = self.namespace.cluster().all_requests(actor)?;
        Ok(Requests(requests.unwrap_or_default()))
    }

    async fn create(&self, object: &Value) -> Outcome<DynamicObject> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
        let api_version = text("/apiVersion").unwrap_or_default();
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let kind = text("/kind").unwrap_or_default();
        let api = objects(&self.client, self.namespace.name(), (group, version, kind));
        let object = serde_json::from_value(object.clone())?;
        Ok(api.create(&PostParams::default(), &object).await?)
    }
}
