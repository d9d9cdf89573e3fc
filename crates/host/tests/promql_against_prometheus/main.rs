//! Every supported function, aggregation and operator, compared with a real Prometheus.
//!
//! The same samples (counter resets, gaps, series that end, NaN, infinities, broken histograms) go
//! into our store and, by remote write, into a Prometheus of the Debian package. Expressions are
//! made from the tables of what is supported, so nothing can be added without being compared;
//! each is asked at several instants and over time, and the answers must agree.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod expressions;
mod prometheus;
mod samples;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use crossfade_host::telemetry::api::Api;
use crossfade_host::telemetry::promql::{AGGREGATIONS, FUNCTIONS, Limits, OPERATORS};
use crossfade_host::telemetry::samples::Store;
use expressions::Case;
use futures_util::StreamExt;
use http::Request;
use http_body_util::{BodyExt, Full};
use prometheus::Prometheus;
use serde_json::Value;

/// How far two numbers may be apart, relative to the larger: the order of additions may differ.
const TOLERANCE: f64 = 1e-10;
/// Expressions that are asked at the same time.
const CONCURRENT: usize = 8;

#[tokio::test]
async fn every_supported_expression_answers_as_prometheus_does() {
    let samples = samples::samples();
    let prometheus = Prometheus::start().await;
    prometheus.write(&samples).await;
    let store = Arc::new(Store::default());
    samples::write(&store, &samples);
    let api = Api::new(store, Limits::default());

    for request in [
        "/api/v1/series?match[]=http_requests_total&match[]=%7Broom=~%22.%2B%22%7D",
        "/api/v1/series?match[]=nothing_here",
        "/api/v1/labels",
        "/api/v1/labels?match[]=temperature",
        "/api/v1/label/le/values",
        "/api/v1/label/__name__/values?match[]=%7Bx=%221%22%7D",
        "/api/v1/label/nothing_here/values",
        "/api/v1/metadata",
    ] {
        assert_eq!(
            in_any_order(prometheus.get(request).await),
            in_any_order(ask(&api, request).await),
            "{request}"
        );
    }

    let cases = expressions::cases();
    let asked = cases.iter().flat_map(|case| {
        requests(case)
            .into_iter()
            .map(move |request| (case, request))
    });
    let outcomes: Vec<(&Case, bool, Option<String>)> = futures_util::stream::iter(asked)
        .map(async |(case, request)| {
            let (theirs, ours) = tokio::join!(prometheus.get(&request), ask(&api, &request));
            let ordered = case.ordered && !request.contains("query_range");
            let difference = compare(&theirs, &ours, ordered).err();
            (
                case,
                has_result(&theirs),
                difference.map(|d| format!("{}\n  {d}\n  {request}", case.query)),
            )
        })
        .buffer_unordered(CONCURRENT)
        .collect()
        .await;
    let differences: Vec<&str> = outcomes
        .iter()
        .filter_map(|(_, _, difference)| difference.as_deref())
        .collect();
    assert!(
        differences.is_empty(),
        "{} of {} answers to {} expressions differ from {}:\n{}",
        differences.len(),
        outcomes.len(),
        cases.len(),
        prometheus.version().await,
        differences[..differences.len().min(20)].join("\n")
    );
    let mut answered: BTreeMap<&str, usize> = BTreeMap::new();
    for (case, has_result, _) in &outcomes {
        *answered.entry(case.of).or_default() += usize::from(*has_result);
    }
    let supported: BTreeSet<&str> = FUNCTIONS
        .iter()
        .map(|f| f.name)
        .chain(AGGREGATIONS)
        .chain(OPERATORS)
        .collect();
    for name in &supported {
        assert!(
            answered.get(name).is_some_and(|n| *n >= 3),
            "{name} was not really compared: {answered:?}"
        );
    }
    assert!(cases.len() > 500, "only {} expressions", cases.len());
}

/// The requests for one expression: over time, and at instants. Instants on, just within and just
/// beyond the edges matter to selectors and windows; to the rest an instant is like another.
fn requests(case: &Case) -> Vec<String> {
    let query: String = form_urlencoded::byte_serialize(case.query.as_bytes()).collect();
    let instants = match case {
        Case { of: "selector", .. } => &samples::INSTANTS[..],
        Case { query, .. } if query.contains('[') => &samples::INSTANTS[..3],
        Case { .. } => &samples::INSTANTS[..2],
    };
    let mut requests: Vec<String> = instants
        .iter()
        .map(|at| format!("/api/v1/query?query={query}&time={}", *at as f64 / 1000.0))
        .collect();
    if !case.wrong_over_time {
        let [start, end] = samples::RANGE.map(|at| at as f64 / 1000.0);
        requests.push(format!(
            "/api/v1/query_range?query={query}&start={start}&end={end}&step=97"
        ));
    }
    requests
}

