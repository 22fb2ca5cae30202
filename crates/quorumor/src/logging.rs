//! Logs of a node: on stderr, as text or JSON.

use std::io::{self, IsTerminal};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use crate::exit::Failure;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

/// Starts logging. The filter is as in `RUST_LOG`: `info`, `warn,quorumor_server=debug`.
///
/// # Errors
/// `Usage` if the filter is none.
pub(crate) fn init(filter: &str, format: LogFormat) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| Failure::usage(format!("--log {filter:?} is no filter: {error}")))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    let started = match format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => {
            let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            builder
                .with_ansi(io::stderr().is_terminal() && !no_color)
                .try_init()
        }
    };
    started.map_err(|error| Failure::unavailable("can't start logging", &error))
}
