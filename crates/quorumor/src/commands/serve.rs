//! `quorumor serve`: one node, until it is told to stop.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use quorumor_server::{Config, DataDirError, Server, Settings, StartError};
use serde_json::json;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use crate::args::Report;
use crate::exit::{Exit, Failure};
use crate::logging::{self, LogFormat};
use crate::output;
use crate::signals::Ends;
use crate::trust::ServeTrust;

const EXAMPLE: &str = "\
Examples:
  quorumor serve --mode strong --cluster shop --node-id 1 --data-dir ./n1 \\
      --listen 127.0.0.1:7400 --peer-listen 127.0.0.1:7401 \\
      --initial-members 1=127.0.0.1:7401,2=127.0.0.1:7411,3=127.0.0.1:7421
  quorumor serve --mode eventual --cluster shop --node-id 2 --data-dir ./n2 \\
      --listen 127.0.0.1:7410 --peer-listen 127.0.0.1:7411 --seeds 127.0.0.1:7401
  quorumor serve --mode strong --cluster shop --node-id 4 --data-dir ./n4 \\
      --listen 127.0.0.1:7430 --peer-listen 127.0.0.1:7431 --join 127.0.0.1:7400,127.0.0.1:7410
  quorumor serve --mode eventual --cluster shop --node-id 3 --data-dir ./n3 --listen 127.0.0.1:7420 \\
      --peer-listen 127.0.0.1:7421 --seeds 127.0.0.1:7401 --siblings cart/ --durability interval --sync-interval 50ms
  quorumor serve --config node.toml
  quorumor serve --mode strong --cluster shop --node-id 1 --data-dir ./n1 --listen 10.0.0.1:7400 ... \\
      --tls-cert certs/node-1.pem --tls-key certs/node-1-key.pem --tls-ca certs/ca.pem --tokens tokens.toml

A flag stands over its QUORUMOR_* variable, that over the file, that over the default. In the file names are as in the
flags: `node-id = 1`; those of TLS stand under `[tls]`, as `cert = 'FILE'`. SIGTERM or SIGINT drains and stops; a second one
stops at once. Certificates, tokens and the cluster key that change are taken up within two seconds, or at once on SIGHUP (which ends a
node that has none).

Exit status: 0 stopped as asked; 2 the configuration makes no sense; 3 it couldn't start, or had to stop by itself
(a disk that failed, damaged data); 4 the data directory belongs to another node, cluster or mode.";

