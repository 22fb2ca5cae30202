//! The echo as a target: every operation is one unary call of the size that it would have.

use tonic::transport::Channel;

use crate::echopb::EchoRequest;
use crate::echopb::echo_client::EchoClient;
use crate::load::{Call, CallError};
use crate::op::{KeySpace, Op};
use crate::target::call_error;

/// What an echo sends back for a read: a value of the size that is measured most.
const REPLY_BYTES: u32 = 256;

/// A caller of an echo.
#[derive(Clone, Debug)]
pub struct EchoCaller {
    client: EchoClient<Channel>,
    keys: KeySpace,
}

impl EchoCaller {
    pub(crate) fn new(channel: Channel, keys: KeySpace) -> Self {
        Self {
            client: EchoClient::new(channel),
            keys,
        }
    }
}

impl Call for EchoCaller {
    async fn call(&mut self, op: Op) -> Result<(), CallError> {
        let key = match op {
            Op::Put { key, .. } | Op::Get { key, .. } => key,
            Op::Batch { first, .. } => first,
            Op::KeepAlive | Op::Discover { .. } => 0,
        };
        let request = EchoRequest {
            key: self.keys.name(key).to_owned(),
            reply_bytes: REPLY_BYTES,
        };
        let answer = self.client.echo(request).await;
        answer.map(drop).map_err(|status| call_error(&status))
    }
}
