//! Aggregations: the values of a group as one value, or the largest and smallest of a group.

use std::collections::HashMap;

use super::super::labels::{Labels, METRIC_NAME};
use super::QueryError;
use super::eval::{Row, present};
use super::functions::Aggregation;
use super::number::{self, Mean, Sum};
use super::plan::Grouping;

/// Aggregates rows over `count` times; `param` is the number that quantile, topk and bottomk take.
pub(super) fn aggregate(
    how: Aggregation,
    rows: Vec<Row>,
    param: Option<&[f64]>,
    grouping: &Grouping,
    count: usize,
) -> Result<Vec<Row>, QueryError> {
    let (names, groups) = grouped(&rows, grouping);
    if matches!(how, Aggregation::TopK | Aggregation::BottomK) {
        return first_k(how, rows, param.unwrap_or(&[]), &groups, count);
    }
    let mut result: Vec<Row> = names
        .into_iter()
        .map(|labels| Row {
            labels,
            values: vec![None; count],
        })
        .collect();
    let mut values = Vec::new();
    for (row, members) in result.iter_mut().zip(&groups) {
        for (index, place) in row.values.iter_mut().enumerate() {
            values.clear();
            values.extend(
                members
                    .iter()
                    .filter_map(|at| rows.get(*at)?.values.get(index).copied().flatten()),
            );
            if !values.is_empty() {
                let param = param
                    .and_then(|param| param.get(index).copied())
                    .unwrap_or(f64::NAN);
                *place = Some(combined(how, &mut values, param));
            }
        }
    }
    Ok(present(result))
}

/// The groups' labels, and for each the positions of its rows, in order of first appearance.
fn grouped(rows: &[Row], grouping: &Grouping) -> (Vec<Labels>, Vec<Vec<usize>>) {
    let mut names = Vec::new();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut places: HashMap<Labels, usize> = HashMap::new();
    for (at, row) in rows.iter().enumerate() {
        let labels = group_of(&row.labels, grouping);
        let place = *places.entry(labels.clone()).or_insert_with(|| {
            names.push(labels);
            groups.push(Vec::new());
            groups.len() - 1
        });
        if let Some(group) = groups.get_mut(place) {
            group.push(at);
        }
    }
    (names, groups)
}

/// The labels by which a series belongs to a group: those listed, or all but those listed and the
/// metric's name.
pub(super) fn group_of(labels: &Labels, grouping: &Grouping) -> Labels {
    match grouping {
        Grouping::By(names) => labels.only(&names.iter().map(String::as_str).collect::<Vec<_>>()),
        Grouping::Without(names) => {
            let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
            names.push(METRIC_NAME);
            labels.without(&names)
        }
    }
}

fn combined(how: Aggregation, values: &mut [f64], param: f64) -> f64 {
    let reduced = |better: fn(f64, f64) -> bool| {
        let best = |best: f64, value: f64| {
            if better(value, best) || best.is_nan() {
                value
            } else {
                best
            }
        };
        values.iter().copied().reduce(best).unwrap_or(f64::NAN)
    };
    match how {
        Aggregation::Sum => {
            let mut sum = Sum::default();
            for value in values {
                sum.add(*value);
            }
            sum.total()
        }
        Aggregation::Avg => {
            let mut mean = Mean::default();
            for value in values {
                mean.add(*value);
            }
            mean.value()
        }
        Aggregation::Min => reduced(|value, least| value < least),
        Aggregation::Max => reduced(|value, most| value > most),
        Aggregation::Count => values.len() as f64,
        Aggregation::Group => 1.0,
        // The reference takes a single value for exact, even NaN.
        Aggregation::Stdvar | Aggregation::Stddev if values.len() == 1 => 0.0,
        Aggregation::Stdvar => number::variance(values.iter().copied()),
        Aggregation::Stddev => number::variance(values.iter().copied()).sqrt(),
        Aggregation::Quantile => number::quantile(param, values),
        Aggregation::TopK | Aggregation::BottomK => f64::NAN,
    }
}

/// Keeps the `k` largest or smallest values of each group at each time; NaN only when nothing
/// else is left. At a single time the rows come out in that order.
fn first_k(
    how: Aggregation,
    mut rows: Vec<Row>,
    k: &[f64],
    groups: &[Vec<usize>],
    count: usize,
) -> Result<Vec<Row>, QueryError> {
    let mut kept: Vec<Row> = rows
        .iter()
        .map(|row| Row {
            labels: row.labels.clone(),
            values: vec![None; count],
        })
        .collect();
    // The bounds of 64-bit integers, which is what the reference counts with.
    if let Some(k) = k.iter().find(|k| !(**k > -9.3e18 && **k < 9.2e18)) {
        return Err(QueryError::Execution(format!(
            "Scalar value {} overflows int64",
            number::format_value(*k)
        )));
    }
    let mut order = Vec::new();
    for group in groups {
        for index in 0..count {
            let k = k.get(index).copied().unwrap_or(f64::NAN);
            let mut ranked: Vec<(usize, f64)> = group
                .iter()
                .filter_map(|at| Some((*at, rows.get(*at)?.values.get(index).copied().flatten()?)))
                .collect();
            ranked.sort_by(|(_, a), (_, b)| {
                let by_value = if how == Aggregation::TopK {
                    number::nan_first(*b, *a)
                } else {
                    number::nan_first(*a, *b)
                };
                a.is_nan().cmp(&b.is_nan()).then(by_value)
            });
            ranked.truncate(if k < 1.0 { 0 } else { k as usize });
            for (at, value) in ranked {
                if let Some(place) = kept.get_mut(at).and_then(|row| row.values.get_mut(index)) {
                    *place = Some(value);
                }
                order.push(at);
            }
        }
    }
    if count == 1 {
        rows.clear();
        rows.extend(order.iter().filter_map(|at| kept.get(*at).cloned()));
        return Ok(rows);
    }
    Ok(present(kept))
}
