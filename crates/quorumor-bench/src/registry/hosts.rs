//! Hosts: each with a connection of its own, some instances, and one stream that keeps them all alive.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt, stream};
use prost::Message;
use quorumor_proto::v1::registry_service_client::RegistryServiceClient;
use quorumor_proto::v1::{
    self as proto, Beat, InstanceName, KeepAliveRequest, KeepAliveResponse, ListServicesRequest,
    RegisterRequest,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use super::observed::{Call, End, Observed};
use crate::BenchError;
use crate::etcdpb::kv_client::KvClient;
use crate::etcdpb::lease_client::LeaseClient;
use crate::etcdpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, PutRequest, RangeRequest,
};
use crate::load::CallError;
use crate::target::quorumor::services::{header_of, instance};
use crate::target::{Protocol, Target, call_error};

/// Registrations of one host under way.
const REGISTER_IN_FLIGHT: usize = 2;
/// A registration that is refused, as by a node that is just being elected, is tried again.
const TRIES: usize = 20;
const AFTER_REFUSAL: Duration = Duration::from_millis(100);
/// Instances of one service.
const SERVICE_INSTANCES: usize = 100;
/// A beat that isn't answered within this has failed, and its stream is opened anew.
const BEAT_WITHIN: Duration = Duration::from_secs(5);
const PREFIX: &str = "host";

/// Ends all hosts that have it.
pub(super) type Stop = tokio_util::sync::CancellationToken;

/// What a host keeps alive.
#[derive(Clone, Debug)]
enum Kept {
    Instances(Vec<InstanceName>),
    Leases(Vec<i64>),
}

/// One host.
#[derive(Debug)]
pub(super) struct Host {
    target: Target,
    channel: Channel,
    kept: Kept,
    ttl: Duration,
}

/// What became of the instances of a host.
#[derive(Clone, Debug, Default)]
pub(super) struct Life {
    /// Each beat, for all instances of the host at once.
    pub(super) beats: Observed,
    /// Instances that had ended when their beat came.
    pub(super) lost: u64,
    /// What went wrong, in words.
    pub(super) errors: Vec<String>,
}

/// Which instances a host has, counted over all hosts.
fn service_of(number: usize) -> String {
    format!("{PREFIX}-{:04}", number / SERVICE_INSTANCES)
}

impl Host {
    /// A host at one of the target's nodes, with its instances registered.
    pub(super) async fn settle(
        target: &Target,
        node: usize,
        numbers: std::ops::Range<usize>,
        ttl: Duration,
    ) -> Result<Self, BenchError> {
        let channel = target.channel(node).await?;
        let mut host = Self {
            target: target.clone(),
            channel,
            kept: Kept::Instances(Vec::new()),
            ttl,
        };
        host.kept = host
            .register(numbers)
            .await
            .map_err(|error| BenchError::Unfit {
                target: target.name.clone(),
                why: format!("an instance can't be registered: {error}"),
            })?;
        Ok(host)
    }

    async fn register(&self, numbers: std::ops::Range<usize>) -> Result<Kept, CallError> {
        let numbers = stream::iter(numbers);
        Ok(match self.target.protocol {
            Protocol::Quorumor => {
                let names = numbers
                    .map(|number| retried(move || self.register_instance(number)))
                    .buffer_unordered(REGISTER_IN_FLIGHT);
                Kept::Instances(names.try_collect().await?)
            }
            Protocol::Etcd | Protocol::Echo => {
                let leases = numbers
                    .map(|number| retried(move || self.put_under_lease(number)))
                    .buffer_unordered(REGISTER_IN_FLIGHT);
                Kept::Leases(leases.try_collect().await?)
            }
        })
    }

    async fn register_instance(&self, number: usize) -> Result<InstanceName, CallError> {
        let instance = instance(&service_of(number), number);
        let name = InstanceName {
            service: instance.service.clone(),
            instance_id: instance.instance_id.clone(),
        };
        let request = RegisterRequest {
            header: Some(header_of(self.target.mode)),
            instance: Some(instance),
            ttl: prost_types::Duration::try_from(self.ttl).ok(),
            ..RegisterRequest::default()
        };
        let mut client = RegistryServiceClient::new(self.channel.clone());
        let answer = client.register(request).await;
        answer.map(|_| name).map_err(|status| call_error(&status))
    }

