//! Completion of command lines: the candidates for the word at the cursor.
//!
//! Shells and kubectl ask in one way: the words so far, the last one being the one to complete. The answer is a candidate a line, each with
//! a description after a tab, then `:4`, or `:0` where the shell shall offer files.

use std::time::Duration;

use clap::builder::ValueHint;
use clap::{Arg, ArgAction};
use crossfade_host::client::Wanted;
use crossfade_host::store::{Kind, Scope};

use crate::cli::{self, Cli};
use crate::context::Context;
use crate::invocation::Mode;

/// How long a host may take to name its objects; nobody waits longer for a Tab.
const NAMES_WITHIN: Duration = Duration::from_secs(1);

/// What fits at the cursor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Candidates {
    /// Words with their descriptions.
    words: Vec<(String, String)>,
    /// Kinds whose objects' names fit too.
    kinds: Vec<Kind>,
    /// Files fit.
    files: bool,
}

/// Releases of both families.
const RELEASES: &[Kind] = &[Kind::Rollout, Kind::Canary];

/// Commands whose first argument names an object, and of which kinds. Those of `gate` have their own names.
const NAMED: [(&str, &[Kind]); 20] = [
    ("status", RELEASES),
    ("wait", RELEASES),
    ("explain", RELEASES),
    ("history", RELEASES),
    ("events", &[Kind::Rollout]),
    ("logs", &[Kind::Rollout]),
    ("audit", &[Kind::Rollout]),
    ("approve", &[Kind::Canary]),
    ("reject", &[Kind::Canary]),
    ("gate of", &[Kind::Canary]),
    ("promote", &[Kind::Rollout]),
    ("abort", RELEASES),
    ("retry", &[Kind::Rollout]),
    ("pause", RELEASES),
    ("resume", RELEASES),
    ("undo", &[Kind::Rollout]),
    ("rollback", &[Kind::Rollout]),
    ("restart", &[Kind::Rollout]),
    ("image", &[Kind::Rollout]),
    ("terminate", &[Kind::AnalysisRun]),
];

/// Commands whose first argument may be a type, followed by a name.
const TYPED: [&str; 5] = ["get", "delete", "list", "retry", "terminate"];

/// Finds the candidates for the last of these words, which are those after the program's name.
pub(crate) fn candidates(mode: Mode, words: &[String]) -> Candidates {
    let mut command = cli::command(mode);
    command.build();
    let Some((last, before)) = words.split_last() else {
        return Candidates::default();
    };
    let mut here = &command;
    let mut parent = "";
    let mut positionals: Vec<&str> = Vec::new();
    let mut open: Option<&Arg> = None;
    for word in before {
        if open.take().is_some() {
            continue;
        }
        if word.starts_with('-') {
            open = option(here, word).filter(|arg| !word.contains('=') && wants_value(arg));
        } else if let Some(sub) = here.find_subcommand(word) {
            parent = here.get_name();
            here = sub;
            positionals.clear();
        } else {
            positionals.push(word);
        }
    }
    if let Some(arg) = open {
        return values(arg);
    }
    if let Some((name, _)) = last.split_once('=').filter(|_| last.starts_with("--")) {
        let mut found = option(here, name).map(values).unwrap_or_default();
        for (word, _) in &mut found.words {
            *word = format!("{name}={word}");
        }
        return found;
    }
    if last.starts_with('-') {
        return Candidates {
            words: options(here),
            ..Candidates::default()
        };
    }
    let mut found = Candidates {
        words: here
            .get_subcommands()
            .filter(|sub| !sub.is_hide_set() && sub.get_name() != "help")
            .map(|sub| (sub.get_name().to_owned(), first_line(sub.get_about())))
            .collect(),
        ..Candidates::default()
    };
    // `gate status` is about gates, `status` about releases.
    let name = match (parent, here.get_name()) {
        ("gate", "list") => "gate",
        ("gate", _) => "gate of",
        (_, name) => name,
    };
    arguments(here, name, mode, &positionals, &mut found);
    found
}

