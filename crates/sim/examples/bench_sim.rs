//! Many seeds on all cores: releases a second, memory, what was reached, and whether every invariant held.
//!
//! A release is a version that was brought to its end, promoted or taken back: a seed has about two of them, and what a newer one has overtaken
//! does not count.
//!
//! One seed in four is a Canary, all others are Rollouts; `--rollouts` and `--canaries` make every seed one of them.
//! `--seeds N` (20000), `--first N` (0), `--coverage` for the whole list of what was reached; `--digest` adds one number for all that was done,
//! recorded and told, to see that a change which is about speed changes nothing else; `--seed N` tells one seed's story, as short as its
//! failure allows unless `--whole`; `--invariants` prints the page that lists them.

#![expect(clippy::print_stdout, reason = "the result is what is printed")]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use crossfade_sim::cluster::Cluster;
use crossfade_sim::coverage::Coverage;
use crossfade_sim::invariants::Check;
use crossfade_sim::run::{Broken, Options, Outcome, run};
use crossfade_sim::watch::What;
use crossfade_sim::{canaries, family, generate, invariants, shrink};
use family::Family;
use mimalloc::MiMalloc;
use serde_json::json;

/// Least releases a second on one core.
const LEAST_PER_SECOND: f64 = 1000.0;
/// Failures that are told in full.
const TOLD: usize = 3;

thread_local! {
    /// Bytes in use by this thread, and the most since it was last asked.
    static BYTES: Cell<(i64, i64)> = const { Cell::new((0, 0)) };
}

/// Counts what is in use, a thread at a time.
struct Counting;

fn count(bytes: i64) {
    // A thread that is ending has nothing more to count.
    let _ = BYTES.try_with(|counted| {
        let (now, most) = counted.get();
        counted.set((now + bytes, most.max(now + bytes)));
    });
}

