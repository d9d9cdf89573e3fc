//! `crossfade gate check`: whether a service may be changed now, for pipelines.

use clap::Args;
use crossfade_host::client::{Client, Error};
use crossfade_host::wire::Reason;
use crossfade_server::gates::{DEFAULT_GATE, GateId, Gates, ROLLBACK_GATE};
use http::Method;
use serde_json::{Value, json};

use super::Place;
use super::way::Way;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit;
use crate::output::document;
use crate::terminal;

/// Say whether a service may be changed, or is under manual release
///
/// For a job that deploys: while a person takes a release of the service through gates, another change would start it anew. Exit code 0 when the service
/// may be changed, 6 when it may not, 5 when there is no such Canary and no such gate. One sentence says why.
#[derive(Args, Clone, Debug)]
pub(super) struct Check {
    /// The service: a Canary, or the workload or Service that one is about
    #[arg(value_name = "SERVICE")]
    service: String,
    #[command(flatten)]
    place: Place,
}

/// Hooks that make a release wait for a person.
const MANUAL_HOOKS: [&str; 3] = [
    "confirm-rollout",
    "confirm-traffic-increase",
    "confirm-promotion",
];
/// Phases in which a release is under way.
const UNDER_WAY: [&str; 5] = [
    "Progressing",
    "Waiting",
    "WaitingPromotion",
    "Promoting",
    "Finalising",
];

/// What is found out.
struct Finding {
    may_change: bool,
    /// The Canary.
    canary: String,
    /// Its phase; empty when only gates are known.
    phase: String,
    sentence: String,
}

impl Check {
    /// Does it.
    pub(super) async fn run(&self, context: &Context) -> Result<()> {
        let way = Way::find(&self.place, context).await?;
        let canary = match way.client() {
            Some(client) => find(client, context.namespace(), &self.service).await?,
            None => None,
        };
        let name = canary.as_ref().map_or(self.service.as_str(), name_of);
        let gate = GateId::new(context.namespace(), name, DEFAULT_GATE);
        let gates = way.gates(&gate, false).await?;
        let finding = match &canary {
            Some(canary) => by_canary(canary, &gates),
            None if gates.is_empty() => {
                return Err(CliError::new(
                    exit::NOT_FOUND,
                    format!(
                        "no Canary and no gate of {} is known in namespace {}",
                        self.service,
                        context.namespace()
                    ),
                )
                .hint("crossfade gate list --all-namespaces"));
            }
            None => by_gates(&self.service, &gates),
        };
        let output = &context.global.output;
        if output.is_for_people() {
            terminal::line(&finding.sentence)?;
        } else {
            let facts = json!({
                "service": self.service,
                "namespace": context.namespace(),
                "canary": finding.canary,
                "phase": finding.phase,
                "mayChange": finding.may_change,
                "message": finding.sentence,
            });
            output.print(
                &document("GateCheck", &facts)?,
                &[format!("canary/{}", finding.canary)],
            )?;
        }
        if finding.may_change {
            Ok(())
        } else {
            Err(CliError::silent(exit::REFUSED))
        }
    }
}

fn name_of(canary: &Value) -> &str {
    canary["metadata"]["name"].as_str().unwrap_or_default()
}