fn arguments(
    command: &clap::Command,
    name: &str,
    mode: Mode,
    positionals: &[&str],
    found: &mut Candidates,
) {
    let named = NAMED.iter().find(|(known, _)| *known == name);
    let default = match (name, named) {
        ("get" | "delete", _) => &[Kind::Rollout][..],
        (_, Some((_, kinds))) => kinds,
        (_, None) => &[],
    };
    let kind = positionals.first().and_then(|word| Kind::of_word(word));
    match (positionals.len(), kind) {
        (0, _) => {
            if TYPED.contains(&name) {
                found.words.extend(types(name, mode));
            }
            found.kinds.extend(default);
        }
        (1, Some(kind)) if TYPED.contains(&name) && name != "list" => found.kinds.push(kind),
        _ => {}
    }
    let next = command.get_positionals().nth(positionals.len());
    if let Some(arg) = next.filter(|_| found.kinds.is_empty()) {
        let of_arg = values(arg);
        found.words.extend(of_arg.words);
        found.files |= of_arg.files;
    }
}

/// Types that a command knows.
fn types(command: &str, mode: Mode) -> Vec<(String, String)> {
    let kinds: &[Kind] = match (command, mode) {
        ("retry" | "list", _) | ("get", Mode::Plugin) => &[Kind::Rollout, Kind::Experiment],
        ("terminate", _) => &[Kind::AnalysisRun, Kind::Experiment],
        _ => &Kind::ALL,
    };
    let word = |kind: &Kind| {
        if command == "list" {
            kind.plural()
        } else {
            kind.singular()
        }
    };
    kinds
        .iter()
        .map(|kind| (word(kind).to_owned(), kind.name().to_owned()))
        .collect()
}

fn option<'c>(command: &'c clap::Command, word: &str) -> Option<&'c Arg> {
    let name = word.split('=').next().unwrap_or(word);
    command
        .get_arguments()
        .find(|arg| match name.strip_prefix("--") {
            Some(long) => arg.get_long() == Some(long),
            None => arg
                .get_short()
                .is_some_and(|short| name.strip_prefix('-') == Some(&short.to_string())),
        })
}

fn wants_value(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Set | ArgAction::Append) && !arg.is_require_equals_set()
}

fn options(command: &clap::Command) -> Vec<(String, String)> {
    command
        .get_arguments()
        .filter(|arg| !arg.is_hide_set())
        .filter_map(|arg| Some((format!("--{}", arg.get_long()?), first_line(arg.get_help()))))
        .collect()
}

fn values(arg: &Arg) -> Candidates {
    if arg.get_id() == "namespace" {
        return Candidates {
            kinds: vec![Kind::Namespace],
            ..Candidates::default()
        };
    }
    let words = arg.get_possible_values();
    let words = words
        .iter()
        .filter(|value| !value.is_hide_set())
        .map(|value| (value.get_name().to_owned(), first_line(value.get_help())))
        .collect();
    let names_file = arg
        .get_value_names()
        .into_iter()
        .flatten()
        .any(|name| name == "FILE" || name == "FOLDER");
    Candidates {
        words,
        files: names_file || arg.get_value_hint() == ValueHint::AnyPath,
        ..Candidates::default()
    }
}

fn first_line(text: Option<&clap::builder::StyledStr>) -> String {
    let text = text.map(ToString::to_string).unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}

/// The whole answer for the last of these words.
pub(crate) async fn answer(mode: Mode, words: &[String]) -> String {
    let mut found = candidates(mode, words);
    let context = context(mode, words);
    for kind in std::mem::take(&mut found.kinds) {
        let names = tokio::time::timeout(NAMES_WITHIN, names(&context, kind)).await;
        found.words.extend(
            names
                .unwrap_or_default()
                .into_iter()
                .map(|name| (name, String::new())),
        );
    }
    let typed = words.last().map_or("", String::as_str);
    let mut text = String::new();
    for (word, about) in found
        .words
        .iter()
        .filter(|(word, _)| word.starts_with(typed))
    {
        text.push_str(word);
        if !about.is_empty() {
            text.push_str(&format!("\t{about}"));
        }
        text.push('\n');
    }
    text.push_str(if found.files { ":0\n" } else { ":4\n" });
    text
}

