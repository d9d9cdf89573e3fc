//! `cargo xtask test`: every test there is, in one go.
//!
//! Test programs run side by side, and those that wait for a world with more tests at once than there are cores: one after the other they would take
//! three times as long, most of it with nothing to do.

use std::io::{Write as _, stdout};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use crossfade_test_controlplane::{ControlPlane, SHARED, build};
use serde_json::Value;

use crate::run::{self, Outcome, cargo};
use crate::setup;

/// Programs that run at once.
const AT_ONCE: usize = 5;

/// Tests that mostly wait for a world: pods, timers, an API server. They take longest, and begin first.
const LONGEST: [Part; 7] = [
    // Stories that take as long as they took: minutes.
    Part::of("crossfade-kube", "cluster", &["recorded_"], 2),
    Part::of("crossfade-kube", "cluster", &["--skip", "recorded_"], 8),
    Part::of("crossfade", "manifests", &[], 5),
    Part::of("crossfade", "cluster", &[], 4),
    Part::of("crossfade", "host", &[], 3),
    Part::of("crossfade", "gates", &[], 4),
    Part::of("crossfade", "measuring", &[], 4),
];

/// Some of the tests of one program.
struct Part {
    package: &'static str,
    target: &'static str,
    /// Which, as the program's arguments.
    which: &'static [&'static str],
    /// How many of them run at once.
    threads: usize,
}

impl Part {
    const fn of(
        package: &'static str,
        target: &'static str,
        which: &'static [&'static str],
        threads: usize,
    ) -> Self {
        Self {
            package,
            target,
            which,
            threads,
        }
    }
}

/// Runs all tests of the workspace, or those that the arguments select. All share one control plane; a selection starts one when it needs it.
pub(crate) fn run(arguments: &[String]) -> Outcome {
    setup::need(&[setup::COMPILER, setup::PROMETHEUS])?;
    if !arguments.is_empty() {
        return run::run(cargo().arg("test").args(arguments));
    }
    // From nothing, each takes minutes.
    let program = thread::spawn(|| build().and_then(|_| crossfade_test_render::build()));
    let mut programs = build_tests()?;
    let built = program.join();
    built.map_err(|_| "the build of the programs in Go broke off")??;
    let plane = ControlPlane::start_for_many()?;
    let told = serde_json::to_string(plane.ready()).map_err(|why| why.to_string())?;
    programs.push(documentation());
    for program in &mut programs {
        program.command.env(SHARED, &told);
    }
    run_all(programs)
}

/// A program of tests.
struct Program {
    name: String,
    command: Command,
    /// Its place among [`LONGEST`], or behind them.
    rank: usize,
}

impl Program {
    /// The program that cargo tells of in this message, in its parts; none, if it does not tell of one.
    fn of(message: &Value) -> Vec<Self> {
        let text = |pointer| message.pointer(pointer).and_then(Value::as_str);
        let (true, Some(executable), Some(manifest), Some(id), Some(target)) = (
            message["profile"]["test"] == true,
            text("/executable"),
            text("/manifest_path"),
            text("/package_id"),
            text("/target/name"),
        ) else {
            return Vec::new();
        };
        let package = package(id);
        let start = |rank: usize| {
            let mut command = if rank < LONGEST.len() {
                Command::new(executable)
            } else {
                // What only computes leaves the cores to those whose pods and deadlines do not wait.
                let mut command = Command::new("nice");
                command.arg(executable);
                command
            };
            // As cargo does: tests find their data from here.
            command.current_dir(Path::new(manifest).parent().unwrap_or(Path::new(".")));
            Self {
                name: format!("{package} {target}"),
                command,
                rank,
            }
        };
        let parts = LONGEST.iter().enumerate();
        let parts: Vec<_> = parts
            .filter(|(_, part)| (part.package, part.target) == (package, target))
            .map(|(rank, part)| {
                let mut program = start(rank);
                program
                    .command
                    .env("RUST_TEST_THREADS", part.threads.to_string());
                program.command.args(part.which);
                program.name = format!("{} {}", program.name, part.which.join(" "));
                program
            })
            .collect();
        if parts.is_empty() {
            vec![start(LONGEST.len())]
        } else {
            parts
        }
    }
}

/// The name in a package's id: `path+file:///folder/name#version` or `path+file:///folder#name@version`.
fn package(id: &str) -> &str {
    let (path, version) = id.rsplit_once('#').unwrap_or((id, ""));
    match version.split_once('@') {
        Some((name, _)) => name,
        None => path.rsplit('/').next().unwrap_or(path),
    }
}

/// The examples in the documentation; cargo alone knows how to run them.
fn documentation() -> Program {
    let mut command = cargo();
    command.args(["test", "--workspace", "--doc", "--no-fail-fast"]);
    Program {
        name: "documentation".to_owned(),
        command,
        rank: LONGEST.len(),
    }
}

/// Builds all test programs, the longest first.
fn build_tests() -> Result<Vec<Program>, String> {
    let mut command = cargo();
    command
        .args(["test", "--workspace", "--no-run"])
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit());
    let messages = run::text_of(&mut command)?;
    let messages = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut programs: Vec<Program> = messages.flat_map(|message| Program::of(&message)).collect();
    programs.sort_by_key(|program| program.rank);
    let is_there = |rank| programs.iter().any(|program| program.rank == rank);
    match (0..).zip(&LONGEST).find(|(rank, _)| !is_there(*rank)) {
        Some((_, part)) => Err(format!(
            "{} has no tests named {}: `LONGEST` in xtask/src/test.rs is out of date",
            part.package, part.target
        )),
        None => Ok(programs),
    }
}

/// Runs programs side by side, showing what each has printed when it has ended.
fn run_all(programs: Vec<Program>) -> Outcome {
    let began = Instant::now();
    let count = programs.len();
    let waiting = Mutex::new(programs.into_iter());
    let failed = Mutex::new(Vec::new());
    // Nothing panics while it holds these.
    let next = || waiting.lock().ok()?.next();
    let worker = || {
        while let Some(mut program) = next() {
            let began = Instant::now();
            let ended = program.command.stdin(Stdio::null()).output();
            let is_good = show(&program.name, began.elapsed(), ended);
            if !is_good && let Ok(mut failed) = failed.lock() {
                failed.push(program.name);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(worker);
        }
    });
    let failed = failed.into_inner().unwrap_or_default();
    if failed.is_empty() {
        eprintln!(
            "{count} test programs passed in {}",
            seconds(began.elapsed())
        );
        return Ok(());
    }
    Err(format!(
        "{} of {count} test programs failed: {}. What they said is above; `cargo xtask test -p CRATE --test NAME` runs one again",
        failed.len(),
        failed.join(", ")
    ))
}

/// Shows how a program has ended; true if it ended well.
fn show(name: &str, took: Duration, ended: std::io::Result<Output>) -> bool {
    let output = match ended {
        Ok(output) => output,
        Err(why) => {
            eprintln!("{name} could not be started: {why}");
            return false;
        }
    };
    // In one piece each, so that programs do not talk at once.
    let mut text = format!("\n{name}: {} after {}\n", output.status, seconds(took)).into_bytes();
    text.extend(output.stdout);
    text.extend(output.stderr);
    // Whoever does not listen any more misses only this.
    stdout().write_all(&text).ok();
    output.status.success()
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
