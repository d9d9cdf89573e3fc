//! Whatever is killed, and whenever: the release ends as it should, stable pods stay, and requests are answered.
//!
//! Each test kills one of the four kinds of processes at every moment of a release: while canary pods start, at a pause, during an
//! analysis, between two weights, during the promotion and during an abort.

use crossfade_host::store::Kind;
use rustix::process::Signal;
use serde_json::Value;

use crate::load::Load;
use crate::rig::{Pod, Rig, is_alive, is_observed, sample, shop, signal, step};

/// A canary that stands still wherever a person is wanted, so that each moment can be met.
const CANARY: &str = r"
    canary:
      stableService: shop
      canaryService: shop-canary
      scaleDownDelaySeconds: 1
      abortScaleDownDelaySeconds: 1
      trafficRouting: {nginx: {stableIngress: shop}}
      steps:
      - setWeight: 20
      - pause: {}
      - analysis: {templates: [{templateName: good}]}
      - setWeight: 60
      - pause: {duration: 1s}";

const BLUE_GREEN: &str = r"
    blueGreen:
      activeService: shop
      previewService: shop-canary
      autoPromotionEnabled: false
      scaleDownDelaySeconds: 1
      prePromotionAnalysis: {templates: [{templateName: good}]}
      postPromotionAnalysis: {templates: [{templateName: good}]}";

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    ControlPlane,
    DataPlane,
    /// The shim of a pod of the new version.
    Shim,
    /// The process of a pod of the new version.
    Pod,
}

impl Victim {
    /// Two pods have two lives: after those the next start takes its time.
    fn is_of_a_pod(self) -> bool {
        matches!(self, Self::Shim | Self::Pod)
    }
}

/// A release in which somebody is killed again and again.
struct Scene {
    rig: Rig,
    victim: Victim,
    load: Load,
    deaths: u32,
    /// The new version will carry all requests alone.
    alone: bool,
}

impl Scene {
    /// The first version runs, and requests come.
    async fn begin(victim: Victim, strategy: &str) -> Self {
        let rig = Rig::started().await;
        rig.apply(&shop(&sample("v1"), strategy, "")).await;
        rig.healthy("shop", "v1").await;
        let address = rig.address("shop").await;
        // A POST is sent to one pod once, so it dies with that pod.
        let posts = !victim.is_of_a_pod();
        let load = Load::start(&address, posts);
        Self {
            rig,
            victim,
            load,
            deaths: 0,
            alone: strategy == BLUE_GREEN,
        }
    }

    /// Kills the victim at this moment, and sees to it that it comes back. Pods of `stable` must not notice.
    async fn kill(&mut self, new: &str, stable: &str) {
        let before = identities(&self.rig.pods(stable).await);
        match self.victim {
            Victim::ControlPlane => {
                self.rig.kill_host().await;
                self.rig.start().await;
                self.deaths += 1;
            }
            Victim::DataPlane => {
                let proxy = self
                    .rig
                    .until("the proxy runs", async || self.rig.proxy().await)
                    .await;
                self.load.excuse();
                signal(proxy, Signal::KILL);
                self.rig
                    .until("another proxy listens", async || {
                        self.rig.proxy().await.filter(|now| *now != proxy)
                    })
                    .await;
                self.load.excuse_no_more();
                self.deaths += 1;
            }
            Victim::Shim | Victim::Pod => {
                // The pods of a blue-green release carry all requests: each dies once, beside one that is ready. And those that
                // die often wait long for their next start.
                let limit = if self.alone { 1 } else { 2 };
                let process = |pod: &Pod| match self.victim {
                    Victim::Shim => pod.shim(),
                    _ => pod.process(),
                };
                let victim = self.rig.until("there is one to kill", async || {
                    let mut pods = self.rig.pods(new).await;
                    pods.sort_by_key(|pod| (pod.restarts, !pod.ready));
                    pods.retain(|pod| pod.restarts < limit);
                    if pods.is_empty() {
                        return Some(None);
                    }
                    let pid = pods.iter().find_map(process);
                    pid.filter(|pid| is_alive(*pid)).map(Some)
                });
                if let Some(pid) = victim.await {
                    signal(pid, Signal::KILL);
                    self.deaths += 1;
                }
            }
        }
        assert_eq!(
            identities(&self.rig.pods(stable).await),
            before,
            "stable pods stay as they are"
        );
    }

    async fn reaches(&self, what: &str, is: impl FnMut(&Value) -> bool) {
        self.rig.becomes("shop", what, is).await;
    }

    async fn command(&self, words: &[&str]) {
        let ended = self.rig.crossfade(words).await;
        assert_eq!(ended.code, 0, "{words:?}: {ended:?}");
    }

    /// An analysis run has measured something and not everything.
    async fn measures(&self) {
        self.rig
            .until("an analysis is under way", async || {
                let runs = self.rig.list(Kind::AnalysisRun).await;
                let running = |run: &Value| {
                    run["status"]["phase"] == "Running" && !run["status"]["metricResults"].is_null()
                };
                runs.iter().any(running).then_some(())
            })
            .await;
    }

    async fn end(self) {
        assert!(
            self.deaths >= 2,
            "{:?} died {} times",
            self.victim,
            self.deaths
        );
        self.load.end_well();
        self.rig.end().await;
    }
}

