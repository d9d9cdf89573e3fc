//! What the builtin functions do. By subject: `lists`, `texts`, `numbers`, `data` (JSON, base64, printing); times
//! are next door in `time`.
//!
//! Which kinds a function may be given has been checked as far as they were known beforehand, so every function
//! still meets any kind here and answers with an error, never with a panic.

pub(super) mod data;
pub(super) mod lists;
mod numbers;
pub(super) mod texts;

use super::builtin::Builtin;
use super::datum::Datum;
use super::error::Fault;
use super::eval::Evaluator;
use super::time;

/// Calls a builtin.
pub(super) fn call(
    evaluator: &mut Evaluator<'_>,
    function: Builtin,
    arguments: &[Datum],
) -> Result<Datum, Fault> {
    let now = evaluator.now;
    let budget = &mut evaluator.budget;
    match function {
        Builtin::Len
        | Builtin::First
        | Builtin::Last
        | Builtin::Take
        | Builtin::Get
        | Builtin::Reverse
        | Builtin::Uniq
        | Builtin::Concat
        | Builtin::Flatten
        | Builtin::Sort
        | Builtin::Join
        | Builtin::Keys
        | Builtin::Values
        | Builtin::ToPairs
        | Builtin::FromPairs => lists::call(function, arguments, budget),
        Builtin::Mean
        | Builtin::Median
        | Builtin::Min
        | Builtin::Max
        | Builtin::Abs
        | Builtin::Ceil
        | Builtin::Floor
        | Builtin::Round
        | Builtin::Int
        | Builtin::Float
        | Builtin::BitAnd
        | Builtin::BitOr
        | Builtin::BitXor
        | Builtin::BitNand
        | Builtin::BitNot
        | Builtin::BitShl
        | Builtin::BitShr
        | Builtin::BitUshr => numbers::call(function, arguments, budget),
        Builtin::Trim
        | Builtin::TrimPrefix
        | Builtin::TrimSuffix
        | Builtin::Upper
        | Builtin::Lower
        | Builtin::Split
        | Builtin::SplitAfter
        | Builtin::Replace
        | Builtin::Repeat
        | Builtin::IndexOf
        | Builtin::LastIndexOf
        | Builtin::HasPrefix
        | Builtin::HasSuffix => texts::call(function, arguments, budget),
        Builtin::String
        | Builtin::Type
        | Builtin::ToJson
        | Builtin::FromJson
        | Builtin::ToBase64
        | Builtin::FromBase64 => data::call(function, arguments, budget),
        Builtin::Now | Builtin::Duration | Builtin::Date | Builtin::Timezone => {
            time::call(function, arguments, now)
        }
    }
}

/// A function was called with kinds that it has no answer for.
fn unsupported(function: Builtin, arguments: &[Datum]) -> Fault {
    let kinds: Vec<_> = arguments.iter().map(Datum::kind).collect();
    Fault::new(format!(
        "invalid arguments for {} ({})",
        function.name(),
        kinds.join(", ")
    ))
}

/// A count as an integer of the language.
fn counted(count: usize) -> Datum {
    Datum::Int(i64::try_from(count).unwrap_or(i64::MAX))
}
