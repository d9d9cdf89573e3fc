//! Gates that outlive their server, open for as long as was wanted, and remember who did what.

use serde_json::{Value, json};

use crate::rig::{PODINFO, Server, Start, crossfade};

/// A server with its gates in a file.
async fn durable(folder: &tempfile::TempDir) -> Server {
    Server::new(&[&format!("--gate-store=sqlite:{}", file(folder))]).await
}

fn file(folder: &tempfile::TempDir) -> String {
    folder.path().join("gates.db").display().to_string()
}

/// The payload of a check or change with further members.
#[expect(
    clippy::needless_pass_by_value,
    reason = "reads well where it is called"
)]
fn with(further: Value) -> String {
    let mut payload = json!({"name": "podinfo", "namespace": "test"});
    let members = further.as_object().cloned().unwrap_or_default();
    payload.as_object_mut().expect("an object").extend(members);
    payload.to_string()
}

async fn check(server: &Server, call: &str) -> u16 {
    let headers = [("X-Crossfade-Call", call)];
    let headers = if call.is_empty() {
        &headers[..0]
    } else {
        &headers[..]
    };
    server
        .ask("POST", "/gate/check", headers, PODINFO)
        .await
        .status
}

#[tokio::test]
async fn gates_15_a_call_that_is_repeated_after_a_lost_answer_gets_the_same_answer() {
    let server = Server::new(&[]).await;
    server
        .post("/gate/open", &with(json!({"mode": "once"})))
        .await
        .is(202, "");
    assert_eq!(check(&server, "one").await, 200);
    assert_eq!(check(&server, "one").await, 200);
    assert_eq!(check(&server, "two").await, 403);
    assert_eq!(
        check(&server, "one").await,
        200,
        "what was granted once stays granted"
    );
    assert_eq!(check(&server, "").await, 403);
}

#[tokio::test]
async fn gates_16_a_use_whose_step_did_not_happen_is_given_back() {
    let server = Server::new(&[]).await;
    server
        .post(
            "/gate/open",
            &with(json!({"mode": "once", "by": "anna", "reason": "go to 10"})),
        )
        .await
        .is(202, "");
    assert_eq!(check(&server, "one").await, 200);
    let refund = async |call: &str| {
        server
            .ask(
                "POST",
                "/gate/refund",
                &[("X-Crossfade-Call", call)],
                PODINFO,
            )
            .await
            .status
    };
    assert_eq!(refund("unknown").await, 404);
    assert_eq!(refund("one").await, 202);
    assert_eq!(refund("one").await, 404, "once is enough");
    assert_eq!(check(&server, "two").await, 200);
    let actions: Vec<_> = server
        .audited()
        .iter()
        .map(|line| (line["action"].clone(), line["result"].clone()))
        .collect();
    let expected = [
        ("open", "ok"),
        ("grant", "ok"),
        ("refund", "unknown call id"),
        ("refund", "ok"),
        ("refund", "unknown call id"),
        ("grant", "ok"),
    ];
    assert_eq!(
        actions,
        expected.map(|(action, result)| (json!(action), json!(result)))
    );
    let status = server
        .get("/gate/status?namespace=test&name=podinfo")
        .await
        .json();
    assert_eq!(status["open"], false);
    assert!(status.get("calls").is_none(), "{status}");

    // Who closes a gate does not want it opened by a refund.
    server
        .post("/gate/open", &with(json!({"uses": 2})))
        .await
        .is(202, "");
    assert_eq!(check(&server, "three").await, 200);
    server.post("/gate/close", PODINFO).await.is(202, "");
    assert_eq!(refund("three").await, 409);
    assert_eq!(check(&server, "four").await, 403);
    server
        .post("/gate/open", &with(json!({"mode": "once"})))
        .await
        .is(202, "");
    assert_eq!(check(&server, "five").await, 200);
    server.post("/gate/close", PODINFO).await.is(202, "");
    assert_eq!(refund("five").await, 409);
}

