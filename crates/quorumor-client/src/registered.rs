//! Registrations: an instance that is registered, kept alive in the background, registered again when it is gone, and taken out.
//!
//! All instances of a client (its clones included) in one mode share one keep-alive stream: many signs of life go in one message.
//! A [`Registered`] knows until when its instance is *sure* to be found, as a [`Lease`](crate::Lease) does: counted from when the
//! sign of life that the registry confirmed was **sent**.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use quorumor_core::{Error, limits};
use quorumor_proto::pb;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::answer::{Answer, Receipt, receipt, required};
use crate::client::Client;
use crate::error::ClientError;
use crate::instance::{Health, Registration, ServiceInstance};
use crate::retry::Kind;
use crate::wire::duration_from_wire;

pub(crate) mod heart;

/// An instance is registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterAnswer {
    /// As it stands now at the node that answered; `None` if that node doesn't show it yet.
    pub instance: Option<ServiceInstance>,
    /// How long it stays without a keep-alive.
    pub ttl: Duration,
    /// Whether there was none of this id before.
    pub created: bool,
    /// What the answer says about itself.
    pub receipt: Receipt,
}

/// An instance is out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeregisterAnswer {
    /// Whether there was one.
    pub found: bool,
    /// What the answer says about itself.
    pub receipt: Receipt,
}

impl Answer for RegisterAnswer {
    type Wire = pb::RegisterResponse;

    fn from_wire(mut wire: pb::RegisterResponse) -> Result<Self, Error> {
        Ok(Self {
            receipt: receipt(&mut wire.receipt)?,
            instance: wire.instance.map(ServiceInstance::from_wire).transpose()?,
            ttl: required(duration_from_wire(wire.ttl), "ttl")?,
            created: wire.created,
        })
    }

    fn receipt(&self) -> Option<&Receipt> {
        Some(&self.receipt)
    }
}

impl Answer for DeregisterAnswer {
    type Wire = pb::DeregisterResponse;

    fn from_wire(mut wire: pb::DeregisterResponse) -> Result<Self, Error> {
        Ok(Self {
            receipt: receipt(&mut wire.receipt)?,
            found: wire.found,
        })
    }

    fn receipt(&self) -> Option<&Receipt> {
        Some(&self.receipt)
    }
}

/// What is known of a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistrationState {
    /// It is sure to be there until then, by this machine's monotonic clock.
    Registered {
        /// By this machine's monotonic clock.
        until: Instant,
        /// How often it was registered again, since it was first.
        returned: u64,
    },
    /// It lives by a lease of the caller's, and nothing else keeps it.
    Leased,
    /// It is gone, or may be, and is being registered again until that succeeds.
    Returning {
        /// Why.
        why: String,
    },
    /// The registry refuses to take it again, and it isn't kept any more.
    Refused {
        /// What the registry said.
        why: String,
    },
    /// It was taken out, or its handle is gone.
    Left,
}

impl Client {
    /// Registers an instance, or replaces its registration, and keeps it alive until the handle is dropped or
    /// [left](Registered::leave). Must be called inside a tokio runtime, which then keeps it.
    ///
    /// # Errors
    /// See [`ClientError`]: the first registration failed, and nothing is kept.
    pub async fn register(&self, registration: Registration) -> Result<Registered, ClientError> {
        let asked = Instant::now();
        let answer = self.register_once(&registration).await?;
        let state = if registration.lease.is_some() {
            RegistrationState::Leased
        } else {
            let until = asked + counted(answer.ttl);
            RegistrationState::Registered { until, returned: 0 }
        };
        let (tell, state) = watch::channel(state);
        let slot = Arc::new(Slot::new(registration, tell));
        let wake = heart::join(self, &slot, asked, counted(answer.ttl)).await;
        Ok(Registered {
            client: self.clone(),
            slot,
            state,
            wake,
            first: answer,
        })
    }

    /// Registers an instance, or replaces its registration, once: the caller keeps it alive, or lets it go when its TTL has passed.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn register_once(
        &self,
        registration: &Registration,
    ) -> Result<RegisterAnswer, ClientError> {
        self.call_registry(Kind::NumberedWrite, |mut stub, this_try| {
            let request = this_try.request(|header| registration.to_wire(header));
            async move { stub.register(request).await }
        })
        .await
    }

    /// Takes an instance out. One that is gone is an answer.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn deregister(
        &self,
        service: &str,
        id: &str,
    ) -> Result<DeregisterAnswer, ClientError> {
        self.call_registry(Kind::NumberedWrite, |mut stub, this_try| {
            let request = this_try.request(|header| pb::DeregisterRequest {
                header: Some(header),
                name: Some(pb::InstanceName {
                    service: service.to_owned(),
                    instance_id: id.to_owned(),
                }),
            });
            async move { stub.deregister(request).await }
        })
        .await
    }
}

