//! Starting, finding again, ending.

use serde_json::{Value, json};

use super::world::{HELPER, World, eventually, get, runs};

fn web() -> Value {
    json!({
        "containers": [{
            "name": "web",
            "image": "registry/web:v1",
            "command": [HELPER, "serve"],
            "args": ["$(PORT)"],
            "env": [
                {"name": "GREETING", "value": "hello from $(POD) on $(PORT_HTTP)"},
                {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "AGAIN", "value": "$(POD)"},
            ],
            "ports": [{"name": "http", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}},
        }],
    })
}

#[tokio::test]
async fn a_pod_starts_on_a_local_port_becomes_ready_answers_and_ends() {
    let world = World::new().await;
    world.start("web-1", &web());
    let pod = world.until_ready("web-1").await;
    assert_eq!(pod.word(), "Running");
    let address = pod.address("http").expect("has a port");
    assert_eq!(pod.address("8080"), Some(address));
    assert_eq!(
        get(&pod, "http", "/env/PORT").await,
        address.port().to_string()
    );
    // POD is set after GREETING, so there it stays as written; AGAIN comes after.
    assert_eq!(
        get(&pod, "http", "/env/GREETING").await,
        format!("hello from $(POD) on {}", address.port())
    );
    assert_eq!(get(&pod, "http", "/env/AGAIN").await, "web-1");
    assert_eq!(get(&pod, "http", "/env/HOSTNAME").await, "web-1");
    let pid: u32 = get(&pod, "http", "/pid").await.parse().expect("pid");
    let shim = pod.shim_pid.expect("has a shim");

    world
        .supervisor()
        .delete_pod("web-1", None)
        .expect("accepted");
    assert!(
        world
            .supervisor()
            .status("web-1")
            .is_none_or(|pod| !pod.is_ready()),
        "not ready once asked to end"
    );
    world.until_gone("web-1").await;
    assert!(!runs(pid));
    eventually("the shim ends", || !runs(shim)).await;
}

#[tokio::test]
async fn a_restart_of_the_control_plane_finds_the_pods_and_interrupts_none() {
    let mut world = World::new().await;
    world.start("web-1", &web());
    let before = world.until_ready("web-1").await;
    let pid = get(&before, "http", "/pid").await;
    world.close().await;
    assert_eq!(
        get(&before, "http", "/pid").await,
        pid,
        "the pod goes on without supervisor"
    );
    world.open().await;
    // Opening waits until each pod was looked at: the very first list is true.
    let after = world.now("web-1");
    assert_eq!(after, before);
    assert_eq!(get(&after, "http", "/pid").await, pid);
    world
        .supervisor()
        .delete_pod("web-1", None)
        .expect("accepted");
    world.until_gone("web-1").await;
}
