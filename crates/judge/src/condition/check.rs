//! Whether the kinds in a condition fit each other, before it runs.
//!
//! The check knows the kind of the present value and looks at every part, also at branches that would not run: a
//! mix-up such as `result == "true"` on a truth value must be an error, because false could mean success. Start
//! at [`check`].
//!
//! Children lie before their parents, so one walk along the nodes is enough.

use super::builtin::Builtin;
use super::error::Fault;
use super::kind::{Kind, List};
use super::loops::Loop;
use super::syntax::{Function, Given, Names, Node, NodeId, Operator, Order, Pointer, Program};

/// The kinds of all nodes, for the few places where the evaluation must know them.
pub(super) struct Kinds(Vec<Kind>);

impl Kinds {
    pub(super) fn of(&self, id: NodeId) -> &Kind {
        // The check has seen every node.
        &self.0[id.index()]
    }
}

/// Fails with the first misfit, for a value of kind `result`.
pub(super) fn check(program: &Program, names: Names, result: &Kind) -> Result<Kinds, Fault> {
    let mut checker = Checker {
        program,
        names,
        result,
        kinds: Vec::new(),
    };
    for id in program.ids() {
        let kind = checker
            .node(program.node(id))
            .map_err(|fault| fault.or_at(program.at(id)))?;
        checker.kinds.push(kind);
    }
    Ok(Kinds(checker.kinds))
}

struct Checker<'a> {
    program: &'a Program,
    names: Names,
    result: &'a Kind,
    /// The kinds of the nodes so far.
    kinds: Vec<Kind>,
}

type Found = Result<Kind, Fault>;

fn misfit(message: impl Into<String>) -> Found {
    Err(Fault::new(message))
}

