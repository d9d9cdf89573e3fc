//! The world of an AnalysisRun in a cluster: what is observed, one pass over it, and its actions.

use std::time::Duration;

use crossfade_api::analysis_run::AnalysisRunStatus;
use crossfade_api::{AnalysisRun, Resource as _, substitute};
use crossfade_engine::action::{Action, Done, Failure, FailureKind, NewJob, Outcome, Target};
use crossfade_engine::analysis::AnalysisRunSubject;
use crossfade_engine::analysis::world::World;
use crossfade_engine::pass::{Need, Pass, Standing};
use crossfade_engine::{views, written};
use jiff::Timestamp;
use kube::api::PropagationPolicy;

use crate::cache::Key;
use crate::context::{Context, Subject};
use crate::kind::Kind;
use crate::measuring::{self, NoValues};
use crate::perform::other;
use crate::requests::{Refusal, version_of};

/// Where a measurement keeps the name of its Job.
const JOB_NAME: &str = "job-name";

/// Looks after an AnalysisRun once; tells when to look again, or why that failed.
pub(crate) async fn pass(context: &Context, key: &Key) -> Result<Option<Duration>, String> {
    let subject = Subject::AnalysisRun(key.clone());
    let standing = match context.own_writes.unseen(&context.caches, &subject) {
        Some(_) => Standing::Stale,
        None => Standing::Sound,
    };
    let Some(world) = observe(context, key).await? else {
        return Ok(None);
    };
    let run = std::sync::Arc::clone(&world.run);
    let target = target(&run);
    let now = Timestamp::now();
    let mut pass = Pass::<AnalysisRunSubject>::start(world, standing, now);
    while let Some(need) = pass.need() {
        match need {
            Need::Perform(actions) => {
                let outcomes = perform(context, &subject, &actions, now).await;
                pass.performed(outcomes);
            }
            Need::Record(status, events) => {
                let stored = match &status {
                    Some(status) => record(context, &subject, &target, &run.status, status).await,
                    None => Ok(()),
                };
                if stored.is_ok() {
                    context.tell(&Kind::AnalysisRun, &target, events);
                }
                pass.recorded(stored);
            }
        }
    }
    context.settle(&subject, pass.ended())
}

/// An AnalysisRun with its Jobs. A Job that a measurement waits for and no cache knows is looked for at the API server: that it is gone is an answer.
async fn observe(context: &Context, key: &Key) -> Result<Option<World>, String> {
    let (namespace, name) = (key.0.as_str(), key.1.as_str());
    let Some(entry) = context.caches.runs.get(namespace, name) else {
        return Ok(None);
    };
    let run = std::sync::Arc::clone(&entry.view.run);
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
    Ok(Some(World {
        run,
        jobs,
        job_namespace: None,
    }))
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
            .map(|action| perform_one(context, subject, action, now));
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
    match action {
        Action::Measure(request) => {
            let measured = context
                .measuring
                .measure(&context.requests, request, now)
                .await;
            Ok(Done::Measured(Box::new(measured)))
        }
        Action::CreateJob(job) => create_job(context, subject, job).await,
        // Nobody else's change of it makes a Job worth keeping.
        Action::DeleteJob { target } => {
            delete(
                context,
                subject,
                &Kind::Job,
                target,
                PropagationPolicy::Foreground,
            )
            .await
        }
        Action::DeleteAnalysisRun { target } => {
            delete(
                context,
                subject,
                &Kind::AnalysisRun,
                target,
                PropagationPolicy::Background,
            )
            .await
        }
        _ => Err(other("an AnalysisRun does not do that")),
    }
}

async fn delete(
    context: &Context,
    subject: &Subject,
    kind: &Kind,
    target: &Target,
    propagation: PropagationPolicy,
) -> Outcome {
    context.requests.delete(kind, target, propagation).await?;
    let key = (target.namespace.clone(), target.name.clone());
    context
        .own_writes
        .deleted(&context.caches, subject, kind, key, &target.uid);
    Ok(Done::Written(String::new()))
}

/// Creates the Job of a measurement: its arguments put in, marked as belonging to its run.
async fn create_job(context: &Context, subject: &Subject, new: &NewJob) -> Outcome {
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
    let requests = &context.requests;
    match requests.create(&Kind::Job, &new.namespace, object).await {
        Ok(object) => {
            let key = (new.namespace.clone(), new.name.clone());
            let version = version_of(&object);
            context
                .own_writes
                .wrote(&context.caches, subject, &Kind::Job, key, &version);
            Ok(Done::Written(version))
        }
        Err(Refusal::Exists(message)) => {
            let found = requests.get(&Kind::Job, &new.namespace, &new.name).await;
            let found = found.ok().flatten();
            let view = found.map(|job| Box::new(views::job(&job, std::iter::empty())));
            Err(Failure {
                kind: FailureKind::JobExists(view),
                message,
            })
        }
        Err(refusal) => Err(other(redactor.message(&refusal.to_string()))),
    }
}

/// Stores a status, as the difference to the one that was observed.
async fn record(
    context: &Context,
    subject: &Subject,
    target: &Target,
    before: &AnalysisRunStatus,
    after: &AnalysisRunStatus,
) -> Result<(), String> {
    let Some(patch) = written::run_status(before, after) else {
        return Ok(());
    };
    let stored = context
        .requests
        .merge_status(&Kind::AnalysisRun, target, patch)
        .await;
    let stored = stored.map_err(|why| format!("the status could not be written: {why}"))?;
    let key = (target.namespace.clone(), target.name.clone());
    let version = version_of(&stored);
    context
        .own_writes
        .wrote(&context.caches, subject, &Kind::AnalysisRun, key, &version);
    Ok(())
}

/// Which AnalysisRun this is, and in which version.
fn target(run: &AnalysisRun) -> Target {
    Target {
        namespace: run.namespace().to_owned(),
        name: run.name().to_owned(),
        uid: run.metadata.uid.clone().unwrap_or_default(),
        resource_version: run.metadata.resource_version.clone().unwrap_or_default(),
    }
}
