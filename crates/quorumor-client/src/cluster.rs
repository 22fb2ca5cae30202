//! What operators do with a cluster: members, leadership, history, backups. Strong mode only; but for [`Client::members`] it
//! needs the admin role where roles are on.
//!
//! None of it is numbered: a change of unknown outcome is not repeated, but `members` tells what became of it.

use std::net::SocketAddr;

use bytes::Bytes;
use quorumor_core::{DataEpoch, Error, MemberState, NodeId, Revision, StoreId};
use quorumor_proto::pb;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::answer::{self, Answer, Receipt, receipt, some_text};
use crate::client::Client;
use crate::describe::member_state_from_wire;
use crate::error::ClientError;
use crate::retry::Kind;

/// The members as they are committed, confirmed by the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembersAnswer {
    /// By id.
    pub members: Vec<ClusterMember>,
    /// The name of the cluster: what a new node is started with.
    pub cluster_name: String,
    /// What the answer says about itself.
    pub receipt: Receipt,
}

/// A committed member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterMember {
    /// The node.
    pub node: NodeId,
    /// Where it talks to peers.
    pub peer_address: String,
    /// Where it serves clients; `None` if it hasn't said so yet.
    pub client_address: Option<String>,
    /// Whether it votes; a learner doesn't.
    pub voter: bool,
    /// Whether it leads.
    pub leader: bool,
    /// What the answering node believes of it; `None` for a state that this client doesn't know.
    pub state: Option<MemberState>,
    /// Its data directory; `None` if it hasn't been heard yet.
    pub store: Option<StoreId>,
    /// Whether it becomes a voter by itself once it has caught up.
    pub promote_when_ready: bool,
}

/// A change of the cluster was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterChanged {
    /// What the answer says about itself; after a transfer its position names the new leader.
    pub receipt: Receipt,
}

/// The epoch of the data was raised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochAdvanced {
    /// What it is now.
    pub epoch: DataEpoch,
    /// What the answer says about itself.
    pub receipt: Receipt,
}

impl Answer for EpochAdvanced {
    type Wire = pb::AdvanceEpochResponse;

    fn from_wire(mut wire: pb::AdvanceEpochResponse) -> Result<Self, Error> {
        Ok(Self {
            epoch: DataEpoch::new(wire.data_epoch),
            receipt: receipt(&mut wire.receipt)?,
        })
    }

    fn receipt(&self) -> Option<&Receipt> {
        Some(&self.receipt)
    }
}

/// A new node, as [`Client::add_member`] takes it in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewMember {
    /// An id that was never used.
    pub node: NodeId,
    /// Where it will talk to peers.
    pub peer_address: SocketAddr,
    /// Leave it a learner when it has caught up, instead of making it a voter.
    pub stay_learner: bool,
}

/// A backup was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotSaved {
    /// Its size.
    pub bytes: u64,
    /// What the node said about it: its position is what the backup holds.
    pub receipt: Receipt,
}

/// Why a backup wasn't written.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The node gave none, or broke off.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// It couldn't be written here.
    #[error("can't write the snapshot: {0}")]
    Write(#[from] std::io::Error),
}

impl Answer for MembersAnswer {
    type Wire = pb::MemberListResponse;

    fn from_wire(mut wire: pb::MemberListResponse) -> Result<Self, Error> {
        Ok(Self {
            receipt: receipt(&mut wire.receipt)?,
            cluster_name: wire.cluster_name,
            members: wire
                .members
                .into_iter()
                .map(member_from_wire)
                .collect::<Result<_, _>>()?,
        })
    }

    fn receipt(&self) -> Option<&Receipt> {
        Some(&self.receipt)
    }
}

fn member_from_wire(member: pb::ClusterMember) -> Result<ClusterMember, Error> {
    Ok(ClusterMember {
        node: NodeId::try_from(member.node_id)?,
        state: member_state_from_wire(member.state()),
        peer_address: member.peer_address,
        client_address: some_text(member.client_address),
        voter: member.voter,
        leader: member.leader,
        store: (member.store_id != 0).then(|| StoreId::new(member.store_id)),
        promote_when_ready: member.promote_when_ready,
    })
}

/// The answers to changes differ only by name.
macro_rules! changed {
    ($wrapper:ident from $wire:ident) => {
        struct $wrapper(ClusterChanged);

        impl Answer for $wrapper {
            type Wire = pb::$wire;

            fn from_wire(mut wire: pb::$wire) -> Result<Self, Error> {
                let receipt = receipt(&mut wire.receipt)?;
                Ok(Self(ClusterChanged { receipt }))
            }

            fn receipt(&self) -> Option<&Receipt> {
                Some(&self.0.receipt)
            }
        }
    };
}

changed!(Added from MemberAddResponse);
changed!(Promoted from MemberPromoteResponse);
changed!(Removed from MemberRemoveResponse);
changed!(Transferred from TransferLeaderResponse);
changed!(Compacted from CompactHistoryResponse);

