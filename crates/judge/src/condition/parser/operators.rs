//! Operators between operands, by how tight they bind.
//!
//! An operator waits on a list until one that binds looser arrives; so a chain of thousands costs no stack. Start at
//! [`Parser::operators`].

use super::super::error::Fault;
use super::super::pattern;
use super::super::syntax::{Node, NodeId, Operator, Order, Sign as SignOf};
use super::super::token::{Sign, Word};
use super::Parser;

/// How tight the operators `not` and `!` bind: looser than arithmetic, tighter than comparison.
const NOT_BINDS: u16 = 50;
/// How tight a sign binds: looser than a power, so that `-2 ** 2` is -4.
const SIGN_BINDS: u16 = 90;
const COMPARISON_BINDS: u16 = 20;

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
    /// Operands and the operators between them.
    pub(super) fn operators(&mut self) -> Result<NodeId, Fault> {
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
}
