//! What a measured value means: good, bad, neither, or unknown.
//!
//! One value against the two conditions of its metric. How many such verdicts decide a metric is not the subject
//! here, nor what a provider did to get the value.

use crossfade_api::analysis_run::AnalysisPhase;
use crossfade_api::words::Value;
use jiff::Timestamp;

use crate::condition::{Condition, ConditionError};

/// What one measurement says of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The success condition holds, or there is none and the failure condition does not.
    Good,
    /// The failure condition holds, or there is none and the success condition does not.
    Bad,
    /// Both conditions are there and neither holds.
    Neither,
    /// A condition has no answer; the text says which and why.
    Unknown(String),
}

impl Verdict {
    /// The phase of a measurement with this verdict.
    pub fn phase(&self) -> AnalysisPhase {
        match self {
            Self::Good => AnalysisPhase::Successful,
            Self::Bad => AnalysisPhase::Failed,
            Self::Neither => AnalysisPhase::Inconclusive,
            Self::Unknown(_) => AnalysisPhase::Error,
        }
    }

    /// The message of a measurement with this verdict; empty unless it is unknown.
    pub fn message(&self) -> &str {
        match self {
            Self::Unknown(message) => message,
            Self::Good | Self::Bad | Self::Neither => "",
        }
    }
}

/// Judges `value` by the conditions as they stand after substitution; an empty text is no condition.
///
/// Both conditions are asked, the success condition first, so that a condition without an answer is noticed
/// whatever the other one says. Failure wins over success.
pub fn judge(value: &Value, success: &str, failure: &str, now: Timestamp) -> Verdict {
    let ask = |kind, text: &str| {
        if text.is_empty() {
            return Ok(None);
        }
        Condition::parse(text)
            .and_then(|condition| condition.evaluate(value, now))
            .map(Some)
            .map_err(|fault| Verdict::Unknown(no_answer(kind, text, value, &fault)))
    };
    let answers = ask("successCondition", success)
        .and_then(|success| Ok((success, ask("failureCondition", failure)?)));
    match answers {
        Err(unknown) => unknown,
        Ok((_, Some(true)) | (Some(false), None)) => Verdict::Bad,
        Ok((Some(true) | None, _)) => Verdict::Good,
        Ok((Some(false), Some(false))) => Verdict::Neither,
    }
}

