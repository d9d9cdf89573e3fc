//! The load generator, for tasks that call it `hey`: the options of that tool, with one dash or two.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use crossfade_server::load::Load;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::global::go_duration;
use crate::terminal;

/// Send HTTP requests and measure the answers
#[derive(Parser, Debug)]
#[command(name = "hey", disable_version_flag = true, max_term_width = 100)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of its own, and any of them go together"
)]
struct Hey {
    /// Requests to send
    #[arg(short = 'n', long = "n", value_name = "NUMBER", default_value_t = 200)]
    requests: u64,
    /// Requests under way at once
    #[arg(short = 'c', long = "c", value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    workers: u64,
    /// Requests a second of each of them; 0 without limit
    #[arg(short = 'q', long = "q", value_name = "NUMBER", default_value_t = 0.0)]
    rate: f64,
    /// Send for this time instead of a number of requests, for example 1m
    #[arg(short = 'z', long = "z", value_name = "DURATION", value_parser = go_duration)]
    duration: Option<Duration>,
    /// Form of the result: csv, or that for people when not given
    #[arg(short = 'o', long = "o", value_name = "FORM", value_parser = ["csv"])]
    output: Option<String>,
    /// Method
    #[arg(short = 'm', long = "m", value_name = "METHOD", default_value = "GET")]
    method: String,
    /// Header; may be given several times
    #[arg(short = 'H', long = "H", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// Seconds that a request may take; 0 without limit
    #[arg(short = 't', long = "t", value_name = "SECONDS", default_value_t = 20)]
    timeout: u64,
    /// Header Accept
    #[arg(short = 'A', long = "A", value_name = "TYPE")]
    accept: Option<String>,
    /// Body
    #[arg(short = 'd', long = "d", value_name = "TEXT")]
    body: Option<String>,
    /// Body, from a file
    #[arg(short = 'D', long = "D", value_name = "FILE", conflicts_with = "body")]
    body_file: Option<PathBuf>,
    /// Header Content-Type
    #[arg(
        short = 'T',
        long = "T",
        value_name = "TYPE",
        default_value = "text/html"
    )]
    content_type: String,
    /// Header User-Agent
    #[arg(short = 'U', long = "U", value_name = "TEXT")]
    user_agent: Option<String>,
    /// Basic authentication
    #[arg(short = 'a', long = "a", value_name = "USER:PASSWORD")]
    basic: Option<String>,
    /// Proxy
    #[arg(short = 'x', long = "x", value_name = "ADDRESS")]
    proxy: Option<String>,
    /// HTTP/2
    #[arg(long = "h2")]
    http2: bool,
    /// Header Host
    #[arg(long = "host", value_name = "NAME")]
    host: Option<String>,
    /// Do not ask for compressed answers
    #[arg(long)]
    disable_compression: bool,
    /// A connection for each request
    #[arg(long)]
    disable_keepalive: bool,
    /// Do not follow redirects
    #[arg(long)]
    disable_redirects: bool,
    /// Accepted and without meaning
    #[arg(long, hide = true, value_name = "NUMBER")]
    cpus: Option<u32>,
    /// Where to
    url: String,
}

/// The arguments with two dashes where one stands before a word or a value.
fn meant(arguments: Vec<OsString>) -> Vec<OsString> {
    let mut meant = Vec::with_capacity(arguments.len());
    for word in arguments {
        let text = word.to_string_lossy();
        let has_one_dash = text.len() > 2 && text.starts_with('-') && !text.starts_with("--");
        let is_number = text
            .get(1..)
            .is_some_and(|rest| rest.parse::<f64>().is_ok());
        meant.push(if has_one_dash && !is_number {
            format!("-{text}").into()
        } else {
            word
        });
    }
    meant
}

/// Does it.
pub(crate) fn run(arguments: Vec<OsString>) -> ExitCode {
    let hey = match Hey::try_parse_from(meant(arguments)) {
        Ok(hey) => hey,
        Err(error) => {
            // Whoever closes the pipe has read enough.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    match hey.send() {
        Ok(text) => terminal::print(&text).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS),
        Err(why) => {
            terminal::remark(&why);
            ExitCode::FAILURE
        }
    }
}

