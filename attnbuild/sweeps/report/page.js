"use strict";
// The page's own script: sorted tables, plots and the choice of attention maps. Texts of runs are only ever
// text here: plotly reads a little HTML in names, so they are escaped for it.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const find = (id) => document.getElementById(id);
  const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const shortened = (text) => (text.length > 44 ? `${text.slice(0, 43)}…` : text);

  // Tables

  function sortBy(table, column, header) {
    const descending = header.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const number = (cell) => (cell.dataset.sort === undefined ? null : Number(cell.dataset.sort));
    const compare = (one, two) => {
      const [a, b] = [one.cells[column], two.cells[column]];
      if (a.textContent === "" || b.textContent === "") {
        return (a.textContent === "") - (b.textContent === ""); // what is not known comes last, either way
      }
      const [x, y] = [number(a), number(b)];
      const order = x !== null && y !== null
        ? x - y
        : (x === null) - (y === null) || a.textContent.localeCompare(b.textContent, "en", { numeric: true });
      return descending ? -order : order;
    };
    const body = table.tBodies[0];
    body.append(...[...body.rows].sort(compare));
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((header, column) => {
      header.querySelector("button").addEventListener("click", () => sortBy(table, column, header));
    });
  }

  // Attention maps

  const chooser = find("maps-example");
  if (chooser) {
    const choose = () => {
      for (const example of document.querySelectorAll(".example")) example.hidden = example.id !== chooser.value;
    };
    const resize = () => find("maps").style.setProperty("--map-width", `${find("maps-size").value}px`);
    chooser.addEventListener("change", choose);
    find("maps-size").addEventListener("input", resize);
    choose();
    resize();
  }

  // Plots

  // Okabe and Ito's colours, darkened or lightened until they stand out from the paper.
  const looks = {
    light: {
      ink: "#1c2330", line: "#d5dae3", front: "#5b6472",
      colours: ["#0072b2", "#c44e00", "#00805e", "#a8497f", "#7a5c00", "#2f8fc4", "#5a3fb0", "#444c58"],
    },
    dark: {
      ink: "#e4e8ef", line: "#3a4250", front: "#a5adba",
      colours: ["#5ab4ec", "#f28a45", "#35c79c", "#e69ac3", "#e5c04b", "#9ad4f5", "#b3a1f2", "#c3cad6"],
    },
  };
  const symbols = ["circle", "square", "diamond", "triangle-up", "cross", "star", "triangle-down", "pentagon"];
  const dashes = ["solid", "dash", "dot", "dashdot", "longdash"];
  // These buttons and no others: plotly's own choice has one that uploads the chart.
  const buttons = [["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]];
  const settings = { responsive: true, displaylogo: false, modeBarButtons: buttons, plotlyServerURL: "" };
  const isDark = matchMedia("(prefers-color-scheme: dark)");
  const isPrint = matchMedia("print");
  let look = looks.light;
  const colourOf = (group) => look.colours[group % look.colours.length];
  const turnOf = (group) => Math.floor(group / look.colours.length);

  function layoutOf(xTitle, yTitle, more) {
    const axis = (title) => ({
      title: { text: escaped(title) }, gridcolor: look.line, linecolor: look.line, zerolinecolor: look.line,
      automargin: true,
    });
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: look.ink, family: "system-ui, sans-serif", size: 13 },
      margin: { l: 60, r: 20, t: 34, b: 50 }, height: 420, hovermode: "closest", showlegend: true,
      legend: { font: { size: 12 } }, modebar: { bgcolor: "rgba(0,0,0,0)", color: look.front, activecolor: look.ink },
      xaxis: { ...axis(xTitle), ...(more || {}) }, yaxis: axis(yTitle),
    };
  }

  function draw(id, traces, layout, whenEmpty) {
    const place = find(id);
    if (!place) return;
    if (traces.length) {
      place.classList.remove("empty");
      if (!place.classList.contains("js-plotly-plot")) place.textContent = "";
      Plotly.react(place, traces, layout, settings);
    } else {
      if (place.classList.contains("js-plotly-plot")) Plotly.purge(place);
      place.classList.add("empty");
      place.textContent = whenEmpty;
    }
  }

  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const deviation = (values) => {
    const middle = mean(values);
    return Math.sqrt(values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (values.length - 1));
  };
  const shownNumber = (value) => Number(value.toPrecision(4)).toLocaleString("en", { maximumSignificantDigits: 4 });

  // One point for each run that ended well, or for each group of them.
  function pointsOf(metric, cost, byGroup) {
    const measured = data.jobs.filter((job) => job.ok && metric in job.metrics && cost in job.costs);
    if (!byGroup) {
      return measured.map((job) => (
        { title: job.title, group: job.group, x: job.costs[cost], y: job.metrics[metric], spread: 0 }
      ));
    }
    return data.groups.flatMap((name, group) => {
      const jobs = measured.filter((job) => job.group === group);
      if (!jobs.length) return [];
      const values = jobs.map((job) => job.metrics[metric]);
      const title = jobs.length > 1 ? `${name} (${jobs.length} runs)` : jobs[0].title;
      const spread = jobs.length > 1 ? deviation(values) : 0;
      return [{ title, group, x: mean(jobs.map((job) => job.costs[cost])), y: mean(values), spread }];
    });
  }

  // Points that no other beats in one without being worse in the other, from the cheapest to the best.
  function frontOf(points, isLowerCost, isLowerQuality) {
    const cost = (point) => (isLowerCost ? point.x : -point.x);
    const quality = (point) => (isLowerQuality ? -point.y : point.y);
    const front = [];
    for (const point of [...points].sort((a, b) => cost(a) - cost(b) || quality(b) - quality(a))) {
      if (!front.length || quality(point) > quality(front[front.length - 1])) front.push(point);
    }
    return front;
  }

  function drawQuality() {
    if (!find("quality-metric")) return;
    const metric = find("quality-metric").value;
    const cost = find("quality-cost").value;
    const [costLabel, isLowerCost] = data.costs[cost];
    const byGroup = Boolean(find("quality-means") && find("quality-means").checked);
    const points = pointsOf(metric, cost, byGroup);
    const front = frontOf(points, isLowerCost, find("quality-lower").checked);
    const text = (point) => `${escaped(point.title)}<br>${escaped(metric)} ${shownNumber(point.y)}`
      + `${point.spread ? ` ± ${shownNumber(point.spread)}` : ""}<br>${escaped(costLabel)} ${shownNumber(point.x)}`;
    const traces = data.groups.flatMap((name, group) => {
      const own = points.filter((point) => point.group === group);
      if (!own.length) return [];
      return [{
        type: "scatter", mode: "markers", name: escaped(shortened(name)),
        x: own.map((point) => point.x), y: own.map((point) => point.y), text: own.map(text), hoverinfo: "text",
        error_y: { type: "data", array: own.map((point) => point.spread), visible: byGroup, thickness: 1.2 },
        marker: { size: 11, color: colourOf(group), symbol: symbols[turnOf(group) % symbols.length] },
      }];
    });
    if (front.length) {
      traces.push({
        type: "scatter", mode: "lines", name: "Pareto front", hoverinfo: "skip",
        x: front.map((point) => point.x), y: front.map((point) => point.y),
        line: { shape: "hv", dash: "dot", color: look.front, width: 2 },
      });
    }
    const isLog = find("quality-log").checked;
    const arrow = `${costLabel} ${isLowerCost ? "(less is better)" : "(more is better)"}`;
    const layout = layoutOf(arrow, metric, isLog ? { type: "log" } : { type: "linear" });
    draw("quality-plot", traces, layout, "No run that ended well has both.");
    find("quality-front").textContent = front.length
      ? `On the front, from the cheapest to the best: ${front.map((point) => point.title).join("; ")}.`
      : "";
  }

  function drawCurves() {
    const choice = document.querySelector("input[name=curves-by]:checked");
    const by = choice ? choice.value : "steps";
    const areMany = data.jobs.length > 40; // then points on the lines hide more than they show
    for (const [kind, title] of [["score", "score"], ["loss", "train/loss"]]) {
      const named = new Set();
      const traces = data.jobs.flatMap((job) => {
        const curve = job.curves[kind];
        if (!curve || !curve[by].length) return [];
        const isFirst = !named.has(job.group);
        named.add(job.group);
        return [{
          type: "scatter", mode: areMany || curve.values.length > 60 ? "lines" : "lines+markers", x: curve[by], y: curve.values,
          name: escaped(shortened(data.groups[job.group])), legendgroup: String(job.group), showlegend: isFirst,
          text: escaped(job.title), hoverinfo: "x+y+text",
          line: { color: colourOf(job.group), dash: dashes[turnOf(job.group) % dashes.length], width: 1.8 },
          marker: { size: 5 },
        }];
      });
      const names = new Set(data.jobs.filter((job) => job.curves[kind]).map((job) => job.monitor));
      const yTitle = kind === "score" ? [...names].join(", ") || title : title;
      draw(`curves-${kind}`, traces, layoutOf(by === "steps" ? "step" : "wall time (s)", yTitle), "Nothing yet.");
    }
  }

  function drawAll(theme) {
    look = looks[theme];
    drawQuality();
    drawCurves();
  }

  const themeNow = () => (isDark.matches && !isPrint.matches ? "dark" : "light");

  function begin() {
    const metric = find("quality-metric");
    const guess = () => { find("quality-lower").checked = data.lower.includes(metric.value); };
    if (metric) {
      guess();
      metric.addEventListener("change", () => { guess(); drawQuality(); });
      for (const id of ["quality-cost", "quality-lower", "quality-log", "quality-means"]) {
        if (find(id)) find(id).addEventListener("change", drawQuality);
      }
    }
    for (const radio of document.querySelectorAll("input[name=curves-by]")) radio.addEventListener("change", drawCurves);
    isDark.addEventListener("change", () => drawAll(themeNow()));
    window.addEventListener("beforeprint", () => drawAll("light"));
    window.addEventListener("afterprint", () => drawAll(themeNow()));
    drawAll(themeNow());
    document.documentElement.dataset.state = "ready";
  }

  // plotly.js lies in the page compressed, a third of its size.
  async function unpack() {
    const packed = Uint8Array.from(atob(find("plotly").textContent), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
  }

  if (typeof DecompressionStream === "undefined") {
    for (const plot of document.querySelectorAll(".plot")) {
      plot.textContent = "This browser is too old for the plots: it needs one of 2023 or later.";
    }
  } else {
    unpack().then(begin);
  }
})();
