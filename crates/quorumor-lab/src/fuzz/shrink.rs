//! Shrinking: from a scenario that fails to a smaller one that still does.
//!
//! Faults are left out in halves, then one by one (delta debugging: Zeller and Hildebrandt, 2002), then shortened, then riders and load
//! are taken away. Each step is kept only if the smaller scenario still fails, and is one that a file may hold.

use anyhow::Result;

use crate::scenario::{Fault, Scenario};
use crate::workload::Riders;

/// Faults get no shorter than this.
const LASTS_US_MIN: u64 = 100_000;

/// The smallest scenario that was found within so many runs, `fails` telling whether one still fails.
///
/// # Errors
/// Whatever `fails` couldn't carry out.
pub(super) fn shrink(
    scenario: &Scenario,
    runs: u32,
    fails: &mut dyn FnMut(&Scenario) -> Result<bool>,
) -> Result<Scenario> {
    let mut search = Search {
        smallest: scenario.clone(),
        runs,
        fails,
    };
    search.leave_out_faults()?;
    search.shorten_faults()?;
    search.take_away_load()?;
    Ok(search.smallest)
}

struct Search<'a> {
    smallest: Scenario,
    runs: u32,
    fails: &'a mut dyn FnMut(&Scenario) -> Result<bool>,
}

impl Search<'_> {
    /// Keeps a smaller scenario if it still fails.
    fn keeps(&mut self, smaller: Scenario) -> Result<bool> {
        // What nobody could play again from its file is no help.
        let is_file = Scenario::parse(&smaller.render()).is_ok();
        if self.runs == 0 || smaller == self.smallest || !is_file {
            return Ok(false);
        }
        self.runs -= 1;
        let fails = (self.fails)(&smaller)?;
        if fails {
            self.smallest = smaller;
        }
        Ok(fails)
    }

    fn leave_out_faults(&mut self) -> Result<()> {
        let mut size = self.smallest.faults.len().div_ceil(2);
        while size > 0 {
            let mut from = 0;
            while from < self.smallest.faults.len() {
                let mut faults = self.smallest.faults.clone();
                let to = (from + size).min(faults.len());
                faults.drain(from..to);
                // What was left out is gone: the next ones are in its place.
                if !self.keeps(self.smallest.with_faults(faults))? {
                    from += size;
                }
            }
            size /= 2;
        }
        Ok(())
    }

    fn shorten_faults(&mut self) -> Result<()> {
        for place in 0..self.smallest.faults.len() {
            loop {
                let mut faults = self.smallest.faults.clone();
                let fault: &mut Fault = &mut faults[place];
                let lasts_us = (fault.end_us - fault.start_us) / 2;
                if lasts_us < LASTS_US_MIN {
                    break;
                }
                fault.end_us = fault.start_us + lasts_us;
                if !self.keeps(self.smallest.with_faults(faults))? {
                    break;
                }
            }
        }
        Ok(())
    }

    fn take_away_load(&mut self) -> Result<()> {
        let mut smaller = self.smallest.clone();
        smaller.workload.riders = Riders::default();
        self.keeps(smaller)?;
        while self.smallest.workload.rate >= 20 {
            let mut smaller = self.smallest.clone();
            smaller.workload.rate /= 2;
            if !self.keeps(smaller)? {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{FaultKind, random};

    #[test]
    fn only_what_the_failure_needs_is_left() {
        let scenario = (0..)
            .map(random::scenario)
            .find(|scenario| {
                let pauses = |fault: &Fault| matches!(fault.kind, FaultKind::Pause { .. });
                scenario.faults.len() >= 6 && scenario.faults.iter().any(pauses)
            })
            .unwrap();
        let mut runs = 0;
        let mut fails = |smaller: &Scenario| {
            runs += 1;
            let bites = |fault: &Fault| {
                matches!(fault.kind, FaultKind::Pause { .. })
                    && fault.end_us - fault.start_us >= 150_000
            };
            Ok(smaller.faults.iter().any(bites) && smaller.workload.rate >= 30)
        };
        let smallest = shrink(&scenario, 200, &mut fails).unwrap();
        assert_eq!(smallest.faults.len(), 1);
        let left = &smallest.faults[0];
        assert!(
            (150_000..300_000).contains(&(left.end_us - left.start_us)),
            "{left:?}"
        );
        assert_eq!(smallest.workload.riders, Riders::default());
        assert!((30..60).contains(&smallest.workload.rate) && runs < 60);
        assert_eq!(Scenario::parse(&smallest.render()), Ok(smallest));
    }

    #[test]
    fn the_budget_of_runs_is_kept() {
        let mut runs = 0;
        let mut fails = |_: &Scenario| {
            runs += 1;
            Ok(true)
        };
        shrink(&random::scenario(3), 2, &mut fails).unwrap();
        assert_eq!(runs, 2);
    }
}
