//! What a metric's provider could answer so that the conditions which users wrote call it good, or bad.
//!
//! Conditions are programs; they are not solved but tried: every number and text that stands in them, and its neighbours, in the forms that
//! the provider gives.

use std::collections::{BTreeMap, BTreeSet};

use crossfade_api::analysis::Metric;
use crossfade_api::analysis_run::AnalysisPhase;
use crossfade_api::words::{ProviderError, ProviderErrorKind, Reading, Value};
use crossfade_engine::analysis::measure::conclude;
use jiff::Timestamp;

use crate::scenario::Reply;

/// What the provider of a metric answers when it is to reply in this way, or why there is no such answer.
pub(crate) fn reading(metric: &Metric, reply: Reply, now: Timestamp) -> Answered {
    let wanted = match reply {
        Reply::Good | Reply::Flaky => AnalysisPhase::Successful,
        Reply::Bad => AnalysisPhase::Failed,
        Reply::Doubtful => AnalysisPhase::Inconclusive,
        Reply::Nothing if metric.provider.prometheus.is_some() => {
            return Answered::With(Ok(shown(Value::Floats(Vec::new()))));
        }
        Reply::Nothing => return failed(ProviderErrorKind::NoData, "the answer is empty"),
        Reply::Down => return failed(ProviderErrorKind::Server, "server_error: server error: 500"),
    };
    let mut fitting = candidates(metric).into_iter().filter(|value| {
        let answer = Ok(shown(value.clone()));
        conclude(metric, answer, now, now).phase == wanted
    });
    match fitting.next() {
        Some(value) => Answered::With(Ok(shown(value))),
        None => Answered::Never,
    }
}

/// Answers that were looked for, each once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answers(BTreeMap<(String, String, String, Reply), Answered>);

impl Answers {
    /// What the provider of a metric answers. Where no answer fits, a bad metric is a good one, and a good one has nothing to say.
    pub(crate) fn give(
        &mut self,
        metric: &Metric,
        reply: Reply,
        now: Timestamp,
    ) -> Result<Reading, ProviderError> {
        let conditions = [&metric.success_condition, &metric.failure_condition];
        let [success, failure] = conditions.map(String::clone);
        let key = (metric.name.clone(), success, failure, reply);
        let found = self.0.entry(key);
        let found = found.or_insert_with(|| reading(metric, reply, now)).clone();
        match found {
            Answered::With(answer) => answer,
            Answered::Never if reply == Reply::Good => Err(ProviderError::new(
                ProviderErrorKind::NoData,
                "the answer is empty",
            )),
            Answered::Never => self.give(metric, Reply::Good, now),
        }
    }

    /// Metrics for which no good answer was found, and those without a bad one.
    pub(crate) fn never(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        let without = |wanted: Reply| {
            let never = self
                .0
                .iter()
                .filter(|(_, found)| **found == Answered::Never);
            let named = never.filter(|((.., reply), _)| *reply == wanted);
            named.map(|((name, ..), _)| name.clone()).collect()
        };
        (without(Reply::Good), without(Reply::Bad))
    }
}

/// What came of looking for an answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answered {
    /// The answer.
    With(Result<Reading, ProviderError>),
    /// Nothing that was tried makes the conditions say so.
    Never,
}

fn failed(kind: ProviderErrorKind, text: &str) -> Answered {
    Answered::With(Err(ProviderError::new(kind, text)))
}

fn shown(value: Value) -> Reading {
    let display = match &value {
        Value::Float(number) => number.to_string(),
        Value::Floats(numbers) => format!("{numbers:?}"),
        Value::String(text) => text.clone(),
        other => serde_json::to_string(other).unwrap_or_default(),
    };
    Reading {
        value,
        display,
        metadata: BTreeMap::new(),
    }
}

/// Everything worth trying.
fn candidates(metric: &Metric) -> Vec<Value> {
    let text = format!("{} {}", metric.success_condition, metric.failure_condition);
    let numbers = numbers(&text);
    if metric.provider.prometheus.is_some() {
        let vectors = numbers.iter().map(|number| Value::Floats(vec![*number]));
        let scalars = numbers.iter().map(|number| Value::Float(*number));
        return vectors.chain(scalars).collect();
    }
    let mut leaves: Vec<Value> = numbers.into_iter().map(Value::Float).collect();
    leaves.extend([Value::Bool(true), Value::Bool(false)]);
    leaves.extend(texts(&text).into_iter().map(Value::String));
    let members = members(&text);
    let objects = leaves.iter().filter(|_| !members.is_empty()).map(|leaf| {
        let mut object = Value::Map(BTreeMap::new());
        for path in &members {
            put(&mut object, path, leaf);
        }
        object
    });
    let lists = leaves.iter().map(|leaf| Value::List(vec![leaf.clone()]));
    objects.chain(leaves.clone()).chain(lists).collect()
}

