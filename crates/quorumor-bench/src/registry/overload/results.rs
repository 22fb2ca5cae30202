//! What an overload came to, and whether that is what a registry owes its users.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::observed::{End, Observed};
use crate::table::{by, figure};

/// Regular callers' latency may become so many times what it was.
const SLOWER_MAX: f64 = 3.0;
/// From the second quarter of the flood to the last one memory may grow by so much.
const GROWTH_MAX: f64 = 1.1;
/// All is as it was within so long.
const CALM_S_MAX: f64 = 5.0;
/// A flood of less than this much of what it was to be is none, if it was the generator's processor that couldn't make more.
const OFFERED_MIN: f64 = 0.9;
const GENERATOR_BUSY: f64 = 0.95;

/// How regular callers stood in one part of the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// Calls that were made.
    pub calls: usize,
    /// Of them answered at the first try.
    pub answered: usize,
    /// Turned away at once.
    pub refused: usize,
    /// Half of the answered calls took at most so long.
    pub p50_ms: Option<f64>,
    /// Ninety-nine of a hundred.
    pub p99_ms: Option<f64>,
    /// The most memory that a node had.
    pub rss_mib: f64,
}

impl Standing {
    pub(super) fn of(calls: &Observed, rss_mib: f64) -> Self {
        Self {
            calls: calls.0.len(),
            answered: calls.count(End::Answered),
            refused: calls.count(End::Refused),
            p50_ms: calls.answered_ms(500),
            p99_ms: calls.answered_ms(990),
            rss_mib,
        }
    }
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OverloadResult {
    /// What there was too much of.
    pub flood: String,
    /// In which mode.
    pub mode: String,
    /// Whether the nodes held classes apart.
    pub limits: bool,
    /// So many times what can be served was wanted.
    pub factor: f64,
    /// Calls a second that could be served.
    pub sustainable_per_s: f64,
    /// Calls a second that were due in the flood.
    pub wanted_per_s: f64,
    /// The share of its own cores that the load generator used in the flood.
    pub generator_cores: f64,
    /// Calls a second that were made. Where it is less than was due, all callers were waiting for the nodes.
    pub offered_per_s: f64,
    /// Of them served.
    pub admitted_per_s: f64,
    /// As the flood's own callers saw it.
    pub admitted_p50_ms: Option<f64>,
    /// Likewise.
    pub admitted_p99_ms: Option<f64>,
    /// Calls a second that were served after it.
    pub after_per_s: f64,
    /// What the flood's other calls heard.
    pub turned_away: BTreeMap<String, u64>,
    /// Regular callers beside as much as can be served.
    pub usual: Standing,
    /// In the flood.
    pub flooded: Standing,
    /// After it.
    pub after: Standing,
    /// From the end of the flood until all was as before.
    pub calm_after_s: Option<f64>,
    /// Healthy instances.
    pub instances: usize,
    /// Of them lost.
    pub lost: u64,
    /// Ninety-nine of a hundred signs of life in the flood were answered within so long.
    pub beat_p99_ms: Option<f64>,
    /// Signs of life that failed, and were given again.
    pub beats_failed: usize,
    /// The most memory of a node in the flood's second quarter.
    pub rss_early_mib: f64,
    /// In its last.
    pub rss_late_mib: f64,
    /// Cores that others kept busy.
    pub foreign_cores: f64,
    /// Whether that was too much.
    pub void: bool,
}

impl OverloadResult {
    /// Whether the run says nothing: others used the machine, or the flood wasn't what it was to be.
    #[must_use]
    pub fn is_void(&self) -> bool {
        let is_small = self.offered_per_s < self.wanted_per_s * OFFERED_MIN;
        self.void || (is_small && self.generator_cores > GENERATOR_BUSY)
    }

    /// Whether everything was kept.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        promises(self).iter().all(|promise| promise.kept)
    }
}

struct Promise {
    what: &'static str,
    is: String,
    to_be: String,
    kept: bool,
}

fn slower(what: &'static str, usual: Option<f64>, flooded: Option<f64>) -> Promise {
    let ratio = by(flooded, usual);
    Promise {
        what,
        is: format!(
            "{} ms, {}x of {} ms",
            figure(flooded),
            figure(ratio),
            figure(usual)
        ),
        to_be: format!("<= {}x", figure(Some(SLOWER_MAX))),
        kept: ratio.is_some_and(|ratio| ratio <= SLOWER_MAX),
    }
}

