//! One look at a Canary in the making: what is known, what was told, what the status will say.
//!
//! Rules are methods of [`Tick`] in the files of their subjects; the order in which they come is in [`super::tick`]. A rule that ends the
//! look says so by [`Stop::End`]: what was told and recorded until then holds.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use crossfade_api::flagger::{
    CanaryAnalysis, CanaryPhase, CanarySpec, CanaryStatus, HookType, TargetKind, hash,
};
use crossfade_api::{Canary, Resource as _};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::action::{CanaryAction, CanaryDone, HookCall, ObjectKey, Shares};
use super::world::World;
use crate::action::{Action, Done, Failure, Outcome, Target};
use crate::decision::{Halt, Plan};
use crate::views::{self, text};

/// The reason of all Events on Canaries.
const REASON: &str = "Synced";

/// What a Canary that says nothing of its analysis means.
static UNSAID: LazyLock<CanaryAnalysis> = LazyLock::new(CanaryAnalysis::default);

/// Why a look does not go on.
#[derive(Debug)]
pub(super) enum Stop {
    /// It is over.
    End,
    /// An action has to be performed first, or the pass fails.
    Halt(Halt),
}

impl From<Halt> for Stop {
    fn from(halt: Halt) -> Self {
        Self::Halt(halt)
    }
}

pub(super) type Step<T = ()> = Result<T, Stop>;

/// The label that tells the target's pods from others.
#[derive(Clone, Debug, Default)]
pub(super) struct PodLabel {
    pub(super) key: String,
    pub(super) value: String,
}

/// One look at a Canary in the making.
pub(super) struct Tick<'w, 'p, 'e> {
    pub(super) world: &'w World,
    pub(super) canary: &'w Canary,
    pub(super) spec: &'w CanarySpec,
    pub(super) analysis: &'w CanaryAnalysis,
    pub(super) plan: &'p mut Plan<'e>,
    pub(super) now: Timestamp,
    /// The status as it will be recorded.
    pub(super) status: CanaryStatus,
    /// The status as hooks are told of it.
    pub(super) shown: CanaryStatus,
    /// The target as it is now.
    pub(super) target: Option<Arc<Value>>,
    /// The primary as it is now.
    pub(super) primary: Option<Arc<Value>>,
    pub(super) label: PodLabel,
    /// Annotations of the Canary to set or remove.
    pub(super) annotations: BTreeMap<String, Option<String>>,
    /// The gate that somebody opened on the Canary itself was passed.
    pub(super) has_used_opening: bool,
    /// Calls and news so far.
    places: u32,
}

impl<'w, 'p, 'e> Tick<'w, 'p, 'e> {
    pub(super) fn new(world: &'w World, plan: &'p mut Plan<'e>, now: Timestamp) -> Self {
        let canary = &*world.canary;
        Self {
            world,
            canary,
            spec: &canary.spec,
            analysis: canary.spec.analysis().unwrap_or(&UNSAID),
            plan,
            now,
            status: canary.status.clone(),
            shown: canary.status.clone(),
            target: world.target.found().cloned(),
            primary: world.primary.found().cloned(),
            label: PodLabel::default(),
            annotations: BTreeMap::new(),
            has_used_opening: false,
            places: 0,
        }
    }

