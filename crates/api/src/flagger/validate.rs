//! What keeps a Canary from being run: the first fault, in the words of the family.

use super::TargetKind;
use crate::resource::{Canary, Resource as _};

/// What the controller's own settings forbid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Objects of other namespaces may not be named.
    pub no_cross_namespace_refs: bool,
}

/// Checks a Canary.
///
/// # Errors
/// The first fault, as it is told to people. A field of the wrong type comes before all others.
pub fn canary(canary: &Canary, rules: Rules) -> Result<(), String> {
    if let Some(fault) = canary.origin.faults().first() {
        return Err(fault.to_string());
    }
    if rules.no_cross_namespace_refs {
        stays_in_its_namespace(canary)?;
    }
    let spec = &canary.spec;
    let target = &spec.target_ref;
    let is_knative = spec.target_kind() == Some(TargetKind::Knative);
    if is_knative && spec.provider != "knative" {
        return Err(format!(
            "can't use {} provider with Knative Service as target",
            spec.provider
        ));
    }
    if spec.provider == "knative" && !is_knative {
        return Err(format!(
            "can't use {}/{} as target if provider is set to knative",
            target.api_version, target.kind
        ));
    }
    if is_knative && spec.autoscaler_ref.is_some() {
        return Err("can't use autoscaler with Knative Service".to_owned());
    }
    let affinity = spec
        .analysis()
        .and_then(|analysis| analysis.session_affinity.as_ref());
    if affinity.is_some_and(|affinity| affinity.cookie_name == affinity.primary_cookie_name) {
        return Err("can't use the same cookie name for both primary and cookie name; please update them to be different".to_owned());
    }
    Ok(())
}

fn stays_in_its_namespace(canary: &Canary) -> Result<(), String> {
    let own = canary.namespace();
    let stays = |what: &str, name: &str, namespace: &str| {
        if namespace.is_empty() || namespace == own {
            return Ok(());
        }
        Err(format!(
            "can't access {what} {name}.{namespace}, cross-namespace references are blocked"
        ))
    };
    if let Some(upstream) = &canary.spec.upstream_ref {
        stays("gloo upstream", &upstream.name, &upstream.namespace)?;
    }
    let Some(analysis) = canary.spec.analysis() else {
        return Ok(());
    };
    for template in analysis
        .metrics
        .iter()
        .filter_map(|metric| metric.template_ref.as_ref())
    {
        stays("metric template", &template.name, &template.namespace)?;
    }
    for alert in &analysis.alerts {
        let provider = &alert.provider_ref;
        stays("alert provider", &provider.name, &provider.namespace)?;
    }
    Ok(())
}
