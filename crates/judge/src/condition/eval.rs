//! Running a condition that has been read and checked.
//!
//! Operands that come first are walked down and up again on a list ([`Evaluator::eval`]); only what stands to the
//! right of an operator, between brackets or in a predicate is evaluated by recursion, and how deep that can
//! become was limited when the condition was read.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use regex::Regex;

use super::budget::Budget;
use super::builtin::Builtin;
use super::check::Kinds;
use super::datum::Datum;
use super::error::Fault;
use super::functions;
use super::kind::Kind;
use super::loops::{Frame, From, Loop};
use super::number;
use super::operate;
use super::pattern;
use super::syntax::{
    Constant, Function, Given, Names, Node, NodeId, Operator, Order, Pointer, Program, Sign,
};

/// How many steps compiling a pattern counts that is not known before.
const PATTERN_STEPS: usize = 100_000;

pub(super) struct Evaluator<'p> {
    program: &'p Program,
    kinds: &'p Kinds,
    names: Names,
    result: Datum,
    /// `$env`, once it has been asked for.
    environment: Option<Datum>,
    pub(super) now: Timestamp,
    pub(super) budget: Budget,
    /// The values of the variables in sight, by slot.
    variables: Vec<Datum>,
    /// The loops around this place, the innermost last.
    pub(super) frames: Vec<Frame>,
    /// Patterns that were made while running.
    patterns: BTreeMap<Arc<str>, Regex>,
}

/// What a node does once its first operand is known.
enum Step {
    Value(Datum),
    /// Another node takes its place.
    Then(NodeId),
    /// Nil was found behind `?.`: the whole chain is nil.
    Missing,
}

type Stepped = Result<Step, Fault>;

fn truth(value: bool) -> Step {
    Step::Value(Datum::Bool(value))
}

impl<'p> Evaluator<'p> {
    pub(super) fn new(
        program: &'p Program,
        kinds: &'p Kinds,
        names: Names,
        result: Datum,
        now: Timestamp,
    ) -> Self {
        Self {
            program,
            kinds,
            names,
            result,
            environment: None,
            now,
            budget: Budget::default(),
            variables: Vec::new(),
            frames: Vec::new(),
            patterns: BTreeMap::new(),
        }
    }

    pub(super) fn run(mut self) -> Result<Datum, Fault> {
        self.eval(self.program.root())
    }

    pub(super) fn eval(&mut self, id: NodeId) -> Result<Datum, Fault> {
        let mut id = id;
        let mut waiting = Vec::new();
        loop {
            let mut value = loop {
                self.budget.step()?;
                if let (Node::Logic { .. }, Some(Constant::Bool(value))) =
                    (self.program.node(id), self.program.constant(id))
                {
                    break Datum::Bool(*value);
                }
                match self.program.node(id).first() {
                    Some(first) => {
                        waiting.push(id);
                        id = first;
                    }
                    None => break self.leaf(id).map_err(|fault| self.placed(fault, id))?,
                }
            };
            loop {
                let Some(parent) = waiting.pop() else {
                    return Ok(value);
                };
                let step = self
                    .step(parent, value, &mut waiting)
                    .map_err(|fault| self.placed(fault, parent))?;
                match step {
                    Step::Value(found) => value = found,
                    Step::Then(next) => {
                        id = next;
                        break;
                    }
                    Step::Missing => {
                        while let Some(outer) = waiting.pop() {
                            if matches!(self.program.node(outer), Node::Chain(_)) {
                                break;
                            }
                        }
                        value = Datum::Nil;
                    }
                }
            }
        }
    }

    fn placed(&self, fault: Fault, id: NodeId) -> Fault {
        fault.or_at(self.program.at(id))
    }

