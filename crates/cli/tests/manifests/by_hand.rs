//! Canaries that people lead through their gates, with a gate server beside the host.

use std::path::Path;
use std::process::Stdio;

use crossfade_host::store::Kind;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;

use crate::beside::serve;
use crate::flagger::{FILES, OVERLAY};
use crate::stage::{Load, Stage};

/// A gate server as a process of its own.
struct Gates {
    address: String,
    _process: Child,
}

impl Gates {
    /// Starts one that keeps its gates beside the Canaries.
    async fn start(stage: &Stage) -> Self {
        let mut process = stage
            .command()
            .args([
                "gates",
                "--address=127.0.0.1",
                "--port=0",
                "--gate-store=host",
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut lines = BufReader::new(process.stderr.take().expect("piped")).lines();
        let port = loop {
            let line = lines.next_line().await.expect("text");
            let line = line.expect("it says where it listens");
            if let Some((_, rest)) = line.split_once(" API on port ") {
                break rest.split('"').next().expect("a port").to_owned();
            }
        };
        // Whoever nobody listens to gets stuck one day.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self {
            address: format!("http://127.0.0.1:{port}"),
            _process: process,
        }
    }
}

impl Stage {
    /// The Canary whose gates are asked at this address, with a new version on its way.
    async fn led_by_hand(&self, gates: &str) -> Load {
        let gating = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/data/manifests/flagger-manual-gating.yaml");
        let gating = std::fs::read_to_string(gating).expect("an overlay");
        let gating = gating.replace("http://flagger-loadtester.istio-system", gates);
        let header =
            "apiVersion: flagger.app/v1beta1\nkind: Canary\nmetadata: {name: payment-api}\n";
        self.apply(&FILES, OVERLAY, &[]).await;
        self.overlay(&FILES, OVERLAY, &format!("{header}{gating}"))
            .await;
        self.canary_is("payment-api", "Initialized").await;
        let load = Load::start(&self.address("payment-api").await);
        self.apply_new().await;
        load
    }

    /// Waits until the Canary says that it waits at a gate.
    async fn waits_at_gate(&self) -> String {
        self.until("it waits at its gate", async || {
            let said = self.done(&["explain", "canary/payment-api"]).await;
            said.contains("crossfade approve canary/payment-api")
                .then_some(said)
        })
        .await
    }

    /// Approves as soon as the Canary waits; returns what is said.
    async fn approved(&self, options: &[&str]) -> String {
        self.until("it is approved", async || {
            let ended = self
                .run(&[&["approve", "payment-api"], options].concat())
                .await;
            let said = ended.stdout;
            said.starts_with("canary 'payment-api' approved")
                .then_some(said)
        })
        .await
    }

