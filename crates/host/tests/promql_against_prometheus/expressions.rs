//! Expressions made from the tables of what is supported.

use crossfade_host::telemetry::promql::{AGGREGATIONS, FUNCTIONS, Function, Kind, OPERATORS};

use super::samples::AT_SECONDS;

/// How many expressions are enough where all combinations would be many.
const SOME: usize = 30;

/// One expression to compare.
pub(crate) struct Case {
    /// The function, aggregation or operator it is made for; `selector` for selectors.
    pub(crate) of: &'static str,
    pub(crate) query: String,
    /// Whether the order of an instant answer matters.
    pub(crate) ordered: bool,
    /// Whether Prometheus 2.42 is wrong over time: it takes the parameter of a quantile to be as
    /// constant as what it is applied to, which `@` makes so.
    pub(crate) wrong_over_time: bool,
}

impl Case {
    fn new(of: &'static str, query: String) -> Self {
        let ordered = matches!(of, "sort" | "sort_desc" | "topk" | "bottomk");
        let wrong_over_time = matches!(of, "quantile" | "quantile_over_time")
            && query.contains("scalar(")
            && query.contains('@');
        Self {
            of,
            query,
            ordered,
            wrong_over_time,
        }
    }
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = selectors();
    for function in FUNCTIONS {
        cases.extend(
            calls(function)
                .into_iter()
                .map(|query| Case::new(function.name, query)),
        );
    }
    for name in AGGREGATIONS {
        cases.extend(
            some(aggregations(name))
                .into_iter()
                .map(|query| Case::new(name, query)),
        );
    }
    for operator in OPERATORS {
        let all = operations(operator);
        // How series find each other is the same for all of a kind: one of each kind has it all.
        let first_of_its_kind = matches!(operator, "+" | "==" | "and" | "or" | "unless");
        let chosen = if first_of_its_kind { all } else { some(all) };
        cases.extend(chosen.into_iter().map(|query| Case::new(operator, query)));
    }
    cases
}

