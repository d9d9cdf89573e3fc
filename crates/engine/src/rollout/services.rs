//! Which version each Service of the strategy selects.
//!
//! A Service is pointed at a ReplicaSet by the hash in its selector, and nothing else of it is touched. It never moves to a version
//! without an available pod, and is taken over for the first time only when that version is complete; the few exceptions are called
//! unchecked, and are those of the specification.

use crossfade_api::Rollout;
use crossfade_api::rollout::{CanaryStrategy, PingPong};
use crossfade_api::rollout_status::PingPongRole;
use crossfade_api::words::PodHash;

use crate::action::{Action, Target};
use crate::decision::{Halt, Plan};
use crate::mutant::{Mutant, wrong};

use super::facts::{Facts, SetId};
use super::pause::Asks;
use super::routing;
use super::waits;
use super::world::Service;

/// Whether the pods of the version are asked for before a Service is pointed at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// It needs an available pod; all of them, when the Service is taken over for the first time.
    Pods,
    /// No.
    Nothing,
}

/// The Services of a canary: those that swap roles, then the stable one, then the canary's.
pub(super) fn canary(facts: &mut Facts<'_>, plan: &mut Plan<'_>, asks: &Asks) -> Result<(), Halt> {
    let Some(canary) = facts.canary() else {
        return Ok(());
    };
    if let Some(services) = &canary.ping_pong {
        let (stable, other) = roles(services, facts.status.canary.stable_ping_pong);
        if !facts.is_fully_promoted() {
            point(facts, plan, other, facts.new_id(), Check::Nothing)?;
        }
        point(facts, plan, stable, facts.stable_id(), Check::Pods)?;
    }
    if !wrong(Mutant::StableServiceForgotten) {
        point(
            facts,
            plan,
            &canary.stable_service,
            facts.stable_id(),
            Check::Pods,
        )?;
    }
    let aborted = asks.is_aborted(facts.status);
    if aborted && !facts.is_routed() {
        return point(
            facts,
            plan,
            &canary.canary_service,
            facts.stable_id(),
            Check::Pods,
        );
    }
    // While an abort moves traffic, the routing rules say when the canary's Service follows.
    if aborted || routing::is_going_back(facts) || routing::moves_service_itself(facts) {
        return Ok(());
    }
    point(
        facts,
        plan,
        &canary.canary_service,
        facts.new_id(),
        Check::Pods,
    )
}

/// The stable and the canary Service of a pair that swaps roles.
pub(super) fn roles(services: &PingPong, stable: PingPongRole) -> (&str, &str) {
    match stable {
        PingPongRole::Ping => (&services.ping_service, &services.pong_service),
        PingPongRole::Unset | PingPongRole::Pong => {
            (&services.pong_service, &services.ping_service)
        }
    }
}

/// The Services that carry the canary's and the stable version's share, as the status names them.
pub(super) fn sides<'w>(facts: &Facts<'w>, canary: &'w CanaryStrategy) -> (&'w str, &'w str) {
    match &canary.ping_pong {
        Some(services) => {
            let (stable, other) = roles(services, facts.status.canary.stable_ping_pong);
            (other, stable)
        }
        None => (&canary.canary_service, &canary.stable_service),
    }
}

/// Points a Service at a version.
pub(super) fn point<'w>(
    facts: &mut Facts<'w>,
    plan: &mut Plan<'_>,
    service: &'w str,
    version: Option<SetId>,
    check: Check,
) -> Result<(), Halt> {
    let Some(id) = version else {
        return Ok(());
    };
    let set = facts.set(id);
    let hash = set.hash();
    let Some(observed) = facts
        .world
        .services
        .get(service)
        .and_then(|found| found.found())
    else {
        return Ok(());
    };
    let selected = facts.selected(service).unwrap_or_default();
    if hash.is_empty() || selected == hash {
        return Ok(());
    }
    if check == Check::Pods && !wrong(Mutant::ServiceBeforePods) {
        let pods = set.pods();
        let all = pods.spec > 0 && pods.available > 0 && pods.available >= pods.spec;
        let taken_over = observed.managed_by.is_none()
            && !facts.switched.iter().any(|(name, _)| *name == service);
        if taken_over && !all {
            plan.waits.push(waits::pods_before_service(
                service,
                pods.available,
                pods.spec,
            ));
            return Ok(());
        }
        if pods.available < 1 {
            plan.waits
                .push(waits::pods_before_service(service, pods.available, 1));
            return Ok(());
        }
    }
    let hash = PodHash::from(hash);
    let message =
        format!("Switched selector for service '{service}' from '{selected}' to '{hash}'");
    let managed_by = observed
        .managed_by
        .is_none()
        .then(|| facts.name().to_owned());
    let action = Action::SwitchService {
        target: Target {
            // Only the hash is written, whatever else has changed.
            resource_version: String::new(),
            ..observed.target.clone()
        },
        hash: hash.clone(),
        managed_by,
    };
    match plan.act(action)? {
        Ok(_) => {
            plan.did("SwitchService", message);
            facts.switched.push((service, hash));
        }
        Err(failure) => plan.fail(format!(
            "could not switch service {service}: {}",
            failure.message
        )),
    }
    Ok(())
}

/// Lets go of a Service that no Rollout names any more: its selector loses the hash. `rollouts` are all of the namespace, as they were
/// read. Of one whose spec cannot be read nobody knows what it names: its Services are left alone.
pub fn release<'r>(
    service: &Service,
    rollouts: impl IntoIterator<Item = &'r Rollout>,
) -> Option<Action> {
    let name = service.target.name.as_str();
    let uses = |rollout: &Rollout| {
        let going = rollout.metadata.deletion_timestamp.is_some();
        let mut unread = rollout.origin.faults().iter();
        let uncertain = unread.any(|fault| fault.path.starts_with("spec"));
        !going && (uncertain || super::named_services(rollout).contains(&name))
    };
    let manages = |rollout: &Rollout| {
        let manager = service.managed_by.as_deref();
        manager.is_none() || rollout.metadata.name.as_deref() == manager
    };
    let is_used = rollouts
        .into_iter()
        .any(|rollout| manages(rollout) && uses(rollout));
    (!is_used && !service.selected().is_empty()).then(|| Action::ReleaseService {
        target: service.target.clone(),
    })
}