async fn ask(api: &Api, request: &str) -> Value {
    let request = Request::get(request)
        .body(Full::<Bytes>::default())
        .unwrap();
    let body = api
        .answer(request)
        .await
        .into_body()
        .collect()
        .await
        .unwrap()
        .to_bytes();
    serde_json::from_slice(&body).unwrap()
}

/// Lists of series come in any order.
fn in_any_order(mut answer: Value) -> Value {
    if let Value::Array(list) = &mut answer["data"] {
        list.sort_by_key(Value::to_string);
    }
    answer
}

fn has_result(answer: &Value) -> bool {
    match &answer["data"]["resultType"] {
        Value::String(kind) if kind == "scalar" => true,
        Value::String(_) => answer["data"]["result"]
            .as_array()
            .is_some_and(|result| !result.is_empty()),
        _ => false,
    }
}

fn compare(theirs: &Value, ours: &Value, ordered: bool) -> Result<(), String> {
    let differ = |what: &str| {
        let short = |answer: &Value| answer.to_string().chars().take(400).collect::<String>();
        Err(format!(
            "{what}\n    prometheus: {}\n    crossfade:  {}",
            short(theirs),
            short(ours)
        ))
    };
    for field in ["status", "errorType"] {
        if theirs[field] != ours[field] {
            return differ(field);
        }
    }
    if theirs["data"]["resultType"] != ours["data"]["resultType"] {
        return differ("result type");
    }
    let (Some(theirs_list), Some(ours_list)) = (
        theirs["data"]["result"].as_array(),
        ours["data"]["result"].as_array(),
    ) else {
        return Ok(());
    };
    if theirs["data"]["resultType"] == "string" {
        return if theirs == ours {
            Ok(())
        } else {
            differ("text")
        };
    }
    if theirs["data"]["resultType"] == "scalar" {
        return if same_sample(&theirs["data"]["result"], &ours["data"]["result"]) {
            Ok(())
        } else {
            differ("scalar")
        };
    }
    if theirs_list.len() != ours_list.len() {
        return differ("number of series");
    }
    let by_labels = |list: &[Value]| -> Vec<Value> {
        let mut list = list.to_vec();
        list.sort_by_key(|series| series["metric"].to_string());
        list
    };
    let lists = if ordered {
        (theirs_list.clone(), ours_list.clone())
    } else {
        (by_labels(theirs_list), by_labels(ours_list))
    };
    for (their, our) in lists.0.iter().zip(&lists.1) {
        if their["metric"] != our["metric"] {
            return differ("labels");
        }
        let samples = |series: &Value| match &series["values"] {
            Value::Array(values) => values.clone(),
            _ => vec![series["value"].clone()],
        };
        let (their, our) = (samples(their), samples(our));
        if their.len() != our.len() {
            return differ("number of samples");
        }
        if let Some((their, our)) = their
            .iter()
            .zip(&our)
            .find(|(their, our)| !same_sample(their, our))
        {
            return differ(&format!("value: {their} and {our}"));
        }
    }
    Ok(())
}

fn same_sample(theirs: &Value, ours: &Value) -> bool {
    let number = |sample: &Value| sample[1].as_str().map(|text| text.parse::<f64>().unwrap());
    theirs[0] == ours[0]
        && match (number(theirs), number(ours)) {
            (Some(a), Some(b)) => {
                (a.is_nan() && b.is_nan())
                    || a.to_bits() == b.to_bits()
                    || (a - b).abs() <= TOLERANCE * a.abs().max(b.abs())
            }
            _ => false,
        }
}

/// A case whose name is none of the supported ones would be counted for nothing.
#[test]
fn every_expression_is_made_for_something_that_is_supported() {
    for Case { of, query, .. } in expressions::cases() {
        let known = FUNCTIONS.iter().any(|f| f.name == of)
            || AGGREGATIONS.contains(&of)
            || OPERATORS.contains(&of)
            || of == "selector";
        assert!(known, "{of}: {query}");
    }
}
