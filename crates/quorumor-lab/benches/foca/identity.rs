//! What foca asks its user for: who a node is, and how that is written.

use bytes::{Buf, BufMut};
use foca::{Codec, Header, Identity, Member, Message, State};

/// A node and its life. As long on the wire as an IPv4 address, a port and a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Id {
    pub(crate) node: u32,
    pub(crate) life: u16,
}

const ID_BYTES: usize = 8;
const MEMBER_BYTES: usize = ID_BYTES + 3;

impl Identity for Id {
    type Addr = u32;

    fn renew(&self) -> Option<Self> {
        Some(Self {
            node: self.node,
            life: self.life.wrapping_add(1),
        })
    }

    fn addr(&self) -> u32 {
        self.node
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.life > adversary.life
    }
}

/// Bytes that are none of ours.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Malformed;

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("malformed")
    }
}

impl std::error::Error for Malformed {}

/// Fixed sizes, big endian.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fixed;

fn put_id(id: Id, buf: &mut impl BufMut) {
    buf.put_u32(id.node);
    buf.put_u16(7_401);
    buf.put_u16(id.life);
}

fn take_id(buf: &mut impl Buf) -> Result<Id, Malformed> {
    let node = buf.try_get_u32().map_err(|_| Malformed)?;
    let _port = buf.try_get_u16().map_err(|_| Malformed)?;
    let life = buf.try_get_u16().map_err(|_| Malformed)?;
    Ok(Id { node, life })
}

/// A message's kind, whom it names, and its probe.
fn parts(message: &Message<Id>) -> (u8, Option<Id>, u8) {
    match message {
        Message::Ping(probe) => (0, None, *probe),
        Message::Ack(probe) => (1, None, *probe),
        Message::PingReq {
            target,
            probe_number,
        } => (2, Some(*target), *probe_number),
        Message::IndirectPing {
            origin,
            probe_number,
        } => (3, Some(*origin), *probe_number),
        Message::IndirectAck {
            target,
            probe_number,
        } => (4, Some(*target), *probe_number),
        Message::ForwardedAck {
            origin,
            probe_number,
        } => (5, Some(*origin), *probe_number),
        Message::Announce => (6, None, 0),
        Message::Feed => (7, None, 0),
        Message::Gossip => (8, None, 0),
        Message::Broadcast => (9, None, 0),
        Message::TurnUndead => (10, None, 0),
    }
}

fn take_message(mut buf: impl Buf) -> Result<Message<Id>, Malformed> {
    let kind = buf.try_get_u8().map_err(|_| Malformed)?;
    let named = if (2..=5).contains(&kind) {
        Some(take_id(&mut buf)?)
    } else {
        None
    };
    let probe_number = if kind <= 5 {
        buf.try_get_u8().map_err(|_| Malformed)?
    } else {
        0
    };
    Ok(match (kind, named) {
        (0, _) => Message::Ping(probe_number),
        (1, _) => Message::Ack(probe_number),
        (2, Some(target)) => Message::PingReq {
            target,
            probe_number,
        },
        (3, Some(origin)) => Message::IndirectPing {
            origin,
            probe_number,
        },
        (4, Some(target)) => Message::IndirectAck {
            target,
            probe_number,
        },
        (5, Some(origin)) => Message::ForwardedAck {
            origin,
            probe_number,
        },
        (6, _) => Message::Announce,
        (7, _) => Message::Feed,
        (8, _) => Message::Gossip,
        (9, _) => Message::Broadcast,
        (10, _) => Message::TurnUndead,
        (_, _) => return Err(Malformed),
    })
}

impl Codec<Id> for Fixed {
    type Error = Malformed;

    fn encode_header(
        &mut self,
        header: &Header<Id>,
        mut buf: impl BufMut,
    ) -> Result<(), Malformed> {
        put_id(header.src, &mut buf);
        buf.put_u16(header.src_incarnation);
        put_id(header.dst, &mut buf);
        let (kind, named, probe) = parts(&header.message);
        buf.put_u8(kind);
        if let Some(id) = named {
            put_id(id, &mut buf);
        }
        if kind <= 5 {
            buf.put_u8(probe);
        }
        Ok(())
    }

    fn decode_header(&mut self, mut buf: impl Buf) -> Result<Header<Id>, Malformed> {
        Ok(Header {
            src: take_id(&mut buf)?,
            src_incarnation: buf.try_get_u16().map_err(|_| Malformed)?,
            dst: take_id(&mut buf)?,
            message: take_message(buf)?,
        })
    }

    fn encode_member(
        &mut self,
        member: &Member<Id>,
        mut buf: impl BufMut,
    ) -> Result<(), Malformed> {
        if buf.remaining_mut() < MEMBER_BYTES {
            return Err(Malformed);
        }
        put_id(*member.id(), &mut buf);
        buf.put_u16(member.incarnation());
        buf.put_u8(match member.state() {
            State::Alive => 0,
            State::Suspect => 1,
            State::Down => 2,
        });
        Ok(())
    }

    fn decode_member(&mut self, mut buf: impl Buf) -> Result<Member<Id>, Malformed> {
        let id = take_id(&mut buf)?;
        let incarnation = buf.try_get_u16().map_err(|_| Malformed)?;
        let state = match buf.try_get_u8() {
            Ok(0) => State::Alive,
            Ok(1) => State::Suspect,
            Ok(2) => State::Down,
            Ok(_) | Err(_) => return Err(Malformed),
        };
        Ok(Member::new(id, incarnation, state))
    }
}
