//! What the shim knows, kept in one place, on disk before anybody acts on it.
//!
//! Every change goes through [`Board::change`]: the status is computed anew, the file replaced, and whoever is
//! connected told. When the disk takes nothing the connected are told all the same, and the file is tried
//! again with the next change.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use jiff::Timestamp;
use tokio::sync::watch;

use super::super::folder::{PodFolder, write_whole};
use super::super::plan::PodPlan;
use super::super::state::{ContainerRecord, PodState};

pub(super) struct Board {
    plan: Rc<PodPlan>,
    folder: PodFolder,
    state: RefCell<PodState>,
    /// The state as one line of JSON.
    told: watch::Sender<Rc<Vec<u8>>>,
    unsaved: Cell<bool>,
}

impl Board {
    pub(super) fn new(plan: Rc<PodPlan>, folder: PodFolder, state: PodState) -> Self {
        let board = Self {
            plan,
            folder,
            state: RefCell::new(state),
            told: watch::Sender::new(Rc::default()),
            unsaved: Cell::new(true),
        };
        board.change(|_| ());
        board
    }

    pub(super) fn read<T>(&self, read: impl FnOnce(&PodState) -> T) -> T {
        read(&self.state.borrow())
    }

    pub(super) fn container<T>(
        &self,
        index: usize,
        read: impl FnOnce(&ContainerRecord) -> T,
    ) -> Option<T> {
        self.state.borrow().containers.get(index).map(read)
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut PodState)) {
        let mut state = self.state.borrow_mut();
        let before = state.clone();
        change(&mut state);
        state.refresh(&self.plan, Timestamp::now());
        if *state == before && !self.unsaved.get() {
            return;
        }
        // The state is made of plain values; there is nothing in it that JSON cannot hold.
        let line = serde_json::to_vec(&*state).expect("a state is plain data");
        self.unsaved
            .set(write_whole(&self.folder.state(), 0o600, &line).is_err());
        self.told.send_replace(Rc::new(line));
    }

    pub(super) fn change_container(&self, index: usize, change: impl FnOnce(&mut ContainerRecord)) {
        self.change(|state| {
            if let Some(record) = state.containers.get_mut(index) {
                change(record);
            }
        });
    }

    pub(super) fn note(&self, warning: bool, reason: &str, message: String) {
        self.change(|state| state.note(warning, reason, message, Timestamp::now()));
    }

    /// Tries to save what could not be saved; `true` when the file is up to date.
    pub(super) fn save(&self) -> bool {
        if self.unsaved.get() {
            self.change(|_| ());
        }
        !self.unsaved.get()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Rc<Vec<u8>>> {
        self.told.subscribe()
    }
}
