//! Links of the kernel's own, on Linux, as root: each node lives in a network namespace of its own, all meet at a bridge, and
//! nftables drops what a fault takes, at the receiver.
//!
//! Not a proxy: packets of streams are lost too, and under a cut nothing is accepted. They can't be delayed or doubled: that takes
//! netem, which not every kernel has. The lab and the clients are outside, and reach each node directly.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::task::JoinSet;

use super::LinkCounts;
use super::trouble::{Trouble, Troubles};
use crate::history::NodeId;
use crate::scenario::Link;

/// What all names of all runs begin with; the process id follows, so that a later run can sweep what a killed one left.
const NAMES: &str = "qr";
/// Networks that one process may have at a time; names of interfaces are short.
const NETWORKS: u32 = 10;
/// 198.18.0.0/15, which nobody routes (RFC 2544), holds so many networks of 254 hosts.
const SUBNETS: u32 = 512;
/// The lab's own host number in each of them.
const LAB: u8 = 254;
/// Where every node listens, in its own namespace.
const CLIENT_PORT: u16 = 7_400;
const PEER_PORT: u16 = 7_401;

/// The namespaces of one cluster. Dropping it removes them.
pub struct Namespaces {
    /// The bridge's name; those of namespaces and interfaces begin with it.
    name: String,
    network: [u8; 3],
    nodes: Vec<NodeId>,
    troubles: Mutex<BTreeMap<Link, Troubles>>,
    /// One change of the rules at a time, so that the last word is in force.
    changing: tokio::sync::Mutex<()>,
}

/// Says why there can be no namespaces here, if so.
pub fn unavailable() -> Option<&'static str> {
    if !cfg!(target_os = "linux") {
        return Some("network namespaces are Linux's");
    }
    if !rustix::process::geteuid().is_root() {
        return Some("network namespaces need root");
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = |tool: &str| std::env::split_paths(&path).any(|dir| dir.join(tool).is_file());
    if !found("ip") {
        return Some("network namespaces need `ip` (iproute2) in the PATH");
    }
    (!found("nft")).then_some("network namespaces need `nft` (nftables) in the PATH")
}

