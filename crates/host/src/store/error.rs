//! Why the store refuses or fails, and the same as a Kubernetes `Status`.

use std::path::PathBuf;

use super::kind::Kind;
use super::object::Key;
use crate::wire::{Reason, Status, StatusCause, StatusDetails};

/// One fault in an object that somebody wants to store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Path of the field, for example `spec.selector`.
    pub field: String,
    /// What is wrong, after the path and a colon (`Invalid value: …: field is immutable`).
    pub problem: String,
    /// Whether the field's old value forbids the new one, so that deleting and creating anew would help.
    pub immutable: bool,
}

impl Fault {
    /// A fault that another value would mend.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            problem: problem.into(),
            immutable: false,
        }
    }

    /// A fault that only a new object would mend.
    pub fn immutable(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            problem: problem.into(),
            immutable: true,
        }
    }
}

/// Why a request to the store gave nothing. Whatever the reason, nothing was changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such object.
    #[error("{} \"{}\" not found", .0.kind.resource(), .0.name)]
    NotFound(Key),
    /// The name is taken.
    #[error("{} \"{}\" already exists", .0.kind.resource(), .0.name)]
    AlreadyExists(Key),
    /// Somebody else changed the object first.
    #[error(
        "Operation cannot be fulfilled on {} \"{}\": the object has been modified; please apply your changes to the latest version and try again",
        .0.kind.resource(),
        .0.name
    )]
    Conflict(Key),
    /// The object of that name is another one.
    #[error(
        "Operation cannot be fulfilled on {} \"{}\": Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}",
        .key.kind.resource(),
        .key.name
    )]
    OtherUid {
        /// Which object.
        key: Key,
        /// The uid that the writer expects.
        wanted: String,
        /// The uid of the object.
        found: String,
    },
    /// The object breaks rules.
    #[error("{}", invalid_text(.key, .faults))]
    Invalid {
        /// Which object.
        key: Key,
        /// Every fault.
        faults: Vec<Fault>,
    },
    /// The request makes no sense.
    #[error("{0}")]
    BadRequest(String),
    /// The request makes sense but not now.
    #[error("{} \"{}\" is forbidden: {why}", .key.kind.resource(), .key.name)]
    Forbidden {
        /// Which object.
        key: Key,
        /// Why.
        why: String,
    },
    /// Kinds that the host does not know.
    #[error("no matches for kind \"{kind}\" in version \"{api_version}\"{hint}")]
    UnknownKind {
        /// As written.
        api_version: String,
        /// As written.
        kind: String,
        /// What to write instead, if that can be told; begins with `; `.
        hint: String,
    },
    /// Several documents of one request are refused.
    #[error("{} of the documents are refused: {}", .0.len(), .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Several(Vec<StoreError>),
    /// A watch asks for changes that are no longer remembered.
    #[error("too old resource version: {asked} (the oldest remembered is {oldest}); list again")]
    Expired {
        /// The asked-for resourceVersion.
        asked: u64,
        /// The oldest from which a watch can go on.
        oldest: u64,
    },
    /// The disk is full.
    #[error("the disk under {} is full: nothing was changed; free some space and try again", .0.display())]
    Full(PathBuf),
    /// The disk failed.
    #[error("the store in {} could not be written: nothing was changed ({why})", .folder.display())]
    Storage {
        /// The state folder.
        folder: PathBuf,
        /// What SQLite said.
        why: String,
    },
    /// A mistake of ours; the request is refused and the store goes on.
    #[error("internal error: {0}")]
    Internal(String),
    /// The store has been closed.
    #[error("the host is ending")]
    Closed,
}

fn invalid_text(key: &Key, faults: &[Fault]) -> String {
    let texts: Vec<String> = faults
        .iter()
        .map(|f| format!("{}: {}", f.field, f.problem))
        .collect();
    match texts.as_slice() {
        [one] => format!(
            "{} \"{}\" is invalid: {one}",
            key.kind.qualified(),
            key.name
        ),
        several => format!(
            "{} \"{}\" is invalid: [{}]",
            key.kind.qualified(),
            key.name,
            several.join(", ")
        ),
    }
}

impl StoreError {
    /// The fault of one field.
    pub fn invalid(key: &Key, field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Invalid {
            key: key.clone(),
            faults: vec![Fault::new(field, problem)],
        }
    }

    /// The kind that a manifest names is none that the host stores.
    pub fn unknown_kind(api_version: &str, kind: &str) -> Self {
        let group = super::split_api_version(api_version).0;
        let hint = match Kind::ALL.into_iter().find(|k| k.name() == kind) {
            Some(known) if known.group() == group => {
                format!("; the host knows {}", known.api_version())
            }
            Some(known) => format!("; did you mean apiVersion {}?", known.api_version()),
            None => {
                let names: Vec<&str> = Kind::ALL.iter().map(|k| k.name()).collect();
                format!("; the host knows {}", names.join(", "))
            }
        };
        Self::UnknownKind {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            hint,
        }
    }

    /// Whether deleting the object and creating it anew would get past the refusal.
    pub(super) fn is_immutable(&self) -> bool {
        matches!(self, Self::Invalid { faults, .. } if faults.iter().all(|f| f.immutable))
    }

