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
