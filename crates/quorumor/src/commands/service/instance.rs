//! An instance as typed, and what is found out about this machine where nothing was: its address and its name.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use clap::Args;
use quorumor_client::{Check, Instance, Registration};
use tokio::net::{UdpSocket, lookup_host};

use crate::args::ClientArgs;
use crate::exit::Failure;

use super::check::{AskedCheck, parse_check};

/// What a host's name may take of an id, which has at most 128 bytes.
const HOST_BYTES_MAX: usize = 100;

/// What `register` and `run` take.
#[derive(Args, Clone, Debug)]
pub(crate) struct InstanceArgs {
    /// The service: lower-case letters, digits and `-`
    pub(super) name: String,
    /// The port that it listens on; 0 for none
    #[arg(long, value_name = "PORT")]
    pub(super) port: u16,
    /// Where it listens: an IP address or a host name [default: the address that this machine has towards the first endpoint, so
    /// 127.0.0.1 for an endpoint there]
    #[arg(long, value_name = "HOST")]
    pub(super) address: Option<String>,
    /// Names the instance within the service [default: this machine's name and the port, as in `host-8080`: the same each time]
    #[arg(long, value_name = "ID")]
    pub(super) id: Option<String>,
    /// A word to filter by; may be named several times
    #[arg(long, value_name = "TAG")]
    pub(super) tag: Vec<String>,
    /// Metadata, to filter by too; may be named several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_pair)]
    pub(super) meta: Vec<(String, String)>,
    /// Where it runs
    #[arg(long, value_name = "ZONE")]
    pub(super) zone: Option<String>,
    /// How much of the load it should get beside others
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) weight: u16,
    /// How long it stays without a sign of life; raised to the cluster's minimum
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    pub(super) ttl: Duration,
    /// What the node checks: tcp, http:/PATH, grpc or ttl; may be named several times
    #[arg(long, value_name = "CHECK", value_parser = parse_check)]
    pub(super) check: Vec<AskedCheck>,
    /// From one check to the next [default: the node's 10s]
    #[arg(long, value_name = "TIME", requires = "check", value_parser = humantime::parse_duration)]
    pub(super) check_interval: Option<Duration>,
    /// How long a check may take [default: the node's 5s]
    #[arg(long, value_name = "TIME", requires = "check", value_parser = humantime::parse_duration)]
    pub(super) check_timeout: Option<Duration>,
    /// How many failures in a row make it critical [default: 1]
    #[arg(long, value_name = "N", requires = "check", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) check_failures: Option<u32>,
    /// How many successes in a row make it passing again [default: 1]
    #[arg(long, value_name = "N", requires = "check", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) check_successes: Option<u32>,
    /// Take it out once its checks have held it critical for so long, at least 1m [default: never]
    #[arg(long, value_name = "TIME", requires = "check", value_parser = humantime::parse_duration)]
    pub(super) deregister_critical_after: Option<Duration>,
}

impl InstanceArgs {
    /// What is to be registered.
    ///
    /// # Errors
    /// `Usage` if something was typed twice, `Unavailable` if this machine's address can't be found.
    pub(super) async fn registration(&self, client: &ClientArgs) -> Result<Registration, Failure> {
        let address = match &self.address {
            Some(address) => address.clone(),
            None => own_address(client).await?,
        };
        let id = match &self.id {
            Some(id) => id.clone(),
            None => format!("{}-{}", host_name(), self.port),
        };
        Ok(Registration::of(Instance {
            service: self.name.clone(),
            id,
            address,
            port: self.port,
            tags: self.tag.clone(),
            metadata: self.metadata()?,
            weight: self.weight,
            zone: self.zone.clone(),
            checks: self.checks(),
            node: None,
            deregister_critical_after: self.deregister_critical_after,
        })
        .ttl(self.ttl))
    }

    fn metadata(&self) -> Result<BTreeMap<String, String>, Failure> {
        let mut metadata = BTreeMap::new();
        for (key, value) in &self.meta {
            if metadata.insert(key.clone(), value.clone()).is_some() {
                return Err(Failure::usage(format!("--meta {key} is there twice")));
            }
        }
        Ok(metadata)
    }

