//! What people see of Canaries at one moment, by thing.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Namespace;

/// What people see at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen(pub BTreeMap<String, String>);

impl Seen {
    /// What is seen now.
    pub(super) fn of(namespace: &Namespace) -> Self {
        let mut seen = Self::default();
        for ((kind, name), object) in &namespace.objects {
            match kind.as_str() {
                "Canary" => seen.canary(name, &object["status"]),
                "Deployment" => {
                    let replicas = &object["spec"]["replicas"];
                    let image = &object["spec"]["template"]["spec"]["containers"][0]["image"];
                    seen.deployment(name, replicas, image);
                }
                "Service" => {
                    seen.service(name, &object["spec"]["selector"], &object["spec"]["ports"]);
                }
                "HorizontalPodAutoscaler" => seen.spec("hpa", name, &object["spec"]),
                "ConfigMap" => seen.spec("configmap", name, &object["data"]),
                _ => {}
            }
        }
        for (canary, route) in &namespace.routes {
            let shares = route.shares;
            seen.route(canary, shares.primary, shares.canary, shares.mirrored);
        }
        seen
    }

    /// A Canary's status: everything but times, checksums and hashes.
    pub(super) fn canary(&mut self, name: &str, status: &Value) {
        let number = |member: &str| status[member].as_i64().unwrap_or(0);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let condition = &status["conditions"][0];
        let seen = format!(
            "{} weight {} failed {} iterations {} {}/{}: {}{}",
            text(&status["phase"]),
            number("canaryWeight"),
            number("failedChecks"),
            number("iterations"),
            text(&condition["status"]),
            text(&condition["reason"]),
            text(&condition["message"]),
            if text(&status["sessionAffinityCookie"]).is_empty() {
                ""
            } else {
                " with a cookie"
            },
        );
        self.0.insert(format!("canary {name}"), seen);
    }

    pub(super) fn deployment(&mut self, name: &str, replicas: &Value, image: &Value) {
        let image = image.as_str().unwrap_or_default();
        self.0.insert(
            format!("deployment {name}"),
            format!("{replicas} of {image}"),
        );
    }

    pub(super) fn service(&mut self, name: &str, selector: &Value, ports: &Value) {
        self.0
            .insert(format!("service {name}"), format!("{selector} {ports}"));
    }

    pub(super) fn spec(&mut self, kind: &str, name: &str, spec: &Value) {
        self.0.insert(format!("{kind} {name}"), spec.to_string());
    }

    pub(super) fn route(&mut self, name: &str, primary: i32, canary: i32, mirrored: bool) {
        let mirrored = if mirrored { ", mirrored" } else { "" };
        self.0.insert(
            format!("route {name}"),
            format!("{primary}/{canary}{mirrored}"),
        );
    }

    /// Forgets a thing.
    pub(super) fn gone(&mut self, thing: &str) {
        self.0.remove(thing);
    }
}
