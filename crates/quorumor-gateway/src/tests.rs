//! The router against services that remember what they were asked and answer what they were told to.

mod entries;
mod errors;
mod events;
mod fake;
mod hostile;
mod instances;
mod openapi;
mod targets;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, Request, StatusCode};
use serde_json::{Value, json};
use tonic::codegen::Service;

use crate::routes::{Answer, Body as Takes, ROUTES};
use fake::{Fake, receipt};
use quorumor_proto::pb;

/// A response, read whole.
struct Answered {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answered {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!("{error}: {}", String::from_utf8_lossy(&self.body));
        })
    }

    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// Checks that it is a problem, and gives it.
    fn problem(&self, status: u16, reason: &str) -> Value {
        let body = self.json();
        assert_eq!(self.status, status, "{body}");
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(body["reason"], reason, "{body}");
        assert_eq!(body["status"], status);
        assert_eq!(body["type"], format!("urn:quorumor:error:{reason}"));
        assert_eq!(self.header("quorumor-reason"), reason);
        assert_eq!(
            self.header("quorumor-certainty"),
            body["certainty"].as_str().unwrap()
        );
        body
    }
}

async fn begun(fake: &Fake, request: Request<Body>) -> Response {
    crate::router(fake.routes()).call(request).await.unwrap()
}

async fn answered(fake: &Fake, request: Request<Body>) -> Answered {
    let (parts, body) = begun(fake, request).await.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    Answered {
        status: parts.status,
        headers: parts.headers,
        body: body.to_vec(),
    }
}

/// A request of a verb and a path, such as `GET /v1/kv/a`, with headers and a body.
fn request(line: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Request<Body> {
    let (verb, uri) = line.split_once(' ').unwrap();
    let mut request = Request::builder().method(verb).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body.into()).unwrap()
}

async fn ask(fake: &Fake, line: &str) -> Answered {
    answered(fake, request(line, &[], Body::empty())).await
}

async fn send(fake: &Fake, line: &str, body: Value) -> Answered {
    let kind = [("content-type", "application/json")];
    answered(fake, request(line, &kind, body.to_string())).await
}

#[tokio::test]
async fn every_route_reaches_its_method() {
    for route in ROUTES.iter().filter(|route| route.calls()) {
        let fake = Fake::default();
        let path = route.path.replace("{*key}", "7").replace(['{', '}'], "");
        let path = path
            .replace("lease_id", "7")
            .replace("node_id", "7")
            .replace("/session/", "/7/")
            .replace("sessions/session", "sessions/7");
        let service = if route.answer == Answer::Targets {
            "?service=7"
        } else {
            ""
        };
        let line = format!("{} {path}{service}", route.verb);
        let body = match route.body {
            Takes::None => Body::empty(),
            Takes::Json | Takes::Beat | Takes::Value => Body::from("{}"),
        };
        let response = begun(&fake, request(&line, &[], body)).await;
        let seen: Vec<String> = fake.seen().into_iter().map(|call| call.method).collect();
        assert_eq!(seen, [route.method], "{line}: {}", response.status());
    }
}