#[expect(
    unsafe_code,
    reason = "allocators cannot be written without; both calls go to the allocator of what is shipped"
)]
// SAFETY: every call is handed on unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller's promise is handed on.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: the caller's promise is handed on.
        unsafe { MiMalloc.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What one core came to.
#[derive(Default)]
struct Part {
    coverage: Coverage,
    broken: Vec<(u64, Broken)>,
    passes: u64,
    bytes: u64,
    seconds: f64,
    digest: u64,
}

impl Part {
    /// Versions that were brought to their end.
    fn releases(&self) -> u64 {
        let ends = [
            ("event", "RolloutCompleted"),
            ("event", "RolloutAborted"),
            ("canary phase", "Initialized"),
            ("canary phase", "Succeeded"),
            ("canary phase", "Failed"),
        ];
        ends.iter()
            .map(|(area, end)| self.coverage.of(area, end))
            .sum()
    }

    /// What a run came to.
    fn take(&mut self, seed: u64, broken: Option<Broken>, coverage: &Coverage, passes: usize) {
        self.coverage.merge(coverage);
        self.passes += passes as u64;
        if let Some(broken) = broken {
            // At once: a long run need not be over for somebody to begin on it.
            println!("seed {seed}: {}: {}", broken.check, broken.what);
            self.broken.push((seed, broken));
        }
    }
}

/// Digests everything that is done, recorded and told in a run, and adds it to a sum at its end.
struct Digest {
    hasher: DefaultHasher,
    sum: Arc<AtomicU64>,
}

impl Check for Digest {
    fn name(&self) -> &'static str {
        "digest"
    }

    fn sentence(&self) -> &'static str {
        "Takes note of everything."
    }

    fn see(&mut self, cluster: &Cluster, what: &What<'_>) -> Result<(), String> {
        let text = match what {
            What::Act(_) | What::Fault(_) | What::Told(..) => format!("{what:?}"),
            What::Life => String::new(),
            What::Performing(action, _) => format!("{action:?}"),
            What::Performed(_, outcome, _) => format!("{outcome:?}"),
            What::Recorded(..) => format!("{:?}", cluster.rollout()),
            What::RunRecorded(run) => format!("{run:?}"),
            What::Ended(ended, _) => format!("{ended:?}"),
        };
        (cluster.now, text).hash(&mut self.hasher);
        Ok(())
    }

    fn end(&mut self, _cluster: &Cluster, outcome: &Outcome) -> Result<(), String> {
        format!("{outcome:?}").hash(&mut self.hasher);
        self.sum.fetch_add(self.hasher.finish(), Relaxed);
        Ok(())
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |name: &str| -> Option<u64> {
        let place = arguments.iter().position(|argument| argument == name)?;
        arguments.get(place + 1)?.parse().ok()
    };
    let flag = |name: &str| arguments.iter().any(|argument| argument == name);
    let family = |seed| match (flag("--rollouts"), flag("--canaries")) {
        (true, _) => Family::Rollout,
        (_, true) => Family::Canary,
        _ => Family::of(seed),
    };
    if flag("--invariants") {
        print!("{}{}", invariants::page(), canaries::invariants::page());
        return ExitCode::SUCCESS;
    }
    if let Some(seed) = number("--seed") {
        return match family(seed) {
            Family::Rollout => one(seed, flag("--whole")),
            Family::Canary => one_canary(seed, flag("--whole")),
        };
    }
    let seeds = number("--seeds").unwrap_or(20_000);
    let first = number("--first").unwrap_or(0);
    let next = AtomicU64::new(first);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let begun = Instant::now();
    let parts: Vec<Part> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores)
            .map(|_| scope.spawn(|| part(&next, first + seeds, &family, flag("--digest"))))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_default())
            .collect()
    });
    let elapsed = begun.elapsed().as_secs_f64();
    let mut whole = Part::default();
    for part in parts {
        whole.coverage.merge(&part.coverage);
        whole.broken.extend(part.broken);
        whole.passes += part.passes;
        whole.bytes = whole.bytes.max(part.bytes);
        whole.seconds += part.seconds;
        whole.digest = whole.digest.wrapping_add(part.digest);
    }
    whole.broken.sort_by_key(|(seed, _)| *seed);
    if flag("--digest") {
        println!("digest {:016x}", whole.digest);
    }
    report(&whole, seeds, elapsed, flag("--coverage"))
}

/// Time that this thread has had a core to itself, where the system tells.
fn on_core() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds: f64 = text.split(' ').next()?.parse().ok()?;
    Some(nanoseconds / 1e9)
}

fn part(next: &AtomicU64, end: u64, family: &impl Fn(u64) -> Family, digest: bool) -> Part {
    let mut part = Part::default();
    let sum = Arc::new(AtomicU64::new(0));
    // What is made once and then shared belongs to no Rollout.
    drop(run(&Arc::new(generate::scenario(0)), Options::default()));
    let begun = (Instant::now(), on_core());
    loop {
        let seed = next.fetch_add(1, Relaxed);
        if seed >= end {
            break;
        }
        if family(seed) == Family::Canary {
            let scenario = Arc::new(canaries::generate::scenario(seed));
            let report = canaries::run::run(&scenario, canaries::run::Options::default());
            part.take(seed, report.broken, &report.coverage, report.passes);
            continue;
        }
        let scenario = Arc::new(generate::scenario(seed));
        let before = BYTES.get().0;
        BYTES.set((before, before));
        let mut options = Options::default();
        if digest {
            let mut hasher = DefaultHasher::new();
            seed.hash(&mut hasher);
            options.checks.push(Box::new(Digest {
                hasher,
                sum: Arc::clone(&sum),
            }));
        }
        let report = run(&scenario, options);
        part.bytes = part
            .bytes
            .max(u64::try_from(BYTES.get().1 - before).unwrap_or(0));
        part.take(seed, report.broken, &report.coverage, report.passes);
    }
    part.digest = sum.load(Relaxed);
    part.seconds = match (begun.1, on_core()) {
        (Some(before), Some(after)) => after - before,
        _ => begun.0.elapsed().as_secs_f64(),
    };
    part
}

