//! JSON in the one form that hashes are taken of: declared field order, sorted maps, nothing that is empty.
//!
//! The order is data (`field_order.txt`), so that a newer Kubernetes library changes no hash. Fields that are
//! not in the table are left out, as the reference's decoder leaves them out.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde_json::{Map, Value};

use crate::quantity;

/// Which generation of the reference wrote the form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The present form.
    Current,
    /// Pod templates with `"creationTimestamp":null`, without newer fields (form H0).
    WithCreationTimestamp,
    /// Steps whose analysis always has its metadata and never `clusterScope: false`.
    OlderSteps,
}

/// Writes a value of a type of the table in canonical form.
pub(crate) fn encode(type_name: &str, value: &Value, form: Form) -> Vec<u8> {
    let mut encoder = Encoder {
        out: Vec::with_capacity(1024),
        form,
    };
    encoder.value(&kind_of(type_name), value);
    encoder.out
}

/// Writes a list of values of one type in canonical form; an absent or empty list is `null`.
pub(crate) fn encode_list(type_name: &str, values: &[Value], form: Form) -> Vec<u8> {
    let mut encoder = Encoder {
        out: Vec::with_capacity(256),
        form,
    };
    if values.is_empty() {
        encoder.raw("null");
    } else {
        encoder.list(Some(&kind_of(type_name)), values);
    }
    encoder.out
}

/// What a field holds.
#[derive(Clone, Debug, PartialEq)]
enum Kind {
    /// A text, number or truth value; the text is what stands for it when it must be written and is absent.
    Plain(&'static str),
    /// An object of a type of the table.
    Object(String),
    /// A list of objects, or of plain values.
    List(Option<Box<Kind>>),
    /// A map of objects, quantities or plain values.
    Map(Option<Box<Kind>>),
    /// A quantity.
    Quantity,
    /// JSON that is already in canonical form, held as a text.
    Encoded,
}

/// When a field is written.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Presence {
    /// Unless it is zero or empty.
    NonZero,
    /// Whenever it is given.
    Given,
    /// Always, with the zero value of its kind.
    Always,
    /// Always, `null` when it is absent.
    AlwaysNull,
}

#[derive(Debug)]
struct Field {
    name: String,
    presence: Presence,
    kind: Kind,
    /// Unknown to the writers of form H0.
    newer: bool,
    /// Written differently in older steps.
    older_differs: bool,
}

fn kind_of(notation: &str) -> Kind {
    let inner = |text: &str| (!text.is_empty()).then(|| Box::new(kind_of(text)));
    match notation {
        "" => Kind::Plain("\"\""),
        "n" | "p" => Kind::Plain("0"),
        "q" => Kind::Quantity,
        "encoded" => Kind::Encoded,
        _ => {
            if let Some(item) = notation
                .strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'))
            {
                Kind::List(inner(item))
            } else if let Some(item) = notation
                .strip_prefix('{')
                .and_then(|rest| rest.strip_suffix('}'))
            {
                Kind::Map(inner(item))
            } else {
                Kind::Object(notation.to_owned())
            }
        }
    }
}

fn table() -> &'static BTreeMap<String, Vec<Field>> {
    static TABLE: OnceLock<BTreeMap<String, Vec<Field>>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let lines = include_str!("field_order.txt")
            .lines()
            .filter(|line| !line.starts_with('#'));
        lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, fields)| {
                (
                    name.to_owned(),
                    fields.split_whitespace().map(field).collect(),
                )
            })
            .collect()
    })
}

fn field(notation: &str) -> Field {
    let (head, kind) = notation.split_once(':').unwrap_or((notation, ""));
    let name = head.trim_end_matches(['!', '?', '^', '~']);
    let marks = &head[name.len()..];
    let presence = match (marks.contains('!'), marks.contains('?')) {
        (true, true) => Presence::AlwaysNull,
        (true, false) => Presence::Always,
        (false, true) => Presence::Given,
        (false, false) => Presence::NonZero,
    };
    Field {
        name: name.to_owned(),
        presence,
        kind: kind_of(kind),
        newer: marks.contains('^'),
        older_differs: marks.contains('~'),
    }
}

struct Encoder {
    out: Vec<u8>,
    form: Form,
}

