//! Breakers under a clock that is turned by hand.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use proptest::prelude::*;

use super::*;

const POLICY: BreakerPolicy = BreakerPolicy {
    window: Duration::from_secs(10),
    calls_min: 4,
    failure_percent: 50,
    open_for: Duration::from_secs(1),
};

const CLASS: CallClass = CallClass::Write;

fn breakers() -> (Arc<Breakers>, Arc<Mutex<Duration>>) {
    let (clock, now) = Clock::by_hand();
    (Arc::new(Breakers::new(Some(POLICY), clock)), now)
}

fn silent() -> ClientError {
    ClientError::DeadlineExceeded {
        endpoint: "a:1".into(),
    }
}

fn call(breakers: &Arc<Breakers>, works: bool) {
    let permit = breakers.admit(CLASS).expect("a call goes through");
    permit.done((!works).then(silent).as_ref(), Waited::LONG);
}

fn state(breakers: &Breakers) -> BreakerState {
    report(breakers).state
}

fn report(breakers: &Breakers) -> BreakerReport {
    let mut all = breakers.report("a:1").into_iter();
    all.find(|report| report.class == CLASS).unwrap()
}

fn opened() -> (Arc<Breakers>, Arc<Mutex<Duration>>) {
    let (breakers, now) = breakers();
    (0..4).for_each(|_| call(&breakers, false));
    (breakers, now)
}

#[test]
fn it_opens_once_enough_calls_came_and_half_of_them_failed() {
    let (breakers, _) = breakers();
    (0..3).for_each(|_| call(&breakers, false));
    assert_eq!(state(&breakers), BreakerState::Closed);
    call(&breakers, true);
    // A call that went well opens nothing, though three of four failed.
    assert_eq!(state(&breakers), BreakerState::Closed);
    call(&breakers, false);
    let retry_in = POLICY.open_for;
    assert_eq!(state(&breakers), BreakerState::Open { retry_in });
    assert!(breakers.admit(CLASS).is_none());
    assert_eq!(breakers.closed_for(CLASS), Some(retry_in));
    let report = report(&breakers);
    assert_eq!((report.calls, report.failures), (5, 4));
}

const fn waited(time: u64) -> Waited {
    Waited {
        time: Duration::from_millis(time),
        patience: Duration::from_millis(100),
    }
}

#[test]
fn a_deadline_that_left_no_time_for_an_answer_counts_as_nothing() {
    let (breakers, now) = breakers();
    for _ in 0..9 {
        let permit = breakers.admit(CLASS).unwrap();
        permit.done(Some(&silent()), waited(99));
    }
    assert_eq!(report(&breakers).calls, 0);
    (0..4).for_each(|_| call(&breakers, false));
    *now.lock() += POLICY.open_for;
    // As a probe it leaves it to the next one.
    breakers
        .admit(CLASS)
        .unwrap()
        .done(Some(&silent()), waited(99));
    breakers
        .admit(CLASS)
        .unwrap()
        .done(Some(&silent()), waited(100));
    let retry_in = POLICY.open_for;
    assert_eq!(state(&breakers), BreakerState::Open { retry_in });
}

#[test]
fn one_that_others_answer_for_fails_once_it_was_silent_for_long() {
    let (breakers, now) = breakers();
    let overtaken = |time| breakers.admit(CLASS).unwrap().overtaken(waited(time));
    assert!(!overtaken(60));
    *now.lock() += Duration::from_millis(39);
    assert!(!overtaken(60));
    *now.lock() += Duration::from_millis(1);
    assert!(overtaken(60));
    assert_eq!(report(&breakers).failures, 1);
    // An answer shows that it was only slow.
    call(&breakers, true);
    assert!(!overtaken(60));
    assert!(overtaken(100), "one call alone may show it");
    assert!(overtaken(100));
    let retry_in = POLICY.open_for;
    assert_eq!(state(&breakers), BreakerState::Open { retry_in });
}

#[test]
fn few_failures_among_many_calls_leave_it_closed() {
    let (breakers, _) = breakers();
    for number in 0..100 {
        call(&breakers, number % 3 != 2);
    }
    assert_eq!(state(&breakers), BreakerState::Closed);
}

#[test]
fn other_classes_of_an_endpoint_stay_as_they_are() {
    let (breakers, _) = opened();
    assert!(breakers.admit(CLASS).is_none());
    assert!(breakers.admit(CallClass::LocalRead).is_some());
}

#[test]
fn what_is_older_than_the_window_counts_no_more() {
    let (breakers, now) = breakers();
    (0..3).for_each(|_| call(&breakers, false));
    *now.lock() += Duration::from_secs(5);
    assert_eq!(report(&breakers).failures, 3);
    *now.lock() += Duration::from_secs(5);
    assert_eq!(report(&breakers).calls, 0);
    (0..3).for_each(|_| call(&breakers, false));
    assert_eq!(state(&breakers), BreakerState::Closed);
}

#[test]
fn one_probe_goes_through_and_its_success_closes_it_with_nothing_counted() {
    let (breakers, now) = opened();
    *now.lock() += POLICY.open_for;
    assert_eq!(state(&breakers), BreakerState::HalfOpen);
    let probe = breakers.admit(CLASS).unwrap();
    assert!(breakers.admit(CLASS).is_none());
    probe.done(None, Waited::LONG);
    assert_eq!(state(&breakers), BreakerState::Closed);
    assert_eq!(report(&breakers).calls, 0);
}

