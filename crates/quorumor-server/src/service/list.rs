//! Listings: page by page, or as one stream from one view.
//!
//! A page token holds the last key of its page and is bound to the range, so that it can't be used for another; each page is a
//! view of its own, unless the caller names a revision. A stream makes its next part when the client has taken the one before,
//! from a view that no write changes: it stalls nobody and holds one part at a time.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{FutureExt, stream};
use prost::Message;
use quorumor_core::limits::{LIST_BYTES_MAX, LIST_ENTRIES_DEFAULT, LIST_ENTRIES_MAX};
use quorumor_core::{Entry, Error, Key, KeyRange, Revision, View};
use quorumor_proto::entry::entry_to_wire;
use quorumor_proto::pb;
use quorumor_proto::request::parse_range;
use tokio::sync::Semaphore;

use super::Answers;
use super::asking::{Asking, Reading, misfit};
use crate::admission::AnswerWeight;
use crate::auth::Principal;

const FORMAT: u8 = 1;
/// What an entry weighs in a page beside its own message: a tag and a length.
const ENTRY_BYTES: usize = 8;
/// One part of a stream: far below the 4 MiB that a client takes by default, and one entry may weigh 1 MiB more.
pub(super) const PART_BYTES: usize = 1024 * 1024;
pub(super) const PART_ENTRIES: usize = 1_000;

/// Entries in key order that fit one message.
pub(super) struct Part {
    pub(super) entries: Vec<pb::Entry>,
    pub(super) last: Option<Key>,
    /// Whether entries are left.
    pub(super) more: bool,
}

impl Part {
    /// At least one entry if there is one.
    pub(super) fn fill(
        from: impl Iterator<Item = Arc<Entry>>,
        with_values: bool,
        entries_max: usize,
        bytes_max: usize,
    ) -> Self {
        let mut part = Self {
            entries: Vec::new(),
            last: None,
            more: false,
        };
        let mut bytes = 0;
        for entry in from {
            let wire = entry_to_wire(&entry, with_values);
            // As encoded, since the version of an eventual entry may weigh more than key and value.
            let weight = ENTRY_BYTES + wire.encoded_len();
            let full = part.entries.len() >= entries_max || bytes + weight > bytes_max;
            if full && !part.entries.is_empty() {
                part.more = true;
                break;
            }
            bytes += weight;
            part.entries.push(wire);
            part.last = Some(entry.key.clone());
        }
        part
    }

    /// The same from a view as of a revision, or as it is.
    fn of_view(
        view: &View,
        at: Option<Revision>,
        (range, after): (&KeyRange, Option<&Key>),
        with_values: bool,
        (entries_max, bytes_max): (usize, usize),
    ) -> Result<Self, Error> {
        Ok(match at {
            None => {
                let entries = view.range(range, after).cloned();
                Self::fill(entries, with_values, entries_max, bytes_max)
            }
            Some(at) => {
                let entries = view.range_at(range, after, at)?;
                Self::fill(entries, with_values, entries_max, bytes_max)
            }
        })
    }
}

/// How many entries a page may have.
pub(super) fn limit(asked: u32) -> Result<usize, Error> {
    match usize::try_from(asked).unwrap_or(usize::MAX) {
        0 => Ok(LIST_ENTRIES_DEFAULT),
        limit if limit <= LIST_ENTRIES_MAX => Ok(limit),
        over => Err(Error::too_large("list_entries_max", LIST_ENTRIES_MAX, over)),
    }
}

/// What a listing asks, checked.
pub(super) struct Asked {
    range: KeyRange,
    limit: usize,
    after: Option<Key>,
    with_values: bool,
    /// `None` for now.
    at: Option<Revision>,
}

impl Asked {
    pub(super) fn parse(list: pb::ListRequest) -> Result<Self, Error> {
        let range = parse_range(list.range)?;
        let limit = limit(list.limit)?;
        let after = if list.page_token.is_empty() {
            None
        } else {
            Some(decode(&list.page_token, &range)?)
        };
        Ok(Self {
            range,
            limit,
            after,
            with_values: !list.keys_only,
            at: at_revision(list.revision),
        })
    }

