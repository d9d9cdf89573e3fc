//! The task that lives the life of one pod: binds it, writes its status at every stage, and ends it.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Binding, ObjectReference, Pod, PodStatus};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions};
use tokio::process::Child;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::behaviour::Behaviour;
use super::life::{Next, Stage, next};
use super::{NODES, Pace, command, ending, status};

/// The pod is gone or nobody's any more: its life is over.
struct Gone;

/// Lives the life of a pod until it is gone.
pub(super) async fn live(api: Api<Pod>, seen: watch::Receiver<Arc<Pod>>, pace: Pace) {
    let life = Life {
        api,
        seen,
        pace,
        stage: Stage::Creating,
        since: Instant::now(),
        since_time: now(),
        running_since: Instant::now(),
        written: None,
    };
    // Either way there is nothing more to do.
    let _ = life.run().await;
}

struct Life {
    api: Api<Pod>,
    seen: watch::Receiver<Arc<Pod>>,
    pace: Pace,
    stage: Stage,
    /// When the stage began, for durations and as it is written.
    since: Instant,
    since_time: Timestamp,
    /// When the containers started last.
    running_since: Instant,
    /// The status that was written last.
    written: Option<PodStatus>,
}

impl Life {
    async fn run(mut self) -> Result<(), Gone> {
        if is_over(&self.pod()) {
            return self.rest().await;
        }
        self.bind().await?;
        self.since = Instant::now();
        if command::is_real(&self.pod()) {
            self.run_for_real().await
        } else {
            self.simulate().await
        }
    }

    fn pod(&mut self) -> Arc<Pod> {
        self.seen.borrow_and_update().clone()
    }

    fn behaviour(&mut self) -> Behaviour {
        Behaviour::of(&self.pod(), self.pace)
    }

    fn enter(&mut self, stage: Stage) {
        let runs = |stage: &Stage| matches!(stage, Stage::Started { .. } | Stage::Ready { .. });
        self.since = Instant::now();
        self.since_time = now();
        if runs(&stage) && !runs(&self.stage) {
            self.running_since = self.since;
        }
        self.stage = stage;
    }

    /// Waits until something about the pod changes, or for a while.
    async fn pause(&mut self, time: Option<Duration>) -> Result<(), Gone> {
        let Some(time) = time else {
            return self.seen.changed().await.map_err(|_| Gone);
        };
        tokio::select! {
            changed = self.seen.changed() => changed.map_err(|_| Gone),
            () = sleep(time) => Ok(()),
        }
    }

