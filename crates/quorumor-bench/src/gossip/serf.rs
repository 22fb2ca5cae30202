//! A client of Serf's RPC: <https://www.serf.io/docs/agent/rpc.html>. One request at a time; a stream of events takes its
//! connection for itself.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::msgpack::Value;
use crate::load::CallError;

/// The version of the protocol that is spoken.
const VERSION: i64 = 1;
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// A single message isn't longer: all members of a big cluster.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// A connection to an agent.
#[derive(Debug)]
pub(super) struct SerfRpc {
    stream: TcpStream,
    /// What was read and not yet understood.
    read: Vec<u8>,
    sequence: i64,
}

/// What an agent counts.
struct Statistics {
    /// Whoever it knows, the dead included.
    members: usize,
    failed: usize,
    left: usize,
}

impl SerfRpc {
    /// Connects, and greets the agent.
    pub(super) async fn connect(address: &str) -> Result<Self, CallError> {
        let stream = TcpStream::connect(address).await.map_err(io)?;
        stream.set_nodelay(true).map_err(io)?;
        let mut rpc = Self {
            stream,
            read: Vec::new(),
            sequence: 0,
        };
        let version = Value::map([("Version", Value::Int(VERSION))]);
        rpc.order("handshake", version).await?;
        Ok(rpc)
    }

    /// Sends a user event, which the agents mustn't hold back to merge it with others.
    pub(super) async fn event(&mut self, name: &str, payload: &str) -> Result<(), CallError> {
        let event = Value::map([
            ("Name", Value::text(name)),
            ("Payload", Value::text(payload)),
            ("Coalesce", Value::Bool(false)),
        ]);
        self.order("event", event).await
    }

    /// Sets a tag of the agent. The answer comes when the agent has told it to as many others as it means to.
    pub(super) async fn set_tag(&mut self, name: &str, value: &str) -> Result<(), CallError> {
        let tags = Value::map([(name, Value::text(value))]);
        let change = Value::map([("Tags", tags), ("DeleteTags", Value::Array(Vec::new()))]);
        self.order("tags", change).await
    }

    /// How many members the agent holds to be alive.
    pub(super) async fn alive(&mut self) -> Result<usize, CallError> {
        let stats = self.statistics().await?;
        let known = stats.members.checked_sub(stats.failed + stats.left);
        known.ok_or_else(uncounted)
    }

    /// How many members the agent holds for dead.
    pub(super) async fn dead(&mut self) -> Result<usize, CallError> {
        Ok(self.statistics().await?.failed)
    }

    async fn statistics(&mut self) -> Result<Statistics, CallError> {
        let stats = self.ask("stats", None).await?;
        let count = |name: &str| -> Option<usize> {
            stats.field("serf")?.field(name)?.as_text()?.parse().ok()
        };
        let counted = || {
            Some(Statistics {
                members: count("members")?,
                failed: count("failed")?,
                left: count("left")?,
            })
        };
        counted().ok_or_else(uncounted)
    }

    /// What the agent knows of a member; none if it doesn't know it.
    pub(super) async fn member(&mut self, name: &str) -> Result<Option<Value>, CallError> {
        let filter = Value::map([
            ("Name", Value::text(name)),
            ("Status", Value::text("")),
            ("Tags", Value::Map(Vec::new())),
        ]);
        let answer = self.ask("members-filtered", Some(filter)).await?;
        let members = answer.field("Members").map_or(&[][..], Value::items);
        Ok(members.first().cloned())
    }

    /// Asks for the user events of this name, from now on. Nothing else can be asked afterwards.
    pub(super) async fn follow(&mut self, name: &str) -> Result<(), CallError> {
        let which = Value::map([("Type", Value::text(&format!("user:{name}")))]);
        self.order("stream", which).await
    }

    /// The payload of the next event that was asked for.
    pub(super) async fn next_event(&mut self) -> Result<String, CallError> {
        self.header().await?;
        let event = self.value().await?;
        let payload = event.field("Payload").and_then(Value::as_text);
        payload
            .map(str::to_owned)
            .ok_or_else(|| CallError("an event of Serf without a payload".to_owned()))
    }

    /// A command that is answered by yes or no.
    async fn order(&mut self, command: &str, body: Value) -> Result<(), CallError> {
        self.send(command, Some(body)).await?;
        within(self.header()).await
    }

    /// A command that is answered by a value.
    async fn ask(&mut self, command: &str, body: Option<Value>) -> Result<Value, CallError> {
        self.send(command, body).await?;
        within(async {
            self.header().await?;
            self.value().await
        })
        .await
    }

