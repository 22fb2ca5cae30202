//! One turn of one system: starts its agents, and measures how an update spreads, what idling costs, and how soon a killed
//! agent is held for dead by all others.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::agents::{Agents, AgentsPlan, System};
use super::door::{Door, Seen, Update, ask_until};
use super::results::GossipTurn;
use super::{GossipPlan, KILLED_SHARE};
use crate::BenchError;
use crate::load::CallError;
use crate::machine::{Processes, Traffic, rss_bytes};
use crate::progress::Progress;
use crate::run::count;

const JOINED_WITHIN: Duration = Duration::from_secs(180);
/// An update that isn't everywhere by then counts with this time, and as an error.
const SPREAD_WITHIN: Duration = Duration::from_secs(30);
/// The same for a death.
const DEATH_WITHIN: Duration = Duration::from_secs(120);
/// How often each agent is asked whether it has a tag; only while it hasn't.
const TAG_EVERY: Duration = Duration::from_millis(50);
/// How often each agent is asked who is dead, and at the start, how many are alive.
const MEMBERS_EVERY: Duration = Duration::from_millis(100);
/// Texts are padded to so many bytes.
const TEXT_BYTES: usize = 64;
/// Updates that wait to be counted.
const SEEN_MAX: usize = 4096;
/// The cluster has settled when the traffic of such a time is no longer below that of the one before by a tenth.
const SETTLE_WINDOW: Duration = Duration::from_secs(1);
const SETTLE_WINDOWS_MAX: usize = 30;

/// Measures one turn. Whatever happens, its agents are gone afterwards.
pub(super) async fn turn(
    plan: &GossipPlan,
    agents: AgentsPlan,
    progress: &Progress,
) -> Result<GossipTurn, BenchError> {
    let what = format!("{} agents of {}", agents.agents, agents.system);
    progress.say(format!("starting {what}"));
    let start = Instant::now();
    let mut agents = Agents::start(agents).await?;
    let measured = measure(plan, &mut agents, &what, start, progress).await;
    agents.stop(plan.keep).await;
    measured
}

async fn measure(
    plan: &GossipPlan,
    agents: &mut Agents,
    what: &str,
    start: Instant,
    progress: &Progress,
) -> Result<GossipTurn, BenchError> {
    let mut turn = GossipTurn::default();
    joined(agents).await?;
    turn.join_s = start.elapsed().as_secs_f64();
    for update in Update::all_of(agents.system()) {
        progress.say(format!("telling {what} by {}", update.as_str()));
        spread(plan, agents, *update, &mut turn).await?;
    }
    progress.say(format!("letting {what} settle"));
    settle().await;
    progress.say(format!("watching {what} idle"));
    idle(plan, agents, &mut turn).await?;
    progress.say(format!("killing some of {what}"));
    deaths(plan, agents, &mut turn).await?;
    turn.void = turn.foreign_cores > plan.foreign_cores_max;
    Ok(turn)
}

/// Waits until every agent holds all of them to be alive.
async fn joined(agents: &Agents) -> Result<(), BenchError> {
    let mut doors = Vec::new();
    for agent in agents.alive() {
        doors.push(agents.door(agent).await?);
    }
    let all = agents.len();
    let answers = doors.iter_mut().map(|door| async move {
        let knows_all = async || Ok(door.alive().await? == all);
        ask_until(MEMBERS_EVERY, Instant::now(), knows_all).await
    });
    let late = CallError("not every agent knows all others".to_owned());
    let joined = timeout(JOINED_WITHIN, try_join_all(answers)).await;
    match joined.unwrap_or(Err(late)) {
        Ok(_) => Ok(()),
        Err(error) => Err(unfit(agents.system(), error.0)),
    }
}

