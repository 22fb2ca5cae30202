//! The task that keeps a client's instances alive: one stream, on which those that are due tell together that they live; another
//! node when it fails; and for each that is gone, or may be, another registration.
//!
//! It lives while there are instances to keep, and belongs to the session's name of its mode and endpoint.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use quorumor_core::Mode;
use quorumor_proto::pb;
use quorumor_proto::status::status_from_bytes;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming};
use tracing::debug;

use super::{RegisterAnswer, RegistrationState, Slot, UNCONFIRMED, counted};
use crate::answer::Receipt;
use crate::breaker::{CallClass, Waited};
use crate::client::Client;
use crate::endpoints::{Place, Target};
use crate::error::ClientError;
use crate::instance::Health;
use crate::wire::duration_from_wire;

/// Signs of life in one message.
const BEATS_MAX: usize = 1_024;

/// Registrations under way at once, when many are gone together.
const RETURNING_MAX: usize = 16;

/// Registrations that wait for their heart.
const JOINING_MAX: usize = 64;

/// The pause after a failure, so that a dead cluster isn't hammered.
const PAUSE: Duration = Duration::from_millis(100);

/// The longest that one message is waited for before another node is asked.
const PATIENCE_MAX: Duration = Duration::from_secs(2);

/// The heart of a mode and of a fixed endpoint, if there is one.
pub(crate) type Name = (Option<Mode>, Option<String>);

/// The hearts of one session, by what they speak to.
#[derive(Debug, Default)]
pub(crate) struct Hearts {
    beating: Mutex<BTreeMap<Name, Door>>,
}

/// Where instances are handed in, and what wakes their heart.
type Door = (mpsc::Sender<Member>, Arc<Notify>);

/// Hands a registered instance to its heart, which is made if there is none.
pub(super) async fn join(
    client: &Client,
    slot: &Arc<Slot>,
    asked: Instant,
    ttl: Duration,
) -> Arc<Notify> {
    let mut member = Member::new(Arc::clone(slot), asked, ttl);
    loop {
        let (door, wake) = client.session.hearts.door(client);
        match door.send(member).await {
            Ok(()) => return wake,
            // It ended meanwhile, having had nobody to keep.
            Err(refused) => member = refused.0,
        }
    }
}

impl Hearts {
    fn door(&self, client: &Client) -> Door {
        let name = (client.options.mode, client.options.endpoint.clone());
        let mut beating = self.beating.lock();
        if let Some((door, wake)) = beating.get(&name)
            && !door.is_closed()
        {
            return (door.clone(), Arc::clone(wake));
        }
        let (door, joining) = mpsc::channel(JOINING_MAX);
        let wake = Arc::new(Notify::new());
        tokio::spawn(Heart::new(client.without_token(), joining, Arc::clone(&wake)).run());
        beating.insert(name, (door.clone(), Arc::clone(&wake)));
        (door, wake)
    }
}

/// An instance that is kept.
#[derive(Debug)]
pub(crate) struct Member {
    slot: Arc<Slot>,
    until: Instant,
    interval: Duration,
    next: Instant,
    /// A registration is under way, or waits for its turn at `next`.
    returning: Option<Returning>,
    /// How often it came back.
    returned: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Returning {
    Waiting,
    UnderWay,
}

impl Member {
    fn new(slot: Arc<Slot>, asked: Instant, ttl: Duration) -> Self {
        let mut member = Self {
            slot,
            until: asked,
            interval: ttl,
            next: asked,
            returning: None,
            returned: 0,
        };
        member.confirmed(asked, ttl);
        member
    }

    fn is_leased(&self) -> bool {
        self.slot.registration.lease.is_some()
    }

    /// It lives so long from when it was told.
    fn confirmed(&mut self, sent: Instant, ttl: Duration) {
        self.returning = None;
        self.until = self.until.max(sent + ttl);
        let told = self.slot.registration.told_every();
        self.interval = told.map_or(ttl / 3, |told| (ttl / 3).min(told / 2));
        self.next = sent + self.interval;
        let state = if self.is_leased() {
            RegistrationState::Leased
        } else {
            RegistrationState::Registered {
                until: self.until,
                returned: self.returned,
            }
        };
        self.tell(state);
    }

