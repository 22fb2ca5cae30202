//! What two nodes say when a stream opens: cluster, node, stores, versions, mode. Each side refuses with a reason that a
//! person understands. The judging here is pure; the reading and writing is for `lane.rs` and `accept.rs`.

use prost::Message;
use quorumor_core::{Mode, NodeId, StoreId, StreamClass};
use quorumor_proto::pb;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Identity;
use crate::data_dir::StoreConflict;
use crate::envelope::{EnvelopeError, Hello, mode_byte};
use crate::key::KeyFailure;
use crate::tls::{Failure, Stream};

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("the stream broke: {0}")]
    Io(std::io::Error),
    /// There is no encryption that both agree on.
    #[error("{0}")]
    Tls(Failure),
    /// There is no cluster key that both have.
    #[error("{0}")]
    Key(#[from] KeyFailure),
    #[error("the other side doesn't speak this protocol: {0}")]
    Envelope(#[from] EnvelopeError),
    #[error("the handshake can't be read: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// This side refuses, and has told so.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// The other side refuses.
    #[error("the peer refused: {0}")]
    RefusedByPeer(Refusal),
}

impl From<std::io::Error> for HandshakeError {
    /// Who is refused by TLS hears it where the first bytes are read.
    fn from(error: std::io::Error) -> Self {
        Failure::of(&error).map_or(Self::Io(error), Self::Tls)
    }
}

/// A reason for programs, and one for a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub(super) struct Refusal {
    pub(super) reason: pb::RefusalReason,
    pub(super) why: String,
}

impl Refusal {
    const fn new(reason: pb::RefusalReason, why: String) -> Self {
        Self { reason, why }
    }

    fn is_about_key(&self) -> bool {
        self.reason == pb::RefusalReason::Key
    }

    /// The dialler has no cluster key, where there is one.
    pub(super) fn no_key(node: u64) -> Self {
        let why = format!(
            "the peer, which says that it is node {node}, has no cluster key, and this node wants it proved (--cluster-key)"
        );
        Self::new(pb::RefusalReason::Key, why)
    }

    /// The certificate isn't that of the node it's shown for.
    pub(super) const fn certificate(why: String) -> Self {
        Self::new(pb::RefusalReason::Node, why)
    }

    /// The dialler isn't who it was.
    pub(super) fn dialler_store(conflict: StoreConflict) -> Self {
        Self::new(pb::RefusalReason::DiallerStore, conflict.to_string())
    }

    /// The node that was dialled isn't who it was.
    pub(super) fn target_store(conflict: StoreConflict) -> Self {
        Self::new(pb::RefusalReason::TargetStore, conflict.to_string())
    }
}

/// Who dialled, judged fit to be heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dialler {
    pub(super) version: u32,
    pub(super) node: NodeId,
    pub(super) store: StoreId,
    /// The stream's mode.
    pub(super) mode: Mode,
}

impl HandshakeError {
    /// For the metric's label.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Io(_) => "io",
            Self::Tls(_) => "tls",
            Self::Envelope(error) => error.as_str(),
            Self::Malformed(_) => "malformed",
            Self::Key(failure) => failure.reason,
            Self::Refused(refusal) if refusal.is_about_key() => "no_key",
            Self::Refused(_) => "refused",
            Self::RefusedByPeer(refusal) if refusal.is_about_key() => "refused_no_key",
            Self::RefusedByPeer(_) => "refused_by_peer",
        }
    }
}

/// What the dialler says. `remembered` is the store that it met the target with.
pub(super) fn handshake(
    me: &Identity,
    mode: Mode,
    target: NodeId,
    remembered: Option<StoreId>,
) -> pb::Handshake {
    pb::Handshake {
        version_min: *me.protocol.start(),
        version_max: *me.protocol.end(),
        cluster_name: me.cluster_name.clone(),
        node_id: me.node.as_u64(),
        store_id: me.store.as_u64(),
        target_node_id: target.as_u64(),
        mode: me.cluster(mode).map(|cluster| pb::PeerMode {
            mode: mode_byte(mode).into(),
            cluster_id: cluster.as_u64(),
        }),
        target_store_id: remembered.map_or(0, StoreId::as_u64),
    }
}

