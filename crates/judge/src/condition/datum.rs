//! Values while a condition runs.
//!
//! Lists and maps are shared, never copied. Each knows how deep it is and none may become deeper than
//! [`MOST_DEPTH`], so that whoever walks or drops one may recurse. Where values are made they are paid for: see
//! `budget`.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossfade_api::words::Value;
use jiff::Zoned;
use jiff::tz::TimeZone;

use super::error::Fault;
use super::kind::Store;
use super::syntax::Function;

/// How deep lists and maps may lie in each other.
const MOST_DEPTH: u16 = 300;

#[derive(Clone, Debug)]
pub(super) enum Datum {
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Arc<str>),
    Bytes(Arc<[u8]>),
    List(Arc<List>),
    Map(Arc<Map>),
    Time(Arc<Zoned>),
    /// Nanoseconds.
    Duration(i64),
    Zone(Arc<TimeZone>),
    /// 1 to 12.
    Month(i8),
    /// 0 (Sunday) to 6.
    Weekday(i8),
    Function(Function),
}

#[derive(Debug)]
pub(super) struct List {
    items: Vec<Datum>,
    store: Store,
    /// A list that is not there counts as nil and as a list without elements.
    is_nil: bool,
    depth: u16,
}

impl List {
    pub(super) fn items(&self) -> &[Datum] {
        &self.items
    }

    pub(super) fn store(&self) -> Store {
        self.store
    }

    pub(super) fn is_nil(&self) -> bool {
        self.is_nil
    }
}

#[derive(Debug)]
pub(super) struct Map {
    entries: Entries,
    depth: u16,
}

/// The three sorts of maps; two of different sorts are never equal.
#[derive(Debug)]
pub(super) enum Entries {
    /// Texts to anything. A record is such a map whose keys are all there are.
    Named {
        entries: BTreeMap<Arc<str>, Datum>,
        is_record: bool,
    },
    /// What `groupBy` gives.
    Groups(BTreeMap<Key, Datum>),
    /// What `fromPairs` gives.
    Pairs(BTreeMap<Key, Datum>),
}

impl Map {
    pub(super) fn entries(&self) -> &Entries {
        &self.entries
    }

    pub(super) fn len(&self) -> usize {
        match &self.entries {
            Entries::Named { entries, .. } => entries.len(),
            Entries::Groups(entries) | Entries::Pairs(entries) => entries.len(),
        }
    }

    /// Keys and values in the order of the keys.
    pub(super) fn pairs(&self) -> Vec<(Datum, Datum)> {
        match &self.entries {
            Entries::Named { entries, .. } => entries
                .iter()
                .map(|(key, value)| (Datum::Text(key.clone()), value.clone()))
                .collect(),
            Entries::Groups(entries) | Entries::Pairs(entries) => entries
                .iter()
                .map(|(key, value)| (key.datum(), value.clone()))
                .collect(),
        }
    }
}

/// A key of a map that may have any keys. An integer and a float are different keys even when they are equal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Nil,
    Bool(bool),
    Int(i64),
    /// The bits of a float that is not NaN, with one zero.
    Float(u64),
    /// NaN is unequal to itself, so every one is a new key.
    Nan(usize),
    Text(Arc<str>),
    Duration(i64),
    Month(i8),
    Weekday(i8),
}

impl Key {
    /// The key that `datum` is. Fails for what cannot be looked up: lists, maps and the like.
    pub(super) fn of(datum: &Datum, nans: usize) -> Result<Self, Fault> {
        Ok(match datum {
            Datum::Nil => Self::Nil,
            Datum::Bool(value) => Self::Bool(*value),
            Datum::Int(value) => Self::Int(*value),
            Datum::Float(value) if value.is_nan() => Self::Nan(nans),
            Datum::Float(value) => Self::Float(if *value == 0.0 { 0 } else { value.to_bits() }),
            Datum::Text(value) => Self::Text(value.clone()),
            Datum::Duration(value) => Self::Duration(*value),
            Datum::Month(value) => Self::Month(*value),
            Datum::Weekday(value) => Self::Weekday(*value),
            Datum::Bytes(_)
            | Datum::List(_)
            | Datum::Map(_)
            | Datum::Time(_)
            | Datum::Zone(_)
            | Datum::Function(_) => {
                return Err(Fault::new(format!("{} cannot be a key", datum.kind())));
            }
        })
    }