    fn returns(&mut self, why: &str, at: Instant) {
        self.returning = Some(Returning::Waiting);
        self.next = at;
        self.tell(RegistrationState::Returning {
            why: why.to_owned(),
        });
    }

    /// Tells what changed, and nothing if nothing did.
    fn tell(&self, state: RegistrationState) {
        self.slot.state.send_if_modified(|told| {
            let changes = *told != state;
            *told = state;
            changes
        });
    }

    fn has_news(&self) -> bool {
        self.slot.told.lock().news
    }

    /// Whether it is to tell now that it lives. One under a lease of the caller's tells only its health.
    fn is_due(&self, now: Instant, slack: Duration) -> bool {
        let tells = self.slot.registration.told_every().is_some();
        let rhythm = (!self.is_leased() || tells) && self.next <= now + slack;
        self.returning.is_none() && (self.has_news() || rhythm)
    }

    fn beat(&self) -> pb::Beat {
        let mut told = self.slot.told.lock();
        told.news = false;
        pb::Beat {
            name: Some(self.slot.registration.name()),
            health: Health::to_wire(told.health).into(),
            output: told.output.clone(),
        }
    }

    /// Its sign of life wasn't taken, so neither was its health.
    fn unheard(&mut self, now: Instant) {
        self.slot.told.lock().news = true;
        self.next = now + PAUSE;
    }
}

type Id = u64;

struct Heart {
    client: Client,
    joining: mpsc::Receiver<Member>,
    closed: bool,
    wake: Arc<Notify>,
    members: BTreeMap<Id, Member>,
    last_id: Id,
    returns: JoinSet<(Id, Instant, Result<RegisterAnswer, ClientError>)>,
    line: Option<Line>,
    tried: Vec<Place>,
    /// After a failure nothing is sent before this.
    rest_until: Instant,
}

struct Line {
    place: Place,
    address: String,
    out: mpsc::Sender<pb::KeepAliveRequest>,
    answers: Streaming<pb::KeepAliveResponse>,
}

impl Heart {
    fn new(client: Client, joining: mpsc::Receiver<Member>, wake: Arc<Notify>) -> Self {
        Self {
            client,
            joining,
            closed: false,
            wake,
            members: BTreeMap::new(),
            last_id: 0,
            returns: JoinSet::new(),
            line: None,
            tried: Vec::new(),
            rest_until: Instant::now(),
        }
    }

    async fn run(mut self) {
        loop {
            while let Ok(member) = self.joining.try_recv() {
                self.take_in(member);
            }
            self.let_go();
            if self.members.is_empty() && self.last_id > 0 {
                if self.closed {
                    return;
                }
                // Whoever comes from now on finds another heart; whoever came before is still taken in.
                self.joining.close();
                self.closed = true;
                continue;
            }
            self.bring_back();
            let now = Instant::now();
            let due = if now < self.rest_until {
                Vec::new()
            } else {
                self.due(now)
            };
            if !due.is_empty() {
                self.beat(&due).await;
                continue;
            }
            let next = self.next_due();
            tokio::select! {
                member = self.joining.recv(), if !self.closed => match member {
                    Some(member) => self.take_in(member),
                    None => self.closed = true,
                },
                () = self.wake.notified() => {}
                Some(back) = self.returns.join_next() => {
                    if let Ok((id, asked, result)) = back {
                        self.back(id, asked, result);
                    }
                }
                () = sleep_until(next) => {}
            }
        }
    }

    fn take_in(&mut self, member: Member) {
        self.last_id += 1;
        self.members.insert(self.last_id, member);
    }

    /// Forgets those whose handles are gone, but for those of which a registration is under way.
    fn let_go(&mut self) {
        self.members.retain(|_, member| {
            let stays = !member.slot.is_leaving() || member.returning == Some(Returning::UnderWay);
            if !stays {
                member.tell(RegistrationState::Left);
            }
            stays
        });
    }

