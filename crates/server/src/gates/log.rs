//! The form of log lines, as readers of the reference's logs expect it: `ts`, `level`, `caller`, `msg`, then fields.

use std::fmt;

use jiff::Timestamp;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// How a line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// One JSON object a line.
    #[default]
    Json,
    /// Columns for people.
    Console,
}

/// Logs to standard error from now on. `level` is `debug`, `info`, `warn`, `error`, `fatal` or `panic`; anything else means `info`.
pub fn start(level: &str, encoding: Encoding) {
    let level = match level {
        "debug" | "warn" | "error" => level,
        "fatal" | "panic" => "off",
        _ => "info",
    };
    // What libraries say is for their developers.
    let filter = EnvFilter::new(format!("error,crossfade_server={level},crossfade={level}"));
    // A second call changes nothing.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .event_format(encoding)
        .try_init();
}

#[derive(Default)]
struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0
            .insert(field.name().to_owned(), Value::String(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl<S, N> FormatEvent<S, N> for Encoding
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let Fields(mut fields) = fields;
        let message = match fields.remove("message") {
            Some(Value::String(message)) => message,
            _ => String::new(),
        };
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            _ => "debug",
        };
        let time = Timestamp::now()
            .strftime("%Y-%m-%dT%H:%M:%S%.3fZ")
            .to_string();
        let file = event.metadata().file().unwrap_or_default();
        // The folder and the file, as the reference names callers.
        let mut parts = file.rsplitn(3, '/');
        let (name, folder) = (
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or_default(),
        );
        let caller = format!(
            "{folder}/{name}:{}",
            event.metadata().line().unwrap_or_default()
        );
        match self {
            Self::Json => {
                let mut line = Map::new();
                line.insert("level".to_owned(), level.into());
                line.insert("ts".to_owned(), time.into());
                line.insert("caller".to_owned(), caller.into());
                line.insert("msg".to_owned(), message.into());
                line.extend(fields);
                writeln!(writer, "{}", Value::Object(line))
            }
            Self::Console => {
                let level = level.to_uppercase();
                write!(writer, "{time}\t{level}\t{caller}\t{message}")?;
                if !fields.is_empty() {
                    write!(writer, "\t{}", Value::Object(fields))?;
                }
                writeln!(writer)
            }
        }
    }
}
