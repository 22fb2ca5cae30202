//! The command line as typed. Each command's own arguments stand in its file under `commands/`.

use std::time::Duration;

use bytes::Bytes;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use quorumor_client::{
    Bound, CallOptions, Client, ClientBuilder, LeaseId, Level, Mode, RetryPolicy,
};

use crate::commands::bench::BenchArgs;
use crate::commands::cas::CasArgs;
use crate::commands::certs::CertsArgs;
#[cfg(target_os = "linux")]
use crate::commands::child_of::ChildOfArgs;
use crate::commands::compact::CompactArgs;
use crate::commands::compare::CompareArgs;
use crate::commands::conflicts::ConflictsArgs;
use crate::commands::delete::DeleteArgs;
use crate::commands::dev::DevArgs;
use crate::commands::digest::DigestArgs;
use crate::commands::elect::ElectArgs;
use crate::commands::get::GetArgs;
use crate::commands::lab::LabArgs;
use crate::commands::lease::LeaseArgs;
use crate::commands::list::ListArgs;
use crate::commands::lock::LockArgs;
use crate::commands::member::MemberArgs;
use crate::commands::migrate::MigrateArgs;
use crate::commands::nodes::NodesArgs;
use crate::commands::put::PutArgs;
use crate::commands::serve::ServeArgs;
use crate::commands::service::ServiceArgs;
use crate::commands::sim::SimArgs;
use crate::commands::snapshot::SnapshotArgs;
use crate::commands::status::StatusArgs;
use crate::commands::token::TokenArgs;
use crate::commands::torture::TortureArgs;
use crate::commands::txn::TxnArgs;
use crate::commands::watch::WatchArgs;
use crate::exit::Failure;
use crate::trust::ClientTrust;

/// A person who named a wrong address should be told soon, not at the deadline.
const UNREACHABLE_ROUNDS_MAX: usize = 3;

/// A session is of use for one command only; the cluster forgets it soon after.
const SESSION_TTL_MIN: Duration = Duration::from_secs(10);

const EXIT_STATUS: &str = "\
Exit status:
  0  done (an absent key is an answer too)
  1  a promise was broken (compare), or nodes hold different things (digest --all)
  2  usage: the command line or the configuration makes no sense
  3  unavailable: nobody could serve it now
  4  refused: the same command would be refused again
  5  conflict: a compare was lost, a transaction's condition didn't hold, others hold the lock
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
    /// Compare, then carry out one of two lists of operations, at one revision (strong mode)
    Txn(TxnArgs),
    /// Grant leases, keep them alive, end them
    Lease(LeaseArgs),
    /// Run a command while holding a lock (strong mode)
    Lock(LockArgs),
    /// Stand for election, or follow who leads (strong mode)
    Elect(ElectArgs),
    /// Register instances of services, find them, follow them
    Service(Box<ServiceArgs>),
    /// Show what every endpoint says about itself and its cluster
    Status(StatusArgs),
    /// Show how the nodes stand, as one of them believes
    Nodes(NodesArgs),
    /// List the writes that lost to concurrent ones (eventual mode)
    Conflicts(ConflictsArgs),
    /// Show what nodes hold as a hash, and whether all hold the same
    Digest(DigestArgs),
    /// List, add, promote and remove nodes, and hand leadership over (strong mode)
    Member(MemberArgs),
    /// Move all data of one mode to the other, while both are served
    Migrate(Box<MigrateArgs>),
    /// Back a cluster up (strong mode)
    Snapshot(SnapshotArgs),
    /// Forget old revisions (strong mode)
    Compact(CompactArgs),
    /// Run the same load and the same faults against both modes, and show what each promised, kept and lost
    Compare(CompareArgs),
    /// Measure how fast a cluster is, beside etcd if you like
    Bench(Box<BenchArgs>),
    /// Run one mode in the simulator, seed by seed, and judge it
    Sim(SimArgs),
    /// The lab: scenarios against both modes, random schedules, histories judged, the simulator calibrated
    Lab(LabArgs),
    /// Kill all nodes of a strong cluster under load, again and again, and look for what was acknowledged
    Torture(TortureArgs),
    /// Make certificates to try TLS with
    Certs(CertsArgs),
    /// Make bearer tokens
    Token(TokenArgs),
    /// Become a command that ends with the process that started it
    #[cfg(target_os = "linux")]
    #[command(hide = true)]
    ChildOf(ChildOfArgs),
}

