//! Tasks: real commands, and calls to servers of the tests' own.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::rig::{Server, Start, Witness, until};

/// The payload of a task.
#[expect(
    clippy::needless_pass_by_value,
    reason = "reads well where it is called"
)]
fn task(metadata: Value) -> String {
    json!({"name": "podinfo", "namespace": "test", "phase": "Progressing", "metadata": metadata})
        .to_string()
}

/// Puts a program into a folder that writes its arguments, one a line, and ends with `code`.
fn program(folder: &Path, name: &str, code: u8) {
    let path = folder.join(name);
    std::fs::write(
        &path,
        format!("#!/bin/sh\nprintf '%s\\n' \"$#\" \"$@\"\nexit {code}\n"),
    )
    .expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("allowed");
}

fn is_alive(pid: &str) -> bool {
    // A zombie that nobody has waited for runs nothing.
    let status = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    let state = status
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| state != 'Z')
}

#[tokio::test]
async fn gates_06_tasks_of_a_namespace_that_is_not_allowed_are_not_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let mark = folder.path().join("mark");
    let server = Server::new(&["-namespace-regexp=^prod$"]).await;
    let touch = format!("touch {}", mark.display());
    server
        .post("/", &task(json!({"cmd": touch})))
        .await
        .is(403, "Forbidden");
    server
        .post("/", &task(json!({"type": "bash", "cmd": touch})))
        .await
        .is(403, "Forbidden");
    assert!(!mark.exists());
}

#[tokio::test]
async fn gates_07_a_command_runs_in_the_background() {
    let server = Server::new(&[]).await;
    server
        .post("/", r#"{"metadata":{"cmd":"true"}}"#)
        .await
        .is(202, "");
    server.says("task starting true").await;
    server.says("command finished true").await;
    server
        .post(
            "/any/other/path",
            &task(json!({"cmd": "echo out; echo err >&2; false", "logCmdOutput": "true"})),
        )
        .await
        .is(202, "");
    server.says("out\nerr").await;
    server
        .says("command failed echo out; echo err >&2; false exit status 1 out\nerr")
        .await;
    let line = server.lines().into_iter().find(|line| {
        line["msg"]
            .as_str()
            .is_some_and(|text| text.starts_with("command failed"))
    });
    let line = line.expect("logged");
    assert_eq!(
        (line["level"].as_str(), line["canary"].as_str()),
        (Some("error"), Some("podinfo.test"))
    );
    let page = server.get("/metrics").await.body;
    for line in [
        r#"crossfade_tasks_total{type="cmd",result="ok"} 1"#,
        r#"crossfade_tasks_total{type="cmd",result="failed"} 1"#,
        r#"crossfade_task_duration_seconds_count{type="cmd"} 2"#,
    ] {
        assert!(page.lines().any(|known| known == line), "{line}\n{page}");
    }
}

#[tokio::test]
async fn gates_08_a_command_that_is_running_is_not_started_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let (count, go) = (folder.path().join("count"), folder.path().join("go"));
    let server = Server::new(&[]).await;
    let command = format!(
        "echo x >> {}; until [ -e {} ]; do sleep 0.05; done",
        count.display(),
        go.display()
    );
    for _ in 0..2 {
        server
            .post("/", &task(json!({"cmd": command})))
            .await
            .is(202, "");
    }
    server
        .says(&format!("command skipped {command} is already running"))
        .await;
    // That of another Canary is another one.
    let other =
        json!({"name": "other", "namespace": "test", "metadata": {"cmd": command}}).to_string();
    server.post("/", &other).await.is(202, "");
    std::fs::write(&go, "").expect("written");
    until("both end", async || {
        let finished = format!("command finished {command}");
        server
            .messages()
            .iter()
            .filter(|message| **message == finished)
            .count()
            == 2
    })
    .await;
    assert_eq!(std::fs::read_to_string(&count).expect("written"), "x\nx\n");
    server
        .post("/", &task(json!({"cmd": command})))
        .await
        .is(202, "");
    until("it runs again", async || {
        std::fs::read_to_string(&count).expect("written") == "x\nx\nx\n"
    })
    .await;
}

