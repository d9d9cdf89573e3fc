//! `crossfade install`, `uninstall` and `crds`: the controller on a cluster, by the manifests that are shipped.

use clap::Args;
use crossfade_api::manifest;
use crossfade_host::client::{ApplyMode, Client, MANAGER};
use crossfade_host::wire::{ApplyRequest, ApplyResult};
use http::Method;
use serde_json::{Value, json};

use crate::act::confirm;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit;
use crate::terminal;

const DEFINITIONS: &[&str] = &[
    include_str!("../../../../deploy/crds/rollouts.yaml"),
    include_str!("../../../../deploy/crds/analysisruns.yaml"),
    include_str!("../../../../deploy/crds/analysistemplates.yaml"),
    include_str!("../../../../deploy/crds/clusteranalysistemplates.yaml"),
    include_str!("../../../../deploy/crds/experiments.yaml"),
    include_str!("../../../../deploy/crds/canaries.yaml"),
    include_str!("../../../../deploy/crds/metrictemplates.yaml"),
    include_str!("../../../../deploy/crds/alertproviders.yaml"),
];

const CONTROLLER: &[&str] = &[
    include_str!("../../../../deploy/controller/namespace.yaml"),
    include_str!("../../../../deploy/rbac/role.yaml"),
    include_str!("../../../../deploy/controller/account.yaml"),
    include_str!("../../../../deploy/controller/controller.yaml"),
];

/// The namespace that the shipped manifests name.
const NAMESPACE: &str = "crossfade";

/// Install the controller on a cluster
///
/// Applies the definitions of its kinds, its role, and a Deployment; what is there already is brought up to date. With --print the manifests
/// go to standard output instead, for a repository or another tool:
///
///   crossfade install --image registry.example.com/crossfade:0.1.0
///   crossfade install --print > crossfade.yaml
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub(crate) struct Install {
    /// Image of the controller
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// Controllers; one leads, the others stand by
    #[arg(long, value_name = "N")]
    replicas: Option<u32>,
    /// Leave the definitions of the kinds as they are, for example those of another installation
    #[arg(long)]
    skip_crds: bool,
    /// Print the manifests and change nothing
    #[arg(long)]
    print: bool,
    /// Take over fields that somebody else has set
    #[arg(long)]
    force: bool,
}

/// Remove the controller from a cluster
///
/// Releases stay as they are, and so do the definitions of their kinds: without those every Rollout and every Canary would be deleted with its pods.
#[derive(Args, Clone, Debug)]
pub(crate) struct Uninstall {
    /// Remove the definitions too, of which there are no objects
    ///
    /// With its definition a Rollout or a Canary would go, and the pods that serve. What somebody else has installed, too, such as Argo Rollouts or Flagger,
    /// stays in any case.
    #[arg(long)]
    crds: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// Print the definitions of Crossfade's kinds
///
///   crossfade crds | kubectl apply --server-side -f -
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub(crate) struct Crds {}

impl Install {
    /// Does it.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let namespace = namespace(context);
        let mut documents = if self.skip_crds {
            Vec::new()
        } else {
            read(DEFINITIONS, NAMESPACE)?
        };
        documents.extend(read(CONTROLLER, namespace)?);
        for document in &mut documents {
            self.set(document);
        }
        if self.print {
            return print(&documents);
        }
        let client = context.client()?;
        if client.is_of_a_host() {
            return Err(no_cluster());
        }
        let request = ApplyRequest {
            documents,
            overlays: Vec::new(),
        };
        let mode = ApplyMode {
            dry_run: false,
            force: self.force,
        };
        for applied in client.apply(&request, namespace, mode).await? {
            let result = match applied.result {
                ApplyResult::Created => "created",
                ApplyResult::Configured => "configured",
                ApplyResult::Unchanged => "unchanged",
            };
            terminal::line(&format!(
                "{}/{} {result}",
                applied.kind.to_lowercase(),
                applied.name
            ))?;
        }
        Ok(())
    }

