//! The header of each request, in one word.

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
    SnapshotSaveRequest,
);
