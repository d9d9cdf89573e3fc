//! JSONPath as Kubernetes tools write it (`{.items[0].name}`), which is not RFC 9535.
//!
//! Only what picks values is here: a text outside braces is an error, because a path that is never evaluated cannot be evidence.

use serde_json::Value as Json;

/// Steps that one evaluation may take, over all branches; recursive descent over a large answer stops here with an error.
const MOST_STEPS: usize = 1_000_000;
/// Nested brackets and filters in one path.
const MOST_DEPTH: usize = 32;

/// A path that was read successfully.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath {
    expressions: Vec<Expression>,
}

#[derive(Clone, Debug, PartialEq)]
enum Expression {
    Pick(Vec<Step>),
    Range {
        over: Vec<Step>,
        body: Vec<Expression>,
    },
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Child(String),
    Descend,
    Wildcard,
    Union(Vec<String>),
    Slice {
        from: Option<i64>,
        to: Option<i64>,
        by: Option<i64>,
    },
    Index(Vec<i64>),
    Filter(Box<Filter>),
}

#[derive(Clone, Debug, PartialEq)]
struct Filter {
    left: Operand,
    right: Option<(Comparison, Operand)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Path(Vec<Step>),
    Literal(Json),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl JsonPath {
    /// Reads a path; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut expressions = Vec::new();
        let mut open_ranges: Vec<(Vec<Step>, Vec<Expression>)> = Vec::new();
        let mut rest = text;
        loop {
            let Some(start) = rest.find('{') else {
                if !rest.trim().is_empty() {
                    return Err("jsonPath must be enclosed in {}".to_owned());
                }
                break;
            };
            if !rest[..start].trim().is_empty() {
                return Err("jsonPath must be enclosed in {}".to_owned());
            }
            let body = &rest[start + 1..];
            let end = closing_brace(body)
                .ok_or_else(|| format!("unclosed action in jsonPath {text:?}"))?;
            let inner = body[..end].trim();
            rest = &body[end + 1..];
            if let Some(path) = inner.strip_prefix("range ") {
                open_ranges.push((Parser::new(path).whole_path()?, Vec::new()));
            } else if inner == "end" {
                let (over, body) = open_ranges.pop().ok_or("not in range, nothing to end")?;
                let done = Expression::Range { over, body };
                open_ranges
                    .last_mut()
                    .map_or(&mut expressions, |(_, body)| body)
                    .push(done);
            } else {
                let pick = Expression::Pick(Parser::new(inner).whole_path()?);
                open_ranges
                    .last_mut()
                    .map_or(&mut expressions, |(_, body)| body)
                    .push(pick);
            }
            if open_ranges.len() > MOST_DEPTH {
                return Err("too many nested ranges".to_owned());
            }
        }
        if !open_ranges.is_empty() {
            return Err("unclosed range".to_owned());
        }
        if expressions.is_empty() {
            return Err("jsonPath must be enclosed in {}".to_owned());
        }
        Ok(Self { expressions })
    }

    /// The first value that the path names in a document; `None` if it names none without being wrong (a wildcard over nothing).
    ///
    /// Errors say which name is not there, or which index is out of range.
    pub fn first(&self, document: &Json) -> Result<Option<Json>, String> {
        let mut steps = 0;
        first_of(&self.expressions, document, &mut steps)
    }

    /// Every value that the path names in a document, in order. Errors are those of [`JsonPath::first`].
    pub fn all(&self, document: &Json) -> Result<Vec<Json>, String> {
        let mut found = Vec::new();
        all_of(&self.expressions, document, &mut found, &mut 0)?;
        Ok(found)
    }
}

fn all_of(
    expressions: &[Expression],
    document: &Json,
    found: &mut Vec<Json>,
    steps: &mut usize,
) -> Result<(), String> {
    for expression in expressions {
        match expression {
            Expression::Pick(path) => {
                found.extend(walk(path, vec![document], steps)?.into_iter().cloned());
            }
            Expression::Range { over, body } => {
                for item in walk(over, vec![document], steps)? {
                    all_of(body, item, found, steps)?;
                }
            }
        }
    }
    Ok(())
}

