//! `crossfade explain`: why a release stands where it stands.

use clap::Args;
use crossfade_api::{Canary, Resource as _};
use crossfade_engine::decision::Wait;
use crossfade_host::client::{Client, Wanted};
use crossfade_host::control::{explain, explain_canary};
use crossfade_host::store::Kind;
use crossfade_host::wire::Explanation;
use crossfade_server::gates::{DEFAULT_GATE, GateId, Keeper, Store};
use jiff::Timestamp;

use crate::cluster::Cluster;
use crate::commands::gate::asked::{Asked, hooks_of_phase};
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit;
use crate::output::{document, object_name};
use crate::target::{self, Target};
use crate::terminal;
use crate::view::explanation;
use crate::view::generic::last_seen;

/// Say in words why a release stands where it stands
///
/// Names the step, everything that is waited for with its present value, limit and since when, the gates, and the command that would move it.
#[derive(Args, Clone, Debug)]
pub(crate) struct Explain {
    /// Rollout or Canary to explain: NAME or TYPE/NAME
    #[arg(value_name = "NAME", required = true, num_args = 1..=2)]
    names: Vec<String>,
}

impl Explain {
    /// Does it.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let client = context.client()?;
        let Target { kind, name } = target::release(&self.names, context, &client).await?;
        let namespace = context.namespace();
        let explained = match context.cluster() {
            Some(_) if kind == Kind::Canary => canary_on_cluster(context, &client, &name).await,
            Some(cluster) => on_cluster(cluster, namespace, &name).await,
            None => client
                .explain(kind, namespace, &name)
                .await
                .map_err(CliError::from),
        };
        let found = match explained {
            Ok(found) => found,
            Err(error) => {
                return Err(target::with_nearest(error, &client, kind, namespace, &name).await);
            }
        };
        if context.global.output.is_for_people() {
            let text = explanation::text(&found, context.terminal.look, Timestamp::now());
            return terminal::print(&text);
        }
        let document = document("Explanation", &found)?;
        context
            .global
            .output
            .print(&document, &[object_name(kind, &name)])
    }
}

/// Decides on what the cluster shows whoever asks, as the controller would, and carries nothing out.
async fn on_cluster(cluster: &Cluster, namespace: &str, name: &str) -> Result<Explanation> {
    let unreachable = |why: String| CliError::new(exit::UNREACHABLE, why);
    let config = cluster.config().await;
    let config = config.map_err(|why| unreachable(why.to_string()))?;
    let client = crossfade_kube::client(config).map_err(|why| unreachable(why.to_string()))?;
    let seen = crossfade_kube::look(client, namespace, name).await;
    let seen = seen.map_err(CliError::failure)?;
    let seen = seen.ok_or_else(|| {
        let text = format!("rollouts.argoproj.io \"{name}\" not found");
        CliError::new(exit::NOT_FOUND, text)
    })?;
    let experiment = seen.experiment.as_ref();
    let now = Timestamp::now();
    Ok(explain(
        &seen.rollout,
        &seen.runs,
        experiment,
        seen.ailing,
        now,
    ))
}

/// What a cluster keeps of a Canary's last look: its gates, and what was told.
async fn canary_on_cluster(context: &Context, client: &Client, name: &str) -> Result<Explanation> {
    let namespace = context.namespace();
    let object = client.get(Kind::Canary, namespace, name).await?;
    let canary = Canary::from_json(object).0;
    let id = GateId::new(namespace, name, DEFAULT_GATE).canary;
    // Whoever may not read them learns the rest.
    let gates = Keeper::new(Store::objects(client.clone())).of(&id).await;
    let gates = gates.unwrap_or_default();
    let mut waits = Vec::new();
    for hook in hooks_of_phase(&canary) {
        let asked = Asked::by(&canary, hook).and_then(|asked| gates.get(&asked.gate.gate));
        if let Some(since) = asked.and_then(|record| record.waiting_since) {
            waits.push(Wait {
                for_what: format!("gate {} to open", hook.name),
                since: Some(since),
                until: None,
                moved_by: &["approve", "reject"],
            });
        }
    }
    if waits.is_empty() {
        waits.extend(last_warning(client, namespace, name).await?);
    }
    Ok(explain_canary(&canary, None, waits))
}

/// What held a Canary up at its last look, if the last thing that was told of it is a warning.
async fn last_warning(client: &Client, namespace: &str, name: &str) -> Result<Option<Wait>> {
    let wanted = Wanted {
        fields: format!("involvedObject.kind=Canary,involvedObject.name={name}"),
        ..Wanted::default()
    };
    let events = client.list(Kind::Event, Some(namespace), &wanted).await?;
    let last = events.items.iter().max_by_key(|event| last_seen(event));
    let warning = last.filter(|event| event["type"] == "Warning");
    Ok(warning.map(|event| Wait {
        for_what: event["message"].as_str().unwrap_or_default().to_owned(),
        since: last_seen(event),
        until: None,
        moved_by: &[],
    }))
}
