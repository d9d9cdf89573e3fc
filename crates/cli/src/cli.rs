//! The command line as a whole, in both modes.

use clap::{CommandFactory, Parser};

use crate::commands;
use crate::global::{Global, PLUGIN_OPTIONS};
use crate::invocation::Mode;

/// Release new versions gradually, on evidence, and take them back when the evidence is bad
///
/// Crossfade runs the same Rollouts and AnalysisTemplates on one machine (`crossfade host`) as on
/// Kubernetes. Apply manifests, change a version, and watch it take over step by step:
///
///   crossfade host
///   crossfade apply -f web.yaml
///   crossfade set image web app=web:2
///   crossfade get rollout web --watch
#[derive(Parser, Clone, Debug)]
#[command(
    name = "crossfade",
    max_term_width = 100,
    verbatim_doc_comment,
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: commands::Command,
}

/// Commands and, for each, the options that the plugin of the reference shows.
const PLUGIN: [(&str, &[&str]); 13] = [
    ("get", &["names", "watch", "no_color", "timeout_seconds"]),
    (
        "list",
        &["kind", "all_namespaces", "watch", "name", "timestamps"],
    ),
    ("status", &["names", "watch", "timeout"]),
    (
        "promote",
        &["names", "full", "skip_current_step", "skip_all_steps"],
    ),
    ("abort", &["names"]),
    ("retry", &["names"]),
    ("pause", &["names"]),
    ("restart", &["names", "after"]),
    ("undo", &["names", "to_revision"]),
    ("set", &[]),
    ("create", &["filename", "watch", "no_color"]),
    ("lint", &["filename"]),
    ("terminate", &["names"]),
];

/// Commands of the plugin that show all their options.
const PLUGIN_WHOLE: [&str; 2] = ["completion", "version"];

/// The command line as clap knows it.
///
/// The plugin understands everything too; only its help leaves out what its users do not know.
pub(crate) fn command(mode: Mode) -> clap::Command {
    let command = Cli::command();
    match mode {
        Mode::Full => command,
        Mode::Plugin => plugin(command),
    }
}

fn plugin(command: clap::Command) -> clap::Command {
    let command = command
        .name("kubectl-argo-rollouts")
        .bin_name("kubectl argo rollouts")
        .about("Manage rollouts")
        .long_about("Manage rollouts, analysis runs and experiments.")
        .mut_args(|arg| {
            let shown = PLUGIN_OPTIONS.contains(&arg.get_id().as_str());
            arg.hide(!shown)
        });
    let names: Vec<_> = command
        .get_subcommands()
        .map(|sub| sub.get_name().to_owned())
        .collect();
    names.iter().fold(command, |command, name| {
        command.mut_subcommand(name, |sub| {
            if PLUGIN_WHOLE.contains(&name.as_str()) {
                return sub;
            }
            match PLUGIN.iter().find(|(known, _)| known == name) {
                None => sub.hide(true),
                Some((_, options)) => sub.mut_args(|arg| {
                    let shown = options.contains(&arg.get_id().as_str());
                    arg.hide(!shown)
                }),
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound_in_both_modes() {
        command(Mode::Full).debug_assert();
        command(Mode::Plugin).debug_assert();
    }

    #[test]
    fn every_option_that_the_plugin_shows_exists() {
        let full = command(Mode::Full);
        for (name, options) in PLUGIN {
            let sub = full
                .find_subcommand(name)
                .unwrap_or_else(|| panic!("{name} exists"));
            for option in options {
                assert!(
                    sub.get_arguments().any(|arg| arg.get_id() == option),
                    "{name} {option}"
                );
            }
        }
        for option in PLUGIN_OPTIONS {
            assert!(
                full.get_arguments().any(|arg| arg.get_id() == option),
                "{option}"
            );
        }
    }
}
