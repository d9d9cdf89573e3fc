//! kill -9 of everything, at every step.

use std::process::Stdio;
use std::time::Duration;

use crossfade_host::supervisor::{
    PodIdentity, PodRequest, PodSnapshot, Supervisor, SupervisorError,
};
use serde_json::{Value, json};

use super::world::{
    HELPER, World, end, eventually, get, kill, marked, restarts, runs, script, with,
};

fn server() -> Value {
    json!({"containers": [{
        "name": "web",
        "command": ["/bin/sh", "-c", format!("setsid sleep 1000 & exec {HELPER} serve $PORT")],
        "ports": [{"containerPort": 8080, "name": "http"}],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}},
    }]})
}

#[tokio::test]
async fn a_killed_shim_is_replaced_and_what_it_ran_is_ended_and_started_again() {
    let world = World::new().await;
    world.start("p", &server());
    let before = world.until_ready("p").await;
    let folder = world.pod_folder("p");
    eventually("both processes run", || marked(&folder).len() == 2).await;
    let old = marked(&folder);
    kill(before.shim_pid.expect("a shim"));
    // Unready at once: nobody looks after it.
    world.until("p", "unready", |pod| !pod.is_ready()).await;
    let after = world
        .until("p", "back", |pod| restarts(pod) == 1 && pod.is_ready())
        .await;
    assert_ne!(after.shim_pid, before.shim_pid);
    assert_eq!(after.ports, before.ports);
    let end = end(&after);
    assert_eq!(
        (end.exit_code, end.reason.as_str()),
        (137, "ContainerStatusUnknown")
    );
    assert!(
        old.iter().all(|pid| !runs(*pid)),
        "nothing of the lost run goes on"
    );
    assert_eq!(get(&after, "http", "/healthz").await, "well");
    world.supervisor().delete_pod("p", None).expect("accepted");
    world.until_gone("p").await;
    assert_eq!(marked(&folder), Vec::<u32>::new());
}

#[tokio::test]
async fn a_shim_killed_while_the_control_plane_is_away_is_replaced_when_it_is_back() {
    let mut world = World::new().await;
    world.start("p", &server());
    let before = world.until_ready("p").await;
    world.close().await;
    kill(before.shim_pid.expect("a shim"));
    world.open().await;
    let after = world
        .until("p", "back", |pod| restarts(pod) == 1 && pod.is_ready())
        .await;
    assert_eq!(end(&after).reason, "ContainerStatusUnknown");
    assert_eq!(marked(&world.pod_folder("p")).len(), 2);
}

#[tokio::test]
async fn a_lost_container_that_must_not_run_again_fails_its_pod() {
    let world = World::new().await;
    let mut spec = server();
    spec["restartPolicy"] = json!("Never");
    world.start("p", &spec);
    let before = world.until_ready("p").await;
    kill(before.shim_pid.expect("a shim"));
    let pod = world.until_word("p", "ContainerStatusUnknown").await;
    assert_eq!(format!("{:?}", pod.status.phase), "Failed");
    world.until("p", "over", |pod| pod.shim_pid.is_none()).await;
    assert_eq!(marked(&world.pod_folder("p")), Vec::<u32>::new());
}

#[tokio::test]
async fn a_shim_may_be_killed_at_any_moment_of_a_start_and_of_an_end() {
    let world = World::new().await;
    for round in 0..12_u32 {
        let uid = format!("p-{round}");
        let folder = world.pod_folder(&uid);
        let shim = || {
            let state: Value =
                serde_json::from_slice(&std::fs::read(folder.join("state.json")).ok()?).ok()?;
            u32::try_from(state.pointer("/shim/pid")?.as_u64()?).ok()
        };
        world.start(&uid, &server());
        eventually("there is a shim", || shim().is_some()).await;
        tokio::time::sleep(Duration::from_millis(u64::from(round) * 3)).await;
        let killed = shim().expect("a shim");
        kill(killed);
        let again = |pod: &PodSnapshot| pod.is_ready() && pod.shim_pid != Some(killed);
        let pod = world.until(&uid, "ready again", again).await;
        assert_eq!(get(&pod, "http", "/healthz").await, "well", "round {round}");
        eventually("one run, and only one", || marked(&folder).len() == 2).await;

        world
            .supervisor()
            .delete_pod(&uid, Some(1))
            .expect("accepted");
        tokio::time::sleep(Duration::from_millis(u64::from(round))).await;
        if let Some(shim) = shim().filter(|shim| runs(*shim)) {
            let _ = std::process::Command::new("kill")
                .args(["-9", &shim.to_string()])
                .output();
        }
        world.until_gone(&uid).await;
        assert_eq!(marked(&folder), Vec::<u32>::new(), "round {round}");
    }
}

