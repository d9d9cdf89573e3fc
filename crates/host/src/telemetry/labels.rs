//! Label sets: what names a series.
//!
//! A set is sorted by label name, holds each name once and never an empty value (in PromQL an
//! empty label and a missing one are the same). It is shared, never changed: the operations give
//! a new set. Start at [`Labels::new`].

use std::fmt;
use std::sync::Arc;

/// The label that holds the metric's name.
pub const METRIC_NAME: &str = "__name__";

/// One label: name and value.
pub type Label = (Arc<str>, Arc<str>);

/// A sorted set of labels; cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Arc<[Label]>);

impl Labels {
    /// The set of the given pairs. The last of equal names wins; empty values are left out.
    pub fn new<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<Arc<str>>,
        V: Into<Arc<str>>,
    {
        let mut pairs: Vec<Label> = pairs
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        // The sort is stable, so the last of a run of equal names is the one given last.
        let mut kept: Vec<Label> = Vec::with_capacity(pairs.len());
        for pair in pairs {
            match kept.last_mut() {
                Some(last) if last.0 == pair.0 => *last = pair,
                _ => kept.push(pair),
            }
        }
        kept.retain(|(_, value)| !value.is_empty());
        Self(kept.into())
    }

    /// The set without labels.
    pub fn empty() -> Self {
        Self(Arc::from([]))
    }

    /// The value of a label; empty when the set does not have it.
    pub fn get(&self, name: &str) -> &str {
        self.find(name).map_or("", |(_, value)| value)
    }

    /// The value of a label, shared; `None` when the set does not have it.
    pub fn value(&self, name: &str) -> Option<Arc<str>> {
        self.find(name).map(|(_, value)| value.clone())
    }

    /// The metric's name; empty when there is none.
    pub fn metric(&self) -> &str {
        self.get(METRIC_NAME)
    }

    /// All labels, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Label> {
        self.0.iter()
    }

    /// The set without the labels of these names.
    #[must_use]
    pub fn without(&self, names: &[&str]) -> Self {
        self.filtered(|name| !names.contains(&name))
    }

    /// The set with only the labels of these names.
    #[must_use]
    pub fn only(&self, names: &[&str]) -> Self {
        self.filtered(|name| names.contains(&name))
    }

    /// The set without the metric's name.
    #[must_use]
    pub fn unnamed(&self) -> Self {
        self.without(&[METRIC_NAME])
    }

    /// The set with one label set to `value`, or removed when `value` is empty.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut labels = self.0.to_vec();
        match (
            labels.binary_search_by(|(n, _)| (**n).cmp(name)),
            value.is_empty(),
        ) {
            (Ok(at), true) => drop(labels.remove(at)),
            (Ok(at), false) => {
                if let Some(label) = labels.get_mut(at) {
                    label.1 = value.into();
                }
            }
            (Err(_), true) => return self.clone(),
            (Err(at), false) => labels.insert(at, (name.into(), value.into())),
        }
        Self(labels.into())
    }

    fn find(&self, name: &str) -> Option<&Label> {
        self.0
            .binary_search_by(|(n, _)| (**n).cmp(name))
            .ok()
            .and_then(|at| self.0.get(at))
    }

    fn filtered(&self, keep: impl Fn(&str) -> bool) -> Self {
        if self.0.iter().all(|(name, _)| keep(name)) {
            return self.clone();
        }
        Self(
            self.0
                .iter()
                .filter(|(name, _)| keep(name))
                .cloned()
                .collect(),
        )
    }
}

/// As PromQL writes it: `name{a="1", b="2"}`, with quotes and backslashes escaped.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.metric())?;
        let rest: Vec<_> = self
            .iter()
            .filter(|(name, _)| &**name != METRIC_NAME)
            .map(|(name, value)| format!("{name}={value:?}"))
            .collect();
        if rest.is_empty() && !self.metric().is_empty() {
            Ok(())
        } else {
            write!(f, "{{{}}}", rest.join(", "))
        }
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_sorted_and_has_each_name_once_and_no_empty_value() {
        let set = Labels::new([
            ("b", "1"),
            ("__name__", "up"),
            ("a", "x"),
            ("c", ""),
            ("b", "2"),
        ]);
        assert_eq!(set.to_string(), r#"up{a="x", b="2"}"#);
        assert_eq!(set.get("c"), "");
        assert_eq!(set.with("b", "").to_string(), r#"up{a="x"}"#);
        assert_eq!(
            set.with("aa", "y").without(&["a"]).unnamed().to_string(),
            r#"{aa="y", b="2"}"#
        );
        assert_eq!(set.only(&["a"]).to_string(), r#"{a="x"}"#);
        assert_eq!(Labels::empty().to_string(), "{}");
    }
}
