//! `crossfade docs`: the reference page of the command line, made from the commands themselves.

use clap::Args;

use crate::cli;
use crate::error::Result;
use crate::exit;
use crate::invocation::Mode;
use crate::lint::RULES;
use crate::terminal;

/// Print the reference page of the command line
///
/// Made from the commands themselves, for `docs/reference/cli.md`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Docs {}

const HEAD: &str = "\
# The command line

<!-- Made by `crossfade docs`; do not edit. -->

`crossfade` talks to a running host. Called as `kubectl-argo-rollouts` it behaves as that kubectl plugin: the same commands, texts and exit
codes, for scripts that exist.

A command works on one object (`web`, `rollout/web`, `rollout web`) or on several. Results go to standard output, everything else to
standard error. `-o json` prints documents whose form the member `schemaVersion` names.
";

const ENVIRONMENT: [(&str, &str); 6] = [
    ("CROSSFADE_HOST", "the host to talk to, as `--host`"),
    (
        "CROSSFADE_GATES",
        "where gates are, as `crossfade gate --gates`",
    ),
    (
        "XDG_STATE_HOME",
        "where the state folder `crossfade` of a host lies unless told otherwise; `~/.local/state` when it is not set",
    ),
    ("NO_COLOR", "when it is set and not empty: no colours"),
    ("TERM", "`dumb`: no colours"),
    ("HOME", "for the default state folder"),
];

impl Docs {
    /// Does it.
    #[expect(clippy::unused_self, reason = "all commands are run alike")]
    pub(crate) fn run(&self) -> Result<()> {
        terminal::print(&page())
    }
}

/// The page.
fn page() -> String {
    let mut page = HEAD.to_owned();
    page.push_str("\n## Exit codes\n\n| Code | Meaning |\n|---|---|\n");
    for (code, meaning) in exit::MEANINGS {
        page.push_str(&format!("| {code} | {meaning} |\n"));
    }
    page.push_str("\n## Environment\n\n| Variable | Meaning |\n|---|---|\n");
    for (name, meaning) in ENVIRONMENT {
        page.push_str(&format!("| `{name}` | {meaning} |\n"));
    }
    page.push_str("\n## Rules of `crossfade lint`\n\n| Rule | Finds |\n|---|---|\n");
    for (id, meaning) in RULES {
        page.push_str(&format!("| `{id}` | {meaning} |\n"));
    }
    page.push_str("\n## Commands\n");
    let mut command = cli::command(Mode::Full).term_width(100);
    command.build();
    section(&mut command, "crossfade", &mut page);
    page
}

fn section(command: &mut clap::Command, name: &str, page: &mut String) {
    let help = command.render_long_help().to_string();
    let lines: Vec<_> = help.trim_end().lines().map(str::trim_end).collect();
    page.push_str(&format!(
        "\n### `{name}`\n\n```text\n{}\n```\n",
        lines.join("\n")
    ));
    let names: Vec<_> = command
        .get_subcommands()
        .filter(|sub| !sub.is_hide_set())
        .map(|sub| sub.get_name().to_owned())
        .collect();
    for sub in names {
        if let Some(found) = command.find_subcommand_mut(&sub) {
            // They stand once, at the top.
            let mut own = found.clone().mut_args(|arg| {
                let is_global = arg.is_global_set();
                if is_global { arg.hide(true) } else { arg }
            });
            section(&mut own, &format!("{name} {sub}"), page);
        }
    }
}
