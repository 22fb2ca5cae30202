//! What two nodes say when a stream opens: cluster, node, store, versions, modes. Each side refuses with a reason that a
//! person understands. The judging here is pure; the reading and writing is for `lane.rs` and `accept.rs`.

use prost::Message;
use quorumor_core::{Mode, NodeId, StoreId, StreamClass};
use quorumor_proto::{PEER_PROTOCOL, pb};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Identity;
use crate::envelope::{EnvelopeError, Hello, mode_byte};

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("the stream broke: {0}")]
    Io(#[from] std::io::Error),
    #[error("the other side doesn't speak this protocol: {0}")]
    Envelope(#[from] EnvelopeError),
    #[error("the handshake can't be read: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// This side refuses, and has told so.
    #[error("refused: {0}")]
    Refused(String),
    /// The other side refuses.
    #[error("the peer refused: {0}")]
    RefusedByPeer(String),
}

impl HandshakeError {
    /// For the metric's label.
    pub(super) const fn as_str(&self) -> &'static str {
        match self {
            Self::Io(_) => "io",
            Self::Envelope(error) => error.as_str(),
            Self::Malformed(_) => "malformed",
            Self::Refused(_) => "refused",
            Self::RefusedByPeer(_) => "refused_by_peer",
        }
    }
}

/// What the dialler says.
pub(super) fn handshake(me: &Identity, target: NodeId) -> pb::Handshake {
    pb::Handshake {
        version_min: *PEER_PROTOCOL.start(),
        version_max: *PEER_PROTOCOL.end(),
        cluster_name: me.cluster_name.clone(),
        node_id: me.node.as_u64(),
        store_id: me.store.as_u64(),
        target_node_id: target.as_u64(),
        modes: me
            .modes
            .iter()
            .map(|(mode, cluster)| pb::PeerMode {
                mode: mode_byte(*mode).into(),
                cluster_id: cluster.as_u64(),
            })
            .collect(),
    }
}

/// What the node that was dialled makes of it: the version to speak, and who dialled, or why not.
pub(super) fn judge(
    me: &Identity,
    dialler: &pb::Handshake,
) -> Result<(u32, NodeId, StoreId), String> {
    let version = (*PEER_PROTOCOL.end()).min(dialler.version_max);
    if version < *PEER_PROTOCOL.start() || version < dialler.version_min {
        return Err(format!(
            "node {} speaks peer protocol {} to {}, node {} speaks {} to {}",
            dialler.node_id,
            dialler.version_min,
            dialler.version_max,
            me.node,
            PEER_PROTOCOL.start(),
            PEER_PROTOCOL.end()
        ));
    }
    if dialler.cluster_name != me.cluster_name {
        return Err(format!(
            "this is cluster {:?}, not {:?}",
            me.cluster_name, dialler.cluster_name
        ));
    }
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
    judge_modes(me, dialler)?;
    Ok((version, node, StoreId::new(dialler.store_id)))
}

fn judge_modes(me: &Identity, dialler: &pb::Handshake) -> Result<(), String> {
    let theirs = |mode: Mode| {
        dialler
            .modes
            .iter()
            .find(|theirs| theirs.mode == u32::from(mode_byte(mode)))
    };
    let mut shared = false;
    for (mode, cluster) in &me.modes {
        let Some(theirs) = theirs(*mode) else {
            continue;
        };
        if theirs.cluster_id != cluster.as_u64() {
            return Err(format!(
                "the {mode} cluster ids differ: {:016x} here, {:016x} there; the founding members must be the same on all nodes",
                cluster.as_u64(),
                theirs.cluster_id
            ));
        }
        shared = true;
    }
    if shared {
        Ok(())
    } else {
        Err("the nodes have no mode in common".to_owned())
    }
}

/// The answer of the node that was dialled.
pub(super) fn reply(me: &Identity, judged: &Result<u32, String>) -> pb::HandshakeReply {
    pb::HandshakeReply {
        version: judged.as_ref().copied().unwrap_or(0),
        refusal: judged.as_ref().err().cloned().unwrap_or_default(),
        node_id: me.node.as_u64(),
        store_id: me.store.as_u64(),
    }
}

/// What the dialler makes of the answer: whose store it reached.
pub(super) fn judge_reply(
    target: NodeId,
    reply: &pb::HandshakeReply,
) -> Result<StoreId, HandshakeError> {
    if !reply.refusal.is_empty() {
        return Err(HandshakeError::RefusedByPeer(reply.refusal.clone()));
    }
    if !PEER_PROTOCOL.contains(&reply.version) {
        return Err(HandshakeError::Refused(format!(
            "the peer chose protocol version {}",
            reply.version
        )));
    }
    if reply.node_id != target.as_u64() {
        return Err(HandshakeError::Refused(format!(
            "node {} answered where node {target} was expected",
            reply.node_id
        )));
    }
    Ok(StoreId::new(reply.store_id))
}

/// Writes a message.
pub(super) async fn write(
    stream: &mut TcpStream,
    class: StreamClass,
    message: &impl Message,
) -> Result<(), HandshakeError> {
    let bytes = Hello::encode(class, &message.encode_to_vec()).ok_or(EnvelopeError::Long)?;
    stream.write_all(&bytes).await?;
    Ok(())
}

/// Reads a message.
pub(super) async fn read<M: Message + Default>(
    stream: &mut TcpStream,
) -> Result<(StreamClass, M), HandshakeError> {
    let mut head = [0; Hello::BYTES];
    stream.read_exact(&mut head).await?;
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
        }
    }

    const BOTH: [(Mode, u64); 2] = [(Mode::Strong, 1), (Mode::Eventual, 2)];

    #[track_caller]
    fn refused(change: impl FnOnce(&mut pb::Handshake), part: &str) {
        let mut hello = handshake(&identity(2, &BOTH), node(1));
        change(&mut hello);
        let reason = judge(&identity(1, &BOTH), &hello).unwrap_err();
        assert!(reason.contains(part), "{reason:?} doesn't say {part:?}");
        let answer = reply(&identity(1, &BOTH), &Err(reason.clone()));
        let told = judge_reply(node(1), &answer).unwrap_err().to_string();
        assert!(told.contains(&reason), "{told}");
    }

    #[test]
    fn a_peer_of_the_same_cluster_is_taken() {
        let hello = handshake(&identity(2, &BOTH[1..]), node(1));
        let me = identity(1, &BOTH);
        let (version, from, store) = judge(&me, &hello).unwrap();
        assert_eq!((from, store), (node(2), StoreId::new(20)));
        let answer = reply(&me, &Ok(version));
        assert_eq!(judge_reply(node(1), &answer).unwrap(), StoreId::new(10));
    }

    #[test]
    fn strangers_are_refused_with_a_reason_on_both_sides() {
        refused(
            |hello| hello.cluster_name = "d".into(),
            "this is cluster \"c\"",
        );
        refused(|hello| hello.target_node_id = 7, "this is node 1, not 7");
        refused(|hello| hello.node_id = 0, "from 1 up");
        refused(|hello| hello.node_id = 1, "this node's own");
        refused(|hello| hello.version_min = 9, "speaks peer protocol 9");
        refused(|hello| hello.version_max = 0, "peer protocol");
        refused(|hello| hello.modes[0].cluster_id = 9, "founding members");
        refused(|hello| hello.modes.clear(), "no mode in common");
    }

    #[test]
    fn an_answer_of_another_node_is_refused() {
        let answer = reply(&identity(3, &BOTH), &Ok(1));
        let error = judge_reply(node(1), &answer).unwrap_err().to_string();
        assert!(error.contains("node 3 answered"), "{error}");
    }
}
