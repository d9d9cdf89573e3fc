//! What can go wrong for a test before anything that it asserts.

/// Why a step of a test did not happen.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// There is no control plane.
    #[error("there is no control plane for tests: {0}")]
    NoControlPlane(String),
    /// The kubeconfig cannot be used.
    #[error("the kubeconfig of the test cluster")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// The API server refused or did not answer.
    #[error("{what}: {source}")]
    Request {
        /// What was asked for.
        what: String,
        /// How that ended.
        source: kube::Error,
    },
    /// A watch broke off.
    #[error("{what}: {source}")]
    Watch {
        /// What was watched.
        what: String,
        /// How that ended.
        source: kube::runtime::watcher::Error,
    },
    /// Something did not come about in time.
    #[error("waited {seconds} s in vain for {what}; it is now:\n{last}")]
    Timeout {
        /// How long, in seconds.
        seconds: u64,
        /// What was waited for.
        what: String,
        /// The object as it was seen last, as YAML.
        last: String,
    },
    /// A manifest cannot be applied as it stands.
    #[error("{0}")]
    Manifest(String),
    /// A file of the control plane cannot be read.
    #[error("{0}")]
    File(String),
}

impl Trouble {
    /// Wraps an error of the client with what was asked for.
    pub(crate) fn request(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let what = what.into();
        move |source| Self::Request { what, source }
    }
}
