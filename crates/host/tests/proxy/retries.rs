//! When a request is tried again, and when never.

use std::sync::{Arc, Mutex};

use crossfade_host::proxy::Endpoint;
use http::{Method, Request};
use http_body_util::Full;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
};

use crate::rig::{Client, Pod, Reply, Rig, nobody, route, scripted, spread, to, until, version};

#[tokio::test]
async fn a_request_goes_to_another_pod_if_one_takes_no_connection() {
    let rig = Rig::start().await;
    let alive = Pod::start("alive").await;
    let dead = [nobody("dead-1").await, nobody("dead-2").await];
    let endpoints = dead.into_iter().chain([alive.endpoint()]).collect();
    let addr = rig.serve(vec![route(vec![to(endpoints)])]).await;
    assert_eq!(spread(addr, 20).await.get("alive"), Some(&20));
    let mut client = Client::connect(addr).await;
    for _ in 0..20 {
        assert_eq!(client.post("/", "body").await.body, "body");
    }
    let stats = rig.control.stats().await.unwrap();
    let dead: Vec<_> = stats.pods.iter().filter(|pod| pod.pod != "alive").collect();
    assert!(
        dead.iter().all(|pod| pod.ejected && pod.ejections >= 1),
        "{dead:?}"
    );
    let tries: u64 = dead.iter().map(|pod| pod.retries).sum();
    assert!(tries <= 8, "a dead pod is left alone for a while: {dead:?}");
}

#[tokio::test]
async fn when_no_pod_takes_a_connection_the_answer_says_so_and_all_are_tried_again() {
    let rig = Rig::start().await;
    let (one, two) = (nobody("one").await, nobody("two").await);
    let addr = rig
        .serve(vec![route(vec![to(vec![one.clone(), two])])])
        .await;
    let mut client = Client::connect(addr).await;
    for _ in 0..3 {
        let reply = client.get("/").await;
        assert_eq!(
            (reply.status.as_u16(), reply.header("x-crossfade-error")),
            (502, "connect-failed")
        );
    }
    // All are ejected now. Never all at once: one that is there again is found by the next request.
    let _back = scripted_at(&one).await;
    assert_eq!(client.get("/").await.status.as_u16(), 200);
}

#[tokio::test]
async fn another_version_takes_over_from_one_whose_pods_are_all_dead() {
    let rig = Rig::start().await;
    let stable = Pod::start("stable").await;
    let mut canary = to(vec![nobody("canary").await]);
    canary.version = "c".into();
    let addr = rig
        .serve(vec![route(vec![version("s", 1, [&stable]), canary])])
        .await;
    assert_eq!(spread(addr, 20).await.get("stable"), Some(&20));
}

/// How far a pod lets a request come before it closes the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dies {
    /// After this many bytes of the request.
    After(usize),
    /// After the whole request and this beginning of an answer.
    Answering(&'static str),
}

/// A pod that answers the first request on each of its first connections, if `warm`, and then dies in the middle of
/// the next one. From the connection `healthy` on it answers all.
struct Dying {
    endpoint: Endpoint,
    /// What came of each request.
    got: Arc<Mutex<Vec<Vec<u8>>>>,
}

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const BODY: &str = "the-body-of-the-request";

impl Dying {
    async fn start(name: &str, dies: Dies, warm: bool, healthy: usize) -> Self {
        let got: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let seen = Arc::clone(&got);
        let endpoint = scripted(name, move |number, mut stream| {
            let seen = Arc::clone(&seen);
            async move {
                if warm && number < healthy {
                    let bytes = request(&mut stream, usize::MAX).await;
                    seen.lock().unwrap().push(bytes);
                    stream.write_all(ANSWER).await.unwrap();
                }
                let limit = match dies {
                    Dies::After(limit) if number < healthy => limit,
                    _ => usize::MAX,
                };
                loop {
                    let bytes = request(&mut stream, limit).await;
                    let nothing = bytes.is_empty();
                    seen.lock().unwrap().push(bytes);
                    if number >= healthy && !nothing {
                        stream.write_all(ANSWER).await.unwrap();
                        continue;
                    }
                    if let Dies::Answering(beginning) = dies {
                        stream.write_all(beginning.as_bytes()).await.unwrap();
                    }
                    return;
                }
            }
        })
        .await;
        Self { endpoint, got }
    }

