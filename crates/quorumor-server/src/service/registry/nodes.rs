//! The nodes, as this one believes them.

use std::sync::Arc;
use std::time::Duration;

use quorumor_core::{Command, Member, Mode, NodeId, Reply, Request, RequestId, Role, Status};
use quorumor_core::{Error, MemberCounts};
use quorumor_proto::describe::{member_state_to_wire, member_to_wire};
use quorumor_proto::pb;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::asking::Asking;
use super::super::list::limit;
use super::super::{Service, members};
use crate::handle::Handle;
use crate::registry::nodes::Since;
use crate::registry::record::timestamp;

/// How often beliefs are compared with those before.
const NOTE_INTERVAL: Duration = Duration::from_secs(1);

pub(super) async fn list(
    service: Service,
    asking: Arc<Asking>,
    request: pb::ListNodesRequest,
) -> Result<pb::ListNodesResponse, Error> {
    let most = limit(request.limit)?;
    let reading = asking.look();
    let status = Arc::clone(&reading.published.view.status);
    let mut believed: Vec<Member> = match members(&asking).await {
        None => status.members.to_vec(),
        Some(listed) => listed?,
    };
    believed.sort_by_key(|member| member.node);
    let since = &service.registry(asking.handle().mode()).since;
    since.note(&believed, asking.handle().clock().now().wall_ms);
    let by_gossip = gossip(&service, asking.handle().mode()).await;
    let said_by = said_by(&status);
    let mut above = believed
        .iter()
        .filter(|member| member.node.as_u64() > request.after_node_id);
    let state = |member: &Member| pb::NodeState {
        member: Some(member_to_wire(member, asking.mono())),
        since_time: since.of(member.node).map(timestamp),
        said_by_node_id: said_by.as_u64(),
        gossip_state: by_gossip
            .iter()
            .find(|other| other.node == member.node)
            .map_or(pb::MemberState::Unspecified, |other| {
                member_state_to_wire(other.state)
            })
            .into(),
    };
    let nodes = above.by_ref().take(most).map(state).collect();
    Ok(pb::ListNodesResponse {
        receipt: Some(asking.read_receipt(&reading)?),
        nodes,
        more: above.next().is_some(),
    })
}

/// Whose word the list is: a leader's where there is one, else this node's.
fn said_by(status: &Status) -> NodeId {
    match &status.role {
        Role::Strong {
            leader: Some(leader),
            ..
        } => leader.node,
        Role::Strong { leader: None, .. } | Role::Eventual { .. } => status.node,
    }
}

/// What gossip knows of the nodes, where strong mode is asked and this node serves eventual mode too.
async fn gossip(service: &Service, asked: Mode) -> Vec<Member> {
    let mut handles = service.shared.handles.iter();
    match handles.find(|handle| handle.mode() == Mode::Eventual) {
        Some(handle) if asked == Mode::Strong => members_of(handle).await.unwrap_or_default(),
        Some(_) | None => Vec::new(),
    }
}

/// The members of eventual mode, asked on this node's own behalf.
async fn members_of(handle: &Handle) -> Option<Vec<Member>> {
    let request = Request {
        command: Command::Members,
        after: None,
        request_id: RequestId::default(),
    };
    let until = Instant::now() + NOTE_INTERVAL;
    match handle.call(request, until).await {
        Ok(Ok(Reply::Members { members })) => Some(members),
        Ok(Ok(_) | Err(_)) | Err(_) => None,
    }
}

/// Writes down when beliefs change, until `leave`.
pub(in crate::service) async fn follow(handle: Handle, since: Since, leave: CancellationToken) {
    let mut counted: Option<MemberCounts> = None;
    loop {
        let status = Arc::clone(&handle.published().view.status);
        if handle.mode() == Mode::Strong {
            since.note(&status.members, handle.clock().now().wall_ms);
        } else if counted != Some(status.counts)
            && let Some(members) = members_of(&handle).await
        {
            since.note(&members, handle.clock().now().wall_ms);
            counted = Some(status.counts);
        }
        tokio::select! {
            () = leave.cancelled() => return,
            () = tokio::time::sleep(NOTE_INTERVAL) => {}
        }
    }
}