#[tokio::test]
async fn gates_09_a_bash_command_is_waited_for_and_tells_its_output_on_request() {
    let server = Server::new(&[]).await;
    let bash = |cmd: &str| json!({"type": "bash", "cmd": cmd});
    let mut wants = bash("echo hi");
    wants["returnCmdOutput"] = json!("true");
    server.post("/", &task(wants.clone())).await.is(200, "hi\n");
    server.post("/", &task(bash("echo hi"))).await.is(200, "");
    for no in ["yes", "2", "False", ""] {
        wants["returnCmdOutput"] = json!(no);
        server.post("/", &task(wants.clone())).await.is(200, "");
    }
    server
        .post("/", &task(bash("false")))
        .await
        .is(500, "command false failed: : exit status 1");
    server
        .post("/", &task(bash("echo a; echo b >&2; kill -9 $$")))
        .await
        .is(
            500,
            "command echo a; echo b >&2; kill -9 $$ failed: a\nb\n: signal: killed",
        );
    server
        .post("/", &task(json!({"type": "bash"})))
        .await
        .is(200, "");
    server.says("bash command echo hi").await;
    server.says("hi").await;
    server.says("command finished echo hi").await;
}

#[tokio::test]
async fn gates_10_helm_and_kubectl_get_exactly_their_arguments() {
    let folder = tempfile::tempdir().expect("a folder");
    program(folder.path(), "helm", 0);
    program(folder.path(), "kubectl", 3);
    let path = format!(
        "{}:{}",
        folder.path().display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let server = Start::with(&[]).variable("PATH", &path).serve().await;
    for kind in ["helm", "helmv3"] {
        let metadata = json!({"type": kind, "cmd": "test rel -n ns", "returnCmdOutput": "true"});
        server
            .post("/", &task(metadata))
            .await
            .is(200, "4\ntest\nrel\n-n\nns\n");
    }
    server.says("running command helmv3 test rel -n ns").await;
    let metadata = json!({"type": "helm", "cmd": "  a  'b c' ", "returnCmdOutput": "true"});
    server
        .post("/", &task(metadata))
        .await
        .is(200, "3\na\n'b\nc'\n");
    let metadata = json!({"type": "helm", "returnCmdOutput": "true"});
    server.post("/", &task(metadata)).await.is(200, "0\n");
    let metadata = json!({"type": "kubectl", "cmd": "get pods"});
    server.post("/", &task(metadata)).await.is(
        500,
        "command get pods failed: 2\nget\npods\n: exit status 3",
    );
    server.says("running command kubectl get pods").await;
}

#[tokio::test]
async fn gates_11_a_payload_without_a_task_is_told_so_and_harms_nobody() {
    let server = Server::new(&[]).await;
    for body in [
        "null",
        "{}",
        r#"{"metadata":{}}"#,
        r#"{"metadata":null,"name":"a"}"#,
    ] {
        server
            .post("/", body)
            .await
            .is(400, "metadata not found in payload");
    }
    server
        .post("/", &task(json!({"type": "foo"})))
        .await
        .is(400, "unknown task type foo");
    server
        .post("/", &task(json!({"type": ""})))
        .await
        .is(400, "unknown task type ");
    server
        .post(
            "/",
            &task(json!({"eventMessage": "x", "eventType": "Normal", "timestamp": "1"})),
        )
        .await
        .is(400, "cmd not found in metadata");
    server
        .post("/gate/event", &task(json!({"eventMessage": "x"})))
        .await
        .is(400, "cmd not found in metadata");
    server
        .post("/", &task(json!({"type": "ngrinder"})))
        .await
        .is(
            400,
            "server, clone, username and passwd are required metadata",
        );
    server.post("/", "rubbish").await.is(400, "");
    server.get("/healthz").await.is(200, "OK");
}

#[tokio::test]
async fn gates_12_what_takes_too_long_is_ended_with_everything_that_it_started() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name).display().to_string();
    let server = Server::new(&["-timeout=1s"]).await;
    // Neither the shell nor what it starts listens to a request to end.
    let stubborn = |name: &str| {
        format!(
            "trap '' TERM; sh -c \"trap '' TERM; echo \\$\\$ > {}; while :; do sleep 0.2; done\" & echo $$ > {}; while :; do sleep 0.2; done",
            file(&format!("{name}-child")),
            file(&format!("{name}-shell"))
        )
    };
    let begun = Instant::now();
    server
        .post("/", &task(json!({"cmd": stubborn("background")})))
        .await
        .is(202, "");
    let said = server
        .post(
            "/",
            &task(json!({"type": "bash", "cmd": stubborn("blocking")})),
        )
        .await;
    assert_eq!(said.status, 500);
    assert!(
        said.body.ends_with(": : timed out after 1s"),
        "{}",
        said.body
    );
    server
        .logged(|message| {
            message.starts_with("command failed trap") && message.contains("background")
        })
        .await;
    let took = begun.elapsed();
    assert!(
        took >= Duration::from_secs(6),
        "asked first, made to after five seconds: {took:?}"
    );
    for name in [
        "background-shell",
        "background-child",
        "blocking-shell",
        "blocking-child",
    ] {
        let pid = std::fs::read_to_string(file(name)).expect("written");
        until("it is gone", async || !is_alive(&pid)).await;
    }
    let page = server.get("/metrics").await.body;
    assert!(
        page.contains(r#"crossfade_tasks_total{type="cmd",result="timeout"} 1"#),
        "{page}"
    );
}

