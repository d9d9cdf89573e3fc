//! Small values: durations, numbers that may be texts, amounts, selectors, defaults, texts of steps.

use crossfade_api::analysis::Metric;
use crossfade_api::health::{Health, of_analysis_run, of_rollout};
use crossfade_api::intstr::{PodAmount, count, pause_seconds};
use crossfade_api::quantity::Quantity;
use crossfade_api::rollout::RolloutSpec;
use crossfade_api::steps::CanaryStep;
use crossfade_api::{FieldError, IntOrString, LabelSelector, duration, go_text, selector, time};
use jiff::SignedDuration;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn read<T: DeserializeOwned>(json: Value) -> T {
    serde_json::from_value(json).expect("it decodes")
}

#[test]
fn durations_are_read_as_go_reads_them() {
    let table = [
        ("0", 0),
        ("-0", 0),
        ("90s", 90_000_000_000),
        ("1h30m", 5_400_000_000_000),
        ("1.5h", 5_400_000_000_000),
        (".5s", 500_000_000),
        ("5.s", 5_000_000_000),
        ("+5s", 5_000_000_000),
        ("-5s", -5_000_000_000),
        ("1ms2us3ns", 1_002_003),
        ("7µs", 7_000),
        ("7μs", 7_000),
        ("0.0000000001s", 0),
        ("9223372036854775807ns", i64::MAX),
    ];
    for (text, nanos) in table {
        assert_eq!(
            duration::parse(text),
            Ok(SignedDuration::from_nanos(nanos)),
            "{text}"
        );
    }
    let errors = [
        ("", "time: invalid duration \"\""),
        ("60", "time: missing unit in duration \"60\""),
        ("1h30", "time: missing unit in duration \"1h30\""),
        ("1d", "time: unknown unit \"d\" in duration \"1d\""),
        ("5min", "time: unknown unit \"min\" in duration \"5min\""),
        ("5M", "time: unknown unit \"M\" in duration \"5M\""),
        ("asdf", "time: invalid duration \"asdf\""),
        ("-", "time: invalid duration \"-\""),
        (".s", "time: invalid duration \".s\""),
        ("1 s", "time: unknown unit \" s\" in duration \"1 s\""),
        ("3000000h", "time: invalid duration \"3000000h\""),
    ];
    for (text, error) in errors {
        assert_eq!(duration::parse(text), Err(error.to_owned()), "{text}");
    }
}

#[test]
fn api_15_a_pause_waits_for_seconds_or_for_a_duration() {
    let table = [
        (json!(10), 10),
        (json!("10"), 10),
        (json!("10s"), 10),
        (json!("1h30m"), 5400),
        (json!("1ms"), 0),
        (json!("1.9s"), 1),
        (json!(0), 0),
        (json!("1d"), -1),
        (json!(""), -1),
        (json!("3000000000"), -1),
        (json!(-5), -5),
    ];
    for (written, seconds) in table {
        assert_eq!(pause_seconds(&read(written.clone())), seconds, "{written}");
    }
}

#[test]
fn api_22_any_text_is_a_percentage_and_any_number_a_count() {
    //           written       of 10: up, down   of 1: up, down
    let table = [
        (json!("5"), (1, 0), (1, 0)),
        (json!("5%"), (1, 0), (1, 0)),
        (json!(5), (5, 5), (5, 5)),
        (json!("25%"), (3, 2), (1, 0)),
        (json!("100%"), (10, 10), (1, 1)),
        (json!("0%"), (0, 0), (0, 0)),
    ];
    for (written, ten, one) in table {
        let amount = PodAmount::read(&read(written.clone())).expect("it is a number");
        assert_eq!(
            (amount.rounded_up(10), amount.rounded_down(10)),
            ten,
            "{written} of 10"
        );
        assert_eq!(
            (amount.rounded_up(1), amount.rounded_down(1)),
            one,
            "{written} of 1"
        );
    }
    assert_eq!(
        PodAmount::read(&IntOrString::String("many".to_owned())),
        None
    );
    let defaults = read::<RolloutSpec>(json!({"strategy": {"canary": {}}}))
        .strategy
        .canary
        .expect("it is a canary");
    let surge = defaults.max_surge().expect("the default is a number");
    let unavailable = defaults.max_unavailable().expect("the default is a number");
    assert_eq!((surge.rounded_up(1), unavailable.rounded_down(1)), (1, 0));
}

