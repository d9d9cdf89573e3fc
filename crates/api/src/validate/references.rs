//! Rules for the objects that a Rollout names: do they exist, and do they fit.
//!
//! What was observed comes through [`References`], so that a world copies nothing. What a world does not have
//! at all (router objects on one machine) is [`Lookup::NotNeeded`] and never missing.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::analysis::{AnalysisTemplateSpec, Argument, TemplateRef};
use crate::field_error::FieldError;
use crate::names::{annotation, label};
use crate::resource::{Resource, Rollout};
use crate::rollout::{CanaryStrategy, RolloutAnalysis, RolloutArgument};
use crate::substitute;
use crate::template_set::{
    Hashes, ResolveError, TemplateSet, merge_arguments, merge_rules, rollout_arguments,
};
use crate::validate::routers;

/// What became of looking for an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup<T> {
    /// It is there.
    Found(T),
    /// It is not there.
    Missing,
    /// The world has no such objects, or it could not be read; no rule is applied.
    NotNeeded,
}

/// A Service as far as the rules look at it.
#[derive(Clone, Copy, Debug)]
pub struct Service<'a> {
    /// Its selector.
    pub selector: &'a BTreeMap<String, String>,
    /// The Rollout that its annotation names as its manager.
    pub managed_by: Option<&'a str>,
}

/// A kind of object that a router works with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouterKind {
    /// `networking.k8s.io` Ingress.
    Ingress,
    /// `networking.istio.io` VirtualService.
    VirtualService,
    /// `networking.istio.io` DestinationRule.
    DestinationRule,
    /// `getambassador.io` Mapping.
    Mapping,
    /// `appmesh.k8s.aws` VirtualService.
    AppMeshVirtualService,
    /// `appmesh.k8s.aws` VirtualRouter.
    AppMeshVirtualRouter,
}

impl RouterKind {
    /// The resource with its group, as "not found" texts name it.
    pub fn resource(self) -> &'static str {
        match self {
            Self::Ingress => "ingress.networking.k8s.io",
            Self::VirtualService => "virtualservices.networking.istio.io",
            Self::DestinationRule => "destinationrules.networking.istio.io",
            Self::Mapping => "mappings.getambassador.io",
            Self::AppMeshVirtualService => "virtualservices.appmesh.k8s.aws",
            Self::AppMeshVirtualRouter => "virtualrouters.appmesh.k8s.aws",
        }
    }
}

/// What a world knows about the objects that a Rollout names.
pub trait References {
    /// A Service of the Rollout's namespace.
    fn service(&self, name: &str) -> Lookup<Service<'_>>;
    /// An analysis template; `cluster_scope` asks for a ClusterAnalysisTemplate.
    fn template(&self, name: &str, cluster_scope: bool) -> Lookup<&AnalysisTemplateSpec>;
    /// An object of a router.
    fn object(&self, kind: RouterKind, namespace: &str, name: &str) -> Lookup<&Value>;
}

/// Every fault in what a Rollout refers to: first what is missing, then what does not fit.
pub fn references(rollout: &Rollout, known: &impl References) -> Vec<FieldError> {
    let (mut missing, mut unfit) = (Vec::new(), Vec::new());
    for (path, name) in services(rollout) {
        match known.service(name) {
            Lookup::Found(service) => unfit.extend(service_rules(rollout, &path, name, service)),
            Lookup::Missing => {
                missing.push(FieldError::invalid(
                    path,
                    name,
                    format!("service \"{name}\" not found"),
                ));
            }
            Lookup::NotNeeded => {}
        }
    }
    for analysis in analyses(rollout) {
        template_rules(rollout, &analysis, known, &mut missing, &mut unfit);
    }
    if let Some(canary) = &rollout.spec.strategy.canary
        && let Some(routing) = &canary.traffic_routing
    {
        routers::rules(rollout, canary, routing, known, &mut missing, &mut unfit);
    }
    missing.append(&mut unfit);
    missing
}

/// The Services that a Rollout names, with the paths of their fields.
pub fn services(rollout: &Rollout) -> Vec<(String, &str)> {
    let strategy = &rollout.spec.strategy;
    let mut services = Vec::new();
    if let Some(blue_green) = &strategy.blue_green {
        services.push(("blueGreen.activeService", &blue_green.active_service));
        services.push(("blueGreen.previewService", &blue_green.preview_service));
    }
    if let Some(canary) = &strategy.canary {
        services.push(("canary.stableService", &canary.stable_service));
        services.push(("canary.canaryService", &canary.canary_service));
        if let Some(ping_pong) = &canary.ping_pong {
            services.push(("canary.pingPong.pingService", &ping_pong.ping_service));
            services.push(("canary.pingPong.pongService", &ping_pong.pong_service));
        }
    }
    let named = services.into_iter().filter(|(_, name)| !name.is_empty());
    named
        .map(|(path, name)| (format!("spec.strategy.{path}"), name.as_str()))
        .collect()
}

