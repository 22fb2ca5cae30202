//! The one table of routes: verb, path, gRPC method, and which part of a request goes to which field of the message.
//!
//! Every route also takes the words of `header.rs` and `timeout`, but for the one that calls nothing.

use std::fmt;

/// An HTTP verb that the gateway serves. HEAD is served as GET.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verb {
    Get,
    Put,
    Post,
    Delete,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Get => "GET",
            Self::Put => "PUT",
            Self::Post => "POST",
            Self::Delete => "DELETE",
        })
    }
}

/// What a request's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// Nothing: any body is refused.
    None,
    /// The message, as JSON. An empty body is an empty message.
    Json,
    /// A value: JSON that holds it, or its bytes themselves.
    Value,
    /// One `Beat`, as JSON. An empty body is an empty beat.
    Beat,
}

/// How an answer is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// As JSON.
    Message,
    /// As JSON; 404 if its `found` is false.
    Found,
    /// As `Found`, or the value's bytes alone where they are asked for.
    Entry,
    /// The first answer of a stream of lease keep-alives.
    LeaseBeat,
    /// The first answer of a stream of instances' keep-alives, of its one beat.
    InstanceBeat,
    /// The same, of many beats.
    Beats,
    /// As server-sent events.
    Events(Resume),
    /// As Prometheus's HTTP service discovery.
    Targets,
    /// The OpenAPI document. Nothing is called.
    Document,
}

/// Where a stream of events goes on after a break: which field of an answer names the event, and which of a request takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resume {
    /// `cursor`, which is opaque, in both.
    Cursor,
    /// `through_number` of the answer is `after_number` of the request.
    Number,
}

/// One route. `{name}` in a path is one segment, `{*name}` all that follows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    pub(crate) verb: Verb,
    pub(crate) path: &'static str,
    /// Service and method, without the package.
    pub(crate) method: &'static str,
    /// `name` or `name=field`: what of the path goes to which field of the message, or of the beat.
    pub(crate) in_path: &'static [&'static str],
    /// The same of the query.
    pub(crate) in_query: &'static [&'static str],
    pub(crate) body: Body,
    pub(crate) answer: Answer,
}

impl Route {
    const fn new(verb: Verb, path: &'static str, method: &'static str) -> Self {
        Self {
            verb,
            path,
            method,
            in_path: &[],
            in_query: &[],
            body: Body::None,
            answer: Answer::Message,
        }
    }

    const fn path(self, in_path: &'static [&'static str]) -> Self {
        Self { in_path, ..self }
    }

    const fn query(self, in_query: &'static [&'static str]) -> Self {
        Self { in_query, ..self }
    }

    const fn body(self, body: Body) -> Self {
        Self { body, ..self }
    }

    const fn answer(self, answer: Answer) -> Self {
        Self { answer, ..self }
    }

    /// Whether the route calls a gRPC method, and so takes the words of every request.
    pub(crate) fn calls(&self) -> bool {
        self.answer != Answer::Document
    }

    /// Whether the query may say `raw`: the value's bytes and nothing else.
    pub(crate) fn takes_raw(&self) -> bool {
        self.answer == Answer::Entry || self.body == Body::Value
    }

    /// The query's own parameters and their fields.
    pub(crate) fn query_fields(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.in_query.iter().copied().map(split)
    }

    /// The path's parameters and their fields.
    pub(crate) fn path_fields(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.in_path.iter().copied().map(split)
    }
}

fn split(spec: &'static str) -> (&'static str, &'static str) {
    spec.split_once('=').unwrap_or((spec, spec))
}

use Verb::{Delete, Get, Post, Put};

const RANGE_START: &str = "start=range.interval.start";
const RANGE_END: &str = "end=range.interval.end";
const RANGE_PREFIX: &str = "prefix=range.prefix";

