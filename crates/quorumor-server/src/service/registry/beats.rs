//! Signs of life: each keeps its instance's lease alive, and says how the instance is if it says anything new.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use quorumor_core::{
    Certainty, Command, Error, LeaseAction, LeaseId, Level, Mode, Operation, Position, Reply,
    WriteOutcome,
};
use quorumor_proto::pb;
use quorumor_proto::pb::InstanceHealth;
use quorumor_proto::receipt::millis;
use tonic::metadata::MetadataMap;
use tonic::{Status, Streaming};

use super::super::asking::{Asking, Kind, misfit};
use super::super::{Answers, Service, until_gone};
use crate::auth::Principal;
use crate::registry::instance::{awaits_word, shortened};
use crate::registry::naming::{Name, Part};
use crate::registry::record::Record;
use crate::registry::stored::{Found, value_of};

/// Beats of one message that may be under way. The messages of a stream are served one after the other: a later word must stand.
const BEATS_AHEAD: usize = 64;
/// How long one beat may wait for its lease's owner.
const BEAT_TIMEOUT: Duration = Duration::from_secs(1);
/// Beats of one message.
const BEATS_MAX: usize = 1_024;
/// The check that an instance's own word counts as.
const OWN_WORD: &str = "self";

pub(super) fn keep_alive(
    service: Service,
    principal: Principal,
    requests: Streaming<pb::KeepAliveRequest>,
) -> Answers<pb::KeepAliveResponse> {
    let leave = service.shared.leave.clone();
    let caller = principal.clone();
    let answers = requests.then(move |request| {
        let (service, caller) = (service.clone(), caller.clone());
        async move { Ok(service.beat_all(caller, request?).await) }
    });
    until_gone(answers, principal, leave)
}

impl Service {
    /// The beats of one message. A failure is an answer: the stream goes on.
    async fn beat_all(
        &self,
        principal: Principal,
        request: pb::KeepAliveRequest,
    ) -> pb::KeepAliveResponse {
        // The stream's deadline is that of no message: each has the default.
        let unnamed = MetadataMap::new();
        let admitted = self.admit(
            "KeepAlive",
            Kind::KeepAlive,
            &unnamed,
            request.header,
            principal,
        );
        let asking = match admitted {
            Ok(asking) => Arc::new(asking),
            Err(status) => return failed(&status),
        };
        match beaten(&asking, request.beats).await {
            Ok(answer) => {
                asking.answered();
                answer
            }
            Err(error) => failed(&asking.refuse(&error)),
        }
    }
}

fn failed(status: &Status) -> pb::KeepAliveResponse {
    pb::KeepAliveResponse {
        status: Bytes::copy_from_slice(status.details()),
        ..pb::KeepAliveResponse::default()
    }
}

/// What one beat came to.
#[derive(Default)]
struct Beaten {
    ttl_ms: Option<u64>,
    /// It lives on, but what it said of itself couldn't be written down.
    unsaid: Option<Error>,
    /// The position of what was written, if anything was.
    position: Option<Position>,
}

async fn beaten(
    asking: &Arc<Asking>,
    beats: Vec<pb::Beat>,
) -> Result<pb::KeepAliveResponse, Error> {
    if beats.len() > BEATS_MAX {
        return Err(Error::too_large("beats_max", BEATS_MAX, beats.len()));
    }
    let each = stream::iter(beats).map(|beat| async {
        let name = beat.name.clone();
        (name, one(asking, beat).await)
    });
    let all: Vec<_> = each.buffered(BEATS_AHEAD).collect().await;
    let mut reached: Option<Position> = None;
    let mut kept = false;
    let mut results = Vec::with_capacity(all.len());
    for (name, beaten) in all {
        let mut result = pb::BeatResult {
            name,
            ..pb::BeatResult::default()
        };
        match beaten {
            Ok(Beaten {
                ttl_ms,
                unsaid,
                position,
            }) => {
                let status = unsaid.map(|error| asking.refuse(&error));
                let details = status.map(|status| Bytes::copy_from_slice(status.details()));
                result.status = details.unwrap_or_default();
                kept |= ttl_ms.is_some();
                result.ttl = ttl_ms.map(millis);
                match (&mut reached, position) {
                    (Some(reached), Some(position)) => reached.merge(&position),
                    (reached @ None, position) => *reached = position,
                    (Some(_), None) => {}
                }
            }
            Err(error) => {
                let status = asking.refuse(&error);
                result.status = Bytes::copy_from_slice(status.details());
            }
        }
        results.push(result);
    }
    let outcome = if kept {
        WriteOutcome::Applied
    } else {
        WriteOutcome::Failed(Certainty::NotApplied)
    };
    Ok(pb::KeepAliveResponse {
        receipt: Some(asking.done(reached.as_ref(), None, Some(outcome))?),
        results,
        status: Bytes::new(),
    })
}

