//! Fifty changes of pods while every kind of client is at work: no request fails.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use crossfade_host::proxy::Protocol;
use http::Request;
use http_body_util::BodyExt;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinHandle};

use crate::rig::{Client, Pod, Rig, read_to, route, version};

/// What a client does again and again until it is told to stop; how often it did it.
fn keep_on<F>(
    over: &Arc<AtomicBool>,
    mut once: impl FnMut(usize) -> F + Send + 'static,
) -> JoinHandle<usize>
where
    F: Future<Output = ()> + Send,
{
    let over = Arc::clone(over);
    tokio::spawn(async move {
        let mut n = 0;
        while !over.load(Ordering::SeqCst) {
            once(n).await;
            n += 1;
        }
        n
    })
}

async fn conversation(addr: SocketAddr, n: usize) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let ask = "GET /ws HTTP/1.1\r\nhost: web\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: x\r\n\r\n";
    stream.write_all(ask.as_bytes()).await.unwrap();
    let answer = read_to(&mut stream, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    for word in 0..5 {
        let word = format!("{n}-{word};");
        stream.write_all(word.as_bytes()).await.unwrap();
        assert_eq!(read_to(&mut stream, ";").await, word);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stream.shutdown().await.unwrap();
    assert_eq!(
        read_to(&mut stream, "\0").await,
        "",
        "it ends when the client ends it"
    );
}

/// A body that is written in pieces.
fn pieces(n: usize) -> http_body_util::combinators::BoxBody<Bytes, Infallible> {
    let pieces = (0..4).map(move |piece| {
        Ok(hyper::body::Frame::data(Bytes::from(format!(
            "{n}:{piece};"
        ))))
    });
    BodyExt::boxed(http_body_util::StreamBody::new(futures_util::stream::iter(
        pieces,
    )))
}

async fn fifty_changes(protocol: Protocol) {
    let rig = Rig::start().await;
    let mut pods = Vec::new();
    for n in 0..4 {
        pods.push(Pod::slow(&format!("pod-{n}"), Duration::from_millis(1)).await);
    }
    let split = |pods: &[Pod], weight: u32| {
        let of = |version_: &str, weight, pods| {
            let mut to = version(version_, weight, pods);
            to.protocol = protocol;
            to
        };
        vec![route(vec![
            of("s", 100 - weight, &pods[..2]),
            of("c", weight, &pods[2..]),
        ])]
    };
    let addr = rig.serve(split(&pods, 50)).await;
    let over = Arc::new(AtomicBool::new(false));
    let posted = Arc::new(AtomicUsize::new(0));

    let mut clients: Vec<JoinHandle<usize>> = Vec::new();
    for _ in 0..4 {
        let client = Arc::new(tokio::sync::Mutex::new(Client::connect(addr).await));
        clients.push(keep_on(&over, move |n| {
            let client = Arc::clone(&client);
            async move {
                let reply = client.lock().await.get(&format!("/{n}")).await;
                assert_eq!(reply.status.as_u16(), 200, "{reply:?}");
            }
        }));
        let client = Arc::new(tokio::sync::Mutex::new(Client::connect(addr).await));
        let counted = Arc::clone(&posted);
        clients.push(keep_on(&over, move |n| {
            let (client, counted) = (Arc::clone(&client), Arc::clone(&counted));
            async move {
                let body = vec![n as u8; 20_000];
                let reply = client.lock().await.post("/", body.clone()).await;
                assert!(
                    reply.status.as_u16() == 200 && reply.body == body,
                    "{:?}",
                    reply.headers
                );
                counted.fetch_add(1, Ordering::SeqCst);
            }
        }));
        let stream = TcpStream::connect(addr).await.unwrap();
        let (client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        let counted = Arc::clone(&posted);
        clients.push(keep_on(&over, move |n| {
            let (mut client, counted) = (client.clone(), Arc::clone(&counted));
            async move {
                let request = Request::post("http://web/").body(pieces(n)).unwrap();
                let response = client.send_request(request).await.unwrap();
                assert_eq!(response.status().as_u16(), 200, "{:?}", response.headers());
                let body = response.into_body().collect().await.unwrap().to_bytes();
                assert_eq!(body, pieces(n).collect().await.unwrap().to_bytes());
                counted.fetch_add(1, Ordering::SeqCst);
            }
        }));
        if protocol == Protocol::Http1 {
            clients.push(keep_on(&over, move |n| conversation(addr, n)));
        }
    }

    let mut finished = 0;
    for change in 0..50_u32 {
        let new = Pod::slow(&format!("pod-{}", change + 4), Duration::from_millis(1)).await;
        let old = std::mem::replace(&mut pods[change as usize % 4], new);
        rig.serve(split(&pods, change * 37 % 101)).await;
        let drained = rig
            .control
            .drain(std::slice::from_ref(&old.name), Duration::from_secs(20))
            .await
            .unwrap();
        assert!(drained.busy.is_empty(), "{drained:?}");
        finished += old
            .seen()
            .iter()
            .filter(|seen| seen.method == "POST")
            .count();
        old.kill();
    }
    over.store(true, Ordering::SeqCst);
    for client in clients {
        let times = client.await.expect("no request failed");
        assert!(times > 10, "{times}");
    }
    finished += pods
        .iter()
        .flat_map(Pod::seen)
        .filter(|seen| seen.method == "POST")
        .count();
    assert_eq!(
        finished,
        posted.load(Ordering::SeqCst),
        "every POST came once"
    );
    let stats = rig.control.stats().await.unwrap();
    let failed: Vec<_> = stats
        .series
        .iter()
        .filter(|s| !s.error.is_empty())
        .collect();
    assert!(failed.is_empty(), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_through_fifty_changes_of_pods() {
    fifty_changes(Protocol::Http1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_through_fifty_changes_of_http2_pods() {
    fifty_changes(Protocol::H2c).await;
}
