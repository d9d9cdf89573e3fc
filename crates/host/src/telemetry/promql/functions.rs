//! The table of what is supported: functions, aggregations, operators.
//!
//! A function that is not here is refused by name. The test that compares us with a real
//! Prometheus walks these tables, so nothing can be added without being compared.

use super::{instants, ranges};

/// The type of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number.
    Scalar,
    /// Series with one value at a time.
    Vector,
    /// Series with a window of samples at a time.
    Range,
    /// A text.
    Text,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Scalar => "scalar",
            Self::Vector => "instant vector",
            Self::Range => "range vector",
            Self::Text => "string",
        })
    }
}

/// A supported function.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    /// Its name in a query.
    pub name: &'static str,
    /// Types of its arguments.
    pub args: &'static [Kind],
    /// How many of the last arguments may be left out.
    pub optional: usize,
    /// Whether the last argument may be repeated.
    pub repeats: bool,
    /// The type of its result.
    pub returns: Kind,
    pub(super) body: Body,
}

/// How a function is computed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Body {
    /// Value by value; the metric's name goes.
    Each(fn(f64) -> f64),
    /// Value by value with numbers from further arguments; `None` drops the value.
    EachWith(fn(f64, &[f64]) -> Option<f64>),
    /// Window by window; the metric's name goes.
    Window(fn(&ranges::Window<'_>) -> Option<f64>),
    /// Window by window; the metric's name stays.
    WindowNamed(fn(&ranges::Window<'_>) -> Option<f64>),
    /// Window by window with a number from the first argument.
    WindowWith(fn(f64, &ranges::Window<'_>) -> Option<f64>),
    /// In a way of its own.
    Special(Special),
}

/// Functions that look at more than one value or window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Special {
    Absent,
    AbsentOverTime,
    HistogramQuantile,
    LabelJoin,
    LabelReplace,
    Scalar,
    Sort,
    SortDesc,
    Time,
    Timestamp,
    Vector,
}

const fn function(name: &'static str, args: &'static [Kind], body: Body) -> Function {
    Function {
        name,
        args,
        optional: 0,
        repeats: false,
        returns: Kind::Vector,
        body,
    }
}

const fn each(name: &'static str, of: fn(f64) -> f64) -> Function {
    function(name, &[Kind::Vector], Body::Each(of))
}

const fn window(name: &'static str, of: fn(&ranges::Window<'_>) -> Option<f64>) -> Function {
    function(name, &[Kind::Range], Body::Window(of))
}

const fn special(name: &'static str, args: &'static [Kind], special: Special) -> Function {
    function(name, args, Body::Special(special))
}

/// Every supported function, by name.
pub const FUNCTIONS: &[Function] = &[
    each("abs", f64::abs),
    special("absent", &[Kind::Vector], Special::Absent),
    special("absent_over_time", &[Kind::Range], Special::AbsentOverTime),
    window("avg_over_time", ranges::avg),
    each("ceil", f64::ceil),
    window("changes", ranges::changes),
    function(
        "clamp",
        &[Kind::Vector, Kind::Scalar, Kind::Scalar],
        Body::EachWith(instants::clamp),
    ),
    function(
        "clamp_max",
        &[Kind::Vector, Kind::Scalar],
        Body::EachWith(instants::clamp_max),
    ),
    function(
        "clamp_min",
        &[Kind::Vector, Kind::Scalar],
        Body::EachWith(instants::clamp_min),
    ),
    window("count_over_time", ranges::count),
    window("delta", ranges::delta),
    window("deriv", ranges::deriv),
    each("exp", f64::exp),
    each("floor", f64::floor),
    special(
        "histogram_quantile",
        &[Kind::Scalar, Kind::Vector],
        Special::HistogramQuantile,
    ),
    window("idelta", ranges::idelta),
    window("increase", ranges::increase),
    window("irate", ranges::irate),
    Function {
        optional: 1,
        repeats: true,
        ..special(
            "label_join",
            &[Kind::Vector, Kind::Text, Kind::Text, Kind::Text],
            Special::LabelJoin,
        )
    },
    special(
        "label_replace",
        &[Kind::Vector, Kind::Text, Kind::Text, Kind::Text, Kind::Text],
        Special::LabelReplace,
    ),
    function(
        "last_over_time",
        &[Kind::Range],
        Body::WindowNamed(ranges::last),
    ),
    each("ln", f64::ln),
    each("log10", f64::log10),
    each("log2", f64::log2),
    window("max_over_time", ranges::max),
    window("min_over_time", ranges::min),
    window("present_over_time", ranges::present),
    function(
        "quantile_over_time",
        &[Kind::Scalar, Kind::Range],
        Body::WindowWith(ranges::quantile),
    ),
    window("rate", ranges::rate),
    window("resets", ranges::resets),
    Function {
        optional: 1,
        ..function(
            "round",
            &[Kind::Vector, Kind::Scalar],
            Body::EachWith(instants::round),
        )
    },
    Function {
        returns: Kind::Scalar,
        ..special("scalar", &[Kind::Vector], Special::Scalar)
    },
    each("sgn", instants::sgn),
    special("sort", &[Kind::Vector], Special::Sort),
    special("sort_desc", &[Kind::Vector], Special::SortDesc),
    each("sqrt", f64::sqrt),
    window("stddev_over_time", ranges::stddev),
    window("stdvar_over_time", ranges::stdvar),
    window("sum_over_time", ranges::sum),
    Function {
        returns: Kind::Scalar,
        ..special("time", &[], Special::Time)
    },
    special("timestamp", &[Kind::Vector], Special::Timestamp),
    special("vector", &[Kind::Scalar], Special::Vector),
];

/// The supported function of this name.
pub(super) fn function_named(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|function| function.name == name)
}

/// How the values of a group become one, or which of them stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aggregation {
    Avg,
    BottomK,
    Count,
    Group,
    Max,
    Min,
    Quantile,
    Stddev,
    Stdvar,
    Sum,
    TopK,
}

const AGGREGATION_TABLE: [(&str, Aggregation); 11] = [
    ("avg", Aggregation::Avg),
    ("bottomk", Aggregation::BottomK),
    ("count", Aggregation::Count),
    ("group", Aggregation::Group),
    ("max", Aggregation::Max),
    ("min", Aggregation::Min),
    ("quantile", Aggregation::Quantile),
    ("stddev", Aggregation::Stddev),
    ("stdvar", Aggregation::Stdvar),
    ("sum", Aggregation::Sum),
    ("topk", Aggregation::TopK),
];

/// Names of the supported aggregations.
pub const AGGREGATIONS: [&str; AGGREGATION_TABLE.len()] = names(AGGREGATION_TABLE);

/// The supported aggregation of this name.
pub(super) fn aggregation_named(name: &str) -> Option<Aggregation> {
    AGGREGATION_TABLE
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, aggregation)| *aggregation)
}

