//! What a release would do, in words: a time line, how it ends, what a bad version could do, and what is doubtful.

use std::collections::BTreeSet;
use std::str::FromStr;

use crossfade_sim::forecast::{End, Exposure, Forecast, Gate, Moment, Pods};
use jiff::SignedDuration;
use serde::Serialize;

use crate::view::icon::{Colour, Look};
use crate::view::table::{Table, ended};

/// Fewer requests than this between two measurements, and one failure alone is a twentieth of all that the gate sees.
const THIN: f64 = 20.0;

/// Requests a second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub(crate) struct Traffic(f64);

impl FromStr for Traffic {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "write requests and a time, for example 40/min, 200/s or 5000/h".to_owned();
        let (number, unit) = text.split_once('/').ok_or_else(wrong)?;
        let seconds = match unit.trim() {
            "s" | "sec" | "second" => 1.0,
            "m" | "min" | "minute" => 60.0,
            "h" | "hour" => 3600.0,
            "d" | "day" => 86_400.0,
            _ => return Err(wrong()),
        };
        let number: f64 = number.trim().parse().map_err(|_| wrong())?;
        if number.is_finite() && number >= 0.0 {
            Ok(Self(number / seconds))
        } else {
            Err(wrong())
        }
    }
}

/// A simulation as it is shown.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct View {
    /// Name of the Rollout.
    pub(crate) rollout: String,
    scenario: String,
    end: End,
    message: String,
    seconds: f64,
    approvals: u32,
    waited_for_people_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    requests_per_second: Option<Traffic>,
    timeline: Vec<Line>,
    exposure: Had,
    if_it_turns_bad: Vec<TurnedBad>,
    warnings: Vec<String>,
}

/// One line of the time line.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    at_seconds: f64,
    phase: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<i32>,
    percent: f64,
    new_pods: Pods,
    old_pods: Pods,
    gates: Vec<Gate>,
    waits: String,
}

/// How much the new version has had.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Had {
    most_percent: f64,
    seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    requests: Option<u64>,
}

impl Had {
    fn new(exposure: &Exposure, traffic: Option<Traffic>) -> Self {
        Self {
            most_percent: percent(exposure.most),
            seconds: exposure.lasted.as_secs_f64(),
            requests: traffic.map(|traffic| (exposure.share_seconds * traffic.0).round() as u64),
        }
    }
}

/// What a version does that turns bad at some share of the requests.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct TurnedBad {
    /// In percent; 0 is from the beginning.
    at_percent: i32,
    end: End,
    /// What it has had from then on.
    #[serde(flatten)]
    had: Had,
}

fn percent(share: f64) -> f64 {
    (share * 1000.0).round() / 10.0
}

impl View {
    /// The view of a forecast, and of the same release with versions that turn bad at these shares.
    pub(crate) fn new(
        rollout: String,
        scenario: String,
        traffic: Option<Traffic>,
        forecast: &Forecast,
        bad: &[(i32, Forecast)],
    ) -> Self {
        let turned = bad.iter().map(|(at, forecast)| {
            let from = forecast.reaches((*at).max(1)).filter(|_| *at > 0);
            let exposure = forecast.exposure(from.unwrap_or_default());
            TurnedBad {
                at_percent: *at,
                end: forecast.end,
                had: Had::new(&exposure, traffic),
            }
        });
        let turned: Vec<_> = turned.collect();
        Self {
            rollout,
            scenario,
            end: forecast.end,
            message: forecast.message.clone(),
            seconds: forecast.lasted.as_secs_f64(),
            approvals: forecast.approvals,
            waited_for_people_seconds: forecast.waited.as_secs_f64(),
            requests_per_second: traffic,
            timeline: forecast.moments.iter().map(line).collect(),
            exposure: Had::new(&forecast.exposure(SignedDuration::ZERO), traffic),
            warnings: warnings(forecast, traffic, &turned, bad),
            if_it_turns_bad: turned,
        }
    }

    /// One line about all of it.
    pub(crate) fn title(&self) -> String {
        format!("{}, {}: {}", self.rollout, self.scenario, self.ending())
    }

