//! Conditions and values made up by the rules of the language: mostly sensible, sometimes not.
//!
//! Everything is decided by a list of numbers ([`Choices`]), so that a tool that varies and shrinks lists varies
//! and shrinks conditions.

use crossfade_api::words::Value;

/// Numbers that decide. When they are used up, the first and simplest of all alternatives is taken.
pub(crate) struct Choices<'a> {
    numbers: &'a [u16],
    at: usize,
    /// Predicates around this place.
    predicates: usize,
    variables: usize,
}

impl<'a> Choices<'a> {
    pub(crate) fn new(numbers: &'a [u16]) -> Self {
        Self {
            numbers,
            at: 0,
            predicates: 0,
            variables: 0,
        }
    }

    fn pick(&mut self, alternatives: usize) -> usize {
        let number = self.numbers.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        usize::from(number) % alternatives
    }

    fn one_of(&mut self, texts: &[&str]) -> String {
        texts[self.pick(texts.len())].to_owned()
    }

    /// A value such as a provider may give.
    pub(crate) fn value(&mut self) -> Value {
        self.value_within(3)
    }

    fn value_within(&mut self, depth: usize) -> Value {
        let leaf = depth == 0;
        match self.pick(if leaf { 6 } else { 10 }) {
            0 => Value::Float(self.float()),
            1 => Value::Bool(self.pick(2) == 1),
            2 => Value::Nil,
            3 => Value::String(
                self.one_of(&["", "ok", "5", "é", "a.b", "1e3", "NaN", "true", " x "]),
            ),
            4 => Value::Float(self.float()),
            5 => Value::Int(self.int()),
            6 => {
                let count = self.pick(4);
                Value::Floats((0..count).map(|_| self.float()).collect())
            }
            7 => {
                let count = self.pick(4);
                Value::List((0..count).map(|_| self.value_within(depth - 1)).collect())
            }
            _ => {
                let count = self.pick(4);
                Value::Map(
                    (0..count)
                        .map(|_| (self.key(), self.value_within(depth - 1)))
                        .collect(),
                )
            }
        }
    }

    fn float(&mut self) -> f64 {
        let all = [
            1.0,
            0.0,
            2.0,
            0.5,
            -1.0,
            0.95,
            5.0,
            1e21,
            -0.0,
            1e-7,
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            9_007_199_254_740_993.0,
        ];
        all[self.pick(all.len())]
    }

    fn int(&mut self) -> i64 {
        let all = [1, 0, 2, -1, 5, 10, i64::MAX, i64::MIN];
        all[self.pick(all.len())]
    }

    fn key(&mut self) -> String {
        self.one_of(&["a", "b", "s", "l", "a b", ""])
    }

    /// A condition.
    pub(crate) fn condition(&mut self) -> String {
        let depth = 1 + self.pick(5);
        let text = self.truth(depth);
        match self.pick(12) {
            1 => format!(" {text}; "),
            2 => format!("{text} // {text}"),
            3 => format!("/* {text} */\n{text}"),
            4 => format!("1; {text}"),
            _ => text,
        }
    }

    /// An expression of any kind, now and then of another kind than would fit.
    fn some(&mut self, kind: usize, depth: usize) -> String {
        let kind = if self.pick(24) == 1 {
            self.pick(6)
        } else {
            kind
        };
        if depth == 0 {
            return self.leaf(kind);
        }
        match kind {
            0 => self.truth(depth - 1),
            1 => self.number(depth - 1),
            2 => self.text(depth - 1),
            3 => self.list(depth - 1),
            4 => self.map(depth - 1),
            _ => self.any(depth - 1),
        }
    }

    fn leaf(&mut self, kind: usize) -> String {
        if self.predicates > 0 && self.pick(3) == 1 {
            return self.one_of(&["#", ".a", "#.s", "#[0]", "#index", "#acc", "#?.a"]);
        }
        if self.variables > 0 && self.pick(6) == 1 {
            return format!("v{}", self.pick(self.variables));
        }
        match kind {
            0 => self.one_of(&["true", "false", "result", "result.a"]),
            1 => self.one_of(&[
                "1",
                "result",
                "0",
                "2.5",
                "-1",
                "5",
                "0x10",
                "1e3",
                ".5",
                "result[0]",
                "result.a",
                "3",
                "100",
                "9223372036854775807",
            ]),
            2 => self.one_of(&[
                "\"ok\"", "'5'", "`a.b`", "\"\"", "result", "result.s", "'é'", "\"a,b\"",
                "'\\x41'", "'a'",
            ]),
            3 => self.one_of(&[
                "result",
                "[1, 2]",
                "[]",
                "result.l",
                "['a', 'b']",
                "1..3",
                "[nil, 1.5]",
                "b\"ab\"",
            ]),
            4 => self.one_of(&["result", "{}", "{a: 1}", "{\"s\": 'x', l: [1]}", "$env"]),
            _ => self.one_of(&[
                "result",
                "nil",
                "result.a",
                "result[-1]",
                "result?.b",
                "result.missing",
                "result[\"a b\"]",
                "nope",
                "result.a?.b.s",
                "asInt",
                "$env.result",
            ]),
        }
    }

