//! Answers questions about the domain.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hickory_proto::ProtoError;
use hickory_proto::op::{Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, Record, RecordType};
use quorumor_proto::pb;
use quorumor_proto::status::Failure;
use rand::seq::{IndexedRandom, SliceRandom};
use tonic::Code;

use crate::answer::{Answer, Why};
use crate::config::{DnsConfig, Domain};
use crate::message::is_transfer;
use crate::name::Subject;
use crate::records::{Host, Zone};
use crate::registry::{Discovered, Found, Registry};
use crate::text;

/// Answers questions.
#[derive(Debug)]
pub(crate) struct Resolver {
    registry: Registry,
    domain: Domain,
    ttl: u32,
    /// Where the server itself listens, if that is one address.
    address: Option<IpAddr>,
}

/// Why there is no answer.
#[derive(Debug)]
enum Unanswered {
    /// The node's call failed.
    Call(Box<Failure>),
    /// A record can't be made: the domain is too long.
    Record(ProtoError),
}

impl From<Box<Failure>> for Unanswered {
    fn from(failure: Box<Failure>) -> Self {
        Self::Call(failure)
    }
}

impl From<ProtoError> for Unanswered {
    fn from(error: ProtoError) -> Self {
        Self::Record(error)
    }
}

impl Resolver {
    pub(crate) fn new(registry: Registry, config: &DnsConfig, address: IpAddr) -> Self {
        Self {
            registry,
            domain: config.domain.clone(),
            ttl: u32::try_from(config.ttl.as_secs())
                .unwrap_or(TTL_SECONDS_MAX)
                .min(TTL_SECONDS_MAX),
            address: Some(address).filter(|address| !address.is_unspecified()),
        }
    }

    /// Answers one question.
    pub(crate) async fn answer(&self, query: &Query) -> Answer {
        let Some(labels) = self.domain.labels_below(&query.name) else {
            return refused(
                Why::NOT_AUTHORITATIVE,
                "the name is in no domain of this server",
            );
        };
        if ![DNSClass::IN, DNSClass::ANY].contains(&query.query_class) {
            return refused(Why::NOT_SUPPORTED, "only the class IN is served");
        }
        if is_transfer(query) {
            return refused(Why::NOT_SUPPORTED, "there are no zone transfers");
        }
        let zone = Zone {
            apex: self.domain.as_spelled_in(&query.name),
            ttl: self.ttl,
        };
        let asked = Question { zone: &zone, query };
        let answered = self.about(&asked, Subject::of(&labels)).await;
        answered
            .and_then(|answer| asked.completed(answer))
            .unwrap_or_else(|unanswered| asked.failed(unanswered))
    }

    async fn about(&self, asked: &Question<'_>, subject: Subject) -> Result<Answer, Unanswered> {
        match subject {
            Subject::Apex => self.apex(asked).await,
            Subject::Between => Ok(Answer::of(Vec::new())),
            Subject::Nothing => Ok(Answer::no_name()),
            Subject::Address(ip) => Ok(asked.hosts(&[Host::Ip(ip)])),
            Subject::NameServer => self.name_server(asked).await,
            Subject::Node { id, mode } => {
                let found = self.registry.node(id, mode).await?;
                Ok(asked.node(found))
            }
            Subject::Service { name, tag, mode } => {
                match self.registry.discover(&name, mode).await {
                    Ok(discovered) => asked.service(discovered, tag.as_deref()),
                    // The node's notion of a service's name is the one that counts.
                    Err(failure) if failure.code == Code::InvalidArgument => Ok(Answer::no_name()),
                    Err(failure) => Err(failure.into()),
                }
            }
        }
    }

    async fn apex(&self, asked: &Question<'_>) -> Result<Answer, Unanswered> {
        let kind = asked.query.query_type;
        if kind == RecordType::SOA {
            return Ok(Answer::of(vec![asked.zone.soa()?]));
        }
        if kind == RecordType::NS {
            return Ok(Answer::of(vec![asked.zone.ns()?]));
        }
        if kind == RecordType::TXT {
            let found = self.registry.this_node().await?;
            let receipt = asked.receipt(found.receipt.as_ref());
            return Ok(Answer::of(receipt.into_iter().collect()));
        }
        Ok(Answer::of(Vec::new()))
    }

