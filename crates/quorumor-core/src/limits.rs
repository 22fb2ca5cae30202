//! Every bound that a request or a peer can meet, each with the sum that justifies it.

/// A key's length. Long enough for a path of names, short enough that 10,000 of them fit in a listing page.
pub const KEY_BYTES_MAX: usize = 1024;

/// A value's length. etcd allows 1.5 MiB a request; one MiB leaves room for the envelope inside a 4 MiB gRPC message
/// and keeps one entry under a snapshot chunk and a bit.
pub const VALUE_BYTES_MAX: usize = 1024 * 1024;

/// Operations in one batch: the same as etcd's limit on a transaction.
pub const BATCH_OPERATIONS_MAX: usize = 128;

/// Compares in one transaction, and operations in each of its lists: etcd's limit.
pub const TXN_OPERATIONS_MAX: usize = 128;

/// Keys and values of one batch together: what one replicated entry may weigh.
pub const BATCH_BYTES_MAX: usize = 2 * 1024 * 1024;

/// A request as it arrives on the client port: one batch (2 MiB) and its framing.
pub const REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Entries in one page of a listing.
pub const LIST_ENTRIES_MAX: usize = 10_000;

/// Entries in a page when the caller names no limit.
pub const LIST_ENTRIES_DEFAULT: usize = 1_000;

/// Keys and values in one page; a page ends early rather than exceed it. Under a client's default limit of 4 MiB.
pub const LIST_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Concurrent values of one key that a put may leave, itself included. Of those that lost only the dots are kept, 41 bytes
/// each; values that came together from 1,000 sides of a partition fit in one message of [`STREAM_MESSAGE_BYTES_MAX`] still.
pub const SIBLINGS_MAX: usize = 128;

/// A request id's length: room for a UUID, a trace id and a prefix.
pub const REQUEST_ID_BYTES_MAX: usize = 128;

/// Rows in a session token: 1,024 rows of at most 16 bytes, about 16 KiB of metadata.
pub const TOKEN_ROWS_MAX: usize = 1_024;

/// A token as bytes: [`TOKEN_ROWS_MAX`] rows of three varints (at most 30 bytes) and a header.
pub const TOKEN_BYTES_MAX: usize = 32 * 1024;

/// Voting members: Raft's cost grows with each, and seven already survive three failures.
pub const VOTERS_MAX: usize = 7;

/// Requests that wait in front of one driver. At 20 us each, a full queue is worth 80 ms of work.
pub const DRIVER_QUEUE_MAX: usize = 4_096;

/// Writes that one replica holds open (proposed or forwarded, not answered).
pub const PENDING_WRITES_MAX: usize = 16_384;

/// Linearizable reads that wait for a read index at one node.
pub const PENDING_READS_MAX: usize = 16_384;

/// Bytes of events that wait for one watcher before it must catch up from the history.
pub const WATCHER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Watchers of one node: at 100 KiB of stream buffers each, about 1 GiB.
pub const WATCHERS_MAX: usize = 10_000;

/// Bytes of past changes that one node keeps for watchers that resume.
pub const WATCH_HISTORY_BYTES_MAX: usize = 32 * 1024 * 1024;

/// A datagram's payload as it leaves, envelope included: fits the IPv6 minimum MTU of 1,280 bytes.
pub const DATAGRAM_BYTES_MAX: usize = 1_200;

/// A message on a peer stream: one append of 1 MiB with one entry of 2 MiB behind it, and framing.
pub const STREAM_MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// One chunk of a checkpoint or a snapshot.
pub const CHECKPOINT_CHUNK_BYTES: usize = 1024 * 1024;

/// Leases that may live at once: at 200 bytes each, 200 MB.
pub const LEASES_MAX: usize = 1_000_000;

/// The longest a lease may be granted for: a year, so that no sum with it comes near the end of a number.
pub const LEASE_TTL_MS_MAX: u64 = 366 * 24 * 3_600 * 1_000;

/// Client sessions that may live at once; one more is refused. At 1 KiB each, 100 MB beside their answers
/// ([`SESSIONS_BYTES_MAX`]).
pub const SESSIONS_MAX: usize = 100_000;

/// Answers that one session may leave unacknowledged: as many writes as a client may have under way.
pub const SESSION_ANSWERS_MAX: usize = 1_024;

/// Bytes of answers that one session may leave unacknowledged.
pub const SESSION_ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes of answers that all sessions together may leave unacknowledged; a numbered write beyond that is refused until others
/// are acknowledged or expire. Every node holds them in memory.
pub const SESSIONS_BYTES_MAX: usize = 256 * 1024 * 1024;

/// How far a write's number may lie above every number that its session has seen: more than any client skips by writes that
/// never came to be, and too few to spend the numbers by.
pub const SESSION_LEAP_MAX: u64 = 1 << 32;

/// The longest that a session may be opened for without a write: an hour, longer than any client retries one, and short enough that
/// sessions left behind give their answers' room back.
pub const SESSION_TTL_MS_MAX: u64 = 3_600 * 1_000;

/// Keys that the range deletions of one write may remove. Each costs a few microseconds, and nothing else is applied meanwhile:
/// with these, a tenth of a second, well within an election timeout.
pub const DELETE_RANGE_KEYS_MAX: usize = 20_000;

/// Keys that one lease may have: they all go in one step when it ends, for which see [`DELETE_RANGE_KEYS_MAX`].
pub const LEASE_KEYS_MAX: usize = 20_000;

/// How far the epoch of the data may be raised: more than anybody restores or migrates, and so far from a number's end that there is
/// always a next one.
pub const DATA_EPOCH_MAX: u64 = 1 << 48;

/// Operations in one message of an exchange.
pub const EXCHANGE_OPERATIONS_MAX: usize = 1_024;

/// Every limit that a client can meet, by name, for `Describe` and for error messages.
pub const PUBLISHED: &[(&str, usize)] = &[
    ("key_bytes_max", KEY_BYTES_MAX),
    ("value_bytes_max", VALUE_BYTES_MAX),
    ("batch_operations_max", BATCH_OPERATIONS_MAX),
    ("txn_operations_max", TXN_OPERATIONS_MAX),
    ("batch_bytes_max", BATCH_BYTES_MAX),
    ("request_bytes_max", REQUEST_BYTES_MAX),
    ("list_entries_max", LIST_ENTRIES_MAX),
    ("list_bytes_max", LIST_BYTES_MAX),
    ("siblings_max", SIBLINGS_MAX),
    ("request_id_bytes_max", REQUEST_ID_BYTES_MAX),
    ("token_rows_max", TOKEN_ROWS_MAX),
    ("token_bytes_max", TOKEN_BYTES_MAX),
    ("delete_range_keys_max", DELETE_RANGE_KEYS_MAX),
    ("lease_keys_max", LEASE_KEYS_MAX),
    ("leases_max", LEASES_MAX),
    ("sessions_max", SESSIONS_MAX),
    ("session_answers_max", SESSION_ANSWERS_MAX),
    ("session_answer_bytes_max", SESSION_ANSWER_BYTES_MAX),
    ("sessions_bytes_max", SESSIONS_BYTES_MAX),
    ("exchange_operations_max", EXCHANGE_OPERATIONS_MAX),
    ("voters_max", VOTERS_MAX),
    ("watcher_bytes_max", WATCHER_BYTES_MAX),
    ("watchers_max", WATCHERS_MAX),
];
