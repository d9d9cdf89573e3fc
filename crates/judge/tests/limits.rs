//! Conditions and values that would harm a careless evaluator end in an answer or an error, quickly and on a small
//! stack.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::thread;

use crossfade_api::words::Value;
use crossfade_judge::condition::Condition;
use jiff::Timestamp;

const TOO_DEEP: &str = "expression is nested too deeply";
const TOO_MANY_NODES: &str = "expression exceeds maximum allowed nodes";
const TOO_MUCH: &str = "memory budget exceeded";
const TOO_LONG: &str = "expression took too long";
const DEEP_VALUE: &str = "value is nested too deeply";

/// Half of what a worker thread of the host has, and that is for code without optimisation.
const STACK: usize = 1 << 20;

/// The outcome on a small stack.
fn outcome_of(text: &str, value: Value) -> Result<bool, String> {
    let text = text.to_owned();
    thread::Builder::new()
        .stack_size(STACK)
        .spawn(move || {
            Condition::parse(&text)
                .and_then(|condition| condition.evaluate(&value, Timestamp::UNIX_EPOCH))
                .map_err(|fault| fault.to_string())
        })
        .unwrap()
        .join()
        .unwrap()
}

fn outcome(text: &str) -> Result<bool, String> {
    outcome_of(text, Value::Float(5.0))
}

fn error(message: &str) -> Result<bool, String> {
    Err(message.to_owned())
}

/// `inside` with `before` and `after` around it so many times.
fn around(before: &str, inside: &str, after: &str, times: usize) -> String {
    format!("{}{inside}{}", before.repeat(times), after.repeat(times))
}

#[test]
fn two_hundred_brackets_are_read_and_no_more() {
    assert_eq!(outcome(&around("(", "result == 5", ")", 200)), Ok(true));
    assert_eq!(
        outcome(&around("(", "result == 5", ")", 201)),
        error(TOO_DEEP)
    );
    assert_eq!(
        outcome(&around("(", "result == 5", ")", 20_000)),
        error(TOO_DEEP)
    );
}

#[test]
fn every_way_to_nest_is_bounded() {
    let ways = [
        ("(", "1", ")"),
        ("[", "1", "]"),
        ("{a: ", "1", "}"),
        ("{(", "\"a\"", "): 1}"),
        ("!", "true", ""),
        ("not ", "true", ""),
        ("-", "1", ""),
        ("+", "1", ""),
        ("- !", "true", ""),
        ("2 ** ", "2", ""),
        ("[1][", "0", "]"),
        ("[1][0:", "1", "]"),
        ("len(", "[]", ")"),
        ("asInt(", "1", ")"),
        ("string(", "1", ")"),
        ("now().Add(", "1", ")"),
        ("all([1], ", "true", ")"),
        ("all([1], {", "true", "})"),
        ("map(", "[1]", ", #)"),
        ("reduce([1], # + #acc, ", "1", ")"),
        ("true ? ", "1", " : 2"),
        ("true ? 1 : ", "2", ""),
        ("if true {", "1", "} else {2}"),
        ("if true {1} else {", "2", "}"),
        ("if true {1} else ", "if true {1} else {2}", ""),
        ("let x = ", "1; x", "; x"),
        ("1; (", "1", ")"),
        ("1 | max(", "1", ")"),
        ("0; let x = 1; ", "x", ""),
        ("1 or 1 and 1 == 1 .. 1 + 1 * 1 ** 1 ?? (", "1", ")"),
        ("\"a\" in [\"a\" not in [", "\"a\"", "]]"),
        ("`", "a", "`"),
        ("\"", "a", "\""),
        ("/*", "1", "*/"),
        ("((((", "1", "))))"),
        ("{{{{", "1", "}}}}"),
        ("a.", "b", ""),
        ("#", "#", "#"),
        ("(1 < ", "2", " < 3)"),
        ("(1, ", "2", ")"),
        ("$env[", "\"result\"", "]"),
        ("result?.[", "0", "]"),
    ];
    for (before, inside, after) in ways {
        for times in [100, 199, 200, 1000, 10_000] {
            let text = around(before, inside, after, times);
            if text.len() <= 65_536 {
                // Any answer will do, as long as there is one.
                let found = outcome(&text);
                assert!(
                    times < 1000 || found.is_err(),
                    "{before}{inside}{after} {times} times: {found:?}"
                );
            }
        }
    }
}

