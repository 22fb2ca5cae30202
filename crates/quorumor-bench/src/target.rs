//! Who is measured: how to reach it, who leads it, and one caller for each connection. One file a protocol.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use tonic::transport::{Channel, Endpoint};

use crate::BenchError;
use crate::load::{Call, CallError};
use crate::op::{DISCOVERED, KeySpace, Op};
use crate::target::echo::EchoCaller;
use crate::target::etcd::EtcdCaller;
use crate::target::quorumor::QuorumorCaller;
use crate::watch::Values;

pub mod echo;
pub mod etcd;
pub mod quorumor;

/// Registrations under way while the discovered service is set up.
const REGISTER_IN_FLIGHT: usize = 16;
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// A call that takes longer has failed.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Of a lease that is kept alive: no cell lasts so long.
const LEASE_TTL_S: i64 = 300;
/// Of the instances that are discovered: no run lasts so long.
const SERVICE_LEASE_TTL_S: i64 = 6 * 3_600;
const STREAM_WINDOW_BYTES: u32 = 2 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// Which protocol a target speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Quorumor's StateService.
    Quorumor,
    /// etcd's v3 gRPC.
    Etcd,
    /// The bare echo.
    Echo,
}

impl Protocol {
    /// Its name, as typed and as shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quorumor => "quorumor",
            Self::Etcd => "etcd",
            Self::Echo => "echo",
        }
    }

    /// Where its writes go unless told otherwise.
    #[must_use]
    pub const fn default_writes(self, mode: Mode) -> Writes {
        match (self, mode) {
            (Self::Quorumor, Mode::Strong) => Writes::Leader,
            // In eventual mode nobody leads, and a node keeps what it is given.
            (Self::Quorumor, Mode::Eventual) | (Self::Etcd | Self::Echo, _) => Writes::AllNodes,
        }
    }
}

/// In which mode Quorumor is asked. Other protocols have only one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Raft: a leader, linearizable.
    #[default]
    Strong,
    /// Gossip: every node serves by itself.
    Eventual,
}

impl Mode {
    /// Its name, as typed and as shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Strong => "strong",
            Self::Eventual => "eventual",
        }
    }
}

/// Where writes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// Over the connections that reach the leader.
    Leader,
    /// Over every connection; a node that isn't the leader passes them on.
    AllNodes,
}

/// How Quorumor is called. Other protocols have only one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallStyle {
    /// A call an operation, as with the others.
    Unary,
    /// Many operations over one stream a connection.
    Exchange,
}

/// Which nodes are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Connections over all nodes, in turn.
    AllNodes,
    /// All connections to the leader.
    Leader,
}

/// A target: a cluster that serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// How it is called in tables.
    pub name: String,
    /// What it speaks.
    pub protocol: Protocol,
    /// Its nodes' client addresses, host:port.
    pub endpoints: Vec<String>,
    /// Its nodes' processes, if they run here and are to be measured.
    pub pids: Vec<u32>,
    /// Where its writes go.
    pub writes: Writes,
    /// In which mode it is asked.
    pub mode: Mode,
    /// How it is called.
    pub call: CallStyle,
}

impl FromStr for Target {
    type Err = String;

    /// `PROTOCOL[:NAME]=ADDRESS,ADDRESS`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (who, endpoints) = text
            .split_once('=')
            .ok_or_else(|| format!("`{text}` has no `=`: write PROTOCOL=ADDRESS,ADDRESS"))?;
        let (protocol, name) = who.split_once(':').unwrap_or((who, who));
        let protocol = [Protocol::Quorumor, Protocol::Etcd, Protocol::Echo]
            .into_iter()
            .find(|known| known.as_str() == protocol)
            .ok_or_else(|| format!("`{protocol}` is none of quorumor, etcd, echo"))?;
        let endpoints: Vec<_> = endpoints
            .split(',')
            .map(|endpoint| endpoint.trim().trim_start_matches("http://").to_owned())
            .collect();
        if endpoints.iter().any(|endpoint| !endpoint.contains(':')) {
            return Err(format!("`{text}`: an address is host:port"));
        }
        Ok(Self {
            name: name.to_owned(),
            protocol,
            endpoints,
            pids: Vec::new(),
            writes: protocol.default_writes(Mode::Strong),
            mode: Mode::Strong,
            call: CallStyle::Unary,
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name)
    }
}

