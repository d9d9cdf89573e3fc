//! AnalysisRuns from their first pass to their end, in virtual time, with scripted answers of providers.

#![expect(
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "tests state what must not happen, and read better with plain values"
)]

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crossfade_api::analysis_run::{AnalysisPhase, Measurement, MetricResult};
use crossfade_api::words::{Reading, Value as Word};
use crossfade_api::{AnalysisRun, Resource as _};
use crossfade_engine::action::{Action, Done, Failure, FailureKind, Outcome, Target};
use crossfade_engine::analysis::AnalysisRunSubject;
use crossfade_engine::analysis::measure::{Call, MeasureRequest, Measured, conclude};
use crossfade_engine::analysis::world::{BlockedPod, Job, World};
use crossfade_engine::decision::Event;
use crossfade_engine::pass::{Need, Pass, Standing};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

const UID: &str = "11111111-2222-3333-4444-555555555555";

/// One AnalysisRun, the providers that answer it, and a clock that only moves when told.
struct Stage {
    run: AnalysisRun,
    jobs: BTreeMap<String, Job>,
    /// Answers still to come, by metric; the last one is repeated.
    script: BTreeMap<String, VecDeque<AnalysisPhase>>,
    /// Times at which a measurement was started, by metric.
    started: Vec<(String, i64)>,
    deleted_jobs: Vec<String>,
    /// The next Job is created, but nobody is told so.
    unanswered: bool,
    error_text: String,
    /// How long the provider wants to be left alone after an error.
    pause_asked_for: Option<SignedDuration>,
    events: Vec<Event>,
    now: Timestamp,
    begun: Timestamp,
    next: Option<Timestamp>,
    deleted: bool,
    writes: usize,
}

