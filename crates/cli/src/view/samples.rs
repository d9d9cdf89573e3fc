//! Whole pictures of made-up releases, and the objects they are pictures of.

use crossfade_api::{AnalysisRun, Rollout};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::experiment::{Experiment, ExperimentView, Owned};
use super::icon::Look;
use super::rollout::{RolloutView, Surroundings};
use super::{head, list};

fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().expect("a time")
}

/// When something was created that is this old now.
fn ago(age: &str) -> String {
    let age = age.replace('d', "*24h");
    let hours = age
        .strip_suffix("*24h")
        .and_then(|days| days.parse::<i64>().ok());
    let age = hours.map_or_else(
        || crossfade_api::duration::parse(&age).expect("a duration"),
        |days| SignedDuration::from_hours(24 * days),
    );
    crossfade_api::time::text(now() - age)
}

fn read<T: DeserializeOwned>(json: Value) -> T {
    serde_json::from_value(json).expect("the test's object is one")
}

fn owner(uid: &str) -> Value {
    json!([{"apiVersion": "v1", "kind": "Owner", "name": uid, "uid": uid, "controller": true}])
}

fn set(
    name: &str,
    hash: &str,
    owned_by: &str,
    revision: &str,
    age: &str,
    pods: i32,
    image: &str,
) -> ReplicaSet {
    read(json!({
        "metadata": {"name": name, "uid": name, "creationTimestamp": ago(age), "ownerReferences": owner(owned_by),
            "labels": {"rollouts-pod-template-hash": hash},
            "annotations": {"rollout.argoproj.io/revision": revision}},
        "spec": {"replicas": pods, "selector": {}, "template": {"spec": {"containers": [{"name": "app", "image": image}]}}},
        "status": {"replicas": pods, "availableReplicas": pods}}))
}

fn pod(name: &str, owned_by: &str, age: &str, containers: i32, restarts: i32) -> Pod {
    let names: Vec<_> = (0..containers).map(|index| format!("c{index}")).collect();
    let declared: Vec<_> = names.iter().map(|name| json!({"name": name})).collect();
    let states: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(index, name)| {
            json!({"name": name, "image": "", "imageID": "", "ready": true, "state": {"running": {}},
                "restartCount": if index == 0 { restarts } else { 0 }})
        })
        .collect();
    read(json!({
        "metadata": {"name": name, "creationTimestamp": ago(age), "ownerReferences": owner(owned_by)},
        "spec": {"containers": declared},
        "status": {"phase": "Running", "containerStatuses": states}}))
}

fn run(name: &str, owned_by: &str, revision: &str, age: &str, status: &Value) -> AnalysisRun {
    read(json!({
        "metadata": {"name": name, "uid": name, "creationTimestamp": ago(age), "ownerReferences": owner(owned_by),
            "annotations": {"rollout.argoproj.io/revision": revision}},
        "spec": {"metrics": []}, "status": status}))
}

fn checkout() -> (Rollout, Surroundings) {
    let rollout = read(json!({
        "metadata": {"name": "checkout", "namespace": "shop", "uid": "checkout", "generation": 9, "creationTimestamp": ago("12d")},
        "spec": {"replicas": 4, "strategy": {"canary": {
            "trafficRouting": {"nginx": {"stableIngress": "checkout"}},
            "steps": [{"setWeight": 20}, {"pause": {"duration": "1m"}}, {"setWeight": 40}, {"pause": {}}, {"setWeight": 60}, {"pause": {"duration": "1m"}}]}}},
        "status": {"phase": "Paused", "message": "CanaryPauseStep", "observedGeneration": "9",
            "pauseConditions": [{"reason": "CanaryPauseStep", "startTime": ago("1m")}], "controllerPause": true,
            "currentStepIndex": 3, "currentPodHash": "6d9f7c5b8", "stableRS": "5c8b6d94f",
            "replicas": 4, "updatedReplicas": 2, "readyReplicas": 4, "availableReplicas": 4,
            "canary": {"weights": {"canary": {"weight": 40}, "stable": {"weight": 60}}}}}));
    let (old, new) = (
        "example.com/shop/checkout:1.8.2",
        "example.com/shop/checkout:1.9.0",
    );
    let job = "1f0c2a77-93d1-4c6e-8c99-0242ac120002.smoke.1";
    let measured = json!({"phase": "Successful", "metricResults": [
        {"name": "rate", "phase": "Successful", "successful": 4, "error": 1, "measurements": []},
        {"name": "smoke", "phase": "Successful", "successful": 1, "measurements": [
            {"phase": "Successful", "startedAt": ago("3m"), "metadata": {"job-name": job}}]}]});
    let around = Surroundings {
        replica_sets: vec![
            set(
                "checkout-7b5d4f6c9",
                "7b5d4f6c9",
                "checkout",
                "5",
                "6d",
                0,
                old,
            ),
            set(
                "checkout-5c8b6d94f",
                "5c8b6d94f",
                "checkout",
                "6",
                "2d",
                2,
                old,
            ),
            set(
                "checkout-6d9f7c5b8",
                "6d9f7c5b8",
                "checkout",
                "7",
                "4m",
                2,
                new,
            ),
            set("another-5d8f", "5d8f", "another", "1", "4m", 2, "other:1"),
        ],
        pods: vec![
            pod(
                "checkout-6d9f7c5b8-9hqzn",
                "checkout-6d9f7c5b8",
                "3m20s",
                2,
                1,
            ),
            pod("checkout-6d9f7c5b8-4xk2p", "checkout-6d9f7c5b8", "4m", 2, 0),
            pod("checkout-5c8b6d94f-kk8xw", "checkout-5c8b6d94f", "2d", 2, 0),
            pod("checkout-5c8b6d94f-b7t6m", "checkout-5c8b6d94f", "2d", 2, 0),
        ],
        runs: vec![run(
            "checkout-6d9f7c5b8-7-2",
            "checkout",
            "7",
            "3m",
            &measured,
        )],
        experiments: Vec::new(),
    };
    (rollout, around)
}

