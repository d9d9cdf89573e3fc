//! Actions: what each writes, says and refuses.

use crossfade_host::store::Kind;
use crossfade_host::wire::{Part, Patch};
use serde_json::{Value, json};

use crate::stage::{FULL, PLUGIN, Stage, canary, healthy, paused};

fn steps() -> Value {
    canary(
        &json!([{"setWeight": 20}, {"pause": {}}, {"setWeight": 50}, {"pause": {}}, {"setWeight": 70}, {"pause": {}}]),
    )
}

/// The status of a canary in a step that is no pause.
fn measuring(index: i32) -> Value {
    json!({"phase": "Progressing", "currentStepIndex": index, "currentPodHash": "new", "stableRS": "old"})
}

fn version_of(object: &Value) -> String {
    object["metadata"]["resourceVersion"]
        .as_str()
        .expect("a version")
        .to_owned()
}

#[tokio::test]
async fn cli_16_at_a_pause_only_the_pause_condition_is_cleared() {
    let stage = Stage::new();
    let before = stage.rollout("web", steps(), paused(1)).await;
    stage
        .plugin(&["promote", "web"])
        .await
        .is(0, "rollout 'web' promoted\n", "");
    let after = stage.get(Kind::Rollout, "web").await;
    let mut expected = before["status"].clone();
    expected
        .as_object_mut()
        .expect("a status")
        .remove("pauseConditions");
    assert_eq!(after["status"], expected);
    assert_eq!(after["spec"], before["spec"]);
}

#[tokio::test]
async fn cli_17_in_an_analysis_step_the_index_grows_by_one() {
    let stage = Stage::new();
    let spec = canary(
        &json!([{"setWeight": 20}, {"analysis": {"templates": [{"templateName": "t"}]}}, {"setWeight": 50}]),
    );
    stage.rollout("web", spec, measuring(1)).await;
    stage
        .plugin(&["promote", "web"])
        .await
        .is(0, "rollout 'web' promoted\n", "");
    assert_eq!(
        stage.get(Kind::Rollout, "web").await["status"]["currentStepIndex"],
        2
    );
}

#[tokio::test]
async fn cli_18_out_of_an_inconclusive_analysis_pause_and_index_change_together() {
    let stage = Stage::new();
    let mut status = paused(1);
    status["pauseConditions"][0]["reason"] = json!("InconclusiveAnalysisRun");
    status["canary"] =
        json!({"currentStepAnalysisRunStatus": {"name": "a", "status": "Inconclusive"}});
    let before = stage.rollout("web", steps(), status).await;
    stage
        .plugin(&["promote", "web"])
        .await
        .is(0, "rollout 'web' promoted\n", "");
    let after = stage.get(Kind::Rollout, "web").await;
    assert_eq!(after["status"]["pauseConditions"], Value::Null);
    assert_ne!(after["status"]["controllerPause"], json!(true));
    assert_eq!(after["status"]["currentStepIndex"], 2);
    // Together means in one write.
    let one_later = version_of(&before).parse::<u64>().expect("a number") + 1;
    assert_eq!(version_of(&after), one_later.to_string());
}

#[tokio::test]
async fn cli_19_a_full_promotion_is_asked_for_in_the_status() {
    let stage = Stage::new();
    stage.rollout("web", steps(), paused(2)).await;
    stage
        .plugin(&["promote", "web", "--full"])
        .await
        .is(0, "rollout 'web' fully promoted\n", "");
    let after = stage.get(Kind::Rollout, "web").await;
    assert_eq!(after["status"]["promoteFull"], json!(true));
    assert_eq!(after["status"]["currentStepIndex"], 2);
}

#[tokio::test]
async fn cli_20_a_full_promotion_of_a_healthy_rollout_writes_nothing() {
    let stage = Stage::new();
    let before = stage.rollout("web", steps(), healthy()).await;
    stage
        .plugin(&["promote", "web", "--full"])
        .await
        .is(0, "rollout 'web' fully promoted\n", "");
    let said = "rollout 'web' is not paused: nothing to promote\n";
    stage
        .full(&["promote", "web", "--full"])
        .await
        .is(0, said, "");
    assert_eq!(
        version_of(&stage.get(Kind::Rollout, "web").await),
        version_of(&before)
    );
}

