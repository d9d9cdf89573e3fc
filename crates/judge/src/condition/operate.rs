//! What the operators do with values: equality, order, arithmetic, membership, access.

use std::cmp::Ordering;
use std::sync::Arc;

use jiff::SignedDuration;

use super::budget::Budget;
use super::datum::{Datum, Entries, Key, List, Map};
use super::error::Fault;
use super::kind::Store;
use super::syntax::{Operator, Order};

/// `==`. Values of different kinds are unequal, only numbers mix.
pub(super) fn equal(left: &Datum, right: &Datum, budget: &mut Budget) -> Result<bool, Fault> {
    budget.step()?;
    Ok(match (left, right) {
        (Datum::Int(left), Datum::Int(right)) => left == right,
        (Datum::Int(_) | Datum::Float(_), Datum::Int(_) | Datum::Float(_)) => {
            left.as_float() == right.as_float()
        }
        (Datum::Bool(left), Datum::Bool(right)) => left == right,
        (Datum::Text(left), Datum::Text(right)) => {
            budget.reads(left.len().min(right.len()))?;
            left == right
        }
        (Datum::Bytes(left), Datum::Bytes(right)) => left == right,
        (Datum::Duration(left), Datum::Duration(right)) => left == right,
        (Datum::Time(left), Datum::Time(right)) => left.timestamp() == right.timestamp(),
        (Datum::Month(left), Datum::Month(right)) => left == right,
        (Datum::Weekday(left), Datum::Weekday(right)) => left == right,
        (Datum::Zone(left), Datum::Zone(right)) => left == right,
        (Datum::List(left), Datum::List(right)) => {
            let comparable = left.store() == right.store()
                || left.store() == Store::Any
                || right.store() == Store::Any;
            comparable && all_equal(left, right, budget, equal)?
        }
        (Datum::Bytes(_), Datum::List(list)) | (Datum::List(list), Datum::Bytes(_))
            if list.store() == Store::Any =>
        {
            all_equal(&*left.elements()?, &*right.elements()?, budget, equal)?
        }
        (Datum::Map(left), Datum::Map(right)) => same_maps(left, right, budget)?,
        _ => left.is_nil() && right.is_nil(),
    })
}