    /// A node that has no first operand.
    #[inline(never)]
    fn leaf(&mut self, id: NodeId) -> Result<Datum, Fault> {
        Ok(match self.program.node(id) {
            Node::Nil => Datum::Nil,
            Node::Bool(value) => Datum::Bool(*value),
            Node::Int(value) => Datum::Int(*value),
            Node::Float(value) => Datum::Float(*value),
            Node::Text(text) => Datum::Text(text.clone()),
            Node::Bytes(bytes) => Datum::Bytes(bytes.clone()),
            Node::Environment => self.environment()?,
            Node::Given(given) => self.given(*given),
            Node::Variable { slot, .. } => self.variables.get(*slot).cloned().unwrap_or(Datum::Nil),
            Node::Pointer { what, .. } => {
                let frame = self
                    .frames
                    .last()
                    .ok_or_else(|| Fault::new("cannot use pointer accessor outside predicate"))?;
                match what {
                    Pointer::Element => frame.element(),
                    Pointer::Index => frame.index(),
                    Pointer::Accumulator => frame.accumulator(),
                }
            }
            Node::Call { callee, arguments } => return self.call(*callee, arguments),
            Node::List(items) => {
                self.budget.elements(items.len())?;
                Datum::list(self.all(items)?)?
            }
            Node::Map(pairs) => return self.map_literal(pairs),
            Node::Builtin { function, .. } => functions::call(self, *function, &[])?,
            // Every other node has a first operand.
            _ => return Err(Fault::new("empty expression")),
        })
    }

    fn given(&self, given: Given) -> Datum {
        match given {
            Given::Result => self.result.clone(),
            Given::Function(function) => Datum::Function(function),
        }
    }

    /// `$env`: every name with what it stands for.
    fn environment(&mut self) -> Result<Datum, Fault> {
        if let Some(environment) = &self.environment {
            return Ok(environment.clone());
        }
        let names = self.names.all().into_iter();
        let environment = Datum::map(
            names
                .map(|(name, given)| (name.into(), self.given(given)))
                .collect(),
        )?;
        self.environment = Some(environment.clone());
        Ok(environment)
    }

    fn all(&mut self, ids: &[NodeId]) -> Result<Vec<Datum>, Fault> {
        ids.iter().map(|id| self.eval(*id)).collect()
    }

    #[inline(never)]
    fn map_literal(&mut self, pairs: &[(NodeId, NodeId)]) -> Result<Datum, Fault> {
        self.budget.elements(pairs.len())?;
        let mut entries: BTreeMap<Arc<str>, Datum> = BTreeMap::new();
        for (key, value) in pairs {
            let key = self.eval(*key)?.as_text()?.clone();
            let value = self.eval(*value)?;
            // The first of two equal keys wins, as in the reference.
            entries.entry(key).or_insert(value);
        }
        Datum::map(entries)
    }

    #[inline(never)]
    fn call(&mut self, callee: NodeId, arguments: &[NodeId]) -> Result<Datum, Fault> {
        let arguments = self.all(arguments)?;
        let callee = self.eval(callee)?;
        self.apply(&callee, &arguments)
    }

    fn apply(&mut self, callee: &Datum, arguments: &[Datum]) -> Result<Datum, Fault> {
        let Datum::Function(function) = callee else {
            return Err(Fault::new(format!("cannot call {}", callee.kind())));
        };
        if arguments.len() != function.arity() {
            return Err(Fault::new(format!(
                "invalid number of arguments: expected {}, got {}",
                function.arity(),
                arguments.len()
            )));
        }
        let argument = arguments.first().unwrap_or(&Datum::Nil);
        let float = || {
            argument.as_float().ok_or_else(|| {
                Fault::new(format!(
                    "cannot use {} as argument to call {}",
                    argument.kind(),
                    function.name()
                ))
            })
        };
        Ok(match function {
            Function::AsInt => Datum::Int(match argument {
                Datum::Text(text) => number::int(text)
                    .ok_or_else(|| Fault::new(format!("asInt: {text:?} is not an integer")))?,
                Datum::Int(_) | Datum::Float(_) => argument.as_int()?,
                other => return Err(Fault::new(format!("asInt({}) not supported", other.kind()))),
            }),
            Function::AsFloat => Datum::Float(match argument {
                Datum::Text(text) => number::float(text)
                    .ok_or_else(|| Fault::new(format!("asFloat: {text:?} is not a number")))?,
                _ => float()?,
            }),
            Function::IsNan => Datum::Bool(float()?.is_nan()),
            Function::IsInf => Datum::Bool(float()?.is_infinite()),
            // These two look at the value of the measurement, whatever they are given.
            Function::IsNil => Datum::Bool(self.result.is_nil()),
            Function::Default if self.result.is_nil() => {
                arguments.get(1).cloned().unwrap_or(Datum::Nil)
            }
            Function::Default => self.result.clone(),
        })
    }

