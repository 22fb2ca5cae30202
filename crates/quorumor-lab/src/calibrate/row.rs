//! A row of the calibration: a law, what was measured, and whether they agree.

use serde::Serialize;

/// How many standard errors of the measured mean chance is given: it exceeds three about once in 370 rows.
const STANDARD_ERRORS: f64 = 3.0;

/// What a row is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The network's own dice: delay, jitter, loss.
    Instrument,
    /// Textbook protocols on that network.
    Reference,
    /// How soon a crash is noticed, and known to all.
    Detection,
    /// What probes of living members come to under loss.
    Probing,
    /// How an update spreads.
    Spreading,
    /// How long nobody leads.
    Election,
    /// Who is served during a fault.
    Serving,
}

impl Part {
    /// All of them, in order.
    pub const ALL: [Self; 7] = [
        Self::Instrument,
        Self::Reference,
        Self::Detection,
        Self::Probing,
        Self::Spreading,
        Self::Election,
        Self::Serving,
    ];

    /// Its heading.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Instrument => "The network's own dice",
            Self::Reference => "Textbook protocols on that network",
            Self::Detection => "Crashes, eventual mode",
            Self::Probing => "Probes under loss, eventual mode",
            Self::Spreading => "Updates, eventual mode",
            Self::Election => "Leaders, strong mode",
            Self::Serving => "Who is served",
        }
    }
}

/// What the law says of what is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// The mean is this.
    Mean,
    /// No sample is above this.
    AtMost,
}

/// A law, and how far off what is measured may be.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Law {
    pub(super) part: Part,
    pub(super) what: String,
    pub(super) source: &'static str,
    pub(super) unit: &'static str,
    pub(super) expected: f64,
    /// What the law leaves out, beside chance.
    pub(super) allowance: f64,
    pub(super) why: &'static str,
    /// Why it is known to differ, if it is.
    pub(super) known: Option<&'static str>,
}

/// A law, and what was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// What it is about.
    pub part: Part,
    /// What was measured.
    pub what: String,
    /// Where the law comes from.
    pub source: &'static str,
    /// The unit of all figures of the row.
    pub unit: &'static str,
    /// By the law.
    pub expected: f64,
    /// Whether the mean is to be that, or no sample above it.
    pub relation: Relation,
    /// The mean, or the greatest.
    pub measured: f64,
    /// The standard deviation of the samples.
    pub spread: f64,
    /// How many there were.
    pub samples: u64,
    /// How far apart the two may be.
    pub tolerance: f64,
    /// Why so far: what the law leaves out. Chance, three standard errors of the mean (more where samples are few), is in it too.
    pub tolerance_reason: &'static str,
    /// Whether they are no further apart.
    pub agrees: bool,
    /// Why they are known to differ, if they are.
    pub known_difference: Option<&'static str>,
}

impl Row {
    /// Whether it differs and nobody has said why.
    #[must_use]
    pub const fn is_unexplained(&self) -> bool {
        !self.agrees && self.known_difference.is_none()
    }
}

impl Law {
    /// The samples' mean is to be what the law says.
    pub(super) fn of_mean(self, samples: &[f64]) -> Row {
        let (mean, spread) = moments(samples);
        let error = spread / (samples.len() as f64).sqrt();
        let tolerance = self.allowance + standard_errors(samples.len()) * error;
        self.row(Relation::Mean, (mean, spread), tolerance, samples.len())
    }

    /// So many of so many happened; chance is what counting rare events has (Poisson), never less than one event's.
    pub(super) fn of_count(self, happened: f64, of: f64) -> Row {
        let error = (self.expected * of).max(1.0).sqrt() / of;
        let tolerance = self.allowance + STANDARD_ERRORS * error;
        let share = happened / of;
        let spread = (share * (1.0 - share)).max(0.0).sqrt();
        self.row(Relation::Mean, (share, spread), tolerance, of as usize)
    }

    /// No sample is to be above what the law says.
    pub(super) fn of_greatest(self, samples: &[f64]) -> Row {
        // Nothing measured is within no bound.
        let greatest = samples.iter().copied().reduce(f64::max).unwrap_or(f64::NAN);
        let (_, spread) = moments(samples);
        let tolerance = self.allowance;
        self.row(
            Relation::AtMost,
            (greatest, spread),
            tolerance,
            samples.len(),
        )
    }

    fn row(
        self,
        relation: Relation,
        (measured, spread): (f64, f64),
        tolerance: f64,
        samples: usize,
    ) -> Row {
        let off = match relation {
            Relation::Mean => (measured - self.expected).abs(),
            Relation::AtMost => measured - self.expected,
        };
        Row {
            part: self.part,
            what: self.what,
            source: self.source,
            unit: self.unit,
            expected: self.expected,
            relation,
            measured,
            spread,
            samples: samples as u64,
            // A sum of doubles is off in its last digits.
            agrees: off <= tolerance + 1e-9 * self.expected.abs(),
            tolerance,
            tolerance_reason: self.why,
            known_difference: self.known,
        }
    }
}

/// How many standard errors chance is given where the error itself is estimated from few samples: Student's t for the same probability,
/// by its expansion in the degrees of freedom (Abramowitz and Stegun, 26.7.5).
fn standard_errors(samples: usize) -> f64 {
    let (z, freedom) = (STANDARD_ERRORS, (samples as f64 - 1.0).max(1.0));
    let first = (z.powi(3) + z) / 4.0;
    let second = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
    z + first / freedom + second / freedom.powi(2)
}

/// Mean and standard deviation; not a number where there are no samples, which agrees with nothing.
pub(super) fn moments(samples: &[f64]) -> (f64, f64) {
    let count = samples.len() as f64;
    let mean = samples.iter().sum::<f64>() / count;
    let squares: f64 = samples.iter().map(|sample| (sample - mean).powi(2)).sum();
    (mean, (squares / (count - 1.0).max(1.0)).sqrt())
}

#[cfg(test)]
mod tests {
    use super::standard_errors;

    /// Two-sided quantiles of Student's t at 99.73 %, from tables: 4.09 for 9 degrees of freedom, 3.16 for 49.
    #[test]
    fn few_samples_give_chance_more_room() {
        assert!((standard_errors(10) - 4.09).abs() < 0.1);
        assert!((standard_errors(50) - 3.16).abs() < 0.01);
        assert!((standard_errors(1_000_000) - 3.0).abs() < 1e-4);
        assert!(standard_errors(1).is_finite());
    }
}
