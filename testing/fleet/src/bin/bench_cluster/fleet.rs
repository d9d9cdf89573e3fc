//! `bench fleet`: creates many Rollouts, updates all at once, and counts what that took; then how soon a bad answer is obeyed.

use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use crossfade_test_cluster::Actor;
use crossfade_test_fleet::{
    Bound, Kind, Options, Outcome, Probes, Program, Reaction, Report, Requests, Shape, Usage,
};
use serde_json::{Value, json};

use crate::scrape::{Scraped, scrape};
use crate::{Ground, mebibytes, quantile, report, say};

/// The lease of the controller.
const LEASE: Duration = Duration::from_secs(15);
/// How long nothing happens before memory counts as settled.
const SETTLE: Duration = Duration::from_secs(10);

#[derive(Args)]
pub(crate) struct Arguments {
    /// How many Rollouts
    #[arg(long, default_value_t = 500)]
    rollouts: usize,
    /// How many more Rollouts are made bad, to see how soon that is obeyed
    #[arg(long, default_value_t = 20)]
    probes: usize,
}

pub(crate) async fn run(program: &Path, arguments: &Arguments) -> Outcome<Report> {
    say("starting a control plane");
    let ground = Ground::new(program).await?;
    let outcome = measure(&ground, arguments).await;
    if outcome.is_err() {
        let words = ground.fleet.last_words(Actor::Crossfade);
        eprintln!("the controller said last:\n{words}");
    }
    outcome
}

async fn measure(ground: &Ground, arguments: &Arguments) -> Outcome<Report> {
    let fleet = &ground.fleet;
    let api_server = ground.api_server()?;
    let options = Options {
        namespaces: Vec::new(),
        ..fleet.options(Actor::Crossfade, LEASE)?
    };
    let controller = Program::start(&options)?;
    let shape = Shape {
        prefix: "fleet",
        rollouts: arguments.rollouts,
        kind: Kind::Plain,
        replicas: 5,
    };
    let names = shape.names();
    let before = Usage::of(api_server)?;
    let own_before = controller.usage()?;

    say("creating the fleet");
    let began = Instant::now();
    fleet.create_all(shape).await?;
    fleet.until_released(&names, 1).await?;
    let created = began.elapsed();
    let mut probes = Probes::new(fleet, &ground.answers, arguments.probes).await?;
    let of_creation = fleet.requests(Actor::Crossfade)?.0.len();

    say("updating the fleet");
    let began = Instant::now();
    let updated = async {
        fleet.update_all(&names, 2).await?;
        fleet.until_released(&names, 2).await?;
        Outcome::Ok(began.elapsed())
    };
    let over = std::sync::atomic::AtomicBool::new(false);
    let is_over = || over.load(std::sync::atomic::Ordering::Relaxed);
    let updated = async {
        let took = updated.await;
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        took
    };
    let probing = async {
        let mut reactions: Vec<Reaction> = Vec::new();
        while !is_over() {
            probes.begin().await?;
            reactions.extend(probes.measure(Duration::from_millis(100), is_over).await?);
        }
        Outcome::Ok(reactions)
    };
    let (updated, reactions) = tokio::join!(updated, probing);
    let (updated, mut crowded) = (updated?, reactions?);

    tokio::time::sleep(SETTLE).await;
    let (after, own) = (Usage::of(api_server)?, controller.usage()?);
    let requests = fleet.requests(Actor::Crossfade)?;
    let scraped = scrape(options.metrics_port).await?;

    say("asking how soon a bad answer is obeyed when nothing else happens");
    probes.begin().await?;
    tokio::time::sleep(SETTLE).await;
    let mut alone = probes.measure(Duration::from_millis(100), || false).await?;
    controller.stop().await?;

    let mut report = report("fleet");
    report.more("warnings", warnings(&fleet.log(Actor::Crossfade))?);
    report.figure("rollouts", arguments.rollouts as f64, "");
    report.figure("created in", created.as_secs_f64(), "s");
    report.figure("updated in", updated.as_secs_f64(), "s");
    let (cpu, own_cpu) = (after.cpu - before.cpu, own.cpu - own_before.cpu);
    report.figure("CPU of the controller", own_cpu, "s");
    report.figure("CPU of the API server", cpu, "s");
    report.bounded(
        "CPU, as a share of the API server's",
        own_cpu / cpu,
        "",
        Bound(0.08),
    );
    report.figure("memory at its peak", mebibytes(own.peak_rss), "MiB");
    let most = match arguments.rollouts {
        0..=500 => 50.0,
        501..=1000 => 75.0,
        _ => 300.0,
    };
    report.bounded("memory, settled", mebibytes(own.rss), "MiB", Bound(most));
    count(&mut report, &requests, of_creation, arguments.rollouts);
    queue(&mut report, &scraped);
    alone.sort_unstable();
    crowded.sort_unstable();
    report.bounded(
        "bad answer to weight 0, alone, p50",
        quantile(&alone, 0.5),
        "ms",
        Bound(25.0),
    );
    report.figure(
        "bad answer to weight 0, alone, p90",
        quantile(&alone, 0.9),
        "ms",
    );
    if !crowded.is_empty() {
        report.figure(
            "bad answer to weight 0, in the fleet, p50",
            quantile(&crowded, 0.5),
            "ms",
        );
        report.bounded(
            "bad answer to weight 0, in the fleet, p90",
            quantile(&crowded, 0.9),
            "ms",
            Bound(100.0),
        );
    }
    Ok(report)
}

