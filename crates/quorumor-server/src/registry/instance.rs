//! What an instance may be.

use std::collections::BTreeSet;

use quorumor_core::Error;
use quorumor_proto::pb;
use quorumor_proto::pb::health_check::Kind;
use quorumor_proto::receipt::millis;
use quorumor_proto::request::parse_millis;

use super::naming::Name;

const ADDRESS_BYTES_MAX: usize = 253;
const TAGS_MAX: usize = 32;
const TAG_BYTES_MAX: usize = 63;
const METADATA_MAX: usize = 64;
const METADATA_BYTES_MAX: usize = 8 * 1024;
const ZONE_BYTES_MAX: usize = 63;
const CHECKS_MAX: usize = 8;
const URL_BYTES_MAX: usize = 1_024;
/// What an instance or a check says of itself, shortened to this.
pub(crate) const OUTPUT_BYTES_MAX: usize = 256;
const PORT_MAX: u32 = 65_535;
const WEIGHT_MAX: u32 = 65_535;

/// From one check to the next.
const INTERVAL_MS_DEFAULT: u64 = 10_000;
const INTERVAL_MS_MIN: u64 = 1_000;
const INTERVAL_MS_MAX: u64 = 24 * 3_600 * 1_000;
/// How long a check may take.
const TIMEOUT_MS_DEFAULT: u64 = 5_000;
const TIMEOUT_MS_MIN: u64 = 10;
const DEREGISTER_MS_MIN: u64 = 60_000;
const DEREGISTER_MS_MAX: u64 = 366 * 24 * 3_600 * 1_000;

fn refuse<T>(field: &'static str, why: String) -> Result<T, Error> {
    Err(Error::invalid(field, why))
}

fn check(holds: bool, field: &'static str, why: impl FnOnce() -> String) -> Result<(), Error> {
    if holds { Ok(()) } else { refuse(field, why()) }
}

/// The same instance with its defaults written out.
///
/// # Errors
/// `InvalidArgument` that names the field and says what is allowed.
pub(crate) fn parse(mut instance: pb::Instance) -> Result<(Name, pb::Instance), Error> {
    let name = Name::parse(&instance.service, &instance.instance_id)?;
    check_address(&instance)?;
    check_labels(&instance)?;
    instance.weight = instance.weight.max(1);
    check(instance.checks.len() <= CHECKS_MAX, "checks", || {
        format!(
            "{} checks; at most {CHECKS_MAX} are allowed",
            instance.checks.len()
        )
    })?;
    let mut ids = BTreeSet::new();
    for health_check in &mut instance.checks {
        parse_check(health_check)?;
        check(
            ids.insert(health_check.check_id.clone()),
            "check_id",
            || format!("{:?} is there twice", health_check.check_id),
        )?;
    }
    let has_port = instance.port > 0;
    let needs_port = instance.checks.iter().any(needs_port);
    check(has_port || !needs_port, "port", || {
        "a check of the instance's own port needs one".to_owned()
    })?;
    if instance.deregister_critical_after.is_some() {
        let ms = bounded(
            "deregister_critical_after",
            instance.deregister_critical_after,
            DEREGISTER_MS_MIN,
            DEREGISTER_MS_MIN..=DEREGISTER_MS_MAX,
        )?;
        instance.deregister_critical_after = Some(millis(ms));
    }
    Ok((name, instance))
}

/// Makes the durations of an instance that lies in the shared state ones that every encoding can show: whoever may write its key
/// may have written any.
pub(crate) fn tame(instance: &mut pb::Instance) {
    let tamed = |given: &mut Option<prost_types::Duration>, most_ms: u64| {
        let ms = parse_millis("duration", given.take()).ok();
        *given = ms.map(|ms| millis(ms.min(most_ms)));
    };
    tamed(&mut instance.deregister_critical_after, DEREGISTER_MS_MAX);
    for health_check in &mut instance.checks {
        tamed(&mut health_check.interval, INTERVAL_MS_MAX);
        tamed(&mut health_check.timeout, INTERVAL_MS_MAX);
    }
}

