//! Calls of the node's own gRPC services, in the process: no socket, no client, and messages pass as bytes.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::service::Routes;
use tonic::{Extensions, Request, Status, Streaming};

use crate::problem::Problem;

/// Who calls, and what goes with each call: who the caller is, and how long it waits.
#[derive(Debug)]
pub(crate) struct Caller {
    grpc: Routes,
    metadata: MetadataMap,
    extensions: Extensions,
    timeout: Option<Duration>,
}

impl Caller {
    /// The caller of an HTTP request.
    pub(crate) fn new(
        grpc: Routes,
        parts: &Parts,
        timeout: Option<Duration>,
    ) -> Result<Self, Problem> {
        let mut metadata = MetadataMap::new();
        if let Some(value) = parts.headers.get(AUTHORIZATION) {
            let value = MetadataValue::try_from(value.as_bytes())
                .map_err(|_| Problem::invalid("authorization", "must be visible ASCII"))?;
            metadata.insert("authorization", value);
        }
        Ok(Self {
            grpc,
            metadata,
            extensions: parts.extensions.clone(),
            timeout,
        })
    }

    /// One message there, one back.
    pub(crate) async fn unary(&self, method: &str, message: Vec<u8>) -> Result<Bytes, Status> {
        let answer = self
            .client()
            .unary(self.request(message), path(method), Raw)
            .await?;
        Ok(answer.into_inner())
    }

    /// One message there, many back. Dropping the stream ends the call.
    pub(crate) async fn stream(
        &self,
        method: &str,
        message: Vec<u8>,
    ) -> Result<Streaming<Bytes>, Status> {
        let answer = self
            .client()
            .server_streaming(self.request(message), path(method), Raw)
            .await?;
        Ok(answer.into_inner())
    }

    fn client(&self) -> Grpc<Routes> {
        // What is limited is what a node answers, by the node itself; here nothing crosses a network.
        Grpc::new(self.grpc.clone()).max_decoding_message_size(usize::MAX)
    }

    fn request(&self, message: Vec<u8>) -> Request<Bytes> {
        let extensions = self.extensions.clone();
        let mut request = Request::from_parts(self.metadata.clone(), extensions, message.into());
        if let Some(timeout) = self.timeout {
            request.set_timeout(timeout);
        }
        request
    }
}

fn path(method: &str) -> PathAndQuery {
    format!("/quorumor.v1.{method}")
        .parse()
        .expect("a method's name is a path")
}

/// Messages as the bytes that they are.
#[derive(Clone, Copy, Debug)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
