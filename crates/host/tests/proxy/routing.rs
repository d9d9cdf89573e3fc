//! Which pod gets a request: weights, routes, cookies, turns.

use std::collections::BTreeMap;

use crossfade_host::proxy::{
    Balance, Destination, HeaderMatch, RouteConfig, RouteMatch, Sticky, StringMatch,
};
use http::StatusCode;

use crate::rig::{Client, Pod, Rig, one_pod, route, spread, version};

fn counts(pods: &[(&str, usize)]) -> BTreeMap<String, usize> {
    pods.iter()
        .map(|(pod, n)| ((*pod).to_owned(), *n))
        .collect()
}

#[tokio::test]
async fn requests_are_shared_out_by_weight_and_a_new_weight_is_obeyed_at_once() {
    let rig = Rig::with_workers(1).await;
    let (stable, canary) = (Pod::start("stable-1").await, Pod::start("canary-1").await);
    for (weight, within) in [(0, 0), (5, 2), (20, 2), (50, 2), (100, 0)] {
        let split = vec![
            version("s", 100 - weight, [&stable]),
            version("c", weight, [&canary]),
        ];
        let addr = rig.serve(vec![route(split)]).await;
        let canary = spread(addr, 100)
            .await
            .get("canary-1")
            .copied()
            .unwrap_or_default();
        assert!(
            canary.abs_diff(weight as usize) <= within,
            "{canary} of 100 at weight {weight}"
        );
    }
}

#[tokio::test]
async fn weights_need_not_add_up_to_a_hundred() {
    let rig = Rig::with_workers(1).await;
    let (a, b, c) = (
        Pod::start("a").await,
        Pod::start("b").await,
        Pod::start("c").await,
    );
    let split = vec![
        version("a", 1, [&a]),
        version("b", 2, [&b]),
        version("c", 5, [&c]),
    ];
    let spread = spread(rig.serve(vec![route(split)]).await, 160).await;
    for (pod, wanted) in [("a", 20), ("b", 40), ("c", 100)] {
        let got = spread.get(pod).copied().unwrap_or_default();
        assert!(got.abs_diff(wanted) <= 3, "{pod}: {got}, wanted {wanted}");
    }
}

#[tokio::test]
async fn a_small_weight_gets_its_share_also_when_every_request_meets_a_new_configuration() {
    let rig = Rig::with_workers(1).await;
    let (stable, canary) = (Pod::start("stable-1").await, Pod::start("canary-1").await);
    let split = || vec![version("s", 90, [&stable]), version("c", 10, [&canary])];
    let addr = rig.serve(vec![route(split())]).await;
    let mut client = Client::connect(addr).await;
    for _ in 0..100 {
        rig.serve(vec![route(split())]).await;
        client.get("/").await;
    }
    assert!(
        canary.count().abs_diff(10) <= 2,
        "{} of 100 at weight 10",
        canary.count()
    );
}

#[tokio::test]
async fn pods_of_a_version_take_turns() {
    let rig = Rig::with_workers(1).await;
    let pods = [
        Pod::start("a").await,
        Pod::start("b").await,
        Pod::start("c").await,
    ];
    for balance in [Balance::LeastInFlight, Balance::RoundRobin] {
        let to = Destination {
            balance,
            ..version("v", 1, &pods)
        };
        let addr = rig.serve(vec![route(vec![to])]).await;
        assert_eq!(
            spread(addr, 30).await,
            counts(&[("a", 10), ("b", 10), ("c", 10)]),
            "{balance:?}"
        );
    }
}

