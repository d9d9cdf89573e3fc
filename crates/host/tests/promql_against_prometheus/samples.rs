//! The samples that both sides get: what real series do, and what they should not.

use std::sync::Arc;

use crossfade_host::telemetry::labels::Labels;
use crossfade_host::telemetry::samples::{Sample, Store, stale};

/// Unix milliseconds of the first samples; a whole minute.
const T0: i64 = 1_699_999_980_000;
const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;

/// A series and its samples.
pub(crate) type Series = (Labels, Vec<Sample>);

/// When expressions are asked at one time: on a sample; exactly at the edge of windows and of
/// visibility after the last samples (minute 40); between two samples; just before and beyond edges.
pub(crate) const INSTANTS: [i64; 5] = [
    T0 + 30 * MINUTE,
    T0 + 45 * MINUTE,
    T0 + 17 * MINUTE + 7_300,
    T0 + 41 * MINUTE,
    T0 + 45 * MINUTE + 1,
];

/// From and until when expressions are asked over time.
pub(crate) const RANGE: [i64; 2] = [T0 - MINUTE, T0 + 47 * MINUTE];

/// A time for `@`, in seconds.
pub(crate) const AT_SECONDS: i64 = (T0 + 20 * MINUTE) / 1000;

fn labels(metric: &str, rest: &[(&str, &str)]) -> Labels {
    Labels::new(
        rest.iter()
            .copied()
            .chain([("__name__", metric)])
            .collect::<Vec<_>>(),
    )
}

/// A sample each 15 seconds from minute `from` to minute `until`, its value computed from its number.
fn regular(from: i64, until: i64, value: impl Fn(i64) -> f64) -> Vec<Sample> {
    let count = (until - from) * 4;
    (0..=count)
        .map(|n| Sample {
            at: T0 + from * MINUTE + n * 15 * SECOND,
            value: value(n),
        })
        .collect()
}

/// Numbers that look random and are always the same.
fn noise(n: i64) -> f64 {
    let mut x = (n as u64)
        .wrapping_add(1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ (x >> 31)) as f64 / u64::MAX as f64
}

pub(crate) fn samples() -> Vec<Series> {
    let mut all = Vec::new();
    counters(&mut all);
    gauges(&mut all);
    histograms(&mut all);
    for_matching(&mut all);
    all
}

fn counters(all: &mut Vec<Series>) {
    let requests = |rest: &[(&str, &str)]| labels("http_requests_total", rest);
    all.push((
        requests(&[("pod", "a"), ("status", "200"), ("service", "web")]),
        regular(0, 40, |n| n as f64 * 7.0),
    ));
    // Begins anew every 13 minutes.
    all.push((
        requests(&[("pod", "a"), ("status", "500"), ("service", "web")]),
        regular(0, 40, |n| (n % 52) as f64 * 0.5 + (n / 52) as f64),
    ));
    // Irregular times.
    let mut at = T0 + 3_300;
    let jitter = (0..160).map(|n| {
        at += 11_000 + (noise(n) * 9_000.0) as i64;
        Sample {
            at,
            value: (n * n) as f64,
        }
    });
    all.push((
        requests(&[("pod", "b"), ("status", "200"), ("service", "web")]),
        jitter.collect(),
    ));
    // Comes late, and is marked as ended, and comes back from zero.
    let mut restarted = regular(9, 16, |n| 1e6 + n as f64 * 3.0);
    restarted.push(Sample {
        at: T0 + 16 * MINUTE + 15 * SECOND,
        value: stale(),
    });
    restarted.extend(regular(20, 40, |n| n as f64));
    all.push((
        requests(&[("pod", "b"), ("status", "503"), ("service", "web")]),
        restarted,
    ));
    // A hole of 8 minutes without a mark, and one sample with NaN.
    let mut holed = regular(0, 12, |n| n as f64 * 2.0);
    holed.extend(regular(20, 40, |n| {
        if n == 30 {
            f64::NAN
        } else {
            100.0 + n as f64 * 2.0
        }
    }));
    all.push((
        requests(&[("pod", "c"), ("status", "200"), ("service", "api")]),
        holed,
    ));
    // Never moves; one sample only; two samples; falls below zero.
    all.push((
        requests(&[("pod", "c"), ("status", "500"), ("service", "api")]),
        regular(0, 40, |_| 42.0),
    ));
    all.push((
        labels("lonely_total", &[]),
        vec![Sample {
            at: T0 + 29 * MINUTE,
            value: 5.0,
        }],
    ));
    all.push((
        labels("pair_total", &[]),
        vec![
            Sample {
                at: T0 + 27 * MINUTE,
                value: 1e-3,
            },
            Sample {
                at: T0 + 29 * MINUTE + 1,
                value: 3.0,
            },
        ],
    ));
    all.push((
        labels("falling_total", &[]),
        regular(0, 40, |n| 20.0 - n as f64),
    ));
    // Ends with a mark just before the end.
    let mut ended = regular(0, 39, |n| n as f64);
    ended.push(Sample {
        at: T0 + 39 * MINUTE + 20 * SECOND,
        value: stale(),
    });
    all.push((labels("ended_total", &[("pod", "z")]), ended));
}