    /// The server's own address; that of its node if it listens at all of them.
    async fn name_server(&self, asked: &Question<'_>) -> Result<Answer, Unanswered> {
        if let Some(address) = self.address {
            return Ok(asked.hosts(&[Host::Ip(address)]));
        }
        let found = self.registry.this_node().await?;
        let host = found.node.as_ref().and_then(node_host);
        Ok(asked.hosts(host.as_slice()))
    }
}

/// The longest time that a record may be kept (RFC 2181, section 8).
const TTL_SECONDS_MAX: u32 = i32::MAX as u32;

/// One question about the domain.
struct Question<'a> {
    zone: &'a Zone,
    query: &'a Query,
}

impl Question<'_> {
    fn name(&self) -> &Name {
        &self.query.name
    }

    /// Adds what an answer without records says instead: why there are none, and for how long.
    fn completed(&self, mut answer: Answer) -> Result<Answer, Unanswered> {
        let exists = answer.code == ResponseCode::NoError;
        if exists && self.query.query_type == RecordType::ANY {
            answer.answers = vec![self.zone.any(self.name())];
            answer.additionals.clear();
        }
        if answer.answers.is_empty() {
            answer.authorities.push(self.zone.soa()?);
        }
        Ok(answer)
    }

    fn failed(&self, unanswered: Unanswered) -> Answer {
        match unanswered {
            Unanswered::Call(failure) => {
                tracing::debug!(query = %self.query, code = ?failure.code, message = %failure.message, "a question failed");
                let mut answer = Answer::failed(ResponseCode::ServFail, why(&failure));
                answer.receipt = self.receipt(failure.receipt.as_ref());
                answer
            }
            Unanswered::Record(error) => {
                tracing::warn!(query = %self.query, %error, "an answer has a record that can't be made");
                Answer::failed(
                    ResponseCode::ServFail,
                    Why::new(Why::OTHER, &error.to_string()),
                )
            }
        }
    }

    /// The receipt, as a record of the domain: beside the records of a name it would look like one of them.
    fn receipt(&self, receipt: Option<&pb::Receipt>) -> Option<Record> {
        receipt.map(|receipt| self.zone.txt(&self.zone.apex, text::receipt(receipt)))
    }

    /// The addresses among these hosts; if there are none at all, one of the names.
    fn hosts(&self, hosts: &[Host]) -> Answer {
        let kind = self.query.query_type;
        let mut seen = BTreeSet::new();
        let mut records = Vec::new();
        let mut names = Vec::new();
        for host in hosts {
            match host {
                Host::Ip(ip) => {
                    let record = self.zone.address(self.name(), *ip);
                    if seen.insert(*ip) && record.record_type() == kind {
                        records.push(record);
                    }
                }
                Host::Named(name) => names.push(name),
            }
        }
        let of_address = [RecordType::A, RecordType::AAAA, RecordType::CNAME];
        if seen.is_empty()
            && of_address.contains(&kind)
            && let Some(name) = names.choose(&mut rand::rng())
        {
            records.push(self.zone.alias(self.name(), (*name).clone()));
        }
        Answer::of(records)
    }

    fn node(&self, found: Found) -> Answer {
        let receipt = found.receipt.as_ref();
        let mut answer = match &found.node {
            None => Answer::no_name(),
            Some(node) if self.query.query_type == RecordType::TXT => {
                let about = node.member.as_ref().map(|member| text::node(node, member));
                let texts = receipt.map(text::receipt).into_iter().chain(about);
                return Answer::of(self.texts(texts));
            }
            Some(node) => self.hosts(node_host(node).as_slice()),
        };
        answer.receipt = self.receipt(receipt);
        answer
    }

    fn service(&self, found: Discovered, tag: Option<&str>) -> Result<Answer, Unanswered> {
        let receipt = found.receipt.as_ref();
        let mut instances = found.instances;
        if let Some(tag) = tag {
            instances.retain(|listed| has_tag(listed, tag));
        }
        instances.shuffle(&mut rand::rng());
        let mut answer = if !found.known {
            Answer::no_name()
        } else if self.query.query_type == RecordType::TXT {
            let about = instances.iter().filter_map(text::instance);
            let texts = receipt.map(text::receipt).into_iter().chain(about);
            let mut answer = Answer::of(self.texts(texts));
            answer.incomplete = found.more;
            return Ok(answer);
        } else if self.query.query_type == RecordType::SRV {
            self.targets(&instances)?
        } else {
            let hosts: Vec<Host> = instances.iter().filter_map(instance_host).collect();
            self.hosts(&hosts)
        };
        answer.incomplete = found.more;
        answer.receipt = self.receipt(receipt);
        Ok(answer)
    }

    fn texts(&self, texts: impl Iterator<Item = hickory_proto::rr::rdata::TXT>) -> Vec<Record> {
        texts.map(|text| self.zone.txt(self.name(), text)).collect()
    }

    /// Where to connect, with the addresses of it beside.
    fn targets(&self, instances: &[pb::ServiceInstance]) -> Result<Answer, Unanswered> {
        let mut seen = BTreeSet::new();
        let mut addresses = BTreeSet::new();
        let mut answer = Answer::of(Vec::new());
        for listed in instances {
            let Some((host, port, weight)) = target(listed) else {
                continue;
            };
            if !seen.insert((host.clone(), port, weight)) {
                continue;
            }
            let name = match host {
                Host::Named(name) => name,
                Host::Ip(ip) => {
                    let name = self.zone.address_name(ip)?;
                    if addresses.insert(ip) {
                        answer.additionals.push(self.zone.address(&name, ip));
                    }
                    name
                }
            };
            answer
                .answers
                .push(self.zone.srv(self.name(), weight, port, name));
        }
        Ok(answer)
    }
}

