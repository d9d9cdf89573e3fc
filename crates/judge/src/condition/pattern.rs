//! Regular expressions with the syntax that users' conditions have: RE2, as Go reads it.
//!
//! The engine is the crate `regex`. It is close, yet some texts mean something else there (`\d` is any script's
//! digit, `[a&&b]` an intersection, `a**` is allowed), so a pattern is read here by RE2's rules and written anew.
//! Only whether a pattern matches is ever asked, therefore groups do not capture and greed is left out.

use std::fmt::{self, Write as _};
use std::iter::Peekable;
use std::str::Chars;

use regex::{Regex, RegexBuilder};

use super::error::Fault;

/// The most bytes a compiled pattern may take.
const MOST_BYTES: usize = 2 << 20;

/// The highest count in `{n}`, also multiplied through nested ones.
const MOST_REPEATS: u32 = 1000;

/// Compiles a pattern. Fails as RE2 does, and when the pattern is too large.
pub(super) fn compile(pattern: &str) -> Result<Regex, Fault> {
    let translated = Translator::new(pattern).translate()?;
    RegexBuilder::new(&translated)
        .size_limit(MOST_BYTES)
        .dfa_size_limit(MOST_BYTES)
        .build()
        .map_err(|_| invalid("not supported, or too large"))
}

fn invalid(what: &str) -> Fault {
    Fault::new(format!("error parsing regexp: {what}"))
}

/// What may stand before `*`: nothing to repeat, something, or something that is repeated already.
#[derive(Clone, Copy, PartialEq)]
enum Before {
    Nothing,
    Atom { repeats: u32 },
    Repeated,
}

/// A group that is open.
struct Group {
    /// The largest count of nested repetitions inside, so far.
    repeats: u32,
}

struct Translator<'p> {
    rest: Peekable<Chars<'p>>,
    out: String,
    groups: Vec<Group>,
    repeats: u32,
    before: Before,
    /// No `:]` follows any more: spares looking for it again at every bracket.
    no_more_posix: bool,
}

impl<'p> Translator<'p> {
    fn new(pattern: &'p str) -> Self {
        Self {
            rest: pattern.chars().peekable(),
            out: String::with_capacity(pattern.len() * 2),
            groups: Vec::new(),
            repeats: 1,
            before: Before::Nothing,
            no_more_posix: false,
        }
    }

    fn translate(mut self) -> Result<String, Fault> {
        while let Some(c) = self.rest.next() {
            match c {
                '(' => self.open()?,
                ')' => self.close()?,
                '|' => {
                    self.out.push('|');
                    self.before = Before::Nothing;
                }
                '^' | '$' | '.' => {
                    self.out.push(c);
                    self.atom(1);
                }
                '[' => {
                    self.class()?;
                    self.atom(1);
                }
                '*' => self.repeat("*", 1)?,
                '+' => self.repeat("+", 1)?,
                '?' => self.repeat("?", 1)?,
                '{' => match self.counts()? {
                    Some((text, count)) => self.repeat(&text, count)?,
                    None => self.literal('{'),
                },
                '\\' => self.escape()?,
                c => self.literal(c),
            }
        }
        if !self.groups.is_empty() {
            return Err(invalid("missing closing )"));
        }
        Ok(self.out)
    }

    fn write(&mut self, piece: fmt::Arguments<'_>) {
        // Writing to a text cannot fail.
        let written = self.out.write_fmt(piece);
        debug_assert!(written.is_ok(), "a text takes everything");
    }

    /// Something that can be repeated has been written.
    fn atom(&mut self, repeats: u32) {
        self.before = Before::Atom { repeats };
        self.repeats = self.repeats.max(repeats);
    }

    fn literal(&mut self, c: char) {
        push_literal(&mut self.out, c);
        self.atom(1);
    }

