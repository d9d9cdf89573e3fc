//! Evaluation of a plan over a grid of times.
//!
//! Every expression gives its values for all times of the grid at once: a number for each, or
//! rows of series with a value or none for each. Start at [`instant`] and [`range`].

use std::cell::Cell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Instant;

use super::super::labels::{Labels, METRIC_NAME};
use super::super::samples::{Sample, Store, is_stale, millis};
use super::data::{self, Loaded};
use super::functions::{Body, Function, Special};
use super::instants::{Join, Replacement};
use super::plan::{Expr, Plan, Time};
use super::quantile::{Bucket, histogram_quantile};
use super::ranges::Window;
use super::{Answer, Limits, Point, QueryError, Series, aggregate, binary, number};

/// Equally spaced times, Unix milliseconds.
#[derive(Clone, Copy)]
pub(super) struct Grid {
    pub(super) start: i64,
    pub(super) step: i64,
    pub(super) count: usize,
}

impl Grid {
    fn from_to(start: i64, end: i64, step: i64) -> Self {
        let count = usize::try_from(end.saturating_sub(start) / step).map_or(0, |steps| steps + 1);
        Self {
            start,
            step,
            count: if end < start { 0 } else { count },
        }
    }

    fn at(self, index: usize) -> i64 {
        self.start
            .saturating_add(self.step.saturating_mul(index as i64))
    }

    pub(super) fn end(self) -> i64 {
        self.at(self.count.saturating_sub(1))
    }

    fn times(self) -> impl Iterator<Item = i64> {
        (0..self.count).map(move |index| self.at(index))
    }

    /// The times of a sub-query: multiples of its step, from `range` before the first time that
    /// is looked at.
    pub(super) fn subquery(self, time: Time, range: i64, step: i64) -> Self {
        let from = time.shift(self.start).saturating_sub(range);
        let start = from.div_euclid(step).saturating_mul(step);
        let start = if start < from {
            start.saturating_add(step)
        } else {
            start
        };
        Self::from_to(start, time.shift(self.end()), step)
    }
}

/// What is left of what a query may use.
pub(super) struct Budget {
    limits: Limits,
    deadline: Option<Instant>,
    samples: Cell<usize>,
}

impl Budget {
    pub(super) fn new(limits: Limits, now: Instant) -> Self {
        Self {
            limits,
            deadline: now.checked_add(limits.timeout),
            samples: Cell::new(limits.max_samples),
        }
    }

    /// Takes samples from what may be touched, and looks at the clock.
    pub(super) fn take(&self, samples: usize) -> Result<(), QueryError> {
        self.fits(samples)?;
        self.samples.set(self.samples.get() - samples);
        match self.deadline {
            Some(deadline) if Instant::now() > deadline => Err(QueryError::Timeout),
            _ => Ok(()),
        }
    }

    /// Whether so many samples may still be touched.
    pub(super) fn fits(&self, samples: usize) -> Result<(), QueryError> {
        if samples > self.samples.get() {
            return Err(QueryError::Execution(format!(
                "query processing would load too many samples into memory in query execution (more than {})",
                self.limits.max_samples
            )));
        }
        Ok(())
    }

    pub(super) fn lookback(&self) -> i64 {
        millis(self.limits.lookback)
    }

    pub(super) fn step(&self, step: Option<i64>) -> i64 {
        step.unwrap_or_else(|| millis(self.limits.default_step))
            .max(1)
    }
}

/// A series with its values over the grid.
#[derive(Clone)]
pub(super) struct Row {
    pub(super) labels: Labels,
    pub(super) values: Vec<Option<f64>>,
}

/// What an expression gives over the grid.
pub(super) enum Value {
    Scalar(Vec<f64>),
    Vector(Vec<Row>),
    Text(String),
}

