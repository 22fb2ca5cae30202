//! Requests that can't be served: each refusal names what was wrong and what there is, and nothing is called.

use super::*;

/// Asks, and checks that nothing was called.
async fn refused(asked: Request<Body>) -> Answered {
    let fake = Fake::default();
    let answer = answered(&fake, asked).await;
    assert!(fake.seen().is_empty(), "nothing is called");
    answer
}

async fn refused_line(line: &str) -> Value {
    let answer = refused(request(line, &[], Body::empty())).await;
    answer.problem(400, "INVALID_ARGUMENT")
}

async fn refused_body(line: &str, body: &str) -> Value {
    let kind = [("content-type", "application/json")];
    let answer = refused(request(line, &kind, body.to_owned())).await;
    answer.problem(400, "INVALID_ARGUMENT")
}

#[tokio::test]
async fn a_bad_part_of_a_url_is_named() {
    let cases = [
        ("GET /v1/kv/a?levle=local", "levle", "`level`"),
        ("GET /v1/kv/a?keys_only=true", "keys_only", "`revision`"),
        ("GET /v1/status?raw", "raw", "`include_digest`"),
        ("GET /v1/kv/a?level=strongest", "level", "`linearizable`"),
        ("GET /v1/kv/a?mode=unspecified", "mode", "`eventual`"),
        ("GET /v1/kv/a?mode=", "mode", "`strong`"),
        (
            "GET /v1/kv/a?revision=-1",
            "revision",
            "18446744073709551615",
        ),
        ("GET /v1/kv?limit=4294967296", "limit", "4294967295"),
        ("GET /v1/kv?keys_only=yes", "keys_only", "`true`"),
        ("GET /v1/kv/a?raw=yes", "raw", "`true`"),
        ("GET /v1/kv/a?token=%2A", "token", "base64"),
        ("GET /v1/kv/a?timeout=5", "timeout", "`500ms`"),
        ("GET /v1/kv/a?timeout=0s", "timeout", "`500ms`"),
        ("GET /v1/kv/a?timeout=25h", "timeout", "a day"),
        ("GET /v1/kv/a?max_age=soon", "max_age", "`500ms`"),
        (
            "GET /v1/kv/a?level=local&level=local",
            "level",
            "more than once",
        ),
        ("GET /v1/kv/a?token=%zz", "query", "%zz"),
        ("GET /v1/kv/a?token=%", "query", "hexadecimal"),
        ("GET /v1/kv/%ff", "key", "UTF-8"),
        ("GET /v1/kv/a%2", "key", "hexadecimal"),
        ("GET /v1/leases/none", "lease_id", "whole number"),
        ("GET /v1/digest/keys?buckets=1,x", "buckets", "whole number"),
        (
            "GET /v1/openapi.json?mode=strong",
            "mode",
            "no such parameter",
        ),
    ];
    for (line, field, says) in cases {
        let problem = refused_line(line).await;
        assert_eq!(problem["violations"][0]["field"], field, "{line}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.starts_with(field), "{line}: {detail}");
        assert!(detail.contains(says), "{line}: {detail}");
        assert_eq!(problem["certainty"], "not_applied");
    }
}

#[tokio::test]
async fn a_bad_header_is_named() {
    let cases = [
        ("quorumor-levle", "local", "`quorumor-level`"),
        ("quorumor-level", "best", "`sampled`"),
        ("quorumor-timeout", "forever", "`500ms`"),
        ("quorumor-token", "ä", "ASCII"),
    ];
    for (name, value, says) in cases {
        let answer = refused(request("GET /v1/kv/a", &[(name, value)], Body::empty())).await;
        let problem = answer.problem(400, "INVALID_ARGUMENT");
        assert_eq!(problem["violations"][0]["field"], name);
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(says), "{detail}");
    }
    let twice = [("quorumor-mode", "strong"), ("quorumor-mode", "eventual")];
    let answer = refused(request("GET /v1/kv/a", &twice, Body::empty())).await;
    answer.problem(400, "INVALID_ARGUMENT");
}

