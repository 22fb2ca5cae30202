//! What a story asks of a world's nodes.

use quorumor_core::{
    Bound, CallId, Command, Error, Input, LeaseAction, LeaseId, Level, MemberState, Operation,
    Position, Reply, Request, RequestId, Role, StreamClass, Version, VersionVector,
};

use super::{World, key, node};
use crate::codec::encode_part;
use crate::message::Part;

impl World {
    pub(crate) fn request(&mut self, id: u64, command: Command, after: Option<Position>) -> CallId {
        self.calls += 1;
        let call = CallId::new(self.calls);
        let request = Request {
            command,
            after,
            request_id: RequestId::default(),
        };
        self.give(node(id), Input::Request { call, request });
        call
    }

    pub(crate) fn input(&mut self, id: u64, input: Input) {
        self.give(node(id), input);
    }

    /// A node hears something from another, whether that one said it or not.
    pub(crate) fn tell(&mut self, to: u64, from: u64, part: &Part) {
        let class = StreamClass::Bulk;
        let (from, payload) = (node(from), encode_part(part));
        self.input(
            to,
            Input::Stream {
                from,
                class,
                payload,
            },
        );
    }

    pub(crate) fn answer(&self, id: u64, call: CallId) -> Option<&Result<Reply, Error>> {
        self.nodes[&node(id)].replies.get(&call)
    }

    pub(crate) fn begin_write(&mut self, id: u64, operations: Vec<Operation>) -> CallId {
        self.request(id, Command::write(operations, None).unwrap(), None)
    }

    /// Writes and waits for the answer; returns the position to read from.
    pub(crate) fn write(&mut self, id: u64, operations: Vec<Operation>) -> VersionVector {
        let call = self.begin_write(id, operations);
        self.until("a write is acknowledged", 1_000, |world| {
            world.answer(id, call).is_some()
        });
        match self.answer(id, call) {
            Some(Ok(Reply::Written {
                position: Position::Eventual(vector),
                ..
            })) => vector.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// A write whose caller waits until so many members hold it.
    pub(crate) fn begin_held(&mut self, id: u64, operation: Operation, acks: u32) -> CallId {
        let command = Command::write_held(vec![operation], None, acks).unwrap();
        self.request(id, command, None)
    }

    /// Grants a lease and waits until it is everywhere.
    pub(crate) fn grant(&mut self, id: u64, ttl_ms: u64) -> LeaseId {
        let action = LeaseAction::Grant {
            id: None,
            ttl_ms,
            client: None,
        };
        let call = self.request(id, Command::Lease(action), None);
        self.until("a lease is granted", 1_000, |world| {
            world.answer(id, call).is_some()
        });
        let Some(Ok(Reply::LeaseGranted { id: lease, .. })) = self.answer(id, call) else {
            panic!("{:?}", self.answer(id, call))
        };
        let lease = *lease;
        self.until("the grant is everywhere", 1_000, |world| {
            let mut ids = world.ids().into_iter();
            ids.all(|id| world.view(id).leases.contains_key(&lease))
        });
        lease
    }

    pub(crate) fn barrier(&mut self, id: u64, after: &VersionVector) -> CallId {
        let after = Some(Position::Eventual(after.clone()));
        self.request(
            id,
            Command::ReadBarrier {
                bound: Bound::NONE,
                level: Level::Local,
            },
            after,
        )
    }

    pub(crate) fn read(&self, id: u64, name: &str) -> Option<String> {
        let view = self.view(id);
        let entry = view.entry(&key(name))?;
        Some(String::from_utf8(entry.value.as_bytes().to_vec()).unwrap())
    }

    pub(crate) fn context(&self, id: u64, name: &str) -> VersionVector {
        match &self.view(id).entry(&key(name)).unwrap().version {
            Version::Eventual { context, .. } => context.clone(),
            Version::Strong { .. } => panic!("a strong version"),
        }
    }

    pub(crate) fn conflicts(&self, id: u64) -> u64 {
        match self.view(id).status.role {
            Role::Eventual { conflicts, .. } => conflicts,
            Role::Strong { .. } => panic!("a strong role"),
        }
    }

    pub(crate) fn tombstones(&self, id: u64) -> u64 {
        match self.view(id).status.role {
            Role::Eventual { tombstones, .. } => tombstones,
            Role::Strong { .. } => panic!("a strong role"),
        }
    }

    // ---- members

    pub(crate) fn state(&self, at: u64, of: u64) -> Option<MemberState> {
        let members = self.replica(at).list_members();
        members
            .iter()
            .find(|member| member.node == node(of))
            .map(|member| member.state)
    }

    pub(crate) fn count(&self, at: u64, state: MemberState) -> usize {
        self.replica(at)
            .list_members()
            .iter()
            .filter(|member| member.state == state)
            .count()
    }

    /// Whether all running nodes know the same and show the same.
    pub(crate) fn agrees(&self) -> bool {
        let ids = self.ids();
        let first = self.view(ids[0]);
        ids.iter()
            .all(|id| self.view(*id).position == first.position)
            && ids
                .iter()
                .all(|id| self.view(*id).digest() == first.digest())
    }
}