/// Evaluates at one time.
pub(super) fn instant(
    plan: &Plan,
    store: &Store,
    budget: Budget,
    at: i64,
) -> Result<Answer, QueryError> {
    let grid = Grid {
        start: at,
        step: 1,
        count: 1,
    };
    let data = data::load(plan, store, &budget, grid)?;
    let eval = Eval { plan, data, budget };
    if let Expr::Range { .. } | Expr::Subquery { .. } = plan.root {
        let mut matrix = eval.matrix(&plan.root, grid)?;
        matrix.sort_by(|a, b| a.labels.cmp(&b.labels));
        return Ok(Answer::Matrix(matrix));
    }
    Ok(match eval.value(&plan.root, grid)? {
        Value::Scalar(values) => Answer::Scalar(Sample {
            at,
            value: values.first().copied().unwrap_or(f64::NAN),
        }),
        Value::Text(text) => Answer::Text(at, text),
        Value::Vector(rows) => Answer::Vector(
            rows.into_iter()
                .filter_map(|row| {
                    let value = row.values.first().copied().flatten()?;
                    Some(Point {
                        labels: row.labels,
                        sample: Sample { at, value },
                    })
                })
                .collect(),
        ),
    })
}

/// Evaluates over time.
pub(super) fn range(
    plan: &Plan,
    store: &Store,
    budget: Budget,
    start: i64,
    end: i64,
    step: i64,
) -> Result<Answer, QueryError> {
    let grid = Grid::from_to(start, end, step);
    budget.fits(grid.count)?;
    let data = data::load(plan, store, &budget, grid)?;
    let eval = Eval { plan, data, budget };
    let mut matrix = match plan.root.kind() {
        super::Kind::Scalar | super::Kind::Vector => as_series(eval.value(&plan.root, grid)?, grid),
        kind => {
            return Err(QueryError::Invalid(format!(
                "invalid expression type {kind:?} for range query, must be Scalar or instant Vector",
                kind = kind.to_string()
            )));
        }
    };
    matrix.sort_by(|a, b| a.labels.cmp(&b.labels));
    Ok(Answer::Matrix(matrix))
}

/// A plan being evaluated.
pub(super) struct Eval<'a> {
    plan: &'a Plan,
    data: Vec<Vec<Loaded>>,
    budget: Budget,
}

