//! Which subjects want attention: each at most once in the queue, never handled by two at the same time, failures with growing delays.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// The first delay after a failure; doubled with each further one.
const FIRST_DELAY: Duration = Duration::from_millis(1);
/// The longest delay after a failure.
const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// How long to wait after so many failures in a row before this one.
fn delay_after(failures: u32) -> Duration {
    let factor = 1_u32.checked_shl(failures).unwrap_or(u32::MAX);
    FIRST_DELAY.saturating_mul(factor).min(LONGEST_DELAY)
}

/// A queue of keys.
pub(super) struct Queue<K> {
    state: Mutex<State<K>>,
    wake: Notify,
}

struct State<K> {
    ready: VecDeque<K>,
    /// Keys that became ready while they were handled.
    again: BTreeSet<K>,
    handled: BTreeSet<K>,
    later: BTreeMap<K, Instant>,
    failures: BTreeMap<K, u32>,
    closed: bool,
}

impl<K: Ord + Clone> Queue<K> {
    /// An empty queue.
    pub(super) fn new() -> Self {
        let state = State {
            ready: VecDeque::new(),
            again: BTreeSet::new(),
            handled: BTreeSet::new(),
            later: BTreeMap::new(),
            failures: BTreeMap::new(),
            closed: false,
        };
        Self {
            state: Mutex::new(state),
            wake: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something happened to this subject: look at it now.
    pub(super) fn add(&self, key: K) {
        let mut state = self.state();
        state.later.remove(&key);
        state.make_ready(key);
        drop(state);
        self.wake.notify_one();
    }

    /// Look at this subject after a while, or earlier if asked before.
    pub(super) fn add_after(&self, key: K, delay: Duration) {
        let due = Instant::now() + delay;
        let mut state = self.state();
        let earliest = state.later.get(&key).map_or(due, |before| due.min(*before));
        state.later.insert(key, earliest);
        drop(state);
        self.wake.notify_one();
    }

    /// The next subject to look at; `None` once the queue is closed.
    pub(super) async fn next(&self) -> Option<K> {
        loop {
            let woken = self.wake.notified();
            let next_due = {
                let mut state = self.state();
                if state.closed {
                    return None;
                }
                state.bring_due(Instant::now());
                if let Some(key) = state.ready.pop_front() {
                    state.handled.insert(key.clone());
                    if !state.ready.is_empty() {
                        self.wake.notify_one();
                    }
                    return Some(key);
                }
                state.later.values().min().copied()
            };
            match next_due {
                Some(due) => {
                    // Whichever comes first; both lead to another look.
                    let _ = tokio::time::timeout_at(due, woken).await;
                }
                None => woken.await,
            }
        }
    }

    /// The subject has been looked at, well or with a failure that asks for another look after a growing delay.
    pub(super) fn done(&self, key: &K, failed: bool) {
        let mut state = self.state();
        state.handled.remove(key);
        if state.again.remove(key) {
            state.make_ready(key.clone());
        }
        let delay = if failed {
            let failures = state.failures.entry(key.clone()).or_default();
            let delay = delay_after(*failures);
            *failures = failures.saturating_add(1);
            Some(delay)
        } else {
            state.failures.remove(key);
            None
        };
        drop(state);
        match delay {
            Some(delay) => self.add_after(key.clone(), delay),
            None => self.wake.notify_one(),
        }
    }

    /// Gives out nothing more.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.wake.notify_waiters();
        self.wake.notify_one();
    }
}

impl<K: Ord + Clone> State<K> {
    fn make_ready(&mut self, key: K) {
        if self.handled.contains(&key) {
            self.again.insert(key);
        } else if !self.ready.contains(&key) {
            self.ready.push_back(key);
        }
    }

    fn bring_due(&mut self, now: Instant) {
        let due: Vec<K> = self
            .later
            .iter()
            .filter(|(_, due)| **due <= now)
            .map(|(key, _)| key.clone())
            .collect();
        for key in due {
            self.later.remove(&key);
            self.make_ready(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_is_given_out_once_and_again_only_after_it_is_done() {
        let queue = Queue::new();
        queue.add("a");
        queue.add("a");
        queue.add("b");
        assert_eq!(queue.next().await, Some("a"));
        queue.add("a");
        assert_eq!(queue.next().await, Some("b"));
        queue.done(&"b", false);
        queue.done(&"a", false);
        assert_eq!(queue.next().await, Some("a"));
        queue.close();
        assert_eq!(queue.next().await, None);
    }

    #[test]
    fn failures_come_back_after_growing_delays() {
        let delays: Vec<u128> = (0..16)
            .map(|failures| delay_after(failures).as_millis())
            .collect();
        assert_eq!(delays[..5], [1, 2, 4, 8, 16]);
        assert_eq!(delays[15], 10_000);
        assert_eq!(delay_after(u32::MAX), LONGEST_DELAY);
    }

    #[tokio::test]
    async fn the_earlier_of_two_times_counts_and_a_failure_comes_back() {
        let queue = Queue::new();
        queue.add_after("a", Duration::from_hours(1));
        queue.add_after("a", Duration::from_millis(1));
        assert_eq!(queue.next().await, Some("a"));
        queue.done(&"a", true);
        assert_eq!(queue.next().await, Some("a"), "a failure is tried again");
    }
}
