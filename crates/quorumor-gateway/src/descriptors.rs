//! The descriptors of all messages and methods, decoded once.

use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, MessageDescriptor, MethodDescriptor, ServiceDescriptor};
use quorumor_proto::DESCRIPTORS;

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(DESCRIPTORS).expect("our own descriptors are valid"));

/// The method of a route, such as `StateService/Get`.
pub(crate) fn method(name: &str) -> MethodDescriptor {
    let (of, method) = name.split_once('/').expect("a route names its method so");
    service(of)
        .methods()
        .find(|found| found.name() == method)
        .expect("a route names a method that there is")
}

/// A service of our package.
pub(crate) fn service(name: &str) -> ServiceDescriptor {
    POOL.get_service_by_name(&format!("quorumor.v1.{name}"))
        .expect("it is asked for by its name")
}

/// A message of our package.
pub(crate) fn message(name: &str) -> MessageDescriptor {
    POOL.get_message_by_name(&format!("quorumor.v1.{name}"))
        .expect("it is asked for by its name")
}
