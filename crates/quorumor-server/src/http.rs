//! The client port: the service, reflection, health, `/metrics` and `/healthz` on one listener.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Extension;
use axum::body::Body;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{Extensions, HeaderMap, HeaderValue, StatusCode, header};
use quorumor_core::limits::REQUEST_BYTES_MAX;
use quorumor_core::{Error, Health, Mode, Role};
use quorumor_proto::DESCRIPTORS;
use quorumor_proto::pb::cluster_service_server::{self, ClusterServiceServer};
use quorumor_proto::pb::registry_service_server;
use quorumor_proto::pb::state_service_server::{SERVICE_NAME, StateServiceServer};
use quorumor_proto::status::to_status;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Code, Status};
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, health_reporter};

use crate::admission::{Client, Front};
use crate::auth::{Auth, Principal};
use crate::handle::Handle;
use crate::metrics;
use crate::service::{RegistryDoor, Service};
use crate::trust::Trust;

mod arriving;
mod braked;
mod held;
mod incoming;
mod web;

use arriving::{Arriving, Kind};
use braked::Brake;
pub(crate) use incoming::Caller;
use incoming::incoming;

/// What a stream and a connection may have under way: with the 64 KiB of the standard, long answers wait for windows.
const STREAM_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Calls that one connection may have open.
const STREAMS_PER_CONNECTION_MAX: u32 = 16_384;
/// A client that vanished without a word is noticed after one ping of these.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// How often gauges follow the view, and health where nothing can take it away but a person: each look wakes the process.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
/// How often health follows the view while it isn't given, and in strong mode, where it goes with the leader.
const HEALTH_INTERVAL: Duration = Duration::from_millis(200);
/// Calls of the cluster service that change nothing.
const UNRECORDED: [&str; 5] = [
    "MemberList",
    "ListConflicts",
    "WatchConflicts",
    "Digest",
    "DigestKeys",
];

/// Calls that are one of many and that load can turn away before they are read. Signs of life aren't among them, nor what an
/// operator asks, nor watches and streams of requests, which have their classes' limits.
const SHEDDABLE: [&str; 15] = [
    "StateService/Put",
    "StateService/Get",
    "StateService/Delete",
    "StateService/List",
    "StateService/ListStream",
    "StateService/CompareAndSet",
    "StateService/Batch",
    "StateService/Txn",
    "StateService/LeaseGrant",
    "StateService/LeaseList",
    "StateService/LeaseTimeToLive",
    "RegistryService/Register",
    "RegistryService/Discover",
    "RegistryService/ListServices",
    "RegistryService/ListNodes",
];
/// gRPC's number of it: what is refused for load, and what a full disk can't take, which is no faster for being sent again.
const RESOURCE_EXHAUSTED: &[u8] = b"8";

/// What is served: our gRPC services behind the guard, for whoever calls from outside or from another door of this node.
pub(crate) struct Doors {
    grpc: axum::Router,
    reporter: HealthReporter,
    trust: Trust,
    handles: Vec<Handle>,
    cors_origins: Vec<HeaderValue>,
    arriving: Arriving,
}

impl Doors {
    pub(crate) fn new(
        service: Service,
        trust: Trust,
        handles: Vec<Handle>,
        cors_origins: Vec<HeaderValue>,
    ) -> Self {
        let (reporter, health) = health_reporter();
        let auth = Arc::clone(&trust.auth);
        let arriving = Arriving::default();
        let counting = arriving.clone();
        let front = service.front();
        let grpc = services(service, health).layer(from_fn(move |request, next| {
            let request = counting.count(request, Kind::Grpc);
            guard(Arc::clone(&auth), front.clone(), request, next)
        }));
        Self {
            grpc,
            reporter,
            trust,
            handles,
            cors_origins,
            arriving,
        }
    }

    /// The services for a door inside the process that brings its callers along.
    fn inside(&self) -> Routes {
        Routes::from(self.grpc.clone())
    }

    /// The services for a door whose callers are all one client.
    pub(crate) fn inside_as(&self, client: Client) -> Routes {
        let caller = Caller {
            certificate: None,
            connection: client,
            brake: Brake::default(),
        };
        Routes::from(self.grpc.clone().layer(Extension(caller)))
    }

    /// All that stands on the client port.
    fn router(&self) -> axum::Router {
        let (auth, handles) = (Arc::clone(&self.trust.auth), self.handles.clone());
        let doorkeeper = Arc::clone(&self.trust.auth);
        let arriving = self.arriving.clone();
        let origins: Arc<[HeaderValue]> = self.cors_origins.clone().into();
        let router = self
            .grpc
            .clone()
            .layer(from_fn(web::translate))
            .merge(
                quorumor_gateway::router(self.inside()).layer(from_fn(move |request, next| {
                    let request = arriving.count(request, Kind::One);
                    known(Arc::clone(&doorkeeper), request, next)
                })),
            )
            .route(
                "/metrics",
                get(move |request: Request| async move { render_metrics(&auth, &request) }),
            )
            .route("/healthz", get(move || async move { healthz(&handles) }))
            .fallback(unknown)
            .layer(from_fn(move |request, next| {
                web::from_known_pages(Arc::clone(&origins), request, next)
            }));
        if self.cors_origins.is_empty() {
            router
        } else {
            router.layer(web::cors(&self.cors_origins))
        }
    }

