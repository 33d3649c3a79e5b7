import { asker, button, chooser, editor, element, grid, largest, menu, message, number, player, refill, sample } from "./parts.mjs";

// Which settings each kind of windows has.
const SETTINGS = {
  kernel: ["kernel_size", "stride", "padding"],
  adaptive: ["output_size"],
  global: [],
  pyramid: [],
  fractional: ["output_size", "kernel_size", "seed"],
  s3: ["kernel_size", "stride"],
};

/** Any strategy on any windows: x, y, and the gradient of x for the y that was chosen. */
export async function explore(root, ask) {
  const { strategies } = await ask("choices");
  const state = {
    x: sample(6, 6), strategy: "max", scheme: "kernel", at: [0, 0],
    settings: { kernel_size: 3, stride: 2, padding: 0, output_size: 3, seed: 0 },
  };
  const box = element("div", { className: "arrays" });
  const told = message();
  let y = [[0]];
  const asked = asker(root, ask, "pooling", told, (answer) => {
    state.at = answer.at;
    y = answer.y;
    const framed = (i, j) => answer.window[i][j];
    refill(
      box,
      grid("x", state.x, { cell: editor("x", (i, j, value) => { state.x[i][j] = value; show(); }), framed }),
      grid("y (choose one)", y, {
        cell: chooser("y", state.at, y, choose), framed: (i, j) => i === state.at[0] && j === state.at[1], scale: largest([...state.x, ...y]),
      }),
      grid("dx for dy = 1 at this y", answer.dx, { framed }),
    );
    told.replaceChildren(element("code", {}, answer.call), element("span", { className: "formula-text" }, answer.formula));
  });
  const inputs = {
    kernel_size: number("kernel size", 3, 1, 6, set("kernel_size")),
    stride: number("stride", 2, 1, 4, set("stride")),
    padding: number("padding", 0, 0, 2, set("padding")),
    output_size: number("output size", 3, 1, 6, set("output_size")),
    seed: number("seed", 0, 0, 99, set("seed")),
  };
  const windows = menu("windows", strategies.max, state.scheme, (name) => { state.scheme = name; show(); });
  const strategy = menu("strategy", Object.keys(strategies), state.strategy, (name) => {
    state.strategy = name;
    if (!strategies[name].includes(state.scheme)) state.scheme = strategies[name][0];
    windows.fill(strategies[name], state.scheme);
    show();
  });
  root.append(
    element("p", { className: "hint" }, "Change a number of x, the strategy or the windows; choose a y, by a click or the arrow keys, and see where its gradient goes."),
    element("div", { className: "controls" }, strategy, windows, ...Object.values(inputs)),
    element("div", { className: "controls" },
      ...player(root, () => [y.length, y[0].length], state, () => show()),
      button("Other numbers", () => {
        state.x = state.x.map((row) => row.map(() => 1 + Math.floor(Math.random() * 9)));
        show();
      })),
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
    for (const [name, input] of Object.entries(inputs)) input.hidden = !SETTINGS[state.scheme].includes(name);
    const settings = Object.fromEntries(SETTINGS[state.scheme].map((name) => [name, state.settings[name]]));
    return asked({ x: state.x, strategy: state.strategy, scheme: state.scheme, settings, at: state.at });
  }
  await show();
}
