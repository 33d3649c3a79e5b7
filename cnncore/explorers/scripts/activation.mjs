import { asker, element, menu, message } from "./parts.mjs";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 480, HEIGHT = 320, LOW = -4, HIGH = 4, MARGIN = 12;

function shape(name, attributes, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** The curve of an activation and its slope; the input is dragged, and the tangent follows. */
export async function explore(root, ask) {
  const { activations } = await ask("choices");
  const state = { name: "sigmoid", at: 1 };
  const picture = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", class: "curve" });
  const told = message();
  const slider = element("input", { type: "range", min: LOW, max: HIGH, step: 0.05, value: state.at });
  const asked = asker(root, ask, "activation", told, (answer) => {
    const numbers = [...answer.y, ...answer.slope].filter((value) => typeof value === "number");
    const bottom = Math.max(-4, Math.min(-1, ...numbers)), top = Math.min(4, Math.max(1.25, ...numbers));
    const h = (x) => ((x - LOW) / (HIGH - LOW)) * WIDTH;
    const v = (y) => HEIGHT - MARGIN - ((y - bottom) / (top - bottom)) * (HEIGHT - 2 * MARGIN);
    const path = (ys) => {
      let pen = "M";
      return ys.map((y, i) => {
        if (typeof y !== "number") { pen = "M"; return ""; }
        const point = `${pen}${h(answer.x[i]).toFixed(1)} ${v(Math.min(9, Math.max(-9, y))).toFixed(1)}`;
        pen = "L";
        return point;
      }).join("");
    };
    const [x, y, slope] = answer.at;
    const ticks = [];
    for (let t = -3; t <= 3; t++) {
      if (!t) continue;
      ticks.push(shape("text", { x: h(t), y: v(0) + 14, "text-anchor": "middle" }, String(t).replace("-", "−")));
      if (t > bottom && t < top) ticks.push(shape("text", { x: h(0) - 5, y: v(t) + 4, "text-anchor": "end" }, String(t).replace("-", "−")));
    }
    picture.replaceChildren(
      shape("path", { class: "axis", d: `M0 ${v(0)}H${WIDTH}M${h(0)} 0V${HEIGHT}` }), ...ticks,
      shape("path", { class: "slope", d: path(answer.slope) }),
      shape("path", { class: "value", d: path(answer.y) }),
      shape("path", { class: "tangent", d: `M${h(x - 1)} ${v(y - slope)}L${h(x + 1)} ${v(y + slope)}` }),
      shape("line", { class: "drop", x1: h(x), x2: h(x), y1: v(0), y2: v(y) }),
      shape("circle", { class: "point", cx: h(x), cy: v(y), r: 7 }),
    );
    const said = `x = ${x.toFixed(2)}: y = ${y.toFixed(3)}, slope ${slope.toFixed(3)}`.replaceAll("-", "−");
    picture.setAttribute("aria-label", `${state.name}, ${said}`);
    told.replaceChildren(element("code", {}, answer.formula), element("span", { className: "formula-text" }, said));
  });
  const show = () => asked({ ...state });
  slider.oninput = () => { state.at = Number(slider.value); show(); };
  const drag = (event) => {
    const box = picture.getBoundingClientRect();
    const x = LOW + ((event.clientX - box.left) / box.width) * (HIGH - LOW);
    state.at = Math.round(Math.min(HIGH, Math.max(LOW, x)) * 20) / 20;
    slider.value = state.at;
    show();
  };
  picture.onpointerdown = (event) => { picture.setPointerCapture(event.pointerId); drag(event); };
  picture.onpointermove = (event) => event.buttons && drag(event);
  root.append(
    element("p", { className: "hint" }, "Drag the point: the slope of the tangent is what the gradient is multiplied by."),
    element("div", { className: "controls" },
      menu("activation", Object.keys(activations), state.name, (name) => { state.name = name; show(); }),
      element("label", { className: "wide" }, "x ", slider),
      element("span", { className: "legend" }, element("i", { className: "value" }), "y ", element("i", { className: "slope" }), "slope")),
    picture, told,
  );
  await show();
}
