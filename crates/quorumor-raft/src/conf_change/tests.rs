//! What the rules allow.

use super::*;
use crate::testing::{Net, id};

fn state(founders: u64) -> StateMachine {
    StateMachine::founding(&Net::new(founders, 1).config(1, 1))
}

fn add(node: u64, port: u16, promote: bool) -> MemberChange {
    MemberChange::AddLearner {
        node: id(node),
        peer_address: SocketAddr::from(([127, 0, 0, 1], port)),
        promote,
    }
}

fn promote(node: u64, replacing: Option<u64>) -> MemberChange {
    MemberChange::Promote {
        node: id(node),
        replacing: replacing.map(id),
    }
}

fn voters(voters: &[u64], learners: &[u64], outgoing: &[u64]) -> Voters {
    Voters {
        voters: voters.to_vec(),
        learners: learners.to_vec(),
        outgoing: outgoing.to_vec(),
    }
}

fn refusal(state: &StateMachine, change: &MemberChange) -> String {
    state.check_change(change).unwrap_err()
}

#[test]
fn an_id_and_an_address_are_used_once_and_a_repeated_request_is_no_error() {
    let mut state = state(3);
    let new = add(4, 8_004, true);
    assert_eq!(state.check_change(&new), Ok(Allowed::Change));
    state.change_members(&new, voters(&[1, 2, 3], &[4], &[]));
    assert_eq!(state.check_change(&new), Ok(Allowed::Already));
    assert_eq!(
        state.check_change(&add(4, 8_004, false)),
        Ok(Allowed::Change)
    );
    assert!(refusal(&state, &add(4, 8_005, true)).contains("is a member already"));
    assert!(refusal(&state, &add(2, 7_002, true)).contains("is a member already"));
    assert!(refusal(&state, &add(5, 8_004, true)).contains("address of node 4"));
    let gone = MemberChange::Remove { node: id(4) };
    assert_eq!(state.check_change(&gone), Ok(Allowed::Change));
    state.change_members(&gone, voters(&[1, 2, 3], &[], &[]));
    assert_eq!(state.check_change(&gone), Ok(Allowed::Already));
    assert!(refusal(&state, &new).contains("never used again"));
    assert!(state.roster.promoting.is_empty() && !state.members.contains_key(&id(4)));
}

#[test]
fn voters_are_bounded_whether_they_vote_yet_or_are_to() {
    let mut state = state(6);
    let seventh = add(7, 8_007, true);
    state.change_members(&seventh, voters(&[1, 2, 3, 4, 5, 6], &[7], &[]));
    assert!(refusal(&state, &add(8, 8_008, true)).contains("the most is 7"));
    let eighth = add(8, 8_008, false);
    assert_eq!(state.check_change(&eighth), Ok(Allowed::Change));
    state.change_members(&eighth, voters(&[1, 2, 3, 4, 5, 6], &[7, 8], &[]));
    let change = promote(7, None);
    state.change_members(&change, voters(&[1, 2, 3, 4, 5, 6, 7], &[8], &[]));
    assert!(refusal(&state, &promote(8, None)).contains("that is the most"));
    assert_eq!(
        state.check_change(&promote(8, Some(1))),
        Ok(Allowed::Change)
    );
}

#[test]
fn a_replaced_voter_stays_a_member_until_the_joint_configuration_ends() {
    let mut state = state(3);
    state.change_members(&add(4, 8_004, false), voters(&[1, 2, 3], &[4], &[]));
    assert!(refusal(&state, &promote(4, Some(9))).contains("no voter"));
    assert!(refusal(&state, &promote(9, None)).contains("add it first"));
    let replace = promote(4, Some(3));
    state.change_members(&replace, voters(&[1, 2, 4], &[], &[1, 2, 3]));
    assert!(state.members.contains_key(&id(3)));
    assert!(refusal(&state, &add(5, 8_005, true)).contains("under way"));
    state.take_voters(voters(&[1, 2, 4], &[], &[]));
    assert!(!state.members.contains_key(&id(3)));
    assert!(state.roster.removed.contains(&id(3)));
    assert_eq!(state.check_change(&replace), Ok(Allowed::Already));
}

#[test]
fn the_last_voter_stays() {
    let state = state(1);
    let last = MemberChange::Remove { node: id(1) };
    assert!(refusal(&state, &last).contains("only voter"));
    let stranger = MemberChange::Remove { node: id(9) };
    assert!(refusal(&state, &stranger).contains("no member"));
}
