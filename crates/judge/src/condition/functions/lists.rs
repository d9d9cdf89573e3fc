//! Functions on lists and maps.

use std::collections::BTreeMap;

use super::super::budget::Budget;
use super::super::builtin::Builtin;
use super::super::datum::{Datum, Entries, Key};
use super::super::error::Fault;
use super::super::kind::Store;
use super::super::operate;
use super::super::syntax::Order;
use super::{counted, unsupported};

pub(super) fn call(
    function: Builtin,
    arguments: &[Datum],
    budget: &mut Budget,
) -> Result<Datum, Fault> {
    match (function, arguments) {
        (Builtin::Len, [datum]) => length(datum, budget),
        (Builtin::First, [datum]) => end(datum, 0),
        (Builtin::Last, [datum]) => end(datum, -1),
        (Builtin::Take, [list, Datum::Int(count)]) => {
            if *count < 0 {
                return Err(Fault::new(format!("cannot take {count} elements")));
            }
            if !matches!(list, Datum::List(_) | Datum::Bytes(_)) {
                return Err(unsupported(function, arguments));
            }
            operate::sliced(list, None, Some(&Datum::Int(*count)), budget)
        }
        (Builtin::Get, [base, key]) => get(base, key),
        (Builtin::Reverse, [list]) => {
            let list = list.elements()?;
            budget.elements(list.items().len())?;
            Datum::list(list.items().iter().rev().cloned().collect())
        }
        (Builtin::Uniq, [list]) => uniq(list, budget),
        (Builtin::Concat, lists) => {
            let mut all = Vec::new();
            for list in lists {
                let list = list.elements()?;
                budget.elements(list.items().len())?;
                all.extend_from_slice(list.items());
            }
            Datum::list(all)
        }
        (Builtin::Flatten, [list]) => {
            let mut flat = Vec::new();
            flatten(list, &mut flat, budget)?;
            Datum::list(flat)
        }
        (Builtin::Sort, [list]) => sort(list, None, budget),
        (Builtin::Sort, [list, order]) => sort(list, Some(order), budget),
        (Builtin::Join, [list]) => join(list, "", budget),
        (Builtin::Join, [list, glue]) => join(list, glue.as_text()?, budget),
        (Builtin::Keys | Builtin::Values | Builtin::ToPairs, [Datum::Map(map)]) => {
            budget.elements(map.len())?;
            let part = |(key, value)| match function {
                Builtin::Keys => Ok(key),
                Builtin::Values => Ok(value),
                _ => Datum::list(vec![key, value]),
            };
            let parts = map.pairs().into_iter().map(part);
            Datum::list(parts.collect::<Result<_, _>>()?)
        }
        (Builtin::FromPairs, [list]) => from_pairs(list, budget),
        _ => Err(unsupported(function, arguments)),
    }
}

fn length(datum: &Datum, budget: &mut Budget) -> Result<Datum, Fault> {
    Ok(counted(match datum {
        Datum::List(list) => list.items().len(),
        Datum::Bytes(bytes) => bytes.len(),
        Datum::Map(map) => map.len(),
        Datum::Text(text) => {
            budget.reads(text.len())?;
            text.chars().count()
        }
        other => {
            return Err(Fault::new(format!(
                "invalid argument for len (type {})",
                other.kind()
            )));
        }
    }))
}

/// `first` and `last`: nil for whatever has no elements.
fn end(datum: &Datum, index: i64) -> Result<Datum, Fault> {
    Ok(match datum {
        Datum::List(_) | Datum::Bytes(_) | Datum::Text(_) => {
            operate::element(datum, index)?.unwrap_or(Datum::Nil)
        }
        _ => Datum::Nil,
    })
}

/// Access that gives nil where there is nothing.
fn get(base: &Datum, key: &Datum) -> Result<Datum, Fault> {
    let found = match base {
        Datum::List(_) | Datum::Bytes(_) | Datum::Text(_) => operate::element(base, key.as_int()?)?,
        Datum::Map(map) => operate::found(map, key)?.cloned(),
        _ => None,
    };
    Ok(found.unwrap_or(Datum::Nil))
}

