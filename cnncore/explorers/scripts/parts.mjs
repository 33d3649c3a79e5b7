// What the explorers are made of: elements, menus, numbers, and arrays as tables.

export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made && key !== "role") made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

/** A labelled menu; `changed` is called with what was chosen. `fill` replaces the choices. */
export function menu(label, choices, chosen, changed) {
  const select = element("select");
  const made = element("label", {}, label, " ", select);
  made.fill = (names, current) => {
    select.replaceChildren(...names.map((name) => element("option", { value: name }, name)));
    select.value = current;
  };
  made.fill(choices, chosen);
  select.onchange = () => changed(select.value);
  return made;
}

/** A labelled whole number. */
export function number(label, value, low, high, changed) {
  const input = element("input", { type: "number", min: low, max: high, step: 1, value });
  input.onchange = () => {
    input.value = Math.min(high, Math.max(low, Math.round(Number(input.value)) || low));
    changed(Number(input.value));
  };
  return element("label", {}, label, " ", input);
}

export function button(label, pressed) {
  const made = element("button", { type: "button" }, label);
  made.onclick = pressed;
  return made;
}

/** A number with at most two digits behind the point; "∞" and "NaN" are text already. */
export function text(value) {
  if (typeof value !== "number") return String(value);
  const rounded = Math.abs(value) >= 100 ? Math.round(value) : Math.round(value * 100) / 100;
  return String(rounded === 0 ? 0 : rounded).replace("-", "−");
}

const size = (value) => (typeof value === "number" ? Math.abs(value) : 0);
export const largest = (rows) => Math.max(...rows.flat().map(size), 1e-9);

/** Blue for positive, orange for negative, as in the pictures of the operators; the number says the same. */
export function shade(value, scale) {
  const strength = Math.round(Math.sqrt(Math.min(size(value) / scale, 1)) * 40);
  return `color-mix(in srgb, ${value < 0 ? "#d9772b" : "#2f7fd1"} ${strength}%, transparent)`;
}

/** An array as a table. `cell(value, i, j)` makes what is in a cell; `framed(i, j)` says which cells have a frame. */
export function grid(caption, rows, { cell = text, framed = () => false, scale = largest(rows) } = {}) {
  const body = rows.map((row, i) =>
    element("tr", {}, ...row.map((value, j) => {
      const made = element("td", {}, cell(value, i, j));
      made.style.background = shade(value, scale);
      if (framed(i, j)) made.className = "framed";
      return made;
    })),
  );
  return element("div", { className: "array" }, element("table", {}, element("caption", {}, caption), element("tbody", {}, ...body)));
}

/** A cell that can be edited. */
export function editor(name, changed) {
  return (value, i, j) => {
    const input = element("input", { type: "number", step: "any", value: Math.round(value * 100) / 100 });
    input.setAttribute("aria-label", `${name}, row ${i + 1}, column ${j + 1}`);
    input.onchange = () => changed(i, j, Number(input.value) || 0);
    return input;
  };
}

const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

/** A cell that can be chosen: by a click, or by the arrow keys from the cell that is chosen. */
export function chooser(name, at, rows, chosen) {
  return (value, i, j) => {
    const current = at[0] === i && at[1] === j;
    const made = button(text(value), () => chosen([i, j]));
    made.setAttribute("aria-label", `${name}, row ${i + 1}, column ${j + 1}: ${text(value)}`);
    made.setAttribute("aria-pressed", String(current));
    made.tabIndex = current ? 0 : -1;
    made.onkeydown = (event) => {
      const step = ARROWS[event.key];
      if (!step) return;
      event.preventDefault();
      const next = [i + step[0], j + step[1]];
      if (rows[next[0]]?.[next[1]] !== undefined) chosen(next);
    };
    return made;
  };
}

/** Buttons that go from one number of y to the next, by hand or by themselves. */
export function player(root, extents, state, show) {
  let timer = null;
  const step = () => {
    if (!root.isConnected) return stop();
    const [rows, columns] = extents();
    const next = (state.at[0] * columns + state.at[1] + 1) % (rows * columns);
    state.at = [Math.floor(next / columns), next % columns];
    show();
  };
  const stop = () => {
    clearInterval(timer);
    timer = null;
    play.textContent = "Play";
  };
  const play = button("Play", () => {
    if (timer) return stop();
    timer = setInterval(step, 700);
    play.textContent = "Stop";
  });
  return [button("Step", step), play];
}

const named = (made) => made.getAttribute("aria-label").split(":")[0];

/** Replace what is in a box, and keep the focus: where it was, or at what is chosen. */
export function refill(box, ...children) {
  const before = box.contains(document.activeElement) ? document.activeElement : null;
  const label = before?.hasAttribute("aria-label") ? named(before) : null;
  const chosen = before?.hasAttribute("aria-pressed");
  box.replaceChildren(...children);
  if (!label) return;
  const same = chosen ? box.querySelector("[aria-pressed=true]") : [...box.querySelectorAll("[aria-label]")].find((e) => named(e) === label);
  same?.focus({ preventScroll: true });
}

/**
 * A function that asks a question and shows the answer. An answer that comes after a later one is left out; an error takes the
 * place of the message, and what was shown before stays.
 */
export function asker(root, ask, question, told, show) {
  let asked = 0;
  return async (request) => {
    const turn = ++asked;
    const start = performance.now();
    const answer = await ask(question, request);
    if (turn !== asked) return;
    told.classList.toggle("refused", "error" in answer);
    if ("error" in answer) {
      told.textContent = answer.error;
    } else {
      show(answer);
    }
    root.dataset.milliseconds = (performance.now() - start).toFixed(2);
    root.dataset.turn = String(turn);
  };
}

/** A line of text that is read aloud when it changes. */
export function message() {
  return element("p", { className: "told", role: "status" });
}

/** The first numbers of an explorer: always the same. */
export function sample(rows, columns) {
  return Array.from({ length: rows }, (_, i) => Array.from({ length: columns }, (_, j) => 1 + ((i * 7 + j * 5 + i * j) % 9)));
}
