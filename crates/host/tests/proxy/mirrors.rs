//! Copies of requests: never in the way of the original.

use std::time::Duration;

use crossfade_host::proxy::{Mirror, RouteConfig};

use crate::rig::{Client, Pod, Rig, nobody, route, to, until, version};

fn mirrored(percent: f64, stable: &Pod, dark: &Pod) -> RouteConfig {
    RouteConfig {
        mirrors: vec![Mirror {
            destination: version("dark", 0, [dark]),
            percent,
        }],
        ..route(vec![version("s", 1, [stable])])
    }
}

#[tokio::test]
async fn a_mirror_gets_a_copy_and_its_answer_is_thrown_away() {
    let rig = Rig::start().await;
    let (stable, dark) = (Pod::start("stable").await, Pod::start("dark").await);
    let addr = rig.serve(vec![mirrored(100.0, &stable, &dark)]).await;
    let mut client = Client::connect(addr).await;
    assert_eq!(client.get("/a?b").await.pod(), "stable");
    assert_eq!(client.post("/c", "payload").await.pod(), "stable");
    until(async || dark.count() == 2).await;
    until(async || dark.seen().len() == 2).await;
    let mut seen = dark.seen();
    seen.sort_by(|a, b| a.path.cmp(&b.path));
    let requests: Vec<_> = seen
        .iter()
        .map(|s| (s.method.as_str(), s.path.as_str(), s.body.as_ref()))
        .collect();
    assert_eq!(
        requests,
        [("GET", "/a?b", &b""[..]), ("POST", "/c", &b"payload"[..])]
    );
    for copy in &seen {
        assert_eq!(copy.headers.get("x-crossfade-mirror").unwrap(), "true");
        assert_eq!(copy.headers.get("host").unwrap(), "web");
    }
    assert!(!stable.seen()[0].headers.contains_key("x-crossfade-mirror"));

    until(async || {
        rig.control
            .stats()
            .await
            .unwrap()
            .series
            .iter()
            .any(|s| s.mirror && s.method == "POST")
    })
    .await;
    let stats = rig.control.stats().await.unwrap();
    assert_eq!((stats.mirrored, stats.mirrors_dropped), (2, 0));
    let copies = stats.series.iter().filter(|s| s.mirror);
    assert!(
        copies
            .clone()
            .all(|s| s.version == "dark" && s.code == 200 && s.count == 1)
    );
    assert_eq!(copies.count(), 2);
}

#[tokio::test]
async fn a_share_of_the_requests_is_copied() {
    let rig = Rig::with_workers(1).await;
    let (stable, dark) = (Pod::start("stable").await, Pod::start("dark").await);
    let addr = rig.serve(vec![mirrored(35.0, &stable, &dark)]).await;
    let mut client = Client::connect(addr).await;
    for _ in 0..100 {
        client.get("/").await;
    }
    let wanted = rig.control.stats().await.unwrap().mirrored as usize;
    until(async || dark.count() >= wanted).await;
    let mirrored = rig.control.stats().await.unwrap().mirrored;
    assert!(mirrored.abs_diff(35) <= 2, "{mirrored} of 100 at 35 %");
}

#[tokio::test]
async fn a_mirror_that_is_slow_dead_or_overwhelmed_costs_the_client_nothing() {
    let rig = Rig::start().await;
    let stable = Pod::start("stable").await;
    let slow = Pod::slow("slow", Duration::from_mins(1)).await;
    let mut both = mirrored(100.0, &stable, &slow);
    both.mirrors.push(Mirror {
        destination: to(vec![nobody("dead").await]),
        percent: 100.0,
    });
    let addr = rig.serve(vec![both]).await;
    let mut client = Client::connect(addr).await;
    // More than may be under way at one time.
    for _ in 0..600 {
        let reply = client.post("/", "x").await;
        assert_eq!((reply.pod(), reply.status.as_u16()), ("stable", 200));
    }
    until(async || rig.control.stats().await.unwrap().mirrors_dropped >= 600 - 256).await;
    assert!(slow.count() <= 256, "{}", slow.count());
}

#[tokio::test]
async fn a_body_too_long_to_keep_is_not_mirrored() {
    let rig = Rig::start().await;
    let (stable, dark) = (Pod::start("stable").await, Pod::start("dark").await);
    let addr = rig.serve(vec![mirrored(100.0, &stable, &dark)]).await;
    let mut client = Client::connect(addr).await;
    assert_eq!(client.post("/", vec![0; 2 << 20]).await.body.len(), 2 << 20);
    until(async || rig.control.stats().await.unwrap().mirrors_dropped == 1).await;
    assert_eq!(client.post("/", vec![0; 1 << 20]).await.body.len(), 1 << 20);
    until(async || dark.seen().len() == 1).await;
    assert_eq!(dark.seen()[0].body.len(), 1 << 20);
}
