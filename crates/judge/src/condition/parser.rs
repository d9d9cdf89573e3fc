//! From words to a program.
//!
//! Brackets, arguments and branches are read by recursion, and [`MOST_DEPTH`] bounds it. Operators are not: they
//! wait on a list until one that binds looser arrives, so a chain of thousands costs no stack. Start at [`parse`].
//!
//! Names are looked up here; whether the kinds of values fit is the subject of `check`.

use std::sync::Arc;

use super::builtin::Builtin;
use super::error::Fault;
use super::loops::Loop;
use super::number;
use super::pattern;
use super::syntax::{
    Names, Node, NodeId, Operator, Order, Plot, Pointer, Program, Scope, ScopeId, Sign as SignOf,
};
use super::token::{Sign, Token, Word, words};

/// How many brackets, branches and unary operators may stand inside each other.
const MOST_DEPTH: u32 = 200;

/// The longest condition in bytes.
const MOST_BYTES: usize = 64 * 1024;

/// How tight the operators `not` and `!` bind: looser than arithmetic, tighter than comparison.
const NOT_BINDS: u16 = 50;
/// How tight a sign binds: looser than a power, so that `-2 ** 2` is -4.
const SIGN_BINDS: u16 = 90;
const COMPARISON_BINDS: u16 = 20;

pub(super) fn parse(text: &str, names: Names) -> Result<Program, Fault> {
    if text.len() > MOST_BYTES {
        return Err(Fault::new(format!(
            "expression is longer than {MOST_BYTES} bytes"
        )));
    }
    let mut parser = Parser {
        tokens: words(text)?,
        next: 0,
        names,
        plot: Plot::default(),
        depth: 0,
        scopes: Vec::new(),
        variables: Vec::new(),
    };
    let root = parser.sequence()?;
    if *parser.word() != Word::End {
        return Err(parser.unexpected());
    }
    Ok(parser.plot.finish(root))
}

struct Parser {
    /// Never empty; the last is [`Word::End`].
    tokens: Vec<Token>,
    next: usize,
    names: Names,
    plot: Plot,
    depth: u32,
    /// The predicates around this place, the innermost last.
    scopes: Vec<ScopeId>,
    /// The variables in sight: name and the node of the value. The position is the slot.
    variables: Vec<(Arc<str>, NodeId)>,
}

/// An operator that waits for its right side.
enum Waiting {
    Not,
    Sign(SignOf),
    Binary {
        operator: Operator,
        negated: bool,
    },
    Logic {
        is_or: bool,
    },
    Coalesce,
    /// A comparison, with what has been compared to the left of it: `a < b` in `a < b < c`.
    Comparison {
        before: Vec<(Order, NodeId)>,
        order: Order,
    },
}

/// An operator on the waiting list.
struct Pending {
    waiting: Waiting,
    at: u32,
}

impl Waiting {
    fn binds(&self) -> u16 {
        match self {
            Self::Not => NOT_BINDS,
            Self::Sign(_) => SIGN_BINDS,
            Self::Coalesce => 500,
            Self::Comparison { .. } => COMPARISON_BINDS,
            Self::Logic { is_or: true } => 10,
            Self::Logic { is_or: false } => 15,
            Self::Binary { operator, .. } => match operator {
                Operator::Power => 100,
                Operator::Multiply | Operator::Divide | Operator::Modulo => 60,
                Operator::Add | Operator::Subtract => 30,
                Operator::Range => 25,
                Operator::Equal
                | Operator::NotEqual
                | Operator::In
                | Operator::Matches
                | Operator::Contains
                | Operator::StartsWith
                | Operator::EndsWith => COMPARISON_BINDS,
            },
        }
    }

    fn is_power(&self) -> bool {
        matches!(
            self,
            Self::Binary {
                operator: Operator::Power,
                ..
            }
        )
    }

    fn is_unary(&self) -> bool {
        matches!(self, Self::Not | Self::Sign(_))
    }

