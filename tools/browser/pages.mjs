// node pages.mjs ADDRESS FOLDER CHROMIUM [SCREENSHOTS] PAGE…: pages of the site in Chromium, wide and at 400 px, light and dark.
// A page fails by an error in its console, by what axe-core finds, by content that is wider than the screen, or by a link or
// button that the tab key does not reach, or by taking longer than PATIENCE.
// FOLDER has node_modules with puppeteer-core and axe-core.
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [address, folder, chromium, screenshots, ...pages] = process.argv.slice(2);
const require = createRequire(pathToFileURL(join(folder, "node_modules", "x.js")));
const { default: puppeteer } = await import(pathToFileURL(require.resolve("puppeteer-core")));
const axe = require.resolve("axe-core/axe.min.js");

const PATIENCE = 300_000; // milliseconds for one page in one view
const VIEWS = [
  { name: "wide", width: 1280, height: 900, scheme: "light" },
  { name: "narrow-dark", width: 400, height: 800, scheme: "dark" },
];

async function visit(browser, page, view) {
  const tab = await browser.newPage();
  tab.setDefaultTimeout(PATIENCE);
  const found = [];
  tab.on("console", (message) => message.type() === "error" && found.push(`console: ${message.text()}`));
  tab.on("pageerror", (error) => found.push(`error: ${error.message}`));
  tab.on("requestfailed", (request) => found.push(`not loaded: ${request.url()}`));
  tab.on("request", (request) => {
    if (!request.url().startsWith(address) && !request.url().startsWith("data:") && !request.url().startsWith("blob:")) {
      found.push(`asks for ${request.url()}`);
    }
  });
  await tab.setViewport({ width: view.width, height: view.height });
  await tab.emulateMediaFeatures([{ name: "prefers-color-scheme", value: view.scheme }]);
  await tab.goto(address + page, { waitUntil: "load" });
  const width = await tab.evaluate(() => document.documentElement.scrollWidth);
  if (width > view.width) found.push(`${width} px wide on a screen of ${view.width} px`);
  await tab.addScriptTag({ path: axe });
  const violations = await tab.evaluate(async () => (await axe.run()).violations);
  for (const { id, nodes } of violations) found.push(`axe: ${id}, ${nodes.length} × such as ${nodes[0].html.slice(0, 120)}`);
  await tab.keyboard.press("Tab");
  const focused = await tab.evaluate(() => document.activeElement !== document.body);
  if (!focused) found.push("the tab key reaches nothing");
  if (screenshots !== "-") {
    await tab.screenshot({ path: join(screenshots, `${page.replace(/\W+/g, "_")}_${view.name}.png`) });
  }
  await tab.close();
  return found.map((text) => `${page} (${view.name}): ${text}`);
}

/** The faults of a page in a view; that it took too long, or could not be opened, is one of them. */
async function bounded(browser, page, view) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not finished after ${PATIENCE / 1000} s`)), PATIENCE);
  });
  try {
    return await Promise.race([visit(browser, page, view), late]);
  } catch (error) {
    return [`${page} (${view.name}): ${error.message}`];
  } finally {
    clearTimeout(timer);
  }
}

const args = ["--no-sandbox", "--allow-file-access-from-files"];
const browser = await puppeteer.launch({ executablePath: chromium, args, protocolTimeout: PATIENCE });
const faults = [];
for (const [number, page] of pages.entries()) {
  const begin = performance.now();
  const before = faults.length;
  for (const view of VIEWS) faults.push(...(await bounded(browser, page, view)));
  const seconds = ((performance.now() - begin) / 1000).toFixed(1);
  console.log(`${number + 1}/${pages.length} ${page}: ${faults.length - before} faults, ${seconds} s`);
}
await browser.close();
console.log(`${pages.length} pages, ${VIEWS.length} views each: ${faults.length} faults`);
for (const fault of faults) console.log(fault);
process.exit(faults.length ? 1 : 0);
