//! What must hold in every run, after every action: each check has a name and a sentence.
//!
//! `docs/concepts/invariants.md` lists them; a test keeps it equal to [`all`].

mod abort;
mod carried;
mod delays;
mod deleted;
mod endings;
mod evidence;
mod once;
mod opinion;
mod patience;
mod promotion;
mod rest;
mod routes;
mod runs;
mod sizes;
mod status;
mod traffic;
mod trials;
mod versions;
mod writes;

use std::sync::Arc;

use crate::cluster::Cluster;
use crate::run::Outcome;
use crate::scenario::Scenario;
use crate::watch::What;

/// Something that must hold.
pub trait Check {
    /// Its name.
    fn name(&self) -> &'static str;
    /// What must hold, in one sentence.
    fn sentence(&self) -> &'static str;
    /// Takes note of what happens; an error says what is so instead.
    fn see(&mut self, _cluster: &Cluster, _what: &What<'_>) -> Result<(), String> {
        Ok(())
    }
    /// The run is over.
    fn end(&mut self, _cluster: &Cluster, _outcome: &Outcome) -> Result<(), String> {
        Ok(())
    }
}

/// What a check remembers of the pass under way, and of no other.
#[derive(Default)]
struct InPass<T> {
    turn: usize,
    value: T,
}

impl<T: Default> InPass<T> {
    /// What is remembered of the pass that is under way in this cluster, or that was the last one.
    fn of(&mut self, cluster: &Cluster) -> &mut T {
        if self.turn != cluster.turns {
            *self = Self {
                turn: cluster.turns,
                value: T::default(),
            };
        }
        &mut self.value
    }
}

/// All invariants, ready to watch one run.
pub fn all(scenario: &Arc<Scenario>) -> Vec<Box<dyn Check>> {
    vec![
        Box::new(traffic::WeightsSum),
        Box::new(traffic::PodsBeforeTraffic),
        Box::new(traffic::WeightNeedsItsPods),
        Box::new(traffic::StableCarriesTheRest),
        Box::new(traffic::ServicesHavePods),
        Box::new(traffic::PromotionBeforeSwitch),
        Box::new(sizes::NoMoreThanSurge),
        Box::new(sizes::EnoughAvailable::default()),
        Box::new(sizes::ReferencedKeepPods),
        Box::new(sizes::StableKeepsPods),
        Box::new(sizes::ActiveKeepsPods),
        Box::new(sizes::DelayIsKept),
        Box::new(promotion::OneStable),
        Box::new(promotion::EarnedPromotion::default()),
        Box::new(promotion::SwitchIsEarned::default()),
        Box::new(promotion::StepsInOrder),
        Box::new(promotion::PausesAreKept::default()),
        Box::new(abort::ComesBack::default()),
        Box::new(abort::OnlyBackwards),
        Box::new(runs::OneRunAtATime),
        Box::new(runs::MeasuredAsAsked),
        Box::new(runs::EndsAreFinal),
        Box::new(once::RevisionsRise::default()),
        Box::new(once::EvictedOnce::default()),
        Box::new(once::ToldOnce::default()),
        Box::new(routes::RoutesByStep),
        Box::new(routes::WeightByStep),
        Box::new(routes::ServiceFollowsWeight),
        Box::new(routes::TrafficComesHome),
        Box::new(evidence::ValuesDecide),
        Box::new(evidence::LimitsDecide),
        Box::new(evidence::WorstMetricDecides),
        Box::new(evidence::MeasuredInTime),
        Box::new(evidence::JudgedWithPods),
        Box::new(evidence::RetryIsJudged::default()),
        Box::new(evidence::JobsAreOne::default()),
        Box::new(trials::TrialsDecide),
        Box::new(delays::FewAreDelayed::default()),
        Box::new(carried::StepsHavePods),
        Box::new(carried::TrafficKeepsPods::default()),
        Box::new(versions::NothingSticks),
        Box::new(versions::AbortedStaysBack),
        Box::new(versions::WindowsEnd),
        Box::new(patience::DeadlinesArePatient),
        Box::new(versions::OldestGoFirst),
        Box::new(versions::VersionsKeepApart),
        Box::new(endings::ServicesComeHome),
        Box::new(endings::NothingIsLeftOver),
        Box::new(endings::PodsAreAsAsked),
        Box::new(deleted::GoingIsLeftAlone),
        Box::new(deleted::NothingStays),
        Box::new(status::ExplainsItself),
        Box::new(writes::ChangesSomething),
        Box::new(rest::Converges::new(scenario)),
        Box::new(rest::NothingLeaks),
        Box::new(opinion::SecondOpinion::new(scenario)),
        Box::new(routes::RoutersAreBelieved::default()),
        Box::new(evidence::BackgroundJudges::default()),
        Box::new(delays::DelaysAreWhole::default()),
        Box::new(carried::StableCanCarry::default()),
        Box::new(carried::SwitchesWait::default()),
        Box::new(patience::HeldIsHeld),
        Box::new(patience::RestartsAreGentle::default()),
        Box::new(endings::FailuresEnd),
    ]
}

/// Implements the parts of [`Check`] that name it.
macro_rules! named {
    ($name:literal, $sentence:literal) => {
        fn name(&self) -> &'static str {
            $name
        }

        fn sentence(&self) -> &'static str {
            $sentence
        }
    };
}
use named;

/// The page that lists all invariants.
pub fn page() -> String {
    let mut page = "# What must hold\n\nChecked after every action of every simulated release, whatever goes wrong meanwhile \
        (`cargo xtask bench sim`). The list is made from the code.\n\n"
        .to_owned();
    let told = |check: Box<dyn Check>| format!("- **{}.** {}\n", check.name(), check.sentence());
    page.extend(all(&Arc::default()).into_iter().map(told));
    page
}
