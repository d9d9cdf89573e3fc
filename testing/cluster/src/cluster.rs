//! The cluster that a test speaks to, and as whom.

use std::path::PathBuf;

use crossfade_test_controlplane::{ACTORS, Access, ControlPlane, shared};
use kube::Client;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};

use crate::audit::{self, Request};
use crate::trouble::Trouble;

/// Who speaks to the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// May do everything.
    Admin,
    /// All nodes, and the scheduler. May do everything.
    Kubelet,
    /// Applies manifests from a repository, again and again. May do everything.
    Gitops,
    /// A person with no rights but those that the test gives.
    Developer,
    /// Crossfade. No rights but those that the test gives.
    Crossfade,
    /// A second Crossfade that competes with the first.
    CrossfadeOther,
}

impl Actor {
    /// The user as the API server knows it.
    pub fn name(self) -> &'static str {
        ACTORS[match self {
            Self::Admin => 0,
            Self::Kubelet => 1,
            Self::Gitops => 2,
            Self::Developer => 3,
            Self::Crossfade => 4,
            Self::CrossfadeOther => 5,
        }]
    }

    /// The groups to take part in where an actor comes by impersonation.
    fn groups(self) -> Option<Vec<String>> {
        matches!(self, Self::Admin | Self::Kubelet | Self::Gitops)
            .then(|| vec!["system:masters".to_owned()])
    }
}

/// An API server with the built-in controllers.
#[derive(Clone, Debug)]
pub struct Cluster {
    kubeconfig: PathBuf,
    impersonate_from: Option<&'static str>,
    audit: Option<PathBuf>,
}

impl Cluster {
    /// The one that the tests of this run share. The first who asks waits until it has started (seconds) or been built (minutes).
    ///
    /// # Errors
    /// It could not be built or started.
    pub async fn shared() -> Result<Self, Trouble> {
        let access = tokio::task::spawn_blocking(shared)
            .await
            .map_err(|why| Trouble::NoControlPlane(why.to_string()))?
            .map_err(Trouble::NoControlPlane)?;
        let Access {
            kubeconfig,
            impersonate_from,
            audit,
        } = access.clone();
        Ok(Self {
            kubeconfig,
            impersonate_from,
            audit,
        })
    }

    /// One of one's own, for a test that stops it or lets it forget; it lives as long as the second value.
    ///
    /// # Errors
    /// It could not be built or started.
    pub async fn own() -> Result<(Self, ControlPlane), Trouble> {
        let plane = tokio::task::spawn_blocking(ControlPlane::start)
            .await
            .map_err(|why| Trouble::NoControlPlane(why.to_string()))?
            .map_err(Trouble::NoControlPlane)?;
        let cluster = Self {
            kubeconfig: plane.ready().kubeconfig.clone(),
            impersonate_from: None,
            audit: Some(plane.ready().audit.clone()),
        };
        Ok((cluster, plane))
    }

    /// The kubeconfig, for programs that a test starts; its contexts are named for the actors, unless the cluster is somebody else's.
    pub fn kubeconfig(&self) -> &std::path::Path {
        &self.kubeconfig
    }

    /// How an actor reaches the API server; for clients with settings of their own.
    ///
    /// # Errors
    /// The kubeconfig cannot be used.
    pub async fn config(&self, actor: Actor) -> Result<Config, Trouble> {
        let mut kubeconfig = Kubeconfig::read_from(&self.kubeconfig)?;
        let context = self.impersonate_from.unwrap_or(actor.name());
        if self.impersonate_from.is_some() {
            for user in &mut kubeconfig.auth_infos {
                let user = user.auth_info.get_or_insert_default();
                user.impersonate = Some(actor.name().to_owned());
                user.impersonate_groups = actor.groups();
            }
        }
        let options = KubeConfigOptions {
            context: Some(context.to_owned()),
            ..KubeConfigOptions::default()
        };
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
        // A refusal is an answer: a test that is told of a disruption budget must not ask for minutes.
        config.default_retry = false;
        Ok(config)
    }

    /// A client that speaks as this actor. It belongs to the runtime in which it was made.
    ///
    /// # Errors
    /// The kubeconfig cannot be used.
    pub async fn client(&self, actor: Actor) -> Result<Client, Trouble> {
        // Another test may have said so already; it is the same for all.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Client::try_from(self.config(actor).await?).map_err(Trouble::request("a client"))
    }

    /// What an actor has asked the API server for so far within a namespace, in order. Only Crossfade's requests are logged; `None` on a cluster
    /// of somebody else's.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn requests(&self, actor: Actor, namespace: &str) -> Result<Option<Vec<Request>>, Trouble> {
        self.logged(actor, Some(namespace))
    }

    /// What an actor has asked the API server for so far, wherever, in order; otherwise as [`Cluster::requests`].
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn all_requests(&self, actor: Actor) -> Result<Option<Vec<Request>>, Trouble> {
        self.logged(actor, None)
    }

    fn logged(
        &self,
        actor: Actor,
        namespace: Option<&str>,
    ) -> Result<Option<Vec<Request>>, Trouble> {
        let Some(path) = &self.audit else {
            return Ok(None);
        };
        let text = std::fs::read_to_string(path)
            .map_err(|why| Trouble::File(format!("{}: {why}", path.display())))?;
        Ok(Some(audit::requests(&text, actor.name(), namespace)))
    }
}
