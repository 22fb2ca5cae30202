//! The shell: configuration, gRPC service, driver, persistence, peer transport, watches, metrics, shutdown.