    async fn weighs(&self, wanted: i64) {
        let what = format!("its weight is {wanted}");
        self.until(&what, async || {
            let canary = self.get(Kind::Canary, "payment-api").await;
            let weight = canary["status"]["canaryWeight"].as_i64();
            assert!(weight <= Some(wanted), "one step at a time");
            (weight == Some(wanted)).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn with_manual_gates_laid_over_each_approval_moves_a_canary_one_step() {
    let stage = Stage::start("default").await;
    let gates = Gates::start(&stage).await;
    let load = stage.led_by_hand(&gates.address).await;
    let early = stage.run(&["approve", "payment-api"]).await;
    assert_eq!(early.code, Some(6), "nobody has been asked yet");
    assert!(
        early
            .stderr
            .contains("canary 'payment-api' waits at no gate")
            && early
                .stderr
                .contains("crossfade explain canary/payment-api"),
        "{}",
        early.stderr
    );
    for weight in [25, 50] {
        let said = stage.waits_at_gate().await;
        assert!(
            said.contains("gate confirm-traffic-increase-gate-check to open for more traffic"),
            "{said}"
        );
        let rehearsed = stage.approved(&["--dry-run"]).await;
        assert!(
            rehearsed.contains("gate 'default' is open for one check of revision")
                && rehearsed.ends_with(" (dry run)\n"),
            "{rehearsed}"
        );
        let said = stage.approved(&["--reason", "errors look normal"]).await;
        assert!(
            said.contains("gate 'default' is open for one check of revision"),
            "{said}"
        );
        let again = stage.run(&["approve", "canary/payment-api"]).await;
        let again = format!("{}{}", again.stdout, again.stderr);
        assert!(
            again.contains("needs no approval") || again.contains("waits at no gate"),
            "one step at a time: {again}"
        );
        stage.weighs(weight).await;
        let shown = stage
            .done(&["gate", "status", "payment-api", "default"])
            .await;
        assert!(shown.starts_with("default: closed"), "{shown}");
    }
    let said = stage.approved(&["--wait", "--timeout=170s"]).await;
    assert_eq!(said.lines().count(), 2, "it has moved on since: {said}");
    stage.canary_is("payment-api", "Succeeded").await;
    let told = stage.told("payment-api").await;
    for hook in ["check", "close"] {
        let passed =
            format!("Confirm-traffic-increase check confirm-traffic-increase-gate-{hook} passed");
        assert!(told.contains(&passed), "{passed}: {told:?}");
    }
    let history = stage.done(&["history", "canary/payment-api"]).await;
    let count = |words: &str| history.lines().filter(|line| line.contains(words)).count();
    assert_eq!(count("open gate default"), 3, "{history}");
    assert_eq!(count("grant gate default"), 3, "{history}");
    assert_eq!(count("errors look normal"), 2, "{history}");
    load.stop().await.none_failed();
    stage.end().await;
}

#[tokio::test]
async fn gates_of_a_load_tester_in_a_pod_are_opened_where_the_hooks_ask() {
    let stage = Stage::start("default").await;
    // As Flagger ships it, in a pod, with its gates in memory.
    stage
        .apply(
            &["flagger-loadtester.yaml"],
            "flagger-loadtester.local.yaml",
            &[],
        )
        .await;
    let load = stage.led_by_hand("http://flagger-loadtester.default").await;
    stage.waits_at_gate().await;
    let wrong = stage.run(&["approve", "payment-api", "promotion"]).await;
    assert_eq!(wrong.code, Some(5), "{}", wrong.stderr);
    let json = stage
        .done(&["approve", "payment-api", "default", "-o", "json"])
        .await;
    let answer: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(
        (&answer["gate"]["usesLeft"], &answer["canary"]),
        (&json!(1), &json!("payment-api"))
    );
    stage.weighs(25).await;
    let said = stage.done(&["reject", "payment-api", "--dry-run"]).await;
    assert!(said.contains("gate 'rollback' is open"), "{said}");
    let said = stage
        .done(&[
            "reject",
            "payment-api",
            "--reason=checkout is slow",
            "--wait",
            "--timeout=170s",
        ])
        .await;
    assert!(said.contains("gate 'rollback' is open"), "{said}");
    let canary = stage.get(Kind::Canary, "payment-api").await;
    assert_eq!(canary["status"]["phase"], "Failed", "{said}");
    stage
        .until("the gate is said to have taken it back", async || {
            let told = stage.told("payment-api").await;
            let by_gate = "Rollback check rollback passed";
            told.iter().any(|told| told == by_gate).then_some(())
        })
        .await;
    let server = stage.address("flagger-loadtester").await.to_string();
    let kept = [
        "gate",
        "history",
        "payment-api",
        "rollback",
        "--gates",
        &server,
    ];
    let kept = stage.done(&kept).await;
    assert!(kept.contains("checkout is slow"), "{kept}");
    let opened = kept.lines().filter(|line| line.contains("open")).count();
    assert_eq!(opened, 1, "not by the dry run: {kept}");
    let late = stage.run(&["reject", "payment-api"]).await;
    assert_eq!(late.code, Some(6), "{}", late.stderr);
    assert!(
        late.stderr.contains("is not being released"),
        "{}",
        late.stderr
    );
    load.stop().await.none_failed();
    stage.end().await;
}

/// A server that knows gates and nothing of who opened them, as Flagger's own: closed for ever.
async fn other_server() -> String {
    serve(|request: Request<Incoming>| {
        let status = match request.uri().path() {
            "/gate/check" | "/rollback/check" => 403,
            "/gate/close" => 202,
            _ => 400,
        };
        let answer = Response::builder().status(status);
        std::future::ready(answer.body(Full::default()).expect("an answer"))
    })
    .await
}

#[tokio::test]
async fn a_gate_server_that_is_not_ours_is_named_and_what_to_do_about_it() {
    let stage = Stage::start("default").await;
    let address = other_server().await;
    let load = stage.led_by_hand(&address).await;
    stage.waits_at_gate().await;
    let refused = stage.run(&["approve", "payment-api"]).await;
    assert_eq!(refused.code, Some(6), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("no gate server of crossfade")
            && refused.stderr.contains(&format!("{address}/gate/open")),
        "{}",
        refused.stderr
    );
    // Whoever may write the Canary needs no server.
    let open = json!({"metadata": {"annotations": {"crossfade.dev/gate-open": "default"}}});
    stage.change(Kind::Canary, "payment-api", &open).await;
    stage.weighs(25).await;
    let said = stage.done(&["reject", "payment-api", "--dry-run"]).await;
    assert!(
        said.contains(r#""path":"/metadata/annotations/crossfade.dev~1abort""#),
        "{said}"
    );
    let canary = stage.get(Kind::Canary, "payment-api").await;
    assert!(canary["metadata"]["annotations"]["crossfade.dev/abort"].is_null());
    let said = stage.done(&["reject", "payment-api"]).await;
    assert!(!said.contains("gate"), "{said}");
    stage.canary_is("payment-api", "Failed").await;
    load.stop().await.none_failed();
    stage.end().await;
}
