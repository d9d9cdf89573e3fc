//! Whatever arrives, the answer is a `Status` and the host goes on.

use crossfade_host::server::Patience;

use super::*;

fn post(path: &str, content: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: {content}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

const ROLLOUTS: &str = "/apis/argoproj.io/v1alpha1/namespaces/default/rollouts";

/// Sends a request and wants a refusal of this code whose message contains a text.
async fn refused(f: &Fixture, request: &[u8], code: u16, why: &str) {
    let answer = raw(f, request).await;
    let start = String::from_utf8_lossy(&request[..request.len().min(120)]).into_owned();
    assert!(
        answer.starts_with(&format!("HTTP/1.1 {code} ")),
        "{start:?}: {answer}"
    );
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    let status: Status = serde_json::from_str(body).expect(&start);
    assert_eq!(
        (status.code, status.status.as_str()),
        (code, "Failure"),
        "{start:?}"
    );
    assert!(
        status.message.contains(why),
        "{start:?}: {}",
        status.message
    );
    assert!(f.client.ready().await.unwrap());
}

#[tokio::test]
async fn bodies_that_make_no_sense_are_refused() {
    let f = Fixture::new();
    let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
    let bodies: [(&[u8], u16, &str); 10] = [
        (b"", 400, "not valid JSON"),
        (b"{", 400, "not valid JSON"),
        (b"\xff\xfe\x00", 400, "not valid JSON"),
        (b"kind: Rollout", 400, "not valid JSON"),
        (b"[]", 400, "must be a JSON object"),
        (b"null", 400, "must be a JSON object"),
        (b"{\"metadata\":[]}", 422, "metadata"),
        (b"{\"metadata\":{\"name\":{}}}", 422, "metadata.name"),
        (
            b"{\"metadata\":{\"name\":\"x\",\"labels\":{\"a\":1}}}",
            422,
            "put it in quotes",
        ),
        (&deep, 400, "not valid JSON"),
    ];
    for (body, code, why) in bodies {
        refused(&f, &post(ROLLOUTS, "application/json", body), code, why).await;
    }
    refused(
        &f,
        &post(ROLLOUTS, "application/yaml", b"{}"),
        415,
        "send JSON",
    )
    .await;
    refused(
        &f,
        &post(
            "/crossfade/v1/apply",
            "application/json",
            b"{\"documents\":{}}",
        ),
        400,
        "no apply request",
    )
    .await;
    refused(
        &f,
        &post(
            "/crossfade/v1/apply",
            "application/json",
            b"{\"documents\":[7]}",
        ),
        400,
        "document 1 is no object",
    )
    .await;
    assert_eq!(f.store.revision(), 0);
}

#[tokio::test]
async fn a_huge_body_is_refused_before_it_is_read_and_while_it_is_read() {
    let f = Fixture::new();
    let announced =
        format!("POST {ROLLOUTS} HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n{{");
    refused(&f, announced.as_bytes(), 413, "larger than").await;
    let mut chunked =
        format!("POST {ROLLOUTS} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
            .into_bytes();
    let piece = [
        format!("{:x}\r\n", 1 << 20).as_bytes(),
        &vec![b' '; 1 << 20],
        b"\r\n",
    ]
    .concat();
    for _ in 0..17 {
        chunked.extend_from_slice(&piece);
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    let answer = raw(&f, &chunked).await;
    // The server may close before all is sent; whoever reads then sees the refusal or the end.
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 413 "),
        "{answer}"
    );
    assert!(f.client.ready().await.unwrap());
}

#[tokio::test]
async fn paths_methods_and_parameters_that_make_no_sense_are_refused() {
    let f = Fixture::new();
    f.create(Kind::Rollout, rollout("web")).await;
    let table = [
        ("GET /nothing", 404, "nothing at /nothing"),
        (
            "GET /apis/x/v1/namespaces/default/fluxes",
            404,
            "knows no resource \"fluxes\" in x/v1",
        ),
        ("GET /api/v1/pods/%zz", 404, "the host has nothing"),
        ("DELETE /api/v1/pods", 405, "DELETE is not supported"),
        (
            "POST /apis/argoproj.io/v1alpha1/namespaces/default/rollouts/web",
            405,
            "POST is not supported",
        ),
        (
            "DELETE /apis/argoproj.io/v1alpha1/namespaces/default/rollouts/web/status",
            405,
            "DELETE is not supported",
        ),
        ("GET /crossfade/v1/apply", 405, "GET is not supported"),
        ("BREW /crossfade/v1/info", 405, "BREW is not supported"),
        (
            "GET /api/v1/pods?labelSelector=a+b",
            400,
            "unable to parse label selector",
        ),
        (
            "GET /api/v1/pods?fieldSelector=color%3Dred",
            400,
            "cannot be selected by",
        ),
        (
            "GET /api/v1/pods?watch=true&resourceVersion=x",
            400,
            "is no whole number",
        ),
        (
            "GET /api/v1/pods?watch=true&timeoutSeconds=-1",
            400,
            "is no whole number",
        ),
        (
            "GET /crossfade/v1/namespaces/d/pods/p/log?tailLines=many",
            400,
            "is no whole number",
        ),
        (
            "DELETE /apis/argoproj.io/v1alpha1/namespaces/default/rollouts/web?propagationPolicy=Up",
            400,
            "is none of",
        ),
        (
            "DELETE /apis/argoproj.io/v1alpha1/namespaces/default/rollouts/web?dryRun=some",
            400,
            "use All",
        ),
        (
            "PATCH /apis/argoproj.io/v1alpha1/namespaces/default/rollouts/web",
            415,
            "patches of the type",
        ),
        (
            "GET /api/v1/namespaces/default/pods/web/scale",
            404,
            "not found",
        ),
        ("POST /api/v1/configmaps", 400, "not valid JSON"),
    ];
    for (line, code, why) in table {
        refused(
            &f,
            format!("{line} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes(),
            code,
            why,
        )
        .await;
    }
    assert!(f.client.get(Kind::Rollout, "default", "web").await.is_ok());
}

#[tokio::test]
async fn what_is_no_http_ends_the_connection_and_nothing_else() {
    let f = Fixture::new();
    for junk in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        &vec![b'a'; 1_000_000],
    ] {
        let answer = raw(&f, junk).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
            "{answer}"
        );
        assert!(f.client.ready().await.unwrap());
    }
}

#[tokio::test]
async fn a_full_store_answers_507_and_goes_on_reading() {
    let mut options = Options::new(Arc::new(Picky));
    options.largest_file = Some(300_000);
    let f = Fixture::with(options, Patience::default());
    let mut stored = 0;
    let error = loop {
        let object =
            json!({"metadata": {"name": format!("c{stored}")}, "data": {"a": "x".repeat(20_000)}});
        match f.client.create(Kind::ConfigMap, "default", &object).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.reason(), Some(Reason::InsufficientStorage), "{error}");
    let list = f
        .client
        .list(
            Kind::ConfigMap,
            None,
            &crossfade_host::client::Wanted::default(),
        )
        .await
        .unwrap();
    assert_eq!(list.items.len(), stored);
}

#[tokio::test]
async fn a_client_that_does_not_finish_its_request_is_let_go() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let soon = Duration::from_millis(100);
    let patience = Patience {
        head: soon,
        body: soon,
        ..Patience::default()
    };
    let f = Fixture::with(Options::new(Arc::new(Picky)), patience);
    let started = format!("POST {ROLLOUTS} HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{{");
    for (request, answered) in [
        ("", ""),
        ("GET /healthz HTTP/1.1\r\nhos", ""),
        (&started, "HTTP/1.1 504 "),
    ] {
        let mut stream = tokio::net::UnixStream::connect(f.folder.path().join("control.sock"))
            .await
            .unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let ended =
            tokio::time::timeout(Duration::from_secs(5), stream.read_to_string(&mut answer)).await;
        assert!(
            ended.is_ok() && answer.starts_with(answered),
            "{request:?}: {ended:?} {answer}"
        );
    }
}
