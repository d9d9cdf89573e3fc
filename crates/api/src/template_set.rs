//! From references to templates to what a run measures.
//!
//! The way: find all templates that are referred to, also by other templates ([`TemplateSet::resolve`]); merge
//! them into one ([`TemplateSet::flatten`]); put in the arguments that the Rollout gives ([`merge_arguments`]).
//! No run is made here. A template that refers to itself counts once, like any other that is reached twice.

use std::collections::BTreeSet;

use crate::analysis::{AnalysisTemplateSpec, Argument, DryRunRule, RetentionRule, TemplateRef};
use crate::field_path;
use crate::resource::{Resource, Rollout};
use crate::rollout::RolloutArgument;

/// The most templates that one analysis may be made of.
pub const MOST_TEMPLATES: usize = 100;

/// The templates that an analysis is made of, each once, in the order in which they are merged.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TemplateSet<'a> {
    /// AnalysisTemplates with their names.
    pub namespaced: Vec<(String, &'a AnalysisTemplateSpec)>,
    /// ClusterAnalysisTemplates with their names.
    pub cluster: Vec<(String, &'a AnalysisTemplateSpec)>,
}

/// Why the templates of an analysis could not be found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// A template does not exist.
    #[error("{} '{name}' not found", if *cluster_scope { "ClusterAnalysisTemplate" } else { "AnalysisTemplate" })]
    NotFound {
        /// Its name.
        name: String,
        /// Whether it is a ClusterAnalysisTemplate.
        cluster_scope: bool,
        /// Whether a template refers to it, not the Rollout.
        nested: bool,
    },
    /// Templates refer to more templates than anybody needs.
    #[error("too many nested analysis templates (limit {MOST_TEMPLATES})")]
    TooMany,
}

impl<'a> TemplateSet<'a> {
    /// Finds the templates that `references` lead to. `find` takes a name and whether the template is a
    /// ClusterAnalysisTemplate.
    pub fn resolve(
        references: &[TemplateRef],
        find: impl Fn(&str, bool) -> Option<&'a AnalysisTemplateSpec>,
    ) -> Result<Self, ResolveError> {
        let mut set = Self::default();
        let mut seen = BTreeSet::new();
        // Depth first, and by a list of our own: templates may be nested deeper than the stack is.
        let mut ahead: Vec<(&TemplateRef, bool)> = references
            .iter()
            .rev()
            .map(|reference| (reference, false))
            .collect();
        while let Some((reference, nested)) = ahead.pop() {
            let cluster_scope = reference.is_cluster_scope();
            let name = reference.template_name.clone();
            if !seen.insert((cluster_scope, name.clone())) {
                continue;
            }
            if seen.len() > MOST_TEMPLATES {
                return Err(ResolveError::TooMany);
            }
            let Some(template) = find(&name, cluster_scope) else {
                return Err(ResolveError::NotFound {
                    name,
                    cluster_scope,
                    nested,
                });
            };
            ahead.extend(
                template
                    .templates
                    .iter()
                    .rev()
                    .map(|reference| (reference, true)),
            );
            let list = if cluster_scope {
                &mut set.cluster
            } else {
                &mut set.namespaced
            };
            list.push((name, template));
        }
        Ok(set)
    }

    /// All templates with their names, in the order in which they are merged.
    pub fn all(&self) -> impl Iterator<Item = (&str, &'a AnalysisTemplateSpec)> {
        self.namespaced
            .iter()
            .chain(&self.cluster)
            .map(|(name, template)| (name.as_str(), *template))
    }

    /// Merges the templates into one. The error says which metric, rule or argument stands in the way.
    pub fn flatten(&self) -> Result<AnalysisTemplateSpec, String> {
        let mut flat = AnalysisTemplateSpec::default();
        for (_, template) in self.all() {
            flat.metrics.extend(template.metrics.iter().cloned());
            flat.dry_run.extend(template.dry_run.iter().cloned());
            flat.measurement_retention
                .extend(template.measurement_retention.iter().cloned());
            for argument in &template.args {
                unite(&mut flat.args, argument)?;
            }
        }
        if let Some(name) = repeated(flat.metrics.iter().map(|metric| &metric.name)) {
            return Err(format!("two metrics have the same name '{name}'"));
        }
        no_repeated_rules(&flat.dry_run, &flat.measurement_retention)?;
        Ok(flat)
    }
}

fn repeated<'n>(names: impl Iterator<Item = &'n String>) -> Option<&'n String> {
    let mut seen = BTreeSet::new();
    names.into_iter().find(|name| !seen.insert(*name))
}

