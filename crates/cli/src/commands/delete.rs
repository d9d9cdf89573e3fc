//! `crossfade delete`: remove objects.

use std::path::PathBuf;

use clap::Args;
use crossfade_host::client::Wanted;
use crossfade_host::store::Kind;
use crossfade_host::wire::Deletion;
use serde_json::json;

use crate::act::{DryRun, confirm};
use crate::context::Context;
use crate::documents;
use crate::error::{CliError, Result};
use crate::exit;
use crate::output::{document, object_name};
use crate::target::{self, Target};
use crate::terminal;

/// Delete objects, and with them what they own
///
/// A Rollout takes its ReplicaSets, pods and analysis runs with it; its processes get their grace period to end.
#[derive(Args, Clone, Debug)]
pub(crate) struct Delete {
    /// What to delete: TYPE and names, TYPE/NAME, or names of Rollouts
    #[arg(value_name = "[TYPE] NAME", required_unless_present_any = ["filename"])]
    names: Vec<String>,
    /// Delete the objects of these manifests: files, folders, or - for standard input
    #[arg(short, long, value_name = "FILE")]
    filename: Vec<PathBuf>,
    /// Delete all objects of the type that have these labels
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    /// Delete all objects of the type in the namespace
    #[arg(long)]
    all: bool,
    /// Do not ask before deleting many objects
    #[arg(short, long)]
    yes: bool,
    /// Objects that do not exist are no failure
    #[arg(long)]
    ignore_not_found: bool,
    /// Seconds that processes get to end
    #[arg(long, value_name = "N")]
    grace_period: Option<u64>,
    /// Show what would be deleted and delete nothing
    #[arg(long, value_enum, value_name = "WHERE", num_args = 0..=1, require_equals = true, default_missing_value = "client")]
    dry_run: Option<DryRun>,
    /// Why; kept in the audit trail
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

impl Delete {
    /// Does it.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let client = context.client()?.acting("delete", self.reason.as_deref());
        let mut targets: Vec<(String, Target)> = Vec::new();
        let here = context.namespace().to_owned();
        if self.all || self.selector.is_some() {
            let [word] = self.names.as_slice() else {
                return Err(CliError::usage(
                    "with --all or --selector name one type, for example: crossfade delete pods --all",
                ));
            };
            let kind = Kind::of_word(word).ok_or_else(|| target::unknown_kind(word))?;
            let wanted = Wanted {
                labels: self.selector.clone().unwrap_or_default(),
                ..Wanted::default()
            };
            for object in client.list(kind, Some(&here), &wanted).await?.items {
                let name = object["metadata"]["name"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned();
                targets.push((here.clone(), Target { kind, name }));
            }
            if targets.is_empty() {
                terminal::remark("No resources found.");
                return Ok(());
            }
            if self.dry_run.is_none() {
                let names: Vec<_> = targets
                    .iter()
                    .map(|(_, target)| target.name.as_str())
                    .collect();
                confirm(
                    self.yes,
                    &format!("delete {} {}", names.len(), kind.plural()),
                    &names,
                )?;
            }
        } else {
            let named = target::parse(&self.names, Kind::Rollout)?;
            if let (Some(kind), []) = (named.kind, named.targets.as_slice()) {
                return Err(CliError::usage(format!(
                    "which {}? Name them, or add --all",
                    kind.plural()
                )));
            }
            targets.extend(
                named
                    .targets
                    .into_iter()
                    .map(|target| (here.clone(), target)),
            );
            for read in documents::read(&self.filename)? {
                targets.extend(in_manifest(&read.source.object, &here));
            }
        }
        let mut done = Vec::new();
        let result = self.delete(context, &client, &targets, &mut done).await;
        if !context.global.output.is_for_people() {
            let results = document(
                "ActionResults",
                &json!({"items": done.iter().map(|name| json!({"object": name, "action": "delete"})).collect::<Vec<_>>()}),
            )?;
            context.global.output.print(&results, &done)?;
        }
        result.map_err(|mut error| {
            if !done.is_empty() {
                error.code = exit::PARTLY;
            }
            error
        })
    }

    async fn delete(
        &self,
        context: &Context,
        client: &crossfade_host::client::Client,
        targets: &[(String, Target)],
        done: &mut Vec<String>,
    ) -> Result<()> {
        let deletion = Deletion {
            grace_period_seconds: self.grace_period,
            ..Deletion::default()
        };
        for (namespace, Target { kind, name }) in targets {
            let object = object_name(*kind, name);
            let dry = if self.dry_run.is_some() {
                " (dry run)"
            } else {
                ""
            };
            let gone = if self.dry_run.is_some() {
                client.get(*kind, namespace, name).await
            } else {
                client.delete(*kind, namespace, name, &deletion).await
            };
            match gone {
                Err(error) if error.is_not_found() && self.ignore_not_found => continue,
                Err(error) => {
                    return Err(
                        target::with_nearest(error.into(), client, *kind, namespace, name).await,
                    );
                }
                Ok(_) => {}
            }
            if context.global.output.is_for_people() {
                terminal::line(&format!("{object} deleted{dry}"))?;
            }
            done.push(object);
        }
        Ok(())
    }
}

/// The object that a manifest describes, if its kind is one that is stored.
fn in_manifest(manifest: &serde_json::Value, namespace: &str) -> Option<(String, Target)> {
    let text = |pointer: &str| {
        manifest
            .pointer(pointer)
            .and_then(serde_json::Value::as_str)
    };
    let kind = Kind::of(text("/apiVersion")?, text("/kind")?)?;
    let name = text("/metadata/name")?.to_owned();
    let namespace = text("/metadata/namespace").unwrap_or(namespace);
    Some((namespace.to_owned(), Target { kind, name }))
}
