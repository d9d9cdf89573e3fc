//! A blue-green release: the switch after its evidence and pause, promotion after the rest.

use super::evidence::Purpose;
use super::plan::Switch;
use super::{Facts, Look, Opinion};

impl Opinion {
    pub(super) fn blue_green(
        &mut self,
        switch: Switch,
        before: &Look,
        after: &Look,
        facts: &Facts,
    ) -> Result<(), String> {
        let late = self.update.switched_late;
        let free = before.full || self.update.goes_back || late;
        let unserved = before.active.is_none();
        if after.active != before.active && !unserved {
            if after.active == after.current && !free {
                if switch.pre && !self.was_good(before, Purpose::Pre) {
                    return Err("requests are switched, but no run before it was successful".into());
                }
                // A pause that is over stays on record until the new version has all its pods (rollout-behaviour 12.3).
                let waited = switch.after == 0 || self.has_waited(switch.after, facts);
                let by_itself = switch.auto && waited;
                if !by_itself && !self.update.let_go {
                    return Err("requests are switched, but nobody ended the pause".into());
                }
            } else if after.active == after.stable && !before.aborted && !free {
                return Err("requests are switched back, but it was not taken back".into());
            }
            let known = after.active == after.current || after.active == after.stable;
            // A Service that was made anew selects nothing.
            if !known && after.active.is_some() && !facts.overtaken {
                return Err(format!(
                    "requests are switched to version {:?}, which is neither",
                    after.active
                ));
            }
        }
        if after.stable == before.stable || before.stable.is_none() || unserved {
            return Ok(());
        }
        if after.stable != after.current || after.active != after.current {
            return Err(format!(
                "version {:?} is promoted while requests go to {:?}",
                after.stable, after.active
            ));
        }
        if !free && switch.post && !self.was_good(before, Purpose::Post) {
            return Err("it is promoted, but no run after the switch was successful".into());
        }
        // Who finds requests switched takes it that there were pods (rollout-behaviour 12.5).
        if late { Ok(()) } else { self.had_pods(before) }
    }
}
