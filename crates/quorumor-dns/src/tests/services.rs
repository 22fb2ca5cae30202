//! Questions about services.

use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{DNSClass, Name, RecordType};
use quorumor_proto::pb;
use tonic::Status;

use super::fake::{Script, but, critical, instance, no_quorum, shut_gate};
use super::world::{
    World, assert_no_data, assert_no_name, beside, data, plain_question, question, receipt_beside,
    why, world,
};
use crate::DnsConfig;

fn web(script: &mut Script) {
    let tagged = |listed, tags: &[&str]| {
        but(listed, |instance| {
            instance.tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        })
    };
    let instances = vec![
        tagged(instance("web", "web-1", "10.0.0.1", 8080), &["canary"]),
        tagged(
            instance("web", "web-2", "10.0.0.2", 8081),
            &["Canary", "v1.2"],
        ),
        but(instance("web", "web-3", "fd00::3", 8082), |instance| {
            instance.weight = 5;
            instance.zone = "east".to_owned();
            instance
                .metadata
                .insert("owner".to_owned(), "a b".to_owned());
        }),
        critical(instance("web", "web-4", "10.0.0.4", 8080)),
    ];
    script.services.insert("web".to_owned(), instances);
    let sick = vec![critical(instance("sick", "s", "10.0.0.9", 1))];
    script.services.insert("sick".to_owned(), sick);
    let named = vec![
        instance("db", "db-1", "db.example.com", 5432),
        instance("db", "db-2", "not a name", 5432),
    ];
    script.services.insert("db".to_owned(), named);
}

#[tokio::test]
async fn srv_gives_port_weight_and_target_with_its_address_beside() {
    let world = world(web).await;
    for name in ["web.service.quorumor.", "_web._tcp.service.quorumor."] {
        let answer = world.ask(name, RecordType::SRV).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
        assert!(answer.metadata.authoritative && !answer.metadata.recursion_available);
        assert!(answer.metadata.recursion_desired, "it is copied");
        let v6 = "fd000000000000000000000000000003.addr.quorumor.";
        assert_eq!(
            data(&answer),
            [
                "SRV 1 1 8080 0a000001.addr.quorumor.".to_owned(),
                "SRV 1 1 8081 0a000002.addr.quorumor.".to_owned(),
                format!("SRV 1 5 8082 {v6}"),
            ]
        );
        assert_eq!(
            beside(&answer),
            [
                (
                    "0a000001.addr.quorumor.".to_owned(),
                    "10.0.0.1".parse().unwrap()
                ),
                (
                    "0a000002.addr.quorumor.".to_owned(),
                    "10.0.0.2".parse().unwrap()
                ),
                (v6.to_owned(), "fd00::3".parse().unwrap()),
            ]
        );
        assert!(answer.answers.iter().all(|record| record.ttl == 0));
    }
    world.stop().await;
}

#[tokio::test]
async fn a_target_resolves_by_itself() {
    let world = world(|_| {}).await;
    let a = world.ask("0a000001.addr.quorumor.", RecordType::A).await;
    assert_eq!(data(&a), ["A 10.0.0.1"]);
    let v6 = "fd000000000000000000000000000003.addr.quorumor.";
    assert_eq!(
        data(&world.ask(v6, RecordType::AAAA).await),
        ["AAAA fd00::3"]
    );
    assert_no_data(&world.ask(v6, RecordType::A).await);
    assert_no_name(&world.ask("xyz.addr.quorumor.", RecordType::A).await);
    assert_eq!(world.fake.calls().len(), 0, "the name says all");
}

#[tokio::test]
async fn addresses_come_by_family() {
    let world = world(web).await;
    let a = world.ask("web.service.quorumor.", RecordType::A).await;
    assert_eq!(data(&a), ["A 10.0.0.1", "A 10.0.0.2"]);
    let aaaa = world.ask("web.service.quorumor.", RecordType::AAAA).await;
    assert_eq!(data(&aaaa), ["AAAA fd00::3"]);
}

#[tokio::test]
async fn one_address_of_many_instances_comes_once() {
    let world = world(|script| {
        let same = |id: &str, port| instance("web", id, "10.0.0.1", port);
        let instances = vec![same("a", 1), same("b", 2), same("c", 2)];
        script.services.insert("web".to_owned(), instances);
    })
    .await;
    let a = world.ask("web.service.quorumor.", RecordType::A).await;
    assert_eq!(data(&a), ["A 10.0.0.1"]);
    let srv = world.ask("web.service.quorumor.", RecordType::SRV).await;
    assert_eq!(srv.answers.len(), 2);
    assert_eq!(beside(&srv).len(), 1);
}

