//! The signals that ask a process to end.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::Failure;

/// SIGTERM, SIGINT and SIGHUP, each counted.
pub(crate) struct Ends {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Ends {
    /// From now on the signals no longer end the process by themselves.
    ///
    /// # Errors
    /// `Unavailable` if the system gives no handler.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| Failure::unavailable("can't listen for signals", &error))
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// The next one, by its name. Safe to drop before it is ready.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.hangup.recv() => "SIGHUP",
        }
    }
}
