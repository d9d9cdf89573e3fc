//! What Crossfade asked the API server for, as the server itself has logged it.

use serde::Deserialize;

/// One request that was answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, …
    pub verb: String,
    /// The resource in plural, with `/` and the subresource where one was meant: `rollouts/status`.
    pub resource: String,
    /// The object's name; empty where none is named, as in a list.
    pub name: String,
    /// The status code of the answer.
    pub code: u16,
    /// The body of a write; null for others.
    pub body: serde_json::Value,
    /// When it was answered, with microseconds, such that later times are greater texts.
    pub at: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Line {
    stage: String,
    verb: String,
    user: User,
    object_ref: Object,
    response_status: Status,
    request_object: serde_json::Value,
    stage_timestamp: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct User {
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Object {
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    code: u16,
}

/// The requests of a user, in a namespace or, with `None`, wherever. A last line that is just being written is left out.
pub(crate) fn requests(log: &str, user: &str, namespace: Option<&str>) -> Vec<Request> {
    log.lines()
        .filter_map(|line| serde_json::from_str::<Line>(line).ok())
        // A watch is logged when it begins to answer and again when it ends.
        .filter(|line| line.stage == "ResponseComplete" || line.stage == "ResponseStarted")
        .filter(|line| line.stage == "ResponseStarted" || line.verb != "watch")
        .filter(|line| line.user.username == user)
        .filter(|line| namespace.is_none_or(|namespace| line.object_ref.namespace == namespace))
        .map(|line| Request {
            verb: line.verb,
            resource: if line.object_ref.subresource.is_empty() {
                line.object_ref.resource
            } else {
                format!(
                    "{}/{}",
                    line.object_ref.resource, line.object_ref.subresource
                )
            },
            name: line.object_ref.name,
            code: line.response_status.code,
            body: line.request_object,
            at: line.stage_timestamp,
        })
        .collect()
}
