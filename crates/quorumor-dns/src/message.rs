//! Messages: which are taken, and how an answer fits into one.

use hickory_proto::ProtoError;
use hickory_proto::op::{
    Edns, Header, Message, MessageType, Metadata, OpCode, Query, ResponseCode, emit_message_parts,
};
use hickory_proto::rr::rdata::TSIG;
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, BinEncodable, BinEncoder};

use crate::answer::{Answer, Why};

/// The most bytes of a datagram whose sender knows no EDNS (RFC 1035, section 4.2.1).
const PLAIN_BYTES_MAX: u16 = 512;

/// The EDNS option of an extended error (RFC 8914).
const EXTENDED_ERROR: u16 = 15;

/// What a message is to the server.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// Nothing to answer: too short, or an answer itself.
    Ignored,
    /// A message that isn't served, with the code that says so.
    Unserved(Unserved),
    /// A question.
    Asked(Box<Asked>),
}

/// A message that isn't served.
#[derive(Debug)]
pub(crate) struct Unserved {
    metadata: Metadata,
    pub(crate) code: ResponseCode,
}

/// A question.
#[derive(Debug)]
pub(crate) struct Asked {
    metadata: Metadata,
    pub(crate) query: Query,
    edns: Option<Edns>,
}

/// What carries an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Transport {
    /// A datagram.
    Datagram,
    /// A stream, where a message has a length of 16 bits.
    Stream,
}

impl Incoming {
    /// Reads a message.
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let Ok(header) = Header::read(&mut BinDecoder::new(bytes)) else {
            return Self::Ignored;
        };
        // Answering answers would let two servers talk for ever.
        if header.metadata.message_type == MessageType::Response {
            return Self::Ignored;
        }
        let metadata = header.metadata;
        let unserved = |code| Self::Unserved(Unserved { metadata, code });
        if metadata.op_code != OpCode::Query {
            return unserved(ResponseCode::NotImp);
        }
        // RFC 9619. Before anything is read, so that nobody makes room for 65535 questions.
        if header.counts.queries != 1 {
            return unserved(ResponseCode::FormErr);
        }
        let Ok(message) = Message::from_vec(bytes) else {
            return unserved(ResponseCode::FormErr);
        };
        let Some(query) = message.queries.into_iter().next() else {
            return unserved(ResponseCode::FormErr);
        };
        Self::Asked(Box::new(Asked {
            metadata,
            query,
            edns: message.edns,
        }))
    }
}

impl Unserved {
    /// The answer: a header alone, since the rest may make no sense.
    pub(crate) fn reply(&self) -> Option<Vec<u8>> {
        let mut metadata = Metadata::response_from_request(&self.metadata);
        metadata.response_code = self.code;
        let header = Header {
            metadata,
            counts: Default::default(),
        };
        header.to_bytes().ok()
    }
}

impl Asked {
    /// Whether the question's version of EDNS is known.
    pub(crate) fn edns_is_known(&self) -> bool {
        self.edns.as_ref().is_none_or(|edns| edns.version() == 0)
    }

    /// The answer as a message that the transport carries: as many whole records as fit, and the sign of truncation if an answer
    /// doesn't. What stands beside the answer is left out without it. A datagram has at most `datagram_bytes_max`, and no more than
    /// the question allows.
    pub(crate) fn reply(
        &self,
        answer: Answer,
        transport: Transport,
        datagram_bytes_max: u16,
    ) -> Option<Vec<u8>> {
        let reply = Reply::new(self, answer, transport, datagram_bytes_max);
        match reply.fit() {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                tracing::warn!(%error, query = %self.query, "an answer can't be written");
                let failed = Unserved {
                    metadata: self.metadata,
                    code: ResponseCode::ServFail,
                };
                failed.reply()
            }
        }
    }
}

/// An answer on its way into a message.
struct Reply<'a> {
    metadata: Metadata,
    query: &'a Query,
    answers: Vec<Record>,
    authorities: Vec<Record>,
    additionals: Vec<Record>,
    edns: Option<Edns>,
    bytes_max: u16,
}

impl<'a> Reply<'a> {
    fn new(
        asked: &'a Asked,
        answer: Answer,
        transport: Transport,
        datagram_bytes_max: u16,
    ) -> Self {
        let mut metadata = Metadata::response_from_request(&asked.metadata);
        metadata.response_code = answer.code;
        metadata.authoritative = answer.authoritative;
        metadata.truncation = answer.incomplete;
        let mut additionals = answer.additionals;
        if asked.edns.is_some() {
            additionals.extend(answer.receipt);
        }
        Self {
            metadata,
            query: &asked.query,
            answers: answer.answers,
            authorities: answer.authorities,
            additionals,
            edns: asked
                .edns
                .as_ref()
                .map(|_| edns(datagram_bytes_max, answer.why)),
            bytes_max: match (transport, &asked.edns) {
                (Transport::Stream, _) => u16::MAX,
                (Transport::Datagram, None) => PLAIN_BYTES_MAX,
                // Fewer than 512 count as 512 (RFC 6891, section 6.2.3).
                (Transport::Datagram, Some(edns)) => {
                    let allowed = edns.max_payload().max(PLAIN_BYTES_MAX);
                    allowed.min(datagram_bytes_max)
                }
            },
        }
    }

    fn fit(mut self) -> Result<Vec<u8>, ProtoError> {
        // The OPT record comes last and must be there, so its room is kept free while the others are counted.
        let edns_bytes = match &self.edns {
            Some(edns) => Record::from(edns).to_bytes()?.len(),
            None => 0,
        };
        let room = self
            .bytes_max
            .saturating_sub(u16::try_from(edns_bytes).unwrap_or(u16::MAX));
        let edns = self.edns.take();
        let additionals = std::mem::take(&mut self.additionals);

        let (header, _) = self.write(room)?;
        self.metadata.truncation = header.metadata.truncation;
        self.answers.truncate(header.counts.answers.into());
        self.authorities.truncate(header.counts.authorities.into());
        if !self.metadata.truncation && !additionals.is_empty() {
            self.additionals = additionals;
            let (header, _) = self.write(room)?;
            self.additionals.truncate(header.counts.additionals.into());
        }
        self.edns = edns;
        let (_, bytes) = self.write(self.bytes_max)?;
        Ok(bytes)
    }

    /// Writes as many records as there is room for, and says in the header how many those were.
    fn write(&self, bytes_max: u16) -> Result<(Header, Vec<u8>), ProtoError> {
        let mut bytes = Vec::with_capacity(PLAIN_BYTES_MAX.into());
        let mut encoder = BinEncoder::new(&mut bytes);
        encoder.set_max_size(bytes_max);
        let header = emit_message_parts(
            &self.metadata,
            &mut std::iter::once(self.query),
            &mut self.answers.iter(),
            &mut self.authorities.iter(),
            &mut self.additionals.iter(),
            self.edns.as_ref(),
            None::<&Record<TSIG>>,
            &mut encoder,
        )?;
        Ok((header, bytes))
    }
}

fn edns(datagram_bytes_max: u16, why: Option<Why>) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(datagram_bytes_max);
    if let Some(why) = why {
        let mut data = why.info_code.to_be_bytes().to_vec();
        data.extend_from_slice(why.text.as_bytes());
        edns.options_mut()
            .insert(EdnsOption::Unknown(EXTENDED_ERROR, data));
    }
    edns
}

/// Whether a question is for a copy of the zone.
pub(crate) fn is_transfer(query: &Query) -> bool {
    [RecordType::AXFR, RecordType::IXFR].contains(&query.query_type)
}