#[tokio::test]
async fn a_control_plane_killed_with_9_interrupts_nothing() {
    let mut world = World::new().await;
    world.close().await;
    let template = json!({"spec": server()}).to_string();
    let start = || {
        std::process::Command::new(HELPER)
            .arg("host")
            .arg(world.state_folder())
            .args(["p", &template])
            .stdin(Stdio::null())
            .spawn()
            .expect("starts")
    };
    let mut first = start();
    let state = world.pod_folder("p").join("state.json");
    let ready = || {
        let state: Value =
            serde_json::from_slice(&std::fs::read(&state).unwrap_or_default()).unwrap_or_default();
        state.pointer("/status/containerStatuses/0/ready") == Some(&json!(true))
    };
    eventually("the pod is ready", ready).await;
    let before = marked(&world.pod_folder("p"));
    first.kill().expect("killed");
    first.wait().expect("ended");
    world.open().await;
    let pod = world.now("p");
    assert!(pod.is_ready());
    assert_eq!(restarts(&pod), 0);
    assert_eq!(marked(&world.pod_folder("p")), before);
    assert_eq!(get(&pod, "http", "/healthz").await, "well");
}

#[tokio::test]
async fn a_control_plane_may_be_killed_at_any_moment_of_a_start() {
    for round in 0..8_u64 {
        let mut world = World::new().await;
        world.close().await;
        let template = json!({"spec": server()}).to_string();
        let mut host = std::process::Command::new(HELPER)
            .arg("host")
            .arg(world.state_folder())
            .args(["p", &template])
            .spawn()
            .expect("starts");
        let folder = world.pod_folder("p");
        eventually("it begins", || folder.exists()).await;
        tokio::time::sleep(Duration::from_millis(round)).await;
        host.kill().expect("killed");
        host.wait().expect("ended");
        world.open().await;
        // Whether it got as far as noting the pod or not: asking again is safe.
        let identity = PodIdentity {
            name: "p".to_owned(),
            uid: "p".to_owned(),
            ..PodIdentity::default()
        };
        let template = json!({"spec": server()});
        world
            .supervisor()
            .ensure_pod(PodRequest::new(identity, template))
            .expect("accepted");
        let pod = world.until_ready("p").await;
        assert_eq!(get(&pod, "http", "/healthz").await, "well");
        eventually("one run, and only one", || marked(&folder).len() == 2).await;
        world
            .supervisor()
            .delete_pod("p", Some(0))
            .expect("accepted");
        world.until_gone("p").await;
    }
}

#[tokio::test]
async fn two_hosts_cannot_have_the_same_state_folder() {
    let world = World::new().await;
    let second = Supervisor::open(
        &world.state_folder(),
        world.settings(),
        world.cupboard.clone(),
    )
    .await;
    assert!(
        matches!(second.err(), Some(SupervisorError::InUse(folder)) if folder == world.state_folder())
    );
}

#[tokio::test]
async fn a_pod_whose_folder_was_removed_ends_by_itself() {
    let mut world = World::new().await;
    world.start("p", &server());
    let pod = world.until_ready("p").await;
    world.close().await;
    std::fs::remove_dir_all(world.state_folder()).expect("removed");
    eventually("the shim ends", || !runs(pod.shim_pid.expect("a shim"))).await;
    assert_eq!(marked(&world.pod_folder("p")), Vec::<u32>::new());
}

#[tokio::test]
async fn a_shim_that_is_told_to_end_lets_its_containers_end_and_they_come_back() {
    let world = World::new().await;
    let out = world.file("out");
    let text = format!(
        "trap 'echo bye >> {}; exit 0' TERM; while true; do sleep 0.01; done",
        out.display()
    );
    let spec = with(
        script(&text),
        json!({"terminationGracePeriodSeconds": 600}),
        json!({}),
    );
    world.start("p", &spec);
    let before = world.until_ready("p").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let pid = rustix::process::Pid::from_raw(before.shim_pid.expect("a shim").cast_signed())
        .expect("pid");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("told");
    let after = world
        .until("p", "back", |pod| restarts(pod) == 1 && pod.is_ready())
        .await;
    assert_ne!(after.shim_pid, before.shim_pid);
    assert_eq!(std::fs::read_to_string(&out).expect("written"), "bye\n");
    assert_eq!(end(&after).reason, "Completed");
}