    /// The loosest operator that its right side may hold.
    fn takes(&self) -> u16 {
        match self {
            unary if unary.is_unary() => unary.binds(),
            power if power.is_power() => power.binds(),
            _ => self.binds() + 1,
        }
    }

    /// Whether it counts as nesting: a row of these stands inside each other, a row of others does not.
    fn nests(&self) -> bool {
        self.is_unary() || self.is_power()
    }
}

impl Parser {
    fn token(&self) -> &Token {
        // `advance` stops at the last token.
        &self.tokens[self.next]
    }

    fn word(&self) -> &Word {
        &self.token().word
    }

    fn at(&self) -> u32 {
        self.token().at
    }

    fn is(&self, sign: Sign) -> bool {
        *self.word() == Word::Sign(sign)
    }

    fn advance(&mut self) -> Token {
        let token = self.token().clone();
        if self.next + 1 < self.tokens.len() {
            self.next += 1;
        }
        token
    }

    fn accept(&mut self, sign: Sign) -> bool {
        let found = self.is(sign);
        if found {
            self.advance();
        }
        found
    }

    fn expect(&mut self, sign: Sign) -> Result<u32, Fault> {
        if self.is(sign) {
            Ok(self.advance().at)
        } else {
            Err(self.unexpected())
        }
    }

    fn unexpected(&self) -> Fault {
        Fault::at(format!("unexpected {}", self.word().told()), self.at())
    }

    fn name(&mut self) -> Result<(Arc<str>, u32), Fault> {
        match self.word() {
            Word::Name(name) => {
                let name = name.clone();
                Ok((name, self.advance().at))
            }
            _ => Err(self.unexpected()),
        }
    }

    fn plant(&mut self, node: Node, at: u32) -> Result<NodeId, Fault> {
        self.plot.plant(node, at)
    }

    /// One level deeper.
    fn nest(&mut self) -> Result<(), Fault> {
        self.depth += 1;
        if self.depth > MOST_DEPTH {
            return Err(Fault::at("expression is nested too deeply", self.at()));
        }
        Ok(())
    }

    fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        self.nest()?;
        let found = read(self)?;
        self.depth -= 1;
        Ok(found)
    }

    /// `a; b; c`, the whole or in brackets. A `;` may end the whole text.
    fn sequence(&mut self) -> Result<NodeId, Fault> {
        let at = self.at();
        let mut all = vec![self.expression()?];
        while self.accept(Sign::Semicolon) && *self.word() != Word::End {
            all.push(self.expression()?);
        }
        match all.as_slice() {
            [only] => Ok(*only),
            _ => self.plant(Node::Sequence(all), at),
        }
    }

    fn expression(&mut self) -> Result<NodeId, Fault> {
        if self.is(Sign::Let) {
            return self.variables();
        }
        if self.is(Sign::If) {
            return self.branches();
        }
        let mut node = self.operators()?;
        while self.is(Sign::Question) {
            self.advance();
            let (yes, no) = self.nested(|parser| {
                let yes = if parser.is(Sign::Colon) {
                    node
                } else {
                    parser.expression()?
                };
                parser.expect(Sign::Colon)?;
                Ok((yes, parser.expression()?))
            })?;
            let at = self.at();
            node = self.plant(
                Node::Conditional {
                    condition: node,
                    yes,
                    no,
                },
                at,
            )?;
        }
        Ok(node)
    }

    /// `let a = 1; let b = 2; a + b`, where the rest of the sequence is the body of each.
    fn variables(&mut self) -> Result<NodeId, Fault> {
        let in_sight = self.variables.len();
        let mut declared = Vec::new();
        while self.accept(Sign::Let) {
            let (name, at) = self.name()?;
            self.expect(Sign::Assign)?;
            let value = self.nested(Self::expression)?;
            self.expect(Sign::Semicolon)?;
            self.may_declare(&name, at)?;
            declared.push((self.variables.len(), value, at));
            self.variables.push((name, value));
        }
        let mut body = self.nested(Self::sequence)?;
        self.variables.truncate(in_sight);
        while let Some((slot, value, at)) = declared.pop() {
            body = self.plant(Node::Let { slot, value, body }, at)?;
        }
        Ok(body)
    }

    fn may_declare(&self, name: &str, at: u32) -> Result<(), Fault> {
        let taken = self.names.given(name).is_some()
            || Builtin::named(name).is_some()
            || Loop::named(name).is_some()
            || self.variables.iter().any(|(known, _)| **known == *name);
        if taken {
            return Err(Fault::at(format!("cannot redeclare {name}"), at));
        }
        Ok(())
    }

    /// `if a { b } else if c { d } else { e }`
    fn branches(&mut self) -> Result<NodeId, Fault> {
        let at = self.expect(Sign::If)?;
        self.nested(|parser| {
            let condition = parser.expression()?;
            let yes = parser.braced()?;
            parser.expect(Sign::Else)?;
            let no = if parser.is(Sign::If) {
                parser.branches()?
            } else {
                parser.braced()?
            };
            parser.plant(Node::Conditional { condition, yes, no }, at)
        })
    }

    fn braced(&mut self) -> Result<NodeId, Fault> {
        self.expect(Sign::OpenCurly)?;
        let node = self.nested(Self::sequence)?;
        self.expect(Sign::CloseCurly)?;
        Ok(node)
    }

    /// Operands and the operators between them.
    fn operators(&mut self) -> Result<NodeId, Fault> {
        let mut operands: Vec<NodeId> = Vec::new();
        let mut pending: Vec<Pending> = Vec::new();
        loop {
            self.prefixes(&mut pending)?;
            operands.push(self.operand()?);
            loop {
                let at = self.at();
                if self.is(Sign::Pipe) {
                    self.advance();
                    self.reduce(&mut operands, &mut pending, 0)?;
                    let (name, at) = self.name()?;
                    let piped = operands.pop();
                    operands.push(self.call(&name, at, piped)?);
                    continue;
                }
                let Some(mut waiting) = self.binary()? else {
                    self.reduce(&mut operands, &mut pending, 0)?;
                    // Every operator took one of the operands away.
                    return operands.pop().ok_or_else(|| self.unexpected());
                };
                Self::not_mixed(&pending, &waiting, at)?;
                let binds = waiting.binds();
                let keep = if waiting.is_power() { binds + 1 } else { binds };
                if let Waiting::Comparison { before, .. } = &mut waiting {
                    self.reduce(&mut operands, &mut pending, keep + 1)?;
                    *before = self.chained(&mut operands, &mut pending)?;
                } else {
                    self.reduce(&mut operands, &mut pending, keep)?;
                }
                self.wait(&mut pending, waiting, at)?;
                break;
            }
        }
    }

    fn prefixes(&mut self, pending: &mut Vec<Pending>) -> Result<(), Fault> {
        loop {
            let waiting = match self.word() {
                Word::Sign(Sign::Not | Sign::Bang) => Waiting::Not,
                Word::Sign(Sign::Minus) => Waiting::Sign(SignOf::Minus),
                Word::Sign(Sign::Plus) => Waiting::Sign(SignOf::Plus),
                _ => return Ok(()),
            };
            let at = self.advance().at;
            self.wait(pending, waiting, at)?;
        }
    }

    fn wait(&mut self, pending: &mut Vec<Pending>, waiting: Waiting, at: u32) -> Result<(), Fault> {
        if waiting.nests() {
            self.nest()?;
        }
        pending.push(Pending { waiting, at });
        Ok(())
    }

    /// Takes the operator that stands here, if one does.
    fn binary(&mut self) -> Result<Option<Waiting>, Fault> {
        let negated = self.is(Sign::Not);
        if negated {
            self.advance();
        }
        let Word::Sign(sign) = *self.word() else {
            return if negated {
                Err(self.unexpected())
            } else {
                Ok(None)
            };
        };
        let binary = |operator| Waiting::Binary { operator, negated };
        let compared = |order| Waiting::Comparison {
            before: Vec::new(),
            order,
        };
        let waiting = match sign {
            Sign::In => binary(Operator::In),
            Sign::Matches => binary(Operator::Matches),
            Sign::Contains => binary(Operator::Contains),
            Sign::StartsWith => binary(Operator::StartsWith),
            Sign::EndsWith => binary(Operator::EndsWith),
            _ if negated => return Err(self.unexpected()),
            Sign::Or | Sign::OrOr => Waiting::Logic { is_or: true },
            Sign::And | Sign::AndAnd => Waiting::Logic { is_or: false },
            Sign::Equal => binary(Operator::Equal),
            Sign::NotEqual => binary(Operator::NotEqual),
            Sign::Less => compared(Order::Less),
            Sign::LessEqual => compared(Order::LessEqual),
            Sign::More => compared(Order::More),
            Sign::MoreEqual => compared(Order::MoreEqual),
            Sign::Range => binary(Operator::Range),
            Sign::Plus => binary(Operator::Add),
            Sign::Minus => binary(Operator::Subtract),
            Sign::Star => binary(Operator::Multiply),
            Sign::Slash => binary(Operator::Divide),
            Sign::Percent => binary(Operator::Modulo),
            Sign::StarStar | Sign::Caret => binary(Operator::Power),
            Sign::Coalesce => Waiting::Coalesce,
            _ => return Ok(None),
        };
        self.advance();
        Ok(Some(waiting))
    }

    /// `a ?? b < c` is refused: what stands after `??` may be followed by another operator only outside the
    /// operand that the `??` belongs to.
    fn not_mixed(pending: &[Pending], next: &Waiting, at: u32) -> Result<(), Fault> {
        let mut newest = pending
            .iter()
            .rev()
            .map(|pending| &pending.waiting)
            // `b` may have a sign, which is complete when the next operator binds looser.
            .skip_while(|waiting| waiting.is_unary() && waiting.binds() >= next.binds());
        if matches!(newest.next(), Some(Waiting::Coalesce)) && !matches!(next, Waiting::Coalesce) {
            let outside = newest.next().map_or(0, Waiting::takes);
            if next.binds() >= outside {
                return Err(Fault::at(
                    "an operator after ?? needs parentheses around one of the two",
                    at,
                ));
            }
        }
        Ok(())
    }

    /// Gives every waiting operator that binds at least as tight as `keep` its right side.
    fn reduce(
        &mut self,
        operands: &mut Vec<NodeId>,
        pending: &mut Vec<Pending>,
        keep: u16,
    ) -> Result<(), Fault> {
        while let Some(Pending { waiting, at }) =
            pending.pop_if(|pending| pending.waiting.binds() >= keep)
        {
            if waiting.nests() {
                self.depth -= 1;
            }
            // Between two operands there is one operator, and an operand follows each.
            let mut operand = || {
                operands
                    .pop()
                    .ok_or_else(|| Fault::at("missing operand", at))
            };
            let right = operand()?;
            let node = match waiting {
                Waiting::Not => Node::Not(right),
                Waiting::Sign(sign) => Node::Signed(sign, right),
                Waiting::Coalesce => Node::Coalesce {
                    left: operand()?,
                    right,
                },
                Waiting::Logic { is_or } => Node::Logic {
                    is_or,
                    left: operand()?,
                    right,
                },
                Waiting::Binary { operator, negated } => {
                    let node = self.operation(operator, operand()?, right)?;
                    if negated {
                        let positive = self.plant(node, at)?;
                        Node::Not(positive)
                    } else {
                        node
                    }
                }
                Waiting::Comparison { mut before, order } => {
                    before.push((order, right));
                    Node::Comparison {
                        first: operand()?,
                        rest: before,
                    }
                }
            };
            if let Node::Comparison { rest, .. } = &node {
                // The reference makes a comparison of each pair and joins them by `and`.
                self.plot.count(2 * (rest.len() - 1), at)?;
            }
            let node = self.plant(node, at)?;
            operands.push(node);
        }
        Ok(())
    }

    /// When a comparison follows a comparison, both share the operand between them. Takes the earlier one off the
    /// list; its first operand stays. Anything else that binds as tight gets its right side.
    fn chained(
        &mut self,
        operands: &mut Vec<NodeId>,
        pending: &mut Vec<Pending>,
    ) -> Result<Vec<(Order, NodeId)>, Fault> {
        if let Some(Pending {
            waiting: Waiting::Comparison { mut before, order },
            ..
        }) = pending.pop_if(|last| matches!(last.waiting, Waiting::Comparison { .. }))
        {
            let right = operands.pop().ok_or_else(|| self.unexpected())?;
            before.push((order, right));
            return Ok(before);
        }
        self.reduce(operands, pending, COMPARISON_BINDS)?;
        Ok(Vec::new())
    }

    fn operation(
        &mut self,
        operator: Operator,
        left: NodeId,
        right: NodeId,
    ) -> Result<Node, Fault> {
        if let (Operator::Matches, Node::Text(text)) = (operator, self.plot.node(right)) {
            let pattern = pattern::compile(text)?;
            return Ok(Node::MatchesPattern {
                left,
                pattern: Box::new(pattern),
            });
        }
        Ok(Node::Binary {
            operator,
            left,
            right,
        })
    }

    /// One operand with the members, indices and slices behind it.
    fn operand(&mut self) -> Result<NodeId, Fault> {
        let at = self.at();
        match self.word().clone() {
            Word::Sign(Sign::OpenRound) => {
                self.advance();
                let node = self.nested(Self::sequence)?;
                self.expect(Sign::CloseRound)?;
                self.postfix(node)
            }
            Word::Sign(sign @ (Sign::Hash | Sign::Dot)) => {
                let node = self.pointer(sign, at)?;
                self.postfix(node)
            }
            Word::Sign(Sign::ColonColon) => {
                self.advance();
                let (name, at) = self.name()?;
                let node = self.call(&name, at, None)?;
                self.postfix(node)
            }
            Word::Sign(Sign::OpenSquare) => {
                let node = self.list(at)?;
                self.postfix(node)
            }
            Word::Sign(Sign::OpenCurly) => {
                let node = self.map(at)?;
                self.postfix(node)
            }
            Word::Name(name) => {
                self.advance();
                match &*name {
                    "true" => self.plant(Node::Bool(true), at),
                    "false" => self.plant(Node::Bool(false), at),
                    "nil" => self.plant(Node::Nil, at),
                    _ => {
                        let node = if self.is(Sign::OpenRound) {
                            self.call(&name, at, None)?
                        } else {
                            self.named(&name, at)?
                        };
                        self.postfix(node)
                    }
                }
            }
            Word::Number(text) => {
                self.advance();
                let node = match number::literal(&text).map_err(|fault| fault.or_at(at))? {
                    number::Literal::Int(value) => Node::Int(value),
                    number::Literal::Float(value) => Node::Float(value),
                };
                self.plant(node, at)
            }
            Word::Text(text) => {
                self.advance();
                let node = self.plant(Node::Text(text), at)?;
                self.postfix(node)
            }
            Word::Bytes(bytes) => {
                self.advance();
                let node = self.plant(Node::Bytes(bytes), at)?;
                self.postfix(node)
            }
            Word::Sign(_) | Word::End => Err(self.unexpected()),
        }
    }

    fn named(&mut self, name: &str, at: u32) -> Result<NodeId, Fault> {
        let variable = self
            .variables
            .iter()
            .rposition(|(known, _)| **known == *name);
        let node = match (variable, self.names.given(name)) {
            (Some(slot), _) => Node::Variable {
                slot,
                value: self.variables[slot].1,
            },
            (None, Some(given)) => Node::Given(given),
            (None, None) if name == "$env" => Node::Environment,
            (None, None) if Builtin::named(name).is_some() || Loop::named(name).is_some() => {
                return Err(Fault::at(format!("{name} is a function; call it"), at));
            }
            (None, None) => return Err(Fault::at(format!("unknown name {name}"), at)),
        };
        self.plant(node, at)
    }

    /// `#`, `#index`, `#acc`, or the element that `.name` leaves out.
    fn pointer(&mut self, sign: Sign, at: u32) -> Result<NodeId, Fault> {
        let Some(scope) = self.scopes.last().copied() else {
            return Err(self.unexpected());
        };
        let mut what = Pointer::Element;
        if sign == Sign::Hash {
            self.advance();
            if let Word::Name(name) = self.word().clone() {
                let kind = self.plot.scope(scope).kind;
                what = match &*name {
                    "index" if matches!(kind, Loop::Map | Loop::Reduce) => Pointer::Index,
                    "acc" if kind == Loop::Reduce => Pointer::Accumulator,
                    _ => return Err(Fault::at(format!("unknown pointer #{name}"), at)),
                };
                self.advance();
            }
        }
        self.plant(Node::Pointer { scope, what }, at)
    }

    /// A call; `piped` is the first argument in `piped | name()`.
    fn call(&mut self, name: &str, at: u32, piped: Option<NodeId>) -> Result<NodeId, Fault> {
        if let Some(kind) = Loop::named(name) {
            return self.nested(|parser| parser.predicate_call(kind, at, piped));
        }
        if let Some(function) = Builtin::named(name) {
            let arguments = self.arguments(piped)?;
            return self.plant(
                Node::Builtin {
                    function,
                    arguments,
                },
                at,
            );
        }
        let callee = self.named(name, at)?;
        let arguments = self.arguments(piped)?;
        self.plant(Node::Call { callee, arguments }, at)
    }

    fn arguments(&mut self, piped: Option<NodeId>) -> Result<Vec<NodeId>, Fault> {
        let mut arguments: Vec<NodeId> = piped.into_iter().collect();
        self.expect(Sign::OpenRound)?;
        self.items(Sign::CloseRound, |parser| {
            arguments.push(parser.expression()?);
            Ok(())
        })?;
        Ok(arguments)
    }

    /// What stands between commas until `close`; a last comma may be left over.
    fn items(
        &mut self,
        close: Sign,
        mut item: impl FnMut(&mut Self) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.nested(|parser| {
            while !parser.is(close) {
                item(parser)?;
                if !parser.is(close) {
                    parser.expect(Sign::Comma)?;
                }
            }
            Ok(())
        })?;
        self.expect(close)?;
        Ok(())
    }

    fn predicate_call(
        &mut self,
        kind: Loop,
        at: u32,
        piped: Option<NodeId>,
    ) -> Result<NodeId, Fault> {
        self.expect(Sign::OpenRound)?;
        let mut first = piped.is_some();
        let collection = match piped {
            Some(piped) => piped,
            None => self.expression()?,
        };
        let scope = self.plot.open(Scope { collection, kind });
        let body = if self.is(Sign::CloseRound) && kind.body_may_be_absent() {
            None
        } else {
            if !std::mem::take(&mut first) {
                self.expect(Sign::Comma)?;
            }
            Some(self.predicate(scope)?)
        };
        let extra = if kind.takes_extra() && !self.is(Sign::CloseRound) {
            self.expect(Sign::Comma)?;
            Some(self.expression()?)
        } else {
            None
        };
        self.accept(Sign::Comma);
        self.expect(Sign::CloseRound)?;
        self.plant(
            Node::Loop {
                kind,
                collection,
                body,
                extra,
            },
            at,
        )
    }

    fn predicate(&mut self, scope: ScopeId) -> Result<NodeId, Fault> {
        self.plot.count(1, self.at())?;
        self.scopes.push(scope);
        let body = if self.is(Sign::OpenCurly) {
            self.braced()?
        } else {
            self.expression()?
        };
        self.scopes.pop();
        Ok(body)
    }

    fn list(&mut self, at: u32) -> Result<NodeId, Fault> {
        self.expect(Sign::OpenSquare)?;
        let mut items = Vec::new();
        self.items(Sign::CloseSquare, |parser| {
            items.push(parser.expression()?);
            Ok(())
        })?;
        self.plant(Node::List(items), at)
    }

    fn map(&mut self, at: u32) -> Result<NodeId, Fault> {
        self.expect(Sign::OpenCurly)?;
        let mut pairs = Vec::new();
        self.items(Sign::CloseCurly, |parser| {
            parser.plot.count(1, at)?;
            let key_at = parser.at();
            let key = match parser.word().clone() {
                Word::Name(text) | Word::Number(text) | Word::Text(text) => {
                    parser.advance();
                    parser.plant(Node::Text(text), key_at)?
                }
                Word::Sign(Sign::OpenRound) => parser.expression()?,
                _ => return Err(parser.unexpected()),
            };
            parser.expect(Sign::Colon)?;
            pairs.push((key, parser.expression()?));
            Ok(())
        })?;
        self.plant(Node::Map(pairs), at)
    }

    /// `.name`, `?.name`, `.name(…)`, `[key]`, `?.[key]`, `[from:to]`
    fn postfix(&mut self, mut node: NodeId) -> Result<NodeId, Fault> {
        loop {
            let mut optional = self.is(Sign::QuestionDot);
            if optional || self.is(Sign::Dot) {
                self.advance();
                if !(optional && self.is(Sign::OpenSquare)) {
                    node = self.member(node, optional)?;
                    continue;
                }
            } else {
                optional = false;
            }
            if !self.is(Sign::OpenSquare) {
                return Ok(node);
            }
            node = self.index(node, optional)?;
        }
    }

    fn member(&mut self, base: NodeId, optional: bool) -> Result<NodeId, Fault> {
        let at = self.at();
        let Some(name) = self.word().member_name() else {
            return Err(self.unexpected());
        };
        self.advance();
        self.plot.count(1, at)?;
        let (base, in_chain) = match self.plot.node(base) {
            Node::Chain(inside) => (*inside, true),
            _ => (base, false),
        };
        let node = if self.is(Sign::OpenRound) {
            self.plot.count(1, at)?;
            let arguments = self.arguments(None)?;
            Node::Method {
                base,
                name,
                optional,
                arguments,
            }
        } else {
            Node::Member {
                base,
                name,
                optional,
            }
        };
        let node = self.plant(node, at)?;
        if in_chain || optional {
            return self.plant(Node::Chain(node), at);
        }
        Ok(node)
    }

    fn index(&mut self, base: NodeId, optional: bool) -> Result<NodeId, Fault> {
        let at = self.expect(Sign::OpenSquare)?;
        let node = self.nested(|parser| {
            let from = if parser.is(Sign::Colon) {
                None
            } else {
                Some(parser.expression()?)
            };
            match from {
                Some(key) if !parser.is(Sign::Colon) => Ok(Node::Index {
                    base,
                    key,
                    optional,
                }),
                from => {
                    parser.expect(Sign::Colon)?;
                    let to = if parser.is(Sign::CloseSquare) {
                        None
                    } else {
                        Some(parser.expression()?)
                    };
                    Ok(Node::Slice { base, from, to })
                }
            }
        })?;
        self.expect(Sign::CloseSquare)?;
        let is_index = matches!(node, Node::Index { .. });
        let node = self.plant(node, at)?;
        if optional && is_index {
            return self.plant(Node::Chain(node), at);
        }
        Ok(node)
    }
}
