//! Messages as JSON schemas, each once, found from the routes.

use std::collections::BTreeMap;

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::comments::{comment_of_enum, comment_of_field, comment_of_message, comment_of_value};
use crate::fields::DURATION;
use crate::words::{listed, short_names};

const TIMESTAMP: &str = "google.protobuf.Timestamp";

/// The schemas that were referred to.
#[derive(Default)]
pub(super) struct Schemas(BTreeMap<String, Value>);

impl Schemas {
    /// A reference to a message's schema.
    pub(super) fn refer(&mut self, message: &MessageDescriptor) -> Value {
        let name = message.name().to_owned();
        if !self.0.contains_key(&name) {
            // First the name, so that a message may hold itself.
            self.0.insert(name.clone(), Value::Null);
            let schema = self.message(message);
            self.0.insert(name.clone(), schema);
        }
        reference(&name)
    }

    /// A reference to a schema that is no message: `Problem`, `Value`, `InstanceKept` or `Targets`.
    pub(super) fn refer_own(&mut self, name: &str) -> Value {
        if !self.0.contains_key(name) {
            let schema = self.own(name);
            self.0.insert(name.to_owned(), schema);
        }
        reference(name)
    }

    /// All of them, for `components`.
    pub(super) fn into_components(self) -> Value {
        Value::Object(self.0.into_iter().collect())
    }

    fn message(&mut self, message: &MessageDescriptor) -> Value {
        let mut properties = Map::new();
        for field in message.fields() {
            if is_status(&field) {
                if message.name() == "BeatResult" {
                    let mut problem = self.refer_own("Problem");
                    problem["description"] = "Why this one failed, if it did.".into();
                    properties.insert("problem".to_owned(), problem);
                }
                continue;
            }
            let mut schema = self.field(&field);
            schema["description"] = comment_of_field(&field).into();
            properties.insert(field.name().to_owned(), schema);
        }
        let mut about = comment_of_message(message);
        for oneof in message.oneofs().filter(|oneof| !oneof.is_synthetic()) {
            let names = oneof.fields().map(|field| field.name().to_owned());
            about.push_str(&format!(" At most one of {}.", listed(names)));
        }
        json!({ "type": "object", "description": about, "properties": properties })
    }

    fn field(&mut self, field: &FieldDescriptor) -> Value {
        if let (true, Kind::Message(pair)) = (field.is_map(), field.kind()) {
            let values = self.kind(&pair.map_entry_value_field().kind());
            return json!({ "type": "object", "additionalProperties": values });
        }
        let single = self.kind(&field.kind());
        if field.is_list() {
            json!({ "type": "array", "items": single })
        } else {
            single
        }
    }

    fn kind(&mut self, kind: &Kind) -> Value {
        match kind {
            Kind::Message(of) if of.full_name() == DURATION => duration(),
            Kind::Message(of) if of.full_name() == TIMESTAMP => {
                json!({ "type": "string", "format": "date-time" })
            }
            Kind::Message(of) => self.refer(of),
            Kind::Enum(of) => {
                let name = of.name().to_owned();
                self.0
                    .entry(name.clone())
                    .or_insert_with(|| enumeration(of));
                reference(&name)
            }
            Kind::Bytes
            | Kind::String
            | Kind::Bool
            | Kind::Uint32
            | Kind::Fixed32
            | Kind::Uint64
            | Kind::Fixed64
            | Kind::Int32
            | Kind::Sint32
            | Kind::Sfixed32
            | Kind::Int64
            | Kind::Sint64
            | Kind::Sfixed64
            | Kind::Float
            | Kind::Double => scalar(kind),
        }
    }

    fn own(&mut self, name: &str) -> Value {
        match name {
            "Problem" => self.problem(),
            "Value" => value_body(),
            "InstanceKept" => self.instance_kept(),
            "Targets" => targets(),
            _ => unreachable!("there are four"),
        }
    }