fn gauges(all: &mut Vec<Series>) {
    let gauge = |rest: &[(&str, &str)]| labels("temperature", rest);
    all.push((
        gauge(&[("room", "hall"), ("unit", "c")]),
        regular(0, 40, |n| (noise(n) - 0.5) * 40.0),
    ));
    all.push((
        gauge(&[("room", "attic"), ("unit", "c")]),
        regular(0, 40, |n| (n as f64 / 9.0).sin() * 1e5),
    ));
    all.push((
        gauge(&[("room", "cellar"), ("unit", "k")]),
        regular(0, 40, |_| 273.15),
    ));
    all.push((
        gauge(&[("room", "oven")]),
        regular(0, 40, |n| match n % 40 {
            11 => f64::NAN,
            23 => f64::INFINITY,
            31 => f64::NEG_INFINITY,
            _ => noise(n + 1_000) * 1e-8,
        }),
    ));
    all.push((gauge(&[("room", "void")]), regular(0, 40, |_| f64::NAN)));
    all.push((
        gauge(
            &[("room", "zero"), ("odd \"label\"\\", "x\n\u{e9}")].map(|(n, v)| {
                if n.starts_with("odd") {
                    ("odd", v)
                } else {
                    (n, v)
                }
            }),
        ),
        regular(0, 40, |n| if n % 2 == 0 { 0.0 } else { -0.0 }),
    ));
    all.push((
        labels("level", &[("k", "2")]),
        regular(0, 40, |n| (n % 5) as f64 - 1.0),
    ));
}

fn histograms(all: &mut Vec<Series>) {
    let bounds = ["0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"];
    for (pod, speed) in [("a", 0.3), ("b", 4.0)] {
        for (at, bound) in bounds.iter().enumerate() {
            let upper: f64 = bound.parse().unwrap();
            let share = 1.0 - (-upper / speed).exp();
            let bucket = labels(
                "request_seconds_bucket",
                &[("pod", pod), ("le", bound), ("service", "web")],
            );
            all.push((
                bucket,
                regular(0, 40, move |n| {
                    ((n * 20) as f64 * share).floor() + noise(at as i64).floor()
                }),
            ));
        }
    }
    let odd = |kind: &str, le: &str| labels("odd_bucket", &[("kind", kind), ("le", le)]);
    for (kind, buckets) in [
        ("no infinity", vec![("1", 3.0), ("2", 5.0)]),
        ("one bucket", vec![("+Inf", 5.0)]),
        ("empty", vec![("1", 0.0), ("2", 0.0), ("+Inf", 0.0)]),
        (
            "not rising",
            vec![("1", 9.0), ("2", 4.0), ("3", 6.0), ("+Inf", 12.0)],
        ),
        (
            "negative",
            vec![("-2", 3.0), ("-1", 5.0), ("0", 7.0), ("+Inf", 12.0)],
        ),
        (
            "written twice",
            vec![("1", 3.0), ("1.0", 2.0), ("2", 9.0), ("+Inf", 12.0)],
        ),
        ("malformed", vec![("one", 3.0), ("2", 9.0), ("+Inf", 12.0)]),
        ("nan", vec![("1", f64::NAN), ("2", 9.0), ("+Inf", 12.0)]),
        (
            "exact",
            vec![("1", 5.0), ("2", 5.0), ("4", 10.0), ("+Inf", 10.0)],
        ),
    ] {
        for (le, count) in buckets {
            all.push((odd(kind, le), regular(0, 40, move |_| count)));
        }
    }
    all.push((
        labels("odd_bucket", &[("kind", "no bound")]),
        regular(0, 40, |_| 1.0),
    ));
}

fn for_matching(all: &mut Vec<Series>) {
    for (n, instance) in ["i1", "i2", "i3"].iter().enumerate() {
        let until = if *instance == "i3" { 25 } else { 40 };
        all.push((
            labels(
                "machine_cores",
                &[("instance", instance), ("rack", "r1"), ("kind", "big")],
            ),
            regular(0, until, move |_| n as f64 + 2.0),
        ));
        for cpu in ["0", "1"] {
            if *instance == "i2" && cpu == "1" {
                continue;
            }
            let offset = n as i64 * 1_000 + cpu.parse::<i64>().unwrap() * 300;
            all.push((
                labels("cpu_usage", &[("instance", instance), ("cpu", cpu)]),
                regular(0, 40, move |k| noise(k + offset) * 3.0),
            ));
        }
    }
    // The same labels under two names, at overlapping and at separate times.
    all.push((
        labels("twin_a", &[("x", "1")]),
        regular(0, 40, |n| n as f64),
    ));
    all.push((
        labels("twin_b", &[("x", "1")]),
        regular(0, 40, |n| -n as f64),
    ));
    all.push((labels("early", &[("x", "1")]), regular(0, 15, |n| n as f64)));
    all.push((labels("late", &[("x", "1")]), regular(25, 40, |n| n as f64)));
}

/// Writes everything into our store.
pub(crate) fn write(store: &Arc<Store>, all: &[Series]) {
    let mut batch = store.batch();
    for (labels, samples) in all {
        for sample in samples {
            assert!(batch.append(labels, *sample), "{labels} at {}", sample.at);
        }
    }
}