    fn datum(&self) -> Datum {
        match self {
            Self::Nil => Datum::Nil,
            Self::Bool(value) => Datum::Bool(*value),
            Self::Int(value) => Datum::Int(*value),
            Self::Float(bits) => Datum::Float(f64::from_bits(*bits)),
            Self::Nan(_) => Datum::Float(f64::NAN),
            Self::Text(value) => Datum::Text(value.clone()),
            Self::Duration(value) => Datum::Duration(*value),
            Self::Month(value) => Datum::Month(*value),
            Self::Weekday(value) => Datum::Weekday(*value),
        }
    }
}

/// One deeper than the deepest of `inside`.
fn deeper<'d>(inside: impl IntoIterator<Item = &'d Datum>) -> Result<u16, Fault> {
    let deepest = inside.into_iter().map(Datum::depth).max().unwrap_or(0);
    if deepest >= MOST_DEPTH {
        return Err(Fault::new("value is nested too deeply"));
    }
    Ok(deepest + 1)
}

impl Datum {
    /// The value of a provider. Fails when it is too deep.
    pub(super) fn of(value: &Value) -> Result<Self, Fault> {
        Self::within(value, MOST_DEPTH)
    }

    fn within(value: &Value, depth: u16) -> Result<Self, Fault> {
        let inside = || {
            depth
                .checked_sub(1)
                .ok_or_else(|| Fault::new("value is nested too deeply"))
        };
        let named = |fields: &BTreeMap<String, Value>| {
            let depth = inside()?;
            fields
                .iter()
                .map(|(name, value)| Ok((name.as_str().into(), Self::within(value, depth)?)))
                .collect::<Result<BTreeMap<Arc<str>, Self>, Fault>>()
        };
        match value {
            Value::Nil => Ok(Self::Nil),
            Value::Bool(value) => Ok(Self::Bool(*value)),
            Value::Int(value) => Ok(Self::Int(*value)),
            Value::Float(value) => Ok(Self::Float(*value)),
            Value::String(value) => Ok(Self::Text(value.as_str().into())),
            Value::Floats(values) => {
                let items = values.iter().copied().map(Self::Float).collect();
                Self::stored(items, Store::Floats)
            }
            Value::List(values) => {
                let depth = inside()?;
                let items = values
                    .iter()
                    .map(|value| Self::within(value, depth))
                    .collect::<Result<_, _>>()?;
                Self::list(items)
            }
            Value::Map(fields) => Self::map(named(fields)?),
            Value::Record(fields) => Self::record(named(fields)?),
            Value::Time(at) => Ok(Self::Time(Arc::new(at.to_zoned(TimeZone::UTC)))),
        }
    }

    pub(super) fn text(text: impl Into<Arc<str>>) -> Self {
        Self::Text(text.into())
    }

    pub(super) fn list(items: Vec<Self>) -> Result<Self, Fault> {
        Self::stored(items, Store::Any)
    }

    pub(super) fn stored(items: Vec<Self>, store: Store) -> Result<Self, Fault> {
        let depth = deeper(&items)?;
        Ok(Self::List(Arc::new(List {
            items,
            store,
            is_nil: false,
            depth,
        })))
    }

    /// A list that is not there.
    pub(super) fn no_list() -> Self {
        Self::List(Arc::new(List {
            items: Vec::new(),
            store: Store::Any,
            is_nil: true,
            depth: 1,
        }))
    }

    pub(super) fn map(entries: BTreeMap<Arc<str>, Self>) -> Result<Self, Fault> {
        Self::mapped(Entries::Named {
            entries,
            is_record: false,
        })
    }

    fn record(entries: BTreeMap<Arc<str>, Self>) -> Result<Self, Fault> {
        Self::mapped(Entries::Named {
            entries,
            is_record: true,
        })
    }

