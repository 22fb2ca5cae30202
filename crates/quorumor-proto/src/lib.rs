//! The wire: generated code, conversions both ways, errors to and from gRPC statuses.