impl Client {
    /// Lists the members as they are committed.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn members(&self) -> Result<MembersAnswer, ClientError> {
        self.call_cluster(Kind::LinearizableRead, |mut stub, this_try| {
            let request = this_try.request(|header| pb::MemberListRequest {
                header: Some(header),
            });
            async move { stub.member_list(request).await }
        })
        .await
    }

    /// Takes a new node in, as a learner. Once this is answered the node may be started.
    ///
    /// # Errors
    /// See [`ClientError`]; reason `MEMBERSHIP_REFUSED` says what stands against it.
    pub async fn add_member(&self, new: NewMember) -> Result<ClusterChanged, ClientError> {
        self.call_cluster(Kind::Write, |mut stub, this_try| {
            let request = this_try.request(|header| pb::MemberAddRequest {
                header: Some(header),
                node_id: new.node.as_u64(),
                peer_address: new.peer_address.to_string(),
                stay_learner: new.stay_learner,
            });
            async move { stub.member_add(request).await }
        })
        .await
        .map(|Added(changed)| changed)
    }

    /// Makes a learner that has caught up a voter; with `replacing`, that voter goes in the same step.
    ///
    /// # Errors
    /// As [`Self::add_member`].
    pub async fn promote_member(
        &self,
        node: NodeId,
        replacing: Option<NodeId>,
    ) -> Result<ClusterChanged, ClientError> {
        self.call_cluster(Kind::Write, |mut stub, this_try| {
            let request = this_try.request(|header| pb::MemberPromoteRequest {
                header: Some(header),
                node_id: node.as_u64(),
                replacing_node_id: replacing.map_or(0, NodeId::as_u64),
            });
            async move { stub.member_promote(request).await }
        })
        .await
        .map(|Promoted(changed)| changed)
    }

    /// Removes a node for good; its id can't be used again. With `allow_quorum_loss` even if the voters that answer are no
    /// majority of those that stay, after which the cluster may stand still for good.
    ///
    /// # Errors
    /// As [`Self::add_member`].
    pub async fn remove_member(
        &self,
        node: NodeId,
        allow_quorum_loss: bool,
    ) -> Result<ClusterChanged, ClientError> {
        self.call_cluster(Kind::Write, |mut stub, this_try| {
            let request = this_try.request(|header| pb::MemberRemoveRequest {
                header: Some(header),
                node_id: node.as_u64(),
                allow_quorum_loss,
            });
            async move { stub.member_remove(request).await }
        })
        .await
        .map(|Removed(changed)| changed)
    }

    /// Hands leadership over; `None` chooses the voter that has caught up best.
    ///
    /// # Errors
    /// As [`Self::add_member`].
    pub async fn transfer_leader(&self, to: Option<NodeId>) -> Result<ClusterChanged, ClientError> {
        self.call_cluster(Kind::Write, |mut stub, this_try| {
            let request = this_try.request(|header| pb::TransferLeaderRequest {
                header: Some(header),
                node_id: to.map_or(0, NodeId::as_u64),
            });
            async move { stub.transfer_leader(request).await }
        })
        .await
        .map(|Transferred(changed)| changed)
    }

    /// Forgets the history through a revision; reads at that very revision stay possible.
    ///
    /// # Errors
    /// See [`ClientError`]; reason `FUTURE_REVISION` above the newest.
    pub async fn compact_history(&self, through: Revision) -> Result<ClusterChanged, ClientError> {
        self.call_cluster(Kind::Write, |mut stub, this_try| {
            let request = this_try.request(|header| pb::CompactHistoryRequest {
                header: Some(header),
                revision: through.as_u64(),
            });
            async move { stub.compact_history(request).await }
        })
        .await
        .map(|Compacted(changed)| changed)
    }

    /// Raises the epoch of the mode's data above this one, `None` for one above what it is: tokens and cursors from before are
    /// refused with `EPOCH_CHANGED`, this client's own included. Repeated with the same `above` it does no more.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn advance_epoch(
        &self,
        above: Option<DataEpoch>,
    ) -> Result<EpochAdvanced, ClientError> {
        self.call_cluster(Kind::Write, |mut stub, this_try| {
            let request = this_try.request(|header| pb::AdvanceEpochRequest {
                header: Some(header),
                above: above.map(DataEpoch::as_u64),
            });
            async move { stub.advance_epoch(request).await }
        })
        .await
    }

    /// Writes the whole state out, for a backup. The client's timeout is for its beginning. What was written before an error is
    /// no backup.
    ///
    /// # Errors
    /// See [`SnapshotError`].
    pub async fn snapshot_save(
        &self,
        out: &mut (impl AsyncWrite + Unpin + Send),
    ) -> Result<SnapshotSaved, SnapshotError> {
        let stream: answer::Stream<pb::SnapshotSaveResponse> = self
            .call_cluster(Kind::LinearizableRead, |mut stub, this_try| {
                let request = this_try.stream(|header| pb::SnapshotSaveRequest {
                    header: Some(header),
                });
                async move { stub.snapshot_save(request).await }
            })
            .await?;
        let mut pieces = stream.0;
        let mut first: Option<Receipt> = None;
        let mut written = 0_u64;
        loop {
            let piece = pieces.message().await;
            let piece = piece.map_err(|status| ClientError::from_status("the node", &status))?;
            let Some(mut piece) = piece else { break };
            if let Some(receipt) = piece.receipt.take() {
                let receipt = Receipt::from_wire(receipt);
                first = Some(receipt.map_err(|error| ClientError::bad_answer(&error.to_string()))?);
            }
            let data: Bytes = piece.data;
            out.write_all(&data).await?;
            written += data.len() as u64;
        }
        out.flush().await?;
        let receipt =
            first.ok_or_else(|| ClientError::bad_answer("the snapshot has no receipt"))?;
        Ok(SnapshotSaved {
            bytes: written,
            receipt,
        })
    }
}
