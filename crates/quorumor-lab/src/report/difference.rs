//! What a contrast comes to: the two sides of a column, with and without what the scenario names, and the difference spelled out.
//!
//! Not a judge: no promise is compared here, only figures of the judged load while something was wrong. Several runs are compared by
//! their medians. Called by the contest; shown by the table and the page.

use serde::{Deserialize, Serialize};

use super::Column;
use super::html::{Escaped, element, text};
use super::spread::{Spread, Unit};
use super::words::{capital, listed, span};
use crate::analyse::{FloodCounts, LeaseCounts, Recovery, RunResult, Strain};
use crate::scenario::{Contrast, Scenario};

/// A figure that both sides have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Measure {
    /// Operations that were answered, in a hundred.
    Answered,
    /// The median latency from when they were due, in microseconds.
    P50,
    /// The 99th percentile of the same.
    P99,
    /// Operations that nodes turned away because there was too much to do.
    Shed,
    /// Operations that the clients' breakers held back.
    HeldByBreaker,
    /// Leases that were lost though their holders had tried to keep them; over the whole run.
    LeasesLost,
    /// Keep-alives that weren't answered; over the whole run.
    KeepAlivesMissed,
    /// From the beginning of the trouble until all was well for good, in microseconds; none = never.
    Recovery,
    /// Calls of the flood.
    FloodOffered,
    /// Those of them that were answered.
    FloodAnswered,
    /// Those of them that were turned away.
    FloodShed,
}

impl Measure {
    const ALL: [Self; 11] = [
        Self::Answered,
        Self::P50,
        Self::P99,
        Self::Shed,
        Self::HeldByBreaker,
        Self::LeasesLost,
        Self::KeepAlivesMissed,
        Self::Recovery,
        Self::FloodOffered,
        Self::FloodAnswered,
        Self::FloodShed,
    ];

    const fn words(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::P50 => "latency, median",
            Self::P99 => "latency, 99th percentile",
            Self::Shed => "turned away by nodes",
            Self::HeldByBreaker => "held back by the breaker",
            Self::LeasesLost => "leases lost",
            Self::KeepAlivesMissed => "keep-alives missed",
            Self::Recovery => "well for good after",
            Self::FloodOffered => "flood: calls made",
            Self::FloodAnswered => "flood: answered",
            Self::FloodShed => "flood: turned away",
        }
    }

    const fn unit(self) -> Unit {
        match self {
            Self::Answered => Unit::Percent,
            Self::P50 | Self::P99 | Self::Recovery => Unit::Micros,
            Self::Shed
            | Self::HeldByBreaker
            | Self::LeasesLost
            | Self::KeepAlivesMissed
            | Self::FloodOffered
            | Self::FloodAnswered
            | Self::FloodShed => Unit::Count,
        }
    }

    /// The figure of one run. Of the outer option: whether the run has such a figure at all.
    fn of(self, strain: &Strain) -> Option<Option<f64>> {
        let count = |n: u64| Some(Some(n as f64));
        let leases =
            |of: fn(&LeaseCounts) -> u64| strain.leases.as_ref().and_then(|all| count(of(all)));
        let flood =
            |of: fn(&FloodCounts) -> u64| strain.flood.as_ref().and_then(|all| count(of(all)));
        match self {
            Self::Answered => Some(Some(strain.counts.ok_percent())),
            Self::P50 => Some(strain.p50_us.map(|us| us as f64)),
            Self::P99 => Some(strain.p99_us.map(|us| us as f64)),
            Self::Shed => count(strain.shed),
            Self::HeldByBreaker => count(strain.held_by_breaker),
            Self::LeasesLost => leases(|all| all.lost),
            Self::KeepAlivesMissed => leases(|all| all.missed),
            Self::Recovery => Some(match strain.recovery {
                Recovery::NotNeeded => Some(0.0),
                Recovery::After(us) | Recovery::OnceHealed(us) => Some(us as f64),
                Recovery::Never => None,
            }),
            Self::FloodOffered => flood(|all| all.offered),
            Self::FloodAnswered => flood(|all| all.answered),
            Self::FloodShed => flood(|all| all.shed),
        }
    }

    fn shown(self, value: Option<f64>) -> String {
        match (value, self) {
            (Some(value), _) => self.unit().text(value),
            (None, Self::Recovery) => "never".to_owned(),
            (None, _) => "-".to_owned(),
        }
    }
}

