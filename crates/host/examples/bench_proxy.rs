//! How fast the data plane is, beside HAProxy and nginx: `cargo xtask bench proxy`.
//!
//! All three split 80 : 20 over the same two back ends (one process of nginx that returns a short text: with several on one
//! port, chance would decide how connections are spread over them), under the same load (wrk),
//! in turns, on the same cores as the load and the back ends; so only the ratios mean anything. Then all three get the same
//! number of requests a second (h2load), half of what HAProxy has passed at most: the 99th percentile at full load says much of how the
//! machine divides its cores among five busy threads, the one at half load more of the proxies. At last it is measured how
//! long after a weight command the first request obeys it, under light load.
//!
//! Fails if the data plane passes fewer than 0.9 times HAProxy's requests, if its 99th percentile at either load is above 1.1 times
//! HAProxy's, or if a weight takes longer than 5 ms to be obeyed. The first two are medians of the ratios within a round, since
//! a machine may change its pace from one round to the next; the delay is the 95th percentile.
//!
//! `bench_proxy serve SOCKET STATE` is the data plane itself, built as in a release.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measurement talks to its reader"
)]

use std::{
    error::Error,
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use bytes::Bytes;
use crossfade_host::proxy::{
    Destination, Endpoint, Limits, ListenerConfig, ProxyArgs, ProxyClient, ProxyConfig,
    RouteConfig, run,
};
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Requests a second, in relation to HAProxy.
const LEAST_RATE: f64 = 0.9;
/// 99th percentile at full and at half load, in relation to HAProxy.
const MOST_P99: f64 = 1.1;
/// From the command to the first answer that obeys it (95th percentile).
const MOST_DELAY: Duration = Duration::from_millis(5);
/// How often each proxy is measured, in turns: often and briefly, since a machine that is shared changes its pace within seconds.
const ROUNDS: usize = 40;
/// Connections of the load.
const CONNECTIONS: u32 = 64;
/// Commands whose effect is timed.
const COMMANDS: usize = 200;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.as_slice() {
        [serve, socket, state] if serve == "serve" => run(&ProxyArgs {
            socket: socket.into(),
            state: state.into(),
            workers: None,
            limits: Limits::default(),
        })
        .map(|()| true)
        .map_err(Into::into),
        [] => measure(1),
        [seconds] => seconds.parse().map_err(Into::into).and_then(measure),
        _ => Err("usage: bench_proxy [SECONDS a measurement]".into()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("Error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One run of the load.
struct Run {
    rate: f64,
    p99_ms: f64,
    errors: u64,
}

fn measure(seconds: u64) -> Outcome<bool> {
    let folder = tempfile::tempdir()?;
    let ports = Ports::free()?;
    let _backend = Running::start("nginx", &nginx_backend(folder.path(), &ports)?)?;
    let _haproxy = Running::start("haproxy", &haproxy(folder.path(), &ports)?)?;
    let _nginx = Running::start("nginx", &nginx_proxy(folder.path(), &ports)?)?;
    let socket = folder.path().join("proxy.sock");
    let mut serve = Command::new(std::env::current_exe()?);
    serve
        .arg("serve")
        .arg(&socket)
        .arg(folder.path().join("state.json"));
    let _ours = Running(serve.spawn()?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    until(|| socket.exists())?;
    let control = runtime.block_on(ProxyClient::connect(&socket))?;
    runtime.block_on(control.apply(&ports.config(20)))?;
    let proxies = [
        ("crossfade", ports.ours),
        ("haproxy", ports.haproxy),
        ("nginx", ports.nginx),
    ];
    for (_, port) in proxies {
        until(|| TcpStream::connect(("127.0.0.1", port)).is_ok())?;
        load(port, 1)?;
    }

    let mut runs: [Vec<Run>; 3] = Default::default();
    for round in 0..ROUNDS {
        // Another order each time: whatever else the machine does shall not always hit the same one.
        for turn in 0..proxies.len() {
            let at = (round + turn) % proxies.len();
            if let (Some((_, port)), Some(runs)) = (proxies.get(at), runs.get_mut(at)) {
                runs.push(load(*port, seconds)?);
            }
        }
    }
    let most = median(runs[1].iter().map(|run| run.rate));
    let mut paced: [Vec<f64>; 3] = Default::default();
    for round in 0..ROUNDS {
        for turn in 0..proxies.len() {
            let at = (round + turn) % proxies.len();
            if let (Some((_, port)), Some(paced)) = (proxies.get(at), paced.get_mut(at)) {
                paced.push(paced_load(*port, most / 2.0, seconds, folder.path())?);
            }
        }
    }
    let delays = runtime.block_on(delays(&control, &ports))?;
    let report = Report::new(&runs, &paced, &delays);
    report.print(&proxies.map(|(name, _)| name));
    let path = target_folder()?.join("proxy.json");
    fs::write(&path, serde_json::to_vec_pretty(&report.json(&runs))?)?;
    println!("\nwritten to {}", path.display());
    Ok(report.misses().is_empty())
}

struct Report {
    /// Medians in the order of the proxies: requests a second at most, and 99th percentiles in milliseconds at half of HAProxy's, and at most.
    rates: [f64; 3],
    p99s: [f64; 3],
    full_p99s: [f64; 3],
    /// Medians of what a round gave, in relation to HAProxy in the same round.
    rate_ratios: [f64; 3],
    p99_ratios: [f64; 3],
    full_p99_ratios: [f64; 3],
    errors: u64,
    delay_median: Duration,
    delay_p95: Duration,
    delay_max: Duration,
}

impl Report {
    fn new(runs: &[Vec<Run>; 3], paced: &[Vec<f64>; 3], delays: &[Duration]) -> Self {
        let [ours, haproxy, _] = runs;
        let [_, paced_haproxy, _] = paced;
        let ratios = |of: fn(&Run) -> f64| {
            runs.each_ref().map(|runs| {
                let rounds = runs.iter().zip(haproxy);
                median(rounds.map(|(run, peer)| of(run) / of(peer)))
            })
        };
        Self {
            rates: runs
                .each_ref()
                .map(|runs| median(runs.iter().map(|run| run.rate))),
            p99s: paced.each_ref().map(|runs| median(runs.iter().copied())),
            full_p99s: runs
                .each_ref()
                .map(|runs| median(runs.iter().map(|run| run.p99_ms))),
            rate_ratios: ratios(|run| run.rate),
            p99_ratios: paced.each_ref().map(|runs| {
                let rounds = runs.iter().zip(paced_haproxy);
                median(rounds.map(|(run, peer)| run / peer))
            }),
            full_p99_ratios: ratios(|run| run.p99_ms),
            errors: ours.iter().map(|run| run.errors).sum(),
            delay_median: percentile(delays, 50),
            delay_p95: percentile(delays, 95),
            delay_max: percentile(delays, 100),
        }
    }

    fn rate_ratio(&self) -> f64 {
        self.rate_ratios[0]
    }

    fn p99_ratio(&self) -> f64 {
        self.p99_ratios[0]
    }

    fn misses(&self) -> Vec<String> {
        let mut misses = Vec::new();
        if self.rate_ratio() < LEAST_RATE {
            misses.push(format!(
                "requests: {:.2} of HAProxy's, wanted {LEAST_RATE}",
                self.rate_ratio()
            ));
        }
        let p99s = [
            ("half", self.p99_ratio()),
            ("full", self.full_p99_ratios[0]),
        ];
        for (load, ratio) in p99s {
            if ratio > MOST_P99 {
                misses.push(format!(
                    "p99 at {load} load: {ratio:.2} of HAProxy's, allowed {MOST_P99}"
                ));
            }
        }
        if self.delay_p95 > MOST_DELAY {
            misses.push(format!(
                "delay: {:?}, allowed {MOST_DELAY:?}",
                self.delay_p95
            ));
        }
        if self.errors > 0 {
            misses.push(format!("{} requests failed", self.errors));
        }
        misses
    }

    fn print(&self, names: &[&str; 3]) {
        println!(
            "{:<12}{:>12}{:>8}{:>18}{:>8}{:>18}{:>8}",
            "", "requests/s", "ratio", "p99 ms, half load", "ratio", "p99 ms, full load", "ratio"
        );
        for (at, name) in names.iter().enumerate() {
            println!(
                "{name:<12}{:>12.0}{:>8.2}{:>18.2}{:>8.2}{:>18.2}{:>8.2}",
                self.rates[at],
                self.rate_ratios[at],
                self.p99s[at],
                self.p99_ratios[at],
                self.full_p99s[at],
                self.full_p99_ratios[at]
            );
        }
        println!(
            "\nweight command to first request that obeys: median {:.2?}, 95 % {:.2?}, longest {:.2?}",
            self.delay_median, self.delay_p95, self.delay_max
        );
        for miss in self.misses() {
            println!("MISSED {miss}");
        }
    }

    fn json(&self, runs: &[Vec<Run>; 3]) -> Value {
        let each = |at: usize| {
            let all = runs.get(at).map(Vec::as_slice).unwrap_or_default();
            json!({
                "requestsPerSecond": self.rates.get(at),
                "p99Ms": self.p99s.get(at),
                "p99MsAtFullLoad": self.full_p99s.get(at),
                "runs": all.iter().map(|run| json!([run.rate, run.p99_ms])).collect::<Vec<_>>(),
            })
        };
        json!({
            "crossfade": each(0),
            "haproxy": each(1),
            "nginx": each(2),
            "rateRatio": self.rate_ratio(),
            "p99Ratio": self.p99_ratio(),
            "p99RatioAtFullLoad": self.full_p99_ratios.first(),
            "weightDelayMs": {
                "median": self.delay_median.as_secs_f64() * 1e3,
                "p95": self.delay_p95.as_secs_f64() * 1e3,
                "max": self.delay_max.as_secs_f64() * 1e3,
            },
            "missed": self.misses(),
        })
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let last = sorted.len().saturating_sub(1);
    sorted
        .get(last * percent / 100)
        .copied()
        .unwrap_or(Duration::MAX)
}

/// One measurement with wrk.
fn load(port: u16, seconds: u64) -> Outcome<Run> {
    let output = Command::new("wrk")
        .args([
            "-t2",
            "-c",
            &CONNECTIONS.to_string(),
            "--latency",
            "-d",
            &format!("{seconds}s"),
        ])
        .arg(format!("http://127.0.0.1:{port}/"))
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let value = |label: &str| {
        let line = text
            .lines()
            .find_map(|line| line.trim().strip_prefix(label))?;
        line.split_whitespace().next().map(str::to_owned)
    };
    let rate = value("Requests/sec:")
        .ok_or_else(|| format!("wrk said: {text}"))?
        .parse()?;
    let p99 = value("99%").ok_or_else(|| format!("wrk said: {text}"))?;
    let number: f64 = p99.trim_end_matches(char::is_alphabetic).parse()?;
    let unit = match p99.trim_start_matches(|c: char| !c.is_alphabetic()) {
        "us" => 1e-3,
        "ms" => 1.0,
        "s" => 1e3,
        other => return Err(format!("wrk measures in {other}").into()),
    };
    let failed = text
        .lines()
        .filter(|line| line.contains("Socket errors") || line.contains("Non-2xx"))
        .count();
    Ok(Run {
        rate,
        p99_ms: number * unit,
        errors: failed as u64,
    })
}

/// The 99th percentile, in milliseconds, of one measurement with h2load at this rate, by HTTP/1.1.
fn paced_load(port: u16, rate: f64, seconds: u64, folder: &Path) -> Outcome<f64> {
    let log = folder.join("paced.log");
    // It would append.
    let _ = fs::remove_file(&log);
    let output = Command::new("h2load")
        .args(["--h1", "-t", "1", "-c", &CONNECTIONS.to_string()])
        .arg(format!("--rps={}", rate / f64::from(CONNECTIONS)))
        .arg(format!("--duration={seconds}"))
        .arg(format!("--log-file={}", log.display()))
        .arg(format!("http://127.0.0.1:{port}/"))
        .output()?;
    // Start, status and duration in microseconds, a line for each request.
    let text = fs::read_to_string(&log)?;
    let durations = text.lines().map(|line| {
        let mut columns = line.split('\t').skip(1);
        let is_good = columns.next() == Some("200");
        is_good.then(|| columns.next()?.parse::<u64>().ok())?
    });
    let durations: Option<Vec<u64>> = durations.collect();
    let mut durations = durations.filter(|all| !all.is_empty()).ok_or_else(|| {
        let said = String::from_utf8_lossy(&output.stdout);
        format!("requests failed; h2load said: {said}")
    })?;
    durations.sort_unstable();
    let p99 = durations[(durations.len() - 1) * 99 / 100];
    Ok(p99 as f64 / 1e3)
}

/// From each command to the first answer from the version that it sends everything to; sorted.
async fn delays(control: &ProxyClient, ports: &Ports) -> Outcome<Vec<Duration>> {
    let base = Instant::now();
    let micros = move || base.elapsed().as_micros() as u64;
    let over = Arc::new(AtomicBool::new(false));
    let wanted = Arc::new(AtomicUsize::new(usize::MAX));
    let first = Arc::new(AtomicU64::new(0));
    let addr = SocketAddr::from(([127, 0, 0, 1], ports.ours));
    let mut clients = Vec::new();
    for _ in 0..4 {
        let (over, wanted, first) = (Arc::clone(&over), Arc::clone(&wanted), Arc::clone(&first));
        let stream = tokio::net::TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        clients.push(tokio::spawn(async move {
            while !over.load(Ordering::Relaxed) {
                sender.ready().await?;
                let request = Request::get("/")
                    .header("host", "web")
                    .body(Empty::<Bytes>::new());
                let Ok(request) = request else { break };
                let answer = sender.send_request(request).await?;
                let version = answer
                    .headers()
                    .get("x-version")
                    .is_some_and(|version| version == "canary");
                answer.into_body().collect().await?;
                if usize::from(version) == wanted.load(Ordering::Acquire) {
                    // Only the first one after a command finds a zero.
                    let _ =
                        first.compare_exchange(0, micros(), Ordering::AcqRel, Ordering::Relaxed);
                }
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
            Ok::<_, hyper::Error>(())
        }));
    }
    control.apply(&ports.config(0)).await?;
    let mut delays = Vec::new();
    for command in 0..COMMANDS {
        // Nothing of the version before may still be on its way.
        tokio::time::sleep(Duration::from_millis(10)).await;
        let version = 1 - command % 2;
        first.store(0, Ordering::Release);
        wanted.store(version, Ordering::Release);
        let began = micros();
        control
            .apply(&ports.config(if version == 1 { 100 } else { 0 }))
            .await?;
        while first.load(Ordering::Acquire) == 0 {
            tokio::time::sleep(Duration::from_micros(50)).await;
        }
        delays.push(Duration::from_micros(
            first.load(Ordering::Acquire).saturating_sub(began),
        ));
    }
    over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await??;
    }
    delays.sort();
    Ok(delays)
}

/// Ports that were free a moment ago.
struct Ports {
    stable: u16,
    canary: u16,
    haproxy: u16,
    nginx: u16,
    ours: u16,
}

impl Ports {
    fn free() -> Outcome<Self> {
        let held: Vec<TcpListener> = (0..5)
            .map(|_| TcpListener::bind("127.0.0.1:0"))
            .collect::<Result<_, _>>()?;
        let ports: Vec<u16> = held
            .iter()
            .map(|held| held.local_addr().map(|addr| addr.port()))
            .collect::<Result<_, _>>()?;
        let [stable, canary, haproxy, nginx, ours] = ports.as_slice() else {
            return Err("five ports were asked for".into());
        };
        Ok(Self {
            stable: *stable,
            canary: *canary,
            haproxy: *haproxy,
            nginx: *nginx,
            ours: *ours,
        })
    }

    fn config(&self, canary: u32) -> ProxyConfig {
        let to = |version: &str, weight: u32, port: u16| Destination {
            version: version.into(),
            service: format!("web-{version}"),
            weight,
            endpoints: vec![Endpoint {
                pod: version.into(),
                addr: ([127, 0, 0, 1], port).into(),
            }],
            ..Destination::default()
        };
        ProxyConfig {
            revision: 1,
            listeners: vec![ListenerConfig {
                name: "bench/web:80".into(),
                address: ([127, 0, 0, 1], self.ours).into(),
                namespace: "bench".into(),
                service: "web".into(),
                rollout: "web".into(),
                routes: vec![RouteConfig {
                    name: "main".into(),
                    destinations: vec![
                        to("stable", 100 - canary, self.stable),
                        to("canary", canary, self.canary),
                    ],
                    ..RouteConfig::default()
                }],
            }],
        }
    }
}

/// A process that ends with the measurement.
struct Running(Child);

impl Running {
    fn start(program: &str, arguments: &[String]) -> Outcome<Self> {
        let found = ["/usr/sbin/", "/usr/bin/", ""]
            .iter()
            .map(|folder| PathBuf::from(format!("{folder}{program}")))
            .find(|path| path.exists())
            .ok_or_else(|| format!("{program} is not installed"))?;
        Ok(Self(
            Command::new(found)
                .args(arguments)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?,
        ))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // nginx leaves its workers behind unless it is asked politely.
        let pid = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.0.wait();
    }
}

fn nginx(folder: &Path, name: &str, processes: &str, http: &str) -> Outcome<Vec<String>> {
    let path = folder.join(format!("{name}.conf"));
    let own = folder.display();
    let text = format!(
        "daemon off; worker_processes {processes}; pid {own}/{name}.pid; error_log stderr crit;
         events {{ worker_connections 4096; }}
         http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 600s;
         client_body_temp_path {own}/{name}-body; proxy_temp_path {own}/{name}-proxy;
         {http} }}"
    );
    fs::write(&path, text)?;
    Ok(vec![
        "-c".into(),
        path.display().to_string(),
        "-p".into(),
        own.to_string(),
    ])
}

fn nginx_backend(folder: &Path, ports: &Ports) -> Outcome<Vec<String>> {
    let server = |port: u16, version: &str| {
        format!(
            "server {{ listen 127.0.0.1:{port} reuseport; location / {{
             add_header X-Version {version}; return 200 'a short answer of one line, as a health check gives\\n'; }} }}"
        )
    };
    nginx(
        folder,
        "backend",
        "1",
        &(server(ports.stable, "stable") + &server(ports.canary, "canary")),
    )
}