    /// Each under its word, and from the second of a word on with a number.
    fn checks(&self) -> Vec<Check> {
        let mut ids = BTreeSet::new();
        let mut check = |asked: &AskedCheck| {
            let numbered = (2..).map(|number: u32| format!("{}-{number}", asked.word));
            let mut names = std::iter::once(asked.word.to_owned()).chain(numbered);
            let id = names.find(|id| ids.insert(id.clone())).unwrap_or_default();
            Check {
                interval: self.check_interval,
                timeout: self.check_timeout,
                failures: self.check_failures.unwrap_or(0),
                successes: self.check_successes.unwrap_or(0),
                ..Check::new(id, asked.kind.clone())
            }
        };
        self.check.iter().map(&mut check).collect()
    }
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        Some(_) | None => Err("metadata is KEY=VALUE, such as version=2".to_owned()),
    }
}

/// The address that this machine has towards the first endpoint.
async fn own_address(client: &ClientArgs) -> Result<String, Failure> {
    let endpoint = client.endpoints.first();
    let endpoint = endpoint.map_or("", |endpoint| endpoint.trim());
    let found = tokio::time::timeout(client.timeout, address_towards(endpoint)).await;
    let found = found.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    found.map_err(|error| {
        let what = format!("can't tell this machine's address towards {endpoint}");
        Failure::unavailable(&what, &error).advising("name the instance's address: --address HOST")
    })
}

/// A datagram socket that is connected has its own address chosen, and nothing is sent.
async fn address_towards(endpoint: &str) -> io::Result<String> {
    let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for there in lookup_host(endpoint).await? {
        let any: SocketAddr = match there {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any).await?;
        match socket.connect(there).await {
            Ok(()) => return Ok(socket.local_addr()?.ip().to_string()),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// This machine's name, as an id may hold it.
fn host_name() -> String {
    id_of(&rustix::system::uname().nodename().to_string_lossy())
}

fn id_of(name: &str) -> String {
    let fits = |c: char| {
        if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') {
            c
        } else {
            '-'
        }
    };
    let id: String = name.chars().map(fits).take(HOST_BYTES_MAX).collect();
    if id.is_empty() { "host".to_owned() } else { id }
}

#[cfg(test)]
mod tests {
    use quorumor_client::CheckKind;

    use super::*;

    fn typed(words: &str) -> InstanceArgs {
        use clap::{Command, FromArgMatches};
        let command = InstanceArgs::augment_args(Command::new("typed"));
        let words = format!("typed web --port 80 {words}");
        let matches = command.try_get_matches_from(words.split_whitespace());
        InstanceArgs::from_arg_matches(&matches.unwrap()).unwrap()
    }

    #[test]
    fn checks_of_one_kind_have_ids_of_their_own_and_all_options() {
        let checks =
            typed("--check tcp --check ttl --check tcp://db:1 --check-interval 2s").checks();
        let ids: Vec<_> = checks.iter().map(|check| check.id.as_str()).collect();
        assert_eq!(ids, ["tcp", "ttl", "tcp-2"]);
        assert_eq!(checks[0].kind, CheckKind::Tcp { address: None });
        let every = Some(Duration::from_secs(2));
        assert!(checks.iter().all(|check| check.interval == every));
    }

    #[test]
    fn metadata_is_pairs_and_none_twice() {
        assert_eq!(parse_pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(parse_pair("a="), Ok(("a".into(), String::new())));
        assert!(parse_pair("a").is_err() && parse_pair("=b").is_err());
        assert!(typed("--meta a=1 --meta b=1").metadata().is_ok());
        assert!(typed("--meta a=1 --meta a=1").metadata().is_err());
    }

    #[test]
    fn a_name_that_no_id_can_hold_is_made_to_fit() {
        assert_eq!(id_of("web1.example.com"), "web1.example.com");
        assert_eq!(id_of("my host!"), "my-host-");
        assert_eq!(id_of(""), "host");
        assert_eq!(id_of(&"x".repeat(300)).len(), HOST_BYTES_MAX);
    }

    #[tokio::test]
    async fn towards_a_loopback_endpoint_the_address_is_the_loopback_one() {
        assert_eq!(
            address_towards("127.0.0.1:7400").await.unwrap(),
            "127.0.0.1"
        );
        assert!(address_towards("nowhere").await.is_err());
    }
}
