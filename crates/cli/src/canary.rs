//! Canaries as commands judge and follow them.

use std::time::Duration;

use crossfade_api::flagger::{CanaryPhase, TargetKind, hash};
use crossfade_api::{Canary, Resource as _};
use crossfade_host::client::{Client, Wanted};
use crossfade_host::store::Kind;
use serde_json::{Value, json};

use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit;
use crate::feed::{Feed, Scope};
use crate::follow::in_namespace;
use crate::goal::Goal;
use crate::output::{document, object_name};
use crate::read;
use crate::terminal;

/// Where a Canary stands, in one line.
pub(crate) fn line(canary: &Canary) -> String {
    let status = &canary.status;
    let phase = match status.phase {
        CanaryPhase::Unset => "Unknown",
        phase => phase.as_str(),
    };
    if canary.spec.suspend {
        return format!("{phase} - suspended");
    }
    let mut parts = Vec::new();
    if status.phase == CanaryPhase::Progressing || status.canary_weight > 0 {
        parts.push(format!("weight {}", status.canary_weight));
    }
    if status.iterations > 0 {
        parts.push(format!("iteration {}", status.iterations));
    }
    if status.failed_checks > 0 {
        parts.push(format!("failed checks {}", status.failed_checks));
    }
    let told = status.conditions.first().map_or("", |one| &one.message);
    if parts.is_empty() && !told.is_empty() {
        parts.push(told.to_owned());
    }
    if parts.is_empty() {
        phase.to_owned()
    } else {
        format!("{phase} - {}", parts.join(", "))
    }
}

/// Whether a release is under way that can be taken back.
pub(crate) fn may_go_back(canary: &Canary) -> bool {
    matches!(
        canary.status.phase,
        CanaryPhase::Progressing | CanaryPhase::Waiting | CanaryPhase::WaitingPromotion
    )
}

/// Takes the release back that it names by `status.lastAppliedSpec`.
const ABORT: &str = "crossfade.dev/abort";

/// Whether somebody has asked for the way back of the present release.
pub(crate) fn is_asked_back(canary: &Canary) -> bool {
    let annotations = canary.metadata.annotations.as_ref();
    annotations.and_then(|all| all.get(ABORT)) == Some(&canary.status.last_applied_spec)
}

/// The JSON patch that asks for the way back, of the present release and of no later one.
pub(crate) fn ask_back(canary: &Canary) -> Value {
    let release = &canary.status.last_applied_spec;
    if canary.metadata.annotations.is_some() {
        let path = format!("/metadata/annotations/{}", ABORT.replace('/', "~1"));
        json!([{"op": "add", "path": path, "value": release}])
    } else {
        json!([{"op": "add", "path": "/metadata/annotations", "value": {ABORT: release}}])
    }
}

/// Prints where a Canary stands.
pub(crate) fn print(context: &Context, canary: &Canary) -> Result<()> {
    let output = &context.global.output;
    if output.is_for_people() {
        return terminal::line(&line(canary));
    }
    let status = &canary.status;
    let message = status.conditions.first().map_or("", |one| &one.message);
    let body = json!({
        "name": canary.name(),
        "namespace": context.namespace(),
        "phase": status.phase.as_str(),
        "message": message,
    });
    output.print(
        &document("CanaryStatus", &body)?,
        &[object_name(Kind::Canary, canary.name())],
    )
}

/// What is waited for.
pub(crate) struct Journey<'j> {
    pub(crate) name: &'j str,
    pub(crate) goal: Goal,
    /// How long; without an end when none.
    pub(crate) timeout: Option<Duration>,
    /// What only a person ends does not end the waiting.
    pub(crate) through_pauses: bool,
}