    fn predicate(&mut self, kind: usize, depth: usize) -> String {
        self.predicates += 1;
        let body = self.some(kind, depth);
        self.predicates -= 1;
        if self.pick(3) == 1 {
            format!("{{{body}}}")
        } else {
            body
        }
    }

    fn with_variable(&mut self, kind: usize, depth: usize) -> String {
        let value_kind = self.pick(6);
        let value = self.some(value_kind, depth);
        let name = self.variables;
        self.variables += 1;
        let body = self.some(kind, depth);
        self.variables -= 1;
        format!("(let v{name} = {value}; {body})")
    }

    /// What any kind may be wrapped in.
    fn wrapped(&mut self, kind: usize, depth: usize) -> String {
        match self.pick(7) {
            0 => {
                let inside = self.some(kind, depth);
                format!("({inside})")
            }
            1 => {
                let (condition, yes, no) = (
                    self.some(0, depth),
                    self.some(kind, depth),
                    self.some(kind, depth),
                );
                format!("({condition} ? {yes} : {no})")
            }
            2 => {
                let (left, right) = (self.some(5, depth), self.some(kind, depth));
                format!("({left} ?? {right})")
            }
            3 => self.with_variable(kind, depth),
            4 => {
                let (condition, yes, no) = (
                    self.some(0, depth),
                    self.some(kind, depth),
                    self.some(kind, depth),
                );
                format!("(if {condition} {{{yes}}} else {{{no}}})")
            }
            5 => {
                let list = self.some(3, depth);
                self.one_of(&["first(#)", "last(#)", "#[0]", "#[1]", "#[-1]", "get(#, 1)"])
                    .replace('#', &format!("({list})"))
            }
            _ => {
                let fallback = self.some(kind, depth);
                format!("default(result, {fallback})")
            }
        }
    }

    fn infix(&mut self, kinds: (usize, usize), operators: &[&str], depth: usize) -> String {
        let left = self.some(kinds.0, depth);
        let operator = self.one_of(operators);
        let right = self.some(kinds.1, depth);
        if self.pick(3) == 1 {
            format!("({left}) {operator} ({right})")
        } else {
            format!("{left} {operator} {right}")
        }
    }

    fn call(&mut self, names: &[&str], kinds: &[usize], depth: usize) -> String {
        let name = self.one_of(names);
        let mut arguments: Vec<String> = kinds.iter().map(|kind| self.some(*kind, depth)).collect();
        if self.pick(40) == 1 {
            arguments.pop();
        }
        if self.pick(8) == 1 && !arguments.is_empty() {
            let first = arguments.remove(0);
            return format!("(({first}) | {name}({}))", arguments.join(", "));
        }
        format!("{name}({})", arguments.join(", "))
    }

    fn walk(&mut self, names: &[&str], body: usize, depth: usize) -> String {
        let name = self.one_of(names);
        let list = self.some(3, depth);
        let body = self.predicate(body, depth);
        format!("{name}({list}, {body})")
    }

