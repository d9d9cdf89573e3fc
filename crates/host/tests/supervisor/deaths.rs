//! Containers that do not start, die, are killed, leave children behind, or find their port taken.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crossfade_host::supervisor::{PodPhase, Tuning};
use serde_json::json;

use super::world::{
    HELPER, World, end, eventually, get, happened, kill, marked, restarts, runs, script, with,
};

#[tokio::test]
async fn a_program_that_cannot_be_started_says_why_and_is_tried_again() {
    let world = World::new().await;
    let plain = world.file("plain");
    std::fs::write(&plain, "not a program").expect("written");
    std::fs::set_permissions(&plain, std::fs::Permissions::from_mode(0o644)).expect("set");
    let plain = plain.display().to_string();
    for (uid, program, advice) in [
        (
            "missing",
            "/no/such/program",
            "there is no such file, or the interpreter it names is missing",
        ),
        ("nowhere", "no-such-program", "it is in no folder of PATH"),
        (
            "denied",
            plain.as_str(),
            "it is not executable for this user",
        ),
    ] {
        world.start(
            uid,
            &json!({"containers": [{"name": "web", "command": [program, "secret argument"]}]}),
        );
        let pod = world.until_word(uid, "CrashLoopBackOff").await;
        let end = end(&pod);
        assert_eq!((end.exit_code, end.reason.as_str()), (128, "StartError"));
        assert_eq!(end.message, format!("cannot start `{program}`: {advice}"));
        assert!(happened(&pod, "Failed", advice));
        assert_eq!(pod.status.phase, PodPhase::Running);
        world
            .until(uid, "started again", |pod| restarts(pod) >= 2)
            .await;
    }
    world.start(
        "folder",
        &with(
            script("true"),
            json!({}),
            json!({"workingDir": "/no/such/folder"}),
        ),
    );
    let pod = world.until_word("folder", "CrashLoopBackOff").await;
    assert_eq!(
        end(&pod).message,
        "workingDir /no/such/folder is not a folder of this machine"
    );
}

#[tokio::test]
async fn a_container_that_dies_is_restarted_at_once_and_then_more_and_more_slowly() {
    let world = World::new().await;
    world.start("p", &script("exit 3"));
    let pod = world
        .until("p", "in back-off", |pod| pod.word() == "CrashLoopBackOff")
        .await;
    // The first restart came without waiting.
    assert_eq!(restarts(&pod), 1);
    let end = end(&pod);
    assert_eq!(
        (end.exit_code, end.signal, end.reason.as_str()),
        (3, None, "Error")
    );
    assert!(!pod.is_ready());
    assert!(happened(
        &pod,
        "BackOff",
        "Back-off restarting failed container web in pod p_prod"
    ));
    let wait = |pod: &crossfade_host::supervisor::PodSnapshot| {
        let state = &pod.status.container_statuses.first().expect("one").state;
        format!("{state:?}")
            .split("back-off ")
            .nth(1)
            .and_then(|text| text.split(' ').next().map(str::to_owned))
    };
    assert_eq!(wait(&pod).as_deref(), Some("100ms"));
    world
        .until("p", "slower", |pod| wait(pod).as_deref() == Some("200ms"))
        .await;
    world
        .until("p", "slowest", |pod| wait(pod).as_deref() == Some("400ms"))
        .await;
    let pod = world
        .until("p", "no slower", |pod| {
            restarts(pod) == 5 && wait(pod).is_some()
        })
        .await;
    assert_eq!(wait(&pod).as_deref(), Some("400ms"));
    // Not even a pod in back-off keeps anybody waiting who wants it gone.
    world.supervisor().delete_pod("p", None).expect("accepted");
    world.until_gone("p").await;
}

