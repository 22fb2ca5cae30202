//! Why a node must stop, and who notices.

use quorumor_core::Mode;
use tokio::sync::mpsc;

/// Something broke that the node can't go on without.
#[derive(Debug, thiserror::Error)]
pub enum FatalError {
    /// The log failed to write or sync: nothing more can be promised.
    #[error("the {mode} log failed: {why}")]
    Log {
        /// Whose log.
        mode: Mode,
        /// What happened.
        why: String,
    },
    /// A part of the node ended that must not.
    #[error("the {part} of {mode} mode ended unexpectedly")]
    Ended {
        /// Which part.
        part: &'static str,
        /// Of which mode.
        mode: Mode,
    },
    /// The client port failed.
    #[error("the client port failed: {why}")]
    ClientPort {
        /// What happened.
        why: String,
    },
}

/// Where fatal errors are told. Room for every part that can fail.
pub(crate) type FatalSender = mpsc::Sender<FatalError>;

/// Sounds when a part panics. One that is merely dropped, as all are when the program ends, stays silent.
#[derive(Debug)]
pub(crate) struct Alarm {
    part: &'static str,
    mode: Mode,
    fatal: FatalSender,
    armed: bool,
}

impl Alarm {
    pub(crate) fn new(part: &'static str, mode: Mode, fatal: FatalSender) -> Self {
        Self {
            part,
            mode,
            fatal,
            armed: true,
        }
    }

    /// The part ends as it should.
    pub(crate) fn disarm(mut self) {
        self.armed = false;
    }

    /// The part ends because its log failed.
    pub(crate) fn log_failed(mut self, why: String) {
        self.armed = false;
        let mode = self.mode;
        tracing::error!(%mode, why, "the log failed, the node must stop");
        // If the channel is full, the node stops already.
        let _ = self.fatal.try_send(FatalError::Log { mode, why });
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if self.armed && std::thread::panicking() {
            let (part, mode) = (self.part, self.mode);
            tracing::error!(%mode, part, "ended unexpectedly, the node must stop");
            let _ = self.fatal.try_send(FatalError::Ended { part, mode });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_sounds_and_being_dropped_does_not() {
        let (fatal, mut told) = mpsc::channel(4);
        let alarm = || Alarm::new("driver", Mode::Strong, fatal.clone());
        drop(alarm());
        alarm().disarm();
        assert!(told.try_recv().is_err());
        let alarm = alarm();
        let part = std::thread::spawn(move || {
            let _alarm = alarm;
            panic!("as it must not");
        });
        assert!(part.join().is_err());
        assert!(matches!(told.try_recv(), Ok(FatalError::Ended { .. })));
    }
}