#[tokio::test]
async fn cli_21_flags_that_do_not_go_with_the_strategy_are_refused() {
    let stage = Stage::new();
    let blue_green = json!({"selector": {"matchLabels": {"app": "web"}}, "template": {}, "strategy": {"blueGreen": {"activeService": "a"}}});
    let before = stage.rollout("web", blue_green, healthy()).await;
    stage.rollout("plain", canary(&json!([])), healthy()).await;
    let refused = async |arguments: &[&str], error: &str| {
        let ended = stage.plugin(arguments).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (1, ""));
        let last = ended.stderr.lines().last();
        assert_eq!(
            last,
            Some(format!("Error: {error}").as_str()),
            "{}",
            ended.stderr
        );
        assert!(
            ended.stderr.contains("has been deprecated"),
            "{}",
            ended.stderr
        );
    };
    refused(
        &["promote", "web", "-a"],
        "Cannot skip steps of a bluegreen rollout. Run without a flags",
    )
    .await;
    refused(
        &["promote", "plain", "-c"],
        "Cannot skip steps of a rollout without steps",
    )
    .await;
    let both = "Cannot use skip-current-step and skip-all-steps flags at the same time";
    refused(&["promote", "web", "-c", "-a"], both).await;
    assert_eq!(
        version_of(&stage.get(Kind::Rollout, "web").await),
        version_of(&before)
    );
}

#[tokio::test]
async fn cli_22_two_promotions_at_one_pause_advance_one_step() {
    for name in [PLUGIN, FULL] {
        let stage = Stage::new();
        stage.rollout("web", steps(), paused(1)).await;
        let mut first = stage.command(name, &["promote", "web"]);
        let mut second = stage.command(name, &["promote", "web"]);
        let (first, second) = tokio::join!(first.output(), second.output());
        for output in [first, second] {
            assert!(output.expect("it runs").status.success());
        }
        let after = stage.get(Kind::Rollout, "web").await;
        assert_eq!(after["status"]["pauseConditions"], Value::Null);
        // The one that came second must not move the index: the controller moves it when it leaves the pause.
        assert_eq!(after["status"]["currentStepIndex"], 1);
    }
}

/// A Rollout at revision 6 with ReplicaSets of revisions 3 and 5 beside it.
async fn with_history(stage: &Stage) -> Value {
    let mut spec = steps();
    spec["template"]["spec"]["containers"][0]["image"] = json!("app:6");
    let rollout = stage.rollout("web", spec, healthy()).await;
    for revision in [3, 5, 6] {
        let image = format!("app:{revision}");
        stage
            .version(&rollout, &format!("h{revision}"), revision, 1, &image)
            .await;
    }
    rollout
}

#[tokio::test]
async fn cli_23_undo_goes_to_the_second_newest_revision_or_to_the_one_that_is_named() {
    let stage = Stage::new();
    with_history(&stage).await;
    stage
        .plugin(&["undo", "web"])
        .await
        .is(0, "rollout 'web' undo\n", "");
    let template = &stage.get(Kind::Rollout, "web").await["spec"]["template"];
    assert_eq!(template["spec"]["containers"][0]["image"], "app:5");
    assert_eq!(template["metadata"]["labels"], json!({"app": "web"}));
    let ended = stage.plugin(&["undo", "web", "--to-revision", "4"]).await;
    ended.is(
        1,
        "",
        "Error: unable to find specified revision 4 in history\n",
    );
    stage
        .plugin(&["undo", "web", "--to-revision=3"])
        .await
        .is(0, "rollout 'web' undo\n", "");
    let template = &stage.get(Kind::Rollout, "web").await["spec"]["template"];
    assert_eq!(template["spec"]["containers"][0]["image"], "app:3");
    stage.rollout("alone", steps(), healthy()).await;
    let ended = stage.plugin(&["undo", "alone"]).await;
    ended.is(1, "", "Error: no revision found for rollout \"alone\"\n");
}

