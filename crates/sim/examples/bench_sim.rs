//! Many seeds on all cores: releases a second, what was reached, and whether every invariant held.
//!
//! `--seeds N` (20000), `--first N` (0), `--seed N` for one seed with its `--story`.

#![expect(clippy::print_stdout, reason = "the result is what is printed")]

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use crossfade_sim::coverage::Coverage;
use crossfade_sim::generate;
use crossfade_sim::run::{Options, run};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |name: &str| -> Option<u64> {
        let place = arguments.iter().position(|argument| argument == name)?;
        arguments.get(place + 1)?.parse().ok()
    };
    if let Some(seed) = number("--seed") {
        let scenario = Arc::new(generate::scenario(seed));
        let options = Options {
            story: true,
            ..Options::default()
        };
        let report = run(&scenario, options);
        if arguments.iter().any(|argument| argument == "--manifests") {
            println!(
                "{}",
                serde_json::to_string_pretty(&*scenario).unwrap_or_default()
            );
        }
        println!(
            "{}\n{:?}\n{:?}",
            report.story, report.outcome, report.broken
        );
        return ExitCode::from(u8::from(report.broken.is_some()));
    }
    let seeds = number("--seeds").unwrap_or(20_000);
    let first = number("--first").unwrap_or(0);
    let begun = Instant::now();
    let mut coverage = Coverage::default();
    let mut broken = 0;
    let mut passes = 0;
    for seed in first..first + seeds {
        let report = run(&Arc::new(generate::scenario(seed)), Options::default());
        coverage.merge(&report.coverage);
        passes += report.passes;
        if let Some(why) = report.broken {
            broken += 1;
            if broken <= 30 {
                println!("seed {seed}: {} at {} ms: {}", why.check, why.at, why.what);
            }
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    for (key, count) in &coverage.0 {
        println!("{count:>10}  {key}");
    }
    println!(
        "{broken} broken, {:.0} releases/s, {} passes each",
        seeds as f64 / seconds,
        passes as u64 / seeds.max(1)
    );
    ExitCode::from(u8::from(broken > 0))
}
