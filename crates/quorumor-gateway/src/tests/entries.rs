//! Keys, values, leases, transactions: JSON both ways, and values as they are.

use super::*;

const OCTETS: &str = "application/octet-stream";

fn entry(value: &[u8]) -> pb::GetResponse {
    pb::GetResponse {
        receipt: Some(receipt()),
        found: true,
        entry: Some(pb::Entry {
            key: "a/b".to_owned(),
            value: value.to_vec().into(),
            lease_id: u64::MAX,
            ..pb::Entry::default()
        }),
    }
}

#[tokio::test]
async fn an_entry_is_read_as_json() {
    let fake = Fake::default();
    fake.tell("StateService/Get", &entry(&[0xff, 0]));
    let answer = ask(&fake, "GET /v1/kv/a/b%20%C3%A4?revision=3").await;
    assert_eq!(answer.status, 200);
    let body = answer.json();
    assert_eq!(body["found"], true);
    assert_eq!(body["entry"]["value"], "/wA=");
    assert_eq!(body["entry"]["lease_id"], u64::MAX.to_string());
    let asked: pb::GetRequest = fake.last();
    assert_eq!((asked.key.as_str(), asked.revision), ("a/b ä", 3));
}

#[tokio::test]
async fn an_absent_key_is_an_answer_with_404() {
    let fake = Fake::default();
    for line in ["GET /v1/kv/a", "GET /v1/kv/a?raw", "GET /v1/leases/5"] {
        let answer = ask(&fake, line).await;
        assert_eq!(answer.status, 404, "{line}");
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(answer.header("quorumor-revision"), "41");
        assert_eq!(answer.json()["found"], false);
        assert_eq!(answer.json()["receipt"]["node_id"], "2");
    }
}

#[tokio::test]
async fn a_value_can_be_read_alone() {
    let raw = request("GET /v1/kv/a?raw=true", &[], Body::empty());
    let accepted = request(
        "GET /v1/kv/a",
        &[("accept", "text/html, application/octet-stream;q=0.9")],
        Body::empty(),
    );
    for asked in [raw, accepted] {
        let fake = Fake::default();
        fake.tell("StateService/Get", &entry(b"<b>\0"));
        let answer = answered(&fake, asked).await;
        assert_eq!(answer.body, b"<b>\0");
        assert_eq!(answer.header("content-type"), OCTETS);
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("quorumor-mode"), "strong");
    }
}

#[tokio::test]
async fn a_value_read_alone_has_its_context_in_a_header() {
    let fake = Fake::default();
    let mut told = entry(b"x");
    let version = pb::EventualVersion {
        context: vec![0xff].into(),
        ..pb::EventualVersion::default()
    };
    told.entry.as_mut().unwrap().version = Some(pb::Version {
        version: Some(pb::version::Version::Eventual(version)),
    });
    fake.tell("StateService/Get", &told);
    assert_eq!(
        ask(&fake, "GET /v1/kv/a?raw")
            .await
            .header("quorumor-context"),
        "_w"
    );
    answered(&fake, request("PUT /v1/kv/a?context=_w", &[], "y")).await;
    let put: pb::PutRequest = fake.last();
    assert_eq!(put.context, vec![0xff]);
}

#[tokio::test]
async fn any_body_that_is_no_json_is_the_value() {
    let json = ("content-type", "application/json");
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [u8]);
    let cases: [Case<'_>; 5] = [
        ("PUT /v1/kv/a", &[], b"hello"),
        (
            "PUT /v1/kv/a",
            &[("content-type", "application/x-www-form-urlencoded")],
            b"a=b&c%20",
        ),
        ("PUT /v1/kv/a", &[("content-type", OCTETS)], &[0xff, 0]),
        ("PUT /v1/kv/a", &[], b""),
        ("PUT /v1/kv/a?raw", &[json], b"{\"any\": \"document\"}"),
    ];
    for (line, headers, body) in cases {
        let fake = Fake::default();
        let answer = answered(&fake, request(line, headers, body.to_vec())).await;
        assert_eq!(answer.status, 200);
        let put: pb::PutRequest = fake.last();
        assert_eq!((put.key.as_str(), put.value.as_ref()), ("a", body));
    }
    let fake = Fake::default();
    answered(&fake, request("PUT /v1/kv/a?lease_id=9", &[], "x")).await;
    let put: pb::PutRequest = fake.last();
    assert_eq!(put.lease_id, 9);
}

#[tokio::test]
async fn a_value_can_be_put_as_json() {
    let cases = [
        (
            json!({ "value": "/wA=", "lease_id": "5" }),
            vec![0xff, 0],
            5,
            vec![],
        ),
        (
            json!({ "value": "_wA", "leaseId": 5 }),
            vec![0xff, 0],
            5,
            vec![],
        ),
        (
            json!({ "text": "hällo", "context": "AQ==" }),
            "hällo".into(),
            0,
            vec![1],
        ),
        (json!({ "text": "" }), vec![], 0, vec![]),
    ];
    for (body, value, lease_id, context) in cases {
        let fake = Fake::default();
        let kind = [("content-type", "Application/JSON; charset=utf-8")];
        let answer = answered(&fake, request("PUT /v1/kv/a", &kind, body.to_string())).await;
        assert_eq!(answer.status, 200, "{body}");
        let put: pb::PutRequest = fake.last();
        assert_eq!(put.value, value, "{body}");
        assert_eq!((put.lease_id, put.context.to_vec()), (lease_id, context));
    }
}

