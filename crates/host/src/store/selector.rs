//! Which objects a request means: label selectors in text form, and the few fields that can be selected by.
//!
//! The grammar is Kubernetes': `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1,m<9`. A label that is absent satisfies `!=`
//! and `notin`, as there.

use serde_json::Value;

use super::object::Object;

/// What objects must be like to be listed or watched. The default is all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<(String, bool, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    label: String,
    is: Is,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Is {
    Present,
    Absent,
    In(Vec<String>),
    NotIn(Vec<String>),
    Above(i64),
    Below(i64),
}

impl Selector {
    /// The selector of a label selector and a field selector, both as texts; empty texts select all.
    ///
    /// # Errors
    /// In words: what cannot be read, or which field cannot be selected by.
    pub fn parse(labels: &str, fields: &str) -> Result<Self, String> {
        let labels = parts(labels)
            .into_iter()
            .map(requirement)
            .collect::<Result<_, _>>();
        let labels = labels.map_err(|why| format!("unable to parse label selector: {why}"))?;
        let fields = parts(fields)
            .into_iter()
            .map(field)
            .collect::<Result<_, _>>();
        let fields = fields.map_err(|why| format!("unable to parse field selector: {why}"))?;
        Ok(Self { labels, fields })
    }

    /// The objects whose label has this value.
    #[must_use]
    pub fn and_label(mut self, label: &str, value: &str) -> Self {
        self.labels.push(Requirement {
            label: label.to_owned(),
            is: Is::In(vec![value.to_owned()]),
        });
        self
    }

    /// Whether an object is meant.
    pub fn matches(&self, object: &Object) -> bool {
        self.labels
            .iter()
            .all(|r| r.is.holds(object.label(&r.label)))
            && self
                .fields
                .iter()
                .all(|(name, equal, value)| (field_text(object, name) == *value) == *equal)
    }
}

impl Is {
    fn holds(&self, label: Option<&str>) -> bool {
        let number = || label.and_then(|l| l.parse::<i64>().ok());
        match self {
            Self::Present => label.is_some(),
            Self::Absent => label.is_none(),
            Self::In(values) => label.is_some_and(|l| values.iter().any(|v| v == l)),
            Self::NotIn(values) => !label.is_some_and(|l| values.iter().any(|v| v == l)),
            Self::Above(limit) => number().is_some_and(|n| n > *limit),
            Self::Below(limit) => number().is_some_and(|n| n < *limit),
        }
    }
}

/// Splits at commas outside parentheses.
fn parts(text: &str) -> Vec<&str> {
    let mut depth = 0_i32;
    text.split(|c: char| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth <= 0
    })
    .map(str::trim)
    .filter(|part| !part.is_empty())
    .collect()
}

fn requirement(part: &str) -> Result<Requirement, String> {
    let made = |label: &str, is: Is| {
        let label = label.trim();
        let well_formed = !label.is_empty()
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b));
        if well_formed {
            Ok(Requirement {
                label: label.to_owned(),
                is,
            })
        } else {
            Err(format!("{part:?} is no requirement"))
        }
    };
    if let Some(label) = part.strip_prefix('!') {
        return made(label, Is::Absent);
    }
    for (sign, equal) in [("!=", false), ("==", true), ("=", true)] {
        if let Some((label, value)) = part.split_once(sign) {
            let values = vec![value.trim().to_owned()];
            return made(
                label,
                if equal {
                    Is::In(values)
                } else {
                    Is::NotIn(values)
                },
            );
        }
    }
    if let Some(open) = part.find('(') {
        let (head, list) = part.split_at(open);
        let list = list
            .strip_prefix('(')
            .and_then(|l| l.strip_suffix(')'))
            .ok_or(format!("{part:?} lacks a closing parenthesis"))?;
        let values = list.split(',').map(|v| v.trim().to_owned()).collect();
        return match head.trim().rsplit_once(char::is_whitespace) {
            Some((label, "in")) => made(label, Is::In(values)),
            Some((label, "notin")) => made(label, Is::NotIn(values)),
            _ => Err(format!("{part:?} is neither `in` nor `notin`")),
        };
    }
    for (sign, is) in [('>', Is::Above as fn(i64) -> Is), ('<', Is::Below)] {
        if let Some((label, value)) = part.split_once(sign) {
            let limit = value
                .trim()
                .parse()
                .map_err(|_| format!("{value:?} is no whole number"))?;
            return made(label, is(limit));
        }
    }
    made(part, Is::Present)
}