/// A TTL that can be added to a clock.
fn counted(ttl: Duration) -> Duration {
    ttl.min(Duration::from_millis(limits::LEASE_TTL_MS_MAX))
}

/// An instance that is registered and kept alive. Dropping it stops that: the instance then goes when its TTL has passed.
#[derive(Debug)]
#[must_use = "dropping it lets the instance go"]
pub struct Registered {
    client: Client,
    slot: Arc<Slot>,
    state: watch::Receiver<RegistrationState>,
    wake: Arc<Notify>,
    first: RegisterAnswer,
}

/// What handle and heart share.
#[derive(Debug)]
struct Slot {
    registration: Registration,
    told: Mutex<ToldHealth>,
    leaving: AtomicBool,
    state: watch::Sender<RegistrationState>,
}

/// What the instance says of itself.
#[derive(Clone, Debug)]
struct ToldHealth {
    health: Option<Health>,
    output: String,
    /// It isn't confirmed yet.
    news: bool,
}

impl Slot {
    fn new(registration: Registration, state: watch::Sender<RegistrationState>) -> Self {
        // Whoever has to tell its health within an interval works until it says otherwise.
        let must_tell = registration.told_every().map(|_| Health::Passing);
        let health = registration.health.or(must_tell);
        Self {
            registration,
            told: Mutex::new(ToldHealth {
                health,
                output: String::new(),
                news: must_tell.is_some(),
            }),
            leaving: AtomicBool::new(false),
            state,
        }
    }

    fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }
}

impl Registered {
    /// What the registry said when it was registered first.
    #[must_use]
    pub const fn answer(&self) -> &RegisterAnswer {
        &self.first
    }

    /// What is registered.
    #[must_use]
    pub fn registration(&self) -> &Registration {
        &self.slot.registration
    }

    /// What is known of it at this moment.
    #[must_use]
    pub fn state(&self) -> RegistrationState {
        let state = self.state.borrow().clone();
        match state {
            // Its keeper may not have run since: after a pause of this process the clock knows better.
            RegistrationState::Registered { until, .. } if until <= Instant::now() => {
                RegistrationState::Returning {
                    why: UNCONFIRMED.to_owned(),
                }
            }
            state @ (RegistrationState::Registered { .. }
            | RegistrationState::Leased
            | RegistrationState::Returning { .. }
            | RegistrationState::Refused { .. }
            | RegistrationState::Left) => state,
        }
    }

    /// A channel that tells changes of it. Who looks late sees the last one: that it was gone in between shows in how often it returned.
    #[must_use]
    pub fn states(&self) -> watch::Receiver<RegistrationState> {
        self.state.clone()
    }

    /// Tells how the instance is, with at most 256 bytes of words. It goes out at once, in the background, and is told again with
    /// each sign of life until the next call.
    pub fn set_health(&self, health: Health, output: impl Into<String>) {
        let mut output: String = output.into();
        let end = (0..=OUTPUT_BYTES_MAX.min(output.len()))
            .rev()
            .find(|end| output.is_char_boundary(*end));
        output.truncate(end.unwrap_or(0));
        *self.slot.told.lock() = ToldHealth {
            health: Some(health),
            output,
            news: true,
        };
        self.wake.notify_one();
    }

    /// Takes the instance out, and ends its keep-alives first. One that was gone already is no error: `Ok(false)`.
    ///
    /// # Errors
    /// See [`ClientError`]: it isn't kept alive any more, and goes when its TTL has passed.
    pub async fn leave(mut self) -> Result<bool, ClientError> {
        self.slot.leaving.store(true, Ordering::Release);
        self.wake.notify_one();
        // Until the heart says so, a registration may be under way that would come after the deregistration.
        let over = |state: &RegistrationState| {
            matches!(
                state,
                RegistrationState::Left | RegistrationState::Refused { .. }
            )
        };
        let timeout = self.client.options.timeout;
        let _ = tokio::time::timeout(timeout, self.state.wait_for(over)).await;
        let name = self.slot.registration.name();
        let deregister = || self.client.deregister(&name.service, &name.instance_id);
        let answer = match deregister().await {
            // It lives on in other data, and is to go there.
            Err(error) if error.is_of_other_data() => deregister().await,
            answer => answer,
        };
        Ok(answer?.found)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.slot.leaving.store(true, Ordering::Release);
        self.wake.notify_one();
    }
}

const UNCONFIRMED: &str = "no sign of life was confirmed in time";

/// The words beside a health.
const OUTPUT_BYTES_MAX: usize = 256;
