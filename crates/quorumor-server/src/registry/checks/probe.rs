//! One check: what is sent, and what its answer says.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use quorumor_proto::pb;
use quorumor_proto::pb::InstanceHealth;
use quorumor_proto::pb::health_check::Kind;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tower::service_fn;

use crate::config::CheckTargets;

/// Checks under way in this process: each holds a socket.
const PROBES_MAX: usize = 256;
static PROBES: Semaphore = Semaphore::const_new(PROBES_MAX);

/// What came of a check, in words.
pub(crate) type Outcome = (InstanceHealth, String);

/// Who asks: for whom, and where it may go.
pub(crate) struct Asker<'a> {
    pub(crate) instance: &'a pb::Instance,
    pub(crate) targets: &'a CheckTargets,
}

impl Asker<'_> {
    /// Carries out a check that asks over the network. Never fails: that is an outcome too. Its time begins once it has a place: that
    /// this node has much to ask says nothing of the instance.
    pub(crate) async fn probe(&self, check: &pb::HealthCheck, timeout: Duration) -> Outcome {
        let _place = PROBES.acquire().await.expect("it is never closed");
        let late = || Err(format!("no answer within {} ms", timeout.as_millis()));
        let answered = tokio::time::timeout(timeout, self.ask(check)).await;
        answered
            .unwrap_or_else(|_| late())
            .unwrap_or_else(|why| (InstanceHealth::Critical, why))
    }

    async fn ask(&self, check: &pb::HealthCheck) -> Result<Outcome, String> {
        let own = self.own();
        let target = |named: &str| {
            if named.is_empty() {
                own.clone()
            } else {
                named.to_owned()
            }
        };
        match &check.kind {
            Some(Kind::Tcp(tcp)) => {
                let target = target(&tcp.address);
                let connected = self.connect(&target).await;
                connected.map_err(|why| format!("{target}: {why}"))?;
                Ok((InstanceHealth::Passing, format!("{target} accepts")))
            }
            Some(Kind::Http(http)) => self.ask_http(http).await,
            Some(Kind::Grpc(grpc)) => self.ask_grpc(&target(&grpc.address), &grpc.service).await,
            Some(Kind::Ttl(_)) | None => Err("there is nothing to ask".to_owned()),
        }
    }

    /// The instance's own address and port.
    fn own(&self) -> String {
        host_port(&self.instance.address, self.instance.port)
    }

    /// A connection to `host:port`. Where it may go is asked of the addresses that are connected to, whatever a name stood for before.
    async fn connect(&self, target: &str) -> Result<TcpStream, String> {
        let host = |text: &str| text.rsplit_once(':').map(|(host, _)| host.to_owned());
        let is_own = host(target) == host(&self.own());
        let found = tokio::net::lookup_host(target).await;
        let found = found.map_err(|error| error.to_string())?;
        let allowed: Vec<SocketAddr> = found
            .filter(|address| self.targets.allow(address.ip(), is_own))
            .collect();
        if allowed.is_empty() {
            return Err("this node's checks may not go there: see --check-targets".to_owned());
        }
        let connected = TcpStream::connect(&allowed[..]).await;
        connected.map_err(|error| error.to_string())
    }

    async fn ask_http(&self, check: &pb::HttpCheck) -> Result<Outcome, String> {
        let (target, path) = if check.url.starts_with("http://") {
            let uri: Uri = check
                .url
                .parse()
                .map_err(|error| format!("{}: {error}", check.url))?;
            let host = uri
                .host()
                .ok_or_else(|| format!("{} names no host", check.url))?;
            let target = format!("{host}:{}", uri.port_u16().unwrap_or(80));
            let path = uri.path_and_query().map_or("/", |path| path.as_str());
            (target, path.to_owned())
        } else {
            let path = if check.url.is_empty() {
                "/"
            } else {
                &check.url
            };
            (self.own(), path.to_owned())
        };
        let status = self.status_of(&target, &path, &check.method).await;
        let status = status.map_err(|why| format!("{target}{path}: {why}"))?;
        let health = match status {
            status if status.is_success() => InstanceHealth::Passing,
            StatusCode::TOO_MANY_REQUESTS => InstanceHealth::Warning,
            _ => InstanceHealth::Critical,
        };
        Ok((health, format!("{target}{path}: {status}")))
    }

    /// Reads no more than the head: what the body says is nobody's business.
    async fn status_of(
        &self,
        target: &str,
        path: &str,
        method: &str,
    ) -> Result<StatusCode, String> {
        let method = match method {
            "" => Method::GET,
            named => Method::from_bytes(named.as_bytes()).map_err(|error| error.to_string())?,
        };
        let stream = TokioIo::new(self.connect(target).await?);
        let shaken = hyper::client::conn::http1::handshake(stream).await;
        let (mut sender, connection) = shaken.map_err(|error| error.to_string())?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, target)
            .header(header::USER_AGENT, "quorumor-check")
            .header(header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .map_err(|error| error.to_string())?;
        let mut answered = pin!(sender.send_request(request));
        let mut connection = pin!(connection);
        // The answer may be whole at the moment when the connection ends.
        let answer = tokio::select! {
            biased;
            answer = &mut answered => answer,
            _ = &mut connection => answered.await,
        };
        let answer = answer.map_err(|error| causes(&error))?;
        Ok(answer.status())
    }

    async fn ask_grpc(&self, target: &str, service: &str) -> Result<Outcome, String> {
        let endpoint =
            Endpoint::from_shared(format!("http://{target}")).map_err(|error| error.to_string())?;
        let stream = self.connect(target).await;
        let stream = stream.map_err(|why| format!("{target}: {why}"))?;
        let mut stream = Some(TokioIo::new(stream));
        // One call, so one connection: the one that is open.
        let connector = service_fn(move |_: Uri| {
            std::future::ready(stream.take().ok_or("the connection is gone"))
        });
        let channel = endpoint.connect_with_connector(connector).await;
        let channel = channel.map_err(|error| format!("{target}: {}", causes(&error)))?;
        let asked = HealthCheckRequest {
            service: service.to_owned(),
        };
        let answer = HealthClient::new(channel).check(asked).await;
        let answer = answer.map_err(|status| format!("{target}: {}", status.message()))?;
        let status = answer.into_inner().status();
        let health = match status {
            ServingStatus::Serving => InstanceHealth::Passing,
            ServingStatus::Unknown | ServingStatus::NotServing | ServingStatus::ServiceUnknown => {
                InstanceHealth::Critical
            }
        };
        Ok((health, format!("{target}: {}", status.as_str_name())))
    }
}