fn check_address(instance: &pb::Instance) -> Result<(), Error> {
    let address = &instance.address;
    let is_ip = address.parse::<std::net::IpAddr>().is_ok();
    let is_name = !address.is_empty()
        && address.len() <= ADDRESS_BYTES_MAX
        && address.split('.').all(is_host_label);
    check(is_ip || is_name, "address", || {
        format!("{address:?} is neither an IP address nor a host name")
    })?;
    check(instance.port <= PORT_MAX, "port", || {
        format!(
            "{} is no port; 0 (none) to {PORT_MAX} are allowed",
            instance.port
        )
    })?;
    check(instance.weight <= WEIGHT_MAX, "weight", || {
        format!("{}; at most {WEIGHT_MAX} is allowed", instance.weight)
    })
}

fn is_host_label(label: &str) -> bool {
    !label.is_empty()
        && label.len() <= 63
        && label
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
}

fn check_labels(instance: &pb::Instance) -> Result<(), Error> {
    let tags = &instance.tags;
    check(tags.len() <= TAGS_MAX, "tags", || {
        format!("{} tags; at most {TAGS_MAX} are allowed", tags.len())
    })?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    for tag in tags {
        let fits = !tag.is_empty() && tag.len() <= TAG_BYTES_MAX && tag.chars().all(allowed);
        check(fits, "tags", || {
            format!("a tag is 1 to {TAG_BYTES_MAX} letters, digits, `-`, `_` and `.`, not {tag:?}")
        })?;
    }
    let metadata = &instance.metadata;
    check(metadata.len() <= METADATA_MAX, "metadata", || {
        format!(
            "{} pairs; at most {METADATA_MAX} are allowed",
            metadata.len()
        )
    })?;
    let bytes: usize = metadata
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    check(bytes <= METADATA_BYTES_MAX, "metadata", || {
        format!("{bytes} bytes; at most {METADATA_BYTES_MAX} are allowed")
    })?;
    check(!metadata.contains_key(""), "metadata", || {
        "a key is empty".to_owned()
    })?;
    check(instance.zone.len() <= ZONE_BYTES_MAX, "zone", || {
        format!(
            "{} bytes; at most {ZONE_BYTES_MAX} are allowed",
            instance.zone.len()
        )
    })
}

fn parse_check(health_check: &mut pb::HealthCheck) -> Result<(), Error> {
    let id = &health_check.check_id;
    let is_own = id == "self";
    check(
        !id.is_empty() && id.len() <= TAG_BYTES_MAX && !is_own,
        "check_id",
        || format!("a check's id has 1 to {TAG_BYTES_MAX} bytes and isn't `self`, not {id:?}"),
    )?;
    let interval = bounded(
        "interval",
        health_check.interval,
        INTERVAL_MS_DEFAULT,
        INTERVAL_MS_MIN..=INTERVAL_MS_MAX,
    )?;
    let timeout = TIMEOUT_MS_DEFAULT.min(interval);
    let timeout = bounded(
        "timeout",
        health_check.timeout,
        timeout,
        TIMEOUT_MS_MIN..=interval,
    )?;
    health_check.interval = Some(millis(interval));
    health_check.timeout = Some(millis(timeout));
    health_check.failures = health_check.failures.max(1);
    health_check.successes = health_check.successes.max(1);
    match &health_check.kind {
        None => refuse(
            "kind",
            format!("check {id:?} must be one of ttl, tcp, http and grpc"),
        ),
        Some(Kind::Ttl(_)) => Ok(()),
        Some(Kind::Tcp(tcp)) => check_target(&tcp.address),
        Some(Kind::Grpc(grpc)) => check_target(&grpc.address),
        Some(Kind::Http(http)) => check_http(http),
    }
}