/// The numbers of a text with their neighbours, from both sides, and a few that often matter.
fn numbers(text: &str) -> Vec<f64> {
    let is_part = |c: char| c.is_ascii_digit() || c == '.';
    let written = text
        .split(|c| !is_part(c))
        .filter_map(|piece| piece.parse::<f64>().ok());
    let mut numbers = Vec::new();
    for number in written {
        let step = (number.abs() / 100.0).max(0.001);
        numbers.extend([number + step, number - step, number, number / 2.0]);
        numbers.extend([number * 2.0, -number]);
    }
    numbers.extend([1.0, 0.0, 0.5, 100.0, -1.0, 1e9, f64::NAN]);
    numbers
}

/// The texts that stand in quotes.
fn texts(text: &str) -> Vec<String> {
    let quoted = |quote: char| {
        let pieces = text.split(quote).skip(1).step_by(2);
        pieces.map(str::to_owned).collect::<Vec<_>>()
    };
    let mut texts = quoted('"');
    texts.extend(quoted('\''));
    texts.push("something else".to_owned());
    texts
}

/// The members of the result that conditions look at: `result.a.b` is a path of two.
fn members(text: &str) -> Vec<Vec<String>> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    let paths = text.split("result.").skip(1).map(|rest| {
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        rest[..end].split('.').map(str::to_owned).collect()
    });
    paths.collect()
}

fn put(object: &mut Value, path: &[String], leaf: &Value) {
    let Some((first, rest)) = path.split_first() else {
        *object = leaf.clone();
        return;
    };
    if !matches!(object, Value::Map(_)) {
        *object = Value::Map(BTreeMap::new());
    }
    if let Value::Map(members) = object {
        put(
            members.entry(first.clone()).or_insert(Value::Nil),
            rest,
            leaf,
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn metric(provider: &str, success: &str, failure: &str) -> Metric {
        let provider = match provider {
            "prometheus" => json!({"prometheus": {"address": "http://p", "query": "q"}}),
            _ => json!({"web": {"url": "http://w", "jsonPath": "{$}"}}),
        };
        serde_json::from_value(json!({
            "name": "m", "provider": provider, "successCondition": success, "failureCondition": failure,
        }))
        .expect("a metric")
    }

    fn phase(metric: &Metric, reply: Reply) -> Option<AnalysisPhase> {
        let now = Timestamp::UNIX_EPOCH;
        match reading(metric, reply, now) {
            Answered::With(answer) => Some(conclude(metric, answer, now, now).phase),
            Answered::Never => None,
        }
    }

    #[test]
    fn answers_are_found_for_conditions_as_people_write_them() {
        for (provider, success, failure) in [
            ("prometheus", "result[0] >= 0.95", ""),
            ("prometheus", "", "result[0] >= 0.05"),
            (
                "prometheus",
                "len(result) == 0 || result[0] < 500",
                "result[0] > 2000",
            ),
            ("prometheus", "isNaN(result[0]) || result[0] >= 0.99", ""),
            ("prometheus", "all(result, # < 0.01)", ""),
            ("web", "result == 'ok'", ""),
            ("web", "result.ok && result.data.healthy", ""),
            ("web", "result.rate >= 0.9", "result.rate < 0.5"),
            ("web", "result == true", ""),
            ("web", "asFloat(result) <= 1.5e3", ""),
        ] {
            let metric = metric(provider, success, failure);
            let told = |reply| phase(&metric, reply);
            assert_eq!(
                told(Reply::Good),
                Some(AnalysisPhase::Successful),
                "{success}|{failure}"
            );
            assert_eq!(
                told(Reply::Bad),
                Some(AnalysisPhase::Failed),
                "{success}|{failure}"
            );
        }
    }

    #[test]
    fn what_can_never_fail_is_found_out() {
        let unconditional = metric("web", "", "");
        assert_eq!(phase(&unconditional, Reply::Bad), None);
        assert_eq!(
            phase(&unconditional, Reply::Good),
            Some(AnalysisPhase::Successful)
        );
        assert_eq!(phase(&metric("prometheus", "true", ""), Reply::Bad), None);
    }

    #[test]
    fn silence_is_what_the_provider_makes_of_it() {
        let strict = metric("prometheus", "result[0] >= 0.95", "");
        assert_eq!(phase(&strict, Reply::Nothing), Some(AnalysisPhase::Error));
        let silence_is_fine = metric("prometheus", "len(result) == 0 || result[0] >= 0.95", "");
        assert_eq!(
            phase(&silence_is_fine, Reply::Nothing),
            Some(AnalysisPhase::Successful)
        );
        assert_eq!(phase(&strict, Reply::Down), Some(AnalysisPhase::Error));
    }
}
