//! What the tests stand on: a proxy, pods that answer, and clients.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use crossfade_host::proxy::{
    Applied, Destination, Endpoint, Limits, ListenerConfig, Protocol, Proxy, ProxyArgs,
    ProxyClient, ProxyConfig, RouteConfig,
};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1::SendRequest, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

/// A proxy with a connection to its control socket.
pub(crate) struct Rig {
    pub(crate) proxy: Proxy,
    pub(crate) control: ProxyClient,
    pub(crate) args: ProxyArgs,
    pub(crate) folder: tempfile::TempDir,
}

impl Rig {
    pub(crate) async fn start() -> Self {
        Self::with_workers(2).await
    }

    pub(crate) async fn with_workers(workers: usize) -> Self {
        Self::with(workers, Limits::default()).await
    }

    /// One that gives clients only this long for the head of a request, and for being idle.
    pub(crate) async fn limited(limit: Duration) -> Self {
        let limits = Limits {
            head: limit,
            idle: limit,
            ..Limits::default()
        };
        Self::with(2, limits).await
    }

    async fn with(workers: usize, limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let args = ProxyArgs {
            socket: folder.path().join("proxy.sock"),
            state: folder.path().join("proxy.json"),
            workers: Some(workers.try_into().unwrap()),
            limits,
        };
        let proxy = Proxy::start(&args).await.unwrap();
        let control = ProxyClient::connect(&args.socket).await.unwrap();
        Self {
            proxy,
            control,
            args,
            folder,
        }
    }

    /// All requests go to this pod.
    pub(crate) async fn serve_only(&self, pod: Endpoint) -> SocketAddr {
        self.serve(vec![route(vec![to(vec![pod])])]).await
    }

    /// Applies one listener with these routes and tells where it listens.
    pub(crate) async fn serve(&self, routes: Vec<RouteConfig>) -> SocketAddr {
        address(&self.control.apply(&config(routes)).await.unwrap())
    }
}

/// A proxy that sends all requests to one pod, `a`.
pub(crate) async fn one_pod() -> (Rig, Pod, SocketAddr) {
    let rig = Rig::start().await;
    let pod = Pod::start("a").await;
    let addr = rig.serve_only(pod.endpoint()).await;
    (rig, pod, addr)
}

pub(crate) fn address(applied: &Applied) -> SocketAddr {
    let first = applied.listeners.first().unwrap();
    first.addr.unwrap_or_else(|| panic!("{first:?}"))
}

/// One listener `shop/web:80` on any port.
pub(crate) fn config(routes: Vec<RouteConfig>) -> ProxyConfig {
    ProxyConfig {
        revision: 1,
        listeners: vec![ListenerConfig {
            name: "shop/web:80".into(),
            address: ([127, 0, 0, 1], 0).into(),
            namespace: "shop".into(),
            service: "web".into(),
            rollout: "web".into(),
            routes,
        }],
    }
}

/// A route for all requests.
pub(crate) fn route(destinations: Vec<Destination>) -> RouteConfig {
    RouteConfig {
        name: "main".into(),
        destinations,
        ..RouteConfig::default()
    }
}

/// A version with these pods.
pub(crate) fn version<'a>(
    version: &str,
    weight: u32,
    pods: impl IntoIterator<Item = &'a Pod>,
) -> Destination {
    Destination {
        version: version.into(),
        service: format!("web-{version}"),
        weight,
        protocol: Protocol::Http1,
        endpoints: pods.into_iter().map(Pod::endpoint).collect(),
        ..Destination::default()
    }
}