impl Checker<'_> {
    fn kind(&self, id: NodeId) -> &Kind {
        // Children have been checked before their parents.
        &self.kinds[id.index()]
    }

    fn node(&self, node: &Node) -> Found {
        Ok(match node {
            Node::Nil => Kind::Nil,
            Node::Bool(_) => Kind::Bool,
            Node::Int(_) => Kind::Int,
            Node::Float(_) => Kind::Float,
            Node::Text(_) => Kind::Text,
            Node::Bytes(_) => Kind::Bytes,
            Node::Environment => Kind::Unknown,
            Node::Given(given) => self.given(*given),
            Node::Variable { value, .. } => self.kind(*value).clone(),
            Node::Pointer { scope, what } => match what {
                Pointer::Element => match self.kind(self.program.scope(*scope).collection) {
                    unknown if unknown.is_unknown() => Kind::Unknown,
                    list => list.element(),
                },
                Pointer::Index => Kind::Int,
                Pointer::Accumulator => Kind::Unknown,
            },
            Node::Not(operand) => match self.kind(*operand) {
                Kind::Bool => Kind::Bool,
                unknown if unknown.is_unknown() => Kind::Bool,
                other => return misfit(format!("invalid operation: not {other}")),
            },
            Node::Signed(_, operand) => match self.kind(*operand) {
                number if number.is_number() => number.clone(),
                unknown if unknown.is_unknown() => Kind::Unknown,
                other => return misfit(format!("invalid operation: sign before {other}")),
            },
            Node::Logic {
                is_or, left, right, ..
            } => {
                let (left, right) = (self.kind(*left), self.kind(*right));
                let fits = |kind: &Kind| *kind == Kind::Bool || kind.is_unknown();
                if !(fits(left) && fits(right)) {
                    return mismatch(if *is_or { "or" } else { "and" }, left, right);
                }
                Kind::Bool
            }
            Node::Coalesce { left, right } => coalesce(self.kind(*left), self.kind(*right)),
            Node::Binary {
                operator,
                left,
                right,
            } => binary(*operator, self.kind(*left), self.kind(*right))?,
            Node::MatchesPattern { left, .. } => {
                binary(Operator::Matches, self.kind(*left), &Kind::Text)?
            }
            Node::Comparison { first, rest } => {
                let mut left = self.kind(*first);
                for (order, right) in rest {
                    let right = self.kind(*right);
                    compared(*order, left, right)?;
                    left = right;
                }
                Kind::Bool
            }
            Node::Chain(inside) => self.kind(*inside).clone(),
            Node::Member {
                base,
                name,
                optional,
            } => self.member(*base, name, *optional)?,
            Node::Method {
                base,
                name,
                optional,
                arguments,
            } => self.method(*base, name, *optional, arguments)?,
            Node::Index {
                base,
                key,
                optional,
            } => self.index(*base, *key, *optional)?,
            Node::Slice { base, from, to } => self.slice(*base, [*from, *to])?,
            Node::Call { callee, arguments } => match self.kind(*callee) {
                Kind::Function(function) => self.call(*function, arguments)?,
                unknown if unknown.is_unknown() => Kind::Unknown,
                other => return misfit(format!("{other} is not callable")),
            },
            Node::Builtin {
                function,
                arguments,
            } => {
                let kinds: Vec<&Kind> = arguments.iter().map(|id| self.kind(*id)).collect();
                if let (Builtin::Get, [base, key]) = (function, arguments.as_slice())
                    && matches!(self.program.node(*base), Node::Environment)
                {
                    self.member_of_environment(self.text(*key), true)?
                } else {
                    builtin(*function, &kinds)?
                }
            }
            Node::Loop {
                kind,
                collection,
                body,
                extra,
                ..
            } => looped(
                *kind,
                self.kind(*collection),
                body.map(|id| self.kind(id)),
                extra.map(|id| self.kind(id)),
            )?,
            Node::Let { body, .. } => self.kind(*body).clone(),
            Node::Sequence(all) => all
                .last()
                .map_or(Kind::Unknown, |id| self.kind(*id).clone()),
            Node::Conditional { condition, yes, no } => {
                let condition = self.kind(*condition);
                if *condition != Kind::Bool && !condition.is_unknown() {
                    return misfit(format!("{condition} used as a condition"));
                }
                either(self.kind(*yes), self.kind(*no))
            }
            Node::List(items) => self.list(items),
            Node::Map(_) => Kind::Map,
        })
    }

    fn given(&self, given: Given) -> Kind {
        match given {
            Given::Result => self.result.clone(),
            Given::Function(function) => Kind::Function(function),
        }
    }

    fn text(&self, id: NodeId) -> Option<&str> {
        match self.program.node(id) {
            Node::Text(text) => Some(text),
            _ => None,
        }
    }

    fn list(&self, items: &[NodeId]) -> Kind {
        let kinds: Vec<&Kind> = items.iter().map(|id| self.kind(*id)).collect();
        if !kinds.is_sorted_by(|one, next| one.is_alike(next)) {
            return Kind::list();
        }
        Kind::list_of(kinds.last().map_or(Kind::Unknown, |last| (*last).clone()))
    }

    /// `$env.name`: without `?` the name must exist.
    fn member_of_environment(&self, name: Option<&str>, optional: bool) -> Found {
        let Some(name) = name else {
            return Ok(Kind::Unknown);
        };
        match self.names.given(name) {
            Some(given) => Ok(self.given(given)),
            None if optional => Ok(Kind::Unknown),
            None => misfit(format!("unknown name {name}")),
        }
    }

    fn member(&self, base: NodeId, name: &str, optional: bool) -> Found {
        if matches!(self.program.node(base), Node::Environment) {
            return self.member_of_environment(Some(name), optional);
        }
        match self.kind(base) {
            unknown if unknown.is_unknown() => Ok(Kind::Unknown),
            map if map.is_map() => Ok(map.element()),
            Kind::Record(fields) => match fields.get(name) {
                Some(kind) => Ok(kind.clone()),
                None => misfit(format!("record has no field {name}")),
            },
            other => misfit(format!("{other} has no field {name}")),
        }
    }

    fn method(&self, base: NodeId, name: &str, optional: bool, arguments: &[NodeId]) -> Found {
        let kinds: Vec<&Kind> = arguments.iter().map(|id| self.kind(*id)).collect();
        let of = self.kind(base);
        if matches!(
            of,
            Kind::Time | Kind::Duration | Kind::Zone | Kind::Month | Kind::Weekday
        ) {
            return method(of, name, &kinds);
        }
        match self.member(base, name, optional)? {
            Kind::Function(function) => self.call(function, arguments),
            unknown if unknown.is_unknown() => Ok(Kind::Unknown),
            other => misfit(format!("{other} is not callable")),
        }
    }

    fn index(&self, base: NodeId, key: NodeId, optional: bool) -> Found {
        if matches!(self.program.node(base), Node::Environment) {
            return self.member_of_environment(self.text(key), optional);
        }
        let key_kind = self.kind(key);
        match self.kind(base) {
            unknown if unknown.is_unknown() => Ok(Kind::Unknown),
            map if map.is_map() => {
                if map.has_text_keys() && *key_kind != Kind::Text && !key_kind.is_unknown() {
                    return misfit(format!(
                        "cannot use {key_kind} to get an element from {map}"
                    ));
                }
                Ok(map.element())
            }
            list if list.is_list() => {
                if !key_kind.is_integer() && !key_kind.is_unknown() {
                    return misfit(format!(
                        "array elements can only be selected using an integer (got {key_kind})"
                    ));
                }
                Ok(list.element())
            }
            Kind::Record(fields) => match self.text(key).and_then(|name| fields.get(name)) {
                Some(kind) => Ok(kind.clone()),
                None => misfit("record has no such field"),
            },
            other => misfit(format!("{other} cannot be indexed")),
        }
    }

    fn slice(&self, base: NodeId, bounds: [Option<NodeId>; 2]) -> Found {
        let base = self.kind(base);
        let sliced = match base {
            unknown if unknown.is_unknown() => Kind::Unknown,
            Kind::Text => Kind::Text,
            list if list.is_list() => list.clone(),
            other => return misfit(format!("cannot slice {other}")),
        };
        for bound in bounds.into_iter().flatten() {
            let bound = self.kind(bound);
            if !bound.is_integer() && !bound.is_unknown() {
                return misfit(format!("non-integer slice index {bound}"));
            }
        }
        Ok(sliced)
    }

    fn call(&self, function: Function, arguments: &[NodeId]) -> Found {
        let name = function.name();
        if arguments.len() != function.arity() {
            return misfit(format!(
                "invalid number of arguments to call {name} (expected {}, got {})",
                function.arity(),
                arguments.len()
            ));
        }
        match function {
            Function::AsInt => Ok(Kind::Int64),
            Function::AsFloat => Ok(Kind::Float),
            Function::IsNil => Ok(Kind::Bool),
            Function::Default => Ok(Kind::Any),
            Function::IsNan | Function::IsInf => {
                match arguments.first().map(|argument| self.kind(*argument)) {
                    Some(kind) if !kind.is_number() && !kind.is_unknown() => {
                        misfit(format!("cannot use {kind} as argument to call {name}"))
                    }
                    _ => Ok(Kind::Bool),
                }
            }
        }
    }
}

