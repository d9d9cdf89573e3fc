//! Tests of the store.

use super::*;

fn named(name: &str) -> Labels {
    Labels::new([(METRIC_NAME, name)])
}

fn values(store: &Store, labels: &Labels) -> Vec<(i64, f64)> {
    store
        .snapshot()
        .samples(labels, i64::MIN, i64::MAX)
        .iter()
        .map(|s| (s.at, s.value))
        .collect()
}

#[test]
fn a_sample_that_is_not_newer_than_the_last_is_refused() {
    let store = Store::default();
    let mut batch = store.batch();
    assert!(batch.append(&named("a"), Sample { at: 10, value: 1.0 }));
    assert!(!batch.append(&named("a"), Sample { at: 10, value: 2.0 }));
    assert!(!batch.append(&named("a"), Sample { at: 9, value: 3.0 }));
    drop(batch);
    assert_eq!(values(&store, &named("a")), [(10, 1.0)]);
}

#[test]
fn one_column_is_shown_under_several_names_and_scaled() {
    let store = Store::default();
    let mut batch = store.batch();
    let column = batch
        .columns(vec![vec![
            (named("seconds"), 1.0),
            (named("milliseconds"), 1000.0),
        ]])
        .expect("room");
    let column = column[0];
    batch.push(column, Sample { at: 1, value: 0.25 });
    batch.push(
        column,
        Sample {
            at: 2,
            value: stale(),
        },
    );
    drop(batch);
    assert_eq!(values(&store, &named("milliseconds"))[0], (1, 250.0));
    assert!(is_stale(values(&store, &named("milliseconds"))[1].1));
    assert_eq!(values(&store, &named("seconds"))[0], (1, 0.25));
    assert_eq!((store.usage().series, store.usage().samples), (2, 2));
}

#[test]
fn what_a_pod_says_of_itself_displaces_what_is_derived() {
    let of = |metric, pod, job| {
        Labels::new([
            (METRIC_NAME, metric),
            ("namespace", "n"),
            ("pod", pod),
            ("job", job),
        ])
    };
    let store = Store::default();
    let seen = |metric| {
        store
            .snapshot()
            .labels_of(Some(metric))
            .map(|l| format!("{} {}", l.get("pod"), l.get("job")))
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>()
    };
    let mut batch = store.batch();
    for (at, pod) in [(1, "a"), (2, "b")] {
        let column = batch.columns(vec![vec![
            (of("requests", pod, "proxy"), 1.0),
            (of("other", pod, "proxy"), 1.0),
        ]]);
        batch.push(column.expect("room")[0], Sample { at, value: 1.0 });
    }
    batch.append(&of("requests", "a", "own"), Sample { at: 3, value: 1.0 });
    let late = batch
        .columns(vec![vec![(of("requests", "a", "proxy"), 1.0)]])
        .expect("room");
    batch.push(late[0], Sample { at: 4, value: 1.0 });
    drop(batch);
    assert_eq!(seen("requests"), ["a own", "b proxy"]);
    assert_eq!(seen("other"), ["a proxy", "b proxy"]);
    // When all of it is old, the pod's name is free again.
    let after = SWEEP_EVERY_MS + millis(Settings::default().retention) + 10;
    store.batch().append(
        &named("clock"),
        Sample {
            at: after,
            value: 0.0,
        },
    );
    let back = store
        .batch()
        .columns(vec![vec![(of("requests", "a", "proxy"), 1.0)]])
        .expect("room");
    store.batch().push(
        back[0],
        Sample {
            at: after + 1,
            value: 1.0,
        },
    );
    assert_eq!(seen("requests"), ["a proxy"]);
}

#[test]
fn old_samples_go_and_so_do_series_without_samples() {
    let store = Store::new(Settings {
        retention: Duration::from_mins(1),
        ..Settings::default()
    });
    let mut batch = store.batch();
    let ended = batch.series(&named("ended")).expect("room");
    batch.push(ended, Sample { at: 0, value: 1.0 });
    drop(batch);
    for at in [30_000, 60_000, 90_000, 150_000] {
        store
            .batch()
            .append(&named("going"), Sample { at, value: 1.0 });
    }
    assert_eq!(
        values(&store, &named("going")),
        [(90_000, 1.0), (150_000, 1.0)]
    );
    assert_eq!((store.usage().series, store.usage().samples), (1, 2));
    assert!(
        !store.batch().push(
            ended,
            Sample {
                at: 200_000,
                value: 1.0
            }
        ),
        "the handle outlived its column"
    );
}

