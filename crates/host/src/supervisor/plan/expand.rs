//! `$(VAR)` in commands and values, as Kubernetes does it.
//!
//! `$$` stands for one `$`, so `$$(VAR)` comes out as `$(VAR)`; a name that is not known stays as it was
//! written. Nothing else is special: `$VAR` and `${VAR}` are the shell's business.

/// Replaces `$(NAME)` by what `value` knows of it.
pub(super) fn expand<'a>(text: &str, value: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let after = from.get(1..).unwrap_or_default();
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) = after
            .strip_prefix('(')
            .and_then(|inner| inner.split_once(')'))
        {
            match value(name) {
                Some(known) => out.push_str(known),
                None => out.extend(["$(", name, ")"]),
            }
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_replaced_as_kubernetes_replaces_them() {
        let known = |name: &str| match name {
            "PORT" => Some("20123"),
            "EMPTY" => Some(""),
            "DOLLAR" => Some("$(PORT)"),
            _ => None,
        };
        for (text, wanted) in [
            ("--port=$(PORT)", "--port=20123"),
            ("$(PORT)$(PORT)", "2012320123"),
            ("[$(EMPTY)]", "[]"),
            ("$(UNKNOWN)/x", "$(UNKNOWN)/x"),
            ("$$(PORT)", "$(PORT)"),
            ("$$$(PORT)", "$20123"),
            ("$PORT ${PORT} $", "$PORT ${PORT} $"),
            ("$(PORT", "$(PORT"),
            // What comes out is not looked at again.
            ("$(DOLLAR)", "$(PORT)"),
            ("größe $(PORT) €", "größe 20123 €"),
        ] {
            assert_eq!(expand(text, known), wanted, "{text}");
        }
    }
}
