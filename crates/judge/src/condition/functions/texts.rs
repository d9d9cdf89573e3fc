//! Functions on texts.
//!
//! Texts are UTF-8 here, and bytes in the reference; what would leave half a character is an error. Positions are
//! byte positions in both.

use super::super::budget::Budget;
use super::super::builtin::Builtin;
use super::super::datum::Datum;
use super::super::error::Fault;
use super::super::kind::Store;
use super::{counted, unsupported};

pub(super) fn call(
    function: Builtin,
    arguments: &[Datum],
    budget: &mut Budget,
) -> Result<Datum, Fault> {
    let text = match arguments.first() {
        Some(first) => first.as_text()?.clone(),
        None => return Err(unsupported(function, arguments)),
    };
    let text = &*text;
    budget.reads(text.len())?;
    let second = arguments.get(1).map(Datum::as_text);
    let made = |made: &str, budget: &mut Budget| {
        budget.text(made.len())?;
        Ok(Datum::text(made))
    };
    match (function, &arguments[1..]) {
        (Builtin::Trim, []) => made(text.trim(), budget),
        (Builtin::Trim, [set]) => {
            let set = set.as_text()?;
            // Every character of the text may be compared with every one of the set.
            budget.steps(set.len())?;
            budget.reads(text.len().saturating_mul(set.len()))?;
            made(text.trim_matches(|c| set.contains(c)), budget)
        }
        (Builtin::TrimPrefix, [] | [_]) => {
            let prefix = second.transpose()?.map_or(" ", |prefix| prefix);
            made(text.strip_prefix(prefix).unwrap_or(text), budget)
        }
        (Builtin::TrimSuffix, [] | [_]) => {
            let suffix = second.transpose()?.map_or(" ", |suffix| suffix);
            made(text.strip_suffix(suffix).unwrap_or(text), budget)
        }
        (Builtin::Upper, []) => made(&text.chars().map(upper).collect::<String>(), budget),
        (Builtin::Lower, []) => made(&text.chars().map(lower).collect::<String>(), budget),
        (Builtin::Split, [separator]) => split(text, separator, None, false, budget),
        (Builtin::Split, [separator, most]) => {
            split(text, separator, Some(most.as_int()?), false, budget)
        }
        (Builtin::SplitAfter, [separator]) => split(text, separator, None, true, budget),
        (Builtin::SplitAfter, [separator, most]) => {
            split(text, separator, Some(most.as_int()?), true, budget)
        }
        (Builtin::Replace, [old, new]) => replace(text, old, new, None, budget),
        (Builtin::Replace, [old, new, most]) => {
            replace(text, old, new, Some(most.as_int()?), budget)
        }
        (Builtin::Repeat, [count]) => {
            let count = count.as_int()?;
            let count = usize::try_from(count).map_err(|_| {
                Fault::new(format!(
                    "invalid argument for repeat (expected positive integer, got {count})"
                ))
            })?;
            if count > 1_000_000 {
                return Err(Fault::new("memory budget exceeded"));
            }
            budget.elements(text.len().saturating_mul(count))?;
            Ok(Datum::text(text.repeat(count)))
        }
        (Builtin::IndexOf, [part]) => Ok(position(text.find(&**part.as_text()?))),
        (Builtin::LastIndexOf, [part]) => Ok(position(text.rfind(&**part.as_text()?))),
        (Builtin::HasPrefix, [part]) => Ok(Datum::Bool(text.starts_with(&**part.as_text()?))),
        (Builtin::HasSuffix, [part]) => Ok(Datum::Bool(text.ends_with(&**part.as_text()?))),
        _ => Err(unsupported(function, arguments)),
    }
}

fn position(found: Option<usize>) -> Datum {
    found.map_or(Datum::Int(-1), counted)
}

/// One character for one, as Unicode's simple mapping has it: `ß` has no capital.
fn upper(c: char) -> char {
    let mut all = c.to_uppercase();
    match (all.next(), all.next()) {
        (Some(only), None) => only,
        // Greek with iota below: their simple capital is the title-case letter.
        _ => match c {
            '\u{1f80}'..='\u{1f87}' | '\u{1f90}'..='\u{1f97}' | '\u{1fa0}'..='\u{1fa7}' => {
                char::from_u32(u32::from(c) + 8).unwrap_or(c)
            }
            '\u{1fb3}' | '\u{1fc3}' | '\u{1ff3}' => char::from_u32(u32::from(c) + 9).unwrap_or(c),
            c => c,
        },
    }
}

fn lower(c: char) -> char {
    let mut all = c.to_lowercase();
    match (all.next(), all.next()) {
        (Some(only), None) => only,
        _ if c == '\u{130}' => 'i',
        _ => c,
    }
}

/// At most `most` parts, all when it is absent or negative, none at all when it is 0.
fn split(
    text: &str,
    separator: &Datum,
    most: Option<i64>,
    keep_separator: bool,
    budget: &mut Budget,
) -> Result<Datum, Fault> {
    let separator = separator.as_text()?;
    let most = most.map_or(usize::MAX, |most| {
        usize::try_from(most).unwrap_or(usize::MAX)
    });
    if most == 0 {
        return Ok(Datum::no_list());
    }
    budget.text(text.len())?;
    let mut parts = Vec::new();
    let mut rest = text;
    while parts.len() + 1 < most {
        let end = if separator.is_empty() {
            // Into characters; the last one is what is left.
            rest.char_indices().nth(1).map(|(end, _)| (end, end))
        } else {
            rest.find(&**separator).map(|at| {
                let after = at + separator.len();
                (if keep_separator { after } else { at }, after)
            })
        };
        let Some((end, after)) = end else { break };
        budget.elements(1)?;
        parts.push(Datum::text(&rest[..end]));
        rest = &rest[after..];
    }
    if !(separator.is_empty() && rest.is_empty()) {
        budget.elements(1)?;
        parts.push(Datum::text(rest));
    }
    Datum::stored(parts, Store::Texts)
}

fn replace(
    text: &str,
    old: &Datum,
    new: &Datum,
    most: Option<i64>,
    budget: &mut Budget,
) -> Result<Datum, Fault> {
    let (old, new) = (old.as_text()?, new.as_text()?);
    let most = most.map_or(usize::MAX, |most| {
        usize::try_from(most).unwrap_or(usize::MAX)
    });
    let count = text.matches(&**old).count().min(most);
    budget.text(text.len().saturating_add(count.saturating_mul(new.len())))?;
    Ok(Datum::text(text.replacen(&**old, new, most)))
}

/// Bytes as text, every byte that belongs to no character as U+FFFD.
pub(in super::super) fn lossy(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    text
}
