//! `crossfade audit`: who did what, when, and why.

use clap::Args;
use crossfade_host::store::Kind;
use serde_json::json;

use crate::context::Context;
use crate::error::Result;
use crate::output::document;
use crate::target;
use crate::terminal;
use crate::view::table::Table;

/// Show who did what, when, and for which reason
///
/// Every write of a person and every decision of the host that changed something, the oldest first.
#[derive(Args, Clone, Debug)]
pub(crate) struct Audit {
    /// Only what was done to this object: NAME of a Rollout, or TYPE/NAME
    #[arg(value_name = "[TYPE/]NAME", num_args = 0..=2)]
    names: Vec<String>,
    /// In all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Only the last rows
    #[arg(long, value_name = "N")]
    tail: Option<usize>,
}

impl Audit {
    /// Does it.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let targets = target::parse(&self.names, Kind::Rollout)?.targets;
        let subject = targets
            .first()
            .map(|target| format!("{}/{}", target.kind.name(), target.name));
        let namespace = (!self.all_namespaces).then(|| context.namespace());
        let mut rows = context
            .client()?
            .audit(namespace, subject.as_deref())
            .await?;
        if let Some(tail) = self.tail {
            rows.drain(..rows.len().saturating_sub(tail));
        }
        if !context.global.output.is_for_people() {
            let names: Vec<_> = rows.iter().map(|row| row.id.to_string()).collect();
            let document = document("AuditRows", &json!({"items": rows}))?;
            return context.global.output.print(&document, &names);
        }
        if rows.is_empty() {
            terminal::remark("Nothing has been recorded.");
            return Ok(());
        }
        let mut table = Table::new(&["TIME", "ACTOR", "ACTION", "OBJECT", "REASON", "DETAIL"]);
        for row in rows {
            table.row(vec![
                crossfade_api::time::text(row.time),
                row.actor,
                row.action,
                format!("{}/{}", row.subject.kind.to_lowercase(), row.subject.name),
                row.reason,
                row.detail,
            ]);
        }
        terminal::print(&table.text())
    }
}