impl Stage {
    fn new(spec: serde_json::Value) -> Self {
        let begun: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let (run, errors) = AnalysisRun::from_json(json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "AnalysisRun",
            "metadata": {"name": "run", "namespace": "ns", "uid": UID}, "spec": spec,
        }));
        assert_eq!(errors, [], "the run decodes");
        Self {
            run,
            jobs: BTreeMap::new(),
            script: BTreeMap::new(),
            started: Vec::new(),
            deleted_jobs: Vec::new(),
            unanswered: false,
            error_text: "provider is down".to_owned(),
            pause_asked_for: None,
            events: Vec::new(),
            now: begun,
            begun,
            next: None,
            deleted: false,
            writes: 0,
        }
    }

    /// A run with one web metric `m` that has these settings.
    fn metric(settings: serde_json::Value, answers: &str) -> Self {
        let mut metric = json!({"name": "m", "provider": {"web": {"url": "http://x"}}});
        metric
            .as_object_mut()
            .expect("an object")
            .extend(settings.as_object().expect("an object").clone());
        let mut stage = Self::new(json!({"metrics": [metric]}));
        stage.answers("m", answers);
        stage
    }

    /// S successful, F failed, I inconclusive, E error.
    fn answers(&mut self, metric: &str, letters: &str) {
        let phases = letters
            .chars()
            .filter(|letter| !letter.is_whitespace())
            .map(|letter| match letter {
                'S' => AnalysisPhase::Successful,
                'F' => AnalysisPhase::Failed,
                'I' => AnalysisPhase::Inconclusive,
                'E' => AnalysisPhase::Error,
                other => panic!("unknown letter {other}"),
            });
        self.script.insert(metric.to_owned(), phases.collect());
    }

    fn answer(&mut self, request: &MeasureRequest) -> Measured {
        self.started.push((
            request.metric.name.clone(),
            self.now.duration_since(self.begun).as_secs(),
        ));
        let script = self
            .script
            .get_mut(&request.metric.name)
            .expect("a script for the metric");
        let phase = if script.len() > 1 {
            script.pop_front()
        } else {
            script.front().copied()
        }
        .expect("an answer");
        let message = if phase == AnalysisPhase::Error {
            self.error_text.clone()
        } else {
            String::new()
        };
        let pause = self
            .pause_asked_for
            .filter(|_| phase == AnalysisPhase::Error);
        let measurement = Measurement {
            phase,
            message,
            started_at: Some(self.now),
            finished_at: Some(self.now),
            resume_at: pause.map(|pause| self.now + pause),
            ..Measurement::default()
        };
        Measured::Taken {
            measurement,
            metadata: BTreeMap::new(),
        }
    }

    fn perform(&mut self, action: &Action) -> Outcome {
        match action {
            Action::Measure(request) => {
                assert_eq!(request.call, Call::Start, "web metrics are asked once");
                Ok(Done::Measured(Box::new(self.answer(request))))
            }
            Action::CreateJob(job) => {
                if self.jobs.contains_key(&job.name) {
                    let message = format!("jobs.batch \"{}\" already exists", job.name);
                    return Err(Failure {
                        kind: FailureKind::JobExists(
                            self.jobs.get(&job.name).cloned().map(Box::new),
                        ),
                        message,
                    });
                }
                let target = Target {
                    namespace: job.namespace.clone(),
                    name: job.name.clone(),
                    uid: job.name.clone(),
                    ..Target::default()
                };
                let view = Job {
                    target,
                    created: self.now,
                    controller: Some(job.run_uid.clone()),
                    run_uid: job.run_uid.clone(),
                    metric: job.metric.name.clone(),
                    ..Job::default()
                };
                self.jobs.insert(job.name.clone(), view);
                if std::mem::take(&mut self.unanswered) {
                    return Err(Failure {
                        kind: FailureKind::Other,
                        message: "the answer did not arrive".to_owned(),
                    });
                }
                Ok(Done::Written(String::new()))
            }
            Action::DeleteJob { target } => {
                self.jobs.remove(&target.name);
                self.deleted_jobs.push(target.name.clone());
                Ok(Done::Written(String::new()))
            }
            Action::DeleteAnalysisRun { target } => {
                assert_eq!(target.uid, UID);
                self.deleted = true;
                Ok(Done::Written(String::new()))
            }
            other => panic!("an AnalysisRun never wants {other:?}"),
        }
    }

    fn pass(&mut self) {
        let world = World {
            run: Arc::new(self.run.clone()),
            jobs: self.jobs.clone(),
            job_namespace: None,
        };
        let mut pass = Pass::<AnalysisRunSubject>::start(world, Standing::Sound, self.now);
        while let Some(need) = pass.need() {
            match need {
                Need::Perform(actions) => {
                    let outcomes = actions.iter().map(|action| self.perform(action)).collect();
                    pass.performed(outcomes);
                }
                Need::Record(status, events) => {
                    if let Some(status) = status {
                        self.run.status = status;
                        self.writes += 1;
                    }
                    self.events.extend(events);
                    pass.recorded(Ok(()));
                }
            }
        }
        let ended = pass.ended();
        assert_eq!(ended.failed, None);
        self.next = ended.look_again.map(|delay| self.now + delay);
    }

    /// Runs passes, as the clock and status writes call for them, until the run ends or nothing more would happen.
    fn run_out(&mut self) -> &mut Self {
        for _ in 0..500 {
            let before = self.writes;
            self.pass();
            if self.run.status.phase.is_completed() {
                return self;
            }
            if self.writes > before {
                // A status write wakes the run.
                continue;
            }
            let Some(next) = self.next else { return self };
            self.now = next.max(self.now + SignedDuration::from_millis(1));
        }
        panic!("the run does not come to an end: {:?}", self.run.status);
    }

    fn wait(&mut self, seconds: i64) -> &mut Self {
        self.now += SignedDuration::from_secs(seconds);
        self.pass();
        self
    }

    fn result(&self, metric: &str) -> &MetricResult {
        self.run
            .status
            .metric_results
            .iter()
            .find(|result| result.name == metric)
            .expect("a result for the metric")
    }

    fn ends(&self, phase: AnalysisPhase, message: &str) {
        assert_eq!(
            (self.run.status.phase, self.run.status.message.as_str()),
            (phase, message)
        );
    }

    fn reasons(&self) -> Vec<&str> {
        self.events
            .iter()
            .map(|event| event.reason.as_str())
            .collect()
    }

    fn seconds_of_starts(&self) -> Vec<i64> {
        self.started.iter().map(|(_, second)| *second).collect()
    }
}

