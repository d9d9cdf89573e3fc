//! No text makes the evaluation panic, and none makes it run past its limits.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::{Duration, Instant};

use crossfade_host::telemetry::labels::Labels;
use crossfade_host::telemetry::promql::{
    AGGREGATIONS, FUNCTIONS, Kind, Limits, OPERATORS, QueryError, query, query_range,
};
use crossfade_host::telemetry::samples::{Sample, Store, stale};
use proptest::prelude::*;

/// A time at which the store has samples, Unix milliseconds.
const NOW: i64 = 1_700_000_000_000;

fn store() -> Store {
    let store = Store::default();
    let mut batch = store.batch();
    for (n, value) in [1.0, 5.0, f64::NAN, 2.0, f64::INFINITY, -1.0, stale(), 0.0]
        .into_iter()
        .enumerate()
    {
        let at = NOW - 100_000 + 10_000 * i64::try_from(n).unwrap();
        for (name, le) in [("x", ""), ("x", "0.1"), ("x", "+Inf"), ("y", "1")] {
            batch.append(
                &Labels::new([("__name__", name), ("le", le)]),
                Sample { at, value },
            );
        }
    }
    drop(batch);
    store
}

/// Asks at a time and over time; any answer or error will do.
fn ask(store: &Store, text: &str) {
    let limits = Limits {
        timeout: Duration::from_secs(5),
        max_samples: 100_000,
        ..Limits::default()
    };
    let _ = query(store, &limits, text, NOW);
    let _ = query_range(store, &limits, text, NOW - 60_000, NOW, 7_000);
}

/// Pieces of queries, some of them odd.
fn piece() -> impl Strategy<Value = String> {
    let names = FUNCTIONS
        .iter()
        .map(|f| f.name)
        .chain(AGGREGATIONS)
        .chain(OPERATORS);
    let known: Vec<String> = names.map(str::to_owned).collect();
    let other: Vec<String> = [
        "x",
        "y",
        "{",
        "}",
        "(",
        ")",
        "[",
        "]",
        ",",
        ":",
        "=",
        "!=",
        "=~",
        "!~",
        "@",
        "#",
        "\n",
        "\"",
        "'",
        "`",
        "\\",
        "5m",
        "1y",
        "0s",
        "1e300",
        "0x",
        "0x1f",
        "-",
        "+",
        "1e",
        ".",
        "1.5",
        "NaN",
        "Inf",
        "offset",
        "by",
        "without",
        "on",
        "ignoring",
        "group_left",
        "group_right",
        "bool",
        "start()",
        "end()",
        "fill",
        "le",
        "__name__",
        "\"a\"",
        "\"(\"",
        "\"\\xff\"",
        "predict_linear",
        "count_values",
        "\u{e9}",
        "\u{0}",
        "9999999999999999999",
        "x[5m]",
        "[5m:1s]",
        "@ 1e15",
        "@ -1e18",
        "offset -100y",
        "{le=~\".*\"}",
        "'\\u00e9'",
        "atan2",
        "limitk",
        "smoothed",
    ]
    .map(str::to_owned)
    .into();
    prop_oneof![prop::sample::select(known), prop::sample::select(other)]
}

