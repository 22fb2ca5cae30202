//! Why a TLS handshake failed, in a word for metrics and in words for people, and telling it without flooding the log.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};

use crate::lately::Lately;
use crate::metrics;

/// Where a handshake was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Port {
    Client,
    Peer,
}

/// Who began it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    /// This node.
    Dialled,
    /// The other side.
    Accepted,
}

impl Port {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Peer => "peer",
        }
    }
}

impl Side {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Dialled => "dialled",
            Self::Accepted => "accepted",
        }
    }
}

/// Why there is no encrypted connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub(crate) struct Failure {
    /// For the metric's label.
    pub(crate) reason: &'static str,
    /// For people.
    pub(crate) why: String,
}

impl Failure {
    /// An error of a handshake, or of the first reading behind it: there a dialler hears that it was refused.
    /// `None` if TLS had no part in it.
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        let error = error.get_ref()?.downcast_ref::<Error>()?;
        Some(Self {
            reason: reason(error),
            why: words(error),
        })
    }

    /// An error of a handshake, which counts as TLS's even if the connection just ended.
    pub(crate) fn of_handshake(error: &io::Error) -> Self {
        Self::of(error).unwrap_or_else(|| Self {
            reason: "closed",
            why: format!(
                "the other side closed during the TLS handshake ({error}); it may not speak TLS, or want none of this node"
            ),
        })
    }

    /// A handshake that took too long.
    pub(crate) fn timeout() -> Self {
        Self {
            reason: "timeout",
            why: "the TLS handshake took too long".to_owned(),
        }
    }

    /// The other side proved a name, but the wrong one.
    pub(crate) const fn wrong_name(why: String) -> Self {
        Self {
            reason: "wrong_name",
            why,
        }
    }

    /// The other side speaks TLS where this node doesn't.
    pub(crate) fn unexpected() -> Self {
        Self {
            reason: "no_tls_here",
            why: "the other side speaks TLS, and this node has none (--tls-cert)".to_owned(),
        }
    }
}

/// The word for an error.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "rustls has many more, and may add to them"
)]
pub(super) fn reason(error: &Error) -> &'static str {
    if let Error::AlertReceived(alert) = error {
        return refused_for(*alert);
    }
    if let Error::InvalidCertificate(wrong) = error {
        return certificate(wrong);
    }
    match error {
        Error::NoCertificatesPresented => "no_certificate",
        Error::InvalidMessage(_) => "not_tls",
        Error::PeerIncompatible(_) => "incompatible",
        _ => "other",
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "rustls has many more, and may add to them"
)]
fn certificate(wrong: &CertificateError) -> &'static str {
    match wrong {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "not_valid_yet"
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => "unknown_authority",
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "wrong_name"
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "wrong_purpose"
        }
        CertificateError::Revoked => "revoked",
        _ => "bad_certificate",
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "rustls has many more, and may add to them"
)]
fn refused_for(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::CertificateExpired => "refused_expired",
        // The latter where two authorities have one name: the signature isn't the known one's.
        AlertDescription::UnknownCA | AlertDescription::DecryptError => "refused_unknown_authority",
        AlertDescription::CertificateRequired => "refused_no_certificate",
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked => "refused_certificate",
        _ => "refused",
    }
}

/// The words for an error.
pub(super) fn words(error: &Error) -> String {
    let known = match reason(error) {
        "expired" => "the certificate has expired",
        "not_valid_yet" => "the certificate isn't valid yet: check both clocks",
        "unknown_authority" => "the certificate isn't of an authority that this node trusts",
        "wrong_name" => "the certificate is for another name",
        "wrong_purpose" => {
            "the certificate isn't for this use: a node's needs server and client authentication, a client's the latter"
        }
        "revoked" => "the certificate was revoked",
        "no_certificate" => "the other side showed no certificate",
        "not_tls" => "the other side doesn't speak TLS",
        "refused_expired" => {
            "the other side refused this one's certificate: it has expired, or isn't valid yet"
        }
        "refused_unknown_authority" => {
            "the other side refused this one's certificate: it doesn't trust its authority"
        }
        "refused_no_certificate" => "the other side wants a certificate, and was shown none",
        "refused_certificate" => {
            "the other side refused this one's certificate, for its name, its use or its form"
        }
        _ => return format!("TLS failed: {error}"),
    };
    if known.starts_with("the certificate") {
        return format!("{known} ({error})");
    }
    known.to_owned()
}

/// What was logged lately.
#[derive(Debug, Default)]
pub(super) struct Told {
    lately: Lately<What>,
}

/// Where, by whom begun, with whom, why.
type What = (Port, Side, String, &'static str);

impl Told {
    pub(super) fn tell(&self, port: Port, side: Side, with: &str, failure: &Failure) {
        metrics::tls_failed(port, side, failure.reason);
        if self
            .lately
            .is_news((port, side, with.to_owned(), failure.reason))
        {
            tracing::warn!(
                port = port.as_str(),
                side = side.as_str(),
                with,
                reason = failure.reason,
                why = failure.why,
                "a TLS handshake failed"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_a_word_and_says_who_is_at_fault() {
        for (error, reason, part) in [
            (CertificateError::Expired.into(), "expired", "has expired"),
            (
                CertificateError::UnknownIssuer.into(),
                "unknown_authority",
                "trusts",
            ),
            (
                Error::NoCertificatesPresented,
                "no_certificate",
                "no certificate",
            ),
            (
                Error::AlertReceived(AlertDescription::CertificateExpired),
                "refused_expired",
                "the other side refused",
            ),
            (
                Error::AlertReceived(AlertDescription::HandshakeFailure),
                "refused",
                "TLS failed",
            ),
        ] {
            let error = io::Error::new(io::ErrorKind::InvalidData, error);
            let failure = Failure::of(&error).unwrap();
            assert_eq!(failure.reason, reason);
            assert!(failure.why.contains(part), "{}", failure.why);
        }
        let broken = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(Failure::of(&broken), None);
        assert_eq!(Failure::of_handshake(&broken).reason, "closed");
    }
}