/// One figure of both sides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Compared {
    /// Which.
    pub measure: Measure,
    /// The median over the counted runs with it; none = there is none, as where all was never well again.
    pub with: Option<f64>,
    /// The same without it.
    pub without: Option<f64>,
    /// With less without.
    pub change: Option<f64>,
    /// The change in words.
    pub says: String,
}

/// Both sides of one system.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Difference {
    /// Whose.
    pub system: String,
    /// With and without what.
    pub contrast: Contrast,
    /// What was wrong meanwhile, in a few words.
    pub trouble: String,
    /// From when the load is compared, from time zero of the workload, in microseconds.
    pub from_us: u64,
    /// Until when, in microseconds.
    pub to_us: u64,
    /// The label of the column with it.
    pub with: String,
    /// The label of the column without it.
    pub without: String,
    /// A side has no run that may be judged, so the difference proves nothing.
    pub void: bool,
    /// The figures.
    pub rows: Vec<Compared>,
}

impl Difference {
    /// Of two columns; none = neither shows anything.
    pub fn of(
        scenario: &Scenario,
        system: String,
        with: &Column,
        without: &Column,
    ) -> Option<Self> {
        let contrast = scenario.contrast?;
        let (from_us, to_us) = scenario.trouble_us()?;
        let measures = Measure::ALL.into_iter();
        // Without a breaker on either side nothing is held back by one.
        let shown =
            |measure: &Measure| *measure != Measure::HeldByBreaker || contrast == Contrast::Breaker;
        let rows = measures.filter(shown).filter_map(|measure| {
            let (with, without) = (median(with, measure)?, median(without, measure)?);
            Some(compared(measure, with, without))
        });
        let is_void = |column: &Column| !column.runs.iter().any(|run| run.void.is_empty());
        Some(Self {
            system,
            contrast,
            trouble: trouble(scenario),
            from_us,
            to_us,
            with: with.label.clone(),
            without: without.label.clone(),
            void: is_void(with) || is_void(without),
            rows: rows.collect(),
        })
    }

    /// What it comes to, in one sentence.
    pub fn sentence(&self) -> String {
        let row = |measure: Measure| self.rows.iter().find(|row| row.measure == measure);
        let clause = |(measure, before, after): (Measure, &str, &str)| {
            let row = row(measure)?;
            let (with, without) = (measure.shown(row.with), measure.shown(row.without));
            Some(format!("{before}{with}{after} (without: {without})"))
        };
        let clauses: Vec<String> = [
            (Measure::Answered, "", " answered"),
            (Measure::P50, "a median of ", ""),
            (Measure::P99, "a 99th percentile of ", ""),
            (Measure::LeasesLost, "leases lost: ", ""),
            (Measure::Recovery, "well for good after ", ""),
        ]
        .into_iter()
        .filter_map(clause)
        .collect();
        let void = if self.void {
            " One side is void, so this proves nothing."
        } else {
            ""
        };
        format!(
            "{} with {}, {}: {}.{void}",
            capital(&self.system),
            self.contrast.words(),
            self.trouble,
            listed(&clauses)
        )
    }

    /// The rows as text: the name, both sides, the change.
    pub(super) fn cells(&self) -> Vec<[String; 4]> {
        let cells = |row: &Compared| {
            [
                row.measure.words().to_owned(),
                row.measure.shown(row.with),
                row.measure.shown(row.without),
                row.says.clone(),
            ]
        };
        self.rows.iter().map(cells).collect()
    }

    /// What is compared, for a heading.
    pub(super) fn title(&self) -> String {
        format!(
            "{}, with and without {}, from {} to {} ({})",
            capital(&self.system),
            self.contrast.words(),
            span(self.from_us),
            span(self.to_us),
            self.trouble
        )
    }
}

