//! The analyses of an experiment: started once all templates are available, and followed to their end.

use std::sync::Arc;

use crossfade_api::analysis::{AnalysisTemplateSpec, Argument, TemplateRef};
use crossfade_api::analysis_run::{AnalysisPhase, AnalysisRunSpec};
use crossfade_api::experiment::{AnalysisRef, ExperimentRun};
use crossfade_api::names::label;
use crossfade_api::template_set::{self, ResolveError, TemplateSet};
use crossfade_api::validate::unsupported;
use crossfade_api::{
    AnalysisRun, Experiment, ObjectMeta, OwnerReference, Resource as _, duration, resource,
    substitute, time,
};
use jiff::SignedDuration;

use crate::action::{Action, Failure, FailureKind, Target};
use crate::decision::{Found, Halt, Plan};
use crate::make_run;
use crate::rollout::world::TemplateKey;

use super::facts::Facts;
use super::waits;

/// How often a missing template is looked for meanwhile.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_secs(5);

/// Why an analysis has no run.
enum Lack {
    /// A template does not exist, maybe not yet.
    Missing(String),
    /// It cannot have one.
    Never(String),
}

/// Starts, follows or ends the run of an analysis, and says how far it got.
pub(super) fn follow(
    facts: &Facts<'_>,
    plan: &mut Plan<'_>,
    analysis: &AnalysisRef,
) -> Result<ExperimentRun, Halt> {
    let mut runs = facts.status.analysis_runs.iter();
    let stored = runs.find(|run| run.name == analysis.name).cloned();
    let stored = stored.unwrap_or_else(|| ExperimentRun {
        name: analysis.name.clone(),
        ..ExperimentRun::default()
    });
    let status = if !stored.analysis_run.is_empty() {
        watch(facts, plan, stored.clone())?
    } else if stored.phase.is_completed() || facts.terminating {
        stored.clone()
    } else if facts.status.available_at.is_none() {
        verify(facts, plan, analysis, stored.clone())?
    } else {
        start(facts, plan, analysis, stored.clone())?
    };
    if status.phase != stored.phase {
        tell(plan, stored.phase, &status);
    }
    Ok(status)
}

fn tell(plan: &mut Plan<'_>, old: AnalysisPhase, run: &ExperimentRun) {
    let (name, new) = (&run.name, run.phase);
    let mut message = format!("AnalysisRun '{name}' transitioned from {old} -> {new}");
    if !run.message.is_empty() {
        message.push_str(": ");
        message.push_str(&run.message);
    }
    plan.tell_owner(super::is_bad(new), &format!("AnalysisRun{new}"), message);
}

fn in_error(run: ExperimentRun, message: String) -> ExperimentRun {
    ExperimentRun {
        phase: AnalysisPhase::Error,
        message,
        ..run
    }
}

/// Before there are pods to measure, only the template that is named directly is looked for.
fn verify(
    facts: &Facts<'_>,
    plan: &mut Plan<'_>,
    analysis: &AnalysisRef,
    run: ExperimentRun,
) -> Result<ExperimentRun, Halt> {
    let key = key(analysis);
    if find(facts, &key)?.is_some() || is_awaited(facts, plan, &key.name) {
        return Ok(run);
    }
    let (name, template) = (&analysis.name, &key.name);
    let (kind, resource) = if key.cluster_scope {
        ("ClusterAnalysisTemplate", "clusteranalysistemplate")
    } else {
        ("AnalysisTemplate", "analysistemplate")
    };
    let why = format!(
        "{kind} verification failed for analysis '{name}': {resource}.{} \"{template}\" not found",
        resource::GROUP
    );
    Ok(in_error(run, why))
}

/// A template that is missing may still come.
fn is_awaited(facts: &Facts<'_>, plan: &mut Plan<'_>, template: &str) -> bool {
    let awaited = facts.is_young();
    if awaited {
        plan.look_again_in(LOOK_AGAIN);
        plan.waits.push(waits::template(template));
    }
    awaited
}

fn key(analysis: &AnalysisRef) -> TemplateKey {
    TemplateKey {
        cluster_scope: analysis.cluster_scope,
        name: analysis.template_name.clone(),
    }
}

fn find<'w>(
    facts: &Facts<'w>,
    key: &TemplateKey,
) -> Result<Option<&'w Arc<AnalysisTemplateSpec>>, Halt> {
    let found = facts.world.templates.get(key);
    if let Some(why) = found.and_then(Found::trouble) {
        return Err(Halt::Failed(why.to_owned()));
    }
    Ok(found.and_then(Found::found))
}

