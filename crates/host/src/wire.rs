//! The words that the host's API server and its clients exchange, apart from the objects themselves.
//!
//! Every type is exactly its JSON. [`Status`] is the Kubernetes error object, so that a client reads the answers of a
//! cluster and of the host alike; the rest belongs to the paths below `/crossfade/v1/`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The answer to a request that failed (or, for deletions, succeeded): Kubernetes' `Status` object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Always `Status`.
    #[serde(default = "status_kind")]
    pub kind: String,
    /// Always `v1`.
    #[serde(default = "status_version")]
    pub api_version: String,
    /// Always empty; there because every Kubernetes object has it.
    #[serde(default)]
    pub metadata: NoMetadata,
    /// `Success` or `Failure`.
    #[serde(default)]
    pub status: String,
    /// One sentence for people.
    #[serde(default)]
    pub message: String,
    /// One word for programs, for example `NotFound`.
    #[serde(default, skip_serializing_if = "Reason::is_unknown")]
    pub reason: Reason,
    /// Which object, and which of its fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Box<StatusDetails>>,
    /// The HTTP status code.
    #[serde(default)]
    pub code: u16,
}

fn status_kind() -> String {
    "Status".to_owned()
}

fn status_version() -> String {
    "v1".to_owned()
}

/// The `metadata` of a [`Status`]: an empty object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoMetadata {}

/// Which object a [`Status`] speaks of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StatusDetails {
    /// Its name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its API group; empty for the core group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Its kind or plural, as Kubernetes fills it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Its uid.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Every fault, one for each field.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<StatusCause>,
}

/// One fault in an object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StatusCause {
    /// One word for programs, for example `FieldValueInvalid`.
    #[serde(default)]
    pub reason: String,
    /// One sentence for people.
    #[serde(default)]
    pub message: String,
    /// Path of the field.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
}

/// Why a request failed, as Kubernetes words it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "the words are Kubernetes' own and say what they mean"
)]
pub enum Reason {
    NotFound,
    AlreadyExists,
    Conflict,
    Invalid,
    BadRequest,
    Unauthorized,
    Forbidden,
    MethodNotAllowed,
    UnsupportedMediaType,
    RequestEntityTooLarge,
    /// The asked-for resourceVersion is older than what the host remembers.
    Expired,
    Timeout,
    TooManyRequests,
    ServiceUnavailable,
    /// The disk under the state folder is full; nothing was changed.
    InsufficientStorage,
    InternalError,
    /// Any other word, and none.
    #[default]
    #[serde(other)]
    Unknown,
}

impl Reason {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    fn is_unknown(&self) -> bool {
        *self == Self::Unknown
    }

    /// The HTTP status code that goes with the word.
    pub fn code(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::AlreadyExists | Self::Conflict => 409,
            Self::Expired => 410,
            Self::RequestEntityTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::Invalid => 422,
            Self::TooManyRequests => 429,
            Self::InternalError | Self::Unknown => 500,
            Self::ServiceUnavailable => 503,
            Self::Timeout => 504,
            Self::InsufficientStorage => 507,
        }
    }
}

impl Status {
    /// What was asked for has been done.
    pub fn success(details: StatusDetails) -> Self {
        Self {
            status: "Success".to_owned(),
            details: Some(Box::new(details)),
            code: 200,
            ..Self::failure(Reason::Unknown, "")
        }
    }

    /// A failure without details.
    pub fn failure(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            kind: status_kind(),
            api_version: status_version(),
            metadata: NoMetadata {},
            status: "Failure".to_owned(),
            message: message.into(),
            reason,
            details: None,
            code: reason.code(),
        }
    }
}

/// What a watch tells, one JSON object a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WatchEvent {
    /// What happened.
    #[serde(rename = "type")]
    pub change: WatchChange,
    /// The object after the change (`Deleted`: its last state with the resourceVersion of the deletion), or the [`Status`] of an `Error`.
    pub object: Value,
}

/// The kinds of [`WatchEvent`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum WatchChange {
    /// New to the watcher: created, or it matches the selector from now on.
    Added,
    /// Changed.
    Modified,
    /// Gone for the watcher: deleted, or it no longer matches the selector.
    Deleted,
    /// Only `metadata.resourceVersion` matters: everything up to it has been told.
    Bookmark,
    /// The watch is over; the object is a [`Status`]. After [`Reason::Expired`] list again.
    Error,
}

/// What a deletion demands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deletion {
    /// Seconds that pods get to end; the pod's own number when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_period_seconds: Option<u64>,
    /// `Background`, `Foreground` or `Orphan`; Background when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propagation_policy: Option<String>,
    /// Only if the object is still the one that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preconditions: Option<Preconditions>,
}

/// What must still be true of an object for its deletion.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Preconditions {
    /// Its uid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Its resourceVersion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
}

/// Which part of an object a write means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The object without its status (where the kind separates them).
    Object,
    /// The status only.
    Status,
    /// The number of replicas.
    Scale,
}

impl Part {
    /// What stands behind the name in the path.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::Object => "",
            Self::Status => "/status",
            Self::Scale => "/scale",
        }
    }
}

/// How a patch is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patch {
    /// RFC 7396.
    Merge,
    /// RFC 6902.
    Json,
}

/// A list of answers that are no Kubernetes objects.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Items<T> {
    /// The answers, in the order that the request implies.
    pub items: Vec<T>,
}