#[tokio::test]
async fn cli_24_going_back_to_what_is_there_already_writes_nothing() {
    let stage = Stage::new();
    let before = with_history(&stage).await;
    let said = "skipped rollback (current template already matches revision 6)\n";
    stage
        .plugin(&["undo", "web", "--to-revision", "6"])
        .await
        .is(0, said, "");
    assert_eq!(
        version_of(&stage.get(Kind::Rollout, "web").await),
        version_of(&before)
    );
}

#[tokio::test]
async fn rollback_says_first_what_would_happen() {
    let stage = Stage::new();
    with_history(&stage).await;
    let marked = json!({"metadata": {"labels": {"argocd.argoproj.io/instance": "shop"}}});
    stage.change("web", Part::Object, marked).await;
    let ended = stage.full(&["rollback", "web", "--dry-run"]).await;
    assert_eq!(ended.code, 0);
    for part in [
        "revision 5",
        "images: app:5",
        "all steps are taken",
        "Argo CD manages this object",
    ] {
        assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
    }
    let template = &stage.get(Kind::Rollout, "web").await["spec"]["template"];
    assert_eq!(template["spec"]["containers"][0]["image"], "app:6");
    let ended = stage
        .full(&["rollback", "web", "--reason", "the old one was better"])
        .await;
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (0, "rollout 'web' goes back to revision 5\n")
    );
    let trail = stage.full(&["audit", "web"]).await;
    let last = trail.stdout.lines().last().unwrap_or_default().to_owned();
    assert!(
        last.contains("rollback") && last.contains("the old one was better"),
        "{}",
        trail.stdout
    );
}

#[tokio::test]
async fn cli_25_a_star_sets_the_image_of_every_container() {
    let stage = Stage::new();
    let mut spec = steps();
    spec["template"]["spec"] = json!({
        "initContainers": [{"name": "i", "image": "i:1"}],
        "containers": [{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:1"}],
        "ephemeralContainers": [{"name": "e", "image": "e:1"}]});
    stage.rollout("web", spec, healthy()).await;
    stage.plugin(&["set", "image", "web", "*=img:2"]).await.is(
        0,
        "rollout \"web\" image updated\n",
        "",
    );
    let pods = stage.get(Kind::Rollout, "web").await["spec"]["template"]["spec"].clone();
    for (list, count) in [
        ("initContainers", 1),
        ("containers", 2),
        ("ephemeralContainers", 1),
    ] {
        let containers = pods[list].as_array().expect("a list");
        assert_eq!(containers.len(), count);
        assert!(
            containers
                .iter()
                .all(|container| container["image"] == "img:2"),
            "{list}: {containers:?}"
        );
    }
}

#[tokio::test]
async fn cli_26_a_container_that_does_not_exist_is_told() {
    let stage = Stage::new();
    stage.rollout("web", steps(), healthy()).await;
    let ended = stage.plugin(&["set", "image", "web", "nope=img:2"]).await;
    ended.is(1, "", "Error: unable to find container named \"nope\"\n");
    let ended = stage.full(&["set", "image", "web", "nope=img:2"]).await;
    assert_eq!(ended.code, 6);
    assert!(
        ended.stderr.ends_with("  hint: containers are: app\n"),
        "{}",
        ended.stderr
    );
}

#[tokio::test]
async fn with_a_referenced_deployment_its_image_is_set_and_undone() {
    let stage = Stage::new();
    let pods = |image: &str| json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "app", "image": image}]}});
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": pods("app:2")}});
    stage.put(Kind::Deployment, "default", deployment).await;
    let spec = json!({"workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}, "strategy": {"canary": {}}});
    let rollout = stage.rollout("web", spec, healthy()).await;
    stage.version(&rollout, "a", 1, 1, "app:1").await;
    stage.version(&rollout, "b", 2, 1, "app:2").await;
    let image = async || {
        stage.get(Kind::Deployment, "d").await["spec"]["template"]["spec"]["containers"][0]["image"]
            .clone()
    };
    stage
        .plugin(&["set", "image", "web", "app=app:3"])
        .await
        .is(0, "deployment \"d\" image updated\n", "");
    assert_eq!(image().await, "app:3");
    stage
        .plugin(&["undo", "web"])
        .await
        .is(0, "rollout 'web' undo\n", "");
    assert_eq!(image().await, "app:1");
}

#[tokio::test]
async fn cli_27_a_restart_is_set_for_the_time_that_is_named() {
    let stage = Stage::new();
    stage.rollout("web", steps(), healthy()).await;
    let begun = jiff::Timestamp::now();
    stage.plugin(&["restart", "web", "--in", "5m"]).await.is(
        0,
        "rollout 'web' restarts in 5m\n",
        "",
    );
    let at = stage.get(Kind::Rollout, "web").await["spec"]["restartAt"].clone();
    let text = at.as_str().expect("a time");
    assert!(text.ends_with('Z'), "{text}");
    let ahead = text
        .parse::<jiff::Timestamp>()
        .expect("a time")
        .duration_since(begun)
        .as_secs();
    assert!((299..=360).contains(&ahead), "{ahead} s ahead");
    let ended = stage.plugin(&["restart", "web", "--in", "abc"]).await;
    ended.is(
        1,
        "",
        "Error: invalid duration \"abc\" for --in: use for example 30s, 5m, 1h\n",
    );
    stage
        .plugin(&["restart", "web"])
        .await
        .is(0, "rollout 'web' restarts in 0s\n", "");
}

#[tokio::test]
async fn cli_32_several_names_are_worked_through_until_the_first_failure() {
    let stage = Stage::new();
    stage.rollout("a", steps(), paused(1)).await;
    stage.rollout("c", steps(), paused(1)).await;
    let missing = "Error: rollouts.argoproj.io \"b\" not found\n";
    stage
        .plugin(&["abort", "a", "b", "c"])
        .await
        .is(1, "rollout 'a' aborted\n", missing);
    assert_eq!(
        stage.get(Kind::Rollout, "a").await["status"]["abort"],
        json!(true)
    );
    assert_eq!(
        stage.get(Kind::Rollout, "c").await["status"]["abort"],
        Value::Null
    );
    let ended = stage.full(&["abort", "c", "b"]).await;
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (8, "rollout 'c' aborted\n")
    );
}

