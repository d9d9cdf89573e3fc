//! `crossfade gate list`, `status` and `history`.

use clap::Args;
use crossfade_server::gates::{DEFAULT_GATE, Entry, GateId, Gates, Record, check_gate_name};
use jiff::Timestamp;
use serde_json::json;

use super::Place;
use super::change::{gate_document, gate_name, state};
use super::way::Way;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::output::document;
use crate::terminal;
use crate::view::age;
use crate::view::table::{Table, ended};

/// List gates
///
/// Those that were ever opened, closed or asked. WAITING says for how long a release has been asking in vain.
#[derive(Args, Clone, Debug)]
pub(super) struct List {
    /// In all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    #[command(flatten)]
    place: Place,
}

/// Which gates.
#[derive(Args, Clone, Debug)]
struct Which {
    /// Canary that the gates belong to
    #[arg(value_name = "CANARY")]
    canary: String,
    /// One of its gates; all of them when not given
    #[arg(value_name = "GATE")]
    gate: Option<String>,
}

impl Which {
    async fn find(&self, place: &Place, context: &Context) -> Result<(GateId, Gates)> {
        let name = self.gate.as_deref().unwrap_or(DEFAULT_GATE);
        check_gate_name(name).map_err(CliError::usage)?;
        if self.canary.is_empty() {
            return Err(CliError::usage("the name of the Canary is empty"));
        }
        let gate = GateId::new(context.namespace(), &self.canary, name);
        let way = Way::to(place, context, &gate, self.gate.is_some()).await?;
        let gates = way.gates(&gate, self.gate.is_some()).await?;
        Ok((gate, gates))
    }
}

/// Show the gates of a Canary
///
/// Whether they are open, on what terms, who changed them last and why, and when they were asked.
#[derive(Args, Clone, Debug)]
pub(super) struct Status {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    place: Place,
}

/// Show who opened and closed a gate, when and why
///
/// The last twenty changes of each gate, the oldest first: opened, closed, granted, expired, given back, and attempts that were refused.
#[derive(Args, Clone, Debug)]
pub(super) struct History {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    place: Place,
}

fn dash(text: &str) -> String {
    if text.is_empty() {
        "-".to_owned()
    } else {
        text.to_owned()
    }
}

impl List {
    /// Does it.
    pub(super) async fn run(&self, context: &Context) -> Result<()> {
        let way = Way::find(&self.place, context).await?;
        let namespace = (!self.all_namespaces).then(|| context.namespace());
        let gates = way.list(namespace).await?;
        let output = &context.global.output;
        if !output.is_for_people() {
            let names: Vec<_> = gates
                .iter()
                .map(|gate| gate_name(&GateId::new(&gate.namespace, &gate.name, &gate.gate)))
                .collect();
            let document = document("GateList", &json!({"items": gates}))?;
            return output.print(&document, &names);
        }
        if gates.is_empty() {
            terminal::remark("No gates found.");
            return Ok(());
        }
        let now = Timestamp::now();
        let mut headings = vec!["CANARY", "GATE", "OPEN", "USES", "EXPIRES", "BY", "WAITING"];
        if self.all_namespaces {
            headings.insert(0, "NAMESPACE");
        }
        let mut table = Table::new(&headings);
        for gate in gates {
            let expires = gate.expires_at.filter(|_| gate.open);
            let mut row = vec![
                gate.name,
                gate.gate,
                if gate.open { "yes" } else { "no" }.to_owned(),
                gate.uses_left
                    .filter(|_| gate.open)
                    .map_or_else(|| "-".to_owned(), |left| left.to_string()),
                expires.map_or_else(|| "-".to_owned(), |at| age::human(at.duration_since(now))),
                dash(&gate.by),
                gate.waiting_since
                    .map_or_else(|| "-".to_owned(), |since| age::since(Some(since), now)),
            ];
            if self.all_namespaces {
                row.insert(0, gate.namespace);
            }
            table.row(row);
        }
        terminal::print(&table.text())
    }
}