/// What a binary operator does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    And,
    Or,
    Unless,
}

const OPERATOR_TABLE: [(&str, Operator); 15] = [
    ("+", Operator::Add),
    ("-", Operator::Sub),
    ("*", Operator::Mul),
    ("/", Operator::Div),
    ("%", Operator::Mod),
    ("^", Operator::Pow),
    ("==", Operator::Equal),
    ("!=", Operator::NotEqual),
    ("<", Operator::Less),
    ("<=", Operator::LessOrEqual),
    (">", Operator::Greater),
    (">=", Operator::GreaterOrEqual),
    ("and", Operator::And),
    ("or", Operator::Or),
    ("unless", Operator::Unless),
];

/// The supported binary operators as they are written.
pub const OPERATORS: [&str; OPERATOR_TABLE.len()] = names(OPERATOR_TABLE);

/// The supported operator that is written so.
pub(super) fn operator_written(text: &str) -> Option<Operator> {
    OPERATOR_TABLE
        .iter()
        .find(|(known, _)| *known == text)
        .map(|(_, operator)| *operator)
}

impl Operator {
    pub(super) fn is_comparison(self) -> bool {
        matches!(
            self,
            Self::Equal
                | Self::NotEqual
                | Self::Less
                | Self::LessOrEqual
                | Self::Greater
                | Self::GreaterOrEqual
        )
    }

    pub(super) fn is_set(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }
}

const fn names<T: Copy, const N: usize>(table: [(&'static str, T); N]) -> [&'static str; N] {
    let mut names = [""; N];
    let mut at = 0;
    while at < N {
        names[at] = table[at].0;
        at += 1;
    }
    names
}
