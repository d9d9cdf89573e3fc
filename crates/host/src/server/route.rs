//! Which path means what.

use crate::store::{Kind, Scope, api_version};
use crate::wire::{Reason, Status};

/// What a path asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `/healthz`: the process answers.
    Health,
    /// `/readyz`: the control plane has taken up its work.
    Ready,
    /// All objects of a kind, in one namespace or in all.
    Collection(Collection),
    /// One object, or a part of it.
    Object(Place),
    /// Something below `/crossfade/v1`.
    Own(Own),
}

/// The objects of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Collection {
    pub(super) kind: Kind,
    /// As in the path: the answer speaks it, too.
    pub(super) version: String,
    pub(super) namespace: Option<String>,
}

/// One object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) kind: Kind,
    pub(super) version: String,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) aspect: Aspect,
}

/// Which part of an object is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aspect {
    Whole,
    Status,
    Scale,
    Log,
}

/// What is below `/crossfade/v1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Own {
    Apply,
    Audit,
    Info,
    Log {
        namespace: String,
        pod: String,
    },
    Explain {
        kind: Kind,
        namespace: String,
        name: String,
    },
    /// The rest of the path, with its slash.
    Prometheus(String),
}

/// Where the metric store's API begins.
pub(super) const PROMETHEUS: &str = "/crossfade/v1/prometheus";

impl Route {
    /// Reads a path.
    ///
    /// # Errors
    /// When nothing is there.
    pub(super) fn read(path: &str) -> Result<Self, Status> {
        let missing =
            || Status::failure(Reason::NotFound, format!("the host has nothing at {path}"));
        if let Some(rest) = path
            .strip_prefix(PROMETHEUS)
            .filter(|r| r.is_empty() || r.starts_with('/'))
        {
            return Ok(Self::Own(Own::Prometheus(rest.to_owned())));
        }
        let segments: Option<Vec<String>> = path
            .trim_matches('/')
            .split('/')
            .map(crate::wire::decode)
            .collect();
        let segments = segments.ok_or_else(missing)?;
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        match segments.as_slice() {
            ["healthz" | "livez"] => Ok(Self::Health),
            ["readyz"] => Ok(Self::Ready),
            ["crossfade", "v1", rest @ ..] => own(rest).map(Self::Own).ok_or_else(missing),
            ["api", version, rest @ ..] => {
                resource("", version, rest).unwrap_or_else(|| Err(missing()))
            }
            ["apis", group, version, rest @ ..] => {
                resource(group, version, rest).unwrap_or_else(|| Err(missing()))
            }
            _ => Err(missing()),
        }
    }
}

fn own(segments: &[&str]) -> Option<Own> {
    Some(match segments {
        ["apply"] => Own::Apply,
        ["audit"] => Own::Audit,
        ["info"] => Own::Info,
        ["namespaces", namespace, "pods", pod, "log"] => Own::Log {
            namespace: (*namespace).to_owned(),
            pod: (*pod).to_owned(),
        },
        [
            "namespaces",
            namespace,
            plural @ ("rollouts" | "canaries"),
            name,
            "explain",
        ] => Own::Explain {
            kind: if *plural == "canaries" {
                Kind::Canary
            } else {
                Kind::Rollout
            },
            namespace: (*namespace).to_owned(),
            name: (*name).to_owned(),
        },
        _ => return None,
    })
}

