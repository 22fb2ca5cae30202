//! Reading and writing the few shapes that everything on the wire and on the disk is made of.
//!
//! Integers are varints (LEB128), byte strings carry their length. Reading never panics and never allocates more than
//! what is there to read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use quorumor_core::{LogId, NodeId, Seq, VersionVector};

/// Bytes that are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed: {0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

/// Reads from the front of a byte string.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) const fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Malformed> {
        let (&byte, rest) = self.0.split_first().ok_or(Malformed("ends early"))?;
        self.0 = rest;
        Ok(byte)
    }

    pub(crate) fn flag(&mut self) -> Result<bool, Malformed> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed("a flag is 0 or 1")),
        }
    }

    pub(crate) fn number(&mut self) -> Result<u64, Malformed> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(Malformed("a number over 64 bits"));
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Malformed("a number over 64 bits"))
    }

    /// A count of items that take at least `least` bytes each, so that a lie can't make us reserve memory.
    pub(crate) fn count(&mut self, least: usize) -> Result<usize, Malformed> {
        let count = usize::try_from(self.number()?).map_err(|_| Malformed("a count too large"))?;
        if count.saturating_mul(least) > self.len() {
            return Err(Malformed("more items than bytes"));
        }
        Ok(count)
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self
            .0
            .split_at_checked(len)
            .ok_or(Malformed("ends early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed("ends early"))?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.count(1)?;
        self.take(len)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed("text that is not UTF-8"))
    }

    pub(crate) fn fixed_u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn fixed_u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn node(&mut self) -> Result<NodeId, Malformed> {
        NodeId::try_from(self.number()?).map_err(|_| Malformed("node id 0"))
    }

    pub(crate) fn row(&mut self) -> Result<(NodeId, LogId, Seq), Malformed> {
        Ok((
            self.node()?,
            LogId::new(self.number()?),
            Seq::new(self.number()?),
        ))
    }

    pub(crate) fn rows(&mut self) -> Result<Vec<(NodeId, LogId, Seq)>, Malformed> {
        let count = self.count(3)?;
        (0..count).map(|_| self.row()).collect()
    }

    pub(crate) fn vector(&mut self) -> Result<VersionVector, Malformed> {
        let mut vector = VersionVector::new();
        for (writer, log_id, seq) in self.rows()? {
            vector.raise(writer, log_id, seq);
        }
        Ok(vector)
    }

    pub(crate) fn address(&mut self) -> Result<SocketAddr, Malformed> {
        let ip = match self.byte()? {
            4 => IpAddr::from(Ipv4Addr::from(self.array::<4>()?)),
            6 => IpAddr::from(Ipv6Addr::from(self.array::<16>()?)),
            _ => return Err(Malformed("an address of no known family")),
        };
        let port = u16::try_from(self.number()?).map_err(|_| Malformed("a port over 65535"))?;
        Ok(SocketAddr::new(ip, port))
    }
}

/// Appends to a byte string.
#[derive(Debug, Default)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    pub(crate) fn flag(&mut self, flag: bool) {
        self.byte(u8::from(flag));
    }

    pub(crate) fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0
                .push(u8::try_from(number & 0x7f).expect("seven bits fit") | 0x80);
            number >>= 7;
        }
        self.0.push(u8::try_from(number).expect("seven bits fit"));
    }

    pub(crate) fn count(&mut self, count: usize) {
        self.number(count as u64);
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.raw(bytes);
    }

    pub(crate) fn node(&mut self, node: NodeId) {
        self.number(node.as_u64());
    }

    pub(crate) fn row(&mut self, (writer, log_id, seq): (NodeId, LogId, Seq)) {
        self.node(writer);
        self.number(log_id.as_u64());
        self.number(seq.as_u64());
    }

    pub(crate) fn rows(&mut self, rows: &[(NodeId, LogId, Seq)]) {
        self.count(rows.len());
        for row in rows {
            self.row(*row);
        }
    }

    pub(crate) fn vector(&mut self, vector: &VersionVector) {
        self.count(vector.len());
        for row in vector.rows() {
            self.row(row);
        }
    }

    pub(crate) fn address(&mut self, address: SocketAddr) {
        match address.ip() {
            IpAddr::V4(ip) => {
                self.byte(4);
                self.raw(&ip.octets());
            }
            IpAddr::V6(ip) => {
                self.byte(6);
                self.raw(&ip.octets());
            }
        }
        self.number(u64::from(address.port()));
    }
}

/// How many bytes a number takes as a varint.
pub(crate) const fn number_bytes(number: u64) -> usize {
    let bits = 64 - number.leading_zeros() as usize;
    if bits == 0 { 1 } else { bits.div_ceil(7) }
}