/// What the controller has warned of last.
fn warnings(log: &Path) -> Outcome<Value> {
    let text = std::fs::read_to_string(log)?;
    let warnings = text.lines().filter(|line| line.contains("WARN"));
    Ok(warnings.rev().take(50).collect())
}

/// What was asked of the API server for the fleet alone.
fn count(report: &mut Report, requests: &Requests, of_creation: usize, rollouts: usize) {
    let each = |count: usize| count as f64 / rollouts.max(1) as f64;
    let of_fleet = requests.about("fleet-");
    let of_update = requests.after(of_creation).about("fleet-");
    report.bounded(
        "writes a Rollout",
        each(of_fleet.writes().0.len()),
        "",
        Bound(24.0),
    );
    report.figure(
        "  of which its update",
        each(of_update.writes().0.len()),
        "",
    );
    report.bounded(
        "Events a Rollout",
        each(of_fleet.events().0.len()),
        "",
        Bound(4.0),
    );
    report.bounded(
        "conflicts",
        of_fleet.writes().conflicts() as f64,
        "",
        Bound(0.0),
    );
    for (what, number) in of_fleet.writes().counts() {
        report.figure(&format!("  {what}, a Rollout"), each(number), "");
    }
    let reads: Vec<_> = requests
        .0
        .iter()
        .filter(|one| ["get", "list"].contains(&one.verb.as_str()))
        .collect();
    report.figure("reads, all", reads.len() as f64, "");
    let one = of_fleet.about("fleet-0").writes();
    let one = one
        .0
        .iter()
        .map(|one| json!([one.at, one.verb, one.resource, one.code, one.body]));
    report.more("writes of one Rollout", one.collect());
    report.more("events", json!(of_fleet.events().reasons()));
    report.more("requests", json!(requests.counts()));
}

fn queue(report: &mut Report, scraped: &Scraped) {
    for (share, name) in [(0.5, "p50"), (0.99, "p99")] {
        let wait = scraped.quantile("crossfade_queue_wait_seconds", share);
        report.figure(&format!("wait for a look, {name}"), wait * 1000.0, "ms");
    }
    let passes = scraped.value("crossfade_passes_total");
    report.figure("looks, all", passes, "");
    report.figure(
        "looks that failed",
        scraped.value("crossfade_failed_passes_total"),
        "",
    );
}
