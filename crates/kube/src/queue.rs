//! Which subjects want attention: each at most once in the queue, the urgent ones first and the others not too long after, never handled by two at
//! the same time, failures with growing delays.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::workqueue::Numbers;

/// The first delay after a failure; doubled with each further one.
const FIRST_DELAY: Duration = Duration::from_millis(5);
/// The longest delay after a failure.
const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// So many of what is under way go before what is in no hurry, and then one of that: it waits longer, but not until nothing is under way.
const AHEAD: u32 = 3;

/// How long to wait after so many failures in a row before this one.
fn delay_after(failures: u32) -> Duration {
    let factor = 1_u32.checked_shl(failures).unwrap_or(u32::MAX);
    FIRST_DELAY.saturating_mul(factor).min(LONGEST_DELAY)
}

/// What goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Priority {
    /// A release is to be taken back.
    Abort,
    /// Something happened to a release under way.
    Release,
    /// Everything else.
    Ordinary,
}

/// A subject that is to be looked at now.
pub(crate) struct Taken<K> {
    pub(crate) key: K,
    /// It goes first.
    pub(crate) first: bool,
    /// How long it has waited.
    pub(crate) waited: Duration,
}

/// A queue of keys.
pub(crate) struct Queue<K> {
    state: Mutex<State<K>>,
    wake: Notify,
    /// Something that goes first has become ready.
    wake_first: Notify,
}

struct State<K> {
    ready: BTreeMap<Priority, VecDeque<K>>,
    /// With which priority a key waits, and since when.
    waiting: BTreeMap<K, (Priority, Instant)>,
    /// Keys that became ready while they were handled.
    again: BTreeMap<K, Priority>,
    /// Keys that are handled, and since when.
    handled: BTreeMap<K, Instant>,
    later: BTreeMap<K, Instant>,
    by_time: BTreeSet<(Instant, K)>,
    failures: BTreeMap<K, u32>,
    /// How many went before what is in no hurry since one of that was taken.
    ahead: u32,
    closed: bool,
    /// The name under which a key is counted.
    name: fn(&K) -> &'static str,
    numbers: BTreeMap<&'static str, Numbers>,
}

