//! The checkers of what strong mode promises beyond single keys: each judges one property of a [`Record`].
//!
//! The order of revisions is the witness ([`Order`]); what it can't explain is evidence.

pub mod agreement;
pub mod answers;
pub mod exactly_once;
pub mod freshness;
pub mod leaders;
pub mod leases;
pub mod past;
pub mod watches;

use super::{Evidence, Finding};
use crate::registry::{Op, Order, Record};

/// Judges everything that a record can be judged by.
pub fn check(record: &Record) -> Vec<Finding> {
    let order = Order::new(record);
    vec![
        agreement::check(record, &order),
        answers::check(record, &order),
        freshness::check(record, &order),
        exactly_once::check(record, &order),
        leases::check(record, &order),
        past::check(record, &order),
        watches::check(record),
        leaders::check(record),
    ]
}

/// Evidence from requests.
fn evidence(text: String, ops: &[&Op]) -> Evidence {
    Evidence {
        text,
        lines: ops.iter().map(|op| op.describe()).collect(),
        ops: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
