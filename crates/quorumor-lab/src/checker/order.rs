//! What the version-based checkers share: the writes of each key in the order of their versions.
//!
//! Not a checker. Versions of a mode are totally ordered ([`Rank`]): revisions as they are; eventual writes by
//! stored stamp, then dot. A put's stamp exceeds every stamp that it has seen, so that order extends causality, and
//! the entry that a node shows is always the highest that it knows.

use std::collections::{BTreeMap, HashMap};

use crate::history::{Action, Dot, History, Op, Outcome, Return, Version};

/// A version's place in the order of all versions of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// A revision.
    Strong(u64),
    /// Stamp, then the dot that breaks ties.
    Eventual(u64, Dot),
}

impl Rank {
    /// The rank of a version.
    pub fn of(version: &Version) -> Self {
        match version {
            Version::Strong { revision } => Self::Strong(*revision),
            Version::Eventual { dot, stamp, .. } => Self::Eventual(*stamp, *dot),
        }
    }
}

/// A write that may have been applied.
#[derive(Clone, Debug)]
pub struct Write<'a> {
    /// The operation.
    pub op: &'a Op,
    /// What it wrote; none = a delete.
    pub value: Option<&'a str>,
    /// When it was acknowledged; none = unknown outcome.
    pub acked: Option<u64>,
    /// Its version, from its answer or from whoever saw its value.
    pub rank: Option<Rank>,
}

impl Write<'_> {
    /// What it had seen when it was made, if the history tells.
    pub fn context(&self) -> Option<&[Dot]> {
        match self.op.answer()?.version.as_ref()? {
            Version::Strong { .. } => None,
            Version::Eventual { context, .. } => context.as_deref(),
        }
    }

    /// Its dot, if it has one.
    pub fn dot(&self) -> Option<Dot> {
        match self.rank? {
            Rank::Strong(_) => None,
            Rank::Eventual(_, dot) => Some(dot),
        }
    }

    /// True if it began after `other` was acknowledged.
    pub fn began_after(&self, other: &Self) -> bool {
        other
            .acked
            .is_some_and(|acked| acked < self.op.invoke.at_us)
    }
}

/// A read, a lost compare, or a delete that found nothing; and what it saw.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    /// The operation.
    pub op: &'a Op,
    /// Its answer.
    pub ret: &'a Return,
    /// The value seen; none = absent.
    pub value: Option<&'a str>,
    /// The version seen, from the answer or from whoever wrote the value.
    pub rank: Option<Rank>,
}

/// Everything about one key.
#[derive(Clone, Debug, Default)]
pub struct KeyHistory<'a> {
    /// Its writes, in order of invocation; refused ones are left out.
    pub writes: Vec<Write<'a>>,
    /// What was seen of it, in order of invocation.
    pub sights: Vec<Sight<'a>>,
    /// Whether a lease was ever bound to it: then its end explains an absence that no delete does.
    pub leased: bool,
}

impl<'a> KeyHistory<'a> {
    /// The highest version that an answer "absent" at this time can have stood for: the highest delete begun by
    /// then. `Err` = a delete without a version was begun, or a lease may have ended, so nobody can tell.
    pub fn absent_rank(&self, at_us: u64) -> Result<Option<Rank>, Undecided> {
        if self.leased {
            return Err(Undecided);
        }
        let mut highest = None;
        for delete in self
            .writes
            .iter()
            .filter(|w| w.value.is_none() && w.op.invoke.at_us <= at_us)
        {
            match delete.rank {
                Some(rank) => highest = highest.max(Some(rank)),
                None => return Err(Undecided),
            }
        }
        Ok(highest)
    }

    /// The version that a read saw; `Ok(None)` = the key as it was before any write.
    pub fn rank_seen(&self, sight: &Sight<'a>) -> Result<Option<Rank>, Undecided> {
        match (sight.rank, sight.value) {
            (Some(rank), _) => Ok(Some(rank)),
            (None, Some(_)) => Err(Undecided),
            (None, None) => self.absent_rank(sight.ret.at_us),
        }
    }
}

/// The history does not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undecided;

/// The history, key by key.
pub fn by_key(history: &History) -> BTreeMap<&str, KeyHistory<'_>> {
    let versions = versions_by_value(history);
    let mut keys: BTreeMap<&str, KeyHistory<'_>> = BTreeMap::new();
    let mut ops: Vec<&Op> = history.ops.iter().collect();
    ops.sort_by_key(|op| (op.invoke.at_us, op.id()));
    for op in ops {
        let key = keys.entry(&op.invoke.key).or_default();
        key.leased |= op.invoke.lease.is_some() && op.invoke.action.is_write();
        if let Some(ret) = sight(op) {
            let value = ret.values.first().map(String::as_str);
            let named =
                || value.and_then(|value| versions.get(&(op.invoke.key.as_str(), value)).copied());
            let rank = ret.version.as_ref().map(Rank::of).or_else(named);
            key.sights.push(Sight {
                op,
                ret,
                value,
                rank,
            });
        } else if op.invoke.action.is_write() && op.outcome() != Outcome::Fail {
            let value = op.invoke.action.written();
            let own = op
                .answer()
                .and_then(|ret| ret.version.as_ref())
                .map(Rank::of);
            let named =
                || value.and_then(|value| versions.get(&(op.invoke.key.as_str(), value)).copied());
            let acked = if op.is_acked_write() {
                op.returned_us()
            } else {
                None
            };
            key.writes.push(Write {
                op,
                value,
                acked,
                rank: own.or_else(named),
            });
        }
    }
    keys
}

/// The answer of an operation that only saw the key.
fn sight(op: &Op) -> Option<&Return> {
    let ret = op.answer()?;
    let lost = ret.succeeded == Some(false) && (!ret.values.is_empty() || ret.version.is_some());
    match op.invoke.action {
        Action::Get => Some(ret),
        Action::Cas(_) => Some(ret).filter(|_| lost),
        Action::Delete => Some(ret).filter(|ret| ret.deleted_nothing()),
        Action::Put(_)
        | Action::List
        | Action::Grant { .. }
        | Action::KeepAlive
        | Action::Revoke => None,
    }
}

/// The version of each value: the lab's values are unique, so whoever saw one with its version names the write.
fn versions_by_value(history: &History) -> HashMap<(&str, &str), Rank> {
    let mut versions = HashMap::new();
    for op in &history.ops {
        let Some(ret) = op.answer() else { continue };
        let Some(version) = &ret.version else {
            continue;
        };
        let value = if sight(op).is_some() {
            ret.values.first().map(String::as_str)
        } else {
            op.invoke.action.written()
        };
        if let Some(value) = value {
            versions.insert((op.invoke.key.as_str(), value), Rank::of(version));
        }
    }
    for entry in history.finals.iter().flat_map(|state| &state.entries) {
        if let (Some(value), Some(version)) = (entry.values.first(), &entry.version) {
            versions
                .entry((entry.key.as_str(), value.as_str()))
                .or_insert_with(|| Rank::of(version));
        }
    }
    versions
}