    fn repeat(&mut self, operator: &str, count: u32) -> Result<(), Fault> {
        let repeats = match self.before {
            Before::Nothing => return Err(invalid("missing argument to repetition operator")),
            Before::Repeated => return Err(invalid("invalid nested repetition operator")),
            Before::Atom { repeats } => repeats.saturating_mul(count.max(1)),
        };
        if count > 0 && repeats > MOST_REPEATS {
            return Err(invalid("invalid repeat count"));
        }
        // Lazy or greedy, it matches or it does not.
        self.rest.next_if_eq(&'?');
        self.out.push_str(operator);
        self.repeats = self.repeats.max(repeats.min(MOST_REPEATS));
        self.before = Before::Repeated;
        Ok(())
    }

    /// What stands between `{` and `}`, when it is counts; otherwise the brace is a brace.
    fn counts(&mut self) -> Result<Option<(String, u32)>, Fault> {
        let mut ahead = self.rest.clone();
        let mut number = || {
            let mut digits = String::new();
            while let Some(digit) = ahead.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            (digits, ahead.next())
        };
        let fits = |digits: &str| digits == "0" || !digits.starts_with('0');
        let (least, after) = number();
        let (most, after) = match after {
            Some(',') => number(),
            after => (least.clone(), after),
        };
        if least.is_empty() || !fits(&least) || !fits(&most) || after != Some('}') {
            return Ok(None);
        }
        self.rest = ahead;
        let size = |digits: &str| {
            digits
                .parse()
                .ok()
                .filter(|count: &u32| *count <= MOST_REPEATS)
                .ok_or_else(|| invalid("invalid repeat count"))
        };
        let low = size(&least)?;
        if most.is_empty() {
            return Ok(Some((format!("{{{low},}}"), low)));
        }
        let high = size(&most)?;
        if high < low {
            return Err(invalid("invalid repeat count"));
        }
        Ok(Some((format!("{{{low},{high}}}"), high)))
    }

    fn open(&mut self) -> Result<(), Fault> {
        if self.rest.next_if_eq(&'?').is_none() {
            self.out.push_str("(?:");
            self.enter();
            return Ok(());
        }
        let named = match self.rest.peek() {
            Some('P') => {
                self.rest.next();
                if self.rest.peek() != Some(&'<') {
                    return Err(invalid("invalid named capture"));
                }
                true
            }
            Some('<') => true,
            _ => false,
        };
        if named {
            self.rest.next();
            self.name()?;
            self.out.push_str("(?:");
            self.enter();
            return Ok(());
        }
        self.flags()
    }

    fn enter(&mut self) {
        self.groups.push(Group {
            repeats: self.repeats,
        });
        self.repeats = 1;
        self.before = Before::Nothing;
    }

    fn close(&mut self) -> Result<(), Fault> {
        let outer = self.groups.pop().ok_or_else(|| invalid("unexpected )"))?;
        self.out.push(')');
        let inside = self.repeats;
        self.repeats = outer.repeats;
        self.atom(inside);
        Ok(())
    }

    /// The name of a group up to `>`.
    fn name(&mut self) -> Result<(), Fault> {
        let mut is_empty = true;
        loop {
            match self.rest.next() {
                Some('>') if !is_empty => return Ok(()),
                Some(c) if c.is_ascii_alphanumeric() || c == '_' => is_empty = false,
                _ => return Err(invalid("invalid named capture")),
            }
        }
    }

    /// `(?i)`, `(?i-s:`, after `(?`.
    fn flags(&mut self) -> Result<(), Fault> {
        let missing = || invalid("invalid or unsupported Perl syntax");
        // For `i`, `m` and `s`: on, off, or as before.
        let mut flags = [('i', None), ('m', None), ('s', None)];
        let mut value = true;
        let mut seen = false;
        let ends_group = loop {
            match self.rest.next().ok_or_else(missing)? {
                c @ (':' | ')') => {
                    if !value && !seen {
                        return Err(missing());
                    }
                    break c == ')';
                }
                '-' if value => {
                    value = false;
                    seen = false;
                }
                'U' => seen = true,
                c => {
                    let flag = flags.iter_mut().find(|(name, _)| *name == c);
                    flag.ok_or_else(missing)?.1 = Some(value);
                    seen = true;
                }
            }
        };
        let names = |wanted| {
            flags
                .iter()
                .filter(move |(_, value)| *value == Some(wanted))
                .map(|(name, _)| *name)
                .collect::<String>()
        };
        let (on, off) = (names(true), names(false));
        let dash = if off.is_empty() { "" } else { "-" };
        if !ends_group {
            self.write(format_args!("(?{on}{dash}{off}:"));
            self.enter();
            return Ok(());
        }
        if !(on.is_empty() && off.is_empty()) {
            self.write(format_args!("(?{on}{dash}{off})"));
        }
        // RE2 lets `*` behind this repeat what stands before it; nobody means that.
        self.before = Before::Nothing;
        Ok(())
    }

