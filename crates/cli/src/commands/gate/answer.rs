//! What `approve` and `reject` have in common: their words, what they say, and waiting until the release has heard it.

use std::time::Duration;

use clap::Args;
use crossfade_api::flagger::CanaryPhase;
use crossfade_api::{Canary, Resource as _};
use crossfade_host::client::{Client, Wanted};
use crossfade_host::store::Kind;
use crossfade_server::gates::{Opening, Record};
use serde_json::{Value, json};

use super::Place;
use super::asked::Reached;
use super::change::{check_reason, gate_document, state};
use crate::act::DryRun;
use crate::canary;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit;
use crate::feed::{Feed, Scope};
use crate::follow::in_namespace;
use crate::global::go_duration;
use crate::output::{document, object_name};
use crate::read;
use crate::terminal;

/// What somebody says to a release that asks.
#[derive(Args, Clone, Debug)]
pub(crate) struct Answer {
    /// Canary that is meant: NAME or canary/NAME
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Gate, or hook that asks it, where it is not clear which
    #[arg(value_name = "GATE")]
    pub(crate) gate: Option<String>,
    /// Why, for those who look later
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) reason: String,
    /// Show what would be opened or written and change nothing
    #[arg(long, value_enum, value_name = "WHERE", num_args = 0..=1, require_equals = true, default_missing_value = "client")]
    dry_run: Option<DryRun>,
    /// Wait until the release has moved: to its next step or phase, or back
    #[arg(long)]
    wait: bool,
    /// Longest time to wait, for example 5m
    #[arg(long, value_name = "DURATION", value_parser = go_duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    pub(crate) place: Place,
}

/// Where an answer sends a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// On, to its next step.
    On,
    /// Back, to the version before.
    Back,
}

/// What is done for an answer.
pub(crate) struct Done<'d> {
    /// The gate that was opened, or that need not be.
    pub(crate) gate: Option<&'d Reached>,
    /// The JSON patch of the Canary, where that was asked itself.
    pub(crate) patch: Option<Value>,
    /// The same in words.
    pub(crate) message: String,
}

impl Answer {
    /// Says when a reason is too long to be kept.
    pub(crate) fn check(&self) -> Result<()> {
        check_reason(&self.reason)
    }

    /// Whether nothing is to be changed.
    pub(crate) fn is_rehearsed(&self) -> bool {
        self.dry_run.is_some()
    }

    /// Opens a gate, or only finds out how open it would be; says it in words.
    pub(crate) async fn open(&self, gate: &mut Reached, opening: Opening) -> Result<String> {
        if self.is_rehearsed() {
            return Ok(state(&Record {
                open: true,
                uses_left: opening.uses,
                scope: opening.scope,
                checksum: opening.checksum.unwrap_or_default(),
                ..Record::default()
            }));
        }
        gate.open(opening).await?;
        Ok(state(&gate.record))
    }

    /// Where the release stands before anything is changed, if its move is to be waited for.
    pub(crate) async fn begin(
        &self,
        context: &Context,
        client: &Client,
        canary: &Canary,
    ) -> Result<Option<Departure>> {
        if !self.wait || self.is_rehearsed() {
            return Ok(None);
        }
        Departure::of(context, client, canary.name())
            .await
            .map(Some)
    }

    /// Says what became of a Canary, to people a sentence, to programs the gate, too; then waits if that is wanted.
    pub(crate) async fn end(
        &self,
        context: &Context,
        canary: &Canary,
        done: Done<'_>,
        departure: Option<(Departure, Sent)>,
    ) -> Result<()> {
        let output = &context.global.output;
        if output.is_for_people() {
            let suffix = if self.is_rehearsed() {
                " (dry run)"
            } else {
                ""
            };
            terminal::line(&format!("{}{suffix}", done.message))?;
            if let Some(patch) = done.patch.filter(|_| self.is_rehearsed()) {
                terminal::line(&format!("  {patch}"))?;
            }
        } else {
            let gate = done
                .gate
                .map(|gate| gate_document(&gate.asked.gate, &gate.record));
            let facts = json!({
                "canary": canary.name(),
                "namespace": context.namespace(),
                "dryRun": self.is_rehearsed(),
                "message": done.message,
                "gate": gate,
                "patch": done.patch,
            });
            let name = object_name(Kind::Canary, canary.name());
            output.print(&document("CanaryAnswer", &facts)?, &[name])?;
        }
        let Some((departure, sent)) = departure else {
            return Ok(());
        };
        let what = match sent {
            Sent::On => "to move on",
            Sent::Back => "to go back",
        };
        // Boxed: what is watched would make every caller large.
        let over = Box::pin(departure.over(context, sent));
        let canary = canary::within(context, canary.name(), self.timeout, what, over).await?;
        if output.is_for_people() {
            return Ok(());
        }
        canary::print(context, &canary)
    }
}

/// A release that is watched from the place where it stands.
#[derive(Debug)]
pub(crate) struct Departure {
    feed: Feed,
    from: Canary,
}

impl Departure {
    async fn of(context: &Context, client: &Client, name: &str) -> Result<Self> {
        let one = Wanted {
            fields: format!("metadata.name={name}"),
            ..Wanted::default()
        };
        let scope = Scope {
            namespace: Some(context.namespace().to_owned()),
            kinds: vec![(Kind::Canary, one)],
        };
        let feed = Feed::open(client, scope).await?;
        let from = seen(&feed).ok_or_else(|| read::not_found(context, Kind::Canary, name))?;
        Ok(Self { feed, from })
    }

    /// Waits until it has left that place, and prints each state on the way. Gives the Canary as it is then.
    async fn over(mut self, context: &Context, sent: Sent) -> Result<Canary> {
        let name = self.from.name().to_owned();
        let mut last = canary::line(&self.from);
        loop {
            self.feed.next().await?;
            let canary =
                seen(&self.feed).ok_or_else(|| read::not_found(context, Kind::Canary, &name))?;
            let line = canary::line(&canary);
            if line != last && context.global.output.is_for_people() {
                terminal::line(&line)?;
            }
            last = line;
            if self.has_left(context, &canary, sent)? {
                return Ok(canary);
            }
        }
    }

    fn has_left(&self, context: &Context, canary: &Canary, sent: Sent) -> Result<bool> {
        let (from, to) = (&self.from.status, &canary.status);
        let name = canary.name();
        if to.phase == CanaryPhase::Failed {
            return match sent {
                Sent::Back => Ok(true),
                Sent::On => Err(canary::failed(context, canary)),
            };
        }
        if from.last_applied_spec != to.last_applied_spec {
            let text = format!(
                "canary '{name}' has begun anew with another revision: it is {}",
                canary::line(canary)
            );
            return Err(CliError::new(exit::REFUSED, text));
        }
        if canary.spec.suspend {
            let text = format!("canary '{name}' is suspended and moves nowhere");
            let hint = format!("crossfade resume canary/{name}{}", in_namespace(context));
            return Err(CliError::new(exit::WAITING, text).hint(hint));
        }
        match sent {
            Sent::On => Ok((from.phase, from.canary_weight, from.iterations)
                != (to.phase, to.canary_weight, to.iterations)),
            Sent::Back if canary::may_go_back(canary) => Ok(false),
            Sent::Back => {
                let line = canary::line(canary);
                let text = format!("canary '{name}' was let through before it went back: {line}");
                Err(CliError::failure(text))
            }
        }
    }
}

fn seen(feed: &Feed) -> Option<Canary> {
    let object = feed.objects(Kind::Canary).next()?;
    Some(Canary::from_json(object.clone()).0)
}
