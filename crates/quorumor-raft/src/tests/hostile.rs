//! Peers that send what no peer should: nothing panics.