#[test]
fn more_series_than_allowed_are_refused_and_counted() {
    let store = Store::new(Settings {
        max_series: 2,
        ..Settings::default()
    });
    let accepted: Vec<bool> = ["a", "b", "c", "a"]
        .iter()
        .zip(1..)
        .map(|(name, at)| {
            store
                .batch()
                .append(&named(name), Sample { at, value: 0.0 })
        })
        .collect();
    assert_eq!(accepted, [true, true, false, true]);
    assert_eq!(store.usage().refused_series, 1);
}

#[test]
fn memory_stays_within_its_bound_and_the_newest_samples_stay() {
    let max_bytes = 64 * 1024;
    let store = Store::new(Settings {
        max_bytes,
        ..Settings::default()
    });
    for at in 0..20_000 {
        store.batch().append(
            &named("a"),
            Sample {
                at,
                value: at as f64,
            },
        );
        assert!(
            store.usage().bytes <= max_bytes,
            "{:?} after {at}",
            store.usage()
        );
    }
    assert_eq!(
        values(&store, &named("a")).last(),
        Some(&(19_999, 19_999.0))
    );
}

#[test]
fn a_reader_sees_a_batch_whole_or_not_at_all() {
    let store = Arc::new(Store::default());
    let writer = {
        let store = store.clone();
        std::thread::spawn(move || {
            for at in 1..2_000 {
                let mut batch = store.batch();
                batch.append(
                    &named("a"),
                    Sample {
                        at,
                        value: at as f64,
                    },
                );
                batch.append(
                    &named("b"),
                    Sample {
                        at,
                        value: at as f64,
                    },
                );
            }
        })
    };
    while !writer.is_finished() {
        let snapshot = store.snapshot();
        let both = [named("a"), named("b")]
            .map(|name| snapshot.samples(&name, i64::MIN, i64::MAX).last().copied());
        assert_eq!(both[0], both[1]);
    }
    writer.join().expect("the writer does not panic");
}

#[test]
fn older_samples_are_thinned_and_lose_no_increase_and_no_extreme() {
    let store = Store::default();
    // A counter each second that begins anew now and then, soon above what it was, and pauses.
    let mut value = 0.0;
    let mut samples = Vec::new();
    for second in 0..3_600 {
        value = match second % 700 {
            333 => 0.0,
            334 => value + 5_000.0,
            400..500 => value,
            _ => value + f64::from(second % 7),
        };
        let marked = if second == 1_000 {
            stale()
        } else if second == 1_200 {
            f64::NAN
        } else {
            value
        };
        samples.push(Sample {
            at: i64::from(second) * 1_000,
            value: marked,
        });
    }
    for sample in &samples {
        store.batch().append(&named("a"), *sample);
    }
    let kept = store.snapshot().samples(&named("a"), i64::MIN, i64::MAX);
    let given = samples;
    assert!(
        kept.len() < 900 + 60 + 2_700 / 7,
        "{} of {}",
        kept.len(),
        given.len()
    );
    assert!(
        kept.windows(2)
            .all(|pair| pair[1].at - pair[0].at <= COARSE_MS),
        "no gap is too long"
    );
    let increase = |samples: &[Sample]| -> f64 {
        let values: Vec<f64> = samples
            .iter()
            .map(|s| s.value)
            .filter(|v| !v.is_nan())
            .collect();
        values
            .windows(2)
            .map(|pair| {
                if pair[1] < pair[0] {
                    pair[1]
                } else {
                    pair[1] - pair[0]
                }
            })
            .sum()
    };
    assert!((increase(&kept) - increase(&given)).abs() < 1e-6);
    let marks = |samples: &[Sample]| {
        samples
            .iter()
            .filter(|s| s.value.is_nan())
            .map(|s| (s.at, is_stale(s.value)))
            .collect::<Vec<_>>()
    };
    assert_eq!(marks(&kept), [(1_000_000, true), (1_200_000, false)]);
    let max = |samples: &[Sample]| samples.iter().map(|s| s.value).fold(0.0, f64::max);
    assert!((max(&kept) - max(&given)).abs() < 1e-6);
}

#[test]
fn what_lies_in_the_future_after_the_clock_was_set_back_is_forgotten() {
    let store = Store::default();
    let hour = 3_600_000;
    for at in [hour, hour + 1_000] {
        store
            .batch()
            .append(&named("ended"), Sample { at, value: 1.0 });
        store
            .batch()
            .append(&named("going"), Sample { at, value: 1.0 });
    }
    let late = Sample {
        at: hour - 50_000,
        value: 2.0,
    };
    assert!(!store.batch().append(&named("going"), late), "only late");
    let back = Sample {
        at: 1_000,
        value: 3.0,
    };
    assert!(store.batch().append(&named("going"), back));
    assert_eq!(values(&store, &named("going")), [(1_000, 3.0)]);
    assert_eq!(values(&store, &named("ended")), []);
    assert_eq!((store.usage().series, store.usage().samples), (1, 1));
}
