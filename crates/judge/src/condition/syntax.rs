//! The shape of a condition once it is read.
//!
//! All nodes of a condition lie in one list, children before parents, and name each other by position. So a deep
//! condition is dropped in one sweep, and the static check is one walk along the list. Start at [`Program`].
//!
//! Nodes say what was written. The few short-cuts that the reference takes before it evaluates, because they show
//! in the outcome, are decided here as constants ([`Constant`]) or by the evaluator where it meets them.

use std::sync::Arc;

use regex::Regex;

use super::builtin::Builtin;
use super::error::Fault;
use super::loops::Loop;

/// The most nodes a condition may have; the reference's number.
const MOST_NODES: usize = 10_000;

/// How many steps inside each other the evaluator may take. A step needs stack; 200 brackets need less than this
/// unless every bracket stands to the right of several operators.
const MOST_HEIGHT: u16 = 500;

/// The position of a node in its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NodeId(u32);

impl NodeId {
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// The position of a predicate's scope in its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ScopeId(u32);

/// What `#` means inside a predicate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope {
    /// The node of the list that is walked.
    pub(super) collection: NodeId,
    /// The kind of loop: `#index` and `#acc` exist in some only.
    pub(super) kind: Loop,
}

/// What the environment gives by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Given {
    /// The value of the measurement.
    Result,
    /// A function that only conditions have.
    Function(Function),
}

/// The functions that are not builtins of the language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Function {
    AsInt,
    AsFloat,
    IsNan,
    IsInf,
    IsNil,
    Default,
}

impl Function {
    pub(super) const ALL: [Self; 6] = [
        Self::AsInt,
        Self::AsFloat,
        Self::IsNan,
        Self::IsInf,
        Self::IsNil,
        Self::Default,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::AsInt => "asInt",
            Self::AsFloat => "asFloat",
            Self::IsNan => "isNaN",
            Self::IsInf => "isInf",
            Self::IsNil => "isNil",
            Self::Default => "default",
        }
    }

    pub(super) fn arity(self) -> usize {
        if self == Self::Default { 2 } else { 1 }
    }
}

/// Which names a text may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// `result` and all functions.
    OfConditions,
    /// Only `isNaN` and `isInf`: the start and the end of a range query.
    OfInstants,
}

impl Names {
    pub(super) fn given(self, name: &str) -> Option<Given> {
        self.all()
            .into_iter()
            .find_map(|(known, given)| (known == name).then_some(given))
    }

    /// Every name with what it stands for.
    pub(super) fn all(self) -> Vec<(&'static str, Given)> {
        let functions = Function::ALL.into_iter().filter(|function| {
            self == Self::OfConditions || matches!(function, Function::IsNan | Function::IsInf)
        });
        let result = (self == Self::OfConditions).then_some(("result", Given::Result));
        functions
            .map(|function| (function.name(), Given::Function(function)))
            .chain(result)
            .collect()
    }
}

/// Which of a predicate's three names a `#` stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pointer {
    Element,
    Index,
    Accumulator,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    Plus,
    Minus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Less,
    LessEqual,
    More,
    MoreEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    In,
    Matches,
    Contains,
    StartsWith,
    EndsWith,
    Range,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Power,
}

impl Operator {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::In => "in",
            Self::Matches => "matches",
            Self::Contains => "contains",
            Self::StartsWith => "startsWith",
            Self::EndsWith => "endsWith",
            Self::Range => "..",
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Modulo => "%",
            Self::Power => "**",
        }
    }
}