#[tokio::test]
async fn gates_18_a_gate_that_is_open_for_one_revision_is_closed_for_others() {
    let server = Server::new(&[]).await;
    let ask = async |path: &str, checksum: &str, phase: &str, headers: &[(&str, &str)]| {
        let body = with(json!({"checksum": checksum, "phase": phase}));
        server.ask("POST", path, headers, &body).await.status
    };
    // Nobody has asked for a revision yet.
    let order = with(json!({"scope": "revision"}));
    server
        .post("/rollback/open", &order)
        .await
        .is(409, "no revision seen yet");
    let order = with(json!({"scope": "revision", "checksum": "A"}));
    server.post("/rollback/open", &order).await.is(202, "");
    assert_eq!(ask("/rollback/check", "A", "Progressing", &[]).await, 200);
    assert_eq!(ask("/rollback/check", "B", "Progressing", &[]).await, 403);
    assert_eq!(ask("/rollback/check", "", "Progressing", &[]).await, 403);
    // Before a release begins, the checksum is that of the one before.
    for phase in ["Initialized", "Succeeded", "Failed", "Waiting"] {
        assert_eq!(
            ask("/rollback/check", "A", phase, &[]).await,
            403,
            "{phase}"
        );
        let header = [("X-Crossfade-Revision", "A")];
        assert_eq!(
            ask("/rollback/check", "x", phase, &header).await,
            200,
            "{phase}"
        );
    }
    // The revision that was asked for last is meant when none is named.
    assert_eq!(ask("/gate/check", "C", "Progressing", &[]).await, 403);
    server
        .post("/gate/open", &with(json!({"scope": "revision"})))
        .await
        .is(202, "");
    assert_eq!(ask("/gate/check", "C", "Progressing", &[]).await, 200);
    assert_eq!(ask("/gate/check", "D", "Progressing", &[]).await, 403);
}

#[tokio::test]
async fn gates_22_a_gate_with_a_name_is_a_gate_of_its_own() {
    let server = Server::new(&[]).await;
    let promotion = with(json!({"metadata": {"gate": "promotion"}}));
    server.post("/gate/open", PODINFO).await.is(202, "");
    server
        .post("/gate/check", &promotion)
        .await
        .is(403, "Forbidden");
    server
        .post("/gate/check", PODINFO)
        .await
        .is(200, "Approved");
    server.post("/gate/close", PODINFO).await.is(202, "");
    server
        .post("/gate/open", &with(json!({"gate": "promotion"})))
        .await
        .is(202, "");
    server
        .post("/gate/check", &promotion)
        .await
        .is(200, "Approved");
    server
        .post("/gate/check", PODINFO)
        .await
        .is(403, "Forbidden");
    for gate in ["default", "rollback", "Big", "a.b", ""] {
        let said = server
            .post("/gate/open", &with(json!({"gate": gate})))
            .await;
        assert_eq!(said.status, 400, "{gate}");
        assert!(said.body.contains("gate"), "{said:?}");
    }
}

#[tokio::test]
async fn gates_24_a_look_opens_nothing() {
    let server = Server::new(&[]).await;
    for path in [
        "/gate/open?name=podinfo&namespace=test",
        "/gate/open",
        "/rollback/open",
        "/gate/close",
        "/gate/refund",
    ] {
        let said = server.ask("GET", path, &[], PODINFO).await;
        assert_eq!(
            (said.status, said.header("allow")),
            (405, Some("POST")),
            "{path}"
        );
        assert_eq!(
            server.ask("HEAD", path, &[], "").await.status,
            405,
            "{path}"
        );
    }
    server
        .post("/gate/check", PODINFO)
        .await
        .is(403, "Forbidden");
    server
        .post("/rollback/check", PODINFO)
        .await
        .is(403, "Forbidden");
    // Checks may be links.
    server
        .get("/gate/check?name=podinfo&namespace=test")
        .await
        .is(403, "Forbidden");
    server
        .post("/gate/open", &with(json!({"gate": "promotion"})))
        .await
        .is(202, "");
    server
        .get("/gate/check?name=podinfo&namespace=test&gate=promotion")
        .await
        .is(200, "Approved");
    server.post("/rollback/open", PODINFO).await.is(202, "");
    server
        .get("/rollback/check?name=podinfo&namespace=test")
        .await
        .is(200, "Approved");
}

#[tokio::test]
async fn gates_27_an_opening_of_nothing_is_refused() {
    let server = Server::new(&[]).await;
    for path in [
        "/gate/open",
        "/gate/close",
        "/rollback/open",
        "/rollback/close",
    ] {
        for body in [
            r#"{"name":"podinfo"}"#,
            r#"{"namespace":"test"}"#,
            "{}",
            "null",
        ] {
            server
                .post(path, body)
                .await
                .is(400, "name and namespace are required");
        }
    }
}