#[test]
fn analysis_01_one_good_measurement_is_enough_without_interval_and_count() {
    let mut stage = Stage::metric(json!({}), "S");
    stage.run_out();
    stage.ends(AnalysisPhase::Successful, "");
    assert_eq!(stage.started.len(), 1);
    let status = serde_json::to_value(&stage.run.status).expect("statuses are JSON");
    assert_eq!(status["runSummary"], json!({"count": 1, "successful": 1}));
    assert_eq!(status["dryRunSummary"], json!({}));
    assert_eq!(status["completedAt"], json!("2026-01-01T00:00:00Z"));
    assert_eq!(
        stage.reasons(),
        ["MetricSuccessful", "AnalysisRunSuccessful"]
    );
    let texts: Vec<_> = stage
        .events
        .iter()
        .map(|event| event.message.as_str())
        .collect();
    assert_eq!(
        texts,
        [
            "Metric 'm' Completed. Result: Successful",
            "Analysis Completed. Result: Successful"
        ]
    );
}

#[test]
fn analysis_02_failures_within_the_limit_are_tolerated() {
    let mut stage = Stage::metric(
        json!({"interval": "5s", "count": 3, "failureLimit": 1}),
        "FSS",
    );
    stage.run_out();
    stage.ends(AnalysisPhase::Successful, "");
    assert_eq!(
        (stage.result("m").failed, stage.result("m").successful),
        (1, 2)
    );
}

#[test]
fn analysis_03_the_failure_beyond_the_limit_ends_the_run_at_once() {
    let mut stage = Stage::metric(
        json!({"interval": "5s", "count": 3, "failureLimit": 1}),
        "FF",
    );
    stage.run_out();
    stage.ends(
        AnalysisPhase::Failed,
        "Metric \"m\" assessed Failed due to failed (2) > failureLimit (1)",
    );
    stage.wait(60);
    assert_eq!(stage.started.len(), 2, "no third measurement");
    assert_eq!(stage.reasons(), ["MetricFailed", "AnalysisRunFailed"]);
    assert!(stage.events.iter().all(|event| event.warning));
}

#[test]
fn analysis_04_errors_are_repeated_every_ten_seconds_and_the_fifth_ends_the_run() {
    let mut stage = Stage::metric(json!({}), "E");
    stage.run_out();
    let text = "Metric \"m\" assessed Error due to consecutiveErrors (5) > consecutiveErrorLimit (4): \"Error Message: provider is down\"";
    stage.ends(AnalysisPhase::Error, text);
    // Due means strictly after ten seconds, and times are kept in whole seconds.
    let starts = stage.seconds_of_starts();
    assert_eq!(starts.len(), 5);
    for (number, start) in starts.iter().enumerate() {
        let planned = 10 * i64::try_from(number).expect("small");
        assert!((planned..=planned + 5).contains(start), "{starts:?}");
    }
}

#[test]
fn analysis_05_errors_do_not_use_up_the_count() {
    let mut stage = Stage::metric(json!({"count": 1}), "EES");
    stage.run_out();
    stage.ends(AnalysisPhase::Successful, "");
    let result = stage.result("m");
    assert_eq!(
        (result.error, result.consecutive_error, result.count),
        (2, 0, 1)
    );
}

#[test]
fn analysis_12_a_bad_metric_stops_the_others_and_deletes_their_jobs() {
    let mut stage = Stage::new(json!({"metrics": [
        {"name": "a", "provider": {"web": {"url": "http://x"}}},
        {"name": "b", "provider": {"job": {"spec": {"template": {"spec": {"containers": []}}}}}},
    ]}));
    stage.answers("a", "F");
    stage.pass();
    assert_eq!(
        stage.run.status.phase,
        AnalysisPhase::Running,
        "the pass that notices does not end the run yet"
    );
    assert_eq!(stage.jobs.len(), 1);
    stage.pass();
    assert_eq!(stage.deleted_jobs, [format!("{UID}.b.1")]);
    let last = stage
        .result("b")
        .measurements
        .last()
        .expect("a measurement")
        .clone();
    assert_eq!(
        (last.phase, last.message.as_str()),
        (AnalysisPhase::Inconclusive, "Metric Terminated")
    );
    stage.ends(
        AnalysisPhase::Failed,
        "Metric \"a\" assessed Failed due to failed (1) > failureLimit (0)",
    );
}

