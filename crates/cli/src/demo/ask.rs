//! A check to run as a Job while trying Crossfade out: ask a web service a few times, and fail when it fails too often.

use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::{Request, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::error::{CliError, Result};

/// An answer that takes longer than this is none.
const PATIENCE: Duration = Duration::from_secs(5);

/// Ask a web service a few times, and fail when too many answers are bad
///
/// Something for Jobs of an analysis to run while trying Crossfade out, beside `crossfade sample`. Any answer but 2xx is bad, and so is
/// none. The exit code is 1 when more than the allowed share of answers is bad.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Ask {
    /// What to ask for
    url: Uri,
    /// How often
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    requests: u32,
    /// Header to send with each request
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    header: Vec<(String, String)>,
    /// Bad answers that are allowed, in percent
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=100))]
    error_threshold: u64,
}

fn pair(text: &str) -> std::result::Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Ask {
    /// Asks.
    pub(crate) fn run(self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(|why| CliError::failure(format!("cannot start: {why}")))?;
        let bad = runtime.block_on(self.bad_answers())?;
        anstream::println!("{bad} of {} answers were bad", self.requests);
        if u64::from(bad) * 100 > self.error_threshold * u64::from(self.requests) {
            return Err(CliError::failure(format!(
                "more than {} % of the answers were bad",
                self.error_threshold
            )));
        }
        Ok(())
    }

    async fn bad_answers(&self) -> Result<u32> {
        let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
        let mut bad = 0;
        for _ in 0..self.requests {
            let once = tokio::time::timeout(PATIENCE, self.once(&client)).await;
            if let Some(why) = match once {
                Ok(answer) => answer?,
                Err(_) => Some(format!("no answer within {} s", PATIENCE.as_secs())),
            } {
                anstream::println!("{why}");
                bad += 1;
            }
        }
        Ok(bad)
    }

    /// What was bad about one answer.
    async fn once(&self, client: &Client<HttpConnector, Empty<Bytes>>) -> Result<Option<String>> {
        let mut request = Request::get(self.url.clone());
        for (name, value) in &self.header {
            request = request.header(name, value);
        }
        let request = request
            .body(Empty::new())
            .map_err(|why| CliError::usage(why.to_string()))?;
        let response = match client.request(request).await {
            Ok(response) => response,
            Err(why) => return Ok(Some(why.to_string())),
        };
        let status = response.status();
        Ok(match response.into_body().collect().await {
            Err(why) => Some(why.to_string()),
            Ok(_) if !status.is_success() => Some(format!("status {status}")),
            Ok(_) => None,
        })
    }
}
