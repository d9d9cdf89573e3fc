//! What a watcher is told of a run, as it happens.

use crossfade_api::{AnalysisRun, Rollout};
use crossfade_engine::action::{Action, Outcome};
use crossfade_engine::analysis;
use crossfade_engine::decision::Event;
use crossfade_engine::experiment;
use crossfade_engine::pass::Ended;
use crossfade_engine::rollout::world::World;

use crate::cluster::Cluster;
use crate::scenario::{Act, FaultKind};

/// Something that has just happened, or is about to.
#[derive(Clone, Copy, Debug)]
pub enum What<'a> {
    /// Somebody is about to do something.
    Act(&'a Act),
    /// Something is about to go wrong.
    Fault(FaultKind),
    /// Pods or Jobs have changed by themselves.
    Life,
    /// An action is about to be performed; whether it will be refused is not known yet.
    Performing(&'a Action, Seen<'a>),
    /// An action was performed, with its true outcome, whatever the controller hears of it.
    Performed(&'a Action, &'a Outcome, Seen<'a>),
    /// The status of the Rollout was recorded; the Rollout before, and what the pass saw.
    Recorded(&'a Rollout, &'a World),
    /// The status of an AnalysisRun was recorded; the run before.
    RunRecorded(&'a AnalysisRun),
    /// An event was told about an object.
    Told(&'a str, &'a Event),
    /// A pass is over.
    Ended(&'a Ended, Seen<'a>),
}

/// What the pass that acts has observed.
#[derive(Clone, Copy, Debug)]
pub enum Seen<'a> {
    /// A pass over the Rollout.
    Rollout(&'a World),
    /// A pass over an AnalysisRun.
    Run(&'a analysis::world::World),
    /// A pass over an Experiment.
    Experiment(&'a experiment::world::World),
}

impl<'a> Seen<'a> {
    /// What a pass over the Rollout saw.
    pub fn rollout(self) -> Option<&'a World> {
        match self {
            Self::Rollout(world) => Some(world),
            Self::Run(_) | Self::Experiment(_) => None,
        }
    }
}

/// Watches a run.
pub trait Watch {
    /// Takes note. `false` ends the run.
    fn see(&mut self, cluster: &Cluster, what: What<'_>) -> bool;
}
