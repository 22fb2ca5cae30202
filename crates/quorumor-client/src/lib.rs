//! The Rust client: sessions, retries by certainty, going to the leader.
