//! End-to-end tests and house rules; the tests live in `it/`.
