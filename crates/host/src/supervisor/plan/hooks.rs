//! Probes and lifecycle hooks: what they do, how often, and what they refuse.

use k8s_openapi::api::core::v1 as k8s;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::{Deserialize, Serialize};

use super::mounts::Mounts;

/// One probe with all its numbers. Seconds are the template's; see `Tuning::second`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Probe {
    pub(crate) action: ProbeAction,
    pub(crate) initial_delay_seconds: u32,
    pub(crate) period_seconds: u32,
    pub(crate) timeout_seconds: u32,
    pub(crate) success_threshold: u32,
    pub(crate) failure_threshold: u32,
    /// Replaces the pod's grace period when this probe ends the container.
    pub(crate) grace_seconds: Option<u32>,
}

/// What a probe tries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum ProbeAction {
    /// A GET that must be answered with 200 to 399.
    Http(HttpGet),
    /// A connection that must be accepted.
    Tcp {
        host: Option<String>,
        port: TargetPort,
    },
    /// A command that must end with 0.
    Exec { command: Vec<String> },
}

/// A GET.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct HttpGet {
    pub(crate) host: Option<String>,
    pub(crate) port: TargetPort,
    pub(crate) path: String,
    pub(crate) https: bool,
    pub(crate) headers: Vec<(String, String)>,
}

/// The port that a probe or hook goes to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum TargetPort {
    /// One that a container of the pod declares, and that has a local port.
    Declared {
        container: String,
        container_port: u16,
    },
    /// A number that nobody declares, or on another host: taken as it is.
    AsItIs(u16),
}

/// What a lifecycle hook does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Hook {
    Http(HttpGet),
    Exec { command: Vec<String> },
    Sleep { seconds: u32 },
}

/// The ports of a pod, own container first, by which names and numbers are resolved.
pub(super) struct PortBook<'a> {
    pub(super) own: &'a str,
    /// Container, name, number.
    pub(super) ports: &'a [(String, Option<String>, u16)],
}

impl PortBook<'_> {
    fn resolve(&self, port: &IntOrString, host: Option<&str>) -> Result<TargetPort, String> {
        let matches = |(_, name, number): &&(String, Option<String>, u16)| match port {
            IntOrString::Int(wanted) => i32::from(*number) == *wanted,
            IntOrString::String(wanted) => {
                name.as_deref() == Some(wanted) || number.to_string() == *wanted
            }
        };
        // A port of another host is not one of ours, whatever its number.
        if host.is_none_or(is_this_pod) {
            let mut found = self.ports.iter().filter(matches).collect::<Vec<_>>();
            found.sort_by_key(|(container, ..)| container != self.own);
            if let Some((container, _, number)) = found.first() {
                return Ok(TargetPort::Declared {
                    container: container.clone(),
                    container_port: *number,
                });
            }
        }
        let number = match port {
            IntOrString::Int(number) => u16::try_from(*number).ok(),
            IntOrString::String(text) => text.parse().ok(),
        };
        match (number, port) {
            (Some(number), _) if number > 0 => Ok(TargetPort::AsItIs(number)),
            (_, IntOrString::String(name)) => Err(format!(
                "port `{name}` is not the name of a port of this pod; declare it under ports"
            )),
            (_, IntOrString::Int(number)) => Err(format!(
                "port {number} is not a port number; use a value from 1 to 65535"
            )),
        }
    }
}

fn is_this_pod(host: &str) -> bool {
    matches!(host, "" | "localhost" | "127.0.0.1" | "::1" | "[::1]")
}

/// Reads a probe. `Err` says what is wrong below the probe's own path.
pub(super) fn probe(
    probe: &k8s::Probe,
    book: &PortBook<'_>,
    mounts: &Mounts,
) -> Result<Probe, String> {
    let action = match (&probe.http_get, &probe.tcp_socket, &probe.exec, &probe.grpc) {
        (Some(get), None, None, None) => ProbeAction::Http(http_get(get, book)?),
        (None, Some(tcp), None, None) => ProbeAction::Tcp {
            port: book
                .resolve(&tcp.port, tcp.host.as_deref())
                .map_err(|e| format!("tcpSocket.{e}"))?,
            host: given(tcp.host.as_ref()),
        },
        (None, None, Some(exec), None) => ProbeAction::Exec {
            command: command(exec, mounts)?,
        },
        (None, None, None, Some(_)) => {
            return Err(
                "grpc probes are not supported on one machine; use httpGet, tcpSocket or exec"
                    .to_owned(),
            );
        }
        _ => return Err("needs exactly one of httpGet, tcpSocket and exec".to_owned()),
    };
    Ok(Probe {
        action,
        initial_delay_seconds: number(probe.initial_delay_seconds, 0, 0, "initialDelaySeconds")?,
        period_seconds: number(probe.period_seconds, 10, 1, "periodSeconds")?,
        timeout_seconds: number(probe.timeout_seconds, 1, 1, "timeoutSeconds")?,
        success_threshold: number(probe.success_threshold, 1, 1, "successThreshold")?,
        failure_threshold: number(probe.failure_threshold, 3, 1, "failureThreshold")?,
        grace_seconds: probe
            .termination_grace_period_seconds
            .map(|s| u32::try_from(s).unwrap_or(1)),
    })
}

