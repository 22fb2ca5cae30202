//! The small language of transactions: conditions and operations as people type them.

use quorumor_client::{
    Compare, CompareTarget, KeyRange, LeaseId, Operation, Relation, Revision, Txn,
};
use quorumor_core::{Key, Value};

use crate::args::parse_lease;

/// A transaction from a file: a line each.
pub(super) fn file(text: &str) -> Result<Txn, String> {
    let mut txn = Txn::default();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (head, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let parsed = match head {
            "if" => condition(rest).map(|compare| txn.compares.push(compare)),
            "then" => operation(rest).map(|operation| txn.success.push(operation)),
            "else" => operation(rest).map(|operation| txn.failure.push(operation)),
            _ => Err("a line begins with `if`, `then` or `else`".to_owned()),
        };
        parsed.map_err(|why| format!("line {number}: {why}"))?;
    }
    Ok(txn)
}

/// One condition.
pub(super) fn condition(text: &str) -> Result<Compare, String> {
    let words = words(text)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let [key, rest @ ..] = words.as_slice() else {
        return Err("a condition begins with a key".to_owned());
    };
    let (relation, target) = match rest {
        ["absent"] => (
            Relation::Equal,
            CompareTarget::CreateRevision(Revision::ZERO),
        ),
        ["present"] => (
            Relation::NotEqual,
            CompareTarget::CreateRevision(Revision::ZERO),
        ),
        [field, ..] => {
            let (field, relation, operand) = comparison(field, &rest[1..])?;
            (relation, target(field, &operand)?)
        }
        [] => return Err("say what must hold of the key".to_owned()),
    };
    Ok(Compare {
        key: Key::parse(key).map_err(|error| error.to_string())?,
        relation,
        target,
    })
}

const FIELDS: [&str; 5] = ["value", "mod", "create", "count", "lease"];

/// `mod = 5`, `mod= 5` and `mod=5` are the same.
fn comparison<'a>(first: &'a str, rest: &[&str]) -> Result<(&'a str, Relation, String), String> {
    let named = FIELDS.iter().find_map(|field| {
        let after = first.strip_prefix(field)?;
        let fits = after.is_empty() || after.starts_with(['=', '!', '>', '<']);
        fits.then(|| (&first[..field.len()], after))
    });
    let Some((field, after)) = named else {
        return Err(format!(
            "{first:?} is none of absent, present, {}",
            FIELDS.join(", ")
        ));
    };
    let (sign, rest) = match (after, rest) {
        ("", [sign, rest @ ..]) => (*sign, rest),
        ("", []) => return Err(format!("{field} must be compared with something")),
        (sign, rest) => (sign, rest),
    };
    let relations = [
        ("!=", Relation::NotEqual),
        ("=", Relation::Equal),
        (">", Relation::Greater),
        ("<", Relation::Less),
    ];
    let parsed = relations
        .iter()
        .find_map(|(text, relation)| sign.strip_prefix(text).map(|after| (*relation, after)));
    let Some((relation, attached)) = parsed else {
        return Err(format!("{sign:?} is none of =, !=, >, <"));
    };
    match (attached, rest) {
        ("", [operand]) => Ok((field, relation, (*operand).to_owned())),
        (operand, []) if !operand.is_empty() => Ok((field, relation, operand.to_owned())),
        _ => Err(format!("{field} is compared with one thing")),
    }
}

fn target(field: &str, operand: &str) -> Result<CompareTarget, String> {
    let number = || {
        let number = operand.parse::<u64>();
        number.map_err(|_| format!("{field} is compared with a number, not {operand:?}"))
    };
    Ok(match field {
        "mod" => CompareTarget::ModRevision(Revision::new(number()?)),
        "create" => CompareTarget::CreateRevision(Revision::new(number()?)),
        "count" => CompareTarget::Count(number()?),
        "lease" if operand == "0" => CompareTarget::Lease(LeaseId::ZERO),
        "lease" => CompareTarget::Lease(parse_lease(operand)?),
        _ => CompareTarget::Value(value(operand)?),
    })
}

/// One operation.
pub(super) fn operation(text: &str) -> Result<Operation, String> {
    let words = words(text)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let key = |text: &str| Key::parse(text).map_err(|error| error.to_string());
    let range = |range: Result<KeyRange, quorumor_core::Error>| {
        range
            .map(|range| Operation::DeleteRange { range })
            .map_err(|error| error.to_string())
    };
    Ok(match words.as_slice() {
        ["put", name, text] => Operation::Put {
            key: key(name)?,
            value: value(text)?,
            context: None,
            lease: None,
        },
        ["put", name, text, lease] => Operation::Put {
            key: key(name)?,
            value: value(text)?,
            context: None,
            lease: match lease.strip_prefix("lease=") {
                Some(id) => Some(parse_lease(id)?),
                None => {
                    return Err(format!(
                        "{lease:?} is no lease=ID; quote a value with blanks"
                    ));
                }
            },
        },
        ["get", name] => Operation::Get { key: key(name)? },
        ["delete", name] => Operation::Delete { key: key(name)? },
        ["delete-prefix", prefix] => range(KeyRange::prefix(prefix))?,
        ["delete-range", start, end] => range(KeyRange::between(start, Some(end)))?,
        _ => {
            return Err(
                "an operation is put KEY VALUE [lease=ID], get KEY, delete KEY, delete-prefix PREFIX \
                 or delete-range START END"
                    .to_owned(),
            );
        }
    })
}

