"use strict";
(function () {
  const run = JSON.parse(document.getElementById("run").textContent);
  const all = (selector, within) => Array.from((within || document).querySelectorAll(selector));
  document.documentElement.classList.add("scripts");

  // --- Tables that sort by a click on a heading.
  const sortable = (cell) => {
    const v = cell.dataset.v;
    return v === "inf" ? Infinity : v === "-inf" ? -Infinity : parseFloat(v);
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest("table.sortable th button");
    if (!button) { return; }
    const th = button.parentNode, table = th.closest("table"), body = table.tBodies[0];
    const column = Array.prototype.indexOf.call(th.parentNode.children, th);
    const up = th.getAttribute("aria-sort") !== "ascending";
    all("th", th.parentNode).forEach((other) => other.removeAttribute("aria-sort"));
    th.setAttribute("aria-sort", up ? "ascending" : "descending");
    Array.from(body.rows).sort((a, b) => {
      a = a.cells[column]; b = b.cells[column];
      if (a.dataset.v === undefined || b.dataset.v === undefined) {
        return (up ? 1 : -1) * a.textContent.localeCompare(b.textContent);
      }
      const x = sortable(a), y = sortable(b);
      if (isNaN(x) || isNaN(y)) { return isNaN(x) - isNaN(y); }
      return (up ? 1 : -1) * (x < y ? -1 : x > y ? 1 : 0);
    }).forEach((row) => body.appendChild(row));
  });

  // --- One filter for figures and tables.
  const keys = ["model", "quantizer", "bits", "granularity"];
  const cells = run.cells.map((c) => ({ id: c[0], model: c[1], quantizer: c[2], bits: String(c[3]), granularity: c[4] }));
  const title = (c) => c.model + " " + c.quantizer + " " + c.bits + " bit " + c.granularity;
  const byId = new Map(cells.map((c) => [c.id, c])), byTitle = new Map(cells.map((c) => [title(c), c]));
  const values = {};
  keys.forEach((key) => { values[key] = Array.from(new Set(cells.map((c) => c[key]))); });
  values.bits.sort((a, b) => a - b);
  const longest = (key, text) => values[key].filter((v) => text.includes(v)).sort((a, b) => b.length - a.length)[0];
  // What a figure is of, as far as its title says.
  const titled = (text) => {
    const bits = text.match(/(\d+) bits?\b/);
    return { model: longest("model", text), quantizer: longest("quantizer", text), bits: bits && bits[1], granularity: longest("granularity", text) };
  };
  const figures = all("details.figure-of").map((node) => ({ node: node, of: titled(node.dataset.title) }));
  const rowsOf = (table) => {
    const heads = all("thead th", table).map((th) => th.textContent.trim());
    const columns = keys.map((key) => heads.indexOf(key)), cell = heads.indexOf("cell");
    return Array.from(table.tBodies[0].rows).map((row) => {
      let of = byId.get(row.dataset.cell) || (cell >= 0 && byTitle.get(row.cells[cell].textContent.trim()));
      if (!of) {
        of = {};
        keys.forEach((key, i) => { if (columns[i] >= 0) { of[key] = row.cells[columns[i]].textContent.trim(); } });
      }
      return { node: row, of: of };
    });
  };
  const chosen = {}, words = new Map(), known = new Map();
  const fits = (of) => keys.every((key) => !chosen[key] || !of[key] || of[key] === chosen[key]);
  const sift = (table) => {
    if (!known.has(table)) { known.set(table, rowsOf(table)); }
    const wanted = words.get(table.id) || [];
    known.get(table).forEach((r) => {
      const said = () => Array.from(r.node.cells).slice(0, 6).map((c) => c.textContent.toLowerCase());
      const texts = wanted.length ? said() : [];
      const match = wanted.every((w) => texts.some((c) => /^\d+$/.test(w) ? c === w : c.includes(w)));
      r.node.hidden = !match || !fits(r.of);
    });
  };
  const apply = () => {
    figures.forEach((f) => { f.node.hidden = !fits(f.of); });
    all("table.sortable").forEach(sift);
  };

  // --- What is folded away or far below stands in the page as text, for readers without scripts it is there; with them it
  // is made when it comes into view. A page of thousands of cells opens as fast as one of ten.
  const unfold = (within) => {
    all("noscript", within).forEach((text) => {
      const made = document.createElement("template");
      made.innerHTML = text.textContent;
      text.replaceWith(made.content);
    });
    if (words.size || keys.some((key) => chosen[key])) { all("table.sortable", within).forEach(sift); }
  };
  const bar = document.getElementById("filter");
  keys.filter((key) => values[key].length > 1).forEach((key) => {
    const label = document.createElement("label"), select = document.createElement("select");
    label.append(key + " ", select);
    select.name = key;
    select.append(new Option("all", ""));
    values[key].forEach((v) => select.append(new Option(v, v)));
    select.addEventListener("change", () => { chosen[key] = select.value; apply(); });
    bar.append(label);
    bar.hidden = false;
  });
  all("input[data-for]").forEach((input) => input.addEventListener("input", () => {
    words.set(input.dataset.for, input.value.toLowerCase().split(/\s+/).filter(Boolean));
    apply();
  }));

  // --- Legends that switch curves.
  const FEW = /^(measured|tail|best$|best \(|houache2025-conv$|houache2025-conv \(|gonon2023|down to|floating)/;
  const look = (shape) => shape.getAttribute("stroke") + "|" + (shape.getAttribute("stroke-dasharray") || "") + "|" + shape.getAttribute("stroke-width");
  // All that is measured is measured before anything is changed: a change between two measurements lays out the whole page.
  const measure = (figure) => all("svg g.key", figure).map((key) => key.getBBox());
  const dress = (figure, boxes) => {
    figure.dataset.dressed = "1";
    const svg = figure.querySelector("svg");
    const curves = all("g.curve", svg);
    curves.forEach((g) => { const t = g.querySelector("title"); if (t) { t.remove(); } });
    const entries = all("g.key", svg);
    const switches = [];
    const legend = document.createElement("div");
    legend.className = "legend";
    legend.setAttribute("role", "group");
    legend.setAttribute("aria-label", "curves");
    entries.forEach((key, i) => {
      const text = key.querySelector("text").textContent;
      const line = key.querySelector("polyline, path, line, rect, circle");
      const sample = document.createElementNS(svg.namespaceURI, "svg");
      const box = boxes[i];
      const y = box.y + box.height / 2;
      sample.setAttribute("viewBox", [box.x - 1, y - 7, 36, 14].join(" "));
      sample.setAttribute("width", 36); sample.setAttribute("height", 14);
      sample.setAttribute("aria-hidden", "true");
      Array.from(key.children).filter((c) => c.tagName !== "text").forEach((c) => sample.append(c.cloneNode(true)));
      const mine = line && line.getAttribute("stroke-width") && key.querySelectorAll("polyline, path, line").length < 2
        ? new Set(curves.filter((g) => all("polyline, path, line", g).some((s) => look(s) === look(line)) ||
            g.dataset.of === text).map((g) => g.dataset.of)) : new Set();
      const node = document.createElement(mine.size ? "button" : "span");
      node.append(sample, text);
      legend.append(node);
      if (!mine.size) { return; }
      node.type = "button";
      const set = (on) => {
        node.setAttribute("aria-pressed", on ? "true" : "false");
        curves.filter((g) => mine.has(g.dataset.of)).forEach((g) => g.classList.toggle("off", !on));
      };
      node.addEventListener("click", () => set(node.getAttribute("aria-pressed") !== "true"));
      switches.push({ set: set, few: FEW.test(text) });
    });
    const many = switches.length > 8 && switches.some((s) => s.few);
    switches.forEach((s) => s.set(!many || s.few));
    if (many) {
      [["few", (s) => s.few], ["all", () => true], ["none", () => false]].forEach(([name, on]) => {
        const button = document.createElement("button");
        button.type = "button"; button.className = "plain"; button.textContent = name;
        button.addEventListener("click", () => switches.forEach((s) => s.set(on(s))));
        legend.append(button);
      });
    }
    if (entries.length) {
      // The drawn legend gives its room to the panels.
      const end = Number(svg.dataset.plot) + 12, height = Number(svg.getAttribute("viewBox").split(" ")[3]);
      svg.setAttribute("viewBox", [0, 0, end, height].join(" "));
      svg.setAttribute("width", end);
      svg.setAttribute("height", height);
      svg.style.maxWidth = Math.round(1.25 * end) + "px";
      // So narrow that a panel is seen whole on a telephone.
      svg.style.minWidth = Math.min(0.76 * end, 760) + "px";
      entries.forEach((key) => key.remove());
      figure.after(legend);
    }
    const panels = panelsOf(svg);
    hover(figure, svg, curves, panels);
    if (isOnDepth(panels) && names(figure).length && entries.length) {
      legend.append(namer(svg, panels, names(figure)));
    }
  };

  const panelsOf = (svg) => all("g.panel", svg).map((g) => {
    const [left, top, width, height] = g.dataset.frame.split(" ").map(Number);
    const [x0, x1] = g.dataset.x.split(" ").map(Number), [y0, y1] = g.dataset.y.split(" ").map(Number);
    return { g: g, left: left, top: top, width: width, height: height, x0: x0, x1: x1, y0: y0, y1: y1, log: g.dataset.log === "true", down: 0 };
  });
  const isOnDepth = (panels) => panels.length > 0 && panels.every((p) => /^depth/.test(p.g.querySelector(".along").textContent));

  // --- Names of layers in the place of depths.
  const namer = (svg, panels, layers) => {
    const button = document.createElement("button");
    button.type = "button"; button.className = "plain"; button.textContent = "layer names";
    const box = svg.getAttribute("viewBox").split(" ").map(Number);
    const tops = Array.from(new Set(panels.map((p) => p.top))).sort((a, b) => a - b);
    const pitch = panels[0].width / (panels[0].x1 - panels[0].x0), every = Math.ceil(6.5 / pitch);
    const size = Math.min(11, every * pitch);
    const room = Math.max(0, 0.6 * size * Math.max(...layers.map((name) => name.length)) - 10);
    const written = (p) => {
      const group = document.createElementNS(svg.namespaceURI, "g");
      group.setAttribute("class", "ticks named");
      layers.forEach((name, i) => {
        const at = i + 1, x = p.left + (at - p.x0) / (p.x1 - p.x0) * p.width;
        if (i % every || at < p.x0 || at > p.x1) { return; }
        const text = document.createElementNS(svg.namespaceURI, "text");
        text.setAttribute("transform", "translate(" + (x + 0.35 * size) + " " + (p.top + p.height + 8) + ") rotate(-90)");
        text.setAttribute("text-anchor", "end"); text.setAttribute("font-size", size); text.setAttribute("fill", "#222222");
        text.textContent = name;
        group.append(text);
      });
      return group;
    };
    const set = (on) => {
      button.setAttribute("aria-pressed", on ? "true" : "false");
      panels.forEach((p) => {
        p.down = on ? room * tops.indexOf(p.top) : 0;
        p.g.setAttribute("transform", "translate(0 " + p.down + ")");
        p.named = p.named || written(p);
        if (on) { p.g.append(p.named); } else { p.named.remove(); }
        p.g.querySelector(".ticks").classList.toggle("off", on);
        p.g.querySelector(".along").setAttribute("transform", "translate(0 " + (on ? room : 0) + ")");
      });
      const height = box[3] + (on ? room * tops.length : 0);
      svg.setAttribute("viewBox", [box[0], box[1], box[2], height].join(" "));
      svg.setAttribute("height", height);
    };
    button.addEventListener("click", () => set(button.getAttribute("aria-pressed") !== "true"));
    button.setAttribute("aria-pressed", "false");
    return button;
  };

  // --- What stands at a place of a figure.
  const tip = document.createElement("div");
  tip.className = "tip"; tip.hidden = true; tip.setAttribute("role", "status");
  document.body.append(tip);
  const number = (log10) => Math.abs(log10) < 3 ? Number(Math.pow(10, log10).toPrecision(3)).toString() : "10^" + log10.toFixed(1);
  const names = (figure) => {
    const model = titled(figure.closest("details").dataset.title).model;
    return run.layers[model] || [];
  };
  const hover = (figure, svg, curves, panels) => {
    const onDepth = isOnDepth(panels.slice(0, 1));
    const cursor = document.createElementNS(svg.namespaceURI, "line");
    cursor.setAttribute("class", "cursor");
    const points = (shape) => shape.tagName === "circle" ? [[+shape.getAttribute("cx"), +shape.getAttribute("cy")]] :
      (shape.getAttribute("points") || shape.getAttribute("d") || "").replace(/[A-Za-z]/g, " ").trim().split(/[\s,]+/).map(Number)
        .reduce((list, v, i) => { if (i % 2) { list[list.length - 1].push(v); } else { list.push([v]); } return list; }, []);
    const placed = (panel) => {
      if (!panel.curves) {
        panel.curves = curves.filter((g) => panel.g.contains(g)).map((g) => ({ g: g, of: g.dataset.of,
          at: all("polyline, path, circle", g).flatMap(points) }));
      }
      return panel.curves.filter((c) => !c.g.classList.contains("off") && c.at.length);
    };
    const show = (panel, x, y, where) => {
      const visible = placed(panel);
      if (!visible.length) { return hide(); }
      const xs = visible.flatMap((c) => c.at.map((p) => p[0]));
      const near = xs.reduce((best, v) => Math.abs(v - x) < Math.abs(best - x) ? v : best, xs[0]);
      const place = panel.x0 + (near - panel.left) / panel.width * (panel.x1 - panel.x0);
      const found = [];
      visible.forEach((c) => {
        const p = c.at.find((q) => Math.abs(q[0] - near) < 0.02);
        if (p) { found.push({ of: c.of, y: p[1], value: panel.y1 - (p[1] - panel.top) / panel.height * (panel.y1 - panel.y0) }); }
      });
      const measured = found.find((f) => /^measured/.test(f.of));
      const nearest = y === null ? null : found.reduce((a, b) => !a || Math.abs(b.y - y) < Math.abs(a.y - y) ? b : a, null);
      found.sort((a, b) => b.value - a.value);
      tip.replaceChildren();
      const head = document.createElement("b");
      const at = Math.round(place);
      head.textContent = onDepth ? "depth " + at + (names(figure)[at - 1] ? ": " + names(figure)[at - 1] : "") : Number(place.toPrecision(4)).toString();
      tip.append(head);
      found.forEach((f) => {
        const line = document.createElement("div");
        line.textContent = f.of + ": " + (panel.log ? number(f.value) : Number(f.value.toPrecision(4)));
        if (panel.log && measured && f !== measured && f.value > measured.value) {
          line.textContent += " (+" + (f.value - measured.value).toFixed(1) + " decades)";
        }
        if (f === nearest) { line.className = "near"; }
        tip.append(line);
      });
      tip.hidden = false;
      tip.style.left = Math.max(4, Math.min(where[0] + 14, window.innerWidth - tip.offsetWidth - 8)) + "px";
      tip.style.top = Math.max(4, Math.min(where[1] + 14, window.innerHeight - tip.offsetHeight - 8)) + "px";
      [["x1", near], ["x2", near], ["y1", panel.top], ["y2", panel.top + panel.height]].forEach(([k, v]) => cursor.setAttribute(k, v));
      panel.g.append(cursor);
      figure.dataset.at = near;
    };
    const hide = () => { tip.hidden = true; cursor.remove(); };
    svg.addEventListener("pointermove", (event) => {
      const p = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      const panel = panels.find((q) => p.x >= q.left && p.x <= q.left + q.width && p.y - q.down >= q.top && p.y - q.down <= q.top + q.height);
      if (panel) { show(panel, p.x, p.y - panel.down, [event.clientX, event.clientY]); } else { hide(); }
    });
    svg.addEventListener("pointerleave", hide);
    figure.addEventListener("blur", hide);
    figure.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (event.key === "Escape") { return hide(); }
      const panel = panels.find((p) => placed(p).length);
      if (!step || !panel) { return; }
      event.preventDefault();
      const xs = Array.from(new Set(placed(panel).flatMap((c) => c.at.map((q) => q[0])))).sort((a, b) => a - b);
      const now = figure.dataset.at === undefined ? -1 : xs.findIndex((x) => Math.abs(x - figure.dataset.at) < 0.02);
      const next = xs[Math.max(0, Math.min(xs.length - 1, now + step))];
      const m = svg.getScreenCTM(), spot = new DOMPoint(next, panel.top + panel.down).matrixTransform(m);
      show(panel, next, null, [spot.x, spot.y]);
    });
  };

  // A figure is dressed when it is there and open.
  const dressed = (list) => {
    const bare = list.filter((d) => d.open).flatMap((d) => all(".figure", d)).filter((f) => !f.dataset.dressed && f.querySelector("svg"));
    const boxes = bare.map(measure);
    bare.forEach((f, i) => dress(f, boxes[i]));
  };
  const folded = all("details.figure-of");
  folded.forEach((details) => details.addEventListener("toggle", () => dressed([details])));
  dressed(folded);
  const near = new IntersectionObserver((seen) => {
    const here = seen.filter((s) => s.isIntersecting).map((s) => s.target);
    here.forEach((node) => { near.unobserve(node); unfold(node); });
    dressed(here.map((node) => node.closest("details.figure-of")).filter(Boolean));
  }, { rootMargin: "800px" });
  all("noscript").forEach((text) => near.observe(text.parentNode));

  // --- On paper every section is open.
  let shut = [];
  window.addEventListener("beforeprint", () => {
    unfold(document);
    shut = all("details:not([open])");
    shut.forEach((d) => { d.open = true; });
    dressed(folded);
  });
  window.addEventListener("afterprint", () => { shut.forEach((d) => { d.open = false; }); });
})();
