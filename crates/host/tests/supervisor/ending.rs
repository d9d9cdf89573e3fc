//! How pods are ended: SIGTERM, grace, hooks, and orders that come at odd moments.

use std::time::{Duration, Instant};

use crossfade_host::supervisor::Tuning;
use serde_json::json;

use super::world::{HELPER, World, end, eventually, happened, marked, script, with};

#[tokio::test]
async fn a_process_hears_sigterm_and_may_finish_its_work() {
    let world = World::new().await;
    let out = world.file("out");
    let text = format!(
        "trap 'sleep 0.1; echo bye > {}; exit 0' TERM; while true; do sleep 0.01; done",
        out.display()
    );
    world.start(
        "p",
        &with(
            script(&text),
            json!({"terminationGracePeriodSeconds": 600}),
            json!({}),
        ),
    );
    world.until_ready("p").await;
    eventually("the trap is set", || {
        !marked(&world.pod_folder("p")).is_empty()
    })
    .await;
    world.supervisor().delete_pod("p", None).expect("accepted");
    assert_eq!(world.now("p").word(), "Terminating");
    assert!(!world.now("p").is_ready());
    world.until_gone("p").await;
    assert_eq!(std::fs::read_to_string(out).expect("written"), "bye\n");
}

#[tokio::test]
async fn a_process_that_ignores_sigterm_is_killed_when_its_grace_is_over() {
    let world = World::tuned(Tuning {
        second: Duration::from_millis(100),
        ..Tuning::default()
    })
    .await;
    let ready = world.file("ready");
    let text = format!(
        "trap '' TERM; touch {}; while true; do sleep 0.01; done",
        ready.display()
    );
    world.start(
        "p",
        &with(
            script(&text),
            json!({"terminationGracePeriodSeconds": 5}),
            json!({}),
        ),
    );
    eventually("the trap is set", || ready.exists()).await;
    let begun = Instant::now();
    world.supervisor().delete_pod("p", None).expect("accepted");
    world.until_gone("p").await;
    assert!(
        begun.elapsed() >= Duration::from_millis(500),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn a_second_order_may_shorten_the_grace_and_not_lengthen_it() {
    let world = World::tuned(Tuning::default()).await;
    let ready = world.file("ready");
    let text = format!(
        "trap '' TERM; touch {}; while true; do sleep 0.01; done",
        ready.display()
    );
    world.start("p", &script(&text));
    eventually("the trap is set", || ready.exists()).await;
    // Half a minute by default: longer than a test would wait.
    world.supervisor().delete_pod("p", None).expect("accepted");
    world
        .until("p", "told", |pod| {
            happened(pod, "Killing", "Stopping container web")
        })
        .await;
    world
        .supervisor()
        .delete_pod("p", Some(3600))
        .expect("accepted");
    let begun = Instant::now();
    world
        .supervisor()
        .delete_pod("p", Some(0))
        .expect("accepted");
    world.until_gone("p").await;
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn the_prestop_hook_runs_before_sigterm() {
    let world = World::new().await;
    let out = world.file("out");
    let text = format!(
        "trap 'echo term >> {0}; exit 0' TERM; touch {0}; while true; do sleep 0.01; done",
        out.display()
    );
    let hook = format!("echo hook $GREETING >> {}", out.display());
    let container = json!({
        "env": [{"name": "GREETING", "value": "hi"}],
        "lifecycle": {"preStop": {"exec": {"command": ["/bin/sh", "-c", hook]}}},
    });
    world.start(
        "p",
        &with(
            script(&text),
            json!({"terminationGracePeriodSeconds": 600}),
            container,
        ),
    );
    eventually("the trap is set", || out.exists()).await;
    world.supervisor().delete_pod("p", None).expect("accepted");
    world.until_gone("p").await;
    assert_eq!(
        std::fs::read_to_string(out).expect("written"),
        "hook hi\nterm\n"
    );
}

#[tokio::test]
async fn a_prestop_hook_that_fails_or_never_ends_does_not_keep_the_pod() {
    let world = World::tuned(Tuning::default()).await;
    for (uid, hook, event) in [
        (
            "fails",
            json!({"exec": {"command": ["/bin/sh", "-c", "echo oh no; exit 4"]}}),
            "command in web ended with 4: oh no",
        ),
        (
            "hangs",
            json!({"exec": {"command": ["sleep", "1000"]}}),
            "it did not end within the grace period",
        ),
        (
            "refused",
            json!({"httpGet": {"port": 1, "path": "/drain"}}),
            "onnection refused",
        ),
    ] {
        let seen = world.file(uid);
        let text = format!(
            "trap 'touch {}; exit 0' TERM; while true; do sleep 0.01; done",
            seen.display()
        );
        let pod = json!({"terminationGracePeriodSeconds": 1});
        world.start(
            uid,
            &with(script(&text), pod, json!({"lifecycle": {"preStop": hook}})),
        );
        world.until_ready(uid).await;
        let mut changes = world.supervisor().changes();
        world.supervisor().delete_pod(uid, None).expect("accepted");
        let mut told = false;
        while let Some(pod) = world.supervisor().status(uid) {
            told |= happened(&pod, "FailedPreStopHook", event);
            let _ = changes.recv().await;
        }
        assert!(told, "{uid}: {event}");
        assert!(seen.exists(), "{uid}: SIGTERM came all the same");
    }
}

#[tokio::test]
async fn prestop_can_sleep_and_can_get_a_page() {
    let world = World::tuned(Tuning {
        second: Duration::from_millis(100),
        ..Tuning::default()
    })
    .await;
    world.start(
        "sleeps",
        &with(
            script("sleep 1000"),
            json!({}),
            json!({"lifecycle": {"preStop": {"sleep": {"seconds": 4}}}}),
        ),
    );
    world.until_ready("sleeps").await;
    let begun = Instant::now();
    world
        .supervisor()
        .delete_pod("sleeps", None)
        .expect("accepted");
    world.until_gone("sleeps").await;
    assert!(
        begun.elapsed() >= Duration::from_millis(400),
        "{:?}",
        begun.elapsed()
    );

    world.start(
        "gets",
        &json!({"containers": [{
            "name": "web",
            "command": [HELPER, "serve", "$(PORT)"],
            "ports": [{"containerPort": 8080, "name": "http"}],
            "lifecycle": {"preStop": {"httpGet": {"port": "http", "path": "/nothing-there"}}},
        }]}),
    );
    world.until_ready("gets").await;
    let mut changes = world.supervisor().changes();
    world
        .supervisor()
        .delete_pod("gets", None)
        .expect("accepted");
    let mut told = false;
    while let Some(pod) = world.supervisor().status("gets") {
        told |= happened(&pod, "FailedPreStopHook", "404");
        let _ = changes.recv().await;
    }
    assert!(told, "the page was asked for");
}

#[tokio::test]
async fn a_poststart_hook_that_fails_ends_the_container() {
    let world = World::new().await;
    let hook = json!({"lifecycle": {"postStart": {"exec": {"command": ["/bin/false"]}}}});
    world.start(
        "p",
        &with(
            script("exec sleep 1000"),
            json!({"restartPolicy": "Never"}),
            hook,
        ),
    );
    let pod = world.until_word("p", "Error").await;
    assert_eq!(end(&pod).signal, Some(15));
    assert!(happened(
        &pod,
        "FailedPostStartHook",
        "command in web ended with 1"
    ));
    assert!(happened(&pod, "Killing", "failed its postStart hook"));
}

#[tokio::test]
async fn a_pod_can_be_asked_to_end_at_any_moment() {
    let world = World::new().await;
    for round in 0..12_u32 {
        let uid = format!("p-{round}");
        world.start(&uid, &script("sleep 1000 & setsid sleep 1000 & wait"));
        tokio::time::sleep(Duration::from_micros(u64::from(round) * 700)).await;
        world
            .supervisor()
            .delete_pod(&uid, Some(0))
            .expect("accepted");
        world.until_gone(&uid).await;
        assert_eq!(
            marked(&world.pod_folder(&uid)),
            Vec::<u32>::new(),
            "round {round}"
        );
    }
    // One that nobody knows is gone already.
    world
        .supervisor()
        .delete_pod("never-was", None)
        .expect("accepted");
}