#[derive(Args, Clone, Debug, Default)]
#[command(after_help = EXAMPLE)]
pub(crate) struct ServeArgs {
    /// strong, eventual or strong,eventual; the first is what a request gets that names none
    #[arg(long, env = "QUORUMOR_MODE", value_name = "MODES")]
    pub(crate) mode: Option<String>,
    /// The cluster's name
    #[arg(long, env = "QUORUMOR_CLUSTER", value_name = "NAME")]
    pub(crate) cluster: Option<String>,
    /// This node's number, from 1
    #[arg(long, env = "QUORUMOR_NODE_ID", value_name = "N")]
    pub(crate) node_id: Option<u64>,
    /// Where the node keeps its data
    #[arg(long, env = "QUORUMOR_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<String>,
    /// The address for clients [default: 127.0.0.1:7400]
    #[arg(long, env = "QUORUMOR_LISTEN", value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,
    /// The address for peers, TCP and UDP [default: 127.0.0.1:7401]
    #[arg(long, env = "QUORUMOR_PEER_LISTEN", value_name = "ADDRESS")]
    pub(crate) peer_listen: Option<String>,
    /// What clients are told as this node's address [default: --listen]
    #[arg(long, env = "QUORUMOR_ADVERTISE_CLIENT", value_name = "ADDRESS")]
    pub(crate) advertise_client: Option<String>,
    /// What peers are told as this node's address [default: --peer-listen]
    #[arg(long, env = "QUORUMOR_ADVERTISE_PEER", value_name = "ADDRESS")]
    pub(crate) advertise_peer: Option<String>,
    /// Answer DNS at this address, UDP and TCP [default: no DNS]
    #[arg(long, env = "QUORUMOR_DNS_LISTEN", value_name = "ADDRESS")]
    pub(crate) dns_listen: Option<String>,
    /// The domain that DNS answers for [default: quorumor]
    #[arg(long, env = "QUORUMOR_DNS_DOMAIN", value_name = "NAME")]
    pub(crate) dns_domain: Option<String>,
    /// The file with the bearer token by which DNS reads, where callers are asked who they are
    #[arg(long, env = "QUORUMOR_DNS_TOKEN_FILE", value_name = "FILE")]
    pub(crate) dns_token_file: Option<String>,
    /// Origins whose pages may call this node from a browser, separated by commas; * for any [default: none]
    #[arg(long, env = "QUORUMOR_CORS_ORIGINS", value_name = "ORIGINS")]
    pub(crate) cors_origins: Option<String>,
    /// Where the checks of instances may go, separated by commas: any, or networks such as 10.0.0.0/8, and instance for an instance's
    /// own registered address [default: any]
    #[arg(
        long,
        env = "QUORUMOR_CHECK_TARGETS",
        value_name = "TARGETS",
        value_delimiter = ','
    )]
    pub(crate) check_targets: Vec<String>,
    /// enforcing: each class of calls has its share, fairly divided, and less of it under load; disabled: all share one number of
    /// places [default: enforcing]
    #[arg(long, env = "QUORUMOR_LIMITS", value_name = "WORD")]
    pub(crate) limits: Option<String>,
    /// Strong mode: every founding voter, id=address,id=address; the same list on each
    #[arg(long, env = "QUORUMOR_INITIAL_MEMBERS", value_name = "MEMBERS")]
    pub(crate) initial_members: Option<String>,
    /// Strong mode: join a running cluster, as a learner first, by these client addresses of its members
    #[arg(long, env = "QUORUMOR_JOIN", value_name = "ADDRESSES")]
    pub(crate) join: Option<String>,
    /// The bearer token for joining, of the admin role, if the cluster asks for one
    #[arg(
        long,
        env = "QUORUMOR_JOIN_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true
    )]
    pub(crate) join_token: Option<String>,
    /// A node that joins stays a learner: it gets the data and never votes
    #[arg(long)]
    pub(crate) stay_learner: bool,
    /// Eventual mode: peer addresses to join by; none for the first node
    #[arg(long, env = "QUORUMOR_SEEDS", value_name = "ADDRESSES")]
    pub(crate) seeds: Option<String>,
    /// Reach a peer at this address instead of the one that it tells: id=address, repeatable or as a list
    #[arg(long, env = "QUORUMOR_PEER_OVERRIDE", value_name = "ID=ADDRESS")]
    pub(crate) peer_override: Vec<String>,
    /// Eventual mode: what a write survives that this node acknowledges: fsync, interval or memory [default: fsync]
    #[arg(long, env = "QUORUMOR_DURABILITY", value_name = "KIND")]
    pub(crate) durability: Option<String>,
    /// With --durability interval: how often the log is fsynced [default: 100ms]
    #[arg(long, env = "QUORUMOR_SYNC_INTERVAL", value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) sync_interval: Option<Duration>,
    /// Eventual mode: keys with this prefix keep all their concurrent values, until a put that has seen them; repeatable, the same on
    /// all nodes
    #[arg(
        long,
        env = "QUORUMOR_SIBLINGS",
        value_name = "PREFIX",
        value_delimiter = ','
    )]
    pub(crate) siblings: Vec<String>,
    /// Eventual mode: deletions are forgotten without waiting for a member that is down for longer [default: 24h]
    #[arg(long, env = "QUORUMOR_GC_GRACE", value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) gc_grace: Option<Duration>,
    /// Eventual mode: a member that is down or left for longer is forgotten, and the keys of its leases go
    #[arg(long, env = "QUORUMOR_REAP_AFTER", value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) reap_after: Option<Duration>,
    /// Strong mode: after so many entries a snapshot is taken and the log cut, but for a quarter of them [default: 20000]
    #[arg(long, env = "QUORUMOR_SNAPSHOT_ENTRIES", value_name = "N")]
    pub(crate) snapshot_entries: Option<u64>,
    /// A TOML file with settings
    #[arg(long, env = "QUORUMOR_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Seeds the node's random choices [default: at random]
    #[arg(long, env = "QUORUMOR_SEED", value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Moves this node's wall clock, for tests
    #[arg(long, value_name = "MS", hide = true, allow_hyphen_values = true)]
    pub(crate) wall_skew_ms: Option<i64>,
    /// Says in this file what this node's disk and clocks do wrong, for tests
    #[arg(long, value_name = "FILE", hide = true)]
    pub(crate) fault_file: Option<String>,
    /// The newest peer protocol to speak, for tests
    #[arg(long, value_name = "N", hide = true)]
    pub(crate) peer_protocol_max: Option<u32>,
    /// A defect to have on purpose, for tests of what finds it
    #[cfg(feature = "plant")]
    #[arg(long, value_name = "NAME", hide = true)]
    pub(crate) plant: Option<String>,
    #[command(flatten)]
    pub(crate) trust: ServeTrust,
    /// How to report that the node is ready
    #[arg(short, long, value_enum, default_value_t = Report::Text)]
    pub(crate) output: Report,
    /// Ends the node when its stdin closes, for supervisors
    #[arg(long, hide = true)]
    pub(crate) exit_on_stdin_close: bool,
    /// Which log lines to write to stderr, as in RUST_LOG
    #[arg(
        long,
        env = "QUORUMOR_LOG",
        value_name = "FILTER",
        default_value = "info"
    )]
    pub(crate) log: String,
    /// How log lines look
    #[arg(long, env = "QUORUMOR_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