fn resource(group: &str, version: &str, segments: &[&str]) -> Option<Result<Route, Status>> {
    // `namespaces/x` is the Namespace itself, `namespaces/x/pods` what is in it; a Namespace's only part is its status.
    let (namespace, rest) = match segments {
        ["namespaces", namespace, rest @ ..] if !matches!(rest, [] | ["status"]) => {
            (Some((*namespace).to_owned()), rest)
        }
        rest => (None, rest),
    };
    let (plural, rest) = rest.split_first()?;
    let Some(kind) = Kind::of_path(group, version, plural) else {
        let what = format!(
            "the host knows no resource {plural:?} in {}",
            api_version(group, version)
        );
        return Some(Err(Status::failure(Reason::NotFound, what)));
    };
    if namespace.is_some() && kind.scope() == Scope::Cluster {
        return None;
    }
    let version = version.to_owned();
    let (name, aspect) = match rest {
        [] => {
            return Some(Ok(Route::Collection(Collection {
                kind,
                version,
                namespace,
            })));
        }
        [name] => (*name, Aspect::Whole),
        [name, "status"] => (*name, Aspect::Status),
        [name, "scale"] => (*name, Aspect::Scale),
        [name, "log"] if kind == Kind::Pod => (*name, Aspect::Log),
        _ => return None,
    };
    if namespace.is_none() && kind.scope() == Scope::Namespaced {
        return None;
    }
    let place = Place {
        kind,
        version,
        namespace: namespace.unwrap_or_default(),
        name: name.to_owned(),
        aspect,
    };
    Some(Ok(Route::Object(place)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(kind: Kind, version: &str, namespace: &str, name: &str, aspect: Aspect) -> Route {
        let (version, namespace, name) =
            (version.to_owned(), namespace.to_owned(), name.to_owned());
        Route::Object(Place {
            kind,
            version,
            namespace,
            name,
            aspect,
        })
    }

    fn all(kind: Kind, version: &str, namespace: Option<&str>) -> Route {
        Route::Collection(Collection {
            kind,
            version: version.to_owned(),
            namespace: namespace.map(str::to_owned),
        })
    }

    #[test]
    fn paths_mean_what_they_mean_in_kubernetes() {
        let table = [
            ("/api/v1/pods", all(Kind::Pod, "v1", None)),
            (
                "/api/v1/namespaces/shop/pods",
                all(Kind::Pod, "v1", Some("shop")),
            ),
            ("/api/v1/namespaces", all(Kind::Namespace, "v1", None)),
            (
                "/api/v1/namespaces/shop",
                place(Kind::Namespace, "v1", "", "shop", Aspect::Whole),
            ),
            (
                "/api/v1/namespaces/shop/status",
                place(Kind::Namespace, "v1", "", "shop", Aspect::Status),
            ),
            (
                "/api/v1/namespaces/shop/pods/a",
                place(Kind::Pod, "v1", "shop", "a", Aspect::Whole),
            ),
            (
                "/api/v1/namespaces/shop/pods/a/log",
                place(Kind::Pod, "v1", "shop", "a", Aspect::Log),
            ),
            (
                "/apis/argoproj.io/v1alpha1/namespaces/shop/rollouts/web/scale",
                place(Kind::Rollout, "v1alpha1", "shop", "web", Aspect::Scale),
            ),
            (
                "/apis/networking.istio.io/v1beta1/namespaces/shop/virtualservices/a%20b",
                place(
                    Kind::VirtualService,
                    "v1beta1",
                    "shop",
                    "a b",
                    Aspect::Whole,
                ),
            ),
            (
                "/apis/argoproj.io/v1alpha1/clusteranalysistemplates/t",
                place(
                    Kind::ClusterAnalysisTemplate,
                    "v1alpha1",
                    "",
                    "t",
                    Aspect::Whole,
                ),
            ),
            ("/healthz", Route::Health),
            (
                "/crossfade/v1/prometheus/api/v1/query",
                Route::Own(Own::Prometheus("/api/v1/query".to_owned())),
            ),
        ];
        for (path, route) in table {
            assert_eq!(Route::read(path), Ok(route), "{path}");
        }
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        for path in [
            "/",
            "",
            "//",
            "/api",
            "/api/v1",
            "/api/v2/pods",
            "/api/v1/pods/a",
            "/api/v1/namespaces/shop/rollouts",
            "/apis/argoproj.io/v1alpha1/namespaces/shop/clusteranalysistemplates",
            "/api/v1/namespaces/shop/pods/a/exec",
            "/apis/argoproj.io",
            "/crossfade/v1/",
            "/crossfade/v1/prometheusx",
            "/%ff",
            "/%zz",
        ] {
            assert_eq!(
                Route::read(path).map_err(|s| s.reason),
                Err(Reason::NotFound),
                "{path}"
            );
        }
    }
}
