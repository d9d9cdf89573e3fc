//! The name that the binary was called by, and what follows from it.

use std::ffi::OsStr;
use std::path::Path;

/// How the command line behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// As the kubectl plugin of the reference: its texts, and the exit codes 0 and 1.
    Plugin,
    /// Everything.
    Full,
}

/// What the binary was called to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Invocation {
    /// Run a command.
    Command(Mode),
    /// Complete a command line of the plugin, for kubectl.
    Complete,
}

impl Invocation {
    /// What a program of this name does.
    pub(crate) fn of(program: &OsStr) -> Self {
        match Path::new(program).file_name().and_then(OsStr::to_str) {
            Some("kubectl-argo-rollouts") => Self::Command(Mode::Plugin),
            Some("kubectl_complete-argo-rollouts") => Self::Complete,
            _ => Self::Command(Mode::Full),
        }
    }
}

impl Mode {
    /// The command as people type it.
    pub(crate) fn command(self) -> &'static str {
        match self {
            Self::Plugin => "kubectl argo rollouts",
            Self::Full => "crossfade",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_decides() {
        let of = |name: &str| Invocation::of(OsStr::new(name));
        assert_eq!(
            of("/usr/bin/kubectl-argo-rollouts"),
            Invocation::Command(Mode::Plugin)
        );
        assert_eq!(of("kubectl_complete-argo-rollouts"), Invocation::Complete);
        assert_eq!(of("kubectl-crossfade"), Invocation::Command(Mode::Full));
        assert_eq!(of("./crossfade"), Invocation::Command(Mode::Full));
    }
}
