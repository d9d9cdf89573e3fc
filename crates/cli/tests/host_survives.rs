//! A release on real processes goes on where it stood when the control plane is killed in the middle of it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossfade_host::client::{Address, ApplyMode, Client, Wanted};
use crossfade_host::store::Kind;
use crossfade_host::wire::ApplyRequest;
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_crossfade");

/// A host that ends with everything it started.
struct Host {
    child: Child,
}

impl Host {
    fn start(state: &Path) -> Self {
        let child = Command::new(PROGRAM)
            .args(["host", "--ephemeral", "--log-level", "error", "--state"])
            .arg(state)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("the host starts");
        Self { child }
    }

    fn kill(mut self) {
        self.child.kill().expect("the host is killed");
        self.child.wait().expect("the host is gone");
    }

    /// Lets it end in good order, with its pods and its proxy.
    fn end(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)
            .expect("the host is told to end");
        self.child.wait().expect("the host ends");
    }
}

async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(90),
            "{what} did not happen"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn apply(client: &Client, version: &str) {
    let text = include_str!("../../../examples/demo/shop.yaml")
        .replace("\"crossfade\"", &format!("{PROGRAM:?}"))
        .replace("sample:v1", &format!("sample:{version}"))
        .replace("--version=v1", &format!("--version={version}"));
    let documents = crossfade_api::manifest::read(&text).expect("the example is valid");
    let documents = documents
        .into_iter()
        .map(|document| document.object)
        .collect();
    let request = ApplyRequest {
        documents,
        ..ApplyRequest::default()
    };
    client
        .apply(&request, "default", ApplyMode::default())
        .await
        .expect("the example is applied");
}

async fn rollout(client: &Client) -> Value {
    client
        .get(Kind::Rollout, "default", "shop")
        .await
        .unwrap_or_default()
}

fn healthy(rollout: &Value, image: &str) -> bool {
    let status = &rollout["status"];
    status["phase"] == "Healthy"
        && status["stableRS"] == status["currentPodHash"]
        && rollout["spec"]["template"]["spec"]["containers"][0]["image"] == image
        && status["observedGeneration"] == rollout["metadata"]["generation"].to_string()
}

/// Sends requests on keep-alive connections until told to stop; counts those that got no answer 200.
fn load(address: String, stop: Arc<AtomicBool>, sent: Arc<AtomicU64>, failed: Arc<AtomicU64>) {
    let mut connection: Option<BufReader<TcpStream>> = None;
    while !stop.load(Ordering::Relaxed) {
        let mut ask = || -> std::io::Result<bool> {
            let reader = match &mut connection {
                Some(reader) => reader,
                None => connection.insert(BufReader::new(TcpStream::connect(&address)?)),
            };
            reader
                .get_mut()
                .set_read_timeout(Some(Duration::from_secs(5)))?;
            write!(reader.get_mut(), "GET / HTTP/1.1\r\nHost: shop\r\n\r\n")?;
            let mut status = String::new();
            reader.read_line(&mut status)?;
            let mut length = 0;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line)?;
                if line.trim().is_empty() {
                    break;
                }
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap_or(0);
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            Ok(status.contains(" 200 "))
        };
        let good = ask().unwrap_or(false);
        sent.fetch_add(1, Ordering::Relaxed);
        if !good {
            failed.fetch_add(1, Ordering::Relaxed);
            connection = None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test]
async fn a_release_goes_on_where_it_stood_when_the_control_plane_is_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("state");
    let host = Host::start(&state);
    let client = Client::new(Address::Socket(state.join("control.sock")));
    until("the host answers", async || {
        client.ready().await.ok().filter(|ready| *ready)
    })
    .await;
    apply(&client, "v1").await;
    until("the first version is healthy", async || {
        healthy(&rollout(&client).await, "sample:v1").then_some(())
    })
    .await;
    let address = until("the Service is listened for", async || {
        let info = client.info().await.ok()?;
        info.listeners
            .into_iter()
            .find(|listener| listener.service == "shop")
            .map(|listener| listener.address)
    })
    .await;
    let (stop, sent, failed) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicU64::new(0)),
    );
    let loads: Vec<_> = (0..4)
        .map(|_| {
            let (address, stop, sent, failed) = (
                address.clone(),
                Arc::clone(&stop),
                Arc::clone(&sent),
                Arc::clone(&failed),
            );
            std::thread::spawn(move || load(address, stop, sent, failed))
        })
        .collect();

    apply(&client, "v2").await;
    until("the canary has its share", async || {
        let rollout = rollout(&client).await;
        (rollout["status"]["currentStepIndex"] == 1
            && rollout["status"]["canary"]["weights"]["canary"]["weight"] == 20)
            .then_some(())
    })
    .await;
    let before: Vec<String> = pods(&client).await;
    host.kill();

    let host = Host::start(&state);
    until("the host answers again", async || {
        client.ready().await.ok().filter(|ready| *ready)
    })
    .await;
    let taken_up = rollout(&client).await;
    assert_eq!(
        taken_up["status"]["currentStepIndex"], 1,
        "it stands where it stood"
    );
    let after = pods(&client).await;
    assert!(
        before.iter().all(|pod| after.contains(pod)),
        "no pod is gone or restarted: {before:?}, then {after:?}"
    );
    let mut step = 1;
    until("the new version is promoted", async || {
        let rollout = rollout(&client).await;
        let now = rollout["status"]["currentStepIndex"]
            .as_i64()
            .unwrap_or(step);
        assert!(now >= step, "the release never goes back");
        step = now;
        healthy(&rollout, "sample:v2").then_some(())
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    for load in loads {
        load.join().expect("requests are counted");
    }
    host.end();
    assert_eq!(
        failed.load(Ordering::Relaxed),
        0,
        "of {} requests",
        sent.load(Ordering::Relaxed)
    );
    assert!(sent.load(Ordering::Relaxed) > 100, "requests were sent");
}

/// Every pod with its uid and restarts.
async fn pods(client: &Client) -> Vec<String> {
    let list = client
        .list(Kind::Pod, Some("default"), &Wanted::default())
        .await
        .expect("pods are listed");
    let pod = |pod: &Value| {
        format!(
            "{} {} {}",
            pod["metadata"]["name"],
            pod["metadata"]["uid"],
            pod["status"]["containerStatuses"][0]["restartCount"]
        )
    };
    list.items.iter().map(pod).collect()
}
