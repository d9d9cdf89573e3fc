//! Making an analysis run: from the templates that an analysis names and the arguments that the Rollout gives.
//!
//! A run has a name of its own for each version, revision and purpose. A run that has it, or has it with a number, is taken over if it measures
//! the same and is still under way: it was started before a crash. So is one that has failed in this try and was not heard: a release is not
//! measured until it passes. Else the name gets the next free number.

use std::collections::BTreeMap;

use crossfade_api::analysis::{Argument, Metric};
use crossfade_api::analysis_run::{AnalysisPhase, AnalysisRunSpec};
use crossfade_api::names::{annotation, label};
use crossfade_api::rollout::RolloutAnalysis;
use crossfade_api::substitute;
use crossfade_api::template_set::{self, Hashes, TemplateSet};
use crossfade_api::time;
use crossfade_api::validate::analysis;
use crossfade_api::{AnalysisRun, ObjectMeta, OwnerReference, Resource as _, Rollout};

use crate::decision::{Found, Halt, Plan};
use crate::make_run;
use crate::mutant::{Mutant, wrong};

use super::facts::{Facts, Set};
use super::runs::{self, Purpose};
use super::world::TemplateKey;

/// Starts a run, or takes over one that does the same. The inner error says why none can be made.
pub(super) fn start(
    facts: &Facts<'_>,
    plan: &mut Plan<'_>,
    purpose: Purpose,
    analysis: &RolloutAnalysis,
) -> Result<Result<AnalysisRun, String>, Halt> {
    let spec = match spec(facts, analysis) {
        Ok(spec) => spec,
        Err(why) => return Ok(Err(why)),
    };
    let base = base_name(facts, purpose);
    let run = |name| AnalysisRun {
        metadata: metadata(facts, purpose, analysis, name),
        spec: spec.clone(),
        ..AnalysisRun::default()
    };
    let unheard = |run: &AnalysisRun| is_unheard(facts, run);
    let runs = &facts.world.runs;
    let made = make_run::make(plan, runs, facts.uid(), &base, unheard, run)?;
    if let Ok(made) = &made
        && made.is_new
    {
        warn_about(plan, analysis, &made.run.spec);
    }
    Ok(made.map(|made| made.run).map_err(|failure| failure.message))
}

fn base_name(facts: &Facts<'_>, purpose: Purpose) -> String {
    let revision = facts.revision.unwrap_or(0);
    let base = format!("{}-{}-{revision}", facts.name(), facts.new_hash());
    match purpose {
        Purpose::Step(index) => format!("{base}-{index}"),
        Purpose::Background => base,
        Purpose::PrePromotion => format!("{base}-pre"),
        Purpose::PostPromotion => format!("{base}-post"),
    }
}

/// What the run measures.
fn spec(facts: &Facts<'_>, analysis: &RolloutAnalysis) -> Result<AnalysisRunSpec, String> {
    let rollout: &Rollout = &facts.world.rollout;
    let find = |name: &str, cluster_scope| {
        let key = TemplateKey {
            cluster_scope,
            name: name.to_owned(),
        };
        facts
            .world
            .templates
            .get(&key)
            .and_then(Found::found)
            .map(|template| &**template)
    };
    let set = TemplateSet::resolve(&analysis.templates, find).map_err(|error| error.to_string())?;
    let flat = set.flatten()?;
    let hashes = Hashes {
        latest: facts.new_hash(),
        stable: facts.stable_set().map(Set::hash),
    };
    let given = template_set::rollout_arguments(&analysis.args, rollout, hashes)?;
    let mut args = template_set::merge_arguments(&flat.args, &given)?;
    template_set::resolve_field_defaults(&mut args, rollout);
    let own = (
        analysis.dry_run.as_slice(),
        analysis.measurement_retention.as_slice(),
    );
    let (dry_run, measurement_retention) = template_set::merge_rules(own, &flat)?;
    Ok(AnalysisRunSpec {
        metrics: flat.metrics,
        args,
        dry_run,
        measurement_retention,
        ..AnalysisRunSpec::default()
    })
}

