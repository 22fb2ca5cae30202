//! How a client is made, and what each call of it can ask for.

use std::time::Duration;

use bytes::Bytes;
use quorumor_core::{ClientSeq, DataEpoch, Error, Level, Mode};

use crate::breaker::BreakerPolicy;
use crate::budget::RetryBudget;
use crate::client::Client;
use crate::clock::Clock;
use crate::error::ClientError;
use crate::hedge::Hedge;
use crate::memory::LastKnownLimits;
use crate::retry::RetryPolicy;
use crate::tls::{Bearer, ClientTls, Line};

/// What a call asks for. A client has defaults; [`Client::with`] gives a client with others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallOptions {
    /// The mode; `None` for the node's first.
    pub mode: Option<Mode>,
    /// How fresh a read must be; `None` for the best that the mode gives.
    pub level: Option<Level>,
    /// What a read at [`Level::Bounded`] or [`Level::Sampled`] demands; other levels leave it aside.
    pub bound: Option<Bound>,
    /// Eventual mode: how many members, the one that takes it included, must hold a write before its answer; 0 and 1 ask for no
    /// more than that one. At the deadline the outcome is unknown: the write is kept where it was taken, and spreads.
    pub acks: u32,
    /// A token to send instead of the session's; empty bytes send none.
    pub token: Option<Bytes>,
    /// Whether a weaker answer will do; the receipt then says so.
    pub allow_degraded: bool,
    /// How long the whole call may take, retries included. It is the deadline that nodes see.
    pub timeout: Duration,
    /// The caller's name for the request; `None` for one made up by the client.
    pub request_id: Option<String>,
    /// The caller's own number for a write, in a session that it opened ([`Client::open_session`]); `None` for the next number
    /// of the client's own session.
    pub client_seq: Option<ClientSeq>,
    /// The data epoch that is expected; `None` for any.
    pub data_epoch: Option<DataEpoch>,
    /// Ask this endpoint and no other.
    pub endpoint: Option<String>,
    /// Reads: when another endpoint is asked too; `None` for never.
    pub hedge: Option<Hedge>,
    /// Gets and discoveries: if no node can answer, what this session saw of it last will do, if it can't be older than this. Such
    /// an answer says so: [`Receipt::last_known`](crate::Receipt::last_known). What is read without this isn't remembered.
    pub allow_last_known: Option<Duration>,
}

impl Default for CallOptions {
    /// The node's first mode, its best level, five seconds.
    fn default() -> Self {
        Self {
            mode: None,
            level: None,
            bound: None,
            acks: 0,
            token: None,
            allow_degraded: false,
            timeout: Duration::from_secs(5),
            request_id: None,
            client_seq: None,
            data_epoch: None,
            endpoint: None,
            hedge: None,
            allow_last_known: None,
        }
    }
}

/// How stale a read at [`Level::Bounded`] may be: at least one of the first two must be given. How many members a read at
/// [`Level::Sampled`] asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    /// How many entries that were committed when the node last asked the leader may be missing.
    pub max_lag: Option<u64>,
    /// How old the leader's word may be: nothing acknowledged before that is missing, but for `max_lag`.
    pub max_age: Option<Duration>,
    /// How many other members a sampled read asks, from 1.
    pub members: u32,
}

/// Builds a [`Client`].
#[derive(Clone, Debug)]
pub struct ClientBuilder {
    pub(crate) endpoints: Vec<String>,
    pub(crate) options: CallOptions,
    pub(crate) retries: RetryPolicy,
    pub(crate) session: bool,
    pub(crate) exactly_once: bool,
    pub(crate) session_ttl: Option<Duration>,
    pub(crate) follow_hints: bool,
    pub(crate) connect_timeout: Duration,
    pub(crate) watch_patience: Duration,
    pub(crate) budget: RetryBudget,
    pub(crate) last_known: LastKnownLimits,
    pub(crate) breaker: Option<BreakerPolicy>,
    pub(crate) try_min: Duration,
    pub(crate) clock: Clock,
    pub(crate) tls: Option<ClientTls>,
    pub(crate) auth_token: Option<AuthToken>,
    pub(crate) plain_token: bool,
}

