//! `get` and `list`: what is shown of releases.

use std::process::Stdio;

use crossfade_host::store::Kind;
use crossfade_host::wire::Part;
use serde_json::{Value, json};

use crate::stage::{FULL, PLUGIN, Stage, canary, healthy, owner_of, paused};

/// The canary of the specification's first picture, in namespace `shop`.
async fn checkout(stage: &Stage) {
    let spec = json!({"replicas": 4, "strategy": {"canary": {
        "trafficRouting": {"nginx": {"stableIngress": "checkout"}},
        "steps": [{"setWeight": 20}, {"pause": {"duration": "1m"}}, {"setWeight": 40}, {"pause": {}}, {"setWeight": 60}, {"pause": {"duration": "1m"}}]}}});
    let status = json!({"phase": "Paused", "message": "CanaryPauseStep", "observedGeneration": "1", "controllerPause": true,
        "pauseConditions": [{"reason": "CanaryPauseStep", "startTime": "2026-01-01T00:00:00Z"}],
        "currentStepIndex": 3, "currentPodHash": "6d9f7c5b8", "stableRS": "5c8b6d94f",
        "replicas": 4, "updatedReplicas": 2, "readyReplicas": 4, "availableReplicas": 4,
        "canary": {"weights": {"canary": {"weight": 40}, "stable": {"weight": 60}}}});
    let object = json!({"metadata": {"name": "checkout"}, "spec": spec, "status": status});
    let rollout = stage.put(Kind::Rollout, "shop", object).await;
    let (old, new) = (
        "example.com/shop/checkout:1.8.2",
        "example.com/shop/checkout:1.9.0",
    );
    stage.version(&rollout, "7b5d4f6c9", 5, 0, old).await;
    let stable = stage.version(&rollout, "5c8b6d94f", 6, 2, old).await;
    let canary = stage.version(&rollout, "6d9f7c5b8", 7, 2, new).await;
    stage.pod(&stable, "checkout-5c8b6d94f-b7t6m", 2, 0).await;
    stage.pod(&stable, "checkout-5c8b6d94f-kk8xw", 2, 0).await;
    stage.pod(&canary, "checkout-6d9f7c5b8-4xk2p", 2, 0).await;
    stage.pod(&canary, "checkout-6d9f7c5b8-9hqzn", 2, 1).await;
    let (owner, _) = owner_of(&rollout);
    let job = "1f0c2a77-93d1-4c6e-8c99-0242ac120002.smoke.1";
    let run = json!({
        "metadata": {"name": "checkout-6d9f7c5b8-7-2", "ownerReferences": [owner], "annotations": {"rollout.argoproj.io/revision": "7"}},
        "spec": {"metrics": []},
        "status": {"phase": "Successful", "metricResults": [
            {"name": "rate", "phase": "Successful", "successful": 4, "error": 1},
            {"name": "smoke", "phase": "Successful", "successful": 1, "measurements": [
                {"phase": "Successful", "startedAt": "2026-01-01T00:00:00Z", "metadata": {"job-name": job}}]}]}});
    stage.put(Kind::AnalysisRun, "shop", run).await;
}

/// The words of a picture without ages, which grow while the test runs.
fn words(picture: &str) -> Vec<Vec<&str>> {
    let is_age = |word: &&str| {
        word.starts_with(|first: char| first.is_ascii_digit())
            && word
                .chars()
                .all(|c| c.is_ascii_digit() || "smhdy".contains(c))
            && word.ends_with(['s', 'm', 'h', 'd', 'y'])
    };
    picture
        .lines()
        .map(|line| {
            line.split_whitespace()
                .filter(|word| !is_age(word))
                .collect()
        })
        .collect()
}

const CHECKOUT: &str = "\
Name:            checkout
Namespace:       shop
Status:          ॥ Paused
Message:         CanaryPauseStep
Strategy:        Canary
  Step:          3/6
  SetWeight:     40
  ActualWeight:  40
Images:          example.com/shop/checkout:1.8.2 (stable)
                 example.com/shop/checkout:1.9.0 (canary)
Replicas:
  Desired:       4
  Current:       4
  Updated:       2
  Ready:         4
  Available:     4

