//! The built-in checks of Canaries: what a Prometheus is asked, by whoever routes requests; and the variables of users' own queries.
//!
//! All of it is text. A query is told by the metric that counts requests, what selects the new version's, and what leaves the bad ones out.

use std::collections::BTreeMap;

/// What the variables of a query stand for: `name`, `namespace`, `target`, `service`, `ingress`, `route`, `interval`.
pub type Variables = BTreeMap<String, String>;

/// A query for the time of answers.
#[derive(Clone, Debug, PartialEq)]
pub struct DurationQuery {
    /// The query.
    pub text: String,
    /// By what its answer is multiplied to give milliseconds.
    pub to_milliseconds: f64,
}

/// The queries of one provider.
struct Set {
    /// The metric that counts requests.
    counts: &'static str,
    /// What selects those of the new version.
    selects: &'static str,
    /// What leaves the bad ones out.
    good: &'static str,
    /// What both counts select in addition.
    also: &'static str,
    /// The time of answers.
    time: Time,
}

/// How the time of answers is had.
enum Time {
    /// The 99th percentile of a histogram, with what it selects in addition, times a number.
    Percentile {
        histogram: &'static str,
        also: &'static str,
        times: &'static str,
        to_milliseconds: f64,
    },
    /// The mean, from the sum and the count of a metric in seconds.
    Mean(&'static str),
}

const fn percentile(histogram: &'static str) -> Time {
    Time::Percentile {
        histogram,
        also: "",
        times: "",
        to_milliseconds: 1.0,
    }
}

const PODS: &str = r#"kubernetes_namespace="{{ namespace }}",kubernetes_pod_name=~"{{ target }}-[0-9a-zA-Z]+(-[0-9a-zA-Z]+)""#;
const ENVOY: &str = "envoy_cluster_upstream_rq";
const ENVOY_GOOD: &str = r#"envoy_response_code!~"5.*""#;
const ENVOY_TIME: Time = percentile("envoy_cluster_upstream_rq_time_bucket");

/// The queries of a provider; the Istio set for one that has none of its own.
fn set(provider: &str) -> Set {
    let envoy = |selects| Set {
        counts: ENVOY,
        selects,
        good: ENVOY_GOOD,
        also: "",
        time: ENVOY_TIME,
    };
    match provider {
        one if one.starts_with("appmesh") => envoy(PODS),
        "contour" => {
            envoy(r#"envoy_cluster_name=~"{{ namespace }}_{{ service }}-canary_[0-9a-zA-Z-]+""#)
        }
        one if one.starts_with("gloo") => envoy(
            r#"envoy_cluster_name=~"{{ namespace }}-{{ target }}-canaryupstream-[0-9a-zA-Z-]+_[0-9a-zA-Z-]+""#,
        ),
        "kuma" => envoy(r#"service=~"{{ target }}-canary_{{ namespace }}_svc_[0-9a-zA-Z-]+""#),
        "knative" => envoy(r#"envoy_cluster_name=~"{{ namespace }}/{{ route }}""#),
        "linkerd" => Set {
            counts: "response_total",
            selects: r#"namespace="{{ namespace }}",deployment=~"{{ target }}",direction="inbound""#,
            good: r#"classification!="failure""#,
            also: "",
            time: percentile("response_latency_ms_bucket"),
        },
        one if one == "kubernetes" || one.starts_with("gatewayapi") => Set {
            counts: "http_request_duration_seconds_count",
            selects: PODS,
            good: r#"status!~"5.*""#,
            also: "",
            time: Time::Percentile {
                histogram: "http_request_duration_seconds_bucket",
                also: "",
                times: "",
                to_milliseconds: 1000.0,
            },
        },
        "osm" => Set {
            counts: "osm_request_total",
            selects: r#"destination_namespace="{{ namespace }}",destination_kind="Deployment",destination_name="{{ target }}""#,
            good: r#"response_code!~"5.*""#,
            also: "",
            time: percentile("osm_request_duration_ms_bucket"),
        },
        "apisix" => Set {
            counts: "apisix_http_status",
            selects: r#"route=~"{{ namespace }}_{{ route }}-{{ target }}-canary_.+""#,
            good: r#"code!~"5..""#,
            also: "",
            time: Time::Percentile {
                histogram: "apisix_http_latency_bucket",
                also: r#"type=~"request""#,
                times: "",
                to_milliseconds: 1.0,
            },
        },
        "traefik" => Set {
            counts: "traefik_service_request_duration_seconds_bucket",
            selects: r#"service=~"{{ namespace }}-{{ target }}-canary-[0-9a-zA-Z-]+@kubernetescrd""#,
            good: r#"code!~"5..""#,
            also: r#"le="+Inf""#,
            time: Time::Percentile {
                histogram: "traefik_service_request_duration_seconds_bucket",
                also: "",
                times: " * 1000",
                to_milliseconds: 1.0,
            },
        },
        "nginx" => Set {
            counts: "nginx_ingress_controller_requests",
            selects: r#"namespace="{{ namespace }}",ingress="{{ ingress }}",canary!="""#,
            good: r#"status!~"5.*""#,
            also: "",
            time: Time::Mean("nginx_ingress_controller_response_duration_seconds"),
        },
        "skipper" => Set {
            counts: "skipper_response_duration_seconds_bucket",
            selects: r#"route=~"kube(ew)?_{{ namespace }}__{{ ingress }}_canary__.*__{{ service }}_canary(_[0-9]+)?""#,
            good: r#"code!~"5..""#,
            also: r#"le="+Inf""#,
            time: Time::Mean("skipper_serve_route_duration_seconds"),
        },
        _ => Set {
            counts: "istio_requests_total",
            selects: r#"reporter="destination",destination_workload_namespace="{{ namespace }}",destination_workload=~"{{ target }}""#,
            good: r#"response_code!~"5.*""#,
            also: "",
            time: percentile("istio_request_duration_milliseconds_bucket"),
        },
    }
}

/// The percentage of good answers of the new version, as a provider is asked for it.
pub fn success_rate(provider: &str, variables: &Variables) -> String {
    let set = set(provider);
    let rate = |good: &str| {
        let selected = selectors(&[set.selects, good, set.also]);
        format!(
            "sum(rate({}{{{selected}}}[{{{{ interval }}}}]))",
            set.counts
        )
    };
    let text = format!("{} / {} * 100", rate(set.good), rate(""));
    fill(&text, &readable(provider, variables))
}

/// The time of answers of the new version, as a provider is asked for it.
pub fn request_duration(provider: &str, variables: &Variables) -> DurationQuery {
    let set = set(provider);
    let (text, to_milliseconds) = match set.time {
        Time::Percentile {
            histogram,
            also,
            times,
            to_milliseconds,
        } => {
            let selected = selectors(&[also, set.selects]);
            let rate = format!("rate({histogram}{{{selected}}}[{{{{ interval }}}}])");
            (
                format!("histogram_quantile(0.99, sum({rate}) by (le)){times}"),
                to_milliseconds,
            )
        }
        Time::Mean(metric) => {
            let part = |ending: &str| {
                let selected = set.selects;
                format!("sum(rate({metric}_{ending}{{{selected}}}[{{{{ interval }}}}]))")
            };
            (format!("{} / {} * 1000", part("sum"), part("count")), 1.0)
        }
    };
    DurationQuery {
        text: fill(&text, &readable(provider, variables)),
        to_milliseconds,
    }
}

fn selectors(parts: &[&str]) -> String {
    let parts: Vec<&str> = parts
        .iter()
        .copied()
        .filter(|part| !part.is_empty())
        .collect();
    parts.join(",")
}

/// Skipper writes names with letters, digits and `_` only.
fn readable(provider: &str, variables: &Variables) -> Variables {
    let mut variables = variables.clone();
    if provider == "skipper" {
        for (name, value) in &mut variables {
            if name != "interval" {
                let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
                *value = value.chars().map(plain).collect();
            }
        }
    }
    variables
}

/// Built-in queries know all of their variables.
fn fill(text: &str, variables: &Variables) -> String {
    let mut text = text.to_owned();
    for (name, value) in variables {
        text = text.replace(&format!("{{{{ {name} }}}}"), value);
    }
    text
}

/// A user's query with its variables put in: `{{ target }}`, `{{ variables.x }}`, with or without blanks.
///
/// # Errors
/// A variable that nobody knows, or a part that is not closed.
pub fn render(
    query: &str,
    variables: &Variables,
    template_variables: &Variables,
) -> Result<String, String> {
    let mut text = String::new();
    let mut rest = query;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((expression, next)) = after.split_once("}}") else {
            return Err("unclosed action".to_owned());
        };
        // A dash eats the blanks on its side.
        let eats_before = expression.starts_with("- ");
        let eats_after = expression.ends_with(" -");
        text.push_str(if eats_before {
            before.trim_end()
        } else {
            before
        });
        let expression = expression
            .trim_start_matches('-')
            .trim_end_matches('-')
            .trim();
        let value = match expression.split_once('.') {
            None => variables.get(expression),
            Some(("variables", name)) => template_variables.get(name),
            Some(_) => None,
        };
        let Some(value) = value else {
            return Err(match expression.strip_prefix("variables.") {
                Some(name) => format!("map has no entry for key \"{name}\""),
                None => format!("function \"{expression}\" not defined"),
            });
        };
        text.push_str(value);
        rest = if eats_after { next.trim_start() } else { next };
    }
    text.push_str(rest);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Variables {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn shop(interval: &str) -> Variables {
        variables(&[
            ("name", "shop"),
            ("namespace", "web"),
            ("target", "shop"),
            ("service", "front"),
            ("ingress", "door"),
            ("route", "way"),
            ("interval", interval),
        ])
    }

    /// Without blanks, in which queries may differ.
    fn dense(text: &str) -> String {
        text.chars().filter(|c| !c.is_whitespace()).collect()
    }

    #[test]
    fn queries_are_those_that_the_reference_was_recorded_sending() {
        let recorded = include_str!("../tests/data/canary_queries.txt");
        let mut count = 0;
        for block in recorded.split("===\n").filter(|block| !block.is_empty()) {
            let (provider, queries) = block.split_once('\n').expect("a provider and queries");
            let queries: Vec<&str> = queries.split("---\n").map(str::trim).collect();
            let at = |interval: &str| {
                variables(&[
                    ("name", "app"),
                    ("namespace", "ns"),
                    ("target", "app"),
                    ("service", "app"),
                    ("ingress", "app"),
                    ("route", "app"),
                    ("interval", interval),
                ])
            };
            assert_eq!(
                dense(&success_rate(provider, &at("1m"))),
                dense(queries[0]),
                "{provider}"
            );
            let duration = request_duration(provider, &at("30s"));
            assert_eq!(dense(&duration.text), dense(queries[1]), "{provider}");
            count += 1;
        }
        assert_eq!(count, 4);
    }

    #[test]
    fn every_provider_asks_about_the_new_version_and_has_its_variables_put_in() {
        for provider in [
            "appmesh",
            "linkerd",
            "istio",
            "contour",
            "gloo",
            "nginx",
            "kubernetes",
            "gatewayapi:v1",
            "skipper",
            "traefik",
            "osm",
            "kuma",
            "apisix",
            "knative",
            "smi:v1alpha1",
        ] {
            let rate = success_rate(provider, &shop("1m"));
            let duration = request_duration(provider, &shop("1m"));
            for text in [&rate, &duration.text] {
                assert!(!text.contains("{{"), "{provider}: {text}");
                assert!(text.contains("web"), "{provider}: {text}");
            }
            assert!(rate.ends_with("* 100"), "{provider}: {rate}");
            let seconds = ["kubernetes", "gatewayapi:v1"].contains(&provider);
            assert!((duration.to_milliseconds - if seconds { 1000.0 } else { 1.0 }).abs() < 0.1);
        }
        assert_eq!(
            success_rate("smi:v1alpha1", &shop("1m")),
            success_rate("istio", &shop("1m"))
        );
        assert_eq!(
            success_rate("traefik", &shop("1m")),
            r#"sum(rate(traefik_service_request_duration_seconds_bucket{service=~"web-shop-canary-[0-9a-zA-Z-]+@kubernetescrd",code!~"5..",le="+Inf"}[1m])) / sum(rate(traefik_service_request_duration_seconds_bucket{service=~"web-shop-canary-[0-9a-zA-Z-]+@kubernetescrd",le="+Inf"}[1m])) * 100"#
        );
        let mut dashed = shop("1m");
        dashed.insert("ingress".to_owned(), "front-door.web".to_owned());
        assert_eq!(
            request_duration("skipper", &dashed).text,
            r#"sum(rate(skipper_serve_route_duration_seconds_sum{route=~"kube(ew)?_web__front_door_web_canary__.*__front_canary(_[0-9]+)?"}[1m])) / sum(rate(skipper_serve_route_duration_seconds_count{route=~"kube(ew)?_web__front_door_web_canary__.*__front_canary(_[0-9]+)?"}[1m])) * 1000"#
        );
    }

    #[test]
    fn users_queries_have_their_variables_put_in_or_are_refused() {
        let own = variables(&[("v", "abc")]);
        let render = |query: &str| render(query, &shop("1m"), &own);
        assert_eq!(
            render(
                r#"x{n="{{ namespace }}",t="{{target}}",v="{{ variables.v }}"}[{{ interval }}]"#
            ),
            Ok(r#"x{n="web",t="shop",v="abc"}[1m]"#.to_owned())
        );
        assert_eq!(render("a {{- target -}} b"), Ok("ashopb".to_owned()));
        assert_eq!(render("plain"), Ok("plain".to_owned()));
        assert_eq!(
            render("{{ variables.none }}"),
            Err("map has no entry for key \"none\"".to_owned())
        );
        assert_eq!(
            render("{{ nobody }}"),
            Err("function \"nobody\" not defined".to_owned())
        );
        assert_eq!(render("{{ target"), Err("unclosed action".to_owned()));
    }
}