fn bounded(
    field: &'static str,
    given: Option<prost_types::Duration>,
    default: u64,
    allowed: std::ops::RangeInclusive<u64>,
) -> Result<u64, Error> {
    let ms = match given {
        None => default,
        given => parse_millis(field, given)?,
    };
    check(allowed.contains(&ms), field, || {
        format!(
            "{ms} ms; {} to {} ms are allowed",
            allowed.start(),
            allowed.end()
        )
    })?;
    Ok(ms)
}

fn check_target(address: &str) -> Result<(), Error> {
    let has_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    let named = address
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && has_port(port));
    check(
        address.is_empty() || (named && address.len() <= URL_BYTES_MAX),
        "address",
        || format!("{address:?} is no `host:port`"),
    )
}

fn check_http(http: &pb::HttpCheck) -> Result<(), Error> {
    let url = &http.url;
    let is_path = url.is_empty() || url.starts_with('/');
    let is_plain = url.starts_with("http://");
    let parses = url.is_empty() || url.parse::<http::Uri>().is_ok();
    check(
        (is_path || is_plain) && parses && url.len() <= URL_BYTES_MAX,
        "url",
        || format!("{url:?} is neither a path nor `http://host:port/path`"),
    )?;
    // A check asks and changes nothing.
    let method = ["", "GET", "HEAD"].contains(&http.method.as_str());
    check(method, "method", || {
        format!("{:?}; GET and HEAD are allowed", http.method)
    })
}

fn needs_port(health_check: &pb::HealthCheck) -> bool {
    match &health_check.kind {
        Some(Kind::Tcp(tcp)) => tcp.address.is_empty(),
        Some(Kind::Grpc(grpc)) => grpc.address.is_empty(),
        Some(Kind::Http(http)) => !http.url.starts_with("http://"),
        Some(Kind::Ttl(_)) | None => false,
    }
}

/// Whether somebody waits for the instance's own signs of life.
pub(crate) fn awaits_word(instance: &pb::Instance) -> bool {
    instance.checks.iter().any(awaits)
}

/// Whether a check waits for the instance's own word.
pub(crate) fn awaits(health_check: &pb::HealthCheck) -> bool {
    matches!(health_check.kind, Some(Kind::Ttl(_)))
}

