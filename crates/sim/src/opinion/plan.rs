//! What a Rollout's author asked for, as far as it decides how a release ends.

use serde_json::Value;

use crate::scenario::Millis;

/// How a release is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The strategy.
    pub strategy: Strategy,
    /// Revisions that one may go back without steps.
    pub window: usize,
    /// A release that makes no progress for so long is taken back.
    pub deadline: Option<Millis>,
    /// Pods of the new version that are enough.
    pub enough: Enough,
    /// The steps as they were written.
    pub written: String,
}

/// How the new version comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Step by step.
    Canary(Vec<Step>),
    /// At once.
    BlueGreen(Switch),
}

/// A step of a canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ends after a while, or by somebody's word.
    Pause(Option<Millis>),
    /// Ends when its run is successful.
    Analysis,
    /// Keeps the new version at no pods from here on.
    NoPods,
    /// Lets it have pods from here on.
    Pods,
    /// Ends when pods and traffic are as it says.
    Other,
}

/// What must be before and after the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch {
    /// A run must be successful before.
    pub pre: bool,
    /// A run must be successful after it.
    pub post: bool,
    /// It comes by itself.
    pub auto: bool,
    /// After a pause of so long.
    pub after: Millis,
}

/// How many pods are enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enough {
    /// All of them.
    All,
    /// So many of a hundred.
    Percent(i64),
    /// So many.
    Pods(i64),
}

impl Enough {
    /// Of so many pods.
    pub fn of(self, pods: i32) -> i32 {
        let whole = i64::from(pods);
        let enough = match self {
            Self::Percent(percent) if percent >= 0 => (whole * percent + 99) / 100,
            Self::Pods(number) if number >= 0 => number.min(whole),
            Self::All | Self::Percent(_) | Self::Pods(_) => whole,
        };
        i32::try_from(enough).unwrap_or(pods)
    }
}

impl Plan {
    /// Reads the `spec` of a Rollout.
    pub fn read(spec: &Value) -> Self {
        let seconds = |value: &Value| value.as_u64().map(|seconds| seconds * 1000);
        let canary = &spec["strategy"]["canary"];
        let blue_green = &spec["strategy"]["blueGreen"];
        let strategy = if blue_green.is_object() {
            Strategy::BlueGreen(Switch {
                pre: blue_green["prePromotionAnalysis"].is_object(),
                post: blue_green["postPromotionAnalysis"].is_object(),
                auto: blue_green["autoPromotionEnabled"] != Value::Bool(false),
                after: seconds(&blue_green["autoPromotionSeconds"]).unwrap_or(0),
            })
        } else {
            let steps = canary["steps"].as_array().into_iter().flatten();
            Strategy::Canary(steps.map(Step::read).collect())
        };
        let threshold = &canary["replicaProgressThreshold"];
        let value = threshold["value"].as_i64().unwrap_or(-1);
        Self {
            strategy,
            window: spec["rollbackWindow"]["revisions"]
                .as_u64()
                .and_then(|number| usize::try_from(number).ok())
                .unwrap_or(0),
            deadline: (spec["progressDeadlineAbort"] == Value::Bool(true))
                .then(|| seconds(&spec["progressDeadlineSeconds"]).unwrap_or(600_000)),
            enough: match threshold["type"].as_str() {
                Some("Percent") => Enough::Percent(value),
                Some("Pods") => Enough::Pods(value),
                Some(_) | None => Enough::All,
            },
            written: canary["steps"].to_string(),
        }
    }

    /// Steps of a canary.
    pub fn steps(&self) -> &[Step] {
        match &self.strategy {
            Strategy::Canary(steps) => steps,
            Strategy::BlueGreen(_) => &[],
        }
    }
}

impl Step {
    fn read(step: &Value) -> Self {
        if step["pause"].is_object() {
            return match &step["pause"]["duration"] {
                Value::Null => Self::Pause(None),
                Value::String(text) => Self::Pause(duration(text)),
                number => Self::Pause(number.as_u64().map(|seconds| seconds * 1000)),
            };
        }
        if step["analysis"].is_object() {
            Self::Analysis
        } else if step["setCanaryScale"]["replicas"].as_i64() == Some(0) {
            Self::NoPods
        } else if step["setCanaryScale"].is_object() {
            Self::Pods
        } else {
            Self::Other
        }
    }
}

/// Whole hours, minutes and seconds, or a number of seconds.
fn duration(text: &str) -> Option<Millis> {
    let mut total = 0;
    let mut number = String::new();
    for letter in text.chars() {
        let unit = match letter {
            'h' => 3_600_000,
            'm' => 60_000,
            's' => 1000,
            digit => {
                number.push(digit);
                continue;
            }
        };
        total += number.parse::<Millis>().ok()? * unit;
        number.clear();
    }
    if number.is_empty() {
        Some(total)
    } else {
        Some(total + number.parse::<Millis>().ok()? * 1000)
    }
}
