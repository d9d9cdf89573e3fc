//! `crossfade undo`: go back to an earlier version.

use clap::Args;
use crossfade_api::names::{annotation, label};
use crossfade_api::pod_template::PodTemplate;
use crossfade_api::{hash, selector};
use crossfade_host::client::{Client, Wanted};
use crossfade_host::store::Kind;
use k8s_openapi::api::apps::v1::ReplicaSet;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::act::{Acting, Action, Plan, Write};
use crate::commands::rollout_of;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit;
use crate::patches::Change;
use crate::read;
use crate::view::replica_set;

/// Go back to the version before, or to an older one
///
/// Puts the pod template of an earlier revision back. The way there is a release like any other, with all its steps, unless the Rollout's
/// rollbackWindow says otherwise. `crossfade rollback` does the same and says first what would happen.
#[derive(Args, Clone, Debug)]
pub(crate) struct Undo {
    /// Rollouts to take back: NAME or TYPE/NAME, one or more
    #[arg(value_name = "NAME", required_unless_present_any = ["selector", "field_selector", "all"])]
    names: Vec<String>,
    /// Revision to go back to; 0 means the one before the present one
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        hide_default_value = true,
        allow_negative_numbers = true
    )]
    to_revision: i64,
    #[command(flatten)]
    acting: Acting,
}

impl Undo {
    /// Does it.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let action = Action {
            verb: "undo",
            kinds: &[Kind::Rollout],
        };
        action
            .run(
                context,
                &self.names,
                &self.acting,
                async |client, target, object| {
                    let history = History::read(context, client, &object).await?;
                    plan(
                        context,
                        client,
                        &target.name,
                        &object,
                        &history,
                        self.to_revision,
                    )
                    .await
                },
            )
            .await
    }
}

/// The versions of a Rollout that are still known.
#[derive(Debug)]
pub(crate) struct History {
    /// Its ReplicaSets as they are stored, with their revisions, the newest first.
    pub(crate) sets: Vec<(u64, Value)>,
}

impl History {
    /// Reads the versions of a Rollout.
    pub(crate) async fn read(context: &Context, client: &Client, rollout: &Value) -> Result<Self> {
        let rollout = rollout_of(rollout.clone());
        let uid = replica_set::uid(&rollout);
        let list = client
            .list(
                Kind::ReplicaSet,
                Some(context.namespace()),
                &Wanted::default(),
            )
            .await?;
        let mut sets = Vec::new();
        for object in list.items {
            let decoded: Vec<ReplicaSet> = read::objects([&object])?;
            let Some(set) = decoded.first() else { continue };
            let labels = set.metadata.labels.iter().flatten();
            let labels = labels
                .map(|(key, value)| (key.as_str(), value.as_str()))
                .collect();
            let wanted = rollout.spec.selector.as_ref();
            let matches = wanted.is_none() || selector::matches(wanted, &labels);
            let text = replica_set::annotation_of(&set.metadata, annotation::REVISION);
            let revision = if text.is_empty() {
                Some(0)
            } else {
                text.parse().ok()
            };
            if let Some(revision) =
                revision.filter(|_| matches && replica_set::is_owned_by(&set.metadata, uid))
            {
                sets.push((revision, object));
            }
        }
        sets.sort_by_key(|(revision, _)| std::cmp::Reverse(*revision));
        Ok(Self { sets })
    }

    /// The version to go back to: the second newest for 0, else the one of this number.
    pub(crate) fn target(&self, rollout: &str, to_revision: i64) -> Result<&(u64, Value)> {
        if to_revision == 0 {
            return self.sets.get(1).ok_or_else(|| {
                CliError::new(
                    exit::NOT_FOUND,
                    format!("no revision found for rollout \"{rollout}\""),
                )
                .hint(format!("crossfade history {rollout}"))
            });
        }
        let wanted = u64::try_from(to_revision).ok();
        let found = self
            .sets
            .iter()
            .find(|(revision, _)| Some(*revision) == wanted);
        found.ok_or_else(|| {
            CliError::new(
                exit::NOT_FOUND,
                format!("unable to find specified revision {to_revision} in history"),
            )
            .hint(format!("crossfade history {rollout}"))
        })
    }
}

