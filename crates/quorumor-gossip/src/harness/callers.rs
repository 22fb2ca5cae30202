//! What a story asks of a world's nodes.

use quorumor_core::{
    Bound, CallId, Command, Error, Input, Level, MemberState, Operation, Position, Reply, Request,
    RequestId, Role, Version, VersionVector,
};

use super::{World, key, node};

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

    // ---- members

    pub(crate) fn state(&self, at: u64, of: u64) -> Option<MemberState> {
        let view = self.view(at);
        view.status
            .members
            .iter()
            .find(|member| member.node == node(of))
            .map(|member| member.state)
    }

    pub(crate) fn count(&self, at: u64, state: MemberState) -> usize {
        self.view(at)
            .status
            .members
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
