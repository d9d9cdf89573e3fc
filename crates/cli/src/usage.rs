//! What is said about a command line that cannot be understood.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::error::CliError;
use crate::invocation::Mode;

/// Turns what the parser found into an error of ours. Help is no error and is printed as it is by the caller.
pub(crate) fn error(found: &clap::Error, mode: Mode) -> CliError {
    let context = |kind: ContextKind| found.get(kind).map(text);
    let argument = context(ContextKind::InvalidArg).unwrap_or_default();
    let value = context(ContextKind::InvalidValue).unwrap_or_default();
    let error = match found.kind() {
        ErrorKind::ValueValidation => {
            let source =
                std::error::Error::source(found).map_or_else(String::new, ToString::to_string);
            if source.starts_with("invalid log level") {
                CliError::usage(source)
            } else {
                CliError::usage(format!(
                    "invalid argument \"{value}\" for \"{}\" flag: {source}",
                    flag(&argument)
                ))
            }
        }
        ErrorKind::InvalidValue if !value.is_empty() => {
            let valid = match found.get(ContextKind::ValidValue) {
                Some(ContextValue::Strings(valid)) => valid.join(", "),
                _ => String::new(),
            };
            CliError::usage(format!(
                "invalid argument \"{value}\" for \"{}\" flag: use {valid}",
                flag(&argument)
            ))
        }
        ErrorKind::InvalidSubcommand => {
            let word = context(ContextKind::InvalidSubcommand).unwrap_or_default();
            let error = CliError::usage(format!(
                "unknown command \"{word}\" for \"{}\"",
                mode.command()
            ));
            match context(ContextKind::SuggestedSubcommand) {
                Some(near) => error.hint(format!("did you mean \"{near}\"?")),
                None => error,
            }
        }
        ErrorKind::UnknownArgument if argument.starts_with('-') => {
            let error = CliError::usage(format!("unknown flag: {argument}"));
            match context(ContextKind::SuggestedArg) {
                Some(near) => error.hint(format!("did you mean \"{near}\"?")),
                None => error,
            }
        }
        ErrorKind::ArgumentConflict => {
            let other = context(ContextKind::PriorArg).unwrap_or_default();
            CliError::usage(format!("{argument} and {other} exclude each other"))
        }
        ErrorKind::MissingSubcommand
        | ErrorKind::MissingRequiredArgument
        | ErrorKind::UnknownArgument
        | ErrorKind::InvalidValue
        | ErrorKind::TooManyValues
        | ErrorKind::TooFewValues
        | ErrorKind::WrongNumberOfValues => CliError {
            message: missing(found, &argument),
            ..CliError::arguments()
        },
        _ => {
            let whole = found.to_string();
            let first = whole.lines().next().unwrap_or_default();
            CliError::usage(first.trim_start_matches("error: "))
        }
    };
    if error.hint.is_some() {
        return error;
    }
    error.hint(format!("{} --help", mode.command()))
}

fn missing(found: &clap::Error, argument: &str) -> String {
    match found.kind() {
        ErrorKind::MissingSubcommand => "a command is missing".to_owned(),
        ErrorKind::MissingRequiredArgument | ErrorKind::InvalidValue | ErrorKind::TooFewValues => {
            format!("{argument} is missing")
        }
        _ => format!("one argument too many: {argument}"),
    }
}

fn text(value: &ContextValue) -> String {
    match value {
        ContextValue::String(text) => text.clone(),
        ContextValue::Strings(texts) => texts.join(", "),
        other => other.to_string(),
    }
}

/// `--timeout <DURATION>` as `--timeout`.
fn flag(argument: &str) -> &str {
    argument.split([' ', '=', '[']).next().unwrap_or(argument)
}

/// How the command is written that these arguments begin, for people who got the number of arguments wrong.
pub(crate) fn of_command(command: &clap::Command, arguments: &[String]) -> String {
    let mut here = command.clone();
    here.build();
    for word in arguments.iter().skip(1) {
        if let Some(sub) = here.find_subcommand(word) {
            here = sub.clone();
        }
    }
    format!("{}\n", here.render_help().to_string().trim_end())
}

/// Whether the arguments ask for errors in JSON; asked before they are understood.
pub(crate) fn wants_json(arguments: &[String]) -> bool {
    let mut words = arguments.iter().map(String::as_str);
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
