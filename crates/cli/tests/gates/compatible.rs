//! What a client of the reference sees.

use std::os::unix::fs::symlink;

use crate::rig::{PODINFO, Server, Start};

#[tokio::test]
async fn gates_01_a_gate_is_closed_until_somebody_opens_it() {
    let server = Server::new(&[]).await;
    server
        .post("/gate/check", PODINFO)
        .await
        .is(403, "Forbidden");
    server.says("podinfo.test gate check: approved false").await;
}

#[tokio::test]
async fn gates_02_an_open_gate_stays_open_until_it_is_closed() {
    let server = Server::new(&[]).await;
    let opened = server.post("/gate/open", PODINFO).await;
    opened.is(202, "");
    assert_eq!(opened.header("content-type"), None);
    for _ in 0..5 {
        let said = server.post("/gate/check", PODINFO).await;
        said.is(200, "Approved");
        assert_eq!(
            said.header("content-type"),
            Some("text/plain; charset=utf-8")
        );
    }
    server.post("/gate/open", PODINFO).await.is(202, "");
    server
        .post("/gate/check", PODINFO)
        .await
        .is(200, "Approved");
    for _ in 0..2 {
        server.post("/gate/close", PODINFO).await.is(202, "");
    }
    server
        .post("/gate/check", PODINFO)
        .await
        .is(403, "Forbidden");
    for message in [
        "podinfo.test gate opened",
        "podinfo.test gate check: approved true",
        "podinfo.test gate closed",
        "podinfo.test gate check: approved false",
    ] {
        server.says(message).await;
    }
    // The gate of another Canary is another gate.
    server.post("/gate/open", PODINFO).await.is(202, "");
    let other = r#"{"name":"podinfo","namespace":"other"}"#;
    server.post("/gate/check", other).await.is(403, "Forbidden");
}

#[tokio::test]
async fn gates_03_the_rollback_gate_is_a_gate_of_its_own() {
    let server = Server::new(&[]).await;
    server
        .post("/rollback/check", PODINFO)
        .await
        .is(403, "Forbidden");
    server.post("/rollback/open", PODINFO).await.is(202, "");
    server
        .post("/rollback/check", PODINFO)
        .await
        .is(200, "Approved");
    server
        .post("/gate/check", PODINFO)
        .await
        .is(403, "Forbidden");
    // A Canary whose name looks like the key of another's rollback gate has its own.
    let alike = r#"{"name":"rollback.podinfo","namespace":"test"}"#;
    server.post("/gate/check", alike).await.is(403, "Forbidden");
    server.post("/rollback/close", PODINFO).await.is(202, "");
    server
        .post("/rollback/check", PODINFO)
        .await
        .is(403, "Forbidden");
    for message in [
        "rollback.podinfo.test rollback check: approved false",
        "rollback.podinfo.test rollback opened",
        "rollback.podinfo.test rollback check: approved true",
        "rollback.podinfo.test rollback closed",
    ] {
        server.says(message).await;
    }
}

#[tokio::test]
async fn gates_04_approve_and_halt_answer_the_same_whatever_is_sent() {
    let server = Server::new(&[]).await;
    for (method, body) in [
        ("POST", PODINFO),
        ("POST", "rubbish"),
        ("GET", ""),
        ("PUT", "[]"),
        ("DELETE", ""),
    ] {
        server
            .ask(method, "/gate/approve", &[], body)
            .await
            .is(200, "OK");
        server
            .ask(method, "/gate/halt", &[], body)
            .await
            .is(403, "Forbidden");
    }
}

#[tokio::test]
async fn gates_05_a_body_that_is_no_payload_is_refused_without_a_word() {
    let server = Server::new(&[]).await;
    let paths = [
        "/gate/check",
        "/gate/open",
        "/gate/close",
        "/rollback/check",
        "/rollback/open",
        "/rollback/close",
    ];
    for path in paths {
        for body in [
            "",
            "[]",
            r#"{"name":5}"#,
            r#"{"name":"a"} x"#,
            r#"{"metadata":{"a":1}}"#,
        ] {
            let said = server.post(path, body).await;
            assert_eq!(
                (said.status, said.body.as_str()),
                (400, ""),
                "{path} {body}"
            );
        }
    }
    server
        .logged(|message| message.starts_with("decoding the request body failed"))
        .await;
    // A check of nothing is a check of a closed gate.
    for body in ["null", "{}", r#"{"name":"a"}"#, r#"{"namespace":"a"}"#] {
        server.post("/gate/check", body).await.is(403, "Forbidden");
    }
    // Names in any case, and members that nobody knows.
    let odd = r#"{"NAME":"podinfo","Namespace":"test","extra":[1],"phase":"Progressing"}"#;
    server.ask("PUT", "/gate/open", &[], odd).await.is(202, "");
    server
        .post("/gate/check", PODINFO)
        .await
        .is(200, "Approved");
}

