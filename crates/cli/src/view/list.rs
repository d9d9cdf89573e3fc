//! Lists of Rollouts and Experiments: one row each.

use crossfade_api::{Resource, Rollout};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use serde::Serialize;

use super::age;
use super::experiment::Experiment;
use super::phase::Standing;
use super::rollout;
use super::table::Table;
use super::weights;

/// Which columns stand before the usual ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Columns {
    /// When the row was printed.
    pub(crate) timestamp: bool,
    /// The namespace of the object.
    pub(crate) namespace: bool,
}

/// A row about a Rollout; equal rows show the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Row {
    /// Its name.
    pub(crate) name: String,
    /// Its namespace.
    pub(crate) namespace: String,
    /// `Canary`, `BlueGreen` or `unknown`.
    pub(crate) strategy: &'static str,
    /// Its phase in one word.
    pub(crate) status: String,
    /// Why it has this phase.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) message: String,
    /// `<index>/<steps>`.
    pub(crate) step: Option<String>,
    /// The weight that the steps ask for.
    pub(crate) set_weight: Option<i32>,
    /// Ready pods.
    pub(crate) ready: i32,
    /// Pods in all.
    pub(crate) current: i32,
    /// Pods asked for.
    pub(crate) desired: i32,
    /// Pods of the newest version.
    pub(crate) up_to_date: i32,
    /// Available pods.
    pub(crate) available: i32,
}

impl Row {
    /// The row of a Rollout.
    pub(crate) fn of(object: &Rollout) -> Self {
        let standing = Standing::of(object);
        let status = &object.status;
        let no_sets: [&ReplicaSet; 0] = [];
        Self {
            name: object.name().to_owned(),
            namespace: object.namespace().to_owned(),
            strategy: rollout::strategy(object).unwrap_or("unknown"),
            status: standing.word().to_owned(),
            message: standing.message,
            step: rollout::step(object),
            // What the steps ask for does not depend on the ReplicaSets.
            set_weight: weights::of(object, &no_sets).map(|weights| weights.set),
            ready: status.ready_replicas,
            current: status.replicas,
            desired: object.spec.replicas(),
            up_to_date: status.updated_replicas,
            available: status.available_replicas,
        }
    }

    /// The same row for an object that is gone.
    pub(crate) fn deleted(mut self) -> Self {
        "Deleted".clone_into(&mut self.status);
        self
    }

    /// Whether the two rows show the same in the table.
    pub(crate) fn shows_the_same(&self, other: &Self) -> bool {
        let columns = Columns::default();
        self.cells(columns, Timestamp::UNIX_EPOCH) == other.cells(columns, Timestamp::UNIX_EPOCH)
    }

    /// The cells of the row.
    pub(crate) fn cells(&self, columns: Columns, now: Timestamp) -> Vec<String> {
        let mut cells = Vec::new();
        if columns.timestamp {
            cells.push(crossfade_api::time::text(now));
        }
        if columns.namespace {
            cells.push(self.namespace.clone());
        }
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        cells.extend([
            self.name.clone(),
            self.strategy.to_owned(),
            self.status.clone(),
            or_dash(self.step.clone()),
            or_dash(self.set_weight.map(|weight| weight.to_string())),
            format!("{}/{}", self.ready, self.current),
            self.desired.to_string(),
            self.up_to_date.to_string(),
            self.available.to_string(),
        ]);
        cells
    }
}

/// The table of Rollouts.
pub(crate) fn rollouts(rows: &[Row], columns: Columns, now: Timestamp) -> Table {
    let mut headings = vec![
        "NAME",
        "STRATEGY",
        "STATUS",
        "STEP",
        "SET-WEIGHT",
        "READY",
        "DESIRED",
        "UP-TO-DATE",
        "AVAILABLE",
    ];
    let mut widths = vec![10, 9, 12, 4, 10, 5, 7, 10, 9];
    if columns.namespace {
        headings.insert(0, "NAMESPACE");
        widths.insert(0, 9);
    }
    if columns.timestamp {
        headings.insert(0, "TIMESTAMP");
        widths.insert(0, 20);
    }
    let mut table = Table::new(&headings).at_least(widths);
    for row in rows {
        table.row(row.cells(columns, now));
    }
    table
}

/// The table of Experiments.
pub(crate) fn experiments(experiments: &[Experiment], columns: Columns, now: Timestamp) -> Table {
    let mut headings = vec!["NAME", "STATUS", "DURATION", "REMAINING", "AGE"];
    let mut widths = vec![10, 6, 8, 9, 3];
    if columns.namespace {
        headings.insert(0, "NAMESPACE");
        widths.insert(0, 9);
    }
    let mut table = Table::new(&headings).at_least(widths);
    for experiment in experiments {
        let or_dash = |duration: Option<jiff::SignedDuration>| {
            duration.map_or_else(|| "-".to_owned(), age::human)
        };
        let mut cells = vec![
            experiment.name().to_owned(),
            experiment.state().word,
            or_dash(experiment.duration()),
            or_dash(experiment.remaining(now)),
            age::since(
                experiment
                    .metadata
                    .creation_timestamp
                    .as_ref()
                    .map(|time| time.0),
                now,
            ),
        ];
        if columns.namespace {
            cells.insert(0, experiment.namespace().to_owned());
        }
        table.row(cells);
    }
    table
}
