//! Follows one release until it reaches a state: `status`, `wait`, and `--wait` of every action.

use std::time::Duration;

use crossfade_api::{Resource, Rollout};
use crossfade_host::client::{Client, Wanted};
use crossfade_host::store::Kind;
use k8s_openapi::api::apps::v1::ReplicaSet;
use tokio::time::Instant;

use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit;
use crate::feed::{Feed, Scope};
use crate::goal::{Goal, Verdict};
use crate::read;
use crate::target;
use crate::view::phase::Standing;
use crate::view::replica_set;

/// What is followed, and until when.
#[derive(Clone, Debug)]
pub(crate) struct Journey {
    /// Name of the Rollout.
    pub(crate) name: String,
    /// The state that is waited for.
    pub(crate) goal: Goal,
    /// How long; without an end when none.
    pub(crate) timeout: Option<Duration>,
    /// A pause that only a person ends does not end the waiting.
    pub(crate) through_pauses: bool,
    /// Nothing counts before the Rollout works on this revision.
    pub(crate) revision: Option<u64>,
    /// Nothing counts before the Rollout works on this image.
    pub(crate) image: Option<String>,
    /// What to say when the time is up; a sentence about the goal when none.
    pub(crate) timeout_text: Option<&'static str>,
}

impl Journey {
    /// Waits for a goal without an end.
    pub(crate) fn to(name: &str, goal: Goal) -> Self {
        Self {
            name: name.to_owned(),
            goal,
            timeout: None,
            through_pauses: false,
            revision: None,
            image: None,
            timeout_text: None,
        }
    }

    /// Follows the release and says each new state through `say`. Gives the Rollout as it is in the end.
    pub(crate) async fn follow(
        &self,
        context: &Context,
        client: &Client,
        say: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<Rollout> {
        let deadline = self.timeout.map(|timeout| Instant::now() + timeout);
        let mut last = None;
        let work = self.watch(context, client, &mut last, say);
        let Some(deadline) = deadline else {
            return work.await;
        };
        let ended = tokio::time::timeout_at(deadline, work).await;
        ended.unwrap_or_else(|_| Err(self.too_late(context, last.as_deref())))
    }

    fn too_late(&self, context: &Context, last: Option<&str>) -> CliError {
        let message = if let Some(text) = self.timeout_text {
            text.to_owned()
        } else {
            let after = self.timeout.unwrap_or_default();
            let standing = last.map_or_else(String::new, |last| format!(": {last}"));
            format!(
                "rollout '{}' took longer than {after:?} {}{standing}",
                self.name, self.goal
            )
        };
        CliError::new(exit::TIMED_OUT, message).hint(format!(
            "crossfade explain {}{}",
            self.name,
            in_namespace(context)
        ))
    }

    async fn watch(
        &self,
        context: &Context,
        client: &Client,
        last: &mut Option<String>,
        say: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<Rollout> {
        let namespace = context.namespace();
        let one = Wanted {
            fields: format!("metadata.name={}", self.name),
            ..Wanted::default()
        };
        let scope = Scope {
            namespace: Some(namespace.to_owned()),
            kinds: vec![(Kind::Rollout, one), (Kind::ReplicaSet, Wanted::default())],
        };
        let mut feed = Feed::open(client, scope).await?;
        let mut seen = false;
        loop {
            let Some(object) = feed.objects(Kind::Rollout).next() else {
                let gone = if seen {
                    CliError::new(
                        exit::NOT_FOUND,
                        format!("rollout '{}' was deleted", self.name),
                    )
                } else {
                    let error = read::not_found(context, Kind::Rollout, &self.name);
                    target::with_nearest(error, client, Kind::Rollout, namespace, &self.name).await
                };
                return Err(gone);
            };
            seen = true;
            let (rollout, _) = Rollout::from_json(object.clone());
            let sets: Vec<ReplicaSet> = read::objects(feed.objects(Kind::ReplicaSet))?;
            if let Some(line) = self.not_yet_judged(&rollout, &sets) {
                if last.as_deref() != Some(&line) {
                    say(&line)?;
                    *last = Some(line);
                }
            } else {
                let line = Standing::of(&rollout).line();
                if last.as_deref() != Some(&line) {
                    say(&line)?;
                    *last = Some(line);
                }
                if self.ends(context, &rollout, &sets)? {
                    return Ok(rollout);
                }
            }
            feed.next().await?;
        }
    }

    /// What has to come before the state counts, if anything.
    fn not_yet_judged(&self, rollout: &Rollout, sets: &[ReplicaSet]) -> Option<String> {
        if let Some(revision) = self.revision
            && replica_set::revision(&rollout.metadata) != revision
        {
            return Some(format!("waiting for revision {revision}"));
        }
        let image = self.image.as_ref()?;
        let uid = replica_set::uid(rollout);
        let current = rollout.status.current_pod_hash.as_str();
        let is_current = sets.iter().any(|set| {
            replica_set::is_owned_by(&set.metadata, uid)
                && replica_set::hash(set) == current
                && replica_set::images(set).contains(&image.as_str())
        });
        (!is_current).then(|| format!("waiting for image {image}"))
    }

    fn ends(&self, context: &Context, rollout: &Rollout, sets: &[ReplicaSet]) -> Result<bool> {
        match self.goal.judge(rollout, sets) {
            Verdict::Reached => Ok(true),
            Verdict::NotYet => Ok(false),
            Verdict::Degraded(message) => Err(degraded(context, &self.name, &message)),
            Verdict::WaitsForPerson(_) if self.through_pauses => Ok(false),
            Verdict::WaitsForPerson(message) => Err(CliError::new(
                exit::WAITING,
                format!("rollout '{}' waits for a person: {message}", self.name),
            )
            .hint(format!(
                "crossfade promote {}{}",
                self.name,
                in_namespace(context)
            ))),
            Verdict::Passed => Err(CliError::failure(format!(
                "rollout '{}' ended Healthy and did not wait {}",
                self.name, self.goal
            ))),
        }
    }
}

/// A release that was taken back, is stuck, or has an invalid spec.
pub(crate) fn degraded(context: &Context, name: &str, message: &str) -> CliError {
    CliError::new(
        exit::DEGRADED,
        format!("The rollout is in a degraded state with message: {message}"),
    )
    .hint(format!("crossfade explain {name}{}", in_namespace(context)))
}

/// The option that names the namespace, where it is not the usual one.
pub(crate) fn in_namespace(context: &Context) -> String {
    let named = context.global.namespace.as_ref();
    named.map_or_else(String::new, |namespace| format!(" -n {namespace}"))
}
