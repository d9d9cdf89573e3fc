//! Requests made to be understood in two ways, over raw sockets: refused, and the connection closed.

use std::time::Duration;

use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::rig::{Pod, Rig, exchange, one_pod, read_to, route, scripted, until, version};

/// A request that must never arrive anywhere.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nhost: web\r\n\r\n";

#[tokio::test]
async fn ambiguous_or_malformed_requests_are_refused_and_nothing_after_them_is_read() {
    let (rig, pod, addr) = one_pod().await;
    let post = |fields: &str, body: &str| {
        format!("POST / HTTP/1.1\r\nhost: web\r\n{fields}\r\n{body}{HIDDEN}")
    };
    let chunked = |body: &str| post("transfer-encoding: chunked\r\n", body);
    let table = [
        (
            "both lengths",
            400,
            post(
                "content-length: 5\r\ntransfer-encoding: chunked\r\n",
                "0\r\n\r\n",
            ),
        ),
        (
            "both lengths, the other way round",
            400,
            post(
                "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
                "0\r\n\r\n",
            ),
        ),
        (
            "lengths that differ",
            400,
            post("content-length: 5\r\ncontent-length: 6\r\n", "hello"),
        ),
        (
            "a list of lengths",
            400,
            post("content-length: 5, 5\r\n", "hello"),
        ),
        (
            "a signed length",
            400,
            post("content-length: +5\r\n", "hello"),
        ),
        ("a negative length", 400, post("content-length: -1\r\n", "")),
        (
            "a length in hex",
            400,
            post("content-length: 0x5\r\n", "hello"),
        ),
        (
            "an immense length",
            400,
            post("content-length: 99999999999999999999999\r\n", ""),
        ),
        (
            "a coding before chunked",
            501,
            post("transfer-encoding: gzip, chunked\r\n", "0\r\n\r\n"),
        ),
        (
            "chunked not last",
            400,
            post("transfer-encoding: chunked, gzip\r\n", "0\r\n\r\n"),
        ),
        (
            "chunked twice",
            400,
            post(
                "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
                "0\r\n\r\n",
            ),
        ),
        (
            "chunked with a quirk",
            400,
            post("transfer-encoding: \x0bchunked\r\n", "0\r\n\r\n"),
        ),
        (
            "an unknown coding",
            400,
            post("transfer-encoding: xchunked\r\n", "0\r\n\r\n"),
        ),
        (
            "a space before the colon",
            400,
            post("transfer-encoding : chunked\r\n", "0\r\n\r\n"),
        ),
        (
            "a folded field",
            400,
            post("x-a: b\r\n transfer-encoding: chunked\r\n", "0\r\n\r\n"),
        ),
        (
            "a coding in HTTP/1.0",
            400,
            format!(
                "POST / HTTP/1.0\r\nhost: web\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}"
            ),
        ),
        (
            "a chunk size that is none",
            400,
            chunked("xyz\r\nhello\r\n0\r\n\r\n"),
        ),
        (
            "a signed chunk size",
            400,
            chunked("+5\r\nhello\r\n0\r\n\r\n"),
        ),
        (
            "an immense chunk size",
            400,
            chunked("ffffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
        ),
        (
            "a chunk longer than it says",
            400,
            chunked("3\r\nhello\r\n0\r\n\r\n"),
        ),
        (
            "a line feed alone after a size",
            400,
            chunked("5\nhello\r\n0\r\n\r\n"),
        ),
        (
            "no host",
            400,
            format!("POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n{HIDDEN}"),
        ),
        (
            "two hosts",
            400,
            post("host: other\r\ncontent-length: 0\r\n", ""),
        ),
        (
            "a host that is none",
            400,
            format!("GET / HTTP/1.1\r\nhost: a b\r\n\r\n{HIDDEN}"),
        ),
        (
            "a NUL in a field",
            400,
            post("x-a: b\0c\r\ncontent-length: 0\r\n", ""),
        ),
        (
            "CONNECT",
            405,
            format!("CONNECT web:80 HTTP/1.1\r\nhost: web:80\r\n\r\n{HIDDEN}"),
        ),
    ];
    for (what, status, bytes) in table {
        let answer = exchange(addr, &bytes).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} "))
                || answer.starts_with(&format!("HTTP/1.0 {status} ")),
            "{what}: {answer:?}"
        );
        assert_eq!(answer.matches("HTTP/1.").count(), 1, "{what}: {answer:?}");
    }
    let paths: Vec<String> = pod.seen().into_iter().map(|seen| seen.path).collect();
    assert!(!paths.iter().any(|path| path == "/hidden"), "{paths:?}");
    let stats = rig.control.stats().await.unwrap();
    assert!(stats.pods.iter().all(|pod| pod.in_flight == 0));
}

