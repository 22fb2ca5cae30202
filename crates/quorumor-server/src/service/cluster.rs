//! `ClusterService`: what operators do with a cluster in strong mode, and what they do with and ask about the data of either. Changes go to
//! the replica as commands; a backup is streamed from a thread of its own, piece by piece as the client takes it. These need the
//! role admin, but for the list of members; conflicts and digests stand in their own files.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use quorumor_core::limits::DATA_EPOCH_MAX;
use quorumor_core::{
    BackupSource, Certainty, ClusterAction, Command, DataEpoch, Error, Mode, NodeId, Reply,
    Revision, Role, WriteOutcome,
};
use quorumor_proto::describe::cluster_member_to_wire;
use quorumor_proto::pb;
use quorumor_proto::pb::cluster_service_server::ClusterService;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

use super::asking::{Asking, Kind, misfit, position_revision};
use super::list::PART_BYTES;
use super::{Answers, Service, conflicts, digest};
use crate::auth::Principal;
use crate::backup::{BackupHeader, BackupWriter};

/// Messages of a backup that are made ahead of the client.
const AHEAD: usize = 2;
/// The longest that a backup pauses after a piece. It pauses as long as the piece took: half a core at most.
const PAUSE_MAX: Duration = Duration::from_millis(20);

fn parse_node(field: &'static str, id: u64) -> Result<NodeId, Error> {
    NodeId::try_from(id).map_err(|_| Error::invalid(field, "node ids begin at 1"))
}

fn optional_node(id: u64) -> Option<NodeId> {
    NodeId::try_from(id).ok()
}

/// Carries out a change.
async fn change(asking: &Asking, action: ClusterAction) -> Result<pb::Receipt, Error> {
    let reply = asking.ask(Command::Cluster(action)).await?;
    let Reply::ClusterChanged { position } = reply else {
        return Err(misfit());
    };
    asking.done(Some(&position), None, Some(WriteOutcome::Applied))
}

async fn list(asking: Arc<Asking>, cluster_name: String) -> Result<pb::MemberListResponse, Error> {
    let mode = asking.handle().mode();
    if mode == Mode::Eventual {
        return Err(Error::GuaranteeUnavailable {
            mode,
            asked: "a list of members that all agree on",
            best_available: "the members of Describe",
        });
    }
    let reading = asking.read().await?;
    let status = &reading.published.view.status;
    let leader = match &status.role {
        Role::Strong { leader, .. } => leader.as_ref().map(|leader| leader.node),
        Role::Eventual { .. } => None,
    };
    let members = status.members.iter();
    Ok(pb::MemberListResponse {
        receipt: Some(asking.read_receipt(&reading)?),
        members: members
            .map(|member| cluster_member_to_wire(member, leader))
            .collect(),
        cluster_name,
    })
}

async fn add(
    asking: Arc<Asking>,
    add: pb::MemberAddRequest,
) -> Result<pb::MemberAddResponse, Error> {
    let node = parse_node("node_id", add.node_id)?;
    let peer_address: SocketAddr = add
        .peer_address
        .parse()
        .map_err(|_| Error::invalid("peer_address", "it must be an IP address and a port"))?;
    if peer_address.port() == 0 || peer_address.ip().is_unspecified() {
        let why = "the others must be able to reach it";
        return Err(Error::invalid("peer_address", why));
    }
    let action = ClusterAction::AddLearner {
        node,
        peer_address,
        promote: !add.stay_learner,
    };
    let receipt = Some(change(&asking, action).await?);
    Ok(pb::MemberAddResponse { receipt })
}

async fn promote(
    asking: Arc<Asking>,
    promote: pb::MemberPromoteRequest,
) -> Result<pb::MemberPromoteResponse, Error> {
    let node = parse_node("node_id", promote.node_id)?;
    let replacing = optional_node(promote.replacing_node_id);
    let action = ClusterAction::Promote { node, replacing };
    let receipt = Some(change(&asking, action).await?);
    Ok(pb::MemberPromoteResponse { receipt })
}

