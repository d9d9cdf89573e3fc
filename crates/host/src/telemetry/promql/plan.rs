//! From the parser's tree to ours: what is to be computed, checked once.
//!
//! Types are checked, functions, aggregations and operators looked up in the tables of what is
//! supported, `@ start()` and `@ end()` resolved, brackets dropped. After that evaluation asks no
//! more questions. What is not supported is refused by name.

use std::time::UNIX_EPOCH;

use promql_parser::label::{MatchOp, Matcher, Matchers};
use promql_parser::parser::{
    self, AtModifier, BinModifier, LabelModifier, Offset, VectorMatchCardinality as Cardinality,
};

use super::super::labels::METRIC_NAME;
use super::super::samples::millis;
use super::functions::{self, Aggregation, Function, Kind, Operator};
use super::{QueryError, text};

/// Deepest tree that is evaluated: one level of it takes a few frames of the stack.
const MAX_DEPTH: usize = 200;

/// A checked query.
pub(super) struct Plan {
    pub(super) root: Expr,
    /// What the query selects; [`Expr::Vector`] and [`Expr::Range`] hold positions in this list.
    pub(super) selectors: Vec<Selector>,
}

/// An expression of a known kind, with everything resolved.
pub(super) enum Expr {
    Number(f64),
    Text(String),
    Vector(usize),
    Range {
        selector: usize,
        range: i64,
    },
    Subquery {
        of: Box<Expr>,
        range: i64,
        step: Option<i64>,
        time: Time,
    },
    Negate(Box<Expr>),
    Call {
        function: &'static Function,
        args: Vec<Expr>,
    },
    Aggregate {
        how: Aggregation,
        of: Box<Expr>,
        param: Option<Box<Expr>>,
        grouping: Grouping,
    },
    Binary {
        operator: Operator,
        left: Box<Expr>,
        right: Box<Expr>,
        matching: Matching,
    },
}

/// Which series, and at what time relative to the time of evaluation.
pub(super) struct Selector {
    pub(super) metric: Option<String>,
    pub(super) matchers: Vec<Matcher>,
    pub(super) time: Time,
}

/// Shifts of the time of evaluation, Unix milliseconds and milliseconds.
#[derive(Clone, Copy, Default)]
pub(super) struct Time {
    at: Option<i64>,
    offset: i64,
}

impl Time {
    /// The time that is looked at when evaluating at `now`.
    pub(super) fn shift(self, now: i64) -> i64 {
        self.at.unwrap_or(now).saturating_sub(self.offset)
    }
}

/// Which labels make a group.
pub(super) enum Grouping {
    By(Vec<String>),
    Without(Vec<String>),
}

/// How the series of two sides find each other.
pub(super) struct Matching {
    pub(super) on: Grouping,
    pub(super) side: Side,
    /// Whether a comparison gives 0 or 1 instead of filtering.
    pub(super) gives_bool: bool,
}

/// On which side several series may match one of the other.
pub(super) enum Side {
    OneToOne,
    /// `group_left`, with the labels to take over from the right side.
    ManyLeft(Vec<String>),
    /// `group_right`, with the labels to take over from the left side.
    ManyRight(Vec<String>),
}

impl Plan {
    /// Parses and checks a query that will be evaluated from `start` to `end`.
    pub(super) fn of(query: &str, start: i64, end: i64) -> Result<Self, QueryError> {
        let parsed = parse(query)?;
        let mut planner = Planner {
            start,
            end,
            selectors: Vec::new(),
        };
        let root = planner.expr(&parsed, 0)?;
        Ok(Self {
            root,
            selectors: planner.selectors,
        })
    }
}

/// Parses a text that is a series selector and nothing else.
pub(super) fn selector(query: &str) -> Result<Selector, QueryError> {
    match parse(query)? {
        parser::Expr::VectorSelector(vector) if vector.offset.is_none() && vector.at.is_none() => {
            Planner {
                start: 0,
                end: 0,
                selectors: Vec::new(),
            }
            .selector(vector)
        }
        _ => Err(QueryError::Invalid(format!(
            "not a series selector: {query}"
        ))),
    }
}

fn parse(query: &str) -> Result<parser::Expr, QueryError> {
    text::check(query)?;
    parser::parse(query).map_err(|problem| QueryError::Invalid(format!("parse error: {problem}")))
}

impl Expr {
    /// The type of what it gives.
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Number(_) => Kind::Scalar,
            Self::Text(_) => Kind::Text,
            Self::Vector(_) | Self::Aggregate { .. } => Kind::Vector,
            Self::Range { .. } | Self::Subquery { .. } => Kind::Range,
            Self::Negate(of) => of.kind(),
            Self::Call { function, .. } => function.returns,
            Self::Binary { left, right, .. } => {
                if left.kind() == Kind::Scalar && right.kind() == Kind::Scalar {
                    Kind::Scalar
                } else {
                    Kind::Vector
                }
            }
        }
    }
}

