//! Who leads: of all controllers that look after the same objects, the one that holds the Lease.
//!
//! The leader renews the Lease long before it ends; the others take it over when nobody has renewed it for as long as it lasts, by their own clocks, so that
//! no two clocks are compared. A leader that could not renew stops writing before anybody else may lead, and ends: whoever starts it again makes a standby
//! of it. A write that is already under way then is refused by the version it carries.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossfade_engine::action::Target;
use crossfade_engine::views;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::kind::Kind;
use crate::requests::{Refusal, Requests};

/// How controllers agree on who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Election {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Who this is; no two controllers have the same name.
    pub identity: String,
    /// How long a Lease lasts that nobody renews; whole seconds.
    pub lasts: Duration,
    /// How often it is renewed, and looked at by the others.
    pub every: Duration,
}

impl Election {
    /// The usual times of controllers: a Lease of 15 s, looked at every 2 s.
    pub fn new(namespace: &str, name: &str, identity: String) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            identity,
            lasts: Duration::from_secs(15),
            every: Duration::from_secs(2),
        }
    }

    /// The leader stops to write this long after it asked for its last renewal: before the Lease can end for anybody else.
    fn sure_for(&self) -> Duration {
        self.lasts.saturating_sub(self.lasts / 5)
    }
}

/// Until when this controller may write.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leadership(Arc<Mutex<Until>>);

#[derive(Debug, Default)]
enum Until {
    /// Nobody competes.
    Always,
    #[default]
    Never,
    Time(Instant),
}

impl Leadership {
    /// For a controller that is alone.
    pub(crate) fn undisputed() -> Self {
        Self(Arc::new(Mutex::new(Until::Always)))
    }

    /// True while nobody else can lead.
    pub(crate) fn holds(&self) -> bool {
        match *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Until::Always => true,
            Until::Never => false,
            Until::Time(end) => Instant::now() < end,
        }
    }

    fn set(&self, until: Until) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }
}

/// What was seen of a Lease that somebody else holds.
struct Watched {
    version: String,
    since: Instant,
}

/// Takes part in an election.
pub(crate) struct Candidate {
    election: Election,
    requests: Requests,
    leadership: Leadership,
}

impl Candidate {
    pub(crate) fn new(election: Election, requests: Requests, leadership: Leadership) -> Self {
        Self {
            election,
            requests,
            leadership,
        }
    }

    /// Returns once this controller leads.
    pub(crate) async fn acquire(&self) {
        let mut watched: Option<Watched> = None;
        loop {
            match self.attempt(&mut watched).await {
                Ok(true) => {
                    tracing::info!(identity = self.election.identity, "leads");
                    return;
                }
                Ok(false) => {}
                Err(refusal) => tracing::warn!("the Lease cannot be had: {refusal}"),
            }
            tokio::time::sleep(self.election.every).await;
        }
    }

    /// Renews the Lease for as long as that goes well; says why it does not any more.
    pub(crate) async fn keep(&self) -> String {
        loop {
            tokio::time::sleep(self.election.every).await;
            let renewal = tokio::time::timeout(self.election.lasts, self.renew()).await;
            match renewal {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => {
                    self.leadership.set(Until::Never);
                    return "somebody else leads".to_owned();
                }
                Ok(Err(refusal)) => tracing::warn!("the Lease was not renewed: {refusal}"),
                Err(_) => tracing::warn!("the Lease was not renewed in time"),
            }
            if !self.leadership.holds() {
                return "the Lease could not be renewed in time".to_owned();
            }
        }
    }