    /// As services do that use etcd as their registry: a lease each, and their key under it.
    async fn put_under_lease(&self, number: usize) -> Result<i64, CallError> {
        let mut leases = LeaseClient::new(self.channel.clone());
        let ttl = i64::try_from(self.ttl.as_secs()).unwrap_or(i64::MAX);
        let granted = leases.lease_grant(LeaseGrantRequest { ttl, id: 0 }).await;
        let granted = granted.map_err(|status| call_error(&status))?;
        let lease = granted.into_inner().id;
        let instance = instance(&service_of(number), number);
        let key = format!("services/{}/{}", instance.service, instance.instance_id);
        let put = PutRequest {
            key: key.into(),
            value: instance.encode_to_vec().into(),
            lease,
            ..PutRequest::default()
        };
        let answer = KvClient::new(self.channel.clone()).put(put).await;
        answer.map(|_| lease).map_err(|status| call_error(&status))
    }

    /// Keeps everything alive, every so often from `first` on, until `stop`.
    pub(super) async fn live(self, first: Instant, every: Duration, stop: Stop) -> Life {
        let mut life = Life::default();
        let mut pulse: Option<Pulse> = None;
        let mut due = first;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return life,
                () = tokio::time::sleep_until(due.into()) => {}
            }
            let began = Instant::now();
            let beat = async {
                let open = match pulse.take() {
                    Some(open) => open,
                    None => Pulse::open(&self),
                };
                open.beat(&self).await
            };
            let beaten = tokio::time::timeout(BEAT_WITHIN, beat).await;
            let end = match beaten {
                Ok(Ok((open, lost))) => {
                    pulse = Some(open);
                    life.lost += lost;
                    End::Answered
                }
                Ok(Err(error)) => {
                    life.errors.push(error.0);
                    End::Failed
                }
                Err(_) => {
                    life.errors
                        .push("a beat wasn't answered in time".to_owned());
                    End::Failed
                }
            };
            life.beats.0.push(Call {
                began,
                took: began.elapsed(),
                end,
            });
            due += every;
        }
    }
}

/// The stream of a host's signs of life.
enum Pulse {
    Quorumor {
        requests: mpsc::Sender<KeepAliveRequest>,
        queue: Option<mpsc::Receiver<KeepAliveRequest>>,
        answers: Option<Streaming<KeepAliveResponse>>,
    },
    Etcd {
        requests: mpsc::Sender<LeaseKeepAliveRequest>,
        queue: Option<mpsc::Receiver<LeaseKeepAliveRequest>>,
        answers: Option<Streaming<LeaseKeepAliveResponse>>,
    },
}

impl Pulse {
    fn open(host: &Host) -> Self {
        match &host.kept {
            Kept::Instances(_) => {
                let (requests, queue) = mpsc::channel(1);
                Self::Quorumor {
                    requests,
                    queue: Some(queue),
                    answers: None,
                }
            }
            Kept::Leases(leases) => {
                let (requests, queue) = mpsc::channel(leases.len().max(1));
                Self::Etcd {
                    requests,
                    queue: Some(queue),
                    answers: None,
                }
            }
        }
    }

    /// One sign of life for everything that the host has; how much of it had ended.
    async fn beat(self, host: &Host) -> Result<(Self, u64), CallError> {
        match (self, &host.kept) {
            (
                Self::Quorumor {
                    requests,
                    queue,
                    answers,
                },
                Kept::Instances(names),
            ) => {
                let request = KeepAliveRequest {
                    header: Some(header_of(host.target.mode)),
                    beats: names.iter().map(beat_of).collect(),
                };
                sent(requests.try_send(request))?;
                let mut answers = match answers {
                    Some(answers) => answers,
                    None => opened(host, queue).await?,
                };
                let answer = answers.message().await;
                let answer = answer.map_err(|status| call_error(&status))?;
                let lost = ended_instances(&answer.ok_or_else(ended)?, names.len())?;
                let open = Self::Quorumor {
                    requests,
                    queue: None,
                    answers: Some(answers),
                };
                Ok((open, lost))
            }
            (
                Self::Etcd {
                    requests,
                    queue,
                    answers,
                },
                Kept::Leases(leases),
            ) => {
                for id in leases {
                    sent(requests.try_send(LeaseKeepAliveRequest { id: *id }))?;
                }
                let mut answers = match answers {
                    Some(answers) => answers,
                    None => opened_at_etcd(host, queue).await?,
                };
                let lost = ended_leases(&mut answers, leases.len()).await?;
                let open = Self::Etcd {
                    requests,
                    queue: None,
                    answers: Some(answers),
                };
                Ok((open, lost))
            }
            (Self::Quorumor { .. } | Self::Etcd { .. }, _) => {
                Err(CallError("a stream of another protocol".to_owned()))
            }
        }
    }
}

