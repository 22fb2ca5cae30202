//! The words and the contract that both consistency modes share.