#[test]
fn analysis_13_a_run_that_never_began_to_measure_ends_successfully_when_stopped() {
    let mut stage = Stage::metric(json!({"initialDelay": "1h"}), "S");
    stage.pass();
    assert_eq!(stage.run.status.phase, AnalysisPhase::Running);
    stage.run.spec.terminate = true;
    stage.run_out();
    stage.ends(AnalysisPhase::Successful, "Run Terminated");
    assert!(stage.run.status.metric_results.is_empty());
}

#[test]
fn analysis_14_a_job_stopped_in_flight_makes_the_run_inconclusive() {
    let mut stage = job_run(json!({}));
    stage.pass();
    stage.run.spec.terminate = true;
    stage.run_out();
    let text = "Metric \"job\" assessed Inconclusive due to inconclusive (1) > inconclusiveLimit (0): \"Error Message: Metric Terminated\"";
    stage.ends(AnalysisPhase::Inconclusive, text);
    assert!(
        !stage.events.iter().any(|event| event.warning),
        "inconclusive is no warning here"
    );
}

#[test]
fn analysis_15_a_job_whose_image_cannot_be_pulled_is_inconclusive_and_stopped() {
    let mut stage = job_run(json!({}));
    stage.pass();
    let blocked = BlockedPod {
        pod: "p".to_owned(),
        container: "c".to_owned(),
        reason: "ImagePullBackOff".to_owned(),
        message: "no such image".to_owned(),
    };
    stage
        .jobs
        .values_mut()
        .for_each(|job| job.blocked = Some(blocked.clone()));
    stage.wait(1);
    stage.wait(5);
    assert_eq!(stage.run.status.phase, AnalysisPhase::Inconclusive);
    let last = stage
        .result("job")
        .measurements
        .last()
        .expect("a measurement");
    assert_eq!(
        last.message,
        "Pod p, container c has terminal error (ImagePullBackOff): no such image\n"
    );
    assert_eq!(stage.deleted_jobs.len(), 1);
}

#[test]
fn analysis_16_dry_run_metrics_are_measured_but_never_count() {
    let mut stage = Stage::new(json!({
        "metrics": [
            {"name": "a", "provider": {"web": {"url": "http://x"}}},
            {"name": "b", "provider": {"web": {"url": "http://x"}}},
        ],
        "dryRun": [{"metricName": ".*"}],
    }));
    stage.answers("a", "F");
    stage.answers("b", "F");
    stage.run_out();
    stage.ends(AnalysisPhase::Successful, "");
    let summary = stage.run.status.dry_run_summary.clone().expect("a summary");
    assert_eq!((summary.failed, summary.count), (2, 2));
    assert_eq!(stage.run.status.run_summary.count, 0);
    for name in ["a", "b"] {
        assert!(stage.result(name).dry_run);
        assert!(
            stage
                .result(name)
                .message
                .starts_with("Metric assessed Failed due to"),
            "{}",
            stage.result(name).message
        );
    }
}

#[test]
fn analysis_17_a_dry_run_rule_that_matches_nothing_is_an_error() {
    let mut stage = Stage::new(json!({
        "metrics": [{"name": "m", "provider": {"web": {"url": "http://x"}}}],
        "dryRun": [{"metricName": "*"}],
    }));
    stage.pass();
    stage.ends(
        AnalysisPhase::Error,
        "Analysis spec invalid: dryRun[0]: Rule didn't match any metric name(s)",
    );
    assert!(stage.run.status.completed_at.is_some());
    assert_eq!(stage.reasons(), ["AnalysisRunError"]);
}

#[test]
fn analysis_18_the_newest_measurements_are_kept_and_counters_go_on() {
    for (rule, kept) in [(None, 10), (Some(20), 20), (Some(0), 10)] {
        let mut spec = json!({"metrics": [{"name": "m", "interval": "1s", "count": 30, "provider": {"web": {"url": "http://x"}}}]});
        if let Some(limit) = rule {
            spec["measurementRetention"] = json!([{"metricName": "m", "limit": limit}]);
        }
        let mut stage = Stage::new(spec);
        stage.answers("m", "S");
        stage.run_out();
        let result = stage.result("m");
        assert_eq!(
            (result.measurements.len(), result.count),
            (kept, 30),
            "limit {rule:?}"
        );
        let newest = stage.run.status.completed_at;
        assert_eq!(
            result.measurements.last().and_then(|last| last.finished_at),
            newest,
            "the newest stay"
        );
    }
}