    /// Lets somebody else lead at once.
    pub(crate) async fn release(&self) {
        self.leadership.set(Until::Never);
        let lease = self.read().await;
        if let Ok(Some(lease)) = lease
            && self.is_mine(&lease)
        {
            let spec = json!({"spec": {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": now()}});
            let target = views::target(&lease);
            if let Err(refusal) = self.requests.merge(&Kind::Lease, &target, spec).await {
                tracing::warn!("the Lease was not given back: {refusal}");
            }
        }
    }

    async fn read(&self) -> Result<Option<Value>, Refusal> {
        let Election {
            namespace, name, ..
        } = &self.election;
        self.requests.get(&Kind::Lease, namespace, name).await
    }

    fn is_mine(&self, lease: &Value) -> bool {
        views::text(lease, "/spec/holderIdentity") == self.election.identity
    }

    /// Takes the Lease if nobody has it. True if this controller has it now.
    async fn attempt(&self, watched: &mut Option<Watched>) -> Result<bool, Refusal> {
        let asked = Instant::now();
        let Some(lease) = self.read().await? else {
            let Election {
                namespace, name, ..
            } = &self.election;
            let lease = json!({
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"namespace": namespace, "name": name},
                "spec": self.spec(0, true),
            });
            return match self.requests.create(&Kind::Lease, namespace, lease).await {
                Ok(_) => Ok(self.leads(asked)),
                Err(Refusal::Exists(_)) => Ok(false),
                Err(refusal) => Err(refusal),
            };
        };
        let target = views::target(&lease);
        let holder = views::text(&lease, "/spec/holderIdentity");
        if !holder.is_empty() && !self.is_mine(&lease) {
            // It lasts from when its last change was seen here: clocks of others mean nothing.
            let lasts = u64::try_from(views::number(&lease, "/spec/leaseDurationSeconds"));
            let lasts = Duration::from_secs(lasts.unwrap_or(0)).max(self.election.every);
            let seen = watched.get_or_insert_with(|| Watched {
                version: target.resource_version.clone(),
                since: asked,
            });
            if seen.version != target.resource_version {
                *seen = Watched {
                    version: target.resource_version,
                    since: asked,
                };
                return Ok(false);
            }
            if asked.saturating_duration_since(seen.since) < lasts {
                return Ok(false);
            }
            tracing::info!(former = holder, "the Lease has ended");
        }
        let transitions = views::number(&lease, "/spec/leaseTransitions") + 1;
        self.take(&target, transitions, asked).await
    }

    async fn take(
        &self,
        target: &Target,
        transitions: i32,
        asked: Instant,
    ) -> Result<bool, Refusal> {
        let patch = json!({"spec": self.spec(transitions, true)});
        match self.requests.merge(&Kind::Lease, target, patch).await {
            Ok(_) => Ok(self.leads(asked)),
            // Somebody else was first.
            Err(Refusal::Conflict(_)) => Ok(false),
            Err(refusal) => Err(refusal),
        }
    }

    /// Renews the Lease. False if somebody else has it.
    async fn renew(&self) -> Result<bool, Refusal> {
        let asked = Instant::now();
        let Some(lease) = self.read().await? else {
            return Ok(false);
        };
        if !self.is_mine(&lease) {
            return Ok(false);
        }
        let transitions = views::number(&lease, "/spec/leaseTransitions");
        let patch = json!({"spec": self.spec(transitions, false)});
        let target = views::target(&lease);
        match self.requests.merge(&Kind::Lease, &target, patch).await {
            Ok(_) => Ok(self.leads(asked)),
            Err(refusal) => Err(refusal),
        }
    }

    /// The Lease was had by what was asked for at this time.
    fn leads(&self, asked: Instant) -> bool {
        self.leadership
            .set(Until::Time(asked + self.election.sure_for()));
        true
    }

    fn spec(&self, transitions: i32, acquired: bool) -> Value {
        let mut spec = json!({
            "holderIdentity": self.election.identity,
            "leaseDurationSeconds": self.election.lasts.as_secs().max(1),
            "renewTime": now(),
            "leaseTransitions": transitions,
        });
        if acquired {
            spec["acquireTime"] = json!(now());
        }
        spec
    }
}

/// A time with microseconds, as Leases have it.
fn now() -> String {
    Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
        .to_string()
}