fn all_equal(
    left: &List,
    right: &List,
    budget: &mut Budget,
    equal: fn(&Datum, &Datum, &mut Budget) -> Result<bool, Fault>,
) -> Result<bool, Fault> {
    if left.items().len() != right.items().len() {
        return Ok(false);
    }
    for (left, right) in left.items().iter().zip(right.items()) {
        if !equal(left, right, budget)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Equality inside maps, where numbers and lists must be of one kind, too.
fn same(left: &Datum, right: &Datum, budget: &mut Budget) -> Result<bool, Fault> {
    match (left, right) {
        (Datum::Int(_), Datum::Float(_)) | (Datum::Float(_), Datum::Int(_)) => Ok(false),
        (Datum::List(left), Datum::List(right)) => {
            budget.step()?;
            if Arc::ptr_eq(left, right) {
                return Ok(true);
            }
            Ok(left.store() == right.store()
                && left.is_nil() == right.is_nil()
                && all_equal(left, right, budget, same)?)
        }
        (Datum::List(_), _) | (_, Datum::List(_)) => Ok(false),
        _ => equal(left, right, budget),
    }
}

fn same_maps(left: &Arc<Map>, right: &Arc<Map>, budget: &mut Budget) -> Result<bool, Fault> {
    // As in the reference a map is the same as itself, even with NaN inside.
    if Arc::ptr_eq(left, right) {
        return Ok(true);
    }
    match (left.entries(), right.entries()) {
        (Entries::Named { entries: left, .. }, Entries::Named { entries: right, .. }) => {
            all_same(left, right, budget)
        }
        (Entries::Groups(left), Entries::Groups(right))
        | (Entries::Pairs(left), Entries::Pairs(right)) => {
            let has_nan = left.keys().any(|key| matches!(key, Key::Nan(_)));
            Ok(!has_nan && all_same(left, right, budget)?)
        }
        _ => Ok(false),
    }
}

fn all_same<K: Ord>(
    left: &std::collections::BTreeMap<K, Datum>,
    right: &std::collections::BTreeMap<K, Datum>,
    budget: &mut Budget,
) -> Result<bool, Fault> {
    if left.len() != right.len() {
        return Ok(false);
    }
    for ((left_key, left), (right_key, right)) in left.iter().zip(right) {
        if left_key != right_key || !same(left, right, budget)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// How two values stand to each other; `None` with NaN. Fails when they have no order.
fn ordering(left: &Datum, right: &Datum, budget: &mut Budget) -> Result<Option<Ordering>, Fault> {
    budget.step()?;
    Ok(match (left, right) {
        (Datum::Int(left), Datum::Int(right)) => Some(left.cmp(right)),
        (Datum::Int(_) | Datum::Float(_), Datum::Int(_) | Datum::Float(_)) => {
            left.as_float().partial_cmp(&right.as_float())
        }
        (Datum::Text(left), Datum::Text(right)) => {
            budget.reads(left.len().min(right.len()))?;
            Some(left.cmp(right))
        }
        (Datum::Time(left), Datum::Time(right)) => Some(left.timestamp().cmp(&right.timestamp())),
        (Datum::Duration(left), Datum::Duration(right)) => Some(left.cmp(right)),
        _ => {
            return Err(Fault::new(format!(
                "invalid operation: {} and {} have no order",
                left.kind(),
                right.kind()
            )));
        }
    })
}

pub(super) fn compared(
    left: &Datum,
    order: Order,
    right: &Datum,
    budget: &mut Budget,
) -> Result<bool, Fault> {
    let Some(ordering) = ordering(left, right, budget)? else {
        return Ok(false);
    };
    Ok(match order {
        Order::Less => ordering.is_lt(),
        Order::LessEqual => ordering.is_le(),
        Order::More => ordering.is_gt(),
        Order::MoreEqual => ordering.is_ge(),
    })
}

fn undefined(operator: &str, left: &Datum, right: &Datum) -> Fault {
    Fault::new(format!(
        "invalid operation: {} {operator} {}",
        left.kind(),
        right.kind()
    ))
}

/// `+ - * / % **` on numbers, texts, times and durations. Integers wrap around as in the reference.
pub(super) fn arithmetic(
    operator: Operator,
    left: &Datum,
    right: &Datum,
    budget: &mut Budget,
) -> Result<Datum, Fault> {
    use Datum::{Duration, Int, Text, Time};
    let fault = || undefined(operator.text(), left, right);
    let floats = |operate: fn(f64, f64) -> f64| match (left.as_float(), right.as_float()) {
        (Some(left), Some(right)) => Ok(Datum::Float(operate(left, right))),
        _ => Err(fault()),
    };
    match (operator, left, right) {
        (Operator::Add, Int(left), Int(right)) => Ok(Int(left.wrapping_add(*right))),
        (Operator::Add, Text(left), Text(right)) => {
            budget.text(left.len() + right.len())?;
            Ok(Datum::text([&**left, &**right].concat()))
        }
        (Operator::Add, Time(time), Duration(nanos))
        | (Operator::Add, Duration(nanos), Time(time)) => later(time, *nanos),
        (Operator::Add, Duration(left), Duration(right)) => Ok(Duration(left.wrapping_add(*right))),
        (Operator::Add, _, _) => floats(|left, right| left + right),
        (Operator::Subtract, Int(left), Int(right)) => Ok(Int(left.wrapping_sub(*right))),
        (Operator::Subtract, Time(left), Time(right)) => {
            Ok(Duration(super::time::between(right, left)))
        }
        (Operator::Subtract, Time(time), Duration(nanos)) => later(time, nanos.wrapping_neg()),
        (Operator::Subtract, Duration(left), Duration(right)) => {
            Ok(Duration(left.wrapping_sub(*right)))
        }
        (Operator::Subtract, _, _) => floats(|left, right| left - right),
        (Operator::Multiply, Int(left), Int(right)) => Ok(Int(left.wrapping_mul(*right))),
        (Operator::Multiply, Duration(left), Duration(right) | Int(right))
        | (Operator::Multiply, Int(left), Duration(right)) => {
            Ok(Duration(left.wrapping_mul(*right)))
        }
        // The reference gives a plain number of nanoseconds here.
        (Operator::Multiply, Duration(nanos), other)
        | (Operator::Multiply, other, Duration(nanos)) => {
            match (Int(*nanos).as_float(), other.as_float()) {
                (Some(nanos), Some(other)) => Ok(Datum::Float(nanos * other)),
                _ => Err(fault()),
            }
        }
        (Operator::Multiply, _, _) => floats(|left, right| left * right),
        (Operator::Divide, _, _) => floats(|left, right| left / right),
        (Operator::Power, _, _) => floats(f64::powf),
        (Operator::Modulo, Int(_), Int(0)) => Err(Fault::new("integer divide by zero")),
        (Operator::Modulo, Int(left), Int(right)) => Ok(Int(left.wrapping_rem(*right))),
        _ => Err(fault()),
    }
}

fn later(time: &jiff::Zoned, nanos: i64) -> Result<Datum, Fault> {
    time.checked_add(SignedDuration::from_nanos(nanos))
        .map(|time| Datum::Time(Arc::new(time)))
        .map_err(|_| Fault::new("time is out of range"))
}

/// `contains`, `startsWith`, `endsWith`: nil on either side is never so.
pub(super) fn searched(
    operator: Operator,
    left: &Datum,
    right: &Datum,
    budget: &mut Budget,
) -> Result<bool, Fault> {
    if left.is_nil() || right.is_nil() {
        return Ok(false);
    }
    let (text, part) = (left.as_text()?, right.as_text()?);
    budget.reads(text.len())?;
    Ok(match operator {
        Operator::StartsWith => text.starts_with(&**part),
        Operator::EndsWith => text.ends_with(&**part),
        _ => text.contains(&**part),
    })
}

/// `needle in right`
pub(super) fn inside(needle: &Datum, right: &Datum, budget: &mut Budget) -> Result<bool, Fault> {
    match right {
        Datum::Nil => Ok(false),
        Datum::List(_) | Datum::Bytes(_) => {
            for element in right.elements()?.items() {
                if equal(element, needle, budget)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Datum::Map(map) => Ok(found(map, needle)?.is_some()),
        other => Err(Fault::new(format!(
            "operator \"in\" not defined on {}",
            other.kind()
        ))),
    }
}

/// The member of a map under a key. Nil as a key of texts looks for the empty text, as in the reference.
pub(super) fn found<'m>(map: &'m Map, key: &Datum) -> Result<Option<&'m Datum>, Fault> {
    match (map.entries(), key) {
        (Entries::Named { entries, .. }, Datum::Text(key)) => Ok(entries.get(key)),
        (Entries::Named { entries, .. }, Datum::Nil) => Ok(entries.get("")),
        (Entries::Named { .. }, other) => Err(Fault::new(format!(
            "cannot use {} to get an element from {}",
            other.kind(),
            "map[string]interface {}"
        ))),
        (Entries::Groups(entries) | Entries::Pairs(entries), key) => {
            // No stored key is this NaN.
            Ok(entries.get(&Key::of(key, usize::MAX)?))
        }
    }
}

/// `base[key]` and `base.key`
pub(super) fn fetched(base: &Datum, key: &Datum) -> Result<Datum, Fault> {
    match base {
        Datum::Map(map) => match (found(map, key)?, map.entries()) {
            (Some(member), _) => Ok(member.clone()),
            (None, Entries::Groups(_)) => Ok(Datum::no_list()),
            (
                None,
                Entries::Named {
                    is_record: true, ..
                },
            ) => Err(Fault::new("record has no such field")),
            (None, _) => Ok(Datum::Nil),
        },
        Datum::List(_) | Datum::Bytes(_) | Datum::Text(_) => {
            let length = length_in_bytes(base);
            let index = key.as_int()?;
            element(base, index)?.ok_or_else(|| {
                let index = if index < 0 {
                    index.wrapping_add(length)
                } else {
                    index
                };
                Fault::new(format!(
                    "index out of range: {index} (array length is {length})"
                ))
            })
        }
        other => {
            let key = match key {
                Datum::Text(name) => name.to_string(),
                key => key.kind().to_owned(),
            };
            Err(Fault::new(format!(
                "cannot fetch {key} from {}",
                other.kind()
            )))
        }
    }
}

/// Elements of a list, bytes of a text.
fn length_in_bytes(base: &Datum) -> i64 {
    let length = match base {
        Datum::List(list) => list.items().len(),
        Datum::Bytes(bytes) => bytes.len(),
        Datum::Text(text) => text.len(),
        _ => 0,
    };
    i64::try_from(length).unwrap_or(i64::MAX)
}

/// An element of a list by its index, counted from the end when negative; of a text the byte as a number. `None`
/// outside.
pub(super) fn element(base: &Datum, index: i64) -> Result<Option<Datum>, Fault> {
    let from_start = if index < 0 {
        index.wrapping_add(length_in_bytes(base))
    } else {
        index
    };
    let Ok(index) = usize::try_from(from_start) else {
        return Ok(None);
    };
    match base {
        Datum::List(list) => Ok(list.items().get(index).cloned()),
        Datum::Bytes(bytes) => Ok(bytes.get(index).map(|byte| Datum::Int((*byte).into()))),
        Datum::Text(text) => Ok(text
            .as_bytes()
            .get(index)
            .map(|byte| Datum::Int((*byte).into()))),
        other => Err(Fault::new(format!("{} cannot be indexed", other.kind()))),
    }
}

/// `base[from:to]` with bounds drawn to the ends. Of a text by bytes; a cut inside a character is an error.
pub(super) fn sliced(
    base: &Datum,
    from: Option<&Datum>,
    to: Option<&Datum>,
    budget: &mut Budget,
) -> Result<Datum, Fault> {
    if !matches!(base, Datum::List(_) | Datum::Bytes(_) | Datum::Text(_)) {
        return Err(Fault::new(format!("cannot slice {}", base.kind())));
    }
    let length = length_in_bytes(base);
    let bound = |bound: &Datum| -> Result<i64, Fault> {
        let bound = bound.as_int()?;
        let from_start = if bound < 0 {
            bound.saturating_add(length)
        } else {
            bound
        };
        Ok(from_start.clamp(0, length))
    };
    let to = to.map_or(Ok(length), bound)?;
    let from = from.map_or(Ok(0), bound)?.min(to);
    let range = usize::try_from(from).unwrap_or(0)..usize::try_from(to).unwrap_or(0);
    match base {
        Datum::List(list) => {
            budget.elements(range.len())?;
            let items = list.items().get(range).unwrap_or_default();
            Datum::stored(items.to_vec(), list.store())
        }
        Datum::Bytes(bytes) => Ok(Datum::Bytes(bytes.get(range).unwrap_or_default().into())),
        Datum::Text(text) => {
            budget.text(range.len())?;
            let part = text
                .get(range)
                .ok_or_else(|| Fault::new("slice cuts a character"))?;
            Ok(Datum::text(part))
        }
        other => Err(Fault::new(format!("cannot slice {}", other.kind()))),
    }
}

/// `from..to` with both ends. How many there are wraps around like all integers, as in the reference: beyond the
/// range of 64 bits there are none, or too many.
pub(super) fn range(from: &Datum, to: &Datum, budget: &mut Budget) -> Result<Datum, Fault> {
    let (from, to) = (from.as_int()?, to.as_int()?);
    let size = to.wrapping_sub(from).wrapping_add(1).max(0);
    budget.elements(usize::try_from(size).unwrap_or(usize::MAX))?;
    let numbers = (0..size).map(|step| Datum::Int(from.wrapping_add(step)));
    Datum::stored(numbers.collect(), Store::Ints)
}

pub(super) fn negated(datum: &Datum) -> Result<Datum, Fault> {
    match datum {
        Datum::Int(value) => Ok(Datum::Int(value.wrapping_neg())),
        Datum::Float(value) => Ok(Datum::Float(-value)),
        other => Err(Fault::new(format!("invalid operation: - {}", other.kind()))),
    }
}
