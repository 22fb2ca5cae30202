//! A line chart as an SVG file of its own, for documents: a few lines, two axes, a legend.
//!
//! Not the comparison's figure (`plot.rs`), which lives inside a page and takes its style from there.

use std::fmt::Write;

use super::html::Escaped;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 52.0;
/// Lines beyond these share colours.
const COLOURS: [&str; 8] = [
    "#1f6fb2", "#d1495b", "#2a9d64", "#b07aa1", "#e08e2b", "#4c9aa8", "#7a6a58", "#555555",
];

/// How an axis maps values to places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Equal steps for equal differences.
    Linear,
    /// Equal steps for equal ratios; values are above 0.
    Log,
}

/// One axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// What it shows, with its unit.
    pub label: String,
    /// How.
    pub scale: Scale,
    /// From where to where; `None` for what the lines need.
    pub range: Option<(f64, f64)>,
}

/// How a line is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stroke {
    /// A line alone.
    Plain,
    /// A line with a dot at each point.
    Dotted,
    /// A broken grey line, for what is only compared with.
    Reference,
}

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Its name in the legend; lines of the name before share its colour and aren't named again.
    pub name: String,
    /// How it is drawn.
    pub stroke: Stroke,
    /// Its points.
    pub points: Vec<(f64, f64)>,
}

/// A chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// How that was made.
    pub subtitle: String,
    /// Along the width.
    pub x: Axis,
    /// Along the height.
    pub y: Axis,
    /// What is drawn.
    pub lines: Vec<Line>,
}

/// An axis whose range is known.
struct Span {
    scale: Scale,
    low: f64,
    high: f64,
}

impl Span {
    fn new(axis: &Axis, values: impl Iterator<Item = f64>) -> Self {
        let (mut low, mut high) = axis.range.unwrap_or_else(|| {
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                (low.min(value), high.max(value))
            })
        });
        if !low.is_finite() || !high.is_finite() {
            (low, high) = (1.0, 10.0);
        }
        match axis.scale {
            Scale::Linear => {
                low = low.min(0.0);
                high = high.max(low + 1e-9);
            }
            Scale::Log => {
                low = 10f64.powf(low.max(1e-9).log10().floor());
                high = 10f64.powf(high.max(low * 1.01).log10().ceil());
            }
        }
        Self {
            scale: axis.scale,
            low,
            high,
        }
    }

    fn share(&self, value: f64) -> f64 {
        let share = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log => (value.max(1e-9) / self.low).log10() / (self.high / self.low).log10(),
        };
        share.clamp(0.0, 1.0)
    }

    fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => {
                let step = step(self.high - self.low);
                let count = ((self.high - self.low) / step + 1e-6).floor() as usize;
                (0..=count).map(|i| self.low + i as f64 * step).collect()
            }
            Scale::Log => {
                let decades = (self.high / self.low).log10().round() as i32;
                (0..=decades).map(|i| self.low * 10f64.powi(i)).collect()
            }
        }
    }
}

/// A round number that cuts a span into about six.
fn step(span: f64) -> f64 {
    let rough = span / 6.0;
    let decade = 10f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * decade)
        .find(|step| *step >= rough)
        .unwrap_or(10.0 * decade)
}