#[test]
fn counts_of_an_analysis_are_decimal_and_anything_else_is_zero() {
    let table = [
        (json!(5), 5),
        (json!("5"), 5),
        (json!("-1"), -1),
        (json!("+3"), 3),
        (json!("abc"), 0),
        (json!("5.0"), 0),
        (json!(" 5"), 0),
        (json!(""), 0),
        (json!("0x5"), 0),
        (json!("1_0"), 0),
    ];
    for (written, expected) in table {
        assert_eq!(count(&read(written.clone())), expected, "{written}");
    }
}

#[test]
fn a_metric_is_measured_once_without_end_or_as_often_as_it_says() {
    let effective = |metric: Value| {
        let mut metric = metric;
        metric["name"] = json!("m");
        metric["provider"] = json!({});
        read::<Metric>(metric).effective_count()
    };
    assert_eq!(effective(json!({})), Some(1));
    assert_eq!(effective(json!({"count": 0})), Some(1));
    assert_eq!(effective(json!({"interval": "5s"})), None);
    assert_eq!(effective(json!({"interval": "5s", "count": "0"})), None);
    assert_eq!(effective(json!({"count": 3})), Some(3));
    assert_eq!(effective(json!({"count": -2})), Some(-2));
    let metric = read::<Metric>(json!({"name": "m", "provider": {}}));
    assert_eq!(
        (metric.failure_limit(), metric.inconclusive_limit()),
        (0, 0)
    );
    assert_eq!(
        (
            metric.consecutive_error_limit(),
            metric.consecutive_success_limit()
        ),
        (4, 0)
    );
}

