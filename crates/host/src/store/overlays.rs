//! What an apply request says: its documents one by one, with its overlays laid over them.

use serde_json::Value;

use super::kind::split_api_version;
use super::object::meta_text;
use crate::wire::ApplyRequest;

/// The documents with the overlays laid over them.
///
/// # Errors
/// A document or overlay that is none.
pub(crate) fn overlaid(request: ApplyRequest, namespace: &str) -> Result<Vec<Value>, String> {
    let mut documents = expanded(request.documents, "document")?;
    for overlay in expanded(request.overlays, "overlay")? {
        if meta_text(&overlay, "name").is_empty() {
            return Err(format!(
                "an overlay of kind {} has no metadata.name",
                text(&overlay, "kind")
            ));
        }
        let mut matched = false;
        for document in documents
            .iter_mut()
            .filter(|d| is_for(&overlay, d, namespace))
        {
            crossfade_api::merge_patch::apply(document, &overlay);
            matched = true;
        }
        if !matched {
            documents.push(overlay);
        }
    }
    Ok(documents)
}

/// Lists opened up, blanks left out, and everything that is left is an object with a kind.
fn expanded(documents: Vec<Value>, what: &str) -> Result<Vec<Value>, String> {
    let mut result = Vec::new();
    for (index, mut document) in documents.into_iter().enumerate() {
        if document.is_null() {
            continue;
        }
        let number = index + 1;
        if !document.is_object() {
            return Err(format!(
                "{what} {number} is no object with apiVersion and kind"
            ));
        }
        let kind = text(&document, "kind").to_owned();
        if kind.is_empty() {
            return Err(format!("{what} {number} has no kind"));
        }
        if kind == "List"
            && let Some(Value::Array(items)) = document.get_mut("items").map(Value::take)
        {
            result.extend(expanded(items, &format!("item of {what} {number}:"))?);
        } else {
            result.push(document);
        }
    }
    Ok(result)
}

/// Whether an overlay is for a document: same kind and name and, as far as it names them, group and namespace.
fn is_for(overlay: &Value, document: &Value, namespace: &str) -> bool {
    let own = meta_text(document, "namespace");
    let own = if own.is_empty() { namespace } else { own };
    let wanted = meta_text(overlay, "namespace");
    let group = |value| split_api_version(text(value, "apiVersion")).0.to_owned();
    text(overlay, "kind") == text(document, "kind")
        && meta_text(overlay, "name") == meta_text(document, "name")
        && (text(overlay, "apiVersion").is_empty() || group(overlay) == group(document))
        && (wanted.is_empty() || wanted == own)
}

/// A member that is a text; empty when it is none.
pub(crate) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}