/// A number of the template: absent and 0 mean the default, as the API server fills it in.
fn number(value: Option<i32>, default: u32, least: u32, field: &str) -> Result<u32, String> {
    let value = value.unwrap_or_default();
    match u32::try_from(value) {
        Ok(0) => Ok(default),
        Ok(given) if given >= least => Ok(given),
        _ => Err(format!("{field}: {value} is less than {least}")),
    }
}

/// Reads a lifecycle handler. `Err` says what is wrong below the handler's own path.
pub(super) fn hook(
    handler: &k8s::LifecycleHandler,
    book: &PortBook<'_>,
    mounts: &Mounts,
) -> Result<Hook, String> {
    match (&handler.http_get, &handler.exec, &handler.sleep, &handler.tcp_socket) {
        (Some(get), None, None, None) => Ok(Hook::Http(http_get(get, book)?)),
        (None, Some(exec), None, None) => Ok(Hook::Exec { command: command(exec, mounts)? }),
        (None, None, Some(sleep), None) => u32::try_from(sleep.seconds)
            .map(|seconds| Hook::Sleep { seconds })
            .map_err(|_| format!("sleep.seconds: {} is not a number of seconds", sleep.seconds)),
        (None, None, None, Some(_)) => {
            Err("tcpSocket does nothing as a lifecycle hook, in Kubernetes either; use exec, httpGet or sleep".to_owned())
        }
        _ => Err("needs exactly one of exec, httpGet and sleep".to_owned()),
    }
}

fn http_get(get: &k8s::HTTPGetAction, book: &PortBook<'_>) -> Result<HttpGet, String> {
    let path = get.path.as_deref().unwrap_or_default();
    Ok(HttpGet {
        port: book
            .resolve(&get.port, get.host.as_deref())
            .map_err(|e| format!("httpGet.{e}"))?,
        host: given(get.host.as_ref()),
        path: if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("/{path}")
        },
        https: get
            .scheme
            .as_deref()
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")),
        headers: get
            .http_headers
            .iter()
            .flatten()
            .map(|h| (h.name.clone(), h.value.clone()))
            .collect(),
    })
}

fn command(exec: &k8s::ExecAction, mounts: &Mounts) -> Result<Vec<String>, String> {
    match exec.command.as_deref() {
        None | Some([]) => Err("exec.command is empty".to_owned()),
        Some(words) => Ok(words.iter().map(|word| mounts.replace(word)).collect()),
    }
}

fn given(text: Option<&String>) -> Option<String> {
    text.filter(|text| !text.is_empty()).cloned()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(value: Value) -> Result<Probe, String> {
        let ports = [
            ("side".to_owned(), Some("metrics".to_owned()), 8080),
            ("web".to_owned(), Some("http".to_owned()), 8080),
        ];
        let book = PortBook {
            own: "web",
            ports: &ports,
        };
        probe(
            &serde_json::from_value(value).expect("a probe"),
            &book,
            &Mounts::default(),
        )
    }

    #[test]
    fn a_probe_that_gives_no_numbers_gets_those_of_kubernetes() {
        let probe = read(json!({"tcpSocket": {"port": "http"}})).expect("valid");
        assert_eq!(
            probe,
            Probe {
                action: ProbeAction::Tcp {
                    host: None,
                    port: TargetPort::Declared {
                        container: "web".to_owned(),
                        container_port: 8080
                    }
                },
                initial_delay_seconds: 0,
                period_seconds: 10,
                timeout_seconds: 1,
                success_threshold: 1,
                failure_threshold: 3,
                grace_seconds: None,
            }
        );
    }

    #[test]
    fn a_probes_port_is_a_name_a_number_or_as_it_is() {
        let port = |value: Value| match read(json!({"httpGet": {"port": value}}))
            .map(|probe| probe.action)
        {
            Ok(ProbeAction::Http(get)) => Ok(get.port),
            Ok(other) => Err(format!("{other:?}")),
            Err(error) => Err(error),
        };
        let declared = |container: &str| {
            Ok(TargetPort::Declared {
                container: container.to_owned(),
                container_port: 8080,
            })
        };
        assert_eq!(port(json!("http")), declared("web"));
        assert_eq!(port(json!("metrics")), declared("side"));
        // Both containers declare 8080: the own one is meant.
        assert_eq!(port(json!(8080)), declared("web"));
        assert_eq!(port(json!("8080")), declared("web"));
        assert_eq!(port(json!(9000)), Ok(TargetPort::AsItIs(9000)));
        let unknown =
            "httpGet.port `grpc` is not the name of a port of this pod; declare it under ports";
        assert_eq!(port(json!("grpc")), Err(unknown.to_owned()));
        assert_eq!(
            port(json!(70000)),
            Err("httpGet.port 70000 is not a port number; use a value from 1 to 65535".to_owned())
        );
    }

    #[test]
    fn what_cannot_be_probed_is_refused_by_name() {
        for (value, wanted) in [
            (
                json!({"grpc": {"port": 1}}),
                "grpc probes are not supported on one machine; use httpGet, tcpSocket or exec",
            ),
            (
                json!({}),
                "needs exactly one of httpGet, tcpSocket and exec",
            ),
            (
                json!({"exec": {"command": ["a"]}, "tcpSocket": {"port": 1}}),
                "needs exactly one of httpGet, tcpSocket and exec",
            ),
            (json!({"exec": {"command": []}}), "exec.command is empty"),
            (
                json!({"exec": {"command": ["a"]}, "periodSeconds": -1}),
                "periodSeconds: -1 is less than 1",
            ),
        ] {
            assert_eq!(read(value), Err(wanted.to_owned()));
        }
    }
}
