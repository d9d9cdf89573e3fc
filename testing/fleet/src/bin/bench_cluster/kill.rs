//! `bench kill`: kills the controller in the middle of updates, again and again, and looks for what that has broken.

use std::path::Path;
use std::time::Instant;

use clap::Args;
use crossfade_test_cluster::Actor;
use crossfade_test_fleet::{Outcome, Report, survive};

use crate::{Ground, report, say};

#[derive(Args)]
pub(crate) struct Arguments {
    /// How often
    #[arg(long, default_value_t = 200)]
    kills: usize,
    /// How many Rollouts of each of three sorts
    #[arg(long, default_value_t = 10)]
    rollouts: usize,
}

pub(crate) async fn run(program: &Path, arguments: &Arguments) -> Outcome<Report> {
    say("starting a control plane");
    let ground = Ground::new(program).await?;
    say("killing the controller");
    let began = Instant::now();
    let survived = survive(&ground.fleet, arguments.rollouts, arguments.kills).await;
    let survived = survived.map_err(|why| {
        let words = ground.fleet.last_words(Actor::Crossfade);
        format!("{why}\nthe controller said last:\n{words}")
    })?;
    let mut report = report("kill");
    report.figure("kills", survived.kills as f64, "");
    report.figure("releases of each Rollout", f64::from(survived.updates), "");
    report.figure("took", began.elapsed().as_secs_f64(), "s");
    Ok(report)
}