fn refused(info_code: u16, text: &str) -> Answer {
    Answer::failed(ResponseCode::Refused, Why::new(info_code, text))
}

fn why(failure: &Failure) -> Why {
    let info_code = if failure.code == Code::Unavailable {
        Why::NOT_READY
    } else {
        Why::OTHER
    };
    if failure.reason.is_empty() {
        Why::new(info_code, &failure.message)
    } else {
        Why::new(
            info_code,
            &format!("{}: {}", failure.reason, failure.message),
        )
    }
}

/// Names know no case, so tags don't here.
fn has_tag(listed: &pb::ServiceInstance, tag: &str) -> bool {
    let mut tags = listed.instance.iter().flat_map(|instance| &instance.tags);
    tags.any(|of_instance| of_instance.eq_ignore_ascii_case(tag))
}

fn instance_host(listed: &pb::ServiceInstance) -> Option<Host> {
    Host::parse(&listed.instance.as_ref()?.address)
}

/// Where an instance listens, and its weight; absent if it has no port.
fn target(listed: &pb::ServiceInstance) -> Option<(Host, u16, u16)> {
    let instance = listed.instance.as_ref()?;
    let port = u16::try_from(instance.port)
        .ok()
        .filter(|port| *port != 0)?;
    let weight = u16::try_from(instance.weight).unwrap_or(u16::MAX).max(1);
    Some((instance_host(listed)?, port, weight))
}

/// Where a node serves clients; where it talks to peers if that isn't known, or is every address that it has.
fn node_host(node: &pb::NodeState) -> Option<Host> {
    let member = node.member.as_ref()?;
    [&member.client_address, &member.peer_address]
        .into_iter()
        .filter_map(|endpoint| Host::of_endpoint(endpoint))
        .find(|host| !matches!(host, Host::Ip(ip) if ip.is_unspecified()))
}
