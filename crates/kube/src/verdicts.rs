//! What runs have found that is still being recorded: traffic is taken back meanwhile, and what the release records of it waits for the run's record.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crossfade_api::AnalysisRun;
use crossfade_api::analysis_run::AnalysisRunStatus;
use tokio::sync::watch;

use crate::object::target;

/// How a run ends.
struct Verdict {
    run: Arc<AnalysisRun>,
    recorded: watch::Receiver<bool>,
}

/// The verdicts that no cache shows yet, by the uids of their runs. Each stands until its run changes, also when it could not be recorded: its weight
/// would go to and fro otherwise, with every attempt.
#[derive(Default)]
pub(crate) struct Verdicts(Mutex<BTreeMap<String, Verdict>>);

/// Tells whoever waits for a record that it is there; dropped, that it failed.
pub(crate) struct Recording(watch::Sender<bool>);

impl Recording {
    pub(crate) fn succeeded(self) {
        self.0.send_replace(true);
    }
}

/// Records that something waits for.
#[derive(Default)]
pub(crate) struct Awaited(Vec<watch::Receiver<bool>>);

impl Awaited {
    /// Whether all are there, as soon as that is known.
    pub(crate) async fn are_recorded(&mut self) -> bool {
        for recorded in &mut self.0 {
            if recorded.wait_for(|recorded| *recorded).await.is_err() {
                return false;
            }
        }
        true
    }
}

impl Verdicts {
    /// A run will have this status as soon as it is recorded.
    pub(crate) fn reached(&self, run: &AnalysisRun, status: AnalysisRunStatus) -> Recording {
        let (sender, recorded) = watch::channel(false);
        let mut run = run.clone();
        run.status = status;
        let verdict = Verdict {
            run: Arc::new(run),
            recorded,
        };
        let uid = target(&verdict.run.metadata).uid;
        let mut verdicts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        verdicts.insert(uid, verdict);
        Recording(sender)
    }

    /// Puts what is known already in place of what caches show.
    pub(crate) fn put_into(&self, runs: &mut [Arc<AnalysisRun>]) -> Awaited {
        let verdicts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut awaited = Awaited::default();
        if verdicts.is_empty() {
            return awaited;
        }
        for run in runs {
            let shown = target(&run.metadata);
            if let Some(verdict) = verdicts.get(&shown.uid)
                && target(&verdict.run.metadata) == shown
            {
                *run = Arc::clone(&verdict.run);
                awaited.0.push(verdict.recorded.clone());
            }
        }
        awaited
    }

    /// A run is now as it is shown, or gone: what was found of it before is over.
    pub(crate) fn forget_before(&self, uid: &str, now: Option<&AnalysisRun>) {
        let mut verdicts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let stands = verdicts.get(uid).is_some_and(|verdict| {
            now.is_some_and(|now| target(&now.metadata) == target(&verdict.run.metadata))
        });
        if !stands {
            verdicts.remove(uid);
        }
    }
}

#[cfg(test)]
mod tests {
    use crossfade_api::Resource as _;
    use crossfade_api::analysis_run::AnalysisPhase;
    use serde_json::json;

    use super::*;

    fn run(version: &str) -> Arc<AnalysisRun> {
        let metadata =
            json!({"namespace": "shop", "name": "web", "uid": "1", "resourceVersion": version});
        Arc::new(AnalysisRun::from_json(json!({"metadata": metadata})).0)
    }

    fn failed() -> AnalysisRunStatus {
        AnalysisRunStatus {
            phase: AnalysisPhase::Failed,
            ..AnalysisRunStatus::default()
        }
    }

    #[tokio::test]
    async fn a_verdict_is_seen_before_its_record_and_holds_until_the_run_changes() {
        let verdicts = Verdicts::default();
        let recording = verdicts.reached(&run("7"), failed());
        let mut runs = [run("7")];
        let mut awaited = verdicts.put_into(&mut runs);
        assert_eq!(runs[0].status.phase, AnalysisPhase::Failed);
        drop(recording);
        assert!(!awaited.are_recorded().await, "the record failed");
        verdicts.forget_before("1", Some(&run("7")));
        let mut runs = [run("7")];
        verdicts.put_into(&mut runs);
        assert_eq!(runs[0].status.phase, AnalysisPhase::Failed, "it stands");
        let mut runs = [run("8")];
        let mut awaited = verdicts.put_into(&mut runs);
        assert_eq!(runs[0].status.phase, AnalysisPhase::default());
        assert!(awaited.are_recorded().await, "nothing is waited for");
        verdicts.forget_before("1", Some(&run("8")));
        assert!(verdicts.0.lock().expect("nobody panicked").is_empty());
        let mut runs = [run("8")];
        let recording = verdicts.reached(&run("8"), failed());
        let mut awaited = verdicts.put_into(&mut runs);
        recording.succeeded();
        assert!(awaited.are_recorded().await);
    }
}