/// At most so many bytes of a text, whole letters.
pub(crate) fn shortened(text: &str) -> &str {
    let mut end = text.len().min(OUTPUT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance() -> pb::Instance {
        pb::Instance {
            service: "web".into(),
            instance_id: "a".into(),
            address: "10.0.0.1".into(),
            port: 80,
            ..pb::Instance::default()
        }
    }

    fn tcp() -> pb::HealthCheck {
        pb::HealthCheck {
            check_id: "port".into(),
            kind: Some(Kind::Tcp(pb::TcpCheck::default())),
            ..pb::HealthCheck::default()
        }
    }

    #[test]
    fn defaults_are_written_out() {
        let (_, parsed) = parse(pb::Instance {
            checks: vec![tcp()],
            ..instance()
        })
        .unwrap();
        assert_eq!(parsed.weight, 1);
        let check = &parsed.checks[0];
        assert_eq!(check.interval, Some(millis(10_000)));
        assert_eq!(check.timeout, Some(millis(5_000)));
        assert_eq!((check.failures, check.successes), (1, 1));
    }

    #[test]
    fn each_bad_field_is_refused_by_its_name() {
        type Spoil = fn(&mut pb::Instance);
        let cases: [(&str, Spoil); 16] = [
            ("service", |it| it.service = "Web".into()),
            ("instance_id", |it| it.instance_id = "a/b".into()),
            ("address", |it| it.address = String::new()),
            ("address", |it| it.address = "a b".into()),
            ("port", |it| it.port = 70_000),
            ("weight", |it| it.weight = 70_000),
            ("tags", |it| it.tags = vec!["a b".into()]),
            ("tags", |it| it.tags = vec!["a".into(); 33]),
            ("metadata", |it| {
                drop(it.metadata.insert("a".into(), "x".repeat(9_000)))
            }),
            ("zone", |it| it.zone = "z".repeat(64)),
            ("check_id", |it| it.checks = vec![tcp(), tcp()]),
            ("kind", |it| {
                it.checks = vec![pb::HealthCheck {
                    kind: None,
                    ..tcp()
                }]
            }),
            ("interval", |it| {
                it.checks = vec![pb::HealthCheck {
                    interval: Some(millis(10)),
                    ..tcp()
                }]
            }),
            ("timeout", |it| {
                it.checks = vec![pb::HealthCheck {
                    timeout: Some(millis(20_000)),
                    ..tcp()
                }]
            }),
            ("port", |it| {
                it.port = 0;
                it.checks = vec![tcp()];
            }),
            ("url", |it| {
                let http = pb::HttpCheck {
                    url: "ftp://a".into(),
                    method: String::new(),
                };
                it.checks = vec![pb::HealthCheck {
                    kind: Some(Kind::Http(http)),
                    ..tcp()
                }];
            }),
        ];
        for (field, spoil) in cases {
            let mut spoilt = instance();
            spoil(&mut spoilt);
            let error = parse(spoilt).unwrap_err();
            let Error::InvalidArgument { field: named, .. } = &error else {
                panic!("{error}");
            };
            assert_eq!(*named, field, "{error}");
        }
    }

    fn odd_durations() -> [prost_types::Duration; 4] {
        [(60, 1_500_000_000), (i64::MAX, 0), (i64::MIN, -1), (61, -1)]
            .map(|(seconds, nanos)| prost_types::Duration { seconds, nanos })
    }

    #[test]
    fn durations_are_kept_as_they_are_meant() {
        let [carried, endless, negative, mixed] = odd_durations();
        let with = |after| {
            let given = pb::Instance {
                deregister_critical_after: Some(after),
                checks: vec![pb::HealthCheck {
                    interval: Some(mixed),
                    timeout: Some(mixed),
                    ..tcp()
                }],
                ..instance()
            };
            parse(given).map(|(_, parsed)| parsed)
        };
        let parsed = with(carried).unwrap();
        assert_eq!(parsed.deregister_critical_after, Some(millis(61_500)));
        assert_eq!(parsed.checks[0].interval, Some(millis(61_000)));
        assert_eq!(parsed.checks[0].timeout, Some(millis(61_000)));
        for refused in [endless, negative, millis(DEREGISTER_MS_MAX + 1)] {
            assert!(with(refused).is_err(), "{refused:?}");
        }
    }

    #[test]
    fn whatever_durations_were_written_become_ones_that_can_be_shown() {
        for odd in odd_durations() {
            let mut written = pb::Instance {
                deregister_critical_after: Some(odd),
                checks: vec![pb::HealthCheck {
                    interval: Some(odd),
                    timeout: Some(odd),
                    ..tcp()
                }],
                ..instance()
            };
            tame(&mut written);
            let check = &written.checks[0];
            for tamed in [
                written.deregister_critical_after,
                check.interval,
                check.timeout,
            ] {
                let shown = tamed.is_none_or(|it| {
                    (0..=DEREGISTER_MS_MAX as i64 / 1_000).contains(&it.seconds)
                        && (0..1_000_000_000).contains(&it.nanos)
                });
                assert!(shown, "{odd:?} became {tamed:?}");
            }
        }
    }

    #[test]
    fn a_long_output_is_cut_between_letters() {
        assert_eq!(shortened("short"), "short");
        let long = "ä".repeat(200);
        assert_eq!(shortened(&long).len(), 256);
        let odd = format!("x{long}");
        assert_eq!(shortened(&odd).len(), 255);
    }
}