impl Journey<'_> {
    /// Follows a Canary and prints each new state, and in the end what programs want to know.
    pub(crate) async fn follow(&self, context: &Context, client: &Client) -> Result<()> {
        let (name, goal) = (self.name, &self.goal);
        if matches!(goal, Goal::Step(_) | Goal::Revision(_)) {
            return Err(CliError::usage(
                "a canary has neither steps nor revisions: wait for healthy, paused or weight=N",
            ));
        }
        let work = self.watch(context, client);
        let canary = within(context, name, self.timeout, goal, work).await?;
        if context.global.output.is_for_people() {
            return Ok(());
        }
        print(context, &canary)
    }

    async fn watch(&self, context: &Context, client: &Client) -> Result<Canary> {
        let one = Wanted {
            fields: format!("metadata.name={}", self.name),
            ..Wanted::default()
        };
        let scope = Scope {
            namespace: Some(context.namespace().to_owned()),
            kinds: vec![(Kind::Canary, one), (Kind::Deployment, Wanted::default())],
        };
        let mut feed = Feed::open(client, scope).await?;
        let mut last = String::new();
        loop {
            let Some(object) = feed.objects(Kind::Canary).next() else {
                return Err(read::not_found(context, Kind::Canary, self.name));
            };
            let canary = Canary::from_json(object.clone()).0;
            let is_new = feed
                .objects(Kind::Deployment)
                .any(|target| is_unseen(&canary, target));
            let line = if is_new {
                "waiting for the new version to be looked at".to_owned()
            } else {
                line(&canary)
            };
            if last != line && context.global.output.is_for_people() {
                terminal::line(&line)?;
            }
            last = line;
            if !is_new && self.is_over(context, &canary)? {
                return Ok(canary);
            }
            feed.next().await?;
        }
    }

    fn is_over(&self, context: &Context, canary: &Canary) -> Result<bool> {
        let (name, status) = (self.name, &canary.status);
        let done = matches!(
            status.phase,
            CanaryPhase::Initialized | CanaryPhase::Succeeded
        );
        let waits = canary.spec.suspend
            || matches!(
                status.phase,
                CanaryPhase::Waiting | CanaryPhase::WaitingPromotion
            );
        let reached = match self.goal {
            Goal::Paused => waits,
            Goal::Weight(weight) => done || status.canary_weight >= weight,
            _ => done,
        };
        if reached {
            return Ok(true);
        }
        if status.phase == CanaryPhase::Failed {
            return Err(failed(context, canary));
        }
        if waits && !self.through_pauses {
            let text = format!("canary '{name}' waits for a person: {}", line(canary));
            return Err(CliError::new(exit::WAITING, text));
        }
        if done {
            return Err(CliError::failure(format!(
                "canary '{name}' ended {} and did not wait {}",
                status.phase, self.goal
            )));
        }
        Ok(false)
    }
}

/// Ends some waiting for a Canary when its time is over; without one it never does. `what` is waited for: "to be healthy".
pub(crate) async fn within(
    context: &Context,
    name: &str,
    timeout: Option<Duration>,
    what: impl std::fmt::Display,
    work: impl Future<Output = Result<Canary>>,
) -> Result<Canary> {
    let Some(after) = timeout else {
        return work.await;
    };
    tokio::time::timeout(after, work).await.unwrap_or_else(|_| {
        let text = format!("canary '{name}' took longer than {after:?} {what}");
        let hint = format!("crossfade explain canary/{name}{}", in_namespace(context));
        Err(CliError::new(exit::TIMED_OUT, text).hint(hint))
    })
}

/// A release that was taken back, with what the Canary says about it.
pub(crate) fn failed(context: &Context, canary: &Canary) -> CliError {
    let conditions = &canary.status.conditions;
    let told = conditions.first().map_or("", |one| &one.message);
    let text = format!("The canary has failed with message: {told}");
    let (name, namespace) = (canary.name(), in_namespace(context));
    CliError::new(exit::DEGRADED, text).hint(format!("crossfade events canary/{name}{namespace}"))
}

/// Whether this is the Canary's target with a version that the Canary has not looked at yet.
pub(crate) fn is_unseen(canary: &Canary, target: &Value) -> bool {
    let (spec, status) = (&canary.spec, &canary.status);
    let is_target = spec.target_kind() == Some(TargetKind::Deployment)
        && target["metadata"]["name"] == spec.target_ref.name.as_str();
    let known = [&status.last_applied_spec, &status.last_promoted_spec];
    let is_ours = known.iter().all(|hash| !hash::is_foreign(hash));
    let is_done = matches!(
        status.phase,
        CanaryPhase::Initialized | CanaryPhase::Succeeded | CanaryPhase::Failed
    );
    let revision = hash::revision(&target["spec"]["template"]);
    is_target && is_ours && is_done && !known.contains(&&revision)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canary(status: &Value) -> Canary {
        let spec = json!({"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, "analysis": {}});
        Canary::from_json(json!({"metadata": {"name": "web"}, "spec": spec, "status": status})).0
    }

    #[test]
    fn a_line_says_where_a_canary_stands() {
        for (status, text) in [
            (json!({}), "Unknown"),
            (
                json!({"phase": "Progressing", "canaryWeight": 20, "failedChecks": 1}),
                "Progressing - weight 20, failed checks 1",
            ),
            (
                json!({"phase": "Waiting", "conditions": [{"type": "Promoted", "status": "Unknown", "reason": "Waiting", "message": "Waiting for approval."}]}),
                "Waiting - Waiting for approval.",
            ),
        ] {
            assert_eq!(line(&canary(&status)), text);
        }
    }

    #[test]
    fn a_success_does_not_count_for_a_version_that_nobody_has_looked_at() {
        let template = json!({"spec": {"containers": []}});
        let known = hash::revision(&template);
        let canary = canary(&json!({"phase": "Succeeded", "lastAppliedSpec": known}));
        let target =
            |template: &Value| json!({"metadata": {"name": "web"}, "spec": {"template": template}});
        assert!(!is_unseen(&canary, &target(&template)));
        assert!(is_unseen(&canary, &target(&json!({"spec": {}}))));
    }
}
