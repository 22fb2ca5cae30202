//! Answers questions: says what is in the domain, and asks the node where that isn't clear from the name.

use std::net::IpAddr;

use hickory_proto::op::{Query, ResponseCode};
use hickory_proto::rr::{DNSClass, RecordType};

use crate::answer::{Answer, Why};
use crate::config::{DnsConfig, Domain};
use crate::message::is_transfer;
use crate::name::Subject;
use crate::question::{Question, Unanswered, node_host};
use crate::records::{Host, Zone};
use crate::registry::Registry;

/// Answers questions.
#[derive(Debug)]
pub(crate) struct Resolver {
    registry: Registry,
    domain: Domain,
    ttl: u32,
    /// Where the server itself listens, if that is one address.
    address: Option<IpAddr>,
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
                let found = self.registry.discover(&name, mode).await?;
                asked.service(found, tag.as_deref())
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

fn refused(info_code: u16, text: &str) -> Answer {
    Answer::failed(ResponseCode::Refused, Why::new(info_code, text))
}
