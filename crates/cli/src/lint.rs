//! Rules for manifests: what would be refused, what would fail later, and what can hardly be meant.
//!
//! Every rule has an id. Nothing is read or fetched here: objects that a Rollout names are looked up among the manifests, and, when the
//! caller has fetched them, among those of a server.

use std::collections::BTreeMap;

use crossfade_api::analysis::AnalysisTemplateSpec;
use crossfade_api::flagger;
use crossfade_api::manifest::Position;
use crossfade_api::validate::references::{Lookup, References, RouterKind, Service, managed_by};
use crossfade_api::validate::{self, analysis, references, unsupported};
use crossfade_api::{
    AnalysisRun, AnalysisTemplate, Canary, ClusterAnalysisTemplate, Experiment, FieldError,
    ObjectMeta, Resource, Rollout,
};
use crossfade_judge::condition::Condition;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::documents::{Document, name_of};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// The object would be refused, or a release would not work.
    Error,
    /// It can hardly be meant.
    Warning,
}

impl Severity {
    /// The word for people.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// The rules with what each looks for.
pub(crate) const RULES: [(&str, &str); 9] = [
    ("unknown-field", "a field that the kind does not have"),
    ("wrong-type", "a value of the wrong type"),
    ("missing-field", "a field that must be there"),
    ("invalid-spec", "a value that is refused"),
    (
        "invalid-reference",
        "an object that does not fit what refers to it",
    ),
    ("invalid-metric", "a metric that cannot be measured"),
    ("invalid-condition", "a condition that cannot be evaluated"),
    ("not-supported", "something that this version cannot do"),
    (
        "doubtful",
        "something that is accepted and can hardly be meant",
    ),
];

/// One thing that is wrong.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Finding {
    /// The file.
    pub(crate) file: String,
    /// The line, from 1.
    pub(crate) line: u64,
    /// The character in the line, from 1.
    pub(crate) column: u64,
    /// How bad it is.
    pub(crate) severity: Severity,
    /// Id of the rule.
    pub(crate) rule: &'static str,
    /// The object, for example `rollout.argoproj.io/web`.
    pub(crate) object: String,
    /// Path of the field.
    pub(crate) path: String,
    /// What is wrong, without the path.
    pub(crate) message: String,
}

/// Objects that a Rollout may refer to.
#[derive(Debug, Default)]
pub(crate) struct Surroundings {
    services: BTreeMap<String, (BTreeMap<String, String>, Option<String>)>,
    templates: BTreeMap<(String, bool), AnalysisTemplateSpec>,
    objects: BTreeMap<(RouterKind, String), Value>,
    /// All objects of the server are known, so that what is not here does not exist.
    complete: bool,
}

impl Surroundings {
    /// Objects to refer to; `complete` says that there are no others.
    pub(crate) fn of<'v>(objects: impl IntoIterator<Item = &'v Value>, complete: bool) -> Self {
        let mut around = Self {
            complete,
            ..Self::default()
        };
        objects.into_iter().for_each(|object| around.add(object));
        around
    }

    fn add(&mut self, object: &Value) {
        let name = object["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let group = object["apiVersion"]
            .as_str()
            .and_then(|version| version.split_once('/'));
        match (
            group.map_or("", |(group, _)| group),
            object["kind"].as_str().unwrap_or_default(),
        ) {
            ("", "Service") => {
                let metadata = ObjectMeta::deserialize(&object["metadata"]).unwrap_or_default();
                let selector =
                    BTreeMap::deserialize(&object["spec"]["selector"]).unwrap_or_default();
                let manager = managed_by(metadata.annotations.as_ref()).map(str::to_owned);
                self.services.insert(name, (selector, manager));
            }
            ("argoproj.io", "AnalysisTemplate") => {
                let template = AnalysisTemplate::from_json(object.clone()).0;
                self.templates.insert((name, false), template.spec);
            }
            ("argoproj.io", "ClusterAnalysisTemplate") => {
                let template = ClusterAnalysisTemplate::from_json(object.clone()).0;
                self.templates.insert((name, true), template.spec);
            }
            ("networking.k8s.io", "Ingress") => drop(
                self.objects
                    .insert((RouterKind::Ingress, name), object.clone()),
            ),
            ("networking.istio.io", "VirtualService") => {
                self.objects
                    .insert((RouterKind::VirtualService, name), object.clone());
            }
            _ => {}
        }
    }

    fn found<T>(&self, found: Option<T>) -> Lookup<T> {
        match found {
            Some(found) => Lookup::Found(found),
            None if self.complete => Lookup::Missing,
            None => Lookup::NotNeeded,
        }
    }
}

