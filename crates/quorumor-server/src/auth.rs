//! Who calls, and what they may do: bearer tokens and client certificates, their roles, and the record of what was refused
//! and of what administrators did.
//!
//! A caller is authenticated once a call, before its request is read ([`Auth::authenticate`], called from `http.rs`); the
//! service then asks the [`Principal`] for the keys that the request names. Without a tokens file and without client
//! certificates nobody is asked for anything, which `config.rs` allows on a loopback address, or where a person said so in
//! words. Nothing here opens a socket; `watch_files.rs` calls [`Auth::reload`].
//!
//! Refusals and administrators' calls are events of the target `audit`: who, what, how it ended. No event, error or metric
//! holds a token.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::{HeaderMap, header};
use parking_lot::RwLock;
use quorumor_core::{Error, Key, KeyRange};
use tokio_util::sync::CancellationToken;

use crate::admission::Client;
use crate::http::Caller;
use crate::metrics;
use crate::tls::CertificateNames;

mod commands;
mod roles;
mod roster;

use roles::Roles;
use roster::Roster;
pub use roster::RosterError;

/// The fewest bytes of a token: it is hashed once and without salt, so guessing must be hopeless.
pub const TOKEN_CHARS_MIN: usize = 32;
/// The most bytes of a token, since it goes with every call.
pub const TOKEN_CHARS_MAX: usize = 512;

/// The `hash` of a token, as its line in the tokens file holds it.
///
/// # Errors
/// If it is shorter than [`TOKEN_CHARS_MIN`], longer than [`TOKEN_CHARS_MAX`], or holds what an HTTP header can't.
pub fn hash_token(token: &str) -> Result<String, &'static str> {
    if token.len() < TOKEN_CHARS_MIN {
        return Err("a token has at least 32 characters; `quorumor token new` makes a good one");
    }
    if token.len() > TOKEN_CHARS_MAX {
        return Err("a token has at most 512 characters");
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("a token is made of printable ASCII characters without spaces");
    }
    Ok(format!("blake3:{}", roster::digest(token.as_bytes())))
}

/// The rule by which callers are known.
#[derive(Debug)]
pub(crate) struct Auth {
    rule: Rule,
}

#[derive(Debug)]
enum Rule {
    /// Nobody is asked.
    Open,
    /// Whoever has a certificate of the clients' authority may do everything.
    AnyCertificate,
    /// The tokens file says.
    Roster {
        path: PathBuf,
        current: RwLock<Arc<Roster>>,
    },
}

impl Auth {
    /// The rule of a node: by its tokens file if there is one, else by certificates if clients must have one.
    ///
    /// # Errors
    /// If the tokens file can't be read or makes no sense.
    pub(crate) fn load(tokens: Option<&Path>, certificates: bool) -> Result<Self, RosterError> {
        let rule = match tokens {
            Some(path) => Rule::Roster {
                path: path.to_owned(),
                current: RwLock::new(Arc::new(Roster::read(path)?)),
            },
            None if certificates => Rule::AnyCertificate,
            None => Rule::Open,
        };
        Ok(Self { rule })
    }

    /// Reads the tokens file again; `true` if it says something new. What is open under a token or certificate that isn't
    /// there any more, or that has other roles now, is ended.
    ///
    /// # Errors
    /// If it makes no sense; then the older one stands.
    pub(crate) fn reload(&self) -> Result<bool, RosterError> {
        let Rule::Roster { path, current } = &self.rule else {
            return Ok(false);
        };
        let older = Arc::clone(&current.read());
        let Some(newer) = older.renewed(path)? else {
            return Ok(false);
        };
        *current.write() = Arc::new(newer);
        Ok(true)
    }

    /// Who calls, by a call's headers and its connection's certificate. A bearer token stands over a certificate.
    ///
    /// # Errors
    /// `Unauthenticated`, counted and recorded.
    pub(crate) fn authenticate(
        &self,
        headers: &HeaderMap,
        certificate: Option<&CertificateNames>,
    ) -> Result<Principal, Error> {
        match &self.rule {
            Rule::Open => Ok(Principal::default()),
            Rule::AnyCertificate => match certificate {
                Some(names) => Ok(Principal::of(Arc::new(Known::trusted(names)))),
                None => Err(unauthenticated(Stranger::NoCertificate)),
            },
            Rule::Roster { current, .. } => {
                let roster = Arc::clone(&current.read());
                let known = identify(&roster, headers, certificate).map_err(unauthenticated)?;
                Ok(Principal::of(known))
            }
        }
    }

