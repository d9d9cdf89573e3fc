//! What is said about a command line that cannot be understood.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::error::{CliError, nearest};
use crate::invocation::Mode;

/// Turns what the parser found into an error of ours. Help is no error and is printed as it is by the caller.
///
/// `words` are the arguments as they were typed, after the name of the program.
pub(crate) fn error(
    found: &clap::Error,
    mode: Mode,
    command: &clap::Command,
    words: &[String],
) -> CliError {
    let (here, path) = command_of(command, words);
    let context = |kind: ContextKind| found.get(kind).map(text).unwrap_or_default();
    let argument = context(ContextKind::InvalidArg);
    let value = context(ContextKind::InvalidValue);
    let error = match found.kind() {
        ErrorKind::ValueValidation => {
            let source =
                std::error::Error::source(found).map_or_else(String::new, ToString::to_string);
            if source.starts_with("invalid log level") || source.starts_with("arguments must be") {
                CliError::usage(source)
            } else {
                let flag = flag(&here, &argument);
                CliError::usage(format!("invalid argument \"{value}\" for {flag}: {source}"))
            }
        }
        ErrorKind::InvalidValue if !value.is_empty() => {
            let valid = context(ContextKind::ValidValue);
            let flag = flag(&here, &argument);
            CliError::usage(format!(
                "invalid argument \"{value}\" for {flag}: use {valid}"
            ))
        }
        ErrorKind::InvalidSubcommand => {
            let word = context(ContextKind::InvalidSubcommand);
            let known = here.get_subcommands().filter(|sub| !sub.is_hide_set());
            let known: Vec<_> = known.map(|sub| sub.get_name().to_owned()).collect();
            let near = nearest(&word, known.iter().map(String::as_str));
            let error = CliError::usage(format!(
                "unknown command \"{word}\" for \"{}\"",
                mode.command()
            ));
            match near {
                Some(near) => error.hint(format!("did you mean \"{near}\"?")),
                None => error,
            }
        }
        ErrorKind::UnknownArgument if argument.starts_with('-') => {
            let error = CliError::usage(format!("unknown flag: {argument}"));
            match found.get(ContextKind::SuggestedArg).map(text) {
                Some(near) => error.hint(format!("did you mean \"{near}\"?")),
                None => error,
            }
        }
        ErrorKind::ArgumentConflict => {
            let other = context(ContextKind::PriorArg);
            CliError::usage(format!("{argument} and {other} exclude each other"))
        }
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            arguments("a command is missing".to_owned())
        }
        ErrorKind::MissingRequiredArgument | ErrorKind::InvalidValue | ErrorKind::TooFewValues => {
            arguments(format!("{argument} is missing"))
        }
        ErrorKind::UnknownArgument | ErrorKind::TooManyValues | ErrorKind::WrongNumberOfValues => {
            let what = if value.is_empty() { argument } else { value };
            arguments(format!("one argument too many: {what}"))
        }
        _ => {
            let whole = found.to_string();
            let first = whole.lines().next().unwrap_or_default();
            CliError::usage(first.trim_start_matches("error: "))
        }
    };
    if error.hint.is_some() {
        return error;
    }
    error.hint(format!("{}{path} --help", mode.command()))
}

fn arguments(message: String) -> CliError {
    CliError {
        message,
        ..CliError::arguments()
    }
}

fn text(value: &ContextValue) -> String {
    match value {
        ContextValue::String(text) => text.clone(),
        ContextValue::Strings(texts) => texts.join(", "),
        other => other.to_string(),
    }
}

/// `--timeout <DURATION>` as Go's tools name it: `"-t, --timeout" flag`. A positional argument as it is.
fn flag(command: &clap::Command, argument: &str) -> String {
    let Some(long) = argument.strip_prefix("--") else {
        return argument.to_owned();
    };
    let long = long.split([' ', '=', '[']).next().unwrap_or(long);
    let known = command
        .get_arguments()
        .find(|arg| arg.get_long() == Some(long));
    match known.and_then(clap::Arg::get_short) {
        Some(short) => format!("\"-{short}, --{long}\" flag"),
        None => format!("\"--{long}\" flag"),
    }
}

/// The command that these words name, and how it is called below the program.
fn command_of(command: &clap::Command, words: &[String]) -> (clap::Command, String) {
    let mut here = command.clone();
    here.build();
    let mut path = String::new();
    for word in words {
        if let Some(sub) = here.find_subcommand(word) {
            path.push_str(&format!(" {}", sub.get_name()));
            here = sub.clone();
        }
    }
    (here, path)
}

/// How the command is written that these words name, for people who got the number of arguments wrong.
pub(crate) fn of_command(command: &clap::Command, words: &[String]) -> String {
    let (mut here, _) = command_of(command, words);
    format!("{}\n", here.render_help().to_string().trim_end())
}

/// Whether the words ask for errors in JSON; asked before they are understood.
pub(crate) fn wants_json(words: &[String]) -> bool {
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "--" => return false,
            "-o" | "--output" => return words.next() == Some("json"),
            "-ojson" | "-o=json" | "--output=json" => return true,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli;

    fn check(mode: Mode, line: &str, message: &str, hint: &str) {
        let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
        let command = cli::command(mode);
        let found = command
            .clone()
            .try_get_matches_from(std::iter::once("crossfade").chain(line.split(' ')))
            .expect_err(line);
        let error = error(&found, mode, &command, &words);
        assert_eq!(error.message, message, "{line}");
        assert_eq!(error.hint.as_deref(), Some(hint), "{line}");
    }

    #[test]
    fn a_mistake_on_the_command_line_is_named_with_what_was_probably_meant() {
        let table = [
            (
                "promot web",
                "unknown command \"promot\" for \"crossfade\"",
                "did you mean \"promote\"?",
            ),
            (
                "promote web --ful",
                "unknown flag: --ful",
                "did you mean \"--full\"?",
            ),
            (
                "status web -t 10",
                "invalid argument \"10\" for \"-t, --timeout\" flag: time: missing unit in duration \"10\"",
                "crossfade status --help",
            ),
            (
                "set image web",
                "<CONTAINER=IMAGE> is missing",
                "crossfade set image --help",
            ),
            (
                "explain a b c",
                "one argument too many: c",
                "crossfade explain --help",
            ),
            (
                "--loglevel loud version",
                "invalid log level \"loud\": use trace, debug, info, warn, error",
                "crossfade version --help",
            ),
        ];
        for (line, message, hint) in table {
            check(Mode::Full, line, message, hint);
        }
    }

    #[test]
    fn json_is_wanted_when_it_is_asked_for_before_the_end_of_options() {
        let wants =
            |line: &str| wants_json(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert!(wants("get x -o json"));
        assert!(wants("--output=json get x"));
        assert!(!wants("get x -o yaml"));
        assert!(!wants("get -- -o json"));
    }
}
