//! From characters to words: names, numbers, texts and signs.
//!
//! Start at [`words`]. Numbers stay as written until the parser wants their value, because `{1: 2}` has the text
//! `1` as its key.

use std::sync::{Arc, LazyLock};

use regex::Regex;

use super::error::Fault;

/// A word and the byte at which it begins.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) word: Word,
    pub(super) at: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Word {
    Name(Arc<str>),
    Number(Arc<str>),
    Text(Arc<str>),
    Bytes(Arc<[u8]>),
    /// A keyword or a sign.
    Sign(Sign),
    End,
}

macro_rules! signs {
    ($($name:ident $text:literal),* $(,)?) => {
        /// Keywords, operators and brackets.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Sign { $(#[doc = concat!("`", $text, "`")] $name),* }

        impl Sign {
            pub(super) fn text(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            fn named(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$name),)* _ => None }
            }
        }
    };
}

signs! {
    Not "not", Bang "!", And "and", AndAnd "&&", Or "or", OrOr "||", In "in", Matches "matches",
    Contains "contains", StartsWith "startsWith", EndsWith "endsWith", Let "let", If "if", Else "else",
    Equal "==", NotEqual "!=", Less "<", LessEqual "<=", More ">", MoreEqual ">=",
    Plus "+", Minus "-", Star "*", Slash "/", Percent "%", StarStar "**", Caret "^",
    Range "..", Dot ".", QuestionDot "?.", Question "?", Coalesce "??", Colon ":", ColonColon "::",
    Pipe "|", Comma ",", Semicolon ";", Assign "=", Hash "#",
    OpenRound "(", CloseRound ")", OpenSquare "[", CloseSquare "]", OpenCurly "{", CloseCurly "}",
}

impl Sign {
    /// The keywords that may also stand after a dot, as the name of a member.
    fn is_keyword(self) -> bool {
        self.text().starts_with(|c: char| c.is_ascii_alphabetic())
    }
}

impl Word {
    /// The name of a member: a name or a keyword.
    pub(super) fn member_name(&self) -> Option<Arc<str>> {
        match self {
            Self::Name(name) => Some(name.clone()),
            Self::Sign(sign) if sign.is_keyword() => Some(sign.text().into()),
            _ => None,
        }
    }

    /// How the word is called in an error.
    pub(super) fn told(&self) -> String {
        match self {
            Self::Name(text) | Self::Number(text) => format!("`{text}`"),
            Self::Text(_) => "text".to_owned(),
            Self::Bytes(_) => "bytes".to_owned(),
            Self::Sign(sign) => format!("`{}`", sign.text()),
            Self::End => "end of expression".to_owned(),
        }
    }
}

/// Letters and decimal digits of every script, as the categories L and Nd of Unicode have them.
static OTHER_LETTER: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^[\p{L}\p{Nd}]$").expect("a fixed pattern"));

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric()
        || c == '_'
        || c == '$'
        || (!c.is_ascii() && OTHER_LETTER.is_match(c.encode_utf8(&mut [0; 4])))
}