    /// Goes on with a node whose first operand is `value`. `waiting` are the nodes around it.
    #[inline(never)]
    fn step(&mut self, id: NodeId, value: Datum, waiting: &mut Vec<NodeId>) -> Stepped {
        match self.program.node(id) {
            Node::Not(_) => Ok(truth(!value.as_bool()?)),
            Node::Signed(Sign::Plus, _) => Ok(Step::Value(value)),
            Node::Signed(Sign::Minus, _) => operate::negated(&value).map(Step::Value),
            // `x || false` is x, whatever that is: the reference leaves the rest out.
            Node::Logic { is_or, right, .. }
                if self.program.constant(*right) == Some(&Constant::Bool(!is_or)) =>
            {
                Ok(Step::Value(value))
            }
            Node::Logic { is_or, right, .. } => Ok(if value.as_bool()? == *is_or {
                truth(*is_or)
            } else {
                Step::Then(*right)
            }),
            Node::Coalesce { right, .. } => Ok(if value.is_nil() {
                Step::Then(*right)
            } else {
                Step::Value(value)
            }),
            Node::Binary {
                operator,
                left,
                right,
            } => self.binary(*operator, &value, [*left, *right]),
            Node::MatchesPattern { pattern, .. } => {
                Self::matched(&mut self.budget, pattern, pattern.as_str().len(), &value).map(truth)
            }
            Node::Comparison { rest, .. } => self.comparison(value, rest),
            Node::Chain(_) => Ok(Step::Value(if value.is_nil() { Datum::Nil } else { value })),
            Node::Member { name, optional, .. } => {
                if *optional && value.is_nil() {
                    return Ok(Step::Missing);
                }
                operate::fetched(&value, &Datum::Text(name.clone())).map(Step::Value)
            }
            Node::Method {
                name,
                optional,
                arguments,
                ..
            } => {
                if *optional && value.is_nil() {
                    return Ok(Step::Missing);
                }
                self.method(&value, name, arguments)
            }
            Node::Index { key, optional, .. } => {
                if *optional && value.is_nil() {
                    return Ok(Step::Missing);
                }
                let key = self.eval(*key)?;
                operate::fetched(&value, &key).map(Step::Value)
            }
            Node::Slice { from, to, .. } => self.slice(&value, *from, *to),
            Node::Builtin {
                function,
                arguments,
            } => self.builtin(*function, value, arguments),
            Node::Loop {
                kind, body, extra, ..
            } => self.looped(id, *kind, &value, *body, *extra, waiting),
            Node::Let { slot, body, .. } => {
                self.variables.truncate(*slot);
                self.variables.push(value);
                Ok(Step::Then(*body))
            }
            Node::Sequence(all) => self.sequence(all),
            Node::Conditional { yes, no, .. } => {
                Ok(Step::Then(if value.as_bool()? { *yes } else { *no }))
            }
            // Every other node has no first operand.
            _ => Ok(Step::Value(value)),
        }
    }

