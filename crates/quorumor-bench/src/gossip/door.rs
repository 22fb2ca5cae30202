//! One connection to one agent of either system, and what is asked through it: who is alive, and updates to be told to all.

use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::agents::{Agents, System};
use super::serf::{self, SerfRpc};
use crate::BenchError;
use crate::load::CallError;
use crate::target::quorumor::Gossiper;

/// What an update is called, at every agent: the key's prefix, the event's name, the tag's.
const NAME: &str = "bench";

/// A way to tell all agents something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Update {
    /// Quorumor's put: kept by the asked node's disk, seen by a watch at each other.
    Put,
    /// Serf's user event: kept by nobody, streamed by each agent.
    Event,
    /// Serf's tag of an agent: held by all in memory. Its agents' streams hold such changes back for a second or more, to
    /// merge them, so each agent is asked instead.
    Tag,
}

impl Update {
    /// What a system can be told by.
    #[must_use]
    pub const fn all_of(system: System) -> &'static [Self] {
        match system {
            System::Quorumor => &[Self::Put],
            System::Serf => &[Self::Event, Self::Tag],
        }
    }

    /// Its name in results.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Event => "event",
            Self::Tag => "tag",
        }
    }
}

/// An agent has seen an update.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) agent: usize,
    /// What was told; none if the agent can't be followed any more.
    pub(super) text: Option<String>,
    pub(super) at: Instant,
}

/// A connection to an agent.
#[derive(Debug)]
pub(super) enum Door {
    Quorumor(Gossiper),
    Serf(SerfRpc),
}

impl Door {
    pub(super) async fn open(system: System, address: &str) -> Result<Self, BenchError> {
        match system {
            System::Quorumor => Gossiper::connect(address).await.map(Self::Quorumor),
            System::Serf => match SerfRpc::connect(address).await {
                Ok(rpc) => Ok(Self::Serf(rpc)),
                Err(error) => Err(BenchError::Unreachable {
                    target: system.to_string(),
                    endpoint: address.to_owned(),
                    why: error.to_string(),
                }),
            },
        }
    }

    /// How many members the agent holds to be alive, itself included.
    pub(super) async fn alive(&mut self) -> Result<usize, CallError> {
        match self {
            Self::Quorumor(gossiper) => gossiper.alive().await,
            Self::Serf(rpc) => rpc.alive().await,
        }
    }

    /// How many members the agent holds for dead.
    pub(super) async fn dead(&mut self) -> Result<usize, CallError> {
        match self {
            Self::Quorumor(gossiper) => gossiper.dead().await,
            Self::Serf(rpc) => rpc.dead().await,
        }
    }

    /// Tells all of them something, through this agent.
    pub(super) async fn tell(&mut self, update: Update, text: &str) -> Result<(), CallError> {
        match (self, update) {
            (Self::Quorumor(gossiper), Update::Put) => {
                let key = format!("{NAME}/{text}");
                gossiper.put(key, text.to_owned().into_bytes().into()).await
            }
            (Self::Serf(rpc), Update::Event) => rpc.event(NAME, text).await,
            (Self::Serf(rpc), Update::Tag) => rpc.set_tag(NAME, text).await,
            (Self::Quorumor(_), Update::Event | Update::Tag) | (Self::Serf(_), Update::Put) => {
                let update = update.as_str();
                Err(CallError(format!("this system knows no {update}")))
            }
        }
    }

    /// Whether the agent has seen another's tag with this text.
    pub(super) async fn has_tag(&mut self, of: usize, text: &str) -> Result<bool, CallError> {
        match self {
            Self::Quorumor(_) => Err(CallError("this system knows no tag".to_owned())),
            Self::Serf(rpc) => {
                let member = rpc.member(&Agents::name(of)).await?;
                Ok(member.is_some_and(|member| serf::tag_of(&member, NAME) == Some(text)))
            }
        }
    }

    /// Reports every update that the agent sees, from now on, until the receiver is gone or the agent.
    pub(super) async fn follow(
        self,
        agent: usize,
        seen: mpsc::Sender<Seen>,
    ) -> Result<(), CallError> {
        match self {
            Self::Quorumor(gossiper) => {
                let mut values = gossiper.watch(NAME).await?;
                tokio::spawn(async move {
                    // The stream is let go with the receiver, so that nothing is sent for nobody.
                    while let Some(Some(Ok(values))) = until_closed(&seen, values.next()).await {
                        let at = Instant::now();
                        for value in values {
                            let text = String::from_utf8(value.to_vec()).ok();
                            let _gone = seen.send(Seen { agent, text, at }).await;
                        }
                    }
                    let _gone = seen.send(Seen::lost(agent)).await;
                });
            }
            Self::Serf(mut rpc) => {
                rpc.follow(NAME).await?;
                tokio::spawn(async move {
                    while let Some(Ok(text)) = until_closed(&seen, rpc.next_event()).await {
                        let at = Instant::now();
                        let text = Some(text);
                        let _gone = seen.send(Seen { agent, text, at }).await;
                    }
                    let _gone = seen.send(Seen::lost(agent)).await;
                });
            }
        }
        Ok(())
    }
}

impl Seen {
    fn lost(agent: usize) -> Self {
        Self {
            agent,
            text: None,
            at: Instant::now(),
        }
    }
}

async fn until_closed<T>(seen: &mpsc::Sender<Seen>, next: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        next = next => Some(next),
        () = seen.closed() => None,
    }
}

/// Asks every so often until the answer is yes, and gives the middle of the time in which it became so.
pub(super) async fn ask_until(
    every: Duration,
    since: Instant,
    mut ask: impl AsyncFnMut() -> Result<bool, CallError>,
) -> Result<Instant, CallError> {
    let mut last_no = since;
    while !ask().await? {
        last_no = Instant::now();
        tokio::time::sleep(every).await;
    }
    Ok(last_no + (Instant::now() - last_no) / 2)
}
