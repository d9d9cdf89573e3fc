//! How many requests go out: so many a second on average, and a few more at once.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A limit for requests; each takes its place in a line.
#[derive(Debug)]
pub(crate) struct Limit {
    /// Time between two requests on average.
    every: Duration,
    /// How far the line may be ahead of the clock.
    ahead: Duration,
    /// When the next one is due on average.
    next: Mutex<Instant>,
}

impl Limit {
    /// `per_second` requests on average and `burst` at once; `None` where there is no limit.
    pub(crate) fn new(per_second: f64, burst: u32) -> Option<Self> {
        let every = Duration::try_from_secs_f64(1.0 / per_second).ok()?;
        (per_second > 0.0).then(|| Self {
            every,
            ahead: every * burst.saturating_sub(1),
            next: Mutex::new(Instant::now()),
        })
    }

    /// Waits until it is the caller's turn.
    pub(crate) async fn turn(&self) {
        if let Some(due) = self.place(Instant::now()) {
            tokio::time::sleep_until(due).await;
        }
    }

    /// Takes a place in the line; when it is due, if that is later than now.
    pub(crate) fn place(&self, now: Instant) -> Option<Instant> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = (*next).max(now);
        *next = turn + self.every;
        (turn > now + self.ahead).then(|| turn - self.ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_burst_goes_at_once_and_the_rest_in_turn() {
        let limit = Limit::new(10.0, 3).expect("a limit");
        let now = Instant::now() + Duration::from_secs(1);
        let mut due = || limit.place(now).map(|due| (due - now).as_millis());
        let places: Vec<_> = std::iter::repeat_with(&mut due).take(5).collect();
        assert_eq!(places, [None, None, None, Some(100), Some(200)]);
        let later = now + Duration::from_secs(1);
        assert_eq!(limit.place(later), None, "who waited has a burst again");
        assert!(Limit::new(0.0, 3).is_none());
    }
}
