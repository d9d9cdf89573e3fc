//! What an AnalysisRun's measurements amount to, counted again from what the metrics said.

use serde_json::Value;

use crate::scenario::Version;

/// What a run was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A step of a canary.
    Step(i32),
    /// All of a canary.
    Background,
    /// Before the switch.
    Pre,
    /// After the switch.
    Post,
    /// In an Experiment.
    Trial,
}

/// What evidence amounts to, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Good.
    Successful,
    /// Neither good nor bad.
    Inconclusive,
    /// It could not be measured.
    Error,
    /// Bad.
    Failed,
}

/// What came of one measurement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Answer {
    /// A number.
    Number(f64),
    /// The end of a Job, or something else that speaks for itself.
    Said(Verdict),
    /// Nothing that could be judged.
    Nothing,
}

/// What is known of one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// What for.
    pub purpose: Purpose,
    /// The version that is judged.
    pub version: Version,
    metrics: Vec<Metric>,
    /// It asks for what cannot be.
    senseless: bool,
    /// What it came to, and its place in the order of all that happened.
    pub ended: Option<(u64, Verdict)>,
}

#[derive(Clone, Debug, PartialEq)]
struct Metric {
    name: String,
    success: Option<Condition>,
    failure: Option<Condition>,
    /// Measurements, if they are limited.
    count: Option<i64>,
    /// What was written for that.
    asked: i64,
    failure_limit: i64,
    inconclusive_limit: i64,
    error_limit: i64,
    success_limit: i64,
    /// It counts for nothing.
    dry: bool,
    counted: i64,
    failed: i64,
    inconclusive: i64,
    errors_in_a_row: i64,
    successes_in_a_row: i64,
    verdict: Option<Verdict>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Condition {
    at_least: bool,
    bound: f64,
}

impl Condition {
    /// Reads `result >= x` or `result < x`.
    fn read(value: &Value) -> Option<Self> {
        let text = value.as_str()?.strip_prefix("result ")?;
        let (sign, bound) = text.split_once(' ')?;
        let at_least = match sign {
            ">=" => true,
            "<" => false,
            _ => return None,
        };
        Some(Self {
            at_least,
            bound: bound.parse().ok()?,
        })
    }

    fn holds(self, number: f64) -> bool {
        (number >= self.bound) == self.at_least
    }
}

impl Evidence {
    /// Nothing was measured yet; `spec` is the run's.
    pub fn new(purpose: Purpose, version: Version, spec: &Value) -> Self {
        let list = |name: &str| spec[name].as_array().cloned().unwrap_or_default();
        let dry = list("dryRun");
        let metrics = list("metrics").into_iter().map(|metric| {
            let name = metric["name"].as_str().unwrap_or_default().to_owned();
            let limit = |key: &str, default| metric[key].as_i64().unwrap_or(default);
            let count = limit("count", 0);
            let unlimited = count == 0 && metric["interval"].is_string();
            let mut metric = Metric {
                success: Condition::read(&metric["successCondition"]),
                failure: Condition::read(&metric["failureCondition"]),
                count: (!unlimited).then_some(count.max(1)),
                asked: count,
                failure_limit: limit("failureLimit", 0),
                inconclusive_limit: limit("inconclusiveLimit", 0),
                error_limit: limit("consecutiveErrorLimit", 4),
                success_limit: limit("consecutiveSuccessLimit", 0),
                dry: false,
                name,
                counted: 0,
                failed: 0,
                inconclusive: 0,
                errors_in_a_row: 0,
                successes_in_a_row: 0,
                verdict: None,
            };
            let mut rules = dry.iter().map(|rule| rule["metricName"].as_str());
            metric.dry = rules.any(|rule| metric.is_meant_by(rule));
            metric
        });
        let metrics: Vec<Metric> = metrics.collect();
        let rules = dry.iter().map(|rule| rule["metricName"].as_str());
        let idle = |rule: Option<&str>| !metrics.iter().any(|one| one.is_meant_by(rule));
        Self {
            purpose,
            version,
            senseless: metrics.iter().any(Metric::is_senseless) || rules.into_iter().any(idle),
            metrics,
            ended: None,
        }
    }

    /// One more measurement has ended.
    pub fn take(&mut self, metric: &str, answer: Answer) {
        let mut metrics = self.metrics.iter_mut();
        if let Some(metric) = metrics.find(|one| one.name == metric) {
            metric.take(answer);
        }
    }

    /// The worst that metrics have come to, if that decides.
    pub fn bad(&self) -> Option<Verdict> {
        let count = self.metrics.iter().filter(|metric| !metric.dry);
        let worst = count.filter_map(|metric| metric.verdict).max();
        worst.filter(|verdict| *verdict > Verdict::Successful)
    }

    /// What it comes to, if it is over.
    pub fn verdict(&self) -> Option<Verdict> {
        if self.senseless {
            return Some(Verdict::Error);
        }
        let complete = self.metrics.iter().all(|metric| metric.verdict.is_some());
        self.bad()
            .or_else(|| complete.then_some(Verdict::Successful))
    }
}

impl Metric {
    /// A rule of the run that names metrics names this one.
    fn is_meant_by(&self, rule: Option<&str>) -> bool {
        rule.is_some_and(|rule| self.name.contains(rule))
    }

    /// It could never end as its limits say.
    fn is_senseless(&self) -> bool {
        let limits = self.failure_limit.max(0) + self.success_limit;
        let least = limits.max(self.inconclusive_limit);
        self.asked > 0 && self.asked < least
    }

    fn take(&mut self, answer: Answer) {
        if self.verdict.is_some() {
            return;
        }
        let said = match answer {
            Answer::Said(said) => said,
            Answer::Nothing => Verdict::Error,
            Answer::Number(number) => self.judge(number),
        };
        self.errors_in_a_row = if said == Verdict::Error {
            self.errors_in_a_row + 1
        } else {
            0
        };
        self.successes_in_a_row = if said == Verdict::Successful {
            self.successes_in_a_row + 1
        } else {
            0
        };
        self.counted += i64::from(said != Verdict::Error);
        self.failed += i64::from(said == Verdict::Failed);
        self.inconclusive += i64::from(said == Verdict::Inconclusive);
        self.verdict = self.comes_to();
    }

    fn judge(&self, number: f64) -> Verdict {
        let good = self.success.map(|condition| condition.holds(number));
        let bad = self.failure.map(|condition| condition.holds(number));
        match (good, bad) {
            (_, Some(true)) | (Some(false), None) => Verdict::Failed,
            (Some(false), Some(false)) => Verdict::Inconclusive,
            (Some(true) | None, Some(false) | None) => Verdict::Successful,
        }
    }

    fn comes_to(&self) -> Option<Verdict> {
        let over = self.count.is_some_and(|count| self.counted >= count);
        if self.errors_in_a_row > self.error_limit {
            Some(Verdict::Error)
        } else if self.inconclusive > self.inconclusive_limit {
            Some(Verdict::Inconclusive)
        } else if self.failure_limit >= 0 && self.failed > self.failure_limit {
            Some(Verdict::Failed)
        } else if self.success_limit > 0 && self.successes_in_a_row >= self.success_limit {
            Some(Verdict::Successful)
        } else if !over {
            None
        } else if self.failure_limit < 0 {
            Some(Verdict::Failed)
        } else if self.success_limit > 0 {
            Some(Verdict::Inconclusive)
        } else {
            Some(Verdict::Successful)
        }
    }
}
