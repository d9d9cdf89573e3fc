//! What passes through unchanged, and what must not: bodies, trailers, upgrades, header fields.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use crossfade_host::proxy::{Destination, Protocol};
use futures_util::StreamExt;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Version};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::http2,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Notify, mpsc},
};

use crate::rig::{
    Client, Pod, Rig, exchange, get, one_pod, read_all, read_to, route, scripted, to, version,
};

type Frames =
    StreamBody<futures_util::stream::BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;

fn frames(frames: Vec<Frame<Bytes>>) -> Frames {
    StreamBody::new(futures_util::stream::iter(frames.into_iter().map(Ok)).boxed())
}

/// A client that knows beforehand that the proxy speaks HTTP/2.
async fn h2(addr: SocketAddr) -> http2::SendRequest<Frames> {
    let stream = TcpStream::connect(addr).await.unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

fn h2c(pods: &[Pod]) -> Destination {
    Destination {
        protocol: Protocol::H2c,
        ..version("v", 1, pods)
    }
}

#[tokio::test]
async fn large_bodies_arrive_whole_both_ways() {
    let (_rig, _pod, addr) = one_pod().await;
    let body: Vec<u8> = (0..8_000_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let mut client = Client::connect(addr).await;
    for _ in 0..2 {
        let reply = client.post("/", body.clone()).await;
        assert!(
            reply.status == StatusCode::OK && reply.body == body,
            "{}",
            reply.body.len()
        );
    }
}

#[tokio::test]
async fn bodies_stream_both_ways_at_the_same_time() {
    let rig = Rig::start().await;
    // It answers the first part before it asks for the second.
    let pod = scripted("a", |_, mut stream| async move {
        let head = read_to(&mut stream, "one\r\n").await;
        assert!(
            head.to_lowercase().contains("transfer-encoding: chunked"),
            "{head}"
        );
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nuno\r\n")
            .await
            .unwrap();
        read_to(&mut stream, "two\r\n0\r\n\r\n").await;
        stream.write_all(b"3\r\ndos\r\n0\r\n\r\n").await.unwrap();
        read_all(&mut stream).await;
    })
    .await;
    let addr = rig.serve_only(pod).await;
    let mut client = TcpStream::connect(addr).await.unwrap();
    let head = "POST / HTTP/1.1\r\nhost: web\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    let answer = read_to(&mut client, "uno\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    client.write_all(b"3\r\ntwo\r\n0\r\n\r\n").await.unwrap();
    read_to(&mut client, "dos\r\n0\r\n\r\n").await;
}

#[tokio::test]
async fn answers_without_a_body_keep_the_connection_in_step() {
    let rig = Rig::with_workers(1).await;
    let pod = scripted("a", |_, mut stream| async move {
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 77\r\netag: \"x\"\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi",
        ] {
            read_to(&mut stream, "\r\n\r\n").await;
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        read_all(&mut stream).await;
    })
    .await;
    let addr = rig.serve_only(pod).await;
    let mut client = Client::connect(addr).await;
    let head = || {
        Request::head("/")
            .header("host", "web")
            .body(Full::default())
            .unwrap()
    };

    let reply = client.send(head()).await.unwrap();
    assert_eq!(
        (reply.status.as_u16(), reply.header("content-length")),
        (200, "1234")
    );
    assert_eq!(client.send(head()).await.unwrap().status, StatusCode::OK);
    assert_eq!(client.get("/").await.status, StatusCode::NO_CONTENT);
    let unchanged = client.get("/").await;
    assert_eq!(
        (unchanged.status.as_u16(), unchanged.header("etag")),
        (304, "\"x\"")
    );
    assert_eq!(client.get("/").await.status, StatusCode::OK);
    // All on the one connection that the script serves.
    assert_eq!(client.get("/").await.body, "hi");
}

#[tokio::test]
async fn a_pod_is_told_who_asks_and_not_what_concerns_one_connection_only() {
    let (_rig, pod, addr) = one_pod().await;
    let mut client = Client::connect(addr).await;
    let headers = [
        ("connection", "x-mine"),
        ("x-mine", "1"),
        ("proxy-connection", "close"),
        ("x-other", "2"),
    ];
    client.get_with("/a?b=c", &headers).await;
    let seen = pod.seen().pop().unwrap();
    let field = |name: &str| seen.headers.get(name).map(|value| value.to_str().unwrap());
    assert_eq!(
        (seen.method.as_str(), seen.path.as_str()),
        ("GET", "/a?b=c")
    );
    assert_eq!(field("host"), Some("web"));
    assert_eq!(field("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(field("x-forwarded-host"), Some("web"));
    assert_eq!(field("x-forwarded-proto"), Some("http"));
    assert_eq!(field("x-other"), Some("2"));
    for gone in ["connection", "x-mine", "proxy-connection"] {
        assert_eq!(field(gone), None, "{gone}");
    }
}

#[tokio::test]
async fn clients_of_http_1_0_and_requests_in_absolute_form_are_served() {
    let (_rig, pod, addr) = one_pod().await;
    let answer = exchange(addr, "POST /x HTTP/1.0\r\ncontent-length: 2\r\n\r\nhi").await;
    assert!(
        answer.starts_with("HTTP/1.0 200 OK\r\n") && answer.ends_with("\r\n\r\nhi"),
        "{answer}"
    );
    let host = pod.seen().pop().unwrap().headers.get("host").cloned();
    assert_eq!(host, Some(HeaderValue::try_from(addr.to_string()).unwrap()));

    let absolute = "GET http://other.example/y HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n";
    assert!(
        exchange(addr, absolute)
            .await
            .starts_with("HTTP/1.1 200 OK\r\n")
    );
    let seen = pod.seen().pop().unwrap();
    assert_eq!(
        (
            seen.path.as_str(),
            seen.headers.get("host").unwrap().as_bytes()
        ),
        ("/y", &b"other.example"[..])
    );
}

#[tokio::test]
async fn requests_sent_without_waiting_are_answered_in_order() {
    let (_rig, _pod, addr) = one_pod().await;
    let post = |body: &str| {
        format!(
            "POST / HTTP/1.1\r\nhost: web\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let last = "GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n";
    let answer = exchange(
        addr,
        &format!("{}{}{}{last}", post("first"), post("second"), post("third")),
    )
    .await;
    let places: Vec<_> = ["first", "second", "third"]
        .iter()
        .map(|text| answer.find(text).unwrap())
        .collect();
    assert!(places.is_sorted(), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 4);
}

#[tokio::test]
async fn trailers_reach_a_client_that_wants_them() {
    let rig = Rig::start().await;
    let pod = scripted("a", |_, mut stream| async move {
        let head = read_to(&mut stream, "\r\n\r\n").await;
        assert!(head.contains("te: trailers\r\n"), "{head}");
        let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n2\r\nhi\r\n0\r\nx-sum: 7\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
        read_all(&mut stream).await;
    })
    .await;
    let addr = rig.serve_only(pod).await;
    let request = "GET / HTTP/1.1\r\nhost: web\r\nte: trailers\r\nconnection: te, close\r\n\r\n";
    let answer = exchange(addr, request).await;
    assert!(
        answer.ends_with("2\r\nhi\r\n0\r\nx-sum: 7\r\n\r\n"),
        "{answer}"
    );
}

#[tokio::test]
async fn http2_clients_get_bodies_and_trailers_of_http2_pods() {
    let rig = Rig::start().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = crossfade_host::proxy::Endpoint {
        pod: "grpc".into(),
        addr: listener.local_addr().unwrap(),
    };
    tokio::spawn(async move {
        // Sends back what it got, with what it counted in a trailer, as gRPC does.
        let echo = hyper::service::service_fn(|request: Request<Incoming>| async move {
            assert_eq!(request.version(), Version::HTTP_2);
            assert_eq!(
                request.headers().get("te"),
                Some(&HeaderValue::from_static("trailers"))
            );
            let body = request.into_body().collect().await.unwrap();
            let sent = body.trailers().cloned().unwrap_or_default();
            let bytes = body.to_bytes();
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            trailers.insert("x-length", bytes.len().into());
            trailers.extend(sent);
            Ok::<_, Infallible>(http::Response::new(frames(vec![
                Frame::data(bytes),
                Frame::trailers(trailers),
            ])))
        });
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(serving.serve_connection(TokioIo::new(stream), echo));
        }
    });
    let to = Destination {
        protocol: Protocol::H2c,
        ..to(vec![endpoint])
    };
    let addr = rig.serve(vec![route(vec![to])]).await;
    let client = h2(addr).await;
    let call = |n: usize| {
        let mut client = client.clone();
        async move {
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sent", n.into());
            let body = frames(vec![
                Frame::data(vec![b'x'; 10_000 * n].into()),
                Frame::trailers(trailers),
            ]);
            let request = Request::post("http://web/echo")
                .header("te", "trailers")
                .body(body)
                .unwrap();
            let body = client
                .send_request(request)
                .await
                .unwrap()
                .into_body()
                .collect()
                .await
                .unwrap();
            let trailers = body.trailers().cloned().unwrap();
            assert_eq!(
                trailers.get("grpc-status"),
                Some(&HeaderValue::from_static("0"))
            );
            assert_eq!(trailers.get("x-sent"), Some(&n.into()));
            assert_eq!(trailers.get("x-length"), Some(&(10_000 * n).into()));
            assert_eq!(body.to_bytes().len(), 10_000 * n);
        }
    };
    futures_util::future::join_all((0..40).map(call)).await;
}

#[tokio::test]
async fn http2_clients_meet_http1_pods_and_the_other_way_round() {
    let rig = Rig::start().await;
    let pods = [Pod::start("a").await];
    let addr = rig.serve(vec![route(vec![version("v", 1, &pods)])]).await;
    let request = Request::post("http://shop.example/x?y")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(frames(vec![
            Frame::data("hel".into()),
            Frame::data("lo".into()),
        ]))
        .unwrap();
    let response = h2(addr).await.send_request(request).await.unwrap();
    assert_eq!(
        response.headers().get("x-pod"),
        Some(&HeaderValue::from_static("a"))
    );
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "hello"
    );
    let seen = pods[0].seen().pop().unwrap();
    assert_eq!(seen.path, "/x?y");
    assert_eq!(
        seen.headers.get("host"),
        Some(&HeaderValue::from_static("shop.example"))
    );
    assert_eq!(
        seen.headers.get("cookie"),
        Some(&HeaderValue::from_static("a=1; b=2"))
    );

    let addr = rig.serve(vec![route(vec![h2c(&pods)])]).await;
    let mut client = Client::connect(addr).await;
    for _ in 0..3 {
        assert_eq!(client.post("/", "hello").await.body, "hello");
    }
}

#[tokio::test]
async fn a_web_socket_passes_in_both_directions_and_counts_as_in_flight() {
    let rig = Rig::start().await;
    let pod = scripted("a", |_, mut stream| async move {
        let head = read_to(&mut stream, "\r\n\r\n").await;
        assert!(head.contains("upgrade: websocket\r\n") && head.contains("connection: upgrade\r\n"), "{head}");
        assert!(head.contains("sec-websocket-key: abc\r\n"), "{head}");
        let answer = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: xyz\r\n\r\nhello";
        stream.write_all(answer.as_bytes()).await.unwrap();
        let (mut read, mut write) = stream.split();
        tokio::io::copy(&mut read, &mut write).await.unwrap();
    })
    .await;
    let addr = rig.serve_only(pod).await;
    let mut client = TcpStream::connect(addr).await.unwrap();
    let ask = "GET /chat HTTP/1.1\r\nhost: web\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: abc\r\n\r\n";
    client.write_all(ask.as_bytes()).await.unwrap();
    let answer = read_to(&mut client, "hello").await;
    assert!(
        answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"),
        "{answer}"
    );
    assert!(
        answer.contains("sec-websocket-accept: xyz\r\n")
            && answer.contains("upgrade: websocket\r\n"),
        "{answer}"
    );
    for word in ["one;", "two;"] {
        client.write_all(word.as_bytes()).await.unwrap();
        assert_eq!(read_to(&mut client, ";").await, word);
    }
    let busy = rig
        .control
        .drain(&["a".into()], Duration::from_millis(10))
        .await
        .unwrap()
        .busy;
    assert_eq!(
        busy.first().map(|busy| (busy.pod.as_str(), busy.in_flight)),
        Some(("a", 1))
    );
    client.write_all(b"last;").await.unwrap();
    assert_eq!(
        read_to(&mut client, ";").await,
        "last;",
        "a drain interrupts nothing"
    );
    client.shutdown().await.unwrap();
    assert_eq!(
        client.read(&mut [0; 8]).await.unwrap(),
        0,
        "the end passes as well"
    );
    let drained = rig
        .control
        .drain(&["a".into()], Duration::from_secs(10))
        .await
        .unwrap();
    assert_eq!(drained.busy, []);
}

#[tokio::test]
async fn a_pod_may_refuse_an_upgrade() {
    let (_rig, _pod, addr) = one_pod().await;
    let mut client = Client::connect(addr).await;
    let headers = [("connection", "upgrade"), ("upgrade", "websocket")];
    let reply = client.get_with("/", &headers).await;
    assert_eq!(
        (reply.status.as_u16(), reply.pod(), reply.header("upgrade")),
        (200, "a", "")
    );
    assert_eq!(client.get("/").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_body_waits_for_the_pod_to_ask_for_it() {
    let rig = Rig::start().await;
    let (asked, mut was_asked) = mpsc::unbounded_channel();
    let pod = scripted("a", move |_, mut stream| {
        let asked = asked.clone();
        async move {
            let head = read_to(&mut stream, "\r\n\r\n").await;
            assert!(
                head.to_lowercase().contains("expect: 100-continue\r\n"),
                "{head}"
            );
            if head.starts_with("POST /no") {
                stream
                    .write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")
                    .await
                    .unwrap();
                asked.send(read_all(&mut stream).await).unwrap();
                return;
            }
            assert!(
                head.ends_with("\r\n\r\n"),
                "no body before it was asked for: {head}"
            );
            stream
                .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
                .await
                .unwrap();
            let body = read_to(&mut stream, "hello").await;
            asked.send(body).unwrap();
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok")
                .await
                .unwrap();
            read_all(&mut stream).await;
        }
    })
    .await;
    let addr = rig.serve_only(pod).await;
    let ask = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: web\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n"
        )
    };
    let mut client = TcpStream::connect(addr).await.unwrap();
    client.write_all(ask("/yes").as_bytes()).await.unwrap();
    assert_eq!(
        read_to(&mut client, "\r\n\r\n").await,
        "HTTP/1.1 100 Continue\r\n\r\n"
    );
    client.write_all(b"hello").await.unwrap();
    let answer = read_to(&mut client, "ok").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(was_asked.recv().await.unwrap(), "hello");

    let mut client = TcpStream::connect(addr).await.unwrap();
    client.write_all(ask("/no").as_bytes()).await.unwrap();
    let answer = read_all(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(!answer.contains("100 Continue"), "{answer}");
    assert_eq!(was_asked.recv().await.unwrap(), "", "the body never left");
}

#[tokio::test]
async fn a_pod_that_never_says_continue_gets_the_body_all_the_same() {
    let rig = Rig::start().await;
    let pod = scripted("a", |_, mut stream| async move {
        read_to(&mut stream, "hello").await;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            .await
            .unwrap();
        read_all(&mut stream).await;
    })
    .await;
    let addr = rig.serve_only(pod).await;
    let ask =
        "POST / HTTP/1.1\r\nhost: web\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\nhello";
    let mut client = TcpStream::connect(addr).await.unwrap();
    client.write_all(ask.as_bytes()).await.unwrap();
    read_to(&mut client, "ok").await;
}

#[tokio::test]
async fn an_answer_that_ends_too_early_ends_the_clients_connection_too() {
    let rig = Rig::start().await;
    let arrived = Arc::new(Notify::new());
    let close = Arc::clone(&arrived);
    let pod = scripted("a", move |_, mut stream| {
        let close = Arc::clone(&close);
        async move {
            read_to(&mut stream, "\r\n\r\n").await;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
                .await
                .unwrap();
            close.notified().await;
        }
    })
    .await;
    let addr = rig.serve_only(pod).await;
    let mut client = TcpStream::connect(addr).await.unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n")
        .await
        .unwrap();
    let answer = read_to(&mut client, "half").await;
    assert!(answer.contains("content-length: 10\r\n"), "{answer}");
    arrived.notify_one();
    assert_eq!(read_all(&mut client).await, "");
    let stats = rig.control.stats().await.unwrap();
    let counted = stats
        .series
        .iter()
        .find(|s| s.error == "answer-cut-short")
        .unwrap_or_else(|| panic!("{stats:?}"));
    assert_eq!((counted.code, counted.count), (200, 1));
}

#[tokio::test]
async fn a_client_that_goes_away_frees_the_pod_and_is_counted() {
    let rig = Rig::start().await;
    let (gone, mut went) = mpsc::unbounded_channel();
    let pod = scripted("a", move |_, mut stream| {
        let gone = gone.clone();
        async move {
            read_to(&mut stream, "\r\n\r\n").await;
            read_all(&mut stream).await;
            gone.send(()).unwrap();
        }
    })
    .await;
    let addr = rig.serve_only(pod).await;
    let mut client = TcpStream::connect(addr).await.unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n")
        .await
        .unwrap();
    crate::rig::until(async || {
        rig.control
            .stats()
            .await
            .unwrap()
            .pods
            .iter()
            .any(|pod| pod.in_flight == 1)
    })
    .await;
    drop(client);
    went.recv().await.unwrap();
    crate::rig::until(async || {
        rig.control
            .stats()
            .await
            .unwrap()
            .series
            .iter()
            .any(|s| s.code == 499)
    })
    .await;
    let stats = rig.control.stats().await.unwrap();
    assert_eq!(stats.pods.first().unwrap().in_flight, 0);
}

#[tokio::test]
async fn a_pod_that_is_too_slow_costs_a_504_and_its_connection() {
    let rig = Rig::start().await;
    let pod = Pod::slow("a", Duration::from_secs(30)).await;
    let mut limited = route(vec![version("v", 1, [&pod])]);
    limited.timeout_ms = Some(50);
    let addr = rig.serve(vec![limited]).await;
    let reply = Client::connect(addr).await.get("/").await;
    assert_eq!(
        (reply.status.as_u16(), reply.header("x-crossfade-error")),
        (504, "timeout")
    );
    assert_eq!(
        rig.control
            .stats()
            .await
            .unwrap()
            .pods
            .first()
            .unwrap()
            .in_flight,
        0
    );
}

#[tokio::test]
async fn header_fields_keep_their_order_and_their_bytes() {
    let (_rig, pod, addr) = one_pod().await;
    let odd = HeaderValue::from_bytes(b"caf\xe9").unwrap();
    let request = get("/")
        .header("x-many", "1")
        .header("x-many", "2")
        .header("x-odd", odd.clone());
    Client::connect(addr)
        .await
        .send(request.body(Full::default()).unwrap())
        .await
        .unwrap();
    let seen = pod.seen().pop().unwrap();
    let many: Vec<_> = seen.headers.get_all("x-many").iter().collect();
    assert_eq!(many, ["1", "2"]);
    assert_eq!(seen.headers.get("x-odd"), Some(&odd));
}
