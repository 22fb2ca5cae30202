//! Listings: page by page, or as one stream from one state.

use bytes::Bytes;
use futures_util::Stream;
use quorumor_core::{Entry, Error, KeyRange, Revision};
use quorumor_proto::entry::entry_from_wire;
use quorumor_proto::pb;
use tonic::Streaming;

use crate::answer::{self, ListAnswer, Receipt};
use crate::client::Client;
use crate::error::ClientError;
use crate::wire::range_to_wire;

/// Which page of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListQuery {
    /// Which keys.
    pub range: KeyRange,
    /// At most so many entries in a page; 0 for the node's default. A stream has no pages.
    pub limit: u32,
    /// Whether to leave values out.
    pub keys_only: bool,
    /// The `next_page` of the page before. A stream has no pages.
    pub page: Option<Bytes>,
    /// The state at this revision; `None` for now. With the revision of the first page's receipt, all pages are of one state.
    /// Strong mode only.
    pub revision: Option<Revision>,
}

impl ListQuery {
    /// The first page of a range, with values.
    #[must_use]
    pub const fn new(range: KeyRange) -> Self {
        Self {
            range,
            limit: 0,
            keys_only: false,
            page: None,
            revision: None,
        }
    }
}

/// A part of a listing. All parts are of one state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListPart {
    /// The entries, in key order.
    pub entries: Vec<Entry>,
    /// What the answer says about itself: in the last part only.
    pub receipt: Option<Receipt>,
}

impl Client {
    /// One page of a listing.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn list(&self, query: &ListQuery) -> Result<ListAnswer, ClientError> {
        self.call(self.read_kind(), |mut stub, this_try| {
            let request = this_try.request(|header| pb::ListRequest {
                header: Some(header),
                range: Some(range_to_wire(&query.range)),
                limit: query.limit,
                page_token: query.page.clone().unwrap_or_default(),
                keys_only: query.keys_only,
                revision: query.revision.unwrap_or_default().as_u64(),
            });
            async move { stub.list(request).await }
        })
        .await
    }

    /// The whole listing as a stream of parts, all from one state. The client's timeout is for its beginning; a stream that
    /// breaks off after that ends with an error, and the last part is the one with a receipt.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn list_stream(
        &self,
        query: &ListQuery,
    ) -> Result<impl Stream<Item = Result<ListPart, ClientError>> + Unpin + use<>, ClientError>
    {
        let stream: answer::Stream<pb::ListStreamResponse> = self
            .call(self.read_kind(), |mut stub, this_try| {
                let request = this_try.stream(|header| pb::ListStreamRequest {
                    header: Some(header),
                    range: Some(range_to_wire(&query.range)),
                    keys_only: query.keys_only,
                    revision: query.revision.unwrap_or_default().as_u64(),
                });
                async move { stub.list_stream(request).await }
            })
            .await?;
        let course = Some((self.clone(), stream.0));
        let parts = futures_util::stream::unfold(course, |course| async {
            let (client, mut stream) = course?;
            let part = next_part(&mut stream).await;
            let ends = part.as_ref().map_or(true, |part| part.receipt.is_some());
            if let Ok(ListPart {
                receipt: Some(receipt),
                ..
            }) = &part
            {
                client.remember(receipt);
            }
            Some((part, (!ends).then_some((client, stream))))
        });
        Ok(Box::pin(parts))
    }
}

async fn next_part(
    stream: &mut Streaming<pb::ListStreamResponse>,
) -> Result<ListPart, ClientError> {
    let endpoint = "the node";
    match stream.message().await {
        Ok(Some(part)) => {
            part_from_wire(part).map_err(|error| ClientError::bad_answer(&error.to_string()))
        }
        Ok(None) => Err(ClientError::ContactLost {
            endpoint: endpoint.to_owned(),
            why: "the listing broke off".to_owned(),
        }),
        Err(status) => Err(ClientError::from_status(endpoint, &status)),
    }
}

fn part_from_wire(part: pb::ListStreamResponse) -> Result<ListPart, Error> {
    Ok(ListPart {
        entries: part
            .entries
            .into_iter()
            .map(entry_from_wire)
            .collect::<Result<_, _>>()?,
        receipt: part.receipt.map(Receipt::from_wire).transpose()?,
    })
}
