//! Eventual mode around a replica that does what the test says: members, leases, conflicts, digests, and writes that several
//! members must hold.

use futures_util::StreamExt;
use quorumor_core::{
    Conflict, Conflicts, Dot, Durability, Generation, Incarnation, Lease, LeaseId, LogId, LogTime,
    Member, MemberState, Seq, Stamp, VersionVector,
};
use quorumor_proto::pb::cluster_service_server::ClusterService;

use super::*;

/// A lease that this node owns, one of node 2, and one whose owner is away.
const OWN: u64 = 1;
const OTHERS: u64 = 2;
const AWAY: u64 = 3;

fn node(id: u64) -> NodeId {
    NodeId::try_from(id).unwrap()
}

fn dot(seq: u64) -> Dot {
    Dot {
        writer: node(1),
        log_id: LogId::new(7),
        seq: Seq::new(seq),
    }
}

fn lease(id: u64, owner: u64) -> (LeaseId, Arc<Lease>) {
    let lease = Lease {
        id: LeaseId::new(id),
        ttl_ms: 60_000,
        expires_at: LogTime::default().after_ms(3_600_000),
        owner: Some(node(owner)),
        keys: Default::default(),
    };
    (lease.id, Arc::new(lease))
}

/// Puts make conflicts, so that there are some to watch.
struct Eventual {
    view: View,
    outputs: Vec<Output>,
    noted: Arc<Mutex<Vec<String>>>,
}

impl Eventual {
    fn new() -> Self {
        let mut view = view();
        view.position = Position::Eventual(VersionVector::default());
        view.leases = [lease(OWN, 1), lease(OTHERS, 2)].into_iter().collect();
        view.status = Arc::new(Status {
            mode: Mode::Eventual,
            role: Role::Eventual {
                generation: Generation::default(),
                incarnation: Incarnation::default(),
                conflicts: 0,
                tombstones: 4,
                durability: Durability::Interval,
                held_back_by: Some((node(2), 12_000)),
                isolated: true,
            },
            ..(*view.status).clone()
        });
        Self {
            view,
            outputs: Vec::new(),
            noted: Arc::default(),
        }
    }

    fn write(&mut self, operations: &[quorumor_core::Operation]) -> Reply {
        let quorumor_core::Operation::Put { key, value, .. } = &operations[0] else {
            panic!("only puts are scripted");
        };
        let number = self.view.conflicts.count + 1;
        let dot = dot(number);
        let version = Version::Eventual {
            dot,
            stamp: Stamp::from_u64(number),
            context: [dot].into_iter().collect(),
            siblings: 1,
        };
        self.view.entries.insert(
            key.clone(),
            Arc::new(Entry {
                key: key.clone(),
                value: value.clone(),
                version: version.clone(),
                writer: node(1),
                lease: None,
                siblings: None,
            }),
        );
        let vector: VersionVector = [dot].into_iter().collect();
        self.view.position = Position::Eventual(vector);
        let mut listed = self.view.conflicts.listed.clone();
        listed.push_back(Arc::new(Conflict {
            number,
            key: key.clone(),
            loser: dot,
            loser_stamp: Stamp::from_u64(number),
            value: Some(value.clone()),
            winner: self::dot(1_000),
            wall_ms: 5,
        }));
        while listed.len() > 3 {
            listed.pop_front();
        }
        self.view.conflicts = Conflicts {
            count: number,
            listed,
        };
        Reply::Written {
            results: vec![OperationResult::Put { version }],
            position: self.view.position.clone(),
            dot: Some((dot, Stamp::from_u64(number))),
        }
    }

