//! The lab: the same workload and the same faults against both modes, checked and reported.