fn start(
    facts: &Facts<'_>,
    plan: &mut Plan<'_>,
    analysis: &AnalysisRef,
    run: ExperimentRun,
) -> Result<ExperimentRun, Halt> {
    let made = match spec(facts, analysis)? {
        Ok(spec) => match create(facts, plan, analysis, &spec)? {
            Ok(name) => Ok(name),
            Err(failure) if facts.is_tried_again(plan, &failure) => return Ok(run),
            Err(failure) => Err(Lack::Never(failure.message)),
        },
        Err(lack) => Err(lack),
    };
    let why = match made {
        Ok(name) => {
            return Ok(ExperimentRun {
                analysis_run: name,
                phase: AnalysisPhase::Pending,
                message: String::new(),
                ..run
            });
        }
        Err(Lack::Missing(why)) if is_awaited(facts, plan, &analysis.template_name) => {
            return Ok(ExperimentRun {
                message: why,
                ..run
            });
        }
        Err(Lack::Missing(why) | Lack::Never(why)) => why,
    };
    let name = &analysis.name;
    Ok(in_error(
        run,
        format!("Failed to create AnalysisRun for analysis '{name}': {why}"),
    ))
}

/// What the run measures.
fn spec(facts: &Facts<'_>, analysis: &AnalysisRef) -> Result<Result<AnalysisRunSpec, Lack>, Halt> {
    let reference = TemplateRef {
        template_name: analysis.template_name.clone(),
        cluster_scope: Some(analysis.cluster_scope),
    };
    for found in facts.world.templates.values() {
        if let Some(why) = found.trouble() {
            return Err(Halt::Failed(why.to_owned()));
        }
    }
    let args = match arguments(facts, &analysis.args)? {
        Ok(args) => args,
        Err(why) => return Ok(Err(Lack::Never(why))),
    };
    let find = |name: &str, cluster_scope| {
        let key = TemplateKey {
            cluster_scope,
            name: name.to_owned(),
        };
        let found = facts.world.templates.get(&key).and_then(Found::found);
        found.map(|template| &**template)
    };
    let set = match TemplateSet::resolve(std::slice::from_ref(&reference), find) {
        Ok(set) => set,
        Err(missing @ ResolveError::NotFound { .. }) => {
            return Ok(Err(Lack::Missing(missing.to_string())));
        }
        Err(why) => return Ok(Err(Lack::Never(why.to_string()))),
    };
    Ok(merged(facts, &set, &args).map_err(Lack::Never))
}

fn merged(
    facts: &Facts<'_>,
    set: &TemplateSet<'_>,
    args: &[Argument],
) -> Result<AnalysisRunSpec, String> {
    let read = |(name, template): (&str, &AnalysisTemplateSpec)| {
        let unread = facts.world.unread.iter();
        let unread = unread.filter(|(key, _)| key.name == name);
        let fault = unread.flat_map(|(_, faults)| faults).next().cloned();
        let fault = fault.or_else(|| unsupported::template(template).into_iter().next());
        fault.map_or(Ok(()), |fault| {
            Err(format!("AnalysisTemplate {name}: {fault}"))
        })
    };
    set.all().try_for_each(read)?;
    let flat = set.flatten()?;
    let args = template_set::merge_arguments(&flat.args, args)?;
    let own = (&*facts.spec.dry_run, &*facts.spec.measurement_retention);
    let (dry_run, measurement_retention) = template_set::merge_rules(own, &flat)?;
    Ok(AnalysisRunSpec {
        metrics: flat.metrics,
        args,
        dry_run,
        measurement_retention,
        ..AnalysisRunSpec::default()
    })
}

/// The arguments with the values of their tags.
fn arguments(facts: &Facts<'_>, given: &[Argument]) -> Result<Result<Vec<Argument>, String>, Halt> {
    let mut versions = Vec::new();
    for template in &facts.spec.templates {
        if let Some(set) = facts.replica_set(template)? {
            let tag = format!("templates.{}", template.name);
            versions.push((format!("{tag}.podTemplateHash"), set.hash().to_owned()));
            versions.push((format!("{tag}.replicaset.name"), set.target.name.clone()));
        }
    }
    let times = [
        ("experiment.availableAt", facts.status.available_at),
        ("experiment.finishedAt", facts.ends),
    ];
    let times = times
        .into_iter()
        .filter_map(|(tag, time)| Some((tag.to_owned(), time::text(time?))));
    versions.extend(times);
    let value = |tag: &str| {
        let known = versions.iter().find(|(known, _)| known == tag);
        known.map(|(_, value)| value.clone())
    };
    let length = &facts.spec.duration;
    let unreadable = match duration::parse(length) {
        Err(why) if !length.is_empty() => Some(why),
        Ok(_) | Err(_) => None,
    };
    let resolved = given.iter().map(|argument| {
        let text = match (&argument.value, &unreadable) {
            (Some(_), Some(why)) => return Err(why.clone()),
            (Some(text), None) => Some(substitute::tags(text, value)?),
            (None, _) => None,
        };
        Ok(Argument {
            value: text,
            ..argument.clone()
        })
    });
    Ok(resolved.collect())
}

