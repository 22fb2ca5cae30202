//! The command line as typed. Each command's own arguments stand in its file under `commands/`.

use std::time::Duration;

use bytes::Bytes;
use clap::{Args, Parser, Subcommand, ValueEnum};
use quorumor_client::{CallOptions, Client, ClientBuilder, Level, Mode, RetryPolicy};

use crate::commands::bench::BenchArgs;
use crate::commands::cas::CasArgs;
use crate::commands::certs::CertsArgs;
use crate::commands::compare::CompareArgs;
use crate::commands::delete::DeleteArgs;
use crate::commands::dev::DevArgs;
use crate::commands::get::GetArgs;
use crate::commands::list::ListArgs;
use crate::commands::put::PutArgs;
use crate::commands::serve::ServeArgs;
use crate::commands::sim::SimArgs;
use crate::commands::status::StatusArgs;
use crate::commands::token::TokenArgs;
use crate::commands::watch::WatchArgs;
use crate::exit::Failure;
use crate::trust::ClientTrust;

/// A person who named a wrong address should be told soon, not at the deadline.
const UNREACHABLE_ROUNDS_MAX: usize = 3;

const EXIT_STATUS: &str = "\
Exit status:
  0  done (an absent key is an answer too)
  1  a promise was broken (compare)
  2  usage: the command line or the configuration makes no sense
  3  unavailable: nobody could serve it now
  4  refused: the same command would be refused again
  5  conflict: a compare-and-set lost its compare
  6  void: a run that nobody can judge (compare, bench)";

/// Shared state of a cluster, strong or eventual.
#[derive(Debug, Parser)]
#[command(name = "quorumor", version, after_help = EXIT_STATUS, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run one node of a cluster
    Serve(Box<ServeArgs>),
    /// Run a whole cluster on this machine, to try things out
    Dev(DevArgs),
    /// Set a key
    Put(PutArgs),
    /// Read a key
    Get(GetArgs),
    /// Remove a key
    Delete(DeleteArgs),
    /// List keys
    List(ListArgs),
    /// Show a prefix and then its changes, as they happen
    Watch(WatchArgs),
    /// Set a key if it is as expected (strong mode)
    Cas(CasArgs),
    /// Show what every endpoint says about itself and its cluster
    Status(StatusArgs),
    /// Run the same load and the same faults against both modes, and show what each promised, kept and lost
    Compare(CompareArgs),
    /// Measure how fast a cluster is, beside etcd if you like
    Bench(Box<BenchArgs>),
    /// Run one mode in the simulator, seed by seed, and judge it
    Sim(SimArgs),
    /// Make certificates to try TLS with
    Certs(CertsArgs),
    /// Make bearer tokens
    Token(TokenArgs),
}

impl Command {
    /// In which form the command answers, and so in which form it fails.
    pub(crate) const fn output(&self) -> Output {
        match self {
            Self::Serve(args) => args.output.as_output(),
            Self::Dev(args) => args.output.as_output(),
            Self::Put(args) => args.client.output,
            Self::Get(args) => args.client.output,
            Self::Delete(args) => args.client.output,
            Self::List(args) => args.client.output,
            Self::Watch(args) => args.client.output,
            Self::Cas(args) => args.client.output,
            Self::Status(args) => args.client.output,
            Self::Compare(args) => args.output(),
            Self::Bench(args) => args.output(),
            Self::Sim(args) => args.output.as_output(),
            Self::Certs(_) | Self::Token(_) => Output::Table,
        }
    }
}

/// How answers are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    #[default]
    Table,
    /// For people, with versions and the receipt
    Wide,
    /// For programs
    Json,
}

/// How `serve` and `dev` report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Report {
    /// For people
    #[default]
    Text,
    /// One line of JSON on stdout once ready
    Json,
}

impl Report {
    pub(crate) const fn as_output(self) -> Output {
        match self {
            Self::Text => Output::Table,
            Self::Json => Output::Json,
        }
    }
}

