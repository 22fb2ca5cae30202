//! Stories of a few replicas on a virtual network: what a cluster promises, and what happens when it is hurt.

mod catching_up;
mod faults;
mod forwarding;
mod hostile;
mod promises;
mod reading;
mod snapshots;