#[tokio::test]
async fn gates_06_a_namespace_that_is_not_allowed_changes_nothing() {
    let server = Server::new(&["-namespace-regexp=^prod$"]).await;
    for path in [
        "/gate/check",
        "/gate/open",
        "/gate/close",
        "/rollback/check",
        "/rollback/open",
        "/rollback/close",
    ] {
        server.post(path, PODINFO).await.is(403, "Forbidden");
    }
    server.post("/gate/approve", PODINFO).await.is(200, "OK");
    server
        .post("/gate/halt", PODINFO)
        .await
        .is(403, "Forbidden");
    let prod = r#"{"name":"podinfo","namespace":"prod"}"#;
    server.post("/gate/check", prod).await.is(403, "Forbidden");
    server.post("/gate/open", prod).await.is(202, "");
    server.post("/gate/check", prod).await.is(200, "Approved");
    let status = server.get("/gate/list").await.json();
    assert_eq!(status.as_array().map(Vec::len), Some(1), "{status}");

    // Found somewhere in the name, unless it is to fit the whole.
    let server = Server::new(&["-namespace-regexp", "test"]).await;
    let mine = r#"{"name":"podinfo","namespace":"my-test-2"}"#;
    server.post("/gate/open", mine).await.is(202, "");
    let server = Server::new(&["-namespace-regexp=test", "--namespace-regexp-full"]).await;
    server.post("/gate/open", mine).await.is(403, "Forbidden");
    server.post("/gate/open", PODINFO).await.is(202, "");
}

#[tokio::test]
async fn paths_are_what_they_are_and_doubled_slashes_are_moved() {
    let server = Server::new(&[]).await;
    server.get("/healthz").await.is(200, "OK");
    let said = server.post("//gate//check?x=1", PODINFO).await;
    assert_eq!(
        (said.status, said.header("location")),
        (301, Some("/gate/check?x=1"))
    );
    let metrics = server.get("/metrics").await;
    assert_eq!(metrics.status, 200);
    assert!(
        metrics.body.contains("process_resident_memory_bytes "),
        "{}",
        metrics.body
    );
    let large = format!(r#"{{"name":"{}"}}"#, "x".repeat(1 << 20));
    assert_eq!(server.post("/gate/check", &large).await.status, 413);
}

#[tokio::test]
async fn a_program_called_loadtester_serves_gates_and_takes_options_with_one_dash() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("loadtester");
    symlink(env!("CARGO_BIN_EXE_crossfade"), &program).expect("a link");
    let server = Start::program(
        &program,
        &["-port=0", "-log-level=info", "-namespace-regexp="],
    )
    .serve()
    .await;
    server.get("/healthz").await.is(200, "OK");
    server
        .post("/gate/check", PODINFO)
        .await
        .is(403, "Forbidden");
    server.says("podinfo.test gate check: approved false").await;
    let first = &server.lines()[0];
    let keys: Vec<_> = first
        .as_object()
        .expect("an object")
        .keys()
        .cloned()
        .collect();
    for key in ["ts", "level", "caller", "msg"] {
        assert!(keys.iter().any(|known| known == key), "{first}");
    }
    let warning = "gates are kept in memory and will be lost on restart";
    assert!(server.messages().iter().any(|message| message == warning));
    assert!(
        server
            .messages()
            .iter()
            .any(|message| message == "gate API is not authenticated")
    );
    let faulty = Start::program(&program, &["-port=0", "-namespace-regexp=("]);
    let ended = faulty.command().output().await.expect("it runs");
    assert_eq!(ended.status.code(), Some(2));
}

#[tokio::test]
async fn a_server_that_is_told_to_end_answers_what_is_under_way_and_a_second_signal_ends_it_at_once()
 {
    use rustix::process::Signal;
    let mut server = Server::new(&[]).await;
    server.signal(Signal::TERM);
    let ended = tokio::time::timeout(crate::rig::LONGEST, server.child.wait()).await;
    let ended = ended.expect("it ends").expect("it ran");
    assert_eq!(ended.code(), Some(0));
    assert!(server.try_ask("GET", "/healthz", &[], "").await.is_err());

    let mut server = Server::new(&[]).await;
    // A request whose body does not come is under way.
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", server.port))
        .await
        .expect("connects");
    let head = b"POST /gate/check HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{";
    tokio::io::AsyncWriteExt::write_all(&mut stream, head)
        .await
        .expect("sent");
    // Only a request that has been read is under way: another connection shows that the server had time for it.
    for _ in 0..10 {
        server.get("/healthz").await.is(200, "OK");
    }
    server.signal(Signal::INT);
    server.says("shutting down").await;
    assert!(
        server.child.try_wait().expect("asked").is_none(),
        "it waits for the request"
    );
    server.signal(Signal::TERM);
    let ended = tokio::time::timeout(crate::rig::LONGEST, server.child.wait()).await;
    assert_eq!(ended.expect("it ends").expect("it ran").code(), Some(1));
}