/// Well-formed expressions of every kind, nested.
fn expression() -> impl Strategy<Value = String> {
    let selector = prop::sample::select(vec![
        "x",
        "y",
        "{le!=\"\"}",
        "x{le=\"0.1\"}",
        "x offset 30s",
        "y @ 1700000000",
        "missing",
    ]);
    let number = prop::sample::select(vec![
        "0",
        "1",
        "-0.5",
        "NaN",
        "Inf",
        "1e300",
        "time()",
        "scalar(y)",
        "5e-324",
    ]);
    let leaf = prop_oneof![
        selector.prop_map(str::to_owned),
        number.prop_map(|n| format!("vector({n})"))
    ];
    leaf.prop_recursive(5, 40, 3, move |inner| {
        let number = prop::sample::select(vec![
            "0",
            "2",
            "-1",
            "0.9",
            "NaN",
            "Inf",
            "scalar(x)",
            "time()",
        ]);
        let window = prop::sample::select(vec![
            "[1m:10s]",
            "[50s:7s] offset 1m",
            "[2m:] @ end()",
            "[1ms:1ms]",
        ]);
        let function = prop::sample::select(FUNCTIONS.iter().collect::<Vec<_>>());
        let call = (
            function,
            prop::collection::vec(inner.clone(), 1..4),
            number,
            window,
        )
            .prop_map(|(function, vectors, number, window)| {
                let vector = vectors.first().cloned().unwrap_or_default();
                let arg = |kind: &Kind| match kind {
                    Kind::Vector => vector.clone(),
                    Kind::Range => format!("({vector}){window}"),
                    Kind::Scalar => number.to_owned(),
                    Kind::Text => "\"le\"".to_owned(),
                };
                let call = format!(
                    "{}({})",
                    function.name,
                    function.args.iter().map(arg).collect::<Vec<_>>().join(",")
                );
                if function.returns == Kind::Scalar {
                    format!("vector({call})")
                } else {
                    call
                }
            });
        let grouping = prop::sample::select(vec!["", "by (le)", "without (le)", "by (__name__)"]);
        let aggregate = (
            prop::sample::select(AGGREGATIONS.to_vec()),
            grouping,
            inner.clone(),
        )
            .prop_map(|(name, grouping, of)| {
                let param = if matches!(name, "topk" | "bottomk" | "quantile") {
                    "0.7 * 3,"
                } else {
                    ""
                };
                format!("{name} {grouping} ({param}{of})")
            });
        let matching = prop::sample::select(vec![
            "",
            "on (le)",
            "ignoring (le)",
            "on () group_left ()",
            "ignoring (le) group_right (le)",
        ]);
        let binary = (
            inner.clone(),
            prop::sample::select(OPERATORS.to_vec()),
            matching,
            inner.clone(),
        )
            .prop_map(|(left, operator, matching, right)| {
                format!("({left}) {operator} {matching} ({right})")
            });
        prop_oneof![
            call,
            aggregate,
            binary,
            inner.prop_map(|of| format!("-({of})"))
        ]
    })
}

fn cases() -> ProptestConfig {
    ProptestConfig {
        cases: 1_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn bytes_of_any_kind_make_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        ask(&store(), &String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn pieces_of_queries_in_any_order_make_no_panic(pieces in prop::collection::vec(piece(), 0..12), gap in "[ ]?") {
        ask(&store(), &pieces.join(&gap));
    }

    #[test]
    fn nested_expressions_make_no_panic(text in expression()) {
        ask(&store(), &text);
    }
}

/// What the error says when a limit ends a query.
fn refusal(limits: Limits, text: &str, start: i64, end: i64, step: i64) -> String {
    query_range(&store(), &limits, text, start, end, step)
        .unwrap_err()
        .to_string()
}

#[test]
fn more_samples_than_allowed_are_refused_before_they_are_made() {
    let limits = Limits {
        max_samples: 1_000,
        ..Limits::default()
    };
    for text in [
        "x[100y:1ms]",
        "max_over_time(vector(1)[100y:1ms])",
        "max_over_time(x[5m:1ms])",
    ] {
        let error = query(&store(), &limits, text, NOW).unwrap_err();
        assert!(
            matches!(&error, QueryError::Execution(why) if why.contains("too many samples")),
            "{text}: {error}"
        );
    }
    for text in ["1", "time()", "x", "vector(1)"] {
        let why = refusal(limits, text, 0, NOW, 1);
        assert!(why.contains("too many samples"), "{text}: {why}");
    }
}

#[test]
fn a_query_that_takes_too_long_is_given_up() {
    let limits = Limits {
        timeout: Duration::from_millis(100),
        max_samples: usize::MAX,
        ..Limits::default()
    };
    let started = Instant::now();
    // Three hundred million points: no machine is through with them in time.
    let long = "max_over_time(avg_over_time(vector(1)[1h:1s])[1d:1s])";
    assert_eq!(
        query(&store(), &limits, long, NOW),
        Err(QueryError::Timeout)
    );
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn the_deepest_query_that_is_allowed_fits_on_the_stack_of_a_worker() {
    let on_worker_stack = |text: String| {
        // As large as the stacks of tokio's threads.
        let thread = std::thread::Builder::new().stack_size(2 << 20);
        thread
            .spawn(move || query(&store(), &Limits::default(), &text, NOW))
            .unwrap()
            .join()
            .unwrap()
    };
    let sums = |depth| "x".to_owned() + &"+x".repeat(depth);
    assert!(on_worker_stack(sums(190)).is_ok());
    assert!(on_worker_stack("-".repeat(190) + "x").is_ok());
    let nested = |depth| "abs(".repeat(depth) + "x" + &")".repeat(depth);
    assert!(on_worker_stack(nested(60)).is_ok());
    for too_deep in [
        sums(1_900),
        "-".repeat(3_900) + "x",
        nested(70),
        "(".repeat(5_000),
    ] {
        let error = on_worker_stack(too_deep).unwrap_err();
        assert!(
            matches!(&error, QueryError::Invalid(why) if why.contains("nested more than")),
            "{error}"
        );
    }
}
