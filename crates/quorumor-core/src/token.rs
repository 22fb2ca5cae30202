//! Session tokens: opaque to clients, one shape for both modes.
//!
//! A token names the cluster, the mode and the data epoch that it belongs to, and a position. Its bearer reads its own
//! writes and never goes back, at any node (the session guarantees of Terry et al. 1994, for whoever carries it).
//!
//! Bytes: version 1, mode, cluster, epoch, then the position as varints; last four bytes of CRC-32C, little endian.

use bytes::Bytes;

use crate::error::Error;
use crate::id::{ClusterId, DataEpoch, Mode, Revision};
use crate::limits::{TOKEN_BYTES_MAX, TOKEN_ROWS_MAX};
use crate::version::Position;
use crate::wire::{put_varint, put_vector, take_varint, take_vector};

const FORMAT: u8 = 1;
const CRC_BYTES: usize = 4;

/// What a session has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The cluster that gave it.
    pub cluster: ClusterId,
    /// The data epoch it belongs to.
    pub epoch: DataEpoch,
    /// What its bearer has seen; its variant is the mode.
    pub position: Position,
}

/// Why bytes are not a token for here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// They are no token, or a damaged one.
    #[error("the session token is damaged or is none")]
    Malformed,
    /// They are a token of a later format.
    #[error("the session token has format {found}, this node reads {FORMAT}")]
    Format {
        /// Its format.
        found: u8,
    },
    /// They are a token of another cluster.
    #[error("the session token is of another cluster ({found})")]
    Cluster {
        /// Its cluster.
        found: ClusterId,
    },
    /// They are a token of the other mode.
    #[error("the session token is of {found} mode: start a new session in this one")]
    Mode {
        /// Its mode.
        found: Mode,
    },
}

impl From<TokenError> for Error {
    fn from(error: TokenError) -> Self {
        Self::invalid("token", error.to_string())
    }
}

impl Token {
    /// The mode that it belongs to.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        match self.position {
            Position::Strong(_) => Mode::Strong,
            Position::Eventual(_) => Mode::Eventual,
        }
    }

    /// The token as bytes.
    ///
    /// # Errors
    /// `TokenTooWide` if it spans more than [`TOKEN_ROWS_MAX`] logs.
    pub fn encode(&self) -> Result<Bytes, Error> {
        let mut out = vec![FORMAT, mode_byte(self.mode())];
        put_varint(&mut out, self.cluster.as_u64());
        put_varint(&mut out, self.epoch.as_u64());
        match &self.position {
            Position::Strong(revision) => put_varint(&mut out, revision.as_u64()),
            Position::Eventual(vector) => {
                if vector.len() > TOKEN_ROWS_MAX {
                    return Err(Error::TokenTooWide { rows: vector.len() });
                }
                put_vector(&mut out, vector);
            }
        }
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        Ok(out.into())
    }

    /// Reads a token.
    ///
    /// # Errors
    /// If the bytes are damaged, or of another format.
    pub fn decode(bytes: &[u8]) -> Result<Self, TokenError> {
        let &format = bytes.first().ok_or(TokenError::Malformed)?;
        if bytes.len() > TOKEN_BYTES_MAX || bytes.len() < 2 + CRC_BYTES {
            return Err(TokenError::Malformed);
        }
        let (body, crc) = bytes.split_at(bytes.len() - CRC_BYTES);
        if crc != crc32c::crc32c(body).to_le_bytes() {
            return Err(TokenError::Malformed);
        }
        if format != FORMAT {
            return Err(TokenError::Format { found: format });
        }
        decode_body(&body[1..]).ok_or(TokenError::Malformed)
    }

    /// Reads a token that must belong to this cluster and mode.
    ///
    /// # Errors
    /// As [`Self::decode`], or if it belongs elsewhere.
    pub fn decode_for(bytes: &[u8], cluster: ClusterId, mode: Mode) -> Result<Self, TokenError> {
        let token = Self::decode(bytes)?;
        if token.mode() != mode {
            return Err(TokenError::Mode {
                found: token.mode(),
            });
        }
        if token.cluster != cluster {
            return Err(TokenError::Cluster {
                found: token.cluster,
            });
        }
        Ok(token)
    }
}

const fn mode_byte(mode: Mode) -> u8 {
    match mode {
        Mode::Strong => 1,
        Mode::Eventual => 2,
    }
}

fn decode_body(body: &[u8]) -> Option<Token> {
    let (&mode, mut rest) = body.split_first()?;
    let cluster = ClusterId::new(take_varint(&mut rest)?);
    let epoch = DataEpoch::new(take_varint(&mut rest)?);
    let position = match mode {
        1 => Position::Strong(Revision::new(take_varint(&mut rest)?)),
        2 => Position::Eventual(take_vector(&mut rest, TOKEN_ROWS_MAX)?),
        _ => return None,
    };
    rest.is_empty().then_some(Token {
        cluster,
        epoch,
        position,
    })
}

#[cfg(test)]
mod tests;