impl Eval<'_> {
    fn value(&self, expr: &Expr, grid: Grid) -> Result<Value, QueryError> {
        match expr {
            Expr::Number(number) => {
                self.budget.take(grid.count)?;
                Ok(Value::Scalar(vec![*number; grid.count]))
            }
            Expr::Text(text) => Ok(Value::Text(text.clone())),
            Expr::Vector(selector) => self
                .select(*selector, grid, |sample| sample.value)
                .map(Value::Vector),
            Expr::Range { .. } | Expr::Subquery { .. } => Err(QueryError::Invalid(
                "a range vector has no single value".to_owned(),
            )),
            Expr::Negate(of) => self.negate(of, grid),
            Expr::Call { function, args } => self.call(function, args, grid),
            Expr::Aggregate {
                how,
                of,
                param,
                grouping,
            } => {
                let rows = self.vector(of, grid)?;
                let param = param
                    .as_deref()
                    .map(|param| self.scalar(param, grid))
                    .transpose()?;
                self.budget.take(rows.len() * grid.count)?;
                aggregate::aggregate(*how, rows, param.as_deref(), grouping, grid.count)
                    .map(Value::Vector)
            }
            Expr::Binary {
                operator,
                left,
                right,
                matching,
            } => {
                let (left, right) = (self.value(left, grid)?, self.value(right, grid)?);
                binary::binary(*operator, left, right, matching, grid.count, &self.budget)
            }
        }
    }

    pub(super) fn vector(&self, expr: &Expr, grid: Grid) -> Result<Vec<Row>, QueryError> {
        match self.value(expr, grid)? {
            Value::Vector(rows) => Ok(rows),
            Value::Scalar(_) | Value::Text(_) => Ok(Vec::new()),
        }
    }

    fn scalar(&self, expr: &Expr, grid: Grid) -> Result<Vec<f64>, QueryError> {
        match self.value(expr, grid)? {
            Value::Scalar(values) => Ok(values),
            Value::Vector(_) | Value::Text(_) => Ok(vec![f64::NAN; grid.count]),
        }
    }

    fn negate(&self, of: &Expr, grid: Grid) -> Result<Value, QueryError> {
        match self.value(of, grid)? {
            Value::Scalar(values) => Ok(Value::Scalar(
                values.into_iter().map(|value| -value).collect(),
            )),
            Value::Vector(mut rows) => {
                for row in &mut rows {
                    row.labels = row.labels.unnamed();
                    row.values
                        .iter_mut()
                        .flatten()
                        .for_each(|value| *value = -*value);
                }
                distinct(rows).map(Value::Vector)
            }
            Value::Text(text) => Ok(Value::Text(text)),
        }
    }

    /// What is visible of each series: the newest sample that is not older than the lookback and
    /// does not mark the end of the series.
    fn select(
        &self,
        selector: usize,
        grid: Grid,
        of: impl Fn(Sample) -> f64,
    ) -> Result<Vec<Row>, QueryError> {
        let time = self
            .plan
            .selectors
            .get(selector)
            .map(|selector| selector.time)
            .unwrap_or_default();
        let mut rows = Vec::new();
        for series in self.loaded(selector) {
            self.budget.take(grid.count)?;
            let values: Vec<Option<f64>> = grid
                .times()
                .map(|now| {
                    let now = time.shift(now);
                    let seen = series.samples.partition_point(|sample| sample.at <= now);
                    let newest = seen.checked_sub(1).and_then(|at| series.samples.get(at))?;
                    let visible = newest.at >= now.saturating_sub(self.budget.lookback())
                        && !is_stale(newest.value);
                    visible.then(|| of(*newest))
                })
                .collect();
            rows.push(Row {
                labels: series.labels.clone(),
                values,
            });
        }
        Ok(present(rows))
    }

    fn loaded(&self, selector: usize) -> &[Loaded] {
        self.data.get(selector).map_or(&[], Vec::as_slice)
    }

    /// The samples that a range vector shows at a grid of one time.
    fn matrix(&self, expr: &Expr, grid: Grid) -> Result<Vec<Series>, QueryError> {
        let mut matrix = Vec::new();
        self.each_window(expr, grid, |labels, _, window| {
            matrix.push(Series {
                labels: labels.clone(),
                samples: window.samples.to_vec(),
            });
        })?;
        Ok(matrix)
    }

    /// Calls `with` for every series and time of the grid at which the range vector holds samples.
    fn each_window(
        &self,
        expr: &Expr,
        grid: Grid,
        mut with: impl FnMut(&Labels, usize, &Window<'_>),
    ) -> Result<(), QueryError> {
        let mut slide = |labels: &Labels,
                         samples: &[Sample],
                         time: Time,
                         range: i64|
         -> Result<(), QueryError> {
            for (index, now) in grid.times().enumerate() {
                let end = time.shift(now);
                let start = end.saturating_sub(range);
                let from = samples.partition_point(|sample| sample.at < start);
                let until = samples.partition_point(|sample| sample.at <= end);
                let Some(samples @ [_, ..]) = samples.get(from..until) else {
                    continue;
                };
                self.budget.take(1)?;
                with(
                    labels,
                    index,
                    &Window {
                        samples,
                        start,
                        end,
                    },
                );
            }
            Ok(())
        };
        match expr {
            Expr::Range { selector, range } => {
                let time = self
                    .plan
                    .selectors
                    .get(*selector)
                    .map(|selector| selector.time)
                    .unwrap_or_default();
                for series in self.loaded(*selector) {
                    slide(&series.labels, &series.samples, time, *range)?;
                }
            }
            Expr::Subquery {
                of,
                range,
                step,
                time,
            } => {
                let inner = grid.subquery(*time, *range, self.budget.step(*step));
                for series in as_series(self.value(of, inner)?, inner) {
                    slide(&series.labels, &series.samples, *time, *range)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn call(&self, function: &Function, args: &[Expr], grid: Grid) -> Result<Value, QueryError> {
        let arg = |at: usize| args.get(at).unwrap_or(&Expr::Number(f64::NAN));
        let rows = match function.body {
            Body::Each(of) => {
                let mut rows = self.vector(arg(0), grid)?;
                for row in &mut rows {
                    row.labels = row.labels.unnamed();
                    row.values
                        .iter_mut()
                        .flatten()
                        .for_each(|value| *value = of(*value));
                }
                merged(rows)?
            }
            Body::EachWith(of) => {
                let mut rows = self.vector(arg(0), grid)?;
                let params = args
                    .iter()
                    .skip(1)
                    .map(|arg| self.scalar(arg, grid))
                    .collect::<Result<Vec<_>, _>>()?;
                for row in &mut rows {
                    row.labels = row.labels.unnamed();
                    for (index, value) in row.values.iter_mut().enumerate() {
                        let now: Vec<f64> = params
                            .iter()
                            .filter_map(|param| param.get(index).copied())
                            .collect();
                        *value = value.and_then(|value| of(value, &now));
                    }
                }
                merged(present(rows))?
            }
            Body::Window(of) => {
                self.windows(arg(0), grid, Labels::unnamed, |_, window| of(window))?
            }
            Body::WindowNamed(of) => {
                self.windows(arg(0), grid, Labels::clone, |_, window| of(window))?
            }
            Body::WindowWith(of) => {
                let params = self.scalar(arg(0), grid)?;
                self.windows(arg(1), grid, Labels::unnamed, |index, window| {
                    of(params.get(index).copied().unwrap_or(f64::NAN), window)
                })?
            }
            Body::Special(special) => return self.special(special, args, grid),
        };
        Ok(Value::Vector(rows))
    }

    fn windows(
        &self,
        range: &Expr,
        grid: Grid,
        name: impl Fn(&Labels) -> Labels,
        of: impl Fn(usize, &Window<'_>) -> Option<f64>,
    ) -> Result<Vec<Row>, QueryError> {
        let mut rows: Vec<Row> = Vec::new();
        let mut current: Option<Labels> = None;
        self.each_window(range, grid, |labels, index, window| {
            let Some(value) = of(index, window) else {
                return;
            };
            if current.as_ref() != Some(labels) {
                current = Some(labels.clone());
                rows.push(Row {
                    labels: name(labels),
                    values: vec![None; grid.count],
                });
            }
            if let Some(place) = rows.last_mut().and_then(|row| row.values.get_mut(index)) {
                *place = Some(value);
            }
        })?;
        distinct(rows)
    }

    fn special(&self, special: Special, args: &[Expr], grid: Grid) -> Result<Value, QueryError> {
        let arg = |at: usize| args.get(at).unwrap_or(&Expr::Number(f64::NAN));
        let text = |at: usize| match args.get(at) {
            Some(Expr::Text(text)) => text.as_str(),
            _ => "",
        };
        Ok(Value::Vector(match special {
            Special::Time => {
                self.budget.take(grid.count)?;
                return Ok(Value::Scalar(
                    grid.times().map(|at| at as f64 / 1000.0).collect(),
                ));
            }
            Special::Scalar => {
                let rows = self.vector(arg(0), grid)?;
                return Ok(Value::Scalar(
                    (0..grid.count)
                        .map(|index| only_value(&rows, index))
                        .collect(),
                ));
            }
            Special::Vector => {
                let values = self.scalar(arg(0), grid)?.into_iter().map(Some).collect();
                vec![Row {
                    labels: Labels::empty(),
                    values,
                }]
            }
            Special::Timestamp => {
                let mut rows = match arg(0) {
                    Expr::Vector(selector) => {
                        self.select(*selector, grid, |sample| sample.at as f64 / 1000.0)?
                    }
                    other => {
                        let mut rows = self.vector(other, grid)?;
                        for row in &mut rows {
                            for (value, now) in row.values.iter_mut().zip(grid.times()) {
                                *value = value.map(|_| now as f64 / 1000.0);
                            }
                        }
                        rows
                    }
                };
                for row in &mut rows {
                    row.labels = row.labels.unnamed();
                }
                merged(rows)?
            }
            Special::Absent => {
                let rows = self.vector(arg(0), grid)?;
                let mut values = vec![Some(1.0); grid.count];
                for row in &rows {
                    for (value, seen) in values.iter_mut().zip(&row.values) {
                        *value = value.filter(|_| seen.is_none());
                    }
                }
                present(vec![Row {
                    labels: self.labels_when_absent(arg(0)),
                    values,
                }])
            }
            Special::AbsentOverTime => {
                let mut values = vec![Some(1.0); grid.count];
                self.each_window(arg(0), grid, |_, index, _| {
                    if let Some(value) = values.get_mut(index) {
                        *value = None;
                    }
                })?;
                present(vec![Row {
                    labels: self.labels_when_absent(arg(0)),
                    values,
                }])
            }
            Special::HistogramQuantile => {
                let q = self.scalar(arg(0), grid)?;
                let rows = self.vector(arg(1), grid)?;
                self.budget.take(rows.len() * grid.count)?;
                quantiles(&q, &rows, grid.count)
            }
            Special::LabelReplace => {
                let replacement = Replacement::new(text(1), text(2), text(3), text(4))?;
                self.relabelled(arg(0), grid, |labels| replacement.apply(labels))?
            }
            Special::LabelJoin => {
                let sources = (3..args.len()).map(|at| text(at).to_owned()).collect();
                let join = Join::new(text(1), text(2), sources)?;
                self.relabelled(arg(0), grid, |labels| join.apply(labels))?
            }
            Special::Sort | Special::SortDesc => {
                let mut rows = self.vector(arg(0), grid)?;
                // Over time there is no order by value.
                if grid.count == 1 {
                    let value =
                        |row: &Row| row.values.first().copied().flatten().unwrap_or(f64::NAN);
                    let descending = special == Special::SortDesc;
                    rows.sort_by(|a, b| {
                        let (a, b) = if descending {
                            (-value(a), -value(b))
                        } else {
                            (value(a), value(b))
                        };
                        a.is_nan().cmp(&b.is_nan()).then(number::nan_first(a, b))
                    });
                }
                rows
            }
        }))
    }

    fn relabelled(
        &self,
        of: &Expr,
        grid: Grid,
        new: impl Fn(&Labels) -> Labels,
    ) -> Result<Vec<Row>, QueryError> {
        let mut rows = self.vector(of, grid)?;
        for row in &mut rows {
            row.labels = new(&row.labels);
        }
        merged(rows)
    }

    /// The labels that a selector asks for with `=`; those asked for twice or otherwise are not known.
    fn labels_when_absent(&self, of: &Expr) -> Labels {
        use promql_parser::label::MatchOp;
        let (Expr::Vector(selector) | Expr::Range { selector, .. }) = of else {
            return Labels::empty();
        };
        let Some(selector) = self.plan.selectors.get(*selector) else {
            return Labels::empty();
        };
        let mut labels: Vec<(&str, &str)> = Vec::new();
        let mut seen: Vec<&str> = Vec::new();
        for matcher in selector
            .matchers
            .iter()
            .filter(|matcher| matcher.name != METRIC_NAME)
        {
            if matches!(matcher.op, MatchOp::Equal) && !seen.contains(&matcher.name.as_str()) {
                labels.push((&matcher.name, &matcher.value));
                seen.push(&matcher.name);
            } else {
                labels.retain(|(name, _)| *name != matcher.name);
            }
        }
        Labels::new(labels)
    }
}

/// Values over a grid as samples, times without a value left out.
fn as_series(value: Value, grid: Grid) -> Vec<Series> {
    let samples = |values: Vec<Option<f64>>| {
        let at_times = values.into_iter().zip(grid.times());
        at_times
            .filter_map(|(value, at)| value.map(|value| Sample { at, value }))
            .collect()
    };
    match value {
        Value::Vector(rows) => rows
            .into_iter()
            .map(|row| Series {
                labels: row.labels,
                samples: samples(row.values),
            })
            .collect(),
        Value::Scalar(values) => {
            vec![Series {
                labels: Labels::empty(),
                samples: samples(values.into_iter().map(Some).collect()),
            }]
        }
        Value::Text(_) => Vec::new(),
    }
}

/// The value of the only row that has one at this place of the grid, else NaN.
fn only_value(rows: &[Row], index: usize) -> f64 {
    let mut values = rows
        .iter()
        .filter_map(|row| row.values.get(index).copied().flatten());
    match (values.next(), values.next()) {
        (Some(value), None) => value,
        _ => f64::NAN,
    }
}

fn quantiles(q: &[f64], rows: &[Row], count: usize) -> Vec<Row> {
    let mut groups: Vec<(Labels, Vec<(f64, &Row)>)> = Vec::new();
    let mut places: HashMap<Labels, usize> = HashMap::new();
    for row in rows {
        let Ok(bound) = row.labels.get("le").parse::<f64>() else {
            continue;
        };
        let labels = row.labels.without(&["le", METRIC_NAME]);
        let place = *places.entry(labels.clone()).or_insert_with(|| {
            groups.push((labels, Vec::new()));
            groups.len() - 1
        });
        if let Some((_, members)) = groups.get_mut(place) {
            members.push((bound, row));
        }
    }
    let mut result = Vec::with_capacity(groups.len());
    for (labels, members) in groups {
        let values = (0..count).map(|index| {
            let mut buckets: Vec<Bucket> = members
                .iter()
                .filter_map(|(bound, row)| {
                    row.values
                        .get(index)
                        .copied()
                        .flatten()
                        .map(|count| Bucket {
                            bound: *bound,
                            count,
                        })
                })
                .collect();
            let q = q.get(index).copied().unwrap_or(f64::NAN);
            (!buckets.is_empty()).then(|| histogram_quantile(q, &mut buckets))
        });
        result.push(Row {
            labels,
            values: values.collect(),
        });
    }
    present(result)
}

/// The rows that have a value at any time.
pub(super) fn present(mut rows: Vec<Row>) -> Vec<Row> {
    rows.retain(|row| row.values.iter().any(Option::is_some));
    rows
}

/// Rows of the same labels as one row. Fails when two have a value at the same time.
pub(super) fn merged(rows: Vec<Row>) -> Result<Vec<Row>, QueryError> {
    let mut result: Vec<Row> = Vec::with_capacity(rows.len());
    let mut places: HashMap<Labels, usize> = HashMap::with_capacity(rows.len());
    for row in rows {
        match places.entry(row.labels.clone()) {
            Entry::Vacant(free) => {
                free.insert(result.len());
                result.push(row);
            }
            Entry::Occupied(place) => {
                let Some(kept) = result.get_mut(*place.get()) else {
                    continue;
                };
                for (kept, value) in kept.values.iter_mut().zip(row.values) {
                    match (&kept, value) {
                        (_, None) => {}
                        (None, value) => *kept = value,
                        (Some(_), Some(_)) => return Err(same_labels()),
                    }
                }
            }
        }
    }
    Ok(result)
}

/// The rows, unless two have the same labels.
fn distinct(rows: Vec<Row>) -> Result<Vec<Row>, QueryError> {
    let mut seen = std::collections::HashSet::with_capacity(rows.len());
    if rows.iter().all(|row| seen.insert(&row.labels)) {
        Ok(rows)
    } else {
        Err(same_labels())
    }
}

pub(super) fn same_labels() -> QueryError {
    QueryError::Execution("vector cannot contain metrics with the same labelset".to_owned())
}