fn first_of(
    expressions: &[Expression],
    document: &Json,
    steps: &mut usize,
) -> Result<Option<Json>, String> {
    for expression in expressions {
        match expression {
            Expression::Pick(path) => {
                if let Some(value) = walk(path, vec![document], steps)?.first() {
                    return Ok(Some((*value).clone()));
                }
            }
            Expression::Range { over, body } => {
                for item in walk(over, vec![document], steps)? {
                    if let Some(value) = first_of(body, item, steps)? {
                        return Ok(Some(value));
                    }
                }
            }
        }
    }
    Ok(None)
}

fn walk<'d>(
    path: &[Step],
    start: Vec<&'d Json>,
    steps: &mut usize,
) -> Result<Vec<&'d Json>, String> {
    let mut values = start;
    for step in path {
        values = take(step, &values, steps)?;
    }
    Ok(values)
}

fn take<'d>(step: &Step, values: &[&'d Json], steps: &mut usize) -> Result<Vec<&'d Json>, String> {
    let mut found = Vec::new();
    for value in values {
        count(steps)?;
        match step {
            Step::Child(name) => found.extend(child(value, name)),
            Step::Union(names) => found.extend(names.iter().filter_map(|name| child(value, name))),
            Step::Wildcard => match value {
                Json::Array(items) => found.extend(items),
                Json::Object(fields) => found.extend(fields.values()),
                Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
            },
            Step::Descend => descend(value, &mut found, steps)?,
            Step::Index(indices) => {
                let items = array(value)?;
                for index in indices {
                    let length = items.len();
                    let position = if *index < 0 {
                        *index + length as i64
                    } else {
                        *index
                    };
                    let item = usize::try_from(position)
                        .ok()
                        .and_then(|position| items.get(position))
                        .ok_or_else(|| {
                            format!("array index out of bounds: index {index}, length {length}")
                        })?;
                    found.push(item);
                }
            }
            Step::Slice { from, to, by } => found.extend(slice(array(value)?, *from, *to, *by)?),
            Step::Filter(filter) => {
                for item in array(value)? {
                    if holds(filter, item, steps)? {
                        found.push(item);
                    }
                }
            }
        }
    }
    if let Step::Child(name) = step
        && found.is_empty()
        && !values.is_empty()
    {
        return Err(format!("{name} is not found"));
    }
    Ok(found)
}

fn count(steps: &mut usize) -> Result<(), String> {
    *steps += 1;
    if *steps > MOST_STEPS {
        Err("jsonPath visits too many values".to_owned())
    } else {
        Ok(())
    }
}

fn child<'d>(value: &'d Json, name: &str) -> Option<&'d Json> {
    value.as_object().and_then(|fields| fields.get(name))
}

fn array(value: &Json) -> Result<&Vec<Json>, String> {
    value
        .as_array()
        .ok_or_else(|| "value is not an array or slice".to_owned())
}

fn descend<'d>(
    value: &'d Json,
    found: &mut Vec<&'d Json>,
    steps: &mut usize,
) -> Result<(), String> {
    // An explicit stack: an answer may be nested deeper than our own stack goes.
    let mut open = vec![value];
    while let Some(value) = open.pop() {
        count(steps)?;
        found.push(value);
        match value {
            Json::Array(items) => open.extend(items.iter().rev()),
            Json::Object(fields) => open.extend(fields.values().rev()),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
        }
    }
    Ok(())
}

fn slice(
    items: &[Json],
    from: Option<i64>,
    to: Option<i64>,
    by: Option<i64>,
) -> Result<impl Iterator<Item = &Json>, String> {
    let length = items.len() as i64;
    let place = |index: i64| if index < 0 { index + length } else { index };
    let from = place(from.unwrap_or(0));
    let to = place(to.unwrap_or(length)).min(length);
    if from < 0 || (from >= length && length > 0 && from > to) {
        return Err(format!(
            "array index out of bounds: index {from}, length {length}"
        ));
    }
    let by = by.unwrap_or(1);
    if by < 1 {
        return Err("step must be > 0".to_owned());
    }
    let range = from.min(to).max(0) as usize..to.max(0) as usize;
    Ok(items
        .get(range)
        .unwrap_or_default()
        .iter()
        .step_by(by as usize))
}