/// Connections to a target.
#[derive(Clone, Debug)]
pub struct Session {
    /// One for each connection.
    pub readers: Vec<Caller>,
    /// Those that writes go through.
    pub writers: Vec<Caller>,
}

impl Target {
    /// Opens connections.
    ///
    /// # Errors
    /// If a node doesn't answer, or the leader is needed and not known.
    pub async fn connect(
        &self,
        place: Place,
        connections: usize,
        keys: &KeySpace,
    ) -> Result<Session, BenchError> {
        let needs_leader = place == Place::Leader || self.writes == Writes::Leader;
        let leader = if needs_leader {
            Some(self.leader().await?)
        } else {
            None
        };
        let nodes: Vec<usize> = match (place, leader) {
            (Place::Leader, Some(leader)) => vec![leader],
            (Place::AllNodes | Place::Leader, _) => (0..self.endpoints.len()).collect(),
        };
        let mut readers = Vec::new();
        let mut writers = Vec::new();
        // Never fewer than one for each node, else some would not be asked at all.
        for index in 0..connections.max(nodes.len()) {
            let node = nodes[index % nodes.len()];
            let caller = self.caller(node, keys).await?;
            let writes = match self.writes {
                Writes::AllNodes => true,
                Writes::Leader => leader == Some(node),
            };
            if writes {
                writers.push(caller.clone());
            }
            readers.push(caller);
        }
        Ok(Session { readers, writers })
    }

    /// Which endpoint leads, by place in the list.
    ///
    /// # Errors
    /// If a node doesn't answer or nobody leads.
    pub async fn leader(&self) -> Result<usize, BenchError> {
        let found = match self.protocol {
            Protocol::Quorumor => quorumor::leader(self).await?,
            Protocol::Etcd => etcd::leader(self).await?,
            Protocol::Echo => Some(0),
        };
        found.ok_or_else(|| BenchError::Unfit {
            target: self.name.clone(),
            why: "no endpoint says that it leads; name the addresses of all nodes".to_owned(),
        })
    }

    /// The same, asked in this mode, with its writes where they go in it.
    #[must_use]
    pub fn in_mode(self, mode: Mode) -> Self {
        Self {
            mode,
            writes: self.protocol.default_writes(mode),
            ..self
        }
    }

    /// One connection to one node.
    pub(crate) async fn channel(&self, node: usize) -> Result<Channel, BenchError> {
        let address = &self.endpoints[node % self.endpoints.len()];
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|error| self.unreachable(node, &error))?;
        endpoint
            .connect_timeout(CONNECT_WITHIN)
            .timeout(ANSWER_WITHIN)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .connect()
            .await
            .map_err(|error| self.unreachable(node, &error))
    }

    async fn caller(&self, node: usize, keys: &KeySpace) -> Result<Caller, BenchError> {
        let channel = self.channel(node).await?;
        Ok(match self.protocol {
            Protocol::Quorumor => {
                let keys = keys.clone();
                Caller::Quorumor(Box::new(QuorumorCaller::new(
                    channel, self.mode, self.call, keys,
                )))
            }
            Protocol::Etcd => Caller::Etcd(Box::new(EtcdCaller::new(channel, keys.clone()))),
            Protocol::Echo => Caller::Echo(EchoCaller::new(channel, keys.clone())),
        })
    }

    pub(crate) fn unreachable(&self, node: usize, error: &dyn std::error::Error) -> BenchError {
        BenchError::Unreachable {
            target: self.name.clone(),
            endpoint: self.endpoints[node % self.endpoints.len()].clone(),
            why: chain(error),
        }
    }
}

/// What the discovered service lives by.
enum ServiceLease {
    Quorumor(u64),
    Etcd(i64),
}