async fn remove(
    asking: Arc<Asking>,
    remove: pb::MemberRemoveRequest,
) -> Result<pb::MemberRemoveResponse, Error> {
    let node = parse_node("node_id", remove.node_id)?;
    let allow_quorum_loss = remove.allow_quorum_loss;
    let action = ClusterAction::Remove {
        node,
        allow_quorum_loss,
    };
    let receipt = Some(change(&asking, action).await?);
    Ok(pb::MemberRemoveResponse { receipt })
}

async fn transfer(
    asking: Arc<Asking>,
    transfer: pb::TransferLeaderRequest,
) -> Result<pb::TransferLeaderResponse, Error> {
    let to = optional_node(transfer.node_id);
    let action = ClusterAction::TransferLeader { to };
    let receipt = Some(change(&asking, action).await?);
    Ok(pb::TransferLeaderResponse { receipt })
}

async fn compact(
    asking: Arc<Asking>,
    compact: pb::CompactHistoryRequest,
) -> Result<pb::CompactHistoryResponse, Error> {
    if compact.revision == 0 {
        return Err(Error::invalid("revision", "revisions begin at 1"));
    }
    let through = Revision::new(compact.revision);
    let action = ClusterAction::CompactHistory { through };
    let receipt = Some(change(&asking, action).await?);
    Ok(pb::CompactHistoryResponse { receipt })
}

async fn advance_epoch(
    asking: Arc<Asking>,
    advance: pb::AdvanceEpochRequest,
) -> Result<pb::AdvanceEpochResponse, Error> {
    if advance.above.is_some_and(|above| above >= DATA_EPOCH_MAX) {
        let why = format!("data epochs end at {DATA_EPOCH_MAX}");
        return Err(Error::invalid("above", why));
    }
    let above = advance.above.map(DataEpoch::new);
    let receipt = change(&asking, ClusterAction::AdvanceEpoch { above }).await?;
    Ok(pb::AdvanceEpochResponse {
        data_epoch: receipt.data_epoch,
        receipt: Some(receipt),
    })
}

type Saved = Result<pb::SnapshotSaveResponse, Status>;

/// A message of a backup, and whether it's the last.
type Piece = (pb::SnapshotSaveResponse, bool);

async fn save(
    asking: Arc<Asking>,
    cluster_name: String,
) -> Result<Answers<pb::SnapshotSaveResponse>, Error> {
    let Reply::Backup { source, position } = asking.ask(Command::Backup).await? else {
        return Err(misfit());
    };
    let published = asking.handle().published();
    let status = &published.view.status;
    let header = BackupHeader {
        cluster_name,
        cluster: status.cluster,
        epoch: status.epoch,
        revision: position_revision(&position).unwrap_or_default(),
        node: status.node,
        made_at_ms: asking.handle().clock().now().wall_ms,
    };
    let receipt = asking.done(Some(&position), None, None)?;
    let (pieces, made) = mpsc::channel(AHEAD);
    tokio::task::spawn_blocking(move || make(source, &header, receipt, &pieces));
    Ok(Box::pin(stream::unfold(
        Some((made, asking)),
        |open| async move {
            let (mut made, asking) = open?;
            // Its thread ended before its time.
            let broken = || Error::Internal {
                why: "the backup could not be made".to_owned(),
                certainty: Certainty::NotApplied,
            };
            let piece = tokio::select! {
                biased;
                () = asking.principal().gone() => {
                    return Some((Err(asking.refuse(&Principal::revoked())), None));
                }
                piece = made.recv() => piece,
            };
            let (step, open): (Saved, _) = match piece {
                Some((message, true)) => (Ok(message), None),
                Some((message, false)) => (Ok(message), Some((made, asking))),
                None => (Err(asking.refuse(&broken())), None),
            };
            Some((step, open))
        },
    )))
}

