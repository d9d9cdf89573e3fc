//! What happened in the demo, for people and as JSON.

use std::fmt;

use serde::Serialize;

use super::load::Tally;

/// What happened in the demo.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    pub(crate) releases: Vec<Release>,
    /// Requests that failed although the service did not fail them.
    pub(crate) platform_failures: u64,
}

/// One release.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Release {
    pub(crate) name: String,
    pub(crate) revision: u64,
    pub(crate) outcome: Outcome,
    /// Why it ended so.
    pub(crate) reason: String,
    /// Requests while it was under way.
    pub(crate) requests: Tally,
    /// The most traffic that the new version had, in percent.
    pub(crate) max_weight: i32,
    /// How long it took.
    pub(crate) seconds: f64,
}

/// How a release ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// The new version has all traffic.
    Promoted,
    /// The old version has all traffic again.
    Aborted,
    /// Neither, in the time it had.
    #[default]
    Unfinished,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Promoted => "promoted",
            Self::Aborted => "aborted",
            Self::Unfinished => "unfinished",
        })
    }
}

impl Report {
    /// The table at the end.
    pub(crate) fn table(&self) -> String {
        let head = [
            "RELEASE",
            "REVISION",
            "OUTCOME",
            "MOST WEIGHT",
            "REQUESTS",
            "FAILED BY APP",
            "FAILED BY PLATFORM",
            "SECONDS",
            "REASON",
        ];
        let rows = self.releases.iter().map(|release| {
            [
                release.name.clone(),
                release.revision.to_string(),
                release.outcome.to_string(),
                format!("{} %", release.max_weight),
                release.requests.total.to_string(),
                release.requests.failed_by_app.to_string(),
                release.requests.failed_by_platform.to_string(),
                format!("{:.1}", release.seconds),
                release.reason.clone(),
            ]
        });
        let rows: Vec<[String; 9]> = std::iter::once(head.map(str::to_owned))
            .chain(rows)
            .collect();
        let width = |column: usize| {
            rows.iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..9).map(width).collect();
        let line = |row: &[String; 9]| {
            let cells: Vec<String> = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:width$}"))
                .collect();
            cells.join("  ").trim_end().to_owned()
        };
        rows.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}
