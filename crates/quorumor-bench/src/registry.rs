//! What a registry must bear: many instances that are kept alive ([`instances`]), and more load than it can serve
//! ([`overload`]). Clusters of its own, on real disks.

pub mod instances;
pub mod overload;

mod hosts;
mod observed;
