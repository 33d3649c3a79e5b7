"use strict";
const folder = document.currentScript.src;

// What scrolls sideways can be reached, and scrolled, by keyboard.
function reachable() {
  for (const box of document.querySelectorAll(".formula, pre, .table-wrapper")) {
    if (box.scrollWidth > box.clientWidth) {
      box.tabIndex = 0;
      box.setAttribute("role", "group");
      const what = box.matches("pre") ? "Code" : box.matches(".formula") ? "Formula" : "Table";
      box.setAttribute("aria-label", `${what}, scrolls sideways`);
    } else {
      for (const name of ["tabindex", "role", "aria-label"]) box.removeAttribute(name);
    }
  }
}

// What the theme leaves out for readers who listen.
function completed() {
  for (const caption of document.querySelectorAll(".caption[role=heading]")) caption.setAttribute("aria-level", "2");
  document.querySelector("aside.sidebar-drawer")?.setAttribute("aria-label", "All pages");
  document.querySelector("aside.toc-drawer")?.setAttribute("aria-label", "On this page");
}

// Where the site is served together with the engine, its explorers and examples compute.
function button(label, pressed) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = "live";
  made.textContent = label;
  made.onclick = async () => {
    made.disabled = true;
    try {
      const { engine } = await import(new URL("engine.mjs", folder));
      const ask = await engine((text) => (made.textContent = text));
      await pressed(ask, made);
    } catch (error) {
      made.disabled = false;
      made.textContent = `${label} (failed: ${error.message})`;
    }
  };
  return made;
}

function explorers() {
  for (const root of document.querySelectorAll(".explore")) {
    root.append(
      button("Compute here (loads 20 MB once)", async (ask, pressed) => {
        const { explore } = await import(new URL(`${root.dataset.explorer}.mjs`, folder));
        await explore(root, async (...question) => ask(...question));
        pressed.remove();
        root.querySelector("select, input, button")?.focus();
        reachable();
      }),
    );
  }
}

// Examples are run in a page's order, so that the names of earlier ones are known: "Try it" runs those before as well.
function examples() {
  const earlier = [];
  for (const block of document.querySelectorAll(".highlight-python pre")) {
    const lines = block.textContent.split("\n");
    if (!lines[0].startsWith(">>> ")) continue;
    const code = lines.filter((line) => /^(>>>|\.\.\.)( |$)/.test(line)).map((line) => line.slice(4)).join("\n");
    const example = { code, ran: false };
    const before = [...earlier];
    earlier.push(example);
    const box = document.createElement("div");
    box.className = "try";
    box.append(
      button("Try it", (ask, pressed) => {
        const editor = document.createElement("textarea");
        editor.value = code;
        editor.rows = code.split("\n").length;
        editor.spellcheck = false;
        editor.setAttribute("aria-label", "Python");
        const output = document.createElement("output");
        const run = () => {
          for (const one of before.filter((one) => !one.ran)) {
            ask.run(one.code);
            one.ran = true;
          }
          output.textContent = ask.run(editor.value);
          example.ran = true;
        };
        editor.onkeydown = (event) => {
          if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) run();
        };
        pressed.disabled = false;
        pressed.textContent = "Run";
        pressed.title = "Ctrl+Enter in the text runs it, too";
        pressed.onclick = run;
        box.prepend(editor);
        box.append(output);
        run();
        editor.focus();
      }),
    );
    block.closest(".highlight-python").after(box);
  }
}

completed();
addEventListener("resize", reachable);
reachable();
if (window.live) {
  if (location.protocol === "file:") {
    for (const root of document.querySelectorAll(".explore")) {
      root.textContent = "Opened from disk, this page shows no more than its text: served, it computes. "
        + "Run python -m http.server --directory build/site, and open http://localhost:8000.";
    }
  } else {
    explorers();
    examples();
  }
}