    async fn send(&mut self, command: &str, body: Option<Value>) -> Result<(), CallError> {
        self.sequence += 1;
        let header = Value::map([
            ("Command", Value::text(command)),
            ("Seq", Value::Int(self.sequence)),
        ]);
        let mut bytes = Vec::new();
        header.encode(&mut bytes);
        if let Some(body) = body {
            body.encode(&mut bytes);
        }
        self.stream.write_all(&bytes).await.map_err(io)
    }

    async fn header(&mut self) -> Result<(), CallError> {
        let header = self.value().await?;
        match header.field("Error").and_then(Value::as_text) {
            Some("") => Ok(()),
            Some(error) => Err(CallError(format!("Serf: {error}"))),
            None => Err(CallError("an answer of Serf without a header".to_owned())),
        }
    }

    async fn value(&mut self) -> Result<Value, CallError> {
        loop {
            let decoded = Value::decode(&self.read);
            let decoded = decoded.map_err(|error| CallError(format!("Serf: {error}")))?;
            if let Some((value, used)) = decoded {
                self.read.drain(..used);
                return Ok(value);
            }
            let ended = self.stream.read_buf(&mut self.read).await.map_err(io)? == 0;
            if ended || self.read.len() > MESSAGE_BYTES_MAX {
                return Err(CallError("Serf's connection has ended".to_owned()));
            }
        }
    }
}

/// A tag of a member.
pub(super) fn tag_of<'a>(member: &'a Value, name: &str) -> Option<&'a str> {
    member.field("Tags")?.field(name)?.as_text()
}

async fn within<T>(answer: impl Future<Output = Result<T, CallError>>) -> Result<T, CallError> {
    timeout(ANSWER_WITHIN, answer)
        .await
        .unwrap_or_else(|_| Err(CallError("Serf doesn't answer".to_owned())))
}

fn uncounted() -> CallError {
    CallError("Serf's statistics count no members".to_owned())
}

fn io(error: std::io::Error) -> CallError {
    CallError(format!("Serf: {}", error.kind()))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// An agent that says what it is told to, whatever it is asked.
    async fn agent(says: Vec<Value>) -> SerfRpc {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = Vec::new();
            for value in std::iter::once(fine()).chain(says) {
                value.encode(&mut bytes);
            }
            // In pieces, as a network may give them.
            for piece in bytes.chunks(7) {
                stream.write_all(piece).await.unwrap();
                stream.flush().await.unwrap();
            }
            let mut heard = Vec::new();
            let _ended = stream.read_to_end(&mut heard).await;
        });
        SerfRpc::connect(&address).await.unwrap()
    }

    fn fine() -> Value {
        header("")
    }

    fn header(error: &str) -> Value {
        Value::map([("Seq", Value::Int(1)), ("Error", Value::text(error))])
    }

    #[tokio::test]
    async fn statistics_are_counted() {
        let counts = Value::map([
            ("members", Value::text("10")),
            ("failed", Value::text("2")),
            ("left", Value::text("1")),
        ]);
        let stats = Value::map([("serf", counts)]);
        let nothing = Value::map([]);
        let says = vec![fine(), stats.clone(), fine(), stats, fine(), nothing];
        let mut agent = agent(says).await;
        assert_eq!(agent.alive().await, Ok(7));
        assert_eq!(agent.dead().await, Ok(2));
        assert!(agent.dead().await.is_err());
    }

    #[tokio::test]
    async fn a_member_has_tags() {
        let member = Value::map([("Tags", Value::map([("bench", Value::text("x"))]))]);
        let members = Value::map([("Members", Value::Array(vec![member]))]);
        let nobody = Value::map([("Members", Value::Nil)]);
        let mut agent = agent(vec![fine(), members, fine(), nobody]).await;
        let member = agent.member("n1").await.unwrap().unwrap();
        assert_eq!(tag_of(&member, "bench"), Some("x"));
        assert_eq!(agent.member("n2").await, Ok(None));
    }

    #[tokio::test]
    async fn events_are_followed_and_refusals_are_told() {
        let event = Value::map([
            ("Event", Value::text("user")),
            ("Payload", Value::text("7")),
        ]);
        let says = vec![fine(), fine(), event, header("no")];
        let mut agent = agent(says).await;
        agent.follow("bench").await.unwrap();
        assert_eq!(agent.next_event().await, Ok("7".to_owned()));
        let refused = agent.event("bench", "8").await;
        assert_eq!(refused, Err(CallError("Serf: no".to_owned())));
    }
}