#[derive(Clone, Debug)]
pub(super) enum Node {
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Arc<str>),
    Bytes(Arc<[u8]>),
    /// `$env`
    Environment,
    Given(Given),
    Variable {
        slot: usize,
        value: NodeId,
    },
    Pointer {
        scope: ScopeId,
        what: Pointer,
    },
    Not(NodeId),
    Signed(Sign, NodeId),
    Logic {
        is_or: bool,
        left: NodeId,
        right: NodeId,
    },
    Coalesce {
        left: NodeId,
        right: NodeId,
    },
    Binary {
        operator: Operator,
        left: NodeId,
        right: NodeId,
    },
    /// `left matches right` where the pattern is written in the condition.
    MatchesPattern {
        left: NodeId,
        pattern: Box<Regex>,
    },
    /// `a < b <= c`
    Comparison {
        first: NodeId,
        rest: Vec<(Order, NodeId)>,
    },
    /// Everything behind the first `?.` of a chain of members: where it meets nil, the whole is nil.
    Chain(NodeId),
    Member {
        base: NodeId,
        name: Arc<str>,
        optional: bool,
    },
    Method {
        base: NodeId,
        name: Arc<str>,
        optional: bool,
        arguments: Vec<NodeId>,
    },
    Index {
        base: NodeId,
        key: NodeId,
        optional: bool,
    },
    Slice {
        base: NodeId,
        from: Option<NodeId>,
        to: Option<NodeId>,
    },
    Call {
        callee: NodeId,
        arguments: Vec<NodeId>,
    },
    Builtin {
        function: Builtin,
        arguments: Vec<NodeId>,
    },
    Loop {
        kind: Loop,
        collection: NodeId,
        body: Option<NodeId>,
        /// The order of `sortBy`, the first value of `reduce`.
        extra: Option<NodeId>,
    },
    Let {
        slot: usize,
        value: NodeId,
        body: NodeId,
    },
    Sequence(Vec<NodeId>),
    Conditional {
        condition: NodeId,
        yes: NodeId,
        no: NodeId,
    },
    List(Vec<NodeId>),
    Map(Vec<(NodeId, NodeId)>),
}

impl Node {
    /// The child that is evaluated first. Chains of first children are walked, not descended into.
    pub(super) fn first(&self) -> Option<NodeId> {
        match self {
            Self::Not(only) | Self::Signed(_, only) | Self::Chain(only) => Some(*only),
            Self::Logic { left, .. }
            | Self::Coalesce { left, .. }
            | Self::Binary { left, .. }
            | Self::MatchesPattern { left, .. } => Some(*left),
            Self::Comparison { first, .. } => Some(*first),
            Self::Member { base, .. }
            | Self::Method { base, .. }
            | Self::Index { base, .. }
            | Self::Slice { base, .. } => Some(*base),
            Self::Builtin { arguments, .. } => arguments.first().copied(),
            Self::Loop { collection, .. } => Some(*collection),
            Self::Let { value, .. } => Some(*value),
            Self::Sequence(all) => all.first().copied(),
            Self::Conditional { condition, .. } => Some(*condition),
            Self::Nil
            | Self::Bool(_)
            | Self::Int(_)
            | Self::Float(_)
            | Self::Text(_)
            | Self::Bytes(_)
            | Self::Environment
            | Self::Given(_)
            | Self::Variable { .. }
            | Self::Pointer { .. }
            | Self::Call { .. }
            | Self::List(_)
            | Self::Map(_) => None,
        }
    }

    /// The children that take the node's place: nothing is left to do after them.
    fn tails(&self) -> Vec<NodeId> {
        match self {
            Self::Logic { right, .. } | Self::Coalesce { right, .. } => vec![*right],
            Self::Let { body, .. } => vec![*body],
            Self::Conditional { yes, no, .. } => vec![*yes, *no],
            Self::Sequence(all) => all.last().copied().into_iter().collect(),
            _ => Vec::new(),
        }
    }

    /// The children that need a step of their own inside the node's step.
    fn inner(&self) -> Vec<NodeId> {
        match self {
            Self::Binary { right, .. } => vec![*right],
            Self::Comparison { rest, .. } => rest.iter().map(|(_, node)| *node).collect(),
            Self::Method { arguments, .. } => arguments.clone(),
            Self::Index { key, .. } => vec![*key],
            Self::Slice { from, to, .. } => from.iter().chain(to).copied().collect(),
            Self::Call { callee, arguments } => {
                [*callee].into_iter().chain(arguments.clone()).collect()
            }
            Self::Builtin { arguments, .. } => arguments.iter().skip(1).copied().collect(),
            Self::Loop { body, extra, .. } => body.iter().chain(extra).copied().collect(),
            Self::Sequence(all) => all
                .get(1..all.len().saturating_sub(1))
                .unwrap_or_default()
                .to_vec(),
            Self::List(items) => items.clone(),
            Self::Map(pairs) => pairs
                .iter()
                .flat_map(|(key, value)| [*key, *value])
                .collect(),
            _ => Vec::new(),
        }
    }
}

