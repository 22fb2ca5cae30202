//! Figures as words: durations, counts and shares as people write them.
//!
//! No figure is computed here. Called by the tables, the sentences and the page.

use crate::analyse::Recovery;

/// A duration with the unit that suits it.
pub(super) fn duration(us: u64) -> String {
    let ms = us as f64 / 1_000.0;
    match us {
        0 => "0".to_owned(),
        1..10_000 => format!("{ms:.1} ms"),
        10_000..999_500 => format!("{ms:.0} ms"),
        999_500..120_000_000 => format!("{:.1} s", ms / 1_000.0),
        _ => format!("{:.1} min", ms / 60_000.0),
    }
}

/// A length of time that is a whole number of its unit more often than not: "40 s", "1.5 s".
pub(super) fn span(us: u64) -> String {
    duration(us).replace(".0 ", " ")
}

/// The same for a figure that may be missing.
pub(super) fn maybe(us: Option<u64>) -> String {
    us.map_or("-".to_owned(), duration)
}

/// A count with thousands apart.
pub(super) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count and its noun.
pub(super) fn counted(n: u64, one: &str, many: &str) -> String {
    match n {
        0 => format!("no {many}"),
        1 => format!("1 {one}"),
        n => format!("{} {many}", count(n)),
    }
}

/// A part of a whole: "none", "all", "61 %", "0.4 %".
pub(super) fn share(part: u64, whole: u64) -> String {
    match (part, whole) {
        (0, _) => "none".to_owned(),
        (part, whole) if part == whole => "all".to_owned(),
        (part, whole) => {
            let percent = part as f64 * 100.0 / whole as f64;
            if (1.0..=99.0).contains(&percent) {
                format!("{percent:.0} %")
            } else {
                format!("{percent:.1} %")
            }
        }
    }
}

/// How a phase recovered, in one or two words.
pub(super) fn recovery(recovery: Recovery) -> String {
    match recovery {
        Recovery::NotNeeded => "-".to_owned(),
        Recovery::After(0) => "no pause".to_owned(),
        Recovery::After(us) => duration(us),
        Recovery::OnceHealed(us) => format!("{} *", duration(us)),
        Recovery::Never => "never".to_owned(),
    }
}

/// The same text with a capital first letter.
pub(super) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters
        .next()
        .map(|letter| letter.to_uppercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}

/// "a", "a and b", "a, b and c".
pub(super) fn listed(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_as_people_write_them() {
        assert_eq!(
            (duration(1_500), span(40_000_000)),
            ("1.5 ms".to_owned(), "40 s".to_owned())
        );
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(share(0, 9), "none");
        assert_eq!(share(9, 9), "all");
        assert_eq!(share(61, 100), "61 %");
        assert_eq!(share(1, 1_000), "0.1 %");
        assert_eq!(counted(0, "read", "reads"), "no reads");
        let items = ["a", "b", "c"].map(str::to_owned);
        assert_eq!(listed(&items), "a, b and c");
    }
}
