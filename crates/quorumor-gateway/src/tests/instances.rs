//! Services and their instances.

use tonic::Code;

use super::errors::refusal;
use super::*;

fn named(instance_id: &str) -> Option<pb::InstanceName> {
    Some(pb::InstanceName {
        service: "web".to_owned(),
        instance_id: instance_id.to_owned(),
    })
}

fn kept(results: Vec<pb::BeatResult>) -> pb::KeepAliveResponse {
    pb::KeepAliveResponse {
        receipt: Some(receipt()),
        results,
        status: bytes::Bytes::new(),
    }
}

fn alive(instance_id: &str) -> pb::BeatResult {
    pb::BeatResult {
        name: named(instance_id),
        ttl: Some(quorumor_proto::receipt::millis(30_000)),
        status: bytes::Bytes::new(),
    }
}

#[tokio::test]
async fn an_instance_registers_with_its_name_in_the_path() {
    let fake = Fake::default();
    let body = json!({
        "instance": {
            "address": "10.0.0.1",
            "port": 80,
            "tags": ["a", "b"],
            "metadata": { "version": "2" },
            "checks": [{ "check_id": "up", "http": { "url": "/health" }, "interval": "2s" }],
        },
        "ttl": "1m",
        "health": "warning",
    });
    let answer = send(&fake, "PUT /v1/services/web/web-1?mode=eventual", body).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["created"], false);
    let asked: pb::RegisterRequest = fake.last();
    assert_eq!(asked.health(), pb::InstanceHealth::Warning);
    assert_eq!(asked.ttl, Some(quorumor_proto::receipt::millis(60_000)));
    let instance = asked.instance.unwrap();
    assert_eq!(
        (instance.service.as_str(), instance.instance_id.as_str()),
        ("web", "web-1")
    );
    assert_eq!((instance.port, instance.tags.len()), (80, 2));
    assert_eq!(instance.metadata["version"], "2");
    let check = pb::health_check::Kind::Http(pb::HttpCheck {
        url: "/health".to_owned(),
        method: String::new(),
    });
    assert_eq!(instance.checks[0].kind, Some(check));
}

#[tokio::test]
async fn an_instance_goes_by_its_name() {
    let fake = Fake::default();
    ask(&fake, "DELETE /v1/services/web/web-1").await;
    assert_eq!(fake.last::<pb::DeregisterRequest>().name, named("web-1"));
}

/// A step with a duration beyond what protobuf's JSON can say.
pub(super) fn unshowable() -> pb::WatchServiceResponse {
    use pb::watch_service_response::Step;
    let snapshot = pb::ServiceSnapshot {
        instances: vec![odd()],
        complete: true,
    };
    pb::WatchServiceResponse {
        receipt: Some(receipt()),
        step: Some(Step::Snapshot(snapshot)),
        cursor: b"c"[..].into(),
    }
}

fn odd() -> pb::ServiceInstance {
    let instance = pb::Instance {
        deregister_critical_after: Some(prost_types::Duration {
            seconds: 60,
            nanos: 1_500_000_000,
        }),
        ..pb::Instance::default()
    };
    pb::ServiceInstance {
        instance: Some(instance),
        ..pb::ServiceInstance::default()
    }
}

#[tokio::test]
async fn an_answer_that_json_can_not_show_is_an_error() {
    let fake = Fake::default();
    let found = pb::DiscoverResponse {
        instances: vec![odd()],
        ..pb::DiscoverResponse::default()
    };
    fake.tell("RegistryService/Discover", &found);
    let problem = ask(&fake, "GET /v1/services/web")
        .await
        .problem(500, "INTERNAL");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("JSON can't show"), "{detail}");
}

#[tokio::test]
async fn a_discovery_takes_its_filters_from_the_query() {
    let fake = Fake::default();
    let filter = "web%20%26%26%20version%3D2";
    ask(
        &fake,
        &format!(
            "GET /v1/services/web?filter={filter}&health=any&zone=z1&zone_rule=require&limit=5"
        ),
    )
    .await;
    let asked: pb::DiscoverRequest = fake.last();
    assert_eq!(
        (asked.service.as_str(), asked.filter.as_str()),
        ("web", "web && version=2")
    );
    assert_eq!(
        (asked.health(), asked.zone_rule()),
        (pb::HealthFilter::Any, pb::ZoneRule::Require)
    );
    assert_eq!((asked.zone.as_str(), asked.limit), ("z1", 5));
}