impl References for Surroundings {
    fn service(&self, name: &str) -> Lookup<Service<'_>> {
        self.found(self.services.get(name).map(|(selector, manager)| Service {
            selector,
            managed_by: manager.as_deref(),
        }))
    }

    fn template(&self, name: &str, cluster_scope: bool) -> Lookup<&AnalysisTemplateSpec> {
        self.found(self.templates.get(&(name.to_owned(), cluster_scope)))
    }

    fn object(&self, kind: RouterKind, _namespace: &str, name: &str) -> Lookup<&Value> {
        match kind {
            RouterKind::Ingress | RouterKind::VirtualService => {
                self.found(self.objects.get(&(kind, name.to_owned())))
            }
            // Routers that are not looked at have no objects to miss.
            RouterKind::DestinationRule
            | RouterKind::Mapping
            | RouterKind::AppMeshVirtualService
            | RouterKind::AppMeshVirtualRouter => Lookup::NotNeeded,
        }
    }
}

/// What is wrong with the shape of an object: fields that nobody knows, wrong types, missing fields.
pub(crate) fn shape(document: &Document) -> Vec<Finding> {
    let found = document.source.findings();
    let unknown = found.unknown.iter().map(|field| {
        let message = field.to_string();
        finding(
            document,
            Severity::Error,
            "unknown-field",
            &field.path,
            &message,
        )
    });
    let wrong = found
        .wrong
        .iter()
        .map(|error| of_field(document, "wrong-type", error));
    let missing = found
        .missing
        .iter()
        .map(|error| of_field(document, "missing-field", error));
    unknown.chain(wrong).chain(missing).collect()
}

/// What is wrong with a Rollout of the right shape, in the order in which a controller would tell it.
pub(crate) fn rollout(document: &Document, around: &Surroundings) -> Vec<Finding> {
    let rollout = Rollout::from_json(document.source.object.clone()).0;
    let spec = validate::rollout(&rollout);
    let mut findings: Vec<_> = spec
        .iter()
        .map(|error| of_field(document, "invalid-spec", error))
        .collect();
    let references = references::references(&rollout, around);
    findings.extend(
        references
            .iter()
            .map(|error| of_field(document, "invalid-reference", error)),
    );
    findings
}

/// What is wrong with a Canary, MetricTemplate or AlertProvider.
fn of_flagger(document: &Document, kind: &str) -> Vec<Finding> {
    let object = &document.source.object;
    let refused = flagger::refused(object);
    let refused = refused
        .iter()
        .map(|error| of_field(document, "invalid-spec", error));
    let mut findings: Vec<Finding> = refused.collect();
    if kind == "Canary" && findings.is_empty() {
        let canary = Canary::from_json(object.clone()).0;
        let fault = flagger::validate::canary(&canary, flagger::validate::Rules::default());
        let fault = fault.err().filter(|_| canary.origin.faults().is_empty());
        findings.extend(
            fault.map(|why| finding(document, Severity::Error, "invalid-spec", "spec", &why)),
        );
    }
    findings
}

/// Everything that is wrong with an object of any kind.
pub(crate) fn all(document: &Document, around: &Surroundings) -> Vec<Finding> {
    let mut findings = shape(document);
    let object = || document.source.object.clone();
    match (document.source.api_version(), document.source.kind()) {
        ("argoproj.io/v1alpha1", "Rollout") => {
            findings.extend(rollout(document, around));
            let rollout = Rollout::from_json(object()).0;
            let lacks = unsupported::rollout(&rollout);
            findings.extend(
                lacks
                    .iter()
                    .map(|error| of_field(document, "not-supported", error)),
            );
            let doubts = validate::warnings(&rollout);
            findings.extend(doubts.iter().map(|error| Finding {
                severity: Severity::Warning,
                ..of_field(document, "doubtful", error)
            }));
        }
        (flagger::API_VERSION, kind) => findings.extend(of_flagger(document, kind)),
        ("argoproj.io/v1alpha1", "AnalysisTemplate") => {
            findings.extend(template(
                document,
                &AnalysisTemplate::from_json(object()).0.spec,
            ));
        }
        ("argoproj.io/v1alpha1", "ClusterAnalysisTemplate") => {
            findings.extend(template(
                document,
                &ClusterAnalysisTemplate::from_json(object()).0.spec,
            ));
        }
        ("argoproj.io/v1alpha1", "Experiment") => {
            let experiment = Experiment::from_json(object()).0;
            let fault = validate::experiment(&experiment).err();
            let faults = fault
                .into_iter()
                .map(|text| (Severity::Error, "invalid-spec", text));
            let doubts = validate::experiment_warnings(&experiment)
                .into_iter()
                .map(|text| (Severity::Warning, "doubtful", text));
            for (severity, rule, text) in faults.chain(doubts) {
                findings.push(finding(document, severity, rule, "spec", &text));
            }
        }
        ("argoproj.io/v1alpha1", "AnalysisRun") => {
            let run = AnalysisRun::from_json(object()).0;
            let spec = AnalysisTemplateSpec {
                metrics: run.spec.metrics,
                ..AnalysisTemplateSpec::default()
            };
            findings.extend(template(document, &spec));
        }
        _ => {}
    }
    findings
}

