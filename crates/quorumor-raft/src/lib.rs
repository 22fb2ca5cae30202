//! Strong mode: a sans-IO replica around raft-rs.