    /// Who calls, as a layer in front of the service found out. Fails where that layer was forgotten.
    ///
    /// # Errors
    /// `Unauthenticated`, unless nobody is asked.
    pub(crate) fn principal(&self, extensions: &http::Extensions) -> Result<Principal, Error> {
        let caller = extensions.get::<Caller>();
        let client = caller.map(|caller| caller.connection).unwrap_or_default();
        match (&self.rule, extensions.get::<Principal>()) {
            (Rule::Open, _) => Ok(Principal {
                known: None,
                client,
            }),
            (Rule::AnyCertificate | Rule::Roster { .. }, Some(principal)) => Ok(principal.clone()),
            (Rule::AnyCertificate | Rule::Roster { .. }, None) => {
                Err(unauthenticated(Stranger::NoToken))
            }
        }
    }

    /// Whether callers are asked who they are.
    pub(crate) const fn is_open(&self) -> bool {
        matches!(self.rule, Rule::Open)
    }
}

/// Why somebody isn't known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stranger {
    NoToken,
    NoCertificate,
    Malformed,
    WrongToken,
    UnknownCertificate,
}

impl Stranger {
    const fn why(self) -> &'static str {
        match self {
            Self::NoToken => "this node wants a token, as `authorization: Bearer TOKEN`",
            Self::NoCertificate => "this node wants a client certificate",
            Self::Malformed => "the authorization header isn't `Bearer TOKEN`",
            Self::WrongToken => "this node doesn't know the token",
            Self::UnknownCertificate => {
                "no name of the client certificate is in this node's tokens file"
            }
        }
    }

    /// For the metric's label.
    const fn as_str(self) -> &'static str {
        match self {
            Self::NoToken => "no_token",
            Self::NoCertificate => "no_certificate",
            Self::Malformed => "malformed",
            Self::WrongToken => "wrong_token",
            Self::UnknownCertificate => "unknown_certificate",
        }
    }
}

fn unauthenticated(stranger: Stranger) -> Error {
    metrics::auth_refused(stranger.as_str());
    tracing::warn!(
        target: "audit",
        event = "refused",
        who = "nobody",
        reason = stranger.as_str(),
        "refused a caller that isn't known"
    );
    Error::Unauthenticated {
        why: stranger.why(),
    }
}

fn identify(
    roster: &Roster,
    headers: &HeaderMap,
    certificate: Option<&CertificateNames>,
) -> Result<Arc<Known>, Stranger> {
    let mut named = headers.get_all(header::AUTHORIZATION).iter();
    match (named.next(), named.next(), certificate) {
        (Some(value), None, _) => {
            let token = bearer(value.as_bytes()).ok_or(Stranger::Malformed)?;
            roster.by_token(token).ok_or(Stranger::WrongToken)
        }
        (Some(_), Some(_), _) => Err(Stranger::Malformed),
        (None, _, Some(names)) => roster
            .by_certificate(names)
            .ok_or(Stranger::UnknownCertificate),
        (None, _, None) => Err(Stranger::NoToken),
    }
}

/// The token of a header, whose scheme is named in any case.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    let fits = scheme.eq_ignore_ascii_case(b"Bearer ")
        && !token.is_empty()
        && token.len() <= TOKEN_CHARS_MAX;
    fits.then_some(token)
}

/// Somebody with a name and roles.
#[derive(Debug)]
struct Known {
    /// `token NAME` or `certificate NAME`.
    name: String,
    roles: Roles,
    /// Cancelled when it isn't known any more, or has other roles.
    gone: CancellationToken,
}

impl Known {
    fn new(name: String, roles: Roles) -> Self {
        Self {
            name,
            roles,
            gone: CancellationToken::new(),
        }
    }

    fn trusted(names: &CertificateNames) -> Self {
        Self::new(format!("certificate {}", names.first()), Roles::all())
    }
}

/// Who makes a call. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Principal {
    known: Option<Arc<Known>>,
    client: Client,
}

impl Principal {
    fn of(known: Arc<Known>) -> Self {
        let mut hasher = DefaultHasher::new();
        known.name.hash(&mut hasher);
        // Zero is nobody.
        let client = Client(hasher.finish().max(1));
        Self {
            known: Some(known),
            client,
        }
    }

    /// Who it is, as far as fairness goes.
    pub(crate) const fn client(&self) -> Client {
        self.client
    }

    /// For logs.
    fn name(&self) -> &str {
        self.known.as_ref().map_or("anyone", |known| &known.name)
    }

    /// Whether it may see every key of this range.
    ///
    /// # Errors
    /// `PermissionDenied`, counted and recorded.
    pub(crate) fn may_read(&self, range: &KeyRange) -> Result<(), Error> {
        self.must(
            |roles| roles.reads(range),
            || format!("the role read for {}", shown(range)),
        )
    }

    /// Whether it may see this key.
    ///
    /// # Errors
    /// As [`Self::may_read`].
    pub(crate) fn may_read_key(&self, key: &Key) -> Result<(), Error> {
        self.must(
            |roles| roles.reads_key(key.as_str()),
            || format!("the role read for key {:?}", key.as_str()),
        )
    }