fn nginx_proxy(folder: &Path, ports: &Ports) -> Outcome<Vec<String>> {
    let http = format!(
        "upstream web {{ server 127.0.0.1:{} weight=80; server 127.0.0.1:{} weight=20; keepalive 256;
         keepalive_requests 1000000000; }}
         server {{ listen 127.0.0.1:{} reuseport; location / {{ proxy_pass http://web; proxy_http_version 1.1;
         proxy_set_header Connection ''; proxy_set_header Host $host;
         proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }} }}",
        ports.stable, ports.canary, ports.nginx
    );
    nginx(folder, "proxy", "auto", &http)
}

fn haproxy(folder: &Path, ports: &Ports) -> Outcome<Vec<String>> {
    let path = folder.join("haproxy.cfg");
    let text = format!(
        "global\n  maxconn 4096\n\
         defaults\n  mode http\n  timeout connect 3s\n  timeout client 60s\n  timeout server 60s\n  option forwardfor\n  http-reuse always\n\
         frontend web\n  bind 127.0.0.1:{}\n  default_backend web\n\
         backend web\n  balance roundrobin\n  server stable 127.0.0.1:{} weight 80\n  server canary 127.0.0.1:{} weight 20\n",
        ports.haproxy, ports.stable, ports.canary
    );
    fs::write(&path, text)?;
    Ok(vec!["-f".into(), path.display().to_string()])
}

fn until(mut so: impl FnMut() -> bool) -> Outcome<()> {
    let began = Instant::now();
    while !so() {
        if began.elapsed() > Duration::from_secs(10) {
            return Err("a proxy did not start within 10 s".into());
        }
        sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// `target/bench`, next to where this program was built.
fn target_folder() -> Outcome<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program
        .ancestors()
        .nth(3)
        .ok_or("this program is not in a target folder")?;
    let folder = target.join("bench");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}
