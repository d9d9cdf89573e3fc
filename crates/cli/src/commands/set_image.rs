//! `crossfade set image`: release another image.

use clap::{Args, Subcommand};
use crossfade_host::client::Client;
use crossfade_host::store::Kind;
use serde_json::{Value, json};

use crate::act::{Acting, Action, Plan, Write};
use crate::commands::rollout_of;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit;
use crate::patches::Change;
use crate::read;

/// Change a release
#[derive(Args, Clone, Debug)]
#[command(arg_required_else_help = false, subcommand_required = true)]
pub(crate) struct Set {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Clone, Debug)]
enum What {
    Image(Image),
}

/// Release another image
///
/// Changes the image of one container, or of all with `*`, which begins a new revision:
///
///   crossfade set image web app=web:2
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub(crate) struct Image {
    /// Rollout to change: NAME or TYPE/NAME
    #[arg(value_name = "NAME")]
    name: String,
    /// Container and its new image; * stands for all containers
    #[arg(value_name = "CONTAINER=IMAGE")]
    pair: String,
    #[command(flatten)]
    acting: Acting,
}

impl Set {
    /// Does it.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        match &self.what {
            What::Image(image) => image.run(context).await,
        }
    }
}

impl Image {
    async fn run(&self, context: &Context) -> Result<()> {
        let pair = self
            .pair
            .split_once('=')
            .filter(|(container, image)| !container.is_empty() && !image.is_empty());
        let (container, image) = pair.ok_or_else(CliError::arguments)?;
        let action = Action {
            verb: "set image",
            kinds: &[Kind::Rollout],
        };
        action
            .run(
                context,
                std::slice::from_ref(&self.name),
                &self.acting,
                async |client, target, object| {
                    plan(context, client, &target.name, object, container, image).await
                },
            )
            .await
    }
}

async fn plan(
    context: &Context,
    client: &Client,
    name: &str,
    rollout: Value,
    container: &str,
    image: &str,
) -> Result<Plan> {
    let workload = rollout_of(rollout.clone()).spec.workload_ref;
    let (kind, owner, mut object) = match &workload {
        None => (Kind::Rollout, name.to_owned(), rollout),
        Some(workload) => {
            let kind = match workload.kind.as_str() {
                "Deployment" => Kind::Deployment,
                "ReplicaSet" => Kind::ReplicaSet,
                "PodTemplate" => Kind::PodTemplate,
                other => {
                    let text = format!("workload of type {other} is not supported");
                    return Err(CliError::new(exit::REFUSED, text));
                }
            };
            (
                kind,
                workload.name.clone(),
                read::object(context, client, kind, &workload.name).await?,
            )
        }
    };
    let before = object.clone();
    let pods = match kind {
        Kind::PodTemplate => "/template/spec",
        _ => PODS,
    };
    let found = set_image(&mut object, pods, container, image);
    if found == 0 {
        let known = names(&object, pods);
        return Err(CliError::new(
            exit::REFUSED,
            format!("unable to find container named \"{container}\""),
        )
        .field(format!("{}/containers", pods.trim_start_matches('/')).replace('/', "."))
        .hint(format!("containers are: {}", known.join(", "))));
    }
    let done = format!("{} \"{owner}\" image updated", kind.singular());
    if object == before {
        return Ok(Plan {
            write: Write::Merge(Change::default()),
            done,
            nothing: Some(format!(
                "{} \"{owner}\" has this image already: nothing to set",
                kind.singular()
            )),
        });
    }
    Ok(Plan {
        write: Write::Replace {
            kind,
            name: owner,
            object,
        },
        done,
        nothing: None,
    })
}

/// Where most objects have their pods.
const PODS: &str = "/spec/template/spec";

const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// Sets the image of the containers of this name, in the pod at this place, and tells how many there are.
fn set_image(object: &mut Value, pods: &str, container: &str, image: &str) -> usize {
    let mut found = 0;
    for list in LISTS {
        let path = format!("{pods}/{list}");
        let containers = object.pointer_mut(&path).and_then(Value::as_array_mut);
        for entry in containers.into_iter().flatten() {
            if container == "*" || entry["name"].as_str() == Some(container) {
                entry["image"] = json!(image);
                found += 1;
            }
        }
    }
    found
}

fn names(object: &Value, pods: &str) -> Vec<String> {
    LISTS
        .iter()
        .filter_map(|list| object.pointer(&format!("{pods}/{list}"))?.as_array())
        .flatten()
        .filter_map(|container| container["name"].as_str().map(str::to_owned))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods() -> Value {
        json!({"spec": {"template": {"spec": {
            "initContainers": [{"name": "i", "image": "i:1"}],
            "containers": [{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:1", "x-kept": true}],
            "ephemeralContainers": [{"name": "e", "image": "e:1"}]}}}})
    }

    #[test]
    fn cli_25_a_star_means_every_container_of_all_three_lists() {
        let mut object = pods();
        assert_eq!(set_image(&mut object, PODS, "*", "img:2"), 4);
        let images: Vec<_> = LISTS
            .iter()
            .flat_map(|list| {
                object["spec"]["template"]["spec"][list]
                    .as_array()
                    .expect("lists")
                    .clone()
            })
            .map(|container| container["image"].clone())
            .collect();
        assert_eq!(images, ["img:2"; 4]);
        assert_eq!(
            object["spec"]["template"]["spec"]["containers"][1]["x-kept"],
            json!(true)
        );
    }

    #[test]
    fn a_name_means_the_containers_of_that_name() {
        let mut object = pods();
        assert_eq!(set_image(&mut object, PODS, "b", "img@sha256:0a=b"), 1);
        assert_eq!(
            object["spec"]["template"]["spec"]["containers"][1]["image"],
            "img@sha256:0a=b"
        );
        assert_eq!(set_image(&mut object, PODS, "nope", "img:2"), 0);
    }
}