#[test]
fn analysis_19_every_argument_needs_a_value() {
    let mut stage = Stage::new(json!({
        "metrics": [{"name": "m", "provider": {"web": {"url": "http://x"}}}],
        "args": [{"name": "x"}],
    }));
    stage.pass();
    stage.ends(
        AnalysisPhase::Error,
        "Unable to resolve metric arguments: argument \"x\" was not supplied",
    );
    assert_eq!(stage.started, []);
}

#[test]
fn analysis_20_an_unknown_tag_is_an_error() {
    let mut stage = Stage::new(json!({
        "metrics": [{"name": "m", "provider": {"prometheus": {"address": "http://x", "query": "up{{args.nope}}"}}}],
    }));
    stage.pass();
    stage.ends(
        AnalysisPhase::Error,
        "Unable to resolve metric arguments: failed to resolve {{args.nope}}",
    );
}

#[test]
fn analysis_23_an_interval_without_a_unit_is_an_error() {
    invalid(
        json!({"interval": "60"}),
        "metrics[0]: invalid interval string: time: missing unit in duration \"60\"",
    );
}

#[test]
fn analysis_24_several_measurements_need_an_interval() {
    invalid(
        json!({"count": 5}),
        "metrics[0]: interval must be specified when count > 1",
    );
}

#[test]
fn analysis_25_failures_and_successes_cannot_both_be_without_limit() {
    invalid(
        json!({"failureLimit": -1}),
        "metrics[0]: failureLimit and consecutiveSuccessLimit cannot both be disabled",
    );
}

fn invalid(settings: serde_json::Value, text: &str) {
    let mut stage = Stage::metric(settings, "S");
    stage.pass();
    stage.ends(
        AnalysisPhase::Error,
        &format!("Analysis spec invalid: {text}"),
    );
    assert_eq!(stage.started, [], "nothing is measured");
}

#[test]
fn analysis_31_a_finished_run_is_removed_by_the_limit_of_its_phase() {
    let with = |ttl: serde_json::Value| {
        let mut stage = Stage::new(json!({
            "metrics": [{"name": "m", "provider": {"web": {"url": "http://x"}}}], "ttlStrategy": ttl,
        }));
        stage.answers("m", "E");
        stage.run_out();
        assert_eq!(stage.run.status.phase, AnalysisPhase::Error);
        stage
    };
    let mut stage = with(json!({"secondsAfterFailure": 10}));
    stage.wait(1000);
    assert!(!stage.deleted && stage.next.is_none());
    let mut stage = with(json!({"secondsAfterCompletion": 10}));
    let asked = stage
        .next
        .expect("it looks again")
        .duration_since(stage.now)
        .as_secs();
    assert!((10..=12).contains(&asked), "looks again after {asked} s");
    stage.wait(10);
    assert!(!stage.deleted, "10 s are not more than 10 s");
    stage.wait(1);
    assert!(stage.deleted);
}

#[test]
fn analysis_35_a_completed_run_never_changes_again() {
    let mut stage = Stage::metric(json!({}), "F");
    stage.run_out();
    let before = stage.run.status.clone();
    stage.run.spec.terminate = true;
    stage.run.spec.metrics[0].success_condition = "true".to_owned();
    stage.wait(3600);
    assert_eq!(stage.run.status, before);
    assert_eq!(stage.started.len(), 1);
}

#[test]
fn analysis_36_a_failing_job_within_its_limit_is_no_failure() {
    let mut stage = job_run(json!({"failureLimit": 1, "count": 1}));
    stage.pass();
    stage.jobs.values_mut().for_each(|job| job.failed = true);
    stage.wait(1);
    stage.ends(AnalysisPhase::Successful, "");
    assert_eq!(stage.result("job").failed, 1);
}

#[test]
fn analysis_37_enough_successes_in_a_row_complete_a_metric() {
    let mut stage = Stage::metric(
        json!({"consecutiveSuccessLimit": 3, "failureLimit": -1, "interval": "5s"}),
        "FSSFSSS",
    );
    stage.run_out();
    stage.ends(AnalysisPhase::Successful, "");
    assert_eq!(stage.started.len(), 7);
}

