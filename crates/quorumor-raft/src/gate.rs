//! What a peer's message must be before raft may step it.
//!
//! raft-rs trusts its messages: it panics on a read index without an entry, on a commit beyond its log, on entries with
//! holes; and it counts answers to questions that it has not asked yet. A peer may be buggy, or of a later version, so
//! everything that could break an assertion is refused here. Whoever sends under a false name is the envelope's business.

use quorumor_core::NodeId;
use raft::eraftpb::{Entry, EntryType, Message, MessageType};
use raft::{Raft, StateRole};

use crate::codec::conf_change::CHANGE_BYTES_MAX;
use crate::codec::message::RaftMessage;
use crate::codec::proposal::decode_time;
use crate::log::Log;

/// Above every index and term that a real cluster reaches: at a million a second, 146,000 years.
const NUMBER_MAX: u64 = 1 << 62;
/// A context is a read's 24 bytes or the name of a campaign.
const CONTEXT_BYTES_MAX: usize = 64;
/// Read contexts that one leader keeps open. Each peer has one in flight, and some were given up.
const READ_CONTEXTS_MAX: usize = 1_024;

/// What to do with a message.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Step it.
    Step(Message),
    /// A read index for a leader that hasn't committed in its term yet: raft would drop it silently, so it waits.
    Defer(Message),
    /// Drop it, for this reason.
    Refuse(&'static str),
    /// It proves that this node lost acknowledged entries.
    Damaged(String),
}

/// What the gate must know beside raft's own state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Campaign {
    /// No vote request waits for the disk.
    Sent,
    /// A vote request still waits for the disk, so nobody can have answered it.
    Held,
}

/// Judges a message of this sender.
pub(crate) fn admit(
    message: RaftMessage,
    from: NodeId,
    raft: &Raft<Log>,
    campaign: Campaign,
) -> Verdict {
    if from.as_u64() == raft.id {
        return Verdict::Refuse("a message from this node itself");
    }
    let Some(message) = message.into_raft(from.as_u64(), raft.id) else {
        return Verdict::Refuse("a message or entry of an unknown kind");
    };
    if let Err(why) = check_numbers(&message) {
        return Verdict::Refuse(why);
    }
    let checked = match message.get_msg_type() {
        MessageType::MsgAppend => check_append(&message),
        MessageType::MsgAppendResponse => check_append_response(&message, raft),
        MessageType::MsgHeartbeat => return judge_heartbeat(message, raft),
        MessageType::MsgReadIndex => return judge_read_index(message, raft),
        MessageType::MsgReadIndexResp => check_read_index_response(&message, raft),
        MessageType::MsgTimeoutNow => check_from_leader(&message, raft),
        MessageType::MsgRequestVoteResponse => check_vote_response(&message, raft, campaign),
        MessageType::MsgRequestPreVoteResponse | MessageType::MsgHeartbeatResponse => {
            check_termed(&message)
        }
        MessageType::MsgRequestVote | MessageType::MsgRequestPreVote => check_termed(&message),
        MessageType::MsgHup
        | MessageType::MsgBeat
        | MessageType::MsgPropose
        | MessageType::MsgSnapshot
        | MessageType::MsgUnreachable
        | MessageType::MsgSnapStatus
        | MessageType::MsgCheckQuorum
        | MessageType::MsgTransferLeader => Err("a kind that peers don't send"),
    };
    match checked {
        Ok(()) => Verdict::Step(message),
        Err(why) => Verdict::Refuse(why),
    }
}

fn check_numbers(message: &Message) -> Result<(), &'static str> {
    let numbers = [
        message.term,
        message.log_term,
        message.index,
        message.commit,
        message.commit_term,
        message.reject_hint,
    ];
    if numbers.iter().any(|number| *number >= NUMBER_MAX) {
        return Err("a number out of range");
    }
    if message.context.len() > CONTEXT_BYTES_MAX {
        return Err("a context that is too long");
    }
    let carries_entries = matches!(
        message.get_msg_type(),
        MessageType::MsgAppend | MessageType::MsgReadIndex | MessageType::MsgReadIndexResp
    );
    if !carries_entries && !message.entries.is_empty() {
        return Err("entries where none belong");
    }
    Ok(())
}