    /// Finds the pod a node.
    async fn bind(&mut self) -> Result<(), Gone> {
        loop {
            let pod = self.pod();
            if pod
                .spec
                .as_ref()
                .is_some_and(|spec| spec.node_name.is_some())
            {
                return Ok(());
            }
            if !self.behaviour().schedulable {
                let refusal = status::unschedulable(&pod, &self.old(&pod), now());
                self.write(refusal).await?;
                self.pause(None).await?;
                continue;
            }
            let uid = pod.uid().unwrap_or_default();
            let sum: usize = uid.bytes().map(usize::from).sum();
            let node = meant_for(&pod).or_else(|| NODES.get(sum % NODES.len()).copied());
            let name = pod.name_any();
            let binding = Binding {
                metadata: ObjectMeta {
                    name: Some(name.clone()),
                    uid: Some(uid),
                    ..ObjectMeta::default()
                },
                target: ObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Node".to_owned()),
                    name: node.map(str::to_owned),
                    ..ObjectReference::default()
                },
            };
            let parameters = PostParams::default();
            let bound: kube::Result<k8s_openapi::apimachinery::pkg::apis::meta::v1::Status> = self
                .api
                .create_subresource("binding", &name, &parameters, &binding)
                .await;
            match bound {
                Ok(_) => return Ok(()),
                // Bound already, or another pod has its name by now: the next version of it tells.
                Err(kube::Error::Api(refusal)) if refusal.code == 409 => self.pause(None).await?,
                Err(why) => bear(&why).await?,
            }
        }
    }

    async fn simulate(mut self) -> Result<(), Gone> {
        loop {
            let pod = self.pod();
            if pod.metadata.deletion_timestamp.is_some() {
                return self.end(&pod, &mut []).await;
            }
            let behaviour = Behaviour::of(&pod, self.pace);
            let (in_stage, running) = (self.since.elapsed(), self.running_since.elapsed());
            let time = match next(&self.stage, &behaviour, in_stage, running) {
                Next::Now(stage) => {
                    self.enter(stage);
                    // Stages that follow at once need no status of their own; one that ends a container does.
                    if !matches!(self.stage, Stage::Crashed { .. }) {
                        continue;
                    }
                    Some(Duration::ZERO)
                }
                Next::In(time) => Some(time),
                Next::Nothing => None,
            };
            self.tell(&pod).await?;
            self.pause(time).await?;
        }
    }

    /// Runs the containers as commands, again after a failure where the pod wants that.
    async fn run_for_real(mut self) -> Result<(), Gone> {
        let mut restarts = 0;
        loop {
            let pod = self.pod();
            let behaviour = self.behaviour();
            self.pause_or_end(behaviour.starts_after).await?;
            let mut children = match command::start(&pod) {
                Ok(children) => children,
                Err(reason) => {
                    self.enter(Stage::Faulty { reason });
                    self.tell(&pod).await?;
                    return self.rest().await;
                }
            };
            self.enter(Stage::Ready { restarts });
            self.tell(&pod).await?;
            let codes = self.wait_for(&mut children).await?;
            let policy = pod
                .spec
                .as_ref()
                .and_then(|spec| spec.restart_policy.as_deref());
            if policy == Some("Never") || codes.iter().all(|code| *code == 0) {
                self.enter(Stage::Ended { codes, restarts });
                let pod = self.pod();
                self.tell(&pod).await?;
                return self.rest().await;
            }
            self.enter(Stage::Crashed { restarts });
            self.tell(&pod).await?;
            self.pause_or_end(behaviour.restarts_after).await?;
            restarts += 1;
        }
    }

    /// Waits for that long, unless the pod is deleted first: then it ends.
    async fn pause_or_end(&mut self, time: Duration) -> Result<(), Gone> {
        let until = Instant::now() + time;
        loop {
            let pod = self.pod();
            if pod.metadata.deletion_timestamp.is_some() {
                self.end(&pod, &mut []).await?;
                return Err(Gone);
            }
            let rest = until.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return Ok(());
            }
            self.pause(Some(rest)).await?;
        }
    }

    /// Waits for the commands to end, or ends them when the pod is deleted.
    async fn wait_for(&mut self, children: &mut [Child]) -> Result<Vec<i32>, Gone> {
        loop {
            tokio::select! {
                codes = command::wait(children) => return Ok(codes),
                changed = self.seen.changed() => changed.map_err(|_| Gone)?,
            }
            let pod = self.pod();
            if pod.metadata.deletion_timestamp.is_some() {
                self.end(&pod, children).await?;
                return Err(Gone);
            }
        }
    }

    /// Nothing more happens to the pod until it is deleted.
    async fn rest(mut self) -> Result<(), Gone> {
        loop {
            let pod = self.pod();
            if pod.metadata.deletion_timestamp.is_some() {
                return self.end(&pod, &mut []).await;
            }
            self.pause(None).await?;
        }
    }

    /// Ends the pod with the commands that it runs: gracefully if it runs, at once if it does not.
    async fn end(&mut self, pod: &Pod, children: &mut [Child]) -> Result<(), Gone> {
        let runs = matches!(self.stage, Stage::Started { .. } | Stage::Ready { .. });
        if runs {
            let behaviour = self.behaviour();
            let code = ending::end(pod, &behaviour).await;
            for child in children {
                // One that has ended by itself has ended as well.
                let _ = child.kill().await;
            }
            let containers = pod.spec.as_ref().map_or(0, |spec| spec.containers.len());
            let (Stage::Started { restarts } | Stage::Ready { restarts }) = self.stage else {
                return Err(Gone);
            };
            self.enter(Stage::Ended {
                codes: vec![code; containers],
                restarts,
            });
            let pod = self.pod();
            self.tell(&pod).await?;
        }
        let parameters = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions {
                uid: pod.uid(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        loop {
            match self.api.delete(&pod.name_any(), &parameters).await {
                Ok(_) => return Ok(()),
                Err(why) => bear(&why).await?,
            }
        }
    }

    /// Writes the status of the present stage.
    async fn tell(&mut self, pod: &Pod) -> Result<(), Gone> {
        let old = self.old(pod);
        let told = status::status(pod, &old, &self.stage, self.since_time, now());
        self.write(told).await
    }

    /// The status as it stands: what was written last, as a version of the pod may be older than that.
    fn old(&self, pod: &Pod) -> PodStatus {
        let written = self.written.clone().or_else(|| pod.status.clone());
        written.unwrap_or_default()
    }

    /// Writes a status, if it says anything new.
    async fn write(&mut self, status: PodStatus) -> Result<(), Gone> {
        if self.written.as_ref() == Some(&status) {
            return Ok(());
        }
        let pod = self.seen.borrow().clone();
        // The uid makes it this pod and no other of its name.
        let change = serde_json::json!({
            "metadata": {"uid": pod.uid()},
            "status": &status,
        });
        loop {
            let parameters = PatchParams::default();
            let patch = Patch::Strategic(&change);
            match self
                .api
                .patch_status(&pod.name_any(), &parameters, &patch)
                .await
            {
                Ok(_) => break,
                Err(why) => bear(&why).await?,
            }
        }
        self.written = Some(status);
        Ok(())
    }
}

/// The node that a pod of a DaemonSet is meant for.
fn meant_for(pod: &Pod) -> Option<&str> {
    let affinity = pod
        .spec
        .as_ref()?
        .affinity
        .as_ref()?
        .node_affinity
        .as_ref()?;
    let required = affinity
        .required_during_scheduling_ignored_during_execution
        .as_ref()?;
    let fields = required
        .node_selector_terms
        .first()?
        .match_fields
        .as_ref()?;
    let name = fields.iter().find(|field| field.key == "metadata.name")?;
    name.values.as_ref()?.first().map(String::as_str)
}

/// The time, as a status can hold it: in whole seconds.
fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// True for a pod whose containers have ended for good, as a kubelet finds it that starts anew.
fn is_over(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Waits a little after a failure that may pass; one that says that the pod is gone, or another one by now, ends its life.
async fn bear(why: &kube::Error) -> Result<(), Gone> {
    if let kube::Error::Api(refusal) = why
        && matches!(refusal.code, 404 | 409 | 422)
    {
        return Err(Gone);
    }
    sleep(Duration::from_millis(200)).await;
    Ok(())
}