impl Namespaces {
    /// Makes a namespace for each node, and the bridge between them.
    ///
    /// # Errors
    /// When the system refuses; what it said.
    pub async fn spawn(nodes: &[NodeId]) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        ensure!(
            nodes.len() < usize::from(LAB),
            "too many nodes for a network"
        );
        sweep().await;
        let (pid, turn) = (
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed) % NETWORKS,
        );
        let subnet = (pid.wrapping_mul(NETWORKS) + turn) % SUBNETS;
        let made = Self {
            name: format!("{NAMES}{pid}c{turn}"),
            network: [
                198,
                18 + u8::try_from(subnet / 256)?,
                u8::try_from(subnet % 256)?,
            ],
            nodes: nodes.to_vec(),
            troubles: Mutex::default(),
            changing: <_>::default(),
        };
        made.build().await?;
        Ok(made)
    }

    async fn build(&self) -> Result<()> {
        let bridge = &self.name;
        ip(&format!("link add {bridge} type bridge")).await?;
        ip(&format!("addr add {}/24 dev {bridge}", self.host(LAB))).await?;
        ip(&format!("link set {bridge} up")).await?;
        for (place, &node) in (1u8..).zip(&self.nodes) {
            let (space, veth) = (self.space(node), format!("{bridge}v{place}"));
            ip(&format!("netns add {space}")).await?;
            ip(&format!(
                "link add {veth} type veth peer name eth0 netns {space}"
            ))
            .await?;
            ip(&format!("link set {veth} master {bridge} up")).await?;
            ip(&format!(
                "-n {space} addr add {}/24 dev eth0",
                self.host(place)
            ))
            .await?;
            ip(&format!("-n {space} link set eth0 up")).await?;
            ip(&format!("-n {space} link set lo up")).await?;
            let mut script = "add table inet lab\n\
                add chain inet lab arrivals { type filter hook input priority 0; }\n"
                .to_owned();
            for from in self.others(node) {
                script += &format!(
                    "add counter inet lab passed{0}\nadd counter inet lab dropped{0}\n",
                    from.0
                );
            }
            nft(&space, &(script + &self.rules(node))).await?;
        }
        Ok(())
    }

    /// All nodes that it connects.
    pub fn nodes(&self) -> Vec<NodeId> {
        self.nodes.clone()
    }

    /// Where a node serves its clients.
    pub fn client_address(&self, node: NodeId) -> SocketAddr {
        SocketAddr::new(self.address(node), CLIENT_PORT)
    }

    /// Where a node listens for its peers.
    pub fn peer_address(&self, node: NodeId) -> SocketAddr {
        SocketAddr::new(self.address(node), PEER_PORT)
    }

    /// The program, and what comes before its arguments, that runs `program` in a node's namespace, as the same process.
    pub fn inside(&self, node: NodeId, program: &Path) -> (PathBuf, Vec<String>) {
        let space = self.space(node);
        let mut words: Vec<String> = ["netns", "exec", &space].map(str::to_owned).to_vec();
        words.push(program.display().to_string());
        (PathBuf::from("ip"), words)
    }

    /// A fault of the schedule does this to these links from now on, beside what other faults do to them.
    ///
    /// # Errors
    /// When the rules can't be changed.
    pub async fn begin(&self, fault: u32, links: &[Link], trouble: Trouble) -> Result<()> {
        let _turn = self.changing.lock().await;
        let mut receivers = BTreeSet::new();
        {
            let mut troubles = self.troubles.lock();
            for &link in links {
                troubles.entry(link).or_default().begin(fault, trouble);
                receivers.insert(link.1);
            }
        }
        self.apply(receivers).await
    }

    /// A fault does nothing to any link any more; the others go on.
    ///
    /// # Errors
    /// When the rules can't be changed.
    pub async fn end(&self, fault: u32) -> Result<()> {
        let _turn = self.changing.lock().await;
        let mut receivers = BTreeSet::new();
        for (link, troubles) in self.troubles.lock().iter_mut() {
            let before = troubles.all();
            troubles.end(fault);
            if troubles.all() != before {
                receivers.insert(link.1);
            }
        }
        self.apply(receivers).await
    }

    async fn apply(&self, receivers: BTreeSet<NodeId>) -> Result<()> {
        let mut changes = JoinSet::new();
        for node in receivers {
            let (space, rules) = (self.space(node), self.rules(node));
            changes.spawn(async move { nft(&space, &rules).await });
        }
        while let Some(changed) = changes.join_next().await {
            changed??;
        }
        Ok(())
    }

    /// What each of these links has carried and lost: packets of every kind.
    ///
    /// # Errors
    /// When the counters can't be read.
    pub async fn counts(&self, links: &[Link]) -> Result<BTreeMap<Link, LinkCounts>> {
        let mut counts = BTreeMap::new();
        let receivers: BTreeSet<NodeId> = links.iter().map(|link| link.1).collect();
        for to in receivers {
            let space = self.space(to);
            let words = ["netns", "exec", &space, "nft", "-j", "list", "counters"];
            let counters = counters(&tool("ip", &words, "").await?)?;
            for &link in links.iter().filter(|link| link.1 == to) {
                let of = |what: &str| counters.get(&format!("{what}{}", link.0.0)).copied();
                let (messages, bytes) = of("passed").unwrap_or_default();
                let (drops, _) = of("dropped").unwrap_or_default();
                let carried = LinkCounts {
                    bytes,
                    messages,
                    drops,
                    ..LinkCounts::default()
                };
                counts.insert(link, carried);
            }
        }
        Ok(counts)
    }

    /// The rules of a receiver, all anew: they change as one.
    fn rules(&self, to: NodeId) -> String {
        let troubles = self.troubles.lock();
        let mut script = "flush chain inet lab arrivals\n".to_owned();
        for from in self.others(to) {
            let of_sender = format!("add rule inet lab arrivals ip saddr {}", self.address(from));
            let all = troubles
                .get(&(from, to))
                .map(Troubles::all)
                .unwrap_or_default();
            let drop = format!("counter name dropped{} drop", from.0);
            if all.cut {
                script += &format!("{of_sender} {drop}\n");
            } else if all.loss_ppm > 0 {
                let lost = format!("numgen random mod 1000000 < {}", all.loss_ppm);
                script += &format!("{of_sender} {lost} {drop}\n");
            }
            script += &format!("{of_sender} counter name passed{}\n", from.0);
        }
        script
    }

    fn others(&self, node: NodeId) -> impl Iterator<Item = NodeId> {
        self.nodes
            .iter()
            .copied()
            .filter(move |other| *other != node)
    }

    fn space(&self, node: NodeId) -> String {
        format!("{}n{}", self.name, node.0)
    }

    fn host(&self, host: u8) -> IpAddr {
        let [a, b, c] = self.network;
        IpAddr::V4(Ipv4Addr::new(a, b, c, host))
    }

    fn address(&self, node: NodeId) -> IpAddr {
        let mut places = (1u8..).zip(&self.nodes);
        let place = places.find(|&(_, of)| *of == node);
        // Nobody is at the network's own address: what isn't a node of it can't be reached.
        self.host(place.map_or(0, |(place, _)| place))
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        let mut words: Vec<Vec<String>> = Vec::new();
        for &node in &self.nodes {
            words.push(vec!["netns".into(), "del".into(), self.space(node)]);
        }
        words.push(vec!["link".into(), "del".into(), self.name.clone()]);
        for words in words {
            // What can't be removed now is swept by the next run.
            let _ = std::process::Command::new("ip")
                .args(words)
                .stderr(Stdio::null())
                .status();
        }
    }
}