    /// Of how many requests any byte has come.
    fn times(&self) -> usize {
        self.got
            .lock()
            .unwrap()
            .iter()
            .filter(|bytes| !bytes.is_empty())
            .count()
    }
}

/// Reads one request, but at most `limit` bytes and no more after that.
async fn request(stream: &mut TcpStream, limit: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < limit {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let whole = text.ends_with(BODY)
            || (text.ends_with("\r\n\r\n") && !text.contains("content-length: 23"));
        if whole || stream.read_u8().await.map(|byte| bytes.push(byte)).is_err() {
            break;
        }
    }
    bytes
}

async fn send(client: &mut Client, method: &Method) -> Reply {
    let body = if *method == Method::GET { "" } else { BODY };
    let request = Request::builder()
        .method(method)
        .uri("/")
        .header("host", "web");
    client
        .send(request.body(Full::from(body)).unwrap())
        .await
        .unwrap()
}

const DEATHS: [Dies; 6] = [
    Dies::After(0),
    Dies::After(1),
    Dies::After(40),
    Dies::After(usize::MAX),
    Dies::Answering("H"),
    Dies::Answering("HTTP/1.1 200 OK\r\ncontent-le"),
];

#[tokio::test]
async fn a_post_is_never_sent_twice_wherever_the_pod_dies() {
    for dies in DEATHS {
        for warm in [false, true] {
            let rig = Rig::with_workers(1).await;
            let (one, two) = (
                Dying::start("one", dies, warm, 2).await,
                Dying::start("two", dies, warm, 2).await,
            );
            let endpoints = vec![one.endpoint.clone(), two.endpoint.clone()];
            let addr = rig.serve(vec![route(vec![to(endpoints)])]).await;
            let mut client = Client::connect(addr).await;
            if warm {
                for _ in 0..2 {
                    assert_eq!(send(&mut client, &Method::POST).await.body, "ok");
                }
            }
            let before = one.times() + two.times();
            let reply = send(&mut client, &Method::POST).await;
            let times = one.times() + two.times() - before;
            if reply.status.as_u16() == 200 {
                assert_eq!(times, 1, "{dies:?}, warm {warm}: {reply:?}");
            } else {
                assert_eq!(reply.status.as_u16(), 502, "{dies:?}, warm {warm}");
                assert!(!reply.header("x-crossfade-error").is_empty(), "{reply:?}");
                assert!(times <= 1, "{dies:?}, warm {warm}: came {times} times");
            }
        }
    }
}

#[tokio::test]
async fn a_get_survives_an_idle_connection_that_dies_before_a_byte_of_the_answer() {
    for dies in DEATHS {
        let rig = Rig::with_workers(1).await;
        let pod = Dying::start("one", dies, true, 1).await;
        let addr = rig
            .serve(vec![route(vec![to(vec![pod.endpoint.clone()])])])
            .await;
        let mut client = Client::connect(addr).await;
        assert_eq!(send(&mut client, &Method::GET).await.body, "ok");
        let reply = send(&mut client, &Method::GET).await;
        if matches!(dies, Dies::After(_)) {
            assert_eq!(reply.body, "ok", "{dies:?}");
        } else {
            // An answer had begun.
            assert_eq!((reply.status.as_u16(), pod.times()), (502, 2), "{dies:?}");
        }
    }
}