fn no_repeated_rules(dry_run: &[DryRunRule], retention: &[RetentionRule]) -> Result<(), String> {
    if let Some(name) = repeated(dry_run.iter().map(|rule| &rule.metric_name)) {
        return Err(format!(
            "two Dry-Run metric rules have the same name '{name}'"
        ));
    }
    match repeated(retention.iter().map(|rule| &rule.metric_name)) {
        Some(name) => Err(format!(
            "two Measurement Retention metric rules have the same name '{name}'"
        )),
        None => Ok(()),
    }
}

/// Adds a declared argument to those of earlier templates.
fn unite(args: &mut Vec<Argument>, later: &Argument) -> Result<(), String> {
    let Some(earlier) = args.iter_mut().find(|earlier| earlier.name == later.name) else {
        args.push(later.clone());
        return Ok(());
    };
    match (&earlier.value, &later.value) {
        (Some(one), Some(other)) if one != other => Err(format!(
            "Argument `{}` specified multiple times with different values: '{one}', '{other}'",
            later.name
        )),
        (Some(_), _) => Ok(()),
        (None, None) if later.value_from.is_none() => Ok(()),
        (None, _) => {
            *earlier = later.clone();
            Ok(())
        }
    }
}

/// Puts given arguments into declared ones; given ones that nobody declared are dropped. Fails for a declared
/// argument that has neither a value nor a source afterwards.
pub fn merge_arguments(declared: &[Argument], given: &[Argument]) -> Result<Vec<Argument>, String> {
    let mut merged = declared.to_vec();
    for argument in &mut merged {
        if let Some(given) = given.iter().rfind(|given| given.name == argument.name) {
            if given.value.is_some() {
                argument.value.clone_from(&given.value);
            } else if given.value_from.is_some() {
                argument.value_from.clone_from(&given.value_from);
            }
        }
        if argument.value.is_none() && argument.value_from.is_none() {
            return Err(format!("args.{} was not resolved", argument.name));
        }
    }
    Ok(merged)
}

/// Puts the rules of an analysis before those of its templates. Fails when a rule is there twice.
pub fn merge_rules(
    own: (&[DryRunRule], &[RetentionRule]),
    templates: &AnalysisTemplateSpec,
) -> Result<(Vec<DryRunRule>, Vec<RetentionRule>), String> {
    let dry_run = [own.0, &templates.dry_run].concat();
    let retention = [own.1, &templates.measurement_retention].concat();
    no_repeated_rules(&dry_run, &retention)?;
    Ok((dry_run, retention))
}

/// The hashes that arguments may ask for.
#[derive(Clone, Copy, Debug)]
pub struct Hashes<'h> {
    /// Of the newest version.
    pub latest: &'h str,
    /// Of the stable version; none before the first promotion.
    pub stable: Option<&'h str>,
}

/// The values of the arguments that a Rollout gives. Fails at the first that cannot be resolved.
pub fn rollout_arguments(
    args: &[RolloutArgument],
    rollout: &Rollout,
    hashes: Hashes,
) -> Result<Vec<Argument>, String> {
    args.iter()
        .map(|argument| rollout_argument(argument, rollout, hashes))
        .collect()
}

fn rollout_argument(
    argument: &RolloutArgument,
    rollout: &Rollout,
    hashes: Hashes,
) -> Result<Argument, String> {
    let mut value = argument.value.clone();
    if let Some(from) = &argument.value_from {
        match (from.pod_template_hash_value.as_deref(), &from.field_ref) {
            (Some("Latest"), _) => hashes.latest.clone_into(&mut value),
            (Some("Stable"), _) => {
                let missing = || format!("no stable ReplicaSet for argument '{}'", argument.name);
                hashes.stable.ok_or_else(missing)?.clone_into(&mut value);
            }
            (Some(_), _) | (None, None) => {}
            (None, Some(field)) => value = field_value(&field.field_path, rollout)?,
        }
    }
    Ok(Argument {
        name: argument.name.clone(),
        value: Some(value),
        value_from: None,
    })
}

/// Resolves arguments whose default is a field of the Rollout; what cannot be resolved stays as it is and ends
/// the run later.
pub fn resolve_field_defaults(args: &mut [Argument], rollout: &Rollout) {
    for argument in args.iter_mut().filter(|argument| argument.value.is_none()) {
        let field = argument
            .value_from
            .as_ref()
            .and_then(|from| from.field_ref.as_ref());
        if let Some(Ok(value)) = field.map(|field| field_value(&field.field_path, rollout)) {
            argument.value = Some(value);
            argument.value_from = None;
        }
    }
}

fn field_value(path: &str, rollout: &Rollout) -> Result<String, String> {
    if path.starts_with("metadata") {
        field_path::in_metadata(&rollout.metadata, path)
    } else {
        field_path::in_json(&rollout.to_json(), path)
    }
}
