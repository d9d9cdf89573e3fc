//! What is known of a value before the condition runs: its kind, and which kinds go together.
//!
//! A kind is as coarse as the reference's, because a kind that is known too well turns conditions into errors that
//! are none there, and one known too little lets a mix-up of kinds pass as false. In particular two kinds say
//! "unknown" ([`Kind::Unknown`] and [`Kind::Any`]): the branches of a conditional take the kind of the first when
//! the second is `Any`, and none when it is `Unknown`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crossfade_api::words::Value;

use super::syntax::Function;

/// Lists in lists are told apart to this depth; below, elements count as unknown.
const MOST_DEPTH: u8 = 16;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// Nothing is known.
    Unknown,
    /// A member of a map or a list of anything.
    Any,
    Nil,
    Bool,
    /// The integers of the language.
    Int,
    /// Integers from outside: what `asInt` and providers give.
    Int64,
    Float,
    Text,
    Bytes,
    List(List),
    /// Texts to anything.
    Map,
    /// Anything to lists of anything: what `groupBy` gives.
    Groups,
    /// Anything to anything: what `fromPairs` gives.
    Pairs,
    /// A map with exactly these members.
    Record(Arc<BTreeMap<String, Kind>>),
    Time,
    Duration,
    Zone,
    Month,
    Weekday,
    Function(Function),
}

/// A list by how it is stored and by the kind of its elements.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct List {
    pub(super) store: Store,
    element: Arc<Kind>,
    depth: u8,
}

/// How a list is stored. Two lists that are stored differently, neither as `Any`, are never equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Store {
    Any,
    Ints,
    Floats,
    Texts,
}

impl Kind {
    /// A list of anything whose elements are known to be of one kind.
    pub(super) fn list_of(element: Self) -> Self {
        Self::stored(Store::Any, element)
    }

    pub(super) fn list() -> Self {
        Self::list_of(Self::Any)
    }

    pub(super) fn texts() -> Self {
        Self::stored(Store::Texts, Self::Text)
    }

    fn stored(store: Store, element: Self) -> Self {
        let depth = match &element {
            Self::List(list) => list.depth + 1,
            _ => 0,
        };
        let (element, depth) = if depth < MOST_DEPTH {
            (element, depth)
        } else {
            (Self::Unknown, 0)
        };
        Self::List(List {
            store,
            element: Arc::new(element),
            depth,
        })
    }

    /// The kind of a provider's value.
    pub(super) fn of(value: &Value) -> Self {
        match value {
            Value::Nil => Self::Nil,
            Value::Bool(_) => Self::Bool,
            Value::Int(_) => Self::Int64,
            Value::Float(_) => Self::Float,
            Value::String(_) => Self::Text,
            Value::Floats(_) => Self::stored(Store::Floats, Self::Float),
            Value::List(items) => match items.first() {
                // Records come in lists of records.
                Some(Value::Record(fields)) => Self::list_of(Self::record(fields)),
                _ => Self::list(),
            },
            Value::Map(_) => Self::Map,
            Value::Record(fields) => Self::record(fields),
            Value::Time(_) => Self::Time,
        }
    }

    fn record(fields: &BTreeMap<String, Value>) -> Self {
        let kind = |value: &Value| match value {
            // A member that may be missing: nothing is known when it is.
            Value::Nil => Self::Any,
            // Records inside records are not looked into: their depth is the provider's business.
            Value::Record(_) => Self::Any,
            value => Self::of(value),
        };
        Self::Record(Arc::new(
            fields
                .iter()
                .map(|(name, value)| (name.clone(), kind(value)))
                .collect(),
        ))
    }

    pub(super) fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown | Self::Any)
    }

    pub(super) fn is_integer(&self) -> bool {
        matches!(self, Self::Int | Self::Int64)
    }

    pub(super) fn is_number(&self) -> bool {
        self.is_integer() || *self == Self::Float
    }

    pub(super) fn is_list(&self) -> bool {
        matches!(self, Self::List(_) | Self::Bytes)
    }

    pub(super) fn is_map(&self) -> bool {
        matches!(self, Self::Map | Self::Groups | Self::Pairs)
    }

    /// The kind of the elements of a list and of the members of a map.
    pub(super) fn element(&self) -> Self {
        match self {
            Self::List(list) => (*list.element).clone(),
            Self::Bytes => Self::Int64,
            Self::Map | Self::Pairs => Self::Any,
            Self::Groups => Self::list(),
            _ => Self::Unknown,
        }
    }

    /// The kind of an element going by how the list is stored: what some functions know of it.
    pub(super) fn stored_element(&self) -> Self {
        match self {
            Self::List(list) => match list.store {
                Store::Any => Self::Any,
                Store::Ints => Self::Int,
                Store::Floats => Self::Float,
                Store::Texts => Self::Text,
            },
            other => other.element(),
        }
    }

    /// The same list with nothing known of its elements but how they are stored.
    pub(super) fn without_element(&self) -> Self {
        match self {
            Self::List(list) => Self::stored(list.store, self.stored_element()),
            other => other.clone(),
        }
    }

    /// Whether the keys of a map are texts; otherwise any value may be one.
    pub(super) fn has_text_keys(&self) -> bool {
        *self == Self::Map
    }

    /// Whether a value of this kind can take the place of one of `other`.
    pub(super) fn is_assignable_to(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Nil, other) => {
                other.is_map()
                    || other.is_list()
                    || matches!(other, Self::Any | Self::Zone | Self::Function(_))
            }
            (Self::Unknown, _) | (_, Self::Unknown) => false,
            (_, Self::Any) => true,
            (Self::List(own), Self::List(other)) => own.store == other.store,
            (own, other) => own == other,
        }
    }

    pub(super) fn is_comparable_to(&self, other: &Self) -> bool {
        self.is_unknown()
            || other.is_unknown()
            || *self == Self::Nil
            || *other == Self::Nil
            || (self.is_number() && other.is_number())
            || (self.is_list() && other.is_list())
            || self.is_assignable_to(other)
    }

    /// Whether lists of both kinds side by side still have one kind of element.
    pub(super) fn is_alike(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Unknown | Self::Nil, Self::Unknown | Self::Nil) => true,
            (own, other) if own.is_list() && other.is_list() => true,
            (own, other) if own.is_map() && other.is_map() => true,
            (Self::Record(_) | Self::Time, Self::Record(_) | Self::Time) => true,
            (Self::Function(_), Self::Function(_)) => true,
            (Self::Int64 | Self::Duration, Self::Int64 | Self::Duration) => true,
            (Self::Int | Self::Month | Self::Weekday, Self::Int | Self::Month | Self::Weekday) => {
                true
            }
            (own, other) => own == other,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown | Self::Any => "unknown",
            Self::Nil => "nil",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Int64 => "int64",
            Self::Float => "float64",
            Self::Text => "string",
            Self::Bytes => "[]uint8",
            Self::List(list) => list.store.name(),
            Self::Map => "map[string]interface {}",
            Self::Groups => "map[interface {}][]interface {}",
            Self::Pairs => "map[interface {}]interface {}",
            Self::Record(_) => "record",
            Self::Time => "time.Time",
            Self::Duration => "time.Duration",
            Self::Zone => "*time.Location",
            Self::Month => "time.Month",
            Self::Weekday => "time.Weekday",
            Self::Function(_) => "function",
        })
    }
}

impl Store {
    /// The name of such a list in errors; other tools know these from the reference.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Any => "[]interface {}",
            Self::Ints => "[]int",
            Self::Floats => "[]float64",
            Self::Texts => "[]string",
        }
    }
}
