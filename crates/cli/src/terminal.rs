//! Standard output and standard error: where text goes, and whether it may be coloured.

use std::io::{self, IsTerminal, Write};

use crate::error::{CliError, Result};
use crate::exit;
use crate::view::icon::Look;

/// When colours are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ColourWish {
    /// When the output is a terminal and NO_COLOR is not set.
    #[default]
    Auto,
    /// Also into files and pipes.
    Always,
    /// Not at all.
    Never,
}

/// What standard output is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terminal {
    /// How results may look.
    pub(crate) look: Look,
    /// Standard output is a terminal.
    pub(crate) is_terminal: bool,
}

impl Terminal {
    /// The terminal of this process.
    pub(crate) fn of_process(wish: ColourWish, ascii: bool) -> Self {
        let is_terminal = io::stdout().is_terminal();
        let variable = |name| std::env::var(name).unwrap_or_default();
        let colour = match wish {
            ColourWish::Always => true,
            ColourWish::Never => false,
            ColourWish::Auto => {
                is_terminal && variable("NO_COLOR").is_empty() && variable("TERM") != "dumb"
            }
        };
        Self {
            look: Look { colour, ascii },
            is_terminal,
        }
    }
}

/// Writes a result.
pub(crate) fn print(text: &str) -> Result<()> {
    bytes(text.as_bytes())
}

/// Writes a line of a result.
pub(crate) fn line(text: &str) -> Result<()> {
    print(&format!("{text}\n"))
}

/// Writes bytes of a result as they are.
pub(crate) fn bytes(bytes: &[u8]) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(|error| unheard(&error))
}

/// Tells people something beside the result.
pub(crate) fn remark(text: &str) {
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Whoever closes the pipe has read enough: no error, and nobody to tell it.
fn unheard(error: &io::Error) -> CliError {
    if error.kind() == io::ErrorKind::BrokenPipe {
        CliError::silent(exit::DONE)
    } else {
        CliError::failure(format!("cannot write to standard output: {error}"))
    }
}