    /// Namespace of the Canary and of everything around it.
    pub(super) fn namespace(&self) -> &'w str {
        self.canary.namespace()
    }

    /// `NAME.NAMESPACE` of the Canary.
    pub(super) fn name(&self) -> String {
        format!("{}.{}", self.canary.name(), self.namespace())
    }

    /// `NAME.NAMESPACE` of the target.
    pub(super) fn target_name(&self) -> String {
        format!("{}.{}", self.spec.target_ref.name, self.namespace())
    }

    /// Name of the primary.
    pub(super) fn primary_name(&self) -> String {
        format!("{}-primary", self.spec.target_ref.name)
    }

    /// Who routes requests.
    pub(super) fn provider(&self) -> &'w str {
        if self.spec.provider.is_empty() {
            &self.world.settings.provider
        } else {
            &self.spec.provider
        }
    }

    /// Whether no router moves requests.
    pub(super) fn is_unrouted(&self) -> bool {
        self.provider() == "kubernetes"
    }

    pub(super) fn kind(&self) -> TargetKind {
        self.spec.target_kind().unwrap_or(TargetKind::Deployment)
    }

    /// Whether the target has pods of its own to size.
    pub(super) fn is_workload(&self) -> bool {
        matches!(self.kind(), TargetKind::Deployment | TargetKind::DaemonSet)
    }

    pub(super) fn skips(&self) -> bool {
        self.spec.skips_analysis()
    }

    /// The phase as it was read.
    pub(super) fn read_phase(&self) -> CanaryPhase {
        self.canary.status.phase
    }

    /// The Canary's primary has never served.
    pub(super) fn initialises(&self) -> bool {
        let status = &self.canary.status;
        match status.phase {
            CanaryPhase::Unset | CanaryPhase::Initializing => true,
            // It failed before it ever served, and recovers by itself.
            CanaryPhase::Failed => status.last_promoted_spec.is_empty(),
            _ => false,
        }
    }

    pub(super) fn annotation(&self, key: &str) -> Option<&'w str> {
        let annotations = self.canary.metadata.annotations.as_ref()?;
        annotations.get(key).map(String::as_str)
    }

    /// Whether an annotation says `true`.
    pub(super) fn opts_in(&self, key: &str) -> bool {
        self.annotation(key) == Some("true")
    }

    /// Whether a script could have come to depend on how it was.
    pub(super) fn is_strict(&self) -> bool {
        self.world.settings.strict_compat
    }

    /// Which object the Canary is.
    pub(super) fn own_target(&self) -> Target {
        let metadata = &self.canary.metadata;
        Target {
            namespace: self.namespace().to_owned(),
            name: self.canary.name().to_owned(),
            uid: metadata.uid.clone().unwrap_or_default(),
            resource_version: metadata.resource_version.clone().unwrap_or_default(),
        }
    }

    /// The owner reference of what is made for the Canary.
    pub(super) fn owner(&self) -> Value {
        json!({
            "apiVersion": Canary::API_VERSION,
            "kind": Canary::KIND,
            "name": self.canary.name(),
            "uid": self.canary.metadata.uid,
            "controller": true,
            "blockOwnerDeletion": true,
        })
    }

    /// Something that nobody has seen before, and that is the same however often this pass is decided.
    pub(super) fn fresh(&self, purpose: &str) -> String {
        let uid = self.canary.metadata.uid.as_deref().unwrap_or_default();
        let version = self.own_target().resource_version;
        format!("{purpose}/{uid}/{version}/{}", self.now.as_nanosecond())
    }

    // Actions.

    /// Wants an action and goes on when it has been performed.
    pub(super) fn act(&mut self, action: CanaryAction) -> Step<&'e Outcome> {
        Ok(self.plan.act(Action::Canary(Box::new(action)))?)
    }

    /// Wants an action; if it fails, its text is told after `prefix` and the look is over.
    pub(super) fn must(
        &mut self,
        action: CanaryAction,
        prefix: &str,
    ) -> Step<Option<&'e CanaryDone>> {
        match self.act(action)? {
            Ok(Done::Canary(done)) => Ok(Some(done)),
            Ok(_) => Ok(None),
            Err(Failure { message, .. }) => {
                let told = format!("{prefix}{message}");
                Err(self.ends(&told))
            }
        }
    }

    /// Creates an object; gives it as it is then.
    pub(super) fn create(&mut self, object: Value, prefix: &str) -> Step<Arc<Value>> {
        let whole = object.clone();
        let action = CanaryAction::Create {
            object: Box::new(object),
        };
        Ok(match self.must(action, prefix)? {
            Some(CanaryDone::Object(object)) => Arc::new(object.clone()),
            _ => Arc::new(whole),
        })
    }

    /// Changes an object so that it becomes as wanted, if it differs; gives it as it is then.
    pub(super) fn change(
        &mut self,
        there: &Arc<Value>,
        wanted: &Value,
        prefix: &str,
    ) -> Step<Arc<Value>> {
        let Some(patch) = crossfade_api::merge_patch::diff(there, wanted) else {
            return Ok(Arc::clone(there));
        };
        let action = CanaryAction::Patch {
            object: key(there),
            patch: Box::new(patch),
        };
        Ok(match self.must(action, prefix)? {
            Some(CanaryDone::Object(object)) => Arc::new(object.clone()),
            _ => Arc::new(wanted.clone()),
        })
    }

    /// Writes weights.
    pub(super) fn set_shares(&mut self, primary: i32, canary: i32, mirrored: bool) -> Step {
        if self.is_unrouted() {
            return Ok(());
        }
        let cookies = self.turn_cookies(canary);
        let action = CanaryAction::SetShares {
            provider: self.provider().to_owned(),
            shares: Shares {
                primary,
                canary,
                mirrored,
            },
            cookies,
        };
        self.must(action, "").map(drop)
    }

    // What people are told.

    pub(super) fn tell(&mut self, message: &str) {
        self.tell_with_phase(false, message, self.read_phase());
    }

    pub(super) fn warn(&mut self, message: &str) {
        self.tell_with_phase(true, message, self.read_phase());
    }

    /// Warns people and ends the look.
    pub(super) fn ends(&mut self, message: &str) -> Stop {
        self.warn(message);
        Stop::End
    }

    /// Tells people something as an Event and through event hooks, which are told of this phase.
    pub(super) fn tell_with_phase(&mut self, warning: bool, message: &str, phase: CanaryPhase) {
        if warning {
            self.plan.warn(REASON, message);
        } else {
            self.plan.event(REASON, message);
        }
        if let Some(event) = self.plan.events.last_mut() {
            // Looks repeat by themselves: what was seen is told even if it cannot be recorded.
            event.done = true;
        }
        let facts = [
            ("eventMessage", message.to_owned()),
            (
                "eventType",
                if warning { "Warning" } else { "Normal" }.to_owned(),
            ),
            ("timestamp", self.now.as_millisecond().to_string()),
        ];
        let facts: BTreeMap<String, String> = facts
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect();
        let analysis = self.analysis;
        let mut has_own = false;
        for hook in analysis.hooks(HookType::Event) {
            has_own = true;
            let mut metadata = hook.metadata.clone();
            metadata.extend(facts.clone());
            let timeout = timeout(&hook.timeout).unwrap_or(DEFAULT_TIMEOUT);
            let mut call = self.call(&hook.name, &hook.url, phase, &metadata, timeout);
            call.retries = hook.retries;
            call.disable_tls = hook.disable_tls;
            call.only_tells = true;
            let _told = self.plan.want(hook_action(call));
        }
        let url = &self.world.settings.event_webhook;
        if !has_own && !url.is_empty() {
            let mut call = self.call("events", url, phase, &facts, DEFAULT_TIMEOUT);
            call.only_tells = true;
            let _told = self.plan.want(hook_action(call));
        }
    }

    /// A call of a hook, without what only some of them say.
    pub(super) fn call(
        &mut self,
        name: &str,
        url: &str,
        phase: CanaryPhase,
        metadata: &BTreeMap<String, String>,
        timeout: SignedDuration,
    ) -> HookCall {
        let ms = |duration: SignedDuration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        HookCall {
            name: name.to_owned(),
            url: url.to_owned(),
            body: self.body(phase, metadata),
            timeout_ms: ms(timeout),
            budget_ms: ms(self.spec.interval()),
            retries: 0,
            disable_tls: false,
            revision: self.target_hash(),
            only_tells: false,
            dry: false,
            place: self.next_place(),
        }
    }

    /// What a hook is sent. Its members have their order.
    fn body(&self, phase: CanaryPhase, metadata: &BTreeMap<String, String>) -> String {
        let text = |text: &str| json!(text).to_string();
        let mut body = format!(
            "{{\"name\":{},\"namespace\":{},\"phase\":{},\"checksum\":{}",
            text(self.canary.name()),
            text(self.namespace()),
            text(phase.as_str()),
            text(&hash::checksum(&self.shown)),
        );
        if !metadata.is_empty() {
            body.push_str(",\"metadata\":");
            body.push_str(&json!(metadata).to_string());
        }
        body.push('}');
        body
    }

    pub(super) fn next_place(&mut self) -> u32 {
        self.places += 1;
        self.places
    }
}

/// Time for one attempt of a hook that says nothing.
pub(super) const DEFAULT_TIMEOUT: SignedDuration = SignedDuration::from_secs(10);

/// Time for one attempt of a hook.
pub(super) fn timeout(text: &str) -> Result<SignedDuration, String> {
    if text.len() < 2 {
        return Ok(DEFAULT_TIMEOUT);
    }
    crossfade_api::duration::parse(text)
}

pub(super) fn hook_action(call: HookCall) -> Action {
    Action::Canary(Box::new(CanaryAction::CallHook(Box::new(call))))
}

/// Which object this is, of which kind, and in which version.
pub(super) fn key(object: &Value) -> ObjectKey {
    ObjectKey {
        api_version: text(object, "/apiVersion").to_owned(),
        kind: text(object, "/kind").to_owned(),
        target: views::target(object),
    }
}