    /// The page of this view.
    fn page(&self, view: &View, receipt: pb::Receipt) -> Result<pb::ListResponse, Error> {
        let part = Part::of_view(
            view,
            self.at,
            (&self.range, self.after.as_ref()),
            self.with_values,
            (self.limit, LIST_BYTES_MAX),
        )?;
        let next = part.last.filter(|_| part.more);
        Ok(pb::ListResponse {
            receipt: Some(receipt),
            entries: part.entries,
            next_page_token: next.map_or_else(Bytes::new, |last| encode(&last, &self.range)),
        })
    }
}

/// A revision on the wire, where 0 is now.
pub(super) fn at_revision(revision: u64) -> Option<Revision> {
    (revision > 0).then(|| Revision::new(revision))
}

/// One page.
pub(super) async fn page(
    asking: Arc<Asking>,
    list: pb::ListRequest,
) -> Result<pb::ListResponse, Error> {
    let asked = Asked::parse(list)?;
    asking.principal().may_read(&asked.range)?;
    let reading = asking.read_at(asked.at).await?;
    let receipt = asking.read_receipt(&reading)?;
    let published = Arc::clone(&reading.published);
    aside(asked.at, move || asked.page(&published.view, receipt)).await
}

/// How many looks into the past run at once.
static PAST_LOOKS: Semaphore = Semaphore::const_new(8);

/// Makes a page or part. One of the past may pass over any number of keys that weren't there yet, or aren't any more, so it is
/// made where it holds up nobody.
async fn aside<T: Send + 'static>(
    at: Option<Revision>,
    make: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    if at.is_none() {
        return make();
    }
    let place = PAST_LOOKS.acquire().await.expect("it is never closed");
    let made = tokio::task::spawn_blocking(move || {
        let made = make();
        drop(place);
        made
    });
    made.await.map_err(|_| misfit())?
}

/// A listing under way.
struct Streaming {
    asking: Arc<Asking>,
    reading: Reading,
    receipt: pb::Receipt,
    range: KeyRange,
    with_values: bool,
    at: Option<Revision>,
    after: Option<Key>,
    is_done: bool,
    /// Of the part that is made and the one that is on its way.
    _weight: Option<AnswerWeight>,
}

/// The whole listing, part by part.
pub(super) async fn stream(
    asking: Arc<Asking>,
    list: pb::ListStreamRequest,
) -> Result<Answers<pb::ListStreamResponse>, Error> {
    let range = parse_range(list.range)?;
    asking.principal().may_read(&range)?;
    let at = at_revision(list.revision);
    let reading = asking.read_at(at).await?;
    let listing = Streaming {
        _weight: asking.answer_weight(2 * PART_BYTES)?,
        receipt: asking.read_receipt(&reading)?,
        reading,
        range,
        with_values: !list.keys_only,
        at,
        after: None,
        is_done: false,
        asking,
    };
    Ok(Box::pin(stream::unfold(
        listing,
        |mut listing| async move {
            if listing.is_done {
                return None;
            }
            let part = listing.next().await;
            if part.is_err() {
                listing.is_done = true;
            }
            let part = part.map_err(|error| listing.asking.refuse(&error));
            Some((part, listing))
        },
    )))
}

impl Streaming {
    async fn next(&mut self) -> Result<pb::ListStreamResponse, Error> {
        if self.asking.principal().gone().now_or_never().is_some() {
            return Err(Principal::revoked());
        }
        let published = Arc::clone(&self.reading.published);
        let (range, after) = (self.range.clone(), self.after.take());
        let (at, with_values) = (self.at, self.with_values);
        let part = aside(at, move || {
            let from = (&range, after.as_ref());
            let max = (PART_ENTRIES, PART_BYTES);
            Part::of_view(&published.view, at, from, with_values, max)
        })
        .await?;
        self.is_done = !part.more;
        self.after = part.last;
        Ok(pb::ListStreamResponse {
            receipt: self.is_done.then(|| std::mem::take(&mut self.receipt)),
            entries: part.entries,
        })
    }
}

fn encode(last: &Key, range: &KeyRange) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(FORMAT);
    out.put_slice(last.as_str().as_bytes());
    let crc = checksum(&out, range);
    out.put_u32_le(crc);
    out.freeze()
}

fn decode(token: &[u8], range: &KeyRange) -> Result<Key, Error> {
    let read = || {
        let (body, crc) = token.split_last_chunk::<4>()?;
        let (&format, key) = body.split_first()?;
        if format != FORMAT || checksum(body, range).to_le_bytes() != *crc {
            return None;
        }
        Key::parse(std::str::from_utf8(key).ok()?).ok()
    };
    read().ok_or_else(|| Error::invalid("page_token", "it is damaged, or of another range"))
}