/// What a pod saw of a request.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A pod that speaks HTTP/1.1 and HTTP/2, says its name in the header `x-pod`, and sends the body back.
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) addr: SocketAddr,
    pub(crate) requests: Arc<AtomicUsize>,
    seen: Arc<std::sync::Mutex<Vec<Seen>>>,
    stop: CancellationToken,
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Pod {
    pub(crate) async fn start(name: &str) -> Self {
        Self::slow(name, Duration::ZERO).await
    }

    /// One that takes its time.
    pub(crate) async fn slow(name: &str, delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let pod = Self {
            name: name.into(),
            addr: listener.local_addr().unwrap(),
            requests: Arc::default(),
            seen: Arc::default(),
            stop: CancellationToken::new(),
        };
        let (name, requests, seen) = (
            pod.name.clone(),
            Arc::clone(&pod.requests),
            Arc::clone(&pod.seen),
        );
        let service = service_fn(move |request: Request<Incoming>| {
            let (name, requests, seen) = (name.clone(), Arc::clone(&requests), Arc::clone(&seen));
            async move {
                requests.fetch_add(1, Ordering::SeqCst);
                if request.headers().contains_key("sec-websocket-key") {
                    return Ok(web_socket(request));
                }
                let (head, body) = request.into_parts();
                let Ok(body) = body.collect().await else {
                    return Ok(Response::builder()
                        .status(400)
                        .body(Full::default())
                        .unwrap());
                };
                let body = body.to_bytes();
                seen.lock().unwrap().push(Seen {
                    method: head.method.to_string(),
                    path: head
                        .uri
                        .path_and_query()
                        .map(ToString::to_string)
                        .unwrap_or_default(),
                    headers: head.headers,
                    body: body.clone(),
                });
                tokio::time::sleep(delay).await;
                Ok::<_, Infallible>(
                    Response::builder()
                        .header("x-pod", name)
                        .body(Full::new(body))
                        .unwrap(),
                )
            }
        });
        let stop = pod.stop.clone();
        tokio::spawn(async move {
            while let Some(Ok((stream, _))) = stop.run_until_cancelled(listener.accept()).await {
                let service = service.clone();
                let stop = stop.clone();
                tokio::spawn(async move {
                    let builder =
                        hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    let serving =
                        builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
                    // A killed pod breaks what it was doing.
                    let _ = stop.run_until_cancelled(serving).await;
                });
            }
        });
        pod
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint {
            pod: self.name.clone(),
            addr: self.addr,
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Dies at once.
    pub(crate) fn kill(&self) {
        self.stop.cancel();
    }
}

/// Sends back what comes, until the client ends it.
fn web_socket(request: Request<Incoming>) -> Response<Full<Bytes>> {
    tokio::spawn(async move {
        let Ok(upgraded) = hyper::upgrade::on(request).await else {
            return;
        };
        let (mut read, mut write) = tokio::io::split(TokioIo::new(upgraded));
        // A killed pod breaks it; the client notices.
        let _ = tokio::io::copy(&mut read, &mut write).await;
        let _ = write.shutdown().await;
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .body(Full::default())
        .unwrap()
}

/// An answer in full.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn pod(&self) -> &str {
        self.header("x-pod")
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map(|value| value.to_str().unwrap())
            .unwrap_or_default()
    }
}

/// A client on one HTTP/1.1 connection that is kept alive.
pub(crate) struct Client {
    sender: SendRequest<Full<Bytes>>,
}

impl Client {
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        Self { sender }
    }

    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Reply> {
        self.sender.ready().await?;
        let (head, body) = self.sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Reply {
            status: head.status,
            headers: head.headers,
            body,
        })
    }

    pub(crate) async fn get(&mut self, path: &str) -> Reply {
        self.send(get(path).body(Full::default()).unwrap())
            .await
            .unwrap()
    }

    pub(crate) async fn get_with(&mut self, path: &str, headers: &[(&str, &str)]) -> Reply {
        let request = headers.iter().fold(get(path), |request, (name, value)| {
            request.header(*name, *value)
        });
        self.send(request.body(Full::default()).unwrap())
            .await
            .unwrap()
    }

    pub(crate) async fn post(&mut self, path: &str, body: impl Into<Bytes>) -> Reply {
        let request = Request::post(path)
            .header("host", "web")
            .body(Full::new(body.into()))
            .unwrap();
        self.send(request).await.unwrap()
    }
}

pub(crate) fn get(path: &str) -> http::request::Builder {
    Request::get(path).header("host", "web")
}

/// How many of `n` requests each pod answered.
pub(crate) async fn spread(addr: SocketAddr, n: usize) -> BTreeMap<String, usize> {
    let mut client = Client::connect(addr).await;
    let mut pods = BTreeMap::new();
    for _ in 0..n {
        let reply = client.get("/").await;
        assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
        *pods.entry(reply.pod().to_owned()).or_default() += 1;
    }
    pods
}

/// Waits until it is so; the test's own limit ends what never comes.
pub(crate) async fn until(mut so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), waiting)
        .await
        .expect("it comes to pass");
}

/// A pod that does with each connection what the test says: it gets the number of the connection, from zero.
pub(crate) async fn scripted<F, R>(name: &str, script: F) -> Endpoint
where
    F: Fn(usize, TcpStream) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for number in 0.. {
            let Ok((stream, _)) = listener.accept().await else {
                return;
            };
            tokio::spawn(script(number, stream));
        }
    });
    Endpoint {
        pod: name.into(),
        addr,
    }
}

/// A destination for such pods.
pub(crate) fn to(endpoints: Vec<Endpoint>) -> Destination {
    Destination {
        version: "v".into(),
        service: "web".into(),
        weight: 1,
        endpoints,
        ..Destination::default()
    }
}

/// A port where nobody listens.
pub(crate) async fn nobody(name: &str) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    Endpoint {
        pod: name.into(),
        addr: listener.local_addr().unwrap(),
    }
}

/// Reads until the text has been seen, or the other end closes.
pub(crate) async fn read_to(stream: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    let reading = async {
        while !text
            .windows(end.len().max(1))
            .any(|part| part == end.as_bytes())
        {
            if stream.read_buf(&mut text).await.unwrap_or(0) == 0 {
                return;
            }
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(10), reading)
        .await
        .is_ok();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(in_time, "waited for {end:?}, have {text:?}");
    text
}

/// Reads until the other end closes.
pub(crate) async fn read_all(stream: &mut TcpStream) -> String {
    read_to(stream, "\u{0}never\u{0}").await
}

/// Sends bytes on a new connection and reads until the proxy closes it.
pub(crate) async fn exchange(addr: SocketAddr, bytes: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    read_all(&mut stream).await
}