/// Every route, by subject.
#[rustfmt::skip]
pub(crate) const ROUTES: &[Route] = &[
    Route::new(Get, "/v1/kv", "StateService/List")
        .query(&[RANGE_PREFIX, RANGE_START, RANGE_END, "limit", "page_token", "keys_only", "revision"]),
    Route::new(Get, "/v1/kv/{*key}", "StateService/Get").path(&["key"]).query(&["revision"]).answer(Answer::Entry),
    Route::new(Put, "/v1/kv/{*key}", "StateService/Put").path(&["key"]).query(&["lease_id", "context"]).body(Body::Value),
    Route::new(Delete, "/v1/kv/{*key}", "StateService/Delete").path(&["key"]),
    Route::new(Post, "/v1/cas", "StateService/CompareAndSet").body(Body::Json),
    Route::new(Post, "/v1/txn", "StateService/Txn").body(Body::Json),
    Route::new(Post, "/v1/batch", "StateService/Batch").body(Body::Json),
    Route::new(Get, "/v1/watch", "StateService/Watch")
        .query(&[
            RANGE_PREFIX, RANGE_START, RANGE_END, "cursor", "start_revision", "previous", "end_on_resync", "end_on_leader_lost",
            "progress_interval",
        ])
        .answer(Answer::Events(Resume::Cursor)),
    Route::new(Get, "/v1/status", "StateService/Describe").query(&["include_digest"]),

    Route::new(Get, "/v1/leases", "StateService/LeaseList").query(&["limit", "after_lease_id"]),
    Route::new(Post, "/v1/leases", "StateService/LeaseGrant").body(Body::Json),
    Route::new(Get, "/v1/leases/{lease_id}", "StateService/LeaseTimeToLive")
        .path(&["lease_id"]).query(&["include_keys"]).answer(Answer::Found),
    Route::new(Delete, "/v1/leases/{lease_id}", "StateService/LeaseRevoke").path(&["lease_id"]),
    Route::new(Post, "/v1/leases/{lease_id}/keepalive", "StateService/LeaseKeepAlive")
        .path(&["lease_id"]).answer(Answer::LeaseBeat),
    Route::new(Post, "/v1/sessions", "StateService/OpenSession").body(Body::Json),
    Route::new(Delete, "/v1/sessions/{session}", "StateService/CloseSession").path(&["session=client_id"]),

    Route::new(Get, "/v1/services", "RegistryService/ListServices").query(&["limit", "after_service"]),
    Route::new(Get, "/v1/services/{service}", "RegistryService/Discover")
        .path(&["service"]).query(&["filter", "health", "zone", "zone_rule", "limit", "page_token"]),
    Route::new(Get, "/v1/services/{service}/watch", "RegistryService/WatchService")
        .path(&["service"]).query(&["filter", "health", "cursor", "end_on_leader_lost", "progress_interval"])
        .answer(Answer::Events(Resume::Cursor)),
    Route::new(Get, "/v1/watch-services", "RegistryService/WatchService")
        .query(&["filter", "health", "cursor", "end_on_leader_lost", "progress_interval"])
        .answer(Answer::Events(Resume::Cursor)),
    Route::new(Put, "/v1/services/{service}/{instance_id}", "RegistryService/Register")
        .path(&["service=instance.service", "instance_id=instance.instance_id"]).body(Body::Json),
    Route::new(Delete, "/v1/services/{service}/{instance_id}", "RegistryService/Deregister")
        .path(&["service=name.service", "instance_id=name.instance_id"]),
    Route::new(Post, "/v1/services/{service}/{instance_id}/keepalive", "RegistryService/KeepAlive")
        .path(&["service=name.service", "instance_id=name.instance_id"]).body(Body::Beat).answer(Answer::InstanceBeat),
    Route::new(Post, "/v1/keepalive", "RegistryService/KeepAlive").body(Body::Json).answer(Answer::Beats),
    Route::new(Get, "/v1/nodes", "RegistryService/ListNodes").query(&["limit", "after_node_id"]),
    Route::new(Get, "/v1/http-sd", "RegistryService/Discover")
        .query(&["service", "filter", "health", "zone", "zone_rule"]).answer(Answer::Targets),

    Route::new(Get, "/v1/members", "ClusterService/MemberList"),
    Route::new(Post, "/v1/members", "ClusterService/MemberAdd").body(Body::Json),
    Route::new(Delete, "/v1/members/{node_id}", "ClusterService/MemberRemove")
        .path(&["node_id"]).query(&["allow_quorum_loss"]),
    Route::new(Post, "/v1/members/{node_id}/promote", "ClusterService/MemberPromote")
        .path(&["node_id"]).body(Body::Json),
    Route::new(Post, "/v1/leader/transfer", "ClusterService/TransferLeader").body(Body::Json),
    Route::new(Post, "/v1/history/compact", "ClusterService/CompactHistory").body(Body::Json),
    Route::new(Post, "/v1/epoch/advance", "ClusterService/AdvanceEpoch").body(Body::Json),
    Route::new(Get, "/v1/conflicts", "ClusterService/ListConflicts")
        .query(&[RANGE_PREFIX, RANGE_START, RANGE_END, "after_number", "limit"]),
    Route::new(Get, "/v1/conflicts/watch", "ClusterService/WatchConflicts")
        .query(&[RANGE_PREFIX, RANGE_START, RANGE_END, "after_number"]).answer(Answer::Events(Resume::Number)),
    Route::new(Get, "/v1/digest", "ClusterService/Digest"),
    Route::new(Get, "/v1/digest/keys", "ClusterService/DigestKeys").query(&["buckets", "after_key", "limit"]),

    Route::new(Get, "/v1/openapi.json", "").answer(Answer::Document),
];
