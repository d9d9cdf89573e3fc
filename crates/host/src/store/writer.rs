//! The one thread that writes.
//!
//! It takes all requests that wait, runs them one after the other on the state in memory, and commits what they did in
//! one transaction, so that ten writers pay for one sync of the disk. Only then memory changes, watchers wake and the
//! writers are answered: what anybody has seen is on the disk.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{oneshot, watch};

use super::audit::Act;
use super::disk::{Batch, Disk};
use super::error::{Result, StoreError};
use super::garbage::{Garbage, collect};
use super::lock::StateFolder;
use super::object::Key;
use super::transaction::{Pending, Transaction};
use super::{Options, Shared};

/// Requests in one commit; more would only delay the first.
const AT_ONCE: usize = 128;
/// Objects that the garbage collector looks at between two batches.
const GARBAGE_AT_ONCE: usize = 64;
/// Pause after a write of the garbage collector failed (a full disk, mostly).
const GARBAGE_PAUSE: Duration = Duration::from_secs(1);
/// How often old Events and audit rows are dropped.
const HOUSEKEEPING: Duration = Duration::from_mins(10);

/// A request to the writer.
pub(super) enum Message {
    /// Run and commit this.
    Job(Job),
    /// Finish what was asked before, close the file, and say so.
    Close(oneshot::Sender<()>),
}

/// One transaction to be.
pub(super) struct Job {
    pub(super) act: Act,
    pub(super) work: Box<dyn FnOnce(&mut Transaction<'_>) -> Finished + Send>,
}

/// A transaction that has run and waits for its commit.
pub(super) struct Finished {
    /// Whether what it did shall be stored.
    pub(super) keep: bool,
    /// Answers whoever asked, once the outcome of the commit is known.
    pub(super) reply: Box<dyn FnOnce(Result<()>) + Send>,
}

impl Job {
    /// A job that runs `work` and sends its result when it is committed.
    pub(super) fn new<T: Send + 'static>(
        act: Act,
        work: impl FnOnce(&mut Transaction<'_>) -> Result<T> + Send + 'static,
    ) -> (Self, oneshot::Receiver<Result<T>>) {
        let (sender, receiver) = oneshot::channel();
        let work = move |transaction: &mut Transaction<'_>| {
            let result = guarded(|| work(transaction));
            let keep = result.is_ok();
            let reply = move |committed: Result<()>| {
                // Whoever asked may have gone; the write stands all the same.
                let _ = sender.send(committed.and(result));
            };
            Finished {
                keep,
                reply: Box::new(reply),
            }
        };
        (
            Self {
                act,
                work: Box::new(work),
            },
            receiver,
        )
    }
}

/// A mistake of ours in one transaction must not end the thread that all others need.
fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(StoreError::Internal("a write panicked".to_owned())))
}

