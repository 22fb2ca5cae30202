//! The logical processes of the clients: who may send now, and under which id and session.
//!
//! Not a connection. A world asks for the process of a planned operation, and gives it back with the outcome. A
//! process that got an unknown outcome is retired: its next operation would otherwise overlap the one that may
//! still be applied. The session goes on in the next process, with the last token that was received.

use std::collections::BTreeMap;

use crate::history::{ClientId, Outcome, ProcessId, SessionId};

#[derive(Clone, Debug)]
struct Lane {
    process: ProcessId,
    session: SessionId,
    token: Option<String>,
    busy: bool,
}

/// What an operation is sent as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The process that sends it.
    pub process: ProcessId,
    /// The session it belongs to.
    pub session: SessionId,
    /// The session token to send, in hexadecimal.
    pub token: Option<String>,
    client: ClientId,
    lane: u32,
}

impl Ticket {
    /// Which of the client's lanes it belongs to.
    pub fn lane(&self) -> u32 {
        self.lane
    }
}

/// All processes of a run.
#[derive(Debug, Default)]
pub struct Processes {
    lanes: BTreeMap<(ClientId, u32), Lane>,
    last: u64,
}

impl Processes {
    /// No process yet; they are made when they are first asked for.
    pub fn new() -> Self {
        Self::default()
    }

    /// The process for an operation of this client and lane, or none if it is still busy: the operation is then
    /// recorded as held back, under the id that [`Processes::fresh`] gives.
    pub fn begin(&mut self, client: ClientId, lane: u32) -> Option<Ticket> {
        if !self.lanes.contains_key(&(client, lane)) {
            let process = self.fresh();
            let session = SessionId(process.0);
            self.lanes.insert(
                (client, lane),
                Lane {
                    process,
                    session,
                    token: None,
                    busy: false,
                },
            );
        }
        let entry = self
            .lanes
            .get_mut(&(client, lane))
            .filter(|entry| !entry.busy)?;
        entry.busy = true;
        Some(Ticket {
            process: entry.process,
            session: entry.session,
            token: entry.token.clone(),
            client,
            lane,
        })
    }

    /// Gives a process back with how its operation ended and the token it received, if any.
    pub fn end(&mut self, ticket: &Ticket, outcome: Outcome, token: Option<String>) {
        let fresh = match outcome {
            Outcome::Ok | Outcome::Fail => None,
            Outcome::Unknown => Some(self.fresh()),
        };
        if let Some(entry) = self.lanes.get_mut(&(ticket.client, ticket.lane)) {
            entry.busy = false;
            entry.token = token.or_else(|| entry.token.take());
            entry.process = fresh.unwrap_or(entry.process);
        }
    }

    /// A process id that nobody else has.
    pub fn fresh(&mut self) -> ProcessId {
        self.last += 1;
        ProcessId(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_one_operation_at_a_time_and_is_retired_after_an_unknown_one() {
        let mut processes = Processes::new();
        let first = processes.begin(ClientId(1), 0).unwrap();
        assert_eq!(processes.begin(ClientId(1), 0), None);
        assert_ne!(
            processes.begin(ClientId(1), 1).unwrap().process,
            first.process
        );
        processes.end(&first, Outcome::Ok, Some("aa".to_owned()));
        let second = processes.begin(ClientId(1), 0).unwrap();
        assert_eq!(
            (second.process, second.token.as_deref()),
            (first.process, Some("aa"))
        );
        processes.end(&second, Outcome::Unknown, None);
        let third = processes.begin(ClientId(1), 0).unwrap();
        assert_ne!(third.process, first.process);
        assert_eq!(
            (third.session, third.token.as_deref()),
            (first.session, Some("aa"))
        );
    }
}
