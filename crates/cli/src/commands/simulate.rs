//! `crossfade simulate`: what a release would do, before it does it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use crossfade_sim::forecast::{self, Behaviour, Forecast, Question};
use jiff::SignedDuration;
use serde_json::Value;

use crate::context::Context;
use crate::documents;
use crate::error::{CliError, Result};
use crate::exit;
use crate::global::go_duration;
use crate::output::document;
use crate::terminal;
use crate::view::forecast::{Traffic, View};
use crate::view::plot;

/// Tell what a release would do, before it does it
///
/// Plays the release of a new version through the same rules that decide real ones, in virtual time, on nothing but the manifests: when each
/// step comes, which share of the requests and how many pods the new version has, what is waited for, how long it all takes. And how much a
/// bad version could do until it is taken back: its largest share, its longest time, how many requests.
///
/// Services that the Rollout names are assumed to exist; its templates must be in the files. Metrics answer so that the conditions in the
/// templates call them good or bad. Where only a person can go on, somebody promotes after --approve-after.
#[derive(Args, Clone, Debug)]
pub(crate) struct Simulate {
    /// Manifests with one Rollout: files, folders, or - for standard input
    #[arg(short, long, value_name = "FILE", required = true)]
    filename: Vec<PathBuf>,
    /// More manifests, for example a folder of AnalysisTemplates
    #[arg(long, value_name = "FILE")]
    templates: Vec<PathBuf>,
    /// How the new version behaves: good, bad, bad@PERCENT%, flaky, no-data, provider-down, slow-pods, dead-pods or crashing-pods
    ///
    /// bad@40% turns bad when it has 40 % of the requests. flaky: metrics say good and bad in turn. no-data: metrics have nothing to say.
    #[arg(long, value_name = "SCENARIO", default_value = "good")]
    scenario: Scenario,
    /// Requests of the whole service, for example 40/min, 200/s or 5000/h
    #[arg(long, value_name = "REQUESTS/TIME")]
    traffic: Option<Traffic>,
    /// Time until a pod is ready
    #[arg(long, value_name = "DURATION", value_parser = go_duration, default_value = "10s")]
    pod_start: Duration,
    /// Time until somebody promotes where only a person can go on
    #[arg(long, value_name = "DURATION", value_parser = go_duration, default_value = "10m")]
    approve_after: Duration,
    /// Draw the new version's share and the pods over time into this SVG file
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

/// A scenario as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Scenario(Behaviour);

const SCENARIOS: [(&str, Behaviour); 8] = [
    ("good", Behaviour::Good),
    ("bad", Behaviour::Bad(0)),
    ("flaky", Behaviour::Flaky),
    ("no-data", Behaviour::NoData),
    ("provider-down", Behaviour::ProviderDown),
    ("slow-pods", Behaviour::SlowPods),
    ("dead-pods", Behaviour::DeadPods),
    ("crashing-pods", Behaviour::CrashingPods),
];

impl FromStr for Scenario {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        if let Some(percent) = text.strip_prefix("bad@") {
            let number = percent.trim_end_matches('%').parse().ok();
            let percent = number.filter(|percent| (1..=100).contains(percent));
            return percent
                .map(|percent| Self(Behaviour::Bad(percent)))
                .ok_or_else(|| "a share is from 1% to 100%, as in bad@40%".to_owned());
        }
        let known = SCENARIOS.iter().find(|(name, _)| *name == text);
        known.map(|(_, behaviour)| Self(*behaviour)).ok_or_else(|| {
            let names: Vec<_> = SCENARIOS.iter().map(|(name, _)| *name).collect();
            format!("use {} or bad@PERCENT%", names.join(", "))
        })
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Behaviour::Bad(percent @ 1..) = self.0 {
            return write!(f, "bad@{percent}%");
        }
        let known = SCENARIOS.iter().find(|(_, behaviour)| *behaviour == self.0);
        f.write_str(known.map_or("", |(name, _)| name))
    }
}

impl Simulate {
    /// Does it.
    pub(crate) fn run(&self, context: &Context) -> Result<()> {
        let paths: Vec<_> = self
            .filename
            .iter()
            .chain(&self.templates)
            .cloned()
            .collect();
        let manifests: Vec<Value> = documents::read(&paths)?
            .into_iter()
            .map(|document| document.source.object)
            .collect();
        let rollout = manifests.iter().find(|one| one["kind"] == "Rollout");
        let name = rollout.and_then(|rollout| rollout["metadata"]["name"].as_str());
        let name = name.unwrap_or_default().to_owned();
        let question = |behaviour| Question {
            manifests: manifests.clone(),
            behaviour,
            pod_start: span(self.pod_start),
            approved_after: span(self.approve_after),
        };
        let play = |behaviour| forecast::forecast(&question(behaviour)).map_err(refused);
        let asked = play(self.scenario.0)?;
        let good = match self.scenario.0 {
            Behaviour::Good => asked.clone(),
            _ => play(Behaviour::Good)?,
        };
        let mut bad = Vec::new();
        for percent in turning_points(&good) {
            bad.push((percent, play(Behaviour::Bad(percent))?));
        }
        let view = View::new(name, self.scenario.to_string(), self.traffic, &asked, &bad);
        if let Some(path) = &self.plot {
            let drawn = plot::svg(&asked, &view.title());
            std::fs::write(path, drawn).map_err(|error| {
                CliError::failure(format!("cannot write {}: {error}", path.display()))
            })?;
        }
        let output = &context.global.output;
        if output.is_for_people() {
            return terminal::print(&view.text(context.terminal.look));
        }
        output.print(
            &document("Simulation", &view)?,
            &[format!("rollout.argoproj.io/{}", view.rollout)],
        )
    }
}

/// Shares, in percent, at which a version may turn bad that was good so far; 0 is from the beginning. Each is one that a good version has
/// for a while.
fn turning_points(good: &Forecast) -> Vec<i32> {
    const MOST: usize = 24;
    const A_WHILE: SignedDuration = SignedDuration::from_secs(30);
    let mut points = vec![0];
    for (moment, next) in good.moments.iter().zip(good.moments.iter().skip(1)) {
        let percent = (moment.share * 100.0).round() as i32;
        if next.at - moment.at >= A_WHILE
            && percent > points.last().copied().unwrap_or(0)
            && points.len() < MOST
        {
            points.push(percent);
        }
    }
    points
}

fn span(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

fn refused(why: String) -> CliError {
    CliError::new(exit::REFUSED, why)
        .hint("crossfade lint -f FILE checks the manifests; --templates names files with AnalysisTemplates")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_are_read_as_they_are_shown() {
        for text in ["good", "bad", "bad@40%", "no-data", "slow-pods"] {
            let scenario: Scenario = text.parse().expect("known");
            assert_eq!(scenario.to_string(), text);
        }
        assert_eq!("bad@5".parse(), Ok(Scenario(Behaviour::Bad(5))));
        for wrong in ["worse", "bad@", "bad@0%", "bad@101%", ""] {
            assert!(wrong.parse::<Scenario>().is_err(), "{wrong}");
        }
    }
}
