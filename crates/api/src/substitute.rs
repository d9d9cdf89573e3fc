//! Puts arguments into metrics: `{{args.<name>}}` in every text of a metric, keys included.
//!
//! The unit is one whole metric in its JSON form. There is one pass: a value that itself holds `{{` is inserted as it stands.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::analysis::Metric;

/// The fields of a metric in the order in which trouble is looked for; of several unknown tags the last is reported.
const FIELDS: [&str; 11] = [
    "name",
    "interval",
    "initialDelay",
    "count",
    "successCondition",
    "failureCondition",
    "failureLimit",
    "inconclusiveLimit",
    "consecutiveErrorLimit",
    "provider",
    "consecutiveSuccessLimit",
];

/// The metric with all arguments put in. The error names the tag that could not be resolved.
pub fn metric(metric: &Metric, values: &BTreeMap<String, String>) -> Result<Metric, String> {
    // Only inside of texts and keys can two braces stand side by side.
    let text = serde_json::to_string(metric).map_err(|why| why.to_string())?;
    if !text.contains("{{") {
        return Ok(metric.clone());
    }
    let mut json = serde_json::to_value(metric).map_err(|why| why.to_string())?;
    let mut trouble = None;
    if let Json::Object(fields) = &mut json {
        for field in FIELDS {
            if let Some(value) = fields.get_mut(field)
                && let Err(why) = in_json(value, values)
            {
                trouble = Some(why);
            }
        }
    }
    match trouble {
        Some(why) => Err(why),
        None => serde_json::from_value(json).map_err(|why| why.to_string()),
    }
}

/// Puts arguments into every text of a JSON value; the last trouble is reported.
fn in_json(json: &mut Json, values: &BTreeMap<String, String>) -> Result<(), String> {
    match json {
        Json::String(text) => {
            *text = in_text(text, values)?;
            Ok(())
        }
        Json::Array(items) => {
            // Every item is visited, so that the last trouble is known.
            let mut outcome = Ok(());
            for item in items {
                if let Err(why) = in_json(item, values) {
                    outcome = Err(why);
                }
            }
            outcome
        }
        Json::Object(fields) => {
            let mut outcome = Ok(());
            for (key, mut value) in std::mem::take(fields) {
                let key = in_text(&key, values).unwrap_or_else(|why| {
                    outcome = Err(why);
                    key.clone()
                });
                if let Err(why) = in_json(&mut value, values) {
                    outcome = Err(why);
                }
                fields.insert(key, value);
            }
            outcome
        }
        Json::Null | Json::Bool(_) | Json::Number(_) => Ok(()),
    }
}

/// Puts arguments into one text.
pub fn in_text(text: &str, values: &BTreeMap<String, String>) -> Result<String, String> {
    let argument = |tag: &str| values.get(tag.strip_prefix("args.")?).cloned();
    tags(text, argument)
}

/// Puts values in place of all tags of a text, `{{<tag>}}`. The error names the last tag that has none.
pub fn tags(text: &str, value: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut trouble = None;
    while let Some(start) = rest.find("{{") {
        out.push_str(&rest[..start]);
        let after = &rest[start + 2..];
        let Some(end) = after.find("}}") else {
            return Err(format!(
                "Cannot find end tag=\"}}}}\" in the template={text:?} starting from {after:?}"
            ));
        };
        let tag = &after[..end];
        match value(tag.trim()) {
            Some(value) => out.push_str(&value),
            None => trouble = Some(format!("failed to resolve {{{{{tag}}}}}")),
        }
        rest = &after[end + 2..];
    }
    out.push_str(rest);
    trouble.map_or(Ok(out), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> BTreeMap<String, String> {
        [
            ("a", "1"),
            ("svc.name", "web"),
            ("open", "{{args.a}}"),
            ("quote", "x\"y\n"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    #[test]
    fn tags_are_replaced_once_and_trimmed() {
        let table = [
            ("{{args.a}}", "1"),
            ("{{ args.a }}-{{args.svc.name}}", "1-web"),
            ("{{args.open}}", "{{args.a}}"),
            ("no tag }} here", "no tag }} here"),
            ("say {{args.quote}}", "say x\"y\n"),
        ];
        for (text, expected) in table {
            assert_eq!(in_text(text, &values()).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn trouble_names_the_tag() {
        assert_eq!(
            in_text("{{args.x}}", &values()),
            Err("failed to resolve {{args.x}}".to_owned())
        );
        assert_eq!(
            in_text("{{inputs.a}}", &values()),
            Err("failed to resolve {{inputs.a}}".to_owned())
        );
        let unclosed = in_text("q {{args.a", &values()).unwrap_err();
        assert!(
            unclosed.starts_with("Cannot find end tag=\"}}\""),
            "{unclosed}"
        );
    }

    #[test]
    fn of_several_unknown_tags_the_last_field_is_reported() {
        let metric_with = Metric {
            name: "m".to_owned(),
            success_condition: "{{args.first}}".to_owned(),
            failure_condition: "{{args.second}}".to_owned(),
            ..Metric::default()
        };
        assert_eq!(
            metric(&metric_with, &values()),
            Err("failed to resolve {{args.second}}".to_owned())
        );
    }
}