impl Status {
    /// Does it.
    pub(super) async fn run(&self, context: &Context) -> Result<()> {
        let (gate, mut gates) = self.which.find(&self.place, context).await?;
        let is_known = !gates.is_empty();
        if !is_known && self.which.gate.is_some() {
            gates.insert(gate.gate.clone(), Record::default());
        }
        let id_of = |name: &str| GateId {
            gate: name.to_owned(),
            ..gate.clone()
        };
        let output = &context.global.output;
        if !output.is_for_people() {
            let items: Vec<_> = gates
                .iter()
                .map(|(name, record)| gate_document(&id_of(name), record))
                .collect();
            let names: Vec<_> = gates.keys().map(|name| gate_name(&id_of(name))).collect();
            let document = document("GateStatus", &json!({"known": is_known, "items": items}))?;
            return output.print(&document, &names);
        }
        if gates.is_empty() {
            terminal::remark(&format!(
                "Nobody has opened or asked a gate of {} yet.",
                gate.canary
            ));
            return Ok(());
        }
        let mut text = String::new();
        for (name, record) in &gates {
            text.push_str(&format!("{name}: {}\n", state(record)));
            text.push_str(&facts(record));
        }
        terminal::print(&text)
    }
}

fn facts(record: &Record) -> String {
    let at = |time: Timestamp| crossfade_api::time::text(time);
    let mut lines = Vec::new();
    if let Some(time) = record.opened_at {
        lines.push(format!("opened:   {}", at(time)));
    }
    if !record.by.is_empty() {
        lines.push(format!("by:       {}", record.by));
    }
    if !record.reason.is_empty() {
        lines.push(format!("reason:   {}", record.reason));
    }
    if let Some(check) = &record.last_check {
        let how = if check.granted { "granted" } else { "refused" };
        lines.push(format!("asked:    {} ({how})", at(check.time)));
    }
    if let Some(since) = record.waiting_since {
        lines.push(format!("waiting:  since {}", at(since)));
    }
    lines.push(format!("version:  {}", record.version));
    let lines: Vec<_> = lines.iter().map(|line| format!("  {line}")).collect();
    ended(&lines)
}

impl History {
    /// Does it.
    pub(super) async fn run(&self, context: &Context) -> Result<()> {
        let (gate, gates) = self.which.find(&self.place, context).await?;
        let mut entries: Vec<(String, Entry)> = Vec::new();
        for (name, record) in gates {
            entries.extend(
                record
                    .history
                    .into_iter()
                    .map(|entry| (name.clone(), entry)),
            );
        }
        entries.sort_by_key(|(_, entry)| entry.time);
        let output = &context.global.output;
        if !output.is_for_people() {
            let items: Vec<_> = entries
                .iter()
                .map(|(name, entry)| {
                    let mut item = json!(entry);
                    item["gate"] = json!(name);
                    item
                })
                .collect();
            let document = document("GateHistory", &json!({"items": items}))?;
            return output.print(&document, &[gate_name(&gate)]);
        }
        if entries.is_empty() {
            terminal::remark("Nothing has been done to it.");
            return Ok(());
        }
        let mut table = Table::new(&[
            "TIME", "GATE", "ACTION", "RESULT", "BY", "AUTH", "FROM", "LEFT", "REASON",
        ]);
        for (name, entry) in entries {
            table.row(vec![
                crossfade_api::time::text(entry.time),
                name,
                entry.action.word().to_owned(),
                entry.result.clone(),
                dash(&entry.by),
                entry.auth.clone(),
                dash(&entry.source_ip),
                entry
                    .uses_left
                    .map_or_else(|| "-".to_owned(), |left| left.to_string()),
                dash(&entry.reason),
            ]);
        }
        terminal::print(&table.text())
    }
}
