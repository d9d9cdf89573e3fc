//! What only tells waits for its turn: in order for each subject, and no subject for another.
//!
//! A receiver that is slow holds up what its own subject has to tell, and nothing else. What piles up is bounded: the oldest goes.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

/// What waits for one subject at most.
const MOST: usize = 100;

type Telling = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The lines of those that wait, by subject. A line is there as long as somebody serves it.
#[derive(Clone, Default)]
pub struct Turns(Arc<Mutex<HashMap<String, VecDeque<Telling>>>>);

impl Turns {
    /// Tells something about a subject when everything before it has been told.
    pub fn tell(&self, subject: &str, telling: impl Future<Output = ()> + Send + 'static) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = lines.get_mut(subject) {
            if line.len() >= MOST {
                line.pop_front();
                tracing::warn!(
                    subject,
                    "{MOST} messages wait for a slow receiver; the oldest is dropped"
                );
            }
            line.push_back(Box::pin(telling));
            return;
        }
        lines.insert(subject.to_owned(), VecDeque::from([Box::pin(telling) as _]));
        drop(lines);
        tokio::spawn(self.clone().serve(subject.to_owned()));
    }

    async fn serve(self, subject: String) {
        while let Some(telling) = self.next(&subject) {
            telling.await;
        }
    }

    /// The next in a line; the line goes when nobody is in it any more.
    fn next(&self, subject: &str) -> Option<Telling> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = lines.get_mut(subject)?.pop_front();
        if next.is_none() {
            lines.remove(subject);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::{Notify, mpsc};

    use super::*;

    #[tokio::test]
    async fn each_subject_is_told_of_in_order_and_waits_for_no_other() {
        let turns = Turns::default();
        let (told, mut heard) = mpsc::unbounded_channel();
        let stuck = Arc::new(Notify::new());
        for (subject, number) in [("slow", 0), ("slow", 1), ("quick", 2), ("quick", 3)] {
            let (told, stuck) = (told.clone(), Arc::clone(&stuck));
            turns.tell(subject, async move {
                if number == 0 {
                    stuck.notified().await;
                }
                told.send(number).expect("somebody hears");
            });
        }
        assert_eq!((heard.recv().await, heard.recv().await), (Some(2), Some(3)));
        stuck.notify_one();
        assert_eq!((heard.recv().await, heard.recv().await), (Some(0), Some(1)));
        drop(told);
        assert_eq!(heard.recv().await, None);
    }

    #[tokio::test]
    async fn of_what_piles_up_the_oldest_goes() {
        let turns = Turns::default();
        let told = Arc::new(Mutex::new(Vec::new()));
        let (done, mut over) = mpsc::channel(1);
        // Nobody is served before this test waits, so the first is in the line, too.
        for number in 0..=MOST {
            let told = Arc::clone(&told);
            let done = done.clone();
            turns.tell("one", async move {
                told.lock().expect("sound").push(number);
                if number == MOST {
                    done.send(()).await.expect("somebody hears");
                }
            });
        }
        over.recv().await;
        let told = told.lock().expect("sound").clone();
        assert_eq!(told, (1..=MOST).collect::<Vec<_>>());
    }
}