/// A caller of any protocol.
#[derive(Clone, Debug)]
pub enum Caller {
    /// Of Quorumor.
    Quorumor(Box<QuorumorCaller>),
    /// Of etcd.
    Etcd(Box<EtcdCaller>),
    /// Of an echo.
    Echo(EchoCaller),
}

impl Caller {
    /// Registers the service that is discovered, some instances at a time.
    pub(crate) async fn register_service(&self) -> Result<(), CallError> {
        let lease = match self {
            Self::Quorumor(caller) => ServiceLease::Quorumor(caller.service_lease().await?),
            Self::Etcd(caller) => ServiceLease::Etcd(caller.service_lease().await?),
            Self::Echo(_) => return Ok(()),
        };
        let registered = stream::iter(0..DISCOVERED)
            .map(|number| self.register(number, &lease))
            .buffer_unordered(REGISTER_IN_FLIGHT);
        registered.try_collect().await
    }

    async fn register(&self, number: usize, lease: &ServiceLease) -> Result<(), CallError> {
        match (self, lease) {
            (Self::Quorumor(caller), ServiceLease::Quorumor(lease)) => {
                caller.register(number, *lease).await
            }
            (Self::Etcd(caller), ServiceLease::Etcd(lease)) => {
                caller.register(number, *lease).await
            }
            (Self::Quorumor(_) | Self::Etcd(_) | Self::Echo(_), _) => {
                Err(CallError("a lease of another protocol".to_owned()))
            }
        }
    }

    /// Watches a prefix from now on; the watch stands when this returns.
    pub(crate) async fn watch(&self, prefix: &str) -> Result<Values, CallError> {
        match self {
            Self::Quorumor(caller) => caller.watch(prefix).await,
            Self::Etcd(caller) => caller.watch(prefix).await,
            Self::Echo(_) => Err(CallError("an echo can't be watched".to_owned())),
        }
    }
}

/// What belongs to one caller and isn't cloned with it.
#[derive(Debug)]
pub(crate) struct Own<T>(pub(crate) Option<T>);

impl<T> Clone for Own<T> {
    fn clone(&self) -> Self {
        Self(None)
    }
}

impl Call for Caller {
    async fn call(&mut self, op: Op) -> Result<(), CallError> {
        match self {
            Self::Quorumor(caller) => caller.call(op).await,
            Self::Etcd(caller) => caller.call(op).await,
            Self::Echo(caller) => caller.call(op).await,
        }
    }
}

/// A status in few words: equal failures must read equal, so that they are counted together.
pub(crate) fn call_error(status: &tonic::Status) -> CallError {
    let message: String = status.message().chars().take(80).collect();
    let message: String = message
        .chars()
        .map(|letter| if letter.is_ascii_digit() { '#' } else { letter })
        .collect();
    CallError(format!("{:?}: {message}", status.code()))
}

/// An error with all its causes: a transport's own text says nothing.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_typed_as_protocol_name_and_addresses() {
        let target: Target = "quorumor:new=127.0.0.1:1,http://127.0.0.1:2"
            .parse()
            .unwrap();
        assert_eq!(target.name, "new");
        assert_eq!(target.protocol, Protocol::Quorumor);
        assert_eq!(target.endpoints, ["127.0.0.1:1", "127.0.0.1:2"]);
        for (text, hint) in [
            ("etcd", "no `=`"),
            ("redis=a:1", "none of"),
            ("etcd=a:1,b", "host:port"),
        ] {
            let error = text.parse::<Target>().unwrap_err();
            assert!(error.contains(hint), "{error}");
        }
    }

    #[tokio::test]
    async fn a_dead_endpoint_is_named() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = port.local_addr().unwrap().to_string();
        drop(port);
        let target: Target = format!("etcd={address}").parse().unwrap();
        let keys = KeySpace::new("k", 1);
        let error = target.connect(Place::AllNodes, 1, &keys).await.unwrap_err();
        assert!(error.to_string().contains(&address), "{error}");
    }

    #[test]
    fn statuses_that_differ_in_numbers_only_are_one_kind() {
        let one = call_error(&tonic::Status::unavailable("no leader at index 17"));
        let two = call_error(&tonic::Status::unavailable("no leader at index 18"));
        assert_eq!(one, two);
    }
}