#[tokio::test]
async fn what_every_request_can_say_comes_from_the_query_or_from_headers() {
    let fake = Fake::default();
    let token = "-__-AQ";
    let line = format!(
        "GET /v1/kv/a?mode=strong&level=bounded&token={token}&allow_degraded&client_id=5&seq=6\
         &acked_through=4&data_epoch=3&request_id=x%20y&acks=2&max_age=1500ms&max_lag=0&members=9"
    );
    answered(
        &fake,
        request(&line, &[("quorumor-mode", "eventual")], Body::empty()),
    )
    .await;
    let by_query: pb::GetRequest = fake.last();
    let header = by_query.header.unwrap();
    let bound = pb::Bound {
        max_lag: Some(0),
        max_age: Some(quorumor_proto::receipt::millis(1_500)),
        members: 9,
    };
    let wanted = pb::RequestHeader {
        mode: pb::Mode::Strong.into(),
        level: pb::Level::Bounded.into(),
        token: vec![0xfb, 0xff, 0xfe, 1].into(),
        allow_degraded: true,
        client_id: 5,
        seq: 6,
        acked_through: 4,
        data_epoch: 3,
        request_id: "x y".to_owned(),
        bound: Some(bound),
        acks: 2,
    };
    assert_eq!(header, wanted, "the query wins");
    let headers = [
        ("quorumor-mode", "MODE_STRONG"),
        ("quorumor-level", "Bounded"),
        ("quorumor-token", "+//+AQ=="),
        ("quorumor-allow-degraded", "true"),
        ("quorumor-client-id", "5"),
        ("quorumor-seq", "6"),
        ("quorumor-acked-through", "4"),
        ("quorumor-data-epoch", "3"),
        ("quorumor-request-id", "x y"),
        ("quorumor-acks", "2"),
        ("quorumor-max-age", "1.5s"),
        ("quorumor-max-lag", "0"),
        ("quorumor-members", "9"),
        ("quorumor-node", "1"),
    ];
    answered(&fake, request("GET /v1/kv/a", &headers, Body::empty())).await;
    let by_headers: pb::GetRequest = fake.last();
    assert_eq!(by_headers.header.unwrap(), wanted);
}

#[tokio::test]
async fn a_token_of_an_answer_may_be_sent_back_unescaped() {
    let fake = Fake::default();
    ask(&fake, "GET /v1/kv/a?token=+//+AQ==").await;
    let got: pb::GetRequest = fake.last();
    assert_eq!(got.header.unwrap().token, vec![0xfb, 0xff, 0xfe, 1]);
}

#[tokio::test]
async fn who_calls_and_how_long_it_waits_go_with_the_call() {
    #[derive(Clone)]
    struct Principal(&'static str);
    let fake = Fake::default();
    let mut asked = request(
        "GET /v1/kv/a?timeout=250ms",
        &[
            ("authorization", "Bearer secret"),
            ("quorumor-timeout", "9s"),
            ("cookie", "no"),
        ],
        Body::empty(),
    );
    asked.extensions_mut().insert(Principal("anna"));
    answered(&fake, asked).await;
    let call = fake.seen().pop().unwrap();
    let text = |name: &str| call.metadata.get(name).map(|value| value.to_str().unwrap());
    assert_eq!(text("authorization"), Some("Bearer secret"));
    assert_eq!(text("grpc-timeout"), Some("250000u"));
    assert_eq!(text("cookie"), None);
    assert_eq!(call.extensions.get::<Principal>().unwrap().0, "anna");
}

#[tokio::test]
async fn a_receipt_is_in_the_body_and_in_headers() {
    let fake = Fake::default();
    let answer = ask(&fake, "DELETE /v1/kv/a").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), "application/json");
    let told = [
        ("quorumor-mode", "strong"),
        ("quorumor-asked", "linearizable"),
        ("quorumor-got", "local"),
        ("quorumor-degraded", "LEADER_UNREACHABLE"),
        ("quorumor-node", "2"),
        ("quorumor-epoch", "7"),
        ("quorumor-token", "-__-AQ"),
        ("quorumor-revision", "41"),
        ("quorumor-term", "5"),
        ("quorumor-staleness", "proven"),
        ("quorumor-members", "2 alive, 1 suspect, 0 down"),
    ];
    for (name, value) in told {
        assert_eq!(answer.header(name), value, "{name}");
    }
    let body = answer.json();
    assert_eq!(body["found"], false, "what is false is said");
    let shown = &body["receipt"];
    assert_eq!(shown["mode"], "MODE_STRONG");
    assert_eq!(shown["token"], "+//+AQ==");
    assert_eq!(shown["strong"]["revision"], "41");
    assert_eq!(shown["staleness"]["contact_age"], "0.250s");
    assert_eq!(shown["staleness"].get("apply_lag"), None, "not known");
    assert_eq!(shown["data_epoch"], json!(receipt().data_epoch.to_string()));
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let fake = Fake::default();
    let answer = ask(&fake, "HEAD /v1/status").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("quorumor-mode"), "strong");
    assert!(answer.body.is_empty());
}