    #[inline(never)]
    fn binary(&mut self, operator: Operator, left: &Datum, nodes: [NodeId; 2]) -> Stepped {
        if operator == Operator::In
            && let Some(found) = self.inside_written(left, nodes)?
        {
            return Ok(truth(found));
        }
        let right = self.eval(nodes[1])?;
        let right = &right;
        if matches!(operator, Operator::Equal | Operator::NotEqual) {
            self.no_surprise(left, right, nodes)?;
        }
        let budget = &mut self.budget;
        Ok(match operator {
            Operator::Equal => truth(operate::equal(left, right, budget)?),
            Operator::NotEqual => truth(!operate::equal(left, right, budget)?),
            Operator::In => truth(operate::inside(left, right, budget)?),
            Operator::Matches => truth(self.matches(left, right)?),
            Operator::Contains | Operator::StartsWith | Operator::EndsWith => {
                truth(operate::searched(operator, left, right, budget)?)
            }
            Operator::Range => Step::Value(operate::range(left, right, budget)?),
            _ => Step::Value(operate::arithmetic(operator, left, right, budget)?),
        })
    }

    /// Where both sides of `==` are known to be integers, or texts, finding something else, nil above all, is an
    /// error rather than unequal: `findIndex(l, p) == 0` has no answer when nothing was found.
    fn no_surprise(&self, left: &Datum, right: &Datum, nodes: [NodeId; 2]) -> Result<(), Fault> {
        let [one, other] = nodes.map(|node| self.kinds.of(node));
        let fits = match (one, other) {
            (Kind::Int, Kind::Int) => left.as_float().is_some() && right.as_float().is_some(),
            (Kind::Text, Kind::Text) => left.as_text().is_ok() && right.as_text().is_ok(),
            _ => true,
        };
        if fits {
            return Ok(());
        }
        Err(Fault::new(format!(
            "invalid operation: {} == {}",
            left.kind(),
            right.kind()
        )))
    }

    /// `in` with what is written on its right side, where that shows. What is known to be an integer is
    /// found in a range of written integers without making it. In a list of written texts only a text can be looked for, nil counting as
    /// the empty one.
    fn inside_written(
        &mut self,
        needle: &Datum,
        nodes: [NodeId; 2],
    ) -> Result<Option<bool>, Fault> {
        let [left, right] = nodes;
        let constant = |id: &NodeId| self.program.constant(*id);
        match (self.program.node(right), needle) {
            (
                Node::Binary {
                    operator: Operator::Range,
                    left: from,
                    right: to,
                },
                needle,
            ) if *self.kinds.of(left) == Kind::Int => {
                let bound = |id| match constant(id) {
                    Some(Constant::Int(bound)) => Some(Datum::Int(*bound)),
                    _ => None,
                };
                let (Some(from), Some(to)) = (bound(from), bound(to)) else {
                    return Ok(None);
                };
                let budget = &mut self.budget;
                Ok(Some(
                    operate::compared(&from, Order::LessEqual, needle, budget)?
                        && operate::compared(needle, Order::LessEqual, &to, budget)?,
                ))
            }
            (Node::List(items), needle) if !items.is_empty() => {
                let is_text = |item: &NodeId| matches!(self.program.node(*item), Node::Text(_));
                if !items.iter().all(is_text) {
                    return Ok(None);
                }
                let needle = match needle {
                    Datum::Text(text) => text.clone(),
                    Datum::Nil => "".into(),
                    other => {
                        return Err(Fault::new(format!(
                            "cannot look for {} among strings",
                            other.kind()
                        )));
                    }
                };
                let wanted = Constant::Text(needle);
                let found = items.iter().any(|item| constant(item) == Some(&wanted));
                self.budget.steps(items.len())?;
                Ok(Some(found))
            }
            _ => Ok(None),
        }
    }