/// The context that the words so far name: namespace and host count, nothing else.
fn context(mode: Mode, words: &[String]) -> Context {
    use clap::Parser;
    let mut global = Cli::parse_from(["crossfade", "version"]).global;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word.as_str(), None),
        };
        let field = match name {
            "-n" | "--namespace" => &mut global.namespace,
            "--host" => &mut global.host,
            "--token" => &mut global.token,
            _ => continue,
        };
        *field = value.or_else(|| words.next().cloned());
    }
    Context::new(mode, global)
}

/// Names of a kind's objects; none when nobody can be asked.
async fn names(context: &Context, kind: Kind) -> Vec<String> {
    let Ok(client) = context.client() else {
        return Vec::new();
    };
    let namespace = (kind.scope() == Scope::Namespaced).then(|| context.namespace());
    let Ok(list) = client.list(kind, namespace, &Wanted::default()).await else {
        return Vec::new();
    };
    let names = list
        .items
        .iter()
        .filter_map(|object| object["metadata"]["name"].as_str());
    names.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Candidates {
        let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
        candidates(Mode::Full, &words)
    }

    fn words(line: &str) -> Vec<String> {
        of(line).words.into_iter().map(|(word, _)| word).collect()
    }

    #[test]
    fn commands_options_and_values_complete() {
        assert!(words("").contains(&"promote".to_owned()));
        assert!(words("promote --").contains(&"--full".to_owned()));
        assert!(words("promote --f").contains(&"--namespace".to_owned()));
        assert_eq!(words("get x --color "), ["auto", "always", "never"]);
        assert_eq!(
            words("get x --color="),
            ["--color=auto", "--color=always", "--color=never"]
        );
        assert_eq!(words("logs web --role "), ["canary", "stable"]);
        assert_eq!(words("set "), ["image"]);
        assert_eq!(words("completion "), ["bash", "zsh", "fish", "powershell"]);
    }

    #[test]
    fn names_complete_where_an_object_is_named_and_only_there() {
        assert_eq!(of("promote ").kinds, [Kind::Rollout]);
        assert_eq!(of("promote -n shop ").kinds, [Kind::Rollout]);
        assert_eq!(of("promote web ").kinds, []);
        assert_eq!(of("abort ").kinds, [Kind::Rollout, Kind::Canary]);
        assert_eq!(of("approve ").kinds, [Kind::Canary]);
        assert_eq!(of("get pod ").kinds, [Kind::Pod]);
        assert!(words("get ").contains(&"analysisrun".to_owned()));
        assert_eq!(of("terminate ar ").kinds, [Kind::AnalysisRun]);
        assert_eq!(of("set image ").kinds, [Kind::Rollout]);
        assert_eq!(of("get x -n ").kinds, [Kind::Namespace]);
    }

    #[test]
    fn commands_about_gates_complete_canaries() {
        assert_eq!(
            words("gate "),
            ["list", "open", "close", "status", "history", "check"]
        );
        for command in ["open", "close", "status", "history", "check"] {
            let line = format!("gate {command} ");
            assert_eq!(of(&line).kinds, [Kind::Canary], "{line}");
            assert_eq!(of(&format!("{line}web ")).kinds, [], "{line}");
        }
        assert_eq!(
            (of("gate list ").kinds, words("gate list ")),
            (vec![], vec![])
        );
    }

    #[test]
    fn files_complete_where_a_file_is_named() {
        assert!(of("apply -f ").files);
        assert!(of("lint ").files);
        assert!(!of("promote ").files);
    }
}
