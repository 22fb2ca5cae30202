//! Those who call as before, and the hosts: on a thread of their own, so that what they see is the nodes' doing and not the
//! load generator's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use quorumor_proto::v1::state_service_client::StateServiceClient;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::super::hosts::{Host, Life, Stop};
use super::super::observed::{Call, End, Observed};
use super::callers::Asked;
use super::{NODES, OverloadPlan};
use crate::BenchError;
use crate::target::Target;

/// Regular callers, each with a connection of its own.
const REGULARS: usize = 12;
/// From one call of a regular caller to its next.
const EVERY: Duration = Duration::from_millis(300);
const DEADLINE: Duration = Duration::from_secs(5);
const HOSTS: usize = 6;
/// Signs of life within a time to live.
const BEATS_A_TTL: u32 = 3;

/// What they saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) calls: Observed,
    pub(super) beats: Observed,
    pub(super) instances: usize,
    pub(super) lost: u64,
}

impl Seen {
    pub(super) fn beats_failed(&self) -> usize {
        self.beats.0.len() - self.beats.count(End::Answered)
    }
}

/// They are at it.
pub(super) struct Regulars(oneshot::Receiver<Result<Seen, BenchError>>);

impl Regulars {
    /// From now on, for so long.
    pub(super) fn start(
        plan: &OverloadPlan,
        target: &Target,
        asked: &Arc<Asked>,
        lasts: Duration,
    ) -> Result<Self, BenchError> {
        let failed = |error: std::io::Error| BenchError::Start {
            what: "the regular callers".to_owned(),
            why: error.to_string(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(failed)?;
        let (plan, target, asked) = (plan.clone(), target.clone(), Arc::clone(asked));
        let (tell, told) = oneshot::channel();
        let thread = std::thread::Builder::new().name("regulars".to_owned());
        let run = move || {
            let until = Instant::now() + lasts;
            // Nobody waits for it if the run was given up.
            let _unheard = tell.send(runtime.block_on(all(&plan, &target, &asked, until)));
        };
        thread.spawn(run).map_err(failed)?;
        Ok(Self(told))
    }

    pub(super) async fn end(self) -> Result<Seen, BenchError> {
        self.0.await.map_err(|error| BenchError::Start {
            what: "the regular callers".to_owned(),
            why: error.to_string(),
        })?
    }
}

async fn all(
    plan: &OverloadPlan,
    target: &Target,
    asked: &Arc<Asked>,
    until: Instant,
) -> Result<Seen, BenchError> {
    let (mut lives, stop) = (JoinSet::new(), Stop::new());
    let hosts = HOSTS.min(plan.instances);
    for index in 0..hosts {
        let numbers = plan.instances * index / hosts..plan.instances * (index + 1) / hosts;
        let host = Host::settle(target, index, numbers, plan.ttl).await?;
        let every = plan.ttl / BEATS_A_TTL;
        lives.spawn(host.live(Instant::now(), every, stop.clone()));
    }
    let mut callers = JoinSet::new();
    for index in 0..REGULARS {
        let client = StateServiceClient::new(target.channel(index % NODES).await?);
        let turn = EVERY / u32::try_from(REGULARS).unwrap_or(1) * u32::try_from(index).unwrap_or(0);
        callers.spawn(regular(
            client,
            Arc::clone(asked),
            index,
            Instant::now() + turn,
            until,
        ));
    }
    let mut seen = Seen {
        instances: plan.instances,
        ..Seen::default()
    };
    while let Some(calls) = callers.join_next().await {
        let calls: Observed = calls.map_err(|error| BenchError::Usage(error.to_string()))?;
        seen.calls.0.extend(calls.0);
    }
    stop.cancel();
    while let Some(life) = lives.join_next().await {
        let life: Life = life.map_err(|error| BenchError::Usage(error.to_string()))?;
        seen.beats.0.extend(life.beats.0);
        seen.lost += life.lost;
    }
    Ok(seen)
}

async fn regular(
    mut client: StateServiceClient<tonic::transport::Channel>,
    asked: Arc<Asked>,
    number: usize,
    first: Instant,
    until: Instant,
) -> Observed {
    let mut seen = Observed::default();
    let mut due = first;
    let mut turn = number;
    while due < until {
        tokio::time::sleep_until(due.into()).await;
        let began = Instant::now();
        let (end, _) = asked.call(&mut client, turn, Some(DEADLINE)).await;
        seen.0.push(Call {
            began,
            took: began.elapsed(),
            end,
        });
        turn += REGULARS;
        // Who waited long doesn't catch up.
        due = (due + EVERY).max(Instant::now());
    }
    seen
}
