//! End-to-end tests over real sockets and processes, and the house rules.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests tell what they measured and what they skipped"
)]

mod api;
mod compare;
mod durability;
mod faults;
mod house;
mod recipes;
mod support;