/// [`Cli`] with the one command that stays: a node keeps in memory what it needed to read its command line, and the arguments
/// of all other commands would cost it some two megabytes.
#[derive(Debug, Parser)]
#[command(name = "quorumor", version, after_help = EXIT_STATUS)]
struct ServeCli {
    #[command(subcommand)]
    command: ServeCommand,
}

#[derive(Debug, Subcommand)]
enum ServeCommand {
    /// Run one node of a cluster
    Serve(Box<ServeArgs>),
}

/// What was typed; ends the process if that makes no sense.
pub(crate) fn parse() -> Command {
    if std::env::args_os()
        .nth(1)
        .is_some_and(|name| name == "serve")
    {
        let ServeCommand::Serve(args) = parsed::<ServeCli>().command;
        return Command::Serve(args);
    }
    parsed::<Cli>().command
}

fn parsed<C: CommandFactory + FromArgMatches>() -> C {
    let matches = flowing(C::command()).get_matches();
    C::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

impl Command {
    /// In which form the command answers, and so in which form it fails.
    pub(crate) fn output(&self) -> Output {
        match self {
            Self::Serve(args) => args.output.as_output(),
            Self::Dev(args) => args.output.as_output(),
            Self::Put(args) => args.client.output,
            Self::Get(args) => args.client.output,
            Self::Delete(args) => args.client.output,
            Self::List(args) => args.client.output,
            Self::Watch(args) => args.client.output,
            Self::Cas(args) => args.client.output,
            Self::Txn(args) => args.client.output,
            Self::Lease(args) => args.what.client().output,
            Self::Lock(args) => args.client.output,
            Self::Elect(args) => args.client.output,
            Self::Service(args) => args.what.client().output,
            Self::Status(args) => args.client.output,
            Self::Nodes(args) => args.client.output,
            Self::Conflicts(args) => args.client.output,
            Self::Digest(args) => args.client.output,
            Self::Member(args) => args.what.client().output,
            Self::Migrate(args) => args.client.output,
            Self::Snapshot(args) => args.what.output(),
            Self::Compact(args) => args.client.output,
            Self::Compare(args) => args.output(),
            Self::Bench(args) => args.output(),
            Self::Sim(args) => args.output.as_output(),
            Self::Lab(args) => args.output(),
            Self::Torture(args) => args.output.as_output(),
            Self::Certs(_) | Self::Token(_) => Output::Table,
            #[cfg(target_os = "linux")]
            Self::ChildOf(_) => Output::Table,
        }
    }
}

/// Lets the terminal's width alone break the prose of every footer: it is broken once, not twice.
pub(crate) fn flowing(command: clap::Command) -> clap::Command {
    let footer = command.get_after_help().map(ToString::to_string);
    let command = command.mut_subcommands(flowing);
    match footer {
        Some(footer) => command.after_help(unbroken(&footer)),
        None => command,
    }
}

/// Joins the lines of each paragraph. What is indented is an example or a list, and stays as it is.
fn unbroken(text: &str) -> String {
    let mut joined = String::new();
    let mut in_prose = false;
    for line in text.lines() {
        let prose = !line.is_empty() && !line.starts_with(' ');
        if !joined.is_empty() {
            joined.push(if prose && in_prose { ' ' } else { '\n' });
        }
        joined.push_str(line);
        in_prose = prose;
    }
    joined
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
    /// How fresh reads must be: linearizable, bounded, local, or sampled:N to see at least what N other members have (eventual
    /// mode) [default: the best that the mode gives]
    #[arg(long, visible_alias = "read", env = "QUORUMOR_LEVEL", value_name = "LEVEL", value_parser = parse_level)]
    pub(crate) level: Option<AskedLevel>,
    /// Reads may miss so many committed entries; implies `--level bounded` (strong mode)
    #[arg(long, value_name = "N")]
    pub(crate) max_lag: Option<u64>,
    /// Reads may rest on a leader's word of this age; implies `--level bounded` (strong mode)
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) max_age: Option<Duration>,
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
    /// Don't number writes in a session of the cluster: saves the session's opening, but a write of unknown outcome is not
    /// sent again
    #[arg(long, env = "QUORUMOR_NO_SESSION")]
    pub(crate) no_session: bool,
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
        let (level, bound) = self.freshness()?;
        let options = CallOptions {
            mode: self.mode,
            level,
            bound,
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
            .retries(retries)
            .exactly_once(!self.no_session)
            .session_ttl(SESSION_TTL_MIN + 2 * self.timeout);
        self.trust
            .fill(builder)
            .and_then(ClientBuilder::connect)
            .map_err(Failure::of_read)
    }
}

