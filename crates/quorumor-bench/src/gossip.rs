//! Eventual mode beside Serf, on real processes: so many agents of each on the loopback, one system after the other in
//! alternation (A B, B A, ...), and how an update spreads, how soon a killed agent is known, and what idling costs.

use std::path::PathBuf;
use std::time::Duration;

use crate::BenchError;
use crate::cluster::{file_error, refuse_memory};
use crate::progress::Progress;

mod agents;
mod door;
mod measure;
mod msgpack;
mod results;
mod rows;
mod serf;

pub use agents::{System, is_program};
pub use door::Update;
pub use results::{GossipResult, Times, json_lines};
pub use rows::{Goal, GossipRow, HEADER, rows};

use agents::AgentsPlan;
use results::GossipTurn;

/// Of this many agents at most one is killed: most must be left to notice.
const KILLED_SHARE: usize = 3;
/// Fewer agents have nothing to gossip about.
const AGENTS_MIN: usize = 3;

/// What to measure.
#[derive(Clone, Debug)]
pub struct GossipPlan {
    /// The program `quorumor`.
    pub quorumor: PathBuf,
    /// The program `serf`; none to measure Quorumor alone.
    pub serf: Option<PathBuf>,
    /// Where agents keep their data and logs: a directory on a real disk, empty or not there.
    pub dir: PathBuf,
    /// Whether the data is kept.
    pub keep: bool,
    /// How many agents, one after the other.
    pub nodes: Vec<usize>,
    /// Turns of each system.
    pub turns: usize,
    /// How many updates of each kind are told in a turn.
    pub updates: usize,
    /// How many agents are killed in a turn, at most a third.
    pub kills: usize,
    /// For how long idle agents are watched.
    pub idle: Duration,
    /// A turn with more foreign cores than this in any of its parts is void.
    pub foreign_cores_max: f64,
    /// A void turn is repeated at most so often.
    pub void_repeats_max: usize,
}

/// Measures everything. What each system comes to is handed out when it is known.
///
/// # Errors
/// If agents can't be started, or don't come to know each other.
pub async fn run(
    plan: &GossipPlan,
    progress: &Progress,
    mut on_result: impl FnMut(&GossipResult) -> Result<(), BenchError>,
) -> Result<Vec<GossipResult>, BenchError> {
    check(plan)?;
    std::fs::create_dir_all(&plan.dir).map_err(|why| file_error(&plan.dir, why))?;
    refuse_memory(&plan.dir)?;
    let mut all = Vec::new();
    for nodes in &plan.nodes {
        for result in at(plan, *nodes, progress).await? {
            on_result(&result)?;
            all.push(result);
        }
    }
    Ok(all)
}

/// How many turns there will be, for a progress bar.
#[must_use]
pub fn turns(plan: &GossipPlan) -> usize {
    plan.nodes.len() * plan.turns.max(1) * systems(plan).len()
}

/// All turns with so many agents.
async fn at(
    plan: &GossipPlan,
    nodes: usize,
    progress: &Progress,
) -> Result<Vec<GossipResult>, BenchError> {
    let systems = systems(plan);
    let mut turns = vec![Vec::new(); systems.len()];
    for round in 0..plan.turns.max(1) {
        let mut order: Vec<usize> = (0..systems.len()).collect();
        if !round.is_multiple_of(2) {
            order.reverse();
        }
        for index in order {
            let (system, program) = systems[index];
            for repeat in 0..=plan.void_repeats_max {
                let agents = AgentsPlan {
                    system,
                    program: program.clone(),
                    quorumor: plan.quorumor.clone(),
                    dir: plan.dir.join(format!("{system}-{nodes}-{round}-{repeat}")),
                    agents: nodes,
                };
                let turn: GossipTurn = measure::turn(plan, agents, progress).await?;
                let void = turn.void;
                turns[index].push(turn);
                if !void {
                    break;
                }
            }
            progress.step();
        }
    }
    let results = systems.iter().zip(&turns);
    Ok(results
        .map(|((system, _), turns)| GossipResult::of(nodes, *system, turns))
        .collect())
}

fn systems(plan: &GossipPlan) -> Vec<(System, &PathBuf)> {
    let serf = plan.serf.as_ref().map(|serf| (System::Serf, serf));
    std::iter::once((System::Quorumor, &plan.quorumor))
        .chain(serf)
        .collect()
}

fn check(plan: &GossipPlan) -> Result<(), BenchError> {
    if plan.nodes.is_empty() || plan.nodes.iter().any(|nodes| *nodes < AGENTS_MIN) {
        let why = format!("gossip takes at least {AGENTS_MIN} nodes");
        return Err(BenchError::Usage(why));
    }
    for (system, program) in systems(plan) {
        if !is_program(program) {
            let program = program.display();
            let why = match system {
                System::Quorumor => format!("there is no quorumor at {program}"),
                System::Serf => {
                    format!(
                        "there is no {program}: install serf, or leave it out with --without-serf"
                    )
                }
            };
            return Err(BenchError::Usage(why));
        }
    }
    let in_use = std::fs::read_dir(&plan.dir).is_ok_and(|mut entries| entries.next().is_some());
    if in_use {
        return Err(BenchError::Usage(format!(
            "{} isn't empty: agents that are measured start from nothing",
            plan.dir.display()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> GossipPlan {
        GossipPlan {
            quorumor: "sh".into(),
            serf: None,
            dir: "/nowhere".into(),
            keep: false,
            nodes: vec![10, 100],
            turns: 2,
            updates: 1,
            kills: 1,
            idle: Duration::ZERO,
            foreign_cores_max: 0.25,
            void_repeats_max: 0,
        }
    }

    #[test]
    fn two_nodes_are_too_few() {
        let plan = GossipPlan {
            nodes: vec![10, 2],
            ..plan()
        };
        assert!(check(&plan).unwrap_err().to_string().contains("at least 3"));
    }

    #[test]
    fn a_missing_serf_is_told_with_what_to_do() {
        let plan = GossipPlan {
            serf: Some("no-such-serf".into()),
            ..plan()
        };
        let error = check(&plan).unwrap_err().to_string();
        assert!(
            error.contains("no-such-serf") && error.contains("--without-serf"),
            "{error}"
        );
        assert_eq!(turns(&plan), 8);
    }

    #[test]
    fn serf_can_be_left_out() {
        assert!(check(&plan()).is_ok());
        assert_eq!(turns(&plan()), 4);
    }
}