impl Encoder {
    fn raw(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn value(&mut self, kind: &Kind, value: &Value) {
        match (kind, value) {
            (Kind::Object(type_name), Value::Object(members)) => {
                self.object(type_name, Some(members));
            }
            (Kind::Object(type_name), _) => self.object(type_name, None),
            (Kind::List(item), Value::Array(items)) => self.list(item.as_deref(), items),
            (Kind::Map(item), Value::Object(members)) => self.map(item.as_deref(), members),
            (Kind::List(_) | Kind::Map(_), _) => self.raw("null"),
            (Kind::Quantity, value) => {
                let text = quantity::canonical(value).unwrap_or_else(|| plain_text(value));
                self.string(&text);
            }
            (Kind::Encoded, Value::String(text)) => self.raw(text),
            (Kind::Encoded | Kind::Plain(_), value) => self.plain(value),
        }
    }

    fn object(&mut self, type_name: &str, members: Option<&Map<String, Value>>) {
        let fields = table()
            .get(type_name)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let mut first = true;
        self.raw("{");
        for field in fields {
            if self.form == Form::WithCreationTimestamp && field.newer {
                continue;
            }
            let value = members
                .and_then(|members| members.get(&field.name))
                .filter(|value| !value.is_null());
            let Some(written) = self.written(field, type_name, value) else {
                continue;
            };
            if !first {
                self.raw(",");
            }
            first = false;
            self.string(&field.name);
            self.raw(":");
            match written {
                Written::Value(value) => self.value(&field.kind, value),
                Written::Text(text) => self.raw(text),
                Written::EmptyObject(type_name) => self.object(type_name, None),
            }
        }
        self.raw("}");
    }

    /// What is written for a field; `None` when it is left out.
    fn written<'a>(
        &self,
        field: &'a Field,
        type_name: &str,
        value: Option<&'a Value>,
    ) -> Option<Written<'a>> {
        if type_name == "Metadata" && field.name == "creationTimestamp" {
            return (self.form == Form::WithCreationTimestamp).then_some(Written::Text("null"));
        }
        let presence = match (self.form, field.older_differs, &field.kind) {
            (Form::OlderSteps, true, Kind::Object(_)) => Presence::Always,
            (Form::OlderSteps, true, _) => Presence::NonZero,
            _ => field.presence,
        };
        match (presence, value, &field.kind) {
            (Presence::NonZero, Some(value), _) => {
                (!is_zero(value)).then_some(Written::Value(value))
            }
            (Presence::NonZero | Presence::Given, None, _) => None,
            (_, Some(value), _) => Some(Written::Value(value)),
            (Presence::AlwaysNull, None, _) => Some(Written::Text("null")),
            (Presence::Always, None, Kind::Object(type_name)) => {
                Some(Written::EmptyObject(type_name))
            }
            (Presence::Always, None, Kind::Plain(zero)) => Some(Written::Text(zero)),
            (Presence::Always, None, Kind::Quantity) => Some(Written::Text("\"0\"")),
            (Presence::Always, None, Kind::List(_) | Kind::Map(_) | Kind::Encoded) => {
                Some(Written::Text("null"))
            }
        }
    }

    fn list(&mut self, item: Option<&Kind>, items: &[Value]) {
        self.raw("[");
        for (index, value) in items.iter().enumerate() {
            if index > 0 {
                self.raw(",");
            }
            match item {
                Some(kind) => self.value(kind, value),
                None => self.plain(value),
            }
        }
        self.raw("]");
    }

    fn map(&mut self, item: Option<&Kind>, members: &Map<String, Value>) {
        let mut sorted: Vec<_> = members.iter().collect();
        sorted.sort_by(|(a, _), (b, _)| a.as_bytes().cmp(b.as_bytes()));
        self.raw("{");
        for (index, (key, value)) in sorted.into_iter().enumerate() {
            if index > 0 {
                self.raw(",");
            }
            self.string(key);
            self.raw(":");
            match item {
                Some(kind) => self.value(kind, value),
                None => self.plain(value),
            }
        }
        self.raw("}");
    }

    fn plain(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.string(text),
            other => {
                let text = other.to_string();
                self.raw(&text);
            }
        }
    }

    fn string(&mut self, text: &str) {
        push_string(&mut self.out, text);
    }
}

enum Written<'a> {
    Value(&'a Value),
    Text(&'static str),
    EmptyObject(&'a str),
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
    }
}

fn plain_text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// Writes a text as Go's encoder does, which escapes what HTML and JavaScript would trip over.
pub(crate) fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for c in text.chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\u{8}' => out.extend_from_slice(b"\\b"),
            '\u{c}' => out.extend_from_slice(b"\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                out.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes());
            }
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}