    /// `left matches right` with a pattern that is found out only now.
    fn matches(&mut self, left: &Datum, right: &Datum) -> Result<bool, Fault> {
        if left.is_nil() || right.is_nil() {
            return Ok(false);
        }
        let source = right.as_text()?;
        if !self.patterns.contains_key(source) {
            self.budget.steps(PATTERN_STEPS)?;
            let compiled = pattern::compile(source)?;
            self.patterns.insert(source.clone(), compiled);
        }
        match self.patterns.get(source) {
            Some(pattern) => Self::matched(&mut self.budget, pattern, source.len(), left),
            None => Err(Fault::new("no pattern")),
        }
    }

    fn matched(
        budget: &mut Budget,
        pattern: &Regex,
        pattern_length: usize,
        datum: &Datum,
    ) -> Result<bool, Fault> {
        let mut search = |text: &str| {
            // At worst every part of a pattern is tried at every character.
            budget.reads(text.len().saturating_mul(1 + pattern_length / 8))?;
            Ok(pattern.is_match(text))
        };
        match datum {
            Datum::Text(text) => search(text),
            Datum::Bytes(bytes) => search(&functions::texts::lossy(bytes)),
            nil if nil.is_nil() => Ok(false),
            other => Err(Fault::new(format!("cannot match {}", other.kind()))),
        }
    }

    #[inline(never)]
    fn comparison(&mut self, first: Datum, rest: &[(Order, NodeId)]) -> Stepped {
        let mut left = first;
        for (order, right) in rest {
            let right = self.eval(*right)?;
            if !operate::compared(&left, *order, &right, &mut self.budget)? {
                return Ok(truth(false));
            }
            left = right;
        }
        Ok(truth(true))
    }

    #[inline(never)]
    fn method(&mut self, base: &Datum, name: &Arc<str>, arguments: &[NodeId]) -> Stepped {
        let arguments = self.all(arguments)?;
        if let Some(found) = super::time::method(base, name, &arguments)? {
            return Ok(Step::Value(found));
        }
        let callee = operate::fetched(base, &Datum::Text(name.clone()))?;
        self.apply(&callee, &arguments).map(Step::Value)
    }

    #[inline(never)]
    fn slice(&mut self, base: &Datum, from: Option<NodeId>, to: Option<NodeId>) -> Stepped {
        let to = to.map(|to| self.eval(to)).transpose()?;
        let from = from.map(|from| self.eval(from)).transpose()?;
        operate::sliced(base, from.as_ref(), to.as_ref(), &mut self.budget).map(Step::Value)
    }

    #[inline(never)]
    fn builtin(&mut self, function: Builtin, first: Datum, arguments: &[NodeId]) -> Stepped {
        let mut all = vec![first];
        for argument in arguments.iter().skip(1) {
            all.push(self.eval(*argument)?);
        }
        functions::call(self, function, &all).map(Step::Value)
    }

    #[inline(never)]
    fn sequence(&mut self, all: &[NodeId]) -> Stepped {
        match all {
            [_, between @ .., last] => {
                for id in between {
                    self.eval(*id)?;
                }
                Ok(Step::Then(*last))
            }
            _ => Err(Fault::new("empty sequence expression")),
        }
    }

    #[inline(never)]
    fn looped(
        &mut self,
        id: NodeId,
        kind: Loop,
        collection: &Datum,
        body: Option<NodeId>,
        extra: Option<NodeId>,
        waiting: &mut Vec<NodeId>,
    ) -> Stepped {
        let extra = extra.map(|extra| self.eval(extra)).transpose()?;
        if kind == Loop::Filter
            && let Some(step) = self.first_of_filter(collection, body, waiting)?
        {
            return Ok(step);
        }
        if let Some(enough) = self.enough(id, waiting) {
            if kind == Loop::Filter {
                // The length of the list is all that is wanted of it.
                waiting.pop();
            }
            let count = self.count(&collection.walked()?, body, enough)?;
            return Ok(Step::Value(Datum::Int(
                i64::try_from(count).unwrap_or(i64::MAX),
            )));
        }
        if kind == Loop::Sum
            && body.is_none()
            && let Some(sum) = self.sum_of_written(id, collection)?
        {
            return Ok(Step::Value(sum));
        }
        self.run_loop(kind, collection, body, extra.as_ref())
            .map(Step::Value)
    }