#[tokio::test]
async fn ambiguity_is_seen_behind_other_requests_on_the_connection() {
    let (_rig, pod, addr) = one_pod().await;
    let good = "POST /good HTTP/1.1\r\nhost: web\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let text = "POST /text HTTP/1.1\r\nhost: web\r\ntransfer-encoding: chunked\r\n\r\n13\r\nContent-Length: 5\r\n\r\n0\r\n\r\n";
    let bad = "POST /bad HTTP/1.1\r\nhost: web\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    let answer = exchange(addr, &format!("{good}{text}\r\n{good}{bad}{HIDDEN}")).await;
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 3, "{answer}");
    assert_eq!(
        answer.matches("HTTP/1.1 400 Bad Request").count(),
        1,
        "{answer}"
    );
    assert!(
        answer.contains("x-crossfade-error: bad-request"),
        "{answer}"
    );
    let paths: Vec<String> = pod.seen().into_iter().map(|seen| seen.path).collect();
    assert_eq!(paths, ["/good", "/text", "/good"]);
}

#[tokio::test]
async fn equal_lengths_said_twice_are_one_length() {
    let (_rig, pod, addr) = one_pod().await;
    let request = "POST / HTTP/1.1\r\nhost: web\r\ncontent-length: 5\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";
    let answer = exchange(addr, request).await;
    assert!(answer.ends_with("hello"), "{answer}");
    assert_eq!(
        pod.seen()
            .pop()
            .unwrap()
            .headers
            .get_all("content-length")
            .iter()
            .count(),
        1
    );
}

#[tokio::test]
async fn a_pod_never_sees_a_body_that_went_wrong_as_a_whole_one() {
    let (_rig, pod, addr) = one_pod().await;
    for body in ["5\r\nhello\r\n", "5\r\nhello\r\nzz\r\n"] {
        let mut client = TcpStream::connect(addr).await.unwrap();
        let request =
            format!("POST / HTTP/1.1\r\nhost: web\r\ntransfer-encoding: chunked\r\n\r\n{body}");
        client.write_all(request.as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        crate::rig::read_all(&mut client).await;
    }
    assert!(pod.seen().is_empty(), "{:?}", pod.seen());
}

#[tokio::test]
async fn an_answer_with_both_lengths_reaches_the_client_with_one() {
    let rig = Rig::start().await;
    let pod = scripted("a", |_, mut stream| async move {
        read_to(&mut stream, "\r\n\r\n").await;
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 50\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
        crate::rig::read_all(&mut stream).await;
    })
    .await;
    let addr = rig.serve_only(pod).await;
    let answer = exchange(
        addr,
        "GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert!(!answer.contains("content-length"), "{answer}");
    assert!(answer.ends_with("2\r\nhi\r\n0\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn http2_by_upgrade_is_not_passed_on() {
    let (_rig, pod, addr) = one_pod().await;
    let request = "GET / HTTP/1.1\r\nhost: web\r\nconnection: upgrade, http2-settings, close\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n";
    let answer = exchange(addr, request).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let headers = pod.seen().pop().unwrap().headers;
    assert!(
        !headers.contains_key("upgrade") && !headers.contains_key("http2-settings"),
        "{headers:?}"
    );
}

#[tokio::test]
async fn heads_without_end_are_refused_with_a_reason_and_counted() {
    let (rig, pod, addr) = one_pod().await;
    let long = format!(
        "GET / HTTP/1.1\r\nhost: web\r\nx-long: {}\r\n\r\n",
        "x".repeat(70_000)
    );
    let many = "x-field: y\r\n".repeat(200);
    for request in [long, format!("GET / HTTP/1.1\r\nhost: web\r\n{many}\r\n")] {
        let mut client = TcpStream::connect(addr).await.unwrap();
        // The proxy may answer and close before all of it is written.
        let _ = client.write_all(request.as_bytes()).await;
        let answer = read_to(&mut client, "\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer:?}");
        assert!(
            answer.contains("x-crossfade-error: head-too-large\r\n"),
            "{answer:?}"
        );
    }
    for nonsense in [
        "GET / HTTP/1.1\r\nh\u{1}st: web\r\n\r\n",
        "\u{16}\u{3}\u{1} no HTTP",
    ] {
        let answer = exchange(addr, nonsense).await;
        assert!(
            answer.starts_with("HTTP/1.1 400 Bad Request\r\nx-crossfade-error: bad-request\r\n"),
            "{nonsense:?}: {answer:?}"
        );
    }
    assert_eq!(pod.count(), 0);
    let counted = |stats: &crossfade_host::proxy::Stats, error: &str| -> u64 {
        let of = stats.series.iter().filter(|series| series.error == error);
        of.map(|series| series.count).sum()
    };
    until(async || {
        let stats = rig.control.stats().await.unwrap();
        counted(&stats, "head-too-large") == 2 && counted(&stats, "bad-request") == 2
    })
    .await;
}

#[tokio::test]
async fn a_head_that_does_not_come_to_its_end_is_given_up() {
    let rig = Rig::limited(Duration::from_millis(300)).await;
    let pod = Pod::start("a").await;
    let addr = rig.serve(vec![route(vec![version("v", 1, [&pod])])]).await;
    for beginning in ["", "GET / HTTP/1.1\r\nhost: web\r\n"] {
        let mut client = TcpStream::connect(addr).await.unwrap();
        client.write_all(beginning.as_bytes()).await.unwrap();
        assert_eq!(crate::rig::read_all(&mut client).await, "", "{beginning:?}");
    }
    // A client that sends a byte now and then gains nothing by it.
    let mut slow = TcpStream::connect(addr).await.unwrap();
    let dripping = async {
        loop {
            if slow.write_all(b"x").await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), dripping)
        .await
        .expect("cut off");
}