#[tokio::test]
async fn a_container_that_is_killed_tells_the_signal_and_comes_back_with_its_ports() {
    let world = World::new().await;
    world.start(
        "p",
        &json!({"containers": [{
            "name": "web",
            "command": [HELPER, "serve", "$(PORT)"],
            "ports": [{"containerPort": 8080}],
        }]}),
    );
    let before = world.until_ready("p").await;
    kill(get(&before, "8080", "/pid").await.parse().expect("pid"));
    let after = world
        .until("p", "back", |pod| restarts(pod) == 1 && pod.is_ready())
        .await;
    let end = end(&after);
    assert_eq!((end.exit_code, end.signal), (137, Some(9)));
    assert_eq!(after.ports, before.ports);
    assert!(after.ready_since() > before.ready_since());
    assert_eq!(after.shim_pid, before.shim_pid);
}

#[tokio::test]
async fn children_that_a_container_leaves_behind_end_with_it() {
    let world = World::new().await;
    let pids = world.file("pids");
    // One in the group, one in a session of its own, one that also wiped its environment, one orphaned twice.
    let text = format!(
        "sleep 1000 & echo $! >> {0}; \
         setsid sh -c 'echo $$$$ >> {0}; exec sleep 1000' & \
         setsid env -i sh -c 'echo $$$$ >> {0}; exec sleep 1000' & \
         (setsid sh -c '(sh -c \"echo \\$$\\$$ >> {0}; exec sleep 1000\" &) ; exit' &) ; \
         while [ $(wc -l < {0}) -lt 4 ]; do sleep 0.01; done; kill -9 $$$$",
        pids.display()
    );
    world.start(
        "p",
        &with(script(&text), json!({"restartPolicy": "Never"}), json!({})),
    );
    let pod = world.until_word("p", "Error").await;
    assert_eq!(pod.status.phase, PodPhase::Failed);
    let text = std::fs::read_to_string(&pids).expect("written");
    let pids: Vec<u32> = text
        .lines()
        .map(|line| line.parse().expect("pid"))
        .collect();
    assert_eq!(pids.len(), 4);
    for pid in pids {
        assert!(!runs(pid), "{pid} goes on");
    }
}

#[tokio::test]
async fn one_container_ending_does_not_end_the_children_of_another() {
    let world = World::new().await;
    let (other, own) = (world.file("other"), world.file("own"));
    let start = |file: &std::path::Path, then: &str| {
        let text = format!(
            "setsid sh -c 'echo $$$$ > {}; exec sleep 1000' & {then}",
            file.display()
        );
        json!(["/bin/sh", "-c", text])
    };
    let wait = format!(
        "while [ ! -s {} -o ! -s {} ]; do sleep 0.01; done; sleep 0.05; exit 1",
        other.display(),
        own.display()
    );
    world.start(
        "p",
        &json!({
            "restartPolicy": "Never",
            "containers": [
                {"name": "a", "command": start(&other, "exec sleep 1000")},
                {"name": "b", "command": start(&own, &wait)},
            ],
        }),
    );
    let pid = |file: &std::path::Path| {
        std::fs::read_to_string(file)
            .expect("written")
            .trim()
            .parse::<u32>()
            .expect("pid")
    };
    world
        .until("p", "half done", |pod| {
            pod.status
                .container_statuses
                .iter()
                .any(|c| c.termination().is_some())
        })
        .await;
    assert!(!runs(pid(&own)));
    assert!(runs(pid(&other)));
    world
        .supervisor()
        .delete_pod("p", Some(0))
        .expect("accepted");
    world.until_gone("p").await;
    assert!(!runs(pid(&other)));
}