fn holds(filter: &Filter, item: &Json, steps: &mut usize) -> Result<bool, String> {
    let value = |operand: &Operand, steps: &mut usize| -> Result<Option<Json>, String> {
        match operand {
            Operand::Literal(literal) => Ok(Some(literal.clone())),
            // Inside a filter a missing name only means that the item does not match.
            Operand::Path(path) => Ok(walk(path, vec![item], steps)
                .ok()
                .and_then(|values| values.first().map(|value| (*value).clone()))),
        }
    };
    let left = value(&filter.left, steps)?;
    let Some((comparison, right)) = &filter.right else {
        return Ok(left.is_some());
    };
    let (Some(left), Some(right)) = (left, value(right, steps)?) else {
        return Ok(false);
    };
    let order = match (&left, &right) {
        (Json::Number(left), Json::Number(right)) => left.as_f64().partial_cmp(&right.as_f64()),
        (Json::String(left), Json::String(right)) => Some(left.cmp(right)),
        _ => (left == right).then_some(std::cmp::Ordering::Equal),
    };
    Ok(match comparison {
        Comparison::Equal => order == Some(std::cmp::Ordering::Equal),
        Comparison::NotEqual => order != Some(std::cmp::Ordering::Equal),
        Comparison::Less => order.is_some_and(std::cmp::Ordering::is_lt),
        Comparison::LessOrEqual => order.is_some_and(std::cmp::Ordering::is_le),
        Comparison::Greater => order.is_some_and(std::cmp::Ordering::is_gt),
        Comparison::GreaterOrEqual => order.is_some_and(std::cmp::Ordering::is_ge),
    })
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

struct Parser<'t> {
    rest: &'t str,
    depth: usize,
}

impl<'t> Parser<'t> {
    fn new(text: &'t str) -> Self {
        Self {
            rest: text.trim(),
            depth: 0,
        }
    }

    fn whole_path(mut self) -> Result<Vec<Step>, String> {
        let path = self.path()?;
        if self.rest.trim().is_empty() {
            Ok(path)
        } else {
            Err(format!(
                "unrecognized character in jsonPath: {:?}",
                self.rest
            ))
        }
    }

    fn eat(&mut self, prefix: &str) -> bool {
        self.rest
            .strip_prefix(prefix)
            .map(|rest| self.rest = rest)
            .is_some()
    }

    fn path(&mut self) -> Result<Vec<Step>, String> {
        let mut steps = Vec::new();
        loop {
            if self.eat("..") {
                steps.push(Step::Descend);
                if self.eat("*") {
                    steps.push(Step::Wildcard);
                } else if !self.rest.starts_with('[') {
                    steps.push(Step::Child(self.name()?));
                }
            } else if self.eat(".") {
                if self.eat("*") {
                    steps.push(Step::Wildcard);
                } else if !self.rest.is_empty()
                    && !self.rest.starts_with('[')
                    && !self.at_end_of_operand()
                {
                    steps.push(Step::Child(self.name()?));
                }
            } else if self.eat("[") {
                steps.push(self.bracket()?);
            } else if self.eat("$") || self.eat("@") {
                // The current object: no effect.
            } else if self.rest.is_empty() || self.at_end_of_operand() {
                return Ok(steps);
            } else if steps.is_empty()
                && self
                    .rest
                    .starts_with(|character: char| character.is_alphanumeric() || character == '_')
            {
                steps.push(Step::Child(self.name()?));
            } else {
                return Err(format!(
                    "unrecognized character in jsonPath: {:?}",
                    self.rest
                ));
            }
        }
    }