/// What every client command takes.
#[derive(Args, Clone, Debug)]
pub(crate) struct ClientArgs {
    /// The consistency mode that must serve: strong or eventual [default: the node's first]
    #[arg(long, env = "QUORUMOR_MODE", value_name = "MODE")]
    pub(crate) mode: Option<Mode>,
    /// How fresh reads must be: linearizable or local [default: the best that the mode gives]
    #[arg(long, env = "QUORUMOR_LEVEL", value_name = "LEVEL")]
    pub(crate) level: Option<Level>,
    /// Client addresses of nodes, host:port, separated by commas
    #[arg(
        long,
        env = "QUORUMOR_ENDPOINTS",
        value_name = "ADDRESSES",
        value_delimiter = ',',
        default_value = "127.0.0.1:7400"
    )]
    pub(crate) endpoints: Vec<String>,
    /// How long the command may take, retries included
    #[arg(long, env = "QUORUMOR_TIMEOUT", value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Duration,
    /// A session token of an earlier answer, in hexadecimal: this command sees all that the session saw
    #[arg(long, env = "QUORUMOR_TOKEN", value_name = "HEX", value_parser = parse_hex)]
    pub(crate) token: Option<Bytes>,
    /// Take a weaker answer if the level can't be given; the receipt then says so
    #[arg(long)]
    pub(crate) allow_degraded: bool,
    /// A name for this request in the nodes' logs
    #[arg(long, value_name = "NAME")]
    pub(crate) request_id: Option<String>,
    /// How to show the answer
    #[arg(short, long, env = "QUORUMOR_OUTPUT", value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) trust: ClientTrust,
}

impl ClientArgs {
    pub(crate) fn connect(&self) -> Result<Client, Failure> {
        let options = CallOptions {
            mode: self.mode,
            level: self.level,
            token: self.token.clone(),
            allow_degraded: self.allow_degraded,
            timeout: self.timeout,
            request_id: self.request_id.clone(),
            ..CallOptions::default()
        };
        let retries = RetryPolicy {
            unreachable_max: UNREACHABLE_ROUNDS_MAX * self.endpoints.len(),
            ..RetryPolicy::default()
        };
        let builder = Client::builder()
            .endpoints(self.endpoints.iter().map(|address| address.trim()))
            .options(options)
            .retries(retries);
        self.trust
            .fill(builder)
            .and_then(ClientBuilder::connect)
            .map_err(Failure::of_read)
    }
}

pub(crate) fn parse_hex(text: &str) -> Result<Bytes, String> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return Err("hexadecimal has two digits a byte".to_owned());
    }
    digits
        .chunks(2)
        .map(|pair| {
            std::str::from_utf8(pair)
                .ok()
                .filter(|pair| !pair.starts_with('+'))
                .and_then(|pair| u8::from_str_radix(pair, 16).ok())
                .ok_or_else(|| "only 0-9 and a-f are hexadecimal digits".to_owned())
        })
        .collect::<Result<Vec<u8>, _>>()
        .map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string);
            assert!(
                help.is_some_and(|help| help.contains("quorumor ")),
                "{} has no example",
                command.get_name()
            );
        }
    }

    #[test]
    fn endpoints_come_as_a_list() {
        let cli = parse("quorumor get k --endpoints a:1,b:2").unwrap();
        let Command::Get(args) = cli.command else {
            panic!("not a get");
        };
        assert_eq!(args.client.endpoints, ["a:1", "b:2"]);
        assert_eq!(args.client.timeout, Duration::from_secs(5));
    }

    #[test]
    fn a_bad_word_names_what_is_allowed() {
        for (line, hint) in [
            ("quorumor get k --mode weak", "`strong` or `eventual`"),
            ("quorumor get k --level best", "`linearizable` or `local`"),
            ("quorumor get k --token xyz", "two digits a byte"),
            ("quorumor get k --token zz", "hexadecimal digits"),
            ("quorumor get k -o yaml", "table, wide, json"),
            ("quorumor cas k v", "--expect-absent"),
            (
                "quorumor cas k v --expect-absent --expect-value w",
                "cannot be used with",
            ),
        ] {
            let error = parse(line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.to_string().contains(hint), "{line}: {error}");
        }
    }

    #[test]
    fn hexadecimal_is_read() {
        assert_eq!(parse_hex("00ffA1").unwrap(), vec![0, 255, 161]);
        assert!(parse_hex("").unwrap().is_empty());
        assert!(parse_hex("+1").is_err());
        assert!(parse_hex("é1").is_err());
    }
}
