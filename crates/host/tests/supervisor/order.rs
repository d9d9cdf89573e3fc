//! Init containers, sidecars, and pods that end by themselves.

use crossfade_host::supervisor::PodPhase;
use serde_json::{Value, json};

use super::world::{World, end, happened, restarts, script, with};

fn sh(name: &str, text: &str) -> Value {
    json!({"name": name, "command": ["/bin/sh", "-c", text]})
}

fn condition(pod: &crossfade_host::supervisor::PodSnapshot, kind: &str) -> String {
    let condition = pod.status.condition(kind).expect("is there");
    format!(
        "{} {}",
        condition.status,
        condition.reason.clone().unwrap_or_default()
    )
    .trim()
    .to_owned()
}

#[tokio::test]
async fn init_containers_run_one_after_the_other_before_the_main_ones() {
    let world = World::new().await;
    let (out, go) = (world.file("out"), world.file("go"));
    let wait = format!(
        "echo one >> {0}; while [ ! -e {1} ]; do sleep 0.01; done; echo two >> {0}",
        out.display(),
        go.display()
    );
    world.start(
        "p",
        &json!({
            "initContainers": [sh("first", &wait), sh("second", &format!("echo three >> {}", out.display()))],
            "containers": [sh("web", &format!("echo four >> {}; exec sleep 1000", out.display()))],
        }),
    );
    let pod = world.until_word("p", "Init:0/2").await;
    super::world::eventually("the first has begun", || out.exists()).await;
    assert_eq!(pod.status.phase, PodPhase::Pending);
    assert_eq!(
        condition(&pod, "Initialized"),
        "False ContainersNotInitialized"
    );
    std::fs::write(&go, "").expect("written");
    let pod = world.until_ready("p").await;
    assert_eq!(
        (pod.word().as_str(), condition(&pod, "Initialized").as_str()),
        ("Running", "True")
    );
    super::world::eventually("all have run", || {
        std::fs::read_to_string(&out).is_ok_and(|text| text == "one\ntwo\nthree\nfour\n")
    })
    .await;
}

#[tokio::test]
async fn an_init_container_that_fails_is_tried_again_or_fails_the_pod_as_the_policy_says() {
    let world = World::new().await;
    let out = world.file("out");
    let main = format!("touch {}; exec sleep 1000", out.display());
    let spec = |policy: &str| json!({"restartPolicy": policy, "initContainers": [sh("init", "exit 5")], "containers": [sh("web", &main)]});
    world.start("always", &spec("Always"));
    world.start("never", &spec("Never"));
    let pod = world.until_word("always", "Init:CrashLoopBackOff").await;
    assert_eq!(pod.status.phase, PodPhase::Pending);
    let pod = world
        .until("never", "failed", |pod| {
            pod.status.phase == PodPhase::Failed
        })
        .await;
    assert_eq!(pod.word(), "Init:Error");
    assert!(!out.exists(), "a main container started all the same");
    for uid in ["always", "never"] {
        world.supervisor().delete_pod(uid, None).expect("accepted");
        world.until_gone(uid).await;
    }
}

#[tokio::test]
async fn a_sidecar_starts_before_the_main_container_and_ends_after_it() {
    let world = World::new().await;
    let out = world.file("out");
    let lasting = |word: &str| {
        format!(
            "trap 'echo {word} ends >> {0}; exit 0' TERM; echo {word} >> {0}; touch {0}-{word}; while true; do sleep 0.01; done",
            out.display()
        )
    };
    let mut sidecar = sh("side", &lasting("side"));
    sidecar["restartPolicy"] = json!("Always");
    sidecar["startupProbe"] =
        json!({"exec": {"command": ["test", "-e", format!("{}-side", out.display())]}});
    let mut web = sh("web", &lasting("web"));
    web["readinessProbe"] =
        json!({"exec": {"command": ["test", "-e", format!("{}-web", out.display())]}});
    world.start(
        "p",
        &json!({"terminationGracePeriodSeconds": 600, "initContainers": [sidecar], "containers": [web]}),
    );
    let pod = world.until_ready("p").await;
    assert_eq!(pod.word(), "Running");
    world.supervisor().delete_pod("p", None).expect("accepted");
    world.until_gone("p").await;
    assert_eq!(
        std::fs::read_to_string(&out).expect("written"),
        "side\nweb\nweb ends\nside ends\n"
    );
}

#[tokio::test]
async fn a_pod_that_ends_well_is_completed_and_its_sidecar_ended() {
    let world = World::new().await;
    let mut sidecar = sh("side", "exec sleep 1000");
    sidecar["restartPolicy"] = json!("Always");
    world.start(
        "p",
        &json!({"restartPolicy": "Never", "initContainers": [sidecar], "containers": [sh("job", "exit 0")]}),
    );
    let pod = world
        .until("p", "succeeded", |pod| {
            pod.status.phase == PodPhase::Succeeded
        })
        .await;
    assert_eq!(end(&pod).reason, "Completed");
    let pod = world
        .until("p", "without shim", |pod| pod.shim_pid.is_none())
        .await;
    assert_eq!(condition(&pod, "Ready"), "False PodCompleted");
    // What is over stays over, and stays visible until it is deleted.
    let mut world = world;
    world.close().await;
    world.open().await;
    assert_eq!(world.now("p").status.phase, PodPhase::Succeeded);
    assert_eq!(world.now("p").shim_pid, None);
    world.supervisor().delete_pod("p", None).expect("accepted");
    world.until_gone("p").await;
}

#[tokio::test]
async fn a_failed_job_pod_stays_failed_or_is_run_again_as_the_policy_says() {
    let world = World::new().await;
    world.start(
        "never",
        &with(
            script("exit 7"),
            json!({"restartPolicy": "Never"}),
            json!({}),
        ),
    );
    let pod = world
        .until("never", "failed", |pod| {
            pod.status.phase == PodPhase::Failed
        })
        .await;
    assert_eq!(
        (pod.word().as_str(), end(&pod).exit_code, restarts(&pod)),
        ("Error", 7, 0)
    );
    assert_eq!(condition(&pod, "Ready"), "False PodFailed");

    let text = format!(
        "[ -e {0} ] && exit 0; touch {0}; exit 1",
        world.file("again").display()
    );
    world.start(
        "on-failure",
        &with(
            script(&text),
            json!({"restartPolicy": "OnFailure"}),
            json!({}),
        ),
    );
    let pod = world
        .until("on-failure", "succeeded", |pod| {
            pod.status.phase == PodPhase::Succeeded
        })
        .await;
    assert_eq!((pod.word().as_str(), restarts(&pod)), ("Completed", 1));
}

#[tokio::test]
async fn a_pod_that_is_active_for_too_long_fails() {
    let world = World::new().await;
    let pod = json!({"restartPolicy": "Never", "activeDeadlineSeconds": 4});
    world.start("p", &with(script("exec sleep 1000"), pod, json!({})));
    let pod = world
        .until("p", "failed", |pod| pod.status.phase == PodPhase::Failed)
        .await;
    assert_eq!(pod.status.reason.as_deref(), Some("DeadlineExceeded"));
    let pod = world.until("p", "over", |pod| pod.shim_pid.is_none()).await;
    assert_eq!(end(&pod).signal, Some(15));
    assert!(!happened(&pod, "BackOff", ""));
}
