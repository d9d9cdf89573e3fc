//! `crossfade demo`: the main job on this machine, for real, within two minutes.
//!
//! A host in a temporary folder, a sample service in several pods, a gate server, steady requests; five releases, each with
//! the end it should have.

mod ask;
mod load;
mod report;
mod sample;
mod seen;
mod stage;

use std::path::PathBuf;
use std::time::Duration;

use crate::error::{CliError, Result};
use crate::exit;

pub(crate) use ask::Ask;
#[cfg(test)]
use report::Release;
use report::{Outcome, Report};
pub(crate) use sample::Sample;
use stage::{Act, Stage, Update};

/// The whole demo ends within this time, come what may.
const LIMIT: Duration = Duration::from_mins(2);

/// Watch five releases: two good canaries, one taken back, one blue-green, one led by hand
///
/// Starts a host in a temporary folder with sample services and a gate server, sends a steady stream of requests, and releases new versions.
/// Ends by itself with a table of what happened; the exit code is 3 if any release did not end as it should.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Demo {
    /// Write what happened to this file as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Leave everything running at the end, and print where
    #[arg(long)]
    keep: bool,
    /// Requests a second to each service
    #[arg(long, default_value_t = 100)]
    rate: u32,
}

/// What a release should come to.
struct Plan {
    name: &'static str,
    update: Update,
    outcome: Outcome,
    /// The most weight that the new version may have had; `None` for any.
    most_weight: Option<i32>,
    /// What people do meanwhile, in order.
    acts: &'static [Act],
}

/// Somebody lets the release through its gate for one step, finds the gate closed again, and takes the release back.
const BY_HAND: [Act; 3] = [
    Act {
        weight: 0,
        command: &["approve", "catalog", "--reason", "a first look"],
    },
    Act {
        weight: 10,
        command: &["gate", "status", "catalog", "default"],
    },
    Act {
        weight: 10,
        command: &["reject", "catalog", "--reason", "not good enough"],
    },
];

fn plans() -> [Plan; 5] {
    let plan = |name, release, version, error_percent| {
        let outcome = if error_percent == 0 {
            Outcome::Promoted
        } else {
            Outcome::Aborted
        };
        Plan {
            name,
            update: Update {
                release,
                version,
                error_percent,
            },
            outcome,
            most_weight: None,
            acts: &[],
        }
    };
    [
        plan("first version", "shop", "v1", 0),
        plan("good canary", "shop", "v2", 0),
        Plan {
            most_weight: Some(20),
            ..plan("bad canary", "shop", "v3", 30)
        },
        plan("blue-green", "checkout", "v2", 0),
        Plan {
            outcome: Outcome::Aborted,
            most_weight: Some(10),
            acts: &BY_HAND,
            ..plan("manual gates", "catalog", "v2", 0)
        },
    ]
}

impl Demo {
    /// Runs the demo.
    pub(crate) fn run(self) -> Result<()> {
        let runtime = tokio::runtime::Runtime::new()
            .map_err(|why| CliError::failure(format!("cannot start: {why}")))?;
        let performed =
            runtime.block_on(async { tokio::time::timeout(LIMIT, perform(&self)).await });
        match performed {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(CliError::silent(exit::DEGRADED)),
            Ok(Err(why)) => Err(CliError::failure(why)),
            Err(_) => Err(CliError::new(
                exit::TIMED_OUT,
                format!("the demo did not end within {} s", LIMIT.as_secs()),
            )),
        }
    }
}

/// Goes through all releases; true if each ended as it should.
async fn perform(demo: &Demo) -> std::result::Result<bool, String> {
    let mut stage = Stage::set_up(demo.rate).await?;
    let mut report = Report::default();
    for plan in plans() {
        let release = stage.release(plan.name, plan.update, plan.acts).await?;
        report.releases.push(release);
    }
    report.platform_failures = stage.platform_failures();
    let faults = faults(&report);
    if let Some(path) = &demo.report {
        let text = serde_json::to_string_pretty(&report).map_err(|why| why.to_string())?;
        std::fs::write(path, text + "\n")
            .map_err(|why| format!("cannot write {}: {why}", path.display()))?;
    }
    anstream::println!("\n{}", report.table());
    for fault in &faults {
        anstream::println!("not as it should be: {fault}");
    }
    for trouble in stage.troubles() {
        anstream::println!("platform failure: {trouble}");
    }
    if demo.keep {
        anstream::println!("{}", stage.addresses());
        stage.keep();
    } else {
        stage.strike().await?;
    }
    Ok(faults.is_empty())
}

/// What did not go as it should, in words.
fn faults(report: &Report) -> Vec<String> {
    let mut faults = Vec::new();
    for (plan, release) in plans().iter().zip(&report.releases) {
        if plan.outcome != release.outcome {
            faults.push(format!(
                "{} was {} ({})",
                release.name, release.outcome, release.reason
            ));
        }
        if plan
            .most_weight
            .is_some_and(|most| release.max_weight > most)
        {
            faults.push(format!(
                "{} had {} % of the requests",
                release.name, release.max_weight
            ));
        }
        if release.revision > 1 && release.requests.total == 0 {
            faults.push(format!("{} saw no requests", release.name));
        }
    }
    if report.releases.len() < plans().len() {
        faults.push("not every release took place".to_owned());
    }
    if report.platform_failures > 0 {
        faults.push(format!(
            "{} requests failed that should not have",
            report.platform_failures
        ));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn as_it_should_be() -> Report {
        let releases = plans()
            .iter()
            .map(|plan| Release {
                name: plan.name.to_owned(),
                revision: 2,
                outcome: plan.outcome,
                max_weight: plan.most_weight.unwrap_or(100),
                requests: super::load::Tally {
                    total: 10,
                    ..Default::default()
                },
                ..Release::default()
            })
            .collect();
        Report {
            releases,
            platform_failures: 0,
        }
    }

    #[test]
    fn a_demo_that_went_well_has_no_faults() {
        assert_eq!(faults(&as_it_should_be()), Vec::<String>::new());
    }

    #[test]
    fn whatever_went_wrong_is_named() {
        let mut report = as_it_should_be();
        report.releases[2].outcome = Outcome::Promoted;
        report.releases[2].max_weight = 50;
        report.platform_failures = 3;
        report.releases.pop();
        assert_eq!(faults(&report).len(), 4, "{:?}", faults(&report));
    }
}