fn service_rules(rollout: &Rollout, path: &str, name: &str, service: Service) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let labels = rollout.spec.template.labels();
    let differs = |(key, value): &(&String, &String)| {
        *key != label::POD_HASH && labels.get(key.as_str()) != Some(&value.as_str())
    };
    if let Some((key, _)) = service.selector.iter().find(differs) {
        let detail = format!("Service \"{name}\" has unmatch label \"{key}\" in rollout");
        errors.push(FieldError::invalid(path, name, detail));
    }
    if service
        .managed_by
        .is_some_and(|manager| manager != rollout.name())
    {
        let detail = format!("Service \"{name}\" is managed by another Rollout");
        errors.push(FieldError::invalid(path, name, detail));
    }
    errors
}

/// The Rollout that an object's annotations name as its manager.
pub fn managed_by(annotations: Option<&BTreeMap<String, String>>) -> Option<&str> {
    annotations?.get(annotation::MANAGED_BY).map(String::as_str)
}

/// An analysis that a Rollout starts.
struct Analysis<'a> {
    path: String,
    stanza: &'a RolloutAnalysis,
    background: bool,
}

fn analyses(rollout: &Rollout) -> Vec<Analysis<'_>> {
    let strategy = &rollout.spec.strategy;
    let mut analyses = Vec::new();
    let mut add = |path: String, stanza, background| {
        analyses.push(Analysis {
            path: format!("spec.strategy.{path}.templates"),
            stanza,
            background,
        });
    };
    if let Some(blue_green) = &strategy.blue_green {
        for (name, stanza) in [
            ("prePromotionAnalysis", &blue_green.pre_promotion_analysis),
            ("postPromotionAnalysis", &blue_green.post_promotion_analysis),
        ] {
            if let Some(stanza) = stanza {
                add(format!("blueGreen.{name}"), stanza, false);
            }
        }
    }
    if let Some(canary) = &strategy.canary {
        for (index, step) in canary.steps.iter().enumerate() {
            if let Some(stanza) = &step.analysis {
                add(format!("canary.steps[{index}].analysis"), stanza, false);
            }
        }
        if let Some(background) = &canary.analysis {
            add("canary.analysis".to_owned(), &background.analysis, true);
        }
    }
    analyses
}

/// The references to templates that a Rollout makes, for worlds that fetch them.
pub fn template_references(rollout: &Rollout) -> Vec<&TemplateRef> {
    analyses(rollout)
        .into_iter()
        .flat_map(|analysis| &analysis.stanza.templates)
        .collect()
}

fn template_rules(
    rollout: &Rollout,
    analysis: &Analysis,
    known: &impl References,
    missing: &mut Vec<FieldError>,
    unfit: &mut Vec<FieldError>,
) {
    let unread = AnalysisTemplateSpec::default();
    let set = TemplateSet::resolve(
        &analysis.stanza.templates,
        |name, cluster_scope| match known.template(name, cluster_scope) {
            Lookup::Found(template) => Some(template),
            Lookup::Missing => None,
            Lookup::NotNeeded => Some(&unread),
        },
    );
    match set {
        Ok(set) => unfit.extend(set_rules(rollout, analysis, &set)),
        Err(error) => {
            let (path, value) = match &error {
                ResolveError::NotFound {
                    name, nested: true, ..
                } => ("spec.templates", name.clone()),
                ResolveError::NotFound { name, .. } => (analysis.path.as_str(), name.clone()),
                ResolveError::TooMany => (
                    analysis.path.as_str(),
                    names_text(&analysis.stanza.templates),
                ),
            };
            missing.push(FieldError::invalid(path, &value, error.to_string()));
        }
    }
}

fn names_text(templates: &[TemplateRef]) -> String {
    let names: Vec<_> = templates
        .iter()
        .map(|template| template.template_name.as_str())
        .collect();
    format!("templateNames: [{}]", names.join(" "))
}