#[tokio::test]
async fn a_gate_says_on_what_terms_it_is_open_and_who_changed_it() {
    let server = Server::new(&[]).await;
    let unknown = server.get("/gate/status?namespace=test&name=podinfo").await;
    assert_eq!(unknown.json(), json!({"open": false, "known": false}));
    assert_eq!(server.post("/gate/check", PODINFO).await.status, 403);
    let terms = json!({"uses": 3, "ttl": "1h", "by": "anna", "reason": "looks good", "notAfter": "2999-01-01T00:00:00Z"});
    let json = [("Accept", "application/json")];
    let opened = server.ask("POST", "/gate/open", &json, &with(terms)).await;
    assert_eq!(opened.status, 202);
    let record = opened.json();
    assert_eq!(
        (
            record["open"].clone(),
            record["usesLeft"].clone(),
            record["mode"].clone()
        ),
        (json!(true), json!(3), json!("once"))
    );
    assert_eq!(
        (record["by"].clone(), record["reason"].clone()),
        (json!("anna"), json!("looks good"))
    );
    let version = record["version"].as_u64().expect("a version");
    let stale = with(json!({"expectVersion": version - 1}));
    assert_eq!(server.post("/gate/close", &stale).await.status, 409);
    let dry = [("X-Crossfade-Dry-Run", "true")];
    for _ in 0..5 {
        server
            .ask("POST", "/gate/check", &dry, PODINFO)
            .await
            .is(200, "Approved");
        server
            .post("/gate/check?dryRun=true", PODINFO)
            .await
            .is(200, "Approved");
    }
    for left in [2, 1, 0] {
        assert_eq!(check(&server, "").await, 200);
        let status = server
            .get("/gate/status?namespace=test&name=podinfo")
            .await
            .json();
        assert_eq!(
            (status["usesLeft"].as_u64(), status["open"].as_bool()),
            (Some(left), Some(left > 0))
        );
        assert_eq!(status["lastCheck"]["granted"], true);
    }
    assert_eq!(check(&server, "").await, 403);
    let list = server.get("/gate/list?namespace=test").await.json();
    let keys = [
        "namespace",
        "name",
        "gate",
        "open",
        "usesLeft",
        "expiresAt",
        "by",
        "openedAt",
        "waitingSince",
        "version",
    ];
    for key in keys {
        assert!(list[0].get(key).is_some(), "{key}: {list}");
    }
    assert!(list[0]["waitingSince"].is_string(), "{list}");
    assert_eq!(
        server.get("/gate/list?namespace=other").await.json(),
        json!([])
    );
    let early = with(json!({"notBefore": "2999-01-01T00:00:00Z"}));
    server.post("/gate/open", &early).await.is(202, "");
    assert_eq!(check(&server, "").await, 403);
    let late = with(json!({"notAfter": "2020-01-01T00:00:00Z"}));
    server.post("/gate/open", &late).await.is(202, "");
    assert_eq!(check(&server, "").await, 403);
    let status = server
        .get("/gate/status?namespace=test&name=podinfo")
        .await
        .json();
    assert_eq!(
        status["history"]
            .as_array()
            .and_then(|all| all.last())
            .map(|last| last["action"].clone()),
        Some(json!("expire"))
    );
    let page = server.get("/metrics").await.body;
    for line in [
        r#"crossfade_gate_open{namespace="test",name="podinfo",gate="default",type="webhook"} 0"#,
        r#"crossfade_gate_checks_total{gate="default",result="expired"} 1"#,
        r#"crossfade_gate_checks_total{gate="default",result="granted"} 13"#,
        r#"crossfade_gate_changes_total{gate="default",action="open",auth="none"} 3"#,
    ] {
        assert!(page.lines().any(|known| known == line), "{line}\n{page}");
    }
    assert!(
        page.contains("crossfade_gate_waiting_seconds{namespace=\"test\""),
        "{page}"
    );
}

#[tokio::test]
async fn a_server_that_is_killed_keeps_every_gate_as_it_was_and_grants_nothing_twice() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = durable(&folder).await;
    server
        .post(
            "/gate/open",
            &with(json!({"mode": "once", "by": "anna", "reason": "to 10 %"})),
        )
        .await
        .is(202, "");
    server.post("/rollback/open", PODINFO).await.is(202, "");
    server.kill().await;

    let server = durable(&folder).await;
    server
        .post("/rollback/check", PODINFO)
        .await
        .is(200, "Approved");
    assert_eq!(check(&server, "one").await, 200);
    server.kill().await;

    let server = durable(&folder).await;
    assert_eq!(
        check(&server, "one").await,
        200,
        "its answer may have been lost"
    );
    assert_eq!(check(&server, "two").await, 403);
    server.post("/rollback/close", PODINFO).await.is(202, "");
    server.kill().await;

    let server = durable(&folder).await;
    server
        .post("/rollback/check", PODINFO)
        .await
        .is(403, "Forbidden");
    assert_eq!(check(&server, "three").await, 403);
    let status = server
        .get("/gate/status?namespace=test&name=podinfo")
        .await
        .json();
    let history: Vec<_> = status["history"]
        .as_array()
        .expect("a history")
        .iter()
        .collect();
    let actions: Vec<_> = history
        .iter()
        .map(|entry| entry["action"].as_str().unwrap_or_default())
        .collect();
    assert_eq!(actions, ["open", "grant"]);
    assert_eq!(
        (history[0]["by"].as_str(), history[0]["reason"].as_str()),
        (Some("anna"), Some("to 10 %"))
    );
}