fn web() -> (Rollout, Surroundings) {
    let rollout = read(json!({
        "metadata": {"name": "web", "namespace": "shop", "uid": "web", "creationTimestamp": ago("30d")},
        "spec": {"strategy": {"blueGreen": {"activeService": "web", "previewService": "web-preview", "autoPromotionEnabled": false}}},
        "status": {"phase": "Paused", "message": "BlueGreenPause", "currentPodHash": "84f6c9d7b5", "stableRS": "66d5bc8f97",
            "pauseConditions": [{"reason": "BlueGreenPause", "startTime": ago("1m")}], "controllerPause": true,
            "blueGreen": {"activeSelector": "66d5bc8f97", "previewSelector": "84f6c9d7b5"},
            "replicas": 2, "updatedReplicas": 1, "readyReplicas": 2, "availableReplicas": 1}}));
    let around = Surroundings {
        replica_sets: vec![
            set(
                "web-84f6c9d7b5",
                "84f6c9d7b5",
                "web",
                "4",
                "90s",
                1,
                "example.com/shop/web:23",
            ),
            set(
                "web-66d5bc8f97",
                "66d5bc8f97",
                "web",
                "3",
                "8d",
                1,
                "example.com/shop/web:22",
            ),
        ],
        pods: vec![
            pod("web-84f6c9d7b5-t8zqd", "web-84f6c9d7b5", "90s", 1, 0),
            pod("web-66d5bc8f97-2mlxv", "web-66d5bc8f97", "8d", 1, 0),
        ],
        runs: vec![run(
            "web-84f6c9d7b5-4-pre",
            "web",
            "4",
            "60s",
            &json!({"phase": "Running",
            "metricResults": [{"name": "m", "phase": "Running", "successful": 2}]}),
        )],
        experiments: Vec::new(),
    };
    (rollout, around)
}

fn plain((rollout, around): &(Rollout, Surroundings)) -> String {
    RolloutView::of(rollout, around, now()).text(Look::default(), now())
}

