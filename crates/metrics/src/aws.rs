//! Requests that AWS believes: where credentials come from, and signatures made with them.
//!
//! Everything here is pure: variables and files are handed in as text, time as a value. What has to be asked for (a role, a container's or
//! a machine's credentials) is asked by `transport::aws`. Start at [`plan::plan`].

pub(crate) mod answer;
pub(crate) mod plan;
pub(crate) mod profiles;
pub(crate) mod sign;

use jiff::Timestamp;

/// Who signs.
#[derive(Clone, PartialEq)]
pub(crate) struct Credentials {
    /// Access key id.
    pub(crate) id: String,
    /// Secret access key.
    pub(crate) secret: String,
    /// Session token, which temporary credentials have.
    pub(crate) token: Option<String>,
    /// When they end, if they do.
    pub(crate) expires: Option<Timestamp>,
}

impl Credentials {
    /// All of it that nobody may read.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = String> {
        [&self.id, &self.secret]
            .into_iter()
            .chain(&self.token)
            .cloned()
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}
