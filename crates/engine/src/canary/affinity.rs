//! Session affinity: the cookies that keep users where they are.

use crossfade_api::flagger::hash;

use super::action::Cookies;
use super::tick::Tick;
use crate::mutant::{Mutant, wrong};

/// A new cookie for users of the primary with each step.
const RENEW: &str = "crossfade.dev/renew-primary-cookie";
/// Letters of a cookie's value.
const LENGTH: usize = 10;

impl Tick<'_, '_, '_> {
    /// The cookies that go with a weight; they are recorded before anybody gets them. `None` without session affinity.
    pub(super) fn turn_cookies(&mut self, weight: i32) -> Option<Cookies> {
        let analysis = self.analysis;
        let affinity = analysis.session_affinity.as_ref()?;
        if !analysis.matches.is_empty() && !self.is_strict() {
            // The test says itself who sees the new version.
            return None;
        }
        let is_of = |cookie: &str, name: &str| cookie.split('=').next() == Some(name);
        if weight > 0 {
            let is_known = is_of(&self.status.session_affinity_cookie, &affinity.cookie_name);
            if !is_known || wrong(Mutant::CanaryCookieTurns) {
                let value = hash::letters(&self.fresh("cookie"), LENGTH);
                self.status.session_affinity_cookie = format!("{}={value}", affinity.cookie_name);
            }
            let name = &affinity.primary_cookie_name;
            let is_stale =
                !is_of(&self.status.primary_session_affinity_cookie, name) || self.opts_in(RENEW);
            if !name.is_empty() && is_stale {
                let value = hash::letters(&self.fresh("primary cookie"), LENGTH);
                self.status.primary_session_affinity_cookie = format!("{name}={value}");
            }
        } else if !self.status.session_affinity_cookie.is_empty() {
            let current = std::mem::take(&mut self.status.session_affinity_cookie);
            self.status.previous_session_affinity_cookie = current;
        }
        Some(Cookies {
            canary: self.status.session_affinity_cookie.clone(),
            primary: self.status.primary_session_affinity_cookie.clone(),
            previous: self.status.previous_session_affinity_cookie.clone(),
        })
    }
}