#[tokio::test]
async fn counters_name_service_version_route_pod_method_and_status() {
    let rig = Rig::start().await;
    let (stable, canary) = (Pod::start("stable-1").await, Pod::start("canary-1").await);
    let split = vec![version("s", 1, [&stable]), version("c", 1, [&canary])];
    let addr = rig.serve(vec![route(split)]).await;
    spread(addr, 10).await;
    Client::connect(addr).await.post("/", "x").await;
    let stats = rig.control.stats().await.unwrap();
    assert_eq!(stats.revision, 1);
    assert!(stats.started > 1.7e9);
    let total = |method: &str, pod: &str| -> u64 {
        let same = stats
            .series
            .iter()
            .filter(|s| s.method == method && s.pod == pod);
        same.map(|s| s.count).sum()
    };
    assert!(total("GET", "canary-1").abs_diff(5) <= 1);
    assert_eq!(total("GET", "stable-1") + total("GET", "canary-1"), 10);
    assert_eq!(total("POST", "stable-1") + total("POST", "canary-1"), 1);
    let one = stats
        .series
        .iter()
        .find(|s| s.pod == "canary-1" && s.method == "GET")
        .unwrap();
    assert_eq!(
        (
            one.namespace.as_str(),
            one.service.as_str(),
            one.rollout.as_str()
        ),
        ("shop", "web", "web")
    );
    assert_eq!(
        (
            one.route.as_str(),
            one.destination.as_str(),
            one.version.as_str()
        ),
        ("main", "web-c", "c")
    );
    assert_eq!((one.code, one.error.as_str(), one.mirror), (200, "", false));
    assert_eq!(one.buckets.len(), stats.bounds.len() + 1);
    assert_eq!(one.buckets.last(), Some(&one.count));
    assert!(one.sum_seconds > 0.0);
    let pod = stats.pods.iter().find(|pod| pod.pod == "canary-1").unwrap();
    assert_eq!(
        (pod.addr, pod.in_flight, pod.draining),
        (canary.addr, 0, false)
    );
}

/// Path and header fields of a request, and the pod that gets it.
type Row = (
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static str,
);

fn header(name: &str, value: StringMatch) -> RouteMatch {
    RouteMatch {
        headers: vec![HeaderMatch {
            name: name.into(),
            value,
        }],
        ..RouteMatch::default()
    }
}

#[tokio::test]
async fn the_first_route_that_matches_decides() {
    let rig = Rig::start().await;
    let (stable, canary) = (Pod::start("stable").await, Pod::start("canary").await);
    let to_canary = |name: &str, matches| RouteConfig {
        name: name.into(),
        matches,
        destinations: vec![version("c", 1, [&canary])],
        ..RouteConfig::default()
    };
    let exact = |text: &str| StringMatch::Exact(text.into());
    let routes = vec![
        to_canary(
            "agent",
            vec![header("x-agent", StringMatch::Regex("Mo.*la".into()))],
        ),
        to_canary(
            "user",
            vec![
                header("X-User", exact("me")),
                header("x-user", StringMatch::Prefix("beta-".into())),
            ],
        ),
        to_canary(
            "reads",
            vec![RouteMatch {
                method: Some(exact("GET")),
                path: Some(StringMatch::Prefix("/new/".into())),
                ..RouteMatch::default()
            }],
        ),
        to_canary(
            "cookie",
            vec![RouteMatch {
                cookies: vec![HeaderMatch {
                    name: "canary".into(),
                    value: exact("always"),
                }],
                ..RouteMatch::default()
            }],
        ),
        route(vec![version("s", 1, [&stable])]),
    ];
    let mut client = Client::connect(rig.serve(routes).await).await;
    let table: [Row; 10] = [
        ("/", &[], "stable"),
        ("/", &[("x-agent", "Mozilla")], "canary"),
        // A regular expression stands for the whole value.
        ("/", &[("x-agent", "xMozilla")], "stable"),
        ("/", &[("x-user", "me")], "canary"),
        ("/", &[("x-user", "beta-7")], "canary"),
        ("/", &[("x-user", "you"), ("x-user", "me")], "canary"),
        ("/", &[("x-user", "mean")], "stable"),
        ("/new/a?b", &[], "canary"),
        ("/newer", &[], "stable"),
        ("/", &[("cookie", "a=b; canary=always")], "canary"),
    ];
    for (path, headers, pod) in table {
        assert_eq!(
            client.get_with(path, headers).await.pod(),
            pod,
            "{path} {headers:?}"
        );
    }
    assert_eq!(
        client.post("/new/a", "").await.pod(),
        "stable",
        "only reads"
    );
}

