//! Our members' protocol beside foca 2.0 on one virtual network, in one run: `cargo bench -p quorumor-lab --bench foca`.
//!
//! One node dies after five seconds of rest; both then run for as long. Foca runs with its LAN defaults for the cluster's size,
//! which like ours are memberlist's. Bytes count 28 of IP and UDP headers a datagram for both, and for ours the envelope of 36 that
//! servers put around it: foca leaves cluster, sender and checksum to its user.
//!
//! `-- --quick` leaves out a thousand nodes under loss and ten thousand at rest, which take foca minutes.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

mod fleet;
mod identity;

use quorumor_lab::world::scale::{Options, Scenario, run};

use fleet::Fleet;

const SECOND: u64 = 1_000_000;

/// What both are measured by.
#[derive(Clone, Copy, Debug)]
struct Figures {
    all_down_s: Option<f64>,
    /// Beliefs that a running node is down; with foca also lives that a running node gave up because it was told so.
    false_downs: u64,
    bytes_per_node_s: f64,
    /// Of computing, which doesn't grow when others use the machine; of wall time where the system doesn't tell.
    cpu_s_per_sim_s: f64,
}

fn ours(options: &Options) -> Figures {
    let outcome = run(options, &mut |_| {}).expect("the benchmark's options can be run");
    Figures {
        all_down_s: outcome.all_down_s,
        false_downs: outcome.false_downs,
        bytes_per_node_s: outcome.bytes_per_node_s,
        cpu_s_per_sim_s: outcome.cpu_s_per_sim_s.unwrap_or(outcome.wall_s_per_sim_s),
    }
}

fn theirs(options: &Options) -> Figures {
    let mut fleet = Fleet::form(options);
    fleet.until(options.settle_us);
    if options.crashes > 0 {
        fleet.until(options.settle_us + SECOND / 2);
        fleet.kill();
    }
    fleet.watch(options.settle_us + options.duration_us)
}

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    println!(
        "{:>6} {:>5}  {:>22}  {:>22}  {:>25}  {:>25}",
        "nodes",
        "loss",
        "down everywhere, s",
        "false downs",
        "bytes a node and second",
        "computing s a virtual s"
    );
    let crash = |nodes, loss_percent: u32| Options {
        loss_ppm: loss_percent * 10_000,
        duration_us: 25 * SECOND,
        ..Options::new(Scenario::Crash, nodes, 1)
    };
    for loss in [0, 5, 10] {
        compare(&crash(100, loss));
    }
    compare(&crash(1_000, 0));
    if quick {
        return;
    }
    for loss in [5, 10] {
        compare(&crash(1_000, loss));
    }
    compare(&Options {
        settle_us: 5 * SECOND,
        duration_us: 10 * SECOND,
        ..Options::new(Scenario::Idle, 10_000, 1)
    });
}

/// One line: foca's figure, ours, and how many times ours foca's is.
fn compare(options: &Options) {
    let (theirs, ours) = (theirs(options), ours(options));
    let seconds = |figure: Option<f64>| figure.map_or("-".to_owned(), |s| format!("{s:.1}"));
    let ratio = |theirs: f64, ours: f64| format!("{:.1}x", theirs / ours);
    let down = match (theirs.all_down_s, ours.all_down_s) {
        (Some(theirs), Some(ours)) => ratio(theirs, ours),
        (_, _) => "-".to_owned(),
    };
    println!(
        "{:>6} {:>4}%  {:>22}  {:>22}  {:>25}  {:>25}",
        options.nodes,
        options.loss_ppm / 10_000,
        format!(
            "{} / {} = {down}",
            seconds(theirs.all_down_s),
            seconds(ours.all_down_s)
        ),
        format!("{} / {}", theirs.false_downs, ours.false_downs),
        format!(
            "{:.0} / {:.0} = {}",
            theirs.bytes_per_node_s,
            ours.bytes_per_node_s,
            ratio(theirs.bytes_per_node_s, ours.bytes_per_node_s)
        ),
        format!(
            "{:.3} / {:.3} = {}",
            theirs.cpu_s_per_sim_s,
            ours.cpu_s_per_sim_s,
            ratio(theirs.cpu_s_per_sim_s, ours.cpu_s_per_sim_s)
        ),
    );
}
