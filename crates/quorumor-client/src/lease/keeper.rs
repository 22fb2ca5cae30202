//! The task that keeps one lease alive: a stream to a node, one keep-alive a third of the TTL, another node when one fails.
//!
//! It never says that a lease lives longer than was confirmed, and once it has said that a lease is lost it stops: to let it
//! live on would keep a lock from others that its owner has given up.

use std::time::Duration;

use quorumor_core::LeaseId;
use quorumor_proto::pb;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming};
use tracing::debug;

use super::{LeaseState, LostReason, counted};
use crate::answer::Receipt;
use crate::breaker::{CallClass, Waited};
use crate::client::Client;
use crate::endpoints::Place;
use crate::error::ClientError;
use crate::wire::duration_from_wire;

/// The pause after a failure, so that a dead cluster isn't hammered.
const PAUSE: Duration = Duration::from_millis(50);

/// The longest that one keep-alive is waited for before another node is asked, where the TTL allows it.
const PATIENCE_MAX: Duration = Duration::from_secs(2);

pub(super) struct Keeper {
    client: Client,
    id: LeaseId,
    ttl: Duration,
    until: Instant,
    tell: watch::Sender<LeaseState>,
    tried: Vec<Place>,
    /// Who is asked, or was last.
    at: Place,
}

struct Line {
    place: Place,
    address: String,
    out: mpsc::Sender<pb::LeaseKeepAliveRequest>,
    answers: Streaming<pb::LeaseKeepAliveResponse>,
}

/// What a keep-alive came to.
enum Kept {
    /// It lives so long from when the keep-alive was sent.
    For {
        sent: Instant,
        left: Duration,
    },
    Gone,
}

/// One keep-alive, and its end.
pub(super) async fn once(client: &Client, id: LeaseId) -> Result<Option<Duration>, ClientError> {
    let sent = Instant::now();
    let (tell, _) = watch::channel(LeaseState::Held { until: sent });
    let mut keeper = Keeper::new(client, id, Duration::ZERO, sent, tell);
    let mut line = None;
    let kept = tokio::time::timeout(client.options.timeout, keeper.once(&mut line)).await;
    match kept {
        Ok(Ok(Kept::For { left, .. })) => Ok(Some(left)),
        Ok(Ok(Kept::Gone)) => Ok(None),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(keeper.hangs(client.options.timeout)),
    }
}

impl Keeper {
    pub(super) fn new(
        client: &Client,
        id: LeaseId,
        ttl: Duration,
        until: Instant,
        tell: watch::Sender<LeaseState>,
    ) -> Self {
        Self {
            client: client.without_token(),
            id,
            ttl,
            until,
            tell,
            tried: Vec::new(),
            at: Place::default(),
        }
    }

    pub(super) async fn run(mut self) {
        let why = self.keep().await;
        self.tell.send_replace(LeaseState::Lost(why));
    }

    async fn keep(&mut self) -> LostReason {
        let interval = self.ttl / 3;
        let mut line: Option<Line> = None;
        let mut next = self.next_after(Instant::now(), interval);
        loop {
            tokio::time::sleep_until(next.min(self.until)).await;
            if Instant::now() >= self.until {
                return LostReason::Unconfirmed;
            }
            let sent = Instant::now();
            let patience = interval.min(PATIENCE_MAX).min(self.until - sent);
            let kept = tokio::time::timeout(patience, self.once(&mut line)).await;
            next = match kept {
                Ok(Ok(Kept::Gone)) => return LostReason::Gone,
                Ok(Ok(Kept::For { sent, left })) => {
                    self.until = self.until.max(sent + left);
                    self.tell
                        .send_replace(LeaseState::Held { until: self.until });
                    self.tried.clear();
                    self.next_after(sent, interval)
                }
                Ok(Err(error)) => {
                    debug!(lease = %self.id, %error, "a keep-alive failed");
                    line = None;
                    Instant::now() + PAUSE
                }
                Err(_) => {
                    debug!(lease = %self.id, "no answer to a keep-alive");
                    line = None;
                    self.hangs(patience);
                    Instant::now() + PAUSE
                }
            };
        }
    }