#[test]
fn rows_of_operators_are_not_nesting() {
    let rows = [
        ("result", " + 1", " > 1", 3000),
        ("true", " && true", "", 3000),
        ("false", " or false", " or true", 3000),
        ("true", " == true", "", 3000),
        ("(result", " ?? 1", ") > 4", 3000),
        ("result", " - -1", " > 1", 2000),
        ("result", " | max(1)", " == 5", 3000),
        ("let x = 1; true", " != !true", "", 2000),
        ("1", "; 1", "; true", 3000),
        ("\"a\"", " + \"a\"", " != \"b\"", 3000),
        ("[1, 2, 3]", "[0:3]", " == [1, 2, 3]", 2000),
        ("true ", "\n", "", 60_000),
    ];
    for (first, more, last, times) in rows {
        let text = format!("{first}{}{last}", more.repeat(times));
        assert_eq!(outcome(&text), Ok(true), "{first}{more}… {times} times");
    }
    let mut variables = String::new();
    for index in 0..3000 {
        write!(variables, "let x{index} = {index};").unwrap();
    }
    assert_eq!(outcome(&format!("{variables} x2999 == 2999")), Ok(true));
    let compared = (0..3000).fold(String::new(), |row, number| row + &format!("{number} <"));
    assert_eq!(outcome(&format!("{compared} 3000")), Ok(true));
    let members = format!("result{} == nil", "?.a".repeat(2000));
    assert_eq!(outcome_of(&members, Value::Map([].into())), Ok(true));
}

#[test]
fn long_texts_and_many_nodes_are_refused() {
    let longest = format!("true{}", " ".repeat(65_532));
    assert_eq!(outcome(&longest), Ok(true));
    assert_eq!(
        outcome(&format!("{longest} ")),
        error("expression is longer than 65536 bytes")
    );
    assert_eq!(
        outcome(&"x".repeat(10_000_000)),
        error("expression is longer than 65536 bytes")
    );
    assert_eq!(
        outcome(&format!("[{}]", "1,".repeat(20_000))),
        error(TOO_MANY_NODES)
    );
    assert_eq!(
        outcome(&format!("1{}", "+1".repeat(6_000))),
        error(TOO_MANY_NODES)
    );
}

#[test]
fn what_is_made_is_bounded() {
    let texts = [
        "len(1..1000000) > 0",
        "len(1..2000000000) > 0",
        "len(0..9223372036854775806) > 0",
        "len(repeat(\"x\", 1000000)) > 0",
        "len(repeat(\"x\", 2000000000)) > 0",
        "len(repeat(repeat(\"x\", 1000), 1000)) > 0",
        "len(map(1..1000, 1..1000)) > 0",
        "len(map(1..500000, [#, #])) > 0",
        "len(concat(1..400000, 1..400000)) > 0",
        "filter(1..600000, true) != []",
        "len(reduce(1..100, concat(#acc, #acc), [1])) > 0",
        "len(reverse(1..600000)) > 0",
        "len(split(repeat(\"x\", 900000), \"\")) > 0",
        "len(reduce(1..100, #acc + #acc, \"0123456789\")) > 0",
        "len(reduce(1..100, replace(#acc, \"0\", \"00000000\"), \"0\")) > 0",
        "len(reduce(1..100, join([#acc, #acc], #acc), \"0\")) > 0",
        "len(reduce(1..100, string([#acc, #acc]), \"0\")) > 0",
        "len(reduce(1..100, toJSON([#acc, #acc]), \"0\")) > 0",
        "len(reduce(1..1000, toBase64(#acc), \"0\")) > 0",
        "len(flatten(reduce(1..100, [#acc, #acc], [1]))) > 0",
        "len(toJSON(reduce(1..100, ({\"a\": #acc, \"b\": #acc}), [1]))) > 0",
        "len(map(1..900000, \"x\")) > 0 && len(sortBy(1..900000, #)) > 0",
        "len(keys(groupBy(1..600000, #))) > 0",
    ];
    for text in texts {
        assert_eq!(outcome(text), error(TOO_MUCH), "{text}");
    }
    assert_eq!(outcome("len(1..999000) > 0"), Ok(true));
    assert_eq!(
        outcome("len(result) in 1..5000000000"),
        error("invalid argument for len (type float64)")
            .or(outcome("len(result) in 1..5000000000"))
    );
}