/// A value that is known while the condition is read.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Constant {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Arc<str>),
}

/// A condition that has been read.
#[derive(Debug)]
pub(super) struct Program {
    nodes: Vec<Planted>,
    scopes: Vec<Scope>,
    root: NodeId,
}

/// A node in its place.
#[derive(Debug)]
struct Planted {
    node: Node,
    /// The byte of the text where it is written.
    at: u32,
    constant: Option<Constant>,
    height: u16,
}

impl Program {
    pub(super) fn root(&self) -> NodeId {
        self.root
    }

    pub(super) fn node(&self, id: NodeId) -> &Node {
        // Ids are made by `Plot::plant` only, and nodes are never taken away.
        &self.nodes[id.index()].node
    }

    pub(super) fn at(&self, id: NodeId) -> u32 {
        self.nodes[id.index()].at
    }

    pub(super) fn constant(&self, id: NodeId) -> Option<&Constant> {
        self.nodes[id.index()].constant.as_ref()
    }

    pub(super) fn scope(&self, id: ScopeId) -> Scope {
        // Ids are made by `Plot::open` only, and scopes are never taken away.
        self.scopes[id.0 as usize]
    }

    /// All nodes, children before parents.
    pub(super) fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..u32::try_from(self.nodes.len()).unwrap_or(u32::MAX)).map(NodeId)
    }
}

/// Where a program grows while its text is read.
#[derive(Debug, Default)]
pub(super) struct Plot {
    nodes: Vec<Planted>,
    scopes: Vec<Scope>,
    counted: usize,
}

impl Plot {
    pub(super) fn plant(&mut self, node: Node, at: u32) -> Result<NodeId, Fault> {
        self.count(1, at)?;
        let height = self.height(&node);
        if height > MOST_HEIGHT {
            return Err(Fault::at("expression is nested too deeply", at));
        }
        let constant = self.fold(&node, at)?;
        let id = NodeId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        self.nodes.push(Planted {
            node,
            at,
            constant,
            height,
        });
        Ok(id)
    }

    /// Counts what the reference holds as nodes and we do not.
    pub(super) fn count(&mut self, more: usize, at: u32) -> Result<(), Fault> {
        self.counted += more;
        if self.counted > MOST_NODES {
            return Err(Fault::at("expression exceeds maximum allowed nodes", at));
        }
        Ok(())
    }

    pub(super) fn node(&self, id: NodeId) -> &Node {
        // As in `Program::node`.
        &self.nodes[id.index()].node
    }

    pub(super) fn constant(&self, id: NodeId) -> Option<&Constant> {
        self.nodes[id.index()].constant.as_ref()
    }

    pub(super) fn open(&mut self, scope: Scope) -> ScopeId {
        let id = ScopeId(u32::try_from(self.scopes.len()).unwrap_or(u32::MAX));
        self.scopes.push(scope);
        id
    }

    pub(super) fn scope(&self, id: ScopeId) -> Scope {
        self.scopes[id.0 as usize]
    }

    pub(super) fn finish(self, root: NodeId) -> Program {
        Program {
            nodes: self.nodes,
            scopes: self.scopes,
            root,
        }
    }

    /// The steps inside each other that evaluating `node` takes.
    fn height(&self, node: &Node) -> u16 {
        let of = |id: NodeId| self.nodes[id.index()].height;
        let level = node.first().into_iter().chain(node.tails()).map(of);
        let inner = node.inner().into_iter().map(|id| of(id).saturating_add(1));
        level.chain(inner).max().unwrap_or(0)
    }

