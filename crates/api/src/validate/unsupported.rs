//! What this version cannot do yet.
//!
//! Types and rules know all of it. A world that cannot do it tells so instead of starting a release that would
//! get stuck, or be taken back, half-way.

use crate::analysis::AnalysisTemplateSpec;
use crate::field_error::FieldError;
use crate::resource::Rollout;

/// What a Rollout asks for that this version cannot do.
pub fn rollout(rollout: &Rollout) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let steps = rollout
        .spec
        .strategy
        .canary
        .iter()
        .flat_map(|canary| &canary.steps);
    for (index, step) in steps.enumerate() {
        let path = format!("spec.strategy.canary.steps[{index}]");
        if let Some(plugin) = &step.plugin {
            let detail = format!(
                "step plugins cannot be run yet (plugin \"{}\"); remove the step",
                plugin.name
            );
            errors.push(FieldError::forbidden(format!("{path}.plugin"), detail));
        }
    }
    errors
}

/// What a template asks for that this version cannot do: metric providers other than prometheus, web and job.
pub fn template(template: &AnalysisTemplateSpec) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, metric) in template.metrics.iter().enumerate() {
        for name in super::analysis::provider_names(&metric.provider) {
            if !matches!(name, "prometheus" | "web" | "job") {
                let member = if metric.provider.plugin.contains_key(name) {
                    "plugin."
                } else {
                    ""
                };
                let path = format!("spec.metrics[{index}].provider.{member}{name}");
                let detail = format!(
                    "metric \"{}\" cannot be measured with {name} yet; use prometheus, web or job",
                    metric.name
                );
                errors.push(FieldError::forbidden(path, detail));
            }
        }
    }
    errors
}