fn identities(pods: &[Pod]) -> Vec<(String, Option<u32>, i64)> {
    pods.iter().map(Pod::identity).collect()
}

fn weight(rollout: &Value) -> &Value {
    &rollout["status"]["canary"]["weights"]["canary"]["weight"]
}

fn is_paused(rollout: &Value) -> bool {
    is_observed(rollout)
        && rollout["status"]["phase"] == "Paused"
        && rollout["status"]["pauseConditions"][0]["reason"].is_string()
}

/// One canary is promoted and the next one aborted, with a death at each moment.
async fn a_canary_survives(victim: Victim) {
    let mut scene = Scene::begin(victim, CANARY).await;
    scene.rig.apply(&shop(&sample("v2"), CANARY, "")).await;
    scene
        .rig
        .until("the first pod of the new version is made", async || {
            (!scene.rig.pods("v2").await.is_empty()).then_some(())
        })
        .await;
    scene.kill("v2", "v1").await;

    scene
        .reaches("paused at 20", |now| is_paused(now) && *weight(now) == 20)
        .await;
    scene.kill("v2", "v1").await;
    scene
        .reaches("still paused at 20", |now| is_paused(now) && step(now) == 1)
        .await;
    scene.command(&["promote", "shop"]).await;

    scene.measures().await;
    scene.kill("v2", "v1").await;
    scene
        .reaches("past the analysis", |now| step(now) >= 3)
        .await;
    scene.kill("v2", "v1").await;
    scene.reaches("past its steps", |now| step(now) == 5).await;
    // From here on the old pods go, so they are not compared.
    scene.kill("v2", "none").await;
    scene.rig.healthy("shop", "v2").await;

    scene.rig.apply(&shop(&sample("v3"), CANARY, "")).await;
    scene
        .reaches("paused at 20 again", |now| {
            is_paused(now) && *weight(now) == 20
        })
        .await;
    scene.command(&["abort", "shop"]).await;
    scene.kill("v3", "v2").await;
    scene
        .reaches("taken back", |now| {
            let status = &now["status"];
            status["phase"] == "Degraded" && status["abort"] == true && *weight(now) == 0
        })
        .await;
    scene
        .rig
        .until("the pods of the aborted version are gone", async || {
            scene.rig.pods("v3").await.is_empty().then_some(())
        })
        .await;
    let stable = scene.rig.pods("v2").await;
    assert!(
        stable.len() == 2 && stable.iter().all(|pod| pod.ready),
        "{stable:?}"
    );
    scene.end().await;
}

/// A blue-green release is promoted, with a death at each moment.
async fn a_blue_green_release_survives(victim: Victim) {
    let mut scene = Scene::begin(victim, BLUE_GREEN).await;
    scene.rig.apply(&shop(&sample("v2"), BLUE_GREEN, "")).await;
    scene
        .rig
        .until("the first pod of the preview is made", async || {
            (!scene.rig.pods("v2").await.is_empty()).then_some(())
        })
        .await;
    scene.kill("v2", "v1").await;
    scene.measures().await;
    if !victim.is_of_a_pod() {
        scene.kill("v2", "v1").await;
    }
    scene.reaches("paused before the switch", is_paused).await;
    if !victim.is_of_a_pod() {
        scene.kill("v2", "v1").await;
    }
    scene
        .reaches("still paused before the switch", |now| {
            let status = &now["status"];
            is_paused(now) && status["blueGreen"]["activeSelector"] == status["stableRS"]
        })
        .await;
    scene.command(&["promote", "shop"]).await;
    if !victim.is_of_a_pod() {
        scene.kill("v2", "v1").await;
    }
    scene
        .reaches("switched", |now| {
            let status = &now["status"];
            status["blueGreen"]["activeSelector"] == status["currentPodHash"]
        })
        .await;
    scene.kill("v2", "none").await;
    scene.rig.healthy("shop", "v2").await;
    scene
        .rig
        .until("the old pods are gone", async || {
            scene.rig.pods("v1").await.is_empty().then_some(())
        })
        .await;
    scene.end().await;
}

#[tokio::test]
async fn a_canary_survives_the_death_of_the_control_plane_at_every_moment() {
    a_canary_survives(Victim::ControlPlane).await;
}

#[tokio::test]
async fn a_canary_survives_the_death_of_the_data_plane_at_every_moment() {
    a_canary_survives(Victim::DataPlane).await;
}

#[tokio::test]
async fn a_canary_survives_the_death_of_its_shims_at_every_moment() {
    a_canary_survives(Victim::Shim).await;
}

#[tokio::test]
async fn a_canary_survives_the_death_of_its_pods_at_every_moment() {
    a_canary_survives(Victim::Pod).await;
}

#[tokio::test]
async fn a_blue_green_release_survives_the_death_of_the_control_plane_at_every_moment() {
    a_blue_green_release_survives(Victim::ControlPlane).await;
}

#[tokio::test]
async fn a_blue_green_release_survives_the_death_of_the_data_plane_at_every_moment() {
    a_blue_green_release_survives(Victim::DataPlane).await;
}

#[tokio::test]
async fn a_blue_green_release_survives_the_death_of_its_shims_and_pods_at_every_moment() {
    a_blue_green_release_survives(Victim::Shim).await;
    a_blue_green_release_survives(Victim::Pod).await;
}