fn metadata(
    facts: &Facts<'_>,
    purpose: Purpose,
    analysis: &RolloutAnalysis,
    name: String,
) -> ObjectMeta {
    let mut labels = analysis
        .analysis_run_metadata
        .as_ref()
        .map_or(BTreeMap::new(), |metadata| metadata.labels.clone());
    labels.extend(reserved(facts, purpose));
    let selected = facts
        .spec
        .selector
        .as_ref()
        .and_then(|selector| selector.match_labels.clone());
    labels.extend(selected.into_iter().flatten());
    let revision = facts.revision.unwrap_or(0).to_string();
    let mut annotations = BTreeMap::from([(annotation::REVISION.to_owned(), revision)]);
    annotations.extend(attempt(facts).map(|attempt| (annotation::ATTEMPT.to_owned(), attempt)));
    if let Some(metadata) = &analysis.analysis_run_metadata {
        annotations.extend(metadata.annotations.clone());
    }
    ObjectMeta {
        name: Some(name),
        namespace: Some(facts.namespace().to_owned()),
        labels: Some(labels),
        annotations: Some(annotations),
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

/// Labels by which runs are found again; a user's own do not replace them.
fn reserved(facts: &Facts<'_>, purpose: Purpose) -> BTreeMap<String, String> {
    let judged = match facts.stable_set() {
        Some(stable) if wrong(Mutant::WrongVersionJudged) => stable.hash(),
        _ => facts.new_hash(),
    };
    let mut labels = BTreeMap::from([
        (label::POD_HASH.to_owned(), judged.to_owned()),
        (label::ROLLOUT_TYPE.to_owned(), purpose.word().to_owned()),
    ]);
    if let Purpose::Step(index) = purpose {
        labels.insert(label::STEP_INDEX.to_owned(), index.to_string());
    }
    let own = facts.world.rollout.metadata.labels.as_ref();
    if let Some(instance) = own.and_then(|labels| labels.get(label::INSTANCE_ID)) {
        labels.insert(label::INSTANCE_ID.to_owned(), instance.clone());
    }
    labels
}

/// Tells once what was accepted but will not be as its writer meant it.
fn warn_about(plan: &mut Plan<'_>, analysis: &RolloutAnalysis, spec: &AnalysisRunSpec) {
    let own_labels = analysis
        .analysis_run_metadata
        .iter()
        .flat_map(|metadata| metadata.labels.keys());
    let reserved = [
        label::POD_HASH,
        label::ROLLOUT_TYPE,
        label::STEP_INDEX,
        label::INSTANCE_ID,
    ];
    for key in own_labels.filter(|key| reserved.contains(&key.as_str())) {
        plan.warn(
            "ReservedLabelIgnored",
            format!("analysisRunMetadata.labels cannot set '{key}'"),
        );
    }
    for argument in &spec.args {
        let from = argument.value_from.as_ref();
        if argument.value.is_some() && from.is_some_and(|from| from.secret_key_ref.is_some()) {
            let name = &argument.name;
            plan.warn(
                "ArgumentIgnored",
                format!("the value of argument '{name}' is taken from its Secret"),
            );
        }
    }
    for fault in analysis::all_metrics(&with_values(spec)) {
        plan.warn("AnalysisTemplateInvalid", fault);
    }
}

/// The metrics with the arguments put in, as far as their values are known here.
fn with_values(spec: &AnalysisRunSpec) -> Vec<Metric> {
    let value = |argument: &Argument| argument.value.clone().unwrap_or_else(|| "0".to_owned());
    let values = spec
        .args
        .iter()
        .map(|argument| (argument.name.clone(), value(argument)))
        .collect();
    let metrics = spec.metrics.iter();
    metrics
        .map(|metric| substitute::metric(metric, &values).unwrap_or_else(|_| metric.clone()))
        .collect()
}

/// When the try under way began, as it is noted on its runs.
fn attempt(facts: &Facts<'_>) -> Option<String> {
    let attempt = facts.status.duration.as_ref()?;
    attempt.rollout_started_at.map(time::text)
}

/// A run of this very try has ended, and the status has never named it. On a retry nothing of before counts, whatever clocks say, and one that
/// was asked to end has ended well without having measured.
fn is_unheard(facts: &Facts<'_>, run: &AnalysisRun) -> bool {
    let noted = run.metadata.annotations.as_ref();
    let noted = noted.and_then(|notes| notes.get(annotation::ATTEMPT));
    let has_judged = match run.status.phase {
        AnalysisPhase::Failed | AnalysisPhase::Error => true,
        AnalysisPhase::Successful => !run.spec.terminate,
        _ => false,
    };
    has_judged
        && noted.is_some()
        && noted == attempt(facts).as_ref()
        && facts.status.aborted_at.is_none()
        && !runs::is_current(facts, run)
}
