//! Prometheus's HTTP service discovery: the whole list each time, one group an instance.
//!
//! Instances in every health are listed, as Consul's discovery does, so that Prometheus sees which are down; the label
//! `__meta_quorumor_health` is there to drop them by. A failure is an error status, at which Prometheus keeps the list that it has.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use axum::response::Response;
use prost::Message;
use quorumor_proto::pb;
use serde_json::{Value, json};
use tonic::Status;

use crate::answer::{json_with_receipt, unreadable};
use crate::call::Caller;
use crate::problem::Problem;
use crate::request::Asked;

const DISCOVER: &str = "RegistryService/Discover";
const LIST_SERVICES: &str = "RegistryService/ListServices";
/// Pages of one list: with 10,000 instances a page, more than anything holds.
const PAGES_MAX: usize = 1_000;
const LABEL: &str = "__meta_quorumor_";

/// The targets of one service, or of all.
pub(crate) async fn targets(caller: &Caller, asked: &Asked) -> Result<Response, Problem> {
    let mut request: pb::DiscoverRequest = asked
        .message
        .transcode_to()
        .map_err(|error| unreadable(&error))?;
    if request.health() == pb::HealthFilter::Unspecified {
        request.set_health(pb::HealthFilter::Any);
    }
    let mut list = Targets::default();
    let services = if request.service.is_empty() {
        services(caller, &request, &mut list).await?
    } else {
        vec![request.service.clone()]
    };
    for service in services {
        instances(
            caller,
            pb::DiscoverRequest {
                service,
                ..request.clone()
            },
            &mut list,
        )
        .await?;
    }
    let groups = Value::Array(list.groups);
    Ok(json_with_receipt(groups, list.receipt.as_ref()))
}

#[derive(Default)]
struct Targets {
    groups: Vec<Value>,
    /// Of the last answer; of the first that is weaker than asked, if one is.
    receipt: Option<pb::Receipt>,
}

impl Targets {
    fn told(&mut self, receipt: Option<pb::Receipt>) {
        let degraded = self
            .receipt
            .as_ref()
            .is_some_and(|held| !held.degraded.is_empty());
        if !degraded {
            self.receipt = receipt;
        }
    }
}

async fn services(
    caller: &Caller,
    request: &pb::DiscoverRequest,
    list: &mut Targets,
) -> Result<Vec<String>, Problem> {
    let mut names: Vec<String> = Vec::new();
    for _ in 0..PAGES_MAX {
        let page = pb::ListServicesRequest {
            header: request.header.clone(),
            after_service: names.last().cloned().unwrap_or_default(),
            limit: 0,
        };
        let page: pb::ListServicesResponse = ask(caller, LIST_SERVICES, &page).await?;
        names.extend(page.services.into_iter().map(|service| service.service));
        list.told(page.receipt);
        if !page.more {
            return Ok(names);
        }
    }
    Err(endless())
}

async fn instances(
    caller: &Caller,
    mut request: pb::DiscoverRequest,
    list: &mut Targets,
) -> Result<(), Problem> {
    for _ in 0..PAGES_MAX {
        let page: pb::DiscoverResponse = ask(caller, DISCOVER, &request).await?;
        list.groups.extend(page.instances.iter().filter_map(group));
        list.told(page.receipt);
        if page.next_page_token.is_empty() {
            return Ok(());
        }
        request.page_token = page.next_page_token;
    }
    Err(endless())
}

async fn ask<M: Message + Default>(
    caller: &Caller,
    method: &str,
    request: &impl Message,
) -> Result<M, Problem> {
    let answer = caller
        .unary(method, request.encode_to_vec())
        .await
        .map_err(|status| Problem::from(&status))?;
    M::decode(answer).map_err(|error| unreadable(&error))
}

fn endless() -> Problem {
    let status = Status::internal(format!("a list of more than {PAGES_MAX} pages"));
    Problem::from(&status)
}

fn group(found: &pb::ServiceInstance) -> Option<Value> {
    let instance = found.instance.as_ref()?;
    let health = found.status.as_ref().map(pb::InstanceStatus::health);
    let health = health.unwrap_or(pb::InstanceHealth::Unspecified);
    let mut labels = BTreeMap::new();
    let mut label = |name: &str, value: String| {
        labels.insert(format!("{LABEL}{name}"), value);
    };
    label("service", instance.service.clone());
    label("instance_id", instance.instance_id.clone());
    label("zone", instance.zone.clone());
    label("tags", fenced(&instance.tags));
    label("health", health_word(health).to_owned());
    label("weight", instance.weight.max(1).to_string());
    label("node_id", instance.node_id.to_string());
    let metadata: BTreeMap<&String, &String> = instance.metadata.iter().collect();
    for (key, value) in metadata {
        label(&format!("metadata_{}", sanitised(key)), value.clone());
    }
    Some(json!({ "targets": [target(&instance.address, instance.port)], "labels": labels }))
}

/// Where Prometheus scrapes: an IPv6 address in brackets, no port where the instance has none.
fn target(address: &str, port: u32) -> String {
    let host = match address.parse::<Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) => address.to_owned(),
    };
    if port == 0 {
        host
    } else {
        format!("{host}:{port}")
    }
}

/// `,a,b,`: so a pattern for one tag need not care where it stands.
fn fenced(tags: &[String]) -> String {
    if tags.is_empty() {
        return String::new();
    }
    format!(",{},", tags.join(","))
}

const fn health_word(health: pb::InstanceHealth) -> &'static str {
    match health {
        pb::InstanceHealth::Unspecified => "unknown",
        pb::InstanceHealth::Passing => "passing",
        pb::InstanceHealth::Warning => "warning",
        pb::InstanceHealth::Critical => "critical",
    }
}

/// A label's name holds letters, digits and `_`.
fn sanitised(key: &str) -> String {
    key.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_version_six_stand_in_brackets() {
        assert_eq!(target("10.0.0.1", 80), "10.0.0.1:80");
        assert_eq!(target("2001:db8::1", 80), "[2001:db8::1]:80");
        assert_eq!(target("2001:DB8:0::1", 80), "[2001:db8::1]:80");
        assert_eq!(target("a.example", 0), "a.example");
        assert_eq!(target("::1", 0), "[::1]");
    }

    #[test]
    fn a_metadata_key_becomes_a_label() {
        assert_eq!(
            sanitised("app.kubernetes.io/name-x"),
            "app_kubernetes_io_name_x"
        );
        assert_eq!(sanitised("ä"), "_");
    }
}
