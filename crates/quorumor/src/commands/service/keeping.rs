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

/// Why it was lost, where that was over at once.
const BRIEFLY: &str = "it was gone for a moment";

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

/// What was told so far.
#[derive(Default)]
struct Story {
    lost: bool,
    returned: u64,
}

impl Story {
    /// What there is to tell of a state: of a loss too that was over before anybody looked.
    fn goes_on(&mut self, state: &RegistrationState) -> Vec<News> {
        match state {
            RegistrationState::Returning { why } if !self.lost => {
                self.lost = true;
                vec![News::Lost(why.clone())]
            }
            RegistrationState::Registered { returned, .. } if *returned > self.returned => {
                self.returned = *returned;
                let was_told = std::mem::take(&mut self.lost);
                let loss = (!was_told).then(|| News::Lost(BRIEFLY.to_owned()));
                loss.into_iter().chain([News::Back]).collect()
            }
            RegistrationState::Registered { .. } if std::mem::take(&mut self.lost) => {
                vec![News::Back]
            }
            RegistrationState::Refused { why } => vec![News::Refused(why.clone())],
            RegistrationState::Returning { .. }
            | RegistrationState::Registered { .. }
            | RegistrationState::Leased
            | RegistrationState::Left => Vec::new(),
        }
    }
}

/// Tells what becomes of it, one word a turn of events, until it is refused.
pub(super) async fn follow(
    registered: &Registered,
    mut tell: impl FnMut(&News) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut states = registered.states();
    let mut story = Story::default();
    loop {
        let news = story.goes_on(&states.borrow_and_update());
        for news in &news {
            tell(news)?;
        }
        if matches!(news.last(), Some(News::Refused(_))) {
            return Ok(());
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

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn registered(returned: u64) -> RegistrationState {
        let until = Instant::now().into();
        RegistrationState::Registered { until, returned }
    }

    fn returning() -> RegistrationState {
        let why = "gone".to_owned();
        RegistrationState::Returning { why }
    }

    #[test]
    fn a_loss_is_told_once_and_so_is_the_return() {
        let mut story = Story::default();
        assert_eq!(story.goes_on(&registered(0)), []);
        assert_eq!(story.goes_on(&returning()), [News::Lost("gone".to_owned())]);
        assert_eq!(story.goes_on(&returning()), []);
        assert_eq!(story.goes_on(&registered(1)), [News::Back]);
        assert_eq!(story.goes_on(&registered(1)), []);
        // A sign of life that was only late.
        story.goes_on(&returning());
        assert_eq!(story.goes_on(&registered(1)), [News::Back]);
    }

    #[test]
    fn a_loss_that_nobody_saw_is_told() {
        let mut story = Story::default();
        let news = story.goes_on(&registered(2));
        assert_eq!(news, [News::Lost(BRIEFLY.to_owned()), News::Back]);
        assert_eq!(story.goes_on(&registered(2)), []);
    }
}