fn value(text: &str) -> Result<Value, String> {
    Value::parse(text.to_owned().into()).map_err(|error| error.to_string())
}

/// Splits at blanks, but for what quotes keep together.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('\'') => break,
                        Some(c) => word.push(c),
                        None => return Err("a quote ' isn't closed".to_owned()),
                    }
                }
            }
            '"' => quoted(&mut chars, word.get_or_insert_default())?,
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

fn quoted(chars: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), String> {
    loop {
        match chars.next() {
            Some('"') => return Ok(()),
            Some('\\') => word.push(match chars.next() {
                Some('n') => '\n',
                Some('t') => '\t',
                Some(c @ ('"' | '\\')) => c,
                _ => return Err("after \\ comes n, t, \" or \\".to_owned()),
            }),
            Some(c) => word.push(c),
            None => return Err("a quote \" isn't closed".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(text: &str) -> (Relation, CompareTarget) {
        let compare = condition(text).unwrap();
        assert_eq!(compare.key.as_str(), "k 1");
        (compare.relation, compare.target)
    }

    #[test]
    fn conditions_are_read_however_their_sign_is_spaced() {
        let five = CompareTarget::ModRevision(Revision::new(5));
        for text in [
            "'k 1' mod = 5",
            "'k 1' mod= 5",
            "'k 1' mod=5",
            "'k 1' mod =5",
        ] {
            assert_eq!(compare(text), (Relation::Equal, five.clone()), "{text}");
        }
        assert_eq!(compare("'k 1' mod != 5"), (Relation::NotEqual, five));
        let count = CompareTarget::Count(2);
        assert_eq!(compare("'k 1' count>2"), (Relation::Greater, count));
        let never = CompareTarget::CreateRevision(Revision::ZERO);
        assert_eq!(compare("'k 1' absent"), (Relation::Equal, never.clone()));
        assert_eq!(compare("'k 1' present"), (Relation::NotEqual, never));
        let text = CompareTarget::Value(value("a b").unwrap());
        assert_eq!(compare("'k 1' value = \"a b\""), (Relation::Equal, text));
        let none = CompareTarget::Lease(LeaseId::ZERO);
        assert_eq!(compare("'k 1' lease = 0"), (Relation::Equal, none));
    }

    #[test]
    fn operations_are_read() {
        let put = operation(r#"put k "a\tb\"" lease=31"#).unwrap();
        let Operation::Put { value, lease, .. } = put else {
            panic!("not a put");
        };
        assert_eq!(value.as_bytes().as_ref(), b"a\tb\"");
        assert_eq!(lease, Some(LeaseId::new(0x1f)));
        assert!(matches!(operation("put k ''"), Ok(Operation::Put { .. })));
        assert!(matches!(
            operation("delete-range a b"),
            Ok(Operation::DeleteRange { .. })
        ));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_is_allowed() {
        for (text, hint) in [
            ("", "begins with a key"),
            ("k", "must hold"),
            ("k size = 5", "absent, present, value"),
            ("k mod ~ 5", "=, !=, >, <"),
            ("k mod = five", "a number"),
            ("k mod = 5 6", "one thing"),
            ("k value", "compared with something"),
            ("'k absent", "isn't closed"),
        ] {
            let why = condition(text).unwrap_err();
            assert!(why.contains(hint), "{text:?}: {why}");
        }
        assert!(operation("put k").unwrap_err().contains("put KEY VALUE"));
        assert!(operation("put k a b").unwrap_err().contains("lease=ID"));
        assert!(
            operation("delete-range b a")
                .unwrap_err()
                .contains("ends after")
        );
    }

    #[test]
    fn a_file_is_read_line_by_line_and_a_slip_names_its_line() {
        let txn = file("# move\nif a = x\n").unwrap_err();
        assert!(txn.starts_with("line 2:"), "{txn}");
        let txn = file("if a present\n\nthen put a 1\nelse get a\nelse get b\n").unwrap();
        assert_eq!(
            (txn.compares.len(), txn.success.len(), txn.failure.len()),
            (1, 1, 2)
        );
    }
}