impl Hey {
    fn load(&self) -> Result<Load, String> {
        let mut headers = Vec::new();
        for header in &self.headers {
            let (name, value) = header
                .split_once(':')
                .ok_or_else(|| format!("{header} is no header"))?;
            headers.push((name.trim().to_owned(), value.trim().to_owned()));
        }
        let is_set = |headers: &[(String, String)], name: &str| {
            headers
                .iter()
                .any(|(known, _)| known.eq_ignore_ascii_case(name))
        };
        let body = match (&self.body, &self.body_file) {
            (Some(text), _) => text.clone().into_bytes(),
            (None, Some(file)) => {
                std::fs::read(file).map_err(|why| format!("{}: {why}", file.display()))?
            }
            (None, None) => Vec::new(),
        };
        let usual_agent = concat!("crossfade-load/", env!("CARGO_PKG_VERSION")).to_owned();
        let further = [
            ("accept", self.accept.clone()),
            ("content-type", Some(self.content_type.clone())),
            (
                "user-agent",
                Some(self.user_agent.clone().unwrap_or(usual_agent)),
            ),
            ("host", self.host.clone()),
        ];
        for (name, value) in further {
            if let Some(value) = value.filter(|_| !is_set(&headers, name)) {
                headers.push((name.to_owned(), value));
            }
        }
        let basic = self
            .basic
            .as_deref()
            .map(|text| text.split_once(':').ok_or("-a takes USER:PASSWORD"));
        let basic = basic.transpose()?;
        if self.duration.is_none() && self.requests < self.workers {
            return Err("-n cannot be less than -c".to_owned());
        }
        Ok(Load {
            url: self
                .url
                .parse()
                .map_err(|why| format!("{}: {why}", self.url))?,
            method: self
                .method
                .to_uppercase()
                .parse()
                .map_err(|_| format!("{} is no method", self.method))?,
            headers,
            body,
            basic: basic.map(|(user, password)| (user.to_owned(), password.to_owned())),
            requests: self.requests,
            duration: self.duration,
            workers: self.workers,
            rate: self.rate,
            timeout: Duration::from_secs(self.timeout),
            proxy: self.proxy.clone(),
            http2: self.http2,
            keep_redirects: self.disable_redirects,
            no_keepalive: self.disable_keepalive,
            no_compression: self.disable_compression,
        })
    }

    fn send(&self) -> Result<String, String> {
        let load = self.load()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(|why| why.to_string())?;
        let report = runtime.block_on(async {
            let stop = CancellationToken::new();
            let (mut terminate, mut interrupt) = (
                signal(SignalKind::terminate()).map_err(|why| why.to_string())?,
                signal(SignalKind::interrupt()).map_err(|why| why.to_string())?,
            );
            let ends = stop.clone();
            tokio::spawn(async move {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                ends.cancel();
            });
            load.run(stop).await
        })?;
        Ok(if self.output.is_some() {
            report.csv()
        } else {
            report.text()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_those_of_the_tool_that_it_stands_in_for() {
        let line = "hey -z 1m -q 5 -c 2 -m post -host app.example.com -H X-A:b -d {} -T application/json -disable-keepalive -t=3 http://app/path";
        let words = line.split(' ').map(OsString::from).collect();
        let hey = Hey::try_parse_from(meant(words)).expect("it is understood");
        let load = hey.load().expect("it makes sense");
        assert_eq!(load.duration, Some(Duration::from_mins(1)));
        assert_eq!(
            (load.workers, load.method.as_str(), load.body.as_slice()),
            (2, "POST", &b"{}"[..])
        );
        assert_eq!(load.timeout, Duration::from_secs(3));
        assert!(load.no_keepalive && !load.http2);
        for header in [
            ("X-A", "b"),
            ("host", "app.example.com"),
            ("content-type", "application/json"),
        ] {
            assert!(
                load.headers
                    .contains(&(header.0.to_owned(), header.1.to_owned())),
                "{:?}",
                load.headers
            );
        }
    }
}
