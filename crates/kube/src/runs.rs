//! The world of an AnalysisRun in a cluster: what is observed, one pass over it, and its actions.

use std::sync::Arc;
use std::time::Duration;

use crossfade_api::analysis_run::AnalysisPhase;
use crossfade_api::{AnalysisRun, Resource as _, substitute};
use crossfade_engine::action::{Action, Done, Failure, FailureKind, NewJob, Outcome};
use crossfade_engine::analysis::AnalysisRunSubject;
use crossfade_engine::analysis::world::World;
use crossfade_engine::pass::{Need, Pass};
use crossfade_engine::{views, written};
use jiff::Timestamp;
use kube::api::PropagationPolicy;
use serde_json::Value;

use crate::cache::Key;
use crate::context::{Context, Subject};
use crate::kind::Kind;
use crate::measuring::{self, NoValues};
use crate::object::target;
use crate::perform::other;
use crate::requests::{Refusal, version_of};
use crate::rollouts::unwritten;
use crate::stuck::{self, Passed};
use crate::traces;
use crate::writes::Writes;

/// Where a measurement keeps the name of its Job.
const JOB_NAME: &str = "job-name";

/// A run that ended so takes its release back, or holds it.
pub(crate) fn is_bad(phase: AnalysisPhase) -> bool {
    phase.is_completed() && phase != AnalysisPhase::Successful
}

/// Looks after an AnalysisRun once; tells when to look again, or why that failed.
pub(crate) async fn pass(context: &Context, key: &Key) -> Result<Option<Duration>, String> {
    let Some(entry) = context.caches.runs.get(&key.0, &key.1) else {
        return Ok(None);
    };
    let run = &entry.view.run;
    let subject = Subject::AnalysisRun(key.clone());
    let mut refused = None;
    let outcome = look_after(context, &subject, run, &mut refused).await;
    let passed = Passed {
        kind: Kind::AnalysisRun,
        target: &target(&run.metadata),
        conditions: None,
        refused: refused.as_deref(),
        failed: outcome.is_err(),
    };
    stuck::tell(context, &subject, passed).await;
    outcome
}

async fn look_after(
    context: &Context,
    subject: &Subject,
    run: &Arc<AnalysisRun>,
    refused: &mut Option<String>,
) -> Result<Option<Duration>, String> {
    let namespace = run.namespace();
    let measures_by_job = run
        .spec
        .metrics
        .iter()
        .any(|one| one.provider.job.is_some());
    if let Some(trouble) = context.caches.jobs.trouble(namespace)
        && measures_by_job
    {
        let trouble = trouble.of("jobs");
        *refused = trouble.denied.then(|| trouble.why.clone());
        return Err(format!("cannot be decided on: {}", trouble.why));
    }
    let standing = context.standing(subject);
    let world = observe(context, run).await?;
    let target = target(&run.metadata);
    let now = Timestamp::now();
    let mut pass = Pass::<AnalysisRunSubject>::start(world, standing, now);
    while let Some(need) = pass.need() {
        match need {
            Need::Perform(actions) => {
                let outcomes = perform(context, subject, &actions, now).await;
                pass.performed(outcomes);
            }
            Need::Record(status, events) => {
                let patch = status
                    .as_ref()
                    .and_then(|status| written::run_status(&run.status, status));
                let bad = status.filter(|status| is_bad(status.phase) && patch.is_some());
                let writes = Writes::new(context, subject);
                let storing = writes.record(&Kind::AnalysisRun, &target, patch);
                let stored = if let Some(status) = bad {
                    // What takes a release back waits for nothing.
                    let recording = context.verdict(run, status);
                    let stored = context.requests.urgently(storing).await;
                    if stored.is_ok() {
                        recording.succeeded();
                    }
                    stored
                } else {
                    storing.await
                };
                if let Err(Refusal::Refused(why)) = &stored {
                    *refused = Some(why.clone());
                }
                if stored.is_ok() {
                    context.tell(&Kind::AnalysisRun, &target, events);
                }
                pass.recorded(stored.map(drop).map_err(|refusal| unwritten(&refusal)));
            }
        }
    }
    if refused.is_none() {
        *refused = stuck::refused(pass.evidence());
    }
    context.settle(subject, pass.ended())
}