impl<K: Ord + Clone> Queue<K> {
    /// An empty queue, whose keys are counted under the names that `name` gives them.
    pub(crate) fn new(name: fn(&K) -> &'static str) -> Self {
        let state = State {
            ready: BTreeMap::new(),
            waiting: BTreeMap::new(),
            again: BTreeMap::new(),
            handled: BTreeMap::new(),
            later: BTreeMap::new(),
            by_time: BTreeSet::new(),
            failures: BTreeMap::new(),
            ahead: 0,
            closed: false,
            name,
            numbers: BTreeMap::new(),
        };
        Self {
            state: Mutex::new(state),
            wake: Notify::new(),
            wake_first: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something happened to this subject: look at it now.
    pub(crate) fn add(&self, key: K, priority: Priority) {
        let mut state = self.state();
        state.forget_timer(&key);
        state.make_ready(key, priority);
        drop(state);
        self.rouse(priority);
    }

    fn rouse(&self, priority: Priority) {
        self.wake.notify_one();
        if priority == Priority::Abort {
            self.wake_first.notify_one();
        }
    }

    /// Look at this subject after a while, or earlier if asked before.
    pub(crate) fn add_after(&self, key: K, delay: Duration) {
        let due = Instant::now() + delay;
        let mut state = self.state();
        let before = state.later.get(&key).copied();
        if before.is_none_or(|before| due < before) {
            state.forget_timer(&key);
            state.later.insert(key.clone(), due);
            state.by_time.insert((due, key));
        }
        drop(state);
        self.wake.notify_one();
    }

    /// The next subject that goes first; `None` once the queue is closed.
    pub(crate) async fn next_first(&self) -> Option<Taken<K>> {
        loop {
            let woken = self.wake_first.notified();
            {
                let mut state = self.state();
                if state.closed {
                    return None;
                }
                if let Some(taken) = state.take(&[Priority::Abort]) {
                    // There may be another, and whoever takes all has been woken for this one, too.
                    self.wake_first.notify_one();
                    return Some(taken);
                }
            }
            woken.await;
        }
    }

    /// The next subject to look at; `None` once the queue is closed.
    pub(crate) async fn next(&self) -> Option<Taken<K>> {
        loop {
            let woken = self.wake.notified();
            let next_due = {
                let mut state = self.state();
                if state.closed {
                    return None;
                }
                let now = Instant::now();
                state.bring_due(now);
                if let Some(taken) = state.take_any() {
                    if !state.waiting.is_empty() {
                        self.wake.notify_one();
                    }
                    return Some(taken);
                }
                state.by_time.first().map(|(due, _)| *due)
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
    pub(crate) fn done(&self, key: &K, failed: bool) {
        let mut state = self.state();
        if let Some(since) = state.handled.remove(key) {
            state.numbers(key).worked.add(since.elapsed());
        }
        state.numbers(key).retries += u64::from(failed);
        let again = state.again.remove(key);
        if let Some(priority) = again {
            // It was counted when it was asked for.
            state.put(key.clone(), priority, Instant::now());
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
        self.rouse(again.unwrap_or(Priority::Ordinary));
        if let Some(delay) = delay {
            self.add_after(key.clone(), delay);
        }
    }

    /// The subject is gone: no timer of it counts any more.
    pub(crate) fn forget(&self, key: &K) {
        let mut state = self.state();
        state.forget_timer(key);
        state.failures.remove(key);
    }

    /// What is counted, by name, as it is now.
    pub(crate) fn numbers(&self) -> BTreeMap<&'static str, Numbers> {
        let state = self.state();
        let mut numbers = state.numbers.clone();
        for key in state.waiting.keys() {
            numbers.entry((state.name)(key)).or_default().depth += 1;
        }
        for (key, since) in &state.handled {
            let of_name = numbers.entry((state.name)(key)).or_default();
            of_name.unfinished += since.elapsed();
            of_name.longest = of_name.longest.max(since.elapsed());
        }
        numbers
    }

    /// Gives out nothing more.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        for wake in [&self.wake, &self.wake_first] {
            wake.notify_waiters();
            wake.notify_one();
        }
    }
}

impl<K: Ord + Clone> State<K> {
    fn numbers(&mut self, key: &K) -> &mut Numbers {
        self.numbers.entry((self.name)(key)).or_default()
    }

    fn forget_timer(&mut self, key: &K) {
        if let Some(due) = self.later.remove(key) {
            self.by_time.remove(&(due, key.clone()));
        }
    }

    fn make_ready(&mut self, key: K, priority: Priority) {
        if self.handled.contains_key(&key) {
            if !self.again.contains_key(&key) {
                self.numbers(&key).adds += 1;
            }
            let again = self.again.entry(key).or_insert(priority);
            *again = priority.min(*again);
            return;
        }
        let now = Instant::now();
        let (before, since) = match self.waiting.get(&key) {
            Some((before, since)) => (Some(*before), *since),
            None => (None, now),
        };
        if before.is_some_and(|before| before <= priority) {
            return;
        }
        if before.is_none() {
            self.numbers(&key).adds += 1;
        }
        self.put(key, priority, since);
    }

    /// A key waits from now on; where it stood before it is passed over.
    fn put(&mut self, key: K, priority: Priority, since: Instant) {
        self.waiting.insert(key.clone(), (priority, since));
        self.ready.entry(priority).or_default().push_back(key);
    }

    /// The first of all.
    fn take_any(&mut self) -> Option<Taken<K>> {
        use Priority::{Abort, Ordinary, Release};
        if self.ahead < AHEAD {
            self.take(&[Abort, Release, Ordinary])
        } else {
            self.take(&[Abort, Ordinary, Release])
        }
    }

    /// The first in this order of priorities.
    fn take(&mut self, order: &[Priority]) -> Option<Taken<K>> {
        for priority in order {
            let Some(keys) = self.ready.get_mut(priority) else {
                continue;
            };
            while let Some(key) = keys.pop_front() {
                if let Some((wanted, since)) = self.waiting.get(&key).copied()
                    && wanted == *priority
                {
                    self.waiting.remove(&key);
                    self.ahead = match priority {
                        Priority::Ordinary => 0,
                        Priority::Abort | Priority::Release => self.ahead.saturating_add(1),
                    };
                    let now = Instant::now();
                    let waited = now.saturating_duration_since(since);
                    self.handled.insert(key.clone(), now);
                    let numbers = self.numbers.entry((self.name)(&key)).or_default();
                    numbers.waited.add(waited);
                    return Some(Taken {
                        key,
                        first: *priority == Priority::Abort,
                        waited,
                    });
                }
            }
        }
        None
    }

    fn bring_due(&mut self, now: Instant) {
        while let Some((due, key)) = self.by_time.first().cloned() {
            if due > now {
                return;
            }
            self.forget_timer(&key);
            self.make_ready(key, Priority::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    async fn next(queue: &Queue<&'static str>) -> Option<&'static str> {
        queue.next().await.map(|taken| taken.key)
    }

    #[tokio::test]
    async fn a_key_is_given_out_once_and_again_only_after_it_is_done() {
        let queue = Queue::new(|_| "all");
        queue.add("a", Priority::Ordinary);
        queue.add("a", Priority::Ordinary);
        queue.add("b", Priority::Ordinary);
        assert_eq!(next(&queue).await, Some("a"));
        queue.add("a", Priority::Ordinary);
        assert_eq!(next(&queue).await, Some("b"));
        queue.done(&"b", false);
        queue.done(&"a", false);
        let numbers = queue.numbers()["all"];
        assert_eq!((numbers.adds, numbers.depth), (3, 1));
        assert_eq!(next(&queue).await, Some("a"));
        let numbers = queue.numbers()["all"];
        assert_eq!((numbers.depth, numbers.retries), (0, 0));
        queue.done(&"a", true);
        assert_eq!(queue.numbers()["all"].retries, 1);
        queue.close();
        assert_eq!(next(&queue).await, None);
    }

    #[tokio::test]
    async fn what_is_to_be_taken_back_goes_first_even_if_it_waits_already() {
        let queue = Queue::new(|_| "all");
        queue.add("rest", Priority::Ordinary);
        queue.add("bad", Priority::Ordinary);
        queue.add("moving", Priority::Release);
        queue.add("bad", Priority::Abort);
        assert_eq!(next(&queue).await, Some("bad"));
        assert_eq!(next(&queue).await, Some("moving"));
        assert_eq!(next(&queue).await, Some("rest"));
        queue.done(&"bad", false);
        queue.add_after("bad", Duration::ZERO);
        assert_eq!(next(&queue).await, Some("bad"), "it does not wait twice");
    }

    #[tokio::test]
    async fn what_is_in_no_hurry_has_a_turn_while_others_come_without_end() {
        let queue = Queue::new(|_| "all");
        queue.add("rest", Priority::Ordinary);
        let mut before = 0;
        loop {
            queue.add("moving", Priority::Release);
            let key = next(&queue).await.expect("something waits");
            queue.done(&key, false);
            if key == "rest" {
                break;
            }
            before += 1;
        }
        assert_eq!(before, AHEAD);
    }

    #[tokio::test]
    async fn who_takes_only_what_goes_first_waits_for_it() {
        let queue = Arc::new(Queue::new(|_| "test"));
        queue.add("rest", Priority::Ordinary);
        let waits = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move {
                queue
                    .next_first()
                    .await
                    .map(|taken| (taken.key, taken.first))
            }
        });
        assert_eq!(next(&queue).await, Some("rest"));
        queue.add("rest", Priority::Abort);
        queue.done(&"rest", false);
        assert_eq!(waits.await.expect("it ends"), Some(("rest", true)));
        queue.close();
        assert!(queue.next_first().await.is_none());
    }

    #[tokio::test]
    async fn the_earlier_of_two_times_counts_and_a_failure_comes_back() {
        let queue = Queue::new(|_| "all");
        queue.add_after("a", Duration::from_hours(1));
        queue.add_after("a", Duration::from_millis(1));
        queue.add_after("a", Duration::from_hours(1));
        assert_eq!(next(&queue).await, Some("a"));
        queue.done(&"a", true);
        assert_eq!(next(&queue).await, Some("a"), "a failure is tried again");
        assert_eq!(delay_after(u32::MAX), LONGEST_DELAY);
    }
}