impl ServeArgs {
    /// Flags and environment over the file.
    fn settings(&self) -> Result<Settings, Failure> {
        let typed = Settings {
            mode: self.mode.clone(),
            cluster: self.cluster.clone(),
            node_id: self.node_id,
            data_dir: self.data_dir.clone(),
            listen: self.listen.clone(),
            peer_listen: self.peer_listen.clone(),
            advertise_client: self.advertise_client.clone(),
            advertise_peer: self.advertise_peer.clone(),
            limits: self.limits.clone(),
            dns_listen: self.dns_listen.clone(),
            dns_domain: self.dns_domain.clone(),
            dns_token_file: self.dns_token_file.clone(),
            cors_origins: self.cors_origins.clone(),
            check_targets: (!self.check_targets.is_empty()).then(|| self.check_targets.join(",")),
            initial_members: self.initial_members.clone(),
            join: self.join.clone(),
            join_token: self.join_token.clone(),
            stay_learner: self.stay_learner.then_some(true),
            seeds: self.seeds.clone(),
            peer_override: (!self.peer_override.is_empty()).then(|| self.peer_override.join(",")),
            seed: self.seed,
            wall_skew_ms: self.wall_skew_ms,
            fault_file: self.fault_file.clone(),
            durability: self.durability.clone(),
            sync_interval_ms: self.sync_interval.map(millis),
            siblings: (!self.siblings.is_empty()).then(|| self.siblings.clone()),
            gc_grace_ms: self.gc_grace.map(millis),
            reap_ms: self.reap_after.map(millis),
            snapshot_entries: self.snapshot_entries,
            peer_protocol_max: self.peer_protocol_max,
            #[cfg(feature = "plant")]
            plant: self.plant.clone(),
            ..Settings::default()
        };
        let typed = self.trust.fill(typed);
        let Some(path) = &self.config else {
            return Ok(typed);
        };
        let file = Settings::from_file(path).map_err(|error| Failure::usage(error.to_string()))?;
        Ok(typed.or(file))
    }
}

