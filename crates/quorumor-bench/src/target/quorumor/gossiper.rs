//! A connection to one node in eventual mode, for what is asked of a single node: its belief of others, a put, a watch.

use bytes::Bytes;
use quorumor_proto::v1::state_service_client::StateServiceClient;
use quorumor_proto::v1::{DescribeRequest, Level, MemberCounts, PutRequest};
use tonic::transport::Channel;

use super::{QuorumorCaller, header};
use crate::BenchError;
use crate::load::CallError;
use crate::op::KeySpace;
use crate::target::{CallStyle, Mode, Target, call_error};
use crate::watch::Values;

const MODE: Mode = Mode::Eventual;

/// A connection to one node.
#[derive(Clone, Debug)]
pub(crate) struct Gossiper {
    channel: Channel,
}

impl Gossiper {
    pub(crate) async fn connect(address: &str) -> Result<Self, BenchError> {
        let target: Target = format!("quorumor={address}")
            .parse()
            .map_err(BenchError::Usage)?;
        let channel = target.channel(0).await?;
        Ok(Self { channel })
    }

    /// How many members the node holds to be alive, itself included.
    pub(crate) async fn alive(&self) -> Result<usize, CallError> {
        Ok(in_full(self.members().await?.alive))
    }

    /// How many members the node holds for dead.
    pub(crate) async fn dead(&self) -> Result<usize, CallError> {
        Ok(in_full(self.members().await?.down))
    }

    /// Sets a key; the node has it on its disk when this returns.
    pub(crate) async fn put(&self, key: String, value: Bytes) -> Result<(), CallError> {
        let request = PutRequest {
            header: Some(header(MODE, Level::Unspecified)),
            key,
            value,
            ..PutRequest::default()
        };
        let answer = self.client().put(request).await;
        answer.map(drop).map_err(|status| call_error(&status))
    }

    /// The values that come under a prefix, from now on.
    pub(crate) async fn watch(&self, prefix: &str) -> Result<Values, CallError> {
        let keys = KeySpace::new(prefix, 1);
        let caller = QuorumorCaller::new(self.channel.clone(), MODE, CallStyle::Unary, keys);
        caller.watch(prefix).await
    }

    async fn members(&self) -> Result<MemberCounts, CallError> {
        let request = DescribeRequest {
            header: Some(header(MODE, Level::Unspecified)),
            ..DescribeRequest::default()
        };
        let answer = self.client().describe(request).await;
        let receipt = answer
            .map_err(|status| call_error(&status))?
            .into_inner()
            .receipt;
        let members = receipt.and_then(|receipt| receipt.members);
        members.ok_or_else(|| CallError("a receipt without members".to_owned()))
    }

    fn client(&self) -> StateServiceClient<Channel> {
        StateServiceClient::new(self.channel.clone())
    }
}

fn in_full(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