#[test]
fn analysis_38_the_end_of_a_job_is_noticed_when_the_job_says_so() {
    let mut stage = job_run(json!({}));
    stage.pass();
    stage.wait(450);
    let poll = stage.next.expect("a next look").duration_since(stage.now);
    assert!(
        poll >= SignedDuration::from_secs(29),
        "polled {poll:?} ahead"
    );
    // The Job's own event wakes the run, long before the poll.
    stage.jobs.values_mut().for_each(|job| job.complete = true);
    stage.wait(1);
    stage.ends(AnalysisPhase::Successful, "");
}

#[test]
fn a_job_created_before_its_status_was_recorded_is_adopted() {
    let mut stage = job_run(json!({}));
    stage.pass();
    let forgotten = AnalysisRun {
        status: crossfade_api::analysis_run::AnalysisRunStatus::default(),
        ..stage.run.clone()
    };
    stage.run = forgotten;
    stage.pass();
    assert_eq!(stage.jobs.len(), 1, "one Job for one attempt");
    assert_eq!(stage.result("job").measurements.len(), 1);
}

#[test]
fn a_job_that_nobody_knew_was_created_ends_before_the_next_one_begins() {
    let mut stage = job_run(json!({}));
    stage.unanswered = true;
    stage.pass();
    assert_eq!(stage.result("job").error, 1);
    stage.wait(11);
    assert_eq!(stage.deleted_jobs, [format!("{UID}.job.1")]);
    let left: Vec<&String> = stage.jobs.keys().collect();
    assert_eq!(left, [&format!("{UID}.job.2")]);
}

#[test]
fn a_job_that_nobody_knew_was_created_ends_with_its_run() {
    let mut stage = job_run(json!({"consecutiveErrorLimit": 0}));
    stage.unanswered = true;
    stage.pass();
    assert_eq!(stage.run.status.phase, AnalysisPhase::Error);
    stage.pass();
    assert_eq!(stage.deleted_jobs, [format!("{UID}.job.1")]);
}

#[test]
fn a_job_that_was_created_before_a_crash_ends_with_a_run_that_is_stopped() {
    let mut stage = job_run(json!({}));
    stage.pass();
    stage.run.status = crossfade_api::analysis_run::AnalysisRunStatus::default();
    stage.run.spec.terminate = true;
    stage.pass();
    assert!(stage.run.status.phase.is_completed());
    assert_eq!(stage.deleted_jobs, [format!("{UID}.job.1")]);
}

#[test]
fn a_run_that_cannot_be_read_whole_is_an_error_that_names_the_field() {
    let (run, faults) = AnalysisRun::from_json(json!({
        "metadata": {"name": "run", "namespace": "ns", "uid": UID},
        "spec": {"metrics": [{"name": "m", "interval": 5, "provider": {"web": {"url": "http://x"}}}]},
    }));
    assert_eq!(faults.len(), 1);
    let mut stage = Stage::metric(json!({}), "S");
    stage.run = run;
    stage.pass();
    stage.ends(
        AnalysisPhase::Error,
        &format!("Analysis spec invalid: {}", faults[0]),
    );
    assert!(
        stage
            .run
            .status
            .message
            .contains("spec.metrics[0].interval")
    );
    assert_eq!(stage.started, [], "nothing is measured");
    assert_eq!(stage.reasons(), ["AnalysisRunError"]);
}

#[test]
fn providers_08_a_provider_that_asks_to_be_left_alone_is() {
    let mut stage = Stage::metric(json!({"interval": "5s", "count": 1}), "ES");
    stage.pause_asked_for = Some(SignedDuration::from_secs(30));
    stage.run_out();
    stage.ends(AnalysisPhase::Successful, "");
    let starts = stage.seconds_of_starts();
    assert_eq!(starts.len(), 2);
    assert!((30..=32).contains(&starts[1]), "{starts:?}");
}

#[test]
fn jobs_of_measurements_that_are_cut_go_even_where_the_next_was_just_started() {
    let mut stage = Stage::new(json!({
        "metrics": [{"name": "job", "count": 3, "interval": "1s",
            "provider": {"job": {"spec": {"template": {"spec": {"containers": []}}}}}}],
        "measurementRetention": [{"metricName": "job", "limit": 1}],
    }));
    for _ in 0..20 {
        stage.jobs.values_mut().for_each(|job| job.complete = true);
        stage.wait(1);
    }
    stage.ends(AnalysisPhase::Successful, "");
    let left: Vec<&str> = stage.jobs.keys().map(String::as_str).collect();
    assert_eq!(left, [format!("{UID}.job.3")]);
}

