//! Single values from text, and their places in a message.

use std::time::Duration;

use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage, Value,
};

use crate::problem::Problem;
use crate::words::{duration, enum_number, from_base64, listed, short_names, shown};

/// The well-known type that is written as `500ms`.
pub(crate) const DURATION: &str = "google.protobuf.Duration";

/// The field at a path such as `range.interval.start`.
pub(crate) fn field_at(message: &MessageDescriptor, path: &str) -> FieldDescriptor {
    let (first, rest) = match path.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (path, None),
    };
    let field = message
        .get_field_by_name(first)
        .expect("a route names fields that there are");
    match rest {
        None => field,
        Some(rest) => {
            let Kind::Message(inner) = field.kind() else {
                unreachable!("a route's path of fields goes through messages")
            };
            field_at(&inner, rest)
        }
    }
}

/// Sets the field at a path from a query's or a header's text. What stood there before is replaced, but for lists, which grow.
pub(crate) fn set(
    message: &mut DynamicMessage,
    path: &str,
    (named, text): (&str, &str),
) -> Result<(), Problem> {
    let field = field_at(&message.descriptor(), path);
    if field.is_list() {
        for part in text.split(',') {
            let value = from_url(&field.kind(), part).map_err(|why| bad(named, &why))?;
            let place = place(message, path, named)?;
            place
                .as_list_mut()
                .expect("the field is a list")
                .push(value);
        }
        return Ok(());
    }
    let value = from_url(&field.kind(), text).map_err(|why| bad(named, &why))?;
    *place(message, path, named)? = value;
    Ok(())
}

/// Sets the field at a path from the request's path, which may repeat what the body says but not contradict it.
pub(crate) fn claim(
    message: &mut DynamicMessage,
    path: &str,
    (named, text): (&str, &str),
) -> Result<(), Problem> {
    let field = field_at(&message.descriptor(), path);
    let value = scalar(&field.kind(), text).map_err(|why| bad(named, &why))?;
    let place = place(message, path, named)?;
    if *place != value && !place.is_default_for_field(&field) {
        return Err(bad(named, "the body says another than the path"));
    }
    *place = value;
    Ok(())
}

fn bad(named: &str, why: &str) -> Problem {
    Problem::invalid(named, why)
}

/// The value at a path, made if it isn't there. Two fields of which a message can have only one exclude each other.
fn place<'m>(
    message: &'m mut DynamicMessage,
    path: &str,
    named: &str,
) -> Result<&'m mut Value, Problem> {
    let (first, rest) = match path.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (path, None),
    };
    let field = field_at(&message.descriptor(), first);
    if let Some(other) = rival(message, &field) {
        let why = format!("not together with `{}`", other.name());
        return Err(bad(named, &why));
    }
    if !message.has_field(&field) && field.supports_presence() {
        message.set_field(&field, Value::default_value_for_field(&field));
    }
    let value = message.get_field_mut(&field);
    match rest {
        None => Ok(value),
        Some(rest) => {
            let inner = value
                .as_message_mut()
                .expect("a path goes through messages");
            place(inner, rest, named)
        }
    }
}

/// Another field of the same oneof that is set.
pub(crate) fn rival(message: &DynamicMessage, field: &FieldDescriptor) -> Option<FieldDescriptor> {
    let oneof = field.containing_oneof()?;
    oneof
        .fields()
        .find(|other| other != field && message.has_field(other))
}

/// A value from a URL or a header. There a `+` of base64 that wasn't escaped has become a space.
fn from_url(kind: &Kind, text: &str) -> Result<Value, String> {
    if *kind == Kind::Bytes {
        return scalar(kind, &text.replace(' ', "+"));
    }
    // A flag may stand alone.
    if *kind == Kind::Bool && text.is_empty() {
        return Ok(Value::Bool(true));
    }
    scalar(kind, text)
}

/// A value from text, or what it should have been.
pub(crate) fn scalar(kind: &Kind, text: &str) -> Result<Value, String> {
    let not = |wanted: String| format!("{wanted}, not {}", shown(text));
    match kind {
        Kind::String => Ok(Value::String(text.to_owned())),
        Kind::Bool => match text {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => Err(not("must be `true` or `false`".to_owned())),
        },
        Kind::Uint32 | Kind::Fixed32 => text
            .parse()
            .map(Value::U32)
            .map_err(|_| not(whole_number(u32::MAX.into()))),
        Kind::Uint64 | Kind::Fixed64 => text
            .parse()
            .map(Value::U64)
            .map_err(|_| not(whole_number(u64::MAX))),
        Kind::Bytes => from_base64(text)
            .map(|bytes| Value::Bytes(bytes.into()))
            .map_err(|error| not(format!("must be base64 ({error})"))),
        Kind::Enum(of) => enum_number(of, text)
            .map(Value::EnumNumber)
            .ok_or_else(|| not(format!("must be one of {}", listed(short_names(of))))),
        Kind::Message(of) if of.full_name() == DURATION => duration(text)
            .map(|found| Value::Message(duration_message(of, found)))
            .ok_or_else(|| not("must be a duration such as `500ms`, `2s` or `1m`".to_owned())),
        Kind::Message(_) => Err(not("must be an object".to_owned())),
        Kind::Int32
        | Kind::Sint32
        | Kind::Sfixed32
        | Kind::Int64
        | Kind::Sint64
        | Kind::Sfixed64
        | Kind::Float
        | Kind::Double => Err(not("can't be given here".to_owned())),
    }
}

fn whole_number(max: u64) -> String {
    format!("must be a whole number from 0 to {max}")
}

fn duration_message(of: &MessageDescriptor, found: Duration) -> DynamicMessage {
    let seconds = i64::try_from(found.as_secs()).expect("a duration is bounded");
    let nanos = i32::try_from(found.subsec_nanos()).expect("under a second");
    let mut message = DynamicMessage::new(of.clone());
    message.set_field_by_name("seconds", Value::I64(seconds));
    message.set_field_by_name("nanos", Value::I32(nanos));
    message
}