/// A bearer token, which no `Debug` shows.
#[derive(Clone)]
pub(crate) struct AuthToken(String);

impl std::fmt::Debug for AuthToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(hidden)")
    }
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            options: CallOptions::default(),
            retries: RetryPolicy::default(),
            session: true,
            exactly_once: true,
            session_ttl: None,
            follow_hints: true,
            connect_timeout: Duration::from_secs(2),
            watch_patience: Duration::from_secs(60),
            budget: RetryBudget::default(),
            last_known: LastKnownLimits::default(),
            breaker: Some(BreakerPolicy::default()),
            try_min: Duration::from_millis(1),
            clock: Clock::monotonic(),
            tls: None,
            auth_token: None,
            plain_token: false,
        }
    }
}

impl ClientBuilder {
    /// The endpoints, `host:port`, `http://host:port` or, with [`Self::tls`], `https://host:port`. At least one.
    #[must_use]
    pub fn endpoints<I>(mut self, endpoints: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.endpoints = endpoints.into_iter().map(Into::into).collect();
        self
    }

    /// Adds one endpoint, as [`Self::endpoints`] takes it.
    #[must_use]
    pub fn endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoints.push(endpoint.into());
        self
    }

    /// The mode of every call. Default: each node's first.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.options.mode = Some(mode);
        self
    }

    /// How fresh reads must be. Default: the best that the mode gives.
    #[must_use]
    pub fn level(mut self, level: Level) -> Self {
        self.options.level = Some(level);
        self
    }

    /// How long a call may take, retries included. Default: five seconds.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout = timeout;
        self
    }

    /// Everything that a call can ask for, at once.
    #[must_use]
    pub fn options(mut self, options: CallOptions) -> Self {
        self.options = options;
        self
    }

    /// How often and how fast calls are tried again. Default: [`RetryPolicy::default`].
    #[must_use]
    pub const fn retries(mut self, retries: RetryPolicy) -> Self {
        self.retries = retries;
        self
    }

    /// How many of all calls may be retries; with that spent a call fails with its last error. Default: [`RetryBudget::default`]. A
    /// numbered write that may have been applied is sent again even so: nothing else tells what became of it.
    #[must_use]
    pub const fn retry_budget(mut self, budget: RetryBudget) -> Self {
        self.budget = budget;
        self
    }

    /// When a read that isn't answered is asked of another endpoint too; the first good answer counts. Each second try is paid for
    /// from the retry budget. Default: never.
    #[must_use]
    pub const fn hedge(mut self, hedge: Hedge) -> Self {
        self.options.hedge = Some(hedge);
        self
    }

    /// Lets gets and discoveries fall back on what the client saw last; see [`CallOptions::allow_last_known`]. Default: never.
    #[must_use]
    pub const fn allow_last_known(mut self, max_age: Duration) -> Self {
        self.options.allow_last_known = Some(max_age);
        self
    }

    /// How much is remembered for that. Default: [`LastKnownLimits::default`].
    #[must_use]
    pub const fn last_known_limits(mut self, limits: LastKnownLimits) -> Self {
        self.last_known = limits;
        self
    }

    /// Whether tokens are kept and sent back. Default: yes. Without it a client can read older than its own writes.
    #[must_use]
    pub const fn session(mut self, session: bool) -> Self {
        self.session = session;
        self
    }

    /// Whether writes are numbered in a session of the cluster, so that one of unknown outcome can be sent again and is
    /// applied once. Default: yes. Strong mode only, and only with retries. The session is opened before the first write, which
    /// so takes about twice as long; without it a write of unknown outcome is the caller's to settle.
    #[must_use]
    pub const fn exactly_once(mut self, exactly_once: bool) -> Self {
        self.exactly_once = exactly_once;
        self
    }

    /// How long that session outlives its last write. Default: the cluster's, ten minutes. A write after a longer pause opens
    /// a new one by itself.
    #[must_use]
    pub const fn session_ttl(mut self, ttl: Duration) -> Self {
        self.session_ttl = Some(ttl);
        self
    }

    /// How stale reads at [`Level::Bounded`] may be, and that level for every read.
    #[must_use]
    pub const fn bounded(mut self, bound: Bound) -> Self {
        self.options.level = Some(Level::Bounded);
        self.options.bound = Some(bound);
        self
    }

    /// So many other members are asked by every read, which shows at least what they had then. Eventual mode only.
    #[must_use]
    pub const fn sampled(mut self, members: u32) -> Self {
        self.options.level = Some(Level::Sampled);
        self.options.bound = Some(Bound {
            max_lag: None,
            max_age: None,
            members,
        });
        self
    }

    /// How many members must hold each write before its answer; see [`CallOptions::acks`].
    #[must_use]
    pub const fn acks(mut self, acks: u32) -> Self {
        self.options.acks = acks;
        self
    }

    /// Whether the leader is followed to an address that isn't among the endpoints. Default: yes. Turn it off where
    /// nodes are reached through proxies or NAT.
    #[must_use]
    pub const fn follow_hints(mut self, follow_hints: bool) -> Self {
        self.follow_hints = follow_hints;
        self
    }

    /// How long a connection may take to come up. Default: two seconds.
    #[must_use]
    pub const fn connect_timeout(mut self, connect_timeout: Duration) -> Self {
        self.connect_timeout = connect_timeout;
        self
    }

    /// How long a broken watch tries to resume before it gives up. Default: a minute.
    #[must_use]
    pub const fn watch_patience(mut self, watch_patience: Duration) -> Self {
        self.watch_patience = watch_patience;
        self
    }

    /// When an endpoint that fails too often is left alone, and for how long; see [`breaker`](crate::breaker). Default:
    /// [`BreakerPolicy::default`].
    #[must_use]
    pub const fn breaker(mut self, policy: BreakerPolicy) -> Self {
        self.breaker = Some(policy);
        self
    }

    /// Leaves no endpoint alone, however often it fails.
    #[must_use]
    pub const fn without_breaker(mut self) -> Self {
        self.breaker = None;
        self
    }

    /// The smallest useful time: with less than that left until its deadline a call begins no try, and nothing is sent. Default:
    /// a millisecond.
    #[must_use]
    pub const fn try_min(mut self, try_min: Duration) -> Self {
        self.try_min = try_min;
        self
    }

    /// The clock of breakers and budgets.
    #[cfg(test)]
    pub(crate) fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Encrypts every connection, and checks who is at its other end. Default: plain connections.
    #[must_use]
    pub fn tls(mut self, tls: ClientTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// The bearer token that says who calls, sent with each call. It isn't the session's token. It leaves over a plain
    /// connection only to the loopback.
    #[must_use]
    pub fn auth_token(mut self, token: impl Into<String>) -> Self {
        self.auth_token = Some(AuthToken(token.into()));
        self
    }

    /// Whether the bearer token may leave over plain connections to any address, for all on the way to read. Default: no.
    #[must_use]
    pub const fn plain_token(mut self, allowed: bool) -> Self {
        self.plain_token = allowed;
        self
    }

    pub(crate) fn line(&self) -> Result<Line, Error> {
        let token = self.auth_token.as_ref().map(|token| token.0.as_str());
        Ok(Line {
            connect_timeout: self.connect_timeout,
            tls: self.tls.clone(),
            bearer: Bearer::parse(token)?,
            plain_token: self.plain_token,
        })
    }

    /// Makes the client. Connections are made when they are first needed, inside a tokio runtime.
    ///
    /// # Errors
    /// `Invalid` if there is no endpoint, or one that is no address or contradicts the TLS configuration; if certificates or the
    /// bearer token can't be used.
    pub fn connect(self) -> Result<Client, ClientError> {
        Client::new(self)
    }
}