#[tokio::test]
async fn what_no_route_and_no_pod_takes_is_answered_with_the_reason() {
    let rig = Rig::start().await;
    let pod = Pod::start("a").await;
    let only = |name: &str, destinations| RouteConfig {
        name: name.into(),
        matches: vec![RouteMatch {
            path: Some(StringMatch::Exact(format!("/{name}"))),
            ..RouteMatch::default()
        }],
        destinations,
        ..RouteConfig::default()
    };
    let routes = vec![
        only("weightless", vec![version("v", 0, [&pod])]),
        only("podless", vec![version("v", 1, [])]),
        only("nowhere", vec![]),
    ];
    let mut client = Client::connect(rig.serve(routes).await).await;
    for (path, status, reason) in [
        ("/", 404, "no-route"),
        ("/weightless", 503, "no-weight"),
        ("/podless", 503, "no-ready-pod"),
        ("/nowhere", 503, "no-ready-pod"),
    ] {
        let reply = client.get(path).await;
        assert_eq!(
            (reply.status.as_u16(), reply.header("x-crossfade-error")),
            (status, reason),
            "{path}"
        );
    }
    assert_eq!(pod.count(), 0);
    let stats = rig.control.stats().await.unwrap();
    let counted = stats
        .series
        .iter()
        .find(|s| s.error == "no-weight")
        .unwrap();
    assert_eq!(
        (counted.route.as_str(), counted.code, counted.count),
        ("weightless", 503, 1)
    );
}

#[tokio::test]
async fn the_share_of_a_version_without_pods_falls_to_the_others() {
    let rig = Rig::start().await;
    let pod = Pod::start("a").await;
    let addr = rig
        .serve(vec![route(vec![
            version("s", 50, [&pod]),
            version("c", 50, []),
        ])])
        .await;
    assert_eq!(spread(addr, 10).await, counts(&[("a", 10)]));
}

#[tokio::test]
async fn a_cookie_keeps_a_client_on_its_version_while_that_has_weight() {
    let rig = Rig::start().await;
    let (stable, canary) = (Pod::start("stable").await, Pod::start("canary").await);
    let sticky = |weight: u32, versions: &[&str]| RouteConfig {
        sticky: Some(Sticky {
            cookie: "cf".into(),
            max_age_seconds: Some(60),
            versions: versions.iter().map(|one| (*one).to_owned()).collect(),
        }),
        ..route(vec![
            version("s", 100 - weight, [&stable]),
            version("c", weight, [&canary]),
        ])
    };
    let addr = rig.serve(vec![sticky(50, &[])]).await;
    let mut client = Client::connect(addr).await;

    let first = client.get("/").await;
    let mine = if first.pod() == "stable" { "s" } else { "c" };
    assert_eq!(
        first.header("set-cookie"),
        format!("cf={mine}; Path=/; Max-Age=60; HttpOnly; SameSite=Lax")
    );
    for _ in 0..20 {
        let reply = client.get_with("/", &[("cookie", "x=y; cf=c")]).await;
        assert_eq!((reply.pod(), reply.header("set-cookie")), ("canary", ""));
    }

    rig.serve(vec![sticky(0, &[])]).await;
    let back = client.get_with("/", &[("cookie", "cf=c")]).await;
    assert_eq!(back.pod(), "stable", "the canary has no weight any more");
    assert!(back.header("set-cookie").starts_with("cf=s;"));

    rig.serve(vec![sticky(50, &["c"])]).await;
    let mut canary = 0;
    for _ in 0..100 {
        let reply = client.get_with("/", &[("cookie", "cf=s")]).await;
        canary += usize::from(reply.pod() == "canary");
        assert_eq!(
            reply.pod() == "canary",
            reply.header("set-cookie").starts_with("cf=c;"),
            "{reply:?}"
        );
    }
    assert!(
        canary.abs_diff(50) <= 2,
        "clients of the stable version are not kept there: {canary} of 100"
    );
}

#[tokio::test]
async fn a_configuration_with_a_fault_is_refused_and_changes_nothing() {
    let (rig, _pod, addr) = one_pod().await;
    let mut bad = route(vec![]);
    bad.matches = vec![header("x", StringMatch::Regex("(".into()))];
    let refused = rig
        .control
        .apply(&crate::rig::config(vec![bad]))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("listeners[0].routes[0].matches[0].headers[0].value.regex"),
        "{refused}"
    );
    assert_eq!(
        Client::connect(addr).await.get("/").await.status,
        StatusCode::OK
    );
}
