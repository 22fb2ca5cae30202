//! HTTP/JSON beside gRPC: the same calls for whoever has no gRPC at hand.
//!
//! [`router`] takes the node's own gRPC services and calls them in the process, as any client would: a request becomes a message
//! by its descriptor, the answer becomes JSON by its own. Nothing is decided here and no state is held; who the caller is comes in
//! the request's extensions, and what a receipt says goes out in the body and in headers.
//!
//! Begin with the table in `routes.rs`: all that the gateway serves stands there, and [`openapi`] is made of it. `request.rs` turns
//! a request into a message, `answer.rs` an answer into a response, `events.rs` a stream into server-sent events.

mod answer;
mod call;
mod descriptors;
mod events;
mod fields;
mod header;
mod http_sd;
mod json;
mod matching;
mod openapi;
mod problem;
mod query;
mod receipt;
mod request;
mod routes;
mod words;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::any;
use http::HeaderName;
use tonic::Status;
use tonic::service::Routes;

use crate::problem::Problem;
use crate::routes::Answer;

/// The largest body of a request: the 4 MiB that a gRPC request may have, and what base64 adds to it.
pub const BODY_BYTES_MAX: usize = 6 * 1024 * 1024;

/// All paths under `/v1`, served by these gRPC services. It has no fallback, so that it can be merged into another router.
pub fn router(grpc: Routes) -> Router {
    // The paths are matched by our own table, so that a refusal can name what there is.
    Router::new()
        .route("/v1", any(serve))
        .route("/v1/", any(serve))
        .route("/v1/{*rest}", any(serve))
        .with_state(grpc.prepare())
}

/// A gRPC status as an RFC 9457 problem: what every refusal of the gateway looks like.
#[must_use]
pub fn problem(status: &Status) -> Response {
    Problem::from(status).into_response()
}

/// The response headers of the gateway's own: what a page of another origin must be let read.
pub fn response_headers() -> impl Iterator<Item = HeaderName> {
    receipt::headers()
}

/// The OpenAPI 3.1 document of what [`router`] serves.
#[must_use]
pub fn openapi() -> serde_json::Value {
    openapi::document()
}

async fn serve(State(grpc): State<Routes>, request: Request) -> Response {
    answered(grpc, request)
        .await
        .unwrap_or_else(Problem::into_response)
}

async fn answered(grpc: Routes, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let found = matching::find(&parts.method, parts.uri.path())?;
    let route = found.route;
    let asked = request::read(&found, &parts, body).await?;
    let caller = call::Caller::new(grpc, &parts, asked.timeout)?;
    match route.answer {
        Answer::Document => Ok(answer::json(&openapi())),
        Answer::Message => answer::message(&caller, route, &asked).await,
        Answer::Found => answer::found(&caller, route, &asked).await,
        Answer::Entry => answer::entry(&caller, route, &asked).await,
        Answer::LeaseBeat => answer::lease_beat(&caller, route, &asked).await,
        Answer::InstanceBeat => answer::instance_beat(&caller, route, &asked).await,
        Answer::Beats => answer::beats(&caller, route, &asked).await,
        Answer::Events(resume) => events::stream(&caller, route, resume, &asked).await,
        Answer::Targets => http_sd::targets(&caller, &asked).await,
    }
}

#[cfg(test)]
mod tests;