/// The Canary of this name, or the one whose workload or Service has it.
async fn find(client: &Client, namespace: &str, service: &str) -> Result<Option<Value>> {
    let path = ["namespaces", namespace, "canaries"];
    let list = client.at(Method::GET, "/apis/flagger.app/v1beta1", &path, None);
    let list = match list.await {
        Ok(list) => list,
        // A server that was not taught the kind has no Canaries.
        Err(Error::Status(status))
            if matches!(
                status.reason,
                Reason::NotFound | Reason::Unknown | Reason::BadRequest
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let canaries = list["items"].as_array().cloned().unwrap_or_default();
    let is_about = |canary: &Value| {
        let target = canary["spec"]["targetRef"]["name"]
            .as_str()
            .unwrap_or_default();
        let apex = canary["spec"]["service"]["name"].as_str().unwrap_or(target);
        [target, apex].iter().any(|name| {
            [
                (*name).to_owned(),
                format!("{name}-primary"),
                format!("{name}-canary"),
            ]
            .contains(&service.to_owned())
        })
    };
    let by_name = canaries.iter().find(|canary| name_of(canary) == service);
    Ok(by_name
        .or_else(|| canaries.iter().find(|canary| is_about(canary)))
        .cloned())
}

fn by_canary(canary: &Value, gates: &Gates) -> Finding {
    let name = name_of(canary);
    let status = &canary["status"];
    let phase = status["phase"].as_str().unwrap_or_default();
    let weight = status["canaryWeight"].as_i64().unwrap_or(0);
    let analysis = ["analysis", "canaryAnalysis"]
        .iter()
        .map(|field| &canary["spec"][field])
        .find(|analysis| analysis.is_object());
    let hooks = analysis.and_then(|analysis| analysis["webhooks"].as_array());
    let is_manual = hooks.into_iter().flatten().any(|hook| {
        let kind = hook["type"].as_str().unwrap_or_default();
        MANUAL_HOOKS.contains(&kind)
    });
    let is_suspended = canary["spec"]["suspend"] == true;
    let under_way = UNDER_WAY.contains(&phase);
    let (may_change, sentence) = match (under_way, is_manual, is_suspended) {
        (false, ..) => (
            true,
            format!("{name} may be changed: no release is under way"),
        ),
        (true, _, true) => (
            false,
            format!(
                "{name} is under manual release: somebody has suspended it at {weight} % ({phase}); do not change it until it has ended"
            ),
        ),
        (true, true, false) => (
            false,
            format!(
                "{name} is under manual release: {phase} at {weight} %{}; do not change it until it has ended",
                waiting(gates)
            ),
        ),
        (true, false, false) => (
            true,
            format!(
                "{name} may be changed: its release ({phase} at {weight} %) needs no person and begins anew with the change"
            ),
        ),
    };
    Finding {
        may_change,
        canary: name.to_owned(),
        phase: phase.to_owned(),
        sentence,
    }
}

/// Without its Canary, a service is under manual release when it waits at a gate, or when somebody holds one open for it.
fn by_gates(service: &str, gates: &Gates) -> Finding {
    let of_people = |name: &str| name != ROLLBACK_GATE;
    let waits = gates
        .iter()
        .any(|(name, gate)| of_people(name) && gate.waiting_since.is_some());
    let open = gates
        .iter()
        .find(|(name, gate)| of_people(name) && gate.open);
    let (may_change, sentence) = match (waits, open) {
        (true, _) => (
            false,
            format!(
                "{service} is under manual release{}; do not change it until it has ended",
                waiting(gates)
            ),
        ),
        (false, Some((name, record))) => (
            false,
            format!(
                "{service} is under manual release: gate {name} was opened{}; do not change it until it has ended",
                by(&record.by)
            ),
        ),
        (false, None) => (
            true,
            format!("{service} may be changed: nobody waits at its gates"),
        ),
    };
    Finding {
        may_change,
        canary: service.to_owned(),
        phase: String::new(),
        sentence,
    }
}

fn by(name: &str) -> String {
    if name.is_empty() {
        String::new()
    } else {
        format!(" by {name}")
    }
}

/// Where it waits, as the rest of a sentence.
fn waiting(gates: &Gates) -> String {
    let waits = gates
        .iter()
        .filter(|(name, _)| *name != ROLLBACK_GATE)
        .filter_map(|(name, record)| Some((name, record.waiting_since?, record)))
        .min_by_key(|(_, since, _)| *since);
    waits.map_or_else(String::new, |(name, since, record)| {
        let last = if record.opened_at.is_some() {
            format!(", last opened{}", by(&record.by))
        } else {
            String::new()
        };
        format!(
            ", waiting at gate {name} since {}{last}",
            crossfade_api::time::text(since)
        )
    })
}
