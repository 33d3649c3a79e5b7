// node live.mjs ADDRESS FOLDER CHROMIUM [SCREENSHOTS]: the explorers and examples of the lecture's pages, computing in Chromium.
// Every explorer is used by mouse and keyboard, and what it shows is compared with plain JavaScript. It fails by a wrong number,
// an error in the console, what axe-core finds, or content wider than the screen. FOLDER has node_modules.
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [address, folder, chromium, screenshots] = process.argv.slice(2);
const require = createRequire(pathToFileURL(join(folder, "node_modules", "x.js")));
const { default: puppeteer } = await import(pathToFileURL(require.resolve("puppeteer-core")));
const axe = require.resolve("axe-core/axe.min.js");
const PATIENCE = 300_000;
const VIEWS = [
  { name: "narrow-dark", width: 400, height: 800, scheme: "dark" },
  { name: "wide", width: 1280, height: 900, scheme: "light" },
];
const faults = [];
const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

function check(page, right, what) {
  if (!right) faults.push(`${page}: ${what}`);
}

async function opened(browser, page) {
  const tab = await browser.newPage();
  tab.setDefaultTimeout(PATIENCE);
  tab.on("console", (message) => message.type() === "error" && faults.push(`${page}: console: ${message.text()}`));
  tab.on("pageerror", (error) => faults.push(`${page}: ${error.message}`));
  tab.on("requestfailed", (request) => faults.push(`${page}: not loaded: ${request.url()}`));
  await tab.setViewport({ width: VIEWS[1].width, height: VIEWS[1].height });
  await tab.goto(address + page, { waitUntil: "load" });
  return tab;
}

/** Press "Compute here" and wait until the explorer has its first answer. */
async function started(tab, page) {
  const begin = performance.now();
  await tab.click(".explore button.live");
  await tab.waitForFunction(() => document.querySelector(".explore[data-turn]") || /failed/.test(document.querySelector(".explore button.live")?.textContent));
  if (!await tab.$(".explore[data-turn]")) throw new Error(`did not start: ${await tab.$eval(".explore", (e) => e.textContent)}`);
  return ((performance.now() - begin) / 1000).toFixed(1);
}

/** Do something to an explorer, and wait for its answer; returns the milliseconds that this took in the page. */
async function answered(tab, action) {
  const before = await tab.$eval(".explore", (root) => root.dataset.turn);
  await action();
  await tab.waitForFunction((turn) => document.querySelector(".explore").dataset.turn !== turn, {}, before);
  return Number(await tab.$eval(".explore", (root) => root.dataset.milliseconds));
}

const choose = (tab, label, value) => answered(tab, () => tab.evaluate((label, value) => {
  const select = [...document.querySelectorAll(".explore label")].find((l) => l.textContent.startsWith(label)).querySelector("select, input");
  select.value = value;
  select.dispatchEvent(new Event("change"));
}, label, value));

/** The numbers of the array whose caption begins so. */
const array = (tab, caption) => tab.$$eval(".explore .array", (boxes, caption) => {
  const box = boxes.find((b) => b.querySelector("caption").textContent.startsWith(caption));
  const number = (cell) => Number((cell.querySelector("input")?.value ?? cell.textContent).replace("−", "-"));
  return [...box.querySelectorAll("tr")].map((row) => [...row.querySelectorAll("td")].map(number));
}, caption);

const told = (tab) => tab.$eval(".explore .told", (e) => e.textContent);
const close = (a, b) => a.flat().length === b.flat().length && a.flat().every((value, i) => Math.abs(value - b.flat()[i]) < 0.011);
const windows = (x, k, s, f) => {
  const out = Math.floor((x.length - k) / s) + 1;
  const cells = (i, j) => Array.from({ length: k * k }, (_, t) => x[i * s + Math.floor(t / k)][j * s + (t % k)]);
  return Array.from({ length: out }, (_, i) => Array.from({ length: out }, (_, j) => f(cells(i, j))));
};
const sum = (values) => values.flat().reduce((a, b) => a + b, 0);

