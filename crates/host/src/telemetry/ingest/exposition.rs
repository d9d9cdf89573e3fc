//! The text in which programs expose their metrics: Prometheus' format 0.0.4 and OpenMetrics 1.0.
//!
//! Only samples are read. Types and help texts say nothing that a query could ask; time stamps and
//! exemplars are checked and left out, since a sample counts at the time of its scrape.

/// Names and values of labels.
pub type LabelPairs = Vec<(String, String)>;

/// A sample as it stands in the text.
#[derive(Clone, Debug, PartialEq)]
pub struct Exposed {
    /// Name of the metric.
    pub metric: String,
    /// Labels in the order of the text.
    pub labels: LabelPairs,
    /// The value.
    pub value: f64,
}

/// What is wrong with a text, and in which line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct BadText {
    /// Number of the line, from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: &'static str,
}

/// Reads all samples. The text is taken whole or not at all, as a scrape is.
pub fn read(text: &str) -> Result<Vec<Exposed>, BadText> {
    let mut samples = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim_matches([' ', '\t', '\r']);
        if line == "# EOF" {
            break;
        }
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        samples.push(sample(line).map_err(|problem| BadText {
            line: at + 1,
            problem,
        })?);
    }
    Ok(samples)
}

fn sample(line: &str) -> Result<Exposed, &'static str> {
    let name = line.find(|c: char| !is_name(c)).unwrap_or(line.len());
    let (metric, rest) = line.split_at(name);
    if metric.is_empty() || metric.starts_with(|c: char| c.is_ascii_digit()) {
        return Err("a metric's name is expected");
    }
    let rest = rest.trim_start_matches([' ', '\t']);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    let rest = match rest.split_once(" # ") {
        Some((rest, _exemplar)) => rest,
        None => rest,
    };
    let mut words = rest.split([' ', '\t']).filter(|word| !word.is_empty());
    let value = words
        .next()
        .ok_or("a value is expected")?
        .parse()
        .map_err(|_| "the value is not a number")?;
    if words
        .next()
        .is_some_and(|time| time.parse::<f64>().is_err())
    {
        return Err("the time is not a number");
    }
    if words.next().is_some() {
        return Err("nothing is expected after value and time");
    }
    Ok(Exposed {
        metric: metric.to_owned(),
        labels,
        value,
    })
}

/// The labels up to the closing brace, and what follows it.
fn labels(text: &str) -> Result<(LabelPairs, &str), &'static str> {
    let mut labels = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t']);
        if let Some(after) = rest.strip_prefix('}') {
            return Ok((labels, after));
        }
        let (name, after) = rest
            .split_once('=')
            .ok_or("a label or the closing brace is expected")?;
        let name = name.trim_end_matches([' ', '\t']);
        if name.is_empty()
            || !name.chars().all(|c| is_name(c) && c != ':')
            || name.starts_with(|c: char| c.is_ascii_digit())
        {
            return Err("a label's name is expected");
        }
        let after = after
            .trim_start_matches([' ', '\t'])
            .strip_prefix('"')
            .ok_or("a quoted value is expected")?;
        let (value, after) = quoted(after)?;
        labels.push((name.to_owned(), value));
        rest = after.trim_start_matches([' ', '\t']);
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.starts_with('}') => {}
            None => return Err("a comma or the closing brace is expected"),
        }
    }
}

/// The text up to the closing quote, and what follows it.
fn quoted(text: &str) -> Result<(String, &str), &'static str> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, text.get(at + 1..).unwrap_or(""))),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, escaped @ ('"' | '\\'))) => value.push(escaped),
                // Not an escape in either format; the text stays as it is.
                Some((_, other)) => value.extend(['\\', other]),
                None => break,
            },
            _ => value.push(c),
        }
    }
    Err("the quote is not closed")
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | ':')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn exposed(metric: &str, labels: &[(&str, &str)], value: f64) -> Exposed {
        let labels = labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Exposed {
            metric: metric.to_owned(),
            labels,
            value,
        }
    }

    #[test]
    fn the_text_format_is_read() {
        let text = r#"# HELP http_requests_total The total number of HTTP requests.
# TYPE http_requests_total counter
http_requests_total{method="post",code="200"} 1027 1395066363000
http_requests_total{method="post",code="400"}    3 1395066363000

# Escaping in label values:
msdos_file_access_time_seconds{path="C:\\DIR\\FILE.TXT",error="Cannot find file:\n\"FILE.TXT\""} 1.458255915e9
metric_without_timestamp_and_labels 12.47
something_weird{problem="division by zero",} +Inf -3982045
	spaced_out { a = "1" , b="}" }	NaN
http_request_duration_seconds_bucket{le="+Inf"} 144320
"#;
        let samples = read(text).expect("a good text");
        let names: Vec<&str> = samples
            .iter()
            .map(|sample| sample.metric.as_str())
            .collect();
        assert_eq!(
            names,
            [
                "http_requests_total",
                "http_requests_total",
                "msdos_file_access_time_seconds",
                "metric_without_timestamp_and_labels",
                "something_weird",
                "spaced_out",
                "http_request_duration_seconds_bucket"
            ]
        );
        assert_eq!(
            samples[0],
            exposed(
                "http_requests_total",
                &[("method", "post"), ("code", "200")],
                1027.0
            )
        );
        assert_eq!(samples[2].labels[1].1, "Cannot find file:\n\"FILE.TXT\"");
        assert_eq!(samples[2].labels[0].1, "C:\\DIR\\FILE.TXT");
        assert!(samples[4].value.is_infinite());
        assert!(samples[5].value.is_nan());
        assert_eq!(
            samples[5].labels,
            exposed("", &[("a", "1"), ("b", "}")], 0.0).labels
        );
    }

    #[test]
    fn openmetrics_is_read_up_to_its_end() {
        let text = "# TYPE foo counter\nfoo_total{a=\"b\"} 17.0 1520879607.789 # {trace=\"x y\"} 0.6 1520879606.1\nfoo_created 1.5\n# EOF\nnot read";
        let samples = read(text).expect("a good text");
        assert_eq!(
            samples,
            [
                exposed("foo_total", &[("a", "b")], 17.0),
                exposed("foo_created", &[], 1.5)
            ]
        );
    }

    #[test]
    fn a_fault_is_told_with_its_line() {
        for (text, line, problem) in [
            ("a 1\nb", 2, "a value is expected"),
            ("a one", 1, "the value is not a number"),
            ("a 1 now", 1, "the time is not a number"),
            ("a 1 2 3", 1, "nothing is expected after value and time"),
            ("{a=\"b\"} 1", 1, "a metric's name is expected"),
            ("1a 1", 1, "a metric's name is expected"),
            ("a{b} 1", 1, "a label or the closing brace is expected"),
            ("a{b=1} 1", 1, "a quoted value is expected"),
            ("a{b=\"1} 1", 1, "the quote is not closed"),
            (
                "a{b=\"1\" c=\"2\"} 1",
                1,
                "a comma or the closing brace is expected",
            ),
            ("a{=\"1\"} 1", 1, "a label's name is expected"),
            (
                "<html><body>404</body></html>",
                1,
                "a metric's name is expected",
            ),
        ] {
            assert_eq!(read(text), Err(BadText { line, problem }), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_text_makes_a_panic(text in "(\\PC|[a-z]{1,3}|[{}=\",# \\\\\n0-9.])*") {
            let _ = read(&text);
        }
    }
}