    /// Whether it may change this key. Who may is also shown it: a lost compare and a delete answer with the entry.
    ///
    /// # Errors
    /// As [`Self::may_read`].
    pub(crate) fn may_write(&self, key: &Key) -> Result<(), Error> {
        self.must(
            |roles| roles.writes_key(key.as_str()),
            || format!("the role write for key {:?}", key.as_str()),
        )
    }

    /// Whether it may change every key of this range.
    ///
    /// # Errors
    /// As [`Self::may_read`].
    pub(crate) fn may_write_range(&self, range: &KeyRange) -> Result<(), Error> {
        self.must(
            |roles| roles.writes(range),
            || format!("the role write for {}", shown(range)),
        )
    }

    /// Whether it may change anything at all: what calls need that name no key, such as those on leases.
    ///
    /// # Errors
    /// As [`Self::may_read`].
    pub(crate) fn may_write_something(&self) -> Result<(), Error> {
        self.must(Roles::write_something, || {
            "the role write for some prefix".to_owned()
        })
    }

    /// Whether it may see anything at all: what calls need that show no key, such as how long a lease has left.
    ///
    /// # Errors
    /// As [`Self::may_read`].
    pub(crate) fn may_read_something(&self) -> Result<(), Error> {
        self.must(Roles::read_something, || {
            "the role read or write for some prefix".to_owned()
        })
    }

    /// Whether it may change one of these keys.
    pub(crate) fn writes_one<'a>(&self, keys: impl IntoIterator<Item = &'a Key>) -> bool {
        let mut keys = keys.into_iter();
        self.known
            .as_ref()
            .is_none_or(|known| keys.any(|key| known.roles.writes_key(key.as_str())))
    }

    /// Whether it may change one of these keys, or there are none: what keeping their lease alive needs.
    ///
    /// # Errors
    /// As [`Self::may_read`].
    pub(crate) fn may_write_one<'a>(
        &self,
        keys: impl IntoIterator<Item = &'a Key>,
    ) -> Result<(), Error> {
        let mut keys = keys.into_iter().peekable();
        self.must(
            |roles| keys.peek().is_none() || keys.any(|key| roles.writes_key(key.as_str())),
            || "the role write for a key of the lease".to_owned(),
        )
    }

    /// Whether there is nothing that it may not change.
    pub(crate) fn may_all_things(&self) -> bool {
        self.known
            .as_ref()
            .is_none_or(|known| known.roles.administers())
    }

    /// Whether it may run the cluster.
    ///
    /// # Errors
    /// As [`Self::may_read`].
    pub(crate) fn may_admin(&self) -> Result<(), Error> {
        self.must(Roles::administers, || "the role admin".to_owned())
    }

    /// Records how a call on the cluster itself ended: with this status, or well.
    pub(crate) fn record(&self, call: &str, failed: Option<&tonic::Status>) {
        let who = self.name();
        match failed {
            None => {
                tracing::info!(target: "audit", event = "admin", who, call, result = "ok", "an administrator's call");
            }
            Some(status) => {
                let (result, why) = (status.code().description(), status.message());
                tracing::warn!(target: "audit", event = "admin", who, call, result, why, "a call on the cluster itself failed");
            }
        }
    }

    /// Resolves when what it was known by is taken away: what is open in its name must end with [`Self::revoked`].
    pub(crate) async fn gone(&self) {
        match &self.known {
            Some(known) => known.gone.cancelled().await,
            None => std::future::pending().await,
        }
    }

    /// The error of what ends because [`Self::gone`] resolved.
    pub(crate) fn revoked() -> Error {
        metrics::auth_refused("revoked");
        Error::Unauthenticated {
            why: "the token or certificate was taken away, or has other roles now",
        }
    }

    fn must(
        &self,
        may: impl FnOnce(&Roles) -> bool,
        needed: impl FnOnce() -> String,
    ) -> Result<(), Error> {
        let Some(known) = &self.known else {
            return Ok(());
        };
        if may(&known.roles) {
            return Ok(());
        }
        let needed = needed();
        metrics::auth_refused("permission_denied");
        tracing::warn!(target: "audit", event = "refused", who = known.name, reason = "permission_denied", needed, "refused a call");
        Err(Error::PermissionDenied { needed })
    }
}

fn shown(range: &KeyRange) -> String {
    match range {
        KeyRange::Prefix(prefix) if prefix.is_empty() => "all keys".to_owned(),
        KeyRange::Prefix(prefix) => format!("keys under {:?}", &**prefix),
        KeyRange::Between { start, end: None } => format!("keys from {:?} on", &**start),
        KeyRange::Between {
            start,
            end: Some(end),
        } => format!("keys from {:?} to {:?}", &**start, &**end),
    }
}

#[cfg(test)]
mod tests;
