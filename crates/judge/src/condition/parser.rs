//! From words to a program.
//!
//! Brackets, arguments and branches are read by recursion, and [`MOST_DEPTH`] bounds it; operators are not, see
//! [`operators`]. Start at [`parse`].
//!
//! Names are looked up here; whether the kinds of values fit is the subject of `check`.

mod operators;

use std::sync::Arc;

use super::builtin::Builtin;
use super::error::Fault;
use super::loops::Loop;
use super::number;
use super::syntax::{Names, Node, NodeId, Plot, Pointer, Program, Scope, ScopeId};
use super::token::{Sign, Token, Word, words};

/// How many brackets, branches and unary operators may stand inside each other.
const MOST_DEPTH: u32 = 200;

/// The longest condition in bytes.
const MOST_BYTES: usize = 64 * 1024;

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