fn report(whole: &Part, seeds: u64, elapsed: f64, coverage: bool) -> ExitCode {
    for (seed, broken) in whole.broken.iter().take(TOLD) {
        println!("\n{}", told(*seed, broken));
    }
    if coverage {
        println!("{}", whole.coverage);
    }
    let releases = whole.releases();
    let per_core = releases as f64 / whole.seconds;
    let rows = [
        ("seeds", seeds.to_string()),
        ("releases", releases.to_string()),
        ("broken invariants", whole.broken.len().to_string()),
        (
            "releases a second on a core",
            format!("{per_core:.0} (at least {LEAST_PER_SECOND})"),
        ),
        (
            "releases a second in all",
            format!("{:.0}", releases as f64 / elapsed),
        ),
        (
            "seeds a second on a core",
            format!("{:.0}", seeds as f64 / whole.seconds),
        ),
        (
            "passes of a release",
            format!("{:.0}", whole.passes as f64 / releases.max(1) as f64),
        ),
        ("most bytes of a simulated Rollout", whole.bytes.to_string()),
    ];
    for (name, value) in rows {
        println!("{name:<36} {value}");
    }
    let result = json!({
        "seeds": seeds,
        "broken": whole.broken.iter().map(|(seed, broken)| json!({"seed": seed, "check": broken.check, "what": broken.what})).collect::<Vec<_>>(),
        "releasesPerSecondOnACore": per_core.round(),
        "releasesPerSecond": (releases as f64 / elapsed).round(),
        "releases": releases,
        "passes": whole.passes,
        "bytesPerRollout": whole.bytes,
        "coverage": whole.coverage.by_area(),
    });
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/bench");
    let stored = std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(folder.join("sim.json"), result.to_string()));
    if let Err(why) = stored {
        println!("target/bench/sim.json cannot be written: {why}");
    }
    let good = whole.broken.is_empty() && per_core >= LEAST_PER_SECOND;
    ExitCode::from(u8::from(!good))
}

/// The story of a failure, as short as it can be.
fn told(seed: u64, broken: &Broken) -> String {
    if broken.check.starts_with("canary-") {
        let (small, broken) = canaries::shrink::shrink(&canaries::generate::scenario(seed), broken);
        return canaries::shrink::tell(&small, &broken);
    }
    let (small, broken) = shrink::shrink(&generate::scenario(seed), broken);
    shrink::tell(&small, &broken)
}

/// One seed of a Canary: its story, made as small as the failure allows if there is one.
fn one_canary(seed: u64, whole: bool) -> ExitCode {
    let scenario = Arc::new(canaries::generate::scenario(seed));
    let options = canaries::run::Options {
        story: true,
        ..Default::default()
    };
    let report = canaries::run::run(&scenario, options);
    match &report.broken {
        Some(broken) if !whole => println!("{}", told(seed, broken)),
        broken => {
            println!("{}\n{:?}", report.story.join("\n"), report.outcome);
            if let Some(broken) = broken {
                println!("{}: {}", broken.check, broken.what);
            }
        }
    }
    ExitCode::from(u8::from(report.broken.is_some()))
}

/// One seed: its story, made as small as the failure allows if there is one.
fn one(seed: u64, whole: bool) -> ExitCode {
    let scenario = generate::scenario(seed);
    let options = Options {
        story: true,
        ..Options::default()
    };
    let report = run(&Arc::new(scenario.clone()), options);
    match report.broken {
        Some(broken) if !whole => {
            let (small, broken) = shrink::shrink(&scenario, &broken);
            println!("{}", shrink::tell(&small, &broken));
            ExitCode::FAILURE
        }
        broken => {
            println!("{}{:?}", report.story, report.outcome);
            if let Some(broken) = &broken {
                println!("{}: {}", broken.check, broken.what);
            }
            ExitCode::from(u8::from(broken.is_some()))
        }
    }
}
