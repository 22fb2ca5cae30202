//! How single values are written: durations, opaque bytes, the short names of enum values.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{GeneralPurposeConfig, URL_SAFE_NO_PAD};
use base64::engine::{DecodePaddingMode, GeneralPurpose};
use base64::{DecodeError, alphabet};
use prost_reflect::EnumDescriptor;

/// Characters of a bad value that an error repeats.
const SHOWN_CHARS_MAX: usize = 64;
/// The longest duration that protobuf knows, in seconds.
const DURATION_SECS_MAX: u128 = 315_576_000_000;

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// Bytes for a URL or a header: base64url without padding.
pub(crate) fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Bytes from either alphabet of base64, with or without padding.
pub(crate) fn from_base64(text: &str) -> Result<Vec<u8>, DecodeError> {
    if text.contains(['-', '_']) {
        URL_SAFE.decode(text)
    } else {
        STANDARD.decode(text)
    }
}

/// A duration such as `500ms`, `1.5s`, `2m` or `1h`; none if it isn't one.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let number_ends = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(number_ends);
    let unit_ns: u128 = match unit {
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let places = u32::try_from(fraction.len())
        .ok()
        .filter(|places| (1..=9).contains(places))?;
    let whole: u128 = whole.parse::<u64>().ok()?.into();
    let fraction: u128 = fraction.parse::<u64>().ok()?.into();
    let nanos = whole * unit_ns + fraction * unit_ns / 10_u128.pow(places);
    let seconds = nanos / 1_000_000_000;
    if seconds > DURATION_SECS_MAX {
        return None;
    }
    let rest = u32::try_from(nanos % 1_000_000_000).ok()?;
    Some(Duration::new(u64::try_from(seconds).ok()?, rest))
}

/// The short names of an enum's values, without the one that says nothing: `strong` for `MODE_STRONG`.
pub(crate) fn short_names(of: &EnumDescriptor) -> Vec<String> {
    of.values()
        .filter(|value| value.number() != 0)
        .map(|value| short_name(of, value.name()))
        .collect()
}

/// The short name of one value.
pub(crate) fn short_name(of: &EnumDescriptor, full: &str) -> String {
    let prefix = screaming(of.name()) + "_";
    full.strip_prefix(&prefix)
        .unwrap_or(full)
        .to_ascii_lowercase()
}

/// The value of that name, short or in full.
pub(crate) fn enum_number(of: &EnumDescriptor, text: &str) -> Option<i32> {
    let named = |value: &prost_reflect::EnumValueDescriptor| {
        value.name() == text
            || (value.number() != 0 && short_name(of, value.name()).eq_ignore_ascii_case(text))
    };
    of.values().find(named).map(|value| value.number())
}

/// `HealthFilter` as `HEALTH_FILTER`.
fn screaming(camel: &str) -> String {
    let mut name = String::new();
    for (at, c) in camel.char_indices() {
        if at > 0 && c.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(c.to_ascii_uppercase());
    }
    name
}

/// A bad value as an error shows it.
pub(crate) fn shown(text: &str) -> String {
    format!("`{}`", short(text))
}

/// A stranger's text, and not all of a long one.
pub(crate) fn short(text: &str) -> String {
    let mut short: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// Names as an error lists them.
pub(crate) fn listed<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> String {
    let names: Vec<String> = names
        .into_iter()
        .map(|name| format!("`{}`", name.as_ref()))
        .collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        let cases = [
            ("500ms", Some(Duration::from_millis(500))),
            ("1.5s", Some(Duration::from_millis(1_500))),
            ("0.000000001s", Some(Duration::from_nanos(1))),
            ("2m", Some(Duration::from_secs(120))),
            ("1h", Some(Duration::from_secs(3_600))),
            ("7us", Some(Duration::from_micros(7))),
            ("0s", Some(Duration::ZERO)),
            ("5", None),
            ("s", None),
            (".5s", None),
            ("1.s", None),
            ("1..5s", None),
            ("-1s", None),
            ("1 s", None),
            ("1d", None),
            ("", None),
            ("99999999999999999999999999s", None),
            ("18446744073709551615h", None),
        ];
        for (text, wanted) in cases {
            assert_eq!(duration(text), wanted, "{text}");
        }
    }

    #[test]
    fn bytes_are_read_from_both_alphabets_padded_or_not() {
        let bytes = [0xfb, 0xff, 0xfe, 0x01];
        assert_eq!(base64url(&bytes), "-__-AQ");
        for text in ["-__-AQ", "-__-AQ==", "+//+AQ", "+//+AQ=="] {
            assert_eq!(from_base64(text).unwrap(), bytes, "{text}");
        }
        assert!(from_base64("a").is_err());
        assert!(from_base64("a*b=").is_err());
        assert!(from_base64("-/").is_err(), "one alphabet at a time");
    }

    #[test]
    fn a_long_bad_value_is_not_repeated_whole() {
        assert_eq!(shown("abc"), "`abc`");
        let long = shown(&"ä".repeat(1_000));
        assert_eq!(long.chars().count(), SHOWN_CHARS_MAX + 3);
    }
}