    fn lease(&self, action: &LeaseAction) -> Result<Reply, Error> {
        let position = self.view.position.clone();
        let absent = |lease| Err(Error::LeaseNotFound { lease });
        match action {
            LeaseAction::Grant {
                id: None, ttl_ms, ..
            } => Ok(Reply::LeaseGranted {
                id: LeaseId::new(OWN),
                ttl_ms: *ttl_ms,
                position,
            }),
            LeaseAction::Grant { id: Some(_), .. } => Err(Error::GuaranteeUnavailable {
                mode: Mode::Eventual,
                asked: "a lease under a chosen id",
                best_available: "one under an id of the node's choice",
            }),
            LeaseAction::Revoke { id, .. }
            | LeaseAction::KeepAlive { id }
            | LeaseAction::Look { id }
                if id.as_u64() == AWAY =>
            {
                Err(Error::OwnerUnreachable { owner: node(9) })
            }
            LeaseAction::Look { id } if id.as_u64() <= OTHERS => Ok(Reply::LeaseSeen {
                ttl_ms: 60_000,
                remaining_ms: 41_000,
                position,
            }),
            LeaseAction::KeepAlive { .. } => Ok(Reply::LeaseKept { ttl_ms: 60_000 }),
            LeaseAction::Revoke { id, .. } | LeaseAction::Look { id } => absent(*id),
        }
    }
}

impl Replica for Eventual {
    fn handle(&mut self, _: Now, input: Input) {
        let Input::Request { call, request } = input else {
            return;
        };
        let result = match request.command {
            Command::Write {
                operations, acks, ..
            } => {
                self.noted.lock().push(format!("write held by {acks}"));
                match acks {
                    0..=3 => Ok(self.write(&operations)),
                    needed => Err(Error::TooFewMembers { needed, have: 3 }),
                }
            }
            Command::Members => Ok(Reply::Members {
                members: [1, 2].map(member).to_vec(),
            }),
            Command::Lease(action) => self.lease(&action),
            Command::ReadBarrier { level, bound } => {
                let noted = format!("{level} barrier of {}", bound.members);
                self.noted.lock().push(noted);
                Ok(Reply::ReadReady {
                    position: self.view.position.clone(),
                })
            }
            Command::Txn { .. } | Command::Session(_) | Command::Cluster(_) | Command::Backup => {
                return;
            }
        };
        self.outputs.push(Output::Reply { call, result });
    }

    fn poll_output(&mut self) -> Option<Output> {
        (!self.outputs.is_empty()).then(|| self.outputs.remove(0))
    }

    fn poll_timeout(&self) -> Option<(Mono, WakeReason)> {
        None
    }

    fn view(&self) -> View {
        self.view.clone()
    }
}

fn member(id: u64) -> Member {
    Member {
        node: node(id),
        state: MemberState::Alive,
        peer_address: None,
        client_address: Some(format!("10.0.0.{id}:7400")),
        voter: false,
        promote: false,
        store: None,
        generation: Generation::default(),
        incarnation: Incarnation::default(),
        heard_at: None,
    }
}

async fn begin() -> Running {
    let replica = Eventual::new();
    let noted = Arc::clone(&replica.noted);
    start_mode(Mode::Eventual, replica, noted).await
}

fn asking<M>(message: M) -> tonic::Request<M> {
    within(message, "5S")
}

#[tokio::test]
async fn describe_asks_for_the_members_and_tells_what_the_mode_is_at() {
    let running = begin().await;
    let asked = asking(pb::DescribeRequest::default());
    let about = running.service.describe(asked).await.unwrap().into_inner();
    let ids: Vec<_> = about.members.iter().map(|member| member.node_id).collect();
    assert_eq!((ids, about.members_missing.as_str()), (vec![1, 2], ""));
    let Some(pb::describe_response::Progress::Eventual(progress)) = about.progress else {
        panic!("not eventual");
    };
    assert_eq!(progress.durability(), pb::Durability::Interval);
    assert_eq!(progress.held_back_by_node_id, 2);
    assert_eq!(progress.held_back_for.unwrap().seconds, 12);
    assert!(progress.isolated);
    assert_eq!(progress.leases, 2);
    running.end().await;
}