#[test]
fn a_probe_that_fails_opens_it_anew_and_one_that_is_given_up_lets_another_go() {
    let (breakers, now) = opened();
    *now.lock() += POLICY.open_for;
    drop(breakers.admit(CLASS).unwrap());
    breakers
        .admit(CLASS)
        .unwrap()
        .done(Some(&silent()), Waited::LONG);
    let retry_in = POLICY.open_for;
    assert_eq!(state(&breakers), BreakerState::Open { retry_in });
}

#[test]
fn calls_from_before_it_opened_neither_close_it_nor_keep_it_open() {
    let (breakers, now) = breakers();
    let old: Vec<_> = (0..3).map(|_| breakers.admit(CLASS).unwrap()).collect();
    (0..4).for_each(|_| call(&breakers, false));
    let mut old = old.into_iter();
    old.next().unwrap().done(None, Waited::LONG);
    assert!(matches!(state(&breakers), BreakerState::Open { .. }));
    *now.lock() += POLICY.open_for;
    let probe = breakers.admit(CLASS).unwrap();
    old.next().unwrap().done(None, Waited::LONG);
    old.next().unwrap().done(Some(&silent()), Waited::LONG);
    assert!(breakers.admit(CLASS).is_none());
    probe.done(None, Waited::LONG);
    assert_eq!(state(&breakers), BreakerState::Closed);
}

#[test]
fn a_call_that_must_go_through_does_and_the_breaker_stays_as_it_is() {
    let (breakers, _) = opened();
    breakers.admit_anyway(CLASS).done(None, Waited::LONG);
    assert!(matches!(state(&breakers), BreakerState::Open { .. }));
}

#[test]
fn switched_off_they_let_all_through_and_count_nothing() {
    let (clock, _) = Clock::by_hand();
    let breakers = Arc::new(Breakers::new(None, clock));
    (0..100).for_each(|_| call(&breakers, false));
    assert!(breakers.admit(CLASS).is_some());
    assert!(breakers.report("a:1").is_empty());
}

#[test]
fn only_silence_and_too_much_load_count_as_failures() {
    use quorumor_core::{Error, Mode};
    let node = |error: Error| {
        let status = quorumor_proto::status::to_status(&error, Some(Mode::Strong), None);
        ClientError::from_status("a:1", &status)
    };
    let overloaded = Error::Overloaded {
        queue: "q",
        retry_after_ms: 1,
    };
    let late = Error::DeadlineExceeded {
        what: "it",
        certainty: quorumor_core::Certainty::Unknown,
    };
    let unreachable = ClientError::Unreachable {
        endpoint: "a:1".into(),
        why: "refused".into(),
    };
    for failure in [node(overloaded), node(late), silent(), unreachable] {
        assert!(is_failure(&failure), "{failure}");
    }
    let refusals = [
        Error::invalid("key", "no good"),
        Error::NotLeader { hint: None },
        Error::NoQuorum,
        Error::ModeNotServed { mode: Mode::Strong },
        Error::PermissionDenied {
            needed: "write".into(),
        },
    ];
    for refusal in refusals {
        assert!(!is_failure(&node(refusal)));
    }
}

/// What happens to a breaker.
#[derive(Clone, Debug)]
enum Step {
    Begin,
    /// The open call at this place, counted round, ends well, badly or not at all.
    End(usize, Option<bool>),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Begin),
        4 => (0usize..8, prop::option::weighted(0.9, any::<bool>()))
            .prop_map(|(place, outcome)| Step::End(place, outcome)),
        2 => (0u64..3_000).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    #[test]
    fn it_keeps_its_promises_whatever_happens(steps in steps()) {
        let (breakers, now) = breakers();
        let mut open: Vec<(Permit, bool)> = Vec::new();
        let mut outcomes: Vec<(Duration, bool)> = Vec::new();
        let mut opened_at = Duration::ZERO;
        for step in steps {
            let before = breakers.of(CLASS).lock().state;
            match step {
                Step::Begin => match breakers.admit(CLASS) {
                    Some(permit) => {
                        let probe = permit.pass == Some(Pass::Probe);
                        if let State::Open { .. } = before {
                            // Nothing passes an open one but, after its pause, one probe.
                            prop_assert!(probe);
                            prop_assert!(*now.lock() >= opened_at);
                        }
                        open.push((permit, probe));
                    }
                    None => prop_assert!(before != State::Closed),
                },
                Step::End(place, outcome) if !open.is_empty() => {
                    let (permit, probe) = open.remove(place % open.len());
                    match outcome {
                        Some(works) => permit.done((!works).then(silent).as_ref(), Waited::LONG),
                        None => drop(permit),
                    }
                    let after = breakers.of(CLASS).lock().state;
                    if before == State::Closed && let Some(works) = outcome && !probe {
                        outcomes.push((*now.lock(), works));
                    }
                    if before != State::Closed && after == State::Closed {
                        // Only a probe that went well closes it, and the count begins anew.
                        prop_assert!(probe && outcome == Some(true));
                        outcomes.clear();
                    }
                    if before == State::Closed && after != State::Closed {
                        let since = now.lock().saturating_sub(POLICY.window);
                        let within = outcomes.iter().filter(|(at, _)| *at >= since);
                        prop_assert!(within.count() >= POLICY.calls_min as usize);
                        prop_assert!(outcome == Some(false));
                    }
                    if let State::Open { until } = after {
                        opened_at = until;
                    }
                }
                Step::End(..) => {}
                Step::Wait(ms) => *now.lock() += Duration::from_millis(ms),
            }
            let probes = open.iter().filter(|(_, probe)| *probe).count();
            prop_assert!(probes <= 1, "{probes} probes at once");
            let probing = breakers.of(CLASS).lock().state == State::Probing;
            prop_assert_eq!(probing, probes == 1);
        }
    }
}