    fn at_end_of_operand(&self) -> bool {
        self.rest.starts_with([' ', ')', '=', '!', '<', '>'])
    }

    fn name(&mut self) -> Result<String, String> {
        let mut name = String::new();
        let mut characters = self.rest.char_indices();
        let mut end = self.rest.len();
        while let Some((index, character)) = characters.next() {
            match character {
                '\\' => {
                    if let Some((_, escaped)) = characters.next() {
                        name.push(escaped);
                    }
                }
                '.' | '[' | ']' | ' ' | ')' | '(' | '=' | '!' | '<' | '>' | ',' | '{' | '}'
                | '\'' | '"' => {
                    end = index;
                    break;
                }
                _ => name.push(character),
            }
        }
        self.rest = &self.rest[end..];
        if name.is_empty() {
            Err(format!(
                "a name is missing in jsonPath before {:?}",
                self.rest
            ))
        } else {
            Ok(name)
        }
    }

    fn bracket(&mut self) -> Result<Step, String> {
        self.depth += 1;
        if self.depth > MOST_DEPTH {
            return Err("jsonPath is nested too deeply".to_owned());
        }
        let step = self.in_bracket();
        self.depth -= 1;
        step
    }

    fn in_bracket(&mut self) -> Result<Step, String> {
        if self.eat("?(") {
            let filter = self.filter()?;
            return if self.eat(")]") {
                Ok(Step::Filter(Box::new(filter)))
            } else {
                Err("unterminated filter".to_owned())
            };
        }
        let end = closing_bracket(self.rest).ok_or("unterminated array")?;
        let inner = self.rest[..end].trim();
        self.rest = &self.rest[end + 1..];
        if inner == "*" {
            return Ok(Step::Wildcard);
        }
        if inner.starts_with(['\'', '"']) {
            let names = inner
                .split(',')
                .map(|part| unquote(part.trim()))
                .collect::<Result<Vec<_>, _>>()?;
            return match <[String; 1]>::try_from(names) {
                Ok([name]) => Ok(Step::Child(name)),
                Err(names) => Ok(Step::Union(names)),
            };
        }
        let number = |part: &str| {
            part.trim()
                .parse::<i64>()
                .map_err(|_| format!("invalid array index {inner}"))
        };
        if inner.contains(':') {
            let parts: Vec<&str> = inner.split(':').collect();
            let part = |index: usize| match parts.get(index).map(|part| part.trim()) {
                None | Some("") => Ok(None),
                Some(text) => number(text).map(Some),
            };
            if parts.len() > 3 {
                return Err(format!("invalid array index {inner}"));
            }
            return Ok(Step::Slice {
                from: part(0)?,
                to: part(1)?,
                by: part(2)?,
            });
        }
        Ok(Step::Index(
            inner.split(',').map(number).collect::<Result<_, _>>()?,
        ))
    }

    fn filter(&mut self) -> Result<Filter, String> {
        let left = self.operand()?;
        self.rest = self.rest.trim_start();
        let comparisons = [
            ("==", Comparison::Equal),
            ("!=", Comparison::NotEqual),
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ];
        for (sign, comparison) in comparisons {
            if self.eat(sign) {
                return Ok(Filter {
                    left,
                    right: Some((comparison, self.operand()?)),
                });
            }
        }
        Ok(Filter { left, right: None })
    }

    fn operand(&mut self) -> Result<Operand, String> {
        self.rest = self.rest.trim_start();
        if let Some(quote) = self
            .rest
            .chars()
            .next()
            .filter(|character| matches!(character, '\'' | '"'))
        {
            let end = self.rest[1..].find(quote).ok_or("unterminated string")?;
            let text = self.rest[1..=end].to_owned();
            self.rest = &self.rest[end + 2..];
            return Ok(Operand::Literal(Json::String(text)));
        }
        let end = self
            .rest
            .find([' ', ')', '=', '!', '<', '>'])
            .unwrap_or(self.rest.len());
        let word = &self.rest[..end];
        let literal = match word {
            "true" => Some(Json::Bool(true)),
            "false" => Some(Json::Bool(false)),
            _ => word
                .parse::<f64>()
                .ok()
                .and_then(serde_json::Number::from_f64)
                .map(Json::Number),
        };
        if let Some(literal) = literal {
            self.rest = &self.rest[end..];
            return Ok(Operand::Literal(literal));
        }
        Ok(Operand::Path(self.path()?))
    }
}