#[tokio::test]
async fn a_lease_is_looked_at_where_it_lives() {
    let running = begin().await;
    let service = &running.service;
    let granted = service.lease_grant(asking(pb::LeaseGrantRequest {
        ttl: Some(quorumor_proto::receipt::millis(60_000)),
        ..pb::LeaseGrantRequest::default()
    }));
    assert_eq!(granted.await.unwrap().into_inner().lease_id, OWN);
    let look = |lease_id| {
        service.lease_time_to_live(asking(pb::LeaseTimeToLiveRequest {
            lease_id,
            ..pb::LeaseTimeToLiveRequest::default()
        }))
    };
    let seen = look(OTHERS).await.unwrap().into_inner();
    let lease = seen.lease.unwrap();
    assert_eq!(
        (lease.owner_node_id, lease.remaining_ttl.unwrap().seconds),
        (2, 41)
    );
    assert!(!look(77).await.unwrap().into_inner().found);
    let away = from_status(&look(AWAY).await.unwrap_err());
    assert_eq!(away.reason, "OWNER_UNREACHABLE");
    assert_eq!(away.code, tonic::Code::Unavailable);
    assert!(away.retry_after.is_some());
    let listed = service.lease_list(asking(pb::LeaseListRequest::default()));
    let listed = listed.await.unwrap().into_inner().leases;
    let left: Vec<_> = listed
        .iter()
        .map(|lease| (lease.owner_node_id, lease.remaining_ttl.is_some()))
        .collect();
    assert_eq!(left, [(1, true), (2, false)]);
    let revoked = service.lease_revoke(asking(pb::LeaseRevokeRequest {
        lease_id: AWAY,
        header: None,
    }));
    let failure = from_status(&revoked.await.unwrap_err());
    assert_eq!(failure.reason, "OWNER_UNREACHABLE");
    running.end().await;
}

#[tokio::test]
async fn so_many_members_hold_a_write_as_were_asked_for() {
    let running = begin().await;
    let held = |acks| {
        let header = pb::RequestHeader {
            acks,
            ..pb::RequestHeader::default()
        };
        running.service.put(asking(pb::PutRequest {
            header: Some(header),
            ..put("k")
        }))
    };
    let receipt = held(3).await.unwrap().into_inner().receipt.unwrap();
    assert_eq!(receipt.acks, 3);
    assert_eq!(receipt.durability(), pb::Durability::Interval);
    running.noted("write held by 3").await;
    let refused = from_status(&held(5).await.unwrap_err());
    assert_eq!(refused.reason, "TOO_FEW_MEMBERS");
    assert_eq!(refused.certainty, quorumor_core::Certainty::NotApplied);
    running.end().await;
}

#[tokio::test]
async fn strong_mode_holds_every_write_on_a_majority_and_takes_no_number() {
    let running = start(Scripted::new(true)).await;
    let header = pb::RequestHeader {
        acks: 2,
        ..pb::RequestHeader::default()
    };
    let put = pb::PutRequest {
        header: Some(header),
        ..put("k")
    };
    let refused = running.service.put(asking(put)).await.unwrap_err();
    let refused = from_status(&refused);
    assert_eq!(refused.reason, "GUARANTEE_UNAVAILABLE");
    assert_eq!(
        refused.best_available.as_deref(),
        Some("a majority, always")
    );
    running.end().await;
}

#[tokio::test]
async fn a_sampled_read_asks_so_many_members_as_it_names() {
    let running = begin().await;
    let get = |members| {
        let header = pb::RequestHeader {
            level: pb::Level::Sampled.into(),
            bound: Some(pb::Bound {
                members,
                ..pb::Bound::default()
            }),
            ..pb::RequestHeader::default()
        };
        running.service.get(asking(pb::GetRequest {
            header: Some(header),
            key: "k".into(),
            revision: 0,
        }))
    };
    let receipt = get(3).await.unwrap().into_inner().receipt.unwrap();
    assert_eq!(receipt.got(), pb::Level::Sampled);
    running.noted("sampled barrier of 3").await;
    let refused = from_status(&get(0).await.unwrap_err());
    assert_eq!(refused.reason, "INVALID_ARGUMENT");
    running.end().await;
}

