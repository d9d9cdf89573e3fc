//! Configurations, listeners, pods and whole processes that come and go.

use std::{
    os::unix::fs::PermissionsExt,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crossfade_host::proxy::{
    ClientError, Limits, ListenerConfig, Proxy, ProxyArgs, ProxyClient, ProxyConfig, ProxyError,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream, UnixStream},
};

use crate::rig::{
    Client, Pod, Rig, address, config, one_pod, read_all, read_to, route, scripted, until, version,
};

#[tokio::test]
async fn a_request_sees_one_configuration_and_the_acknowledged_one_at_least() {
    let rig = Rig::start().await;
    // Each configuration names one pod only, which lives; the one before is drained by it.
    let mut pods = Vec::new();
    for n in 0..8 {
        pods.push(Pod::start(&n.to_string()).await);
    }
    let only = |n: usize| {
        config(vec![route(vec![version(
            &n.to_string(),
            1,
            [&pods[n % 8]],
        )])])
    };
    let addr = address(&rig.control.apply(&only(0)).await.unwrap());
    let (acknowledged, over) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (acknowledged, over) = (Arc::clone(&acknowledged), Arc::clone(&over));
            tokio::spawn(async move {
                let mut client = Client::connect(addr).await;
                let mut requests = 0;
                while !over.load(Ordering::SeqCst) {
                    let least = acknowledged.load(Ordering::SeqCst);
                    let reply = client.get("/").await;
                    let most = acknowledged.load(Ordering::SeqCst) + 1;
                    assert_eq!(reply.status.as_u16(), 200, "{reply:?}");
                    let pod: usize = reply.pod().parse().unwrap();
                    assert!(
                        (least..=most).any(|n| n % 8 == pod),
                        "{pod} is not of {least}..={most}"
                    );
                    requests += 1;
                }
                requests
            })
        })
        .collect();
    for n in 1..=300 {
        rig.control.apply(&only(n)).await.unwrap();
        acknowledged.store(n, Ordering::SeqCst);
    }
    over.store(true, Ordering::SeqCst);
    for client in clients {
        assert!(client.await.unwrap() > 0);
    }
}

fn listener(name: &str, pod: &Pod) -> ListenerConfig {
    ListenerConfig {
        name: name.into(),
        address: ([127, 0, 0, 1], 0).into(),
        namespace: "shop".into(),
        service: name.into(),
        rollout: String::new(),
        routes: vec![route(vec![version("v", 1, [pod])])],
    }
}