fn mismatch(operator: &str, left: &Kind, right: &Kind) -> Found {
    misfit(format!(
        "invalid operation: {operator} (mismatched types {left} and {right})"
    ))
}

/// Whether unknown operands leave an operation possible: both unknown, or one with a known one that `fits`.
fn may_fit(left: &Kind, right: &Kind, fits: impl Fn(&Kind) -> bool) -> bool {
    match (left.is_unknown(), right.is_unknown()) {
        (true, true) => true,
        (true, false) => fits(right),
        (false, true) => fits(left),
        (false, false) => false,
    }
}

/// Whether two values of these kinds have an order.
fn compared(order: Order, left: &Kind, right: &Kind) -> Result<(), Fault> {
    let ordered =
        |kind: &Kind| kind.is_number() || matches!(kind, Kind::Text | Kind::Time | Kind::Duration);
    let fits = (left.is_number() && right.is_number())
        || (left == right && ordered(left))
        || may_fit(left, right, ordered);
    if fits {
        return Ok(());
    }
    let operator = match order {
        Order::Less => "<",
        Order::LessEqual => "<=",
        Order::More => ">",
        Order::MoreEqual => ">=",
    };
    mismatch(operator, left, right).map(|_| ())
}

/// The kind of mixed arithmetic on numbers.
fn promoted(left: &Kind, right: &Kind) -> Kind {
    if *left == Kind::Float || *right == Kind::Float {
        Kind::Float
    } else {
        Kind::Int
    }
}