/// About [`SOME`] of many queries, always the same ones and in no pattern.
fn some(queries: Vec<String>) -> Vec<String> {
    let every = (queries.len() / SOME).max(1) as u64;
    let digest = |text: &str| {
        text.bytes().fold(7u64, |sum, byte| {
            (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        })
    };
    queries
        .into_iter()
        .filter(|query| (digest(query) >> 16).is_multiple_of(every))
        .collect()
}

/// Instant vectors with all that can be in one.
fn vectors() -> Vec<String> {
    [
        "http_requests_total",
        "temperature",
        "temperature{room!=\"void\"} offset 3m",
        "http_requests_total{status=~\"5..\",pod!~\"c\"}",
        "request_seconds_bucket{le=\"0.5\"}",
        "level",
        "rate(http_requests_total[2m])",
        "-temperature",
        "sum by (service) (http_requests_total)",
        "nothing_here",
        "ended_total",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain([format!("http_requests_total @ {AT_SECONDS}")])
    .collect()
}

/// Range vectors: counters and gauges, short and long windows, shifts, sub-queries.
fn ranges() -> Vec<String> {
    [
        "http_requests_total[5m]",
        "http_requests_total[1m]",
        "http_requests_total[33s]",
        "temperature[4m]",
        "temperature{room=\"hall\"}[30m]",
        "lonely_total[5m]",
        "pair_total[4m]",
        "falling_total[10m]",
        "ended_total[3m]",
        "http_requests_total{service=\"web\"}[2m] offset 4m",
        "http_requests_total{service=\"web\"}[2m] offset -90s",
        "rate(http_requests_total[1m])[5m:30s]",
        "temperature[7m:]",
        "level[6m:45s] offset 20s",
        "nothing_here[5m]",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain([
        format!("http_requests_total[5m] @ {AT_SECONDS}"),
        format!("temperature[5m:1m] @ {AT_SECONDS} offset 1m"),
        "http_requests_total[5m] @ end()".to_owned(),
        "max_over_time(level[3m:15s] @ start())[4m:1m]".to_owned(),
    ])
    .collect()
}

/// Instant vectors that are worth it in combinations.
fn few_vectors() -> [&'static str; 4] {
    [
        "http_requests_total",
        "temperature",
        "level",
        "increase(http_requests_total[3m])",
    ]
}

const SCALARS: [&str; 8] = ["0.5", "0", "1", "-1", "2.5", "NaN", "scalar(level)", "Inf"];

/// What no version takes for a query.
const NOT_QUERIES: [&str; 38] = [
    "",
    "sum(",
    "sum)",
    "level level",
    "level[",
    "level[]",
    "level[5x]",
    "level[5m",
    "level[0s]",
    "level[-5m]",
    "(level)[5m]",
    "level offset 5m[1m]",
    "level[5m][5m]",
    "1[5m]",
    "level offset",
    "level offset 1m offset 2m",
    "1 offset 5m",
    "level @ level",
    "{}",
    "{room=~\".*\"}",
    "{room=\"\"}",
    "level{room}",
    "level{room=}",
    "level{room=hall}",
    "level{__name__=\"x\"}",
    "level{room=~\"(\"}",
    "\"not closed",
    "rate(level)",
    "rate(level[5m], 1)",
    "rate()",
    "abs(level[5m])",
    "no_such_function(level)",
    "1 > 2",
    "1 and level",
    "level and on (k) group_left level",
    "level + bool level",
    "\"a\" + 1",
    "level[5m] + 1",
];

fn selectors() -> Vec<Case> {
    let mut queries: Vec<String> = [
        "{__name__=\"level\"}",
        "{__name__=~\"twin_.\"}",
        "{__name__!~\"http.*|temp.*|.*bucket|odd.*\",__name__!=\"level\"}",
        "http_requests_total{pod=\"a\"}",
        "http_requests_total{pod!=\"a\"}",
        "http_requests_total{pod=~\"a|b\"}",
        "http_requests_total{pod=~\"\"}",
        "http_requests_total{pod=~\".*\"}",
        "http_requests_total{pod!~\"a|b\"}",
        "http_requests_total{missing=\"\"}",
        "http_requests_total{missing!=\"\"}",
        "http_requests_total{status=~\"5.\"}",
        "http_requests_total{status=~\"^5..$\"}",
        "temperature{odd=~\"x.*\"}",
        "temperature{odd=\"x\\n\u{e9}\"}",
        "{room=~\".+\",unit=\"c\"}",
        "http_requests_total[1m]",
        "http_requests_total[1m:20s]",
        "temperature[90s] offset 2m",
        "ended_total[5m]",
        "level offset 10m",
        "level offset -10m",
        "level @ start()",
        "level @ end() offset 1m",
        "1",
        "\"text\"",
        "-1e-7",
        "0x1f",
        "1e21 + 1",
        "(((level)))",
        "+level",
        "--level",
        "- 2 ^ 2",
        "2 ^ 3 ^ 2",
        "-{__name__=~\"twin_.\"}",
        "-{__name__=~\"early|late\"}",
        "http_requests_total{pod=\"a\",}",
        "# only a comment\nlevel # and one after",
    ]
    .map(str::to_owned)
    .into();
    queries.extend(vectors());
    queries.extend(ranges());
    queries.extend(NOT_QUERIES.map(str::to_owned));
    queries
        .into_iter()
        .map(|query| Case::new("selector", query))
        .collect()
}

fn calls(function: &Function) -> Vec<String> {
    let name = function.name;
    match name {
        "label_replace" => return label_replacements(),
        "label_join" => return label_joins(),
        "histogram_quantile" => return quantiles(),
        _ => {}
    }
    let mut queries = Vec::new();
    // All combinations of what the arguments can be.
    let mut lists: Vec<Vec<String>> = vec![Vec::new()];
    for (at, kind) in function.args.iter().enumerate() {
        if at >= function.args.len() - function.optional {
            queries.extend(
                lists
                    .iter()
                    .map(|args| format!("{name}({})", args.join(", "))),
            );
        }
        let values: Vec<String> = match kind {
            Kind::Vector => vectors(),
            Kind::Range => ranges(),
            Kind::Scalar => SCALARS.map(str::to_owned).to_vec(),
            Kind::Text => panic!("{name} takes a text: write its cases by hand"),
        };
        lists = lists
            .iter()
            .flat_map(|args| {
                values
                    .iter()
                    .map(|value| [args.as_slice(), std::slice::from_ref(value)].concat())
            })
            .collect();
    }
    queries.extend(
        lists
            .iter()
            .map(|args| format!("{name}({})", args.join(", "))),
    );
    let mut queries = some(queries);
    match name {
        "absent" | "absent_over_time" => {
            let window = if name == "absent" { "" } else { "[1m]" };
            for selector in [
                "missing{a=\"1\",b=\"2\"}",
                "missing{a=\"1\",a=\"2\",b=\"3\"}",
                "missing{a=~\"1\",b!=\"2\",c=\"3\"}",
                "({a=\"1\",__name__=\"missing\"})",
                "ended_total{pod=\"z\"}",
                "early{x=\"1\"}",
            ] {
                let in_brackets = selector.starts_with('(');
                if window.is_empty() || !in_brackets {
                    queries.push(format!("{name}({selector}{window})"));
                }
            }
            if name == "absent" {
                queries.push("absent(sum(missing{a=\"1\"}))".to_owned());
            } else {
                queries.push("absent_over_time(missing{a=\"1\"}[1m:10s])".to_owned());
            }
        }
        "timestamp" => {
            queries.extend(["timestamp((level))", "timestamp(level offset 1m)"].map(str::to_owned));
        }
        "rate" | "last_over_time" => {
            queries.push(format!("{name}({{__name__=~\"twin_.\"}}[5m])"));
            queries.push(format!("{name}({{__name__=~\"early|late\"}}[5m])"));
        }
        "abs" | "round" => {
            queries.push(format!("{name}({{__name__=~\"twin_.\"}})"));
            queries.push(format!("{name}({{__name__=~\"early|late\"}})"));
        }
        "quantile_over_time" => {
            queries.push("quantile_over_time(scalar(level) / 4, temperature[5m])".to_owned());
        }
        _ => {}
    }
    queries
}

fn label_replacements() -> Vec<String> {
    let mut queries = Vec::new();
    for (target, template, source, pattern) in [
        ("new", "$1", "pod", "(.*)"),
        ("new", "x-${1}-$1y-$$", "pod", "(a|b)"),
        ("new", "${name}", "pod", "(?P<name>.)"),
        ("pod", "", "pod", "a"),
        ("pod", "same", "pod", ".*"),
        ("new", "n", "missing", ""),
        ("new", "n", "missing", ".+"),
        ("__name__", "other", "pod", ".*"),
        ("new", "$2", "status", "(.)"),
        ("not-a-label", "x", "pod", ".*"),
        ("new", "x", "pod", "("),
        ("new", "$1", "service", "w"),
    ] {
        for vector in ["http_requests_total", "sum by (pod) (http_requests_total)"] {
            queries.push(format!(
                "label_replace({vector}, {target:?}, {template:?}, {source:?}, {pattern:?})"
            ));
        }
    }
    queries
}

fn label_joins() -> Vec<String> {
    [
        "\"new\", \"-\", \"pod\", \"status\"",
        "\"new\", \"\", \"pod\", \"missing\", \"service\"",
        "\"pod\", \",\", \"missing\"",
        "\"new\", \"-\"",
        "\"__name__\", \"_\", \"__name__\", \"pod\", \"status\"",
        "\"service\", \"-\", \"service\", \"service\"",
        "\"a b\", \"-\", \"pod\"",
        "\"new\", \"-\", \"a b\"",
        "\"status\", \"\", \"pod\"",
    ]
    .iter()
    .flat_map(|rest| {
        [
            "http_requests_total",
            "sum by (pod, status) (http_requests_total)",
        ]
        .map(|vector| format!("label_join({vector}, {rest})"))
    })
    .collect()
}

fn quantiles() -> Vec<String> {
    let buckets = [
        "request_seconds_bucket",
        "rate(request_seconds_bucket[5m])",
        "sum by (le) (rate(request_seconds_bucket[5m]))",
        "sum by (le, pod) (increase(request_seconds_bucket{service=\"web\"}[90s]))",
        "odd_bucket",
        "{__name__=~\"odd_bucket|request_seconds_bucket\"}",
        "level",
        "nothing_here",
    ];
    SCALARS
        .iter()
        .chain(&["0.99", "0.9", "0.25", "time() / 2e9"])
        .flat_map(|q| buckets.map(|buckets| format!("histogram_quantile({q}, {buckets})")))
        .collect()
}

fn aggregations(name: &str) -> Vec<String> {
    let params: &[&str] = match name {
        "topk" | "bottomk" => &["1", "2", "100", "0", "-1", "NaN", "scalar(level)", "1.9"],
        "quantile" => &SCALARS,
        _ => &[""],
    };
    let mut queries = Vec::new();
    for param in params {
        // Of equal values any may be among the first k, so there the values must differ.
        let distinct = [
            "cpu_usage",
            "temperature{room=~\"hall|attic|cellar|void\"}",
            "nothing_here",
        ]
        .map(str::to_owned);
        let of = if matches!(name, "topk" | "bottomk") {
            distinct.to_vec()
        } else {
            vectors()
        };
        for vector in of {
            for grouping in [
                "",
                "by (service, room, instance)",
                "without (pod, cpu)",
                "by (missing)",
                "by (__name__)",
                "without ()",
            ] {
                let comma = if param.is_empty() { "" } else { ", " };
                queries.push(format!("{name} {grouping} ({param}{comma}{vector})"));
            }
        }
    }
    queries.push(if params == [""] {
        format!("{name}(level) by (k,)")
    } else {
        format!("{name}(1, level) by (k,)")
    });
    queries
}

fn operations(operator: &str) -> Vec<String> {
    let set = matches!(operator, "and" | "or" | "unless");
    let comparison = matches!(operator, "==" | "!=" | "<" | "<=" | ">" | ">=");
    let mut queries = Vec::new();
    let mut forms = vec![operator.to_owned()];
    if comparison {
        forms.push(format!("{operator} bool"));
    }
    for op in &forms {
        for (left, right) in [
            ("http_requests_total", "http_requests_total"),
            ("http_requests_total", "http_requests_total offset 1m"),
            ("temperature", "temperature{unit=\"c\"}"),
            (
                "rate(http_requests_total{status=\"500\"}[5m])",
                "rate(http_requests_total{status=\"200\"}[5m])",
            ),
            ("twin_a", "twin_b"),
            ("early", "late"),
            ("nothing_here", "level"),
            ("level", "nothing_here"),
            ("{__name__=~\"twin_.\"}", "twin_a"),
            ("twin_a", "{__name__=~\"twin_.\"}"),
            ("{__name__=~\"twin_.\"}", "nothing_here"),
            ("{__name__=~\"early|late\"}", "{__name__=~\"early|late\"}"),
            ("machine_cores", "sum by (instance, rack, kind) (cpu_usage)"),
        ] {
            queries.push(format!("{left} {op} {right}"));
            for matching in [
                "on ()",
                "on (instance, x, service)",
                "ignoring (status)",
                "on (pod)",
                "ignoring (rack, kind)",
                "on (__name__, x)",
            ] {
                queries.push(format!("{left} {op} {matching} {right}"));
            }
        }
        if set {
            queries.push(format!("cpu_usage {op} on (instance) machine_cores"));
            queries.push(format!("machine_cores {op} on (instance) cpu_usage > 1"));
            queries.push(format!("vector(1) {op} level"));
            queries.push(format!("level {op} ignoring (k) vector(1)"));
            continue;
        }
        for (left, right, side) in [
            ("cpu_usage", "machine_cores", "left"),
            ("machine_cores", "cpu_usage", "right"),
            ("cpu_usage", "machine_cores", "right"),
            ("machine_cores", "machine_cores", "left"),
            ("{__name__=~\"twin_.\"}", "twin_a", "left"),
        ] {
            for on in [
                "on (instance)",
                "ignoring (cpu, rack, kind)",
                "on (x)",
                "on ()",
            ] {
                for taken in ["", "()", "(rack)", "(rack, missing)", "(cpu)"] {
                    queries.push(format!("{left} {op} {on} group_{side} {taken} {right}"));
                }
            }
        }
        for number in SCALARS {
            for vector in few_vectors() {
                queries.push(format!("{vector} {op} {number}"));
                queries.push(format!("{number} {op} {vector}"));
            }
            for other in ["2", "-0.5", "NaN", "time()"] {
                if !comparison || op.ends_with("bool") {
                    queries.push(format!("{number} {op} {other}"));
                }
            }
        }
        queries.push(format!("{{__name__=~\"twin_.\"}} {op} 2"));
        queries.push(format!("{{__name__=~\"early|late\"}} {op} 2"));
    }
    queries
}
