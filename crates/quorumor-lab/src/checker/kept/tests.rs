//! Leases lost, and by whose fault.

use super::*;
use crate::checker::Verdict;
use crate::history::{
    ClientId, Header, Invoke, Mode, NodeId, OpId, Outcome, ProcessId, Return, SessionId, World,
};
use crate::scenario::{Flood, FloodClass, Micros, Scenario};
use crate::workload::Workload;

const TTL_MS: u64 = 3_000;

/// A history with a flood; each line is an action on the one lease: when it began and ended in ms, and how.
fn history(limits: Option<Limits>, lines: &[(Action, u64, u64, &str)]) -> History {
    let mut scenario = Scenario::compare(1, 3, 20_000, Workload::default()).unwrap();
    scenario.limits = limits;
    scenario.flood = Some(Flood {
        class: FloodClass::Watch,
        in_flight: Some(10),
        rate: None,
        at: Micros::secs(1),
        lasts: Micros::secs(10),
    });
    let mut history = History::new(Header::new(Mode::Strong, World::Cluster, scenario, 0));
    for (id, (action, from_ms, to_ms, how)) in (1..).zip(lines) {
        let granted = matches!(action, Action::Grant { .. });
        let outcome = match *how {
            "ok" => Outcome::Ok,
            "unknown" => Outcome::Unknown,
            _ => Outcome::Fail,
        };
        let mut ret = Return::new(OpId(id), to_ms * 1_000, outcome);
        if granted {
            (ret.lease, ret.ttl_ms) = (Some("7".to_owned()), Some(TTL_MS));
        }
        ret.reason = (outcome != Outcome::Ok).then(|| (*how).to_owned());
        let invoke = Invoke {
            op: OpId(id),
            process: ProcessId(1),
            client: ClientId(1),
            session: SessionId(1),
            node: NodeId(1),
            key: String::new(),
            action: action.clone(),
            level: None,
            lease: (!granted).then(|| "7".to_owned()),
            may_degrade: false,
            token: None,
            idempotency: None,
            request_id: String::new(),
            due_us: from_ms * 1_000,
            at_us: from_ms * 1_000,
            timeout_us: 1_000_000,
        };
        history.ops.push(Op {
            invoke,
            ret: Some(ret),
        });
    }
    history
}

const GRANT: Action = Action::Grant { ttl_ms: TTL_MS };
const KEEP: Action = Action::KeepAlive;

/// Kept alive once, then turned away until it was gone.
fn starved() -> Vec<(Action, u64, u64, &'static str)> {
    vec![
        (GRANT, 0, 10, "ok"),
        (KEEP, 1_000, 1_010, "ok"),
        (KEEP, 2_000, 2_010, "OVERLOADED"),
        (KEEP, 2_200, 3_200, "unknown"),
        (KEEP, 3_400, 4_000, "OVERLOADED"),
        (KEEP, 4_200, 4_210, "LEASE_NOT_FOUND"),
    ]
}

#[test]
fn a_lease_lost_in_a_flood_breaks_the_promise_of_limits() {
    for limits in [None, Some(Limits::Enforcing)] {
        let finding = check(&history(limits, &starved())).unwrap();
        assert_eq!(finding.verdict, Verdict::Invalid, "{}", finding.summary);
        assert_eq!(finding.evidence[0].ops, [OpId(2), OpId(6)]);
    }
}

#[test]
fn without_limits_it_is_a_figure_and_no_verdict() {
    let history = history(Some(Limits::Disabled), &starved());
    assert!(check(&history).is_none());
    let kept = kept(&history);
    assert_eq!((kept.leases, kept.renewals, kept.missed), (1, 1, 4));
    assert_eq!(kept.lost.len(), 1);
}

#[test]
fn a_holder_that_was_late_itself_or_revoked_it_accuses_nobody() {
    let late = [
        (GRANT, 0, 10, "ok"),
        (KEEP, 1_000, 1_010, "OVERLOADED"),
        (KEEP, 4_000, 4_010, "LEASE_NOT_FOUND"),
    ];
    let revoked = [
        (GRANT, 0, 10, "ok"),
        (Action::Revoke, 500, 510, "ok"),
        (KEEP, 1_000, 1_010, "LEASE_NOT_FOUND"),
    ];
    for (lines, lost) in [(late, 1), (revoked, 0)] {
        let history = history(None, &lines);
        assert_eq!(check(&history).unwrap().verdict, Verdict::Valid);
        assert_eq!(kept(&history).lost.len(), lost);
    }
}