impl Chart {
    /// The chart as an SVG document.
    #[must_use]
    pub fn render(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| line.points.iter());
        let across = Span::new(&self.x, points().map(|point| point.0));
        let up = Span::new(&self.y, points().map(|point| point.1));
        let mut body = String::new();
        self.axes(&mut body, &across, &up);
        let mut colours: Vec<&str> = Vec::new();
        for line in &self.lines {
            let seen = colours.iter().position(|name| *name == line.name);
            let colour = seen.unwrap_or_else(|| {
                colours.push(&line.name);
                colours.len() - 1
            });
            draw(&mut body, line, colour, &across, &up);
            if seen.is_none() {
                legend(&mut body, line, colour);
            }
        }
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n\
             <text x=\"{LEFT}\" y=\"18\" font-size=\"14\" font-weight=\"bold\">{title}</text>\n\
             <text x=\"{LEFT}\" y=\"34\" fill=\"#666\">{subtitle}</text>\n{body}</svg>\n",
            title = Escaped(&self.title),
            subtitle = Escaped(&self.subtitle),
        )
    }

    fn axes(&self, body: &mut String, across: &Span, up: &Span) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for tick in across.ticks() {
            let x = place_x(across, tick);
            let _ = writeln!(
                body,
                "<path d=\"M{x:.1} {TOP}V{bottom}\" stroke=\"#eee\"/><text x=\"{x:.1}\" y=\"{:.1}\" \
                 text-anchor=\"middle\" fill=\"#444\">{}</text>",
                bottom + 16.0,
                number(tick)
            );
        }
        for tick in up.ticks() {
            let y = place_y(up, tick);
            let _ = writeln!(
                body,
                "<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"#eee\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" \
                 fill=\"#444\">{}</text>",
                LEFT - 6.0,
                y + 4.0,
                number(tick)
            );
        }
        let _ = writeln!(
            body,
            "<path d=\"M{LEFT} {TOP}V{bottom}H{right}\" fill=\"none\" stroke=\"#444\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
             <text transform=\"translate(16 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            f64::midpoint(LEFT, right),
            HEIGHT - 14.0,
            Escaped(&self.x.label),
            f64::midpoint(TOP, bottom),
            Escaped(&self.y.label)
        );
    }
}

fn place_x(across: &Span, value: f64) -> f64 {
    LEFT + (WIDTH - LEFT - RIGHT) * across.share(value)
}

fn place_y(up: &Span, value: f64) -> f64 {
    HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * up.share(value)
}

fn pen(stroke: Stroke, colour: usize) -> (&'static str, &'static str) {
    match stroke {
        Stroke::Plain | Stroke::Dotted => (COLOURS[colour % COLOURS.len()], ""),
        Stroke::Reference => ("#888", " stroke-dasharray=\"5 4\""),
    }
}

fn draw(body: &mut String, line: &Line, colour: usize, across: &Span, up: &Span) {
    let (pen, dashes) = pen(line.stroke, colour);
    let mut path = String::new();
    let mut dots = String::new();
    for (i, (x, y)) in line.points.iter().enumerate() {
        let (x, y) = (place_x(across, *x), place_y(up, *y));
        let command = if i == 0 { 'M' } else { 'L' };
        let _ = write!(path, "{command}{x:.1} {y:.1}");
        if line.stroke == Stroke::Dotted {
            let _ = write!(
                dots,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{pen}\"/>"
            );
        }
    }
    let _ = writeln!(
        body,
        "<path d=\"{path}\" fill=\"none\" stroke=\"{pen}\" stroke-width=\"1.6\"{dashes}/>{dots}"
    );
}

fn legend(body: &mut String, line: &Line, place: usize) {
    let (pen, dashes) = pen(line.stroke, place);
    let (x, y) = (WIDTH - RIGHT + 12.0, TOP + 10.0 + 18.0 * place as f64);
    let _ = writeln!(
        body,
        "<path d=\"M{x} {y}h22\" stroke=\"{pen}\" stroke-width=\"2\"{dashes}/><text x=\"{}\" y=\"{}\">{}</text>",
        x + 28.0,
        y + 4.0,
        Escaped(&line.name)
    );
}

/// A tick's number without needless zeros.
fn number(value: f64) -> String {
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(scale: Scale) -> Axis {
        Axis {
            label: "nodes & more".to_owned(),
            scale,
            range: None,
        }
    }

    #[test]
    fn a_chart_holds_its_lines_and_escapes_its_words() {
        let line = |name: &str, stroke| Line {
            name: name.to_owned(),
            stroke,
            points: vec![(10.0, 1.0), (100.0, 3.0), (1_000.0, 5.0)],
        };
        let svg = Chart {
            title: "a < b".to_owned(),
            subtitle: String::new(),
            x: axis(Scale::Log),
            y: axis(Scale::Linear),
            lines: vec![
                line("seed 1", Stroke::Dotted),
                line("log", Stroke::Reference),
                line("seed 1", Stroke::Plain),
            ],
        }
        .render();
        assert!(svg.contains("a &lt; b") && svg.contains("nodes &amp; more"));
        assert_eq!(svg.matches("seed 1").count(), 1, "named once");
        assert_eq!(svg.matches("<circle").count(), 3);
        assert!(svg.contains(">10<") && svg.contains(">1000<"));
    }
}
