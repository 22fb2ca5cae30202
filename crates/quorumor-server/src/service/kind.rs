//! What kinds of calls there are, as far as admission and certainty go.

use quorumor_core::Level;

use crate::admission::Class;

/// What a call does: its class among others, and whether a failed one may leave something done behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
    KeepAlive,
    Watch,
    /// An operator's change.
    Admin,
    /// An operator's question.
    AdminRead,
    /// Never refused for load.
    Look,
}

impl Kind {
    /// Whether it may change something.
    pub(super) const fn writes(self) -> bool {
        match self {
            Self::Write | Self::KeepAlive | Self::Admin => true,
            Self::Read | Self::Watch | Self::AdminRead | Self::Look => false,
        }
    }

    /// Which class's places it takes.
    pub(super) const fn class(self, asked: Level) -> Option<Class> {
        match self {
            Self::Read => Some(Class::of_read(asked)),
            Self::Write => Some(Class::Write),
            Self::KeepAlive => Some(Class::KeepAlive),
            Self::Watch => Some(Class::Watch),
            Self::Admin | Self::AdminRead => Some(Class::Admin),
            Self::Look => None,
        }
    }
}
