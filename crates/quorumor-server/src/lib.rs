//! The shell: configuration, gRPC service, driver, persistence, peer transport, watches, metrics, shutdown.

pub mod config;
pub mod data_dir;
pub mod store;

mod clock;
mod driver;
mod envelope;
mod handle;
mod metrics;
mod peers;
mod persist;
mod service;
mod shutdown;
mod watch;
