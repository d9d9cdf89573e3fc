//! `crossfade create`: make objects that do not exist yet.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};
use crossfade_api::analysis::Argument;
use crossfade_api::{AnalysisTemplate, Resource, template_set};
use crossfade_host::client::Client;
use crossfade_host::store::Kind;
use serde_json::{Value, json};

use crate::commands::get;
use crate::context::Context;
use crate::documents::{self, Document};
use crate::error::{CliError, Result};
use crate::exit;
use crate::lint;
use crate::output::{document, object_name};
use crate::read;
use crate::target::Target;
use crate::terminal;

/// Kinds that can be made here.
const KINDS: [Kind; 5] = [
    Kind::Rollout,
    Kind::Experiment,
    Kind::AnalysisTemplate,
    Kind::ClusterAnalysisTemplate,
    Kind::AnalysisRun,
];

/// Make objects that do not exist yet
///
/// Takes Rollouts, Experiments, AnalysisTemplates, ClusterAnalysisTemplates and AnalysisRuns. An object with an unknown field is refused and
/// nothing is made. To change objects that exist, use `crossfade apply`.
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Create {
    #[command(subcommand)]
    what: Option<What>,
    /// Manifests: files, folders, or - for standard input; may be given several times
    #[arg(short, long, value_name = "FILE", required = true)]
    filename: Vec<PathBuf>,
    /// Show what was made and keep the picture up to date
    #[arg(short, long)]
    watch: bool,
    /// No colours
    #[arg(long, hide = true)]
    no_color: bool,
}

#[derive(Subcommand, Clone, Debug)]
enum What {
    #[command(visible_alias = "ar")]
    Analysisrun(MakeRun),
}

/// Make an analysis run from a template
///
/// Measures outside of any release, to try a template:
///
///   crossfade create analysisrun --from success-rate -a service=web
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
struct MakeRun {
    /// Template to use
    #[arg(long, value_name = "NAME")]
    from: Option<String>,
    /// File with the template to use
    #[arg(long, value_name = "FILE")]
    from_file: Option<PathBuf>,
    /// The template is a ClusterAnalysisTemplate
    #[arg(long)]
    global: bool,
    /// Name of the run
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Beginning of the run's name; the rest is made up
    #[arg(long, value_name = "PREFIX")]
    generate_name: Option<String>,
    /// Which controller looks after the run
    #[arg(long, value_name = "ID")]
    instance_id: Option<String>,
    /// Argument for the template; may be given several times
    #[arg(short, long, value_name = "NAME=VALUE")]
    argument: Vec<Given>,
}

/// An argument as it was typed.
#[derive(Clone, Debug)]
struct Given(Argument);

impl FromStr for Given {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (name, value) = text
            .split_once('=')
            .ok_or("arguments must be in the form NAME=VALUE")?;
        Ok(Self(Argument {
            name: name.to_owned(),
            value: Some(value.to_owned()),
            value_from: None,
        }))
    }
}

impl Create {
    /// Does it.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        match &self.what {
            Some(What::Analysisrun(run)) => run.run(context).await,
            None => self.read_and_create(context).await,
        }
    }

    async fn read_and_create(&self, context: &Context) -> Result<()> {
        let documents = documents::read(&self.filename)?;
        if self.watch && documents.len() > 1 {
            return Err(CliError::usage("Cannot watch multiple resources"));
        }
        // Everything is looked at before anything is made.
        let kinds: Vec<_> = documents.iter().map(kind_of).collect::<Result<_>>()?;
        for document in &documents {
            if let Some(finding) = lint::shape(document).into_iter().next() {
                let place = format!("{}:{}:{}", finding.file, finding.line, finding.column);
                return Err(
                    CliError::new(exit::REFUSED, format!("{}: {place}", finding.message))
                        .field(finding.path),
                );
            }
        }
        let watchable = |kind: &Kind| matches!(kind, Kind::Rollout | Kind::Experiment);
        if self.watch && !kinds.iter().all(watchable) {
            return Err(CliError::usage(
                "Can only watch resources of type Rollout or Experiment",
            ));
        }
        let client = context.client()?.acting("create", None);
        let mut made = Vec::new();
        for (document, kind) in documents.iter().zip(&kinds) {
            let object = &document.source.object;
            let namespace = object["metadata"]["namespace"]
                .as_str()
                .unwrap_or(context.namespace());
            made.push(create(context, &client, *kind, namespace, object).await?);
        }
        print(context, &made)?;
        let ([(kind, object)], true) = (made.as_slice(), self.watch) else {
            return Ok(());
        };
        let mut there = context.clone();
        there.global.namespace = object["metadata"]["namespace"].as_str().map(str::to_owned);
        let target = Target {
            kind: *kind,
            name: object["metadata"]["name"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        };
        get::watched(&there, &client, &target, self.no_color).await
    }
}

