//! The demo's host, services and requests, and the watching of one release after another.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crossfade_api::rollout_status::RolloutPhase;
use crossfade_api::{Resource as _, Rollout};
use crossfade_host::client::{Address, ApplyMode, Client};
use crossfade_host::store::Kind;
use crossfade_host::wire::ApplyRequest;
use hyper::Uri;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::load::{Counts, Load, Tally};
use super::report::{Outcome, Release};

const NAMESPACE: &str = "default";
/// How long the host may take to answer.
const START: Duration = Duration::from_secs(15);
/// How long one release may take.
const PATIENCE: Duration = Duration::from_secs(45);
/// How often the release is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Keep-alive connections to each service.
const CONNECTIONS: u32 = 8;

/// The manifests of the demo: name of the Rollout, and what is applied for it.
const MANIFESTS: [(&str, &str); 2] = [
    ("shop", include_str!("../../../../examples/demo/shop.yaml")),
    (
        "checkout",
        include_str!("../../../../examples/demo/checkout.yaml"),
    ),
];

/// A new version of a sample service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Update {
    pub(crate) rollout: &'static str,
    pub(crate) version: &'static str,
    pub(crate) error_percent: u8,
}

/// Everything that runs for the demo.
pub(crate) struct Stage {
    folder: TempDir,
    host: Child,
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
        let log = std::fs::File::create(folder.path().join("host.log"))
            .map_err(|why| format!("cannot write a log: {why}"))?;
        let host = Command::new(&program)
            .args(["host", "--ephemeral", "--state"])
            .arg(folder.path().join("state"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .spawn()
            .map_err(|why| format!("cannot start the host: {why}"))?;
        let client = Client::new(Address::Socket(folder.path().join("state/control.sock")));
        let mut stage = Self {
            folder,
            host,
            client,
            loads: BTreeMap::new(),
            ended: Vec::new(),
            rate,
        };
        stage.wait_for_the_host().await?;
        for (rollout, _) in MANIFESTS {
            if rollout != "shop" {
                stage
                    .apply(Update {
                        rollout,
                        version: "v1",
                        error_percent: 0,
                    })
                    .await?;
                stage.settled(rollout).await?;
                stage.load(rollout).await?;
            }
        }
        Ok(stage)
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

    /// Applies the manifests of a Rollout with this version put in.
    async fn apply(&self, update: Update) -> Result<(), String> {
        let manifest = MANIFESTS
            .iter()
            .find(|(rollout, _)| *rollout == update.rollout)
            .map(|(_, text)| *text)
            .unwrap_or_default();
        let program = std::env::current_exe().map_err(|why| why.to_string())?;
        let text = manifest
            .replace(
                "[\"crossfade\", \"sample\"]",
                &format!("[{:?}, \"sample\"]", program.display().to_string()),
            )
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

    /// Releases a version and watches until it is promoted or taken back.
    pub(crate) async fn release(&mut self, name: &str, update: Update) -> Result<Release, String> {
        anstream::println!("\n● {name}: {} {}", update.rollout, update.version);
        let begun = Instant::now();
        let before = self.tally(update.rollout);
        self.apply(update).await?;
        let mut release = Release {
            name: name.to_owned(),
            ..Release::default()
        };
        let mut shown = String::new();
        while begun.elapsed() < PATIENCE {
            let rollout = self.rollout(update.rollout).await?;
            release.max_weight = release.max_weight.max(weight(&rollout));
            let line = self.line(&rollout, update.rollout);
            if line != shown {
                anstream::println!("  {:5.1} s  {line}", begun.elapsed().as_secs_f64());
                shown = line;
            }
            if let Some((outcome, reason)) = ended(&rollout) {
                release.outcome = outcome;
                release.reason = reason;
                release.revision = revision(&rollout);
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        if release.outcome == Outcome::Promoted {
            release.max_weight = 100;
        }
        release.seconds = (begun.elapsed().as_secs_f64() * 10.0).round() / 10.0;
        self.load(update.rollout).await?;
        release.requests = self.tally(update.rollout).since(&before);
        Ok(release)
    }

    /// Waits until a first version is up.
    async fn settled(&self, name: &str) -> Result<(), String> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some((Outcome::Promoted, _)) = ended(&self.rollout(name).await?) {
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

    async fn rollout(&self, name: &str) -> Result<Rollout, String> {
        let object = self
            .client
            .get(Kind::Rollout, NAMESPACE, name)
            .await
            .map_err(|why| why.to_string())?;
        Ok(Rollout::from_json(object).0)
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

    /// One line about a Rollout: phase, step, weight, pods, requests by version.
    fn line(&self, rollout: &Rollout, service: &str) -> String {
        let status = &rollout.status;
        let steps = rollout
            .spec
            .strategy
            .canary
            .as_ref()
            .map_or(0, |canary| canary.steps.len());
        let step = status
            .current_step_index
            .map_or(String::new(), |index| format!("step {index}/{steps}  "));
        let versions = self
            .loads
            .get(service)
            .map(|load| load.counts().by_version)
            .unwrap_or_default();
        let versions: Vec<String> = versions.keys().cloned().collect();
        let message = if status.message.is_empty() {
            String::new()
        } else {
            format!("  {}", status.message)
        };
        let seen = if versions.is_empty() {
            String::new()
        } else {
            format!("  answers from {}", versions.join(", "))
        };
        format!(
            "{:11}  {step}weight {:3} %  pods {}/{} new{seen}{message}",
            status.phase.as_str(),
            weight(rollout),
            status.updated_replicas,
            status.replicas
        )
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
        format!(
            "still running: export CROSSFADE_HOST={}\nto end it: kill {}",
            state.display(),
            self.host.id().unwrap_or_default()
        )
    }

    /// Leaves everything running.
    pub(crate) fn keep(self) {
        let Self { folder, host, .. } = self;
        let _ = folder.keep();
        // Dropping a child does not end it.
        drop(host);
    }

    /// Ends everything.
    pub(crate) async fn strike(mut self) -> Result<(), String> {
        for (_, load) in std::mem::take(&mut self.loads) {
            self.ended.push(load.stop().await);
        }
        if let Some(pid) = self
            .host
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .and_then(rustix::process::Pid::from_raw)
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        self.host.wait().await.map_err(|why| why.to_string())?;
        Ok(())
    }
}

/// Share of requests that the new version has.
fn weight(rollout: &Rollout) -> i32 {
    let status = &rollout.status;
    match &status.canary.weights {
        // What is recorded may still be of the version before.
        Some(weights)
            if status.stable_rs != status.current_pod_hash
                && weights.canary.pod_template_hash == status.current_pod_hash =>
        {
            weights.canary.weight
        }
        _ if rollout.spec.strategy.blue_green.is_some()
            && status.blue_green.active_selector == status.current_pod_hash =>
        {
            100
        }
        _ => 0,
    }
}

fn revision(rollout: &Rollout) -> u64 {
    let annotations = rollout.metadata.annotations.as_ref();
    annotations
        .and_then(|all| {
            all.get(crossfade_api::names::annotation::REVISION)?
                .parse()
                .ok()
        })
        .unwrap_or(0)
}

/// How the release ended, once it has.
fn ended(rollout: &Rollout) -> Option<(Outcome, String)> {
    let status = &rollout.status;
    if status.observed_generation != rollout.metadata.generation.unwrap_or(0).to_string() {
        return None;
    }
    match status.phase {
        RolloutPhase::Healthy if status.stable_rs == status.current_pod_hash => {
            Some((Outcome::Promoted, "healthy".to_owned()))
        }
        RolloutPhase::Degraded if status.abort => {
            let back = status
                .canary
                .weights
                .as_ref()
                .is_none_or(|weights| weights.canary.weight == 0);
            back.then(|| (Outcome::Aborted, status.message.clone()))
        }
        RolloutPhase::Degraded => Some((Outcome::Unfinished, status.message.clone())),
        RolloutPhase::Healthy
        | RolloutPhase::Progressing
        | RolloutPhase::Paused
        | RolloutPhase::Unset => None,
    }
}
