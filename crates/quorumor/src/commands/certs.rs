//! `quorumor certs dev`: an authority and its certificates, to try TLS with.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use quorumor_server::peer_name;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};

use crate::exit::{Exit, Failure};
use crate::output;

const EXAMPLE: &str = "\
Examples:
  quorumor certs dev --dir ./certs --cluster shop
  quorumor certs dev --dir ./certs --cluster shop --nodes 5 --host db.shop.example --host 10.0.0.1 --client ops

It writes ca.pem, node-N.pem with node-N-key.pem for each node, CLIENT.pem with CLIENT-key.pem for each client, and cluster.key
for eventual mode's datagrams. Run again, it keeps authority and cluster.key, and makes new certificates; nodes take them up without a restart. For trying out: the
authority's key lies beside the others. In production, give each node a certificate of your own authority with the names
node-ID.CLUSTER.quorumor.internal and its host names, for server and client authentication.";

const AUTHORITY: &str = "quorumor dev authority";
/// Clocks of machines differ.
const BACKDATED: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const AUTHORITY_DAYS: u32 = 3_650;

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct CertsArgs {
    #[command(subcommand)]
    pub(crate) what: Certs,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Certs {
    /// Make an authority and certificates for nodes and clients, to try TLS with
    #[command(after_help = EXAMPLE)]
    Dev(DevCerts),
}

#[derive(Args, Clone, Debug)]
pub(crate) struct DevCerts {
    /// Where to write them
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// The cluster's name, as in `quorumor serve`
    #[arg(long, env = "QUORUMOR_CLUSTER", value_name = "NAME")]
    pub(crate) cluster: String,
    /// How many nodes, from id 1
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) nodes: u16,
    /// A name or address by which clients reach nodes, besides localhost, 127.0.0.1 and ::1; repeatable
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Vec<String>,
    /// The name of a client; repeatable
    #[arg(long, value_name = "NAME", default_value = "client", value_parser = client_name)]
    pub(crate) client: Vec<String>,
    /// For how long the certificates are good
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub(crate) days: u32,
}

#[expect(clippy::unused_async, reason = "as every command is run")]
pub(crate) async fn run(args: CertsArgs) -> Result<Exit, Failure> {
    let Certs::Dev(args) = args.what;
    std::fs::create_dir_all(&args.dir)
        .map_err(|error| Failure::unavailable("can't make --dir", &error))?;
    let authority = Authority::open(&args.dir)?;
    for node in 1..=u64::from(args.nodes) {
        let mut names = vec![
            peer_name(&args.cluster, node),
            "localhost".to_owned(),
            "127.0.0.1".to_owned(),
            "::1".to_owned(),
        ];
        names.extend(args.host.iter().cloned());
        let uses = [
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        authority.issue(&format!("node-{node}"), names, &uses, args.days)?;
    }
    cluster_key(&args.dir)?;
    for client in &args.client {
        let uses = [ExtendedKeyUsagePurpose::ClientAuth];
        authority.issue(client, vec![client.clone()], &uses, args.days)?;
    }
    output::line(&next_steps(&args))?;
    Ok(Exit::Done)
}

/// What nodes share beside certificates, kept from one run to the next.
fn cluster_key(dir: &Path) -> Result<(), Failure> {
    let path = dir.join("cluster.key");
    if path.exists() {
        return Ok(());
    }
    let key: [u8; 32] = rand::random();
    let digits: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    write(&path, &format!("{digits}\n"), Secret::Yes)
}

fn next_steps(args: &DevCerts) -> String {
    let dir = args.dir.display();
    let client = args.client.first().map_or("client", String::as_str);
    format!(
        "certificates of cluster {cluster} are in {dir}\n\n\
         quorumor serve --cluster {cluster} --node-id 1 ... \\\n  \
         --tls-cert {dir}/node-1.pem --tls-key {dir}/node-1-key.pem --tls-ca {dir}/ca.pem --tls-client-ca {dir}/ca.pem\n\
         quorumor status --ca {dir}/ca.pem --cert {dir}/{client}.pem --key {dir}/{client}-key.pem",
        cluster = args.cluster,
    )
}

fn client_name(text: &str) -> Result<String, String> {
    let fits = (1..=63).contains(&text.len())
        && !text.starts_with("node-")
        && !["ca", "-"].iter().any(|taken| text.starts_with(taken))
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if fits {
        return Ok(text.to_owned());
    }
    Err(
        "a client's name is 1 to 63 of a-z, 0-9 and -, and begins neither with node- nor with ca"
            .to_owned(),
    )
}

/// The authority, kept from one run to the next.
struct Authority {
    params: CertificateParams,
    key: KeyPair,
    dir: PathBuf,
}

impl Authority {
    fn open(dir: &Path) -> Result<Self, Failure> {
        let (cert_path, key_path) = (dir.join("ca.pem"), dir.join("ca-key.pem"));
        let params = authority_params();
        let key = match std::fs::read_to_string(&key_path) {
            Ok(text) if cert_path.exists() => KeyPair::from_pem(&text).map_err(|error| {
                let message = format!("{} is no key: {error}", key_path.display());
                Failure::new(Exit::Refused, "BAD_KEY", message)
            })?,
            Ok(_) | Err(_) => {
                let key = KeyPair::generate().map_err(failed)?;
                let certificate = params.self_signed(&key).map_err(failed)?;
                write(&key_path, &key.serialize_pem(), Secret::Yes)?;
                write(&cert_path, &certificate.pem(), Secret::No)?;
                key
            }
        };
        Ok(Self {
            params,
            key,
            dir: dir.to_owned(),
        })
    }

    fn issue(
        &self,
        name: &str,
        names: Vec<String>,
        uses: &[ExtendedKeyUsagePurpose],
        days: u32,
    ) -> Result<(), Failure> {
        let mut params = CertificateParams::new(names)
            .map_err(|error| Failure::usage(format!("a --host is no name: {error}")))?;
        params.distinguished_name = called(name);
        params.extended_key_usages = uses.to_vec();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        limit(&mut params, days);
        let key = KeyPair::generate().map_err(failed)?;
        let issuer = Issuer::from_params(&self.params, &self.key);
        let certificate = params.signed_by(&key, &issuer).map_err(failed)?;
        let key_path = self.dir.join(format!("{name}-key.pem"));
        write(&key_path, &key.serialize_pem(), Secret::Yes)?;
        write(
            &self.dir.join(format!("{name}.pem")),
            &certificate.pem(),
            Secret::No,
        )
    }
}

/// The same each time, but for the dates, which certificates don't repeat.
fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = called(AUTHORITY);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    limit(&mut params, AUTHORITY_DAYS);
    params
}