#[tokio::test]
async fn services_come_and_go_and_what_is_in_flight_is_finished() {
    let rig = Rig::start().await;
    let slow = Pod::slow("slow", Duration::from_millis(200)).await;
    let both = ProxyConfig {
        revision: 1,
        listeners: vec![listener("one", &slow), listener("two", &slow)],
    };
    let applied = rig.control.apply(&both).await.unwrap();
    let [one, two] = [0, 1].map(|n| applied.listeners[n].addr.unwrap());
    let mut client = Client::connect(two).await;
    let pending = tokio::spawn(async move { (client.get("/").await, client) });
    until(async || slow.count() == 1).await;

    let first = ProxyConfig {
        revision: 2,
        listeners: both.listeners[..1].to_vec(),
    };
    let applied = rig.control.apply(&first).await.unwrap();
    assert_eq!(
        (applied.revision, address(&applied)),
        (2, one),
        "the other one stays where it is"
    );
    assert!(
        TcpStream::connect(two).await.is_err(),
        "nobody listens any more"
    );
    let (reply, _) = pending.await.unwrap();
    assert_eq!(reply.pod(), "slow");
    assert_eq!(Client::connect(one).await.get("/").await.pod(), "slow");

    let again = rig.control.apply(&both).await.unwrap();
    let two = again.listeners[1].addr.unwrap();
    assert_eq!(Client::connect(two).await.get("/").await.pod(), "slow");
    let names: Vec<_> = rig
        .control
        .stats()
        .await
        .unwrap()
        .listeners
        .into_iter()
        .map(|l| l.name)
        .collect();
    assert_eq!(names, ["one", "two"]);
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_and_used_once_it_is_free() {
    let rig = Rig::start().await;
    let pod = Pod::start("a").await;
    let owner = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = owner.local_addr().unwrap();
    let mut config = config(vec![route(vec![version("v", 1, [&pod])])]);
    config.listeners[0].address = addr;
    let applied = rig.control.apply(&config).await.unwrap();
    let error = applied.listeners[0].error.clone().unwrap();
    assert!(
        error.contains(&addr.to_string()) && error.contains("in use"),
        "{error}"
    );
    assert_eq!(applied.listeners[0].addr, None);
    drop(owner);
    until(async || rig.control.stats().await.unwrap().listeners.len() == 1).await;
    assert_eq!(Client::connect(addr).await.get("/").await.pod(), "a");
}

#[tokio::test]
async fn a_pod_that_drains_gets_nothing_new_and_its_end_is_reported() {
    let rig = Rig::start().await;
    let (old, new) = (
        Pod::slow("old", Duration::from_millis(300)).await,
        Pod::start("new").await,
    );
    let addr = rig.serve(vec![route(vec![version("v", 1, [&old])])]).await;
    let mut client = Client::connect(addr).await;
    let pending = tokio::spawn(async move { client.get("/").await });
    until(async || old.count() == 1).await;
    rig.serve(vec![route(vec![version("v", 1, [&old, &new])])])
        .await;

    let started = Instant::now();
    let unfinished = rig
        .control
        .drain(&["old".into()], Duration::from_millis(20))
        .await
        .unwrap();
    assert_eq!(
        unfinished
            .busy
            .iter()
            .map(|busy| busy.in_flight)
            .collect::<Vec<_>>(),
        [1]
    );
    // The configuration still names it; it gets nothing all the same.
    let mut client = Client::connect(addr).await;
    for _ in 0..10 {
        assert_eq!(client.get("/").await.pod(), "new");
    }
    let drained = rig
        .control
        .drain(&["old".into()], Duration::from_secs(10))
        .await
        .unwrap();
    assert!(drained.busy.is_empty() && started.elapsed() >= Duration::from_millis(200));
    assert_eq!(pending.await.unwrap().pod(), "old");
    assert_eq!(old.count(), 1);
    assert!(
        rig.control
            .drain(&["unknown".into()], Duration::ZERO)
            .await
            .unwrap()
            .busy
            .is_empty()
    );

    // A pod that is in flight when it leaves the configuration can be waited for as well.
    let slow = Pod::slow("slow", Duration::from_millis(100)).await;
    rig.serve(vec![route(vec![version("v", 1, [&slow])])]).await;
    let pending = tokio::spawn(async move { client.get("/").await });
    until(async || slow.count() == 1).await;
    rig.serve(vec![route(vec![version("v", 1, [&new])])]).await;
    assert!(
        rig.control
            .drain(&["slow".into()], Duration::from_secs(10))
            .await
            .unwrap()
            .busy
            .is_empty()
    );
    assert_eq!(pending.await.unwrap().pod(), "slow");
}

#[tokio::test]
async fn idle_connections_to_a_pod_are_closed_when_it_drains() {
    let rig = Rig::start().await;
    let closed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&closed);
    let pod = scripted("old", move |_, mut stream| {
        let count = Arc::clone(&count);
        async move {
            read_to(&mut stream, "\r\n\r\n").await;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                .await
                .unwrap();
            read_all(&mut stream).await;
            count.fetch_add(1, Ordering::SeqCst);
        }
    })
    .await;
    let addr = rig.serve_only(pod).await;
    assert_eq!(
        Client::connect(addr).await.get("/").await.status.as_u16(),
        200
    );
    assert_eq!(
        closed.load(Ordering::SeqCst),
        0,
        "kept for the next request"
    );
    rig.control
        .drain(&["old".into()], Duration::ZERO)
        .await
        .unwrap();
    until(async || closed.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn a_version_gets_no_request_after_the_weight_that_takes_it_away() {
    let rig = Rig::start().await;
    let (a, b) = (Pod::start("a").await, Pod::start("b").await);
    let split = |to_a: u32| {
        vec![route(vec![
            version("a", to_a, [&a]),
            version("b", 1 - to_a, [&b]),
        ])]
    };
    let addr = rig.serve(split(1)).await;
    let mut client = Client::connect(addr).await;
    for n in 0..100 {
        rig.serve(split(n % 2)).await;
        let wanted = if n % 2 == 1 { "a" } else { "b" };
        assert_eq!(client.get("/").await.pod(), wanted, "change {n}");
    }
}

#[tokio::test]
async fn the_death_of_the_control_plane_changes_nothing() {
    let (rig, _pod, addr) = one_pod().await;
    let mut client = Client::connect(addr).await;
    client.get("/").await;
    drop(rig.control);
    assert_eq!(client.get("/").await.pod(), "a");
    let again = ProxyClient::connect(&rig.args.socket).await.unwrap();
    let stats = again.stats().await.unwrap();
    assert_eq!(stats.series.iter().map(|s| s.count).sum::<u64>(), 2);
    // One that is cut off in the middle of a command.
    let mut torn = UnixStream::connect(&rig.args.socket).await.unwrap();
    torn.write_all(b"{\"id\":1,\"op\":\"apply\",\"config\":{\"revision\":2,\"liste")
        .await
        .unwrap();
    drop(torn);
    assert_eq!(client.get("/").await.pod(), "a");
    assert_eq!(again.stats().await.unwrap().revision, 1);
}

#[tokio::test]
async fn the_socket_belongs_to_its_owner_and_answers_nonsense_with_an_error() {
    let rig = Rig::start().await;
    let mode = std::fs::metadata(&rig.args.socket)
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut stream = UnixStream::connect(&rig.args.socket).await.unwrap();
    stream
        .write_all(b"nonsense\n{\"id\":7,\"op\":\"fly\"}\n{\"id\":8,\"op\":\"stats\"}\n")
        .await
        .unwrap();
    let mut lines = BufReader::new(stream).lines();
    let mut line = async || lines.next_line().await.unwrap().unwrap();
    assert!(line().await.starts_with(r#"{"id":0,"error":"#));
    let unknown = line().await;
    assert!(
        unknown.starts_with(r#"{"id":7,"error":"unknown variant `fly`"#),
        "{unknown}"
    );
    assert!(line().await.starts_with(r#"{"id":8,"stats":{"#));
}

#[tokio::test]
async fn a_proxy_that_is_started_again_listens_at_once_where_it_listened() {
    let rig = Rig::start().await;
    let pod = Pod::slow("a", Duration::from_millis(200)).await;
    let addr = rig.serve(vec![route(vec![version("v", 1, [&pod])])]).await;
    let Rig {
        proxy,
        control,
        args,
        folder,
    } = rig;
    assert!(
        matches!(Proxy::start(&args).await, Err(ProxyError::Taken(_))),
        "one on a socket"
    );
    let pending = tokio::spawn(async move { Client::connect(addr).await.get("/").await });
    until(async || pod.count() == 1).await;
    proxy.stop().await;
    assert_eq!(
        pending.await.unwrap().pod(),
        "a",
        "what was in flight is finished"
    );
    assert!(matches!(
        control.stats().await,
        Err(ClientError::Gone | ClientError::Io(_))
    ));
    assert!(TcpStream::connect(addr).await.is_err());

    let again = Proxy::start(&args).await.unwrap();
    assert_eq!(Client::connect(addr).await.get("/").await.pod(), "a");
    let stats = ProxyClient::connect(&args.socket)
        .await
        .unwrap()
        .stats()
        .await
        .unwrap();
    assert_eq!(stats.revision, 1);
    again.stop().await;

    std::fs::write(&args.state, "{ damaged").unwrap();
    let blank = Proxy::start(&args).await.unwrap();
    assert!(
        ProxyClient::connect(&args.socket)
            .await
            .unwrap()
            .stats()
            .await
            .unwrap()
            .listeners
            .is_empty()
    );
    blank.stop().await;
    drop(folder);
}

const SOCKET: &str = "CROSSFADE_TEST_PROXY_SOCKET";

/// Not a test of its own: the process that the tests below start and kill.
#[test]
fn a_proxy_process() {
    let Ok(socket) = std::env::var(SOCKET) else {
        return;
    };
    let socket = std::path::PathBuf::from(socket);
    let state = socket.with_extension("json");
    let args = ProxyArgs {
        socket,
        state,
        workers: None,
        limits: Limits::default(),
    };
    crossfade_host::proxy::run(&args).unwrap();
}

struct Process(Child);

impl Process {
    fn start(socket: &std::path::Path) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "life::a_proxy_process"])
            .env(SOCKET, socket)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended already in most cases.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn connected(socket: &std::path::Path) -> ProxyClient {
    until(async || ProxyClient::connect(socket).await.is_ok()).await;
    ProxyClient::connect(socket).await.unwrap()
}

#[tokio::test]
async fn a_proxy_that_was_killed_listens_again_with_its_last_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("proxy.sock");
    let mut process = Process::start(&socket);
    let pod = Pod::start("a").await;
    let control = connected(&socket).await;
    let addr = address(
        &control
            .apply(&config(vec![route(vec![version("v", 1, [&pod])])]))
            .await
            .unwrap(),
    );
    let mut client = Client::connect(addr).await;
    assert_eq!(client.get("/").await.pod(), "a");
    let started = control.stats().await.unwrap().started;
    let kept = socket.with_extension("json");
    until(async || kept.exists()).await;

    process.0.kill().unwrap();
    process.0.wait().unwrap();
    let _again = Process::start(&socket);
    until(async || TcpStream::connect(addr).await.is_ok()).await;
    assert_eq!(Client::connect(addr).await.get("/").await.pod(), "a");
    let stats = connected(&socket).await.stats().await.unwrap();
    assert!(
        stats.started > started,
        "readers see that the counters began anew"
    );
    assert_eq!(stats.revision, 1);
}

#[tokio::test]
async fn a_proxy_that_is_told_to_end_finishes_its_requests_first() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("proxy.sock");
    let mut process = Process::start(&socket);
    let pod = Pod::slow("a", Duration::from_millis(300)).await;
    let control = connected(&socket).await;
    let addr = address(
        &control
            .apply(&config(vec![route(vec![version("v", 1, [&pod])])]))
            .await
            .unwrap(),
    );
    let mut idle = Client::connect(addr).await;
    idle.get("/").await;
    let pending = tokio::spawn(async move { Client::connect(addr).await.get("/").await });
    until(async || pod.count() == 2).await;
    let pid = rustix::process::Pid::from_child(&process.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(pending.await.unwrap().pod(), "a");
    let status = tokio::task::spawn_blocking(move || process.0.wait().unwrap())
        .await
        .unwrap();
    assert!(status.success());
    assert!(!socket.exists());
}