    /// What stands after a backslash, outside classes.
    fn escape(&mut self) -> Result<(), Fault> {
        let trailing = || invalid("trailing backslash at end of expression");
        match *self.rest.peek().ok_or_else(trailing)? {
            'A' => self.out.push_str("\\A"),
            'z' => self.out.push_str("\\z"),
            'b' => self.out.push_str("(?-u:\\b)"),
            'B' => self.out.push_str("(?-u:\\B)"),
            'Q' => {
                self.rest.next();
                self.quotation();
                return Ok(());
            }
            c if perl_class(c).is_some() => {
                let (ranges, negated) = perl_class(c).unwrap_or_default();
                let not = if negated { "^" } else { "" };
                self.write(format_args!("[{not}{ranges}]"));
            }
            'p' | 'P' => {
                let class = self.unicode_class()?;
                self.out.push_str(&class);
                self.atom(1);
                return Ok(());
            }
            _ => {
                let c = self.escaped()?;
                self.literal(c);
                return Ok(());
            }
        }
        self.rest.next();
        self.atom(1);
        Ok(())
    }

    /// Literal text up to `\E` or the end.
    fn quotation(&mut self) {
        while let Some(c) = self.rest.next() {
            if c == '\\' && self.rest.next_if_eq(&'E').is_some() {
                return;
            }
            self.literal(c);
        }
    }

    /// `\pL`, `\p{Greek}`, `\P{^Lu}`; the `p` is next.
    fn unicode_class(&mut self) -> Result<String, Fault> {
        let unknown = || invalid("invalid character class range");
        let mut negated = self.rest.next() == Some('P');
        let mut name = String::new();
        match self.rest.next().ok_or_else(unknown)? {
            '{' => {
                if self.rest.next_if_eq(&'^').is_some() {
                    negated = !negated;
                }
                loop {
                    match self.rest.next().ok_or_else(unknown)? {
                        '}' => break,
                        c if c.is_ascii_alphanumeric() || c == '_' => name.push(c),
                        _ => return Err(unknown()),
                    }
                }
            }
            c if c.is_ascii_alphabetic() => name.push(c),
            _ => return Err(unknown()),
        }
        if name.is_empty() {
            return Err(unknown());
        }
        let p = if negated { 'P' } else { 'p' };
        Ok(format!("\\{p}{{{name}}}"))
    }

    /// One character behind a backslash.
    fn escaped(&mut self) -> Result<char, Fault> {
        let unknown = || invalid("invalid escape sequence");
        let c = self.rest.next().ok_or_else(unknown)?;
        let octal = |c: &char| ('0'..='7').contains(c);
        match c {
            // One digit alone would be a reference to a group.
            '1'..='7' if !self.rest.peek().is_some_and(octal) => Err(unknown()),
            '0'..='7' => {
                let mut code = u32::from(c) - u32::from('0');
                for _ in 0..2 {
                    let Some(digit) = self.rest.next_if(octal) else {
                        break;
                    };
                    code = code * 8 + (u32::from(digit) - u32::from('0'));
                }
                char::from_u32(code).ok_or_else(unknown)
            }
            'x' => {
                let mut code = 0;
                if self.rest.next_if_eq(&'{').is_some() {
                    let mut digits = 0;
                    loop {
                        let c = self.rest.next().ok_or_else(unknown)?;
                        if c == '}' && digits > 0 {
                            break;
                        }
                        code = code * 16 + c.to_digit(16).ok_or_else(unknown)?;
                        digits += 1;
                        if code > u32::from(char::MAX) {
                            return Err(unknown());
                        }
                    }
                } else {
                    for _ in 0..2 {
                        let c = self.rest.next().ok_or_else(unknown)?;
                        code = code * 16 + c.to_digit(16).ok_or_else(unknown)?;
                    }
                }
                char::from_u32(code).ok_or_else(unknown)
            }
            'a' => Ok('\u{7}'),
            'f' => Ok('\u{c}'),
            'n' => Ok('\n'),
            'r' => Ok('\r'),
            't' => Ok('\t'),
            'v' => Ok('\u{b}'),
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Ok(c),
            _ => Err(unknown()),
        }
    }