/// The template of a ReplicaSet without what the controller added to it: the label that names the version, and the metadata of
/// its role at the time.
pub(crate) fn template_of(set: &Value) -> Value {
    let mut template = set["spec"]["template"].clone();
    let added = set["metadata"]["annotations"][annotation::EPHEMERAL_METADATA].as_str();
    let added: Value = added
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    for member in ["labels", "annotations"] {
        let Some(metadata) = template
            .pointer_mut("/metadata")
            .and_then(Value::as_object_mut)
        else {
            break;
        };
        let Some(entries) = metadata.get_mut(member).and_then(Value::as_object_mut) else {
            continue;
        };
        entries.remove(label::POD_HASH);
        for key in added[member]
            .as_object()
            .into_iter()
            .flat_map(serde_json::Map::keys)
        {
            entries.remove(key);
        }
        if entries.is_empty() {
            metadata.remove(member);
        }
    }
    template
}

/// Whether two templates ask for the same pods.
pub(crate) fn is_same_template(left: &Value, right: &Value) -> bool {
    let read = |template: &Value| PodTemplate::deserialize(template);
    match (read(left), read(right)) {
        (Ok(left), Ok(right)) => hash::templates_equal(&left, &right),
        _ => left == right,
    }
}

/// What puts a revision back.
pub(crate) async fn plan(
    context: &Context,
    client: &Client,
    name: &str,
    object: &Value,
    history: &History,
    to_revision: i64,
) -> Result<Plan> {
    let (revision, set) = history.target(name, to_revision)?;
    let template = template_of(set);
    let rollout = rollout_of(object.clone());
    let (kind, owner, path, present) = match &rollout.spec.workload_ref {
        None => (
            Kind::Rollout,
            name.to_owned(),
            "/spec/template",
            object["spec"]["template"].clone(),
        ),
        Some(workload) => {
            let (kind, path) = match workload.kind.as_str() {
                "Deployment" => (Kind::Deployment, "/spec/template"),
                "ReplicaSet" => (Kind::ReplicaSet, "/spec/template"),
                "PodTemplate" => (Kind::PodTemplate, "/template"),
                other => {
                    let text = format!(
                        "failed restoring revision {revision}: workload of type {other} is not supported"
                    );
                    return Err(CliError::new(exit::REFUSED, text));
                }
            };
            let owner = read::object(context, client, kind, &workload.name).await?;
            let present = owner.pointer(path).cloned().unwrap_or_default();
            (kind, workload.name.clone(), path, present)
        }
    };
    if is_same_template(&present, &template) {
        let text =
            format!("skipped rollback (current template already matches revision {to_revision})");
        return Ok(Plan {
            write: Write::Merge(Change::default()),
            done: text.clone(),
            nothing: Some(text),
        });
    }
    Ok(Plan {
        write: Write::Json {
            kind,
            name: owner,
            patch: json!([{"op": "replace", "path": path, "value": template}]),
        },
        done: format!("rollout '{name}' undo"),
        nothing: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_controller_added_to_a_template_is_not_put_back() {
        let set = json!({"metadata": {"annotations": {"rollout.argoproj.io/ephemeral-metadata": "{\"labels\":{\"role\":\"canary\"}}"}},
            "spec": {"template": {"metadata": {"labels": {"app": "web", "role": "canary", "rollouts-pod-template-hash": "x"}}, "spec": {}}}});
        assert_eq!(
            template_of(&set),
            json!({"metadata": {"labels": {"app": "web"}}, "spec": {}})
        );
    }

    #[test]
    fn templates_are_compared_by_meaning() {
        let with = |memory: &str| json!({"spec": {"containers": [{"name": "a", "image": "b", "resources": {"limits": {"memory": memory}}}]}});
        assert!(is_same_template(&with("1Gi"), &with("1024Mi")));
        assert!(!is_same_template(&with("1Gi"), &with("2Gi")));
    }
}