#[tokio::test]
async fn under_fire_and_killed_again_and_again_no_opening_is_spent_twice_and_no_gate_opens_by_itself()
 {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut opened, mut granted, mut unanswered) = (0, 0, 0);
    for round in 0..6 {
        let server = std::sync::Arc::new(durable(&folder).await);
        // What was left open by the round before is one use at most, and it was paid for by its opening.
        server
            .post("/gate/open", &with(json!({"mode": "once"})))
            .await
            .is(202, "");
        opened += 1;
        let mut checks = tokio::task::JoinSet::new();
        for number in 0..8 {
            let server = std::sync::Arc::clone(&server);
            checks.spawn(async move {
                let call = format!("{round}-{number}");
                let headers = [("X-Crossfade-Call", call.as_str())];
                server
                    .try_ask("POST", "/gate/check", &headers, PODINFO)
                    .await
            });
        }
        // In the middle of it.
        let first = checks.join_next().await.expect("eight").expect("no panic");
        server.signal(rustix::process::Signal::KILL);
        let mut results = vec![first];
        while let Some(done) = checks.join_next().await {
            results.push(done.expect("no panic"));
        }
        for result in results {
            match result {
                Ok(said) if said.status == 200 => granted += 1,
                Ok(said) => assert_eq!(said.status, 403),
                Err(_) => unanswered += 1,
            }
        }
    }
    assert!(
        granted <= opened,
        "{granted} of {opened} ({unanswered} unanswered)"
    );
    let server = durable(&folder).await;
    server.post("/gate/close", PODINFO).await.is(202, "");
    server.kill().await;
    for _ in 0..2 {
        let server = durable(&folder).await;
        assert_eq!(check(&server, "last").await, 403);
        server.kill().await;
    }
}

#[tokio::test]
async fn the_command_line_opens_closes_and_tells_the_gates_of_a_file_and_of_a_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = durable(&folder).await;
    let places = [
        format!("sqlite:{}", file(&folder)),
        format!("http://127.0.0.1:{}", server.port),
    ];
    for place in &places {
        let run = async |line: &str| {
            let mut words: Vec<&str> = line.split(' ').collect();
            words.extend(["-n", "test"]);
            crossfade(&[("CROSSFADE_GATES", place)], &words).await
        };
        let (code, out, err) = run("gate open podinfo --once --reason ten").await;
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        assert_eq!(out, "gate 'default' of 'podinfo' is open for one check\n");
        assert_eq!(check(&server, "").await, 200);
        assert_eq!(check(&server, "").await, 403);
        let (code, out, _) = run("gate check podinfo").await;
        assert_eq!(code, 6);
        assert!(
            out.starts_with("podinfo is under manual release, waiting at gate default since "),
            "{out}"
        );
        let (code, _, err) = run("gate check podinfoo").await;
        assert_eq!(code, 5, "{err}");
        let (code, out, _) = run("gate open podinfo rollback --ttl 1h -o json").await;
        assert_eq!(code, 0);
        let document: Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!(
            (
                document["kind"].clone(),
                document["gate"].clone(),
                document["open"].clone()
            ),
            (json!("Gate"), json!("rollback"), json!(true))
        );
        server
            .post("/rollback/check", PODINFO)
            .await
            .is(200, "Approved");
        let (code, out, _) = run("gate close podinfo rollback").await;
        assert_eq!(
            (code, out.as_str()),
            (0, "gate 'rollback' of 'podinfo' is closed\n")
        );
        server
            .post("/rollback/check", PODINFO)
            .await
            .is(403, "Forbidden");
        let (code, out, _) = run("gate list").await;
        let rows: Vec<Vec<&str>> = out
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!((code, rows.len()), (0, 3), "{out}");
        assert_eq!(
            rows[0],
            ["CANARY", "GATE", "OPEN", "USES", "EXPIRES", "BY", "WAITING"]
        );
        assert_eq!(rows[1][..6], ["podinfo", "default", "no", "-", "-", "anna"]);
        let (code, out, _) = run("gate status podinfo default").await;
        assert_eq!(code, 0);
        assert!(
            out.starts_with("default: closed\n") && out.contains("reason:   ten\n"),
            "{out}"
        );
        let (code, out, _) = run("gate history podinfo default -o json").await;
        let document: Value = serde_json::from_str(&out).expect("JSON");
        let entry = &document["items"][0];
        assert_eq!(
            (
                code,
                entry["action"].as_str(),
                entry["by"].as_str(),
                entry["reason"].as_str()
            ),
            (0, Some("open"), Some("anna"), Some("ten"))
        );
        let (code, _, err) = run("gate close podinfo --expect-version 999").await;
        assert_eq!(code, 6, "{err}");
        assert!(err.contains("has changed"), "{err}");
        let (code, _, err) = run("gate open podinfo Bad").await;
        assert_eq!(code, 2, "{err}");
    }
    drop(server);
    let (code, _, err) = crossfade(
        &[("CROSSFADE_GATES", &places[1])],
        &["gate", "list", "-o", "json"],
    )
    .await;
    let error: Value = serde_json::from_str(&err).expect("one object");
    assert_eq!(
        (code, error["error"]["code"].as_u64()),
        (10, Some(10)),
        "{err}"
    );
    let (code, _, err) = crossfade(&[("CROSSFADE_GATES", "ftp://x")], &["gate", "list"]).await;
    assert_eq!(code, 2, "{err}");
    // A file of somebody else's is left alone.
    let foreign = folder.path().join("foreign");
    std::fs::write(&foreign, "not a database ".repeat(100)).expect("written");
    let place = format!("--gate-store=sqlite:{}", foreign.display());
    let ended = Start::with(&[&place])
        .command()
        .output()
        .await
        .expect("it runs");
    assert_eq!(ended.status.code(), Some(1));
}