pub(crate) async fn run(args: ServeArgs) -> Result<Exit, Failure> {
    logging::init(&args.log, args.log_format)?;
    let config =
        Config::try_from(args.settings()?).map_err(|error| Failure::usage(error.to_string()))?;
    let mut ends = Ends::listen()?;
    let supervisor_gone = supervisor_gone(args.exit_on_stdin_close);
    let mut server = Server::start(config).await.map_err(not_started)?;
    report(&args, &server)?;
    let mut supervisor_gone = std::pin::pin!(supervisor_gone);
    loop {
        tokio::select! {
            fatal = server.failed() => {
                error!(error = %fatal, "the node can't go on");
                let message = format!("the node can't go on: {fatal}");
                return Err(Failure::new(Exit::Unavailable, "FATAL", message));
            }
            () = &mut supervisor_gone => {
                info!("stdin was closed: stopping at once");
                stop_at_once();
            }
            signal = ends.next() => {
                if signal == "SIGHUP" && server.has_trust_files() {
                    info!(signal, "reading certificates and tokens again");
                    server.reload().await;
                    continue;
                }
                info!(signal, "draining");
                break;
            }
        }
    }
    tokio::select! {
        _ = server.shutdown() => info!("stopped"),
        signal = ends.next() => {
            warn!(signal, "stopping without draining");
            stop_at_once();
        }
    }
    Ok(Exit::Done)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Ends the process as a crash would, but on request: what was acknowledged is on the disk.
fn stop_at_once() -> ! {
    std::process::exit(Exit::Done.code().into())
}

/// A directory that is somebody else's will be refused again; anything else may be mended outside.
fn not_started(error: StartError) -> Failure {
    let refused = matches!(
        error,
        StartError::DataDir(DataDirError::Contradiction { .. } | DataDirError::Format { .. })
    );
    if refused {
        return Failure::new(Exit::Refused, "DATA_DIR", error.to_string());
    }
    let failure = Failure::unavailable("the node can't start", &error);
    if matches!(error, StartError::Bind { .. }) {
        return failure.advising("end what listens there, or name another address");
    }
    failure
}

fn report(args: &ServeArgs, server: &Server) -> Result<(), Failure> {
    let modes: Vec<_> = server.modes().iter().map(|mode| mode.as_str()).collect();
    let (endpoint, peer) = (server.client_address(), server.peer_address());
    let dns = server.dns_address().map(|dns| dns.to_string());
    info!(node = %server.node(), %endpoint, %peer, ?modes, dns = dns.as_deref().unwrap_or("off"), "ready");
    match args.output {
        Report::Text => Ok(()),
        Report::Json => output::json(&json!({
            "event": "ready",
            "node": server.node().as_u64(),
            "pid": std::process::id(),
            "endpoint": endpoint.to_string(),
            "peer": peer.to_string(),
            "modes": modes,
            "dns": dns,
        })),
    }
}

/// Resolves when stdin ends, if that is wanted. The read has a thread of its own, since it can't be taken back.
async fn supervisor_gone(wanted: bool) {
    if !wanted {
        return std::future::pending().await;
    }
    let (gone, told) = oneshot::channel();
    std::thread::spawn(move || {
        let _bytes = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _nobody_waits = gone.send(());
    });
    let _closed = told.await;
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn settings(line: &str) -> Settings {
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        let Command::Serve(args) = cli.command else {
            panic!("not serve: {line}");
        };
        args.settings().unwrap()
    }

    #[test]
    fn a_flag_stands_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("node.toml");
        std::fs::write(&file, "node-id = 1\ncluster = \"shop\"\n").unwrap();
        let line = format!("quorumor serve --node-id 2 --config {}", file.display());
        let settings = settings(&line);
        assert_eq!(settings.node_id, Some(2));
        assert_eq!(settings.cluster.as_deref(), Some("shop"));
    }

    #[test]
    fn overrides_come_one_by_one_or_as_a_list() {
        let line = "quorumor serve --peer-override 1=a:1 --peer-override 2=b:2,3=c:3";
        let settings = settings(line);
        assert_eq!(settings.peer_override.as_deref(), Some("1=a:1,2=b:2,3=c:3"));
    }

    /// `serve` and `sim` take a planted defect only in a build that was made for it.
    #[test]
    fn a_build_that_is_shipped_knows_no_planted_defect() {
        for command in ["serve", "sim"] {
            let line = ["quorumor", command, "--plant", "ack-before-fsync"];
            let is_known = Cli::try_parse_from(line).is_ok();
            assert_eq!(is_known, cfg!(feature = "plant"), "{command}");
        }
    }

    #[test]
    fn a_file_that_is_none_is_a_usage_error() {
        let args = ServeArgs {
            config: Some("/nowhere/node.toml".into()),
            ..ServeArgs::default()
        };
        assert_eq!(args.settings().unwrap_err().exit, Exit::Usage);
    }
}
