//! The pages in a real browser, headless and without a network: axe finds nothing, nothing is asked for from elsewhere, the
//! charts zoom with a script and are whole without one.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::*;

/// Runs axe and tries the buttons; says what came of it to the page around.
const PROBE: &str = r##"
(async function () {
  var report = {
    dark: matchMedia("(prefers-color-scheme: dark)").matches,
    width: innerWidth,
    overflow: document.documentElement.scrollWidth - innerWidth,
    asked: performance.getEntriesByType("resource").map(function (entry) { return entry.name; })
  };
  var found = await axe.run(document, { resultTypes: ["violations"] });
  report.violations = found.violations.map(function (violation) {
    return violation.id + ": " + violation.help + " at " + violation.nodes.slice(0, 3).map(function (node) {
      return node.target.join(" ") + " (" + node.failureSummary + ")";
    }).join("; ");
  });
  report.passes = found.passes.length;
  var tools = document.getElementById("tools");
  if (tools) {
    var box = function () { return document.querySelector("figure.timed svg").getAttribute("viewBox"); };
    var axis = function () { return document.querySelector("figure.timed .x.time").textContent; };
    report.before = [box(), axis()];
    tools.querySelector("[data-do=in]").click();
    report.zoomed = [box(), axis()];
    tools.querySelector("[data-do=all]").click();
    report.after = box();
    var plot = document.querySelector("figure.timed .plot"), rect = plot.getBoundingClientRect();
    plot.dispatchEvent(new PointerEvent("pointermove", { clientX: rect.left + rect.width / 2, clientY: rect.top + 40 }));
    report.readout = document.getElementById("readout").textContent;
  }
  parent.postMessage(JSON.stringify(report), "*");
})();
"##;

/// A page with a frame of some width, which keeps what the probe in it says.
const FRAME: &str = r##"<!doctype html><meta name="color-scheme" content="light dark"><pre id="axe"></pre>
<script>addEventListener("message", function (event) { document.getElementById("axe").textContent = event.data; });</script>
<iframe src="framed.html" style="border:0;width:WIDTHpx;height:900px"></iframe>"##;

/// A browser and axe, or nothing if this machine has none and isn't the gate.
struct Browser {
    program: PathBuf,
    axe: String,
    folder: tempfile::TempDir,
}

impl Browser {
    #[expect(clippy::print_stderr, reason = "a test that is skipped says why")]
    fn find() -> Option<Self> {
        let axe = std::env::var_os("QUORUMOR_TEST_AXE").map(PathBuf::from);
        let program = ["chromium", "chromium-browser", "google-chrome"]
            .into_iter()
            .find(|name| {
                let asked = Command::new(name).arg("--version").output();
                asked.is_ok_and(|output| output.status.success())
            });
        let (Some(axe), Some(program)) = (axe, program) else {
            assert!(
                std::env::var_os("CI").is_none(),
                "the gate must have chromium and say QUORUMOR_TEST_AXE"
            );
            eprintln!("skipped: no chromium, or QUORUMOR_TEST_AXE names no axe.min.js");
            return None;
        };
        Some(Self {
            program: program.into(),
            axe: fs::read_to_string(axe).unwrap(),
            folder: tempfile::tempdir().unwrap(),
        })
    }

    /// The document as the browser has it once the page is done. No name resolves, so nothing can be fetched.
    fn dump(&self, page: &str) -> String {
        self.dump_with(page, &[])
    }

