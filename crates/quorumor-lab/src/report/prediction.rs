//! What theory says, for a chart: a curve or points with their source, drawn dashed beside what was measured.
//!
//! Not a calculation: whoever knows the law fills it in. Called by the charts.

use serde::{Deserialize, Serialize};

/// The chart that a prediction belongs to, and so the units of its points.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Charted {
    /// x: seconds from time zero of the workload; y: latency in milliseconds.
    Latency,
    /// x: seconds from time zero; y: answered operations per second.
    Throughput,
    /// x: seconds from time zero; y: answered share of the operations due, 0 to 1.
    Availability,
    /// x: milliseconds since the acknowledgement, no fault in force; y: probability that a read is fresh, 0 to 1.
    Freshness,
    /// As [`Charted::Freshness`], with a fault in force.
    FreshnessFaulted,
    /// x: milliseconds since the last heal; y: share of the nodes that are equal, 0 to 1.
    NodesEqual,
    /// x: milliseconds since its acknowledgement; y: share of the writes that every later read saw, 0 to 1.
    WritesSeen,
}

/// A predicted curve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Prediction {
    /// Where it is drawn.
    pub chart: Charted,
    /// The label of the column that it is about; none = every one.
    #[serde(default)]
    pub column: Option<String>,
    /// What it says, for people.
    pub label: String,
    /// The law and where it is from.
    pub source: String,
    /// Its points in order of x.
    pub points: Vec<(f64, f64)>,
}