#[test]
fn cli_01_a_canary_at_a_pause_behind_a_router() {
    insta::assert_snapshot!(plain(&checkout()), @r"
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
    ");
}

#[test]
fn a_blue_green_release_before_the_switch() {
    insta::assert_snapshot!(plain(&web()), @r"
    Name:            web
    Namespace:       shop
    Status:          ॥ Paused
    Message:         BlueGreenPause
    Strategy:        BlueGreen
    Images:          example.com/shop/web:22 (stable, active)
                     example.com/shop/web:23 (preview)
    Replicas:
      Desired:       1
      Current:       2
      Updated:       1
      Ready:         2
      Available:     1

    NAME                             KIND         STATUS     AGE  INFO
    ⟳ web                            Rollout      ॥ Paused   30d
    ├──# revision:4
    │  ├──⧉ web-84f6c9d7b5           ReplicaSet   ✔ Healthy  90s  preview
    │  │  └──□ web-84f6c9d7b5-t8zqd  Pod          ✔ Running  90s  ready:1/1
    │  └──α web-84f6c9d7b5-4-pre     AnalysisRun  ◌ Running  60s  ✔ 2
    └──# revision:3
       └──⧉ web-66d5bc8f97           ReplicaSet   ✔ Healthy  8d   stable,active
          └──□ web-66d5bc8f97-2mlxv  Pod          ✔ Running  8d   ready:1/1
    ");
}

#[test]
fn in_plain_letters_words_stand_for_icons() {
    let (rollout, around) = checkout();
    let look = Look {
        colour: false,
        ascii: true,
    };
    let text = RolloutView::of(&rollout, &around, now()).text(look, now());
    assert!(text.is_ascii(), "{text}");
    insta::assert_snapshot!(text, @r"
    Name:            checkout
    Namespace:       shop
    Status:          [paused] Paused
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

    NAME                                                      KIND         STATUS            AGE    INFO
    checkout                                                  Rollout      [paused] Paused   12d
    |-- # revision:7
    |   |-- checkout-6d9f7c5b8                                ReplicaSet   [ok] Healthy      4m     canary
    |   |   |-- checkout-6d9f7c5b8-4xk2p                      Pod          [ok] Running      4m     ready:2/2
    |   |   `-- checkout-6d9f7c5b8-9hqzn                      Pod          [ok] Running      3m20s  ready:2/2,restarts:1
    |   `-- checkout-6d9f7c5b8-7-2                            AnalysisRun  [ok] Successful   3m     [ok] 5,[error] 1
    |       `-- 1f0c2a77-93d1-4c6e-8c99-0242ac120002.smoke.1  Job          [ok] Successful   3m
    |-- # revision:6
    |   `-- checkout-5c8b6d94f                                ReplicaSet   [ok] Healthy      2d     stable
    |       |-- checkout-5c8b6d94f-b7t6m                      Pod          [ok] Running      2d     ready:2/2
    |       `-- checkout-5c8b6d94f-kk8xw                      Pod          [ok] Running      2d     ready:2/2
    `-- # revision:5
        `-- checkout-7b5d4f6c9                                ReplicaSet   [off] ScaledDown  6d
    ");
}

#[test]
fn in_colour_icons_tags_and_names_of_versions_are_painted() {
    let look = Look {
        colour: true,
        ascii: false,
    };
    let (rollout, around) = web();
    let text = RolloutView::of(&rollout, &around, now()).text(look, now());
    insta::assert_snapshot!(text.replace('\u{1b}', "ESC"), @r"
    Name:            web
    Namespace:       shop
    Status:          ESC[0m॥ESC[0m Paused
    Message:         BlueGreenPause
    Strategy:        BlueGreen
    Images:          example.com/shop/web:22 (ESC[32mstableESC[0m, ESC[32mactiveESC[0m)
                     example.com/shop/web:23 (ESC[94mpreviewESC[0m)
    Replicas:
      Desired:       1
      Current:       2
      Updated:       1
      Ready:         2
      Available:     1

    NAME                             KIND         STATUS     AGE  INFO
    ⟳ web                            Rollout      ESC[0m॥ESC[0m Paused   30d
    ├──# revision:4
    │  ├──⧉ ESC[94mweb-84f6c9d7b5ESC[0m           ReplicaSet   ESC[32m✔ESC[0m Healthy  90s  ESC[94mpreviewESC[0m
    │  │  └──□ web-84f6c9d7b5-t8zqd  Pod          ESC[32m✔ESC[0m Running  90s  ready:1/1
    │  └──α ESC[94mweb-84f6c9d7b5-4-preESC[0m     AnalysisRun  ESC[94m◌ESC[0m Running  60s  ESC[32m✔ESC[0m 2
    └──# revision:3
       └──⧉ ESC[32mweb-66d5bc8f97ESC[0m           ReplicaSet   ESC[32m✔ESC[0m Healthy  8d   ESC[32mstableESC[0m,ESC[32mactiveESC[0m
          └──□ web-66d5bc8f97-2mlxv  Pod          ESC[32m✔ESC[0m Running  8d   ready:1/1
    ");
}

#[test]
fn cli_02_a_rollout_without_steps_has_an_empty_step() {
    let rollout: Rollout = read(
        json!({"metadata": {"name": "a", "namespace": "b"}, "spec": {"strategy": {"canary": {}}},
        "status": {"phase": "Healthy"}}),
    );
    let text = plain(&(rollout, Surroundings::default()));
    let lines: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("  S") || line.starts_with("  A"))
        .collect();
    assert_eq!(
        lines,
        [
            "  Step:",
            "  SetWeight:     100",
            "  ActualWeight:  100",
            "  Available:     0"
        ]
    );
}

#[test]
fn cli_06_a_deadline_shows_beside_what_the_version_is() {
    let (rollout, mut around) = checkout();
    let deadline = crossfade_api::time::text(now() + SignedDuration::from_mins(239));
    for set in &mut around.replica_sets {
        let annotations = set.metadata.annotations.get_or_insert_default();
        annotations.insert("scale-down-deadline".to_owned(), deadline.clone());
    }
    let text = plain(&(rollout, around));
    assert!(text.contains("canary,delay:3h59m\n"), "{text}");
}

#[test]
fn an_experiment_with_two_versions_and_an_analysis() {
    let experiment: Experiment = read(json!({
        "metadata": {"name": "ab-search", "namespace": "shop", "uid": "ab-search", "creationTimestamp": ago("6m")},
        "status": {"phase": "Running"}}));
    let version = |template: &str, available: i32, image: &str| {
        let name = format!("ab-search-{template}");
        let mut set = set(&name, "", "ab-search", "", "6m", 1, image);
        let annotations = set.metadata.annotations.get_or_insert_default();
        annotations.insert(
            "experiment.argoproj.io/template-name".to_owned(),
            template.to_owned(),
        );
        set.status.as_mut().expect("made above").available_replicas = Some(available);
        set
    };
    let sets = [
        version("baseline", 1, "example.com/shop/search:4.1"),
        version("variant", 0, "example.com/shop/search:4.2-rc1"),
    ];
    let mut failing = pod("ab-search-variant-z7n4c", "ab-search-variant", "6m", 1, 0);
    for container in failing
        .status
        .as_mut()
        .and_then(|status| status.container_statuses.as_mut())
        .expect("made above")
    {
        container.ready = false;
        container.state = Some(read(json!({"waiting": {"reason": "ErrImagePull"}})));
    }
    let pods = [
        pod("ab-search-baseline-lq5vr", "ab-search-baseline", "6m", 1, 0),
        failing,
    ];
    let runs = [run(
        "ab-search-latency",
        "ab-search",
        "",
        "10s",
        &json!({"phase": "Pending"}),
    )];
    let owned = Owned {
        replica_sets: &sets,
        pods: &pods,
        runs: &runs,
    };
    let view = ExperimentView::of(&experiment, owned);
    let look = Look::default();
    let text = format!(
        "{}\n{}",
        head::experiment(&view, look),
        view.tree.table(look, now()).text()
    );
    insta::assert_snapshot!(text, @r"
    Name:            ab-search
    Namespace:       shop
    Status:          ◌ Running
    Images:          example.com/shop/search:4.1 (Σ:baseline)
                     example.com/shop/search:4.2-rc1 (Σ:variant)

    NAME                              KIND         STATUS          AGE  INFO
    Σ ab-search                       Experiment   ◌ Running       6m
    ├──⧉ ab-search-baseline           ReplicaSet   ✔ Healthy       6m
    │  └──□ ab-search-baseline-lq5vr  Pod          ✔ Running       6m   ready:1/1
    ├──⧉ ab-search-variant            ReplicaSet   ◌ Progressing   6m
    │  └──□ ab-search-variant-z7n4c   Pod          ⚠ ErrImagePull  6m   ready:0/1
    └──α ab-search-latency            AnalysisRun  ◷ Pending       10s
    ");
}

#[test]
fn a_list_of_rollouts_has_one_row_each() {
    let (checkout, _) = checkout();
    let (web, _) = web();
    let gateway = read(
        json!({"metadata": {"name": "api-gateway-v2", "namespace": "shop"},
        "spec": {"replicas": 2, "strategy": {"canary": {"steps": [{"setWeight": 10}, {"pause": {}}, {"setWeight": 50}]}}},
        "status": {"phase": "Progressing", "currentStepIndex": 0, "replicas": 3, "readyReplicas": 2, "updatedReplicas": 1, "availableReplicas": 2}}),
    );
    let rows: Vec<_> = [gateway, checkout, web].iter().map(list::Row::of).collect();
    let table = list::rollouts(&rows, list::Columns::default(), now());
    insta::assert_snapshot!(table.text(), @r"
    NAME            STRATEGY   STATUS        STEP  SET-WEIGHT  READY  DESIRED  UP-TO-DATE  AVAILABLE
    api-gateway-v2  Canary     Progressing   0/3   10          2/3    2        1           2
    checkout        Canary     Paused        3/6   40          4/4    4        2           4
    web             BlueGreen  Paused        -     -           2/2    1        1           1
    ");
    let columns = list::Columns {
        timestamp: true,
        namespace: true,
    };
    insta::assert_snapshot!(list::rollouts(&rows, columns, now()).text(), @r"
    TIMESTAMP             NAMESPACE  NAME            STRATEGY   STATUS        STEP  SET-WEIGHT  READY  DESIRED  UP-TO-DATE  AVAILABLE
    2026-03-01T12:00:00Z  shop       api-gateway-v2  Canary     Progressing   0/3   10          2/3    2        1           2
    2026-03-01T12:00:00Z  shop       checkout        Canary     Paused        3/6   40          4/4    4        2           4
    2026-03-01T12:00:00Z  shop       web             BlueGreen  Paused        -     -           2/2    1        1           1
    ");
}

#[test]
fn a_list_of_experiments_shows_how_long_they_still_run() {
    let experiment = |name: &str, duration: &str, phase: &str, available: &str| -> Experiment {
        read(
            json!({"metadata": {"name": name, "namespace": "shop", "creationTimestamp": ago("10m")},
            "spec": {"duration": duration}, "status": {"phase": phase, "availableAt": ago(available)}}),
        )
    };
    let experiments = [
        experiment("a", "1h", "Running", "8m"),
        experiment("b", "", "Running", "8m"),
        experiment("c", "5m", "Successful", "8m"),
    ];
    insta::assert_snapshot!(list::experiments(&experiments, list::Columns::default(), now()).text(), @r"
    NAME        STATUS      DURATION  REMAINING  AGE
    a           Running     60m       52m        10m
    b           Running     -         -          10m
    c           Successful  5m        -          10m
    ");
}

#[test]
fn the_picture_as_data_names_every_object() {
    let (rollout, around) = web();
    let json = serde_json::to_string_pretty(&RolloutView::of(&rollout, &around, now()))
        .expect("it is plain data");
    insta::assert_snapshot!(json, @r#"
    {
      "name": "web",
      "namespace": "shop",
      "icon": "paused",
      "status": "Paused",
      "message": "BlueGreenPause",
      "strategy": "BlueGreen",
      "images": [
        {
          "image": "example.com/shop/web:22",
          "tags": [
            "stable",
            "active"
          ]
        },
        {
          "image": "example.com/shop/web:23",
          "tags": [
            "preview"
          ]
        }
      ],
      "replicas": {
        "desired": 1,
        "current": 2,
        "updated": 1,
        "ready": 2,
        "available": 1
      },
      "tree": {
        "kind": "Rollout",
        "name": "web",
        "icon": "paused",
        "status": "Paused",
        "created": "2026-01-30T12:00:00Z",
        "info": {},
        "children": [
          {
            "kind": "Revision",
            "name": "revision:4",
            "info": {},
            "children": [
              {
                "kind": "ReplicaSet",
                "name": "web-84f6c9d7b5",
                "icon": "ok",
                "status": "Healthy",
                "created": "2026-03-01T11:58:30Z",
                "info": {
                  "tags": [
                    "preview"
                  ]
                },
                "children": [
                  {
                    "kind": "Pod",
                    "name": "web-84f6c9d7b5-t8zqd",
                    "icon": "ok",
                    "status": "Running",
                    "created": "2026-03-01T11:58:30Z",
                    "info": {
                      "notes": [
                        "ready:1/1"
                      ]
                    }
                  }
                ]
              },
              {
                "kind": "AnalysisRun",
                "name": "web-84f6c9d7b5-4-pre",
                "icon": "progressing",
                "status": "Running",
                "created": "2026-03-01T11:59:00Z",
                "info": {
                  "measurements": {
                    "successful": 2,
                    "failed": 0,
                    "inconclusive": 0,
                    "error": 0
                  }
                }
              }
            ]
          },
          {
            "kind": "Revision",
            "name": "revision:3",
            "info": {},
            "children": [
              {
                "kind": "ReplicaSet",
                "name": "web-66d5bc8f97",
                "icon": "ok",
                "status": "Healthy",
                "created": "2026-02-21T12:00:00Z",
                "info": {
                  "tags": [
                    "stable",
                    "active"
                  ]
                },
                "children": [
                  {
                    "kind": "Pod",
                    "name": "web-66d5bc8f97-2mlxv",
                    "icon": "ok",
                    "status": "Running",
                    "created": "2026-02-21T12:00:00Z",
                    "info": {
                      "notes": [
                        "ready:1/1"
                      ]
                    }
                  }
                ]
              }
            ]
          }
        ]
      }
    }
    "#);
}
