//! Ports that somebody else has: people are told, nobody is stopped, and what is free again is used.

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;

use crate::load::Load;
use crate::rig::{Ended, LONGEST, Rig, sample, service_port, shop};

const CANARY: &str = "{canary: {stableService: shop, canaryService: shop-canary}}";

/// A port that is taken, and who has it.
fn stranger() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

fn on_port(port: u16) -> String {
    shop(&sample("v1"), CANARY, "").replace(
        &format!("port: {}, target", service_port()),
        &format!("port: {port}, target"),
    )
}

#[tokio::test]
async fn a_service_whose_port_is_taken_is_reached_elsewhere_and_on_its_port_once_it_is_free() {
    let (stranger, own) = stranger();
    let rig = Rig::started().await;
    rig.apply(&on_port(own.port())).await;
    rig.healthy("shop", "v1").await;
    let elsewhere = rig.address("shop").await;
    assert_ne!(elsewhere, own.to_string());
    let load = Load::start(&elsewhere, true);
    let told = rig
        .until("the Service says that its port is taken", async || {
            let events = rig.events("shop").await;
            events
                .into_iter()
                .find(|told| told.starts_with("PortTaken"))
        })
        .await;
    for words in [
        format!("cannot listen on {own}"),
        "in use".to_owned(),
        format!("port {} is listened for on", own.port()),
        "end the program that uses it".to_owned(),
    ] {
        assert!(told.contains(&words), "{words:?} is not in {told:?}");
    }
    let shown = rig.crossfade(&["events", "service/shop"]).await;
    assert!(shown.stdout.contains("PortTaken"), "{shown:?}");

    drop(stranger);
    rig.until("the Service is listened for on its port", async || {
        (rig.address("shop").await == own.to_string()).then_some(())
    })
    .await;
    let own_load = Load::start(&own.to_string(), true);
    rig.until("that is told", async || {
        let events = rig.events("shop").await;
        events
            .iter()
            .any(|told| told.starts_with("PortFree"))
            .then_some(())
    })
    .await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    own_load.end_well();
    // Nobody who had learned the other address has lost it.
    load.end_well();
    rig.end().await;
}

#[tokio::test]
async fn a_port_that_a_stranger_took_while_the_host_was_away_stops_nobody() {
    let (free, own) = stranger();
    drop(free);
    let mut rig = Rig::started().await;
    rig.apply(&on_port(own.port())).await;
    rig.healthy("shop", "v1").await;
    // Of the two Services one has the port; both are reached.
    let addresses = [rig.address("shop").await, rig.address("shop-canary").await];
    assert!(addresses.contains(&own.to_string()), "{addresses:?}");
    rig.kill_host().await;
    let proxy = rig.proxy().await.expect("it runs");
    crate::rig::signal(proxy, rustix::process::Signal::KILL);
    let stranger = rig
        .until("the port is free", async || TcpListener::bind(own).ok())
        .await;
    rig.start().await;
    let elsewhere = rig
        .until("the Services are reached elsewhere", async || {
            let addresses = [rig.address("shop").await, rig.address("shop-canary").await];
            let own = own.to_string();
            let open = addresses
                .iter()
                .all(|address| *address != own && TcpStream::connect(address).is_ok());
            open.then_some(addresses)
        })
        .await;
    let load = Load::start(&elsewhere[0], true);
    drop(stranger);
    rig.until("one is listened for on the port again", async || {
        let addresses = [rig.address("shop").await, rig.address("shop-canary").await];
        addresses.contains(&own.to_string()).then_some(())
    })
    .await;
    load.end_well();
    rig.end().await;
}

#[tokio::test]
async fn an_address_of_the_host_that_is_taken_is_told_with_what_to_do() {
    let mut rig = Rig::new();
    let (stranger, taken) = stranger();
    let taken = taken.to_string();
    for (flag, what) in [
        ("--metrics-address", "cannot listen for metrics on"),
        ("--listen", "the API cannot listen on"),
    ] {
        let output = rig
            .host_command()
            .args(["--ephemeral", flag, &taken])
            .stderr(Stdio::piped())
            .output();
        let output = tokio::time::timeout(LONGEST, output).await;
        let ended = Ended::of(&output.expect("it ends by itself").expect("it runs"));
        let told = format!("Error: {what} {taken}: ");
        let hint =
            format!("hint: end the program that uses it, or choose another address with {flag}");
        ended.failed(1, &[&told, "in use", &hint]);
        assert!(rig.proxy().await.is_none(), "nothing is left behind");
    }
    drop(stranger);
    rig.start_with(&["--metrics-address", &taken, "--ephemeral"])
        .await;
    let info = rig.client.info().await.expect("it answers");
    assert_eq!(info.metrics, Some(taken.clone()));
    let mut stream = TcpStream::connect(&taken).expect("it listens");
    std::io::Write::write_all(
        &mut stream,
        b"GET /-/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    )
    .expect("it is asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    rig.end().await;
}

#[tokio::test]
async fn a_host_that_waits_for_a_port_leaves_it_to_the_data_plane_that_was_killed_with_it() {
    let first = Rig::started().await;
    first.apply(&shop(&sample("v1"), CANARY, "")).await;
    first.healthy("shop", "v1").await;
    let own = format!("127.0.0.1:{}", service_port());
    let second = Rig::started().await;
    second.apply(&shop(&sample("v1"), CANARY, "")).await;
    second.healthy("shop", "v1").await;
    second
        .until("the second host waits for the port", async || {
            let events = second.events("shop").await;
            let told = |event: &String| event.starts_with("PortTaken") && event.contains(&own);
            events.iter().any(told).then_some(())
        })
        .await;
    for _ in 0..5 {
        let proxy = first.proxy().await.expect("it runs");
        crate::rig::signal(proxy, rustix::process::Signal::KILL);
        first
            .until("the first host has its port again", async || {
                let now = first.proxy().await.filter(|now| *now != proxy);
                let info = first.client.info().await.ok()?;
                let mut open = info.listeners.iter();
                now.filter(|_| open.any(|open| open.address == own))
            })
            .await;
    }
    first.end().await;
    second
        .until("the second host has the port in the end", async || {
            let info = second.client.info().await.ok()?;
            let mut open = info.listeners.iter();
            open.any(|open| open.address == own).then_some(())
        })
        .await;
    second.end().await;
}