/// The writer's thread.
pub(super) struct Writer {
    shared: Arc<Shared>,
    signal: watch::Sender<u64>,
    options: Options,
    garbage: Garbage,
    disk: Disk,
    /// Given back when the thread ends, after the file is closed (fields are dropped in this order).
    _folder: StateFolder,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        signal: watch::Sender<u64>,
        options: Options,
        disk: Disk,
        folder: StateFolder,
    ) -> Self {
        let garbage =
            Garbage::at_start(&shared.memory.read().unwrap_or_else(PoisonError::into_inner));
        Self {
            shared,
            signal,
            options,
            garbage,
            disk,
            _folder: folder,
        }
    }

    /// Serves until it is told to close or nobody can ask any more.
    pub(super) fn run(mut self, messages: &Receiver<Message>) {
        let mut closing = None;
        let mut next_housekeeping = Instant::now();
        let mut garbage_not_before = Instant::now();
        while closing.is_none() {
            let now = Instant::now();
            if now >= next_housekeeping {
                self.keep_house();
                next_housekeeping = now + HOUSEKEEPING;
            }
            let until = if self.garbage.is_empty() {
                next_housekeeping
            } else {
                garbage_not_before
            };
            let mut jobs = Vec::new();
            match messages.recv_timeout(until.saturating_duration_since(now)) {
                Ok(Message::Job(job)) => jobs.push(job),
                Ok(Message::Close(done)) => closing = Some(done),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            while closing.is_none() && jobs.len() < AT_ONCE {
                match messages.try_recv() {
                    Ok(Message::Job(job)) => jobs.push(job),
                    Ok(Message::Close(done)) => closing = Some(done),
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
                }
            }
            if !jobs.is_empty() {
                self.serve(jobs);
            }
            if !self.garbage.is_empty()
                && Instant::now() >= garbage_not_before
                && !self.collect_garbage()
            {
                garbage_not_before = Instant::now() + GARBAGE_PAUSE;
            }
        }
        drop(self);
        if let Some(done) = closing {
            let _ = done.send(());
        }
    }

    /// Runs a batch of requests and answers them.
    fn serve(&mut self, jobs: Vec<Job>) {
        let now = (self.options.clock)();
        let memory = self
            .shared
            .memory
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let mut pending = Pending::after(memory.revision());
        let mut replies = Vec::new();
        for Job { act, work } in jobs {
            let mut transaction = Transaction {
                committed: &memory,
                earlier: &pending,
                own: Pending::after(pending.revision),
                act: &act,
                admission: self.options.admission.as_ref(),
                now,
                events: self.options.events,
                warnings: Vec::new(),
            };
            let Finished { keep, reply } = work(&mut transaction);
            let own = transaction.own;
            if keep && !act.dry_run {
                pending.absorb(own);
            }
            replies.push(reply);
        }
        drop(memory);
        let outcome = self.commit(&pending);
        for reply in replies {
            reply(outcome.clone());
        }
    }

    /// Does some of the garbage collector's work; false when it has to wait.
    fn collect_garbage(&mut self) -> bool {
        let keys = self.garbage.take(GARBAGE_AT_ONCE);
        let work = keys.clone();
        let done = self.act_alone(move |transaction| {
            for key in &work {
                if let Err(error) = collect(transaction, key) {
                    tracing::warn!(%key, %error, "cannot be collected");
                }
            }
            Ok(())
        });
        if done.is_err() {
            for key in &keys {
                self.garbage.push(key);
            }
        }
        done.is_ok()
    }

    /// Drops what is too old or too much.
    fn keep_house(&mut self) {
        let now = (self.options.clock)();
        let limits = self.options.events;
        let trimmed = self.act_alone(|transaction| transaction.trim_events(limits));
        if let Err(error) = trimmed.and_then(|()| self.disk.trim_audit(self.options.audit, now)) {
            tracing::warn!(%error, "old events and audit rows could not be dropped");
        }
    }

    /// A transaction of the writer's own.
    fn act_alone(&mut self, work: impl FnOnce(&mut Transaction<'_>) -> Result<()>) -> Result<()> {
        let now: Timestamp = (self.options.clock)();
        let act = Act::by_host("garbage-collector");
        let memory = self
            .shared
            .memory
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let none = Pending::after(memory.revision());
        let mut transaction = Transaction {
            committed: &memory,
            earlier: &none,
            own: Pending::after(memory.revision()),
            act: &act,
            admission: self.options.admission.as_ref(),
            now,
            events: self.options.events,
            warnings: Vec::new(),
        };
        let result = guarded(|| work(&mut transaction));
        let own = transaction.own;
        drop(memory);
        result?;
        self.commit(&own)
    }

    /// Puts changes on the disk, then into memory, then before the watchers.
    fn commit(&mut self, pending: &Pending) -> Result<()> {
        if pending.is_empty() {
            return Ok(());
        }
        self.disk.write(&Batch {
            revision: pending.revision,
            objects: pending
                .latest
                .iter()
                .map(|(key, state): (&Key, _)| {
                    (
                        key,
                        state
                            .as_ref()
                            .map(|(object, text)| (object.revision(), text.as_str())),
                    )
                })
                .collect(),
            audit: pending.audit.iter().collect(),
        })?;
        let mut memory = self
            .shared
            .memory
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        memory.commit(&pending.changes);
        self.garbage.note(&pending.changes, &memory);
        let revision = memory.revision();
        drop(memory);
        self.signal.send_replace(revision);
        Ok(())
    }
}