#[tokio::test]
async fn gates_23_a_pure_gate_server_runs_nothing() {
    let server = Server::new(&["--tasks=none"]).await;
    assert_eq!(
        server.post("/", &task(json!({"cmd": "true"}))).await.status,
        404
    );
    server
        .post("/gate/chek", &task(json!({"cmd": "true"})))
        .await
        .is(404, "unknown gate path");
    server
        .post("/rollback/chek", "{}")
        .await
        .is(404, "unknown gate path");
    server
        .post("/gate/check/", "{}")
        .await
        .is(404, "unknown gate path");
    server
        .post("/gate/check", r#"{"name":"a","namespace":"b"}"#)
        .await
        .is(403, "Forbidden");
    let server = Server::new(&["--strict-paths"]).await;
    server
        .post("/gate/chek", &task(json!({"cmd": "true"})))
        .await
        .is(404, "unknown gate path");
    server
        .post("/", &task(json!({"cmd": "true"})))
        .await
        .is(202, "");
    let server = Server::new(&["--tasks=cmd,bash"]).await;
    server
        .post("/gate/chek", &task(json!({"cmd": "true"})))
        .await
        .is(202, "");
    server
        .post("/", &task(json!({"type": "helm", "cmd": "x"})))
        .await
        .is(400, "task type helm is not enabled");
}

#[tokio::test]
async fn gates_28_ngrinder_is_asked_at_the_interval_that_was_named() {
    let witness = Witness::start(|asked| match asked.path.as_str() {
        "/base/perftest/api/7/clone_and_start" => (200, r#"{"id": 42}"#.to_owned()),
        _ => (200, r#"{"status": [{"status_id": "TESTING"}]}"#.to_owned()),
    })
    .await;
    let server = Server::new(&["-timeout=21s"]).await;
    let metadata = json!({
        "type": "ngrinder", "server": format!("http://127.0.0.1:{}/base", witness.port), "clone": "7",
        "username": "admin", "passwd": "YWRtaW4=", "pollInterval": "10s",
    });
    server.post("/", &task(metadata)).await.is(202, "");
    until("it is stopped", async || witness.asked().len() >= 4).await;
    let asked = witness.asked();
    let paths: Vec<_> = asked
        .iter()
        .map(|asked| (asked.method.as_str(), asked.path.as_str()))
        .collect();
    assert_eq!(
        paths,
        [
            ("POST", "/base/perftest/api/7/clone_and_start"),
            ("GET", "/base/perftest/api/42/status"),
            ("GET", "/base/perftest/api/42/status"),
            ("PUT", "/base/perftest/api/42?action=stop"),
        ]
    );
    assert!(
        asked
            .iter()
            .all(|asked| asked.header("authorization") == "Basic YWRtaW46YWRtaW4=")
    );
    for pair in asked[..3].windows(2) {
        let gap = pair[1].at.duration_since(pair[0].at);
        assert!(gap >= Duration::from_millis(9900), "{gap:?}");
    }
    server.get("/healthz").await.is(200, "OK");
}

#[tokio::test]
async fn ngrinder_tests_end_as_their_status_says() {
    let witness = Witness::start(|asked| match asked.path.as_str() {
        "/perftest/api/1/clone_and_start" => (200, r#"{"id": 10}"#.to_owned()),
        "/perftest/api/2/clone_and_start" => (200, r#"{"id": 20}"#.to_owned()),
        "/perftest/api/3/clone_and_start" => (200, "{}".to_owned()),
        "/perftest/api/4/clone_and_start" => {
            (200, r#"{"success": false, "message": "no"}"#.to_owned())
        }
        "/perftest/api/10/status" => (200, r#"{"status": [{"status_id": "FINISHED"}]}"#.to_owned()),
        _ => (
            200,
            r#"{"status": [{"status_id": "STOP_BY_ERROR"}]}"#.to_owned(),
        ),
    })
    .await;
    let server = Server::new(&[]).await;
    let url = format!("http://127.0.0.1:{}", witness.port);
    let metadata = |clone: &str| json!({"type": "ngrinder", "server": url, "clone": clone, "username": "a", "passwd": "YQ==", "pollInterval": "10ms"});
    for (clone, ends) in [
        ("1", "command finished ngrinder"),
        ("2", "ended as STOP_BY_ERROR"),
        ("3", "has no id"),
        ("4", "nGrinder refuses"),
    ] {
        server.post("/", &task(metadata(clone))).await.is(202, "");
        server
            .logged(|message| message.contains(&format!("clone {clone}")) && message.contains(ends))
            .await;
    }
    let mut odd = metadata("1");
    odd["pollInterval"] = json!("0s");
    assert_eq!(server.post("/", &task(odd)).await.status, 400);
}

#[tokio::test]
async fn a_process_of_concord_is_started_and_followed_to_its_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = folder.path().join("key");
    std::fs::write(&key, "s3cret\n").expect("written");
    let witness = Witness::start(|asked| match (asked.method.as_str(), asked.path.as_str()) {
        ("POST", "/api/v1/process") if asked.body.contains("fails") => {
            (200, r#"{"instanceId": "bad", "ok": true}"#.to_owned())
        }
        ("POST", "/api/v1/process") if asked.body.contains("lasts") => {
            (200, r#"{"instanceId": "long", "ok": true}"#.to_owned())
        }
        ("POST", "/api/v1/process") => (200, r#"{"instanceId": "good", "ok": true}"#.to_owned()),
        (_, "/api/v1/process/good") => (200, r#"{"status": "FINISHED"}"#.to_owned()),
        (_, "/api/v1/process/bad") => (200, r#"{"status": "FAILED"}"#.to_owned()),
        _ => (200, r#"{"status": "RUNNING"}"#.to_owned()),
    })
    .await;
    let server = Server::new(&[]).await;
    let metadata = |entry: &str| {
        json!({
            "type": "concord", "server": format!("http://127.0.0.1:{}", witness.port), "org": "o", "project": "p", "repo": "r",
            "entrypoint": entry, "apiKeyPath": key.display().to_string(), "endpoint": "http://app", "arguments.color": "blue",
            "pollInterval": "0", "pollTimeout": "1",
        })
    };
    server.post("/", &task(metadata("main"))).await.is(200, "");
    let first = witness.asked()[0].clone();
    assert_eq!(first.header("authorization"), "s3cret");
    assert!(
        first
            .header("content-type")
            .starts_with("multipart/form-data; boundary=")
    );
    for field in [
        "org",
        "project",
        "repo",
        "entryPoint",
        "arguments.endpoint",
        "arguments.color",
    ] {
        assert!(
            first.body.contains(&format!("name=\"{field}\"\r\n\r\n")),
            "{field}\n{}",
            first.body
        );
    }
    server
        .post("/", &task(metadata("fails")))
        .await
        .is(500, "concord instanceID: bad failed");
    server
        .post("/", &task(metadata("lasts")))
        .await
        .is(500, "concord process timed out, after 1 seconds");
    for name in [
        "server",
        "org",
        "project",
        "repo",
        "entrypoint",
        "apiKeyPath",
        "endpoint",
    ] {
        let mut lacking = metadata("main");
        lacking.as_object_mut().expect("an object").remove(name);
        server
            .post("/", &task(lacking))
            .await
            .is(500, &format!("`{name}` is required with type concord"));
    }
    let mut odd = metadata("main");
    odd["pollTimeout"] = json!("soon");
    server
        .post("/", &task(odd))
        .await
        .is(500, "unable to convert `pollTimeout` to int");
    let mut odd = metadata("main");
    odd["arguments.endpoint"] = json!("x");
    server.post("/", &task(odd)).await.is(
        500,
        "You cannot override Endpoint through arguments. You must override Endpoint directly",
    );
    let mut odd = metadata("main");
    odd["apiKeyPath"] = json!("/nonexistent/key");
    server
        .post("/", &task(odd))
        .await
        .is(500, "`apiKeyPath` file doesn't exist /nonexistent/key");
    assert!(!server.messages().concat().contains("s3cret"));
}

#[tokio::test]
async fn a_blocking_task_is_joined_by_those_who_want_the_same_and_ends_with_the_last_of_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name);
    let server = std::sync::Arc::new(Server::new(&[]).await);
    let command = format!(
        "echo x >> {}; until [ -e {} ]; do sleep 0.05; done; echo done",
        file("count").display(),
        file("go").display()
    );
    let body = task(json!({"type": "bash", "cmd": command, "returnCmdOutput": "true"}));
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let (server, body) = (std::sync::Arc::clone(&server), body.clone());
        calls.spawn(async move { server.post("/", &body).await });
    }
    until("three have called", async || {
        let asked = format!("bash command {command}");
        server
            .messages()
            .iter()
            .filter(|message| **message == asked)
            .count()
            == 3
    })
    .await;
    std::fs::write(file("go"), "").expect("written");
    while let Some(said) = calls.join_next().await {
        said.expect("no panic").is(200, "done\n");
    }
    assert_eq!(
        std::fs::read_to_string(file("count")).expect("written"),
        "x\n"
    );

    let pid = file("pid");
    let command = format!("echo $$ > {}; while :; do sleep 0.1; done", pid.display());
    let body = task(json!({"type": "bash", "cmd": command}));
    let call = tokio::spawn({
        let server = std::sync::Arc::clone(&server);
        async move { server.post("/", &body).await }
    });
    until("it runs", async || {
        std::fs::read_to_string(&pid).is_ok_and(|pid| pid.ends_with('\n'))
    })
    .await;
    call.abort();
    let pid = std::fs::read_to_string(&pid).expect("written");
    until("it is gone with its caller", async || !is_alive(&pid)).await;
}

#[tokio::test]
async fn tasks_are_bounded_in_number_and_output_and_their_failures_can_be_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let go = folder.path().join("go");
    let server = Server::new(&["--max-tasks=1", "--max-output=10"]).await;
    let wait = format!("until [ -e {} ]; do sleep 0.05; done", go.display());
    server
        .post("/", &task(json!({"cmd": wait})))
        .await
        .is(202, "");
    server
        .post("/", &task(json!({"cmd": "true"})))
        .await
        .is(503, "too many tasks are running");
    server
        .post("/", &task(json!({"type": "bash", "cmd": "true"})))
        .await
        .is(503, "too many tasks are running");
    std::fs::write(&go, "").expect("written");
    server.says(&format!("command finished {wait}")).await;
    let long = json!({"type": "bash", "cmd": "printf 0123456789abc", "returnCmdOutput": "true"});
    until("there is room again", async || {
        server
            .post("/", &task(json!({"type": "bash", "cmd": "true"})))
            .await
            .status
            == 200
    })
    .await;
    server
        .post("/", &task(long))
        .await
        .is(200, "0123456789\n[output beyond 10 bytes is left out]\n");

    let fails = json!({"cmd": "echo no; exit 4", "failOnError": "true"});
    server.post("/", &task(fails.clone())).await.is(202, "");
    server
        .logged(|message| message.starts_with("command failed echo no"))
        .await;
    until("it is told once", async || {
        let said = server.post("/", &task(fails.clone())).await;
        said.status == 500 && said.body == "command echo no; exit 4 failed: no\n: exit status 4"
    })
    .await;
}

#[tokio::test]
async fn load_is_generated_where_hey_is_not_installed() {
    let witness = Witness::start(|_| (200, "hello".to_owned())).await;
    let server = Start::with(&[])
        .variable("PATH", "/usr/bin:/bin")
        .serve()
        .await;
    let command = format!(
        "hey -n 20 -c 2 -q 1000 -m POST -d '{{}}' -H 'X-Test: yes' -host app.example.com http://127.0.0.1:{}/path",
        witness.port
    );
    let body = task(json!({"type": "bash", "cmd": command, "returnCmdOutput": "true"}));
    let said = server.post("/", &body).await;
    assert_eq!(said.status, 200, "{said:?}");
    for part in [
        "Requests/sec:",
        "[200]\t20 responses",
        "Latency distribution:",
        "Size/request:\t5 bytes",
    ] {
        assert!(said.body.contains(part), "{part}\n{}", said.body);
    }
    let asked = witness.asked();
    assert_eq!(asked.len(), 20);
    for one in &asked {
        assert_eq!(
            (one.method.as_str(), one.path.as_str(), one.body.as_str()),
            ("POST", "/path", "{}")
        );
        assert_eq!(
            (one.header("x-test"), one.header("host")),
            ("yes", "app.example.com")
        );
    }
    let command = format!(
        "hey -z 1s -q 5 -c 2 http://127.0.0.1:{}/timed",
        witness.port
    );
    let said = server
        .post("/", &task(json!({"type": "bash", "cmd": command})))
        .await;
    assert_eq!(said.status, 200, "{said:?}");
    let timed = witness
        .asked()
        .iter()
        .filter(|asked| asked.path == "/timed")
        .count();
    assert!(
        (1..=12).contains(&timed),
        "five a second each for one second: {timed}"
    );
}
