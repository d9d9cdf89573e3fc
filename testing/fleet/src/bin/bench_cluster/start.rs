//! `bench start`: how soon a controller is ready for work when there is much to read, and what it holds of it.

use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use crossfade_test_cluster::Actor;
use crossfade_test_fleet::{Bound, Options, Outcome, Program, Report};

use crate::{Ground, mebibytes, report, say};

const ROLLOUT: (&str, &str, &str) = ("argoproj.io", "v1alpha1", "Rollout");
const SET: (&str, &str, &str) = ("apps", "v1", "ReplicaSet");
/// How long a controller may take until it is ready.
const PATIENCE: Duration = Duration::from_mins(5);

#[derive(Args)]
pub(crate) struct Arguments {
    /// How many Rollouts, each with three ReplicaSets
    #[arg(long, default_value_t = 10_000)]
    rollouts: usize,
}

pub(crate) async fn run(program: &Path, arguments: &Arguments) -> Outcome<Report> {
    say("starting a control plane");
    let ground = Ground::new(program).await?;
    let fleet = &ground.fleet;
    say("creating Rollouts with three ReplicaSets each");
    fleet.create_resting(arguments.rollouts).await?;

    let options = Options {
        namespaces: Vec::new(),
        lease: None,
        ..fleet.options(Actor::Crossfade, Duration::ZERO)?
    };
    // The first look at everything writes notes; the second start finds them.
    say("letting a first controller look at everything");
    let first = Program::start(&options)?;
    rest(&first).await?;
    first.stop().await?;

    say("listing");
    let began = Instant::now();
    for kind in [ROLLOUT, SET] {
        fleet.list(kind).await?;
    }
    let listing = began.elapsed();

    say("starting");
    let began = Instant::now();
    let controller = Program::start(&options)?;
    while !crate::scrape::is_ready(options.health_port).await {
        if began.elapsed() > PATIENCE {
            return Err("the controller does not become ready".into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let ready = began.elapsed();
    rest(&controller).await?;
    let usage = controller.usage()?;
    controller.stop().await?;

    let mut report = report("start");
    report.figure("rollouts", arguments.rollouts as f64, "");
    report.figure("listing", listing.as_secs_f64(), "s");
    report.figure("ready", ready.as_secs_f64(), "s");
    let share = ready.as_secs_f64() / listing.as_secs_f64();
    report.bounded("ready, in times of listing", share, "", Bound(2.0));
    report.figure("memory at its peak", mebibytes(usage.peak_rss), "MiB");
    let most = Bound(300.0);
    report.bounded("memory, settled", mebibytes(usage.rss), "MiB", most);
    Ok(report)
}

/// Waits until the controller has nothing more to do.
async fn rest(controller: &Program) -> Outcome<()> {
    let mut quiet = 0;
    let mut before = controller.usage()?.cpu;
    while quiet < 5 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = controller.usage()?.cpu;
        quiet = if now - before < 0.05 { quiet + 1 } else { 0 };
        before = now;
    }
    Ok(())
}
