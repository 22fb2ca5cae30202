//! Messages as JSON and back.
//!
//! It is protobuf's own JSON: 64-bit numbers are strings, bytes are base64, enum values are their names. Fields have their names of
//! the proto files, and those that hold nothing are written too, so that `found` is there when it is false. A request may say less:
//! either spelling of a field, numbers as numbers, the short name of an enum value, `500ms` for a duration. What can't be read is
//! refused with the place where it stands.

use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, SerializeOptions, Value,
};
use serde_json::{Map, Value as Json};
use tonic::Status;

use crate::fields::{DURATION, rival, scalar};
use crate::problem::Problem;
use crate::words::{listed, short, shown};

const WRITTEN: SerializeOptions = SerializeOptions::new()
    .use_proto_field_name(true)
    .skip_default_fields(false);

/// A message as JSON. A duration or a time out of protobuf's own bounds can't be shown.
pub(crate) fn to_json(message: &DynamicMessage) -> Result<Json, Problem> {
    message
        .serialize_with_options(serde_json::value::Serializer, &WRITTEN)
        .map_err(|error| {
            let status = Status::internal(format!("an answer that JSON can't show: {error}"));
            Problem::from(&status)
        })
}

/// A request's body as JSON.
pub(crate) fn parse(body: &[u8]) -> Result<Json, Problem> {
    serde_json::from_slice(body)
        .map_err(|error| Problem::invalid("body", &format!("no JSON: {error}")))
}

/// A message from JSON. `at` is its place in the body, empty at the top.
pub(crate) fn to_message(
    json: &Json,
    of: &MessageDescriptor,
    at: &str,
) -> Result<DynamicMessage, Problem> {
    let object = object(json, at)?;
    let mut message = DynamicMessage::new(of.clone());
    for (name, value) in object {
        let at = below(at, name);
        let field = of
            .get_field_by_name(name)
            .or_else(|| of.get_field_by_json_name(name))
            .ok_or_else(|| unknown(&at, of.fields().map(|field| field.name().to_owned())))?;
        if value.is_null() {
            continue;
        }
        if let Some(other) = rival(&message, &field) {
            let why = format!("not together with `{}`", other.name());
            return Err(Problem::invalid(&at, &why));
        }
        let value = field_value(value, &field, &at)?;
        message.set_field(&field, value);
    }
    Ok(message)
}

/// The object that must stand at a place.
pub(crate) fn object<'j>(json: &'j Json, at: &str) -> Result<&'j Map<String, Json>, Problem> {
    json.as_object()
        .ok_or_else(|| wrong(at, "must be an object", json))
}

/// A field that isn't there.
pub(crate) fn unknown(at: &str, allowed: impl Iterator<Item = String>) -> Problem {
    let why = format!("there is no such field; there are {}", listed(allowed));
    Problem::invalid(&short(at), &why)
}

fn below(at: &str, name: &str) -> String {
    if at.is_empty() {
        name.to_owned()
    } else {
        format!("{at}.{name}")
    }
}

fn wrong(at: &str, wanted: &str, found: &Json) -> Problem {
    let named = if at.is_empty() { "body" } else { at };
    let why = format!("{wanted}, not {}", shown(&found.to_string()));
    Problem::invalid(named, &why)
}

fn field_value(json: &Json, field: &FieldDescriptor, at: &str) -> Result<Value, Problem> {
    let kind = field.kind();
    if field.is_list() {
        let Json::Array(items) = json else {
            return Err(wrong(at, "must be a list", json));
        };
        let values = items
            .iter()
            .enumerate()
            .map(|(place, item)| single(item, &kind, &format!("{at}[{place}]")));
        return values.collect::<Result<Vec<_>, _>>().map(Value::List);
    }
    if field.is_map() {
        let Kind::Message(pair) = &kind else {
            unreachable!("a map's kind is its pair")
        };
        let kind = pair.map_entry_value_field().kind();
        // Every map of the interface is by strings.
        let pairs = object(json, at)?.iter().map(|(key, value)| {
            let value = single(value, &kind, &below(at, key))?;
            Ok((MapKey::String(key.clone()), value))
        });
        return pairs.collect::<Result<_, _>>().map(Value::Map);
    }
    single(json, &kind, at)
}

fn single(json: &Json, kind: &Kind, at: &str) -> Result<Value, Problem> {
    let refused = |why: String| Problem::invalid(at, &why);
    match (kind, json) {
        (Kind::Message(of), _) if of.full_name() != DURATION => {
            to_message(json, of, at).map(Value::Message)
        }
        (Kind::Enum(_), Json::Number(number)) => number
            .as_i64()
            .and_then(|number| i32::try_from(number).ok())
            .map(Value::EnumNumber)
            .ok_or_else(|| wrong(at, "must be the name of a value", json)),
        (Kind::Bool, Json::Bool(value)) => Ok(Value::Bool(*value)),
        (Kind::String | Kind::Bytes | Kind::Enum(_) | Kind::Message(_), Json::String(text)) => {
            scalar(kind, text).map_err(refused)
        }
        (Kind::String, _) => Err(wrong(at, "must be a string", json)),
        (Kind::Bytes, _) => Err(wrong(at, "must be a string of base64", json)),
        (Kind::Bool, _) => Err(wrong(at, "must be `true` or `false`", json)),
        (Kind::Enum(_) | Kind::Message(_), _) => scalar(kind, &json.to_string())
            .map_err(refused)
            .and_then(|_| Err(wrong(at, "must be a string", json))),
        // What is left are numbers, which may stand in a string.
        (_, Json::String(text)) => scalar(kind, text).map_err(refused),
        _ => scalar(kind, &json.to_string()).map_err(refused),
    }
}
