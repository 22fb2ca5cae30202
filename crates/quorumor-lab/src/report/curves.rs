//! Curves over a time that is not the run's: how likely a read is fresh after a write, and how fast all becomes equal.
//!
//! All columns lie in one chart, all counted runs together. Called by the page.

use std::fmt::Write;

use super::html::{Escaped, element, text};
use super::prediction::{Charted, Prediction};
use super::scale::{LogScale, WIDTH, percent_ticks};
use super::words::{count, duration};
use super::{Column, Comparison};
use crate::analyse::{FreshBin, Freshness};

const HEIGHT: f64 = 170.0;
/// A bin with fewer reads is only in the table: its share says little.
const READS_MIN: u64 = 10;

/// A curve, and the figures behind it.
struct Curve {
    /// Which column it is of.
    number: usize,
    label: String,
    /// Microseconds and share.
    points: Vec<(f64, f64)>,
    /// Whether the share holds until the next point.
    is_stepped: bool,
}

/// A chart of curves.
struct Chart<'a> {
    title: &'a str,
    explained: &'a str,
    across: &'a str,
    curves: Vec<Curve>,
    predictions: Vec<&'a Prediction>,
    table: String,
}

/// The chance of a fresh read: with no fault in force, and with one.
pub(super) fn freshness(comparison: &Comparison) -> String {
    let calm = fresh_chart(
        comparison,
        "Fresh reads while no fault held",
        Charted::Freshness,
        |f| &f.calm,
    );
    let faulted = fresh_chart(
        comparison,
        "Fresh reads while a fault held",
        Charted::FreshnessFaulted,
        |f| &f.faulted,
    );
    calm + &faulted
}

fn fresh_chart(
    comparison: &Comparison,
    title: &str,
    chart: Charted,
    of: fn(&Freshness) -> &Vec<FreshBin>,
) -> String {
    let pooled: Vec<Vec<FreshBin>> = comparison.columns.iter().map(|c| pool(c, of)).collect();
    let curve = |(number, column): (usize, &Column)| {
        let bins = pooled[number].iter().filter(|bin| bin.reads >= READS_MIN);
        let points = bins.map(|bin| {
            // The middle of a bin on a logarithmic axis.
            let middle = ((bin.from_us.max(500) as f64) * bin.to_us as f64).sqrt();
            (middle, bin.fresh as f64 / bin.reads as f64)
        });
        Curve {
            number,
            label: column.label.clone(),
            points: points.collect(),
            is_stepped: false,
        }
    };
    let curves = comparison.columns.iter().enumerate().map(curve).collect();
    draw(&Chart {
        title,
        explained: "The share of reads that saw everything acknowledged before they began, by how long ago the newest of it was.",
        across: "time since the newest acknowledged write to the key",
        curves,
        predictions: predictions(comparison, chart),
        table: fresh_table(comparison, &pooled),
    })
}

fn pool(column: &Column, of: fn(&Freshness) -> &Vec<FreshBin>) -> Vec<FreshBin> {
    let mut pooled: Vec<FreshBin> = Vec::new();
    for bin in column
        .counted()
        .into_iter()
        .flat_map(|run| of(&run.freshness))
    {
        match pooled.iter_mut().find(|known| known.to_us == bin.to_us) {
            Some(known) => {
                known.fresh += bin.fresh;
                known.reads += bin.reads;
            }
            None => pooled.push(*bin),
        }
    }
    pooled.sort_by_key(|bin| bin.from_us);
    pooled
}

fn fresh_table(comparison: &Comparison, pooled: &[Vec<FreshBin>]) -> String {
    let mut bins: Vec<(u64, u64)> = pooled
        .iter()
        .flatten()
        .map(|b| (b.from_us, b.to_us))
        .collect();
    bins.sort_unstable();
    bins.dedup();
    let row = |&(from_us, to_us): &(u64, u64)| {
        let cells = pooled.iter().map(|bins| {
            let bin = bins.iter().find(|bin| bin.to_us == to_us);
            let cell = bin.map_or("-".to_owned(), |bin| {
                format!("{} of {}", count(bin.fresh), count(bin.reads))
            });
            text("td", "", &cell)
        });
        let name = format!("{} to {}", duration(from_us), duration(to_us));
        element("tr", "", &(head(&name) + &cells.collect::<String>()))
    };
    table(
        comparison,
        "written",
        &bins.iter().map(row).collect::<String>(),
    )
}