fn binary(operator: Operator, left: &Kind, right: &Kind) -> Found {
    use Kind::{Bool, Bytes, Duration, Float, Int, Text, Time, Unknown};
    let numbers = left.is_number() && right.is_number();
    let number = Kind::is_number;
    let integer = Kind::is_integer;
    let text = |kind: &Kind| *kind == Text;
    let found = match operator {
        Operator::Equal | Operator::NotEqual => left.is_comparable_to(right).then_some(Bool),
        Operator::In => return inside(left, right),
        Operator::Matches => ((matches!(left, Text | Bytes) && text(right))
            || may_fit(left, right, text))
        .then_some(Bool),
        Operator::Contains | Operator::StartsWith | Operator::EndsWith => {
            ((text(left) && text(right)) || may_fit(left, right, text)).then_some(Bool)
        }
        Operator::Range => ((integer(left) && integer(right)) || may_fit(left, right, integer))
            .then(|| Kind::list_of(Int)),
        Operator::Add => match (left, right) {
            _ if numbers => Some(promoted(left, right)),
            (Text, Text) => Some(Text),
            (Time, Duration) | (Duration, Time) => Some(Time),
            (Duration, Duration) => Some(Duration),
            _ => may_fit(left, right, |kind| {
                number(kind) || matches!(kind, Text | Time | Duration)
            })
            .then_some(Unknown),
        },
        Operator::Subtract => match (left, right) {
            _ if numbers => Some(promoted(left, right)),
            (Time, Time) | (Duration, Duration) => Some(Duration),
            (Time, Duration) => Some(Time),
            _ => may_fit(left, right, |kind| {
                number(kind) || matches!(kind, Time | Duration)
            })
            .then_some(Unknown),
        },
        Operator::Multiply => match (left, right) {
            _ if numbers => Some(promoted(left, right)),
            (Duration, Duration) => Some(Duration),
            (Duration, other) | (other, Duration) if number(other) => Some(Duration),
            _ => may_fit(left, right, |kind| number(kind) || *kind == Duration).then_some(Unknown),
        },
        Operator::Divide | Operator::Power => {
            (numbers || may_fit(left, right, number)).then_some(Float)
        }
        Operator::Modulo => {
            ((integer(left) && integer(right)) || may_fit(left, right, integer)).then_some(Int)
        }
    };
    match found {
        Some(kind) => Ok(kind),
        None => mismatch(operator.text(), left, right),
    }
}

/// `left in right`
fn inside(left: &Kind, right: &Kind) -> Found {
    let fits = match right {
        unknown if unknown.is_unknown() => true,
        map if map.is_map() => left.is_unknown() || !map.has_text_keys() || *left == Kind::Text,
        list if list.is_list() => left.is_comparable_to(&list.element()),
        Kind::Record(_) => left.is_unknown() || *left == Kind::Text,
        Kind::Text => left.is_unknown(),
        _ => false,
    };
    if fits {
        return Ok(Kind::Bool);
    }
    mismatch("in", left, right)
}

fn coalesce(left: &Kind, right: &Kind) -> Kind {
    match (left, right) {
        (Kind::Nil, right) => right.clone(),
        (left, Kind::Nil) => left.clone(),
        (left, right) if right.is_assignable_to(left) => left.clone(),
        _ => Kind::Unknown,
    }
}

/// The kind of a conditional.
fn either(yes: &Kind, no: &Kind) -> Kind {
    match (yes, no) {
        (Kind::Nil, no) => no.clone(),
        (yes, Kind::Nil) => yes.clone(),
        (yes, no) if yes.is_assignable_to(no) => {
            if yes.is_list() && no.is_list() {
                let (one, other) = (yes.element(), no.element());
                if !one.is_assignable_to(&other) || !other.is_assignable_to(&one) {
                    return Kind::list();
                }
            }
            yes.clone()
        }
        _ => Kind::Unknown,
    }
}

/// The functions that walk a list with a predicate.
fn looped(kind: Loop, collection: &Kind, body: Option<&Kind>, extra: Option<&Kind>) -> Found {
    let name = kind.name();
    if !collection.is_list() && !collection.is_unknown() {
        return misfit(format!("{name} takes only a list (got {collection})"));
    }
    match body {
        Some(Kind::Nil) => return misfit(format!("the predicate of {name} gives nil")),
        Some(body) if kind.wants_truth() && *body != Kind::Bool && !body.is_unknown() => {
            return misfit(format!("predicate should return boolean (got {body})"));
        }
        _ => {}
    }
    let element = || {
        if collection.is_unknown() {
            Kind::Unknown
        } else {
            collection.element()
        }
    };
    Ok(match kind {
        Loop::All | Loop::None | Loop::Any | Loop::One => Kind::Bool,
        Loop::Filter if collection.is_unknown() => Kind::list(),
        Loop::Filter => Kind::list_of(element()),
        Loop::Map => Kind::list_of(body.cloned().unwrap_or(Kind::Unknown)),
        Loop::Count | Loop::FindIndex | Loop::FindLastIndex => Kind::Int,
        Loop::Sum => match body {
            Some(body) if body.is_unknown() => Kind::Any,
            Some(body) => body.without_element(),
            None => element(),
        },
        Loop::Find | Loop::FindLast => element(),
        Loop::GroupBy => Kind::Groups,
        Loop::SortBy => {
            if let Some(order) = extra
                && *order != Kind::Text
                && !order.is_unknown()
            {
                return misfit(format!("sortBy order must be a text (got {order})"));
            }
            collection.clone()
        }
        Loop::Reduce => body.cloned().unwrap_or(Kind::Unknown),
    })
}