#[test]
fn amounts_have_one_text() {
    let table = [
        ("0.5", "500m"),
        ("1000m", "1"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("0.5Ki", "512"),
        ("1023", "1023"),
        ("1e3", "1e3"),
        ("1500", "1500"),
        ("2000", "2k"),
        ("8192M", "8192M"),
        ("0", "0"),
        ("0Mi", "0"),
        ("-1500m", "-1500m"),
        ("+2", "2"),
        (".5", "500m"),
        ("1E", "1E"),
        ("0.0000000001", "1n"),
        ("100Ei", "9223372036854775807"),
        ("1.1Ki", "1126400m"),
    ];
    for (written, canonical) in table {
        assert_eq!(
            Quantity::parse(written).map(Quantity::canonical).as_deref(),
            Some(canonical),
            "{written}"
        );
    }
    for text in ["", "m", "1x", "1 ", "--1", "1.2.3", "e3"] {
        assert_eq!(Quantity::parse(text), None, "{text}");
    }
    let milli = |text: &str| {
        Quantity::parse(text).map(|quantity| quantity.rounded_up_to_milli().canonical())
    };
    assert_eq!(milli("1u").as_deref(), Some("1m"));
    assert_eq!(milli("1500m").as_deref(), Some("1500m"));
}

#[test]
fn selectors_match_and_are_written_in_one_way() {
    let all: LabelSelector = read(json!({
        "matchLabels": {"b": "2", "a": "1"},
        "matchExpressions": [
            {"key": "e", "operator": "DoesNotExist"},
            {"key": "c", "operator": "In", "values": ["y", "x"]},
            {"key": "d", "operator": "Exists"},
            {"key": "f", "operator": "NotIn", "values": ["z"]},
        ],
    }));
    assert_eq!(selector::text(&all), "a=1,b=2,c in (x,y),d,!e,f notin (z)");
    let labels = [("a", "1"), ("b", "2"), ("c", "x"), ("d", "")].into();
    assert!(selector::matches(Some(&all), &labels));
    for (key, value) in [("a", "2"), ("c", "z"), ("e", ""), ("f", "z")] {
        let mut other = labels.clone();
        other.insert(key, value);
        assert!(!selector::matches(Some(&all), &other), "{key}={value}");
    }
    assert!(!selector::matches(None, &labels));
    assert!(selector::matches(Some(&LabelSelector::default()), &labels));
}

#[test]
fn a_step_has_a_text_for_events() {
    let table = [
        (json!({"setWeight": 20}), "setWeight: 20"),
        (json!({"pause": {}}), "pause"),
        (json!({"pause": {"duration": "10s"}}), "pause: 10s"),
        (json!({"pause": {"duration": 600}}), "pause: 600"),
        (
            json!({"setCanaryScale": {"weight": 25, "replicas": 1}}),
            "setCanaryScale{weight: 25}",
        ),
        (
            json!({"setCanaryScale": {"matchTrafficWeight": true}}),
            "setCanaryScale{matchTrafficWeight: true}",
        ),
        (
            json!({"setCanaryScale": {"replicas": 3}}),
            "setCanaryScale{replicas: 3}",
        ),
        (json!({"setCanaryScale": {}}), "invalid"),
        (json!({"experiment": {"templates": []}}), "experiment"),
        (json!({"analysis": {}}), "analysis"),
        (
            json!({"setHeaderRoute": {"name": "h"}}),
            "setHeaderRoute: h",
        ),
        (
            json!({"setMirrorRoute": {"name": "m"}}),
            "setMirrorRoute: m",
        ),
        (json!({"plugin": {"name": "org/p"}}), "plugin: org/p"),
        (json!({}), "invalid"),
        (json!({"pause": {}, "setWeight": 5}), "setWeight: 5"),
    ];
    for (step, text) in table {
        assert_eq!(read::<CanaryStep>(step.clone()).to_string(), text, "{step}");
    }
}

#[test]
fn absent_fields_have_the_defaults_of_the_reference() {
    let spec: RolloutSpec = read(json!({"strategy": {"canary": {}}}));
    assert_eq!(spec.replicas(), 1);
    assert_eq!(spec.revision_history_limit(), 10);
    assert_eq!(spec.progress_deadline_seconds(), 600);
    assert_eq!(spec.rollback_window(), 0);
    assert_eq!(
        (
            spec.successful_run_history_limit(),
            spec.unsuccessful_run_history_limit()
        ),
        (5, 5)
    );
    assert_eq!(spec.max_traffic_weight(), 100);
    let basic = spec.strategy.canary.expect("it is a canary");
    assert_eq!(
        (
            basic.scale_down_delay_seconds(),
            basic.abort_scale_down_delay_seconds()
        ),
        (0, Some(0))
    );
    assert_eq!(basic.scale_down_delay_revision_limit(), i32::MAX);

    let canary = |canary: Value| {
        read::<RolloutSpec>(json!({"strategy": {"canary": canary}}))
            .strategy
            .canary
            .expect("one")
    };
    let routed = canary(json!({"trafficRouting": {}}));
    assert_eq!(
        (
            routed.scale_down_delay_seconds(),
            routed.abort_scale_down_delay_seconds()
        ),
        (30, Some(30))
    );
    assert_eq!(
        canary(json!({"trafficRouting": {}, "abortScaleDownDelaySeconds": 0}))
            .abort_scale_down_delay_seconds(),
        None
    );
    let unset = canary(json!({"replicaProgressThreshold": {"type": "Percent", "value": -1}}));
    assert_eq!(unset.replica_progress_threshold(), None);

    let blue_green = |fields: Value| {
        read::<RolloutSpec>(json!({"strategy": {"blueGreen": fields}}))
            .strategy
            .blue_green
            .expect("one")
    };
    let plain = blue_green(json!({"activeService": "a"}));
    assert!(plain.auto_promotion_enabled());
    assert_eq!(
        (
            plain.scale_down_delay_seconds(),
            plain.abort_scale_down_delay_seconds()
        ),
        (30, Some(30))
    );
    assert_eq!(
        blue_green(json!({"activeService": "a", "abortScaleDownDelaySeconds": 0}))
            .abort_scale_down_delay_seconds(),
        None
    );
    assert_eq!(plain.max_unavailable(), Some(PodAmount::Percent(25)));
}

#[test]
fn times_are_written_in_whole_seconds_that_are_cut() {
    let read = |text: &str| time::parse(text).map(time::text).ok();
    assert_eq!(
        read("2024-01-31T10:00:00.999Z").as_deref(),
        Some("2024-01-31T10:00:00Z")
    );
    assert_eq!(
        read("2024-01-31T12:00:00+02:00").as_deref(),
        Some("2024-01-31T10:00:00Z")
    );
    assert_eq!(read("yesterday"), None);
}

#[test]
fn texts_are_quoted_as_go_quotes_them() {
    let table = [
        ("plain", r#""plain""#),
        ("a\"b\\c", r#""a\"b\\c""#),
        ("tab\tline\n", r#""tab\tline\n""#),
        ("\u{1}\u{7f}", r#""\x01\x7f""#),
        ("é'日本", r#""é'日本""#),
        ("\u{200b}\u{e000}", r#""\u200b\ue000""#),
    ];
    for (text, quoted) in table {
        assert_eq!(go_text::quote(text), quoted);
    }
}

#[test]
fn api_28_a_paused_rollout_is_suspended_for_argo_cd() {
    let rollout = json!({
        "metadata": {"generation": 3},
        "status": {"observedGeneration": "3", "phase": "Paused", "message": "manually paused"},
    });
    assert_eq!(
        of_rollout(&rollout),
        (Health::Suspended, "manually paused".to_owned())
    );
}

#[test]
fn api_38_a_change_is_progressing_for_argo_cd_until_it_is_observed() {
    let waiting = (
        Health::Progressing,
        "Waiting for rollout spec update to be observed".to_owned(),
    );
    let shown = |generation: i64, status: Value| {
        of_rollout(&json!({"metadata": {"generation": generation}, "status": status}))
    };
    assert_eq!(shown(1, Value::Null), waiting);
    assert_eq!(
        shown(4, json!({"observedGeneration": "3", "phase": "Healthy"})),
        waiting
    );
    for observed in ["4", "5", "6c8d5f7f8"] {
        let status = json!({"observedGeneration": observed, "phase": "Healthy"});
        assert_eq!(
            shown(4, status),
            (Health::Healthy, String::new()),
            "{observed}"
        );
    }
    let referenced = json!({
        "metadata": {"generation": 1, "annotations": {"rollout.argoproj.io/workload-generation": "7"}},
        "spec": {"workloadRef": {}},
        "status": {"observedGeneration": "1", "workloadObservedGeneration": "6", "phase": "Healthy"},
    });
    assert_eq!(of_rollout(&referenced), waiting);
}

#[test]
fn analysis_runs_are_as_healthy_for_argo_cd_as_their_phase() {
    let table = [
        ("Pending", Health::Progressing, "Analysis run is running"),
        ("Running", Health::Progressing, "Analysis run is running"),
        (
            "Successful",
            Health::Healthy,
            "Analysis run completed successfully",
        ),
        ("Failed", Health::Degraded, "Analysis run failed"),
        ("Error", Health::Degraded, "Analysis run had an error"),
        (
            "Inconclusive",
            Health::Unknown,
            "Analysis run was inconclusive",
        ),
    ];
    for (phase, health, message) in table {
        assert_eq!(
            of_analysis_run(&json!({"status": {"phase": phase}})),
            (health, message.to_owned())
        );
    }
    let told = json!({"status": {"phase": "Failed", "message": "because"}});
    assert_eq!(
        of_analysis_run(&told),
        (Health::Degraded, "because".to_owned())
    );
    assert_eq!(of_analysis_run(&json!({})).0, Health::Progressing);
}

#[test]
fn a_long_value_is_cut_in_messages() {
    let error = FieldError::invalid("spec.x", &"é".repeat(5000), "is long");
    assert!(error.to_string().len() < 4200);
    assert!(error.to_string().ends_with("…: is long"));
}