/// How long nodes took to be equal after the heal, and writes to be seen by all reads.
pub(super) fn convergence(comparison: &Comparison) -> String {
    let nodes: Vec<Sample> = comparison.columns.iter().map(nodes_sample).collect();
    let writes: Vec<Sample> = comparison.columns.iter().map(writes_sample).collect();
    let nodes_chart = Chart {
        title: "Nodes equal after the last heal",
        explained: "The share of the nodes that, from then on, held what all ended with, as seen by asking each for a digest of its data.",
        across: "time since the last fault was healed",
        curves: cumulative(comparison, &nodes),
        predictions: predictions(comparison, Charted::NodesEqual),
        table: quantiles(comparison, "nodes", &nodes),
    };
    let writes_chart = Chart {
        title: "Writes seen by every later read",
        explained: "The share of the acknowledged writes that no read missed any more, by the time since they were acknowledged.",
        across: "time since the acknowledgement",
        curves: cumulative(comparison, &writes),
        predictions: predictions(comparison, Charted::WritesSeen),
        table: quantiles(comparison, "writes", &writes),
    };
    draw(&nodes_chart) + &draw(&writes_chart)
}

/// How long each took, sorted, and of how many.
struct Sample {
    times: Vec<u64>,
    of: u64,
}

fn nodes_sample(column: &Column) -> Sample {
    let runs = column.counted();
    let times = runs.iter().flat_map(|run| run.converging.nodes_us.clone());
    let mut times: Vec<u64> = times.collect();
    times.sort_unstable();
    Sample {
        times,
        of: runs.iter().map(|run| run.converging.nodes).sum(),
    }
}

fn writes_sample(column: &Column) -> Sample {
    let runs = column.counted();
    let times = runs.iter().flat_map(|run| run.converging.writes_us.clone());
    let mut times: Vec<u64> = times.collect();
    times.sort_unstable();
    Sample {
        of: times.len() as u64,
        times,
    }
}

/// Within how long which share was there.
fn quantiles(comparison: &Comparison, corner: &str, samples: &[Sample]) -> String {
    let within = |sample: &Sample, share: f64| {
        let place = (sample.of as f64 * share).ceil() as usize;
        sample.times.get(place.checked_sub(1)?).copied()
    };
    let row = |(name, share): (&str, f64)| {
        let cells = samples.iter().map(|sample| {
            let cell = within(sample, share).map_or("-".to_owned(), duration);
            text("td", "", &cell)
        });
        element("tr", "", &(head(name) + &cells.collect::<String>()))
    };
    let rows = [
        ("half within", 0.5),
        ("90 % within", 0.9),
        ("99 % within", 0.99),
        ("all within", 1.0),
    ];
    table(comparison, corner, &rows.map(row).concat())
}

/// The cumulative shares of the samples over time.
fn cumulative(comparison: &Comparison, samples: &[Sample]) -> Vec<Curve> {
    let columns = comparison.columns.iter().zip(samples).enumerate();
    let curve = |(number, (column, sample)): (usize, (&Column, &Sample))| {
        let share = |count: usize| count as f64 / sample.of.max(1) as f64;
        let mut points: Vec<(f64, f64)> = Vec::new();
        for (i, &us) in sample.times.iter().enumerate() {
            if sample.times.get(i + 1) != Some(&us) {
                points.push((us as f64, share(i + 1)));
            }
        }
        Curve {
            number,
            label: column.label.clone(),
            points,
            is_stepped: true,
        }
    };
    columns.map(curve).collect()
}

fn predictions(comparison: &Comparison, chart: Charted) -> Vec<&Prediction> {
    let of_it = |prediction: &&Prediction| prediction.chart == chart;
    comparison.predictions.iter().filter(of_it).collect()
}

fn head(name: &str) -> String {
    format!("<th scope=\"row\">{}</th>", Escaped(name))
}

fn table(comparison: &Comparison, corner: &str, rows: &str) -> String {
    let labels = comparison
        .columns
        .iter()
        .map(|column| column.label.as_str());
    let names: String = std::iter::once(corner)
        .chain(labels)
        .map(|name| format!("<th scope=\"col\">{}</th>", Escaped(name)))
        .collect();
    format!("<table class=\"small\"><thead><tr>{names}</tr></thead><tbody>{rows}</tbody></table>")
}

