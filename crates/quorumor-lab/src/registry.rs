//! What strong mode was asked and answered with every feature in use, and the sequential model that it is judged by.
//!
//! Wider than [`crate::history`], which knows single keys in both modes: transactions, ranges, leases, client sessions,
//! reads in the past, watches, membership. Written by the simulator; the checkers in [`crate::checker::strong`] read
//! only this.

pub mod model;
pub mod order;
pub mod record;

pub use order::Order;
pub use record::{
    Answer, Ask, Attempt, Delivery, Ended, Failure, Finish, Op, Query, Record, Shown, Subject,
    Watched,
};