fn promises(result: &OverloadResult) -> [Promise; 5] {
    let growth = by(Some(result.rss_late_mib), Some(result.rss_early_mib));
    [
        Promise {
            what: "healthy instances lost",
            is: format!("{} of {}", result.lost, result.instances),
            to_be: "0".to_owned(),
            kept: result.lost == 0,
        },
        slower(
            "admitted calls, p50",
            result.usual.p50_ms,
            result.flooded.p50_ms,
        ),
        slower(
            "admitted calls, p99",
            result.usual.p99_ms,
            result.flooded.p99_ms,
        ),
        Promise {
            what: "memory, last quarter of the flood by the second",
            is: format!(
                "{} MiB, {}x of {} MiB",
                figure(Some(result.rss_late_mib)),
                figure(growth),
                figure(Some(result.rss_early_mib))
            ),
            to_be: format!("<= {}x", figure(Some(GROWTH_MAX))),
            kept: growth.is_some_and(|growth| growth <= GROWTH_MAX),
        },
        Promise {
            what: "as before, after",
            is: result
                .calm_after_s
                .map_or("not within the run".to_owned(), |s| format!("{s:.1} s")),
            to_be: format!("<= {CALM_S_MAX:.0} s"),
            kept: result.calm_after_s.is_some_and(|s| s <= CALM_S_MAX),
        },
    ]
}

/// The result as rows of a table: what, how it is, how it is to be, and the verdict.
#[must_use]
pub fn rows(result: &OverloadResult) -> Vec<[String; 4]> {
    let shown = |what: &str, is: String| [what.to_owned(), is, String::new(), String::new()];
    let per_s = |calls: f64| format!("{} /s", figure(Some(calls)));
    let regular = |standing: &Standing| {
        let (answered, calls) = (standing.answered, standing.calls);
        format!(
            "{answered} of {calls} at the first try, {} turned away",
            standing.refused
        )
    };
    let mut rows = vec![
        shown("can be served", per_s(result.sustainable_per_s)),
        shown(
            "due in the flood, and made",
            format!(
                "{}, {}; the rest found all callers waiting",
                per_s(result.wanted_per_s),
                per_s(result.offered_per_s)
            ),
        ),
        shown("of them served", per_s(result.admitted_per_s)),
        shown("served after it", per_s(result.after_per_s)),
        shown("regular callers before", regular(&result.usual)),
        shown("regular callers in the flood", regular(&result.flooded)),
        shown("regular callers after it", regular(&result.after)),
        shown(
            "signs of life in the flood, p99",
            format!(
                "{} ms, {} failed",
                figure(result.beat_p99_ms),
                result.beats_failed
            ),
        ),
    ];
    rows.extend(promises(result).map(|promise| {
        let verdict = match (result.is_void(), promise.kept) {
            (true, _) => "void",
            (false, true) => "kept",
            (false, false) => "broken",
        };
        [
            promise.what.to_owned(),
            promise.is,
            promise.to_be,
            verdict.to_owned(),
        ]
    }));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(p99_ms: f64) -> Standing {
        Standing {
            calls: 100,
            answered: 90,
            refused: 10,
            p50_ms: Some(2.0),
            p99_ms: Some(p99_ms),
            rss_mib: 50.0,
        }
    }

    fn result() -> OverloadResult {
        OverloadResult {
            flood: "write".to_owned(),
            mode: "strong".to_owned(),
            limits: true,
            factor: 20.0,
            sustainable_per_s: 100.0,
            wanted_per_s: 2_000.0,
            generator_cores: 0.7,
            offered_per_s: 1_990.0,
            admitted_per_s: 90.0,
            admitted_p50_ms: Some(3.0),
            admitted_p99_ms: Some(9.0),
            after_per_s: 100.0,
            turned_away: BTreeMap::new(),
            usual: standing(10.0),
            flooded: standing(29.0),
            after: standing(10.0),
            calm_after_s: Some(1.5),
            instances: 60,
            lost: 0,
            beat_p99_ms: Some(20.0),
            beats_failed: 0,
            rss_early_mib: 50.0,
            rss_late_mib: 52.0,
            foreign_cores: 0.0,
            void: false,
        }
    }

    #[test]
    fn each_promise_can_be_broken() {
        assert!(result().is_kept() && !result().is_void());
        let broken = [
            OverloadResult {
                lost: 1,
                ..result()
            },
            OverloadResult {
                flooded: standing(31.0),
                ..result()
            },
            OverloadResult {
                rss_late_mib: 60.0,
                ..result()
            },
            OverloadResult {
                calm_after_s: None,
                ..result()
            },
            OverloadResult {
                calm_after_s: Some(6.0),
                ..result()
            },
        ];
        for result in broken {
            assert!(!result.is_kept(), "{result:?}");
            let rows = rows(&result);
            assert_eq!(
                rows.iter().filter(|row| row[3] == "broken").count(),
                1,
                "{rows:?}"
            );
        }
    }

    #[test]
    fn a_flood_that_is_none_proves_nothing() {
        let result = OverloadResult {
            offered_per_s: 1_000.0,
            ..result()
        };
        assert!(!result.is_void(), "the nodes let its callers wait");
        let result = OverloadResult {
            generator_cores: 0.99,
            ..result
        };
        assert!(result.is_void());
        assert!(rows(&result).iter().any(|row| row[3] == "void"));
    }
}
