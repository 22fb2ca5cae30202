//! Browsers: gRPC-web for our services, and which pages of other origins may call.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::uri::Authority;
use http::{HeaderName, HeaderValue, Method, header};
use tonic::Status;
use tonic_web::GrpcWebLayer;
use tower::{Layer, Service, service_fn};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer, ExposeHeaders};

/// Lets a gRPC-web call through as a gRPC call; everything else as it is.
pub(super) async fn translate(request: Request, next: Next) -> Response {
    let kind = request.headers().get(header::CONTENT_TYPE);
    let is_web = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc-web"));
    if !is_web {
        return next.run(request).await;
    }
    let inner = service_fn(move |request: http::Request<tonic::body::Body>| {
        let next = next.clone();
        async move {
            let response = next.run(request.map(Body::new)).await;
            Ok::<_, std::convert::Infallible>(response.map(tonic::body::Body::new))
        }
    });
    match GrpcWebLayer::new().layer(inner).call(request).await {
        Ok(response) => response.map(Body::new),
        Err(never) => match never {},
    }
}

/// Turns away what a page of another origin sends by somebody's browser, unless the origin was named: a simple request needs no
/// leave of its target, and a node on the loopback asks nobody who they are.
pub(super) async fn from_known_pages(
    known: Arc<[HeaderValue]>,
    request: Request,
    next: Next,
) -> Response {
    let Some(origin) = request.headers().get(header::ORIGIN) else {
        return next.run(request).await;
    };
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let host = host.or(request.uri().authority().map(Authority::as_str));
    let named = known.iter().any(|known| known == "*" || known == origin);
    let page = origin
        .to_str()
        .ok()
        .and_then(|origin| origin.split_once("://"));
    if named || (host.is_some() && page.map(|(_, page)| page) == host) {
        return next.run(request).await;
    }
    let refused =
        Status::permission_denied("pages of this origin may not call: see --cors-origins");
    quorumor_gateway::problem(&refused)
}

/// What pages of these origins may do: call, and read what every answer says about itself.
pub(super) fn cors(origins: &[HeaderValue]) -> CorsLayer {
    let origin = match origins {
        [any] if any == "*" => AllowOrigin::any(),
        named => AllowOrigin::list(named.iter().cloned()),
    };
    let read = [
        "grpc-status",
        "grpc-message",
        "grpc-status-details-bin",
        "retry-after",
    ];
    let read = read.map(HeaderName::from_static).into_iter();
    CorsLayer::new()
        .allow_origin(origin)
        .allow_methods([Method::GET, Method::PUT, Method::POST, Method::DELETE])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(ExposeHeaders::list(
            read.chain(quorumor_gateway::response_headers()),
        ))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[tokio::test]
    async fn a_page_may_read_every_header_that_answers_have() {
        let known = [HeaderValue::from_static("https://page.example")];
        let answer = |_: Request| async { Ok::<_, Infallible>(Response::new(Body::empty())) };
        let asked = Request::builder()
            .header(header::ORIGIN, "https://page.example")
            .body(Body::empty())
            .unwrap();
        let mut service = cors(&known).layer(service_fn(answer));
        let answered = service.call(asked).await.unwrap();
        let exposed = &answered.headers()[header::ACCESS_CONTROL_EXPOSE_HEADERS];
        let exposed: Vec<&str> = exposed.to_str().unwrap().split(',').collect();
        for name in [
            "grpc-status",
            "retry-after",
            "quorumor-revision",
            "quorumor-node",
            "quorumor-context",
            "quorumor-reason",
            "quorumor-certainty",
        ] {
            assert!(exposed.contains(&name), "{name} of {exposed:?}");
        }
    }
}