fn draw(chart: &Chart<'_>) -> String {
    if chart.curves.iter().all(|curve| curve.points.is_empty()) {
        return String::new();
    }
    let measured = chart
        .curves
        .iter()
        .flat_map(|curve| curve.points.iter().map(|p| p.0));
    let foreseen = chart
        .predictions
        .iter()
        .flat_map(|p| p.points.iter().map(|p| p.0 * 1_000.0));
    let scale = LogScale::over(measured.chain(foreseen).map(|us| us as u64));
    let mut marks = String::new();
    for tick in percent_ticks() {
        let _ = write!(
            marks,
            "<path class=\"grid\" d=\"M0 {:.1}H{WIDTH}\"/>",
            y(tick.share)
        );
    }
    for tick in scale.ticks() {
        let _ = write!(
            marks,
            "<path class=\"grid\" d=\"M{:.0} 0V{HEIGHT}\"/>",
            WIDTH * tick.share
        );
    }
    for prediction in &chart.predictions {
        let points = prediction
            .points
            .iter()
            .map(|&(ms, share)| (ms * 1_000.0, share));
        let path = path(points, &scale, false);
        let _ = write!(marks, "<path class=\"predicted\" d=\"{path}\"/>");
    }
    for curve in &chart.curves {
        marks.push_str(&line(curve, &scale));
    }
    let ys = percent_ticks().into_iter().map(|tick| {
        format!(
            "<span style=\"top:{:.1}px\">{}</span>",
            y(tick.share),
            tick.label
        )
    });
    let xs = scale.ticks().into_iter().map(|tick| {
        format!(
            "<span style=\"left:{:.2}%\">{}</span>",
            tick.share * 100.0,
            tick.label
        )
    });
    format!(
        "<figure class=\"curve\"><figcaption><h3>{title}</h3><p class=\"note\">{}</p></figcaption>{}\
         <div class=\"panel\"><div class=\"y\" aria-hidden=\"true\" style=\"height:{HEIGHT}px\">{}</div>\
         <div class=\"plot\" style=\"height:{HEIGHT}px\"><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\" \
         role=\"img\" aria-label=\"{title}; the figures are in the table below\">{marks}</svg></div></div>\
         <div class=\"x over\">{}</div><p class=\"unit over\">{}</p>\
         <details><summary>Figures: {}</summary>{}</details></figure>\n",
        chart.explained,
        legend(chart),
        ys.collect::<String>(),
        xs.collect::<String>(),
        chart.across,
        chart.title.to_lowercase(),
        chart.table,
        title = chart.title,
    )
}

fn y(share: f64) -> f64 {
    // A little air, so that a curve at 100 % is seen whole.
    3.0 + (HEIGHT - 6.0) * (1.0 - share.clamp(0.0, 1.0))
}

/// A path through points of microseconds and shares.
fn path(points: impl Iterator<Item = (f64, f64)>, scale: &LogScale, is_stepped: bool) -> String {
    let mut path = String::new();
    if is_stepped {
        let _ = write!(path, "M0 {:.1}", y(0.0));
    }
    for (i, (us, share)) in points.enumerate() {
        let (x, y) = (WIDTH * scale.share(us), y(share));
        let _ = match (is_stepped, i) {
            (true, _) => write!(path, "H{x:.0}V{y:.1}"),
            (false, 0) => write!(path, "M{x:.0} {y:.1}"),
            (false, _) => write!(path, "L{x:.0} {y:.1}"),
        };
    }
    if is_stepped {
        let _ = write!(path, "H{WIDTH}");
    }
    path
}

fn line(curve: &Curve, scale: &LogScale) -> String {
    if curve.points.is_empty() {
        return String::new();
    }
    let class = curve.number % 6;
    let route = path(curve.points.iter().copied(), scale, curve.is_stepped);
    let mut text = format!("<path class=\"line c{class}\" d=\"{route}\"/>");
    if curve.is_stepped {
        return text;
    }
    for &(us, share) in &curve.points {
        let _ = write!(
            text,
            "<path class=\"point c{class}\" d=\"M{:.0} {:.1}h0\"><title>{}, {}: {:.1} %</title></path>",
            WIDTH * scale.share(us),
            y(share),
            Escaped(&curve.label),
            duration(us as u64),
            share * 100.0
        );
    }
    text
}

fn legend(chart: &Chart<'_>) -> String {
    let sample = |class: &str| {
        format!(
            "<svg class=\"sample\" viewBox=\"0 0 30 8\" aria-hidden=\"true\"><path class=\"{class}\" d=\"M0 4H30\"/></svg>"
        )
    };
    let drawn = chart.curves.iter().filter(|curve| !curve.points.is_empty());
    let mut keys: String = drawn
        .map(|curve| {
            let sample = sample(&format!("line c{}", curve.number % 6));
            format!(
                "<span class=\"key\">{sample}{}</span> ",
                Escaped(&curve.label)
            )
        })
        .collect();
    for prediction in &chart.predictions {
        let _ = write!(
            keys,
            "<span class=\"key\">{}{} ({})</span> ",
            sample("predicted"),
            Escaped(&prediction.label),
            Escaped(&prediction.source)
        );
    }
    element("p", "note", &keys)
}