NAME                                                     KIND         STATUS        AGE    INFO
⟳ checkout                                               Rollout      ॥ Paused      12d
├──# revision:7
│  ├──⧉ checkout-6d9f7c5b8                               ReplicaSet   ✔ Healthy     4m     canary
│  │  ├──□ checkout-6d9f7c5b8-4xk2p                      Pod          ✔ Running     4m     ready:2/2
│  │  └──□ checkout-6d9f7c5b8-9hqzn                      Pod          ✔ Running     3m20s  ready:2/2,restarts:1
│  └──α checkout-6d9f7c5b8-7-2                           AnalysisRun  ✔ Successful  3m     ✔ 5,⚠ 1
│     └──⊞ 1f0c2a77-93d1-4c6e-8c99-0242ac120002.smoke.1  Job          ✔ Successful  3m
├──# revision:6
│  └──⧉ checkout-5c8b6d94f                               ReplicaSet   ✔ Healthy     2d     stable
│     ├──□ checkout-5c8b6d94f-b7t6m                      Pod          ✔ Running     2d     ready:2/2
│     └──□ checkout-5c8b6d94f-kk8xw                      Pod          ✔ Running     2d     ready:2/2
└──# revision:5
   └──⧉ checkout-7b5d4f6c9                               ReplicaSet   • ScaledDown  6d
";

#[tokio::test]
async fn cli_01_the_picture_of_a_canary_equals_the_sample_up_to_blanks_and_ages() {
    let stage = Stage::new();
    checkout(&stage).await;
    let shown = stage
        .plugin(&["get", "rollout", "checkout", "-n", "shop", "--no-color"])
        .await;
    assert_eq!((shown.code, shown.stderr.as_str()), (0, ""));
    assert_eq!(words(&shown.stdout), words(CHECKOUT));
    let full = stage.full(&["get", "checkout", "-n", "shop"]).await;
    assert_eq!(words(&full.stdout), words(CHECKOUT));
}

#[tokio::test]
async fn cli_02_a_rollout_without_steps_has_an_empty_step_and_full_weight() {
    let stage = Stage::new();
    stage.rollout("web", canary(&json!([])), healthy()).await;
    let shown = stage.plugin(&["get", "ro", "web"]).await;
    assert!(
        shown.stdout.contains("\n  Step:\n  SetWeight:     100\n"),
        "{}",
        shown.stdout
    );
}

#[tokio::test]
async fn cli_03_an_aborted_canary_has_no_weight_and_says_why() {
    let stage = Stage::new();
    let status = json!({"phase": "Degraded", "message": "RolloutAborted: Rollout aborted update to revision 2",
        "abort": true, "currentStepIndex": 0, "currentPodHash": "new", "stableRS": "old"});
    stage
        .rollout(
            "web",
            canary(&json!([{"setWeight": 20}, {"pause": {}}])),
            status,
        )
        .await;
    let shown = stage.plugin(&["get", "rollout", "web"]).await;
    assert!(
        shown.stdout.contains("\nMessage:         RolloutAborted: "),
        "{}",
        shown.stdout
    );
    assert!(
        shown.stdout.contains("\n  SetWeight:     0\n"),
        "{}",
        shown.stdout
    );
}

#[tokio::test]
async fn cli_04_one_of_three_available_pods_is_a_weight_of_33() {
    let stage = Stage::new();
    let mut status = paused(1);
    status["availableReplicas"] = json!(3);
    let rollout = stage
        .rollout(
            "web",
            canary(&json!([{"setWeight": 20}, {"pause": {}}])),
            status,
        )
        .await;
    stage.version(&rollout, "new", 2, 1, "app:2").await;
    stage.version(&rollout, "old", 1, 2, "app:1").await;
    let shown = stage.plugin(&["get", "rollout", "web"]).await;
    assert!(
        shown.stdout.contains("\n  ActualWeight:  33\n"),
        "{}",
        shown.stdout
    );
}

#[tokio::test]
async fn cli_05_with_a_router_maximum_and_no_current_step_both_weights_are_the_maximum() {
    let stage = Stage::new();
    let mut spec = canary(&json!([{"setWeight": 200}]));
    spec["strategy"]["canary"]["trafficRouting"] =
        json!({"maxTrafficWeight": 1000, "nginx": {"stableIngress": "web"}});
    let mut status = healthy();
    status["currentStepIndex"] = json!(1);
    stage.rollout("web", spec, status).await;
    let shown = stage.plugin(&["get", "rollout", "web"]).await;
    assert!(
        shown
            .stdout
            .contains("\n  SetWeight:     1000\n  ActualWeight:  1000\n"),
        "{}",
        shown.stdout
    );
}

