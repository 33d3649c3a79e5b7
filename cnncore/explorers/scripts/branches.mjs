import { asker, button, element, message, number, text } from "./parts.mjs";

const COUNT = 100, STEPS = 10;
const pause = () => new Promise((resolve) => setTimeout(resolve, 30));

/** A trained network of Inception modules whose branches are switched off and on: its answer, its accuracy, training without them. */
export async function explore(root, ask) {
  const state = { off: [], image: 0 };
  const switches = element("div", { className: "switches" });
  const answerBox = element("div", { className: "answer" });
  const told = message();
  const log = element("p", { className: "told", role: "status" });
  const isOff = (module, branch) => state.off.some(([m, b]) => m === module && b === branch);

  const asked = asker(root, ask, "branches", told, (answer) => {
    train.hidden = !answer.trains;
    const strongest = Math.max(...answer.modules.flatMap((m) => m.branches.map((b) => b.read)), 1e-9);
    const focus = document.activeElement?.dataset?.branch;
    switches.replaceChildren(...answer.modules.map((module) =>
      element("fieldset", {}, element("legend", {}, module.name.replaceAll("_", " ")),
        ...module.branches.map((branch) => {
          const box = element("input", { type: "checkbox", checked: branch.on });
          box.dataset.branch = `${module.name}/${branch.name}`;
          box.onchange = () => toggle(module.name, branch.name, box.checked);
          const bar = element("i", { className: "bar" });
          bar.style.width = `${(100 * branch.read) / strongest}%`;
          return element("label", { className: "branch" }, box, element("b", {}, branch.name), element("span", { className: "track" }, bar),
            element("small", {}, `${branch.channels} channels, read with ${text(branch.read)}`));
        }))));
    if (focus) switches.querySelector(`[data-branch="${CSS.escape(focus)}"]`)?.focus();
    answerBox.replaceChildren(digit(answer.pixels, `an image of class ${answer.classes[answer.label]}`), scores(answer));
    const best = answer.probabilities.indexOf(Math.max(...answer.probabilities));
    const right = best === answer.label ? "right" : `wrong: it is ${answer.classes[answer.label]}`;
    told.textContent = `The network says ${answer.classes[best]} (${Math.round(100 * answer.probabilities[best])} %), which is ${right}. `
      + (state.off.length ? `Off: ${state.off.map(([m, b]) => `${b} of ${m.replaceAll("_", " ")}`).join(", ")}.` : "All branches are on.");
  });
  const show = () => asked({ ...state });
  const measure = async () => {
    const { right, count, error } = await ask("accuracy", { off: state.off, count: COUNT });
    return error ?? `${right} of ${count} images right`;
  };
  async function toggle(module, branch, on) {
    state.off = on ? state.off.filter(([m, b]) => m !== module || b !== branch) : [...state.off, [module, branch]];
    await show();
    log.textContent = "";
  }
  async function busy(pressed, work) {
    const all = [...root.querySelectorAll("button")];
    for (const one of all) one.disabled = true;
    await pause();
    try {
      await work();
    } finally {
      for (const one of all) one.disabled = false;
      pressed.focus();
    }
  }
  const test = button(`Test on ${COUNT} images`, () => busy(test, async () => { log.textContent = `${await measure()}.`; }));
  const train = button(`Train ${STEPS} steps as it is`, () => busy(train, async () => {
    const before = await measure();
    for (let i = 1; i <= STEPS; i++) {
      const { steps, loss, error } = await ask("train", { off: state.off });
      log.textContent = error ?? `Step ${steps}: loss ${loss.toFixed(3)}`;
      await pause();
    }
    log.textContent = `Before: ${before}; after ${STEPS} steps: ${await measure()}.`;
    await show();
  }));
  const restart = button("Weights of the beginning, all on", async () => {
    state.off = [];
    await ask("train", { restart: true });
    log.textContent = "";
    await show();
  });
  root.append(
    element("p", { className: "hint" }, "Switch branches off: from then on they contribute zeros. The bars show how strongly the following layers read a branch: the norm of their weights, per channel."),
    element("div", { className: "controls" }, number("image", 1, 1, 16, (value) => { state.image = value - 1; show(); }), test, train, restart),
    answerBox, told, switches, log,
  );
  await show();
}

/** An image as a canvas: bright where the number is large. */
function digit(pixels, label) {
  const canvas = element("canvas", { width: pixels[0].length, height: pixels.length, role: "img" });
  canvas.setAttribute("aria-label", label);
  const context = canvas.getContext("2d");
  const low = Math.min(...pixels.flat()), high = Math.max(...pixels.flat());
  const image = context.createImageData(pixels[0].length, pixels.length);
  pixels.flat().forEach((value, i) => image.data.set([...Array(3).fill((255 * (value - low)) / (high - low || 1)), 255], 4 * i));
  context.putImageData(image, 0, 0);
  return canvas;
}

/** The probability of every class as a bar; all bars start at 0, and the width of the box is 1. */
function scores(answer) {
  return element("div", { className: "scores" }, ...answer.probabilities.map((value, k) => {
    const bar = element("i", { className: k === answer.label ? "bar true" : "bar" });
    bar.style.width = `${100 * value}%`;
    return element("div", { className: "score" }, element("b", {}, answer.classes[k]), element("span", { className: "track" }, bar),
      element("small", {}, `${(100 * value).toFixed(1)} %`));
  }));
}
