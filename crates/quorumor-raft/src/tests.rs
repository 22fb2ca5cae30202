//! Stories of a few replicas on a virtual network: what a cluster promises, and what happens when it is hurt.

mod catching_up;
mod faults;
mod forwarding;
mod handing_over;
mod hostile;
mod membership;
mod promises;
mod reading;
mod snapshots;
