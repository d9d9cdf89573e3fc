//! Conditions that nobody would write, many of them: whatever they are, they end in an answer or an error, and the
//! answer obeys the language.
//!
//! Few by default. `CROSSFADE_FUZZ_ROUNDS=5000000 cargo test -p crossfade-judge --test fuzz` runs for minutes; what
//! that found is kept in `reference.rs` and `limits.rs`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod grammar;

use crossfade_api::words::Value;
use crossfade_judge::condition::{Condition, evaluate_time};
use jiff::Timestamp;
use proptest::prelude::*;

use grammar::Choices;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

/// The outcome, which must not come from the last resort.
fn outcome(text: &str, value: &Value) -> Result<bool, String> {
    let found = Condition::parse(text)
        .and_then(|condition| condition.evaluate(value, NOW))
        .map_err(|fault| fault.to_string());
    assert_ne!(
        found,
        Err("internal fault of the evaluator".to_owned()),
        "{text}\non {value:?}"
    );
    found
}

/// Limits depend on how much stands around a condition.
fn is_limit(found: &Result<bool, String>) -> bool {
    [
        "nested too deeply",
        "memory budget",
        "took too long",
        "maximum allowed",
    ]
    .iter()
    .any(|limit| found.as_ref().is_err_and(|error| error.contains(limit)))
}

fn rounds() -> u32 {
    #[expect(
        clippy::disallowed_methods,
        reason = "whoever runs the test says how long"
    )]
    let asked = std::env::var("CROSSFADE_FUZZ_ROUNDS");
    asked.ok().map_or(2_000, |rounds| rounds.parse().unwrap())
}

/// One condition by the rules and its value.
fn made(numbers: &[u16]) -> (String, Value) {
    let mut choices = Choices::new(numbers);
    let value = choices.value();
    (choices.condition(), value)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: rounds(),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn conditions_by_the_rules_have_one_answer(numbers in prop::collection::vec(any::<u16>(), 1..300)) {
        let (text, value) = made(&numbers);
        prop_assert_eq!(outcome(&text, &value), outcome(&text, &value), "{}", text);
    }

    #[test]
    fn brackets_change_nothing_and_not_turns_the_answer(numbers in prop::collection::vec(any::<u16>(), 1..300)) {
        let (text, value) = made(&numbers);
        let found = outcome(&text, &value);
        // A `;` may end only the whole text, and a comment would hide the bracket.
        let text = format!("({}\n)", text.trim_end().trim_end_matches(';'));
        let same = outcome(&text, &value);
        let turned = outcome(&format!("!{text}"), &value);
        if !is_limit(&same) && !is_limit(&turned) {
            prop_assert_eq!(same.clone().ok(), found.ok(), "{}", text);
            prop_assert_eq!(turned.ok(), same.ok().map(|same| !same), "{}", text);
        }
    }

    #[test]
    fn an_answer_stays_the_same_when_it_is_passed_on(numbers in prop::collection::vec(any::<u16>(), 1..300)) {
        let (text, value) = made(&numbers);
        let text = format!("({}\n)", text.trim_end().trim_end_matches(';'));
        let found = outcome(&text, &value);
        for around in [format!("{text} ? true : false"), format!("let y = {text}; y")] {
            let same = outcome(&around, &value);
            if !is_limit(&same) {
                prop_assert_eq!(same.ok(), found.clone().ok(), "{}", around);
            }
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC*", number in any::<f64>()) {
        let _ = outcome(&text, &Value::Float(number));
        let _ = evaluate_time(&text, NOW);
    }
}

/// A cheap source of numbers; the seed is fixed, the rounds are many.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit.max(1)).unwrap()).unwrap()
    }
}

const PIECES: [&str; 66] = [
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ";",
    ":",
    "?",
    "?.",
    "??",
    ".",
    "..",
    "#",
    "#index",
    "#acc",
    "|",
    "||",
    "&&",
    "and",
    "or",
    "not",
    "!",
    "in",
    "matches",
    "contains",
    "let x = 1;",
    "x",
    "if",
    "else",
    "+",
    "-",
    "*",
    "**",
    "/",
    "%",
    "==",
    "!=",
    "<",
    "<=",
    ">",
    ">=",
    "=",
    "nil",
    "1",
    "9223372036854775807",
    "\"",
    "'",
    "`",
    "result",
    "a",
    "len(",
    "all(",
    "reduce(",
    "//",
    "/*",
    "*/",
    "\n",
    "$env",
    "::",
    "\\",
    "\u{e9}",
    "now()",
    "date(",
    "\0",
];

fn mutated(text: &str, noise: &mut Noise) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..=noise.below(4) {
        let at = noise.below(bytes.len() + 1);
        match noise.below(5) {
            0 if at < bytes.len() => bytes[at] = noise.next().to_le_bytes()[0],
            1 if at < bytes.len() => {
                let end = (at + 1 + noise.below(6)).min(bytes.len());
                bytes.drain(at..end);
            }
            2 => {
                let from = noise.below(bytes.len() + 1);
                let end = (from + noise.below(20)).min(bytes.len());
                let copied = bytes[from..end].to_vec();
                bytes.splice(at..at, copied);
            }
            _ => {
                let piece = PIECES[noise.below(PIECES.len())];
                bytes.splice(at..at, piece.bytes());
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn damaged_conditions_do_no_harm() {
    let file: serde_json::Value =
        serde_json::from_str(include_str!("data/conditions.json")).unwrap();
    let seeds: Vec<String> = file["vectors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|vector| vector["expr"].as_str().unwrap().to_owned())
        .collect();
    let mut noise = Noise(0x9E37_79B9_7F4A_7C15);
    // What has been made is made worse later.
    let mut pool = seeds.clone();
    for _ in 0..rounds() * 5 {
        let text = mutated(&pool[noise.below(pool.len())], &mut noise);
        let numbers: Vec<u16> = (0..20)
            .map(|_| noise.next().to_le_bytes()[0].into())
            .collect();
        let value = Choices::new(&numbers).value();
        let _ = outcome(&text, &value);
        let _ = evaluate_time(&text, NOW);
        if pool.len() < seeds.len() + 2_000 {
            pool.push(text);
        } else {
            let place = seeds.len() + noise.below(2_000);
            pool[place] = if text.len() < 2_000 {
                text
            } else {
                seeds[noise.below(seeds.len())].clone()
            };
        }
    }
}