    /// A class; its `[` is behind us.
    fn class(&mut self) -> Result<(), Fault> {
        let missing = || invalid("missing closing ]");
        self.out.push('[');
        if self.rest.next_if_eq(&'^').is_some() {
            self.out.push('^');
        }
        let mut first = true;
        loop {
            let c = *self.rest.peek().ok_or_else(missing)?;
            if c == ']' && !first {
                self.rest.next();
                self.out.push(']');
                return Ok(());
            }
            first = false;
            if c == '[' && self.posix_class()? {
                continue;
            }
            if c == '\\' {
                let mut ahead = self.rest.clone();
                ahead.next();
                let escaped = *ahead.peek().ok_or_else(missing)?;
                if let Some((ranges, negated)) = perl_class(escaped) {
                    self.rest = ahead;
                    self.rest.next();
                    if negated {
                        self.write(format_args!("[^{ranges}]"));
                    } else {
                        self.out.push_str(ranges);
                    }
                    continue;
                }
                if matches!(escaped, 'p' | 'P') {
                    self.rest = ahead;
                    let class = self.unicode_class()?;
                    self.out.push_str(&class);
                    continue;
                }
            }
            self.range()?;
        }
    }

    /// `a` or `a-z` inside a class.
    fn range(&mut self) -> Result<(), Fault> {
        let low = self.class_char()?;
        push_literal(&mut self.out, low);
        let mut ahead = self.rest.clone();
        if ahead.next() == Some('-') && ahead.peek().is_some_and(|c| *c != ']') {
            self.rest = ahead;
            let high = self.class_char()?;
            if high < low {
                return Err(invalid("invalid character class range"));
            }
            self.out.push('-');
            push_literal(&mut self.out, high);
        }
        Ok(())
    }

    fn class_char(&mut self) -> Result<char, Fault> {
        match self.rest.next() {
            Some('\\') => self.escaped(),
            Some(c) => Ok(c),
            None => Err(invalid("missing closing ]")),
        }
    }

    /// `[:alpha:]` inside a class; the `[` is next. False when it is only a bracket.
    fn posix_class(&mut self) -> Result<bool, Fault> {
        let mut ahead = self.rest.clone();
        ahead.next();
        if ahead.next() != Some(':') || self.no_more_posix {
            return Ok(false);
        }
        let mut inside = String::new();
        while let Some(c) = ahead.next() {
            if c == ':' && ahead.peek() == Some(&']') {
                ahead.next();
                let name = inside.strip_prefix('^').unwrap_or(&inside);
                if !POSIX_CLASSES.contains(&name) {
                    return Err(invalid("invalid character class range"));
                }
                self.write(format_args!("[:{inside}:]"));
                self.rest = ahead;
                return Ok(true);
            }
            inside.push(c);
        }
        self.no_more_posix = true;
        Ok(false)
    }
}

const POSIX_CLASSES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
    "space", "upper", "word", "xdigit",
];

