//! The samples that a plan can touch, copied out at one moment.
//!
//! All selectors of a query read the same snapshot, so a ratio never has a newer numerator than
//! denominator. How far back each selector reaches follows from the grid, its shifts and the
//! sub-queries around it.

use promql_parser::label::MatchOp;

use super::super::labels::{Labels, METRIC_NAME};
use super::super::samples::{Sample, Snapshot, Store, is_stale};
use super::QueryError;
use super::eval::{Budget, Grid};
use super::plan::{Expr, Plan, Selector};

/// A series with the samples that a selector can touch.
pub(super) struct Loaded {
    pub(super) labels: Labels,
    pub(super) samples: Vec<Sample>,
}

/// Times from which and until which a selector is read, both included.
#[derive(Clone, Copy)]
struct Span {
    from: i64,
    until: i64,
    /// Marks for the end of a series matter to a look at one time and not to a window.
    marks: bool,
}

/// The series of every selector, in the order of [`Plan::selectors`], each sorted by labels.
pub(super) fn load(
    plan: &Plan,
    store: &Store,
    budget: &Budget,
    grid: Grid,
) -> Result<Vec<Vec<Loaded>>, QueryError> {
    let mut spans = vec![None; plan.selectors.len()];
    demand(&plan.root, plan, budget, grid, &mut spans)?;
    let snapshot = store.snapshot();
    let mut loaded = Vec::with_capacity(spans.len());
    for (selector, span) in plan.selectors.iter().zip(spans) {
        let mut series = Vec::new();
        if let Some(Span { from, until, marks }) = span {
            for labels in matching(&snapshot, selector) {
                budget.take(snapshot.count(&labels, from, until))?;
                let mut samples = snapshot.samples(&labels, from, until);
                if !marks {
                    samples.retain(|sample| !is_stale(sample.value));
                }
                if !samples.is_empty() {
                    series.push(Loaded { labels, samples });
                }
            }
        }
        loaded.push(series);
    }
    Ok(loaded)
}

/// The label sets that a selector matches, sorted.
pub(super) fn matching(snapshot: &Snapshot<'_>, selector: &Selector) -> Vec<Labels> {
    // The metric's name has been looked up already when it is known.
    let looked_up = |name: &str, op: &MatchOp| {
        selector.metric.is_some() && name == METRIC_NAME && matches!(op, MatchOp::Equal)
    };
    let matchers: Vec<_> = selector
        .matchers
        .iter()
        .filter(|m| !(looked_up(&m.name, &m.op) && Some(&m.value) == selector.metric.as_ref()))
        .collect();
    let mut found: Vec<Labels> = snapshot
        .labels_of(selector.metric.as_deref())
        .filter(|labels| {
            matchers
                .iter()
                .all(|matcher| matcher.is_match(labels.get(&matcher.name)))
        })
        .cloned()
        .collect();
    found.sort();
    found
}

fn demand(
    expr: &Expr,
    plan: &Plan,
    budget: &Budget,
    grid: Grid,
    spans: &mut [Option<Span>],
) -> Result<(), QueryError> {
    let mut reach = |selector: usize, back: i64, marks: bool| {
        if let (Some(span), Some(selector)) =
            (spans.get_mut(selector), plan.selectors.get(selector))
        {
            let from = selector.time.shift(grid.start).saturating_sub(back);
            *span = Some(Span {
                from,
                until: selector.time.shift(grid.end()),
                marks,
            });
        }
    };
    match expr {
        Expr::Number(_) | Expr::Text(_) => {}
        Expr::Vector(selector) => reach(*selector, budget.lookback(), true),
        Expr::Range { selector, range } => reach(*selector, *range, false),
        Expr::Subquery {
            of,
            range,
            step,
            time,
        } => {
            let inner = grid.subquery(*time, *range, budget.step(*step));
            budget.fits(inner.count)?;
            demand(of, plan, budget, inner, spans)?;
        }
        Expr::Negate(of) => demand(of, plan, budget, grid, spans)?,
        Expr::Call { args, .. } => {
            for arg in args {
                demand(arg, plan, budget, grid, spans)?;
            }
        }
        Expr::Aggregate { of, param, .. } => {
            demand(of, plan, budget, grid, spans)?;
            if let Some(param) = param {
                demand(param, plan, budget, grid, spans)?;
            }
        }
        Expr::Binary { left, right, .. } => {
            demand(left, plan, budget, grid, spans)?;
            demand(right, plan, budget, grid, spans)?;
        }
    }
    Ok(())
}