#[tokio::test]
async fn conflicts_are_listed_and_each_new_one_wakes_its_watchers() {
    let running = begin().await;
    let service = running.service.clone();
    service.put(asking(put("a"))).await.unwrap();
    let watch = |prefix: &str, after_number| {
        let range = pb::key_range::Range::Prefix(prefix.into());
        service.watch_conflicts(asking(pb::WatchConflictsRequest {
            header: None,
            range: Some(pb::KeyRange { range: Some(range) }),
            after_number,
        }))
    };
    let mut steps = watch("", 0).await.unwrap().into_inner();
    let first = steps.next().await.unwrap().unwrap();
    assert_eq!((first.conflicts[0].number, first.missed), (1, 0));
    assert_eq!(first.conflicts[0].key, "a");
    let mut others = watch("b", 1).await.unwrap().into_inner();
    let nothing = others.next().await.unwrap().unwrap();
    assert!(nothing.conflicts.is_empty());
    service.put(asking(put("b"))).await.unwrap();
    let second = steps.next().await.unwrap().unwrap();
    assert_eq!(second.through_number, 2);
    let second = others.next().await.unwrap().unwrap();
    assert_eq!(second.conflicts[0].key, "b");
    // Who isn't there while more come than are listed hears how many.
    for _ in 0..5 {
        service.put(asking(put("c"))).await.unwrap();
    }
    let late = steps.next().await.unwrap().unwrap();
    assert_eq!(
        (late.missed, late.conflicts.len(), late.through_number),
        (2, 3, 7)
    );
    let listed = service.list_conflicts(asking(pb::ListConflictsRequest {
        limit: 2,
        ..pb::ListConflictsRequest::default()
    }));
    let listed = listed.await.unwrap().into_inner();
    assert_eq!((listed.count, listed.missed, listed.more), (7, 4, true));
    assert_eq!(listed.through_number, 6);
    running.leave.cancel();
    let end = steps.next().await.unwrap().unwrap_err();
    assert_eq!(from_status(&end).reason, "STOPPING");
    running.end().await;
}

#[tokio::test]
async fn a_digest_tells_states_apart_and_its_keys_say_where() {
    let (one, other) = (begin().await, begin().await);
    let digest = async |running: &Running| {
        let asked = asking(pb::DigestRequest::default());
        running.service.digest(asked).await.unwrap().into_inner()
    };
    for running in [&one, &other] {
        running.service.put(asking(put("a"))).await.unwrap();
    }
    let (here, there) = (digest(&one).await, digest(&other).await);
    assert_eq!((here.root, &here.buckets), (there.root, &there.buckets));
    assert_eq!((here.entries, here.tombstones, here.writes), (1, 4, 1));
    one.service.put(asking(put("b"))).await.unwrap();
    let here = digest(&one).await;
    assert_ne!(here.root, there.root);
    let differ = (0..256_u32)
        .filter(|bucket| here.buckets[*bucket as usize] != there.buckets[*bucket as usize]);
    let asked = pb::DigestKeysRequest {
        buckets: differ.collect(),
        ..pb::DigestKeysRequest::default()
    };
    assert_eq!(asked.buckets.len(), 1);
    let keys = one.service.digest_keys(asking(asked)).await.unwrap();
    let keys = keys.into_inner();
    assert_eq!((keys.keys[0].key.as_str(), keys.more), ("b", false));
    let bad = pb::DigestKeysRequest {
        buckets: vec![256],
        ..pb::DigestKeysRequest::default()
    };
    let refused = one.service.digest_keys(asking(bad)).await.unwrap_err();
    assert_eq!(from_status(&refused).reason, "INVALID_ARGUMENT");
    one.end().await;
    other.end().await;
}
