//! The language of discovery filters: what an instance's tags and metadata must be.
//!
//! `web`, `version=2`, `version!=2`, `!canary`, `a && (b || !c)`; also `not`, `and`, `or`. A word that has other signs, or is one
//! of these three, stands in double quotes.

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::str::CharIndices;

use quorumor_core::Error;
use quorumor_proto::pb;

/// The longest filter, in bytes, and how deep its brackets may go.
const BYTES_MAX: usize = 1_024;
const DEPTH_MAX: usize = 32;

/// A condition on an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Filter {
    /// Holds always.
    Any,
    Tag(String),
    Metadata(String, String),
    Not(Box<Self>),
    And(Vec<Self>),
    Or(Vec<Self>),
}

impl Filter {
    /// # Errors
    /// `InvalidArgument` that says where it can't be read.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > BYTES_MAX {
            let why = format!(
                "it has {} bytes, at most {BYTES_MAX} are allowed",
                text.len()
            );
            return Err(Error::invalid("filter", why));
        }
        let tokens = tokens(text)?;
        if tokens.is_empty() {
            return Ok(Self::Any);
        }
        let mut parser = Parser {
            tokens: tokens.into_iter().peekable(),
            end: text.len(),
        };
        let filter = parser.any_of(0)?;
        match parser.tokens.next() {
            None => Ok(filter),
            Some((at, _)) => Err(unreadable(at, "`&&`, `||` or the end")),
        }
    }

    pub(crate) fn matches(&self, instance: &pb::Instance) -> bool {
        match self {
            Self::Any => true,
            Self::Tag(tag) => instance.tags.contains(tag),
            Self::Metadata(key, value) => instance.metadata.get(key) == Some(value),
            Self::Not(filter) => !filter.matches(instance),
            Self::And(filters) => filters.iter().all(|filter| filter.matches(instance)),
            Self::Or(filters) => filters.iter().any(|filter| filter.matches(instance)),
        }
    }
}

fn unreadable(at: usize, expected: &str) -> Error {
    let why = format!(
        "at byte {at}: {expected} is expected; a filter reads like `web && version=2 && !(canary || old)`"
    );
    Error::invalid("filter", why)
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Open,
    Close,
    Not,
    And,
    Or,
    Equal,
    NotEqual,
}

fn tokens(text: &str) -> Result<Vec<(usize, Token)>, Error> {
    let mut found = Vec::new();
    let mut signs = text.char_indices().peekable();
    while let Some((at, sign)) = signs.next() {
        let token = match sign {
            ' ' | '\t' => continue,
            '(' => Token::Open,
            ')' => Token::Close,
            '!' if signs.next_if(|(_, next)| *next == '=').is_some() => Token::NotEqual,
            '!' => Token::Not,
            '=' => {
                signs.next_if(|(_, next)| *next == '=');
                Token::Equal
            }
            '&' if signs.next_if(|(_, next)| *next == '&').is_some() => Token::And,
            '|' if signs.next_if(|(_, next)| *next == '|').is_some() => Token::Or,
            '"' => Token::Word(quoted(at, &mut signs)?),
            sign if is_plain(sign) => plain(sign, &mut signs),
            _ => return Err(unreadable(at, "a word, `!`, `(`, `)`, `&&`, `||` or `=`")),
        };
        found.push((at, token));
    }
    Ok(found)
}

fn is_plain(sign: char) -> bool {
    sign.is_alphanumeric() || matches!(sign, '-' | '_' | '.' | ':' | '/')
}

fn plain(first: char, signs: &mut Peekable<CharIndices<'_>>) -> Token {
    let mut word = String::from(first);
    while let Some((_, sign)) = signs.next_if(|(_, sign)| is_plain(*sign)) {
        word.push(sign);
    }
    match word.as_str() {
        "and" => Token::And,
        "or" => Token::Or,
        "not" => Token::Not,
        _ => Token::Word(word),
    }
}

fn quoted(at: usize, signs: &mut Peekable<CharIndices<'_>>) -> Result<String, Error> {
    let mut word = String::new();
    while let Some((_, sign)) = signs.next() {
        match sign {
            '"' => return Ok(word),
            '\\' => word.extend(signs.next().map(|(_, sign)| sign)),
            sign => word.push(sign),
        }
    }
    Err(unreadable(at, "a closing `\"`"))
}

struct Parser {
    tokens: Peekable<std::vec::IntoIter<(usize, Token)>>,
    end: usize,
}

impl Parser {
    fn take(&mut self, wanted: &Token) -> bool {
        self.tokens.next_if(|(_, token)| token == wanted).is_some()
    }

    fn any_of(&mut self, depth: usize) -> Result<Filter, Error> {
        let mut filters = vec![self.all_of(depth)?];
        while self.take(&Token::Or) {
            filters.push(self.all_of(depth)?);
        }
        Ok(joined(filters, Filter::Or))
    }

