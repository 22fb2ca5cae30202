//! A calibration that can't fail says nothing: laws that are a little off must differ.

use super::row::{Law, moments};
use super::*;

fn law(expected: f64) -> Law {
    Law {
        part: Part::Instrument,
        what: "a die".to_owned(),
        source: "its faces",
        unit: "eyes",
        expected,
        allowance: 0.0,
        why: "nothing beside chance",
        known: None,
    }
}

/// Each face equally often.
fn throws() -> Vec<f64> {
    (0..6_000).map(|throw| f64::from(throw % 6 + 1)).collect()
}

#[test]
fn a_law_agrees_where_it_holds_and_differs_where_it_does_not() {
    assert!(law(3.5).of_mean(&throws()).agrees);
    let off = law(3.6).of_mean(&throws());
    assert!(!off.agrees && off.is_unexplained());
    let known = Law {
        known: Some("loaded"),
        ..law(3.6)
    };
    let known = known.of_mean(&throws());
    assert!(!known.agrees && !known.is_unexplained());
    assert!(law(6.0).of_greatest(&throws()).agrees);
    assert!(!law(5.0).of_greatest(&throws()).agrees);
    assert!(law(0.5).of_count(3_000.0, 6_000.0).agrees);
    assert!(!law(0.5).of_count(3_300.0, 6_000.0).agrees);
}

#[test]
fn nothing_measured_agrees_with_nothing() {
    assert!(!law(0.0).of_mean(&[]).agrees);
    assert!(!law(0.0).of_greatest(&[]).agrees);
    assert!(!law(f64::NAN).of_mean(&throws()).agrees);
    assert!(moments(&[]).0.is_nan());
}

#[test]
fn the_instrument_holds_for_a_few_seeds() {
    let options = CalibrateOptions {
        seeds: 3,
        quick: true,
    };
    let rows = rows_of(Part::Instrument, &options).expect("it runs");
    assert!(rows.len() > 8);
    for row in rows {
        assert!(row.agrees, "{row:#?}");
    }
}

#[test]
fn the_table_names_what_differs() {
    let calibration = Calibration {
        seeds: 3,
        quick: true,
        rows: vec![law(3.5).of_mean(&throws()), law(3.6).of_mean(&throws())],
    };
    let text = calibration.markdown();
    assert!(
        text.contains("| a die | its faces | 3.5 eyes | 3.5 (sd 1.708, n 6000) |"),
        "{text}"
    );
    assert!(text.contains("**DIFFERS**"), "{text}");
    assert!(text.ends_with("2 rows, seeds 0 to 2: 1 agree, 0 differ as is known and explained, 1 differ unexplained."), "{text}");
    assert_eq!(calibration.unexplained().count(), 1);
}
