//! What a person sees while a comparison runs, on standard error: a bar on a terminal, else a line now and then.
//!
//! Not the report. Draws what the world tells in [`Live`].

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::world::cluster::Live;

const DRAW_INTERVAL: Duration = Duration::from_millis(200);
/// Where there is no terminal: a line for each stage, and one so often within a stage.
const DRAWS_PER_LINE: u32 = 25;

/// A progress display that runs until it is stopped.
pub(super) struct Progress {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Progress {
    /// Starts drawing.
    pub(super) fn start(label: &str, live: Arc<Live>) -> Self {
        let stop = CancellationToken::new();
        let draws = stop.clone();
        let label = label.to_owned();
        let task = if std::io::stderr().is_terminal() {
            tokio::spawn(async move { draw_bar(&label, &live, draws).await })
        } else {
            tokio::spawn(async move { draw_lines(&label, &live, draws).await })
        };
        Self { stop, task }
    }

    /// Stops drawing and leaves the line clean.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        // A drawing task that failed is no reason to lose the run.
        let _ = self.task.await;
    }
}

/// Says a line to the person.
#[expect(clippy::print_stderr, reason = "the lab talks to people while it runs")]
pub(super) fn say(line: &str) {
    eprintln!("{line}");
}

async fn draw_bar(label: &str, live: &Live, stop: CancellationToken) {
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{prefix:>8} {bar:30} {percent:>3} %  {msg}");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.set_prefix(label.to_owned());
    let mut ticks = ticks();
    while !stop.is_cancelled() {
        ticks.tick().await;
        let (done, total) = live.progress();
        bar.set_length(total.max(1));
        bar.set_position(done);
        bar.set_message(describe(live));
    }
    bar.finish_and_clear();
}

async fn draw_lines(label: &str, live: &Live, stop: CancellationToken) {
    let (mut last_stage, mut draws) = (String::new(), 0);
    let mut ticks = ticks();
    while !stop.is_cancelled() {
        ticks.tick().await;
        let stage = live.stage();
        draws += 1;
        let due = live.progress().1 > 0 && draws >= DRAWS_PER_LINE;
        if stage != last_stage || due {
            say(&format!("{}: {}", label, describe(live)));
            (last_stage, draws) = (stage, 0);
        }
    }
}

fn ticks() -> tokio::time::Interval {
    let mut ticks = interval(DRAW_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

fn describe(live: &Live) -> String {
    let ((done, total), counts, stage) = (live.progress(), live.counts(), live.stage());
    if total == 0 {
        return stage;
    }
    let refused = counts.refused + counts.held_back;
    format!(
        "{stage}; {done} of {total}: {} ok, {refused} refused, {} unknown",
        counts.ok, counts.unknown
    )
}
