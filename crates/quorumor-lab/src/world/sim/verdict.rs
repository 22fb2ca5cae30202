//! What a simulated run is judged by: the lab's checkers on its history, and that it recovered.

use quorumor_core::{Health, Role, View};

use super::clients;
use super::run::{RECOVERY_LIMIT_US, Run};
use crate::checker::{
    Evidence, Finding, Property, convergence, durability, linearizable, phantom, revisions,
    session, strong,
};
use crate::history::{FinalEntry, FinalState, Mode, NodeId};

/// Whether every node runs and serves, all hold the same, and in strong mode all know the same leader.
pub(super) fn is_equal(run: &Run) -> bool {
    let views: Vec<View> = run
        .nodes
        .iter()
        .filter(|node| !node.retired)
        .filter_map(|node| Some(node.running.as_ref()?.view()))
        .collect();
    let serving = run.nodes.iter().filter(|node| !node.retired).count();
    let Some(first) = views.first().filter(|_| views.len() == serving) else {
        return false;
    };
    let digest = first.digest();
    let leader = leader(first);
    let serves = |view: &View| view.status.health == Health::Serving && knows_all(run, view);
    let same = |view: &View| view.digest() == digest && self::leader(view) == leader;
    let led = leader.is_some() || run.options.mode == Mode::Eventual;
    led && views.iter().all(|view| serves(view) && same(view))
}

/// Whether the node holds every node to be alive: a false `down` must not last. In strong mode the members are the log's.
fn knows_all(run: &Run, view: &View) -> bool {
    match &view.status.role {
        Role::Strong { .. } => true,
        Role::Eventual { .. } => u64::from(view.status.counts.alive) == run.options.nodes,
    }
}

/// The leader as the node of this view knows it.
pub(super) fn leader(view: &View) -> Option<u64> {
    match &view.status.role {
        Role::Strong { leader, .. } => leader.as_ref().map(|leader| leader.node.as_u64()),
        Role::Eventual { .. } => None,
    }
}

/// Puts the final states into the history and lets the checkers judge it.
pub(super) fn judge(run: &mut Run, recovered_us: Option<u64>) -> Vec<Finding> {
    run.history.finals = final_states(run);
    let history = &run.history;
    let mut findings = vec![
        phantom::check(history),
        session::check(history).finding,
        durability::check(history).finding,
        recovery(run, recovered_us),
    ];
    // Founders that were removed hold nothing at the end; then the agreement of the members says it all.
    if run.nodes.iter().all(|node| !node.retired) {
        findings.push(convergence::check(history, &[]).finding);
    }
    if run.options.mode == Mode::Strong {
        findings.push(linearizable::check(
            history,
            linearizable::Reads::Claimed,
            linearizable::STEP_BUDGET,
        ));
        findings.push(revisions::check(history));
        findings.extend(strong::check(&run.strong.record));
    }
    findings
}

fn recovery(run: &Run, recovered_us: Option<u64>) -> Finding {
    let mut evidence: Vec<Evidence> = run
        .broken_nodes
        .iter()
        .map(|what| Evidence::new(what, &[]))
        .collect();
    if recovered_us.is_none() {
        evidence.push(Evidence::new(
            format!("after {} s: {}", RECOVERY_LIMIT_US / 1_000_000, states(run)),
            &[],
        ));
    }
    let summary = match recovered_us {
        Some(us) => format!("equal and useful {} ms after the heal", us / 1_000),
        None => "not equal and useful after the heal".to_owned(),
    };
    Finding::from_evidence(Property::Convergence, summary, evidence)
}

fn states(run: &Run) -> String {
    let state = |node: &super::node::Node| match &node.running {
        None => format!("node {} is down", node.id),
        Some(running) => {
            let view = running.view();
            let status = &view.status;
            let digest = view.digest();
            format!(
                "node {}: digest {digest:016x}, {:?}, {:?}, {}",
                node.id, status.health, status.role, view.position
            )
        }
    };
    run.nodes.iter().map(state).collect::<Vec<_>>().join("; ")
}

fn final_states(run: &Run) -> Vec<FinalState> {
    let state = |node: &super::node::Node| {
        let view = node.running.as_ref()?.view();
        let entry = |entry: &quorumor_core::Entry| FinalEntry {
            key: entry.key.as_str().to_owned(),
            values: vec![clients::text(entry)],
            version: Some(clients::version(&entry.version)),
        };
        Some(FinalState {
            at_us: run.now_us,
            node: NodeId(node.id),
            digest: format!("{:016x}", view.digest()),
            // The actors' keys are judged by their own record.
            entries: view
                .entries
                .values()
                .filter(|value| value.key.as_str().starts_with('k'))
                .map(|value| entry(value))
                .collect(),
            // A ledger counts what its own node saw discarded, which a crash without a sync may forget.
            ledger: None,
            discarded: (run.counts.crashes == 0 && run.options.mode == Mode::Eventual)
                .then_some(view.conflicts.count),
        })
    };
    let members = run.nodes.iter().filter(|node| !node.retired);
    members.filter_map(state).collect()
}