    fn dump_with(&self, page: &str, more: &[&str]) -> String {
        let file = self.folder.path().join("page.html");
        fs::write(&file, page).unwrap();
        let output = Command::new(&self.program)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
            ])
            .args([
                "--host-resolver-rules=MAP * ~NOTFOUND",
                "--virtual-time-budget=60000",
            ])
            .args(["--window-size=1400,1000"])
            .arg(format!(
                "--user-data-dir={}",
                self.folder.path().join("profile").display()
            ))
            .args(more)
            .arg("--dump-dom")
            .arg(format!("file://{}", file.display()))
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// What the probe says of a page in a frame of this width: a window can't be as narrow as a phone.
    fn probe(&self, page: &str, width: u32, is_dark: bool) -> Value {
        let scripts = format!(
            "<script>{}</script><script>{PROBE}</script></body>",
            self.axe
        );
        let framed = page.replacen("</body>", &scripts, 1);
        fs::write(self.folder.path().join("framed.html"), framed).unwrap();
        let outer = FRAME.replace("WIDTH", &width.to_string());
        let scheme = format!(
            "--blink-settings=preferredColorScheme={}",
            u8::from(!is_dark)
        );
        let document = self.dump_with(&outer, &[&scheme]);
        let said = document
            .split_once("<pre id=\"axe\">")
            .map(|(_, rest)| rest);
        let said = said
            .and_then(|rest| rest.split_once("</pre>"))
            .map(|(json, _)| json);
        let json = said.unwrap_or_else(|| panic!("the probe said nothing: {document}"));
        let json = json
            .replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&amp;", "&");
        serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}"))
    }

    /// Axe finds nothing, nothing was fetched, nothing is wider than the screen; in every size and colour.
    fn assert_accessible(&self, name: &str, page: &str) {
        for (width, is_dark) in [(1280, false), (1280, true), (390, false), (390, true)] {
            let report = self.probe(page, width, is_dark);
            let place = format!("{name}, {width} px, dark {is_dark}: {report:#}");
            assert_eq!(report["violations"], serde_json::json!([]), "{place}");
            assert_eq!(report["asked"], serde_json::json!([]), "{place}");
            assert_eq!(report["dark"], Value::Bool(is_dark), "{place}");
            assert_eq!(report["width"], Value::from(width), "{place}");
            assert!(
                report["overflow"].as_i64().is_some_and(|px| px <= 0),
                "{place}"
            );
            assert!(
                report["passes"].as_u64().is_some_and(|passes| passes > 10),
                "{place}"
            );
        }
    }
}

#[test]
fn the_report_has_no_accessibility_violation_in_any_size_or_colour() {
    let Some(browser) = Browser::find() else {
        return;
    };
    browser.assert_accessible("report", &render_html(&crowd()));
}

#[test]
fn the_matrix_has_no_accessibility_violation_in_any_size_or_colour() {
    let Some(browser) = Browser::find() else {
        return;
    };
    let matrix = matrix::tests::catalogue();
    browser.assert_accessible("matrix", &matrix.render_html());
}

#[test]
fn axe_would_find_what_is_wrong() {
    let Some(browser) = Browser::find() else {
        return;
    };
    let page = render_html(&sound());
    let spoilt = page.replace("role=\"img\" aria-label", "role=\"img\" data-label");
    let report = browser.probe(&spoilt, 1280, false);
    let found = report["violations"].to_string();
    assert!(found.contains("svg-img-alt"), "{found}");
}

#[test]
fn the_charts_zoom_and_tell_with_a_script_and_are_whole_without() {
    let Some(browser) = Browser::find() else {
        return;
    };
    let page = render_html(&sound());
    let report = browser.probe(&page, 1280, false);
    assert_ne!(report["before"], report["zoomed"], "{report:#}");
    assert_eq!(report["before"][0], report["after"], "{report:#}");
    assert!(
        report["zoomed"][0]
            .as_str()
            .is_some_and(|view| view.starts_with("2500 0 5000 ")),
        "{report:#}"
    );
    // In the middle of the run, near the top: the toy's reads that waited for an election.
    let readout = report["readout"].as_str().unwrap_or_default();
    assert!(readout.starts_with("strong: due at 20."), "{report:#}");
    assert!(readout.contains("answered after"), "{report:#}");

    let forbidden =
        "<head><meta http-equiv=\"Content-Security-Policy\" content=\"script-src 'none'\">";
    let still = browser.dump(&page.replacen("<head>", forbidden, 1));
    let tools = still.split("id=\"tools\"").nth(1).unwrap();
    assert!(
        tools.split('>').next().unwrap().contains("hidden"),
        "no script ran"
    );
    assert_eq!(still.matches("<svg").count(), page.matches("<svg").count());
    assert!(still.contains("Minority cut off") && still.contains("Repeat it"));
}