fn create(
    facts: &Facts<'_>,
    plan: &mut Plan<'_>,
    analysis: &AnalysisRef,
    spec: &AnalysisRunSpec,
) -> Result<Result<String, Failure>, Halt> {
    let base = format!("{}-{}", facts.name(), analysis.name);
    let extra = &facts.spec.analysis_run_metadata;
    let own = facts.world.experiment.metadata.labels.as_ref();
    let instance = own.and_then(|labels| labels.get_key_value(label::INSTANCE_ID));
    let labels = instance.into_iter().chain(&extra.labels);
    let labels = labels
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let metadata = ObjectMeta {
        namespace: Some(facts.namespace().to_owned()),
        labels: Some(labels),
        annotations: Some(extra.annotations.clone()),
        owner_references: Some(vec![OwnerReference {
            api_version: resource::API_VERSION.to_owned(),
            kind: Experiment::KIND.to_owned(),
            name: facts.name().to_owned(),
            uid: facts.uid().to_owned(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }]),
        ..ObjectMeta::default()
    };
    let run = |name| AnalysisRun {
        metadata: ObjectMeta {
            name: Some(name),
            ..metadata.clone()
        },
        spec: spec.clone(),
        ..AnalysisRun::default()
    };
    let made = make_run::make(plan, &facts.world.runs, facts.uid(), &base, |_| false, run)?;
    Ok(made.map(|made| made.run.name().to_owned()))
}

/// What has become of a run that was started.
fn watch(
    facts: &Facts<'_>,
    plan: &mut Plan<'_>,
    stored: ExperimentRun,
) -> Result<ExperimentRun, Halt> {
    if stored.phase.is_completed() {
        return Ok(stored);
    }
    let Some(run) = observed(facts, &stored) else {
        let why = format!(
            "{}.{} \"{}\" not found",
            AnalysisRun::PLURAL,
            resource::GROUP,
            stored.analysis_run
        );
        return Ok(in_error(stored, why));
    };
    let phase = run.status.phase;
    if facts.terminating && !phase.is_completed() {
        if run.spec.terminate {
            plan.waits.push(waits::run(run.name()));
            return Ok(stored);
        }
        return terminate(facts, plan, run, stored);
    }
    // A run that nobody has looked at yet is as it was when it was made.
    if phase == AnalysisPhase::Unset {
        return Ok(stored);
    }
    Ok(ExperimentRun {
        phase,
        message: run.status.message.clone(),
        ..stored
    })
}

fn observed<'w>(facts: &Facts<'w>, stored: &ExperimentRun) -> Option<&'w AnalysisRun> {
    let mut runs = facts.world.runs.iter().map(|run| &**run);
    runs.find(|run| run.name() == stored.analysis_run)
}

fn terminate(
    facts: &Facts<'_>,
    plan: &mut Plan<'_>,
    run: &AnalysisRun,
    stored: ExperimentRun,
) -> Result<ExperimentRun, Halt> {
    let target = Target {
        namespace: facts.namespace().to_owned(),
        name: run.name().to_owned(),
        uid: run.metadata.uid.clone().unwrap_or_default(),
        resource_version: String::new(),
    };
    match plan.act(Action::TerminateAnalysisRun { target })? {
        Ok(_) => {
            let (analysis, run) = (&stored.name, run.name());
            plan.did(
                "AnalysisRunTerminating",
                format!("Terminating {analysis} ({run})"),
            );
            Ok(stored)
        }
        Err(failure) if failure.kind == FailureKind::Refused => {
            Ok(in_error(stored, failure.message.clone()))
        }
        Err(failure) => {
            plan.fail(failure.message.clone());
            Ok(stored)
        }
    }
}

/// The experiment has ended this run before its time, so how it ended says nothing, unless it had found what is wrong.
pub(super) fn was_stopped(facts: &Facts<'_>, run: &ExperimentRun) -> bool {
    let ended_well = matches!(
        run.phase,
        AnalysisPhase::Successful | AnalysisPhase::Inconclusive
    );
    facts.terminating && ended_well && observed(facts, run).is_some_and(|run| run.spec.terminate)
}
