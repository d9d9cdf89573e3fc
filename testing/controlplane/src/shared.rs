//! The control plane that the tests of a run share, and how they speak to it.

use std::path::PathBuf;
use std::sync::OnceLock;

use crate::running::{ControlPlane, Ready};

/// The variable in which `cargo xtask test` tells its tests of the control plane that it has started: a [`Ready`] as JSON.
pub const SHARED: &str = "CROSSFADE_TEST_CONTROL_PLANE";

/// Who speaks to the API server in tests, each with a context of this name: `admin`, the `kubelet` (all nodes and the scheduler), `gitops`
/// (whoever applies manifests again and again), a `developer` with no rights but those that a test gives, and `crossfade` twice.
pub const ACTORS: [&str; 6] = [
    "admin",
    "kubelet",
    "gitops",
    "developer",
    "crossfade",
    "crossfade-other",
];

/// The context of `KUBECONFIG` that says: this cluster may be used for tests.
const FOR_TESTS: &str = "crossfade-test";

/// How to reach the API server of this run.
#[derive(Clone, Debug)]
pub struct Access {
    /// The kubeconfig.
    pub kubeconfig: PathBuf,
    /// The one context through which all actors come, by impersonation; `None` where each has its own.
    pub impersonate_from: Option<&'static str>,
    /// The log of requests by Crossfade, where there is one.
    pub audit: Option<PathBuf>,
}

/// The control plane that this run of tests shares. In order: a cluster of somebody else's, when the file in `KUBECONFIG` has a context named
/// `crossfade-test`; the one that `cargo xtask test` has started; one that is started here and ends with this process.
///
/// # Errors
/// A sentence: it could not be built or started.
pub fn shared() -> Result<&'static Access, String> {
    static ACCESS: OnceLock<Result<(Access, Option<ControlPlane>), String>> = OnceLock::new();
    match ACCESS.get_or_init(find) {
        Ok((access, _)) => Ok(access),
        Err(why) => Err(why.clone()),
    }
}

fn find() -> Result<(Access, Option<ControlPlane>), String> {
    if let Some(kubeconfig) = kubeconfig_for_tests() {
        let access = Access {
            kubeconfig,
            impersonate_from: Some(FOR_TESTS),
            audit: None,
        };
        return Ok((access, None));
    }
    if let Ok(told) = std::env::var(SHARED) {
        let ready: Ready = serde_json::from_str(&told).map_err(|why| format!("{SHARED}: {why}"))?;
        return Ok((access_to(&ready), None));
    }
    let started = ControlPlane::start()?;
    Ok((access_to(started.ready()), Some(started)))
}

fn access_to(ready: &Ready) -> Access {
    Access {
        kubeconfig: ready.kubeconfig.clone(),
        impersonate_from: None,
        audit: Some(ready.audit.clone()),
    }
}

/// The file in `KUBECONFIG`, if its owner has named a context for tests. Anything else there is no business of ours.
fn kubeconfig_for_tests() -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("KUBECONFIG")?);
    let text = std::fs::read_to_string(&path).ok()?;
    // No reader of YAML for one name: a context is a list entry with the name on a line of its own, before or after its body.
    let named = text.lines().any(|line| {
        let words = line.trim().trim_start_matches("- ");
        words.strip_prefix("name:").map(str::trim) == Some(FOR_TESTS)
    });
    named.then_some(path)
}