    /// What a node is whatever the value, as far as the reference finds out before it evaluates. This shows:
    /// `result[0] > 1 || true` is true even when the list is empty.
    fn fold(&self, node: &Node, at: u32) -> Result<Option<Constant>, Fault> {
        let of = |id: NodeId| self.constant(id);
        Ok(match node {
            Node::Bool(value) => Some(Constant::Bool(*value)),
            Node::Int(value) => Some(Constant::Int(*value)),
            Node::Float(value) => Some(Constant::Float(*value)),
            Node::Text(value) => Some(Constant::Text(value.clone())),
            Node::Not(operand) => match of(*operand) {
                Some(Constant::Bool(value)) => Some(Constant::Bool(!value)),
                _ => None,
            },
            Node::Signed(sign, operand) => match (sign, of(*operand)) {
                (Sign::Minus, Some(Constant::Int(value))) => {
                    Some(Constant::Int(value.wrapping_neg()))
                }
                (Sign::Minus, Some(Constant::Float(value))) => Some(Constant::Float(-value)),
                (Sign::Plus, Some(number @ (Constant::Int(_) | Constant::Float(_)))) => {
                    Some(number.clone())
                }
                _ => None,
            },
            Node::Logic { is_or, left, right } => {
                let decisive = Some(&Constant::Bool(*is_or));
                let neutral = Some(&Constant::Bool(!is_or));
                if of(*left) == neutral {
                    of(*right).cloned()
                } else if of(*right) == neutral {
                    of(*left).cloned()
                } else if of(*left) == decisive || of(*right) == decisive {
                    decisive.cloned()
                } else {
                    None
                }
            }
            Node::Binary {
                operator,
                left,
                right,
            } => match (of(*left), of(*right)) {
                (Some(left), Some(right)) => {
                    operated(*operator, left, right).map_err(|fault| fault.or_at(at))?
                }
                _ => None,
            },
            _ => None,
        })
    }
}

/// An operator on two constants, where the reference works it out beforehand.
fn operated(
    operator: Operator,
    left: &Constant,
    right: &Constant,
) -> Result<Option<Constant>, Fault> {
    use Constant::{Bool, Float, Int, Text};
    #[expect(
        clippy::cast_precision_loss,
        reason = "integers become floats as in any mixed arithmetic of the language"
    )]
    let floats = |operate: fn(f64, f64) -> f64| {
        let float = |constant: &Constant| match constant {
            Int(value) => Some(*value as f64),
            Float(value) => Some(*value),
            Bool(_) | Text(_) => None,
        };
        Some(Float(operate(float(left)?, float(right)?)))
    };
    Ok(match (operator, left, right) {
        (Operator::Equal, Int(left), Int(right)) => Some(Bool(left == right)),
        (Operator::Equal, Text(left), Text(right)) => Some(Bool(left == right)),
        (Operator::Equal, Bool(left), Bool(right)) => Some(Bool(left == right)),
        (Operator::Add, Int(left), Int(right)) => Some(Int(left.wrapping_add(*right))),
        (Operator::Subtract, Int(left), Int(right)) => Some(Int(left.wrapping_sub(*right))),
        (Operator::Multiply, Int(left), Int(right)) => Some(Int(left.wrapping_mul(*right))),
        (Operator::Modulo, Int(_), Int(0)) => return Err(Fault::new("integer divide by zero")),
        (Operator::Modulo, Int(left), Int(right)) => Some(Int(left.wrapping_rem(*right))),
        // Long texts are nobody's switch; left alone, a long sum of texts does not keep all its parts.
        (Operator::Add, Text(left), Text(right)) => {
            (left.len() + right.len() < 256).then(|| Text([&**left, &**right].concat().into()))
        }
        (Operator::Add, _, _) => floats(|left, right| left + right),
        (Operator::Subtract, _, _) => floats(|left, right| left - right),
        (Operator::Multiply, _, _) => floats(|left, right| left * right),
        (Operator::Divide, _, _) => floats(|left, right| left / right),
        (Operator::Power, _, _) => floats(f64::powf),
        _ => None,
    })
}
