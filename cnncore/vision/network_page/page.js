"use strict";
// What a node shows when it is selected, drawn from the data of the page; and the steps through the network.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const nodes = data.nodes;
  const panel = document.getElementById("panel");
  const graph = document.querySelector(".graph");
  const slider = document.getElementById("step");
  const select = document.getElementById("nodes");
  const status = document.getElementById("status");
  const STEP_MS = 420;
  const TILE = 84; // CSS pixels of a map
  const PICTURE = 280; // of the receptive field

  // ── Making elements ──

  function make(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name === "text") element.textContent = value;
      else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child !== null));
    return element;
  }

  const number = (value) => {
    if (value === null) return "";
    const size = Math.abs(value);
    const text = size !== 0 && (size < 1e-3 || size >= 1e5) ? value.toExponential(2) : String(Number(value.toPrecision(4)));
    return text.replaceAll("-", "−");
  };
  const signed = (value) => (value < 0 ? "− " : "+ ") + number(Math.abs(value));
  const shapeText = (shape) => shape.join(" × ");
  const breakable = (path) => path.replace(/[/_]/g, "$&\u200b"); // long paths wrap at their joints

  // ── Colours ──

  // low ≥ 0: black to yellow (cubehelix). low < 0: blue below 0, white at 0, red above.
  function table(low) {
    const colors = new Uint8ClampedArray(256 * 4);
    for (let level = 0; level < 256; level++) {
      let rgb;
      if (low < 0) {
        const t = (level - 127.5) / 127.5;
        const end = t < 0 ? [33, 102, 172] : [178, 24, 43];
        rgb = end.map((c) => 250 + (c - 250) * Math.abs(t) ** 0.8);
      } else {
        const place = (level / 255) * (data.colors.length - 1);
        const i = Math.min(Math.floor(place), data.colors.length - 2);
        rgb = data.colors[i].map((c, k) => c + (data.colors[i + 1][k] - c) * (place - i));
      }
      colors.set([...rgb, 255], 4 * level);
    }
    return colors;
  }
  const TABLES = { sequential: table(0), diverging: table(-1) };
  const kind = (sheet) => (sheet.low < 0 ? "diverging" : "sequential");

  function gradientStyle(name) {
    const stops = [];
    for (let i = 0; i <= 16; i++) {
      const at = 4 * Math.round((i / 16) * 255);
      stops.push(`rgb(${TABLES[name][at]},${TABLES[name][at + 1]},${TABLES[name][at + 2]})`);
    }
    return `background:linear-gradient(90deg,${stops.join(",")})`;
  }

  function scaleBar(sheet) {
    const bar = make("i", { style: gradientStyle(kind(sheet)) });
    return make("div", { class: "scale" }, make("span", { text: number(sheet.low) }), bar, make("span", { text: number(sheet.high) }));
  }

  // ── Sheets: grey pictures of levels → coloured planes ──

  const sheets = new Map(); // sheet → promise of {canvas of the coloured sheet}

  function colored(sheet) {
    if (!sheets.has(sheet)) {
      sheets.set(sheet, new Promise((resolve, reject) => {
        const image = new Image();
        image.onload = () => {
          const canvas = make("canvas", { width: image.width, height: image.height });
          const context = canvas.getContext("2d", { willReadFrequently: true });
          context.drawImage(image, 0, 0);
          const pixels = context.getImageData(0, 0, image.width, image.height);
          const colors = TABLES[kind(sheet)];
          for (let i = 0; i < pixels.data.length; i += 4) {
            const at = 4 * pixels.data[i];
            pixels.data.set(colors.subarray(at, at + 4), i);
          }
          context.putImageData(pixels, 0, 0);
          resolve(canvas);
        };
        image.onerror = () => reject(new Error("a picture of the page is damaged"));
        image.src = sheet.src;
      }));
    }
    return sheets.get(sheet);
  }

  function plane(sheet, place, size) {
    const scale = Math.max(1, Math.floor(size / Math.max(sheet.width, sheet.height)));
    const canvas = make("canvas", { width: sheet.width, height: sheet.height, "aria-hidden": "true" });
    const shown = scale > 1 ? scale : size / Math.max(sheet.width, sheet.height);
    canvas.style.width = `${Math.max(1, Math.round(sheet.width * Math.min(shown, size / Math.max(sheet.width, sheet.height))))}px`;
    colored(sheet).then((source) => {
      const x = (place % sheet.columns) * sheet.width;
      const y = Math.floor(place / sheet.columns) * sheet.height;
      canvas.getContext("2d").drawImage(source, x, y, sheet.width, sheet.height, 0, 0, sheet.width, sheet.height);
    });
    return canvas;
  }

  // ── The panel ──

  let current = null; // node shown
  let place = 0; // which of its maps

  function show(node, chosen) {
    current = node;
    place = chosen === undefined ? strongest(node) : chosen;
    const parts = [heading(node)];
    if (node.formula) parts.push(make("pre", { text: node.formula }));
    if (node.maps) parts.push(...mapsOf(node));
    else if (node.values) parts.push(...numbersOf(node));
    else parts.push(make("p", { class: "note", text: "No maps are shown of this value." }));
    parts.push(...fieldOf(node), ...arithmeticOf(node), ...weightsOf(node), ...backwardOf(node));
    panel.replaceChildren(...parts);
  }

  // The map whose output carries most of the score.
  function strongest(node) {
    if (!node.cells || !node.channels) return 0;
    const best = [...node.cells].sort((a, b) => Math.abs((b.dy ?? 1) * b.y) - Math.abs((a.dy ?? 1) * a.y))[0];
    return Math.max(0, node.channels.indexOf(best.index[0]));
  }

  function heading(node) {
    const settings = Object.entries(node.settings || {}).map(([name, value]) => `${name}=${JSON.stringify(value)}`).join(", ");
    const weights = node.parameters ? `, ${node.parameters.toLocaleString("en")} parameters` : "";
    const what = node.operator ? `${node.operator}(${settings}) → ${shapeText(node.shape)}${weights}. ${node.summary}` : `input ${shapeText(node.shape)}`;
    return make("div", {}, make("h3", { text: node.path }), make("p", { class: "note", text: what }));
  }

  function tiles(node, sheet, what) {
    return make("div", { class: "tiles", role: "group", "aria-label": `${what} of ${node.path}` },
      ...node.channels.map((channel, i) => make("button", {
        type: "button", "aria-pressed": String(i === place), "aria-label": `${what} ${channel}`,
        onclick: () => { show(node, i); refocus(what, channel); },
      }, plane(sheet, i, TILE), make("span", { text: String(channel) }))));
  }

  function refocus(what, channel) {
    panel.querySelector(`[aria-label="${what} ${channel}"]`)?.focus();
  }

  function mapsOf(node) {
    const count = node.channels.length;
    const all = node.shape[0];
    const which = count < all ? `${count} of ${all}, those that matter most for the score: largest Σ |y ∂score/∂y|` : `${all}`;
    const parts = [make("h3", { text: "Maps" }), make("p", { class: "note", text: `Channels: ${which}. One scale for all.` }),
      tiles(node, node.maps, "map"), scaleBar(node.maps)];
    if (node.gradients) {
      parts.push(make("h3", { text: "Gradient maps" }),
        make("p", { class: "note", text: `∂(${data.score.name})/∂y of the same channels: red raises the score when y grows, blue lowers it.` }),
        tiles(node, node.gradients, "gradient map"), scaleBar(node.gradients));
    } else {
      parts.push(make("p", { class: "note", text: "No gradient of the score arrives here." }));
    }
    if (node.gradients && node.shape[1] > 1) {
      const nothing = "0 everywhere: the sum of the maps, each weighted by its mean gradient, is nowhere above 0.";
      parts.push(make("h3", { text: "Grad-CAM at this node" }),
        ...(node.cam ? [plane(node.cam, 0, 168), scaleBar(node.cam)] : [make("p", { class: "note", text: nothing })]));
    }
    return parts;
  }

  function numbersOf(node) {
    const order = node.values.map((v, i) => i).sort((a, b) => Math.abs(node.values[b]) - Math.abs(node.values[a])).slice(0, 16);
    const most = Math.max(...order.map((i) => Math.abs(node.values[i])), 1e-12);
    const bars = order.flatMap((i) => [
      make("span", { text: node.named ? data.classes[i] : `y[${i}]` }),
      make("i", { class: node.values[i] < 0 ? "neg" : "", style: `width:${(100 * Math.abs(node.values[i])) / most}%` }),
      make("b", { text: number(node.values[i]) + (node.value_gradients ? `  (∂ ${number(node.value_gradients[i])})` : "") })]);
    const which = order.length < node.shape[0] ? `The ${order.length} of ${node.shape[0]} that are farthest from 0` : `All ${order.length}`;
    return [make("h3", { text: "Numbers" }),
      make("p", { class: "note", text: `${which}; ∂: gradient of the ${data.score.name}.` }),
      make("div", { class: "bars" }, ...bars)];
  }

  const cellOf = (node) => {
    if (!node.cells || !node.cells.length) return null;
    if (!node.channels) return node.cells[0];
    return node.cells.find((cell) => cell.index[0] === node.channels[place]) || null;
  };

  const reachesBeyond = (node) => Boolean(node.cells?.some((cell) => cell.parts.some((part) => part.beyond)));

  /** The nodes on the way to a node, itself among them, whose outputs depend on more than their windows. */
  function reachingBeyond(node) {
    const [found, waiting] = [new Set([node]), [node]];
    while (waiting.length) {
      for (const id of waiting.pop().inputs || []) {
        if (!found.has(nodes[id])) waiting.push(nodes[id]);
        found.add(nodes[id]);
      }
    }
    return [...found].filter(reachesBeyond).sort((a, b) => a.id - b.id);
  }

  function statisticsOf(node) {
    const names = reachingBeyond(node).map((one) => breakable(one.path));
    if (!names.length) return "";
    const some = names.length > 2 ? `${names.slice(0, 2).join(", ")} and ${names.length - 2} more` : names.join(" and ");
    return ` So far by windows alone: the statistics that ${some} normalise${names.length > 1 ? "" : "s"} with are of all places.`;
  }

  function fieldOf(node) {
    if (!node.maps) return [];
    const cell = cellOf(node);
    if (!cell) return node.cells ? [make("p", { class: "note", text: "Receptive field and arithmetic are prepared for the map of the largest contribution; choose it above." })] : [];
    const [, row, column] = cell.index;
    const box = cell.box || [0, 0, data.input[2] - 1, data.input[3] - 1];
    const extents = `${box[2] - box[0] + 1}×${box[3] - box[1] + 1}`;
    const text = cell.box
      ? `y[${cell.index.join(", ")}] depends on ${extents} pixels, rows ${box[0]} to ${box[2]}, columns ${box[1]} to ${box[3]}.${statisticsOf(node)}`
      : `y[${cell.index.join(", ")}]: all pixels, as far as the windows say.`;
    const scale = Math.max(1, PICTURE / Math.max(data.image.width, data.image.height));
    const canvas = make("canvas", {
      width: Math.round(data.image.width * scale), height: Math.round(data.image.height * scale),
      role: "img", "aria-label": `Receptive field of row ${row}, column ${column}: ${text}`,
    });
    const image = new Image();
    image.onload = () => {
      const context = canvas.getContext("2d");
      context.imageSmoothingEnabled = false;
      context.drawImage(image, 0, 0, canvas.width, canvas.height);
      const across = canvas.width / data.input[3];
      const down = canvas.height / data.input[2];
      const area = [box[1] * across, box[0] * down, (box[3] - box[1] + 1) * across, (box[2] - box[0] + 1) * down];
      context.fillStyle = "rgba(0,0,0,.45)";
      context.beginPath();
      context.rect(0, 0, canvas.width, canvas.height);
      context.rect(...area);
      context.fill("evenodd");
      context.strokeStyle = "#ff8c1a";
      context.lineWidth = 3;
      context.strokeRect(...area);
    };
    image.src = data.image.src;
    return [make("h3", { text: "Receptive field" }), make("p", { class: "note", text }), make("div", { class: "field" }, canvas)];
  }

  // ── The arithmetic of one output ──

  function grid(rows, caption, mark) {
    return make("table", {}, make("caption", { text: caption }), make("tbody", {}, ...rows.map((row, i) => make("tr", {},
      ...row.map((value, j) => make("td", value === null
        ? { class: "pad", text: "·", title: "padding" }
        : { class: mark && mark(i, j) ? "winner" : "", text: number(value) }))))));
  }

  // An output of a concatenation is one number of one branch: the others, which no x of theirs reaches it from, are left out.
  function reached(parts) {
    const none = (part) => !part.others && part.windows?.every((window) => window.slope.flat().every((value) => !value));
    return parts.length > 1 && !parts.every(none) ? parts.filter((part) => !none(part)) : parts;
  }

  /** What the windows of an output that is not linear leave out. */
  function unseen(cell) {
    const others = cell.parts.reduce((total, part) => total + (part.windows ? part.others : 0), 0);
    const beyond = Math.max(...cell.parts.map((part) => part.beyond ?? 0));
    return (others ? ` So it does on ${others} further channel${others > 1 ? "s" : ""}.` : "")
      + (beyond ? ` Of Σ |∂y/∂x|, ${number(100 * beyond)} % belong to x at other places.` : "");
  }

  function arithmeticOf(node) {
    const cell = cellOf(node);
    if (!cell || !cell.parts.length) return [];
    const name = `y[${cell.index.join(", ")}]`;
    const parts = [make("h3", { text: `The arithmetic of one output: ${name} = ${number(cell.y)}` })];
    const sums = [];
    const factor = `factor of each x${node.weights ? " (weights)" : ""}`;
    for (const part of reached(cell.parts)) {
      const source = breakable(nodes[part.of].path);
      if (part.windows) {
        const shown = part.windows.map((window) => make("div", { class: "terms" },
          grid(window.x, `x: ${source}, channel ${window.channel}`, cell.linear ? null : (i, j) => window.slope[i][j] !== 0 && window.slope[i][j] !== null),
          grid(window.slope, cell.linear ? factor : "∂y/∂x"),
          cell.linear ? make("p", { class: "note", text: `Σ = ${number(window.sum)}` }) : null));
        parts.push(...shown);
        part.windows.forEach((window) => sums.push([window.sum, `channel ${window.channel} of ${source}`]));
      } else {
        parts.push(make("table", {}, make("caption", { text: `x: ${source}, the largest terms` }),
          make("thead", {}, make("tr", {}, ...["place", "x", cell.linear ? "factor" : "∂y/∂x", "product"].map((text) => make("th", { text, scope: "col" })))),
          make("tbody", {}, ...part.terms.map((term) => make("tr", {}, make("td", { text: term.place.join(", ") }),
            make("td", { text: number(term.x) }), make("td", { text: number(term.slope) }), make("td", { text: number(term.product) }))))));
        sums.push([part.terms.reduce((total, term) => total + term.product, 0), `the terms shown of ${source}`]);
      }
      if (part.others) sums.push([part.others_sum, `${part.others} further ${part.windows ? "channels" : "terms"} of ${source}`]);
    }
    if (cell.linear) {
      const text = sums.map(([value], i) => (i ? " " + signed(value) : number(value))).join("");
      const constant = Math.abs(cell.rest) > 1e-6 * Math.max(1, Math.abs(cell.y)) ? ` ${signed(cell.rest)}` : "";
      const names = sums.map(([, what]) => what).join("; ") + (constant ? "; what does not depend on x, such as the bias" : "");
      if (sums.length > 1 || constant) {
        parts.push(make("pre", { text: `${name} = ${text}${constant} = ${number(cell.y)}` }), make("p", { class: "note", text: `In this order: ${names}.` }));
      }
    } else {
      parts.push(make("p", { class: "note", text: `Framed: the x on which y depends here, to first order.${unseen(cell)}` }));
    }
    if (cell.dy !== undefined) {
      parts.push(make("p", { class: "note", text: `Backward: ∂score/∂y = ${number(cell.dy)} arrives at this output, and is passed on to every x multiplied by ${cell.linear ? "its factor" : "∂y/∂x"}.` }));
    }
    return parts;
  }

  function weightsOf(node) {
    if (!node.weights) return [];
    const w = node.weights;
    const [outputs, inputs, height = 1, width = 1] = w.shape;
    const cell = Math.max(2, Math.min(Math.floor(40 / Math.max(height, width)), 14)); // pixels of a number
    const alone = w.inputs === 1; // then several kernels fit into a row
    const across = alone ? Math.min(w.outputs, 8) : w.inputs;
    const down = alone ? Math.ceil(w.outputs / across) : w.outputs;
    const [wide, high] = [width * cell + 3, height * cell + 3];
    const picture = make("canvas", { width: across * wide, height: down * high, role: "img", "aria-label": `Weights of ${node.path}` });
    colored(w).then((source) => {
      const context = picture.getContext("2d");
      context.imageSmoothingEnabled = false;
      for (let k = 0; k < w.outputs; k++) {
        for (let c = 0; c < w.inputs; c++) {
          const [column, row] = alone ? [k % across, Math.floor(k / across)] : [c, k];
          context.drawImage(source, c * width, k * height, width, height, column * wide, row * high, width * cell, height * cell);
        }
      }
    });
    const square = height * width === 1 ? "number" : `square of ${height}×${width} numbers`;
    const some = (shown, all) => (shown < all ? `the first ${shown} of ${all}` : String(all));
    const text = inputs === 1
      ? `One ${square} per output channel: ${some(w.outputs, outputs)}.`
      : `One row per output channel (${some(w.outputs, outputs)}), with one ${square} per input channel (${some(w.inputs, inputs)}).`;
    return [make("h3", { text: `Weights: ${shapeText(w.shape)}` }), make("p", { class: "note", text }), picture, scaleBar(w)];
  }

  const backwardOf = (node) => (node.backward ? [make("h3", { text: "The backward pass" }), make("pre", { text: node.backward })] : []);

  // ── Steps ──

  let step = 0;
  let direction = 1;
  let timer = null;

  const boxOf = (id) => graph.querySelector(`.node[data-value="${id}"]`) || graph.querySelector(`.strip[data-value="${id}"]`);

  function go(to, scroll = true) {
    step = Math.max(0, Math.min(nodes.length - 1, to));
    const node = nodes[step];
    slider.value = String(step);
    select.value = String(step);
    graph.querySelectorAll(".now").forEach((element) => element.classList.remove("now"));
    const box = boxOf(node.id);
    box?.classList.add("now");
    stamp(node, box);
    graph.querySelectorAll(".edge").forEach((edge) => {
      const value = Number(edge.dataset.value);
      edge.classList.toggle("lit", direction > 0 && value < step);
      edge.classList.toggle("blood", direction < 0 && value >= step);
    });
    if (scroll && box) center(box);
    status.textContent = `Step ${step + 1} of ${nodes.length}, ${direction > 0 ? "forward" : "backward"}: ${node.path}`;
    show(node);
    history.replaceState(null, "", `#node=${encodeURIComponent(node.path)}`);
  }

  // The strongest map of a node, on its box: what has been computed so far, or the gradient that has arrived.
  function stamp(node, box) {
    const sheet = direction > 0 ? node.maps : node.gradients;
    const rectangle = box?.closest(".node")?.querySelector("rect");
    if (!sheet || !rectangle) return;
    const owner = box.closest(".node");
    const at = node.channels ? strongest(node) : 0;
    colored(sheet).then((source) => {
      const canvas = make("canvas", { width: sheet.width, height: sheet.height });
      const [x, y] = [(at % sheet.columns) * sheet.width, Math.floor(at / sheet.columns) * sheet.height];
      canvas.getContext("2d").drawImage(source, x, y, sheet.width, sheet.height, 0, 0, sheet.width, sheet.height);
      owner.querySelector("image")?.remove();
      const image = document.createElementNS("http://www.w3.org/2000/svg", "image");
      const [left, top] = [Number(rectangle.getAttribute("x")), Number(rectangle.getAttribute("y"))];
      const attributes = { x: left - 17, y: top - 6, width: 30, height: 30, href: canvas.toDataURL(), style: "image-rendering:pixelated" };
      for (const [name, value] of Object.entries(attributes)) image.setAttribute(name, String(value));
      owner.append(image);
    });
  }

  function center(box) {
    const [own, around] = [box.getBoundingClientRect(), graph.getBoundingClientRect()];
    graph.scrollTop += own.top + own.height / 2 - around.top - around.height / 2;
    graph.scrollLeft += own.left + own.width / 2 - around.left - around.width / 2;
  }

  function stop() {
    clearInterval(timer);
    timer = null;
    document.getElementById("forward").textContent = "▶ Forward";
    document.getElementById("backward").textContent = "◀ Backward";
  }

  function play(towards) {
    const running = timer !== null && direction === towards;
    stop();
    if (running) return;
    direction = towards;
    document.getElementById(towards > 0 ? "forward" : "backward").textContent = "❚❚ Pause";
    const end = towards > 0 ? nodes.length - 1 : 0;
    if (step === end) go(towards > 0 ? 0 : nodes.length - 1);
    timer = setInterval(() => {
      if (step === end) stop();
      else go(step + direction);
    }, STEP_MS);
  }

  function begin() {
    nodes.forEach((node, i) => select.append(make("option", { value: String(i), text: node.path })));
    slider.max = String(nodes.length - 1);
    document.querySelectorAll(".scale i").forEach((bar) => {
      bar.setAttribute("style", gradientStyle(bar.parentElement.classList.contains("diverging") ? "diverging" : "sequential"));
    });
    slider.addEventListener("input", () => { stop(); go(Number(slider.value)); });
    select.addEventListener("change", () => { stop(); go(Number(select.value)); });
    document.getElementById("forward").addEventListener("click", () => play(1));
    document.getElementById("backward").addEventListener("click", () => play(-1));
    document.getElementById("next").addEventListener("click", () => { stop(); direction = 1; go(step + 1); });
    document.getElementById("back").addEventListener("click", () => { stop(); direction = -1; go(step - 1); });
    graph.addEventListener("click", (event) => {
      const box = event.target.closest(".strip, .label") || event.target.closest(".node");
      if (box) { stop(); go(Number(box.dataset.value), false); }
    });
    graph.querySelectorAll(".node").forEach((box) => {
      box.setAttribute("tabindex", "0");
      box.setAttribute("role", "button");
      box.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); stop(); go(Number(box.dataset.value), false); }
      });
    });
    document.addEventListener("keydown", (event) => {
      if (event.target.closest("select, input, button") || event.altKey || event.ctrlKey || event.metaKey) return;
      if (event.key === "ArrowRight" || event.key === "n") { stop(); direction = 1; go(step + 1); }
      if (event.key === "ArrowLeft" || event.key === "p") { stop(); direction = -1; go(step - 1); }
    });
    const named = decodeURIComponent((location.hash.match(/node=([^&]*)/) || ["", ""])[1]);
    const found = nodes.findIndex((node) => node.path === named);
    go(found >= 0 ? found : Math.min(1, nodes.length - 1));
  }

  begin();
})();
