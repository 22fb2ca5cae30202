//! End-to-end tests over real sockets and processes, and the house rules.

mod api;
mod compare;
mod durability;
mod faults;
mod house;
mod support;
