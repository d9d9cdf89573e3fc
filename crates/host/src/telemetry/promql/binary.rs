//! Binary operators: arithmetic, comparison and sets, between numbers and series.
//!
//! Series of two sides find each other by the labels they share (`on`, `ignoring`). The rules,
//! and the texts when a match is not unique, are those of Prometheus (`promql/engine.go`).

#![expect(clippy::float_cmp, reason = "PromQL compares exactly")]

use std::collections::HashMap;

use super::super::labels::Labels;
use super::QueryError;
use super::aggregate::group_of;
use super::eval::{Budget, Row, Value, merged, present, same_labels};
use super::functions::Operator;
use super::plan::{Grouping, Matching, Side};

/// Applies an operator over `count` times.
pub(super) fn binary(
    operator: Operator,
    left: Value,
    right: Value,
    matching: &Matching,
    count: usize,
    budget: &Budget,
) -> Result<Value, QueryError> {
    match (left, right) {
        (Value::Scalar(left), Value::Scalar(right)) => {
            budget.take(count)?;
            let both = left.iter().zip(&right);
            Ok(Value::Scalar(
                both.map(|(a, b)| of_numbers(operator, *a, *b)).collect(),
            ))
        }
        (Value::Vector(rows), Value::Scalar(numbers)) => {
            budget.take(rows.len() * count)?;
            with_number(operator, rows, &numbers, matching.gives_bool, Place::Right)
                .map(Value::Vector)
        }
        (Value::Scalar(numbers), Value::Vector(rows)) => {
            budget.take(rows.len() * count)?;
            with_number(operator, rows, &numbers, matching.gives_bool, Place::Left)
                .map(Value::Vector)
        }
        (Value::Vector(left), Value::Vector(right)) => {
            budget.take((left.len() + right.len()) * count)?;
            if operator.is_set() {
                set(operator, left, right, matching, count).map(Value::Vector)
            } else {
                matched(operator, &left, &right, matching, count, budget).map(Value::Vector)
            }
        }
        _ => Err(QueryError::Invalid(
            "operators do not work on strings".to_owned(),
        )),
    }
}

/// The value of `a operator b` and, for a comparison, whether it holds (its value is then `a`).
fn apply(operator: Operator, a: f64, b: f64) -> (f64, bool) {
    match operator {
        Operator::Add => (a + b, true),
        Operator::Sub => (a - b, true),
        Operator::Mul => (a * b, true),
        Operator::Div => (a / b, true),
        Operator::Mod => (a % b, true),
        Operator::Pow => (a.powf(b), true),
        Operator::Equal => (a, a == b),
        Operator::NotEqual => (a, a != b),
        Operator::Less => (a, a < b),
        Operator::LessOrEqual => (a, a <= b),
        Operator::Greater => (a, a > b),
        Operator::GreaterOrEqual => (a, a >= b),
        Operator::And | Operator::Or | Operator::Unless => (a, true),
    }
}

fn of_numbers(operator: Operator, a: f64, b: f64) -> f64 {
    let (value, holds) = apply(operator, a, b);
    if operator.is_comparison() {
        f64::from(u8::from(holds))
    } else {
        value
    }
}

/// What stays of a comparison or arithmetic; `None` when it filters the value away.
fn outcome(value: f64, holds: bool, gives_bool: bool) -> Option<f64> {
    if gives_bool {
        Some(f64::from(u8::from(holds)))
    } else {
        holds.then_some(value)
    }
}

fn drops_name(operator: Operator, gives_bool: bool) -> bool {
    gives_bool || !operator.is_comparison()
}

/// On which side of the operator the number stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Left,
    Right,
}

fn with_number(
    operator: Operator,
    mut rows: Vec<Row>,
    numbers: &[f64],
    gives_bool: bool,
    place: Place,
) -> Result<Vec<Row>, QueryError> {
    for row in &mut rows {
        if drops_name(operator, gives_bool) {
            row.labels = row.labels.unnamed();
        }
        for (place_of_value, number) in row.values.iter_mut().zip(numbers) {
            let Some(value) = *place_of_value else {
                continue;
            };
            let (result, holds) = match place {
                Place::Right => apply(operator, value, *number),
                Place::Left => apply(operator, *number, value),
            };
            // A comparison always gives the series' value, also when it stands on the right.
            let result = if operator.is_comparison() {
                value
            } else {
                result
            };
            *place_of_value = outcome(result, holds, gives_bool);
        }
    }
    merged(present(rows))
}

/// Gives each label set that series are matched by a number of its own.
#[derive(Default)]
struct Signatures(HashMap<Labels, usize>);

impl Signatures {
    fn of(&mut self, rows: &[Row], on: &Grouping) -> Vec<usize> {
        let mut number = |row: &Row| {
            let next = self.0.len();
            *self.0.entry(group_of(&row.labels, on)).or_insert(next)
        };
        rows.iter().map(&mut number).collect()
    }
}

fn value_at(row: &Row, index: usize) -> Option<f64> {
    row.values.get(index).copied().flatten()
}

