//! `crossfade rollback`: go back to an earlier version, and say first what that means.

use clap::Args;
use crossfade_api::Rollout;
use crossfade_host::store::Kind;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use serde_json::Value;

use crate::act::{Acting, Action, confirm};
use crate::commands::rollout_of;
use crate::commands::status::one_rollout;
use crate::commands::undo::{self, History};
use crate::context::Context;
use crate::error::Result;
use crate::read;
use crate::terminal;
use crate::view::{age, replica_set};

/// Labels and annotations by which GitOps tools mark what they manage.
const MARKS: [(&str, &str, &str); 5] = [
    ("annotations", "argocd.argoproj.io/tracking-id", "Argo CD"),
    ("labels", "argocd.argoproj.io/instance", "Argo CD"),
    ("labels", "kustomize.toolkit.fluxcd.io/name", "Flux"),
    ("labels", "helm.toolkit.fluxcd.io/name", "Flux"),
    ("labels", "objectset.rio.cattle.io/hash", "Fleet"),
];

/// Go back to an earlier version after saying what would happen
///
/// Names the revision, its images, and whether the steps are skipped on the way, then does what `crossfade undo` does. On a terminal it asks
/// first. Objects that a GitOps tool manages would be changed back at its next sync; for them `crossfade abort` is the better way.
#[derive(Args, Clone, Debug)]
pub(crate) struct Rollback {
    /// Rollout to take back: NAME or TYPE/NAME
    #[arg(value_name = "NAME", required = true, num_args = 1..=2)]
    names: Vec<String>,
    /// Revision to go back to; 0 means the one before the present one
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        hide_default_value = true,
        allow_negative_numbers = true
    )]
    to_revision: i64,
    #[command(flatten)]
    acting: Acting,
}

impl Rollback {
    /// Does it.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let name = one_rollout(&self.names, context)?;
        let client = context.client()?;
        let object = read::object(context, &client, Kind::Rollout, &name).await?;
        let history = History::read(context, &client, &object).await?;
        let (revision, set) = history.target(&name, self.to_revision)?;
        let present =
            undo::plan(context, &client, &name, &object, &history, self.to_revision).await?;
        if let Some(nothing) = present.nothing {
            return terminal::line(&nothing);
        }
        let decoded: Vec<ReplicaSet> = read::objects([set])?;
        for line in decoded
            .iter()
            .flat_map(|set| outlook(&name, *revision, set, &object, &history, Timestamp::now()))
        {
            terminal::remark(&line);
        }
        if context.terminal.is_terminal {
            confirm(self.acting.yes, "roll back", &[&name])?;
        }
        let action = Action {
            verb: "rollback",
            kinds: &[Kind::Rollout],
        };
        let revision = *revision;
        action
            .run(
                context,
                std::slice::from_ref(&name),
                &self.acting,
                async |client, target, object| {
                    let history = History::read(context, client, &object).await?;
                    let mut plan = undo::plan(
                        context,
                        client,
                        &target.name,
                        &object,
                        &history,
                        self.to_revision,
                    )
                    .await?;
                    if plan.nothing.is_none() {
                        plan.done =
                            format!("rollout '{}' goes back to revision {revision}", target.name);
                    }
                    Ok(plan)
                },
            )
            .await
    }
}

/// What going back means, a line for each fact.
fn outlook(
    name: &str,
    revision: u64,
    set: &ReplicaSet,
    object: &Value,
    history: &History,
    now: Timestamp,
) -> Vec<String> {
    let rollout = rollout_of(object.clone());
    let created = set.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let mut lines = vec![
        format!(
            "rollout '{name}' would go back to revision {revision}, made {} ago",
            age::since(created, now)
        ),
        format!("  images: {}", replica_set::images(set).join(", ")),
        format!("  {}", way(&rollout, set, history)),
    ];
    let managed = MARKS
        .iter()
        .find(|(member, key, _)| object["metadata"][member].get(key).is_some());
    if let Some((_, _, tool)) = managed {
        lines.push(format!(
            "  {tool} manages this object and would change it back at its next sync; better: crossfade abort {name}, then revert the source"
        ));
    }
    lines
}

/// Whether the steps are taken on the way back.
fn way(rollout: &Rollout, set: &ReplicaSet, history: &History) -> &'static str {
    let Some(canary) = &rollout.spec.strategy.canary else {
        return "the preview is checked and switched as in every blue-green release";
    };
    if canary.steps.is_empty() {
        return "pods are replaced a few at a time; there are no steps";
    }
    let is_stable = replica_set::hash(set) == rollout.status.stable_rs.as_str();
    if is_stable {
        return "it is the stable version: traffic goes back at once, without steps";
    }
    let window = rollout.spec.rollback_window();
    let name = set.metadata.name.as_deref();
    let newer = history
        .sets
        .iter()
        .take_while(|(_, other)| other["metadata"]["name"].as_str() != name)
        .count();
    // The newest one is where the release comes from and does not count as lying between.
    let between = i32::try_from(newer.saturating_sub(1)).unwrap_or(i32::MAX);
    if window > 0 && between < window {
        "it lies in the rollback window: steps and analysis are skipped"
    } else {
        "all steps are taken on the way"
    }
}