/// The first fault of a set of templates together with what the Rollout adds.
fn set_rules(rollout: &Rollout, analysis: &Analysis, set: &TemplateSet) -> Option<FieldError> {
    let path = &analysis.path;
    let merged = merged(rollout, analysis.stanza, set);
    let (flat, args) = match merged {
        Ok(merged) => merged,
        Err(error) => {
            return Some(FieldError::invalid(
                path,
                &names_text(&analysis.stanza.templates),
                error,
            ));
        }
    };
    let stanza = analysis.stanza;
    if let Err(error) = merge_rules((&stanza.dry_run, &stanza.measurement_retention), &flat) {
        return Some(FieldError::invalid(
            path,
            &names_text(&stanza.templates),
            error,
        ));
    }
    if analysis.background {
        return set
            .all()
            .find_map(|(name, template)| background_arguments(path, name, template, &stanza.args));
    }
    // Templates that make sense together are accepted, and so are those that make sense alone.
    if endless(&flat.metrics, &args).is_ok() {
        return None;
    }
    set.all().find_map(|(name, template)| {
        let error = placeholders(template)
            .and_then(|args| endless(&template.metrics, &args))
            .err()
            .map(|error| match error {
                Endless::Unresolved(text) => format!("AnalysisTemplate {name}: {text}"),
                Endless::Metric { metric, count } => {
                    format!("AnalysisTemplate {name} has metric {metric} which runs indefinitely. Invalid value for count: {count}")
                }
            })?;
        Some(FieldError::invalid(path, name, error))
    })
}

fn merged(
    rollout: &Rollout,
    stanza: &RolloutAnalysis,
    set: &TemplateSet,
) -> Result<(AnalysisTemplateSpec, Vec<Argument>), String> {
    let flat = set.flatten()?;
    let hashes = Hashes {
        latest: "dummy-new-hash",
        stable: Some("dummy-stable-hash"),
    };
    // A field that cannot be read now may be there when the run is made; then an error is told.
    let given: Vec<Argument> = stanza
        .args
        .iter()
        .flat_map(|argument| {
            rollout_arguments(std::slice::from_ref(argument), rollout, hashes).unwrap_or_else(
                |_| {
                    vec![Argument {
                        name: argument.name.clone(),
                        value: Some(String::new()),
                        value_from: None,
                    }]
                },
            )
        })
        .collect();
    let args = merge_arguments(&flat.args, &given)?;
    Ok((flat, args))
}

/// Why an analysis that a release waits for might never end.
enum Endless {
    Unresolved(String),
    Metric { metric: String, count: String },
}

/// The arguments of a template by itself, placeholders for those without a value.
fn placeholders(template: &AnalysisTemplateSpec) -> Result<Vec<Argument>, Endless> {
    template
        .args
        .iter()
        .map(|argument| match (&argument.value, &argument.value_from) {
            (Some(_), Some(_)) => Err(Endless::Unresolved(format!(
                "arg '{}' has both Value and ValueFrom fields",
                argument.name
            ))),
            (Some(_), None) => Ok(argument.clone()),
            (None, _) => Ok(Argument {
                value: Some("dummy-value".to_owned()),
                value_from: None,
                ..argument.clone()
            }),
        })
        .collect()
}

fn endless(metrics: &[crate::analysis::Metric], args: &[Argument]) -> Result<(), Endless> {
    let values = args
        .iter()
        .map(|argument| {
            (
                argument.name.clone(),
                argument
                    .value
                    .clone()
                    .unwrap_or_else(|| "dummy-value".to_owned()),
            )
        })
        .collect();
    for metric in metrics {
        let metric = substitute::metric(metric, &values).map_err(Endless::Unresolved)?;
        if metric.effective_count().is_none() {
            let count = metric
                .count
                .as_ref()
                .map_or_else(|| "<nil>".to_owned(), crate::intstr::text);
            return Err(Endless::Metric {
                metric: metric.name,
                count,
            });
        }
    }
    Ok(())
}

/// A background analysis must be given every argument that its templates leave open.
fn background_arguments(
    path: &str,
    name: &str,
    template: &AnalysisTemplateSpec,
    given: &[RolloutArgument],
) -> Option<FieldError> {
    let open = |argument: &&Argument| {
        argument.value.is_none()
            && argument.value_from.is_none()
            && given.iter().all(|given| given.name != argument.name)
    };
    let argument = template.args.iter().find(open)?;
    let detail = if given.is_empty() {
        "missing analysis arguments in rollout spec"
    } else {
        &argument.name
    };
    Some(FieldError::invalid(path, name, detail))
}

/// The Services that stand for the stable version and the canary, ping-pong considered.
pub(crate) fn stable_and_canary<'a>(
    rollout: &'a Rollout,
    canary: &'a CanaryStrategy,
) -> (&'a str, &'a str) {
    use crate::rollout_status::PingPongRole;
    match &canary.ping_pong {
        None => (&canary.stable_service, &canary.canary_service),
        Some(ping_pong) if rollout.status.canary.stable_ping_pong == PingPongRole::Ping => {
            (&ping_pong.ping_service, &ping_pong.pong_service)
        }
        Some(ping_pong) => (&ping_pong.pong_service, &ping_pong.ping_service),
    }
}
