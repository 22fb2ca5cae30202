//! The server over real sockets, beside a registry that says what it is told to say.

mod fake;
mod hostile;
mod nodes;
mod services;
mod sizes;
mod world;