/// What the node that was dialled makes of it: who dialled, or why not.
pub(super) fn judge(me: &Identity, dialler: &pb::Handshake) -> Result<Dialler, Refusal> {
    let version = (*me.protocol.end()).min(dialler.version_max);
    if version < *me.protocol.start() || version < dialler.version_min {
        let why = format!(
            "node {} speaks peer protocol {} to {}, node {} speaks {} to {}",
            dialler.node_id,
            dialler.version_min,
            dialler.version_max,
            me.node,
            me.protocol.start(),
            me.protocol.end()
        );
        return Err(Refusal::new(pb::RefusalReason::Version, why));
    }
    if dialler.cluster_name != me.cluster_name {
        let why = format!(
            "this is cluster {:?}, not {:?}",
            me.cluster_name, dialler.cluster_name
        );
        return Err(Refusal::new(pb::RefusalReason::Cluster, why));
    }
    let node =
        judge_nodes(me, dialler).map_err(|why| Refusal::new(pb::RefusalReason::Node, why))?;
    let mode = judge_mode(me, dialler.mode.as_ref())?;
    if dialler.target_store_id != 0 && dialler.target_store_id != me.store.as_u64() {
        let conflict = StoreConflict {
            node: me.node,
            found: me.store.as_u64(),
            remembered: dialler.target_store_id,
        };
        return Err(Refusal::target_store(conflict));
    }
    Ok(Dialler {
        version,
        node,
        store: StoreId::new(dialler.store_id),
        mode,
    })
}

fn judge_nodes(me: &Identity, dialler: &pb::Handshake) -> Result<NodeId, String> {
    if dialler.target_node_id != 0 && dialler.target_node_id != me.node.as_u64() {
        return Err(format!(
            "this is node {}, not {}",
            me.node, dialler.target_node_id
        ));
    }
    let node = NodeId::try_from(dialler.node_id).map_err(|error| error.to_string())?;
    if node == me.node {
        return Err(format!("node id {node} is this node's own"));
    }
    Ok(node)
}

fn judge_mode(me: &Identity, theirs: Option<&pb::PeerMode>) -> Result<Mode, Refusal> {
    let found = theirs.and_then(|theirs| {
        me.modes
            .iter()
            .find(|(mode, _)| u32::from(mode_byte(*mode)) == theirs.mode)
            .map(|(mode, cluster)| (*mode, *cluster, theirs.cluster_id))
    });
    let Some((mode, here, there)) = found else {
        let why = "the stream's mode isn't served here".to_owned();
        return Err(Refusal::new(pb::RefusalReason::Mode, why));
    };
    if here.as_u64() != there {
        let why = format!(
            "the {mode} cluster ids differ: {:016x} here, {there:016x} there; the founding members must be the same on all nodes",
            here.as_u64(),
        );
        return Err(Refusal::new(pb::RefusalReason::Cluster, why));
    }
    Ok(mode)
}

/// The answer of the node that was dialled.
pub(super) fn reply(me: &Identity, judged: Result<u32, &Refusal>) -> pb::HandshakeReply {
    let refusal = judged.err();
    pb::HandshakeReply {
        version: judged.unwrap_or(0),
        refusal: refusal
            .map(|refusal| refusal.why.clone())
            .unwrap_or_default(),
        node_id: me.node.as_u64(),
        store_id: me.store.as_u64(),
        refusal_reason: refusal
            .map_or(pb::RefusalReason::Unspecified, |refusal| refusal.reason)
            .into(),
    }
}

/// What the dialler makes of the answer: whose store it reached. The version is one that it speaks then.
pub(super) fn judge_reply(
    me: &Identity,
    target: NodeId,
    reply: &pb::HandshakeReply,
) -> Result<StoreId, HandshakeError> {
    if !reply.refusal.is_empty() {
        let refusal = Refusal::new(reply.refusal_reason(), reply.refusal.clone());
        return Err(HandshakeError::RefusedByPeer(refusal));
    }
    if !me.protocol.contains(&reply.version) {
        let why = format!("the peer chose protocol version {}", reply.version);
        let refusal = Refusal::new(pb::RefusalReason::Version, why);
        return Err(HandshakeError::Refused(refusal));
    }
    if reply.node_id != target.as_u64() {
        let why = format!(
            "node {} answered where node {target} was expected",
            reply.node_id
        );
        let refusal = Refusal::new(pb::RefusalReason::Node, why);
        return Err(HandshakeError::Refused(refusal));
    }
    Ok(StoreId::new(reply.store_id))
}

/// Writes a message.
pub(super) async fn write(
    stream: &mut Stream,
    class: StreamClass,
    message: &impl Message,
) -> Result<(), HandshakeError> {
    let bytes = Hello::encode(class, &message.encode_to_vec()).ok_or(EnvelopeError::Long)?;
    stream.write_all(&bytes).await?;
    stream.flush().await?;
    Ok(())
}

/// Reads a message.
pub(super) async fn read<M: Message + Default>(
    stream: &mut Stream,
) -> Result<(StreamClass, M), HandshakeError> {
    let mut head = [0; Hello::BYTES];
    stream.read_exact(&mut head).await?;
    if matches!(head, [0x14..=0x17, 0x03, ..]) {
        return Err(HandshakeError::Tls(Failure::unexpected()));
    }
    let hello = Hello::decode(head)?;
    let mut message = vec![0; hello.len];
    stream.read_exact(&mut message).await?;
    Ok((hello.class, M::decode(message.as_slice())?))
}