    fn problem(&mut self) -> Value {
        let receipt = self.refer(&crate::descriptors::message("Receipt"));
        json!({
            "type": "object",
            "description": "Why a request failed (RFC 9457).",
            "required": ["type", "title", "status", "detail", "reason", "certainty", "metadata"],
            "properties": {
                "type": { "type": "string", "format": "uri", "examples": ["urn:quorumor:error:NOT_LEADER"] },
                "title": { "type": "string" },
                "status": { "type": "integer", "description": "The HTTP status." },
                "detail": { "type": "string", "description": "What happened, for people." },
                "reason": { "type": "string", "description": "What happened, for programs." },
                "certainty": {
                    "type": "string",
                    "enum": ["not_applied", "unknown"],
                    "description": "Whether a write may have happened.",
                },
                "metadata": { "type": "object", "additionalProperties": { "type": "string" } },
                "retry_after_ms": { "type": "integer", "description": "When a retry can help." },
                "violations": {
                    "type": "array",
                    "description": "What of the request was wrong.",
                    "items": {
                        "type": "object",
                        "properties": { "field": { "type": "string" }, "description": { "type": "string" } },
                    },
                },
                "receipt": receipt,
            },
        })
    }

    fn instance_kept(&mut self) -> Value {
        let name = self.refer(&crate::descriptors::message("InstanceName"));
        let receipt = self.refer(&crate::descriptors::message("Receipt"));
        let mut ttl = duration();
        ttl["description"] = "How long it stays without another.".into();
        json!({
            "type": "object",
            "description": "The instance lives on.",
            "properties": { "name": name, "ttl": ttl, "receipt": receipt },
        })
    }
}

/// An encoded status, which the gateway shows as a problem.
fn is_status(field: &FieldDescriptor) -> bool {
    field.name() == "status" && field.kind() == Kind::Bytes
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn enumeration(of: &EnumDescriptor) -> Value {
    let values = of.values().map(|value| {
        let about = comment_of_value(&value);
        format!("`{}`: {about}", value.name())
    });
    let mut about = vec![comment_of_enum(of)];
    about.extend(values);
    let names: Vec<String> = of.values().map(|value| value.name().to_owned()).collect();
    json!({ "type": "string", "description": about.join("\n\n"), "enum": names })
}

/// A field as a parameter: enum values by their short names, lists separated by commas.
pub(super) fn parameter_schema(field: &FieldDescriptor) -> Value {
    let kind = field.kind();
    let single = if let Some(of) = kind.as_enum() {
        json!({ "type": "string", "enum": short_names(of) })
    } else if kind
        .as_message()
        .is_some_and(|of| of.full_name() == DURATION)
    {
        duration()
    } else {
        scalar(&kind)
    };
    if field.is_list() {
        json!({ "type": "array", "items": single })
    } else {
        single
    }
}

/// How a duration is written.
pub(super) fn duration() -> Value {
    json!({
        "type": "string",
        "pattern": r"^[0-9]+(\.[0-9]{1,9})?(us|ms|s|m|h)$",
        "examples": ["1.500s"],
    })
}

fn scalar(kind: &Kind) -> Value {
    match kind {
        Kind::String => json!({ "type": "string" }),
        Kind::Bytes => json!({ "type": "string", "contentEncoding": "base64" }),
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Uint32 | Kind::Fixed32 => {
            json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX })
        }
        Kind::Uint64 | Kind::Fixed64 => {
            json!({ "type": "string", "format": "uint64", "pattern": "^[0-9]+$" })
        }
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => json!({ "type": "integer" }),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            json!({ "type": "string", "format": "int64" })
        }
        Kind::Float | Kind::Double => json!({ "type": "number" }),
        Kind::Message(_) | Kind::Enum(_) => json!({ "type": "string" }),
    }
}

fn value_body() -> Value {
    json!({
        "type": "object",
        "description": "A value to put: one of `value` and `text`.",
        "properties": {
            "value": { "type": "string", "contentEncoding": "base64", "description": "At most 1 MiB." },
            "text": { "type": "string", "description": "A value that is text, as it is." },
            "context": {
                "type": "string",
                "contentEncoding": "base64",
                "description": "Eventual mode: the context of the entry that the caller read.",
            },
            "lease_id": {
                "type": "string",
                "format": "uint64",
                "description": "The lease that the entry lives by; 0 for none.",
            },
        },
    })
}

fn targets() -> Value {
    json!({
        "type": "array",
        "description": "One group an instance.",
        "items": {
            "type": "object",
            "required": ["targets", "labels"],
            "properties": {
                "targets": { "type": "array", "items": { "type": "string", "examples": ["10.0.0.1:8080"] } },
                "labels": { "type": "object", "additionalProperties": { "type": "string" } },
            },
        },
    })
}
