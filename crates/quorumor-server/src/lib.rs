//! The shell around the two modes: configuration, gRPC service, driver, persistence, peer transport, watches, metrics and
//! shutdown. It decides nothing that a mode decides; it is where clocks, sockets, files and threads are.
//!
//! One put: `service.rs` (parse) -> `handle.rs` (bounded queue) -> `driver.rs` -> the replica -> `persist.rs` and `peers.rs`
//! -> back into the replica -> the reply, after the view is published. A local read takes the published view and asks
//! nobody. `server.rs` starts and stops it all.
//!
//! ```no_run
//! use quorumor_server::{Config, Server, Settings};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let settings = Settings {
//!     mode: Some("eventual".into()),
//!     cluster: Some("demo".into()),
//!     node_id: Some(1),
//!     data_dir: Some("/var/lib/quorumor".into()),
//!     ..Settings::default()
//! };
//! let mut server = Server::start(Config::try_from(settings)?).await?;
//! let error = server.failed().await;
//! server.shutdown().await;
//! # Err(error.into())
//! # }
//! ```

pub mod backup;
pub mod config;
pub mod data_dir;
mod digest;
pub mod store;

mod admission;
mod auth;
mod clock;
mod driver;
mod envelope;
mod fault;
mod handle;
mod http;
mod join;
mod key;
mod lately;
mod metrics;
mod origin;
mod peers;
mod persist;
mod registry;
mod restore;
mod server;
mod service;
mod shutdown;
mod standing;
mod tls;
mod trust;
mod watch;
mod weight;

pub use admission::Limits;
pub use auth::{RosterError, TOKEN_CHARS_MAX, TOKEN_CHARS_MIN, hash_token};
pub use config::{
    Config, ConfigError, DnsSettings, DoorsConfig, EventualConfig, Settings, TlsSettings,
};
pub use data_dir::DataDirError;
pub use join::JoinError;
pub use key::ClusterKeyError;
pub use quorumor_core::{Mode, NodeId};
pub use restore::{
    BackupReport, RestoreError, RestoreOptions, RestoreReport, inspect_backup, restore_backup,
};
pub use server::{Server, StartError};
pub use shutdown::FatalError;
pub use tls::{ClientCertificates, TlsError, TlsFiles, peer_name};
pub use trust::TrustError;