    /// Begins to register again those that are gone, a few at a time.
    fn bring_back(&mut self) {
        let now = Instant::now();
        for (id, member) in &mut self.members {
            let overdue = member.until <= now && !member.is_leased();
            if member.returning.is_none() && overdue {
                member.returns(UNCONFIRMED, now);
            }
            let waits = member.returning == Some(Returning::Waiting) && member.next <= now;
            if !waits || self.returns.len() >= RETURNING_MAX {
                continue;
            }
            member.returning = Some(Returning::UnderWay);
            let told = member.slot.told.lock().health;
            let mut registration = member.slot.registration.clone();
            registration.health = told.or(registration.health);
            let (client, id) = (self.client.clone(), *id);
            self.returns.spawn(async move {
                let asked = Instant::now();
                let result = client.register_once(&registration).await;
                (id, asked, result)
            });
        }
    }

    /// A registration came back.
    fn back(&mut self, id: Id, asked: Instant, result: Result<RegisterAnswer, ClientError>) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        match result {
            Ok(answer) => {
                member.returned += 1;
                member.confirmed(asked, counted(answer.ttl));
            }
            Err(error) if !is_final(&error) => {
                debug!(%error, "an instance can't be registered again yet");
                member.returns(&error.to_string(), Instant::now() + PAUSE);
            }
            Err(error) => {
                debug!(%error, "an instance is refused");
                let why = error.to_string();
                member.tell(RegistrationState::Refused { why });
                self.members.remove(&id);
            }
        }
    }

    /// Those that are to tell that they live. Those that would be a little later come along.
    fn due(&self, now: Instant) -> Vec<Id> {
        let any = self.members.values();
        if !any
            .into_iter()
            .any(|member| member.is_due(now, Duration::ZERO))
        {
            return Vec::new();
        }
        let due = self.members.iter();
        let due = due.filter(|(_, member)| member.is_due(now, member.interval / 4));
        due.map(|(id, _)| *id).take(BEATS_MAX).collect()
    }

    fn next_due(&self) -> Option<Instant> {
        let next = self.members.values().filter_map(|member| {
            let tells = member.slot.registration.told_every().is_some();
            match member.returning {
                Some(Returning::UnderWay) => None,
                // Its turn comes when another registration is done.
                Some(Returning::Waiting) if self.returns.len() >= RETURNING_MAX => None,
                Some(Returning::Waiting) => Some(member.next),
                None if member.has_news() => Some(self.rest_until),
                None if member.is_leased() && !tells => None,
                None if member.is_leased() => Some(member.next.max(self.rest_until)),
                None => Some(member.next.max(self.rest_until).min(member.until)),
            }
        });
        next.min()
    }

    /// One message with their signs of life, and its answer.
    async fn beat(&mut self, due: &[Id]) {
        let sent = Instant::now();
        let members = due.iter().filter_map(|id| self.members.get(id));
        let patience = members.clone().map(|member| member.interval).min();
        let request = pb::KeepAliveRequest {
            header: Some(self.client.header(None)),
            beats: members.map(Member::beat).collect(),
        };
        let patience = patience.unwrap_or(PATIENCE_MAX).min(PATIENCE_MAX);
        let answered = tokio::time::timeout(patience, self.exchange(request)).await;
        let error = match answered {
            Ok(Ok(results)) => {
                self.tried.clear();
                if let Some(line) = &self.line {
                    self.target(line.place)
                        .breakers
                        .answered(CallClass::KeepAlive);
                }
                return self.heard(due, sent, results);
            }
            Ok(Err(error)) => error,
            Err(_) => {
                let line = self.line.as_ref();
                ClientError::DeadlineExceeded {
                    endpoint: line.map_or_else(|| "the node".to_owned(), |it| it.address.clone()),
                }
            }
        };
        debug!(%error, "signs of life weren't taken");
        if let Some(line) = self.line.take() {
            let waited = self.client.waited(CallClass::KeepAlive, patience);
            let breakers = &self.target(line.place).breakers;
            breakers.failed(CallClass::KeepAlive, &error, waited);
            if error.retry_after().is_none() {
                self.client.shared.endpoints.leave(line.place);
            }
        }
        let now = Instant::now();
        self.rest_until = now + PAUSE;
        for id in due {
            if let Some(member) = self.members.get_mut(id) {
                member.unheard(now);
            }
        }
    }

    fn target(&self, place: Place) -> Arc<Target> {
        self.client.shared.endpoints.target(place)
    }

