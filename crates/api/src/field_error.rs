//! Faults in what a user wrote: where, what, and what to do.
//!
//! The text follows the grammar of Kubernetes' field errors, `<path>: <type>[: <value>][: <detail>]`, because
//! conditions show it and other tools read it.

use std::fmt;

use serde::Serialize;

use crate::go_text;

/// A fault in one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Path of the field: members after a dot, list indices in brackets.
    pub path: String,
    /// What is wrong in general.
    pub kind: FieldErrorKind,
    /// The faulty value, rendered; empty where the kind shows none.
    pub value: String,
    /// What is wrong in particular; may be empty.
    pub detail: String,
}

/// What is wrong with a field in general.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldErrorKind {
    /// The value is not allowed.
    Invalid,
    /// The field is missing.
    Required,
    /// The field cannot be judged together with others.
    Internal,
    /// The value is not one of the allowed ones.
    Unsupported,
    /// The field must not be set.
    Forbidden,
    /// The value occurs twice.
    Duplicate,
    /// The value names something that does not exist.
    NotFound,
}

impl FieldErrorKind {
    fn text(self) -> &'static str {
        match self {
            Self::Invalid => "Invalid value",
            Self::Required => "Required value",
            Self::Internal => "Internal error",
            Self::Unsupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::Duplicate => "Duplicate value",
            Self::NotFound => "Not found",
        }
    }
}

impl FieldError {
    /// A value that is not allowed.
    pub fn invalid(
        path: impl Into<String>,
        value: &(impl Serialize + ?Sized),
        detail: impl Into<String>,
    ) -> Self {
        Self {
            path: path.into(),
            kind: FieldErrorKind::Invalid,
            value: render(value),
            detail: detail.into(),
        }
    }

    /// A value that is not one of `allowed`.
    pub fn unsupported(
        path: impl Into<String>,
        value: &(impl Serialize + ?Sized),
        allowed: &[&str],
    ) -> Self {
        let allowed: Vec<_> = allowed.iter().map(|word| go_text::quote(word)).collect();
        let detail = format!("supported values: {}", allowed.join(", "));
        Self {
            path: path.into(),
            kind: FieldErrorKind::Unsupported,
            value: render(value),
            detail,
        }
    }

    /// A value that occurs twice.
    pub fn duplicate(path: impl Into<String>, value: &(impl Serialize + ?Sized)) -> Self {
        Self {
            path: path.into(),
            kind: FieldErrorKind::Duplicate,
            value: render(value),
            detail: String::new(),
        }
    }

    /// A value that names something that does not exist.
    pub fn not_found(path: impl Into<String>, value: &(impl Serialize + ?Sized)) -> Self {
        Self {
            path: path.into(),
            kind: FieldErrorKind::NotFound,
            value: render(value),
            detail: String::new(),
        }
    }

    /// A missing field.
    pub fn required(path: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::without_value(FieldErrorKind::Required, path, detail)
    }

    /// A field that must not be set.
    pub fn forbidden(path: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::without_value(FieldErrorKind::Forbidden, path, detail)
    }

    /// A field that cannot be judged together with others.
    pub fn internal(path: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::without_value(FieldErrorKind::Internal, path, detail)
    }

    fn without_value(
        kind: FieldErrorKind,
        path: impl Into<String>,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            path: path.into(),
            kind,
            value: String::new(),
            detail: detail.into(),
        }
    }
}

impl FieldError {
    /// The fault without its path: kind, value and detail.
    pub fn body(&self) -> String {
        let mut body = self.kind.text().to_owned();
        for part in [&self.value, &self.detail] {
            if !part.is_empty() {
                body.push_str(": ");
                body.push_str(part);
            }
        }
        body
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.body())
    }
}

impl std::error::Error for FieldError {}

/// The longest value that is shown whole, in bytes.
const LONGEST: usize = 4096;

/// Numbers and truth values plainly, texts quoted as Go does, everything else as compact JSON in the order of
/// declaration, with the characters escaped that Go escapes.
fn render(value: &(impl Serialize + ?Sized)) -> String {
    let json = match serde_json::to_string(value) {
        Ok(json) => json,
        Err(error) => return error.to_string(),
    };
    let mut text = match serde_json::from_str::<String>(&json) {
        Ok(text) => go_text::quote(&text),
        Err(_) => json
            .replace('<', "\\u003c")
            .replace('>', "\\u003e")
            .replace('&', "\\u0026"),
    };
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST));
        text.push('…');
    }
    text
}