#[tokio::test]
async fn a_tag_chooses_whatever_its_case() {
    let world = world(web).await;
    for (name, addresses) in [
        ("canary.web", &["A 10.0.0.1", "A 10.0.0.2"][..]),
        ("_web._CANARY", &["A 10.0.0.1", "A 10.0.0.2"]),
        ("v1.2.web", &["A 10.0.0.2"]),
        ("_web._v1.2", &["A 10.0.0.2"]),
    ] {
        let name = format!("{name}.service.quorumor.");
        let answer = world.ask(&name, RecordType::A).await;
        assert_eq!(data(&answer), addresses, "{name}");
    }
    assert_no_data(
        &world
            .ask("other.web.service.quorumor.", RecordType::A)
            .await,
    );
    assert_no_name(
        &world
            .ask("canary.none.service.quorumor.", RecordType::A)
            .await,
    );
}

#[tokio::test]
async fn a_host_name_is_a_target_or_an_alias() {
    let world = world(web).await;
    let srv = world.ask("db.service.quorumor.", RecordType::SRV).await;
    assert_eq!(data(&srv), ["SRV 1 1 5432 db.example.com."]);
    for kind in [RecordType::A, RecordType::AAAA, RecordType::CNAME] {
        let alias = world.ask("db.service.quorumor.", kind).await;
        assert_eq!(data(&alias), ["CNAME db.example.com."], "{kind}");
    }
    // Where there are addresses, names are left out.
    world.fake.script(|script| {
        let ip = instance("db", "db-3", "10.0.0.5", 5432);
        script.services.get_mut("db").unwrap().push(ip);
    });
    let a = world.ask("db.service.quorumor.", RecordType::A).await;
    assert_eq!(data(&a), ["A 10.0.0.5"]);
    assert_no_data(&world.ask("db.service.quorumor.", RecordType::AAAA).await);
}

#[tokio::test]
async fn an_instance_without_a_port_has_no_srv() {
    let world = world(|script| {
        let instances = vec![instance("job", "j", "10.0.0.1", 0)];
        script.services.insert("job".to_owned(), instances);
    })
    .await;
    assert_no_data(&world.ask("job.service.quorumor.", RecordType::SRV).await);
    let a = world.ask("job.service.quorumor.", RecordType::A).await;
    assert_eq!(data(&a), ["A 10.0.0.1"]);
}

#[tokio::test]
async fn txt_carries_the_receipt_and_each_instance() {
    let world = world(web).await;
    let answer = world.ask("web.service.quorumor.", RecordType::TXT).await;
    assert_eq!(
        data(&answer),
        [
            "TXT id=web-1 tags=canary address=10.0.0.1 port=8080 weight=1 health=passing node=3",
            "TXT id=web-2 tags=Canary,v1.2 address=10.0.0.2 port=8081 weight=1 health=passing node=3",
            "TXT id=web-3 zone=east address=fd00::3 port=8082 weight=5 health=passing node=3 owner=a%20b",
            "TXT receipt mode=eventual asked=local got=local cluster=0000000000000001 node=3 epoch=1 staleness=estimated alive=3 \
             suspect=0 down=0 token=abcd",
        ]
    );
    let sick = world.ask("sick.service.quorumor.", RecordType::TXT).await;
    assert_eq!(sick.answers.len(), 1, "the receipt alone");
}

#[tokio::test]
async fn the_receipt_stands_beside_other_answers_for_who_speaks_edns() {
    let world = world(web).await;
    let name = "web.service.quorumor.";
    let receipt = receipt_beside(&world.ask(name, RecordType::A).await).unwrap();
    assert!(receipt.starts_with("receipt mode=eventual "), "{receipt}");
    let none = world.ask("none.service.quorumor.", RecordType::A).await;
    assert!(receipt_beside(&none).is_some(), "absence has a receipt too");
    let plain = world.udp(&plain_question(name, RecordType::A)).await;
    assert_eq!(receipt_beside(&plain), None);
    assert!(plain.edns.is_none());
}

#[tokio::test]
async fn what_is_unknown_is_no_name_and_what_is_sick_has_no_data() {
    let world = world(web).await;
    for kind in [RecordType::SRV, RecordType::A, RecordType::AAAA] {
        assert_no_name(&world.ask("none.service.quorumor.", kind).await);
        assert_no_data(&world.ask("sick.service.quorumor.", kind).await);
    }
    assert_no_name(&world.ask("none.service.quorumor.", RecordType::TXT).await);
    assert_no_data(&world.ask("web.service.quorumor.", RecordType::MX).await);
    assert_no_data(
        &world
            .ask("_tcp.web.service.quorumor.", RecordType::SRV)
            .await,
    );
    for between in ["service", "_tcp.service", "node", "addr", "strong"] {
        let name = format!("{between}.quorumor.");
        assert_no_data(&world.ask(&name, RecordType::A).await);
    }
    for nothing in ["web", "we_b.service", "x.y"] {
        let name = format!("{nothing}.quorumor.");
        assert_no_name(&world.ask(&name, RecordType::A).await);
    }
}

