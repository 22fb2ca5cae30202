//! HTTP/JSON beside gRPC: the same calls for whoever has no gRPC at hand.