#[tokio::test]
async fn each_action_writes_its_field_and_says_so() {
    let stage = Stage::new();
    stage.rollout("web", steps(), paused(1)).await;
    let table: [(&[&str], &str, &str, Value); 5] = [
        (
            &["pause", "web"],
            "rollout 'web' paused\n",
            "/spec/paused",
            json!(true),
        ),
        (
            &["resume", "web"],
            "rollout 'web' resumed\n",
            "/spec/paused",
            json!(false),
        ),
        (
            &["abort", "web"],
            "rollout 'web' aborted\n",
            "/status/abort",
            json!(true),
        ),
        (
            &["retry", "rollout", "web"],
            "rollout 'web' retried\n",
            "/status/abort",
            json!(false),
        ),
        (
            &["promote", "web"],
            "rollout 'web' promoted\n",
            "/status/pauseConditions",
            Value::Null,
        ),
    ];
    for (arguments, said, pointer, value) in table {
        stage.plugin(arguments).await.is(0, said, "");
        let object = stage.get(Kind::Rollout, "web").await;
        let found = object.pointer(pointer).cloned().unwrap_or_default();
        // A server may leave out what is false.
        let same = found == value || (value == json!(false) && found.is_null());
        assert!(same, "{arguments:?}: {found}");
    }
}

#[tokio::test]
async fn in_full_mode_an_action_without_effect_says_so() {
    let stage = Stage::new();
    let mut status = healthy();
    status["observedGeneration"] = json!("1");
    let before = stage.rollout("web", steps(), status).await;
    for (verb, why) in [
        ("promote", "is not paused: nothing to promote"),
        ("abort", "is not being updated: nothing to abort"),
        ("retry", "is not aborted: nothing to retry"),
        ("resume", "is not paused: nothing to resume"),
    ] {
        stage
            .full(&[verb, "web"])
            .await
            .is(0, &format!("rollout 'web' {why}\n"), "");
    }
    assert_eq!(
        version_of(&stage.get(Kind::Rollout, "web").await),
        version_of(&before)
    );
}

