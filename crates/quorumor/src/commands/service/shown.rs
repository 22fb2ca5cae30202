//! Instances as people and programs read them. Prints nothing.

use std::time::Duration;

use quorumor_client::{
    Check, CheckKind, CheckResult, Health, Instance, InstanceStatus, ServiceInstance,
};
use quorumor_core::NodeId;
use serde_json::{Map, Value, json};

use crate::render::{line_text, since_text, version_json};

/// Words between commas, or a dash for none.
pub(super) fn words(words: &[String]) -> String {
    if words.is_empty() {
        return "-".to_owned();
    }
    line_text(&words.join(","))
}

/// `service/id`.
pub(super) fn name_text(service: &str, id: &str) -> String {
    format!("{}/{}", line_text(service), line_text(id))
}

/// Where an instance listens.
pub(super) fn address_text(instance: &Instance) -> String {
    if instance.port == 0 {
        return line_text(&instance.address);
    }
    line_text(&instance.authority())
}

/// How an instance stands, and whether that is since it went to and fro.
pub(super) fn health_text(status: &InstanceStatus) -> String {
    let flapping = if status.flapping { " (flapping)" } else { "" };
    format!("{}{flapping}", status.health.as_str())
}

/// A line of the table of [`COLUMNS`].
pub(super) fn row(found: &ServiceInstance) -> [String; 8] {
    let instance = &found.instance;
    [
        line_text(&instance.id),
        address_text(instance),
        health_text(&found.status),
        since_text(found.status.since),
        instance
            .zone
            .as_deref()
            .map_or_else(|| "-".to_owned(), line_text),
        words(&instance.tags),
        instance.weight.to_string(),
        node_text(instance.node),
    ]
}

/// What [`row`] shows.
pub(super) const COLUMNS: [&str; 8] = [
    "ID", "ADDRESS", "HEALTH", "SINCE", "ZONE", "TAGS", "WEIGHT", "NODE",
];

fn node_text(node: Option<NodeId>) -> String {
    node.map_or_else(|| "-".to_owned(), |node| node.to_string())
}

/// What a table has no room for: metadata, the lease, each check.
pub(super) fn more_lines(found: &ServiceInstance) -> Vec<String> {
    let instance = &found.instance;
    let mut lines = Vec::new();
    if !instance.metadata.is_empty() {
        let pairs = instance.metadata.iter();
        let pairs: Vec<_> = pairs.map(|(key, value)| format!("{key}={value}")).collect();
        lines.push(format!("  metadata: {}", line_text(&pairs.join(", "))));
    }
    if found.status.recent_changes > 0 {
        let times = found.status.recent_changes;
        lines.push(format!("  changes:  {times} within the last five minutes"));
    }
    for check in &found.status.checks {
        lines.push(format!("  check:    {}", check_text(check)));
    }
    lines
}

/// A check on one line: what it is, how it stands, since when, what was said.
fn check_text(check: &CheckResult) -> String {
    let output = match check.output.as_str() {
        "" => String::new(),
        output => format!(": {}", line_text(output)),
    };
    format!(
        "{} {} since {}{output}",
        line_text(&check.id),
        check.health.as_str(),
        since_text(check.since)
    )
}

/// Why an instance isn't passing, as its checks say.
pub(super) fn why_text(status: &InstanceStatus) -> Option<String> {
    let ailing = status.checks.iter();
    let ailing = ailing.filter(|check| check.health != Health::Passing);
    let why: Vec<_> = ailing
        .map(|check| match check.output.as_str() {
            "" => line_text(&check.id),
            output => format!("{}: {}", line_text(&check.id), line_text(output)),
        })
        .collect();
    (!why.is_empty()).then(|| why.join("; "))
}

pub(super) fn found_json(found: &ServiceInstance) -> Value {
    let mut object = instance_json(&found.instance);
    object["health"] = json!(found.status.health.as_str());
    object["since_wall_ms"] = ms_json(found.status.since);
    object["flapping"] = json!(found.status.flapping);
    object["recent_changes"] = json!(found.status.recent_changes);
    object["said_by"] = json!(found.status.said_by.map(NodeId::as_u64));
    object["results"] = found.status.checks.iter().map(result_json).collect();
    object["lease"] = json!(found.lease.map(quorumor_client::LeaseId::as_u64));
    object["version"] = found.version.as_ref().map_or(Value::Null, version_json);
    object
}