/// What a parameter of a builtin takes.
#[derive(Clone, Copy)]
enum Takes {
    Anything,
    Text,
    Integer,
    Number,
    List,
    /// A list of texts, or one of anything that turns out to hold texts.
    Texts,
    Map,
}

impl Takes {
    fn fits(self, kind: &Kind) -> bool {
        kind.is_unknown()
            || match self {
                Self::Anything => true,
                Self::Text => *kind == Kind::Text,
                Self::Integer => kind.is_integer(),
                Self::Number => kind.is_number(),
                Self::List => kind.is_list(),
                Self::Texts => matches!(
                    kind,
                    Kind::List(List {
                        store: super::kind::Store::Any | super::kind::Store::Texts,
                        ..
                    })
                ),
                Self::Map => kind.is_map(),
            }
    }
}

fn builtin(function: Builtin, arguments: &[&Kind]) -> Found {
    let name = function.name();
    // All of `takes`, of which the last `optional` may be absent.
    let signature = |takes: &[Takes], optional: usize, gives: Kind| -> Found {
        if arguments.len() > takes.len() || arguments.len() + optional < takes.len() {
            return misfit(format!(
                "invalid number of arguments to call {name} (expected {}, got {})",
                takes.len(),
                arguments.len()
            ));
        }
        for (kind, takes) in arguments.iter().zip(takes) {
            if !takes.fits(kind) {
                return misfit(format!("cannot use {kind} as argument to call {name}"));
            }
        }
        Ok(gives)
    };
    let first = || arguments.first().map_or(&Kind::Unknown, |kind| kind);
    // What is unknown going in is a member of something coming out.
    let same = || match first() {
        unknown if unknown.is_unknown() => Kind::Any,
        known => known.without_element(),
    };
    match function {
        Builtin::Len => match first() {
            Kind::Text => signature(&[Takes::Text], 0, Kind::Int),
            map if map.is_map() => signature(&[Takes::Map], 0, Kind::Int),
            _ => signature(&[Takes::List], 0, Kind::Int),
        },
        Builtin::Type | Builtin::String | Builtin::ToJson => {
            signature(&[Takes::Anything], 0, Kind::Text)
        }
        Builtin::Abs => signature(&[Takes::Number], 0, same()),
        Builtin::Ceil | Builtin::Floor | Builtin::Round => {
            signature(&[Takes::Number], 0, Kind::Float)
        }
        Builtin::Int => match first() {
            Kind::Text | Kind::Duration | Kind::Month | Kind::Weekday => {
                signature(&[Takes::Anything], 0, Kind::Int)
            }
            _ => signature(&[Takes::Number], 0, Kind::Int),
        },
        Builtin::Float => match first() {
            Kind::Text => signature(&[Takes::Text], 0, Kind::Float),
            _ => signature(&[Takes::Number], 0, Kind::Float),
        },
        Builtin::Trim | Builtin::TrimPrefix | Builtin::TrimSuffix => {
            signature(&[Takes::Text, Takes::Text], 1, Kind::Text)
        }
        Builtin::Upper | Builtin::Lower | Builtin::ToBase64 | Builtin::FromBase64 => {
            signature(&[Takes::Text], 0, Kind::Text)
        }
        Builtin::FromJson => signature(&[Takes::Text], 0, Kind::Any),
        Builtin::Split | Builtin::SplitAfter => signature(
            &[Takes::Text, Takes::Text, Takes::Integer],
            1,
            Kind::texts(),
        ),
        Builtin::Replace => signature(
            &[Takes::Text, Takes::Text, Takes::Text, Takes::Integer],
            1,
            Kind::Text,
        ),
        Builtin::Repeat => signature(&[Takes::Text, Takes::Integer], 0, Kind::Text),
        Builtin::Join => signature(&[Takes::Texts, Takes::Text], 1, Kind::Text),
        Builtin::IndexOf | Builtin::LastIndexOf => {
            signature(&[Takes::Text, Takes::Text], 0, Kind::Int)
        }
        Builtin::HasPrefix | Builtin::HasSuffix => {
            signature(&[Takes::Text, Takes::Text], 0, Kind::Bool)
        }
        Builtin::Min | Builtin::Max | Builtin::Mean | Builtin::Median => aggregate(name, arguments),
        Builtin::First | Builtin::Last => {
            let gives = match first() {
                unknown if unknown.is_unknown() => Kind::Any,
                list => list.stored_element(),
            };
            signature(&[Takes::List], 0, gives)
        }
        Builtin::Get => get(arguments),
        Builtin::Take => signature(&[Takes::List, Takes::Integer], 0, same()),
        Builtin::Keys | Builtin::Values | Builtin::ToPairs => {
            signature(&[Takes::Map], 0, Kind::list())
        }
        Builtin::FromPairs => signature(&[Takes::List], 0, Kind::Pairs),
        Builtin::Reverse | Builtin::Uniq | Builtin::Flatten => {
            signature(&[Takes::List], 0, Kind::list())
        }
        Builtin::Concat if arguments.is_empty() => {
            misfit("invalid number of arguments to call concat (expected at least 1, got 0)")
        }
        Builtin::Concat => signature(&vec![Takes::List; arguments.len()], 0, Kind::list()),
        Builtin::Sort if *first() == Kind::Bytes => misfit("cannot sort bytes"),
        Builtin::Sort => signature(&[Takes::List, Takes::Text], 1, Kind::list()),
        Builtin::BitAnd
        | Builtin::BitOr
        | Builtin::BitXor
        | Builtin::BitNand
        | Builtin::BitShl
        | Builtin::BitShr
        | Builtin::BitUshr => signature(&[Takes::Integer, Takes::Integer], 0, Kind::Int),
        Builtin::BitNot => signature(&[Takes::Integer], 0, Kind::Int),
        Builtin::Now => match arguments {
            [] | [Kind::Zone] => Ok(Kind::Time),
            _ => misfit("now takes nothing or a time zone"),
        },
        Builtin::Duration => signature(&[Takes::Text], 0, Kind::Duration),
        Builtin::Date => {
            let rest = match arguments {
                [Kind::Zone, rest @ ..] => rest,
                all => all,
            };
            if arguments.is_empty() || rest.len() > 3 {
                return misfit("date takes a time zone, a text, a layout and the name of a zone");
            }
            Ok(Kind::Time)
        }
        Builtin::Timezone => signature(&[Takes::Text], 0, Kind::Zone),
    }
}

