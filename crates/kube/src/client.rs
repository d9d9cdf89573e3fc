//! The way to the API server, set up for many small requests: each is sent at once, over few connections that are kept.

use std::time::Duration;

use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::Client;
use kube::client::{Body, ClientBuilder, ConfigExt as _};
use kube::config::Config;
use tower::{BoxError, ServiceExt as _};

use crate::controller::StartError;

/// How long a connection is kept that nobody uses.
const IDLE: Duration = Duration::from_secs(90);
/// How many of them are kept; more come and go with a rush.
const IDLE_CONNECTIONS: usize = 16;
/// The most that is read of an answer before it is taken in: what a connection holds for as long as it is kept.
const READ_AHEAD: usize = 128 * 1024;
/// After how long without a word it is looked whether the other end is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// A client with the settings that a controller needs.
///
/// # Errors
/// The configuration cannot be used.
pub fn client(mut config: Config) -> Result<Client, StartError> {
    // Who set one before set the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // A refusal is an answer: the queue knows better than the client what to try again, and when.
    config.default_retry = false;
    // Certificates that a program gives out end some day, and a proxy is spoken to first: kube knows both.
    let plain = config.auth_info.exec.is_none() && config.proxy_url.is_none();
    let client = if plain {
        direct(&config)
    } else {
        Client::try_from(config)
    };
    client.map_err(|why| StartError::Client(why.to_string()))
}

fn direct(config: &Config) -> kube::Result<Client> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    // The second half of a request must not wait until the first half is known to have arrived.
    connector.set_nodelay(true);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_keepalive(Some(KEEPALIVE));
    connector.set_keepalive_interval(Some(KEEPALIVE));
    let connector = config.rustls_https_connector_with_connector(connector)?;
    let http: HttpClient<_, Body> = HttpClient::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .http1_max_buf_size(READ_AHEAD)
        .build(connector);
    let http = http.map_err(BoxError::from);
    let service = ClientBuilder::new(http, config.default_namespace.clone())
        .with_layer(&config.extra_headers_layer()?);
    let base = config.base_uri_layer();
    Ok(match config.auth_layer()? {
        Some(auth) => service.with_layer(&auth).with_layer(&base).build(),
        None => service.with_layer(&base).build(),
    })
}
