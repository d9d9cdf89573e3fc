//! Processes that misbehave: what becomes of the release, and what people are told.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crossfade_host::store::Kind;
use rustix::process::Signal;
use serde_json::Value;

use crate::load::Load;
use crate::rig::{PROGRAM, Rig, is_alive, sample, shop, signal};

/// The exit code of a command that found the release degraded.
const DEGRADED: i32 = 3;

/// A Rollout without Services whose new version is given two seconds to get on.
fn rollout(name: &str, container: &str) -> String {
    format!(
        r"
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {{name: {name}}}
spec:
  replicas: 1
  progressDeadlineSeconds: 3
  minReadySeconds: 1
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec: {{terminationGracePeriodSeconds: 1, containers: [{container}]}}
  strategy: {{canary: {{maxUnavailable: 0, maxSurge: 1}}}}
---
"
    )
}

/// A container that runs a shell script under a version.
fn script(version: &str, script: &str, more: &str) -> String {
    format!(
        r#"{{name: shop, image: "sample:{version}", command: [/bin/sh, -c, '{script}'],
            ports: [{{name: http, containerPort: 8080}}]{more}}}"#
    )
}

const READY: &str = ", readinessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1}";

/// A script that ends as the sample service.
fn serves(before: &str) -> String {
    format!("{before} exec {PROGRAM} sample --version=v --latency-ms=2 --port=$PORT")
}

#[tokio::test]
async fn a_version_that_does_not_start_or_never_gets_ready_fails_and_says_why() {
    let rig = Rig::started().await;
    let file = rig.file("server", "not to be run");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644))
        .expect("its mode is set");
    let image = r#"name: shop, image: "sample:v2""#;
    // Name, the bad container, what explains it, the Event.
    let table = [
        (
            "missing",
            format!(r#"{{{image}, command: ["/nonexistent/server"]}}"#),
            vec!["/nonexistent/server", "there is no such file"],
            "Failed: ",
        ),
        (
            "forbidden",
            format!(r#"{{{image}, command: ["{file}"]}}"#),
            vec![file.as_str(), "it is not executable for this user"],
            "Failed: ",
        ),
        (
            "nowhere",
            format!(
                r#"{{{image}, command: ["{PROGRAM}", sample], workingDir: "/nonexistent/folder"}}"#
            ),
            vec!["workingDir /nonexistent/folder is not a folder"],
            "Failed: ",
        ),
        (
            "deaf",
            script("v2", "exec sleep 1000", READY),
            vec!["Readiness probe", "refused"],
            "Unhealthy: Readiness probe",
        ),
        (
            "brief",
            script("v2", "exit 7", ""),
            vec!["CrashLoopBackOff", "last exit code 7"],
            "BackOff: Back-off restarting failed container",
        ),
        ("imageless", format!("{{{image}}}"), vec!["command"], ""),
    ];
    let names: Vec<&str> = table.iter().map(|(name, ..)| *name).collect();
    let good: String = names
        .iter()
        .map(|name| rollout(name, &sample("v1")))
        .collect();
    rig.apply(&good).await;
    for name in &names {
        rig.healthy(name, "v1").await;
    }
    let before = rig.pods("v1").await;
    let bad: String = table
        .iter()
        .map(|(name, container, ..)| rollout(name, container))
        .collect();
    rig.apply(&bad).await;
    for (name, _, words, event) in table {
        rig.explains(name, &words).await;
        let ended = rig.crossfade(&["status", name, "--timeout", "100s"]).await;
        assert_eq!(ended.code, DEGRADED, "{name}: {ended:?}");
        assert!(
            ended.stdout.contains("ProgressDeadlineExceeded"),
            "{name}: {ended:?}"
        );
        rig.explains(name, &words).await;
        let events = rig.events(name).await;
        assert!(
            events.iter().any(|told| told.starts_with(event)),
            "{name}: {events:#?}"
        );
        let shown = rig.crossfade(&["events", name, "--all"]).await;
        let reason = event.split(':').next().unwrap_or_default();
        assert!(shown.stdout.contains(reason), "{shown:?}");
        let rollout = rig.rollout(name).await;
        assert_eq!(
            rollout["status"]["availableReplicas"], 1,
            "{name}: {rollout:#}"
        );
    }
    let after = rig.pods("v1").await;
    let identities = |pods: &[crate::rig::Pod]| -> Vec<_> {
        pods.iter().map(crate::rig::Pod::identity).collect()
    };
    assert_eq!(
        identities(&before),
        identities(&after),
        "the old version stays"
    );
    // What is mended goes on.
    let mended: String = names
        .iter()
        .map(|name| rollout(name, &sample("v3")))
        .collect();
    rig.apply(&mended).await;
    for name in &names {
        rig.healthy(name, "v3").await;
    }
    rig.end().await;
}

#[tokio::test]
async fn a_canary_that_dies_for_good_at_weight_40_is_taken_back_and_no_request_fails() {
    let strategy = r"
    canary:
      stableService: shop
      canaryService: shop-canary
      abortScaleDownDelaySeconds: 1
      trafficRouting: {nginx: {stableIngress: shop}}
      steps:
      - setWeight: 40
      - pause: {}
      - setWeight: 60";
    let more = "  progressDeadlineSeconds: 3\n  progressDeadlineAbort: true\n";
    let rig = Rig::started().await;
    rig.apply(&shop(&sample("v1"), strategy, more)).await;
    rig.healthy("shop", "v1").await;
    let load = Load::start(&rig.address("shop").await, false);
    let flag = rig.folder.path().join("dead").display().to_string();
    let mortal = script("v2", &serves(&format!("test -e {flag} && exit 9;")), READY);
    rig.apply(&shop(&mortal, strategy, more)).await;
    rig.becomes("shop", "paused at weight 40", |now| {
        now["status"]["canary"]["weights"]["canary"]["weight"] == 40
            && now["status"]["phase"] == "Paused"
    })
    .await;
    std::fs::write(&flag, "").expect("writes");
    for pod in rig.pods("v2").await {
        signal(pod.process().expect("it runs"), Signal::KILL);
    }
    rig.explains("shop", &["CrashLoopBackOff", "last exit code 9"])
        .await;
    // A pause has no deadline; what comes after it does.
    let ended = rig.crossfade(&["promote", "shop"]).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let ended = rig
        .crossfade(&["status", "shop", "--timeout", "100s"])
        .await;
    assert_eq!(ended.code, DEGRADED, "{ended:?}");
    rig.becomes("shop", "taken back", |now| {
        let status = &now["status"];
        status["abort"] == true
            && status["phase"] == "Degraded"
            && status["canary"]["weights"]["canary"]["weight"] == 0
    })
    .await;
    rig.explains("shop", &["crossfade retry shop", "crossfade undo shop"])
        .await;
    let events = rig.events("shop").await;
    assert!(
        events.iter().any(|told| told.starts_with("RolloutAborted")),
        "{events:#?}"
    );
    rig.until("the canary's pods are gone", async || {
        rig.pods("v2").await.is_empty().then_some(())
    })
    .await;
    load.end_well();
    rig.end().await;
}

#[tokio::test]
async fn a_process_that_ignores_sigterm_and_leaves_children_behind_ends_all_the_same() {
    let rig = Rig::started().await;
    let children = rig.folder.path().join("children");
    let (list, sleeper) = (children.display(), "while true; do sleep 1; done");
    // One child in its session, one that left it, both deaf to SIGTERM as their parent is.
    let stubborn = format!(
        r#"trap "" TERM; ({sleeper}) & echo $! >> {list}; setsid sh -c "echo \$\$ >> {list}; {sleeper}" & {PROGRAM} sample --port=$PORT & {sleeper}"#
    );
    rig.apply(&rollout("shop", &script("v1", &stubborn, READY)))
        .await;
    rig.healthy("shop", "v1").await;
    let pids = rig
        .until("both children have told their number", async || {
            let text = std::fs::read_to_string(&children).ok()?;
            let pids: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
            (pids.len() == 2).then_some(pids)
        })
        .await;
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    rig.apply(&rollout("shop", &sample("v2"))).await;
    rig.healthy("shop", "v2").await;
    rig.until("the old pod and its children are gone", async || {
        let gone = rig.pods("v1").await.is_empty() && !pids.iter().any(|pid| is_alive(*pid));
        gone.then_some(())
    })
    .await;
    rig.end().await;
}

#[tokio::test]
async fn a_process_that_floods_its_log_fills_no_disk_and_holds_nobody_up() {
    /// Four files of ten MiB, and what is written while one of them is closed.
    const MOST: u64 = 45 << 20;
    let rig = Rig::started().await;
    let line = "x".repeat(1000);
    let flood = serves(&format!(
        "yes {line} | head -c 120000000; echo; echo the end;"
    ));
    rig.apply(&rollout("shop", &script("v1", &flood, READY)))
        .await;
    let mut largest = 0;
    rig.becomes("shop", "healthy", |now| {
        largest = largest.max(size(&rig.state.join("pods")));
        crate::rig::is_healthy(now, "v1")
    })
    .await;
    assert!(largest < MOST, "{largest} bytes");
    let pod = rig.pods("v1").await.remove(0);
    let name = format!("pod/{}", pod.name);
    let ended = rig.crossfade(&["logs", &name, "--tail", "2"]).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(
        ended.stdout.ends_with("x\nthe end\n"),
        "{:.200}",
        ended.stdout
    );
    rig.end().await;
}

/// How much the files below a folder hold.
fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(facts) if facts.is_dir() => size(&entry.path()),
        Ok(facts) => facts.len(),
        Err(_) => 0,
    };
    entries.map(of).sum()
}