/// Removes what processes that are gone have left.
async fn sweep() {
    let list = async |words: &[&str]| tool("ip", words, "").await.unwrap_or_default();
    for line in list(&["netns", "list"]).await.lines() {
        let name = line.split_whitespace().next().unwrap_or_default();
        if is_left(name) {
            let _ = tool("ip", &["netns", "del", name], "").await;
        }
    }
    for line in list(&["-o", "link", "show", "type", "bridge"])
        .await
        .lines()
    {
        let name = line.split(": ").nth(1).unwrap_or_default();
        if is_left(name) {
            let _ = tool("ip", &["link", "del", name], "").await;
        }
    }
}

/// Whether a name is a lab's whose process is gone.
fn is_left(name: &str) -> bool {
    let pid = name
        .strip_prefix(NAMES)
        .and_then(|rest| rest.split('c').next());
    let pid = pid.and_then(|pid| pid.parse::<u32>().ok());
    pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
}

/// Packets and bytes of each named counter.
fn counters(text: &str) -> Result<BTreeMap<String, (u64, u64)>> {
    let listed: Value = serde_json::from_str(text).context("nft's counters can't be read")?;
    let objects = listed["nftables"].as_array().map_or(&[][..], Vec::as_slice);
    let counters = objects.iter().filter_map(|object| {
        let counter = object.get("counter")?;
        let figure = |name: &str| counter.get(name).and_then(Value::as_u64);
        let name = counter.get("name")?.as_str()?.to_owned();
        Some((name, (figure("packets")?, figure("bytes")?)))
    });
    Ok(counters.collect())
}

async fn ip(words: &str) -> Result<()> {
    let words: Vec<&str> = words.split_whitespace().collect();
    tool("ip", &words, "").await.map(drop)
}

async fn nft(space: &str, script: &str) -> Result<()> {
    let words = ["netns", "exec", space, "nft", "-f", "-"];
    tool("ip", &words, script).await.map(drop)
}

/// Runs a tool to its end, and gives what it printed.
async fn tool(program: &str, words: &[&str], input: &str) -> Result<String> {
    let mut child = Command::new(program)
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("`{program}` could not be started"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).await?;
    }
    let ended = child.wait_with_output().await?;
    let said = String::from_utf8_lossy(&ended.stderr);
    let said = said.trim();
    ensure!(
        ended.status.success(),
        "`{program} {}`: {said}",
        words.join(" ")
    );
    Ok(String::from_utf8_lossy(&ended.stdout).into_owned())
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;
