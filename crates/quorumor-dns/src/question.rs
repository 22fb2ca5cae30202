//! Turns what the node said into the answer to a question.

use std::collections::BTreeSet;

use hickory_proto::ProtoError;
use hickory_proto::op::{Query, ResponseCode};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::{Name, Record, RecordType};
use quorumor_proto::pb;
use quorumor_proto::status::Failure;
use rand::seq::{IndexedRandom, SliceRandom};
use tonic::Code;

use crate::answer::{Answer, Why};
use crate::records::{Host, Zone};
use crate::registry::{Discovered, Found};
use crate::text;

/// One question about the domain.
pub(crate) struct Question<'a> {
    pub(crate) zone: &'a Zone,
    pub(crate) query: &'a Query,
}

impl Question<'_> {
    fn name(&self) -> &Name {
        &self.query.name
    }

    /// Adds what an answer without records says instead: why there are none, and for how long.
    pub(crate) fn completed(&self, mut answer: Answer) -> Result<Answer, Unanswered> {
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

    pub(crate) fn failed(&self, unanswered: Unanswered) -> Answer {
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
    pub(crate) fn receipt(&self, receipt: Option<&pb::Receipt>) -> Option<Record> {
        receipt.map(|receipt| self.zone.txt(&self.zone.apex, text::receipt(receipt)))
    }

    /// The addresses among these hosts; if there are none at all, one of the names.
    pub(crate) fn hosts(&self, hosts: &[Host]) -> Answer {
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

    pub(crate) fn node(&self, found: Found) -> Answer {
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

    pub(crate) fn service(
        &self,
        found: Discovered,
        tag: Option<&str>,
    ) -> Result<Answer, Unanswered> {
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

    fn texts(&self, texts: impl Iterator<Item = TXT>) -> Vec<Record> {
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

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Unanswered {
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
pub(crate) fn node_host(node: &pb::NodeState) -> Option<Host> {
    let member = node.member.as_ref()?;
    [&member.client_address, &member.peer_address]
        .into_iter()
        .filter_map(|endpoint| Host::of_endpoint(endpoint))
        .find(|host| !matches!(host, Host::Ip(ip) if ip.is_unspecified()))
}
