//! `crossfade query`: ask the host's metric store.

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit;
use crate::global::go_duration;
use crate::output::document;
use crate::terminal;
use crate::view::table::Table;

/// Ask the host's metric store a question in PromQL
#[derive(Args, Clone, Debug)]
#[command(long_about = "\
Ask the host's metric store a question in PromQL

The same queries that AnalysisTemplates ask can be tried here:

  crossfade query 'sum by (version) (rate(http_requests_total{service=\"web\"}[1m]))'")]
pub(crate) struct Query {
    /// The question
    #[arg(value_name = "PROMQL")]
    promql: String,
    /// For which moment, as RFC 3339 time or Unix seconds; now when not given
    #[arg(long, value_name = "TIME")]
    time: Option<String>,
    /// Values over this long until that moment instead of one
    #[arg(long, value_name = "DURATION", value_parser = go_duration)]
    since: Option<std::time::Duration>,
    /// Time between two of these values
    #[arg(long, value_name = "DURATION", value_parser = go_duration, default_value = "15s")]
    step: std::time::Duration,
}

impl Query {
    /// Does it.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let at = match &self.time {
            None => Timestamp::now(),
            Some(text) => moment(text)?,
        };
        let seconds = |time: Timestamp| format!("{:.3}", time.as_millisecond() as f64 / 1000.0);
        let mut pairs = vec![("query", self.promql.clone())];
        let path = if let Some(since) = self.since {
            let start = at - jiff::SignedDuration::try_from(since).unwrap_or_default();
            pairs.push(("start", seconds(start)));
            pairs.push(("end", seconds(at)));
            pairs.push(("step", format!("{:.3}", self.step.as_secs_f64())));
            "api/v1/query_range"
        } else {
            pairs.push(("time", seconds(at)));
            "api/v1/query"
        };
        let (status, body) = context.client()?.prometheus(path, &pairs).await?;
        let answer: Value = serde_json::from_slice(&body).map_err(|error| {
            CliError::failure(format!(
                "the metric store's answer ({status}) is no JSON: {error}"
            ))
        })?;
        if answer["status"] != "success" {
            let code = if (400..500).contains(&status) {
                exit::REFUSED
            } else {
                exit::FAILURE
            };
            let text = answer["error"]
                .as_str()
                .or(answer["message"].as_str())
                .unwrap_or("no reason given");
            return Err(CliError::new(code, format!("{text}: {}", self.promql)));
        }
        for warning in answer["warnings"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            terminal::remark(&format!("Warning: {warning}"));
        }
        if !context.global.output.is_for_people() {
            let document = document("QueryResult", &json!({"data": answer["data"]}))?;
            return context.global.output.print(&document, &[]);
        }
        let table = table(&answer["data"]);
        if table.lines().len() < 2 {
            terminal::remark("No data.");
            return Ok(());
        }
        terminal::print(&table.text())
    }
}

fn moment(text: &str) -> Result<Timestamp> {
    let unix = text
        .parse::<f64>()
        .ok()
        .and_then(|seconds| Timestamp::from_millisecond((seconds * 1000.0) as i64).ok());
    unix.or_else(|| text.parse().ok()).ok_or_else(|| {
        CliError::usage(format!(
            "invalid time \"{text}\" for --time: use for example 2026-01-31T12:00:00Z"
        ))
    })
}

/// The answer as a table: one row for each series, or for each of its values.
fn table(data: &Value) -> Table {
    let result = &data["result"];
    let value = |pair: &Value| pair[1].as_str().unwrap_or_default().to_owned();
    match data["resultType"].as_str() {
        Some("matrix") => {
            let mut table = Table::new(&["SERIES", "TIME", "VALUE"]);
            for series in result.as_array().into_iter().flatten() {
                for pair in series["values"].as_array().into_iter().flatten() {
                    let millis = (pair[0].as_f64().unwrap_or(0.0) * 1000.0).round() as i64;
                    let time = Timestamp::from_millisecond(millis).map(crossfade_api::time::text);
                    table.row(vec![
                        labels(&series["metric"]),
                        time.unwrap_or_default(),
                        value(pair),
                    ]);
                }
            }
            table
        }
        Some("vector") => {
            let mut table = Table::new(&["SERIES", "VALUE"]);
            for series in result.as_array().into_iter().flatten() {
                table.row(vec![labels(&series["metric"]), value(&series["value"])]);
            }
            table
        }
        _ => {
            let mut table = Table::new(&["VALUE"]);
            table.row(vec![value(result)]);
            table
        }
    }
}

/// A series as PromQL writes it.
fn labels(metric: &Value) -> String {
    let name = metric["__name__"].as_str().unwrap_or_default();
    let pairs = metric
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| *key != "__name__");
    let pairs: Vec<_> = pairs.map(|(key, value)| format!("{key}={value}")).collect();
    format!("{name}{{{}}}", pairs.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_answer_is_a_table() {
        let vector = json!({"resultType": "vector", "result": [
            {"metric": {"__name__": "up", "service": "web"}, "value": [1.5, "1"]},
            {"metric": {}, "value": [1.5, "NaN"]}]});
        insta::assert_snapshot!(table(&vector).text(), @r#"
        SERIES             VALUE
        up{service="web"}  1
        {}                 NaN
        "#);
        let matrix = json!({"resultType": "matrix", "result": [
            {"metric": {"a": "b"}, "values": [[1_772_366_400, "1"], [1_772_366_415.5, "2"]]}]});
        insta::assert_snapshot!(table(&matrix).text(), @r#"
        SERIES   TIME                  VALUE
        {a="b"}  2026-03-01T12:00:00Z  1
        {a="b"}  2026-03-01T12:00:15Z  2
        "#);
        let scalar = json!({"resultType": "scalar", "result": [1_772_366_400, "2"]});
        insta::assert_snapshot!(table(&scalar).text(), @r"
        VALUE
        2
        ");
    }

    #[test]
    fn a_moment_is_a_time_or_seconds() {
        let time = "2026-03-01T12:00:00Z".parse().expect("a time");
        assert_eq!(moment("2026-03-01T12:00:00Z"), Ok(time));
        assert_eq!(moment("1772366400"), Ok(time));
        assert!(moment("yesterday").is_err());
    }
}
