//! What all requests have in common, a header, and what matters of all answers: whether they are long.

use prost::Message;
use quorumor_proto::pb;

/// A request with a header.
pub(super) trait Headed {
    /// Takes the header out.
    fn take_header(&mut self) -> Option<pb::RequestHeader>;
}

macro_rules! headed {
    ($($message:ident),+ $(,)?) => {
        $(impl Headed for pb::$message {
            fn take_header(&mut self) -> Option<pb::RequestHeader> {
                self.header.take()
            }
        })+
    };
}

headed!(
    PutRequest,
    GetRequest,
    DeleteRequest,
    ListRequest,
    ListStreamRequest,
    CompareAndSetRequest,
    BatchRequest,
    TxnRequest,
    LeaseGrantRequest,
    LeaseRevokeRequest,
    LeaseTimeToLiveRequest,
    LeaseListRequest,
    OpenSessionRequest,
    CloseSessionRequest,
    WatchRequest,
    DescribeRequest,
    MemberListRequest,
    MemberAddRequest,
    MemberPromoteRequest,
    MemberRemoveRequest,
    TransferLeaderRequest,
    CompactHistoryRequest,
    AdvanceEpochRequest,
    SnapshotSaveRequest,
    ListConflictsRequest,
    WatchConflictsRequest,
    DigestRequest,
    DigestKeysRequest,
    RegisterRequest,
    DeregisterRequest,
    DiscoverRequest,
    ListServicesRequest,
    WatchServiceRequest,
    ListNodesRequest,
);

/// An answer that may be long.
pub(super) trait Answering {
    /// About what it weighs; 0 for what is short by its nature, or counted by itself.
    fn long_bytes(&self) -> usize {
        0
    }
}

fn entry_bytes(entry: Option<&pb::Entry>) -> usize {
    let siblings = |entry: &pb::Entry| -> usize {
        let siblings = entry.siblings.iter();
        siblings.map(|sibling| sibling.value.len()).sum()
    };
    entry.map_or(0, |entry| {
        entry.key.len() + entry.value.len() + siblings(entry)
    })
}

fn results_bytes(results: &[pb::BatchResult]) -> usize {
    use pb::batch_result::Result as Done;
    let bytes = |result: &pb::BatchResult| match &result.result {
        Some(Done::Get(got)) => entry_bytes(got.entry.as_ref()),
        Some(Done::Delete(deleted)) => entry_bytes(deleted.previous.as_ref()),
        Some(Done::CompareAndSet(compared)) => entry_bytes(compared.entry.as_ref()),
        Some(Done::Put(_) | Done::DeleteRange(_)) | None => 0,
    };
    results.iter().map(bytes).sum()
}

impl Answering for pb::GetResponse {
    fn long_bytes(&self) -> usize {
        entry_bytes(self.entry.as_ref())
    }
}

impl Answering for pb::DeleteResponse {
    fn long_bytes(&self) -> usize {
        entry_bytes(self.previous.as_ref())
    }
}

impl Answering for pb::CompareAndSetResponse {
    fn long_bytes(&self) -> usize {
        entry_bytes(self.entry.as_ref())
    }
}

impl Answering for pb::BatchResponse {
    fn long_bytes(&self) -> usize {
        results_bytes(&self.results)
    }
}

impl Answering for pb::TxnResponse {
    fn long_bytes(&self) -> usize {
        results_bytes(&self.results)
    }
}

impl Answering for pb::ListResponse {
    fn long_bytes(&self) -> usize {
        // With what versions and lengths weigh.
        let entries = self.entries.iter();
        entries.map(|entry| 64 + entry_bytes(Some(entry))).sum()
    }
}

impl Answering for pb::LeaseTimeToLiveResponse {
    fn long_bytes(&self) -> usize {
        let keys = self.lease.iter().flat_map(|lease| &lease.keys);
        keys.map(String::len).sum()
    }
}

impl Answering for pb::ListConflictsResponse {
    fn long_bytes(&self) -> usize {
        let value = |conflict: &pb::Conflict| conflict.value.as_ref().map_or(0, bytes::Bytes::len);
        let conflicts = self.conflicts.iter();
        conflicts
            .map(|conflict| 64 + conflict.key.len() + value(conflict))
            .sum()
    }
}

impl Answering for pb::DigestKeysResponse {
    fn long_bytes(&self) -> usize {
        let keys = self.keys.iter();
        keys.map(|key| 32 + key.key.len() + key.version.len()).sum()
    }
}

impl Answering for pb::LeaseListResponse {
    fn long_bytes(&self) -> usize {
        self.leases.len() * 64
    }
}

impl Answering for pb::ListServicesResponse {
    fn long_bytes(&self) -> usize {
        self.services.iter().map(Message::encoded_len).sum()
    }
}

impl Answering for pb::ListNodesResponse {
    fn long_bytes(&self) -> usize {
        self.nodes.len() * 64
    }
}

/// A stream gives one part at a time.
impl<T> Answering for super::Answers<T> {}

macro_rules! short {
    ($($message:ident),+ $(,)?) => {
        $(impl Answering for pb::$message {})+
    };
}

short!(
    PutResponse,
    LeaseGrantResponse,
    LeaseRevokeResponse,
    OpenSessionResponse,
    CloseSessionResponse,
    DescribeResponse,
    MemberListResponse,
    MemberAddResponse,
    MemberPromoteResponse,
    MemberRemoveResponse,
    TransferLeaderResponse,
    CompactHistoryResponse,
    AdvanceEpochResponse,
    DigestResponse,
    RegisterResponse,
    DeregisterResponse,
);
