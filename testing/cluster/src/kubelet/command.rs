//! Containers that run for real, as commands of this machine: those of Jobs.

use std::collections::BTreeMap;
use std::process::Stdio;

use k8s_openapi::api::core::v1::{Container, Pod};
use kube::ResourceExt;
use tokio::process::{Child, Command};

/// True if the containers of a pod run for real: it belongs to a Job.
pub(super) fn is_real(pod: &Pod) -> bool {
    pod.owner_references()
        .iter()
        .any(|owner| owner.kind == "Job" && owner.controller == Some(true))
}

/// Starts the commands of all containers. They are killed when the result is dropped.
///
/// # Errors
/// The reason that a container's status gives for not being made.
pub(super) fn start(pod: &Pod) -> Result<Vec<Child>, String> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers.map(start_one).collect()
}

fn start_one(container: &Container) -> Result<Child, String> {
    let environment = environment(container)?;
    let words = container.command.iter().flatten();
    let mut words = words
        .chain(container.args.iter().flatten())
        .map(|word| expand(word, &environment));
    // An image's own command is not known here.
    if container.command.as_ref().is_none_or(Vec::is_empty) {
        return Err("CreateContainerError".to_owned());
    }
    let program = words.next().ok_or("CreateContainerError")?;
    Command::new(program)
        .args(words)
        .envs(&environment)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        // As a container runtime says it of a program that is not in the image.
        .map_err(|_| "CreateContainerError".to_owned())
}

/// The variables with plain values; one that is taken from elsewhere cannot be had here.
fn environment(container: &Container) -> Result<BTreeMap<String, String>, String> {
    let mut environment = BTreeMap::new();
    if container
        .env_from
        .as_ref()
        .is_some_and(|from| !from.is_empty())
    {
        return Err("CreateContainerConfigError".to_owned());
    }
    for variable in container.env.iter().flatten() {
        if variable.value_from.is_some() {
            return Err("CreateContainerConfigError".to_owned());
        }
        let value = expand(variable.value.as_deref().unwrap_or_default(), &environment);
        environment.insert(variable.name.clone(), value);
    }
    Ok(environment)
}

/// Puts in `$(NAME)` where NAME is known.
fn expand(text: &str, environment: &BTreeMap<String, String>) -> String {
    environment
        .iter()
        .fold(text.to_owned(), |text, (name, value)| {
            text.replace(&format!("$({name})"), value)
        })
}

/// Waits for all commands and returns their exit codes, in order; a command ended by signal N has 128 + N.
pub(super) async fn wait(children: &mut [Child]) -> Vec<i32> {
    let mut codes = Vec::with_capacity(children.len());
    for child in children {
        codes.push(match child.wait().await {
            Ok(status) => code(status),
            Err(_) => 255,
        });
    }
    codes
}

fn code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}
