//! Making an Experiment: from a step, and the versions that it refers to.

use std::collections::BTreeMap;

use crossfade_api::experiment::{AnalysisRef, ExperimentSpec, TemplateSpec};
use crossfade_api::names::{annotation, label};
use crossfade_api::pod_template::PodTemplate;
use crossfade_api::steps::{
    ExperimentAnalysis, ExperimentService, ExperimentStep, ExperimentTemplate,
};
use crossfade_api::template_set::{self, Hashes};
use crossfade_api::{
    Experiment, LabelSelector, ObjectMeta, OwnerReference, Resource as _, Rollout,
};
use serde_json::{Value, json};

use crate::action::{Action, Done, FailureKind};
use crate::decision::{Halt, Plan};
use crate::make_run::{MOST_NAMES, is_controlled_by, prune};

use super::facts::{Facts, Set};

/// What Experiments of the step under way are named after.
pub(super) fn base_name(facts: &Facts<'_>) -> String {
    let revision = facts.revision.unwrap_or(0);
    let (name, hash, index) = (facts.name(), facts.new_hash(), facts.index());
    format!("{name}-{hash}-{revision}-{index}")
}

/// Starts an Experiment, or takes over one that does the same. The inner error says why none can be made.
pub(super) fn start(
    facts: &Facts<'_>,
    plan: &mut Plan<'_>,
    step: &ExperimentStep,
) -> Result<Result<Experiment, String>, Halt> {
    let spec = match spec(facts, step)? {
        Ok(spec) => spec,
        Err(why) => return Ok(Err(why)),
    };
    let base = base_name(facts);
    let taken_over = |there: &Experiment| {
        is_controlled_by(&there.metadata, facts.uid())
            && !there.status.phase.is_completed()
            && !there.spec.terminate
            && content(&there.spec) == content(&spec)
    };
    for number in 0..MOST_NAMES {
        let name = if number == 0 {
            base.clone()
        } else {
            format!("{base}-{number}")
        };
        let mut known = facts.world.experiments.iter();
        if let Some(there) = known.find(|there| there.name() == name) {
            if taken_over(there) {
                return Ok(Ok((**there).clone()));
            }
            continue;
        }
        let wanted = Experiment {
            metadata: metadata(facts, name.clone()),
            spec: spec.clone(),
            ..Experiment::default()
        };
        match plan.act(Action::CreateExperiment(Box::new(wanted.clone())))? {
            Ok(done) => {
                plan.did("ExperimentCreated", format!("Created Experiment '{name}'"));
                return Ok(Ok(match done {
                    Done::Experiment(made) => (**made).clone(),
                    _ => wanted,
                }));
            }
            Err(failure) => match &failure.kind {
                FailureKind::ExperimentExists(Some(there)) if taken_over(there) => {
                    return Ok(Ok((**there).clone()));
                }
                FailureKind::ExperimentExists(_) => {}
                _ => return Ok(Err(failure.message.clone())),
            },
        }
    }
    Ok(Err(format!(
        "the names {base} to {base}-{} are taken",
        MOST_NAMES - 1
    )))
}

/// What an Experiment does, without the empty members that other controllers store.
fn content(spec: &ExperimentSpec) -> Value {
    let mut json = json!(ExperimentSpec {
        terminate: false,
        ..spec.clone()
    });
    prune(&mut json);
    json
}

fn metadata(facts: &Facts<'_>, name: String) -> ObjectMeta {
    let own = facts.world.rollout.metadata.labels.clone();
    let mut labels = own.unwrap_or_default();
    labels.insert(label::POD_HASH.to_owned(), facts.new_hash().to_owned());
    let revision = facts.revision.unwrap_or(0).to_string();
    ObjectMeta {
        name: Some(name),
        namespace: Some(facts.namespace().to_owned()),
        labels: Some(labels),
        annotations: Some(BTreeMap::from([(
            annotation::REVISION.to_owned(),
            revision,
        )])),
        owner_references: Some(vec![OwnerReference {
            api_version: crossfade_api::resource::API_VERSION.to_owned(),
            kind: Rollout::KIND.to_owned(),
            name: facts.name().to_owned(),
            uid: facts.uid().to_owned(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }]),
        ..ObjectMeta::default()
    }
}

fn spec(facts: &Facts<'_>, step: &ExperimentStep) -> Result<Result<ExperimentSpec, String>, Halt> {
    let mut templates = Vec::new();
    for template in &step.templates {
        match of_version(facts, template)? {
            Ok(template) => templates.push(template),
            Err(why) => return Ok(Err(why)),
        }
    }
    let analyses = step.analyses.iter().map(|one| analysis(facts, one));
    let analyses = match analyses.collect() {
        Ok(analyses) => analyses,
        Err(why) => return Ok(Err(why)),
    };
    Ok(Ok(ExperimentSpec {
        templates,
        duration: step.duration.clone(),
        progress_deadline_seconds: facts.spec.progress_deadline_seconds,
        analyses,
        scale_down_delay_seconds: step.scale_down_delay_seconds,
        dry_run: step.dry_run.clone(),
        analysis_run_metadata: step.analysis_run_metadata.clone(),
        ..ExperimentSpec::default()
    }))
}

/// A template that runs the pods of a version.
fn of_version(
    facts: &Facts<'_>,
    template: &ExperimentTemplate,
) -> Result<Result<TemplateSpec, String>, Halt> {
    let set = match template.spec_ref.as_str() {
        "stable" => facts.stable_set(),
        "canary" => facts.new_set(),
        _ => {
            let why = "Invalid template step SpecRef: must be canary or stable";
            return Ok(Err(why.to_owned()));
        }
    };
    let body = set.and_then(|set| facts.world.bodies.get(set.name()).map(|body| (set, body)));
    let Some((set, body)) = body else {
        // It has been seen, or there would be no step under way; the world gives it next time.
        let version = &template.spec_ref;
        return Err(Halt::Failed(format!(
            "the pod template of the {version} version could not be read"
        )));
    };
    let mut pods = PodTemplate::from(body.template.clone());
    let own: Option<LabelSelector> = serde_json::from_value(body.selector.clone()).ok();
    let mut selector = template.selector.clone().or(own).unwrap_or_default();
    for (key, value) in &template.metadata.labels {
        pods.set_label(key, value);
        let labels = selector.match_labels.get_or_insert_default();
        labels.insert(key.clone(), value.clone());
    }
    for (key, value) in &template.metadata.annotations {
        pods.set_annotation(key, value);
    }
    let service = template.service.clone();
    Ok(Ok(TemplateSpec {
        name: template.name.clone(),
        replicas: template.replicas,
        min_ready_seconds: set.observed.min_ready_seconds,
        selector: Some(selector),
        template: pods,
        service: service.or_else(|| template.weight.map(|_| ExperimentService::default())),
    }))
}

fn analysis(facts: &Facts<'_>, analysis: &ExperimentAnalysis) -> Result<AnalysisRef, String> {
    let hashes = Hashes {
        latest: facts.new_hash(),
        stable: facts.stable_set().map(Set::hash),
    };
    let rollout = &facts.world.rollout;
    Ok(AnalysisRef {
        name: analysis.name.clone(),
        template_name: analysis.template_name.clone(),
        cluster_scope: analysis.cluster_scope.unwrap_or(false),
        args: template_set::rollout_arguments(&analysis.args, rollout, hashes)?,
        required_for_completion: analysis.required_for_completion,
    })
}
