//! The OpenAPI document, made of the table of routes and of the descriptors with their comments.

use serde_json::{Map, Value, json};

use crate::fields::field_at;
use crate::problem::PROBLEM_JSON;
use crate::request::RAW;
use crate::routes::{Answer, Body, ROUTES, Route};
use crate::{descriptors, header, receipt};

mod comments;
mod schema;

use comments::{comment_of_field, comment_of_message, comment_of_method, comment_of_service};
use schema::{Schemas, parameter_schema};

const ABOUT: &str = "The gRPC services of a node, as HTTP and JSON. Messages are protobuf's JSON: 64-bit numbers are strings, bytes \
    are base64, enum values are their names, durations end in `s`. A request may also give numbers as numbers, the short name of an \
    enum value (`strong` for `MODE_STRONG`), and durations such as `500ms` or `2m`. Every answer has a receipt, in the body and in \
    headers; every failure is an RFC 9457 problem that says by `certainty` whether a write may have happened.";
const RAW_ABOUT: &str = "The value's bytes alone, as the body.";
const TIMEOUT_ABOUT: &str =
    "How long the caller waits, as `500ms`, `2s` or `1m`. Also as the header `quorumor-timeout`.";
const EVENTS_ABOUT: &str = "Server-sent events, named for the step (`snapshot`, `changes`, `resync`, `progress`; `conflicts`). \
    `data` is the step's JSON, `id` the place to go on from. An event `error`, whose data is a problem, ends the stream.";
const TARGETS_ABOUT: &str = "Targets for Prometheus's HTTP service discovery: always the whole list, instances in every health \
    included.";

/// The document.
pub(super) fn document() -> Value {
    let mut schemas = Schemas::default();
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES {
        let path = route.path.replace("{*", "{");
        let operations = paths.entry(path).or_insert_with(|| json!({}));
        operations[route.verb.to_string().to_lowercase()] = operation(route, &mut schemas);
    }
    let tags: Vec<Value> = ["StateService", "RegistryService", "ClusterService"]
        .map(tag)
        .into();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Quorumor",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": { "name": "Apache-2.0 OR MIT", "identifier": "Apache-2.0 OR MIT" },
        },
        "servers": [{ "url": "/", "description": "The node itself, at its client port." }],
        "tags": tags,
        "security": [{}, { "bearer": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas.into_components(),
            "parameters": shared_parameters(),
            "headers": shared_headers(),
            "responses": { "Problem": problem_response() },
            "securitySchemes": { "bearer": { "type": "http", "scheme": "bearer" } },
        },
    })
}

fn tag(service: &str) -> Value {
    json!({ "name": service, "description": comment_of_service(&descriptors::service(service)) })
}

fn operation(route: &Route, schemas: &mut Schemas) -> Value {
    if !route.calls() {
        let any = json!({ "application/json": { "schema": { "type": "object" } } });
        return json!({
            "operationId": operation_id(route),
            "summary": "This document.",
            "responses": { "200": { "description": "OpenAPI 3.1.", "content": any } },
        });
    }
    let method = descriptors::method(route.method);
    let comment = comment_of_method(&method);
    let about = match route.answer {
        Answer::Targets => TARGETS_ABOUT.to_owned(),
        Answer::Events(_) => format!("{comment} {EVENTS_ABOUT}"),
        Answer::Message
        | Answer::Found
        | Answer::Entry
        | Answer::LeaseBeat
        | Answer::InstanceBeat
        | Answer::Beats
        | Answer::Document => comment.clone(),
    };
    let summary = about.split_inclusive(". ").next().unwrap_or_default();
    let mut operation = json!({
        "operationId": operation_id(route),
        "tags": [method.parent_service().name()],
        "summary": summary.trim(),
        "description": format!("{about} gRPC: `quorumor.v1.{}`.", route.method),
        "parameters": parameters(route),
        "responses": responses(route, schemas),
    });
    if let Some(body) = request_body(route, schemas) {
        operation["requestBody"] = body;
    }
    operation
}

/// `GET /v1/kv/{*key}` as `get_kv_key`.
fn operation_id(route: &Route) -> String {
    let words = route
        .path
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty() && *word != "v1");
    let verb = route.verb.to_string().to_lowercase();
    words.fold(verb, |id, word| format!("{id}_{word}"))
}

fn parameters(route: &Route) -> Vec<Value> {
    let input = match route.body {
        Body::Beat => descriptors::message("Beat"),
        Body::None | Body::Json | Body::Value => descriptors::method(route.method).input(),
    };
    let mut parameters = Vec::new();
    for (name, path) in route.path_fields() {
        let field = field_at(&input, path);
        let mut about = comment_of_field(&field);
        if route.path.contains("{*") {
            about.push_str(" It may contain `/`.");
        }
        let schema = parameter_schema(&field);
        parameters.push(json!({
            "name": name, "in": "path", "required": true, "description": about, "schema": schema,
        }));
    }
    for (name, path) in route.query_fields() {
        let field = field_at(&input, path);
        parameters.push(json!({
            "name": name,
            "in": "query",
            "description": comment_of_field(&field),
            "schema": parameter_schema(&field),
        }));
    }
    if route.takes_raw() {
        parameters.push(json!({
            "name": RAW, "in": "query", "description": RAW_ABOUT, "schema": { "type": "boolean" },
        }));
    }
    if let Answer::Events(_) = route.answer {
        let about = "The id of the last event seen: the stream goes on behind it.";
        parameters.push(json!({
            "name": "Last-Event-ID", "in": "header", "description": about, "schema": { "type": "string" },
        }));
    }
    let shared = header::WORDS.map(|(word, _)| word);
    for word in shared.iter().chain([&header::TIMEOUT]) {
        parameters.push(json!({ "$ref": format!("#/components/parameters/{word}") }));
    }
    parameters
}

