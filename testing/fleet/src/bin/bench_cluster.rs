//! Measures the controller on a real control plane: `cargo xtask bench canaries | fleet | kill | soak | start`.
//!
//! Each starts a control plane of its own and the given program as its controller, with the rights of the shipped role and no others. Nodes are
//! fake: a pod runs 1.2 s after it is bound and is gone 0.8 s after it is deleted.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measurement talks to its reader"
)]

#[path = "bench_cluster/canaries.rs"]
mod canaries;
#[path = "bench_cluster/fleet.rs"]
mod fleet;
#[path = "bench_cluster/kill.rs"]
mod kill;
#[path = "bench_cluster/scrape.rs"]
mod scrape;
#[path = "bench_cluster/soak.rs"]
mod soak;
#[path = "bench_cluster/start.rs"]
mod start;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use crossfade_test_cluster::Cluster;
use crossfade_test_cluster::kubelet::Pace;
use crossfade_test_controlplane::ControlPlane;
use crossfade_test_fleet::{Answers, Fleet, Outcome, Report};

/// How long pods take.
const PACE: Pace = Pace {
    starts_after: Duration::from_millis(1200),
    stops_after: Duration::from_millis(800),
};

/// Measures the controller on a real control plane
#[derive(Parser)]
struct Arguments {
    /// The program `crossfade`
    #[arg(long)]
    program: PathBuf,
    /// The folder of the report
    #[arg(long)]
    folder: PathBuf,
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// Canaries that progress, and that rest
    Canaries(canaries::Arguments),
    /// One update of a whole fleet, and how soon a bad answer is obeyed
    Fleet(fleet::Arguments),
    /// Kills of the controller in the middle of updates
    Kill(kill::Arguments),
    /// Memory under updates without pause
    Soak(soak::Arguments),
    /// Time and memory until a controller is ready for many objects
    Start(start::Arguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments {
        program,
        folder,
        bench,
    } = Arguments::parse();
    let report = match bench {
        Bench::Canaries(arguments) => canaries::run(&program, &arguments).await,
        Bench::Fleet(arguments) => fleet::run(&program, &arguments).await,
        Bench::Kill(arguments) => kill::run(&program, &arguments).await,
        Bench::Soak(arguments) => soak::run(&program, &arguments).await,
        Bench::Start(arguments) => start::run(&program, &arguments).await,
    };
    let outcome = report.and_then(|report| {
        print!("{}", report.table());
        report.write(&folder)?;
        Ok(report.holds())
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("Error: a bound was missed");
            ExitCode::FAILURE
        }
        Err(why) => {
            eprintln!("Error: {why}");
            ExitCode::FAILURE
        }
    }
}

/// A control plane of its own with an empty fleet, and the metric server that its analyses ask.
struct Ground {
    plane: ControlPlane,
    answers: Answers,
    fleet: Fleet,
}

impl Ground {
    async fn new(program: &std::path::Path) -> Outcome<Self> {
        let answers = Answers::start().await?;
        let (cluster, plane) = Cluster::own().await?;
        let fleet = Fleet::new(cluster, PACE, program.to_owned(), answers.address()).await?;
        Ok(Self {
            plane,
            answers,
            fleet,
        })
    }

    /// The process id of the API server.
    fn api_server(&self) -> Outcome<u32> {
        let processes = &self.plane.ready().processes;
        let pid = processes.get("kube-apiserver").copied();
        pid.ok_or_else(|| "the control plane has no API server".into())
    }
}

/// Says what is going on, on a line of its own.
fn say(what: &str) {
    eprintln!("{what} ...");
}

/// Bytes as MiB.
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}

/// The value below which this share of all lies.
fn quantile(sorted: &[Duration], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let place = (last as f64 * share).round() as usize;
    let value = sorted.get(place).copied().unwrap_or_default();
    value.as_secs_f64() * 1000.0
}

/// An empty report of this name.
fn report(name: &'static str) -> Report {
    Report::new(name)
}