fn uniq(list: &Datum, budget: &mut Budget) -> Result<Datum, Fault> {
    let list = list.elements()?;
    let mut kept: Vec<Datum> = Vec::new();
    'items: for item in list.items() {
        for known in &kept {
            if operate::equal(item, known, budget)? {
                continue 'items;
            }
        }
        kept.push(item.clone());
    }
    budget.elements(kept.len())?;
    Datum::list(kept)
}

fn flatten(list: &Datum, flat: &mut Vec<Datum>, budget: &mut Budget) -> Result<(), Fault> {
    for item in list.elements()?.items() {
        budget.step()?;
        if matches!(item, Datum::List(_) | Datum::Bytes(_)) {
            flatten(item, flat, budget)?;
        } else {
            budget.elements(1)?;
            flat.push(item.clone());
        }
    }
    Ok(())
}

fn sort(list: &Datum, order: Option<&Datum>, budget: &mut Budget) -> Result<Datum, Fault> {
    let descending = is_descending(order)?;
    let list = list.elements()?;
    budget.elements(list.items().len())?;
    let keyed = list
        .items()
        .iter()
        .map(|item| (item.clone(), item.clone()))
        .collect();
    Datum::list(sorted(keyed, descending, budget)?)
}

/// `asc`, `desc`, or nothing.
pub(in super::super) fn is_descending(order: Option<&Datum>) -> Result<bool, Fault> {
    let Some(order) = order else {
        return Ok(false);
    };
    match &**order.as_text()? {
        "asc" => Ok(false),
        "desc" => Ok(true),
        other => Err(Fault::new(format!(
            "invalid order {other}, expected asc or desc"
        ))),
    }
}

/// The second of each pair in the order of the first; equal ones stay as they stand. A merge sort of our own: the
/// order of values can fail, and with NaN it is no order, which the standard library's sorts do not take.
pub(in super::super) fn sorted(
    keyed: Vec<(Datum, Datum)>,
    descending: bool,
    budget: &mut Budget,
) -> Result<Vec<Datum>, Fault> {
    let mut runs: Vec<Vec<(Datum, Datum)>> = keyed.into_iter().map(|pair| vec![pair]).collect();
    while runs.len() > 1 {
        let mut merged = Vec::with_capacity(runs.len() / 2 + 1);
        let mut unmerged = runs.into_iter();
        while let Some(left) = unmerged.next() {
            merged.push(match unmerged.next() {
                Some(right) => merge(left, right, descending, budget)?,
                None => left,
            });
        }
        runs = merged;
    }
    Ok(runs
        .pop()
        .unwrap_or_default()
        .into_iter()
        .map(|(_, item)| item)
        .collect())
}

fn merge(
    left: Vec<(Datum, Datum)>,
    right: Vec<(Datum, Datum)>,
    descending: bool,
    budget: &mut Budget,
) -> Result<Vec<(Datum, Datum)>, Fault> {
    let order = if descending { Order::More } else { Order::Less };
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let mut right = right.into_iter().peekable();
    for item in left {
        while let Some(next) = right.peek()
            && operate::compared(&next.0, order, &item.0, budget)?
        {
            merged.extend(right.next());
        }
        merged.push(item);
    }
    merged.extend(right);
    Ok(merged)
}

fn join(list: &Datum, glue: &str, budget: &mut Budget) -> Result<Datum, Fault> {
    let Datum::List(list) = list else {
        return Err(Fault::new(format!(
            "invalid argument for join (type {})",
            list.kind()
        )));
    };
    if !matches!(list.store(), Store::Any | Store::Texts) {
        return Err(Fault::new(format!(
            "invalid argument for join (type {})",
            list.store().name()
        )));
    }
    let mut joined = String::new();
    for (index, item) in list.items().iter().enumerate() {
        let item = item.as_text()?;
        budget.text(item.len() + glue.len())?;
        if index > 0 {
            joined.push_str(glue);
        }
        joined.push_str(item);
    }
    Ok(Datum::text(joined))
}

fn from_pairs(list: &Datum, budget: &mut Budget) -> Result<Datum, Fault> {
    let list = list.elements()?;
    budget.elements(list.items().len())?;
    let mut entries = BTreeMap::new();
    for (index, pair) in list.items().iter().enumerate() {
        let pair = pair.elements()?;
        let [key, value] = pair.items() else {
            return Err(Fault::new("invalid pair length"));
        };
        entries.insert(Key::of(key, index)?, value.clone());
    }
    Datum::mapped(Entries::Pairs(entries))
}