fn no_answer(kind: &str, text: &str, value: &Value, fault: &ConditionError) -> String {
    let is_empty = match value {
        Value::Nil => true,
        Value::List(items) => items.is_empty(),
        Value::Floats(items) => items.is_empty(),
        _ => false,
    };
    let reason = if is_empty {
        "metric result is nil or empty: no data returned from the metric provider".to_owned()
    } else {
        fault.to_string()
    };
    format!("could not evaluate {kind} \"{text}\": {reason}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(value: &Value, success: &str, failure: &str) -> Verdict {
        judge(value, success, failure, Timestamp::UNIX_EPOCH)
    }

    fn unknown(text: &str) -> Verdict {
        Verdict::Unknown(text.to_owned())
    }

    #[test]
    fn the_two_conditions_decide_together() {
        use Verdict::{Bad, Good, Neither};
        let value = Value::Float(5.0);
        let (yes, no) = ("result == 5", "result == 6");
        //           success failure verdict
        let table = [
            ("", "", Good),
            (yes, "", Good),
            (no, "", Bad),
            ("", yes, Bad),
            ("", no, Good),
            (yes, yes, Bad),
            (no, yes, Bad),
            (yes, no, Good),
            (no, no, Neither),
        ];
        for (success, failure, verdict) in table {
            let found = judged(&value, success, failure);
            assert_eq!(found, verdict, "success `{success}` failure `{failure}`");
        }
    }

    #[test]
    fn a_condition_without_an_answer_decides_whatever_the_other_says() {
        let value = Value::Float(5.0);
        let bad = "result > \"a\"";
        for other in ["", "result == 5", "result == 6"] {
            let success = judged(&value, bad, other);
            assert_eq!(success.phase(), AnalysisPhase::Error, "failure `{other}`");
            assert!(
                success
                    .message()
                    .starts_with("could not evaluate successCondition ")
            );
            let failure = judged(&value, other, bad);
            assert_eq!(failure.phase(), AnalysisPhase::Error, "success `{other}`");
            assert!(
                failure
                    .message()
                    .starts_with("could not evaluate failureCondition ")
            );
        }
        let both = judged(&value, bad, bad);
        assert!(
            both.message()
                .starts_with("could not evaluate successCondition ")
        );
    }

    #[test]
    fn a_verdict_has_the_phase_of_its_measurement() {
        let table = [
            (Verdict::Good, AnalysisPhase::Successful),
            (Verdict::Bad, AnalysisPhase::Failed),
            (Verdict::Neither, AnalysisPhase::Inconclusive),
            (unknown("why"), AnalysisPhase::Error),
        ];
        for (verdict, phase) in table {
            assert_eq!(verdict.phase(), phase);
        }
    }

    #[test]
    fn analysis_07_both_conditions_true_is_a_failure() {
        let verdict = judged(&Value::Float(5.0), "result > 1", "result > 1");
        assert_eq!(verdict.phase(), AnalysisPhase::Failed);
    }

    #[test]
    fn analysis_08_without_conditions_any_value_is_good() {
        let values = [
            Value::Nil,
            Value::Bool(false),
            Value::Int(0),
            Value::Float(f64::NAN),
            Value::String(String::new()),
            Value::Floats(Vec::new()),
            Value::List(vec![Value::Nil]),
            Value::Map([].into()),
        ];
        for value in values {
            assert_eq!(judged(&value, "", ""), Verdict::Good, "{value:?}");
        }
    }

    #[test]
    fn analysis_09_an_undefined_name_is_an_error_that_names_it() {
        assert_eq!(
            judged(&Value::Floats(vec![2.0]), "results[0] > 1", ""),
            unknown("could not evaluate successCondition \"results[0] > 1\": unknown name results")
        );
    }

    #[test]
    fn analysis_10_an_empty_vector_needs_a_guard() {
        let empty = Value::Floats(Vec::new());
        assert_eq!(
            judged(&empty, "result[0] >= 0.95", ""),
            unknown(
                "could not evaluate successCondition \"result[0] >= 0.95\": metric result is nil or empty: \
                 no data returned from the metric provider"
            )
        );
        assert_eq!(
            judged(&empty, "len(result) == 0 || result[0] >= 0.95", ""),
            Verdict::Good
        );
    }

    #[test]
    fn nil_and_empty_lists_give_their_own_reason_for_any_error() {
        for value in [Value::Nil, Value::List(Vec::new())] {
            for condition in ["result > 1", "nope", "(", "result == 5 = 6"] {
                let verdict = judged(&value, "", condition);
                let reason = format!(
                    "could not evaluate failureCondition \"{condition}\": metric result is nil or empty: no data \
                     returned from the metric provider"
                );
                assert_eq!(verdict, Verdict::Unknown(reason));
            }
        }
        let verdict = judged(&Value::Map([].into()), "result > 1", "");
        assert!(!verdict.message().contains("nil or empty"), "{verdict:?}");
    }

    #[test]
    fn analysis_11_a_truth_value_is_not_compared_with_a_text() {
        let verdict = judged(&Value::Bool(true), "", "result == \"false\"");
        assert_eq!(verdict.phase(), AnalysisPhase::Error);
    }

    #[test]
    fn analysis_33_five_thousand_parentheses_are_an_error_and_nothing_more() {
        let condition = "(".repeat(5000);
        for value in [
            Value::Float(1.0),
            Value::Bool(true),
            Value::Floats(vec![1.0]),
        ] {
            assert_eq!(
                judged(&value, &condition, ""),
                Verdict::Unknown(format!(
                    "could not evaluate successCondition \"{condition}\": expression is nested too deeply"
                ))
            );
        }
        // The process goes on.
        assert_eq!(judged(&Value::Float(1.0), "result == 1", ""), Verdict::Good);
    }
}
