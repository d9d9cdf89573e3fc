//! `crossfade gate open` and `close`.

use clap::Args;
use crossfade_server::gates::{DEFAULT_GATE, GateId, Opening, Record, Scope, check_gate_name};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::Place;
use super::way::Way;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::output::document;
use crate::terminal;

/// The longest time that a gate may be opened for.
const LONGEST_TTL: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Which gate.
#[derive(Args, Clone, Debug)]
pub(super) struct Which {
    /// Canary that the gate belongs to
    #[arg(value_name = "CANARY")]
    canary: String,
    /// Gate: `default` is that of /gate/check, `rollback` that of /rollback/check, others are named by hooks (metadata.gate)
    #[arg(value_name = "GATE", default_value = DEFAULT_GATE)]
    gate: String,
}

impl Which {
    /// The gate in the namespace that commands work in.
    pub(super) fn id(&self, context: &Context) -> Result<GateId> {
        check_gate_name(&self.gate).map_err(CliError::usage)?;
        if self.canary.is_empty() {
            return Err(CliError::usage("the name of the Canary is empty"));
        }
        Ok(GateId::new(context.namespace(), &self.canary, &self.gate))
    }
}

/// Open a gate
///
/// Without an option it stays open until somebody closes it, for this release and the next ones. `--once` lets exactly one step through. The gate
/// `rollback` takes the release back; `--revision` keeps such an order from hitting the next release.
#[derive(Args, Clone, Debug)]
pub(super) struct Open {
    #[command(flatten)]
    which: Which,
    /// For one granted check: the gate closes itself with it
    #[arg(long, conflicts_with = "uses")]
    once: bool,
    /// For so many granted checks, up to 100
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    uses: Option<u32>,
    /// Close it by itself after this time, from 1s to 720h
    #[arg(long, value_name = "DURATION", value_parser = ttl)]
    ttl: Option<SignedDuration>,
    /// Grant nothing before this time, for example 2026-01-31T08:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    not_before: Option<Timestamp>,
    /// Grant nothing from this time on
    #[arg(long, value_name = "TIME", value_parser = time)]
    not_after: Option<Timestamp>,
    /// For one revision only: this one, or the one that was asked for last
    #[arg(long, value_name = "CHECKSUM", num_args = 0..=1, default_missing_value = "", require_equals = true)]
    revision: Option<String>,
    /// Why, for those who look later
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    reason: String,
    /// Only if the gate is still at this version
    #[arg(long, value_name = "VERSION")]
    expect_version: Option<u64>,
    #[command(flatten)]
    place: Place,
}

/// Close a gate
///
/// Checks are refused from now on. A gate that is closed stays closed.
#[derive(Args, Clone, Debug)]
pub(super) struct Close {
    #[command(flatten)]
    which: Which,
    /// Why, for those who look later
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    reason: String,
    /// Only if the gate is still at this version
    #[arg(long, value_name = "VERSION")]
    expect_version: Option<u64>,
    #[command(flatten)]
    place: Place,
}

fn ttl(text: &str) -> std::result::Result<SignedDuration, String> {
    let ttl = crossfade_api::duration::parse(text)?;
    if ttl < SignedDuration::from_secs(1) || ttl > LONGEST_TTL {
        return Err("use a duration from 1s to 720h".to_owned());
    }
    Ok(ttl)
}

fn time(text: &str) -> std::result::Result<Timestamp, String> {
    crossfade_api::time::parse(text)
        .map_err(|_| "use a time such as 2026-01-31T08:00:00Z".to_owned())
}

/// Says when a reason is too long to be kept.
pub(crate) fn check_reason(reason: &str) -> Result<()> {
    if reason.chars().count() > 500 {
        return Err(CliError::usage("--reason is longer than 500 characters"));
    }
    Ok(())
}

impl Open {
    /// Does it.
    pub(super) async fn run(&self, context: &Context) -> Result<()> {
        check_reason(&self.reason)?;
        let gate = self.which.id(context)?;
        let scope = if self.revision.is_some() {
            Scope::Revision
        } else {
            Scope::Any
        };
        let opening = Opening {
            uses: self.uses.or(self.once.then_some(1)),
            ttl: self.ttl,
            not_before: self.not_before,
            not_after: self.not_after,
            scope,
            checksum: self.revision.clone().filter(|text| !text.is_empty()),
            reason: self.reason.clone(),
            expect_version: self.expect_version,
        };
        let record = Way::to(&self.place, context, &gate, true)
            .await?
            .open(&gate, opening)
            .await?;
        tell(context, &gate, &record)
    }
}

impl Close {
    /// Does it.
    pub(super) async fn run(&self, context: &Context) -> Result<()> {
        check_reason(&self.reason)?;
        let gate = self.which.id(context)?;
        let way = Way::to(&self.place, context, &gate, true).await?;
        let record = way.close(&gate, &self.reason, self.expect_version).await?;
        tell(context, &gate, &record)
    }
}

/// A gate as programs read it.
pub(super) fn gate_document(gate: &GateId, record: &Record) -> Value {
    let mut value = json!(record);
    if let Some(members) = value.as_object_mut() {
        members.insert("namespace".to_owned(), json!(gate.canary.namespace));
        members.insert("canary".to_owned(), json!(gate.canary.name));
        members.insert("gate".to_owned(), json!(gate.gate));
        members.remove("calls");
    }
    value
}

/// The name of a gate for `-o name`.
pub(super) fn gate_name(gate: &GateId) -> String {
    format!("gate/{}/{}", gate.canary.name, gate.gate)
}

fn tell(context: &Context, gate: &GateId, record: &Record) -> Result<()> {
    let output = &context.global.output;
    if !output.is_for_people() {
        let document = document("Gate", &gate_document(gate, record))?;
        return output.print(&document, &[gate_name(gate)]);
    }
    terminal::line(&format!(
        "gate '{}' of '{}' is {}",
        gate.gate,
        gate.canary.name,
        state(record)
    ))
}

/// Whether a gate is open, and for how long.
pub(crate) fn state(record: &Record) -> String {
    if !record.open {
        return "closed".to_owned();
    }
    let mut text = "open".to_owned();
    match record.uses_left {
        Some(1) => text.push_str(" for one check"),
        Some(left) => text.push_str(&format!(" for {left} checks")),
        None => {}
    }
    if record.scope == Scope::Revision {
        text.push_str(&format!(" of revision {}", record.checksum));
    }
    if let Some(from) = record.not_before {
        text.push_str(&format!(" from {}", crossfade_api::time::text(from)));
    }
    if let Some(until) = [record.expires_at, record.not_after]
        .into_iter()
        .flatten()
        .min()
    {
        text.push_str(&format!(" until {}", crossfade_api::time::text(until)));
    }
    text
}