/// Request, body, the place that is named, and what is said of it.
const BAD_BODIES: &[(&str, &str, &str, &str)] = &[
    (
        "PUT /v1/kv/a",
        r#"{"vlaue": "AQ=="}"#,
        "vlaue",
        "`value`, `text`",
    ),
    (
        "PUT /v1/kv/a",
        r#"{"key": "b", "text": ""}"#,
        "key",
        "`value`, `text`",
    ),
    ("PUT /v1/kv/a", r#"{"value": "%"}"#, "value", "base64"),
    (
        "PUT /v1/kv/a",
        r#"{"value": "AQ==", "text": "x"}"#,
        "text",
        "not together",
    ),
    ("PUT /v1/kv/a", r#"{"text": 5}"#, "text", "string"),
    ("PUT /v1/kv/a", "{}", "value", "needed"),
    ("PUT /v1/kv/a", "[]", "body", "object"),
    ("PUT /v1/kv/a", "{\"text\":", "body", "no JSON"),
    ("PUT /v1/kv/a", "", "body", "no JSON"),
    ("POST /v1/txn", r#"{"success": {}}"#, "success", "list"),
    (
        "POST /v1/txn",
        r#"{"success": [{"put": {"key": 5}}]}"#,
        "success[0].put.key",
        "string",
    ),
    (
        "POST /v1/txn",
        r#"{"success": [{}, {"set": {}}]}"#,
        "success[1].set",
        "`put`, `delete`",
    ),
    (
        "POST /v1/txn",
        r#"{"success": [{"put": {"key": "a"}, "get": {"key": "a"}}]}"#,
        "success[0].put",
        "not together with `get`",
    ),
    (
        "POST /v1/txn",
        r#"{"compares": [{"relation": "near"}]}"#,
        "compares[0].relation",
        "`greater`",
    ),
    (
        "POST /v1/txn",
        r#"{"compares": [{"relation": 1.5}]}"#,
        "compares[0].relation",
        "name",
    ),
    (
        "POST /v1/txn",
        r#"{"compares": [{"count": -1}]}"#,
        "compares[0].count",
        "whole number",
    ),
    (
        "POST /v1/txn",
        r#"{"compares": [{"count": {}}]}"#,
        "compares[0].count",
        "whole number",
    ),
    ("POST /v1/leases", r#"{"ttl": 5}"#, "ttl", "`500ms`"),
    (
        "POST /v1/leases",
        r#"{"ttl": {"seconds": 5}}"#,
        "ttl",
        "`500ms`",
    ),
    (
        "POST /v1/members",
        r#"{"stay_learner": "true "}"#,
        "stay_learner",
        "`true`",
    ),
    (
        "PUT /v1/services/web/1",
        r#"{"instance": {"metadata": {"a": 1}}}"#,
        "instance.metadata.a",
        "string",
    ),
    (
        "PUT /v1/services/web/1",
        r#"{"instance": "x"}"#,
        "instance",
        "object",
    ),
    (
        "POST /v1/services/web/1/keepalive",
        r#"{"health": "fine"}"#,
        "health",
        "`passing`",
    ),
    ("DELETE /v1/kv/a", "{}", "body", "takes none"),
];

#[tokio::test]
async fn a_bad_part_of_a_body_is_named_by_its_place() {
    for (line, body, field, says) in BAD_BODIES {
        let problem = refused_body(line, body).await;
        let detail = problem["detail"].as_str().unwrap();
        assert_eq!(
            problem["violations"][0]["field"], *field,
            "{line} {body}: {detail}"
        );
        assert!(detail.contains(says), "{line} {body}: {detail}");
    }
}

#[tokio::test]
async fn a_body_without_end_of_nesting_is_refused() {
    let deep = "[".repeat(100_000);
    refused_body("POST /v1/txn", &deep).await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_announced_or_not() {
    let whole = vec![b'x'; crate::BODY_BYTES_MAX + 1];
    let length = whole.len().to_string();
    let announced = request(
        "PUT /v1/kv/a",
        &[("content-length", &length)],
        Body::empty(),
    );
    let answer = refused(announced).await;
    let problem = answer.problem(413, "TOO_LARGE");
    assert_eq!(
        problem["metadata"]["max"],
        crate::BODY_BYTES_MAX.to_string()
    );
    let answer = refused(request("PUT /v1/kv/a", &[], whole)).await;
    assert_eq!(answer.problem(413, "TOO_LARGE")["certainty"], "not_applied");
}

#[tokio::test]
async fn a_message_over_the_nodes_own_limit_is_too_large_too() {
    let fake = Fake::default();
    let value = vec![b'x'; 5 * 1024 * 1024];
    let answer = answered(&fake, request("PUT /v1/kv/a", &[], value)).await;
    assert_eq!(answer.problem(413, "TOO_LARGE")["certainty"], "not_applied");
    assert!(fake.seen().is_empty());
}

#[tokio::test]
async fn a_path_that_is_not_there_gets_the_nearest() {
    let cases = [
        ("GET /v1", "GET /v1/kv"),
        ("GET /v1/", "GET /v1/kv"),
        ("GET /v1/kv/", "GET /v1/kv/{key}"),
        ("GET /v1/service/web", "GET /v1/services/{service}"),
        (
            "POST /v1/leases/5/keep-alive",
            "POST /v1/leases/{lease_id}/keepalive",
        ),
    ];
    for (line, nearest) in cases {
        let answer = refused(request(line, &[], Body::empty())).await;
        let problem = answer.problem(404, "NO_SUCH_PATH");
        let found = problem["metadata"]["nearest"].as_str().unwrap();
        assert_eq!(found, nearest, "{line}");
    }
}

#[tokio::test]
async fn a_wrong_verb_gets_those_that_there_are() {
    let cases = [
        ("POST /v1/kv/a", "DELETE, GET, HEAD, PUT"),
        ("PUT /v1/leases/5", "DELETE, GET, HEAD"),
        ("GET /v1/txn", "POST"),
        ("PATCH /v1/services/web/watch", "DELETE, GET, HEAD, PUT"),
        ("OPTIONS /v1/status", "GET, HEAD"),
    ];
    for (line, allow) in cases {
        let answer = refused(request(line, &[], Body::empty())).await;
        answer.problem(405, "METHOD_NOT_ALLOWED");
        assert_eq!(answer.header("allow"), allow, "{line}");
    }
}

#[test]
fn no_request_has_a_field_that_a_caller_could_not_give() {
    use prost_reflect::{Kind, MessageDescriptor};
    fn check(message: &MessageDescriptor, seen: &mut Vec<String>) {
        if seen.contains(&message.full_name().to_owned()) {
            return;
        }
        seen.push(message.full_name().to_owned());
        for field in message.fields() {
            match field.kind() {
                Kind::Message(inner) if inner.full_name() == "google.protobuf.Duration" => {}
                Kind::Message(inner) => check(&inner, seen),
                Kind::String | Kind::Bytes | Kind::Bool | Kind::Enum(_) => {}
                Kind::Uint32 | Kind::Fixed32 | Kind::Uint64 | Kind::Fixed64 => {}
                other @ (Kind::Int32
                | Kind::Sint32
                | Kind::Sfixed32
                | Kind::Int64
                | Kind::Sint64
                | Kind::Sfixed64
                | Kind::Float
                | Kind::Double) => panic!("{}: {other:?}", field.full_name()),
            }
        }
    }
    let mut seen = Vec::new();
    for route in ROUTES.iter().filter(|route| route.calls()) {
        let input = crate::descriptors::method(route.method).input();
        assert!(input.get_field_by_name("header").is_some());
        check(&input, &mut seen);
    }
    assert!(seen.len() > 30);
}
