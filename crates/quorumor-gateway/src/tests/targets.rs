//! Prometheus's HTTP service discovery.

use std::collections::HashMap;

use tonic::Code;

use super::errors::refusal;
use super::*;

const DISCOVER: &str = "RegistryService/Discover";
const LIST: &str = "RegistryService/ListServices";

fn instance(service: &str, address: &str, health: pb::InstanceHealth) -> pb::ServiceInstance {
    pb::ServiceInstance {
        instance: Some(pb::Instance {
            service: service.to_owned(),
            instance_id: "i-1".to_owned(),
            address: address.to_owned(),
            port: 8080,
            tags: vec!["a".to_owned(), "b".to_owned()],
            metadata: HashMap::from([("app.version".to_owned(), "2".to_owned())]),
            zone: "z1".to_owned(),
            node_id: 3,
            ..pb::Instance::default()
        }),
        status: Some(pb::InstanceStatus {
            health: health.into(),
            ..pb::InstanceStatus::default()
        }),
        ..pb::ServiceInstance::default()
    }
}

fn page(instances: Vec<pb::ServiceInstance>, next: &'static [u8]) -> pb::DiscoverResponse {
    pb::DiscoverResponse {
        receipt: Some(receipt()),
        instances,
        next_page_token: next.into(),
        ..pb::DiscoverResponse::default()
    }
}

fn services(names: &[&str], more: bool) -> pb::ListServicesResponse {
    pb::ListServicesResponse {
        receipt: Some(receipt()),
        services: names
            .iter()
            .map(|name| pb::ServiceSummary {
                service: (*name).to_owned(),
                ..pb::ServiceSummary::default()
            })
            .collect(),
        more,
    }
}

#[tokio::test]
async fn a_target_has_a_group_with_labels() {
    let fake = Fake::default();
    let critical = pb::InstanceHealth::Critical;
    fake.tell(
        DISCOVER,
        &page(vec![instance("web", "10.0.0.1", critical)], b""),
    );
    let answer = ask(&fake, "GET /v1/http-sd?service=web&filter=a&mode=eventual").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("quorumor-mode"), "strong");
    let wanted = json!([{
        "targets": ["10.0.0.1:8080"],
        "labels": {
            "__meta_quorumor_service": "web",
            "__meta_quorumor_instance_id": "i-1",
            "__meta_quorumor_zone": "z1",
            "__meta_quorumor_tags": ",a,b,",
            "__meta_quorumor_health": "critical",
            "__meta_quorumor_weight": "1",
            "__meta_quorumor_node_id": "3",
            "__meta_quorumor_metadata_app_version": "2",
        },
    }]);
    assert_eq!(answer.json(), wanted);
    let asked: pb::DiscoverRequest = fake.last();
    assert_eq!(
        asked.health(),
        pb::HealthFilter::Any,
        "also those that are down"
    );
    assert_eq!(
        (asked.service.as_str(), asked.filter.as_str()),
        ("web", "a")
    );
    assert_eq!(asked.header.unwrap().mode(), pb::Mode::Eventual);
}

#[tokio::test]
async fn every_page_of_every_service_is_in_the_list() {
    let fake = Fake::default();
    let passing = pb::InstanceHealth::Passing;
    fake.tell(LIST, &services(&["api"], true));
    fake.tell(LIST, &services(&["web"], false));
    fake.tell(
        DISCOVER,
        &page(vec![instance("api", "10.0.0.1", passing)], b"p"),
    );
    fake.tell(
        DISCOVER,
        &page(vec![instance("api", "10.0.0.2", passing)], b""),
    );
    fake.tell(DISCOVER, &page(vec![instance("web", "::1", passing)], b""));
    let answer = ask(&fake, "GET /v1/http-sd?token=AQ").await;
    let list = answer.json();
    let targets: Vec<&str> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|group| group["targets"][0].as_str().unwrap())
        .collect();
    assert_eq!(targets, ["10.0.0.1:8080", "10.0.0.2:8080", "[::1]:8080"]);
    let calls = fake.seen();
    let methods: Vec<&str> = calls.iter().map(|call| call.method.as_str()).collect();
    assert_eq!(methods, [LIST, LIST, DISCOVER, DISCOVER, DISCOVER]);
    let asked = |at: usize| {
        <pb::DiscoverRequest as prost::Message>::decode(calls[at].message.as_slice()).unwrap()
    };
    assert_eq!(
        (asked(3).page_token.as_ref(), asked(4).page_token.as_ref()),
        (&b"p"[..], &b""[..])
    );
    assert_eq!(asked(4).header.unwrap().token, vec![1]);
    let second =
        <pb::ListServicesRequest as prost::Message>::decode(calls[1].message.as_slice()).unwrap();
    assert_eq!(second.after_service, "api");
}

#[tokio::test]
async fn nothing_to_scrape_is_an_empty_list() {
    let fake = Fake::default();
    let answer = ask(&fake, "GET /v1/http-sd").await;
    assert_eq!((answer.status.as_u16(), answer.json()), (200, json!([])));
}

#[tokio::test]
async fn half_a_list_is_never_given() {
    let fake = Fake::default();
    fake.tell(
        DISCOVER,
        &page(
            vec![instance("web", "10.0.0.1", pb::InstanceHealth::Passing)],
            b"p",
        ),
    );
    fake.fail(
        DISCOVER,
        refusal(Code::Unavailable, "NO_QUORUM", "not_applied"),
    );
    ask(&fake, "GET /v1/http-sd?service=web")
        .await
        .problem(503, "NO_QUORUM");
}