    fn ending(&self) -> String {
        let lasted = span(self.seconds);
        match self.end {
            End::Promoted => format!("promoted after {lasted}"),
            End::TakenBack => format!("taken back after {lasted}"),
            End::Stuck => format!("comes to a stand after {lasted}"),
            End::Unfinished => format!("not finished after {lasted}"),
        }
    }

    /// All of it for people.
    pub(crate) fn text(&self, look: Look) -> String {
        let mut table = Table::new(&[
            "TIME",
            "STEP",
            "SHARE",
            "NEW",
            "OLD",
            "GATES",
            "WAITING FOR",
        ]);
        for line in &self.timeline {
            table.row(vec![
                span(line.at_seconds),
                line.step.map_or(String::new(), |step| step.to_string()),
                format!("{}%", line.percent),
                pods(line.new_pods),
                pods(line.old_pods),
                gates(&line.gates),
                line.waits.clone(),
            ]);
        }
        let mut lines = table.lines();
        lines.push(String::new());
        let colour = match self.end {
            End::Promoted => Colour::Green,
            End::TakenBack | End::Stuck => Colour::Red,
            End::Unfinished => Colour::Yellow,
        };
        lines.push(look.paint(&self.title(), colour));
        if self.end != End::Promoted && !self.message.is_empty() {
            lines.push(format!("  {}", self.message));
        }
        if self.approvals > 0 {
            let times = if self.approvals == 1 {
                "once"
            } else {
                "several times"
            };
            lines.push(format!(
                "  of that {} waiting for a person, {times}",
                span(self.waited_for_people_seconds)
            ));
        }
        lines.push(format!("  the new version has {}", had(&self.exposure)));
        lines.push(String::new());
        lines.push("If the new version turns bad".to_owned());
        for turned in &self.if_it_turns_bad {
            let when = match turned.at_percent {
                0 => "from the beginning".to_owned(),
                at => format!("at {at}%"),
            };
            let then = match turned.end {
                End::TakenBack => {
                    format!("it is taken back; until then it has {}", had(&turned.had))
                }
                End::Promoted => "nothing takes it back".to_owned(),
                End::Stuck => format!("it stays where it is, with {}", had(&turned.had)),
                End::Unfinished => "no end is in sight".to_owned(),
            };
            lines.push(format!("  {when}: {then}"));
        }
        for warning in &self.warnings {
            lines.push(format!(
                "{} {warning}",
                look.paint("Warning:", Colour::Yellow)
            ));
        }
        ended(&lines)
    }
}

fn line(moment: &Moment) -> Line {
    Line {
        at_seconds: moment.at.as_secs_f64(),
        phase: moment.phase.to_string(),
        step: moment.step,
        percent: percent(moment.share),
        new_pods: moment.new,
        old_pods: moment.old,
        gates: moment.gates.clone(),
        waits: moment.waits.clone(),
    }
}

fn pods(pods: Pods) -> String {
    format!("{}/{}", pods.ready, pods.wanted)
}

/// The analyses that are not over, or the last one to end.
fn gates(gates: &[Gate]) -> String {
    let told = |gate: &Gate| {
        let names: Vec<_> = gate
            .metrics
            .iter()
            .map(|metric| metric.name.as_str())
            .collect();
        format!("{} {}", names.join(","), gate.phase)
    };
    let open = gates
        .iter()
        .filter(|gate| ["Running", "Pending", ""].contains(&gate.phase.as_str()));
    let open: Vec<_> = open.map(told).collect();
    if open.is_empty() {
        return gates.last().map(told).unwrap_or_default();
    }
    open.join("; ")
}

fn had(had: &Had) -> String {
    let requests = match had.requests {
        Some(1) => ", 1 request".to_owned(),
        Some(requests) => format!(", {requests} requests"),
        None => String::new(),
    };
    if had.seconds <= 0.0 {
        return "none of the requests".to_owned();
    }
    format!(
        "{}% of the requests at most, some for {}{requests}",
        had.most_percent,
        span(had.seconds)
    )
}