#[test]
fn what_takes_long_is_cut_off() {
    let texts = [
        "all(1..900000, all(1..1, all(1..1, all(1..1, # > 0))))",
        "let l = 1..3000; all(l, {let x = #; all(l, {x > 0})})",
        "let l = 1..100000; len(uniq(l)) > 0",
        "let l = [1.5]; let m = reduce(1..100, [#acc, #acc], l); m == reduce(1..100, [#acc, #acc], l)",
        "let m = reduce(1..100, ({a: #acc, b: #acc}), 1); m == reduce(1..100, ({a: #acc, b: #acc}), 1)",
        "max(reduce(1..100, [#acc, #acc], 1)) > 0",
        "mean(reduce(1..100, [#acc, #acc], 1)) > 0",
        "let s = repeat(\"a\", 900000); all(1..1000, s not contains \"b\")",
        "let s = repeat(\"a\", 900000); all(1..1000, s not matches \"^(a|b|ab)*c\")",
        "all(1..1000, \"a\" not matches (\"x{1,500}\" + string(#)))",
        "all(1..1000000000, true)",
    ];
    for text in texts {
        let found = outcome(text);
        assert!(
            found == error(TOO_LONG) || found == error(TOO_MUCH),
            "{text}: {found:?}"
        );
    }
    // Each operand is used twice: 2 to the power 150.
    let elvis = around("(", "true", " ?: false)", 150);
    assert_eq!(outcome(&elvis), error(TOO_LONG));
}

#[test]
fn values_that_grow_deep_are_refused() {
    let texts = [
        "len(reduce(1..100000, [#acc], [1])) > 0",
        "len(reduce(1..100000, ({a: #acc}), 1)) > 0",
        "len(reduce(1..100000, groupBy([#acc], 1), 1)) > 0",
        "len(reduce(1..100000, fromPairs([[1, #acc]]), 1)) > 0",
        "len(reduce(1..100000, filter([#acc], true), 1)) > 0",
        "len(reduce(1..100000, toPairs({\"a\": #acc}), 1)) > 0",
    ];
    for text in texts {
        assert_eq!(outcome(text), error(DEEP_VALUE), "{text}");
    }
    let json = around("[", "1", "]", 20_000);
    let found = outcome_of("len(fromJSON(result)) == 1", Value::String(json));
    assert!(found.is_err(), "{found:?}");
}

#[test]
fn a_value_that_is_too_deep_is_an_error() {
    let nested = |depth: usize| {
        (0..depth).fold(Value::Float(1.0), |inside, level| {
            if level % 2 == 0 {
                Value::List(vec![inside])
            } else {
                Value::Map([("a".to_owned(), inside)].into())
            }
        })
    };
    assert_eq!(outcome_of("result != nil", nested(250)), Ok(true));
    assert_eq!(outcome_of("result == result", nested(250)), Ok(true));
    assert_eq!(
        outcome_of("len(string(result)) > 250", nested(250)),
        Ok(true)
    );
    assert_eq!(
        outcome_of("len(toJSON(result)) > 250", nested(250)),
        Ok(true)
    );
    assert_eq!(outcome_of("result != nil", nested(400)), error(DEEP_VALUE));
}

#[test]
fn many_numbers_are_walked_in_time() {
    let many = Value::Floats((0..100_000).map(f64::from).collect());
    let text = "all(result, # >= 0 && # < 100000 && !isNaN(#)) && mean(result) > 1 && max(result) > 1 \
                && len(sort(result)) == 100000 && median(result) > 1 && sum(result) > 1";
    assert_eq!(outcome_of(text, many), Ok(true));
}
