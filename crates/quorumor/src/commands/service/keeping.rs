//! An instance that this process keeps registered: what it tells while it does, and how it takes it out. Used by `register` and
//! `run`.

use quorumor_client::{
    Certainty, Client, ClientError, Instance, RegisterAnswer, Registered, Registration,
    RegistrationState,
};
use serde_json::{Value, json};

use crate::args::Output;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::render::{duration_text, line_text, receipt_json};
use crate::signals::Ends;

use super::shown::{address_text, found_json, instance_json, name_text};

/// What was to be written.
#[derive(Clone, Copy)]
pub(super) enum Write {
    Register,
    Deregister,
}

/// A write of the registry that failed. It may be repeated whatever became of it.
pub(super) fn failure(error: ClientError, write: Write) -> Failure {
    let failure = Failure::of_write(error);
    match (failure.certainty, write) {
        (Some(Certainty::Unknown), Write::Register) => {
            failure.advising("register again: the same id replaces what may be there")
        }
        (Some(Certainty::Unknown), Write::Deregister) => {
            failure.advising("do it again: an instance that is gone is no error")
        }
        (Some(Certainty::NotApplied) | None, _) => failure,
    }
}

/// Registers and keeps, unless a signal asks to end first.
pub(super) async fn begin(
    client: &Client,
    registration: Registration,
    ends: &mut Ends,
) -> Result<Registered, Failure> {
    let goes = registration.instance().checks.is_empty();
    tokio::select! {
        registered = client.register(registration) => {
            registered.map_err(|error| failure(error, Write::Register))
        }
        _ = ends.next() => Err(interrupted(goes)),
    }
}

fn interrupted(goes: bool) -> Failure {
    let failure = Failure::new(
        Exit::Unavailable,
        "INTERRUPTED",
        "stopped while the instance was being registered",
    );
    failure.advising(if goes {
        "it may be registered, and then goes when its TTL has passed"
    } else {
        "it may be registered: `quorumor service deregister` takes it out"
    })
}

/// `web/host-8080 at 10.0.0.1:8080`.
pub(super) fn named(instance: &Instance) -> String {
    format!("{} at {}", name_of(instance), address_text(instance))
}

fn name_of(instance: &Instance) -> String {
    name_text(&instance.service, &instance.id)
}

/// That it is registered, on one line.
pub(super) fn registered_text(instance: &Instance, answer: &RegisterAnswer) -> String {
    format!(
        "registered {}, TTL {}",
        named(instance),
        duration_text(answer.ttl)
    )
}

/// What a person should know of a registration that went well.
pub(super) fn note_replaced(answer: &RegisterAnswer) {
    if !answer.created {
        output::note("it replaces the instance of this id that was registered before");
    }
}

pub(super) fn registered_json(instance: &Instance, answer: &RegisterAnswer) -> Value {
    let shown = answer.instance.as_ref();
    json!({
        "instance": shown.map_or_else(|| instance_json(instance), found_json),
        "ttl_ms": u64::try_from(answer.ttl.as_millis()).ok(),
        "created": answer.created,
        "receipt": receipt_json(&answer.receipt),
    })
}

/// What becomes of a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// It may be gone, and is being registered again.
    Lost(String),
    /// It is registered again.
    Back,
    /// The registry refuses to take it again.
    Refused(String),
}

impl News {
    pub(super) fn text(&self, instance: &Instance) -> String {
        let name = name_of(instance);
        match self {
            Self::Lost(why) => format!(
                "{name} may be gone ({}): registering it again",
                line_text(why)
            ),
            Self::Back => format!("{name} is registered again"),
            Self::Refused(why) => format!("{name} is refused: {}", line_text(why)),
        }
    }

    pub(super) fn json(&self) -> Value {
        match self {
            Self::Lost(why) => json!({ "state": "returning", "why": why }),
            Self::Back => json!({ "state": "registered" }),
            Self::Refused(why) => json!({ "state": "refused", "why": why }),
        }
    }
}

/// Tells what becomes of it, one word a turn of events, until it is refused.
pub(super) async fn follow(
    registered: &Registered,
    mut tell: impl FnMut(&News) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut states = registered.states();
    let mut lost = false;
    loop {
        let news = match &*states.borrow_and_update() {
            RegistrationState::Returning { why } if !lost => Some(News::Lost(why.clone())),
            RegistrationState::Registered { .. } if lost => Some(News::Back),
            RegistrationState::Refused { why } => Some(News::Refused(why.clone())),
            RegistrationState::Returning { .. }
            | RegistrationState::Registered { .. }
            | RegistrationState::Leased
            | RegistrationState::Left => None,
        };
        if let Some(news) = news {
            lost = matches!(news, News::Lost(_));
            tell(&news)?;
            if matches!(news, News::Refused(_)) {
                return Ok(());
            }
        }
        if states.changed().await.is_err() {
            return Ok(());
        }
    }
}

/// Takes it out, unless a signal asks to end now. What is left then is told.
pub(super) async fn leave(registered: Registered, ends: &mut Ends) -> Result<(), Failure> {
    let instance = registered.registration().instance().clone();
    let left = tokio::select! {
        left = registered.leave() => left.map(drop).map_err(|error| failure(error, Write::Deregister)),
        _ = ends.next() => Err(Failure::new(Exit::Unavailable, "INTERRUPTED", "stopped while the instance was being taken out")),
    };
    left.map_err(|failure| failure.advising(what_is_left(&instance)))
}

fn what_is_left(instance: &Instance) -> String {
    let command = format!(
        "`quorumor service deregister {} {}`",
        line_text(&instance.service),
        line_text(&instance.id)
    );
    if instance.checks.is_empty() {
        format!("the instance goes when its TTL has passed; {command} takes it out before")
    } else {
        format!("the node that checks the instance keeps it: {command} takes it out")
    }
}

/// How a registration is told: on stdout for people and programs, on stderr where stdout is a command's.
pub(super) fn line_of(news: &News, instance: &Instance, shown: Output) -> String {
    match shown {
        Output::Json => news.json().to_string(),
        Output::Table | Output::Wide => news.text(instance),
    }
}