/// Tells all agents so many things, one after the other, each through another agent. The time of each counts from the start
/// of the call until the last agent has it.
async fn spread(
    plan: &GossipPlan,
    agents: &Agents,
    update: Update,
    turn: &mut GossipTurn,
) -> Result<(), BenchError> {
    let mut told = Told::open(agents, update).await?;
    let processes = processes(agents);
    let before = processes.sample();
    let mut times = Vec::new();
    for number in 0..plan.updates {
        let start = Instant::now();
        let spread = timeout(SPREAD_WITHIN, told.one(update, number, start)).await;
        let late = CallError("an update that isn't everywhere in time".to_owned());
        let time = match spread.unwrap_or(Err(late)) {
            Ok(last) => last - start,
            Err(error) => {
                turn.count_error(&error);
                SPREAD_WITHIN
            }
        };
        times.push(time.as_secs_f64());
    }
    turn.note_foreign(processes.sample().since(&before).foreign_cores);
    turn.updates.insert(update, times);
    Ok(())
}

/// Connections through which agents are told something and say that they know it. Its streams end with it.
struct Told {
    /// To tell.
    tellers: Vec<Door>,
    /// To ask, where agents don't report by themselves.
    asked: Vec<Door>,
    /// Where they do.
    seen: mpsc::Receiver<Seen>,
}

impl Told {
    async fn open(agents: &Agents, update: Update) -> Result<Self, BenchError> {
        let (report, seen) = mpsc::channel(SEEN_MAX);
        let (mut tellers, mut asked) = (Vec::new(), Vec::new());
        for agent in agents.alive() {
            tellers.push(agents.door(agent).await?);
            let door = agents.door(agent).await?;
            match update {
                Update::Put | Update::Event => {
                    let followed = door.follow(agent, report.clone()).await;
                    followed.map_err(|error| unfit(agents.system(), error.0))?;
                }
                Update::Tag => asked.push(door),
            }
        }
        Ok(Self {
            tellers,
            asked,
            seen,
        })
    }

    /// Tells them the update of this number, and gives the time at which the last one has it.
    async fn one(
        &mut self,
        update: Update,
        number: usize,
        start: Instant,
    ) -> Result<Instant, CallError> {
        let text = format!("{number:0TEXT_BYTES$}");
        let agents = self.tellers.len();
        let origin = (number * 7) % agents;
        let tell = self.tellers[origin].tell(update, &text);
        let everywhere = async {
            match update {
                Update::Put | Update::Event => all_report(&mut self.seen, agents, &text).await,
                Update::Tag => all_answer(&mut self.asked, origin, &text, start).await,
            }
        };
        let ((), last) = tokio::try_join!(tell, everywhere)?;
        Ok(last)
    }
}

/// When the last of so many agents reports this text. Reports of older texts are late, and left out.
async fn all_report(
    seen: &mut mpsc::Receiver<Seen>,
    agents: usize,
    text: &str,
) -> Result<Instant, CallError> {
    let lost = || CallError("an agent that can't be followed any more".to_owned());
    let mut by = BTreeSet::new();
    loop {
        let seen = seen.recv().await.ok_or_else(lost)?;
        if seen.text.as_deref().ok_or_else(lost)? == text {
            by.insert(seen.agent);
        }
        if by.len() == agents {
            return Ok(seen.at);
        }
    }
}

/// When the last of the agents answers that it has this tag.
async fn all_answer(
    asked: &mut [Door],
    origin: usize,
    text: &str,
    start: Instant,
) -> Result<Instant, CallError> {
    let answers = asked.iter_mut().map(|door| async move {
        let has_tag = async || door.has_tag(origin, text).await;
        ask_until(TAG_EVERY, start, has_tag).await
    });
    let at = try_join_all(answers).await?;
    at.into_iter()
        .max()
        .ok_or_else(|| CallError("no agent".to_owned()))
}

/// Waits until the traffic no longer falls: what was told has been told, and nobody joins any more.
async fn settle() {
    let mut before = u64::MAX;
    for _ in 0..SETTLE_WINDOWS_MAX {
        let start = Traffic::of_loopback().unwrap_or_default();
        sleep(SETTLE_WINDOW).await;
        let bytes = Traffic::of_loopback()
            .unwrap_or_default()
            .since(start)
            .bytes;
        if bytes >= before / 10 * 9 {
            return;
        }
        before = bytes;
    }
}

