//! Icons and colours: one sign for each state, in colour or as a word.

use serde::Serialize;

/// How output may look on this terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Look {
    /// Escape codes for colours are allowed.
    pub(crate) colour: bool,
    /// Words and plain lines instead of icons and box drawing.
    pub(crate) ascii: bool,
}

/// The number of an ANSI colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    /// The terminal's own.
    Default = 0,
    /// Bad.
    Red = 31,
    /// Good.
    Green = 32,
    /// Undecided, or new.
    Yellow = 33,
    /// Under way.
    Blue = 94,
}

impl Look {
    /// The text in a colour, if colours are allowed.
    pub(crate) fn paint(self, text: &str, colour: Colour) -> String {
        if self.colour {
            format!("\u{1b}[{}m{text}\u{1b}[0m", colour as u8)
        } else {
            text.to_owned()
        }
    }
}

/// The sign of a state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Icon {
    /// No sign is known.
    #[default]
    Blank,
    /// Good.
    Ok,
    /// Bad.
    Bad,
    /// It went wrong on the way.
    Warning,
    /// Under way.
    Progressing,
    /// Not begun.
    Waiting,
    /// Held.
    Paused,
    /// Cannot be told.
    Unknown,
    /// Switched off.
    Neutral,
}

impl Icon {
    /// The sign as a character, or as a word in brackets.
    pub(crate) fn text(self, look: Look) -> &'static str {
        if look.ascii {
            return match self {
                Self::Blank => " ",
                Self::Ok => "[ok]",
                Self::Bad => "[bad]",
                Self::Warning => "[error]",
                Self::Progressing => "[going]",
                Self::Waiting => "[waiting]",
                Self::Paused => "[paused]",
                Self::Unknown => "[unknown]",
                Self::Neutral => "[off]",
            };
        }
        match self {
            Self::Blank => " ",
            Self::Ok => "✔",
            Self::Bad => "✖",
            Self::Warning => "⚠",
            Self::Progressing => "◌",
            Self::Waiting => "◷",
            Self::Paused => "॥",
            Self::Unknown => "?",
            Self::Neutral => "•",
        }
    }

    fn colour(self) -> Colour {
        match self {
            Self::Ok => Colour::Green,
            Self::Bad | Self::Warning => Colour::Red,
            Self::Progressing => Colour::Blue,
            Self::Waiting | Self::Unknown => Colour::Yellow,
            Self::Blank | Self::Paused | Self::Neutral => Colour::Default,
        }
    }

    /// The sign in its colour.
    pub(crate) fn painted(self, look: Look) -> String {
        look.paint(self.text(look), self.colour())
    }
}

/// A state: its sign and its word.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct State {
    /// The sign.
    pub(crate) icon: Icon,
    /// The word.
    #[serde(rename = "status")]
    pub(crate) word: String,
}

impl State {
    /// A state with its sign.
    pub(crate) fn new(icon: Icon, word: impl Into<String>) -> Self {
        Self {
            icon,
            word: word.into(),
        }
    }

    /// Sign, blank, word.
    pub(crate) fn painted(&self, look: Look) -> String {
        format!("{} {}", self.icon.painted(look), self.word)
    }
}

/// What a version or image is at present.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Tag {
    /// The new version of a canary.
    Canary,
    /// The version to go back to.
    Stable,
    /// Gets the traffic of a blue-green release.
    Active,
    /// Waits for the switch of a blue-green release.
    Preview,
    /// Behind the first Service of a ping-pong canary.
    Ping,
    /// Behind the second Service of a ping-pong canary.
    Pong,
    /// Runs for this template of an experiment.
    Experiment(String),
}

impl Tag {
    /// The word for people.
    pub(crate) fn text(&self, look: Look) -> String {
        match self {
            Self::Canary => "canary".to_owned(),
            Self::Stable => "stable".to_owned(),
            Self::Active => "active".to_owned(),
            Self::Preview => "preview".to_owned(),
            Self::Ping => "ping".to_owned(),
            Self::Pong => "pong".to_owned(),
            Self::Experiment(template) if look.ascii => format!("experiment:{template}"),
            Self::Experiment(template) => format!("Σ:{template}"),
        }
    }

    /// The colour of the word, and of the names it applies to.
    pub(crate) fn colour(&self) -> Colour {
        match self {
            Self::Canary => Colour::Yellow,
            Self::Stable | Self::Active => Colour::Green,
            Self::Preview | Self::Ping | Self::Pong => Colour::Blue,
            Self::Experiment(_) => Colour::Default,
        }
    }

    /// The word in its colour.
    pub(crate) fn painted(&self, look: Look) -> String {
        look.paint(&self.text(look), self.colour())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_surround_icons_and_tags_and_nothing_else() {
        let look = Look {
            colour: true,
            ascii: false,
        };
        let state = State::new(Icon::Ok, "Healthy");
        assert_eq!(state.painted(look), "\u{1b}[32m✔\u{1b}[0m Healthy");
        assert_eq!(Tag::Canary.painted(look), "\u{1b}[33mcanary\u{1b}[0m");
        assert_eq!(Icon::Paused.painted(look), "\u{1b}[0m॥\u{1b}[0m");
        assert_eq!(state.painted(Look::default()), "✔ Healthy");
    }
}
