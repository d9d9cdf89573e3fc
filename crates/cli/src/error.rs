//! Why a command failed, as people and programs read it.
//!
//! `Error: <what>: <where>`, then a hint on a line of its own that can be pasted. With `-o json` the same as one JSON object. The outermost caller prints; nobody
//! else does.

use std::error::Error as _;

use crossfade_host::client;
use crossfade_host::wire::{Reason, Status};
use serde_json::json;

use crate::exit;
use crate::invocation::Mode;

/// A result of a command or of a part of one.
pub(crate) type Result<T> = std::result::Result<T, CliError>;

/// Reason of an error about the number of arguments.
pub(crate) const ARGUMENTS: &str = "Arguments";

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CliError {
    /// The exit code of the full mode.
    pub(crate) code: u8,
    /// One word for programs.
    pub(crate) reason: String,
    /// What is wrong, and where.
    pub(crate) message: String,
    /// The field that is at fault, if it is one.
    pub(crate) field: Option<String>,
    /// What to do about it.
    pub(crate) hint: Option<String>,
    /// Nothing is to be said: it has been said, or nobody listens.
    pub(crate) silent: bool,
}

impl CliError {
    /// An error that ends the command with this code.
    pub(crate) fn new(code: u8, message: impl Into<String>) -> Self {
        Self {
            code,
            reason: exit::word(code).to_owned(),
            message: message.into(),
            field: None,
            hint: None,
            silent: false,
        }
    }

    /// An error without a code of its own.
    pub(crate) fn failure(message: impl Into<String>) -> Self {
        Self::new(exit::FAILURE, message)
    }

    /// A command that was written wrongly.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(exit::USAGE, message)
    }

    /// A wrong number of arguments: the caller shows how the command is written.
    pub(crate) fn arguments() -> Self {
        Self {
            reason: ARGUMENTS.to_owned(),
            ..Self::usage("wrong number of arguments")
        }
    }

    /// Ends the command with a code and without a word.
    pub(crate) fn silent(code: u8) -> Self {
        Self {
            silent: true,
            ..Self::new(code, "")
        }
    }

    /// With something to do about it.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With the field that is at fault.
    #[must_use]
    pub(crate) fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// The code that the process ends with.
    pub(crate) fn exit_code(&self, mode: Mode) -> u8 {
        match (mode, self.code) {
            (Mode::Plugin, exit::DONE | exit::UNREACHABLE) | (Mode::Full, _) => self.code,
            (Mode::Plugin, _) => exit::FAILURE,
        }
    }

    /// The text on standard error, each line ended; empty for an error that is silent.
    pub(crate) fn text(&self, mode: Mode) -> String {
        if self.silent {
            return String::new();
        }
        let mut text = format!("Error: {}\n", self.message);
        // The plugin's users compare its output; only where there is nothing to compare with they get the hint.
        let hint = self
            .hint
            .as_ref()
            .filter(|_| mode == Mode::Full || self.code == exit::UNREACHABLE);
        if let Some(hint) = hint {
            text.push_str(&format!("  hint: {hint}\n"));
        }
        text
    }

    /// The same as one line of JSON.
    pub(crate) fn json(&self, mode: Mode) -> String {
        let error = json!({"error": {
            "code": self.exit_code(mode),
            "reason": self.reason,
            "message": self.message,
            "field": self.field,
            "hint": self.hint,
        }});
        format!("{error}\n")
    }
}

impl From<client::Error> for CliError {
    fn from(error: client::Error) -> Self {
        match &error {
            client::Error::Status(status) => refusal(status),
            client::Error::Unreachable { address, source } => {
                let reached = Self::new(exit::UNREACHABLE, format!("{error}: {source}"));
                if source.kind() == std::io::ErrorKind::PermissionDenied {
                    return Self::new(exit::NOT_PERMITTED, format!("{address}: {source}"))
                        .hint("the socket belongs to the user that runs the host");
                }
                reached.hint("crossfade host")
            }
            client::Error::Broken { .. }
            | client::Error::Timeout { .. }
            | client::Error::NoWay { .. } => {
                let cause = error
                    .source()
                    .map_or_else(String::new, |source| format!(": {source}"));
                Self::new(exit::UNREACHABLE, format!("{error}{cause}"))
            }
            client::Error::Answer { source, .. } => Self::failure(format!("{error}: {source}"))
                .hint("crossfade version --controller, to compare the versions of both sides"),
            client::Error::NoKind { .. } => Self::new(exit::NOT_FOUND, error.to_string()).hint(
                "install the definitions of Crossfade's kinds: crossfade crds | kubectl apply -f -",
            ),
            client::Error::OnlyHosts { .. } => Self::new(exit::REFUSED, error.to_string()),
            client::Error::Address { .. } | client::Error::Name { .. } => {
                Self::usage(error.to_string())
            }
        }
    }
}

/// What the server said.
fn refusal(status: &Status) -> CliError {
    let code = match status.reason {
        Reason::NotFound => exit::NOT_FOUND,
        Reason::AlreadyExists
        | Reason::Conflict
        | Reason::Invalid
        | Reason::BadRequest
        | Reason::RequestEntityTooLarge => exit::REFUSED,
        Reason::Unauthorized | Reason::Forbidden => exit::NOT_PERMITTED,
        Reason::Timeout => exit::TIMED_OUT,
        Reason::ServiceUnavailable => exit::UNREACHABLE,
        Reason::MethodNotAllowed
        | Reason::UnsupportedMediaType
        | Reason::Expired
        | Reason::TooManyRequests
        | Reason::InsufficientStorage
        | Reason::InternalError
        | Reason::Unknown => exit::FAILURE,
    };
    let mut error = CliError::new(code, status.message.clone());
    if let Ok(serde_json::Value::String(word)) = serde_json::to_value(status.reason) {
        error.reason = word;
    }
    let causes = status.details.iter().flat_map(|details| &details.causes);
    error.field = causes
        .map(|cause| cause.field.clone())
        .find(|field| !field.is_empty());
    error
}

/// The name among `known` that was probably meant.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        // A third of the letters may be wrong; more is another word.
        .filter(|(distance, candidate)| *distance * 3 <= name.len().max(candidate.len()))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_follows_on_its_own_line_and_the_plugin_leaves_it_out() {
        let error = CliError::new(exit::NOT_FOUND, "rollouts \"chekout\" not found")
            .hint("did you mean \"checkout\"?");
        assert_eq!(
            error.text(Mode::Full),
            "Error: rollouts \"chekout\" not found\n  hint: did you mean \"checkout\"?\n"
        );
        assert_eq!(
            error.text(Mode::Plugin),
            "Error: rollouts \"chekout\" not found\n"
        );
        assert_eq!(
            (error.exit_code(Mode::Full), error.exit_code(Mode::Plugin)),
            (5, 1)
        );
    }

    #[test]
    fn the_nearest_name_is_offered_when_it_is_near() {
        assert_eq!(nearest("chekout", ["web", "checkout"]), Some("checkout"));
        assert_eq!(nearest("chekout", ["web", "search"]), None);
    }
}