/// What is wrong with a template. Values that arguments fill in later are left alone.
fn template(document: &Document, spec: &AnalysisTemplateSpec) -> Vec<Finding> {
    let mut findings = Vec::new();
    // A template that refers to others may have no metrics of its own.
    let has_others = !spec.templates.is_empty();
    for (index, metric) in spec.metrics.iter().enumerate() {
        let json = serde_json::to_string(metric).unwrap_or_default();
        let path = format!("spec.metrics[{index}]");
        if !json.contains("{{") {
            for fault in analysis::all_metrics(std::slice::from_ref(metric)) {
                let text = fault.strip_prefix("metrics[0]: ").unwrap_or(&fault);
                findings.push(finding(
                    document,
                    Severity::Error,
                    "invalid-metric",
                    &path,
                    text,
                ));
            }
        }
        for (field, condition) in [
            ("successCondition", &metric.success_condition),
            ("failureCondition", &metric.failure_condition),
        ] {
            if condition.is_empty() || condition.contains("{{") {
                continue;
            }
            if let Err(error) = Condition::parse(condition) {
                let path = format!("{path}.{field}");
                let text = error.to_string();
                let first = text.lines().next().unwrap_or(&text);
                findings.push(finding(
                    document,
                    Severity::Error,
                    "invalid-condition",
                    &path,
                    first,
                ));
            }
        }
    }
    if spec.metrics.is_empty() && !has_others {
        findings.push(finding(
            document,
            Severity::Error,
            "invalid-metric",
            "spec.metrics",
            "no metrics specified",
        ));
    }
    let lacks = unsupported::template(spec);
    findings.extend(
        lacks
            .iter()
            .map(|error| of_field(document, "not-supported", error)),
    );
    findings
}

fn of_field(document: &Document, rule: &'static str, error: &FieldError) -> Finding {
    finding(document, Severity::Error, rule, &error.path, &error.body())
}

fn finding(
    document: &Document,
    severity: Severity,
    rule: &'static str,
    path: &str,
    message: &str,
) -> Finding {
    let Position { line, column } = document.position(path);
    Finding {
        file: document.file.clone(),
        line,
        column,
        severity,
        rule,
        object: name_of(&document.source.object),
        path: path.to_owned(),
        message: message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::parse;

    fn check(text: &str, expected: &[(u64, &str, &str)]) {
        let documents = parse("f.yaml", text).expect(text);
        let around = Surroundings::of(
            documents.iter().map(|document| &document.source.object),
            false,
        );
        let findings: Vec<_> = documents
            .iter()
            .flat_map(|document| all(document, &around))
            .collect();
        let short: Vec<_> = findings
            .iter()
            .map(|finding| (finding.line, finding.rule, finding.path.as_str()))
            .collect();
        assert_eq!(short, expected, "{findings:#?}");
    }

    #[test]
    fn templates_are_looked_at_with_their_conditions() {
        check(
            "apiVersion: argoproj.io/v1alpha1\nkind: AnalysisTemplate\nmetadata: {name: a}\nspec:\n  metrics:\n  - name: m\n    \
             successCondition: result[0] >=\n    provider:\n      web: {url: 'http://a'}\n  - name: second\n    interval: soon\n    provider: {}\n  \
             - name: third\n    count: '{{args.n}}'\n    successCondition: result > {{args.limit}}\n    provider: {web: {url: 'http://a'}}\n",
            &[
                (7, "invalid-condition", "spec.metrics[0].successCondition"),
                (10, "invalid-metric", "spec.metrics[1]"),
                (10, "invalid-metric", "spec.metrics[1]"),
            ],
        );
    }

    #[test]
    fn unknown_fields_stand_at_their_line() {
        check(
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  selctor: {app: a}\n",
            &[(5, "unknown-field", "spec.selctor")],
        );
    }
}
