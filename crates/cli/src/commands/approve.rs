//! `crossfade approve`: let a Canary through the gate at which it waits, once.

use clap::Args;
use crossfade_api::{Canary, Resource as _};
use crossfade_host::store::Kind;
use crossfade_server::gates::{Opening, Scope};

use crate::canary;
use crate::commands::gate::answer::{Answer, Done, Sent};
use crate::commands::gate::asked::{Asked, Reached, hooks_of_phase, shown};
use crate::commands::gate::canary_named;
use crate::commands::gate::change::state;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit;
use crate::follow::in_namespace;

/// Let a Canary through the gate at which it waits, once
///
/// Opens the gate for one check of the revision that asks: one step, or the promotion, and no more. The gate closes itself with it. Who
/// approved, when and why is kept with the gate (`crossfade gate history`). Where it waits at several, GATE says which one.
///
/// With --wait the command ends when the release has moved: 0 when it went on, 3 when it was taken back, 4 when the time is up, 6 when
/// another revision came between, 7 when it is suspended.
#[derive(Args, Clone, Debug)]
pub(crate) struct Approve {
    #[command(flatten)]
    answer: Answer,
}

impl Approve {
    /// Does it.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        self.answer.check()?;
        let client = context.client()?;
        let canary = canary_named(&self.answer.name, "promote", context, &client).await?;
        let name = canary.name();
        let mut gates = self.gates(&canary, context).await?;
        // Watched from before the gate is opened: the release may move at once.
        let departure = self.answer.begin(context, &client, &canary).await?;
        let departure = departure.map(|departure| (departure, Sent::On));
        let Some(gate) = gates.iter_mut().find(|gate| gate.is_waited_at()) else {
            let open = gates.iter().find(|gate| gate.is_open());
            let gate = open.ok_or_else(|| waits_at_none(context, &canary))?;
            let message = format!(
                "canary '{name}' needs no approval: gate '{}' is {} already, and is asked at its next look",
                gate.asked.gate.gate,
                state(&gate.record)
            );
            let done = Done {
                gate: Some(gate),
                patch: None,
                message,
            };
            return self.answer.end(context, &canary, done, departure).await;
        };
        let revision = gate.revision().to_owned();
        let opening = Opening {
            uses: Some(1),
            scope: if revision.is_empty() {
                Scope::Any
            } else {
                Scope::Revision
            },
            checksum: Some(revision),
            reason: self.answer.reason.clone(),
            ..Opening::default()
        };
        let opened = self.answer.open(gate, opening).await?;
        let message = format!(
            "canary '{name}' approved: gate '{}' is {opened}",
            gate.asked.gate.gate
        );
        let done = Done {
            gate: Some(gate),
            patch: None,
            message,
        };
        self.answer.end(context, &canary, done, departure).await
    }

    /// The gates that the Canary asks now, with the way to each.
    async fn gates(&self, canary: &Canary, context: &Context) -> Result<Vec<Reached>> {
        let name = canary.name();
        let hooks = hooks_of_phase(canary);
        let Some(first) = hooks.first() else {
            return Err(waits_at_none(context, canary));
        };
        let mut asked: Vec<Asked> = hooks
            .iter()
            .filter_map(|hook| Asked::by(canary, hook))
            .collect();
        if asked.is_empty() {
            let text = format!(
                "canary '{name}' asks hook '{}' at {}, which is no gate that crossfade can open",
                first.name,
                shown(&first.url)
            );
            return Err(CliError::new(exit::REFUSED, text)
                .hint("ask whoever looks after that server, or let the hook ask /gate/check of \"crossfade gates\""));
        }
        if let Some(wanted) = &self.answer.gate {
            let known: Vec<String> = asked.iter().map(|one| one.gate.gate.clone()).collect();
            asked.retain(|one| one.gate.gate == *wanted || one.hook == *wanted);
            if asked.is_empty() {
                let text = format!(
                    "canary '{name}' does not ask gate '{wanted}' now, but {}",
                    known.join(", ")
                );
                return Err(CliError::new(exit::NOT_FOUND, text).hint(format!(
                    "crossfade gate open {name} {wanted} --once{}",
                    in_namespace(context)
                )));
            }
        }
        let mut reached = Vec::new();
        for one in asked {
            reached.push(one.reach(&self.answer.place, context).await?);
        }
        Ok(reached)
    }
}

fn waits_at_none(context: &Context, canary: &Canary) -> CliError {
    let name = canary.name();
    let text = format!(
        "canary '{name}' waits at no gate: it is {}",
        canary::line(canary)
    );
    CliError::new(exit::REFUSED, text).hint(format!(
        "crossfade explain {}/{name}{}",
        Kind::Canary.singular(),
        in_namespace(context)
    ))
}
