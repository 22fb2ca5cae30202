//! What is answered to one question, before it has a size.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::Record;

/// The answer to one question.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: ResponseCode,
    /// Whether the question was about the domain.
    pub(crate) authoritative: bool,
    pub(crate) answers: Vec<Record>,
    pub(crate) authorities: Vec<Record>,
    /// What the asker would ask for next. Left out where there is no room.
    pub(crate) additionals: Vec<Record>,
    /// The receipt, for who understands EDNS. Left out where there is no room.
    pub(crate) receipt: Option<Record>,
    /// Whether there is more than `answers` hold.
    pub(crate) incomplete: bool,
    /// Why it went wrong, for who understands EDNS.
    pub(crate) why: Option<Why>,
}

/// An extended error (RFC 8914).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Why {
    pub(crate) info_code: u16,
    pub(crate) text: String,
}

/// How much of a text is sent: with a name of 255 bytes it fits into the smallest datagram still.
const TEXT_BYTES_MAX: usize = 160;

impl Why {
    /// None of the others.
    pub(crate) const OTHER: u16 = 0;
    /// The server isn't ready yet, or not ready now.
    pub(crate) const NOT_READY: u16 = 14;
    /// The name is in another's domain.
    pub(crate) const NOT_AUTHORITATIVE: u16 = 20;
    /// The question asks for what isn't done.
    pub(crate) const NOT_SUPPORTED: u16 = 21;

    /// Cuts a text that is too long.
    pub(crate) fn new(info_code: u16, text: &str) -> Self {
        let mut end = text.len().min(TEXT_BYTES_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        Self {
            info_code,
            text: text[..end].to_owned(),
        }
    }
}

impl Answer {
    /// An answer about the domain: these records, if there are any.
    pub(crate) const fn of(answers: Vec<Record>) -> Self {
        Self {
            code: ResponseCode::NoError,
            authoritative: true,
            answers,
            authorities: Vec::new(),
            additionals: Vec::new(),
            receipt: None,
            incomplete: false,
            why: None,
        }
    }

    /// There is no such name.
    pub(crate) fn no_name() -> Self {
        let mut answer = Self::of(Vec::new());
        answer.code = ResponseCode::NXDomain;
        answer
    }

    /// No answer, and why.
    pub(crate) fn failed(code: ResponseCode, why: Why) -> Self {
        let mut answer = Self::of(Vec::new());
        answer.code = code;
        answer.authoritative = false;
        answer.why = Some(why);
        answer
    }
}