async function pooling(tab, page) {
  const x = await array(tab, "x");
  check(page, close(await array(tab, "y"), windows(x, 3, 2, (v) => Math.max(...v))), "y is not the maximum of the windows");
  check(page, sum(await array(tab, "dx")) === 1, "the gradient of a maximum is not one 1");
  await choose(tab, "strategy", "avg");
  check(page, close(await array(tab, "y"), windows(x, 3, 2, (v) => sum(v) / 9)), "y is not the mean of the windows");
  await tab.focus(".explore [aria-pressed=true]");
  await answered(tab, () => tab.keyboard.press("ArrowRight"));
  const at = await tab.$eval(".explore [aria-pressed=true]", (e) => e.getAttribute("aria-label"));
  check(page, at.startsWith("y, row 1, column 2"), `the arrow key went to ${at}`);
  check(page, await tab.evaluate(() => document.activeElement.getAttribute("aria-pressed") === "true"), "the arrow key lost the focus");
  const framed = await tab.$$eval(".explore .array:first-child td.framed", (cells) => cells.length);
  check(page, framed === 9, `${framed} cells of x are framed instead of 9`);
  const buttons = await tab.$$(".explore .controls button");
  await answered(tab, () => buttons[1].click());
  await sleep(1800);
  await buttons[1].click();
  const after = await tab.$eval(".explore [aria-pressed=true]", (e) => e.getAttribute("aria-label"));
  check(page, !after.startsWith("y, row 1, column 2"), "Play does not move");
  const times = [];
  const strategies = await tab.$$eval(".explore select", (menus) => [...menus[0].options].map((option) => option.value));
  let pairs = 0;
  for (const strategy of strategies) {
    times.push(await choose(tab, "strategy", strategy));
    for (const scheme of await tab.$$eval(".explore select", (menus) => [...menus[1].options].map((option) => option.value))) {
      times.push(await choose(tab, "windows", scheme));
      check(page, !(await tab.$(".explore .told.refused")), `${strategy}, ${scheme}: ${await told(tab)}`);
      pairs += 1;
    }
  }
  await choose(tab, "strategy", "max");
  await choose(tab, "windows", "kernel");
  await choose(tab, "kernel size", 6);
  await choose(tab, "stride", 1);
  times.sort((a, b) => a - b);
  await choose(tab, "kernel size", 3);
  await choose(tab, "stride", 2);
  return `${strategies.length} strategies, ${pairs} pairs with windows, ${times[times.length >> 1]} ms per answer (median), ${times.at(-1)} ms at most`;
}

async function convolution(tab, page) {
  const x = await array(tab, "x");
  const w = (await array(tab, "w")).flat();
  const expected = windows(x, 3, 1, (v) => sum(v.map((value, t) => value * w[t])));
  check(page, close(await array(tab, "y"), expected), "y is not the sum of products");
  check(page, close(await array(tab, "dw"), [0, 1, 2].map((i) => x[i].slice(0, 3))), "dw is not the window of x");
  const times = [await choose(tab, "padding", 1), await choose(tab, "stride", 2), await choose(tab, "dilation", 2)];
  check(page, (await array(tab, "y")).length === 2, "⌊(6 + 2 − 4 − 1) / 2⌋ + 1 = 2 rows");
  times.push(await choose(tab, "operator", "transposed convolution"));
  check(page, (await array(tab, "y")).length === 5 * 2 + 5 - 2, "(6 − 1) · 2 + 4 + 1 − 2 rows");
  await choose(tab, "operator", "convolution");
  await choose(tab, "dilation", 1);
  times.sort((a, b) => a - b);
  return `${times[times.length >> 1]} ms per answer`;
}

async function activation(tab, page) {
  check(page, (await told(tab)).includes("y = 0.731, slope 0.197"), `sigmoid(1): ${await told(tab)}`);
  const box = await (await tab.$(".explore svg")).boundingBox();
  await tab.mouse.move(box.x + box.width / 2, box.y + 20);
  await tab.mouse.down();
  const milliseconds = await answered(tab, () => tab.mouse.move(box.x + box.width / 4, box.y + 30));
  await tab.mouse.up();
  check(page, (await told(tab)).includes("x = −2.00: y = 0.119"), `dragged to −2: ${await told(tab)}`);
  const names = await tab.$$eval(".explore select option", (options) => options.map((option) => option.value));
  for (const name of names) {
    await choose(tab, "activation", name);
    check(page, !(await tab.$(".explore .told.refused")), `${name}: ${await told(tab)}`);
  }
  await choose(tab, "activation", "elu");
  await tab.focus(".explore input[type=range]");
  await answered(tab, () => tab.keyboard.press("ArrowRight"));
  check(page, (await told(tab)).includes("x = −1.95"), "the arrow key does not move x");
  return `${names.length} activations, ${milliseconds} ms while dragging`;
}

