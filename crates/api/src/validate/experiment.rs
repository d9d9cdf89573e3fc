//! Rules for Experiments.

use std::collections::BTreeSet;

use crate::duration;
use crate::resource::{Experiment, Resource as _};
use crate::selector;

/// The first fault of an Experiment, as its condition shows it.
pub fn experiment(experiment: &Experiment) -> Result<(), String> {
    let mut faults = experiment.origin.faults().iter();
    if let Some(fault) = faults.find(|fault| fault.path.starts_with("spec")) {
        return Err(fault.to_string());
    }
    let spec = &experiment.spec;
    let name = experiment.name();
    let mut seen = BTreeSet::new();
    for (index, template) in spec.templates.iter().enumerate() {
        let Some(selector) = &template.selector else {
            return Err(format!(
                "Rollout has missing field '.Spec.Templates[{index}].Selector'"
            ));
        };
        if selector::is_empty(selector) {
            return Err(format!(
                "This experiment is selecting all pods at index {index}. A non-empty selector is required."
            ));
        }
        if template.min_ready_seconds > spec.progress_deadline_seconds() {
            return Err(format!(
                "MinReadySeconds cannot be longer than ProgressDeadlineSeconds. Check template index {index}"
            ));
        }
        if template.name.is_empty() {
            return Err(format!(
                "Experiment {name} has empty template name at index {index}"
            ));
        }
        if !seen.insert(&template.name) {
            return Err(format!(
                "Experiment {name} has repeated template name '{}' in templates",
                template.name
            ));
        }
    }
    Ok(())
}

/// What is accepted although it can hardly be meant.
pub fn experiment_warnings(experiment: &Experiment) -> Vec<String> {
    let spec = &experiment.spec;
    let mut doubts = Vec::new();
    if !spec.duration.is_empty() && duration::parse(&spec.duration).is_err() {
        doubts.push(format!(
            "spec.duration: \"{}\" is no duration and counts as none",
            spec.duration
        ));
    }
    let mut seen = BTreeSet::new();
    for (index, analysis) in spec.analyses.iter().enumerate() {
        if !seen.insert(&analysis.name) {
            doubts.push(format!(
                "spec.analyses[{index}].name: another analysis is named '{}'; the two share one run",
                analysis.name
            ));
        }
    }
    doubts
}
