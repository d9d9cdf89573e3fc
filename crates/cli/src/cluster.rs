//! The way to a Kubernetes cluster, as kubectl finds it.
//!
//! A file and a context say where the API server is and who asks; options on the command line win over both. The connection is made
//! with the first request.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use crossfade_host::client::{Carried, Carrier, CarrierError};
use http::Request;
use http_body_util::BodyExt as _;
use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::sync::OnceCell;

use crate::error::{CliError, Result};
use crate::exit;
use crate::global::Kubernetes;

/// A cluster that is meant.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    source: Source,
    options: Kubernetes,
    token: Option<String>,
    namespace: String,
}

/// Where the way to the cluster is written.
#[derive(Clone, Debug)]
enum Source {
    File(Box<Kubeconfig>),
    /// The service account of the pod that this runs in.
    Pod,
}

impl Cluster {
    /// The cluster that the options, `KUBECONFIG` or kubectl's usual file name; `None` when nothing names one.
    ///
    /// # Errors
    /// For a file that is missing or cannot be read, and for a context that it does not have.
    pub(crate) fn named(options: &Kubernetes, token: Option<&str>) -> Result<Option<Self>> {
        let file = match (&options.kubeconfig, std::env::var_os("KUBECONFIG")) {
            (Some(path), _) => Some(Kubeconfig::read_from(path)),
            (None, Some(paths)) if !paths.is_empty() => Kubeconfig::from_env().transpose(),
            _ => usual_file()
                .filter(|path| path.exists())
                .map(Kubeconfig::read_from),
        };
        let file = file
            .transpose()
            .map_err(|error| unusable(&error.to_string()))?
            .or_else(|| options.server.is_some().then(Kubeconfig::default));
        let Some(file) = file else {
            return match options.names_a_cluster() {
                None => Ok(None),
                Some(option) => Err(unusable(&format!("{option} needs one, and there is none"))),
            };
        };
        let context = options.context.as_ref().or(file.current_context.as_ref());
        let context = context.filter(|name| !name.is_empty());
        let found = context.and_then(|name| file.contexts.iter().find(|one| one.name == *name));
        if let (Some(name), None) = (context, found) {
            let known = file.contexts.iter().map(|one| one.name.as_str());
            let error = unusable(&format!("context \"{name}\" does not exist"));
            return Err(match crate::error::nearest(name, known) {
                Some(near) => error.hint(format!("did you mean \"{near}\"?")),
                None => error.hint("kubectl config get-contexts"),
            });
        }
        if found.is_none() && options.cluster.is_none() && options.server.is_none() {
            // A file that points nowhere is as good as none.
            return Ok(None);
        }
        let namespace = found
            .and_then(|context| context.context.as_ref()?.namespace.clone())
            .unwrap_or_default();
        Ok(Some(Self {
            source: Source::File(Box::new(file)),
            options: options.clone(),
            token: token.map(str::to_owned),
            namespace,
        }))
    }

    /// The cluster whose pod this runs in; `None` outside of one.
    pub(crate) fn around_this_pod(options: &Kubernetes) -> Option<Self> {
        let config = Config::incluster().ok()?;
        Some(Self {
            source: Source::Pod,
            options: options.clone(),
            token: None,
            namespace: config.default_namespace,
        })
    }

    /// The namespace to work in unless one is given; empty when the file says nothing.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// A way to it.
    pub(crate) fn carrier(&self) -> Arc<dyn Carrier> {
        Arc::new(Way {
            cluster: self.clone(),
            client: OnceCell::new(),
        })
    }

    /// How the client library reaches it.
    ///
    /// # Errors
    /// When the file lacks something or names files that cannot be read.
    pub(crate) async fn config(&self) -> std::result::Result<Config, CarrierError> {
        let options = &self.options;
        let mut config = match &self.source {
            Source::Pod => Config::incluster()?,
            Source::File(file) if file.clusters.is_empty() => Config::new(
                options
                    .server
                    .as_deref()
                    .ok_or("the configuration has no clusters")?
                    .parse()?,
            ),
            Source::File(file) => {
                let wanted = KubeConfigOptions {
                    context: options.context.clone(),
                    cluster: options.cluster.clone(),
                    user: options.user.clone(),
                };
                Config::from_custom_kubeconfig((**file).clone(), &wanted).await?
            }
        };
        if let Some(server) = &options.server {
            config.cluster_url = server.parse()?;
        }
        config.accept_invalid_certs |= options.insecure_skip_tls_verify;
        config.disable_compression |= options.disable_compression;
        if let Some(file) = &options.certificate_authority {
            config.root_cert_file = Some(file.into());
        }
        if let Some(name) = &options.tls_server_name {
            config.tls_server_name = Some(name.clone());
        }
        let user = &mut config.auth_info;
        if let Some(token) = &self.token {
            user.token = Some(token.clone().into());
            user.token_file = None;
        }
        if let Some(file) = &options.client_certificate {
            user.client_certificate = Some(file.clone());
            user.client_certificate_data = None;
        }
        if let Some(file) = &options.client_key {
            user.client_key = Some(file.clone());
            user.client_key_data = None;
        }
        if options.act_as.is_some() {
            user.impersonate.clone_from(&options.act_as);
            user.impersonate_uid.clone_from(&options.as_uid);
            user.impersonate_groups = Some(options.as_group.clone());
        }
        Ok(config)
    }
}

fn usual_file() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty())?;
    Some(PathBuf::from(home).join(".kube/config"))
}

fn unusable(why: &str) -> CliError {
    CliError::new(
        exit::UNREACHABLE,
        format!("the Kubernetes configuration cannot be used: {why}"),
    )
}

/// The connection to a cluster.
struct Way {
    cluster: Cluster,
    client: OnceCell<kube::Client>,
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.server())
    }
}

impl Carrier for Way {
    fn server(&self) -> String {
        let options = &self.cluster.options;
        let named = options
            .server
            .clone()
            .or_else(|| match &self.cluster.source {
                Source::Pod => None,
                Source::File(file) => {
                    let context = options.context.as_ref().or(file.current_context.as_ref());
                    let found = file.contexts.iter().find(|one| Some(&one.name) == context);
                    let cluster = options
                        .cluster
                        .as_ref()
                        .or_else(|| Some(&found?.context.as_ref()?.cluster))?;
                    let found = file.clusters.iter().find(|one| one.name == *cluster)?;
                    found.cluster.as_ref()?.server.clone()
                }
            });
        match named {
            Some(address) => format!("the API server {address}"),
            None => "the API server".to_owned(),
        }
    }

    fn carry(&self, request: Request<Bytes>) -> Carried<'_> {
        Box::pin(async move {
            let client = self
                .client
                .get_or_try_init(|| async {
                    let config = self.cluster.config().await?;
                    Ok::<_, CarrierError>(kube::Client::try_from(config)?)
                })
                .await?;
            let response = client.send(request.map(Into::into)).await?;
            Ok(response.map(|body| body.map_err(CarrierError::from).boxed_unsync()))
        })
    }
}
