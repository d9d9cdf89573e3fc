//! Texts as Go's standard library writes them, where conditions must read the same.

use std::fmt::Write as _;

/// Quotes a text as Go's `%q` does: double quotes, short escapes, `\x` and `\u` forms for what does not print.
pub fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{b}' => quoted.push_str("\\v"),
            '\u{c}' => quoted.push_str("\\f"),
            c if c < ' ' || c == '\u{7f}' => drop(write!(quoted, "\\x{:02x}", u32::from(c))),
            c if prints(c) => quoted.push(c),
            c if u32::from(c) < 0x1_0000 => drop(write!(quoted, "\\u{:04x}", u32::from(c))),
            c => drop(write!(quoted, "\\U{:08x}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}

/// Whether a character shows as something. Rust escapes the same classes as Go: controls, formats, separators
/// other than the plain space, private and unassigned ones.
fn prints(c: char) -> bool {
    c == '\'' || c.escape_debug().count() == 1
}