/// The ranges of `\d`, `\s`, `\w`, and whether the letter means all others.
fn perl_class(c: char) -> Option<(&'static str, bool)> {
    let ranges = match c.to_ascii_lowercase() {
        'd' => "0-9",
        's' => "\\t\\n\\x0C\\r ",
        'w' => "0-9A-Za-z_",
        _ => return None,
    };
    Some((ranges, c.is_ascii_uppercase()))
}

/// A character that stands for itself, in and outside classes.
fn push_literal(out: &mut String, c: char) {
    if c.is_ascii_punctuation() && c != '<' && c != '>' {
        out.push('\\');
    }
    out.push(c);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, text: &str, expected: Option<bool>) {
        let found = compile(pattern).ok().map(|regex| regex.is_match(text));
        assert_eq!(found, expected, "{pattern} on {text}");
    }

    #[test]
    fn classes_are_ascii_classes() {
        check(r"^\d$", "5", Some(true));
        check(r"^\d$", "٣", Some(false));
        check(r"^\w+$", "é", Some(false));
        check(r"^[\W]$", "é", Some(true));
        check(r"^[^\s]$", "\u{a0}", Some(true));
        check(r"\bé\b", "é", Some(false));
        check(r"a\Bé", "aé", Some(false));
        check(r"é\Bà", "éà", Some(true));
        check(r"^\pL$", "é", Some(true));
        check(r"^[\P{^Greek}]$", "α", Some(true));
    }

    #[test]
    fn brackets_and_signs_in_classes_are_themselves() {
        check(r"^[a&&b]$", "&", Some(true));
        check(r"^[[]$", "[", Some(true));
        check(r"^[]a]$", "]", Some(true));
        check(r"^[a-]$", "-", Some(true));
        check(r"^[a--]$", "a", None);
        check(r"^[+--]$", ",", Some(true));
        check(r"^[[:alpha:]]$", "x", Some(true));
        check(r"[[:nope:]]", "x", None);
        check(r"^[[:]$", ":", Some(true));
        check(r"[\b]", "b", None);
        check("[a", "a", None);
        check("[z-a]", "a", None);
        check(r"^[~~]$", "~", Some(true));
    }

    #[test]
    fn repetition_follows_re2() {
        check("^a{2}$", "aa", Some(true));
        check("^a{,2}$", "a{,2}", Some(true));
        check("^{$", "{", Some(true));
        check("^a{x}$", "a{x}", Some(true));
        check("a**", "a", None);
        check("a*+", "a", None);
        check("a*??", "a", None);
        check("^a*?$", "aa", Some(true));
        check("a{2}{3}", "a", None);
        check("a{1001}", "a", None);
        check("(a{100}){11}", "a", None);
        check("(a{100}){10}", "a", Some(false));
        check("a{3,2}", "a", None);
        check("*", "a", None);
        check("a|*", "a", None);
    }

    #[test]
    fn groups_and_flags_follow_re2() {
        check("^(?P<x>a)(?<y>b)$", "ab", Some(true));
        check("(?P<x>a)(?P<x>b)", "ab", Some(true));
        check("(?P<>a)", "a", None);
        check("(?i)^AB$", "ab", Some(true));
        check("^(?i:A)b$", "ab", Some(true));
        check("(?x)a b", "ab", None);
        check("(?=a)", "a", None);
        check("(?)a", "a", Some(true));
        check("(?-)a", "a", None);
        check("(?ii)A", "a", Some(true));
        check("(?U)a+", "a", Some(true));
        check("(a", "a", None);
        check("a)", "a", None);
        check(r"a\", "a", None);
        check(r"\1", "a", None);
        check(r"^\101$", "A", Some(true));
        check(r"^\x{41}\x41$", "AA", Some(true));
        check(r"^\Qa.b\E+$", "a.bb", Some(true));
        check(r"^\Qa.b", "a.b", Some(true));
        check(r"\C", "a", None);
        check(r"\u0041", "A", None);
        check("^$", "", Some(true));
        check("^a$", "a\n", Some(false));
        check("(?m)^a$", "a\nb", Some(true));
        check("^.$", "\n", Some(false));
        check("(?s)^.$", "\n", Some(true));
    }
}
