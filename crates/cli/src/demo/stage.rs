//! The demo's host, gate server, services and requests, and the watching of one release after another.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crossfade_api::{Canary, Resource as _, Rollout};
use crossfade_host::client::{Address, ApplyMode, Client, Wanted};
use crossfade_host::store::Kind;
use crossfade_host::wire::ApplyRequest;
use hyper::Uri;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::load::{Counts, Load, Tally};
use super::report::{Outcome, Release};
use super::seen::Seen;

const NAMESPACE: &str = "default";
/// How long the host may take to answer.
const START: Duration = Duration::from_secs(15);
/// How long one release may take.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often the release is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Keep-alive connections to each service.
const CONNECTIONS: u32 = 8;

/// The manifests of the demo: name of the release, and what is applied for it.
const MANIFESTS: [(&str, &str); 3] = [
    ("shop", include_str!("../../../../examples/demo/shop.yaml")),
    (
        "checkout",
        include_str!("../../../../examples/demo/checkout.yaml"),
    ),
    (
        CANARY,
        include_str!("../../../../examples/demo/catalog.yaml"),
    ),
];
/// The one that is a Canary; the others are Rollouts.
const CANARY: &str = "catalog";
/// Where the manifest has its gates.
const GATES: &str = "http://localhost:9090";

/// A new version of a sample service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Update {
    pub(crate) release: &'static str,
    pub(crate) version: &'static str,
    pub(crate) error_percent: u8,
}

/// What somebody does at a gate: this command, once the release waits there or has this weight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Act {
    pub(crate) weight: i32,
    pub(crate) command: &'static [&'static str],
}

/// Everything that runs for the demo.
pub(crate) struct Stage {
    folder: TempDir,
    program: PathBuf,
    host: Child,
    gates: Option<Child>,
    gates_address: String,
    client: Client,
    loads: BTreeMap<&'static str, Load>,
    /// Requests of services whose stream has ended.
    ended: Vec<Counts>,
    rate: u32,
}

impl Stage {
    /// Starts the host and applies what the demo needs, the first version of `checkout` included.
    pub(crate) async fn set_up(rate: u32) -> Result<Self, String> {
        let folder = tempfile::Builder::new()
            .prefix("crossfade-demo-")
            .tempdir()
            .map_err(|why| format!("no temporary folder: {why}"))?;
        let program =
            std::env::current_exe().map_err(|why| format!("cannot find this program: {why}"))?;
        let client = Client::new(Address::Socket(folder.path().join("state/control.sock")));
        let host = Command::new(&program)
            .args(["host", "--ephemeral", "--state"])
            .arg(folder.path().join("state"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log(&folder, "host.log")?)
            .process_group(0)
            .spawn()
            .map_err(|why| format!("cannot start the host: {why}"))?;
        let mut stage = Self {
            folder,
            program,
            host,
            gates: None,
            gates_address: String::new(),
            client,
            loads: BTreeMap::new(),
            ended: Vec::new(),
            rate,
        };
        stage.wait_for_the_host().await?;
        stage.start_gates().await?;
        for (release, _) in MANIFESTS {
            if release != "shop" {
                stage
                    .apply(Update {
                        release,
                        version: "v1",
                        error_percent: 0,
                    })
                    .await?;
            }
        }
        Ok(stage)
    }

    /// This program with these arguments, for the demo's host.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env("CROSSFADE_HOST", self.folder.path().join("state"))
            .env_remove("CROSSFADE_GATES")
            .stdin(Stdio::null());
        command
    }