    fn set(&self, document: &mut Value) {
        if document["kind"] != "Deployment" {
            return;
        }
        if let Some(image) = &self.image {
            document["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
        }
        if let Some(replicas) = self.replicas {
            document["spec"]["replicas"] = json!(replicas);
        }
    }
}

impl Uninstall {
    /// Does it.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let namespace = namespace(context);
        let mut documents = read(CONTROLLER, namespace)?;
        documents.reverse();
        let client = context.client()?;
        if client.is_of_a_host() {
            return Err(no_cluster());
        }
        let definitions = if self.crds { DEFINITIONS } else { &[] };
        for definition in read(definitions, NAMESPACE)? {
            match kept(&client, &definition).await {
                Some(why) => terminal::line(&format!("{} stays: {why}", name(&definition)))?,
                None => documents.push(definition),
            }
        }
        let names: Vec<String> = documents.iter().map(name).collect();
        let shown: Vec<&str> = names.iter().map(String::as_str).collect();
        confirm(self.yes, &format!("delete {} objects", names.len()), &shown)?;
        for (document, name) in documents.into_iter().zip(&names) {
            let was_there = client.delete_document(document, namespace).await?;
            let result = if was_there {
                "deleted"
            } else {
                "was not there"
            };
            terminal::line(&format!("{name} {result}"))?;
        }
        Ok(())
    }
}

/// Why a definition is not ours to remove: somebody else has installed it, too, or there are objects that would go with it.
async fn kept(client: &Client, definition: &Value) -> Option<String> {
    let name = definition["metadata"]["name"].as_str()?;
    let root = "/apis/apiextensions.k8s.io/v1";
    let path = ["customresourcedefinitions", name];
    match client.at(Method::GET, root, &path, None).await {
        Ok(there) => {
            if let Some(other) = other_installer(&there) {
                return Some(format!("{other} has installed it, not crossfade alone"));
            }
        }
        Err(error) if error.is_not_found() => return None,
        Err(error) => return Some(format!("who has installed it is not known: {error}")),
    }
    let spec = &definition["spec"];
    let (group, plural) = (spec["group"].as_str()?, spec["names"]["plural"].as_str()?);
    let version = spec["versions"][0]["name"].as_str()?;
    // One of them, and how many more there are.
    let root = format!("/apis/{group}/{version}/{plural}?limit=1");
    match client.at(Method::GET, &root, &[], None).await {
        Ok(list) => {
            let shown = list["items"].as_array().map_or(0, Vec::len) as u64;
            let more = list["metadata"]["remainingItemCount"].as_u64();
            let count = shown + more.unwrap_or(0);
            (count > 0).then(|| format!("there are {count} {plural}, and with it they would go"))
        }
        Err(error) if error.is_not_found() => None,
        Err(error) => Some(format!("whether there are {plural} is not known: {error}")),
    }
}

/// Who else has written what is defined.
fn other_installer(there: &Value) -> Option<&str> {
    let managers = there["metadata"]["managedFields"].as_array()?.iter();
    managers
        .filter(|entry| entry["fieldsV1"]["f:spec"].is_object())
        .filter_map(|entry| entry["manager"].as_str())
        .find(|manager| *manager != MANAGER)
}

impl Crds {
    /// Does it.
    pub(crate) fn run() -> Result<()> {
        print(&read(DEFINITIONS, NAMESPACE)?)
    }
}

fn namespace(context: &Context) -> &str {
    context.global.namespace.as_deref().unwrap_or(NAMESPACE)
}

fn no_cluster() -> CliError {
    CliError::new(exit::REFUSED, "a host needs no controller: it is one")
        .hint("name a cluster with --kubeconfig or --context")
}

fn name(document: &Value) -> String {
    let kind = document["kind"].as_str().unwrap_or_default();
    let name = document["metadata"]["name"].as_str().unwrap_or_default();
    format!("{}/{name}", kind.to_lowercase())
}

/// The objects of shipped manifests, in a namespace of one's choice.
fn read(texts: &[&str], namespace: &str) -> Result<Vec<Value>> {
    let mut documents = Vec::new();
    for text in texts {
        let read = manifest::read(text)
            .map_err(|error| CliError::failure(format!("a shipped manifest: {error}")))?;
        documents.extend(read.into_iter().map(|document| document.object));
    }
    for document in &mut documents {
        let kind = document["kind"].as_str().unwrap_or_default();
        match kind {
            "Namespace" => document["metadata"]["name"] = json!(namespace),
            "ClusterRoleBinding" => document["subjects"][0]["namespace"] = json!(namespace),
            "CustomResourceDefinition" | "ClusterRole" => {}
            "RoleBinding" => {
                document["metadata"]["namespace"] = json!(namespace);
                document["subjects"][0]["namespace"] = json!(namespace);
            }
            _ => document["metadata"]["namespace"] = json!(namespace),
        }
    }
    Ok(documents)
}

fn print(documents: &[Value]) -> Result<()> {
    for document in documents {
        let text = serde_saphyr::to_string(document)
            .map_err(|error| CliError::failure(format!("cannot write YAML: {error}")))?;
        terminal::print(&format!("---\n{text}"))?;
    }
    Ok(())
}
