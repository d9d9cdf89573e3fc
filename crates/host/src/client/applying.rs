//! Manifests for a server that is no host: it merges each by itself (server-side apply), and says first of all of them whether it would.

use http::{Method, StatusCode, header};
use serde_json::Value;

use super::error::{Error, Result};
use super::paths::{query, segment};
use super::{ApplyMode, Client};
use crate::store::{Kind, Scope, meta_text, overlaid, split_api_version, text};
use crate::wire::{Applied, ApplyRequest, ApplyResult, Reason, Status};

/// Who says what stands in manifests: whose fields those are that are applied.
pub const MANAGER: &str = "crossfade";

/// A document and where it belongs.
struct Placed {
    document: Value,
    namespace: String,
    path: String,
}

impl Client {
    /// Applies documents one after another, after a try of all of them.
    pub(super) async fn apply_each(
        &self,
        request: ApplyRequest,
        namespace: &str,
        mode: ApplyMode,
    ) -> Result<Vec<Applied>> {
        let documents = overlaid(request, namespace).map_err(bad)?;
        let mut placed = Vec::with_capacity(documents.len());
        for document in documents {
            placed.push(self.place(document, namespace).await?);
        }
        // A namespace that is made by the same request is not there yet when all are tried.
        let comes: Vec<_> = placed
            .iter()
            .filter(|one| text(&one.document, "kind") == Kind::Namespace.name())
            .map(|one| meta_text(&one.document, "name").to_owned())
            .collect();
        let mut tried = Vec::with_capacity(placed.len());
        for one in &placed {
            match self.apply_one(one, mode.force, true).await {
                Ok(applied) => tried.push(applied),
                Err(error) if error.is_not_found() && comes.contains(&one.namespace) => {}
                Err(error) => return Err(named(error, one)),
            }
        }
        if mode.dry_run {
            return Ok(tried);
        }
        let mut applied = Vec::with_capacity(placed.len());
        for one in &placed {
            let done = self.apply_one(one, mode.force, false).await;
            applied.push(done.map_err(|error| named(error, one))?);
        }
        Ok(applied)
    }

    /// Deletes the object that a document names, of whatever kind; `false` when there is none.
    ///
    /// # Errors
    /// When the server refuses or cannot be asked.
    pub async fn delete_document(&self, document: Value, namespace: &str) -> Result<bool> {
        let one = self.place(document, namespace).await?;
        match self.call::<Value>(Method::DELETE, &one.path, None).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(named(error, &one)),
        }
    }

    async fn apply_one(&self, one: &Placed, force: bool, dry_run: bool) -> Result<Applied> {
        let before = match self.call::<Value>(Method::GET, &one.path, None).await {
            Ok(object) => Some(meta_text(&object, "resourceVersion").to_owned()),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        };
        let mut pairs = vec![
            ("fieldManager", MANAGER.to_owned()),
            ("fieldValidation", "Warn".to_owned()),
        ];
        if force {
            pairs.push(("force", "true".to_owned()));
        }
        if dry_run {
            pairs.push(("dryRun", "All".to_owned()));
        }
        let path = format!("{}{}", one.path, query(&pairs));
        let body = Some(("application/apply-patch+yaml", &one.document));
        let response = self.send(Method::PATCH, &path, body).await?;
        let response = self.refused(response).await?;
        let created = response.status() == StatusCode::CREATED;
        let warnings = response.headers().get_all(header::WARNING);
        let warnings = warnings
            .iter()
            .filter_map(|value| Some(warning(value.to_str().ok()?)))
            .collect();
        let bytes = self.whole(response).await?;
        let object: Value = serde_json::from_slice(&bytes).map_err(|source| Error::Answer {
            what: "body",
            source,
        })?;
        let unchanged =
            before.is_some_and(|version| version == meta_text(&object, "resourceVersion"));
        Ok(Applied {
            api_version: text(&object, "apiVersion").to_owned(),
            kind: text(&object, "kind").to_owned(),
            name: meta_text(&object, "name").to_owned(),
            namespace: meta_text(&object, "namespace").to_owned(),
            result: match (created, unchanged) {
                (true, _) => ApplyResult::Created,
                (false, true) => ApplyResult::Unchanged,
                (false, false) => ApplyResult::Configured,
            },
            warnings,
        })
    }

    async fn place(&self, document: Value, namespace: &str) -> Result<Placed> {
        let api_version = text(&document, "apiVersion");
        let kind = text(&document, "kind");
        let (group, version) = split_api_version(api_version);
        let root = if group.is_empty() {
            format!("/api/{}", segment(version)?)
        } else {
            format!("/apis/{}/{}", segment(group)?, segment(version)?)
        };
        let (plural, namespaced) = match Kind::of(api_version, kind) {
            Some(kind) => (kind.plural().to_owned(), kind.scope() == Scope::Namespaced),
            None => self.discover(&root, api_version, kind).await?,
        };
        let own = meta_text(&document, "namespace");
        let own = match (namespaced, own.is_empty()) {
            (false, _) => "",
            (true, true) => namespace,
            (true, false) => own,
        };
        let mut path = root;
        if namespaced {
            path = format!("{path}/namespaces/{}", segment(own)?);
        }
        let name = segment(meta_text(&document, "name"))?;
        Ok(Placed {
            path: format!("{path}/{plural}/{name}"),
            namespace: own.to_owned(),
            document,
        })
    }

    /// How a kind is spelt in paths, and whether it lives in namespaces.
    async fn discover(&self, root: &str, api_version: &str, kind: &str) -> Result<(String, bool)> {
        let list: Value = match self.call(Method::GET, root, None).await {
            Err(error) if error.is_not_found() => Value::Null,
            list => list?,
        };
        let found = list["resources"].as_array().and_then(|resources| {
            resources.iter().find(|resource| {
                resource["kind"] == kind
                    && resource["name"]
                        .as_str()
                        .is_some_and(|name| !name.contains('/'))
            })
        });
        let found = found.ok_or_else(|| {
            bad(format!(
                "the cluster knows no kind {kind} of {api_version}: install its definition first"
            ))
        })?;
        let plural = found["name"].as_str().unwrap_or_default().to_owned();
        Ok((plural, found["namespaced"] == true))
    }
}

/// The text of a `Warning` header: `299 - "text"`.
fn warning(header: &str) -> String {
    let quoted = header.split_once('"').map_or(header, |(_, rest)| rest);
    quoted
        .strip_suffix('"')
        .unwrap_or(quoted)
        .replace("\\\"", "\"")
}

fn bad(message: String) -> Error {
    Error::Status(Box::new(Status::failure(Reason::BadRequest, message)))
}

/// The same error with the document that it is about in front, and what to do about a field that somebody else has set.
fn named(error: Error, one: &Placed) -> Error {
    let Error::Status(mut status) = error else {
        return error;
    };
    let kind = text(&one.document, "kind").to_lowercase();
    let name = meta_text(&one.document, "name");
    status.message = format!("{kind}/{name}: {}", status.message);
    if status.reason == Reason::Conflict {
        status.message.push_str(" (--force takes the fields over)");
    }
    Error::Status(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_read_from_its_header() {
        assert_eq!(
            warning("299 - \"unknown field \\\"spec.replica\\\"\""),
            "unknown field \"spec.replica\""
        );
    }
}