    /// `filter(…)[0]`, `filter(…)[-1]`, `first(filter(…))`, `last(filter(…))`: the search ends with the match.
    fn first_of_filter(
        &mut self,
        collection: &Datum,
        body: Option<NodeId>,
        waiting: &mut Vec<NodeId>,
    ) -> Result<Option<Step>, Fault> {
        let Some(around) = waiting.last() else {
            return Ok(None);
        };
        let (from, must_exist) = match self.program.node(*around) {
            Node::Index {
                key,
                optional: false,
                ..
            } => match self.program.constant(*key) {
                Some(Constant::Int(0)) => (From::Start, true),
                Some(Constant::Int(-1)) => (From::End, true),
                _ => return Ok(None),
            },
            Node::Builtin {
                function,
                arguments,
            } if arguments.len() == 1 => match function {
                Builtin::First => (From::Start, false),
                Builtin::Last => (From::End, false),
                _ => return Ok(None),
            },
            _ => return Ok(None),
        };
        waiting.pop();
        match self.first_match(&collection.walked()?, body, from)? {
            Some(found) => Ok(Some(Step::Value(found))),
            None if must_exist => Err(Fault::new("index out of range: 0 (array length is 0)")),
            None => Ok(Some(Step::Value(Datum::Nil))),
        }
    }

    /// How far a count need go when all that is asked is whether it reaches a written number:
    /// `count(…) > 2`, `len(filter(…)) > 2`.
    fn enough(&self, id: NodeId, waiting: &[NodeId]) -> Option<usize> {
        let mut around = waiting.iter().rev();
        let mut comparison = *around.next()?;
        match self.program.node(id) {
            Node::Loop {
                kind: Loop::Count,
                body: Some(_),
                ..
            } => {}
            Node::Loop {
                kind: Loop::Filter, ..
            } => {
                if !matches!(
                    self.program.node(comparison),
                    Node::Builtin { function: Builtin::Len, arguments } if arguments.len() == 1
                ) {
                    return None;
                }
                comparison = *around.next()?;
            }
            _ => return None,
        }
        let Node::Comparison { rest, .. } = self.program.node(comparison) else {
            return None;
        };
        let [(order, right)] = rest.as_slice() else {
            return None;
        };
        let Some(Constant::Int(number)) = self.program.constant(*right) else {
            return None;
        };
        let number = usize::try_from(*number).ok()?;
        match order {
            Order::More => Some(number.saturating_add(1)),
            Order::MoreEqual => (number >= 1).then_some(number),
            Order::Less => (number >= 2).then_some(number),
            Order::LessEqual => (number >= 1).then_some(number.saturating_add(1)),
        }
    }

    /// `sum([a, b, c])` is `a + (b + c)` in the reference unless all are constants; with floats that shows.
    fn sum_of_written(&mut self, id: NodeId, list: &Datum) -> Result<Option<Datum>, Fault> {
        let Node::Loop { collection, .. } = self.program.node(id) else {
            return Ok(None);
        };
        let Node::List(written) = self.program.node(*collection) else {
            return Ok(None);
        };
        let all_constant = written
            .iter()
            .all(|item| self.program.constant(*item).is_some());
        if all_constant {
            return Ok(None);
        }
        let list = list.elements()?;
        let [.., _, innermost] = list.items() else {
            return Ok(None);
        };
        let mut sum = innermost.clone();
        for item in list.items().iter().rev().skip(1) {
            sum = operate::arithmetic(Operator::Add, item, &sum, &mut self.budget)?;
        }
        Ok(Some(sum))
    }
}