#[tokio::test]
async fn events_of_a_pod_that_fails_for_ever_stay_few() {
    let rig = Rig::started().await;
    // Two sick probes a second, and restarts.
    let sick = script("v1", "sleep 2; exit 1", READY);
    let many: String = (0..5)
        .map(|number| rollout(&format!("sick-{number}"), &sick))
        .collect();
    rig.apply(&many).await;
    rig.until("all have failed several times", async || {
        let pods = rig.list(Kind::Pod).await;
        let restarted = |pod: &Value| {
            let container = &pod["status"]["containerStatuses"][0];
            container["restartCount"].as_i64().unwrap_or(0) >= 1
        };
        (pods.len() == 5 && pods.iter().all(restarted)).then_some(())
    })
    .await;
    let events = rig.list(Kind::Event).await;
    let of_pods = events
        .iter()
        .filter(|event| event["involvedObject"]["kind"] == "Pod");
    let count = of_pods.count();
    assert!((5..=5 * 8).contains(&count), "{count} Events about 5 pods");
    rig.end().await;
}

#[tokio::test]
async fn a_manifest_may_name_crossfade_where_nobody_has_installed_it() {
    let rig = Rig::started().await;
    let container = r#"{name: shop, image: "sample:v1", command: [crossfade, sample],
            args: [--version=v1, --port=$(PORT)], ports: [{name: http, containerPort: 8080}]"#;
    rig.apply(&rollout("shop", &format!("{container}{READY}}}")))
        .await;
    rig.healthy("shop", "v1").await;
}
