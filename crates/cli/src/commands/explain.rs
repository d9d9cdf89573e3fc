//! `crossfade explain`: why a release stands where it stands.

use clap::Args;
use crossfade_host::control::explain;
use crossfade_host::store::Kind;
use crossfade_host::wire::Explanation;

use crate::cluster::Cluster;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit;
use crate::output::{document, object_name};
use crate::target::{self, Target};
use crate::terminal;
use crate::view::explanation;
use jiff::Timestamp;

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
            Some(_) if kind == Kind::Canary => Err(CliError::failure(
                "canaries are explained on one machine only so far",
            )),
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
