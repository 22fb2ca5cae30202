//! Stories of a few replicas on a virtual network: what a cluster promises, and what happens when it is hurt.

mod catching_up;
mod epoch;
mod exactly_once;
mod faults;
mod forwarding;
mod handing_over;
mod history;
mod hostile;
mod leases;
mod membership;
mod promises;
mod reading;
mod snapshots;
mod wandering;