#[tokio::test]
async fn runs_and_experiments_are_ended_and_begun_anew() {
    let stage = Stage::new();
    let run =
        json!({"metadata": {"name": "r"}, "spec": {"metrics": []}, "status": {"phase": "Running"}});
    stage.put(Kind::AnalysisRun, "default", run.clone()).await;
    let mut experiment = run;
    experiment["metadata"]["name"] = json!("e");
    stage.put(Kind::Experiment, "default", experiment).await;
    stage
        .plugin(&["terminate", "ar", "r"])
        .await
        .is(0, "analysisRun 'r' terminated\n", "");
    assert_eq!(
        stage.get(Kind::AnalysisRun, "r").await["spec"]["terminate"],
        json!(true)
    );
    stage
        .plugin(&["terminate", "experiment", "e"])
        .await
        .is(0, "experiment 'e' terminated\n", "");
    stage
        .plugin(&["retry", "exp", "e"])
        .await
        .is(0, "experiment 'e' retried\n", "");
    let after = stage.get(Kind::Experiment, "e").await;
    assert!(after["status"]["phase"].is_null(), "{after}");
}

#[tokio::test]
async fn many_objects_are_acted_on_only_after_a_yes() {
    let stage = Stage::new();
    for name in ["a", "b"] {
        stage.rollout(name, steps(), paused(1)).await;
    }
    let ended = stage.full(&["pause", "--all"]).await;
    let refused =
        "Error: this would pause 2 rollouts, and nobody can be asked\n  hint: add --yes\n";
    ended.is(6, "", refused);
    let ended = stage.full(&["pause", "--all", "--dry-run"]).await;
    let shown = "rollout 'a' paused (dry run)\n  {\"spec\":{\"paused\":true}}\nrollout 'b' paused (dry run)\n  {\"spec\":{\"paused\":true}}\n";
    ended.is(0, shown, "");
    assert!(stage.get(Kind::Rollout, "a").await["spec"]["paused"].is_null());
    let ended = stage.full(&["pause", "--all", "--yes"]).await;
    ended.is(0, "rollout 'a' paused\nrollout 'b' paused\n", "");
}

#[tokio::test]
async fn an_action_can_wait_for_its_effect() {
    let stage = Stage::new();
    stage.rollout("web", steps(), paused(1)).await;
    let ended = stage
        .full(&["promote", "web", "--wait", "--timeout", "300ms"])
        .await;
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (4, "rollout 'web' promoted\n")
    );
    assert!(
        ended
            .stderr
            .starts_with("Progressing - waiting for rollout to unpause\n"),
        "{}",
        ended.stderr
    );
    let patch = json!({"status": paused(3)});
    let written = stage
        .client
        .patch(
            Kind::Rollout,
            "default",
            "web",
            Part::Status,
            Patch::Merge,
            &patch,
        )
        .await;
    written.expect("the status can be written");
    let ended = stage
        .full(&["promote", "web", "--wait=step=3", "--dry-run", "-o", "json"])
        .await;
    let json: Value = serde_json::from_str(&ended.stdout).expect("one document");
    assert_eq!(
        json["items"][0]["patch"],
        json!({"status": {"pauseConditions": null}})
    );
    assert_eq!(json["items"][0]["changed"], json!(false));
}

#[tokio::test]
async fn objects_are_deleted_by_name_or_by_their_manifests() {
    let stage = Stage::new();
    stage.rollout("a", steps(), healthy()).await;
    let service =
        "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{port: 80}]}\n";
    let file = stage.file("s.yaml", service);
    assert_eq!(
        stage.full(&["apply", "-f", &file]).await.stdout,
        "service/s created\n"
    );
    stage.full(&["delete", "-f", &file, "rollout/a"]).await.is(
        0,
        "rollout.argoproj.io/a deleted\nservice/s deleted\n",
        "",
    );
    assert_eq!(stage.names(Kind::Rollout).await, Vec::<String>::new());
    let ended = stage.full(&["delete", "svc", "s"]).await;
    assert_eq!(ended.code, 5);
    stage
        .full(&["delete", "svc", "s", "--ignore-not-found"])
        .await
        .is(0, "", "");
}
