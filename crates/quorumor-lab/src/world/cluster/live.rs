//! What a person is shown while a world runs: the stage, and how the operations fare so far.
//!
//! Not the history. Written by the world, read by whoever draws ([`crate::compare`]).

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::checker::availability::{Counts, Fared};

/// The state of a run, as far as a progress line needs it.
#[derive(Debug, Default)]
pub struct Live {
    stage: Mutex<String>,
    done: AtomicU64,
    total: AtomicU64,
    ok: AtomicU64,
    refused: AtomicU64,
    unknown: AtomicU64,
    held_back: AtomicU64,
}

impl Live {
    /// What is going on now.
    pub fn stage(&self) -> String {
        self.stage.lock().clone()
    }

    /// Says what is going on now.
    pub fn set_stage(&self, stage: impl Into<String>) {
        *self.stage.lock() = stage.into();
    }

    /// Time zero: nothing is done of so many operations.
    pub fn begin(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
        self.done.store(0, Ordering::Relaxed);
        for counter in [&self.ok, &self.refused, &self.unknown, &self.held_back] {
            counter.store(0, Ordering::Relaxed);
        }
    }

    /// Counts an operation that has ended.
    pub fn count(&self, fared: Fared) {
        let counter = match fared {
            Fared::Ok => &self.ok,
            Fared::Refused => &self.refused,
            Fared::Unknown => &self.unknown,
            Fared::HeldBack => &self.held_back,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    /// Operations ended, and operations in all.
    pub fn progress(&self) -> (u64, u64) {
        (
            self.done.load(Ordering::Relaxed),
            self.total.load(Ordering::Relaxed),
        )
    }

    /// How they fared.
    pub fn counts(&self) -> Counts {
        Counts {
            ok: self.ok.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            unknown: self.unknown.load(Ordering::Relaxed),
            held_back: self.held_back.load(Ordering::Relaxed),
        }
    }
}