#[test]
fn deciding_twice_on_an_unchanged_world_gives_nothing_new() {
    let mut stage = Stage::metric(json!({"interval": "1h", "count": 5}), "S");
    stage.pass();
    let writes = stage.writes;
    for _ in 0..5 {
        stage.pass();
    }
    assert_eq!((stage.writes, stage.started.len()), (writes, 1));
}

fn job_run(settings: serde_json::Value) -> Stage {
    let mut metric = json!({"name": "job", "provider": {"job": {"spec": {"template": {"spec": {"containers": []}}}}}});
    metric
        .as_object_mut()
        .expect("an object")
        .extend(settings.as_object().expect("an object").clone());
    Stage::new(json!({"metrics": [metric]}))
}

/// The phase and message that follow from a value under these conditions.
fn concluded(success: &str, failure: &str, value: Word) -> (AnalysisPhase, String) {
    let metric = crossfade_api::analysis::Metric {
        success_condition: success.to_owned(),
        failure_condition: failure.to_owned(),
        ..crossfade_api::analysis::Metric::default()
    };
    let now = Timestamp::UNIX_EPOCH;
    let reading = Reading {
        value,
        display: "shown".to_owned(),
        metadata: BTreeMap::new(),
    };
    let measurement = conclude(&metric, Ok(reading), now, now);
    assert_eq!(
        measurement.value, "shown",
        "the value is kept, whatever follows from it"
    );
    (measurement.phase, measurement.message)
}

#[test]
fn analysis_06_neither_good_nor_bad_is_inconclusive_and_so_is_the_run() {
    let (phase, _) = concluded("result > 2", "result < 1", Word::Float(1.5));
    assert_eq!(phase, AnalysisPhase::Inconclusive);
    let mut stage = Stage::metric(json!({}), "I");
    stage.run_out();
    stage.ends(
        AnalysisPhase::Inconclusive,
        "Metric \"m\" assessed Inconclusive due to inconclusive (1) > inconclusiveLimit (0)",
    );
}

#[test]
fn analysis_07_failure_outweighs_success() {
    assert_eq!(
        concluded("result > 0", "result > 0", Word::Float(1.0)).0,
        AnalysisPhase::Failed
    );
}

#[test]
fn analysis_08_without_conditions_any_value_is_good() {
    for value in [
        Word::Nil,
        Word::Float(f64::NAN),
        Word::String("x".to_owned()),
        Word::Floats(Vec::new()),
    ] {
        assert_eq!(concluded("", "", value).0, AnalysisPhase::Successful);
    }
}

#[test]
fn analysis_09_an_unknown_name_is_an_error_that_names_it() {
    let (phase, message) = concluded("results[0] > 1", "", Word::Floats(vec![2.0]));
    assert_eq!(phase, AnalysisPhase::Error);
    assert!(
        message.starts_with(
            "could not evaluate successCondition \"results[0] > 1\": unknown name results"
        ),
        "{message}"
    );
}

#[test]
fn analysis_10_an_empty_vector_is_no_data_unless_the_condition_says_otherwise() {
    let (phase, message) = concluded("result[0] >= 0.95", "", Word::Floats(Vec::new()));
    assert_eq!(phase, AnalysisPhase::Error);
    assert!(
        message
            .ends_with("metric result is nil or empty: no data returned from the metric provider"),
        "{message}"
    );
    let (phase, _) = concluded(
        "len(result) == 0 || result[0] >= 0.95",
        "",
        Word::Floats(Vec::new()),
    );
    assert_eq!(phase, AnalysisPhase::Successful);
}

#[test]
fn analysis_11_a_truth_compared_with_a_text_is_an_error_not_a_success() {
    assert_eq!(
        concluded("", "result == \"false\"", Word::Bool(true)).0,
        AnalysisPhase::Error
    );
}

#[test]
fn analysis_33_five_thousand_parentheses_are_an_error_and_harm_nobody() {
    let (phase, message) = concluded(&"(".repeat(5000), "", Word::Float(1.0));
    assert_eq!(phase, AnalysisPhase::Error);
    assert!(
        message.contains("expression is nested too deeply"),
        "{}",
        &message[message.len().saturating_sub(200)..]
    );
}