/// What the user may not have meant.
fn warnings(
    forecast: &Forecast,
    traffic: Option<Traffic>,
    turned: &[TurnedBad],
    bad: &[(i32, Forecast)],
) -> Vec<String> {
    let mut warnings = Vec::new();
    let unjudged = turned.iter().all(|one| one.end != End::TakenBack);
    if unjudged && !turned.is_empty() {
        warnings.push("nothing in this release takes a bad version back".to_owned());
    }
    let played = || {
        [forecast]
            .into_iter()
            .chain(bad.iter().map(|(_, forecast)| forecast))
    };
    let never_bad: BTreeSet<_> = played().flat_map(|forecast| &forecast.never_bad).collect();
    for metric in never_bad {
        warnings.push(format!(
            "metric {metric}: no answer was found that its conditions call bad; it never takes a release back"
        ));
    }
    let never_good: BTreeSet<_> = played().flat_map(|forecast| &forecast.never_good).collect();
    for metric in never_good {
        warnings.push(format!(
            "metric {metric}: no answer was found that its conditions call good; it was given none"
        ));
    }
    if let Some(traffic) = traffic {
        warnings.extend(thin_gates(forecast, traffic));
    }
    warnings
}

/// Gates that judge by a handful of requests.
fn thin_gates(forecast: &Forecast, traffic: Traffic) -> Vec<String> {
    let mut told = BTreeSet::new();
    let mut warnings = Vec::new();
    for moment in &forecast.moments {
        let open = moment.gates.iter().filter(|gate| gate.phase == "Running");
        for (gate, metric) in open.flat_map(|gate| gate.metrics.iter().map(move |one| (gate, one)))
        {
            let a_minute = moment.share * traffic.0 * 60.0;
            let between = a_minute / 60.0 * metric.every_seconds.unwrap_or(60) as f64;
            let is_thin = metric.counts_requests && moment.share > 0.0 && between < THIN;
            if is_thin && told.insert((gate.run.clone(), metric.name.clone())) {
                warnings.push(format!(
                    "at {} % of {} requests a minute gate {} sees {} requests a minute{}",
                    percent(moment.share),
                    rounded(traffic.0 * 60.0),
                    metric.name,
                    rounded(a_minute),
                    metric.every_seconds.map_or(String::new(), |_| format!(
                        ", {} between two measurements",
                        rounded(between)
                    )),
                ));
            }
        }
    }
    warnings
}

/// One digit behind the point, or none.
fn rounded(number: f64) -> String {
    let rounded = (number * 10.0).round() / 10.0;
    format!("{rounded}")
}

/// `1d2h`, `1h5m`, `12m30s`, `4.2s`: two units, the smaller one only if it is not zero.
pub(crate) fn span(seconds: f64) -> String {
    if seconds < 60.0 {
        return format!("{}s", rounded(seconds));
    }
    let whole = seconds.round() as u64;
    let units = [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)];
    let (index, (name, unit)) = units
        .iter()
        .enumerate()
        .find(|(_, (_, unit))| whole >= *unit)
        .unwrap_or((3, &("s", 1)));
    let rest = units
        .get(index + 1)
        .map(|(name, smaller)| (name, whole % unit / smaller));
    match rest {
        Some((smaller, rest)) if rest > 0 => format!("{}{name}{rest}{smaller}", whole / unit),
        _ => format!("{}{name}", whole / unit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_is_a_number_of_requests_in_some_time() {
        let a_second = |text: &str| text.parse::<Traffic>().map(|traffic| traffic.0);
        assert_eq!(a_second("60/min"), Ok(1.0));
        assert_eq!(a_second("200/s"), Ok(200.0));
        assert_eq!(a_second("7200/h"), Ok(2.0));
        for wrong in ["40", "/min", "x/s", "40/year", "-1/s", "inf/s"] {
            assert!(a_second(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn spans_have_two_units() {
        let table = [
            (0.25, "0.3s"),
            (59.0, "59s"),
            (60.0, "1m"),
            (750.0, "12m30s"),
            (3900.0, "1h5m"),
            (93_600.0, "1d2h"),
            (604_800.0, "7d"),
        ];
        for (seconds, text) in table {
            assert_eq!(span(seconds), text);
        }
    }
}