/// Makes a backup for as long as somebody takes it. Blocks.
fn make(
    BackupSource(mut source): BackupSource,
    header: &BackupHeader,
    receipt: pb::Receipt,
    to: &mpsc::Sender<Piece>,
) {
    let mut receipt = Some(receipt);
    let mut send = |data: Bytes, is_last: bool| {
        let message = pb::SnapshotSaveResponse {
            receipt: receipt.take(),
            data,
        };
        to.blocking_send((message, is_last)).is_ok()
    };
    let (mut writer, head) = BackupWriter::begin(header);
    if !send(head, false) {
        return;
    }
    loop {
        let began = Instant::now();
        let Some(mut piece) = source.next_chunk() else {
            break;
        };
        if piece.is_empty() {
            continue;
        }
        let mut head = writer.piece(&piece);
        let took = began.elapsed();
        while !piece.is_empty() || !head.is_empty() {
            let data = if head.is_empty() {
                piece.split_to(piece.len().min(PART_BYTES))
            } else {
                std::mem::take(&mut head)
            };
            if !send(data, false) {
                return;
            }
        }
        std::thread::sleep(took.min(PAUSE_MAX));
    }
    send(writer.end(), true);
}

#[tonic::async_trait]
impl ClusterService for Service {
    type SnapshotSaveStream = Answers<pb::SnapshotSaveResponse>;
    type WatchConflictsStream = Answers<pb::WatchConflictsResponse>;

    async fn list_conflicts(
        &self,
        request: Request<pb::ListConflictsRequest>,
    ) -> Result<Response<pb::ListConflictsResponse>, Status> {
        self.serve("ListConflicts", Kind::Read, request, conflicts::list)
            .await
    }

    async fn watch_conflicts(
        &self,
        request: Request<pb::WatchConflictsRequest>,
    ) -> Result<Response<Self::WatchConflictsStream>, Status> {
        let leave = self.shared.leave.clone();
        let run = |asking, asked| conflicts::watch(asking, asked, leave);
        self.serve("WatchConflicts", Kind::Watch, request, run)
            .await
    }

    async fn digest(
        &self,
        request: Request<pb::DigestRequest>,
    ) -> Result<Response<pb::DigestResponse>, Status> {
        self.serve("Digest", Kind::AdminRead, request, digest::digest)
            .await
    }

    async fn digest_keys(
        &self,
        request: Request<pb::DigestKeysRequest>,
    ) -> Result<Response<pb::DigestKeysResponse>, Status> {
        self.serve("DigestKeys", Kind::AdminRead, request, digest::keys)
            .await
    }

    async fn member_list(
        &self,
        request: Request<pb::MemberListRequest>,
    ) -> Result<Response<pb::MemberListResponse>, Status> {
        let name = self.shared.cluster_name.clone();
        let run = |asking, _: pb::MemberListRequest| list(asking, name);
        self.serve("MemberList", Kind::AdminRead, request, run)
            .await
    }

    async fn member_add(
        &self,
        request: Request<pb::MemberAddRequest>,
    ) -> Result<Response<pb::MemberAddResponse>, Status> {
        self.serve("MemberAdd", Kind::Admin, request, add).await
    }

    async fn member_promote(
        &self,
        request: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        self.serve("MemberPromote", Kind::Admin, request, promote)
            .await
    }

    async fn member_remove(
        &self,
        request: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        self.serve("MemberRemove", Kind::Admin, request, remove)
            .await
    }

    async fn transfer_leader(
        &self,
        request: Request<pb::TransferLeaderRequest>,
    ) -> Result<Response<pb::TransferLeaderResponse>, Status> {
        self.serve("TransferLeader", Kind::Admin, request, transfer)
            .await
    }

    async fn compact_history(
        &self,
        request: Request<pb::CompactHistoryRequest>,
    ) -> Result<Response<pb::CompactHistoryResponse>, Status> {
        self.serve("CompactHistory", Kind::Admin, request, compact)
            .await
    }

    async fn advance_epoch(
        &self,
        request: Request<pb::AdvanceEpochRequest>,
    ) -> Result<Response<pb::AdvanceEpochResponse>, Status> {
        self.serve("AdvanceEpoch", Kind::Admin, request, advance_epoch)
            .await
    }

    async fn snapshot_save(
        &self,
        request: Request<pb::SnapshotSaveRequest>,
    ) -> Result<Response<Self::SnapshotSaveStream>, Status> {
        let name = self.shared.cluster_name.clone();
        let run = |asking, _: pb::SnapshotSaveRequest| save(asking, name);
        self.serve("SnapshotSave", Kind::AdminRead, request, run)
            .await
    }
}