async function branches(tab, page) {
  const log = () => tab.$$eval(".explore .told", (lines) => lines[1].textContent);
  const press = async (start, done) => {
    const begin = performance.now();
    await tab.evaluate((start) => [...document.querySelectorAll(".explore button")].find((b) => b.textContent.startsWith(start)).click(), start);
    await tab.waitForFunction((done) => new RegExp(done).test(document.querySelectorAll(".explore .told")[1].textContent), {}, done);
    return ((performance.now() - begin) / 1000).toFixed(1);
  };
  const bars = () => tab.$$eval(".explore .score small", (cells) => cells.map((cell) => cell.textContent).join(" "));
  const before = await bars();
  const test = await press("Test", "images right");
  const whole = Number((await log()).split(" ")[0]);
  check(page, whole >= 95, `the whole network: ${await log()}`);
  const toggled = await answered(tab, () => tab.click('[data-branch="inception_1/3×3"]'));
  check(page, (await bars()) !== before, "a branch that is off changes nothing");
  await press("Test", "images right");
  const without = Number((await log()).split(" ")[0]);
  check(page, without < whole, `without a branch: ${await log()}`);
  const trained = await press("Train", "after");
  const text = await log();
  check(page, Number(/after \d+ steps: (\d+)/.exec(text)[1]) > without, `training without it: ${text}`);
  return `${toggled} ms per switch, 100 images in ${test} s, 10 steps of training and two tests in ${trained} s; ${whole} of 100 right, ${text}`;
}

async function examples(tab, page) {
  await tab.click(".try button.live");
  await tab.waitForSelector(".try output:not(:empty)");
  const output = await tab.$eval(".try output", (e) => e.textContent);
  check(page, output.includes("array([[[[4., 5.],") && output.includes("[ 0.,  0., 40.,  0.],"), `Try it printed ${output}`);
  await tab.$eval(".try textarea", (editor) => (editor.value = "cnncore.max_pool(x, kernel_size=9)"));
  await tab.click(".try button");
  await tab.waitForFunction(() => /ShapeError/.test(document.querySelector(".try output").textContent));
  const second = (await tab.$$(".try button.live"))[1];
  await second.click();
  await tab.waitForFunction(() => document.querySelectorAll(".try output")[1]?.textContent);
  const after = await tab.$$eval(".try output", (outputs) => outputs[1].textContent);
  check(page, after.startsWith("1.0\n0.0"), `the second example printed ${after}`);
  return "two examples run, one changed";
}

const PAGES = [
  ["lecture/max_pooling.html", pooling],
  ["lecture/max_pooling.html", examples],
  ["lecture/strided.html", convolution],
  ["lecture/activations.html", activation],
  ["lecture/inception.html", branches],
];
const browser = await puppeteer.launch({ executablePath: chromium, args: ["--no-sandbox"], protocolTimeout: PATIENCE });
for (const [page, use] of PAGES) {
  const tab = await opened(browser, page);
  try {
    const ready = use === examples ? null : await started(tab, page);
    const found = await use(tab, page);
    console.log(`${page}, ${use.name}: ${ready ? `ready after ${ready} s, ` : ""}${found}`);
    await tab.addScriptTag({ path: axe });
    for (const view of VIEWS) {
      await tab.setViewport({ width: view.width, height: view.height });
      await tab.emulateMediaFeatures([{ name: "prefers-color-scheme", value: view.scheme }]);
      await sleep(200);
      const width = await tab.evaluate(() => document.documentElement.scrollWidth);
      check(page, width <= view.width, `${width} px wide on a screen of ${view.width} px`);
      for (const { id, nodes } of await tab.evaluate(async () => (await axe.run()).violations)) {
        check(page, false, `${view.name}, axe: ${id}, ${nodes.length} × such as ${nodes[0].html.slice(0, 120)}`);
      }
      if (screenshots !== "-") {
        const shown = await tab.$(use === examples ? ".try" : ".explore");
        await shown.screenshot({ path: join(screenshots, `live_${use.name}_${view.name}.png`) });
      }
    }
  } catch (error) {
    check(page, false, `${use.name}: ${error.message}`);
  }
  await tab.close();
}
await browser.close();
console.log(`${PAGES.length} live parts, ${VIEWS.length} views each: ${faults.length} faults`);
for (const fault of faults) console.log(fault);
process.exit(faults.length ? 1 : 0);