struct Planner {
    start: i64,
    end: i64,
    selectors: Vec<Selector>,
}

impl Planner {
    fn expr(&mut self, parsed: &parser::Expr, depth: usize) -> Result<Expr, QueryError> {
        if depth > MAX_DEPTH {
            return Err(QueryError::Invalid(format!(
                "query is nested more than {MAX_DEPTH} deep"
            )));
        }
        let deeper = depth + 1;
        match parsed {
            parser::Expr::Paren(paren) => self.expr(&paren.expr, deeper),
            parser::Expr::NumberLiteral(number) => Ok(Expr::Number(number.val)),
            parser::Expr::StringLiteral(text) => Ok(Expr::Text(text.val.clone())),
            parser::Expr::VectorSelector(vector) => Ok(Expr::Vector(self.add(vector.clone())?)),
            parser::Expr::MatrixSelector(matrix) => Ok(Expr::Range {
                selector: self.add(matrix.vs.clone())?,
                range: millis(matrix.range),
            }),
            parser::Expr::Subquery(subquery) => {
                let of = self.expr(&subquery.expr, deeper)?;
                expect(Kind::Vector, &of, || "a subquery".to_owned())?;
                let step = subquery.step.map(|step| millis(step).max(1));
                let time = self.time(subquery.at.as_ref(), subquery.offset.as_ref());
                Ok(Expr::Subquery {
                    of: Box::new(of),
                    range: millis(subquery.range),
                    step,
                    time,
                })
            }
            parser::Expr::Unary(unary) => {
                let of = self.expr(&unary.expr, deeper)?;
                if !matches!(of.kind(), Kind::Scalar | Kind::Vector) {
                    return invalid(format!(
                        "a sign is only allowed before a scalar or instant vector, not a {}",
                        of.kind()
                    ));
                }
                Ok(Expr::Negate(Box::new(of)))
            }
            parser::Expr::Call(call) => self.call(call, deeper),
            parser::Expr::Aggregate(aggregate) => self.aggregate(aggregate, deeper),
            parser::Expr::Binary(binary) => self.binary(binary, deeper),
            parser::Expr::Extension(_) => invalid("not supported: extension".to_owned()),
        }
    }

    fn call(&mut self, call: &parser::Call, depth: usize) -> Result<Expr, QueryError> {
        let name = call.func.name;
        let Some(function) = functions::function_named(name) else {
            return invalid(format!("not supported: function {name}"));
        };
        let given = call.args.len();
        let least = function.args.len() - function.optional;
        if given < least || (given > function.args.len() && !function.repeats) {
            return invalid(format!(
                "expected {} argument(s) in call to {name:?}, got {given}",
                function.args.len()
            ));
        }
        let mut args = Vec::with_capacity(given);
        for (at, parsed) in call.args.args.iter().enumerate() {
            let arg = self.expr(parsed, depth)?;
            if let Some(kind) = function.args.get(at).or(function.args.last()) {
                expect(*kind, &arg, || format!("call to function {name:?}"))?;
            }
            args.push(arg);
        }
        Ok(Expr::Call { function, args })
    }

    fn aggregate(
        &mut self,
        aggregate: &parser::AggregateExpr,
        depth: usize,
    ) -> Result<Expr, QueryError> {
        let name = aggregate.op.to_string();
        let Some(how) = functions::aggregation_named(&name) else {
            return invalid(format!("not supported: aggregation {name}"));
        };
        let of = self.expr(&aggregate.expr, depth)?;
        expect(Kind::Vector, &of, || format!("aggregation {name}"))?;
        let param = match &aggregate.param {
            Some(param) => {
                let param = self.expr(param, depth)?;
                expect(Kind::Scalar, &param, || format!("aggregation {name}"))?;
                Some(Box::new(param))
            }
            None => None,
        };
        let grouping = match &aggregate.modifier {
            Some(LabelModifier::Include(labels)) => Grouping::By(labels.labels.clone()),
            Some(LabelModifier::Exclude(labels)) => Grouping::Without(labels.labels.clone()),
            None => Grouping::By(Vec::new()),
        };
        Ok(Expr::Aggregate {
            how,
            of: Box::new(of),
            param,
            grouping,
        })
    }

