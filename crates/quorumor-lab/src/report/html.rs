//! Writing HTML and SVG: one escape, one element builder.
//!
//! Not a template language. Called by the page and the plots.

use std::fmt::{self, Write};

/// Text that is safe between tags and in attributes.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '&' => f.write_str("&amp;")?,
                '"' => f.write_str("&quot;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// An element with a class and escaped text inside.
pub(super) fn text(tag: &str, class: &str, inside: &str) -> String {
    element(tag, class, &Escaped(inside).to_string())
}

/// An element with a class and markup inside.
pub(super) fn element(tag: &str, class: &str, inside: &str) -> String {
    if class.is_empty() {
        format!("<{tag}>{inside}</{tag}>")
    } else {
        format!("<{tag} class=\"{class}\">{inside}</{tag}>")
    }
}