    /// Starts a gate server that keeps its gates on the host.
    async fn start_gates(&mut self) -> Result<(), String> {
        let arguments = [
            "gates",
            "--address=127.0.0.1",
            "--port=0",
            "--gate-store=host",
            "--tasks=none",
        ];
        let gates = self
            .command(&arguments)
            .stdout(Stdio::null())
            .stderr(log(&self.folder, "gates.log")?)
            .process_group(0)
            .spawn();
        self.gates = Some(gates.map_err(|why| format!("cannot start the gate server: {why}"))?);
        let begun = Instant::now();
        while begun.elapsed() < START {
            let log = std::fs::read_to_string(self.folder.path().join("gates.log"));
            let log = log.unwrap_or_default();
            let after = log.split_once(" API on port ").map(|(_, after)| after);
            if let Some((port, _)) = after.and_then(|after| after.split_once('"')) {
                self.gates_address = format!("http://127.0.0.1:{port}");
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
        Err("the gate server did not start".to_owned())
    }

    async fn wait_for_the_host(&mut self) -> Result<(), String> {
        let begun = Instant::now();
        while !self.client.ready().await.unwrap_or(false) {
            let ended = self.host.try_wait().ok().flatten();
            if ended.is_some() || begun.elapsed() > START {
                let log = std::fs::read_to_string(self.folder.path().join("host.log"))
                    .unwrap_or_default();
                return Err(format!(
                    "the host did not start: {}",
                    log.lines().last().unwrap_or("no answer")
                ));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Applies the manifests of a release with this version put in.
    async fn apply(&self, update: Update) -> Result<(), String> {
        let manifest = MANIFESTS
            .iter()
            .find(|(release, _)| *release == update.release)
            .map(|(_, text)| *text)
            .unwrap_or_default();
        let program = self.program.display().to_string();
        let text = manifest
            .replace(
                "[\"crossfade\", \"sample\"]",
                &format!("[{program:?}, \"sample\"]"),
            )
            .replace(GATES, &self.gates_address)
            .replace("sample:v1", &format!("sample:{}", update.version))
            .replace("--version=v1", &format!("--version={}", update.version))
            .replace(
                "--error-percent=0",
                &format!("--error-percent={}", update.error_percent),
            );
        let documents = crossfade_api::manifest::read(&text)
            .map_err(|why| format!("the demo's manifest: {why}"))?;
        let documents = documents
            .into_iter()
            .map(|document| document.object)
            .collect();
        let request = ApplyRequest {
            documents,
            ..ApplyRequest::default()
        };
        self.client
            .apply(&request, NAMESPACE, ApplyMode::default())
            .await
            .map_err(|why| why.to_string())?;
        Ok(())
    }

    /// Releases a version and watches until it is promoted or taken back, while people do their part.
    pub(crate) async fn release(
        &mut self,
        name: &str,
        update: Update,
        acts: &[Act],
    ) -> Result<Release, String> {
        let service = update.release;
        if update.version != "v1" {
            self.settled(service).await?;
            self.load(service).await?;
        }
        anstream::println!("\n● {name}: {service} {}", update.version);
        let begun = Instant::now();
        let before = self.tally(service);
        self.apply(update).await?;
        let mut release = Release {
            name: name.to_owned(),
            ..Release::default()
        };
        let mut acts = acts.iter().peekable();
        let mut shown = String::new();
        while begun.elapsed() < PATIENCE {
            let seen = self.look(service).await?;
            release.max_weight = release.max_weight.max(seen.weight);
            let line = format!("{}{}", seen.line, self.versions(service));
            let line = format!("{line}  {}", seen.message).trim_end().to_owned();
            if line != shown {
                anstream::println!("  {:5.1} s  {line}", begun.elapsed().as_secs_f64());
                shown = line;
            }
            let is_due =
                |act: &&Act| seen.weight == act.weight && (act.weight > 0 || seen.is_at_gate);
            if let Some(act) = acts.next_if(is_due) {
                self.act(act).await?;
            }
            if let Some((outcome, reason)) = seen.ended {
                release.outcome = outcome;
                release.reason = reason;
                release.revision = seen.revision;
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        if release.outcome == Outcome::Promoted {
            release.max_weight = 100;
        }
        release.seconds = (begun.elapsed().as_secs_f64() * 10.0).round() / 10.0;
        self.load(service).await?;
        release.requests = self.tally(service).since(&before);
        Ok(release)
    }

    /// Somebody types a command.
    async fn act(&self, act: &Act) -> Result<(), String> {
        let quoted = |word: &&str| {
            if word.contains(' ') {
                format!("{word:?}")
            } else {
                (*word).to_owned()
            }
        };
        let words: Vec<String> = act.command.iter().map(quoted).collect();
        anstream::println!("           $ crossfade {}", words.join(" "));
        let output = self.command(act.command).output().await;
        let output = output.map_err(|why| format!("cannot type a command: {why}"))?;
        let said = String::from_utf8_lossy(if output.status.success() {
            &output.stdout
        } else {
            &output.stderr
        });
        for line in said.lines() {
            anstream::println!("           {line}");
        }
        if !output.status.success() {
            return Err(format!("crossfade {} failed: {said}", words.join(" ")));
        }
        Ok(())
    }

    /// Waits until a first version is up.
    async fn settled(&self, name: &str) -> Result<(), String> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if self.look(name).await?.ended.is_some() {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(format!(
            "{name} did not come up within {} s",
            PATIENCE.as_secs()
        ))
    }

    /// Sends a steady stream of requests to a Service, unless it gets one already.
    async fn load(&mut self, service: &'static str) -> Result<(), String> {
        if !self.loads.contains_key(service) {
            let load = Load::start(&self.address(service).await?, self.rate, CONNECTIONS);
            self.loads.insert(service, load);
        }
        Ok(())
    }

    /// How a release stands.
    async fn look(&self, name: &str) -> Result<Seen, String> {
        let get = async |kind| self.client.get(kind, NAMESPACE, name).await;
        let look = async {
            if name != CANARY {
                return Ok(Seen::rollout(
                    &Rollout::from_json(get(Kind::Rollout).await?).0,
                ));
            }
            let canary = Canary::from_json(get(Kind::Canary).await?).0;
            let target = get(Kind::Deployment).await?;
            let explained = self.client.explain(Kind::Canary, NAMESPACE, name).await?;
            let wanted = Wanted {
                labels: format!("app={name}"),
                ..Wanted::default()
            };
            let sets = self
                .client
                .list(Kind::ReplicaSet, Some(NAMESPACE), &wanted)
                .await?;
            let versions = u64::try_from(sets.items.len()).unwrap_or(u64::MAX);
            Ok(Seen::canary(&canary, &target, &explained.waits, versions))
        };
        let seen: crossfade_host::client::Result<Seen> = look.await;
        seen.map_err(|why| why.to_string())
    }

    async fn address(&self, service: &str) -> Result<Uri, String> {
        let info = self.client.info().await.map_err(|why| why.to_string())?;
        let listener = info
            .listeners
            .iter()
            .find(|listener| listener.service == service && listener.namespace == NAMESPACE);
        let address = &listener
            .ok_or_else(|| format!("nobody listens for the Service {service}"))?
            .address;
        format!("http://{address}/")
            .parse()
            .map_err(|why| format!("{address}: {why}"))
    }

    fn tally(&self, service: &str) -> Tally {
        self.loads
            .get(service)
            .map(|load| load.counts().tally)
            .unwrap_or_default()
    }

    /// Which versions have answered requests to a Service.
    fn versions(&self, service: &str) -> String {
        let load = self.loads.get(service);
        let versions = load
            .map(|load| load.counts().by_version)
            .unwrap_or_default();
        let versions: Vec<String> = versions.into_keys().collect();
        if versions.is_empty() {
            return String::new();
        }
        format!("  answers from {}", versions.join(", "))
    }

    fn all_counts(&self) -> impl Iterator<Item = Counts> {
        self.ended
            .iter()
            .cloned()
            .chain(self.loads.values().map(Load::counts))
    }

    /// Requests of all services that failed although no service failed them.
    pub(crate) fn platform_failures(&self) -> u64 {
        self.all_counts()
            .map(|counts| counts.tally.failed_by_platform)
            .sum()
    }

    /// What went wrong with them, with how often.
    pub(crate) fn troubles(&self) -> Vec<String> {
        self.all_counts()
            .flat_map(|counts| counts.troubles)
            .map(|(what, times)| format!("{what} ({times} times)"))
            .collect()
    }

    /// Where to find what is left running.
    pub(crate) fn addresses(&self) -> String {
        let state = self.folder.path().join("state");
        let children = [Some(&self.host), self.gates.as_ref()];
        let ids = children.into_iter().flatten().filter_map(Child::id);
        let ids: Vec<String> = ids.map(|id| id.to_string()).collect();
        format!(
            "still running: export CROSSFADE_HOST={}\nto end it: kill {}",
            state.display(),
            ids.join(" ")
        )
    }

    /// Leaves everything running: dropping a child does not end it.
    pub(crate) fn keep(self) {
        let _ = self.folder.keep();
    }

    /// Ends everything.
    pub(crate) async fn strike(mut self) -> Result<(), String> {
        for (_, load) in std::mem::take(&mut self.loads) {
            self.ended.push(load.stop().await);
        }
        for child in [Some(&mut self.host), self.gates.as_mut()]
            .into_iter()
            .flatten()
        {
            end(child).await?;
        }
        Ok(())
    }
}

async fn end(child: &mut Child) -> Result<(), String> {
    if let Some(pid) = child
        .id()
        .and_then(|pid| i32::try_from(pid).ok())
        .and_then(rustix::process::Pid::from_raw)
    {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    child.wait().await.map(drop).map_err(|why| why.to_string())
}

/// A file for what a process has to say.
fn log(folder: &TempDir, name: &str) -> Result<File, String> {
    File::create(folder.path().join(name)).map_err(|why| format!("cannot write a log: {why}"))
}