/// Splits a text into words; the last one is [`Word::End`].
pub(super) fn words(text: &str) -> Result<Vec<Token>, Fault> {
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blank()?;
        let at = lexer.offset();
        let before = tokens.len();
        lexer.word(&mut tokens)?;
        if tokens
            .last()
            .is_some_and(|token: &Token| token.word == Word::End)
        {
            return Ok(tokens);
        }
        debug_assert!(
            tokens.len() > before && lexer.offset() > at,
            "every round takes a word"
        );
    }
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Lexer<'t> {
    fn rest(&self) -> &'t str {
        // `at` only ever moves by whole characters of `text`.
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn offset(&self) -> u32 {
        // The length of a condition is limited long before this.
        u32::try_from(self.at).unwrap_or(u32::MAX)
    }

    fn accept(&mut self, wanted: impl Fn(char) -> bool) -> bool {
        let found = self.peek().is_some_and(wanted);
        if found {
            self.next();
        }
        found
    }

    fn accept_all(&mut self, wanted: impl Fn(char) -> bool) {
        while self.accept(&wanted) {}
    }

    fn fault(&self, message: impl Into<String>) -> Fault {
        Fault::at(message, self.offset())
    }

    /// White space and comments.
    fn skip_blank(&mut self) -> Result<(), Fault> {
        loop {
            self.accept_all(char::is_whitespace);
            if let Some(comment) = self.rest().strip_prefix("//") {
                self.at += 2 + comment.find('\n').unwrap_or(comment.len());
            } else if let Some(comment) = self.rest().strip_prefix("/*") {
                let end = comment
                    .find("*/")
                    .ok_or_else(|| self.fault("unclosed comment"))?;
                self.at += 2 + end + 2;
            } else {
                return Ok(());
            }
        }
    }

    fn word(&mut self, tokens: &mut Vec<Token>) -> Result<(), Fault> {
        let at = self.offset();
        let start = self.at;
        let mut push = |word| tokens.push(Token { word, at });
        let Some(first) = self.next() else {
            push(Word::End);
            return Ok(());
        };
        match first {
            '"' | '\'' => push(Word::Text(self.quoted(first)?.into())),
            '`' => push(Word::Text(self.raw()?.into())),
            'b' | 'B' if matches!(self.peek(), Some('"' | '\'')) => {
                let quote = self.next().unwrap_or('"');
                push(Word::Bytes(self.quoted_bytes(quote)?.into()));
            }
            '0'..='9' => {
                self.at = start;
                push(Word::Number(self.number()?.into()));
            }
            '.' if self.peek().is_some_and(|c| c.is_ascii_digit()) => {
                self.at = start;
                push(Word::Number(self.number()?.into()));
            }
            '#' => {
                push(Word::Sign(Sign::Hash));
                // A name that follows at once may begin with a digit: `#1` is a pointer without meaning, not an
                // element followed by a number.
                let at = self.offset();
                let start = self.at;
                self.accept_all(is_name_char);
                if self.at > start {
                    let name = self.text[start..self.at].into();
                    tokens.push(Token {
                        word: Word::Name(name),
                        at,
                    });
                }
            }
            c if is_name_char(c) => {
                self.accept_all(is_name_char);
                let name = &self.text[start..self.at];
                push(match Sign::named(name) {
                    Some(keyword) => Word::Sign(keyword),
                    None => Word::Name(name.into()),
                });
            }
            _ => {
                match first {
                    '?' => self.accept(|c| c == '.' || c == '?'),
                    '.' => self.accept(|c| c == '.'),
                    '|' => self.accept(|c| c == '|'),
                    ':' => self.accept(|c| c == ':'),
                    '&' | '!' | '=' | '*' | '<' | '>' => {
                        self.accept(|c| matches!(c, '&' | '=' | '*'))
                    }
                    _ => false,
                };
                let text = &self.text[start..self.at];
                let sign = Sign::named(text)
                    .ok_or_else(|| Fault::at(format!("unrecognized character `{text}`"), at))?;
                push(Word::Sign(sign));
            }
        }
        Ok(())
    }

    /// A number as it is written, `_` taken out later. `1..2` is a range: its first number has no point.
    fn number(&mut self) -> Result<&'t str, Fault> {
        let start = self.at;
        let mut is_digit: fn(char) -> bool = |c| c.is_ascii_digit() || c == '_';
        if self.accept(|c| c == '0') {
            if self.accept(|c| matches!(c, 'x' | 'X')) {
                is_digit = |c| c.is_ascii_hexdigit() || c == '_';
            } else if self.accept(|c| matches!(c, 'o' | 'O')) {
                is_digit = |c| matches!(c, '0'..='7' | '_');
            } else if self.accept(|c| matches!(c, 'b' | 'B')) {
                is_digit = |c| matches!(c, '0' | '1' | '_');
            }
        }
        self.accept_all(is_digit);
        if self.rest().starts_with('.') && !self.rest().starts_with("..") {
            self.next();
            self.accept_all(is_digit);
        }
        if self.accept(|c| matches!(c, 'e' | 'E')) {
            self.accept(|c| matches!(c, '+' | '-'));
            self.accept_all(is_digit);
        }
        if self.peek().is_some_and(is_name_char) {
            return Err(self.fault("bad number syntax"));
        }
        Ok(&self.text[start..self.at])
    }

    /// The inside of a text in quotes; the opening quote is behind us.
    fn quoted(&mut self, quote: char) -> Result<String, Fault> {
        let mut text = String::new();
        loop {
            match self.next() {
                None | Some('\n') => return Err(self.fault("literal not terminated")),
                Some(c) if c == quote => return Ok(text),
                Some('\\') => text.push(self.escaped(quote)?),
                // As in the reference, a carriage return is a new line.
                Some('\r') => text.push('\n'),
                Some(c) => text.push(c),
            }
        }
    }

    fn quoted_bytes(&mut self, quote: char) -> Result<Vec<u8>, Fault> {
        let mut bytes = Vec::new();
        let mut buffer = [0; 4];
        loop {
            match self.next() {
                None | Some('\n') => return Err(self.fault("literal not terminated")),
                Some(c) if c == quote => return Ok(bytes),
                Some('\\') if self.peek().is_some_and(|c| matches!(c, 'u' | 'U')) => {
                    return Err(self.fault("invalid char escape"));
                }
                Some('\\') => {
                    // Every other escape is below 256, and stands for one byte.
                    let byte = u8::try_from(u32::from(self.escaped(quote)?))
                        .map_err(|_| self.fault("invalid char escape"))?;
                    bytes.push(byte);
                }
                Some('\r') => bytes.push(b'\n'),
                Some(c) => bytes.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes()),
            }
        }
    }

    /// What stands after a backslash.
    fn escaped(&mut self, quote: char) -> Result<char, Fault> {
        let invalid = self.fault("invalid char escape");
        let Some(c) = self.next() else {
            return Err(invalid);
        };
        let code = match c {
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => 10,
            'r' => 13,
            't' => 9,
            'v' => 11,
            '\\' => 92,
            c if c == quote => u32::from(c),
            '0'..='3' => {
                self.at -= 1;
                return self.code(8, 3).ok_or(invalid);
            }
            'x' => return self.code(16, 2).ok_or(invalid),
            'U' => return self.code(16, 8).ok_or(invalid),
            'u' if self.peek() == Some('{') => {
                self.next();
                let digits = self
                    .rest()
                    .bytes()
                    .take_while(u8::is_ascii_hexdigit)
                    .count();
                if digits == 0 || digits > 6 {
                    return Err(invalid);
                }
                let found = self.code(16, digits);
                if self.next() != Some('}') {
                    return Err(invalid);
                }
                return found.ok_or(invalid);
            }
            'u' => return self.code(16, 4).ok_or(invalid),
            _ => return Err(invalid),
        };
        char::from_u32(code).ok_or(invalid)
    }

    /// A character by its number in exactly `digits` digits. Halves of surrogate pairs become U+FFFD.
    fn code(&mut self, radix: u32, digits: usize) -> Option<char> {
        let mut code: u32 = 0;
        for _ in 0..digits {
            let digit = self.peek()?.to_digit(radix)?;
            self.next();
            code = code.checked_mul(radix)?.checked_add(digit)?;
        }
        if (0xD800..0xE000).contains(&code) {
            return Some(char::REPLACEMENT_CHARACTER);
        }
        char::from_u32(code)
    }

    /// A text in backquotes, where two of them stand for one; the first is behind us.
    fn raw(&mut self) -> Result<String, Fault> {
        let mut text = String::new();
        loop {
            match self.next() {
                None => return Err(self.fault("literal not terminated")),
                Some('`') if !self.accept(|c| c == '`') => return Ok(text),
                Some(c) => text.push(c),
            }
        }
    }
}
