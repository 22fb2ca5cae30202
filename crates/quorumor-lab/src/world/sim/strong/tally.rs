//! How often the record says that something happened.

use crate::registry::{Answer, Ask};
use crate::world::sim::run::Run;

impl Run {
    /// Counts what the actors met.
    pub(in crate::world::sim) fn tally(&mut self) {
        let (record, counts) = (&self.strong.record, &mut self.counts);
        for op in &record.ops {
            let answers = op.answers().count() as u64;
            if matches!(op.ask, Ask::Txn(_)) {
                counts.txns += answers.min(1);
            }
            if op.client.is_some() {
                counts.repeated += answers.saturating_sub(1);
            }
            if matches!(op.ask, Ask::Backup) {
                counts.backups += answers;
            }
            let is_past = matches!(&op.ask, Ask::Read(query) if query.at.is_some());
            for ended in op.attempts.iter().filter_map(|one| one.ended.as_ref()) {
                match &ended.result {
                    Ok(Answer::Entries { .. }) => counts.past_reads += u64::from(is_past),
                    Ok(_) => {}
                    Err(failure) => match failure.reason {
                        "SESSION_EXPIRED" => counts.sessions_ended += 1,
                        "LEASE_NOT_FOUND" => counts.leases_expired += 1,
                        "HISTORY_GONE" => counts.history_gone += 1,
                        _ => {}
                    },
                }
            }
        }
        counts.removed += record.removed.len() as u64;
        let founders = self.options.nodes;
        let members = self.membership();
        let joined = members
            .iter()
            .filter(|member| member.voter && member.node > founders);
        self.counts.joined += joined.count() as u64;
    }
}
