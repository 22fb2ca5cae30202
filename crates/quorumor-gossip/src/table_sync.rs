//! Members' tables, made equal: compared by one hash on every ping and ack, then by buckets, then life by life, so that only
//! what one side lacks is told.
//!
//! ```text
//! A --table: 256 hashes-->                                  B
//! A <--held: the lives that B knows in buckets that differ-- B
//! A --members that B lacks; lacked: the lives that A lacks--> B
//! A <--those members--                                      B
//! ```
//! Only so much is told at a time: in a mass join nearly everything differs everywhere, and what one exchange leaves out the
//! next ones bring, with other peers.

use std::collections::BTreeSet;

use quorumor_core::{Destination, MemberState, NodeId};

use crate::anti_entropy::is_recent;
use crate::codec::{UPDATE_BYTES_USUAL, lives_bytes, update_bytes};
use crate::member::life_hash;
use crate::member::table::{BUCKETS, bucket_of};
use crate::message::{BucketLives, Part, Update};
use crate::replica::GossipReplica;
use crate::timers::Timer;

/// Comparisons in a row that differed before the tables are compared: rumors may be under way. While exchanges bring news, one.
const UNSETTLED: u32 = 2;
/// The pause between exchanges that a node begins: while they bring news, and while they don't. In milliseconds.
const PAUSE_MS: (u64, u64) = (250, 2_000);
/// The same in a small cluster, whose whole table is a few datagrams.
const PAUSE_SMALL_MS: (u64, u64) = (200, 1_000);
/// Members of a small cluster.
const SMALL: usize = 256;
/// Bytes of members in one answer.
const ANSWER_BYTES_MAX: usize = 4_800;
/// Bytes of lives in one answer.
const HELD_BYTES_MAX: usize = 1_440;
/// The largest part: two fit a datagram.
const PART_BYTES_MAX: usize = 480;
/// Lives of one bucket that fit a part.
const LIVES_MAX: usize = 110;
/// What comes so long after the last message of an exchange is taken for its outcome, in milliseconds.
const EXCHANGE_MS: u64 = 500;
/// What a table's hashes take.
const TABLE_BYTES: u64 = 4 * BUCKETS as u64;

impl GossipReplica {
    /// Notes whether a peer believes in the same members, and begins to compare if many don't.
    pub(crate) fn compare_members(&mut self, from: NodeId, theirs: u64) {
        if theirs == self.members.hash() ^ self.my_life_hash() {
            self.sync.members_unsettled = 0;
            return;
        }
        self.sync.members_unsettled += 1;
        let now = self.now.mono();
        let news = self.sync.members_news > 0;
        let (brisk_ms, calm_ms) = if self.members.len() <= SMALL {
            PAUSE_SMALL_MS
        } else {
            PAUSE_MS
        };
        let (pause_ms, unsettled) = if news {
            (brisk_ms, 1)
        } else {
            (calm_ms, UNSETTLED)
        };
        if self.sync.members_unsettled < unsettled
            || is_recent(self.sync.table_sent_at, now, pause_ms)
            || !self.members.knows(from)
        {
            return;
        }
        self.begin_exchange(from);
    }

    fn begin_exchange(&mut self, with: NodeId) {
        if !self.send_table_hashes(with) {
            // Later, then: what is lacked is lacked still.
            self.schedule_exchange();
            return;
        }
        self.sync.table_sent_at = Some(self.now.mono());
        self.sync.members_news = 0;
        self.sync.members_unsettled = 0;
    }

    /// The last exchange showed that more is lacked: the next one, with anyone, doesn't wait for a probe.
    pub(crate) fn handle_exchange_timer(&mut self) {
        self.sync.exchange_due = false;
        if self.sync.members_news == 0 {
            return;
        }
        if let Some(peer) = self.members.some(1, None, &mut self.rng).pop() {
            self.begin_exchange(peer);
        }
    }

    fn schedule_exchange(&mut self) {
        if !std::mem::replace(&mut self.sync.exchange_due, true) {
            let at = self.now.mono().after_ms(PAUSE_MS.0);
            self.timers.set(at, Timer::Exchange);
        }
    }

    /// The own table's hashes to a peer, if there is room for more of tables. Whether there was.
    pub(crate) fn send_table_hashes(&mut self, to: NodeId) -> bool {
        let now = self.now.mono();
        let has_room = self.budgets.tables.take(now, TABLE_BYTES);
        if has_room {
            self.sync.exchanged_at = Some(now);
            let part = Part::Table(self.table_hashes());
            self.outbox.push_bare(Destination::Node(to), &part);
        }
        has_room
    }

    /// News about members came; in an exchange of tables, it is a sign that more of them are worth while.
    pub(crate) fn note_members_news(&mut self) {
        let now = self.now.mono();
        if is_recent(self.sync.exchanged_at, now, EXCHANGE_MS) {
            self.sync.members_news += 1;
        }
    }

    fn table_hashes(&self) -> Box<[u32; BUCKETS]> {
        let own = bucket_of(self.config.node);
        let mut short = Box::new([0; BUCKETS]);
        for (bucket, hash) in self.members.hashes().iter().enumerate() {
            let hash = if bucket == own {
                hash ^ self.my_life_hash()
            } else {
                *hash
            };
            short[bucket] = u32::try_from(hash >> 32).expect("half of 64 bits");
        }
        short
    }

