//! What has arrived of requests that aren't whole yet, over all connections: counted and bounded, since it lies in memory
//! before anything is known of the request but who sends it.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::extract::Request;
use http_body::{Body as HttpBody, Frame, SizeHint};
use quorumor_core::Error;
use quorumor_proto::status::to_status;

use crate::weight;

/// All together. The longest request takes 4 MiB, the usual one less than a KiB.
const ARRIVING_BYTES_MAX: usize = 256 * 1024 * 1024;
const RETRY_AFTER_MS: u64 = 100;
/// A flag and a length stand before each gRPC message.
const PREFIX_BYTES: usize = 5;

/// How the messages of a body are told apart.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// By what stands before each: one that is whole is read at once, and counts no more.
    Grpc,
    /// The whole body is one.
    One,
}

/// What is arriving. Clones share the sum.
#[derive(Clone, Debug, Default)]
pub(super) struct Arriving(weight::Bytes);

impl Arriving {
    /// The same request, counted while it arrives. One too many ends with `Overloaded`.
    pub(super) fn count(&self, request: Request, kind: Kind) -> Request {
        let sum = self.0.clone();
        request.map(|body| {
            Body::new(Counted {
                body,
                partial: Partial::new(kind),
                weight: sum.add(0),
            })
        })
    }
}

/// The message that isn't whole yet.
#[derive(Debug)]
struct Partial {
    kind: Kind,
    prefix: Vec<u8>,
    /// Bytes that the message still lacks.
    missing: usize,
    /// Bytes of it that are there.
    held: usize,
}

impl Partial {
    const fn new(kind: Kind) -> Self {
        Self {
            kind,
            prefix: Vec::new(),
            missing: 0,
            held: 0,
        }
    }

    /// More has come; how many bytes of a message that isn't whole are there now.
    fn take(&mut self, mut data: &[u8]) -> usize {
        if matches!(self.kind, Kind::One) {
            self.held += data.len();
            return self.held;
        }
        while !data.is_empty() {
            let wanted = match self.missing {
                0 => PREFIX_BYTES - self.prefix.len(),
                missing => missing,
            };
            let (now, later) = data.split_at(wanted.min(data.len()));
            data = later;
            self.held += now.len();
            if self.missing > 0 {
                self.missing -= now.len();
            } else {
                self.prefix.extend_from_slice(now);
                if let [_, a, b, c, d] = self.prefix[..] {
                    self.missing = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(0);
                    self.prefix.clear();
                } else {
                    continue;
                }
            }
            if self.missing == 0 {
                self.held = 0;
            }
        }
        self.held
    }
}

/// A body whose bytes count.
struct Counted {
    body: Body,
    partial: Partial,
    weight: weight::Weight,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            let held = self.partial.take(data);
            if !self.weight.set(held, ARRIVING_BYTES_MAX) {
                let error = Error::Overloaded {
                    queue: "arriving_bytes_max",
                    retry_after_ms: RETRY_AFTER_MS,
                };
                let status = to_status(&error, None, None);
                return Poll::Ready(Some(Err(axum::Error::new(status))));
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use proptest::prelude::*;

    use super::*;

    fn message(bytes: usize) -> Vec<u8> {
        let length = u32::try_from(bytes).unwrap().to_be_bytes();
        [&[0][..], &length, &vec![7; bytes]].concat()
    }

    #[test]
    fn a_whole_message_counts_no_more() {
        let mut partial = Partial::new(Kind::Grpc);
        let wire = message(10);
        assert_eq!(partial.take(&wire[..3]), 3);
        assert_eq!(partial.take(&wire[3..9]), 9);
        assert_eq!(partial.take(&wire[9..]), 0);
        assert_eq!(partial.take(&message(0)), 0);
        assert_eq!(partial.take(&[message(4), wire[..7].to_vec()].concat()), 7);
    }

    proptest! {
        #[test]
        fn only_what_follows_the_last_whole_message_counts(
            sizes in prop::collection::vec(0_usize..50, 1..8),
            cuts in prop::collection::vec(1_usize..40, 1..40),
            rest in 0_usize..60,
        ) {
            let mut wire: Vec<u8> = sizes.iter().flat_map(|size| message(*size)).collect();
            wire.extend_from_slice(&message(70)[..rest]);
            let mut partial = Partial::new(Kind::Grpc);
            let mut held = 0;
            let mut left = &wire[..];
            for cut in cuts.into_iter().chain(std::iter::repeat(40)) {
                if left.is_empty() {
                    break;
                }
                let (now, later) = left.split_at(cut.min(left.len()));
                held = partial.take(now);
                left = later;
            }
            prop_assert_eq!(held, rest);
        }
    }

    #[tokio::test]
    async fn what_arrives_beyond_the_bound_is_refused_by_name_and_leaves_nothing_behind() {
        let arriving = Arriving::default();
        let others = arriving.0.add(ARRIVING_BYTES_MAX);
        let request = || Request::new(Body::from(message(100)[..50].to_vec()));
        let counted = arriving.count(request(), Kind::Grpc);
        let error = counted.into_body().collect().await.unwrap_err();
        let status = tonic::Status::from_error(error.into_inner());
        assert_eq!(status.code(), tonic::Code::ResourceExhausted);
        assert!(status.message().contains("arriving_bytes_max"), "{status}");
        drop(others);
        let counted = arriving.count(request(), Kind::Grpc);
        assert!(counted.into_body().collect().await.is_ok());
        assert_eq!(arriving.0.get(), 0);
    }
}
