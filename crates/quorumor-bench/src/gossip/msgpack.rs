//! As much of MessagePack as Serf's RPC speaks. Knows no command of it.
//!
//! Texts and bytes are one kind here, as in the format's first edition, which Serf writes and reads: no `str 8`, no `bin`
//! goes out; whatever is defined is read.

/// Deeper values are refused: Serf's have four levels.
const DEPTH_MAX: usize = 16;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Nil,
    Bool(bool),
    Int(i64),
    /// Floats are of no use here, and only stepped over.
    Float,
    /// Text or bytes.
    Raw(Vec<u8>),
    Array(Vec<Self>),
    Map(Vec<(Self, Self)>),
}

/// Bytes that are no MessagePack, or more of it than anybody sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no MessagePack")]
pub(super) struct Malformed;

impl Value {
    pub(super) fn text(text: &str) -> Self {
        Self::Raw(text.as_bytes().to_vec())
    }

    /// A map with texts for keys.
    pub(super) fn map<const N: usize>(fields: [(&str, Self); N]) -> Self {
        let fields = fields.into_iter();
        Self::Map(
            fields
                .map(|(key, value)| (Self::text(key), value))
                .collect(),
        )
    }

    /// The field of a map.
    pub(super) fn field(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Map(fields) => fields
                .iter()
                .find(|(name, _)| name.as_text() == Some(key))
                .map(|(_, value)| value),
            Self::Nil
            | Self::Bool(_)
            | Self::Int(_)
            | Self::Float
            | Self::Raw(_)
            | Self::Array(_) => None,
        }
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Raw(bytes) => std::str::from_utf8(bytes).ok(),
            Self::Nil
            | Self::Bool(_)
            | Self::Int(_)
            | Self::Float
            | Self::Array(_)
            | Self::Map(_) => None,
        }
    }

    pub(super) fn items(&self) -> &[Self] {
        match self {
            Self::Array(items) => items,
            Self::Nil
            | Self::Bool(_)
            | Self::Int(_)
            | Self::Float
            | Self::Raw(_)
            | Self::Map(_) => &[],
        }
    }

    /// Appends the value. Lengths beyond what 32 bits hold don't occur.
    pub(super) fn encode(&self, to: &mut Vec<u8>) {
        match self {
            Self::Nil | Self::Float => to.push(0xc0),
            Self::Bool(is) => to.push(0xc2 + u8::from(*is)),
            Self::Int(number) => {
                to.push(0xd3);
                to.extend_from_slice(&number.to_be_bytes());
            }
            Self::Raw(bytes) => {
                length(to, bytes.len(), 0xdb);
                to.extend_from_slice(bytes);
            }
            Self::Array(items) => {
                length(to, items.len(), 0xdd);
                for item in items {
                    item.encode(to);
                }
            }
            Self::Map(fields) => {
                length(to, fields.len(), 0xdf);
                for (key, value) in fields {
                    key.encode(to);
                    value.encode(to);
                }
            }
        }
    }

    /// The value at the start of some bytes and how many of them it takes; none if it doesn't end in them.
    pub(super) fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, Malformed> {
        let mut rest = Rest(bytes);
        match rest.value(0) {
            Ok(value) => Ok(Some((value, bytes.len() - rest.0.len()))),
            Err(Stop::Short) => Ok(None),
            Err(Stop::Malformed) => Err(Malformed),
        }
    }
}

/// A 32-bit length behind its mark: longer than need be, and read by all.
fn length(to: &mut Vec<u8>, length: usize, mark: u8) {
    to.push(mark);
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    to.extend_from_slice(&length.to_be_bytes());
}

/// Why no value could be read.
enum Stop {
    Short,
    Malformed,
}

