//! `-o jsonpath=…` as kubectl has it: texts and paths mixed, with ranges.

use crossfade_metrics::jsonpath::JsonPath;
use serde_json::Value;

/// A template that was read successfully.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    Path(JsonPath),
    Range(JsonPath, Vec<Part>),
}

impl Template {
    /// Reads a template; a path without braces is taken as one in braces.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let whole;
        let text = if text.contains('{') {
            text
        } else {
            whole = format!(
                "{{{}{text}}}",
                if text.starts_with(['.', '$', '[']) {
                    ""
                } else {
                    "."
                }
            );
            &whole
        };
        let mut rest = text;
        let mut open: Vec<(JsonPath, Vec<Part>)> = Vec::new();
        let mut parts = Vec::new();
        while !rest.is_empty() {
            let start = rest.find('{').unwrap_or(rest.len());
            let (outside, action) = rest.split_at(start);
            let here = open.last_mut().map_or(&mut parts, |(_, body)| body);
            if !outside.is_empty() {
                here.push(Part::Text(outside.to_owned()));
            }
            let Some(action) = action.strip_prefix('{') else {
                break;
            };
            let end =
                closing_brace(action).ok_or_else(|| format!("unclosed action in {text:?}"))?;
            let (inner, after) = action.split_at(end);
            rest = after.get(1..).unwrap_or_default();
            let inner = inner.trim();
            let path = |path: &str| JsonPath::parse(&format!("{{{path}}}"));
            if let Some(over) = inner.strip_prefix("range ") {
                open.push((path(over)?, Vec::new()));
            } else if inner == "end" {
                let (over, body) = open.pop().ok_or("not in range, nothing to end")?;
                let here = open.last_mut().map_or(&mut parts, |(_, body)| body);
                here.push(Part::Range(over, body));
            } else if let Some(literal) = quoted(inner) {
                here.push(Part::Text(literal));
            } else {
                here.push(Part::Path(path(inner)?));
            }
        }
        if open.is_empty() {
            Ok(Self(parts))
        } else {
            Err("unclosed range".to_owned())
        }
    }

    /// The text for a document. A name that is not there gives nothing, as kubectl has it.
    pub(crate) fn render(&self, document: &Value) -> String {
        let mut text = String::new();
        render(&self.0, document, &mut text);
        text
    }
}

fn render(parts: &[Part], document: &Value, text: &mut String) {
    for part in parts {
        match part {
            Part::Text(literal) => text.push_str(literal),
            Part::Path(path) => {
                let values: Vec<_> = path
                    .all(document)
                    .unwrap_or_default()
                    .into_iter()
                    .map(|value| match value {
                        Value::String(text) => text,
                        value => value.to_string(),
                    })
                    .collect();
                text.push_str(&values.join(" "));
            }
            Part::Range(over, body) => {
                for item in over.all(document).unwrap_or_default() {
                    render(body, &item, text);
                }
            }
        }
    }
}

/// A text in quotes with its escapes resolved; `None` for anything else.
fn quoted(text: &str) -> Option<String> {
    let quote = text
        .chars()
        .next()
        .filter(|quote| ['"', '\''].contains(quote))?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    let mut plain = String::new();
    let mut escaped = false;
    for character in inner.chars() {
        match (escaped, character) {
            (true, 'n') => plain.push('\n'),
            (true, 't') => plain.push('\t'),
            (true, 'r') => plain.push('\r'),
            (true, other) => plain.push(other),
            (false, '\\') => {}
            (false, other) => plain.push(other),
        }
        escaped = !escaped && character == '\\';
    }
    Some(plain)
}

/// Where the brace that opened just before `text` closes, quoted texts aside.
fn closing_brace(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (index, character) in text.char_indices() {
        match (quote, character) {
            _ if escaped => escaped = false,
            (_, '\\') => escaped = true,
            (Some(open), _) if character == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(character),
            (None, '}') => return Some(index),
            (None, _) => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_paths_and_ranges_mix() {
        let document = json!({"metadata": {"name": "web"}, "items": [{"n": 1}, {"n": "b"}]});
        let table = [
            ("{.metadata.name}", "web"),
            (".metadata.name", "web"),
            ("metadata.name", "web"),
            ("name={.metadata.name}{\"\\n\"}", "name=web\n"),
            ("{.items[*].n}", "1 b"),
            ("{range .items[*]}{.n}{'\\t'}{end}|", "1\tb\t|"),
            ("{.nothing.here}", ""),
        ];
        for (template, text) in table {
            let template = Template::parse(template).expect(template);
            assert_eq!(template.render(&document), text, "{template:?}");
        }
    }

    #[test]
    fn a_template_that_makes_no_sense_is_refused() {
        for template in ["{.a", "{range .a}", "{end}", "{.a[}"] {
            assert!(Template::parse(template).is_err(), "{template}");
        }
    }
}