#[cfg(test)]
mod tests {
    use quorumor_core::ClusterId;

    use super::*;

    fn node(id: u64) -> NodeId {
        NodeId::try_from(id).unwrap()
    }

    fn identity(id: u64, modes: &[(Mode, u64)]) -> Identity {
        Identity {
            cluster_name: "c".into(),
            node: node(id),
            store: StoreId::new(id * 10),
            modes: modes
                .iter()
                .map(|(mode, cluster)| (*mode, ClusterId::new(*cluster)))
                .collect(),
            protocol: 1..=2,
        }
    }

    const BOTH: [(Mode, u64); 2] = [(Mode::Strong, 1), (Mode::Eventual, 2)];

    #[track_caller]
    fn refused(change: impl FnOnce(&mut pb::Handshake), reason: pb::RefusalReason, part: &str) {
        let mut hello = handshake(&identity(2, &BOTH), Mode::Strong, node(1), None);
        change(&mut hello);
        let refusal = judge(&identity(1, &BOTH), &hello).unwrap_err();
        assert_eq!(refusal.reason, reason);
        let why = &refusal.why;
        assert!(why.contains(part), "{why:?} doesn't say {part:?}");
        let answer = reply(&identity(1, &BOTH), Err(&refusal));
        match judge_reply(&identity(2, &BOTH), node(1), &answer) {
            Err(HandshakeError::RefusedByPeer(told)) => assert_eq!(told, refusal),
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn a_peer_of_the_same_cluster_is_taken() {
        let me = identity(1, &BOTH);
        let hello = handshake(
            &identity(2, &BOTH[1..]),
            Mode::Eventual,
            node(1),
            Some(me.store),
        );
        let dialler = judge(&me, &hello).unwrap();
        assert_eq!(
            (dialler.node, dialler.store, dialler.mode),
            (node(2), StoreId::new(20), Mode::Eventual)
        );
        let answer = reply(&me, Ok(dialler.version));
        let dialled = judge_reply(&identity(2, &BOTH), node(1), &answer);
        assert_eq!(dialled.unwrap(), StoreId::new(10));
    }

    #[test]
    fn strangers_are_refused_with_a_reason_on_both_sides() {
        use pb::RefusalReason as Reason;
        refused(
            |hello| hello.cluster_name = "d".into(),
            Reason::Cluster,
            "this is cluster \"c\"",
        );
        refused(
            |hello| hello.target_node_id = 7,
            Reason::Node,
            "this is node 1, not 7",
        );
        refused(|hello| hello.node_id = 0, Reason::Node, "from 1 up");
        refused(|hello| hello.node_id = 1, Reason::Node, "this node's own");
        refused(
            |hello| hello.version_min = 9,
            Reason::Version,
            "speaks peer protocol 9",
        );
        refused(
            |hello| hello.version_max = 0,
            Reason::Version,
            "peer protocol",
        );
        let mode = |mode, cluster_id| Some(pb::PeerMode { mode, cluster_id });
        refused(
            |hello| hello.mode = mode(1, 9),
            Reason::Cluster,
            "founding members",
        );
        refused(|hello| hello.mode = None, Reason::Mode, "isn't served");
        refused(
            |hello| hello.mode = mode(7, 1),
            Reason::Mode,
            "isn't served",
        );
        refused(
            |hello| hello.target_store_id = 9,
            Reason::TargetStore,
            "new node id",
        );
    }

    #[test]
    fn an_answer_of_another_node_is_refused() {
        let answer = reply(&identity(3, &BOTH), Ok(1));
        let error = judge_reply(&identity(2, &BOTH), node(1), &answer);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("node 3 answered"), "{error}");
    }

    #[test]
    fn the_newest_version_that_both_speak_is_agreed_on() {
        let speaks = |id, protocol| Identity {
            protocol,
            ..identity(id, &BOTH)
        };
        for (here, there, agreed) in [(1..=2, 1..=1, 1), (1..=1, 1..=2, 1), (1..=2, 1..=2, 2)] {
            let hello = handshake(&speaks(2, there), Mode::Strong, node(1), None);
            assert_eq!(judge(&speaks(1, here), &hello).unwrap().version, agreed);
        }
        // A dialler takes no version that it doesn't speak, whatever it is told.
        let answer = reply(&identity(1, &BOTH), Ok(2));
        let refused = judge_reply(&speaks(2, 1..=1), node(1), &answer).unwrap_err();
        assert!(refused.to_string().contains("version 2"), "{refused}");
    }
}