fn called(name: &str) -> DistinguishedName {
    let mut called = DistinguishedName::new();
    called.push(DnType::CommonName, name);
    called
}

fn limit(params: &mut CertificateParams, days: u32) {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(BACKDATED);
    params.not_after = epoch + now + DAY * days;
}

fn failed(error: rcgen::Error) -> Failure {
    Failure::unavailable("can't make a certificate", &error)
}

/// Whether only its owner may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Secret {
    Yes,
    No,
}

/// Writes a file aside and renames it, so that nobody reads half of it.
pub(crate) fn write(path: &Path, text: &str, secret: Secret) -> Result<(), Failure> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".new");
    let aside = PathBuf::from(aside);
    let mode = match secret {
        Secret::Yes => 0o600,
        Secret::No => 0o644,
    };
    // A half written one of an earlier run would keep its own mode.
    let _absent = std::fs::remove_file(&aside);
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&aside)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| std::fs::rename(&aside, path));
    written
        .map_err(|error| Failure::unavailable(&format!("can't write {}", path.display()), &error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn args(dir: &Path) -> CertsArgs {
        CertsArgs {
            what: Certs::Dev(DevCerts {
                dir: dir.to_owned(),
                cluster: "shop".into(),
                nodes: 2,
                host: vec!["db.example".into()],
                client: vec!["ops".into()],
                days: 1,
            }),
        }
    }

    #[tokio::test]
    async fn a_second_run_keeps_the_authority_and_renews_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        run(args(dir.path())).await.unwrap();
        let (ca, node) = (read("ca.pem"), read("node-2.pem"));
        run(args(dir.path())).await.unwrap();
        assert_eq!(read("ca.pem"), ca);
        assert_ne!(read("node-2.pem"), node);
        for name in ["ca-key.pem", "cluster.key", "node-1-key.pem", "ops-key.pem"] {
            let mode = std::fs::metadata(dir.path().join(name)).unwrap();
            assert_eq!(mode.permissions().mode() & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn a_clients_name_is_no_other_files() {
        for bad in ["", "node-1", "ca", "ca-key", "../x", "A"] {
            assert!(client_name(bad).is_err(), "{bad:?}");
        }
        assert_eq!(client_name("ops-1").unwrap(), "ops-1");
    }
}
