// SPDX-License-Identifier: Apache-2.0
// What a page is easier with; everything that matters is a link or a form, and works without.
"use strict";

const all = (selector, within = document) => within.querySelectorAll(selector);

function say(what) {
  const place = document.getElementById("said");
  place.textContent = what;
}

// Buttons that only a script can serve are hidden until there is one.
function reveal(within) {
  for (const button of all(".copy-button, .keys-open", within)) button.hidden = false;
}

async function copy(button) {
  const words = document.getElementById("said").dataset;
  try {
    await navigator.clipboard.writeText(button.dataset.text);
    const before = button.textContent;
    button.textContent = words.copied;
    say(words.copied);
    setTimeout(() => { button.textContent = before; }, 2000);
  } catch {
    // Without HTTPS there is no clipboard: what is marked can be copied by hand.
    getSelection().selectAllChildren(button.parentElement.querySelector("code"));
    say(words.failed);
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest(".copy-button");
  if (button) copy(button);
  if (event.target.closest(".keys-open")) document.getElementById("keys").showModal();
});

// A menu that is folded away on small screens.
function foldMenu() {
  const button = document.querySelector(".menu-switch");
  const menu = document.getElementById("menu");
  if (!button) return;
  const small = matchMedia("(max-width: 760px)");
  const show = (open) => {
    menu.hidden = small.matches && !open;
    button.hidden = !small.matches;
    button.setAttribute("aria-expanded", String(open));
  };
  button.addEventListener("click", () => show(menu.hidden));
  small.addEventListener("change", () => show(false));
  show(false);
}

// "g" and then a letter goes to a page, "/" to the search, "?" shows the keys.
let afterG = 0;
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, select, textarea, dialog")) return;
  if (event.key === "?") {
    document.getElementById("keys")?.showModal();
  } else if (event.key === "/") {
    const field = document.querySelector("[data-search]");
    if (!field) return;
    event.preventDefault();
    field.focus();
  } else if (event.key === "g") {
    afterG = Date.now();
  } else if (Date.now() - afterG < 1500) {
    afterG = 0;
    document.querySelector(`[data-key="${CSS.escape(event.key)}"]`)?.click();
  }
});

// A form that was changed is not left without a word.
let changed = false;
document.addEventListener("input", (event) => {
  if (event.target.closest("form[method=post] textarea.code, #service-form")) changed = true;
});
document.addEventListener("submit", () => { changed = false; });
addEventListener("beforeunload", (event) => { if (changed) event.preventDefault(); });

// Logs that are followed would grow without end.
const MOST_LINES = 2000;
document.addEventListener("htmx:afterSwap", (event) => {
  const lines = document.getElementById("lines");
  while (lines && lines.rows.length > MOST_LINES) lines.deleteRow(-1);
});
document.addEventListener("htmx:load", (event) => reveal(event.target));

reveal(document);
foldMenu();
document.getElementById("mistakes")?.focus();