/// Over the token's body and the range that it belongs to.
fn checksum(body: &[u8], range: &KeyRange) -> u32 {
    let crc = crc32c::crc32c(body);
    let part = |crc, text: &str| {
        let crc = crc32c::crc32c_append(crc, &(text.len() as u64).to_le_bytes());
        crc32c::crc32c_append(crc, text.as_bytes())
    };
    match range {
        KeyRange::Prefix(prefix) => part(crc32c::crc32c_append(crc, b"p"), prefix),
        KeyRange::Between { start, end } => {
            let crc = part(crc32c::crc32c_append(crc, b"b"), start);
            match end {
                Some(end) => part(crc32c::crc32c_append(crc, b"e"), end),
                None => crc,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_token_is_good_for_its_own_range_only() {
        let (a, b) = (
            KeyRange::prefix("a").unwrap(),
            KeyRange::prefix("b").unwrap(),
        );
        let key = Key::parse("a/7").unwrap();
        let token = encode(&key, &a);
        assert_eq!(decode(&token, &a), Ok(key));
        assert!(decode(&token, &b).is_err());
        assert!(decode(&token[1..], &a).is_err());
        assert!(decode(b"", &a).is_err());
    }

    #[test]
    fn a_page_counts_what_its_versions_weigh() {
        use quorumor_core::{
            ClusterId, DataEpoch, Dot, Entry, Health, LogId, MemberCounts, Mode, NodeId, Position,
            Role, Seq, Stamp, Status, Value, Version,
        };
        use std::sync::Arc;

        let node = NodeId::try_from(1).unwrap();
        let dot = |log| Dot {
            writer: node,
            log_id: LogId::new(u64::MAX - log),
            seq: Seq::new(u64::MAX),
        };
        let context: quorumor_core::VersionVector = (0..1_000).map(dot).collect();
        let mut view = View {
            conflicts: quorumor_core::Conflicts::default(),
            entries: Default::default(),
            position: Position::Eventual(context.clone()),
            status: Arc::new(Status {
                mode: Mode::Eventual,
                cluster: ClusterId::new(1),
                node,
                epoch: DataEpoch::ZERO,
                health: Health::Serving,
                role: Role::Eventual {
                    generation: quorumor_core::Generation::default(),
                    incarnation: quorumor_core::Incarnation::default(),
                    conflicts: 0,
                    tombstones: 0,
                    durability: quorumor_core::Durability::Fsync,
                    held_back_by: None,
                    isolated: false,
                },
                counts: MemberCounts::default(),
                contact_at: None,
                members: Arc::new([]),
                alarms: Arc::new([]),
            }),
            history: Default::default(),
            leases: Default::default(),
            log_time: Default::default(),
        };
        for number in 0..400 {
            let key = Key::parse(&format!("k{number:03}")).unwrap();
            let entry = Entry {
                siblings: None,
                key: key.clone(),
                value: Value::parse(Bytes::new()).unwrap(),
                version: Version::Eventual {
                    dot: dot(0),
                    stamp: Stamp::from_u64(1),
                    context: context.clone(),
                    siblings: 1,
                },
                writer: node,
                lease: None,
            };
            view.entries.insert(key, Arc::new(entry));
        }
        let asked = Asked::parse(pb::ListRequest::default()).unwrap();
        let page = asked.page(&view, pb::Receipt::default()).unwrap();
        assert!(page.encoded_len() < LIST_BYTES_MAX + 64 * 1024);
        assert!(!page.next_page_token.is_empty());
    }

    #[tokio::test]
    async fn a_look_into_the_past_is_taken_aside_and_a_plain_one_is_not() {
        let here = std::thread::current().id();
        let thread = || Ok(std::thread::current().id());
        assert_eq!(aside(None, thread).await, Ok(here));
        assert_ne!(aside(Some(Revision::new(1)), thread).await, Ok(here));
    }

    #[test]
    fn a_limit_over_the_most_is_refused_by_name() {
        let list = pb::ListRequest {
            limit: 10_001,
            ..pb::ListRequest::default()
        };
        let error = Asked::parse(list).err().unwrap();
        assert!(error.to_string().contains("list_entries_max"), "{error}");
    }
}
