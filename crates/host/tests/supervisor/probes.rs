//! Probes of every kind, and what follows from them.

use crossfade_host::supervisor::{ContainerState, KnownNames, PodSnapshot, ServiceAddress};
use serde_json::{Value, json};

use super::world::{HELPER, World, end, happened, restarts, script, with};

fn server(world: &World, more: Value) -> Value {
    let spec = json!({"containers": [{
        "name": "web",
        "command": [HELPER, "serve", "$(PORT)", world.folder.path()],
        "ports": [{"containerPort": 8080, "name": "http"}],
    }]});
    with(spec, json!({}), more)
}

fn times(pod: &PodSnapshot, part: &str) -> u32 {
    pod.events
        .iter()
        .filter(|event| event.message.contains(part))
        .map(|event| event.count)
        .sum()
}

#[tokio::test]
async fn readiness_follows_an_http_probe_both_ways_by_its_thresholds() {
    let world = World::new().await;
    std::fs::write(world.file("sick"), "").expect("written");
    let probe = json!({"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1, "failureThreshold": 3});
    world.start("p", &server(&world, json!({"readinessProbe": probe})));
    let failed = "Readiness probe of container web failed: HTTP probe failed with statuscode: 503";
    let any = "Readiness probe of container web failed";
    let pod = world
        .until("p", "probed", |pod| times(pod, failed) >= 2)
        .await;
    assert!(!pod.is_ready());
    assert_eq!(pod.word(), "Running");
    let condition = pod.status.condition("Ready").expect("there").clone();
    assert_eq!(condition.reason.as_deref(), Some("ContainersNotReady"));
    assert_eq!(
        condition.message.as_deref(),
        Some("containers with unready status: [web]")
    );

    std::fs::remove_file(world.file("sick")).expect("removed");
    let ready = world.until_ready("p").await;
    let before = times(&ready, any);
    std::fs::write(world.file("sick"), "").expect("written");
    let pod = world
        .until("p", "unready again", |pod| !pod.is_ready())
        .await;
    assert!(times(&pod, any) >= before + 3, "{before}: {:?}", pod.events);
    // Not being ready is no reason to be restarted.
    assert_eq!(restarts(&pod), 0);
}

#[tokio::test]
async fn a_container_without_readiness_probe_is_ready_when_its_port_accepts() {
    let world = World::new().await;
    let go = world.file("go");
    let text = format!(
        "while [ ! -e {} ]; do sleep 0.01; done; exec {HELPER} serve $PORT",
        go.display()
    );
    world.start(
        "p",
        &with(
            script(&text),
            json!({}),
            json!({"ports": [{"containerPort": 8080}]}),
        ),
    );
    let pod = world.until_word("p", "Running").await;
    assert!(!pod.is_ready());
    std::fs::write(&go, "").expect("written");
    world.until_ready("p").await;
}

#[tokio::test]
async fn a_failing_liveness_probe_restarts_the_container() {
    let world = World::new().await;
    let probe = json!({"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 1, "failureThreshold": 2});
    world.start("p", &server(&world, json!({"livenessProbe": probe})));
    let before = world.until_ready("p").await;
    // A hung process is found out by the time-out.
    std::fs::write(world.file("hung"), "").expect("written");
    let pod = world
        .until("p", "restarted", |pod| restarts(pod) == 1)
        .await;
    std::fs::remove_file(world.file("hung")).expect("removed");
    assert!(happened(
        &pod,
        "Unhealthy",
        "Liveness probe of container web failed: no answer within 1 s"
    ));
    assert!(happened(
        &pod,
        "Killing",
        "Container web failed liveness probe, will be restarted"
    ));
    assert_eq!(end(&pod).signal, Some(15));
    let after = world.until_ready("p").await;
    assert!(after.ready_since() > before.ready_since());
}

#[tokio::test]
async fn liveness_goes_on_while_the_control_plane_is_away() {
    let mut world = World::new().await;
    let probe = json!({"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 1, "failureThreshold": 1});
    world.start("p", &server(&world, json!({"livenessProbe": probe})));
    world.until_ready("p").await;
    world.close().await;
    std::fs::write(world.file("sick"), "").expect("written");
    let state = world.pod_folder("p").join("state.json");
    super::world::eventually("the shim restarts it", || {
        let text = std::fs::read_to_string(&state).unwrap_or_default();
        text.contains("will be restarted")
    })
    .await;
    std::fs::remove_file(world.file("sick")).expect("removed");
    world.open().await;
    world
        .until("p", "back", |pod| restarts(pod) >= 1 && pod.is_ready())
        .await;
}

#[tokio::test]
async fn the_other_probes_wait_for_the_startup_probe() {
    let world = World::new().await;
    let go = world.file("go");
    let container = json!({
        "startupProbe": {"exec": {"command": ["test", "-e", go]}, "periodSeconds": 1, "failureThreshold": 1000},
        "livenessProbe": {"exec": {"command": ["test", "-e", go]}, "periodSeconds": 1, "failureThreshold": 1},
        "readinessProbe": {"exec": {"command": ["true"]}},
    });
    world.start("p", &with(script("exec sleep 1000"), json!({}), container));
    let pod = world
        .until("p", "probed", |pod| {
            times(pod, "Startup probe of container web failed") >= 4
        })
        .await;
    assert!(!pod.is_ready());
    assert_eq!(restarts(&pod), 0);
    assert_eq!(times(&pod, "Liveness"), 0);
    assert!(!pod.status.container_statuses.first().expect("one").started);
    std::fs::write(&go, "").expect("written");
    let pod = world.until_ready("p").await;
    assert!(pod.status.container_statuses.first().expect("one").started);
}

#[tokio::test]
async fn a_container_that_does_not_start_up_in_time_is_restarted() {
    let world = World::new().await;
    let probe = json!({"tcpSocket": {"port": 8080}, "periodSeconds": 1, "failureThreshold": 3, "terminationGracePeriodSeconds": 1});
    let container = json!({"ports": [{"containerPort": 8080}], "startupProbe": probe});
    world.start(
        "p",
        &with(
            script("trap '' TERM; while true; do sleep 0.01; done"),
            json!({}),
            container,
        ),
    );
    let pod = world
        .until("p", "restarted", |pod| restarts(pod) == 1)
        .await;
    // By now the second run may have failed a probe as well.
    assert!(
        times(
            &pod,
            "Startup probe of container web failed: cannot connect to 127.0.0.1:"
        ) >= 3
    );
    assert!(happened(&pod, "Killing", "failed startup probe"));
    // The probe's own grace was short enough for SIGKILL to come; the pod's is half a minute.
    assert_eq!(end(&pod).signal, Some(9));
}

#[tokio::test]
async fn tcp_and_exec_probes_and_redirects_and_headers_do_what_they_do_in_kubernetes() {
    let world = World::new().await;
    let get = |path: &str| json!({"httpGet": {"path": path, "port": "http"}, "periodSeconds": 1});
    let mut header = get("/header");
    header["httpGet"]["httpHeaders"] = json!([{"name": "X-Test", "value": "yes"}]);
    for (uid, probe) in [
        ("tcp", json!({"tcpSocket": {"port": "http"}})),
        (
            "exec",
            json!({"exec": {"command": ["test", "$(PORT)", "-gt", "1024"]}}),
        ),
        ("moved", get("/moved")),
        // A redirect to another host is not followed: the answer itself is well.
        ("away", get("/away")),
        ("header", header),
    ] {
        world.start(uid, &server(&world, json!({"readinessProbe": probe})));
        world.until_ready(uid).await;
    }
    for (uid, probe, why) in [
        (
            "unlike",
            get("/header"),
            "HTTP probe failed with statuscode: 404",
        ),
        (
            "tls",
            json!({"httpGet": {"port": "http", "scheme": "HTTPS"}, "periodSeconds": 1}),
            "Readiness probe",
        ),
        (
            "code",
            json!({"exec": {"command": ["sh", "-c", "echo why not; exit 2"]}, "periodSeconds": 1}),
            "command in web ended with 2: why not",
        ),
        (
            "slow",
            json!({"exec": {"command": ["sleep", "1000"]}, "periodSeconds": 1}),
            "command in web did not end within 1 s",
        ),
        (
            "none",
            json!({"exec": {"command": ["/no/such/probe"]}, "periodSeconds": 1}),
            "cannot start `/no/such/probe`",
        ),
    ] {
        world.start(uid, &server(&world, json!({"readinessProbe": probe})));
        let pod = world
            .until(uid, "refused", |pod| times(pod, why) >= 1)
            .await;
        assert!(!pod.is_ready(), "{uid}");
    }
}

#[tokio::test]
async fn an_initial_delay_is_waited_for() {
    let world = World::new().await;
    let probe = json!({"exec": {"command": ["true"]}, "initialDelaySeconds": 6});
    let container = json!({"readinessProbe": probe});
    world.start("p", &with(script("exec sleep 1000"), json!({}), container));
    let pod = world.until_ready("p").await;
    let container = pod.status.container_statuses.first().expect("one");
    let ContainerState::Running { started_at } = container.state else {
        panic!("runs")
    };
    let waited = pod.ready_since().expect("ready").duration_since(started_at);
    assert!(waited.as_millis() >= 300, "{waited:?}");
}

#[tokio::test]
async fn a_probe_may_name_a_service_of_this_machine() {
    let world = World::new().await;
    world.start("other", &server(&world, json!({})));
    let other = world.until_ready("other").await;
    let probe = json!({"httpGet": {"host": "shop.prod.svc", "port": 80, "path": "/healthz"}, "periodSeconds": 1});
    let tcp = json!({"tcpSocket": {"host": "shop", "port": 80}, "periodSeconds": 1});
    world.start(
        "http",
        &with(
            script("exec sleep 1000"),
            json!({}),
            json!({"readinessProbe": probe}),
        ),
    );
    world.start(
        "tcp",
        &with(
            script("exec sleep 1000"),
            json!({}),
            json!({"readinessProbe": tcp}),
        ),
    );
    world
        .until("http", "refused", |pod| times(pod, "Readiness probe") > 0)
        .await;
    let service = ServiceAddress {
        namespace: "prod".to_owned(),
        service: "shop".to_owned(),
        port: 80,
        address: other.address("http").expect("address"),
    };
    world
        .supervisor()
        .set_names(&KnownNames {
            services: vec![service],
            ..KnownNames::default()
        })
        .expect("written");
    world.until_ready("http").await;
    world.until_ready("tcp").await;
}