async fn one(asking: &Asking, beat: pb::Beat) -> Result<Beaten, Error> {
    let name = Name::from_wire(beat.name.as_ref())?;
    let health = InstanceHealth::try_from(beat.health)
        .map_err(|_| Error::invalid("health", "it is unspecified, passing, warning or critical"))?;
    asking.principal().may_write(&name.key(Part::Instance))?;
    let Some((found, ttl_ms)) = renewed(asking, &name).await? else {
        return Ok(Beaten::default());
    };
    let (unsaid, position) = match say(asking, &found, health, &beat.output).await {
        Ok(position) => (None, position),
        Err(error) => (Some(error), None),
    };
    Ok(Beaten {
        ttl_ms: Some(ttl_ms),
        unsaid,
        position,
    })
}

/// The instance, its lease kept alive; `None` if there is none. A lease that isn't there may be one that was replaced, which this
/// node didn't know yet: that it is gone is said once that was made sure.
async fn renewed(asking: &Asking, name: &Name) -> Result<Option<(Found, u64)>, Error> {
    let mut before: Option<LeaseId> = None;
    while let Some(found) = find(asking, name, before.is_some()).await? {
        let Some(id) = found.lease.filter(|id| Some(*id) != before) else {
            return Ok(None);
        };
        // One whose owner can't be reached must not hold up the others of its message.
        let until = asking.began + asking.timeout.min(BEAT_TIMEOUT);
        let keep = Command::Lease(LeaseAction::KeepAlive { id });
        match asking.ask_until(keep, until).await {
            Ok(Reply::LeaseKept { ttl_ms }) => return Ok(Some((found, ttl_ms))),
            Err(Error::LeaseNotFound { .. }) => before = Some(id),
            Ok(_) => return Err(misfit()),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// The instance, as this node has it. In strong mode that there is none, or what is asked to be sure of, is confirmed by a quorum:
/// this node may lag behind.
async fn find(asking: &Asking, name: &Name, sure: bool) -> Result<Option<Found>, Error> {
    let here = Found::of(&asking.read_here().await?.published.view, name);
    if (here.is_some() && !sure) || asking.handle().mode() == Mode::Eventual {
        return Ok(here);
    }
    let until = asking.began + asking.timeout;
    let published = asking.barrier(Level::Linearizable, until).await?;
    Ok(Found::of(&published.view, name))
}

/// Writes down what the instance says of itself, if it is news or somebody waits for it.
async fn say(
    asking: &Asking,
    found: &Found,
    health: InstanceHealth,
    output: &str,
) -> Result<Option<Position>, Error> {
    let known = found.told.as_ref();
    // Who says nothing stands by what was said.
    let said_before = known
        .and_then(|known| known.checks.iter().find(|it| it.check_id == OWN_WORD))
        .filter(|_| health == InstanceHealth::Unspecified && output.is_empty());
    let output = said_before.map_or(output, |said| &said.output).to_owned();
    let health = match health {
        InstanceHealth::Unspecified => known.map_or(InstanceHealth::Unspecified, Record::health),
        told @ (InstanceHealth::Passing | InstanceHealth::Warning | InstanceHealth::Critical) => {
            told
        }
    };
    let awaited = awaits_word(&found.instance);
    let health = match health {
        InstanceHealth::Unspecified if awaited => InstanceHealth::Passing,
        InstanceHealth::Unspecified => return Ok(None),
        told @ (InstanceHealth::Passing | InstanceHealth::Warning | InstanceHealth::Critical) => {
            told
        }
    };
    let mut record = known.cloned().unwrap_or_default();
    record.said_by = asking.handle().node().as_u64();
    let wall_ms = asking.handle().clock().now().wall_ms;
    let news = record.tell(OWN_WORD, health, shortened(&output), wall_ms);
    if !news && !awaited {
        return Ok(None);
    }
    let put = Operation::Put {
        key: found.name.key(Part::Told),
        value: value_of(&record)?,
        context: None,
        lease: found.lease,
    };
    let Reply::Written { position, .. } = asking.ask(Command::write(vec![put], None)?).await?
    else {
        return Err(misfit());
    };
    Ok(Some(position))
}