/// A server may say nothing before the first request is on its way.
async fn opened(
    host: &Host,
    queue: Option<mpsc::Receiver<KeepAliveRequest>>,
) -> Result<Streaming<KeepAliveResponse>, CallError> {
    let mut client = RegistryServiceClient::new(host.channel.clone());
    let opened = client
        .keep_alive(ReceiverStream::new(opening(queue)?))
        .await;
    Ok(opened.map_err(|status| call_error(&status))?.into_inner())
}

async fn opened_at_etcd(
    host: &Host,
    queue: Option<mpsc::Receiver<LeaseKeepAliveRequest>>,
) -> Result<Streaming<LeaseKeepAliveResponse>, CallError> {
    let mut client = LeaseClient::new(host.channel.clone());
    let opened = client
        .lease_keep_alive(ReceiverStream::new(opening(queue)?))
        .await;
    Ok(opened.map_err(|status| call_error(&status))?.into_inner())
}

async fn ended_leases(
    answers: &mut Streaming<LeaseKeepAliveResponse>,
    leases: usize,
) -> Result<u64, CallError> {
    let mut lost = 0;
    for _ in 0..leases {
        let answer = answers.message().await;
        let answer = answer.map_err(|status| call_error(&status))?;
        lost += u64::from(answer.ok_or_else(ended)?.ttl <= 0);
    }
    Ok(lost)
}

fn opening<T>(queue: Option<T>) -> Result<T, CallError> {
    queue.ok_or_else(ended)
}

fn ended() -> CallError {
    CallError("the stream has ended".to_owned())
}

fn sent<T>(sent: Result<(), mpsc::error::TrySendError<T>>) -> Result<(), CallError> {
    sent.map_err(|_| ended())
}

fn beat_of(name: &InstanceName) -> Beat {
    Beat {
        name: Some(name.clone()),
        ..Beat::default()
    }
}

/// How many instances had ended. A beat that was refused for another reason is a failure of the whole.
fn ended_instances(answer: &KeepAliveResponse, beats: usize) -> Result<u64, CallError> {
    if !answer.status.is_empty() {
        return Err(CallError("a beat was refused".to_owned()));
    }
    let failed = answer
        .results
        .iter()
        .filter(|result| !result.status.is_empty());
    let failed = failed.count();
    if failed > 0 {
        return Err(CallError(format!("{failed} of {beats} beats were refused")));
    }
    let gone = answer.results.iter().filter(|result| result.ttl.is_none());
    Ok(gone.count().try_into().unwrap_or(u64::MAX))
}

async fn retried<T, F: Future<Output = Result<T, CallError>>>(
    call: impl Fn() -> F,
) -> Result<T, CallError> {
    let mut tries = 0;
    loop {
        tries += 1;
        match call().await {
            Err(_) if tries < TRIES => tokio::time::sleep(AFTER_REFUSAL).await,
            ended => return ended,
        }
    }
}

/// How many of the hosts' instances a node shows.
pub(super) async fn shown(target: &Target, node: usize) -> Result<usize, BenchError> {
    let channel = target.channel(node).await?;
    let unreachable = |status: &tonic::Status| target.unreachable(node, status);
    if target.protocol == Protocol::Etcd {
        let request = RangeRequest {
            key: format!("services/{PREFIX}-").into(),
            range_end: format!("services/{PREFIX}.").into(),
            count_only: true,
            ..RangeRequest::default()
        };
        let answer = KvClient::new(channel).range(request).await;
        let answer = answer.map_err(|status| unreachable(&status))?;
        return Ok(usize::try_from(answer.get_ref().count).unwrap_or(0));
    }
    let mut client = RegistryServiceClient::new(channel);
    let mut after = String::new();
    let mut shown = 0;
    loop {
        let request = ListServicesRequest {
            header: Some(header_of(target.mode)),
            after_service: after.clone(),
            ..ListServicesRequest::default()
        };
        let answer = client.list_services(request).await;
        let answer = answer.map_err(|status| unreachable(&status))?.into_inner();
        let ours = answer
            .services
            .iter()
            .filter(|it| it.service.starts_with(PREFIX));
        let counts = ours.map(|it: &proto::ServiceSummary| it.passing + it.warning + it.critical);
        shown += usize::try_from(counts.sum::<u32>()).unwrap_or(0);
        match answer.services.last() {
            Some(last) if answer.more => after.clone_from(&last.service),
            Some(_) | None => return Ok(shown),
        }
    }
}
