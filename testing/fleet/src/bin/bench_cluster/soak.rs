//! `bench soak`: updates over a fixed set of Rollouts without pause; memory must not grow.

use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use crossfade_test_cluster::Actor;
use crossfade_test_fleet::{Bound, Kind, Options, Outcome, Program, Report, Shape};
use serde_json::json;

use crate::{Ground, mebibytes, report, say};

/// How often memory is looked at.
const EVERY: Duration = Duration::from_secs(1);

#[derive(Args)]
pub(crate) struct Arguments {
    /// How long, in minutes
    #[arg(long, default_value_t = 20.0)]
    minutes: f64,
    /// How many Rollouts
    #[arg(long, default_value_t = 40)]
    rollouts: usize,
}

pub(crate) async fn run(program: &Path, arguments: &Arguments) -> Outcome<Report> {
    say("starting a control plane");
    let ground = Ground::new(program).await?;
    let fleet = &ground.fleet;
    let options = Options {
        namespaces: Vec::new(),
        ..fleet.options(Actor::Crossfade, Duration::from_secs(15))?
    };
    let controller = Program::start(&options)?;
    let shape = Shape {
        prefix: "fleet",
        rollouts: arguments.rollouts,
        kind: Kind::Plain,
        replicas: 2,
    };
    let names = shape.names();
    fleet.create_all(shape).await?;
    fleet.until_released(&names, 1).await?;

    say("updating without pause");
    let (began, long) = (
        Instant::now(),
        Duration::from_secs_f64(arguments.minutes * 60.0),
    );
    let updating = async {
        let mut version = 1;
        while began.elapsed() < long {
            version += 1;
            fleet.update_all(&names, version).await?;
            fleet.until_released(&names, version).await?;
        }
        Outcome::Ok(version - 1)
    };
    let looking = async {
        let mut memory = Vec::new();
        while began.elapsed() < long {
            tokio::time::sleep(EVERY).await;
            memory.push(controller.usage()?.rss);
        }
        Outcome::Ok(memory)
    };
    let (updates, memory) = tokio::try_join!(updating, looking)?;
    controller.stop().await?;

    let tenth = |number: usize| {
        let length = (memory.len() / 10).max(1);
        let part = memory.chunks(length).nth(number).unwrap_or_default();
        part.iter().map(|bytes| mebibytes(*bytes)).sum::<f64>() / part.len().max(1) as f64
    };
    let (second, last) = (tenth(1), tenth(9));
    let mut report = report("soak");
    report.figure("minutes", arguments.minutes, "");
    report.figure("updates of each Rollout", f64::from(updates), "");
    report.figure("memory in the second tenth", second, "MiB");
    report.figure("memory in the last tenth", last, "MiB");
    report.bounded("growth", (last / second - 1.0) * 100.0, "%", Bound(5.0));
    report.more("memory", json!(memory));
    Ok(report)
}