    fn heard(&mut self, due: &[Id], sent: Instant, results: Vec<pb::BeatResult>) {
        let now = Instant::now();
        for (id, result) in due.iter().zip(results) {
            let Some(member) = self.members.get_mut(id) else {
                continue;
            };
            let ttl = duration_from_wire(result.ttl);
            if let (Some(ttl), false) = (ttl, result.status.is_empty()) {
                // It stays; what it said of itself is said again with the next.
                debug!("the registry didn't write down what an instance said of itself");
                member.confirmed(sent, counted(ttl));
                continue;
            }
            if !result.status.is_empty() {
                let status = status_from_bytes(result.status);
                let error = ClientError::from_status("the node", &status);
                debug!(%error, "a sign of life wasn't taken");
                // Only its owner can keep it, and that one can't be reached: another node can have it anew.
                if error.reason() == "OWNER_UNREACHABLE" {
                    member.returns(&error.to_string(), now);
                } else {
                    member.unheard(now);
                }
                continue;
            }
            match ttl {
                Some(ttl) => member.confirmed(sent, counted(ttl)),
                None => member.returns("the registry says that it is gone", now),
            }
        }
    }

    /// Sends one message over a line that is opened first if need be, and takes its answer.
    async fn exchange(
        &mut self,
        request: pb::KeepAliveRequest,
    ) -> Result<Vec<pb::BeatResult>, ClientError> {
        let beats = request.beats.len();
        let line = match &mut self.line {
            Some(line) => {
                if line.out.send(request).await.is_err() {
                    return Err(ended(&line.address));
                }
                line
            }
            None => {
                let line = self.open(request).await?;
                self.line.insert(line)
            }
        };
        let answer = match line.answers.message().await {
            Ok(Some(answer)) => answer,
            Ok(None) => return Err(ended(&line.address)),
            Err(status) => {
                let error = ClientError::from_status(&line.address, &status);
                self.client.learn_from_error(line.place, &error);
                return Err(error);
            }
        };
        if let Some(receipt) = answer.receipt
            && let Ok(receipt) = Receipt::from_wire(receipt)
        {
            self.client.learn(line.place, &receipt);
        }
        if !answer.status.is_empty() {
            let status = status_from_bytes(answer.status);
            let error = ClientError::from_status(&line.address, &status);
            self.client.learn_from_error(line.place, &error);
            return Err(error);
        }
        if answer.results.len() != beats {
            return Err(ClientError::bad_answer("results are missing"));
        }
        Ok(answer.results)
    }

    /// A stream to the leader if it is known, else to each node in turn, that begins with this message.
    async fn open(&mut self, first: pb::KeepAliveRequest) -> Result<Line, ClientError> {
        let endpoints = &self.client.shared.endpoints;
        let place = match &self.client.options.endpoint {
            Some(address) => endpoints.place(address).map_err(ClientError::Invalid)?,
            None => endpoints.next_anyway(CallClass::KeepAlive, true, &mut self.tried),
        };
        let target = endpoints.target(place);
        let (out, requests) = mpsc::channel(1);
        if out.try_send(first).is_err() {
            return Err(ended(&target.address));
        }
        let request = Request::new(ReceiverStream::new(requests));
        let permit = target.breakers.admit_anyway(CallClass::KeepAlive);
        let opened = target.registry_stub().keep_alive(request).await;
        let opened = opened.map_err(|status| ClientError::from_status(&target.address, &status));
        permit.done(opened.as_ref().err(), Waited::LONG);
        match opened {
            Ok(response) => Ok(Line {
                place,
                address: target.address.clone(),
                out,
                answers: response.into_inner(),
            }),
            Err(error) => {
                if error.retry_after().is_none() {
                    endpoints.leave(place);
                }
                self.client.learn_from_error(place, &error);
                Err(error)
            }
        }
    }
}

fn ended(address: &str) -> ClientError {
    ClientError::ContactLost {
        endpoint: address.to_owned(),
        why: "the keep-alive stream ended".to_owned(),
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Whether the registry would refuse the same registration again, whatever becomes of the cluster. A deadline, a partition or a
/// session that ended pass.
fn is_final(error: &ClientError) -> bool {
    matches!(
        error.reason(),
        "INVALID_ARGUMENT"
            | "TOO_LARGE"
            | "PERMISSION_DENIED"
            | "UNAUTHENTICATED"
            | "MODE_NOT_SERVED"
            | "GUARANTEE_UNAVAILABLE"
            | "LEASE_NOT_FOUND"
    )
}