fn kind_of(document: &Document) -> Result<Kind> {
    let (api_version, kind) = (document.source.api_version(), document.source.kind());
    let known = Kind::of(api_version, kind).filter(|kind| KINDS.contains(kind));
    known.ok_or_else(|| {
        let (group, _) = api_version.split_once('/').unwrap_or_default();
        CliError::new(
            exit::REFUSED,
            format!("creates of {group}/{kind} unsupported"),
        )
        .hint("crossfade apply -f FILE")
    })
}

async fn create(
    context: &Context,
    client: &Client,
    kind: Kind,
    namespace: &str,
    object: &Value,
) -> Result<(Kind, Value)> {
    let created = client.create(kind, namespace, object).await?;
    if context.global.output.is_for_people() {
        let name = created["metadata"]["name"].as_str().unwrap_or_default();
        terminal::line(&format!("{} created", object_name(kind, name)))?;
    }
    Ok((kind, created))
}

fn print(context: &Context, made: &[(Kind, Value)]) -> Result<()> {
    if context.global.output.is_for_people() {
        return Ok(());
    }
    let names: Vec<_> = made
        .iter()
        .map(|(kind, object)| {
            object_name(
                *kind,
                object["metadata"]["name"].as_str().unwrap_or_default(),
            )
        })
        .collect();
    let objects: Vec<_> = made.iter().map(|(_, object)| object).collect();
    let list = document("CreateResults", &json!({"items": objects}))?;
    context.global.output.print(&list, &names)
}

impl MakeRun {
    async fn run(&self, context: &Context) -> Result<()> {
        let client = context.client()?.acting("create", None);
        let template = match (&self.from, &self.from_file) {
            (Some(name), None) => {
                let kind = if self.global {
                    Kind::ClusterAnalysisTemplate
                } else {
                    Kind::AnalysisTemplate
                };
                read::object(context, &client, kind, name).await?
            }
            (None, Some(file)) => from_file(file)?,
            _ => {
                return Err(CliError::usage(
                    "one of --from or --from-file must be specified",
                ));
            }
        };
        let run = self.object(&template)?;
        let made = create(
            context,
            &client,
            Kind::AnalysisRun,
            context.namespace(),
            &run,
        )
        .await?;
        print(context, &[made])
    }

    /// The run as the controller would make it of this template.
    fn object(&self, template: &Value) -> Result<Value> {
        let name = template["metadata"]["name"].as_str().unwrap_or_default();
        let generated = self
            .generate_name
            .clone()
            .or_else(|| (!name.is_empty()).then(|| format!("{name}-")));
        let mut metadata = match (&self.name, generated) {
            (Some(name), _) => json!({"name": name}),
            (None, Some(prefix)) => json!({"generateName": prefix}),
            (None, None) => return Err(CliError::usage("name is invalid")),
        };
        if let Some(id) = &self.instance_id {
            metadata["labels"] = json!({crossfade_api::names::label::INSTANCE_ID: id});
        }
        let spec = AnalysisTemplate::from_json(template.clone()).0.spec;
        let given: Vec<_> = self.argument.iter().map(|given| given.0.clone()).collect();
        let arguments = template_set::merge_arguments(&spec.args, &given)
            .map_err(|error| CliError::new(exit::REFUSED, error))?;
        // Everything else of the template is taken over as it is written.
        let mut run = template["spec"].clone();
        run["args"] = json!(arguments);
        Ok(
            json!({"apiVersion": Kind::AnalysisRun.api_version(), "kind": Kind::AnalysisRun.name(), "metadata": metadata, "spec": run}),
        )
    }
}

fn from_file(file: &PathBuf) -> Result<Value> {
    let documents = documents::read(std::slice::from_ref(file))?;
    let mut templates = documents
        .into_iter()
        .filter(|document| document.source.kind().ends_with("AnalysisTemplate"));
    match (templates.next(), templates.next()) {
        (Some(template), None) => Ok(template.source.object),
        (None, _) => Err(CliError::failure(format!(
            "no AnalysisTemplate in {}",
            file.display()
        ))),
        (Some(_), Some(_)) => Err(CliError::failure(format!(
            "more than one AnalysisTemplate in {}",
            file.display()
        ))),
    }
}