    pub(crate) fn handle_table(&mut self, from: NodeId, theirs: &[u32; BUCKETS]) {
        self.sync.exchanged_at = Some(self.now.mono());
        let mine = self.table_hashes();
        let mut differing: Vec<u8> = (0..=u8::MAX)
            .filter(|bucket| mine[usize::from(*bucket)] != theirs[usize::from(*bucket)])
            .collect();
        self.rng.shuffle(&mut differing);
        let mut held = Vec::new();
        let mut bytes = 0;
        for bucket in differing {
            let lives = self.lives(bucket);
            if lives.len() > LIVES_MAX {
                // Too many to be listed: they are told.
                let members = self.bucket_updates(bucket);
                self.tell_members(from, members);
                continue;
            }
            bytes += lives_bytes(lives.len());
            if bytes > HELD_BYTES_MAX {
                break;
            }
            held.push(BucketLives { bucket, lives });
        }
        held.sort_by_key(|lives| lives.bucket);
        self.push_lives(from, held, Part::TableHeld);
    }

    /// The lives of the members of a bucket, this node's among them. Those that are gone too: who comes anew must hide what
    /// they own, and wait for them with collections.
    fn lives(&self, bucket: u8) -> Vec<u32> {
        self.bucket_updates(bucket).iter().map(short_life).collect()
    }

    pub(crate) fn handle_held(&mut self, from: NodeId, held: &[BucketLives]) {
        self.sync.exchanged_at = Some(self.now.mono());
        let (mut told, mut lacked) = (Vec::new(), Vec::new());
        let mut told_bytes = 0;
        // More than can be answered isn't asked for.
        let mut asks_left = ANSWER_BYTES_MAX / UPDATE_BYTES_USUAL;
        for BucketLives { bucket, lives } in held {
            let mut theirs: BTreeSet<u32> = lives.iter().copied().collect();
            for update in self.bucket_updates(*bucket) {
                if !theirs.remove(&short_life(&update)) && told_bytes < ANSWER_BYTES_MAX {
                    told_bytes += update_bytes(&update);
                    told.push(update);
                }
            }
            let most = asks_left.min(LIVES_MAX);
            let lives: Vec<u32> = theirs.into_iter().take(most).collect();
            if !lives.is_empty() {
                asks_left -= lives.len();
                let bucket = *bucket;
                lacked.push(BucketLives { bucket, lives });
            }
        }
        // The newer life of a member first: the older one that the peer listed is then no longer asked for.
        self.tell_members(from, told);
        if !lacked.is_empty() {
            self.schedule_exchange();
            self.push_lives(from, lacked, Part::TableLacked);
        }
    }

    pub(crate) fn handle_lacked(&mut self, from: NodeId, lacked: &[BucketLives]) {
        let (mut told, mut bytes) = (Vec::new(), 0);
        for BucketLives { bucket, lives } in lacked {
            if bytes >= ANSWER_BYTES_MAX {
                break;
            }
            let mut wanted = self.bucket_updates(*bucket);
            wanted.retain(|update| lives.contains(&short_life(update)));
            bytes += wanted.iter().map(update_bytes).sum::<usize>();
            told.append(&mut wanted);
        }
        self.tell_members(from, told);
    }

    fn bucket_updates(&self, bucket: u8) -> Vec<Update> {
        let me = self.config.node;
        let bucket = usize::from(bucket);
        let mut updates: Vec<Update> = self.members.bucket(bucket, me).collect();
        if bucket == bucket_of(me) {
            updates.push(self.my_update());
        }
        updates
    }

    /// Sends lives in parts that fit datagrams, as far as there is room for them.
    fn push_lives(
        &mut self,
        to: NodeId,
        buckets: Vec<BucketLives>,
        part: fn(Vec<BucketLives>) -> Part,
    ) {
        let bytes_of = |lives: &BucketLives| lives_bytes(lives.lives.len());
        for (buckets, bytes) in in_parts(buckets, bytes_of) {
            if !self.budgets.tables.take(self.now.mono(), bytes as u64) {
                break;
            }
            self.outbox.push_bare(Destination::Node(to), &part(buckets));
        }
    }

    /// Tells of members, as far as there is room for them.
    fn tell_members(&mut self, to: NodeId, updates: Vec<Update>) {
        let mut left = ANSWER_BYTES_MAX;
        for (updates, bytes) in in_parts(updates, update_bytes) {
            left = left.saturating_sub(bytes);
            if left == 0 || !self.budgets.tables.take(self.now.mono(), bytes as u64) {
                break;
            }
            self.outbox
                .push_bare(Destination::Node(to), &Part::Members(updates));
        }
    }

    /// Tells a joiner of some members, whatever room there is: joiners have a budget of their own.
    pub(crate) fn tell_joiner(&mut self, to: NodeId, updates: Vec<Update>) {
        for (updates, _) in in_parts(updates, update_bytes) {
            self.outbox
                .push_bare(Destination::Node(to), &Part::Members(updates));
        }
    }
}

/// A part of a life's hash; another one once that life is over.
fn short_life(update: &Update) -> u32 {
    let hash = life_hash(update.node, update.generation, update.incarnation);
    let short = u32::try_from(hash >> 32).expect("half of 64 bits");
    match update.state {
        MemberState::Alive | MemberState::Suspect => short,
        MemberState::Down | MemberState::Left => !short,
    }
}

/// Items in as few parts as fit, with what each part weighs.
fn in_parts<T>(items: Vec<T>, bytes_of: impl Fn(&T) -> usize) -> Vec<(Vec<T>, usize)> {
    let mut parts: Vec<(Vec<T>, usize)> = Vec::new();
    for item in items {
        let weight = bytes_of(&item);
        match parts.last_mut() {
            Some((part, bytes)) if *bytes + weight <= PART_BYTES_MAX => {
                *bytes += weight;
                part.push(item);
            }
            Some(_) | None => parts.push((vec![item], weight)),
        }
    }
    parts
}

#[cfg(test)]
mod tests;
