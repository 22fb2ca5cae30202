//! End-to-end tests over real sockets and processes, and the house rules.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests tell what they measured and what they skipped"
)]

mod api;
mod bench;
mod doors;
mod durability;
mod eventual;
mod faults;
mod house;
mod lab_check;
mod real_faults;
mod recipes;
mod support;