#[tokio::test]
async fn a_range_is_a_prefix_or_an_interval() {
    let fake = Fake::default();
    ask(
        &fake,
        "GET /v1/kv?prefix=a%2F&limit=2&page_token=_w&keys_only&revision=8",
    )
    .await;
    let by_prefix: pb::ListRequest = fake.last();
    let range = pb::KeyRange {
        range: Some(pb::key_range::Range::Prefix("a/".to_owned())),
    };
    assert_eq!(by_prefix.range, Some(range));
    assert_eq!(
        (by_prefix.limit, by_prefix.keys_only, by_prefix.revision),
        (2, true, 8)
    );
    assert_eq!(by_prefix.page_token, vec![0xff]);

    ask(&fake, "GET /v1/kv?start=a&end=b").await;
    let by_interval: pb::ListRequest = fake.last();
    let interval = pb::KeyInterval {
        start: "a".to_owned(),
        end: "b".to_owned(),
    };
    let range = pb::KeyRange {
        range: Some(pb::key_range::Range::Interval(interval)),
    };
    assert_eq!(by_interval.range, Some(range));

    ask(&fake, "GET /v1/kv").await;
    assert_eq!(fake.last::<pb::ListRequest>().range, None);

    let refused = ask(&fake, "GET /v1/kv?prefix=a&start=b").await;
    let problem = refused.problem(400, "INVALID_ARGUMENT");
    assert_eq!(problem["violations"][0]["field"], "start");
}

#[tokio::test]
async fn a_transaction_is_its_message_in_json() {
    let fake = Fake::default();
    let body = json!({
        "header": { "client_id": 3, "level": "local" },
        "compares": [{ "key": "a", "relation": "greater", "modRevision": "12" }],
        "success": [
            { "put": { "key": "a", "value": "AQ==" } },
            { "delete_range": { "range": { "interval": { "start": "x" } } } },
        ],
        "failure": [{ "get": { "key": "a" } }],
    });
    let answer = send(&fake, "POST /v1/txn?seq=4", body).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["succeeded"], false);
    assert_eq!(answer.json()["results"], json!([]));
    let txn: pb::TxnRequest = fake.last();
    let header = txn.header.unwrap();
    assert_eq!((header.client_id, header.seq), (3, 4));
    assert_eq!(header.level(), pb::Level::Local);
    assert_eq!(txn.compares[0].relation(), pb::Relation::Greater);
    assert_eq!(
        txn.compares[0].target,
        Some(pb::compare::Target::ModRevision(12))
    );
    assert_eq!((txn.success.len(), txn.failure.len()), (2, 1));
}

#[tokio::test]
async fn a_body_may_be_left_out() {
    let fake = Fake::default();
    assert_eq!(ask(&fake, "POST /v1/sessions").await.status, 200);
    assert_eq!(
        fake.last::<pb::OpenSessionRequest>(),
        pb::OpenSessionRequest::default()
    );
    send(&fake, "POST /v1/leases", json!({ "ttl": "1500ms" })).await;
    let grant: pb::LeaseGrantRequest = fake.last();
    assert_eq!(grant.ttl, Some(quorumor_proto::receipt::millis(1_500)));
    ask(&fake, "DELETE /v1/sessions/12?client_id=3").await;
    let close: pb::CloseSessionRequest = fake.last();
    assert_eq!((close.client_id, close.header.unwrap().client_id), (12, 3));
}

#[tokio::test]
async fn what_the_path_says_the_body_may_repeat_and_not_contradict() {
    let fake = Fake::default();
    let line = "POST /v1/members/4/promote";
    assert_eq!(
        send(
            &fake,
            line,
            json!({ "node_id": 4, "replacing_node_id": "2" })
        )
        .await
        .status,
        200
    );
    let promote: pb::MemberPromoteRequest = fake.last();
    assert_eq!((promote.node_id, promote.replacing_node_id), (4, 2));
    let refused = send(&fake, line, json!({ "node_id": 5 })).await;
    assert_eq!(
        refused.problem(400, "INVALID_ARGUMENT")["violations"][0]["field"],
        "node_id"
    );
    assert_eq!(fake.seen().len(), 1);
}

#[tokio::test]
async fn lists_in_a_query_are_repeated_or_separated() {
    let fake = Fake::default();
    ask(
        &fake,
        "GET /v1/digest/keys?buckets=1,2&buckets=255&after_key=k",
    )
    .await;
    let digest: pb::DigestKeysRequest = fake.last();
    assert_eq!(digest.buckets, [1, 2, 255]);
    assert_eq!(digest.after_key, "k");
}

#[tokio::test]
async fn a_lease_that_is_gone_is_a_problem() {
    let fake = Fake::default();
    let kept = pb::LeaseKeepAliveResponse {
        receipt: Some(receipt()),
        lease_id: 5,
        ttl: Some(quorumor_proto::receipt::millis(9_000)),
        status: bytes::Bytes::new(),
    };
    fake.tell("StateService/LeaseKeepAlive", &kept);
    let answer = ask(&fake, "POST /v1/leases/5/keepalive").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["ttl"], "9s");
    assert_eq!(answer.json().get("status"), None);
    assert_eq!(fake.last::<pb::LeaseKeepAliveRequest>().lease_id, 5);

    fake.tell(
        "StateService/LeaseKeepAlive",
        &pb::LeaseKeepAliveResponse { ttl: None, ..kept },
    );
    let gone = ask(&fake, "POST /v1/leases/5/keepalive").await;
    let problem = gone.problem(404, "LEASE_NOT_FOUND");
    assert_eq!(problem["receipt"]["node_id"], "2");
    assert_eq!(gone.header("quorumor-node"), "2");

    let silent = ask(&fake, "POST /v1/leases/5/keepalive").await;
    assert_eq!(silent.problem(503, "UNAVAILABLE")["certainty"], "unknown");
}