/// Body of `POST /crossfade/v1/apply`, answered by [`Items`] of [`Applied`].
///
/// All documents are applied or none: a refused one refuses the request, with every fault of every document in the [`Status`].
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ApplyRequest {
    /// The manifests, in the order in which they shall be applied.
    #[serde(default)]
    pub documents: Vec<Value>,
    /// RFC 7396 merge patches on documents of the same kind and name (and, when it names one, namespace); an overlay
    /// without such a document is applied as a document.
    #[serde(default)]
    pub overlays: Vec<Value>,
}

/// Shows how much it is: Secrets may be among the documents.
impl std::fmt::Debug for ApplyRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (documents, overlays) = (self.documents.len(), self.overlays.len());
        write!(
            f,
            "ApplyRequest of {documents} documents and {overlays} overlays"
        )
    }
}

/// What happened to one object of an [`ApplyRequest`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// Its apiVersion.
    #[serde(default)]
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its namespace; empty for kinds without.
    #[serde(default)]
    pub namespace: String,
    /// What was done.
    pub result: ApplyResult,
    /// What the user should know: unknown fields, kinds without effect, …
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// The three outcomes of applying an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ApplyResult {
    /// It did not exist.
    Created,
    /// It existed and differs now.
    Configured,
    /// It stood so already, or its kind is not stored.
    Unchanged,
}

/// One row of the audit trail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditRow {
    /// Rises with every row; never used twice.
    pub id: i64,
    /// When it happened.
    pub time: Timestamp,
    /// Who did it: a user's name, the name of a token, or a part of the host.
    pub actor: String,
    /// What was done, in one or few words (`promote`, `patch`, `delete`).
    pub action: String,
    /// To which object.
    pub subject: AuditSubject,
    /// Why, in the words of the actor; may be empty.
    #[serde(default)]
    pub reason: String,
    /// What changed: names of fields, never values.
    #[serde(default)]
    pub detail: String,
}

/// The object of an [`AuditRow`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditSubject {
    /// Its kind.
    pub kind: String,
    /// Its namespace; empty for kinds without.
    #[serde(default)]
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Answer of `GET /crossfade/v1/info`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Info {
    /// Version of the host.
    #[serde(default)]
    pub version: String,
    /// Its process.
    #[serde(default)]
    pub pid: u32,
    /// Its state folder.
    #[serde(default)]
    pub state: String,
    /// Where each Service listens.
    #[serde(default)]
    pub listeners: Vec<Listener>,
    /// `address:port` of the metric store's Prometheus API; absent while it does not listen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<String>,
}

/// Where a Service listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// The Service.
    pub service: String,
    /// Its namespace.
    pub namespace: String,
    /// `address:port`.
    pub address: String,
}

/// Answer of `…/rollouts/{name}/explain`: why a release stands where it stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The Rollout's name.
    pub rollout: String,
    /// `status.phase`.
    #[serde(default)]
    pub phase: String,
    /// `status.message`.
    #[serde(default)]
    pub message: String,
    /// The step at which it stands; absent without steps or after the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<ExplainedStep>,
    /// What is waited for.
    #[serde(default)]
    pub waits: Vec<Wait>,
    /// Commands that would move it.
    #[serde(default)]
    pub would_move: Vec<String>,
    /// Gates (analysis, pauses, …) and how each stands.
    #[serde(default)]
    pub gates: Vec<Gate>,
}

/// The step of an [`Explanation`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExplainedStep {
    /// Index, from 0.
    pub index: u32,
    /// How many steps there are.
    pub total: u32,
    /// `setWeight`, `pause`, …
    pub kind: String,
    /// The step in words.
    pub text: String,
}

/// One thing that is waited for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Wait {
    /// For what, in words.
    #[serde(rename = "for")]
    pub what: String,
    /// Since when, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Present value, limit and whatever else helps.
    #[serde(default)]
    pub details: String,
}

/// One gate of an [`Explanation`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// Its name, for example that of the AnalysisRun.
    pub name: String,
    /// How it stands, in one or few words.
    pub state: String,
    /// Figures, limits, errors.
    #[serde(default)]
    pub details: String,
}

/// Which part of a pod's log is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Container; the first when absent.
    pub container: Option<String>,
    /// Go on with what is written from now on.
    pub follow: bool,
    /// Only the last lines.
    pub tail_lines: Option<u64>,
    /// Only what is younger, in seconds.
    pub since_seconds: Option<u64>,
    /// The log of the run before the present one.
    pub previous: bool,
}

/// Percent-encodes everything but unreserved characters, for queries, path segments and headers.
pub(crate) fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// Reverses [`encode`]. `None` when it is not UTF-8 or an escape is broken.
pub(crate) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let high = char::from(rest.next()?).to_digit(16)?;
                let low = char::from(rest.next()?).to_digit(16)?;
                u8::try_from(high * 16 + low).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoding_is_undone_by_decoding() {
        let text = "a b+c/ü%?&=";
        assert_eq!(encode(text), "a%20b%2Bc%2F%C3%BC%25%3F%26%3D");
        assert_eq!(decode(&encode(text)).as_deref(), Some(text));
        assert_eq!(decode("a+b").as_deref(), Some("a+b"));
        for broken in ["%", "%4", "%zz", "%ff"] {
            assert_eq!(decode(broken), None, "{broken}");
        }
    }

    #[test]
    fn a_reason_of_tomorrow_is_read_as_unknown() {
        let status: Status =
            serde_json::from_str(r#"{"reason":"Teapot","code":418,"message":"m"}"#).expect("reads");
        assert_eq!((status.reason, status.code), (Reason::Unknown, 418));
    }
}
