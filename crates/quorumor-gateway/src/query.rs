//! Percent decoding and query strings, strict: what can't be read is refused, never guessed.

use std::borrow::Cow;

use crate::problem::Problem;
use crate::words::shown;

/// A query's parameters, in order.
#[derive(Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query string.
    pub(crate) fn parse(text: &str) -> Result<Self, Problem> {
        let mut pairs = Vec::new();
        for part in text.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            pairs.push((field(name)?, field(value)?));
        }
        Ok(Self(pairs))
    }

    /// The parameters.
    pub(crate) fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    /// The first value of that name.
    pub(crate) fn first(&self, name: &str) -> Option<&str> {
        let mut named = self.0.iter().filter(|(found, _)| found == name);
        named.next().map(|(_, value)| value.as_str())
    }
}

/// One name or value of a query, where `+` is a space.
fn field(text: &str) -> Result<String, Problem> {
    decode(&text.replace('+', " "), "query")
}

/// Percent-decodes a part of a URI.
pub(crate) fn decode(text: &str, named: &str) -> Result<String, Problem> {
    let refused = |why: &str| Problem::invalid(named, &format!("{why} in {}", shown(text)));
    let bytes = unescape(text.as_bytes())
        .ok_or_else(|| refused("`%` must be followed by two hexadecimal digits"))?;
    String::from_utf8(bytes.into_owned()).map_err(|_| refused("there are bytes that aren't UTF-8"))
}

fn unescape(bytes: &[u8]) -> Option<Cow<'_, [u8]>> {
    if !bytes.contains(&b'%') {
        return Some(Cow::Borrowed(bytes));
    }
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter();
    while let Some(byte) = rest.next() {
        plain.push(match byte {
            b'%' => hexadecimal(*rest.next()?)? * 16 + hexadecimal(*rest.next()?)?,
            byte => *byte,
        });
    }
    Some(Cow::Owned(plain))
}

fn hexadecimal(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_in_order() {
        let query = Query::parse("a=1+2&&b&c=%c3%A4%26&a=3").unwrap();
        let pairs: Vec<(&str, &str)> = query
            .pairs()
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(pairs, [("a", "1 2"), ("b", ""), ("c", "ä&"), ("a", "3")]);
        assert_eq!(query.first("a"), Some("1 2"));
        assert_eq!(query.first("d"), None);
    }

    #[test]
    fn what_is_no_percent_encoding_is_refused() {
        for text in ["%", "%4", "%zz", "a%", "%+1", "%C3", "%ff"] {
            assert!(decode(text, "path").is_err(), "{text}");
        }
        assert_eq!(decode("a+b%2Fc", "path").unwrap(), "a+b/c");
    }
}
