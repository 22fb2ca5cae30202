//! The table: as Markdown, for the documentation, and as cells, for a terminal.

use std::fmt::Write;

use super::{Calibration, Part, Relation, Row};

impl Calibration {
    /// The table that `docs/calibration.md` has: a heading and a table a part.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        for part in Part::ALL {
            let _ = writeln!(text, "### {}\n", part.title());
            text += "| what | source | expected | measured | may be off by | |\n|---|---|---|---|---|---|\n";
            for row in self.rows.iter().filter(|row| row.part == part) {
                let [expected, measured, tolerance, verdict] = row.cells();
                let (what, source, why) = (&row.what, row.source, row.tolerance_reason);
                let _ = writeln!(
                    text,
                    "| {what} | {source} | {expected} | {measured} | {tolerance}: {why} | {verdict} |"
                );
            }
            text.push('\n');
        }
        let _ = write!(text, "{}", self.summary());
        text
    }

    /// One sentence: how many rows agree, differ as is known, differ.
    #[must_use]
    pub fn summary(&self) -> String {
        let agree = self.rows.iter().filter(|row| row.agrees).count();
        let unexplained = self.unexplained().count();
        let known = self.rows.len() - agree - unexplained;
        format!(
            "{} rows, seeds 0 to {}: {agree} agree, {known} differ as is known and explained, {unexplained} differ unexplained.",
            self.rows.len(),
            self.seeds.saturating_sub(1)
        )
    }
}

impl Row {
    /// Expected, measured with its spread, tolerance, verdict: in words, for a table.
    #[must_use]
    pub fn cells(&self) -> [String; 4] {
        let unit = self.unit;
        let (sign, spread) = match self.relation {
            Relation::Mean => (
                "",
                format!(" (sd {}, n {})", short(self.spread), self.samples),
            ),
            Relation::AtMost => ("≤ ", format!(" (greatest of {})", self.samples)),
        };
        let verdict = match (self.agrees, self.known_difference) {
            (true, _) => "agrees".to_owned(),
            (false, Some(why)) => format!("differs, as is known: {why}"),
            (false, None) => "**DIFFERS**".to_owned(),
        };
        [
            format!("{sign}{} {unit}", short(self.expected))
                .trim_end()
                .to_owned(),
            format!("{}{spread}", short(self.measured)),
            short(self.tolerance),
            verdict,
        ]
    }
}

/// Four significant digits, without needless zeros.
fn short(value: f64) -> String {
    // The rest of a sum of doubles that should have been nothing.
    if value.abs() < 1e-12 {
        return "0".to_owned();
    }
    if !value.is_finite() {
        return value.to_string();
    }
    let size = value.abs().log10().floor();
    if size < -4.0 {
        return format!("{value:.2e}");
    }
    let places = (3.0 - size).clamp(0.0, 6.0) as usize;
    let text = format!("{value:.places$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn figures_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (1.2e-16, "0"),
            (1.0, "1"),
            (1.58198, "1.582"),
            (1_655.3, "1655"),
            (0.000_028_7, "2.87e-5"),
            (0.019_84, "0.01984"),
            (123_456.7, "123457"),
        ] {
            assert_eq!(short(value), text);
        }
    }
}
