//! A long answer counts until its last byte has left: a client that takes slowly must not make the node hold without bound.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::response::Response;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::admission::AnswerWeight;

/// A body, and what it weighs for as long as it's there.
struct Held {
    body: Body,
    _weight: AnswerWeight,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Lets the answer's weight, if it has one, go with its body.
pub(super) fn hold(mut response: Response) -> Response {
    match response.extensions_mut().remove::<AnswerWeight>() {
        None => response,
        Some(weight) => response.map(|body| {
            Body::new(Held {
                body,
                _weight: weight,
            })
        }),
    }
}