/// Term 0 marks what a node says to itself.
const fn check_termed(message: &Message) -> Result<(), &'static str> {
    if message.term == 0 {
        return Err("a message without a term");
    }
    Ok(())
}

fn check_append(message: &Message) -> Result<(), &'static str> {
    check_termed(message)?;
    if message.log_term == 0 || message.index == 0 || message.log_term > message.term {
        return Err("an append to a place that can't be");
    }
    let (mut index, mut term) = (message.index, message.log_term);
    for entry in &message.entries {
        index += 1;
        if entry.index != index || entry.term < term || entry.term > message.term {
            return Err("entries with a hole, or out of order");
        }
        match entry.get_entry_type() {
            EntryType::EntryNormal => {}
            EntryType::EntryConfChangeV2 if entry.data.len() <= CHANGE_BYTES_MAX => {}
            EntryType::EntryConfChangeV2 | EntryType::EntryConfChange => {
                return Err("a change of configuration that no version writes");
            }
        }
        if !matches!(decode_time(&entry.context), Ok(time) if time.is_none_or(|time| time.0 < NUMBER_MAX))
        {
            return Err("an entry whose log time is none");
        }
        term = entry.term;
    }
    Ok(())
}

fn check_append_response(message: &Message, raft: &Raft<Log>) -> Result<(), &'static str> {
    check_termed(message)?;
    let ours = raft.state == StateRole::Leader && message.term == raft.term;
    if ours && !message.reject && message.index > raft.raft_log.last_index() {
        return Err("an answer to entries that were never sent");
    }
    Ok(())
}

/// A leader never names a commit beyond what this node acknowledged. If it does, this node lost acknowledged entries and
/// has failed for good (tikv #994, etcd #16220).
fn judge_heartbeat(message: Message, raft: &Raft<Log>) -> Verdict {
    if let Err(why) = check_termed(&message) {
        return Verdict::Refuse(why);
    }
    let last = raft.raft_log.last_index();
    if message.term >= raft.term && message.commit > last {
        return Verdict::Damaged(format!(
            "the leader knows entries up to {} as acknowledged by this node, whose log ends at {last}",
            message.commit
        ));
    }
    Verdict::Step(message)
}

/// Only a leader answers; a node that has just lost the lead says nothing, and the asker tries again.
fn judge_read_index(mut message: Message, raft: &Raft<Log>) -> Verdict {
    if raft.state != StateRole::Leader {
        return Verdict::Refuse("a read index for a node that doesn't lead");
    }
    let one = one_context(&message.entries);
    if let Err(why) = one {
        return Verdict::Refuse(why);
    }
    if raft.pending_read_count() >= READ_CONTEXTS_MAX {
        return Verdict::Refuse("too many read contexts");
    }
    // It stands outside terms, as raft-rs sends it.
    message.term = 0;
    if raft.commit_to_current_term() {
        Verdict::Step(message)
    } else {
        Verdict::Defer(message)
    }
}

fn check_read_index_response(message: &Message, raft: &Raft<Log>) -> Result<(), &'static str> {
    check_from_leader(message, raft)?;
    one_context(&message.entries)
}

fn one_context(entries: &[Entry]) -> Result<(), &'static str> {
    match entries {
        [entry] if (1..=CONTEXT_BYTES_MAX).contains(&entry.data.len()) => Ok(()),
        _ => Err("a read index without exactly one context"),
    }
}

fn check_from_leader(message: &Message, raft: &Raft<Log>) -> Result<(), &'static str> {
    if message.from != raft.leader_id || message.term != raft.term {
        return Err("a word of the leader from a node that doesn't lead");
    }
    Ok(())
}

/// A vote counts once its request has left, which is after everything before it is durable: raft asserts so.
fn check_vote_response(
    message: &Message,
    raft: &Raft<Log>,
    campaign: Campaign,
) -> Result<(), &'static str> {
    check_termed(message)?;
    let unsynced = raft.raft_log.persisted < raft.raft_log.last_index();
    if campaign == Campaign::Held || unsynced {
        return Err("a vote that nobody was asked for");
    }
    Ok(())
}

/// Whether a set of held messages holds a vote request.
pub(crate) fn holds_vote_request<'a>(mut held: impl Iterator<Item = &'a Message>) -> bool {
    held.any(|message| message.get_msg_type() == MessageType::MsgRequestVote)
}
