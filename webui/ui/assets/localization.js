// The page in the language of the setting "Localization": labels, buttons, hints and tooltips, not what users typed.

import { route } from "./dom.js";

const LEFT_ALONE = "textarea, input, script, style, .infotext, .html-log, [contenteditable], .gallery, .notranslate";
const ATTRIBUTES = ["placeholder", "title", "aria-label"];

export async function translate(language) {
  if (!language || language === "None") return;
  const answer = await fetch(route("internal/localization"));
  const texts = answer.ok ? await answer.json() : {};
  if (!Object.keys(texts).length) return;
  document.documentElement.lang = language.slice(0, 2);
  const work = (root) => translateBelow(root, texts);
  work(document.body);
  new MutationObserver((changes) => {
    for (const change of changes) {
      if (change.type === "characterData") translateText(change.target, texts);
      else change.addedNodes.forEach(work);
    }
  }).observe(document.body, { childList: true, characterData: true, subtree: true });
}

function translateBelow(root, texts) {
  if (root.nodeType === Node.TEXT_NODE) translateText(root, texts);
  if (root.nodeType !== Node.ELEMENT_NODE) return;
  for (const element of [root, ...root.querySelectorAll("*")]) {
    for (const name of ATTRIBUTES) {
      const found = texts[element.getAttribute(name)?.trim()];
      if (found) element.setAttribute(name, found);
    }
  }
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) translateText(walker.currentNode, texts);
}

// A translated text isn't looked up again, unless it is the key of another one.
function translateText(node, texts) {
  const text = node.nodeValue.trim();
  const found = texts[text];
  if (!found || found === text || node.parentElement?.closest(LEFT_ALONE)) return;
  node.nodeValue = node.nodeValue.replace(text, () => found);
}