    fn all_of(&mut self, depth: usize) -> Result<Filter, Error> {
        let mut filters = vec![self.one(depth)?];
        while self.take(&Token::And) {
            filters.push(self.one(depth)?);
        }
        Ok(joined(filters, Filter::And))
    }

    fn one(&mut self, depth: usize) -> Result<Filter, Error> {
        let wanted = "a tag, `key=value`, `!` or `(`";
        let (at, token) = self
            .tokens
            .next()
            .ok_or_else(|| unreadable(self.end, wanted))?;
        if depth >= DEPTH_MAX {
            return Err(unreadable(at, &format!("no more than {DEPTH_MAX} levels")));
        }
        match token {
            Token::Not => Ok(Filter::Not(Box::new(self.one(depth + 1)?))),
            Token::Open => {
                let filter = self.any_of(depth + 1)?;
                if self.take(&Token::Close) {
                    return Ok(filter);
                }
                let at = self.tokens.peek().map_or(self.end, |(at, _)| *at);
                Err(unreadable(at, "`)`"))
            }
            Token::Word(word) if self.take(&Token::Equal) => {
                Ok(Filter::Metadata(word, self.value()?))
            }
            Token::Word(word) if self.take(&Token::NotEqual) => {
                let equal = Filter::Metadata(word, self.value()?);
                Ok(Filter::Not(Box::new(equal)))
            }
            Token::Word(word) => Ok(Filter::Tag(word)),
            Token::Close | Token::And | Token::Or | Token::Equal | Token::NotEqual => {
                Err(unreadable(at, wanted))
            }
        }
    }

    fn value(&mut self) -> Result<String, Error> {
        match self.tokens.next() {
            Some((_, Token::Word(word))) => Ok(word),
            Some((at, _)) => Err(unreadable(at, "a value")),
            None => Err(unreadable(self.end, "a value")),
        }
    }
}

fn joined(mut filters: Vec<Filter>, join: fn(Vec<Filter>) -> Filter) -> Filter {
    match filters.pop() {
        Some(only) if filters.is_empty() => only,
        last => {
            filters.extend(last);
            join(filters)
        }
    }
}

/// All tags of some instances, each once.
pub(crate) fn tags_of<'a>(instances: impl Iterator<Item = &'a pb::Instance>) -> Vec<String> {
    let tags: BTreeSet<&String> = instances.flat_map(|instance| &instance.tags).collect();
    tags.into_iter().cloned().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn instance(tags: &[&str], metadata: &[(&str, &str)]) -> pb::Instance {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        pb::Instance {
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            metadata: metadata.iter().map(owned).collect(),
            ..pb::Instance::default()
        }
    }

    fn takes(filter: &str, instance: &pb::Instance) -> bool {
        Filter::parse(filter).unwrap().matches(instance)
    }

    #[test]
    fn filters_say_what_they_read_like() {
        let it = instance(&["web", "v1.2", "and"], &[("version", "2"), ("a b", "c d")]);
        for filter in [
            "",
            "  ",
            "web",
            "web && v1.2",
            "web and not old",
            "old || web",
            "old or web",
            "!old",
            "!(old || canary)",
            "version=2",
            "version==2",
            "version!=3",
            "missing!=3",
            "\"a b\"=\"c d\"",
            "\"and\"",
            "old && new || web",
            "web && !!v1.2",
        ] {
            assert!(takes(filter, &it), "{filter}");
        }
        for filter in [
            "old",
            "!web",
            "version=3",
            "web && old",
            "web && (old || canary)",
        ] {
            assert!(!takes(filter, &it), "{filter}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_place() {
        for (filter, place) in [
            ("web &&", "byte 6"),
            ("(web", "byte 4"),
            ("web)", "byte 3"),
            ("a b", "byte 2"),
            ("a & b", "byte 2"),
            ("=2", "byte 0"),
            ("a=", "byte 2"),
            ("\"a", "byte 0"),
        ] {
            let error = Filter::parse(filter).unwrap_err().to_string();
            assert!(error.contains(place), "{filter}: {error}");
        }
        assert!(Filter::parse(&"!".repeat(40)).is_err());
        assert!(Filter::parse(&"a".repeat(1_025)).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,64}", words in "[a-c!()&|= ]{0,64}") {
            let it = instance(&["a"], &[("b", "c")]);
            for text in [text, words] {
                if let Ok(filter) = Filter::parse(&text) {
                    filter.matches(&it);
                }
            }
        }

        #[test]
        fn not_turns_every_filter_around(words in "[a-c!()&|= ]{1,32}") {
            let it = instance(&["a"], &[("b", "c")]);
            if let Ok(filter) = Filter::parse(&words) && filter != Filter::Any {
                let turned = Filter::parse(&format!("!({words})")).unwrap();
                prop_assert_ne!(filter.matches(&it), turned.matches(&it));
            }
        }
    }
}