/// An address with its port, IPv6 in brackets.
fn host_port(address: &str, port: u32) -> String {
    if address.contains(':') {
        format!("[{address}]:{port}")
    } else {
        format!("{address}:{port}")
    }
}

/// An error with what lies under it.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut under = error.source();
    while let Some(cause) = under {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        under = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn tcp(address: SocketAddr) -> pb::HealthCheck {
        pb::HealthCheck {
            kind: Some(Kind::Tcp(pb::TcpCheck {
                address: address.to_string(),
            })),
            ..pb::HealthCheck::default()
        }
    }

    #[tokio::test]
    async fn waiting_for_a_place_is_no_failure_of_the_instance() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let check = tcp(listener.local_addr().unwrap());
        let all = u32::try_from(PROBES_MAX).unwrap();
        let busy = PROBES.acquire_many(all).await.unwrap();
        let timeout = Duration::from_millis(300);
        let asker = Asker {
            instance: &pb::Instance::default(),
            targets: &CheckTargets::default(),
        };
        let mut waiting = pin!(asker.probe(&check, timeout));
        let early = tokio::time::timeout(2 * timeout, &mut waiting).await;
        assert!(early.is_err(), "it ended without a place: {early:?}");
        drop(busy);
        assert_eq!(waiting.await.0, InstanceHealth::Passing);
    }

    #[tokio::test]
    async fn checks_go_no_further_than_they_may() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let elsewhere = pb::Instance {
            address: "192.0.2.1".into(),
            port: address.port().into(),
            ..pb::Instance::default()
        };
        let there = pb::Instance {
            address: "127.0.0.1".into(),
            ..elsewhere.clone()
        };
        let http = pb::HttpCheck {
            url: format!("http://{address}/"),
            method: String::new(),
        };
        let grpc = pb::GrpcCheck {
            address: address.to_string(),
            service: String::new(),
        };
        let kinds = [Kind::Http(http), Kind::Grpc(grpc)].map(|kind| pb::HealthCheck {
            kind: Some(kind),
            ..pb::HealthCheck::default()
        });
        for (given, instance, allowed) in [
            ("any", &elsewhere, true),
            ("127.0.0.0/8", &elsewhere, true),
            ("10.0.0.0/8,instance", &elsewhere, false),
            ("10.0.0.0/8,instance", &there, true),
            ("10.0.0.0/8", &there, false),
        ] {
            let targets = CheckTargets::of(given);
            let asker = Asker {
                instance,
                targets: &targets,
            };
            let timeout = Duration::from_secs(5);
            let (health, output) = asker.probe(&tcp(address), timeout).await;
            let wanted = if allowed {
                InstanceHealth::Passing
            } else {
                InstanceHealth::Critical
            };
            assert_eq!(health, wanted, "{given}: {output}");
            if !allowed {
                for check in &kinds {
                    let (_, output) = asker.probe(check, timeout).await;
                    assert!(output.contains("--check-targets"), "{given}: {output}");
                }
            }
        }
    }
}