#[tokio::test]
async fn a_get_survives_the_death_of_one_pod_and_one_request_does_not_kill_every_pod() {
    let rig = Rig::with_workers(1).await;
    let deadly = [
        Dying::start("a", Dies::Answering(""), false, 9).await,
        Dying::start("b", Dies::Answering(""), false, 9).await,
        Dying::start("c", Dies::Answering(""), false, 9).await,
    ];
    let endpoints = deadly.iter().map(|pod| pod.endpoint.clone()).collect();
    let addr = rig.serve(vec![route(vec![to(endpoints)])]).await;
    let reply = send(&mut Client::connect(addr).await, &Method::GET).await;
    assert_eq!(
        (reply.status.as_u16(), reply.header("x-crossfade-error")),
        (502, "connection-lost")
    );
    let mut times: Vec<usize> = deadly.iter().map(Dying::times).collect();
    times.sort_unstable();
    assert_eq!(times, [0, 1, 1], "at two pods, and never twice at one");

    let (dying, well) = (
        Dying::start("d", Dies::Answering(""), false, 9).await,
        Dying::start("e", Dies::Answering(""), false, 0).await,
    );
    let endpoints = vec![dying.endpoint.clone(), well.endpoint.clone()];
    let addr = rig.serve(vec![route(vec![to(endpoints)])]).await;
    for _ in 0..2 {
        let reply = send(&mut Client::connect(addr).await, &Method::GET).await;
        assert_eq!(reply.body, "ok");
    }
    assert!(dying.times() > 0, "it met the pod that dies");
}

#[tokio::test]
async fn a_put_is_repeated_only_while_its_body_is_whole() {
    let rig = Rig::with_workers(1).await;
    let pod = Dying::start("one", Dies::After(usize::MAX), true, 1).await;
    let addr = rig
        .serve(vec![route(vec![to(vec![pod.endpoint.clone()])])])
        .await;
    let mut client = Client::connect(addr).await;
    assert_eq!(send(&mut client, &Method::PUT).await.body, "ok");
    let reply = send(&mut client, &Method::PUT).await;
    assert_eq!(
        (reply.status.as_u16(), reply.header("x-crossfade-error")),
        (502, "connection-lost")
    );
    assert_eq!(pod.times(), 2);
}

#[tokio::test]
async fn a_post_does_not_meet_a_connection_that_the_pod_has_closed() {
    let rig = Rig::with_workers(1).await;
    let closed = Arc::new(Notify::new());
    let close = Arc::clone(&closed);
    let pod = scripted("a", move |_, mut stream| {
        let close = Arc::clone(&close);
        async move {
            request(&mut stream, usize::MAX).await;
            stream.write_all(ANSWER).await.unwrap();
            drop(stream);
            close.notify_one();
        }
    })
    .await;
    let addr = rig.serve_only(pod).await;
    let mut client = Client::connect(addr).await;
    for _ in 0..50 {
        assert_eq!(send(&mut client, &Method::POST).await.body, "ok");
        closed.notified().await;
    }
}

#[tokio::test]
async fn what_is_no_http_is_a_bad_answer() {
    let rig = Rig::with_workers(1).await;
    let pod = scripted("a", |_, mut stream| async move {
        request(&mut stream, usize::MAX).await;
        stream.write_all(b"SSH-2.0-OpenSSH\r\n\r\n").await.unwrap();
    })
    .await;
    let addr = rig.serve_only(pod).await;
    let reply = send(&mut Client::connect(addr).await, &Method::GET).await;
    assert_eq!(
        (reply.status.as_u16(), reply.header("x-crossfade-error")),
        (502, "bad-answer")
    );
}

#[tokio::test]
async fn a_pod_that_was_ejected_gets_requests_again_after_a_short_time() {
    let rig = Rig::start().await;
    let other = Pod::start("other").await;
    let away = nobody("away").await;
    let addr = rig
        .serve(vec![route(vec![to(vec![other.endpoint(), away.clone()])])])
        .await;
    assert_eq!(spread(addr, 4).await.get("other"), Some(&4));
    let back = scripted_at(&away).await;
    until(async || spread(addr, 4).await.contains_key("back")).await;
    drop(back);
    let stats = rig.control.stats().await.unwrap();
    let pod = stats.pods.iter().find(|pod| pod.pod == "away").unwrap();
    assert!(!pod.ejected && pod.ejections >= 1, "{pod:?}");
}

async fn scripted_at(endpoint: &Endpoint) -> tokio::task::JoinHandle<()> {
    let listener = tokio::net::TcpListener::bind(endpoint.addr).await.unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                while !request(&mut stream, usize::MAX).await.is_empty() {
                    let answer = b"HTTP/1.1 200 OK\r\nx-pod: back\r\ncontent-length: 0\r\n\r\n";
                    stream.write_all(answer).await.unwrap();
                }
            });
        }
    })
}