/// Fields that can be selected by, as Kubernetes offers them for one kind or another.
const FIELDS: [&str; 16] = [
    "metadata.name",
    "metadata.namespace",
    "type",
    "reason",
    "source",
    "involvedObject.kind",
    "involvedObject.name",
    "involvedObject.namespace",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "spec.nodeName",
    "status.phase",
    "status.podIP",
    "status.successful",
];

fn field(part: &str) -> Result<(String, bool, String), String> {
    let (name, equal, value) = match part.split_once("!=") {
        Some((name, value)) => (name, false, value),
        None => match part.split_once("==").or_else(|| part.split_once('=')) {
            Some((name, value)) => (name, true, value),
            None => return Err(format!("{part:?} is no requirement")),
        },
    };
    let name = name.trim();
    if !FIELDS.contains(&name) {
        return Err(format!(
            "field {name:?} cannot be selected by; use metadata.name or a label"
        ));
    }
    Ok((name.to_owned(), equal, value.trim().to_owned()))
}

fn field_text(object: &Object, name: &str) -> String {
    let pointer = match name {
        // An Event names its reporter below `source`.
        "source" => "/source/component".to_owned(),
        _ => format!("/{}", name.replace('.', "/")),
    };
    match object.at(&pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(other) if !other.is_null() => other.to_string(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Kind;
    use super::super::object::Key;
    use super::*;

    fn selects(labels: &str, fields: &str) -> bool {
        let value = json!({
            "metadata": {"name": "web-1", "namespace": "d", "labels": {"app": "web", "tier": "front", "rank": "7"}},
            "status": {"phase": "Running"},
        });
        let object = Object::new(Key::new(Kind::Pod, "d", "web-1"), value, 1, 0);
        Selector::parse(labels, fields).unwrap().matches(&object)
    }

    #[test]
    fn every_form_of_label_requirement_is_understood() {
        for yes in [
            "",
            "app=web",
            "app==web",
            "app!=api",
            "none!=x",
            "app in (api, web)",
            "none notin (x)",
            "app",
            "!none",
            "rank>6",
            "rank<8",
            "app=web,tier in (front,back),!none",
        ] {
            assert!(selects(yes, ""), "{yes}");
        }
        for no in [
            "app=api",
            "app!=web",
            "app in (api)",
            "app notin (web,x)",
            "none",
            "!app",
            "rank>7",
            "tier>1",
            "app=web,none",
        ] {
            assert!(!selects(no, ""), "{no}");
        }
    }

    #[test]
    fn fields_can_be_selected_by() {
        assert!(selects("", "metadata.name=web-1,status.phase!=Failed"));
        assert!(!selects("", "metadata.name!=web-1"));
        assert!(!selects("", "status.phase=Failed"));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for bad in ["=x", "a b", "a in (x", "a within (x)", "rank>x", "!"] {
            assert!(
                Selector::parse(bad, "")
                    .unwrap_err()
                    .starts_with("unable to parse label selector"),
                "{bad}"
            );
        }
        assert!(
            Selector::parse("", "spec.color=red")
                .unwrap_err()
                .contains("cannot be selected by")
        );
        assert!(
            Selector::parse("", "metadata.name")
                .unwrap_err()
                .contains("is no requirement")
        );
    }
}
