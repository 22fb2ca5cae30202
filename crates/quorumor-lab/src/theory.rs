//! What is to be expected: known laws as pure functions, one law a file, each with its source and its units.
//!
//! Floating point is fine here: nothing of this decides anything in a cluster. The report draws these beside what was measured, and
//! [`crate::calibrate`] holds the simulator against them.
//!
//! Reading order: [`availability`] (who can be served), [`epidemic`] (rounds of pushes), [`wave`] (our first wave), [`freshness`]
//! (what a read misses), [`swim`] (who is probed when), [`health`] (false suspicions), [`lifeguard`] (how long one is suspect), [`detection`] (until all know),
//! [`election`] (how long nobody leads).

pub mod availability;
pub mod detection;
pub mod election;
pub mod epidemic;
pub mod freshness;
pub mod health;
pub mod lifeguard;
pub mod swim;
pub mod wave;
