//! What a controller has asked the API server for, counted.

use std::collections::BTreeMap;

use crossfade_test_cluster::Request;

/// Requests, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Requests(pub Vec<Request>);

impl Requests {
    /// Those about objects whose name begins so.
    #[must_use]
    pub fn about(&self, prefix: &str) -> Self {
        let named = self.0.iter().filter(|one| one.name.starts_with(prefix));
        Self(named.cloned().collect())
    }

    /// Those after the first `count`.
    #[must_use]
    pub fn after(&self, count: usize) -> Self {
        Self(self.0.get(count..).unwrap_or_default().to_vec())
    }

    /// Those that change something, Events apart.
    #[must_use]
    pub fn writes(&self) -> Self {
        let writes = self.0.iter().filter(|one| is_write(one));
        let writes = writes.filter(|one| one.resource != "events");
        Self(writes.cloned().collect())
    }

    /// Those that create or change Events.
    #[must_use]
    pub fn events(&self) -> Self {
        let events = self.0.iter().filter(|one| is_write(one));
        let events = events.filter(|one| one.resource == "events");
        Self(events.cloned().collect())
    }

    /// How many were refused because somebody else had written in between.
    pub fn conflicts(&self) -> usize {
        let conflicts = self.0.iter().filter(|one| one.code == 409);
        conflicts.filter(|one| one.verb != "create").count()
    }

    /// How many there are of each verb and resource.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for one in &self.0 {
            let what = format!("{} {}", one.verb, one.resource);
            *counts.entry(what).or_default() += 1;
        }
        counts
    }

    /// How many there are of each reason, for Events.
    pub fn reasons(&self) -> BTreeMap<String, usize> {
        let mut reasons = BTreeMap::new();
        for one in &self.0 {
            let reason = one.body["reason"].as_str().unwrap_or(&one.verb);
            *reasons.entry(reason.to_owned()).or_default() += 1;
        }
        reasons
    }
}

fn is_write(request: &Request) -> bool {
    !["get", "list", "watch"].contains(&request.verb.as_str())
}