/// Numbers, or lists of them: what stands behind a list is seen only when it runs.
fn aggregate(name: &str, arguments: &[&Kind]) -> Found {
    for kind in arguments {
        if kind.is_unknown() || kind.is_list() {
            return Ok(Kind::Any);
        }
        if !kind.is_number() && **kind != Kind::Duration {
            return misfit(format!("invalid argument for {name} (type {kind})"));
        }
    }
    match arguments.first() {
        Some(first) => Ok((*first).clone()),
        None => misfit(format!("not enough arguments to call {name}")),
    }
}

fn get(arguments: &[&Kind]) -> Found {
    let [base, key] = arguments else {
        return misfit(format!(
            "invalid number of arguments to call get (expected 2, got {})",
            arguments.len()
        ));
    };
    match base {
        unknown if unknown.is_unknown() => Ok(Kind::Unknown),
        list if list.is_list() && (key.is_integer() || key.is_unknown()) => Ok(list.element()),
        map if map.is_map()
            && (!map.has_text_keys() || **key == Kind::Text || key.is_unknown()) =>
        {
            Ok(map.element())
        }
        other => misfit(format!("cannot get {key} from {other}")),
    }
}

/// Methods of times, durations and what they are made of.
fn method(of: &Kind, name: &str, arguments: &[&Kind]) -> Found {
    let Some((takes, gives)) = super::time::signature(of, name) else {
        return misfit(format!("{of} has no method {name}"));
    };
    let fits = arguments.len() == takes.len()
        && arguments.iter().zip(&takes).all(|(kind, takes)| {
            kind.is_unknown() || *kind == takes || (kind.is_integer() && takes.is_integer())
        });
    if !fits {
        return misfit(format!("wrong arguments to call {name}"));
    }
    Ok(gives)
}