    fn binary(&mut self, binary: &parser::BinaryExpr, depth: usize) -> Result<Expr, QueryError> {
        let name = binary.op.to_string();
        let Some(operator) = functions::operator_written(&name) else {
            return invalid(format!("not supported: operator {name}"));
        };
        let left = self.expr(&binary.lhs, depth)?;
        let right = self.expr(&binary.rhs, depth)?;
        for side in [&left, &right] {
            if !matches!(side.kind(), Kind::Scalar | Kind::Vector) {
                return invalid(format!(
                    "operator {name} only works on scalars and instant vectors, not a {}",
                    side.kind()
                ));
            }
        }
        let scalars = [&left, &right].map(|side| side.kind() == Kind::Scalar);
        if operator.is_set() && scalars.contains(&true) {
            return invalid(format!(
                "set operator {name:?} not allowed in binary scalar expression"
            ));
        }
        let matching = matching(binary.modifier.as_ref())?;
        if operator.is_comparison() && scalars == [true, true] && !matching.gives_bool {
            return invalid("comparisons between scalars must use BOOL modifier".to_owned());
        }
        if matching.gives_bool && !operator.is_comparison() {
            return invalid("bool modifier can only be used on comparison operators".to_owned());
        }
        Ok(Expr::Binary {
            operator,
            left: Box::new(left),
            right: Box::new(right),
            matching,
        })
    }

    fn add(&mut self, vector: parser::VectorSelector) -> Result<usize, QueryError> {
        let selector = self.selector(vector)?;
        self.selectors.push(selector);
        Ok(self.selectors.len() - 1)
    }

    fn selector(&self, vector: parser::VectorSelector) -> Result<Selector, QueryError> {
        let time = self.time(vector.at.as_ref(), vector.offset.as_ref());
        let Matchers {
            mut matchers,
            or_matchers,
        } = vector.matchers;
        if !or_matchers.is_empty() {
            return invalid("not supported: \"or\" between label matchers".to_owned());
        }
        if vector.name.is_none() && matchers.iter().all(|matcher| matcher.is_match("")) {
            return invalid(
                "vector selector must contain at least one non-empty matcher".to_owned(),
            );
        }
        let mut metric = vector.name;
        if metric.is_none() {
            let named = |matcher: &Matcher| {
                matcher.name == METRIC_NAME && matches!(matcher.op, MatchOp::Equal)
            };
            metric = matchers
                .iter()
                .find(|matcher| named(matcher))
                .map(|matcher| matcher.value.clone());
        }
        if let Some(metric) = &metric {
            matchers.push(Matcher::new(MatchOp::Equal, METRIC_NAME, metric));
        }
        Ok(Selector {
            metric,
            matchers,
            time,
        })
    }

    fn time(&self, at: Option<&AtModifier>, offset: Option<&Offset>) -> Time {
        let at = at.map(|at| match at {
            AtModifier::Start => self.start,
            AtModifier::End => self.end,
            AtModifier::At(time) => match time.duration_since(UNIX_EPOCH) {
                Ok(after) => millis(after),
                Err(before) => -millis(before.duration()),
            },
        });
        let offset = match offset {
            Some(Offset::Pos(offset)) => millis(*offset),
            Some(Offset::Neg(offset)) => -millis(*offset),
            None => 0,
        };
        Time { at, offset }
    }
}

fn matching(modifier: Option<&BinModifier>) -> Result<Matching, QueryError> {
    let Some(modifier) = modifier else {
        return Ok(Matching {
            on: Grouping::Without(Vec::new()),
            side: Side::OneToOne,
            gives_bool: false,
        });
    };
    if modifier.fill_values.lhs.is_some() || modifier.fill_values.rhs.is_some() {
        return invalid("not supported: modifier fill".to_owned());
    }
    let on = match &modifier.matching {
        Some(LabelModifier::Include(labels)) => Grouping::By(labels.labels.clone()),
        Some(LabelModifier::Exclude(labels)) => Grouping::Without(labels.labels.clone()),
        None => Grouping::Without(Vec::new()),
    };
    let side = match &modifier.card {
        Cardinality::ManyToOne(labels) => Side::ManyLeft(labels.labels.clone()),
        Cardinality::OneToMany(labels) => Side::ManyRight(labels.labels.clone()),
        Cardinality::OneToOne | Cardinality::ManyToMany => Side::OneToOne,
    };
    Ok(Matching {
        on,
        side,
        gives_bool: modifier.return_bool,
    })
}

fn expect(kind: Kind, given: &Expr, place: impl FnOnce() -> String) -> Result<(), QueryError> {
    if given.kind() == kind {
        return Ok(());
    }
    invalid(format!(
        "expected type {kind} in {}, got {}",
        place(),
        given.kind()
    ))
}

fn invalid<T>(problem: String) -> Result<T, QueryError> {
    Err(QueryError::Invalid(problem))
}
