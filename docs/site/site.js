"use strict";

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

completed();
addEventListener("resize", reachable);
reachable();
