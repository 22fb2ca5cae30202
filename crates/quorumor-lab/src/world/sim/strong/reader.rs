//! A reader: every level, single keys and pages, now and at past revisions.

use quorumor_core::{Bound, Key, KeyRange, Level, Revision};
use rand_chacha::ChaCha8Rng;

use super::actor::{MS, Plan, Surroundings, Wish};
use super::writer;
use crate::registry::{Answer, Ask, Finish, Op, Query, Subject};
use crate::rng;

/// Entries of a page: few, so that listings have several.
const PAGE: usize = 3;

/// A reader.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// A listing that goes on: at which revision, behind which key.
    listing: Option<(Revision, Key)>,
}

impl Reader {
    pub(super) fn plan(&mut self, rng: &mut ChaCha8Rng, around: &Surroundings<'_>) -> Plan {
        if let Some((at, after)) = self.listing.take() {
            return ask(Level::Local, Bound::NONE, Some(at), page(Some(after)), None);
        }
        let seen = Revision::new(around.seen);
        let back = Revision::new(around.seen.saturating_sub(rng::below(rng, 60)));
        let of = if rng::chance_ppm(rng, 600_000) {
            Subject::Key(writer::key(rng))
        } else {
            page(None)
        };
        match rng::below(rng, 100) {
            0..40 => ask(Level::Linearizable, Bound::NONE, None, of, None),
            40..55 => {
                let bound = Bound {
                    members: 0,
                    max_lag: rng::below(rng, 4),
                    max_age_us: (50 + rng::below(rng, 2_000)) * MS,
                };
                ask(Level::Bounded, bound, None, of, None)
            }
            55..65 => ask(Level::Local, Bound::NONE, None, of, Some(seen)),
            65..70 => ask(Level::Local, Bound::NONE, None, of, None),
            70..95 => ask(Level::Local, Bound::NONE, Some(back), of, None),
            _ => {
                let future = Revision::new(around.seen + rng::below(rng, 3));
                ask(Level::Linearizable, Bound::NONE, Some(future), of, None)
            }
        }
    }

    /// A full page that was read goes on at its revision.
    pub(super) fn learn(&mut self, op: &Op) {
        let (Ask::Read(query), Finish::Answered(Answer::Entries { view, entries }, _)) =
            (&op.ask, op.finish())
        else {
            return;
        };
        if let (Subject::Range { limit, .. }, Some(last)) = (&query.of, entries.last())
            && entries.len() == *limit
        {
            let at = query.at.unwrap_or(Revision::new(*view));
            self.listing = Some((at, last.key.clone()));
        }
    }
}

fn page(after: Option<Key>) -> Subject {
    Subject::Range {
        range: KeyRange::prefix("t/").expect("a short prefix"),
        after,
        limit: PAGE,
    }
}

fn ask(
    level: Level,
    bound: Bound,
    at: Option<Revision>,
    of: Subject,
    after: Option<Revision>,
) -> Plan {
    Plan::Ask(Wish {
        after,
        ..Wish::once(Ask::Read(Query {
            level,
            bound,
            at,
            of,
        }))
    })
}
