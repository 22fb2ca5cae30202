//! An output as one number, for comparing two runs. Long bytes count by their checksum: printing them takes seconds.

use quorumor_core::{LogRecord, Output, Persist};

use crate::hash::{mix, text};

/// The number of an output of this node.
pub(crate) fn digest(node: u64, output: &Output) -> u64 {
    match output {
        Output::Stream { to, class, payload } => {
            let crc = crc32c::crc32c(payload);
            mix(&[node, to.as_u64(), text(&format!("{class:?}")), crc.into()])
        }
        Output::Persist(Persist::Append {
            token,
            records,
            sync,
        }) => {
            let records = records.iter().map(|record| match record {
                LogRecord::Put(record) => {
                    let crc = crc32c::crc32c(&record.bytes);
                    mix(&[record.kind.into(), record.position, crc.into()])
                }
                LogRecord::TruncateSuffix { kind, from } => mix(&[(*kind).into(), *from]),
            });
            let head = [node, token.0, u64::from(*sync)];
            mix(&head.into_iter().chain(records).collect::<Vec<_>>())
        }
        Output::Changed(change) => {
            let words = format!("{:?} {}", change.position, change.events.len());
            mix(&[node, text(&words)])
        }
        Output::Reply { .. }
        | Output::Datagram { .. }
        | Output::PeerAddress { .. }
        | Output::Persist(Persist::Checkpoint { .. } | Persist::Compact { .. }) => {
            text(&format!("{node} {output:?}"))
        }
    }
}