impl ClientArgs {
    /// The level, and its bound where it has one.
    fn freshness(&self) -> Result<(Option<Level>, Option<Bound>), Failure> {
        let asked = self.level.unwrap_or_default();
        let bounded = self.max_lag.is_some() || self.max_age.is_some();
        let bound = Bound {
            max_lag: self.max_lag,
            max_age: self.max_age,
            members: asked.members,
        };
        match (asked.level, bounded) {
            (level @ Some(Level::Sampled), false) => Ok((level, Some(bound))),
            (Some(Level::Bounded) | None, true) => Ok((Some(Level::Bounded), Some(bound))),
            (Some(Level::Bounded), false) => Err(Failure::usage(
                "--level bounded needs --max-age, --max-lag or both",
            )),
            (Some(Level::Local | Level::Sampled | Level::Linearizable), true) => Err(
                Failure::usage("--max-age and --max-lag are for --level bounded"),
            ),
            (level @ (Some(Level::Local | Level::Linearizable) | None), false) => Ok((level, None)),
        }
    }
}

/// A read level as typed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AskedLevel {
    /// `None` where nothing was typed.
    pub(crate) level: Option<Level>,
    /// `sampled:N`'s N.
    members: u32,
}

fn parse_level(text: &str) -> Result<AskedLevel, String> {
    let (word, members) = match text.split_once(':') {
        None => (text, None),
        Some((word, number)) => (word, Some(number)),
    };
    let level: Level = word
        .parse()
        .map_err(|error: quorumor_core::Error| error.to_string())?;
    let members = match (level, members) {
        (Level::Sampled, Some(number)) => number.parse().ok().filter(|number| *number > 0),
        (Level::Sampled, None) => None,
        (Level::Local | Level::Bounded | Level::Linearizable, None) => Some(0),
        (Level::Local | Level::Bounded | Level::Linearizable, Some(_)) => {
            return Err(format!("{level} takes no number"));
        }
    };
    let members = members.ok_or("say sampled:N, for the number of members to ask, from 1")?;
    Ok(AskedLevel {
        level: Some(level),
        members,
    })
}

/// What commands take that write keys.
#[derive(Args, Clone, Debug)]
pub(crate) struct WriteArgs {
    /// Wait until so many members have the write, the one that takes it included (eventual mode; strong mode always has a majority)
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) acks: u32,
}

impl WriteArgs {
    pub(crate) fn connect(&self, client: &ClientArgs) -> Result<Client, Failure> {
        let client = client.connect()?;
        let options = CallOptions {
            acks: self.acks,
            ..client.options().clone()
        };
        Ok(client.with(options))
    }
}

/// A lease's id, as `quorumor lease grant` shows it.
pub(crate) fn parse_lease(text: &str) -> Result<LeaseId, String> {
    let id = text.parse::<u64>().ok().filter(|id| *id > 0);
    id.map(LeaseId::new)
        .ok_or_else(|| format!("a lease's id is a number from 1 up, not {text:?}"))
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
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn serve_alone_reads_what_serve_among_all_commands_reads() {
        ServeCli::command().debug_assert();
        let line = "quorumor serve --mode eventual --node-id 3 --listen 127.0.0.1:1";
        let alone = ServeCli::try_parse_from(line.split(' ')).unwrap();
        let among = parse(line).unwrap();
        let (ServeCommand::Serve(alone), Command::Serve(among)) = (alone.command, among.command)
        else {
            panic!("serve was typed");
        };
        assert_eq!(format!("{alone:?}"), format!("{among:?}"));
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
    fn paragraphs_flow_and_examples_stay() {
        let text = "Examples:\n  quorumor a\n  quorumor b\n\nOne\ntwo.\n\nThree:\n  0  done";
        let flowing = "Examples:\n  quorumor a\n  quorumor b\n\nOne two.\n\nThree:\n  0  done";
        assert_eq!(unbroken(text), flowing);
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
            (
                "quorumor get k --level best",
                "`linearizable`, `bounded`, `sampled` or `local`",
            ),
            ("quorumor get k --read sampled", "sampled:N"),
            ("quorumor get k --read sampled:0", "sampled:N"),
            ("quorumor get k --level local:2", "takes no number"),
            ("quorumor put k v --lease xyz", "a number from 1 up"),
            ("quorumor txn --file f --then x", "cannot be used with"),
            ("quorumor elect name", "<VALUE>"),
            ("quorumor member add 0 127.0.0.1:1", "from 1 up"),
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
