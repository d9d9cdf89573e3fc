//! The name that the binary was called by, and what follows from it.

use std::ffi::{OsStr, OsString};
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
    /// Send requests, for tasks.
    Load,
}

impl Invocation {
    /// What a program of this name does.
    pub(crate) fn of(program: &OsStr) -> Self {
        match Path::new(program).file_name().and_then(OsStr::to_str) {
            Some("kubectl-argo-rollouts") => Self::Command(Mode::Plugin),
            Some("kubectl_complete-argo-rollouts") => Self::Complete,
            Some("hey") => Self::Load,
            _ => Self::Command(Mode::Full),
        }
    }
}

/// The arguments as they are meant: a program called `loadtester` serves gates, and the options of that role may have one dash, as in the
/// reference.
pub(crate) fn meant(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let program = arguments.first().map(Path::new).and_then(Path::file_name);
    if program == Some(OsStr::new("loadtester")) {
        arguments.insert(1, "gates".into());
    }
    if arguments.get(1).is_none_or(|word| word != "gates") {
        return arguments;
    }
    for word in arguments.iter_mut().skip(2) {
        let text = word.to_string_lossy();
        let has_one_dash = text.len() > 2 && text.starts_with('-') && !text.starts_with("--");
        if has_one_dash {
            *word = format!("-{text}").into();
        }
    }
    arguments
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

    #[test]
    fn the_load_tester_serves_gates_and_its_options_have_one_dash_or_two() {
        let of = |line: &str| {
            let words = meant(line.split(' ').map(OsString::from).collect());
            let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
            words.join(" ")
        };
        assert_eq!(
            of("/app/loadtester -port=8080 --timeout 1h -n shop"),
            "/app/loadtester gates --port=8080 --timeout 1h -n shop"
        );
        assert_eq!(of("crossfade gates -port 1"), "crossfade gates --port 1");
        assert_eq!(of("crossfade get -port 1"), "crossfade get -port 1");
    }
}