    /// Serves until `leave`, then lets what is under way finish.
    pub(crate) async fn serve(
        self,
        listener: TcpListener,
        leave: CancellationToken,
    ) -> Result<(), tonic::transport::Error> {
        let serving = tonic::transport::Server::builder()
            .accept_http1(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .add_routes(Routes::from(self.router()))
            .serve_with_incoming_shutdown(
                incoming(listener, self.trust.tls.clone()),
                leave.cancelled_owned(),
            );
        tokio::select! {
            served = serving => served,
            () = report(self.handles.clone(), self.reporter.clone()) => Ok(()),
        }
    }
}

/// Our services, reflection and health.
fn services<H>(service: Service, health: HealthServer<H>) -> axum::Router
where
    H: tonic_health::pb::health_server::Health,
{
    let cluster = ClusterServiceServer::new(service.clone());
    let registry = RegistryDoor::new(service.clone());
    let state = StateServiceServer::new(service).max_decoding_message_size(REQUEST_BYTES_MAX);
    let routes = Routes::new(state)
        .add_service(cluster)
        .add_service(registry)
        .add_service(health)
        .add_service(
            reflection()
                .build_v1()
                .expect("our own descriptors are valid"),
        )
        .add_service(
            reflection()
                .build_v1alpha()
                .expect("our own descriptors are valid"),
        );
    routes.into_axum_router()
}

fn authenticate(
    auth: &Auth,
    headers: &HeaderMap,
    extensions: &Extensions,
) -> Result<Principal, Error> {
    let caller = extensions.get::<Caller>();
    let certificate = caller.and_then(|caller| caller.certificate.as_deref());
    auth.authenticate(headers, certificate)
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
}

/// Metrics name no key and no value: whoever is known may see them.
fn render_metrics(auth: &Auth, request: &Request) -> Response {
    if let Err(error) = authenticate(auth, request.headers(), request.extensions()) {
        let wanted = [(header::WWW_AUTHENTICATE, "Bearer")];
        return (StatusCode::UNAUTHORIZED, wanted, format!("{error}\n")).into_response();
    }
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    (kind, metrics::recorder().render()).into_response()
}

fn healthz(handles: &[Handle]) -> (StatusCode, String) {
    let mut code = StatusCode::OK;
    let mut lines = String::new();
    for handle in handles {
        let published = handle.published();
        let word = match &published.view.status.health {
            Health::Serving => "serving",
            Health::Starting => "starting",
            Health::Damaged { .. } => "damaged",
        };
        if published.view.status.health != Health::Serving {
            code = StatusCode::SERVICE_UNAVAILABLE;
        }
        lines.push_str(&format!("{} {word}\n", handle.mode()));
    }
    (code, lines)
}

/// A gRPC client that asks for a service that isn't here must hear so in its own protocol.
async fn unknown(request: Request) -> Response {
    let is_grpc = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if is_grpc {
        let status = Status::unimplemented(format!("there is no {}", request.uri().path()));
        return status.into_http::<Body>();
    }
    (
        StatusCode::NOT_FOUND,
        "nothing here; there are /v1/openapi.json, /metrics, /healthz and gRPC\n",
    )
        .into_response()
}

/// Turns strangers away before a body is read; what a caller may do is asked behind it.
async fn known(auth: Arc<Auth>, request: Request, next: Next) -> Response {
    match authenticate(&auth, request.headers(), request.extensions()) {
        Ok(_) => next.run(request).await,
        Err(error) => quorumor_gateway::problem(&to_status(&error, None, None)),
    }
}

/// Finds out who calls one of our services, before the request is read; what the caller may do is asked once its keys are
/// known. Records what was asked of the cluster itself, and how it ended; for a stream, how it began.
async fn guard(
    auth: Arc<Auth>,
    front: Option<Arc<Front>>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(call) = request.uri().path().strip_prefix("/quorumor.v1.") else {
        return next.run(request).await;
    };
    let principal = match authenticate(&auth, request.headers(), request.extensions()) {
        Ok(principal) => principal,
        Err(error) => return to_status(&error, None, None).into_http::<Body>(),
    };
    let recorded = call
        .strip_prefix("ClusterService/")
        .filter(|call| !UNRECORDED.contains(call))
        .map(|call| (principal.clone(), call.to_owned()));
    let caller = request.extensions().get::<Caller>();
    let brake = front
        .as_ref()
        .and(caller)
        .map(|caller| caller.brake.clone());
    let client = match caller {
        Some(caller) if auth.is_open() => caller.connection,
        Some(_) | None => principal.client(),
    };
    let place = match &front {
        Some(front) if SHEDDABLE.contains(&call) => front.enter(client).await.map(Some),
        Some(_) | None => Ok(None),
    };
    let response = match place {
        Err(error) => to_status(&error, None, None).into_http::<Body>(),
        Ok(_place) => {
            if !auth.is_open() {
                request.extensions_mut().insert(principal);
            }
            held::hold(explain(next.run(request).await))
        }
    };
    if is_exhausted(&response)
        && let Some(brake) = brake
    {
        brake.pull();
    }
    if let Some((principal, call)) = recorded {
        let ended =
            Status::from_header_map(response.headers()).filter(|status| status.code() != Code::Ok);
        principal.record(&call, ended.as_ref());
    }
    response
}

/// Whether the call found something used up.
fn is_exhausted(response: &Response) -> bool {
    let status = response.headers().get("grpc-status");
    status.is_some_and(|status| status.as_bytes() == RESOURCE_EXHAUSTED)
}

/// A request that couldn't be read was refused before the service saw it. Its status gets what every other refusal has:
/// a reason, and that nothing was applied.
fn explain(response: Response) -> Response {
    let unexplained = Status::from_header_map(response.headers())
        .filter(|status| status.details().is_empty())
        .and_then(|status| unreadable(&status));
    match unexplained {
        Some(error) => to_status(&error, None, None).into_http::<Body>(),
        None => response,
    }
}

/// Why the transport refused a request, if it was for the request's own bytes.
fn unreadable(status: &Status) -> Option<Error> {
    let code = status.code();
    if code == Code::OutOfRange {
        let found = first_number(status.message()).unwrap_or(REQUEST_BYTES_MAX + 1);
        return Some(Error::too_large(
            "request_bytes_max",
            REQUEST_BYTES_MAX,
            found,
        ));
    }
    (code == Code::Internal).then(|| Error::invalid("request", status.message()))
}

fn first_number(text: &str) -> Option<usize> {
    text.split(|c: char| !c.is_ascii_digit())
        .find_map(|word| word.parse().ok())
}

/// Keeps the health service and the gauges up to date.
async fn report(handles: Vec<Handle>, reporter: HealthReporter) {
    let mut told = Vec::new();
    let mut damaged = BTreeSet::new();
    let mut sampled: Option<Instant> = None;
    for handle in &handles {
        metrics::begin(handle.mode());
    }
    loop {
        for handle in &handles {
            tell_damage(handle, &mut damaged);
        }
        let now = statuses(&handles);
        if told != now {
            for (name, serving) in &now {
                let status = if *serving {
                    ServingStatus::Serving
                } else {
                    ServingStatus::NotServing
                };
                reporter.set_service_status(*name, status).await;
            }
            told = now;
        }
        if sampled.is_none_or(|at| at.elapsed() >= SAMPLE_INTERVAL) {
            sampled = Some(Instant::now());
            for handle in &handles {
                metrics::sample(&handle.published().view, handle.waiting());
                metrics::sample_shares(handle.mode(), handle.shares());
            }
            metrics::recorder().run_upkeep();
        }
        let is_steady = told.iter().all(|(_, serving)| *serving)
            && handles.iter().all(|handle| handle.mode() == Mode::Eventual);
        let pause = if is_steady {
            SAMPLE_INTERVAL
        } else {
            HEALTH_INTERVAL
        };
        tokio::time::sleep(pause).await;
    }
}

/// Says once in the log that a mode can't go on, and why: it goes on answering with that, and needs a person.
fn tell_damage(handle: &Handle, told: &mut BTreeSet<Mode>) {
    let published = handle.published();
    if let Health::Damaged { why } = &published.view.status.health
        && told.insert(handle.mode())
    {
        tracing::error!(node = %published.view.status.node, mode = %handle.mode(), why, "this node serves no more");
    }
}

/// Which health services serve. The node as a whole does if each of its modes serves something.
fn statuses(handles: &[Handle]) -> Vec<(&'static str, bool)> {
    let mut all = true;
    let mut statuses = Vec::new();
    for handle in handles {
        let published = handle.published();
        let status = &published.view.status;
        let local = !matches!(status.health, Health::Damaged { .. });
        all &= local && status.health == Health::Serving;
        match handle.mode() {
            Mode::Strong => {
                let led = matches!(
                    &status.role,
                    Role::Strong {
                        leader: Some(_),
                        ..
                    }
                );
                statuses.push(("quorumor.strong.local", local));
                statuses.push((
                    "quorumor.strong.linearizable",
                    led && status.health == Health::Serving,
                ));
            }
            Mode::Eventual => statuses.push(("quorumor.eventual.local", local)),
        }
    }
    statuses.push(("", all));
    statuses.push((SERVICE_NAME, all));
    statuses.push((registry_service_server::SERVICE_NAME, all));
    let strong = handles.iter().find(|handle| handle.mode() == Mode::Strong);
    if let Some(handle) = strong.or(handles.first()) {
        let serves = handle.published().view.status.health == Health::Serving;
        statuses.push((cluster_service_server::SERVICE_NAME, serves));
    }
    statuses
}