#[tokio::test]
async fn a_container_whose_port_a_stranger_took_gets_another_and_is_started_again_at_once() {
    // A back-off that nobody could wait for: so the restart cannot have waited.
    let tuning = Tuning {
        back_off_first: Duration::from_hours(1),
        ..Tuning::default()
    };
    let world = World::tuned(tuning).await;
    let go = world.file("go");
    // The first run waits for the word and fails, the second finds the port taken and fails by itself.
    let text = format!(
        "if [ ! -e {0} ]; then while [ ! -e {0} ]; do sleep 0.01; done; exit 1; fi; exec {HELPER} serve $PORT",
        go.display()
    );
    world.start(
        "p",
        &with(
            script(&text),
            json!({}),
            json!({"ports": [{"containerPort": 80, "name": "http"}]}),
        ),
    );
    let before = world
        .until("p", "running", |pod| {
            !pod.ports.is_empty() && pod.word() == "Running"
        })
        .await;
    assert!(!before.is_ready(), "not ready while nothing listens");
    let _stranger =
        TcpListener::bind(before.address("http").expect("address")).expect("free for the stranger");
    std::fs::write(&go, "").expect("written");
    let after = world.until_ready("p").await;
    assert_ne!(after.address("http"), before.address("http"));
    assert_eq!(restarts(&after), 1);
    assert_eq!(
        get(&after, "http", "/env/PORT_HTTP").await,
        after.ports.first().expect("one").local_port.to_string()
    );
}

#[tokio::test]
async fn a_stranger_that_answers_on_the_port_of_a_pod_does_not_make_it_ready() {
    let world = World::new().await;
    let port = json!([{"containerPort": 80, "name": "http"}]);
    let probe = json!({"tcpSocket": {"port": "http"}, "periodSeconds": 1});
    world.start(
        "probed",
        &with(
            script("exec sleep 1000"),
            json!({}),
            json!({"ports": port, "readinessProbe": probe}),
        ),
    );
    world.start(
        "plain",
        &with(script("exec sleep 1000"), json!({}), json!({"ports": port})),
    );
    let mut strangers = Vec::new();
    for uid in ["probed", "plain"] {
        let pod = world
            .until(uid, "running", |pod| !pod.ports.is_empty())
            .await;
        let listener = TcpListener::bind(pod.address("http").expect("address"))
            .expect("free for the stranger");
        listener.set_nonblocking(true).expect("set");
        strangers.push(listener);
    }
    world
        .until("probed", "found out", |pod| {
            happened(
                pod,
                "Unhealthy",
                "is held by a process that is not of this pod",
            )
        })
        .await;
    eventually("the other is tried too", || {
        strangers.iter().all(|stranger| stranger.accept().is_ok())
    })
    .await;
    assert!(!world.now("probed").is_ready());
    assert!(!world.now("plain").is_ready());
}

#[tokio::test]
async fn many_pods_at_once_share_no_port() {
    let world = World::new().await;
    let spec = json!({"containers": [{
        "name": "web",
        "command": [HELPER, "serve", "$(PORT)"],
        "ports": [{"containerPort": 8080}, {"containerPort": 9090, "name": "metrics"}],
    }]});
    let uids: Vec<String> = (0..12).map(|number| format!("p-{number}")).collect();
    for uid in &uids {
        world.start(uid, &spec);
    }
    let mut ports = std::collections::BTreeSet::new();
    for uid in &uids {
        let pod = world.until_ready(uid).await;
        assert_eq!(get(&pod, "8080", "/env/HOSTNAME").await, *uid);
        ports.extend(pod.ports.iter().map(|port| port.local_port));
    }
    assert_eq!(ports.len(), 24);
    for uid in &uids {
        world.supervisor().delete_pod(uid, None).expect("accepted");
    }
    for uid in &uids {
        world.until_gone(uid).await;
    }
    let held = std::fs::read_dir(world.state_folder().join("ports"))
        .expect("folder")
        .count();
    assert_eq!(held, 0, "ports are given back");
}

#[tokio::test]
async fn nothing_of_a_pod_runs_once_it_is_gone() {
    let world = World::new().await;
    world.start(
        "p",
        &script("trap '' TERM; setsid sleep 1000 & while true; do sleep 1000; done"),
    );
    world.until_ready("p").await;
    let folder = world.pod_folder("p");
    eventually("the child runs", || marked(&folder).len() >= 3).await;
    world
        .supervisor()
        .delete_pod("p", Some(1))
        .expect("accepted");
    world.until_gone("p").await;
    assert_eq!(marked(&folder), Vec::<u32>::new());
}
