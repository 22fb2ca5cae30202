//! Failures of a call: the status code, the problem, what is known about the write.

use std::collections::HashMap;

use prost::Message;
use prost_types::Any;
use tonic::{Code, Status};
use tonic_types::pb as rpc;

use super::*;

/// A status as a node makes it.
pub(super) fn refusal(code: Code, reason: &str, certainty: &str) -> Status {
    let any = |kind: &str, value: Vec<u8>| Any {
        type_url: format!("type.googleapis.com/{kind}"),
        value,
    };
    let info = rpc::ErrorInfo {
        reason: reason.to_owned(),
        domain: "quorumor.dev".to_owned(),
        metadata: HashMap::from([
            ("certainty".to_owned(), certainty.to_owned()),
            ("leader".to_owned(), "3".to_owned()),
        ]),
    };
    let retry = rpc::RetryInfo {
        retry_delay: Some(quorumor_proto::receipt::millis(1_200)),
    };
    let body = rpc::Status {
        code: code.into(),
        message: "no luck".to_owned(),
        details: vec![
            any("google.rpc.ErrorInfo", info.encode_to_vec()),
            any("google.rpc.RetryInfo", retry.encode_to_vec()),
            any("quorumor.v1.Receipt", receipt().encode_to_vec()),
        ],
    };
    Status::with_details(code, "no luck", body.encode_to_vec().into())
}

#[tokio::test]
async fn a_failure_is_a_problem_with_all_that_the_status_says() {
    let fake = Fake::default();
    let status = refusal(Code::Unavailable, "NOT_LEADER", "not_applied");
    fake.fail("StateService/Put", status.clone());
    let answer = answered(&fake, request("PUT /v1/kv/a", &[], "x")).await;
    let problem = answer.problem(503, "NOT_LEADER");
    assert_eq!(problem["title"], "Not leader");
    assert_eq!(problem["detail"], "no luck");
    assert_eq!(problem["certainty"], "not_applied");
    assert_eq!(problem["metadata"], json!({ "leader": "3" }));
    assert_eq!(problem["retry_after_ms"], 1_200);
    assert_eq!(problem["receipt"]["strong"]["term"], "5");
    assert_eq!(answer.header("retry-after"), "2");
    assert_eq!(answer.header("quorumor-degraded"), "LEADER_UNREACHABLE");

    let alone = crate::problem(&status);
    assert_eq!(alone.status(), 503);
    let body = axum::body::to_bytes(alone.into_body(), usize::MAX)
        .await
        .unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), problem);
}

#[tokio::test]
async fn codes_become_http_statuses() {
    let cases = [
        (Code::InvalidArgument, "INVALID_ARGUMENT", 400),
        (Code::InvalidArgument, "TOO_LARGE", 413),
        (Code::FailedPrecondition, "GUARANTEE_UNAVAILABLE", 400),
        (Code::OutOfRange, "HISTORY_GONE", 400),
        (Code::Unauthenticated, "UNAUTHENTICATED", 401),
        (Code::PermissionDenied, "PERMISSION_DENIED", 403),
        (Code::NotFound, "LEASE_NOT_FOUND", 404),
        (Code::ResourceExhausted, "OVERLOADED", 429),
        (Code::Unknown, "OUTCOME_UNKNOWN", 504),
        (Code::DeadlineExceeded, "DEADLINE_EXCEEDED", 504),
        (Code::Internal, "INTERNAL", 500),
        (Code::DataLoss, "DAMAGED", 500),
        (Code::Unavailable, "NO_QUORUM", 503),
        (Code::Unimplemented, "UNIMPLEMENTED", 501),
    ];
    for (code, reason, http) in cases {
        let fake = Fake::default();
        fake.fail("StateService/Get", refusal(code, reason, "unknown"));
        let answer = ask(&fake, "GET /v1/kv/a").await;
        assert_eq!(answer.problem(http, reason)["certainty"], "unknown");
        let wanted = if http == 401 { "Bearer" } else { "" };
        assert_eq!(answer.header("www-authenticate"), wanted);
    }
}

#[tokio::test]
async fn a_status_without_details_has_its_code_for_a_reason_and_nothing_is_known() {
    let fake = Fake::default();
    fake.fail("StateService/Put", Status::unavailable("gone"));
    let answer = answered(&fake, request("PUT /v1/kv/a", &[], "x")).await;
    assert_eq!(answer.problem(503, "UNAVAILABLE")["certainty"], "unknown");
    assert_eq!(answer.header("retry-after"), "");
}

#[tokio::test]
async fn a_service_that_is_not_there_applied_nothing() {
    let fake = Fake::default();
    let mut router = crate::router(tonic::service::Routes::default());
    let response = router
        .call(request("GET /v1/status", &[], Body::empty()))
        .await
        .unwrap();
    assert_eq!(response.status(), 501);
    assert_eq!(response.headers()["quorumor-certainty"], "not_applied");
    assert!(fake.seen().is_empty());
}
