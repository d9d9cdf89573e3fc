//! Functions on numbers, alone and in lists.

use super::super::budget::Budget;
use super::super::builtin::Builtin;
use super::super::datum::{Datum, cut};
use super::super::error::Fault;
use super::super::number;
use super::super::operate;
use super::super::syntax::Order;
use super::unsupported;

pub(super) fn call(
    function: Builtin,
    arguments: &[Datum],
    budget: &mut Budget,
) -> Result<Datum, Fault> {
    let rounded = |round: fn(f64) -> f64| match arguments {
        [number] => match number.as_float() {
            Some(value) => Ok(Datum::Float(round(value))),
            None => Err(unsupported(function, arguments)),
        },
        _ => Err(unsupported(function, arguments)),
    };
    match (function, arguments) {
        (Builtin::Max, _) => extreme(Order::Less, function, arguments, budget),
        (Builtin::Min, _) => extreme(Order::More, function, arguments, budget),
        (Builtin::Mean, _) => {
            let numbers = numbers(function, arguments, budget)?;
            let sum: f64 = numbers.iter().sum();
            #[expect(clippy::cast_precision_loss, reason = "at most a million")]
            let count = numbers.len() as f64;
            Ok(Datum::Float(if numbers.is_empty() {
                0.0
            } else {
                sum / count
            }))
        }
        (Builtin::Median, _) => Ok(Datum::Float(median(numbers(function, arguments, budget)?))),
        (Builtin::Abs, [Datum::Int(value)]) => Ok(Datum::Int(value.wrapping_abs())),
        (Builtin::Abs, [Datum::Float(value)]) => Ok(Datum::Float(value.abs())),
        (Builtin::Ceil, _) => rounded(f64::ceil),
        (Builtin::Floor, _) => rounded(f64::floor),
        // Half away from zero.
        (Builtin::Round, _) => rounded(f64::round),
        (Builtin::Int, [datum]) => int(datum).map(Datum::Int),
        (Builtin::Float, [Datum::Text(text)]) => number::float(text)
            .map(Datum::Float)
            .ok_or_else(|| Fault::new(format!("invalid operation: float({text})"))),
        (Builtin::Float, _) => rounded(|value| value),
        (Builtin::BitNot, [Datum::Int(value)]) => Ok(Datum::Int(!value)),
        (_, [Datum::Int(left), Datum::Int(right)]) => bits(function, *left, *right)
            .map(Datum::Int)
            .ok_or_else(|| unsupported(function, arguments)),
        _ => Err(unsupported(function, arguments)),
    }
}

fn int(datum: &Datum) -> Result<i64, Fault> {
    match datum {
        Datum::Int(value) | Datum::Duration(value) => Ok(*value),
        Datum::Float(value) => cut(*value),
        Datum::Text(text) => {
            number::int(text).ok_or_else(|| Fault::new(format!("invalid operation: int({text})")))
        }
        Datum::Month(value) | Datum::Weekday(value) => Ok((*value).into()),
        other => Err(Fault::new(format!(
            "invalid operation: int({})",
            other.kind()
        ))),
    }
}

/// Bit by bit on 64 bits. `None` for a negative shift.
fn bits(function: Builtin, left: i64, right: i64) -> Option<i64> {
    let shift = || u32::try_from(right.min(64)).ok();
    Some(match function {
        Builtin::BitAnd => left & right,
        Builtin::BitOr => left | right,
        Builtin::BitXor => left ^ right,
        Builtin::BitNand => left & !right,
        Builtin::BitShl => left.checked_shl(shift()?).unwrap_or(0),
        Builtin::BitShr => left >> shift()?.min(63),
        Builtin::BitUshr => left
            .cast_unsigned()
            .checked_shr(shift()?)
            .unwrap_or(0)
            .cast_signed(),
        _ => return None,
    })
}

/// `max` replaces what is `Less` than the next, `min` what is `More`. Lists in lists count with their own extreme;
/// nothing at all gives nil.
fn extreme(
    worse: Order,
    function: Builtin,
    arguments: &[Datum],
    budget: &mut Budget,
) -> Result<Datum, Fault> {
    let mut best = Datum::Nil;
    for argument in arguments {
        match argument {
            Datum::List(_) | Datum::Bytes(_) => {
                for item in argument.elements()?.items() {
                    budget.step()?;
                    match item {
                        Datum::Int(_) | Datum::Float(_) => {}
                        Datum::List(_) | Datum::Bytes(_) => {
                            let inner =
                                extreme(worse, function, std::slice::from_ref(item), budget)?;
                            if !matches!(inner, Datum::Nil) {
                                replace(&mut best, worse, &inner, budget)?;
                            }
                            continue;
                        }
                        _ => return Err(unsupported(function, std::slice::from_ref(item))),
                    }
                    replace(&mut best, worse, item, budget)?;
                }
            }
            Datum::Int(_) | Datum::Float(_) | Datum::Duration(_) => {
                replace(&mut best, worse, argument, budget)?;
            }
            // Anything alone is its own extreme, as in the reference.
            other if arguments.len() == 1 => return Ok(other.clone()),
            _ => return Err(unsupported(function, arguments)),
        }
    }
    Ok(best)
}

fn replace(
    best: &mut Datum,
    worse: Order,
    candidate: &Datum,
    budget: &mut Budget,
) -> Result<(), Fault> {
    if matches!(best, Datum::Nil) || operate::compared(best, worse, candidate, budget)? {
        *best = candidate.clone();
    }
    Ok(())
}

/// All numbers in lists and beside them.
fn numbers(function: Builtin, arguments: &[Datum], budget: &mut Budget) -> Result<Vec<f64>, Fault> {
    let mut found = Vec::new();
    collect(function, arguments, &mut found, budget)?;
    Ok(found)
}

fn collect(
    function: Builtin,
    arguments: &[Datum],
    found: &mut Vec<f64>,
    budget: &mut Budget,
) -> Result<(), Fault> {
    for argument in arguments {
        budget.step()?;
        match argument {
            Datum::List(_) | Datum::Bytes(_) => {
                collect(function, argument.elements()?.items(), found, budget)?;
            }
            Datum::Duration(nanos) => found.extend(Datum::Int(*nanos).as_float()),
            number => match number.as_float() {
                Some(value) => found.push(value),
                None => return Err(unsupported(function, std::slice::from_ref(number))),
            },
        }
    }
    Ok(())
}

fn median(mut numbers: Vec<f64>) -> f64 {
    // NaN before all others, as Go sorts.
    numbers.sort_by(|left, right| {
        right
            .is_nan()
            .cmp(&left.is_nan())
            .then(left.total_cmp(right))
    });
    let middle = numbers.len() / 2;
    match (
        middle.checked_sub(1).and_then(|before| numbers.get(before)),
        numbers.get(middle),
    ) {
        (_, None) => 0.0,
        (Some(before), Some(after)) if numbers.len().is_multiple_of(2) => {
            f64::midpoint(*before, *after)
        }
        (_, Some(middle)) => *middle,
    }
}
