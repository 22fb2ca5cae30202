//! The lab: the same workload and the same faults against both modes, checked and reported.
//!
//! Reading order: [`scenario`] says what is to happen and [`workload`] which operations arrive when; whoever runs
//! a world (real processes or the simulator) writes what did happen to a [`history`], the only thing that the
//! [`checker`]s read. [`mod@analyse`] turns one history into a [`analyse::RunResult`], [`void`] says whether that run may be
//! judged at all, and [`report`] puts columns of such runs side by side. [`network`] is how a world of real processes
//! breaks the links between its nodes.
//!
//! A checker's verdict is about the system. The lab's own failures are never a verdict: they make the run void.

pub mod analyse;
pub mod calibrate;
pub mod checker;
pub mod compare;
pub mod contest;
pub mod etcd;
pub mod fuzz;
mod guarded;
pub mod history;
pub mod network;
mod places;
#[cfg(feature = "plant")]
pub mod planted;
mod predictions;
pub mod process;
pub mod registry;
pub mod report;
pub mod rng;
pub mod scenario;
#[cfg(test)]
mod testing;
pub mod theory;
pub mod void;
pub mod workload;
pub mod world;