    /// A third of the TTL later, but never past the middle of what is left.
    fn next_after(&self, sent: Instant, interval: Duration) -> Instant {
        let left = self.until.saturating_duration_since(sent);
        sent + interval.min(left / 2)
    }

    /// One keep-alive, over a line that is opened first if need be.
    async fn once(&mut self, line: &mut Option<Line>) -> Result<Kept, ClientError> {
        let sent = Instant::now();
        let request = pb::LeaseKeepAliveRequest {
            header: Some(self.client.header(None)),
            lease_id: self.id.as_u64(),
        };
        let open = match line {
            Some(open) => {
                if open.out.send(request).await.is_err() {
                    return Err(ended(&open.address));
                }
                open
            }
            None => line.insert(self.open(request).await?),
        };
        let answer = match open.answers.message().await {
            Ok(Some(answer)) => answer,
            Ok(None) => return Err(ended(&open.address)),
            Err(status) => return Err(self.failed(open.place, &open.address, &status)),
        };
        if let Some(receipt) = answer.receipt
            && let Ok(receipt) = Receipt::from_wire(receipt)
        {
            self.client.learn(open.place, &receipt);
        }
        self.answered(open.place);
        if !answer.status.is_empty() {
            let status = quorumor_proto::status::status_from_bytes(answer.status);
            return Err(self.failed(open.place, &open.address, &status));
        }
        Ok(match duration_from_wire(answer.ttl) {
            Some(ttl) => Kept::For {
                sent,
                left: counted(ttl),
            },
            None => Kept::Gone,
        })
    }

    /// Tells the endpoint's breaker that a keep-alive on an open stream was answered.
    fn answered(&self, place: Place) {
        let target = self.client.shared.endpoints.target(place);
        target.breakers.answered(CallClass::KeepAlive);
    }

    /// The endpoint that was asked last didn't answer within that time, be it that its stream wasn't even opened: it is left, and its
    /// breaker hears of it.
    fn hangs(&self, time: Duration) -> ClientError {
        let endpoints = &self.client.shared.endpoints;
        let target = endpoints.target(self.at);
        let endpoint = target.address.clone();
        let error = ClientError::DeadlineExceeded { endpoint };
        let waited = self.client.waited(CallClass::KeepAlive, time);
        target.breakers.failed(CallClass::KeepAlive, &error, waited);
        endpoints.leave(self.at);
        error
    }

    fn failed(&self, place: Place, address: &str, status: &tonic::Status) -> ClientError {
        let error = ClientError::from_status(address, status);
        if error.retry_after().is_none() {
            self.client.shared.endpoints.leave(place);
        }
        self.client.learn_from_error(place, &error);
        error
    }

    /// A stream to the leader if it is known, else to each node in turn, that begins with this request.
    async fn open(&mut self, first: pb::LeaseKeepAliveRequest) -> Result<Line, ClientError> {
        let endpoints = &self.client.shared.endpoints;
        let place = match &self.client.options.endpoint {
            Some(address) => endpoints.place(address).map_err(ClientError::Invalid)?,
            None => endpoints.next_anyway(CallClass::KeepAlive, true, &mut self.tried),
        };
        self.at = place;
        let target = endpoints.target(place);
        let (out, requests) = mpsc::channel(1);
        if out.try_send(first).is_err() {
            return Err(ended(&target.address));
        }
        let request = Request::new(ReceiverStream::new(requests));
        let permit = target.breakers.admit_anyway(CallClass::KeepAlive);
        let opened = target.stub().lease_keep_alive(request).await;
        let opened = opened.map_err(|status| self.failed(place, &target.address, &status));
        permit.done(opened.as_ref().err(), Waited::LONG);
        opened.map(|response| Line {
            place,
            address: target.address.clone(),
            out,
            answers: response.into_inner(),
        })
    }
}

fn ended(address: &str) -> ClientError {
    ClientError::ContactLost {
        endpoint: address.to_owned(),
        why: "the keep-alive stream ended".to_owned(),
    }
}