#[tokio::test]
async fn labels_may_change_and_a_bad_uid_is_refused() {
    let mut world = World::new().await;
    world.start("p", &script("exec sleep 1000"));
    let mut identity = world.until_ready("p").await.identity;
    let shim = world.now("p").shim_pid;
    identity
        .labels
        .insert("role".to_owned(), "active".to_owned());
    world
        .supervisor()
        .ensure_pod(PodRequest::new(identity.clone(), json!({})))
        .expect("accepted");
    assert_eq!(world.now("p").identity, identity);
    world.close().await;
    world.open().await;
    assert_eq!(world.now("p").identity, identity);
    assert_eq!(world.now("p").shim_pid, shim);
    for uid in ["", "..", "a/b", ".hidden"] {
        let identity = PodIdentity {
            uid: uid.to_owned(),
            ..PodIdentity::default()
        };
        let refused = world
            .supervisor()
            .ensure_pod(PodRequest::new(identity, json!({})));
        assert!(matches!(refused, Err(SupervisorError::BadUid(_))), "{uid}");
    }
}

#[tokio::test]
async fn a_full_disk_stops_no_pod_and_is_made_up_for_when_there_is_room_again() {
    let world = World::new().await;
    world.start("p", &server());
    let before = world.until_ready("p").await;
    let folder = world.pod_folder("p");
    // Where the next state would be written, there is no room from now on.
    std::os::unix::fs::symlink("/dev/full", folder.join("state.json.new")).expect("linked");
    kill(get(&before, "http", "/pid").await.parse().expect("pid"));
    let after = world
        .until("p", "back", |pod| restarts(pod) == 1 && pod.is_ready())
        .await;
    let saved = || {
        let state: Value =
            serde_json::from_slice(&std::fs::read(folder.join("state.json")).expect("state"))
                .expect("JSON");
        state
            .pointer("/status/containerStatuses/0/restartCount")
            .and_then(Value::as_u64)
    };
    assert_eq!(saved(), Some(0), "could not be written");
    std::fs::remove_file(folder.join("state.json.new")).expect("room again");
    kill(get(&after, "http", "/pid").await.parse().expect("pid"));
    world
        .until("p", "back again", |pod| {
            restarts(pod) == 2 && pod.is_ready()
        })
        .await;
    assert_eq!(saved(), Some(2));

    // A full disk keeps no pod from ending either: that is how room is made.
    for file in ["state.json.new", "stop.json.new"] {
        std::os::unix::fs::symlink("/dev/full", folder.join(file)).expect("linked");
    }
    let refused = world
        .supervisor()
        .delete_pod("p", None)
        .expect_err("cannot be written down");
    assert!(refused.to_string().ends_with("stop.json"), "{refused}");
    world.until_gone("p").await;
    assert_eq!(marked(&folder), Vec::<u32>::new());
}

#[tokio::test]
async fn half_a_file_after_a_power_cut_does_not_keep_a_pod_from_running() {
    let mut world = World::new().await;
    world.start("p", &server());
    let before = world.until_ready("p").await;
    world.close().await;
    kill(before.shim_pid.expect("a shim"));
    for file in ["state.json", "plan.json"] {
        std::fs::write(world.pod_folder("p").join(file), "{\"shim\": {\"pi").expect("written");
    }
    world.open().await;
    let after = world
        .until("p", "ready", |pod| {
            pod.is_ready() && pod.shim_pid != before.shim_pid
        })
        .await;
    assert_eq!(get(&after, "http", "/healthz").await, "well");
    eventually("nothing is left of the run before", || {
        marked(&world.pod_folder("p")).len() == 2
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_ask_for_the_same_pod_at_once_get_one() {
    let world = World::new().await;
    let identity = PodIdentity {
        name: "p".to_owned(),
        uid: "p".to_owned(),
        ..PodIdentity::default()
    };
    let request = PodRequest::new(identity, json!({"spec": server()}));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                world
                    .supervisor()
                    .ensure_pod(request.clone())
                    .expect("accepted");
            });
        }
    });
    world.until_ready("p").await;
    assert_eq!(marked(&world.pod_folder("p")).len(), 2);
    world
        .supervisor()
        .delete_pod("p", Some(0))
        .expect("accepted");
    world.until_gone("p").await;
}
