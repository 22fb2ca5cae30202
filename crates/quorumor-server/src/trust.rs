//! What a node trusts, loaded at its start and followed while it runs: certificates and tokens may change without a restart.
//!
//! The files are read every two seconds and compared by what they hold, so it doesn't matter how they are replaced. New
//! ones that are no good are told and left; the older stay in use.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::auth::{Auth, RosterError};
use crate::config::Config;
use crate::key::{ClusterKey, ClusterKeyError};
use crate::metrics;
use crate::tls::{Tls, TlsError};

/// How soon a changed file takes effect, at the latest.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Why a node doesn't know whom to trust.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// Its certificates can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Its tokens file can't be used.
    #[error(transparent)]
    Tokens(#[from] RosterError),
    /// Its cluster key can't be used.
    #[error(transparent)]
    ClusterKey(#[from] ClusterKeyError),
}

/// TLS and the rule for callers.
#[derive(Clone, Debug)]
pub(crate) struct Trust {
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) key: Option<Arc<ClusterKey>>,
    pub(crate) auth: Arc<Auth>,
    /// What was last told of each kind of files, so that it's told once.
    told: Arc<Mutex<BTreeMap<&'static str, String>>>,
}

impl Trust {
    /// Reads what the configuration names.
    pub(crate) fn load(config: &Config) -> Result<Self, TrustError> {
        let tls = match &config.tls {
            Some(files) => Some(Arc::new(Tls::load(
                files.clone(),
                &config.cluster,
                config.node,
            )?)),
            None => None,
        };
        let key = match &config.cluster_key {
            Some(path) => Some(Arc::new(ClusterKey::load(path.clone())?)),
            None => None,
        };
        let certificates = config
            .tls
            .as_ref()
            .is_some_and(|files| files.client_ca.is_some());
        let auth = Auth::load(config.tokens.as_deref(), certificates)?;
        Ok(Self {
            tls,
            key,
            auth: Arc::new(auth),
            told: Arc::default(),
        })
    }

    /// Whether there are files that may change.
    pub(crate) fn has_files(&self) -> bool {
        self.tls.is_some() || self.key.is_some() || !self.auth.is_open()
    }

    /// Reads all files again. Reads from the disk.
    pub(crate) fn reload(&self) {
        if let Some(tls) = &self.tls {
            self.tell("certificates", tls.reload());
        }
        if let Some(key) = &self.key {
            self.tell("cluster_key", key.reload());
        }
        self.tell("tokens", self.auth.reload());
    }

    fn tell(&self, kind: &'static str, read: Result<bool, impl Display>) {
        let mut told = self.told.lock();
        match read {
            Ok(false) => {
                told.remove(kind);
            }
            Ok(true) => {
                told.remove(kind);
                metrics::trust_reloaded(kind, "ok");
                tracing::info!(target: "audit", event = "reload", kind, "new files are in use");
            }
            Err(error) => {
                let error = error.to_string();
                if told.get(kind) != Some(&error) {
                    metrics::trust_reloaded(kind, "refused");
                    tracing::warn!(
                        kind,
                        error,
                        "new files are no good, the older ones stay in use"
                    );
                    told.insert(kind, error);
                }
            }
        }
    }

    /// Follows the files until `stop`.
    pub(crate) async fn follow(self, stop: CancellationToken) {
        if !self.has_files() {
            return;
        }
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(looks.tick()).await.is_some() {
            let trust = self.clone();
            // A panic in there has been told by its hook; the older files stay in use.
            let _ = tokio::task::spawn_blocking(move || trust.reload()).await;
        }
    }
}