#[tokio::test]
async fn cli_06_a_deadline_shows_what_is_left_of_it_or_that_it_has_passed() {
    let stage = Stage::new();
    let rollout = stage.rollout("web", canary(&json!([])), healthy()).await;
    let deadline = |minutes: i64| {
        let at = jiff::Timestamp::now()
            + jiff::SignedDuration::from_mins(minutes)
            + jiff::SignedDuration::from_secs(50);
        json!({"metadata": {"annotations": {"scale-down-deadline": at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()}}})
    };
    for (hash, minutes) in [("a", 239), ("b", -10)] {
        stage.version(&rollout, hash, 1, 1, "app:1").await;
        let form = crossfade_host::wire::Patch::Merge;
        let name = format!("web-{hash}");
        let patch = deadline(minutes);
        let patched = stage.client.patch(
            Kind::ReplicaSet,
            "default",
            &name,
            Part::Object,
            form,
            &patch,
        );
        patched.await.expect("it can be changed");
    }
    let shown = stage.plugin(&["get", "rollout", "web"]).await;
    assert!(shown.stdout.contains("delay:3h59m\n"), "{}", shown.stdout);
    assert!(shown.stdout.contains("delay:passed\n"), "{}", shown.stdout);
}

#[tokio::test]
async fn cli_07_a_pod_that_crash_loops_in_an_init_container_is_still_going() {
    let stage = Stage::new();
    let rollout = stage.rollout("web", canary(&json!([])), healthy()).await;
    let set = stage.version(&rollout, "new", 1, 1, "app:1").await;
    let (owner, _) = owner_of(&set);
    let pod = json!({"metadata": {"name": "web-new-1", "ownerReferences": [owner]},
        "spec": {"initContainers": [{"name": "i"}], "containers": [{"name": "a"}]},
        "status": {"phase": "Pending", "initContainerStatuses": [{"name": "i", "image": "", "imageID": "", "ready": false,
            "restartCount": 4, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}});
    stage.put(Kind::Pod, "default", pod).await;
    let shown = stage.plugin(&["get", "rollout", "web"]).await;
    assert!(
        shown.stdout.contains("◌ Init:CrashLoopBackOff"),
        "{}",
        shown.stdout
    );
}

#[tokio::test]
async fn cli_08_a_rollout_that_does_not_exist_is_told_on_standard_error() {
    let stage = Stage::new();
    let shown = stage.plugin(&["get", "rollout", "x"]).await;
    shown.is(1, "", "Error: rollout.argoproj.io \"x\" not found\n");
    stage
        .rollout("checkout", canary(&json!([])), healthy())
        .await;
    let shown = stage.full(&["get", "rollout", "chekout"]).await;
    shown.is(
        5,
        "",
        "Error: rollouts.argoproj.io \"chekout\" not found\n  hint: did you mean \"checkout\"?\n",
    );
}

#[tokio::test]
async fn cli_09_an_empty_list_is_a_remark_and_no_failure() {
    let stage = Stage::new();
    for kind in ["rollouts", "experiments"] {
        let shown = stage.plugin(&["list", kind]).await;
        shown.is(0, "", "No resources found.\n");
    }
}

#[tokio::test]
async fn cli_10_time_and_namespace_stand_first_when_they_are_asked_for() {
    let stage = Stage::new();
    stage
        .rollout(
            "web",
            canary(&json!([{"setWeight": 10}, {"pause": {}}])),
            paused(1),
        )
        .await;
    let shown = stage
        .plugin(&["list", "rollouts", "-A", "--timestamps"])
        .await;
    assert_eq!(shown.code, 0);
    let rows: Vec<Vec<_>> = shown
        .stdout
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let [head, row] = rows.as_slice() else {
        panic!("a head and a row: {}", shown.stdout);
    };
    assert_eq!(
        head.get(..3),
        Some(["TIMESTAMP", "NAMESPACE", "NAME"].as_slice())
    );
    let [time, namespace, rest @ ..] = row.as_slice() else {
        panic!("columns: {row:?}");
    };
    assert!(
        time.len() == 20 && time.ends_with('Z') && time.parse::<jiff::Timestamp>().is_ok(),
        "{time}"
    );
    assert_eq!(*namespace, "default");
    assert_eq!(
        rest,
        ["web", "Canary", "Paused", "1/2", "10", "0/0", "1", "0", "0"]
    );
}

#[tokio::test]
async fn cli_11_only_changes_that_show_print_a_line() {
    let stage = Stage::new();
    stage
        .rollout(
            "web",
            canary(&json!([{"setWeight": 10}, {"pause": {}}])),
            paused(1),
        )
        .await;
    let mut watching = stage.start(PLUGIN, &["list", "rollouts", "-w"]);
    assert!(watching.line().await.starts_with("NAME "));
    assert!(watching.line().await.starts_with("web "));
    let note = json!({"metadata": {"annotations": {"note": "nothing that shows"}}});
    stage.change("web", Part::Object, note).await;
    stage.set_status("web", json!({"readyReplicas": 7})).await;
    // The next line is that of the second change: the first printed none.
    let next = watching.line().await;
    assert_eq!(
        next,
        "web         Canary     Paused        1/2   10          7/0    1        0           0"
    );
    stage.delete("web").await;
    assert!(watching.line().await.contains("  Deleted  "));
}

#[tokio::test]
async fn cli_34_in_a_file_there_are_no_escape_codes() {
    let stage = Stage::new();
    checkout(&stage).await;
    let path = stage.folder.path().join("out");
    let file = std::fs::File::create(&path).expect("a file");
    for name in [PLUGIN, FULL] {
        let mut command = stage.command(name, &["get", "rollout", "checkout", "-n", "shop"]);
        let out = file.try_clone().expect("the same file");
        let status = command
            .env("TERM", "xterm-256color")
            .stdout(Stdio::from(out))
            .status();
        assert!(status.await.expect("it runs").success());
    }
    let text = std::fs::read_to_string(&path).expect("it was written");
    assert!(
        text.contains("checkout-6d9f7c5b8") && !text.contains('\u{1b}'),
        "{text}"
    );
    let always = stage
        .full(&["get", "checkout", "-n", "shop", "--color=always"])
        .await;
    assert!(
        always.stdout.contains("\u{1b}[33mcanary\u{1b}[0m"),
        "{}",
        always.stdout
    );
}

#[tokio::test]
async fn a_picture_that_is_not_on_a_terminal_is_printed_again_only_when_it_changes() {
    let stage = Stage::new();
    stage
        .rollout(
            "web",
            canary(&json!([{"setWeight": 10}, {"pause": {}}])),
            paused(1),
        )
        .await;
    let mut watching = stage.start(FULL, &["get", "web", "--watch"]);
    assert!(watching.line().await.starts_with("--- 20"));
    assert_eq!(watching.line().await, "Name:            web");
    stage.set_status("web", json!({"message": "other"})).await;
    while !watching.line().await.starts_with("--- 20") {}
    for expected in [
        "Name:            web",
        "Namespace:       default",
        "Status:          ॥ Paused",
        "Message:         other",
    ] {
        assert_eq!(watching.line().await, expected);
    }
    stage.delete("web").await;
    let ended = watching.ended().await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(
        ended.stdout.ends_with("rollout \"web\" was deleted\n"),
        "{}",
        ended.stdout
    );
}

#[tokio::test]
async fn json_carries_the_object_a_summary_and_the_version_of_its_form() {
    let stage = Stage::new();
    checkout(&stage).await;
    let shown = stage
        .full(&["get", "checkout", "-n", "shop", "-o", "json"])
        .await;
    let json: Value = serde_json::from_str(&shown.stdout).expect("one document");
    assert_eq!(json["schemaVersion"], "crossfade.dev/cli/v1");
    assert_eq!(json["status"]["phase"], "Paused");
    assert_eq!(json["summary"]["weights"], json!({"set": 40, "actual": 40}));
    assert_eq!(json["summary"]["step"], "3/6");
    assert_eq!(json["summary"]["tree"]["children"][0]["name"], "revision:7");
    let path = "jsonpath={.metadata.name}={.summary.images[*].image}";
    let shown = stage
        .full(&["get", "checkout", "-n", "shop", "-o", path])
        .await;
    shown.is(
        0,
        "checkout=example.com/shop/checkout:1.8.2 example.com/shop/checkout:1.9.0",
        "",
    );
    let shown = stage
        .full(&["get", "pods", "-n", "shop", "-o", "name"])
        .await;
    assert_eq!(
        shown.stdout.lines().next(),
        Some("pod/checkout-5c8b6d94f-b7t6m")
    );
    let listed = stage.full(&["list", "-A", "-o", "json"]).await;
    let json: Value = serde_json::from_str(&listed.stdout).expect("one document");
    assert_eq!(json["items"][0]["summary"]["setWeight"], 40);
}

#[tokio::test]
async fn other_types_are_tables() {
    let stage = Stage::new();
    let service = json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}});
    stage.put(Kind::Service, "default", service).await;
    let shown = stage.full(&["get", "services"]).await;
    let rows: Vec<Vec<_>> = shown
        .stdout
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        rows.first().map(Vec::as_slice),
        Some(["NAME", "ADDRESS", "PORTS", "SELECTOR", "AGE"].as_slice())
    );
    assert_eq!(
        rows.get(1).and_then(|row| row.get(..4)),
        Some(["web", "127.0.0.1:8080", "80", "app=web"].as_slice())
    );
    let shown = stage.full(&["get", "flux"]).await;
    assert_eq!(
        shown.code, 5,
        "a word that is no type is the name of a rollout: {}",
        shown.stderr
    );
}