/// What is still to be read.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn value(&mut self, depth: usize) -> Result<Value, Stop> {
        if depth > DEPTH_MAX {
            return Err(Stop::Malformed);
        }
        let mark = self.number::<1>()?;
        let small = |mask: u64| usize::try_from(mark & mask).unwrap_or(0);
        Ok(match mark {
            0x00..=0x7f => int(mark),
            0x80..=0x8f => self.fields(small(0x0f), depth)?,
            0x90..=0x9f => self.items(small(0x0f), depth)?,
            0xa0..=0xbf => self.raw(small(0x1f))?,
            0xc0 => Value::Nil,
            0xc2 | 0xc3 => Value::Bool(mark == 0xc3),
            0xc4 | 0xd9 => self.raw_of::<1>()?,
            0xc5 | 0xda => self.raw_of::<2>()?,
            0xc6 | 0xdb => self.raw_of::<4>()?,
            0xca => self.number::<4>().map(|_| Value::Float)?,
            0xcb => self.number::<8>().map(|_| Value::Float)?,
            0xcc => int(self.number::<1>()?),
            0xcd => int(self.number::<2>()?),
            0xce => int(self.number::<4>()?),
            0xcf => int(self.number::<8>()?),
            0xd0 => signed(self.number::<1>()?, 8),
            0xd1 => signed(self.number::<2>()?, 16),
            0xd2 => signed(self.number::<4>()?, 32),
            0xd3 => signed(self.number::<8>()?, 64),
            0xdc => {
                let count = self.count::<2>()?;
                self.items(count, depth)?
            }
            0xdd => {
                let count = self.count::<4>()?;
                self.items(count, depth)?
            }
            0xde => {
                let count = self.count::<2>()?;
                self.fields(count, depth)?
            }
            0xdf => {
                let count = self.count::<4>()?;
                self.fields(count, depth)?
            }
            0xe0..=0xff => signed(mark, 8),
            // Extensions, and what nobody has defined.
            _ => return Err(Stop::Malformed),
        })
    }

    /// A big-endian number of so many bytes.
    fn number<const BYTES: usize>(&mut self) -> Result<u64, Stop> {
        let bytes = self.take(BYTES)?;
        Ok(bytes
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn count<const BYTES: usize>(&mut self) -> Result<usize, Stop> {
        usize::try_from(self.number::<BYTES>()?).map_err(|_| Stop::Malformed)
    }

    fn raw_of<const BYTES: usize>(&mut self) -> Result<Value, Stop> {
        let length = self.count::<BYTES>()?;
        self.raw(length)
    }

    fn raw(&mut self, length: usize) -> Result<Value, Stop> {
        Ok(Value::Raw(self.take(length)?.to_vec()))
    }

    fn items(&mut self, count: usize, depth: usize) -> Result<Value, Stop> {
        // Not with room for `count`, which may be a lie.
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(self.value(depth + 1)?);
        }
        Ok(Value::Array(items))
    }

    fn fields(&mut self, count: usize, depth: usize) -> Result<Value, Stop> {
        let mut fields = Vec::new();
        for _ in 0..count {
            fields.push((self.value(depth + 1)?, self.value(depth + 1)?));
        }
        Ok(Value::Map(fields))
    }

    fn take(&mut self, count: usize) -> Result<&[u8], Stop> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Stop::Short)?;
        self.0 = rest;
        Ok(taken)
    }
}

/// A number without sign; one beyond the others' range is the greatest of it.
fn int(number: u64) -> Value {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

/// A number of so many bits with its sign.
const fn signed(number: u64, bits: u32) -> Value {
    let unused = 64 - bits;
    Value::Int((number << unused).cast_signed() >> unused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let value = Value::map([
            ("Seq", Value::Int(-3)),
            ("Yes", Value::Bool(true)),
            ("Nothing", Value::Nil),
            (
                "Names",
                Value::Array(vec![Value::text("a"), Value::text("")]),
            ),
        ]);
        let mut bytes = Vec::new();
        value.encode(&mut bytes);
        for cut in 0..bytes.len() {
            assert_eq!(Value::decode(&bytes[..cut]), Ok(None), "{cut}");
        }
        bytes.push(0xc1);
        let read = Value::decode(&bytes).unwrap();
        assert_eq!(read, Some((value, bytes.len() - 1)));
    }

    #[test]
    fn short_forms_are_read() {
        let read = |bytes: &[u8]| Value::decode(bytes).unwrap().unwrap().0;
        assert_eq!(read(&[0x7f]), Value::Int(127));
        assert_eq!(read(&[0xff]), Value::Int(-1));
        assert_eq!(read(&[0xd1, 0xff, 0xfe]), Value::Int(-2));
        assert_eq!(read(&[0xcd, 0x01, 0x00]), Value::Int(256));
        assert_eq!(read(&[0xc4, 1, 0xfe]), Value::Raw(vec![0xfe]));
        assert_eq!(read(&[0xda, 0, 2, b'h', b'i']), Value::text("hi"));
        let map = read(&[0x81, 0xa1, b'k', 0x92, 0xc0, 0xc2]);
        let items = map.field("k").unwrap().items();
        assert_eq!(items, [Value::Nil, Value::Bool(false)]);
    }

    #[test]
    fn lies_and_depths_are_refused() {
        assert_eq!(Value::decode(&[0xc1]), Err(Malformed));
        assert_eq!(Value::decode(&[0x91; 40]), Err(Malformed));
        // So many items aren't there, and aren't waited for with memory.
        assert_eq!(Value::decode(&[0xdd, 0xff, 0xff, 0xff, 0xff]), Ok(None));
    }
}
