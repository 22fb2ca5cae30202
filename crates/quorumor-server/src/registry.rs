//! Services and their instances: how they lie in the shared state, how an instance stands, and the checks that this node runs.
//!
//! An instance is up to three entries under one lease: `quorumor/services/<service>/<id>/` and then `instance`, its registration;
//! `checks`, what the node that took the registration found; `self`, what the instance said of itself. Each has one writer at a
//! time, so that none is read in order to be changed by two.

pub(crate) mod checks;
pub(crate) mod filter;
pub(crate) mod instance;
pub(crate) mod naming;
pub(crate) mod nodes;
pub(crate) mod record;
pub(crate) mod shelf;
pub(crate) mod stored;
