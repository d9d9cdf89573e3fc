//! Paths and queries, as Kubernetes writes them.

use super::Wanted;
use super::error::{Error, Result};
use crate::store::{Kind, Scope};

pub(super) fn selectors(wanted: &Wanted) -> Vec<(&'static str, String)> {
    [
        ("labelSelector", &wanted.labels),
        ("fieldSelector", &wanted.fields),
    ]
    .into_iter()
    .filter(|(_, text)| !text.is_empty())
    .map(|(name, text)| (name, text.clone()))
    .collect()
}

pub(super) fn query<K: AsRef<str>>(pairs: &[(K, String)]) -> String {
    let mut text = String::new();
    for (name, value) in pairs {
        text.push(if text.is_empty() { '?' } else { '&' });
        text.push_str(name.as_ref());
        text.push('=');
        text.push_str(&crate::wire::encode(value));
    }
    text
}

/// A name as one segment of a path. An empty one would name the collection, `..` another object.
pub(super) fn segment(name: &str) -> Result<String> {
    if name.is_empty() || name == "." || name == ".." || name.contains('/') {
        return Err(Error::Name {
            name: name.to_owned(),
        });
    }
    Ok(crate::wire::encode(name))
}

pub(super) fn collection_path(kind: Kind, namespace: Option<&str>) -> Result<String> {
    let root = if kind.group().is_empty() {
        "/api"
    } else {
        "/apis/"
    };
    let mut path = format!("{root}{}/{}", kind.group(), kind.version());
    if let (Scope::Namespaced, Some(namespace)) = (kind.scope(), namespace) {
        path.push_str("/namespaces/");
        path.push_str(&segment(namespace)?);
    }
    path.push('/');
    path.push_str(kind.plural());
    Ok(path)
}

pub(super) fn object_path(kind: Kind, namespace: Option<&str>, name: &str) -> Result<String> {
    Ok(format!(
        "{}/{}",
        collection_path(kind, namespace)?,
        segment(name)?
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_kubernetes() {
        let path = |kind, namespace| object_path(kind, namespace, "x").unwrap();
        assert_eq!(
            path(Kind::Rollout, Some("shop")),
            "/apis/argoproj.io/v1alpha1/namespaces/shop/rollouts/x"
        );
        assert_eq!(
            path(Kind::Pod, Some("shop")),
            "/api/v1/namespaces/shop/pods/x"
        );
        assert_eq!(path(Kind::Namespace, Some("shop")), "/api/v1/namespaces/x");
        assert_eq!(collection_path(Kind::Pod, None).unwrap(), "/api/v1/pods");
    }

    #[test]
    fn a_name_cannot_reach_another_path() {
        for name in ["", "..", "a/b"] {
            assert!(
                matches!(
                    object_path(Kind::Pod, Some("d"), name),
                    Err(Error::Name { .. })
                ),
                "{name}"
            );
        }
        assert_eq!(
            object_path(Kind::Pod, Some("d"), "a b?").unwrap(),
            "/api/v1/namespaces/d/pods/a%20b%3F"
        );
    }
}
