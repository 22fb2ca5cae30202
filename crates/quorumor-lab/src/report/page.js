// Zoom and hover for the charts over time. The page says everything without it; nothing is fetched.
(function () {
  "use strict";
  var tools = document.getElementById("tools");
  if (!tools) return;
  var whole = Number(tools.dataset.duration), UNITS = 10000, LEAST = 20000;
  var plots = Array.from(document.querySelectorAll("figure.timed .plot"));
  var readout = document.getElementById("readout"), hint = readout.textContent;
  var from = 0, to = whole;
  tools.hidden = false;

  function time(us, step) {
    var digits = step >= 1e6 ? 0 : step >= 1e5 ? 1 : step >= 1e4 ? 2 : 3;
    return (us / 1e6).toFixed(digits) + " s";
  }
  function place(element) {
    var left = (Number(element.dataset.from) - from) / (to - from) * 100;
    var right = (Number(element.dataset.to) - from) / (to - from) * 100;
    left = Math.max(0, left); right = Math.min(100, right);
    element.style.display = right > left ? "" : "none";
    element.style.left = left + "%";
    element.style.width = right - left + "%";
  }
  function show(a, b) {
    var width = Math.min(whole, Math.max(LEAST, b - a));
    from = Math.max(0, Math.min(whole - width, a)); to = from + width;
    var x = from / whole * UNITS, w = width / whole * UNITS;
    plots.forEach(function (plot) {
      var svg = plot.querySelector("svg"), box = svg.viewBox.baseVal;
      svg.setAttribute("viewBox", x + " 0 " + w + " " + box.height);
    });
    document.querySelectorAll("figure.timed .word, figure.timed .phases span").forEach(place);
    var step = [1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6, 2e6, 5e6, 1e7, 2e7, 6e7, 1.2e8, 3e8, 6e8, 3.6e9]
      .find(function (step) { return width / step <= 9; });
    var ticks = "";
    for (var at = Math.ceil(from / step) * step; at <= to; at += step)
      ticks += '<span' + ((at - from) / width > 0.97 ? ' class="end"' : "") + ' style="left:' + (at - from) / width * 100 + '%">' + time(at, step) + "</span>";
    document.querySelectorAll("figure.timed .x.time").forEach(function (axis) { axis.innerHTML = ticks; });
  }
  function said() { readout.textContent = "Shown: " + time(from, 1e4) + " to " + time(to, 1e4) + "."; }
  tools.addEventListener("click", function (event) {
    var button = event.target.closest("button"), width = to - from, middle = (from + to) / 2;
    if (!button) return;
    if (button.dataset.from) show(Number(button.dataset.from), Number(button.dataset.to));
    else if (button.dataset.do === "in") show(middle - width / 4, middle + width / 4);
    else if (button.dataset.do === "out") show(middle - width, middle + width);
    else if (button.dataset.do === "back") show(from - width / 2, to - width / 2);
    else if (button.dataset.do === "on") show(from + width / 2, to + width / 2);
    else show(0, whole);
    said();
  });

  // The points of a scatter are read back from its paths: the page holds them once.
  function points(plot) {
    if (plot.points) return plot.points;
    plot.points = [];
    [["ok", "answered"], ["refused", "refused"], ["unknown", "outcome unknown"]].forEach(function (kind) {
      var path = plot.querySelector("path." + kind[0]), offset = kind[0] === "refused" ? 4 : 0, found;
      var each = /M(-?[\d.]+) (-?[\d.]+)/g, text = path ? path.getAttribute("d") : "";
      while ((found = each.exec(text))) plot.points.push([Number(found[1]), Number(found[2]) + offset, kind[1]]);
    });
    return plot.points;
  }
  function nearest(plot, event, box) {
    var best = null, bestFar = 14 * 14, x = event.clientX - box.left, y = event.clientY - box.top;
    var unit = box.width / ((to - from) / whole * UNITS), first = from / whole * UNITS;
    points(plot).forEach(function (point) {
      var dx = (point[0] - first) * unit - x, dy = point[1] - y, far = dx * dx + dy * dy;
      if (far < bestFar) { bestFar = far; best = point; }
    });
    return best;
  }
  function waited(plot, y) {
    var low = Number(plot.dataset.low), high = Number(plot.dataset.high);
    var room = Number(plot.dataset.room), height = plot.querySelector("svg").viewBox.baseVal.height - room;
    var us = Math.pow(10, low + (1 - (y - room) / height) * (high - low));
    return us < 1e6 ? (us / 1e3).toPrecision(3) + " ms" : (us / 1e6).toPrecision(3) + " s";
  }
  var cursors = plots.map(function (plot) {
    var line = document.createElement("div");
    line.className = "cursor"; line.hidden = true; plot.appendChild(line);
    return line;
  });
  var range = document.createElement("div"), began = null;
  range.className = "range";
  plots.forEach(function (plot) {
    var name = plot.parentNode.querySelector(".name b").textContent;
    function at(event) {
      var box = plot.getBoundingClientRect();
      return from + Math.max(0, Math.min(1, (event.clientX - box.left) / box.width)) * (to - from);
    }
    plot.addEventListener("pointermove", function (event) {
      var box = plot.getBoundingClientRect(), share = (at(event) - from) / (to - from) * 100;
      cursors.forEach(function (line) { line.hidden = false; line.style.left = share + "%"; });
      var words = name + " at " + time(at(event), 1e3);
      if (plot.dataset.low !== undefined) {
        var point = nearest(plot, event, box);
        if (point) words = name + ": due at " + time(point[0] / UNITS * whole, 1e3) + ", " + point[2] + " after " + waited(plot, point[1]);
      }
      readout.textContent = words + ".";
      if (began !== null) {
        var a = Math.min(began, at(event)), b = Math.max(began, at(event));
        range.style.left = (a - from) / (to - from) * 100 + "%";
        range.style.width = (b - a) / (to - from) * 100 + "%";
      }
    });
    plot.addEventListener("pointerleave", function () {
      cursors.forEach(function (line) { line.hidden = true; });
      if (began === null) readout.textContent = hint;
    });
    plot.addEventListener("pointerdown", function (event) {
      // A finger scrolls the page; it has the buttons.
      if (event.pointerType === "touch" || event.button !== 0) return;
      began = at(event); range.style.width = "0"; plot.appendChild(range);
      plot.setPointerCapture(event.pointerId); event.preventDefault();
    });
    plot.addEventListener("pointerup", function (event) {
      if (began === null) return;
      var ended = at(event), a = Math.min(began, ended), b = Math.max(began, ended);
      began = null; range.remove();
      if (b - a > (to - from) / 100) { show(a, b); said(); }
    });
    plot.addEventListener("pointercancel", function () { began = null; range.remove(); });
    plot.addEventListener("dblclick", function () { show(0, whole); said(); });
  });
  window.addEventListener("beforeprint", function () {
    show(0, whole);
    document.querySelectorAll("#evidence details").forEach(function (details) { details.open = true; });
  });
})();
