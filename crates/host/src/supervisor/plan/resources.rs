//! `resourceFieldRef`: what a container may use, as its template says, or what the machine has.
//!
//! Nothing limits a container on one machine; but programs size themselves by these numbers, so they are told
//! what they would be told in a cluster.

use std::num::NonZeroUsize;

use k8s_openapi::api::core::v1 as k8s;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// The value of a reference made by the container `own`, or by a volume.
///
/// # Errors
/// In words, when the reference or a quantity makes no sense.
pub(super) fn value(
    reference: &k8s::ResourceFieldSelector,
    own: Option<&k8s::Container>,
    spec: &k8s::PodSpec,
) -> Result<String, String> {
    let container = match reference.container_name.as_deref().unwrap_or_default() {
        "" => own.ok_or("resourceFieldRef.containerName is missing")?,
        name => {
            let mut all = spec
                .init_containers
                .iter()
                .flatten()
                .chain(&spec.containers);
            all.find(|container| container.name == name)
                .ok_or_else(|| {
                    format!("resourceFieldRef.containerName: there is no container `{name}`")
                })?
        }
    };
    let unknown = || {
        format!(
            "resourceFieldRef.resource: `{}` is not supported on one machine",
            reference.resource
        )
    };
    let (kind, name) = reference.resource.split_once('.').ok_or_else(unknown)?;
    let resources = container.resources.as_ref();
    let written = match kind {
        "limits" => resources.and_then(|resources| resources.limits.as_ref()),
        "requests" => resources.and_then(|resources| resources.requests.as_ref()),
        _ => return Err(unknown()),
    };
    let amount = match (written.and_then(|list| list.get(name)), kind, name) {
        (Some(quantity), ..) => parse(quantity)?,
        // As in a cluster: no limit means all of the machine, no request means none.
        (None, "limits", "cpu") => {
            std::thread::available_parallelism().map_or(1, NonZeroUsize::get) as f64
        }
        (None, "limits", "memory") => memory_bytes(),
        (None, "requests", _) => 0.0,
        _ => return Err(unknown()),
    };
    let divisor = match &reference.divisor {
        Some(divisor) if !matches!(divisor.0.as_str(), "" | "0") => parse(divisor)?,
        _ => 1.0,
    };
    if divisor <= 0.0 {
        return Err("resourceFieldRef.divisor must be more than 0".to_owned());
    }
    // Rounded up, as Kubernetes does: half a CPU is one.
    Ok(((amount / divisor - 1e-9).ceil() as u64).to_string())
}

fn memory_bytes() -> f64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes = total.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kibibytes.unwrap_or_default() * 1024.0
}

/// A Kubernetes quantity as a number of its unit: `500m`, `64Mi`, `1e3`, `2G`.
fn parse(quantity: &Quantity) -> Result<f64, String> {
    let text = quantity.0.trim();
    let factors: [(&str, f64); 15] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
    ];
    let suffixed = factors
        .iter()
        .find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, *factor)));
    let (digits, factor) = suffixed.unwrap_or((text, 1.0));
    let plain = digits.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '.'));
    let number = digits
        .parse::<f64>()
        .ok()
        .filter(|number| plain && number.is_finite());
    number
        .map(|number| number * factor)
        .ok_or_else(|| format!("`{text}` is not a quantity"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn told(resources: &Value, reference: &Value) -> Result<String, String> {
        let side = json!({"name": "side", "resources": {"limits": {"memory": "1Gi"}}});
        let spec = json!({"initContainers": [side], "containers": [{"name": "web", "resources": resources}]});
        let spec: k8s::PodSpec = serde_json::from_value(spec).expect("a pod");
        value(
            &serde_json::from_value(reference.clone()).expect("a reference"),
            spec.containers.first(),
            &spec,
        )
    }

    #[test]
    fn quantities_are_told_in_units_of_the_divisor_rounded_up() {
        let resources =
            json!({"limits": {"cpu": "1500m", "memory": "64Mi"}, "requests": {"cpu": "250m"}});
        for (reference, wanted) in [
            (json!({"resource": "limits.cpu"}), "2"),
            (json!({"resource": "limits.cpu", "divisor": "1m"}), "1500"),
            (json!({"resource": "requests.cpu"}), "1"),
            (json!({"resource": "limits.memory"}), "67108864"),
            (json!({"resource": "limits.memory", "divisor": "1Mi"}), "64"),
            (
                json!({"resource": "limits.memory", "divisor": "1Mi", "containerName": "side"}),
                "1024",
            ),
            (json!({"resource": "requests.memory"}), "0"),
        ] {
            assert_eq!(
                told(&resources, &reference).as_deref(),
                Ok(wanted),
                "{reference}"
            );
        }
        let all: u64 = told(&json!({}), &json!({"resource": "limits.memory"}))
            .expect("known")
            .parse()
            .expect("number");
        assert!(all > 1 << 20);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (resources, reference, wanted) in [
            (
                json!({}),
                json!({"resource": "limits.gpu"}),
                "resourceFieldRef.resource: `limits.gpu` is not supported on one machine",
            ),
            (
                json!({}),
                json!({"resource": "cpu"}),
                "resourceFieldRef.resource: `cpu` is not supported on one machine",
            ),
            (
                json!({}),
                json!({"resource": "limits.cpu", "containerName": "db"}),
                "resourceFieldRef.containerName: there is no container `db`",
            ),
            (
                json!({"limits": {"cpu": "many"}}),
                json!({"resource": "limits.cpu"}),
                "`many` is not a quantity",
            ),
        ] {
            assert_eq!(told(&resources, &reference), Err(wanted.to_owned()));
        }
    }
}
