//! The last step before a process starts: local ports and the addresses of Services are known, so `$(VAR)` and URLs can be replaced.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::names::Names;
use super::environment::port_variable;
use super::expand::expand;
use super::{ContainerPlan, LocalPort};

/// What is handed to the kernel.
#[derive(Clone)]
pub(crate) struct Rendered {
    /// Program and arguments; never empty.
    pub(crate) command: Vec<String>,
    /// The whole environment.
    pub(crate) environment: BTreeMap<String, String>,
    /// Where it starts.
    pub(crate) working_dir: PathBuf,
}

impl Rendered {
    /// The words of another command of the same container, `$(VAR)` replaced.
    pub(crate) fn expand(&self, words: &[String]) -> Vec<String> {
        words
            .iter()
            .map(|word| expand(word, |name| self.environment.get(name).map(String::as_str)))
            .collect()
    }
}

/// What marks every process of a pod, and of one container of it, as long as it does not wipe its environment:
/// the pod's folder, since uids are only as unique as those who give them.
pub(crate) fn marks(pod_folder: &Path, container: Option<&str>) -> Vec<String> {
    let mut marks = vec![format!("{POD_MARK}={}", pod_folder.display())];
    marks.extend(container.map(|name| format!("{CONTAINER_MARK}={name}")));
    marks
}

const POD_MARK: &str = "CROSSFADE_POD";
const CONTAINER_MARK: &str = "CROSSFADE_CONTAINER";

/// Command and environment with the pod's local ports, and with Services where they are found here.
pub(crate) fn render(
    pod_folder: &Path,
    container: &ContainerPlan,
    ports: &[LocalPort],
    services: &Names,
) -> Rendered {
    let port_variables = port_variables(&container.name, ports);
    let mut known: BTreeMap<String, String> = port_variables.clone();
    for variable in &container.environment {
        let text = variable.value.reveal();
        let value = if variable.expand {
            expand(text, |name| known.get(name).map(String::as_str))
        } else {
            text.to_owned()
        };
        known.insert(variable.name.clone(), services.replace(&value));
    }
    // A port of another container gives way to what this one sets; its own ports give way to nothing.
    for port in ports.iter().filter(|port| port.container == container.name) {
        for name in names(port) {
            if let Some(value) = port_variables.get(&name) {
                known.insert(name, value.clone());
            }
        }
    }
    if ports.iter().any(|port| port.container == container.name) {
        known.extend(
            port_variables
                .get("PORT")
                .map(|port| ("PORT".to_owned(), port.clone())),
        );
    }
    let command = container
        .command
        .iter()
        .map(|word| services.replace(&expand(word, |name| known.get(name).map(String::as_str))))
        .collect();
    let mut environment = container.inherited.clone();
    environment.extend(known);
    environment.insert(POD_MARK.to_owned(), pod_folder.display().to_string());
    environment.insert(CONTAINER_MARK.to_owned(), container.name.clone());
    Rendered {
        command,
        environment,
        working_dir: container.working_dir.clone(),
    }
}

/// `PORT` and `PORT_<…>`: those of the whole pod, the container's own winning over equal names of others.
fn port_variables(container: &str, ports: &[LocalPort]) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    let (own, others): (Vec<_>, Vec<_>) =
        ports.iter().partition(|port| port.container == container);
    for port in others.iter().chain(&own) {
        for name in names(port) {
            out.insert(name, port.local_port.to_string());
        }
    }
    if let Some(first) = own.first() {
        out.insert("PORT".to_owned(), first.local_port.to_string());
    }
    out
}

fn names(port: &LocalPort) -> impl Iterator<Item = String> {
    [Some(port.container_port.to_string()), port.name.clone()]
        .into_iter()
        .flatten()
        .map(|name| port_variable(&name))
}

#[cfg(test)]
mod tests {
    use super::super::super::materials::Sensitive;
    use super::super::super::status::Role;
    use super::super::{Protocol, Variable};
    use super::*;

    fn port(
        container: &str,
        name: Option<&str>,
        container_port: u16,
        local_port: u16,
    ) -> LocalPort {
        LocalPort {
            container: container.to_owned(),
            name: name.map(str::to_owned),
            container_port,
            protocol: Protocol::Tcp,
            local_port,
        }
    }

    fn variable(name: &str, value: &str, expand: bool) -> Variable {
        Variable {
            name: name.to_owned(),
            value: Sensitive::new(value),
            expand,
        }
    }

    #[test]
    fn ports_arrive_by_name_by_number_and_in_references() {
        let container = ContainerPlan {
            name: "web".to_owned(),
            image: String::new(),
            role: Role::Main,
            command: vec![
                "serve".to_owned(),
                "--listen=:$(PORT)".to_owned(),
                "$(URL)".to_owned(),
            ],
            inherited: BTreeMap::from([("PATH".to_owned(), "/bin".to_owned())]),
            environment: vec![
                variable("URL", "http://localhost:$(PORT_METRICS)/$(LATER)", true),
                variable("LATER", "x", true),
                variable("SECRET", "$(PORT)", false),
                // Another container's port may be called what this one already uses.
                variable("PORT_ADMIN", "mine", true),
            ],
            working_dir: PathBuf::from("/"),
            ports: Vec::new(),
            startup: None,
            liveness: None,
            readiness: None,
            post_start: None,
            pre_stop: None,
        };
        let ports = [
            port("web", Some("http"), 8080, 20001),
            port("web", Some("metrics"), 9090, 20002),
            port("side", Some("admin"), 8080, 20003),
        ];
        let rendered = render(
            Path::new("/pods/u1"),
            &container,
            &ports,
            &Names::read(Path::new("/nowhere"), "prod", &[]),
        );
        assert_eq!(
            rendered.command,
            [
                "serve",
                "--listen=:20001",
                "http://localhost:20002/$(LATER)"
            ]
        );
        let value = |name: &str| rendered.environment.get(name).map(String::as_str);
        assert_eq!(value("PORT"), Some("20001"));
        assert_eq!(value("PORT_HTTP"), Some("20001"));
        assert_eq!(value("PORT_8080"), Some("20001"));
        assert_eq!(value("PORT_9090"), Some("20002"));
        assert_eq!(value("PORT_ADMIN"), Some("mine"));
        assert_eq!(value("SECRET"), Some("$(PORT)"));
        assert_eq!(value("PATH"), Some("/bin"));
        assert_eq!(value("CROSSFADE_POD"), Some("/pods/u1"));
    }
}