    pub(super) fn mapped(entries: Entries) -> Result<Self, Fault> {
        let depth = match &entries {
            Entries::Named { entries, .. } => deeper(entries.values())?,
            Entries::Groups(entries) | Entries::Pairs(entries) => deeper(entries.values())?,
        };
        Ok(Self::Map(Arc::new(Map { entries, depth })))
    }

    fn depth(&self) -> u16 {
        match self {
            Self::List(list) => list.depth,
            Self::Map(map) => map.depth,
            _ => 0,
        }
    }

    /// Nil, or a list that is not there.
    pub(super) fn is_nil(&self) -> bool {
        match self {
            Self::Nil => true,
            Self::List(list) => list.is_nil,
            _ => false,
        }
    }

    /// The name of the kind as errors have it; other tools know these names from the reference.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Nil => "<nil>",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float64",
            Self::Text(_) => "string",
            Self::Bytes(_) => "[]uint8",
            Self::List(list) => list.store.name(),
            Self::Map(map) => match map.entries {
                Entries::Named { .. } => "map[string]interface {}",
                Entries::Groups(_) => "map[interface {}][]interface {}",
                Entries::Pairs(_) => "map[interface {}]interface {}",
            },
            Self::Time(_) => "time.Time",
            Self::Duration(_) => "time.Duration",
            Self::Zone(_) => "*time.Location",
            Self::Month(_) => "time.Month",
            Self::Weekday(_) => "time.Weekday",
            Self::Function(_) => "function",
        }
    }

    pub(super) fn as_bool(&self) -> Result<bool, Fault> {
        match self {
            Self::Bool(value) => Ok(*value),
            other => Err(Fault::new(format!("{} is not bool", other.kind()))),
        }
    }

    pub(super) fn as_text(&self) -> Result<&Arc<str>, Fault> {
        match self {
            Self::Text(text) => Ok(text),
            other => Err(Fault::new(format!("{} is not string", other.kind()))),
        }
    }

    /// The elements to walk: of a list, or the bytes of bytes.
    pub(super) fn elements(&self) -> Result<Arc<List>, Fault> {
        match self {
            Self::List(list) => Ok(list.clone()),
            Self::Bytes(bytes) => Ok(Arc::new(List {
                items: bytes.iter().map(|byte| Self::Int((*byte).into())).collect(),
                store: Store::Any,
                is_nil: false,
                depth: 1,
            })),
            other => Err(Fault::new(format!("{} is not a list", other.kind()))),
        }
    }

    /// The elements that a predicate walks. Nothing is nothing: maps and texts without content count as lists
    /// without elements, as in the reference.
    pub(super) fn walked(&self) -> Result<Arc<List>, Fault> {
        let is_empty = match self {
            Self::Map(map) => map.len() == 0,
            Self::Text(text) => text.is_empty(),
            _ => false,
        };
        if is_empty {
            Self::stored(Vec::new(), Store::Any)?.elements()
        } else {
            self.elements()
        }
    }

    /// A number as a float.
    pub(super) fn as_float(&self) -> Option<f64> {
        match self {
            #[expect(
                clippy::cast_precision_loss,
                reason = "integers become floats as in any mixed arithmetic of the language"
            )]
            Self::Int(value) => Some(*value as f64),
            Self::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// A number as an integer, cut toward zero. Fails for what no integer stands for.
    pub(super) fn as_int(&self) -> Result<i64, Fault> {
        match self {
            Self::Int(value) => Ok(*value),
            Self::Float(value) => cut(*value),
            other => Err(Fault::new(format!(
                "invalid operation: int({})",
                other.kind()
            ))),
        }
    }
}

/// A float cut to an integer. The reference leaves open what NaN, infinities and far numbers become; an error is
/// the one answer that decides nothing.
pub(super) fn cut(float: f64) -> Result<i64, Fault> {
    /// 2 to the power 63, the first float that is too large.
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if (-LIMIT..LIMIT).contains(&float) {
        #[expect(clippy::cast_possible_truncation, reason = "checked above")]
        return Ok(float as i64);
    }
    Err(Fault::new(format!(
        "{float} is not within the range of an integer"
    )))
}