/// An AnalysisRun with its Jobs. A Job that a measurement waits for and no cache knows is looked for at the API server: that it is gone is an answer.
pub(crate) async fn observe(context: &Context, run: &Arc<AnalysisRun>) -> Result<World, String> {
    let namespace = run.namespace();
    let uid = run.metadata.uid.as_deref().unwrap_or_default();
    let mut jobs = context.caches.jobs_of(namespace, uid);
    let awaited = run.status.metric_results.iter().filter_map(|result| {
        let last = result.measurements.last()?;
        last.finished_at.is_none().then_some(())?;
        last.metadata.get(JOB_NAME)
    });
    for job in awaited {
        if jobs.contains_key(job) {
            continue;
        }
        let found = context.requests.get(&Kind::Job, namespace, job).await;
        let found = found.map_err(|why| format!("job {job}: {why}"))?;
        if let Some(found) = found {
            jobs.insert(job.clone(), views::job(&found, std::iter::empty()));
        }
    }
    Ok(World {
        run: Arc::clone(run),
        jobs,
        job_namespace: None,
    })
}

/// Performs actions in order; measurements that stand next to one another are taken side by side.
async fn perform(
    context: &Context,
    subject: &Subject,
    actions: &[Action],
    now: Timestamp,
) -> Vec<Outcome> {
    let mut outcomes = Vec::with_capacity(actions.len());
    for group in actions.chunk_by(|left, right| measures(left) && measures(right)) {
        let together = group
            .iter()
            .map(|action| traces::action(action, perform_one(context, subject, action, now)));
        outcomes.extend(futures_util::future::join_all(together).await);
    }
    outcomes
}

fn measures(action: &Action) -> bool {
    matches!(action, Action::Measure(_))
}

async fn perform_one(
    context: &Context,
    subject: &Subject,
    action: &Action,
    now: Timestamp,
) -> Outcome {
    let writes = Writes::new(context, subject);
    match action {
        Action::Measure(request) => {
            let measured = context
                .measuring
                .measure(&context.requests, request, now)
                .await;
            Ok(Done::Measured(Box::new(measured)))
        }
        Action::CreateJob(job) => create_job(context, writes, job).await,
        // Nobody else's change of it makes a Job worth keeping.
        Action::DeleteJob { target } => {
            let pods_too = PropagationPolicy::Foreground;
            writes.delete(&Kind::Job, target, pods_too).await
        }
        Action::DeleteAnalysisRun { target } => {
            let jobs_later = PropagationPolicy::Background;
            writes.delete(&Kind::AnalysisRun, target, jobs_later).await
        }
        _ => Err(other("an AnalysisRun does not do that")),
    }
}

/// Creates the Job of a measurement: its arguments put in, marked as belonging to its run.
async fn create_job(context: &Context, writes: Writes<'_>, new: &NewJob) -> Outcome {
    let unresolved = |message: String| Failure {
        kind: FailureKind::Unresolved,
        message,
    };
    let values = measuring::values(&context.requests, &new.namespace, &new.args).await;
    let (values, redactor) = values.map_err(|none| match none {
        NoValues::Unresolved(why) => unresolved(why),
        NoValues::TryLater(why) => other(why),
    })?;
    let metric = substitute::metric(&new.metric, &values)
        .map_err(|why| unresolved(redactor.message(&why)))?;
    let Some(object) = written::job(new, &metric) else {
        return Err(other("the metric is no Job"));
    };
    let view = |job: Value| Box::new(views::job(&job, std::iter::empty()));
    let exists = |there: Option<Value>| FailureKind::JobExists(there.map(view));
    let made = writes.create(&Kind::Job, object, exists).await;
    let made = made.map_err(|failure| Failure {
        message: redactor.message(&failure.message),
        ..failure
    });
    Ok(Done::Written(version_of(&made?)))
}
