//! What the API server asks the control plane: where things are, what a pod wrote, why a release stands where it stands.

use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use crossfade_engine::decision;
use crossfade_engine::rollout::world::World;
use futures_util::StreamExt as _;
use http::{Request, Response};
use http_body_util::Full;
use jiff::{SignedDuration, Timestamp};

use super::explanation::{explain, explain_canary};
use super::subjects::{Context, Subject};
use super::{analysis_runs, canaries, experiments, rollouts, views};
use crate::server::{Backend, LogStream};
use crate::store::Kind;
use crate::supervisor::LogOptions;
use crate::telemetry::api::Api;
use crate::wire::{Explanation, Info, Listener, LogQuery, Reason, Status};

/// Answers for a running control plane.
pub(super) struct Answers {
    pub(super) context: Arc<Context>,
    pub(super) metrics: std::net::SocketAddr,
    pub(super) metrics_api: Api,
}

impl Backend for Answers {
    fn info(&self) -> Info {
        let listeners =
            self.context
                .data_plane
                .listeners()
                .into_iter()
                .map(|(service, namespace, address)| Listener {
                    service,
                    namespace,
                    address: address.to_string(),
                });
        Info {
            listeners: listeners.collect(),
            metrics: Some(self.metrics.to_string()),
            ..Info::default()
        }
    }

    fn ready(&self) -> Result<(), String> {
        Ok(())
    }

    async fn logs(
        &self,
        namespace: &str,
        pod: &str,
        wanted: LogQuery,
    ) -> Result<LogStream, Status> {
        let missing = || Status::failure(Reason::NotFound, format!("pods \"{pod}\" not found"));
        let object = self
            .context
            .objects
            .get(Kind::Pod, namespace, pod)
            .ok_or_else(missing)?;
        let since = wanted
            .since_seconds
            .and_then(|seconds| i64::try_from(seconds).ok());
        let options = LogOptions {
            follow: wanted.follow,
            tail: wanted
                .tail_lines
                .and_then(|lines| usize::try_from(lines).ok()),
            since: since.and_then(|seconds| {
                Timestamp::now()
                    .checked_sub(SignedDuration::from_secs(seconds))
                    .ok()
            }),
            previous: wanted.previous,
        };
        let uid = views::text(&object, "/metadata/uid").to_owned();
        let lines = self
            .context
            .supervisor
            .logs(&uid, wanted.container.as_deref(), options)
            .await;
        let lines = lines.map_err(|error| Status::failure(Reason::NotFound, error.to_string()))?;
        let bytes = lines.map(|line| {
            line.map(|line| {
                let end = if line.complete { "\n" } else { "" };
                Bytes::from(format!("{}{end}", line.text))
            })
        });
        Ok(Box::pin(bytes))
    }

    async fn explain(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
    ) -> Result<Explanation, Status> {
        let missing = || {
            Status::failure(
                Reason::NotFound,
                format!("{} \"{name}\" not found", kind.resource()),
            )
        };
        if kind == Kind::Canary {
            let world = canaries::observe(&self.context, namespace, name).ok_or_else(missing)?;
            let subject = Subject::Canary(namespace.to_owned(), name.to_owned());
            let ended = self.context.ended.lock();
            let ended = ended.unwrap_or_else(PoisonError::into_inner);
            let waits = ended.get(&subject).map(|ended| ended.waits.clone());
            let waits = waits.unwrap_or_default();
            return Ok(explain_canary(&world.canary, world.last_tick, waits));
        }
        let world = rollouts::observe(&self.context, namespace, name).ok_or_else(missing)?;
        let status = &world.rollout.status;
        let slots = [
            &status.canary.current_step_analysis_run_status,
            &status.canary.current_background_analysis_run_status,
            &status.blue_green.pre_promotion_analysis_run_status,
            &status.blue_green.post_promotion_analysis_run_status,
        ];
        let slots = slots.into_iter().flatten();
        let runs: Vec<_> = slots
            .filter(|slot| !slot.status.is_completed())
            .filter_map(|slot| analysis_runs::observe(&self.context, namespace, &slot.name))
            .collect();
        let current = &status.canary.current_experiment;
        let experiment = experiments::observe(&self.context, namespace, current);
        let more = troubles(&self.context, &world);
        let now = Timestamp::now();
        Ok(explain(&world, &runs, experiment.as_ref(), more, now))
    }

    async fn prometheus(&self, request: Request<Full<Bytes>>) -> Response<Full<Bytes>> {
        self.metrics_api.answer(request).await
    }
}

/// Pods that are shown with what ails them; all would hide the rest.
const PODS_SHOWN: usize = 3;

/// What keeps pods of a release from being ready, as far as it is more than a matter of time.
fn troubles(context: &Context, world: &World) -> Vec<decision::Wait> {
    let uid = world.rollout.metadata.uid.as_ref();
    let own = world
        .replica_sets
        .iter()
        .filter(|set| set.controller.as_ref() == uid);
    let pods = own.flat_map(|set| context.objects.controlled_by(Kind::Pod, &set.target.uid));
    let sick = pods
        .filter(|pod| !views::is_deleting(pod))
        .filter_map(|pod| {
            context
                .supervisor
                .status(views::text(&pod, "/metadata/uid"))
        })
        .filter(|pod| !pod.is_ready());
    sick.filter_map(|pod| {
        let warnings = || pod.events.iter().filter(|event| event.warning);
        // That it is tried again is no reason for anything.
        let mut causes = warnings().rev().filter(|event| event.reason != "BackOff");
        let cause = causes.next().or(warnings().next_back())?;
        let (name, state) = (&pod.identity.name, pod.word());
        let ended = pod
            .status
            .last_exit_code()
            .map_or_else(String::new, |code| format!(", last exit code {code}"));
        Some(decision::Wait {
            for_what: format!("pod {name} to be ready: {state}{ended}: {}", cause.message),
            since: warnings().map(|event| event.first_seen).min(),
            until: None,
            moved_by: &[],
        })
    })
    .take(PODS_SHOWN)
    .collect()
}
