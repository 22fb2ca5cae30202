//! Clusters for tests: free ports, temporary directories, and waiting on conditions instead of sleeping.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use quorumor_proto::pb;
use quorumor_proto::pb::state_service_client::StateServiceClient;
use quorumor_proto::status::{Failure, from_status};
use quorumor_server::{Config, Server, Settings, StartError};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

/// How long a condition may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) type Client = StateServiceClient<Channel>;

/// Waits until `check` gives something.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut check: impl FnMut() -> F,
) -> T {
    let began = Instant::now();
    let mut polls = tokio::time::interval(Duration::from_millis(20));
    loop {
        polls.tick().await;
        if let Some(found) = check().await {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "in vain: {what}");
    }
}

/// A cluster's settings and its running nodes.
pub(crate) struct Cluster {
    pub(crate) nodes: BTreeMap<u64, Server>,
    settings: BTreeMap<u64, Settings>,
    dir: TempDir,
}

/// Below the range that the system gives to outgoing connections, so that a restarted node finds its own port free.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 28_000 + (std::process::id() % 20) as u16 * 100;
    (0..2_000)
        .map(|_| {
            let port = base + NEXT.fetch_add(1, Ordering::Relaxed) % 2_000;
            SocketAddr::from(([127, 0, 0, 1], port))
        })
        .find(|address| TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok())
        .expect("one of two thousand ports is free")
}

impl Cluster {
    /// Nodes 1 to `count`, started.
    pub(crate) async fn start(mode: &str, count: u64) -> Self {
        Self::start_with(mode, count, |_, settings| settings).await
    }

    /// The same, with other settings.
    pub(crate) async fn start_with(
        mode: &str,
        count: u64,
        change: impl Fn(u64, Settings) -> Settings,
    ) -> Self {
        let addresses: BTreeMap<u64, SocketAddr> =
            (1..=count).map(|id| (id, free_address())).collect();
        let members: Vec<_> = addresses
            .iter()
            .map(|(id, at)| format!("{id}={at}"))
            .collect();
        let dir = tempfile::tempdir().unwrap();
        let mut settings = BTreeMap::new();
        for (id, address) in &addresses {
            let node = Settings {
                mode: Some(mode.into()),
                cluster: Some("test".into()),
                node_id: Some(*id),
                data_dir: Some(dir.path().join(id.to_string()).display().to_string()),
                listen: Some("127.0.0.1:0".into()),
                peer_listen: Some(address.to_string()),
                initial_members: mode.contains("strong").then(|| members.join(",")),
                seeds: (mode.contains("eventual") && *id > 1).then(|| addresses[&1].to_string()),
                seed: Some(*id),
                ..Settings::default()
            };
            settings.insert(*id, change(*id, node));
        }
        let mut cluster = Self {
            nodes: BTreeMap::new(),
            settings,
            dir,
        };
        for id in 1..=count {
            cluster.start_node(id).await;
        }
        cluster
    }

    /// No node yet: they are started by hand.
    pub(crate) fn empty() -> Self {
        Self {
            nodes: BTreeMap::new(),
            settings: BTreeMap::new(),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    pub(crate) fn settings(&self, id: u64) -> Settings {
        self.settings[&id].clone()
    }

    pub(crate) async fn try_start(&self, settings: Settings) -> Result<Server, StartError> {
        Server::start(Config::try_from(settings).unwrap()).await
    }

    pub(crate) async fn start_node(&mut self, id: u64) {
        let server = self.try_start(self.settings(id)).await.unwrap();
        self.nodes.insert(id, server);
    }

    pub(crate) async fn stop_node(&mut self, id: u64) {
        self.nodes.remove(&id).unwrap().shutdown().await;
    }

    pub(crate) fn client(&self, id: u64) -> Client {
        let address = self.nodes[&id].client_address();
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        StateServiceClient::new(endpoint.timeout(Duration::from_secs(5)).connect_lazy())
    }

    /// The leader, once there is one that all running nodes name.
    pub(crate) async fn leader(&self) -> u64 {
        self.leader_of(pb::Mode::Unspecified).await
    }

    /// The same, asked of a mode.
    pub(crate) async fn leader_of(&self, mode: pb::Mode) -> u64 {
        eventually("a leader that all know", || async {
            let mut leaders = Vec::new();
            for id in self.nodes.keys() {
                let described = self.describe_mode(*id, mode).await?;
                match described.receipt?.position? {
                    pb::receipt::Position::Strong(strong) => leaders.push(strong.leader_id),
                    pb::receipt::Position::Eventual(_) => return None,
                }
            }
            leaders.dedup();
            match leaders[..] {
                [leader] if self.nodes.contains_key(&leader) => Some(leader),
                _ => None,
            }
        })
        .await
    }

    pub(crate) async fn describe(&self, id: u64) -> Option<pb::DescribeResponse> {
        self.describe_mode(id, pb::Mode::Unspecified).await
    }

    async fn describe_mode(&self, id: u64, mode: pb::Mode) -> Option<pb::DescribeResponse> {
        let header = pb::RequestHeader {
            mode: mode.into(),
            ..pb::RequestHeader::default()
        };
        let request = pb::DescribeRequest {
            header: Some(header),
            include_digest: false,
        };
        let described = self.client(id).describe(request).await.ok()?;
        Some(described.into_inner())
    }

    pub(crate) async fn shutdown(mut self) {
        let nodes = std::mem::take(&mut self.nodes);
        let stopping = nodes.into_values().map(Server::shutdown);
        futures_util::future::join_all(stopping).await;
    }
}

pub(crate) fn put(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest {
        header: None,
        key: key.into(),
        value: value.to_owned().into(),
        context: bytes::Bytes::new(),
        lease_id: 0,
    }
}

pub(crate) fn get(key: &str, header: pb::RequestHeader) -> pb::GetRequest {
    pb::GetRequest {
        header: Some(header),
        key: key.into(),
        revision: 0,
    }
}

pub(crate) fn local() -> pb::RequestHeader {
    pb::RequestHeader {
        level: pb::Level::Local.into(),
        ..pb::RequestHeader::default()
    }
}

pub(crate) fn value(response: &pb::GetResponse) -> Option<String> {
    let entry = response.entry.as_ref()?;
    Some(String::from_utf8(entry.value.to_vec()).unwrap())
}

#[track_caller]
pub(crate) fn failure<T: std::fmt::Debug>(result: Result<T, tonic::Status>) -> Failure {
    from_status(&result.unwrap_err())
}

/// A plain HTTP request to node 1.
pub(crate) fn http(cluster: &Cluster, path: &str) -> String {
    let mut stream = TcpStream::connect(cluster.nodes[&1].client_address()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
