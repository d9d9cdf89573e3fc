//! `crossfade apply`: make objects as manifests say.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use crossfade_host::client::ApplyMode;
use crossfade_host::store::Kind;
use crossfade_host::wire::{Applied, ApplyRequest, ApplyResult};
use serde_json::json;

use crate::act::DryRun;
use crate::context::Context;
use crate::documents;
use crate::error::{CliError, Result};
use crate::follow::Journey;
use crate::global::go_duration;
use crate::goal::Goal;
use crate::output::{document, object_name};
use crate::terminal;

/// Make objects as manifests say
///
/// Applying again changes only what the manifests change: fields that others own stay, fields that
/// left the manifest leave the object. All documents are applied or none. An overlay changes
/// documents of the same kind and name before they are applied, as a JSON merge patch: members are
/// merged, null removes, lists are replaced whole. So one manifest can serve a cluster and this
/// machine:
///
///   crossfade apply -f rollout.yaml --overlay local.yaml
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub(crate) struct Apply {
    /// Manifests: files, folders, or - for standard input; may be given several times
    #[arg(short, long, value_name = "FILE", required = true)]
    filename: Vec<PathBuf>,
    /// Changes to the manifests: files or folders; may be given several times
    #[arg(long, value_name = "FILE")]
    overlay: Vec<PathBuf>,
    /// Show what would happen and change nothing; `client` only reads and checks the files
    #[arg(long, value_enum, value_name = "WHERE", num_args = 0..=1, require_equals = true, default_missing_value = "server")]
    dry_run: Option<DryRun>,
    /// Where a field cannot be changed, delete the object and make it anew
    #[arg(long)]
    force: bool,
    /// Why; kept in the audit trail
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Wait until the applied Rollouts are healthy, or reach another state: paused, step=N, weight=N
    #[arg(long, value_name = "STATE", num_args = 0..=1, require_equals = true, default_missing_value = "healthy")]
    wait: Option<Goal>,
    /// Longest time to wait, for example 5m
    #[arg(long, value_name = "DURATION", value_parser = go_duration)]
    timeout: Option<Duration>,
}

impl Apply {
    /// Does it.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let documents = documents::read(&self.filename)?;
        let overlays = documents::read(&self.overlay)?;
        if documents.is_empty() {
            return Err(CliError::failure("there are no objects in the manifests"));
        }
        let values = |read: Vec<documents::Document>| {
            read.into_iter()
                .map(|document| document.source.object)
                .collect()
        };
        if self.dry_run == Some(DryRun::Client) {
            for document in &documents {
                let name = documents::name_of(&document.source.object);
                terminal::line(&format!("{name} read (dry run)"))?;
            }
            return Ok(());
        }
        let client = context.client()?.acting("apply", self.reason.as_deref());
        let request = ApplyRequest {
            documents: values(documents),
            overlays: values(overlays),
        };
        let mode = ApplyMode {
            dry_run: self.dry_run.is_some(),
            force: self.force,
        };
        let applied = client.apply(&request, context.namespace(), mode).await?;
        self.print(context, &applied)?;
        let Some(goal) = self.wait.clone().filter(|_| self.dry_run.is_none()) else {
            return Ok(());
        };
        for rollout in applied
            .iter()
            .filter(|applied| applied.kind == Kind::Rollout.name())
        {
            let mut there = context.clone();
            there.global.namespace = Some(rollout.namespace.clone());
            let journey = Journey {
                timeout: self.timeout,
                ..Journey::to(&rollout.name, goal.clone())
            };
            let mut say = |line: &str| {
                terminal::remark(&format!("{}: {line}", rollout.name));
                Ok(())
            };
            journey.follow(&there, &client, &mut say).await?;
        }
        Ok(())
    }

    fn print(&self, context: &Context, applied: &[Applied]) -> Result<()> {
        let name = |applied: &Applied| match Kind::of(&applied.api_version, &applied.kind) {
            Some(kind) => object_name(kind, &applied.name),
            None => format!("{}/{}", applied.kind.to_lowercase(), applied.name),
        };
        let dry = if self.dry_run.is_some() {
            " (dry run)"
        } else {
            ""
        };
        for object in applied {
            for warning in &object.warnings {
                terminal::remark(&format!("Warning: {}: {warning}", name(object)));
            }
            if context.global.output.is_for_people() {
                let result = match object.result {
                    ApplyResult::Created => "created",
                    ApplyResult::Configured => "configured",
                    ApplyResult::Unchanged => "unchanged",
                };
                terminal::line(&format!("{} {result}{dry}", name(object)))?;
            }
        }
        if context.global.output.is_for_people() {
            return Ok(());
        }
        let names: Vec<_> = applied.iter().map(name).collect();
        let results = document("ApplyResults", &json!({"items": applied}))?;
        context.global.output.print(&results, &names)
    }
}