#[tokio::test]
async fn a_sign_of_life_tells_health() {
    let fake = Fake::default();
    fake.tell("RegistryService/KeepAlive", &kept(vec![alive("web-1")]));
    let line = "POST /v1/services/web/web-1/keepalive?mode=strong";
    let answer = send(
        &fake,
        line,
        json!({ "health": "critical", "output": "disk" }),
    )
    .await;
    assert_eq!(answer.status, 200);
    let body = answer.json();
    assert_eq!(
        (&body["ttl"], &body["name"]["service"]),
        (&json!("30s"), &json!("web"))
    );
    assert_eq!(body["receipt"]["node_id"], "2");
    assert_eq!(body.get("status"), None);
    let asked: pb::KeepAliveRequest = fake.last();
    assert_eq!(asked.header.unwrap().mode(), pb::Mode::Strong);
    let beat = pb::Beat {
        name: named("web-1"),
        health: pb::InstanceHealth::Critical.into(),
        output: "disk".to_owned(),
    };
    assert_eq!(asked.beats, [beat]);
}

#[tokio::test]
async fn an_instance_that_is_gone_must_register_again() {
    let fake = Fake::default();
    let gone = pb::BeatResult {
        ttl: None,
        ..alive("web-1")
    };
    for told in [vec![gone], vec![]] {
        fake.tell("RegistryService/KeepAlive", &kept(told));
        let answer = ask(&fake, "POST /v1/services/web/web-1/keepalive").await;
        let problem = answer.problem(404, "INSTANCE_NOT_FOUND");
        assert_eq!(problem["certainty"], "not_applied");
        assert_eq!(problem["receipt"]["node_id"], "2");
    }
}

#[tokio::test]
async fn a_sign_of_life_that_failed_is_a_problem() {
    let fake = Fake::default();
    let status: bytes::Bytes = refusal(Code::Unavailable, "NO_QUORUM", "not_applied")
        .details()
        .to_vec()
        .into();
    let line = "POST /v1/services/web/web-1/keepalive";
    let one = pb::BeatResult {
        status: status.clone(),
        ttl: None,
        ..alive("web-1")
    };
    fake.tell("RegistryService/KeepAlive", &kept(vec![one]));
    ask(&fake, line).await.problem(503, "NO_QUORUM");
    let all = pb::KeepAliveResponse {
        status,
        ..kept(vec![])
    };
    fake.tell("RegistryService/KeepAlive", &all);
    ask(&fake, line).await.problem(503, "NO_QUORUM");
    fake.tell("RegistryService/KeepAlive", &all);
    ask(&fake, "POST /v1/keepalive")
        .await
        .problem(503, "NO_QUORUM");
    fake.fail(
        "RegistryService/KeepAlive",
        refusal(Code::Unavailable, "STARTING", "not_applied"),
    );
    ask(&fake, line).await.problem(503, "STARTING");
}

#[tokio::test]
async fn many_signs_of_life_have_a_result_each() {
    let fake = Fake::default();
    let status = refusal(Code::Unavailable, "NO_QUORUM", "not_applied")
        .details()
        .to_vec();
    let failed = pb::BeatResult {
        status: status.into(),
        ttl: None,
        ..alive("2")
    };
    let gone = pb::BeatResult {
        ttl: None,
        ..alive("3")
    };
    fake.tell(
        "RegistryService/KeepAlive",
        &kept(vec![alive("1"), failed, gone]),
    );
    let beats = json!({ "beats": [
        { "name": { "service": "web", "instance_id": "1" } },
        { "name": { "service": "web", "instanceId": "2" }, "health": "INSTANCE_HEALTH_PASSING" },
        { "name": { "service": "web", "instance_id": "3" } },
    ] });
    let answer = send(&fake, "POST /v1/keepalive", beats).await;
    assert_eq!(answer.status, 200);
    let results = &answer.json()["results"];
    assert_eq!(results[0]["ttl"], "30s");
    assert_eq!(results[1]["problem"]["reason"], "NO_QUORUM");
    assert_eq!(results[2]["name"]["instance_id"], "3");
    assert_eq!(
        (results[2].get("ttl"), results[2].get("problem")),
        (None, None)
    );
    assert_eq!(fake.last::<pb::KeepAliveRequest>().beats.len(), 3);
}