fn shared_parameters() -> Value {
    let input = descriptors::message("GetRequest");
    let mut parameters = Map::new();
    for (word, path) in header::WORDS {
        let field = field_at(&input, path);
        let mut about = comment_of_field(&field);
        about.push_str(&format!(
            " Also as the header `{}`.",
            header::header_name(word)
        ));
        parameters.insert(
            word.to_owned(),
            json!({
                "name": word, "in": "query", "description": about, "schema": parameter_schema(&field),
            }),
        );
    }
    parameters.insert(
        header::TIMEOUT.to_owned(),
        json!({
            "name": header::TIMEOUT,
            "in": "query",
            "description": TIMEOUT_ABOUT,
            "schema": schema::duration(),
        }),
    );
    parameters.into()
}

fn request_body(route: &Route, schemas: &mut Schemas) -> Option<Value> {
    let input = descriptors::method(route.method).input();
    let (content, required) = match route.body {
        Body::None => return None,
        Body::Json => (json_content(schemas.refer(&input)), false),
        Body::Beat => (
            json_content(schemas.refer(&descriptors::message("Beat"))),
            false,
        ),
        Body::Value => {
            let mut content = json_content(schemas.refer_own("Value"));
            content["application/octet-stream"] = json!({});
            content["*/*"] = json!({});
            (content, true)
        }
    };
    let about = match route.body {
        Body::Value => {
            "JSON that holds the value; of any other type, the value's bytes themselves."
        }
        Body::None | Body::Json | Body::Beat => {
            "What the path says need not be said again. May be empty where nothing is to be said."
        }
    };
    Some(json!({ "description": about, "required": required, "content": content }))
}

fn responses(route: &Route, schemas: &mut Schemas) -> Value {
    let output = descriptors::method(route.method).output();
    let content = match route.answer {
        Answer::Message | Answer::Found | Answer::LeaseBeat | Answer::Beats => {
            json_content(schemas.refer(&output))
        }
        Answer::Entry => {
            let mut content = json_content(schemas.refer(&output));
            content["application/octet-stream"] = json!({});
            content
        }
        Answer::InstanceBeat => json_content(schemas.refer_own("InstanceKept")),
        Answer::Targets => json_content(schemas.refer_own("Targets")),
        Answer::Events(_) => json!({
            "text/event-stream": { "schema": { "type": "string" }, "x-event-data": schemas.refer(&output) },
        }),
        Answer::Document => json_content(json!({ "type": "object" })),
    };
    let about = comment_of_message(&output);
    let headers = receipt_headers();
    let mut responses = json!({
        "200": { "description": about, "headers": headers, "content": content },
        "default": { "$ref": "#/components/responses/Problem" },
    });
    if matches!(route.answer, Answer::Found | Answer::Entry) {
        responses["404"] = json!({
            "description": "There is none: an answer, with `found` false and its receipt.",
            "headers": headers,
            "content": json_content(schemas.refer(&output)),
        });
    }
    schemas.refer_own("Problem");
    responses
}

fn json_content(schema: Value) -> Value {
    json!({ "application/json": { "schema": schema } })
}

fn receipt_headers() -> Value {
    let references = receipt::NAMES.iter().map(|(name, _)| {
        let reference = json!({ "$ref": format!("#/components/headers/{name}") });
        ((*name).to_owned(), reference)
    });
    Value::Object(references.collect())
}

fn shared_headers() -> Value {
    let headers = receipt::NAMES.iter().map(|(name, about)| {
        let header = json!({ "description": about, "schema": { "type": "string" } });
        ((*name).to_owned(), header)
    });
    Value::Object(headers.collect())
}

fn problem_response() -> Value {
    let schema = json!({ "$ref": "#/components/schemas/Problem" });
    json!({
        "description": "It failed. Where the mode is known, the headers of a receipt are there too.",
        "headers": {
            "Retry-After": {
                "description": "Where a retry can help: after how many seconds.",
                "schema": { "type": "integer" },
            },
            receipt::REASON.as_str(): {
                "description": "The `reason` of the body.",
                "schema": { "type": "string" },
            },
            receipt::CERTAINTY.as_str(): {
                "description": "The `certainty` of the body.",
                "schema": { "type": "string" },
            },
        },
        "content": { PROBLEM_JSON: { "schema": schema } },
    })
}