    /// Kubernetes' word for it.
    pub fn reason(&self) -> Reason {
        match self {
            Self::NotFound(_) => Reason::NotFound,
            Self::AlreadyExists(_) => Reason::AlreadyExists,
            Self::Conflict(_) | Self::OtherUid { .. } => Reason::Conflict,
            Self::Invalid { .. } => Reason::Invalid,
            Self::BadRequest(_) | Self::UnknownKind { .. } => Reason::BadRequest,
            Self::Forbidden { .. } => Reason::Forbidden,
            Self::Several(errors) => match errors.as_slice() {
                [first, rest @ ..] if rest.iter().all(|e| e.reason() == first.reason()) => {
                    first.reason()
                }
                _ => Reason::Invalid,
            },
            Self::Expired { .. } => Reason::Expired,
            Self::Full(_) => Reason::InsufficientStorage,
            Self::Storage { .. } | Self::Internal(_) => Reason::InternalError,
            Self::Closed => Reason::ServiceUnavailable,
        }
    }

    fn key(&self) -> Option<&Key> {
        match self {
            Self::NotFound(key) | Self::AlreadyExists(key) | Self::Conflict(key) => Some(key),
            Self::OtherUid { key, .. }
            | Self::Invalid { key, .. }
            | Self::Forbidden { key, .. } => Some(key),
            Self::BadRequest(_)
            | Self::UnknownKind { .. }
            | Self::Several(_)
            | Self::Expired { .. }
            | Self::Full(_)
            | Self::Storage { .. }
            | Self::Internal(_)
            | Self::Closed => None,
        }
    }

    fn causes(&self) -> Vec<StatusCause> {
        match self {
            Self::Invalid { faults, .. } => faults
                .iter()
                .map(|f| StatusCause {
                    reason: "FieldValueInvalid".to_owned(),
                    message: f.problem.clone(),
                    field: f.field.clone(),
                })
                .collect(),
            Self::Several(errors) => errors
                .iter()
                .map(|e| StatusCause {
                    reason: format!("{:?}", e.reason()),
                    message: e.to_string(),
                    field: String::new(),
                })
                .collect(),
            _ => Vec::new(),
        }
    }

    /// The error as the API answers it.
    pub fn to_status(&self) -> Status {
        let mut status = Status::failure(self.reason(), self.to_string());
        let causes = self.causes();
        status.details = match self.key() {
            Some(key) => Some(Box::new(StatusDetails {
                name: key.name.clone(),
                group: key.kind.group().to_owned(),
                kind: match self {
                    Self::Invalid { .. } => key.kind.name().to_owned(),
                    _ => key.kind.plural().to_owned(),
                },
                uid: String::new(),
                causes,
            })),
            None if causes.is_empty() => None,
            None => Some(Box::new(StatusDetails {
                causes,
                ..StatusDetails::default()
            })),
        };
        status
    }
}

impl From<StoreError> for Status {
    fn from(error: StoreError) -> Self {
        error.to_status()
    }
}

/// A result of the store.
pub type Result<T> = std::result::Result<T, StoreError>;

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another host works in the folder.
    #[error("another host (process {}) uses the state folder {}; stop it, or choose another folder", .pid.map_or_else(|| "unknown".to_owned(), |p| p.to_string()), .folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// The process that holds it.
        pid: Option<u32>,
    },
    /// The folder cannot be used.
    #[error("the state folder {} cannot be used", .folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The folder belongs to somebody else.
    #[error("the state folder {} belongs to user {owner}, not to user {user}; run the host as its owner, or choose another folder", .folder.display())]
    Foreign {
        /// The folder.
        folder: PathBuf,
        /// Number of its owner.
        owner: u32,
        /// Number of the user that runs the host.
        user: u32,
    },
    /// The folder holds other things and is open to others.
    #[error("the folder {} holds other files and is open to other users; choose a folder of its own for the state", .folder.display())]
    NotOurs {
        /// The folder.
        folder: PathBuf,
    },
    /// SQLite cannot open or read the file.
    #[error("the store {} cannot be opened", .file.display())]
    Database {
        /// The file.
        file: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// The file was written by a newer version.
    #[error("the store {} was written by a newer version (form {found}, this one knows {known}); run that version, or choose another folder", .file.display())]
    TooNew {
        /// The file.
        file: PathBuf,
        /// Version of its form.
        found: i64,
        /// The newest form that is known.
        known: i64,
    },
    /// The file is damaged.
    #[error("the store {} is damaged ({what}); restore it from a copy, or move it away to begin anew", .file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where.
        what: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_kubernetes() {
        let key = Key::new(Kind::Rollout, "d", "web");
        assert_eq!(
            StoreError::NotFound(key.clone()).to_string(),
            r#"rollouts.argoproj.io "web" not found"#
        );
        assert_eq!(
            StoreError::AlreadyExists(Key::new(Kind::Pod, "d", "a")).to_string(),
            r#"pods "a" already exists"#
        );
        let error = StoreError::Invalid {
            key,
            faults: vec![
                Fault::new("a", "Required value"),
                Fault::new("b", "Forbidden"),
            ],
        };
        assert_eq!(
            error.to_string(),
            r#"Rollout.argoproj.io "web" is invalid: [a: Required value, b: Forbidden]"#
        );
        let status = error.to_status();
        assert_eq!((status.code, status.reason), (422, Reason::Invalid));
        assert_eq!(status.details.map(|d| d.causes.len()), Some(2));
    }

    #[test]
    fn an_unknown_kind_is_told_what_to_write_instead() {
        let text = |v, k| StoreError::unknown_kind(v, k).to_string();
        assert!(
            text("extensions/v1beta1", "Deployment").ends_with("did you mean apiVersion apps/v1?")
        );
        assert!(text("argoproj.io/v1", "Rollout").ends_with("the host knows argoproj.io/v1alpha1"));
        assert!(
            text("example.com/v1", "Flux").contains("the host knows Rollout, AnalysisTemplate")
        );
    }
}
