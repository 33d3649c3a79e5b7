import { asker, chooser, editor, element, grid, menu, message, number, player, refill, sample, text } from "./parts.mjs";

const KERNELS = {
  "vertical edges": [[1, 0, -1], [2, 0, -2], [1, 0, -1]],
  "mean": [[1, 1, 1], [1, 1, 1], [1, 1, 1]].map((row) => row.map((w) => w / 9)),
  "Laplace": [[0, 1, 0], [1, -4, 1], [0, 1, 0]],
  "2 × 2": [[1, 2], [3, 4]],
  "1 × 1": [[2]],
};

/** A convolution, and for the y that was chosen the gradients of x and of the kernel. */
export async function explore(root, ask) {
  const state = {
    x: sample(6, 6), w: structuredClone(KERNELS["vertical edges"]), transposed: false, at: [0, 0],
    settings: { stride: 1, padding: 0, dilation: 1 },
  };
  const box = element("div", { className: "arrays" });
  const told = message();
  let y = [[0]];
  const asked = asker(root, ask, "convolution", told, (answer) => {
    state.at = answer.at;
    y = answer.y;
    const framed = (i, j) => answer.window[i][j];
    refill(
      box,
      grid("x", state.x, { cell: editor("x", (i, j, value) => { state.x[i][j] = value; show(); }), framed }),
      grid("w", state.w, { cell: editor("w", (i, j, value) => { state.w[i][j] = value; show(); }) }),
      grid("y (choose one)", y, { cell: chooser("y", state.at, y, choose), framed: (i, j) => i === state.at[0] && j === state.at[1] }),
      grid("dx for dy = 1 at this y", answer.dx, { framed }),
      grid("dw for dy = 1 at this y", answer.dw),
    );
    const [i, j] = state.at;
    const terms = answer.sum.map(([w, x]) => `${text(w)} · ${x < 0 ? `(${text(x)})` : text(x)}`).join(" + ").replaceAll("+ −", "− ");
    told.replaceChildren(
      element("code", {}, answer.call),
      element("span", { className: "formula-text" }, `y[${i}, ${j}] = ${terms || "0"}${answer.sum.length > 1 ? ` = ${text(y[i][j])}` : ""}`),
    );
  });
  root.append(
    element("p", { className: "hint" }, "Change a number of x or w; choose a y, by a click or the arrow keys, and see its sum and both gradients."),
    element("div", { className: "controls" },
      menu("kernel", Object.keys(KERNELS), "vertical edges", (name) => { state.w = structuredClone(KERNELS[name]); show(); }),
      menu("operator", ["convolution", "transposed convolution"], "convolution", (name) => {
        state.transposed = name !== "convolution";
        show();
      }),
      number("stride", 1, 1, 3, set("stride")), number("padding", 0, 0, 2, set("padding")), number("dilation", 1, 1, 2, set("dilation"))),
    element("div", { className: "controls" }, ...player(root, () => [y.length, y[0].length], state, () => show())),
    box, told,
  );
  function set(name) {
    return (value) => { state.settings[name] = value; show(); };
  }
  function choose(at) {
    state.at = at;
    show();
  }
  function show() {
    return asked({ ...state });
  }
  await show();
}