/// What nothing costs. No connection of ours is open meanwhile.
async fn idle(plan: &GossipPlan, agents: &Agents, turn: &mut GossipTurn) -> Result<(), BenchError> {
    let no_traffic = || unfit(agents.system(), "the kernel counts no loopback".to_owned());
    let processes = processes(agents);
    let before = (
        processes.sample(),
        Traffic::of_loopback().ok_or_else(no_traffic)?,
    );
    let start = Instant::now();
    sleep(plan.idle).await;
    let usage = processes.sample().since(&before.0);
    let traffic = Traffic::of_loopback()
        .ok_or_else(no_traffic)?
        .since(before.1);
    let seconds = start.elapsed().as_secs_f64().max(f64::MIN_POSITIVE);
    let each = seconds * figure(agents.len());
    let rss = rss_bytes(&processes.servers);
    let mib = |bytes: u64| count(bytes) / f64::from(1 << 20);
    turn.cpu_percent = usage.server_cpu.as_secs_f64() / each * 100.0;
    turn.bytes_s = count(traffic.bytes) / each;
    turn.packets_s = count(traffic.packets) / each;
    turn.rss_mib = mib(rss.iter().sum()) / figure(rss.len().max(1));
    turn.rss_mib_max = mib(rss.into_iter().max().unwrap_or(0));
    turn.note_foreign(usage.foreign_cores);
    Ok(())
}

/// Kills agents, one after the other, and waits until all that are left count as many dead as were killed.
async fn deaths(
    plan: &GossipPlan,
    agents: &mut Agents,
    turn: &mut GossipTurn,
) -> Result<(), BenchError> {
    let kills = plan.kills.min(agents.len() / KILLED_SHARE);
    // From the last one on: the first is the one that the others joined by.
    for (killed, victim) in (0..agents.len()).rev().take(kills).enumerate() {
        let mut doors = Vec::new();
        for agent in agents.alive().filter(|agent| *agent != victim) {
            doors.push(agents.door(agent).await?);
        }
        let at = agents.kill(victim).await?;
        // Only now: the processor time of a dead process can't be told any more, and would seem to be somebody else's.
        let processes = processes(agents);
        let before = processes.sample();
        let until = at + DEATH_WITHIN;
        let answers = doors.iter_mut().map(|door| async move {
            let knows_of_all = async || Ok(door.dead().await? == killed + 1);
            ask_until(MEMBERS_EVERY, at, knows_of_all).await
        });
        let late = CallError("a death that isn't known everywhere in time".to_owned());
        let answers = timeout_at(until, try_join_all(answers)).await;
        let last = answers.unwrap_or(Err(late)).map(|at| at.into_iter().max());
        let last = last.unwrap_or_else(|error| {
            turn.count_error(&error);
            Some(until)
        });
        turn.down_s
            .extend(last.map(|last| (last - at).as_secs_f64()));
        turn.note_foreign(processes.sample().since(&before).foreign_cores);
    }
    Ok(())
}

fn processes(agents: &Agents) -> Processes {
    Processes {
        servers: agents.pids(),
        waiting: Vec::new(),
    }
}

/// A count of agents as a figure to reckon with.
fn figure(agents: usize) -> f64 {
    count(u64::try_from(agents).unwrap_or(u64::MAX))
}

fn unfit(system: System, why: String) -> BenchError {
    BenchError::Unfit {
        target: system.to_string(),
        why,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(agent: usize, text: Option<&str>, at: Instant) -> Seen {
        let text = text.map(str::to_owned);
        Seen { agent, text, at }
    }

    #[tokio::test]
    async fn an_update_is_everywhere_when_the_last_agent_reports_it() {
        let (report, mut all) = mpsc::channel(SEEN_MAX);
        let at = Instant::now();
        let later = at + Duration::from_secs(1);
        for seen in [
            seen(0, Some("old"), at),
            seen(0, Some("new"), at),
            seen(0, Some("new"), at),
            seen(1, Some("new"), later),
        ] {
            report.send(seen).await.unwrap();
        }
        assert_eq!(all_report(&mut all, 2, "new").await, Ok(later));
        report.send(seen(1, None, at)).await.unwrap();
        assert!(all_report(&mut all, 2, "next").await.is_err());
    }
}