    fn truth(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.leaf(0);
        }
        let depth = depth - 1;
        match self.pick(19) {
            0 => self.infix((1, 1), &["<", "<=", ">", ">=", "==", "!="], depth),
            1 => self.infix((0, 0), &["&&", "||", "and", "or", "==", "!="], depth),
            2 => {
                let inside = self.some(0, depth);
                let not = self.one_of(&["!", "not ", "!!", "not not "]);
                format!("{not}({inside})")
            }
            3 => self.infix(
                (2, 2),
                &[
                    "==",
                    "!=",
                    "<",
                    "contains",
                    "startsWith",
                    "endsWith",
                    "not contains",
                    "matches",
                ],
                depth,
            ),
            4 => self.infix((5, 3), &["in", "not in"], depth),
            5 => self.infix((2, 4), &["in", "not in"], depth),
            6 => self.walk(&["all", "any", "none", "one"], 0, depth),
            7 => self.call(&["isNaN", "isInf"], &[1], depth),
            8 => self.call(&["isNil"], &[5], depth),
            9 => self.infix((5, 5), &["==", "!=", "<", ">="], depth),
            10 => self.infix((3, 3), &["==", "!="], depth),
            11 => self.infix((4, 4), &["==", "!="], depth),
            12 => {
                let (low, middle, high) = (
                    self.some(1, depth),
                    self.some(1, depth),
                    self.some(1, depth),
                );
                format!("{low} < {middle} <= {high}")
            }
            13 => self.call(&["hasPrefix", "hasSuffix"], &[2, 2], depth),
            14 => {
                let count = self.walk(&["count"], 0, depth);
                let operator = self.one_of(&[">", ">=", "<", "<=", "=="]);
                let number = self.one_of(&["0", "1", "2"]);
                format!("{count} {operator} {number}")
            }
            15 => {
                let text = self.some(2, depth);
                let pattern = self.pattern();
                format!("{text} matches {pattern}")
            }
            16 => self.infix((5, 5), &["&&", "||"], depth),
            17 => {
                let left = self.some(0, depth);
                let operator = self.one_of(&["&&", "||"]);
                let right = self.one_of(&["true", "false", "!true", "1 == 1"]);
                format!("{left} {operator} {right}")
            }
            _ => self.wrapped(0, depth),
        }
    }

    /// A regular expression as a text.
    fn pattern(&mut self) -> String {
        let count = 1 + self.pick(5);
        let mut pattern = String::new();
        for _ in 0..count {
            pattern += &self.one_of(&[
                "a",
                ".",
                "\\d",
                "\\w*",
                "[a-z]+",
                "^",
                "$",
                "(o|k)",
                "\\s?",
                "[^x]",
                "\\.",
                "é",
                "{2}",
                "*",
                "+?",
                "(?i)",
                "|",
                "\\b",
                "[[:alpha:]]",
                "\\pL",
                "(",
                ")",
                "[",
                "&&",
                "\\x41",
                "\\Qa.b\\E",
                "{,3}",
                "[\\W]",
                "(?P<n>b)",
                "\\B",
            ]);
        }
        format!("`{pattern}`")
    }

    fn number(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.leaf(1);
        }
        let depth = depth - 1;
        match self.pick(15) {
            0 => self.infix((1, 1), &["+", "-", "*", "/", "%", "**"], depth),
            1 => self.call(
                &[
                    "abs", "ceil", "floor", "round", "int", "float", "asInt", "asFloat",
                ],
                &[1],
                depth,
            ),
            2 => {
                let kind = 2 + self.pick(3);
                self.call(&["len"], &[kind], depth)
            }
            3 => self.call(&["sum", "max", "min", "mean", "median"], &[3], depth),
            4 => self.walk(
                &[
                    "sum",
                    "count",
                    "findIndex",
                    "findLastIndex",
                    "find",
                    "findLast",
                ],
                0,
                depth,
            ),
            5 => self.walk(&["sum"], 1, depth),
            6 => self.walk(&["reduce"], 1, depth),
            7 => self.call(&["max", "min", "mean"], &[1, 1], depth),
            8 => self.call(&["indexOf", "lastIndexOf"], &[2, 2], depth),
            9 => self.call(
                &[
                    "bitand", "bitor", "bitxor", "bitnand", "bitshl", "bitshr", "bitushr",
                ],
                &[1, 1],
                depth,
            ),
            10 => self.call(&["int", "float", "asInt", "asFloat"], &[2], depth),
            11 => {
                let (list, body, start) = (
                    self.some(3, depth),
                    self.predicate(1, depth),
                    self.some(1, depth),
                );
                format!("reduce({list}, {body} + #acc, {start})")
            }
            12 => {
                let inside = self.some(1, depth);
                format!("-{inside}")
            }
            13 => {
                let (one, two, three) = (
                    self.some(1, depth),
                    self.some(1, depth),
                    self.some(1, depth),
                );
                format!("sum([{one}, {two}, {three}])")
            }
            _ => self.wrapped(1, depth),
        }
    }

    fn text(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.leaf(2);
        }
        let depth = depth - 1;
        match self.pick(10) {
            0 => self.infix((2, 2), &["+"], depth),
            1 => self.call(
                &[
                    "upper",
                    "lower",
                    "trim",
                    "trimPrefix",
                    "trimSuffix",
                    "toBase64",
                    "fromBase64",
                ],
                &[2],
                depth,
            ),
            2 => self.call(&["string", "type", "toJSON"], &[5], depth),
            3 => self.call(&["string", "toJSON"], &[1], depth),
            4 => self.call(&["trim", "trimPrefix", "trimSuffix"], &[2, 2], depth),
            5 => self.call(&["replace"], &[2, 2, 2], depth),
            6 => self.call(&["repeat"], &[2, 1], depth),
            7 => {
                let list = self.some(3, depth);
                format!("join({list}, \",\")")
            }
            8 => {
                let text = self.some(2, depth);
                self.one_of(&["#[0:1]", "#[1:]", "#[:1]", "#[-1:]"])
                    .replace('#', &format!("({text})"))
            }
            _ => self.wrapped(2, depth),
        }
    }

    fn list(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.leaf(3);
        }
        let depth = depth - 1;
        match self.pick(15) {
            0 => {
                let kind = self.pick(6);
                let count = self.pick(4);
                let items: Vec<String> = (0..count).map(|_| self.some(kind, depth)).collect();
                format!("[{}]", items.join(", "))
            }
            1 => self.walk(&["filter"], 0, depth),
            2 => {
                let kind = self.pick(6);
                self.walk(&["map"], kind, depth)
            }
            3 => self.call(&["reverse", "uniq", "flatten", "sort"], &[3], depth),
            4 => self.call(&["concat"], &[3, 3], depth),
            5 => self.call(&["take"], &[3, 1], depth),
            6 => {
                let (from, to) = (self.some(1, depth), self.some(1, depth));
                format!("({from}..{to})")
            }
            7 => {
                let list = self.some(3, depth);
                self.one_of(&["#[0:1]", "#[1:]", "#[:2]", "#[-1:]"])
                    .replace('#', &format!("({list})"))
            }
            8 => self.call(&["split", "splitAfter"], &[2, 2], depth),
            9 => self.walk(&["sortBy"], 1, depth),
            10 => {
                let (list, body) = (self.some(3, depth), self.predicate(5, depth));
                let order = self.one_of(&["\"desc\"", "\"asc\"", "\"up\""]);
                format!("sortBy({list}, {body}, {order})")
            }
            11 => self.call(&["keys", "values", "toPairs"], &[4], depth),
            12 => {
                let kinds = (self.pick(6), self.pick(6));
                let (one, two) = (self.some(kinds.0, depth), self.some(kinds.1, depth));
                format!("[{one}, {two}]")
            }
            13 => {
                let list = self.walk(&["groupBy"], 5, depth);
                let key = self.some(5, depth);
                format!("{list}[{key}]")
            }
            _ => self.wrapped(3, depth),
        }
    }

    fn map(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.leaf(4);
        }
        let depth = depth - 1;
        match self.pick(6) {
            0 => {
                let kinds = (self.pick(6), self.pick(6));
                let (one, two) = (self.some(kinds.0, depth), self.some(kinds.1, depth));
                format!("{{a: {one}, \"b\": {two},}}")
            }
            1 => {
                let (key, value) = (self.some(2, depth), self.some(5, depth));
                format!("{{({key}): {value}}}")
            }
            2 => self.walk(&["groupBy"], 5, depth),
            3 => {
                let (key, value) = (self.some(5, depth), self.some(5, depth));
                format!("fromPairs([[{key}, {value}]])")
            }
            4 => self.call(&["fromJSON"], &[2], depth),
            _ => self.wrapped(4, depth),
        }
    }

    fn any(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.leaf(5);
        }
        let depth = depth - 1;
        match self.pick(9) {
            0 => {
                let base = self.some(4, depth);
                self.one_of(&[
                    "(#).a",
                    "(#)?.a",
                    "(#)?.a.b",
                    "(#)[\"a\"]",
                    "(#)?.[\"b\"]",
                    "(#).a?.b.c",
                    "(#)?.a()",
                ])
                .replace('#', &base)
            }
            1 => {
                let kind = self.pick(5);
                self.some(kind, depth)
            }
            2 => self.walk(&["find", "findLast"], 0, depth),
            3 => self.call(&["get"], &[5, 5], depth),
            4 => {
                let list = self.walk(&["filter"], 0, depth);
                self.one_of(&["#[0]", "#[-1]", "first(#)", "last(#)", "len(#)"])
                    .replace('#', &list)
            }
            5 => {
                let (base, key) = (self.some(3, depth), self.some(1, depth));
                format!("({base})[{key}]")
            }
            6 => self.call(&["fromJSON"], &[2], depth),
            7 => {
                let (base, key) = (self.some(4, depth), self.some(5, depth));
                format!("({base})[{key}]")
            }
            _ => self.wrapped(5, depth),
        }
    }
}