/// An instance as it is registered.
pub(super) fn instance_json(instance: &Instance) -> Value {
    let metadata = instance.metadata.iter();
    let metadata: Map<_, _> = metadata
        .map(|(key, value)| (key.clone(), json!(value)))
        .collect();
    json!({
        "service": instance.service,
        "instance_id": instance.id,
        "address": instance.address,
        "port": instance.port,
        "tags": instance.tags,
        "metadata": metadata,
        "weight": instance.weight,
        "zone": instance.zone,
        "checks": instance.checks.iter().map(check_json).collect::<Vec<_>>(),
        "node": instance.node.map(NodeId::as_u64),
        "deregister_critical_after_ms": ms_json(instance.deregister_critical_after),
    })
}

fn check_json(check: &Check) -> Value {
    let mut object = match &check.kind {
        CheckKind::Ttl => json!({ "kind": "ttl" }),
        CheckKind::Tcp { address } => json!({ "kind": "tcp", "address": address }),
        CheckKind::Http { url, method } => json!({ "kind": "http", "url": url, "method": method }),
        CheckKind::Grpc { address, service } => {
            json!({ "kind": "grpc", "address": address, "grpc_service": service })
        }
    };
    object["check_id"] = json!(check.id);
    object["interval_ms"] = ms_json(check.interval);
    object["timeout_ms"] = ms_json(check.timeout);
    object["failures"] = json!(check.failures);
    object["successes"] = json!(check.successes);
    object
}

fn result_json(result: &CheckResult) -> Value {
    json!({
        "check_id": result.id,
        "health": result.health.as_str(),
        "output": result.output,
        "since_wall_ms": ms_json(result.since),
    })
}

fn ms_json(duration: Option<Duration>) -> Value {
    json!(duration.and_then(|duration| u64::try_from(duration.as_millis()).ok()))
}

#[cfg(test)]
mod tests {
    use quorumor_client::Registration;

    use super::*;

    fn flapping() -> ServiceInstance {
        let registration = Registration::new("web", "a", "::1", 80)
            .tag("x")
            .tag("y")
            .metadata("version", "2")
            .check(Check::new("port", CheckKind::Tcp { address: None }));
        let since = Some(Duration::from_secs(1));
        ServiceInstance {
            instance: registration.instance().clone(),
            status: InstanceStatus {
                health: Health::Critical,
                since,
                checks: vec![CheckResult {
                    id: "port".into(),
                    health: Health::Critical,
                    output: "refused\n".into(),
                    since,
                }],
                flapping: true,
                recent_changes: 7,
                said_by: NodeId::try_from(2_u64).ok(),
            },
            lease: None,
            version: None,
        }
    }

    #[test]
    fn a_flapping_instance_is_seen_to_flap() {
        let found = flapping();
        let row = row(&found);
        assert_eq!(
            row.join("|"),
            "a|[::1]:80|critical (flapping)|1970-01-01T00:00:01Z|-|x,y|1|-"
        );
        assert_eq!(row.len(), COLUMNS.len());
        assert_eq!(
            more_lines(&found),
            [
                "  metadata: version=2",
                "  changes:  7 within the last five minutes",
                "  check:    port critical since 1970-01-01T00:00:01Z: refused\\n",
            ]
        );
        assert_eq!(why_text(&found.status).as_deref(), Some("port: refused\\n"));
    }

    #[test]
    fn in_json_an_instance_has_all_that_is_known_of_it() {
        let json = found_json(&flapping());
        assert_eq!(json["flapping"], true);
        assert_eq!(json["since_wall_ms"], 1_000);
        assert_eq!(json["said_by"], 2);
        assert_eq!(json["checks"][0]["kind"], "tcp");
        assert_eq!(json["results"][0]["output"], "refused\n");
        assert_eq!(json["metadata"]["version"], "2");
    }
}