/// `and`, `or` and `unless`.
fn set(
    operator: Operator,
    mut left: Vec<Row>,
    mut right: Vec<Row>,
    matching: &Matching,
    count: usize,
) -> Result<Vec<Row>, QueryError> {
    let mut signatures = Signatures::default();
    let of_left = signatures.of(&left, &matching.on);
    let of_right = signatures.of(&right, &matching.on);
    let seen = |rows: &[Row], of: &[usize]| {
        let mut seen = vec![vec![false; count]; signatures.0.len()];
        for (row, signature) in rows.iter().zip(of) {
            for (place, value) in seen
                .get_mut(*signature)
                .into_iter()
                .flatten()
                .zip(&row.values)
            {
                *place |= value.is_some();
            }
        }
        seen
    };
    let keep = |rows: &mut [Row], of: &[usize], other: &[Vec<bool>], when: bool| {
        for (row, signature) in rows.iter_mut().zip(of) {
            for (value, seen) in row
                .values
                .iter_mut()
                .zip(other.get(*signature).into_iter().flatten())
            {
                *value = value.filter(|_| *seen == when);
            }
        }
    };
    match operator {
        Operator::Or => {
            let have = seen(&left, &of_left);
            keep(&mut right, &of_right, &have, false);
            left.append(&mut right);
        }
        Operator::Unless => keep(&mut left, &of_left, &seen(&right, &of_right), false),
        _ => keep(&mut left, &of_left, &seen(&right, &of_right), true),
    }
    merged(present(left))
}

/// Arithmetic and comparison between series that match one another.
fn matched(
    operator: Operator,
    left: &[Row],
    right: &[Row],
    matching: &Matching,
    count: usize,
    budget: &Budget,
) -> Result<Vec<Row>, QueryError> {
    // From here on each series of the `many` side meets at most one of the `one` side.
    let swapped = matches!(matching.side, Side::ManyRight(_));
    let (many, one) = if swapped {
        (right, left)
    } else {
        (left, right)
    };
    let mut signatures = Signatures::default();
    let of_many = signatures.of(many, &matching.on);
    let of_one = signatures.of(one, &matching.on);
    let mut result: Vec<Row> = Vec::new();
    let mut places: HashMap<Labels, usize> = HashMap::new();
    let mut pairs: HashMap<(usize, usize), usize> = HashMap::new();
    for index in 0..count {
        budget.take(0)?;
        // Nothing can match, so nothing is ambiguous either.
        if [many, one]
            .iter()
            .any(|rows| rows.iter().all(|row| value_at(row, index).is_none()))
        {
            continue;
        }
        let mut partner: Vec<Option<usize>> = vec![None; signatures.0.len()];
        for (at, (row, signature)) in one.iter().zip(&of_one).enumerate() {
            if value_at(row, index).is_none() {
                continue;
            }
            if let Some(place) = partner.get_mut(*signature)
                && let Some(earlier) = place.replace(at)
            {
                let earlier = one
                    .get(earlier)
                    .map_or_else(Labels::empty, |row| row.labels.clone());
                return Err(duplicate(&row.labels, &earlier, matching, swapped));
            }
        }
        let mut used = vec![false; signatures.0.len()];
        for (many_at, (row, signature)) in many.iter().zip(&of_many).enumerate() {
            let (Some(value), Some(Some(one_at))) = (value_at(row, index), partner.get(*signature))
            else {
                continue;
            };
            let Some((other, other_value)) = one
                .get(*one_at)
                .and_then(|o| Some((o, value_at(o, index)?)))
            else {
                continue;
            };
            let (value, holds) = if swapped {
                apply(operator, other_value, value)
            } else {
                apply(operator, value, other_value)
            };
            let Some(value) = outcome(value, holds, matching.gives_bool) else {
                continue;
            };
            if matches!(matching.side, Side::OneToOne)
                && used
                    .get_mut(*signature)
                    .is_some_and(|used| std::mem::replace(used, true))
            {
                return Err(QueryError::Execution(
                    "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
                        .to_owned(),
                ));
            }
            let place = *pairs.entry((many_at, *one_at)).or_insert_with(|| {
                let labels = result_labels(operator, &row.labels, &other.labels, matching);
                *places.entry(labels.clone()).or_insert_with(|| {
                    result.push(Row {
                        labels,
                        values: vec![None; count],
                    });
                    result.len() - 1
                })
            });
            let Some(place) = result
                .get_mut(place)
                .and_then(|row| row.values.get_mut(index))
            else {
                continue;
            };
            if place.replace(value).is_some() {
                return Err(match matching.side {
                    Side::OneToOne => same_labels(),
                    Side::ManyLeft(_) | Side::ManyRight(_) => QueryError::Execution(
                        "multiple matches for labels: grouping labels must ensure unique matches"
                            .to_owned(),
                    ),
                });
            }
        }
    }
    Ok(result)
}

fn duplicate(labels: &Labels, earlier: &Labels, matching: &Matching, swapped: bool) -> QueryError {
    let side = if swapped { "left" } else { "right" };
    QueryError::Execution(format!(
        "found duplicate series for the match group {} on the {side} hand-side of the operation: [{labels}, {earlier}];\
         many-to-many matching not allowed: matching labels must be unique on one side",
        group_of(labels, &matching.on)
    ))
}

fn result_labels(operator: Operator, many: &Labels, one: &Labels, matching: &Matching) -> Labels {
    let mut labels = if drops_name(operator, false) {
        many.unnamed()
    } else {
        many.clone()
    };
    match &matching.side {
        Side::OneToOne => {
            labels = match &matching.on {
                Grouping::By(names) => {
                    labels.only(&names.iter().map(String::as_str).collect::<Vec<_>>())
                }
                Grouping::Without(names) => {
                    labels.without(&names.iter().map(String::as_str).collect::<Vec<_>>())
                }
            };
        }
        Side::ManyLeft(taken) | Side::ManyRight(taken) => {
            for name in taken {
                labels = labels.with(name, one.get(name));
            }
        }
    }
    if matching.gives_bool {
        labels.unnamed()
    } else {
        labels
    }
}
