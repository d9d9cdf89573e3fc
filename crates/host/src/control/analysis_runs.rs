//! The world of an AnalysisRun on one machine.

use std::sync::Arc;

use crossfade_api::analysis_run::AnalysisRunStatus;
use crossfade_api::names::label;
use crossfade_api::{AnalysisRun, Resource as _, substitute};
use crossfade_engine::action::{Action, Done, Failure, FailureKind, NewJob, Outcome, Target};
use crossfade_engine::analysis::world::World;
use crossfade_engine::written;
use jiff::Timestamp;
use serde_json::Value;

use super::objects::ObjectError;
use super::subjects::Context;
use super::views;
use crate::store::Kind;
use crate::wire::Part;

/// An AnalysisRun as stored, with its Jobs; `None` if it does not exist.
pub(super) fn observe(context: &Context, namespace: &str, name: &str) -> Option<World> {
    let object = context.objects.get(Kind::AnalysisRun, namespace, name)?;
    let uid = views::text(&object, "/metadata/uid").to_owned();
    let jobs = context
        .objects
        .list(Kind::Job, Some(namespace))
        .iter()
        .filter(|job| {
            views::map(job, "/metadata/labels").get(label::ANALYSIS_RUN_UID) == Some(&uid)
        })
        .map(|job| {
            let pods = context
                .objects
                .controlled_by(Kind::Pod, views::text(job, "/metadata/uid"));
            let view = views::job(job, pods.iter().map(|pod| &**pod));
            (view.target.name.clone(), view)
        })
        .collect();
    let run = Arc::new(AnalysisRun::from_json(Value::clone(&object)).0);
    Some(World {
        run,
        jobs,
        job_namespace: None,
    })
}

/// Looks a key of a Secret up in a namespace.
fn secret(context: &Context, namespace: &str, name: &str, key: &str) -> Result<Vec<u8>, String> {
    let secret = context.objects.get(Kind::Secret, namespace, name);
    let secret = secret.ok_or_else(|| format!("secrets \"{name}\" not found"))?;
    secret_value(&secret, key)
        .ok_or_else(|| format!("key '{key}' does not exist in secret '{name}'"))
}

/// What a stored Secret holds under a key.
fn secret_value(secret: &Value, key: &str) -> Option<Vec<u8>> {
    crate::store::decode_secret(secret.get("data")?.get(key)?)
}

/// Performs actions in order; measurements that stand next to one another are taken side by side.
pub(super) async fn perform(
    context: &Context,
    run: &AnalysisRun,
    actions: &[Action],
    now: Timestamp,
) -> Vec<Outcome> {
    let mut outcomes = Vec::with_capacity(actions.len());
    let mut rest = actions;
    while let Some(first) = rest.first() {
        let measurements = rest
            .iter()
            .take_while(|action| matches!(action, Action::Measure(_)))
            .count();
        if measurements > 0 {
            let together = rest[..measurements]
                .iter()
                .map(|action| perform_one(context, run, action, now));
            outcomes.extend(futures_util::future::join_all(together).await);
            rest = &rest[measurements..];
        } else {
            outcomes.push(perform_one(context, run, first, now).await);
            rest = &rest[1..];
        }
    }
    outcomes
}

async fn perform_one(
    context: &Context,
    run: &AnalysisRun,
    action: &Action,
    now: Timestamp,
) -> Outcome {
    let secrets = |name: &str, key: &str| secret(context, run.namespace(), name, key);
    match action {
        Action::Measure(request) => Ok(Done::Measured(Box::new(
            context.measuring.measure(request, &secrets, now).await,
        ))),
        Action::CreateJob(job) => create_job(context, job, &secrets).await,
        Action::DeleteJob { target } => deleted(
            context
                .objects
                .delete_in_foreground(Kind::Job, &any_version(target))
                .await,
        ),
        Action::DeleteAnalysisRun { target } => deleted(
            context
                .objects
                .delete(Kind::AnalysisRun, &any_version(target))
                .await,
        ),
        _ => Err(Failure {
            kind: FailureKind::Other,
            message: "an AnalysisRun does not do that".to_owned(),
        }),
    }
}

fn any_version(target: &Target) -> Target {
    Target {
        resource_version: String::new(),
        ..target.clone()
    }
}

fn deleted(outcome: Result<(), ObjectError>) -> Outcome {
    match outcome {
        Ok(()) | Err(ObjectError::NotFound(_)) => Ok(Done::Written(String::new())),
        Err(error) => Err(Failure {
            kind: FailureKind::Other,
            message: error.to_string(),
        }),
    }
}

/// Creates the Job of a measurement: its arguments put in, marked as belonging to its run.
async fn create_job(context: &Context, new: &NewJob, secrets: &written::Secrets<'_>) -> Outcome {
    let unresolved = |message: String| Failure {
        kind: FailureKind::Unresolved,
        message,
    };
    let (values, redactor) = written::values(&new.args, secrets).map_err(unresolved)?;
    let metric = substitute::metric(&new.metric, &values)
        .map_err(|why| unresolved(redactor.message(&why)))?;
    let Some(object) = written::job(new, &metric) else {
        return Err(Failure {
            kind: FailureKind::Other,
            message: "the metric is no Job".to_owned(),
        });
    };
    match context.objects.create(Kind::Job, object).await {
        Ok(object) => Ok(Done::Written(
            views::text(&object, "/metadata/resourceVersion").to_owned(),
        )),
        Err(ObjectError::Exists(message)) => {
            let existing = context.objects.get(Kind::Job, &new.namespace, &new.name);
            let view = existing.map(|job| Box::new(views::job(&job, std::iter::empty())));
            Err(Failure {
                kind: FailureKind::JobExists(view),
                message,
            })
        }
        Err(error) => Err(Failure {
            kind: FailureKind::Other,
            message: redactor.message(&error.to_string()),
        }),
    }
}

/// Stores a status, as the difference to the one that was observed.
pub(super) async fn record(
    context: &Context,
    target: &Target,
    before: &AnalysisRunStatus,
    after: &AnalysisRunStatus,
) -> Result<(), ObjectError> {
    if let Some(patch) = written::run_status(before, after) {
        context
            .objects
            .patch(Kind::AnalysisRun, target, Part::Object, patch)
            .await?;
    }
    Ok(())
}

/// Which AnalysisRun this is, and in which version.
pub(super) fn target(run: &AnalysisRun) -> Target {
    Target {
        namespace: run.namespace().to_owned(),
        name: run.name().to_owned(),
        uid: run.metadata.uid.clone().unwrap_or_default(),
        resource_version: run.metadata.resource_version.clone().unwrap_or_default(),
    }
}
