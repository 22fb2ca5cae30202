//! End-to-end tests over real sockets and processes, and the house rules.

mod house;