#[tokio::test]
async fn case_is_kept_and_makes_no_difference() {
    let world = world(web).await;
    let mixed = "_wEb._TCp.sERvice.QuoRUMor.";
    let answer = world.ask(mixed, RecordType::SRV).await;
    assert_eq!(answer.answers.len(), 3);
    let asked = Name::from_ascii(mixed).unwrap();
    assert!(answer.queries[0].name().eq_case(&asked));
    assert!(
        answer
            .answers
            .iter()
            .all(|record| record.name.eq_case(&asked))
    );
}

#[tokio::test]
async fn other_domains_and_classes_and_transfers_are_refused() {
    let world = world(web).await;
    for name in ["example.com.", ".", "web.service.quorumor2.", "xquorumor."] {
        let answer = world.ask(name, RecordType::A).await;
        assert_eq!(
            answer.metadata.response_code,
            ResponseCode::Refused,
            "{name}"
        );
        assert!(!answer.metadata.authoritative);
        assert_eq!(why(&answer).unwrap().0, 20);
    }
    for kind in [RecordType::AXFR, RecordType::IXFR] {
        let answer = world.tcp(&question("quorumor.", kind)).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
        assert_eq!(answer.answers, []);
    }
    let mut chaos = question("web.service.quorumor.", RecordType::TXT);
    chaos.queries[0].set_query_class(DNSClass::CH);
    let answer = world.udp(&chaos).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
    assert_eq!(world.fake.calls().len(), 0);
}

#[tokio::test]
async fn any_gets_as_little_as_it_may() {
    let world = world(web).await;
    let answer = world.ask("web.service.quorumor.", RecordType::ANY).await;
    assert_eq!(data(&answer), ["HINFO RFC8482 "]);
    assert_no_name(&world.ask("none.service.quorumor.", RecordType::ANY).await);
}

#[tokio::test]
async fn the_order_changes() {
    let world = world(web).await;
    let first = world.ask("web.service.quorumor.", RecordType::SRV).await;
    for _ in 0..200 {
        let next = world.ask("web.service.quorumor.", RecordType::SRV).await;
        if next.answers != first.answers {
            return;
        }
    }
    panic!("200 answers in the same of 6 orders");
}

#[tokio::test]
async fn a_failed_call_is_a_server_failure_that_says_why() {
    let world = world(web).await;
    world
        .fake
        .script(|script| script.failure = Some(no_quorum()));
    for name in ["web.service.strong.quorumor.", "node-3.node.quorumor."] {
        let answer = world.ask(name, RecordType::A).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
        assert_eq!((answer.answers.len(), answer.authorities.len()), (0, 0));
        let (code, text) = why(&answer).unwrap();
        assert_eq!(code, 14);
        assert!(text.starts_with("NO_QUORUM: "), "{text}");
        let receipt = receipt_beside(&answer).unwrap();
        assert!(receipt.starts_with("receipt mode=strong "), "{receipt}");
    }
    let long = Status::internal("\u{e9}".repeat(5000));
    world.fake.script(|script| script.failure = Some(long));
    let answer = world.ask("web.service.quorumor.", RecordType::A).await;
    let (code, text) = why(&answer).unwrap();
    assert_eq!((code, text.len()), (0, 160));
}

#[tokio::test]
async fn a_slow_node_is_a_server_failure_in_time() {
    let config = DnsConfig {
        call_timeout: Duration::from_millis(50),
        ..DnsConfig::default()
    };
    let world = World::start(config, "127.0.0.1:0", |script| {
        script.gate = Some(shut_gate());
    })
    .await;
    let answer = world.ask("web.service.quorumor.", RecordType::A).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    world.stop().await;
}

#[tokio::test]
async fn the_call_bears_mode_level_and_token() {
    let config = DnsConfig {
        mode: pb::Mode::Strong,
        token: Some("s3cret".parse().unwrap()),
        domain: "corp.example".parse().unwrap(),
        ttl: Duration::from_secs(5),
        ..DnsConfig::default()
    };
    let world = World::start(config, "127.0.0.1:0", web).await;
    for name in ["web.service", "web.service.eventual", "web.service.strong"] {
        let answer = world
            .ask(&format!("{name}.corp.example."), RecordType::A)
            .await;
        assert_eq!(answer.answers[0].ttl, 5, "{name}");
    }
    let calls = world.fake.calls();
    let modes: Vec<pb::Mode> = calls.iter().map(|(header, _)| header.mode()).collect();
    assert_eq!(
        modes,
        [pb::Mode::Strong, pb::Mode::Eventual, pb::Mode::Strong]
    );
    for (header, bearer) in calls {
        assert_eq!(header.level(), pb::Level::Local);
        assert_eq!(bearer.as_deref(), Some("Bearer s3cret"));
    }
}
