//! ConfigMaps and Secrets, looked up as late as possible, and text that must not be shown.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// What a ConfigMap or Secret holds: bytes by key.
pub type Material = BTreeMap<String, Vec<u8>>;

/// Where ConfigMaps and Secrets come from.
///
/// A template only names them; they are read when the pod is started and handed to nobody else. The answers
/// of a secret lookup are never logged, and the supervisor stores them only in files of the pod's folder that
/// its own user alone may read.
pub trait Materials: Send + Sync + 'static {
    /// The data of a ConfigMap (`data` and `binaryData`); `None` when there is no such ConfigMap.
    ///
    /// # Errors
    /// When the store cannot be read now; the pod then waits and tries again.
    fn config_map(&self, namespace: &str, name: &str) -> Result<Option<Material>, MaterialError>;

    /// The data of a Secret (`data`, decoded, and `stringData`); `None` when there is no such Secret.
    ///
    /// # Errors
    /// When the store cannot be read now; the pod then waits and tries again.
    fn secret(&self, namespace: &str, name: &str) -> Result<Option<Material>, MaterialError>;
}

/// Why a ConfigMap or Secret could not be looked up. The text must not hold what a Secret holds.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct MaterialError(pub String);

/// Text that may be a secret: it reaches files that only this user may read, and no message.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sensitive(String);

impl Sensitive {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the process it was meant for.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Sensitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[not shown]")
    }
}