#[tokio::test]
async fn tokens_say_who_may_change_gates() {
    let folder = tempfile::tempdir().expect("a folder");
    let tokens = folder.path().join("tokens");
    std::fs::write(&tokens, "s3cret,anna,test,update\nreader,bert,*,list\n").expect("written");
    let place = format!("--gate-token-file={}", tokens.display());
    let server = Server::new(&["--gate-auth=mutations", &place]).await;
    let open = async |authorization: &str| {
        let headers = [("Authorization", authorization)];
        server
            .ask("POST", "/gate/open", &headers, &with(json!({"by": "eve"})))
            .await
    };
    let said = server.post("/gate/open", PODINFO).await;
    assert_eq!(
        (
            said.status,
            said.body.as_str(),
            said.header("www-authenticate")
        ),
        (401, "Unauthorized", Some("Bearer"))
    );
    let json = [("Accept", "application/json")];
    assert_eq!(
        server
            .ask("POST", "/gate/open", &json, PODINFO)
            .await
            .json(),
        json!({"error": "Unauthorized"})
    );
    open("Bearer wrong").await.is(401, "Unauthorized");
    open("Basic s3cret").await.is(401, "Unauthorized");
    open("Bearer reader").await.is(403, "Forbidden");
    server
        .post("/gate/check", PODINFO)
        .await
        .is(403, "Forbidden");
    assert_eq!(server.get("/gate/list").await.status, 401);
    open("Bearer s3cret").await.is(202, "");
    server
        .post("/gate/check", PODINFO)
        .await
        .is(200, "Approved");
    let list = server
        .ask(
            "GET",
            "/gate/list",
            &[("Authorization", "bearer reader")],
            "",
        )
        .await
        .json();
    assert_eq!(list[0]["by"], "anna", "not who the body says: {list}");
    let refused: Vec<_> = server
        .audited()
        .into_iter()
        .filter(|line| line["result"] != "ok")
        .collect();
    assert!(
        refused.iter().any(|line| line["by"] == "bert"
            && line["result"] == "Forbidden"
            && line["sourceIP"] == "127.0.0.1"),
        "{refused:?}"
    );
    let url = format!("http://127.0.0.1:{}", server.port);
    let (code, _, err) = crossfade(
        &[],
        &["gate", "close", "podinfo", "-n", "test", "--gates", &url],
    )
    .await;
    assert_eq!(code, 9, "{err}");
    let (code, _, err) = crossfade(
        &[],
        &[
            "gate", "close", "podinfo", "-n", "test", "--gates", &url, "--token", "s3cret",
        ],
    )
    .await;
    assert_eq!(code, 0, "{err}");
    assert!(!server.messages().concat().contains("s3cret"));
    let server = Server::new(&["--gate-auth=all", &place]).await;
    assert_eq!(server.post("/gate/check", PODINFO).await.status, 401);
    server.post("/gate/approve", "").await.is(200, "OK");
    server.get("/healthz").await.is(200, "OK");
    assert_eq!(server.get("/metrics").await.status, 200);
}