/// A part of the page; nothing where there is no contrast.
pub(super) fn render(differences: &[Difference]) -> String {
    if differences.is_empty() {
        return String::new();
    }
    let tables: String = differences.iter().map(table).collect();
    format!("<section id=\"difference\"><h2>With and without</h2>{tables}</section>")
}

/// The way to it, among those to the other parts.
pub(super) fn link(differences: &[Difference]) -> &'static str {
    match differences {
        [] => "",
        [..] => "<a href=\"#difference\">With and without</a> ",
    }
}

fn table(difference: &Difference) -> String {
    let heads = ["", "with", "without", "difference"];
    let head: String = heads
        .iter()
        .map(|name| format!("<th scope=\"col\">{name}</th>"))
        .collect();
    let row = |[name, with, without, says]: [String; 4]| {
        let name = format!("<th scope=\"row\" class=\"phase\">{}</th>", Escaped(&name));
        let cells: String = [with, without, says]
            .iter()
            .map(|cell| text("td", "", cell))
            .collect();
        element("tr", "", &(name + &cells))
    };
    let rows: String = difference.cells().into_iter().map(row).collect();
    let title = difference.title();
    format!(
        "<h3>{}</h3><p>{}</p><div class=\"wide\" role=\"group\" tabindex=\"0\" aria-label=\"{}\"><table class=\"fates\">\
         <thead><tr>{}</tr></thead><tbody>{rows}</tbody></table></div>",
        Escaped(&title),
        Escaped(&difference.sentence()),
        Escaped(&title),
        head.replacen(
            "<th scope=\"col\"></th>",
            "<th scope=\"col\">figure</th>",
            1
        )
    )
}

/// What was wrong, as the phases have it.
fn trouble(scenario: &Scenario) -> String {
    let faults = scenario.faults.iter();
    let faults =
        faults.map(|fault| format!("{} {}", fault.kind.target(), fault.kind.action().words()));
    let mut words: Vec<String> = faults.collect();
    words.extend(scenario.flood.iter().map(|flood| flood.words()));
    words.dedup();
    listed(&words)
}

/// The median of the counted runs. A run that never had it counts as the worst; of the outer option: whether any run has such a
/// figure at all.
fn median(column: &Column, measure: Measure) -> Option<Option<f64>> {
    let strains = column.counted().into_iter();
    let strains = strains.filter_map(|run: &RunResult| run.strain.as_ref());
    let values: Vec<Option<f64>> = strains.filter_map(|strain| measure.of(strain)).collect();
    if values.is_empty() {
        return None;
    }
    let spread = Spread::of(values.iter().map(|value| value.unwrap_or(f64::INFINITY)));
    Some(
        spread
            .map(|spread| spread.median)
            .filter(|value| value.is_finite()),
    )
}

fn compared(measure: Measure, with: Option<f64>, without: Option<f64>) -> Compared {
    let change = with.zip(without).map(|(with, without)| with - without);
    Compared {
        measure,
        with,
        without,
        change,
        says: says(measure, with, without),
    }
}

/// The change in words.
fn says(measure: Measure, with: Option<f64>, without: Option<f64>) -> String {
    if measure.shown(with) == measure.shown(without) {
        return "the same".to_owned();
    }
    let (Some(with), Some(without)) = (with, without) else {
        let only = if with.is_some() {
            "only with"
        } else {
            "only without"
        };
        return only.to_owned();
    };
    let size = (with - without).abs();
    let less = with < without;
    match measure.unit() {
        Unit::Percent => format!("{size:.1} points {}", if less { "less" } else { "more" }),
        Unit::Count => {
            let count = Unit::Count.text(size);
            format!("{count} {}", if less { "fewer" } else { "more" })
        }
        Unit::Micros => {
            let by = Unit::Micros.text(size);
            let (word, times) = if less {
                ("shorter", without / with)
            } else {
                ("longer", with / without)
            };
            // What is no multiple of the other isn't called one.
            if times.is_finite() && times >= 2.0 {
                format!("{by} {word}, {times:.0} times")
            } else {
                format!("{by} {word}")
            }
        }
    }
}

#[cfg(test)]
mod tests;
