//! How long it takes from a bad answer of the metric server until no traffic goes to the bad version any more.

use std::time::Duration;

use crate::answers::Answers;
use crate::fleet::{Fleet, Shape};
use crate::history::History;
use crate::manifests::{self, Kind};
use crate::{Outcome, Seen};

/// Where the router keeps the canary's share.
const WEIGHT: &str = "nginx.ingress.kubernetes.io/canary-weight";
/// How long anything may take that is not measured.
const PATIENCE: Duration = Duration::from_mins(3);

/// Routed Rollouts whose releases are made bad.
pub struct Probes<'f> {
    fleet: &'f Fleet,
    answers: &'f Answers,
    names: Vec<String>,
    ingresses: History,
    version: u32,
}

/// From the bad answer on its way to the weight seen at 0.
pub type Reaction = Duration;

impl<'f> Probes<'f> {
    /// Makes so many, and waits until they are healthy.
    ///
    /// # Errors
    /// The cluster refuses, or they do not become healthy.
    pub async fn new(fleet: &'f Fleet, answers: &'f Answers, count: usize) -> Outcome<Self> {
        let ingresses = fleet.history(("networking.k8s.io", "v1", "Ingress"));
        let shape = Shape {
            prefix: "probe",
            rollouts: count,
            kind: Kind::Judged,
            replicas: 2,
        };
        fleet.create_all(shape).await?;
        let names = shape.names();
        fleet.until_released(&names, 1).await?;
        Ok(Self {
            fleet,
            answers,
            names,
            ingresses,
            version: 1,
        })
    }

    /// Begins a release of each and waits until it is half out and judged good.
    ///
    /// # Errors
    /// That does not come about.
    pub async fn begin(&mut self) -> Outcome<()> {
        self.version += 1;
        for name in &self.names {
            self.answers.set_bad(&manifests::path(name), false);
        }
        self.fleet.update_all(&self.names, self.version).await?;
        let image = manifests::image(self.version);
        let judged = |seen: &Seen| {
            seen.is_observed()
                && seen.image() == image
                && seen.status["currentStepIndex"] == 1
                && seen.status["canary"]["currentStepAnalysisRunStatus"]["status"] == "Running"
        };
        let board = self.fleet.board();
        board
            .until_all(&self.names, "canaries that are judged", PATIENCE, judged)
            .await?;
        for name in &self.names {
            let path = manifests::path(name);
            let times = self.answers.times(&path);
            let asked = self.answers.asked_more_than(&path, times);
            tokio::time::timeout(PATIENCE, asked).await?;
        }
        Ok(())
    }

    /// Makes one after the other bad, `every` so often, and measures each; ends early when `over` says so.
    ///
    /// # Errors
    /// The weight does not go back to 0.
    pub async fn measure(
        &self,
        every: Duration,
        over: impl Fn() -> bool,
    ) -> Outcome<Vec<Reaction>> {
        let mut reactions = Vec::new();
        for name in &self.names {
            if over() {
                break;
            }
            let from = self.ingresses.len();
            let path = manifests::path(name);
            self.answers.set_bad(&path, true);
            let asked = tokio::time::timeout(PATIENCE, self.answers.first_bad(&path)).await?;
            let canary = format!("{name}-{name}-canary");
            let back = self
                .ingresses
                .first(from, "a weight of 0", PATIENCE, |ingress| {
                    let weight = ingress.metadata.annotations.as_ref();
                    ingress.metadata.name.as_ref() == Some(&canary)
                        && weight
                            .and_then(|notes| notes.get(WEIGHT))
                            .is_some_and(|weight| weight == "0")
                });
            let back = back.await?;
            reactions.push(back.saturating_duration_since(asked));
            tokio::time::sleep(every).await;
        }
        Ok(reactions)
    }
}