/// Where the bracket that opened just before `text` closes, quoted texts aside.
fn closing_bracket(text: &str) -> Option<usize> {
    let mut quote = None;
    for (index, character) in text.char_indices() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(character),
            (None, ']') => return Some(index),
            (None, _) => {}
        }
    }
    None
}

fn unquote(text: &str) -> Result<String, String> {
    ['\'', '"']
        .into_iter()
        .find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote))
        .map(str::to_owned)
        .ok_or_else(|| format!("invalid array index {text}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn first(path: &str, document: &Json) -> Result<Option<Json>, String> {
        JsonPath::parse(path)?.first(document)
    }

    #[test]
    fn paths_pick_what_the_dialect_says() {
        let document = json!({
            "data": {"ok": true, "pct": 0.95, "a.b": 7},
            "items": [{"n": "x", "v": 1}, {"n": "y", "v": 2}, {"n": "z", "v": 3}],
            "deep": {"one": {"v": 9}},
            "nothing": null
        });
        let table = [
            ("{$}", json!(document)),
            ("{$.data.pct}", json!(0.95)),
            ("{.data.ok}", json!(true)),
            ("{.data.a\\.b}", json!(7)),
            ("{.data['a.b']}", json!(7)),
            ("{$.items[0].n}", json!("x")),
            ("{$.items[-1:].n}", json!("z")),
            ("{$.items[1:3].v}", json!(2)),
            ("{$.items[0:3:2].v}", json!(1)),
            ("{$.items[-1].v}", json!(3)),
            ("{$.items[*].v}", json!(1)),
            ("{$.items[?(@.n=='y')].v}", json!(2)),
            ("{$.items[?(@.v > 2)].n}", json!("z")),
            ("{$.items[?(@.v)].n}", json!("x")),
            ("{$.deep..v}", json!(9)),
            ("{.data['pct','ok']}", json!(0.95)),
            ("{range .items[*]}{.v}{end}", json!(1)),
            ("{.nothing}", Json::Null),
        ];
        for (path, expected) in table {
            assert_eq!(first(path, &document), Ok(Some(expected)), "{path}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let document = json!({"items": [], "null": null, "one": [1]});
        assert_eq!(
            first("{$.nope}", &document),
            Err("nope is not found".to_owned())
        );
        assert_eq!(
            first("{$.null.x}", &document),
            Err("x is not found".to_owned())
        );
        assert_eq!(
            first("{$.one[3]}", &document),
            Err("array index out of bounds: index 3, length 1".to_owned())
        );
        assert_eq!(
            first("{$.items[*].x}", &document),
            Ok(None),
            "a wildcard over nothing gives nothing"
        );
        assert_eq!(
            first("$.items", &document),
            Err("jsonPath must be enclosed in {}".to_owned())
        );
        assert_eq!(
            first("", &document),
            Err("jsonPath must be enclosed in {}".to_owned())
        );
    }

    #[test]
    fn wrong_paths_are_errors_and_never_panics() {
        for path in [
            "{",
            "{$.a[",
            "{[?(",
            "{range .a}",
            "{end}",
            "{.a[x]}",
            "{.a[1:2:3:4]}",
            "{.a['x]}",
            "{$..}",
            "{é..ü[?(@.ß)]}",
            "{.a[?(@.b==')]}",
        ] {
            assert!(first(path, &json!({"a": [1, {"b": 2}]})).is_err(), "{path}");
        }
        let deep = format!("{{.a{}", "[?(@.a".repeat(10_000));
        assert!(JsonPath::parse(&deep).is_err());
    }
}
