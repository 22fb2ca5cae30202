//! Runs that are measured. They are a program of their own, so that no other test takes the machine from them.

mod compare;
