//! Signs of life: each keeps its instance's lease alive, and says how the instance is if it says anything new.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use quorumor_core::{
    Certainty, Command, Error, LeaseAction, Level, Mode, Operation, Position, Reply, WriteOutcome,
};
use quorumor_proto::pb;
use quorumor_proto::pb::InstanceHealth;
use quorumor_proto::receipt::millis;
use tonic::metadata::MetadataMap;
use tonic::{Status, Streaming};

use super::super::asking::{Asking, Kind, misfit};
use super::super::{Answers, Service, stray};
use crate::auth::Principal;
use crate::registry::instance::{awaits_word, shortened};
use crate::registry::naming::{Name, Part};
use crate::registry::record::Record;
use crate::registry::stored::{Found, value_of};

/// Messages of one stream, and beats of one message, that may be under way.
const MESSAGES_AHEAD: usize = 8;
const BEATS_AHEAD: usize = 64;
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
    let answers = requests
        .map(move |request| {
            let (service, caller) = (service.clone(), caller.clone());
            async move { Ok(service.beat_all(caller, request?).await) }
        })
        .buffered(MESSAGES_AHEAD);
    let open = Some((Box::pin(answers), principal, leave));
    Box::pin(stream::unfold(open, |open| async {
        let (mut answers, principal, leave) = open?;
        let ended = |error| Some((Err(stray(&error)), None));
        tokio::select! {
            biased;
            () = leave.cancelled() => ended(Error::Stopping),
            () = principal.gone() => ended(Principal::revoked()),
            answer = answers.next() => {
                let answer = answer?;
                let open = answer.is_ok().then_some((answers, principal, leave));
                Some((answer, open))
            }
        }
    }))
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
struct Beaten {
    ttl_ms: Option<u64>,
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
            Ok(Beaten { ttl_ms, position }) => {
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
    let gone = Beaten {
        ttl_ms: None,
        position: None,
    };
    let Some(found) = find(asking, &name).await? else {
        return Ok(gone);
    };
    let Some(id) = found.lease else {
        return Ok(gone);
    };
    let ttl_ms = match asking
        .ask(Command::Lease(LeaseAction::KeepAlive { id }))
        .await
    {
        Ok(Reply::LeaseKept { ttl_ms }) => ttl_ms,
        Err(Error::LeaseNotFound { .. }) => return Ok(gone),
        Ok(_) => return Err(misfit()),
        Err(error) => return Err(error),
    };
    let position = say(asking, &found, health, &beat.output).await?;
    Ok(Beaten {
        ttl_ms: Some(ttl_ms),
        position,
    })
}

/// The instance. That there is none is said in strong mode only after a quorum confirmed it: this node may lag behind.
async fn find(asking: &Asking, name: &Name) -> Result<Option<Found>, Error> {
    let here = Found::of(&asking.read_here().await?.published.view, name);
    if here.is_some() || asking.handle().mode() == Mode::Eventual {
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
    let news = record.tell(OWN_WORD, health, shortened(output), wall_ms);
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
