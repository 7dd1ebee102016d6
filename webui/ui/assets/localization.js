// The page in a language: labels, buttons, hints, tooltips and sentences, never what users wrote or named.
//
// A translation is a flat object {English text of the page: translation}. A key with {} in it is a sentence with values
// in it; the translation takes them in their order as {}, or by their number as {1}, {2}.

import { byId, recall, remember, route } from "./dom.js";
import { settings } from "./settings.js";

const LEFT_ALONE = "textarea, script, style, code, pre, [contenteditable], [translate=no], .notranslate, .gallery, .infotext";
// In lists of files and other names only the words for "no file" are words.
const NAMES = ".names .options, .names .token, .names ul, .names option, .names .setting-boxes";
const WORDS_AMONG_NAMES = /^(None|Automatic|All|Use same \w+|Default)$/i;
const ATTRIBUTES = ["placeholder", "title", "aria-label", "alt"];
const ENGLISH = "None"; // what the setting "Localization" calls the page as it is
const CHOSEN = "easel_language"; // this browser's choice
const COMPLETE = "ko_KR"; // a file that has every text of the page
const SENTENCE = /^\S+ .*[.!?…]$/su;
const WORD = /\p{L}{2}/u;
const OF_SLIDERS = /^(number input for|range slider for) (.+)$/; // Gradio names its parts after their label
const KEPT = 5000; // texts whose translations are remembered
const CHOSEN_IN = ".secondary-wrap > input"; // what is chosen in a list of Gradio's
const LOOKED = 500; // milliseconds between looks at those: nothing tells when Gradio sets another value

let texts = new Map(); // text -> translation
let sentences = []; // of the keys with {}: {start, own, pattern, translation}
let found = new Map(); // text -> translation or null, as looked up
let observer = null;
const nodes = new WeakMap(); // text node -> {original, shown}
const attributes = new WeakMap(); // element -> {attribute: {original, shown}}
const seen = new Set(); // every text of the page that came by

// Called when the settings are there. Until somebody chooses a language, for the server or in this browser, the
// browser's own language is taken where there is a translation.
export async function start() {
  addSwitch();
  await use(language());
}

// The text in the page's language, for what isn't shown in the page itself: confirm() and the like.
export const translated = (text) => lookUp(text) ?? text;

// The texts of the page that have no translation, as far as the page has shown them.
export const untranslated = () => [...seen].filter((text) => lookUp(text) === null);

// All texts of the page, as a file to be translated: those of a complete translation, and those seen on the page.
export async function downloadLocalization() {
  if (!observer) translateBelow(document.body);
  const all = new Set([...Object.keys(await ask(COMPLETE)), ...seen]);
  const content = Object.fromEntries([...all].map((text) => [text, texts.get(text) ?? text]));
  const file = new Blob([JSON.stringify(content, null, 4)], { type: "application/json" });
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(file), download: "localization.json" });
  link.click();
  URL.revokeObjectURL(link.href);
}

function language() {
  const here = recall(localStorage, CHOSEN);
  if (here === ENGLISH || settings.localizations?.includes(here)) return here;
  if (settings.localization_chosen) return settings.localization;
  const spoken = (tag) => tag.toLowerCase().split(/[-_]/)[0];
  for (const tag of navigator.languages ?? []) {
    if (spoken(tag) === "en") return ENGLISH;
    const same = settings.localizations?.filter((name) => spoken(name) === spoken(tag)) ?? [];
    const exact = same.find((name) => name.replace("_", "-").toLowerCase() === tag.toLowerCase());
    if (same.length) return exact ?? same[0];
  }
  return ENGLISH;
}

async function ask(name) {
  const answer = await fetch(`${route("internal/localization")}?${new URLSearchParams({ language: name })}`);
  return answer.ok ? answer.json() : {};
}

async function use(name) {
  const { rtl, ...given } = name === ENGLISH ? {} : await ask(name);
  texts = new Map(Object.entries(given));
  sentences = Object.entries(given).filter(([key]) => key.includes("{}")).map(compiled);
  found = new Map();
  document.documentElement.lang = tagOf(name);
  document.documentElement.dir = rtl === true ? "rtl" : "ltr";
  if (byId("easel_language")) byId("easel_language").value = name;
  if (!observer && !texts.size) return; // nothing to do, and nothing to be taken back
  translateBelow(document.body);
  showChosen();
  if (!observer) setInterval(showChosen, LOOKED);
  observer ??= watch();
}

// What is chosen lies in an input, whose value is Gradio's: its translation is laid over it, by style.css.
function showChosen() {
  for (const input of document.querySelectorAll(CHOSEN_IN)) {
    const box = input.parentElement;
    const name = box.closest(".names") && !WORDS_AMONG_NAMES.test(input.value);
    const shown = name ? input.value : translationOf(input.value, box);
    if (shown === input.value) delete box.dataset.chosen;
    else box.dataset.chosen = shown;
  }
}

function tagOf(name) {
  try {
    return name === ENGLISH ? "en" : Intl.getCanonicalLocales(name.replaceAll("_", "-"))[0];
  } catch {
    return ""; // the file's name is no language's
  }
}

// "Saved {} of {}" -> a pattern. Of several that a text fits, the one with the most words of its own is meant.
function compiled([key, translation]) {
  const parts = key.split("{}");
  const escaped = parts.map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  const pattern = new RegExp(`^${escaped.join("(.*?)")}$`, "su");
  return { start: parts[0], own: parts.join("").length, pattern, translation };
}

function lookUp(text) {
  if (found.has(text)) return found.get(text);
  if (found.size > KEPT) found.clear();
  const answer = texts.get(text) ?? filledSentence(text);
  found.set(text, answer);
  return answer;
}

function filledSentence(text) {
  let best = null;
  for (const sentence of sentences) {
    if (!text.startsWith(sentence.start) || sentence.own < (best?.own ?? 0)) continue;
    const values = text.match(sentence.pattern);
    if (values) best = { ...sentence, values };
  }
  if (!best) return null;
  let next = 0;
  return best.translation.replace(/\{(\d*)\}/g, (_, number) => inserted(best.values[number || (next += 1)] ?? ""));
}

// A value stays as it is, for users wrote most of them; one that is a whole sentence of ours is translated.
const inserted = (value) => (SENTENCE.test(value) && lookUp(value)) || value;

// Changes come together, and before the browser paints: nobody sees the English first.
function watch() {
  const watcher = new MutationObserver((changes) => {
    const added = new Set();
    for (const { type, target, attributeName, addedNodes } of changes) {
      if (type === "characterData") translateText(target);
      else if (type === "attributes") translateAttribute(target, attributeName);
      else for (const node of addedNodes) added.add(node);
    }
    for (const node of added) if (node.isConnected) translateBelow(node);
  });
  const what = { childList: true, characterData: true, subtree: true, attributes: true, attributeFilter: ATTRIBUTES };
  watcher.observe(document.body, what);
  return watcher;
}

function translateBelow(root) {
  if (root.nodeType === Node.TEXT_NODE) translateText(root);
  if (root.nodeType !== Node.ELEMENT_NODE) return;
  for (const element of [root, ...root.querySelectorAll("[placeholder], [title], [aria-label], [alt]")]) {
    for (const name of ATTRIBUTES) translateAttribute(element, name);
  }
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) translateText(walker.currentNode);
}

function translateText(node) {
  const shown = node.nodeValue;
  const record = nodes.get(node);
  const original = record?.shown === shown ? record.original : shown;
  const translation = translationOf(original, node.parentElement);
  if (translation === shown) return;
  nodes.set(node, { original, shown: translation });
  node.nodeValue = translation;
}

function translateAttribute(element, name) {
  const shown = element.getAttribute(name);
  if (!shown) return;
  const records = attributes.get(element) ?? {};
  const original = records[name]?.shown === shown ? records[name].original : shown;
  const place = element.matches("textarea") ? element.parentElement : element;
  const label = name === "aria-label" && original.match(OF_SLIDERS);
  const translation = label ? labelOf(...label) : translationOf(original, place);
  if (translation === shown) return;
  attributes.set(element, { ...records, [name]: { original, shown: translation } });
  element.setAttribute(name, translation);
}

const labelOf = (_, part, label) =>
  (lookUp(`${part} {}`) ?? `${part} {}`).replace("{}", () => lookUp(label) ?? label);

// The text as it is to be shown at that place, with the blanks around it.
function translationOf(original, place) {
  const text = original.trim();
  if (!WORD.test(text) || !place || place.closest(LEFT_ALONE)) return original;
  if (place.closest(NAMES) && !WORDS_AMONG_NAMES.test(text)) return original;
  seen.add(text);
  const translation = lookUp(text);
  return translation === null ? original : original.replace(text, () => translation);
}

// The choice of a language for this browser alone, below the page.
function addSwitch() {
  if (byId("easel_language") || !settings.localizations?.length) return;
  const list = Object.assign(document.createElement("select"), { id: "easel_language", ariaLabel: "Language of this page" });
  const names = settings.localizations;
  for (const name of [ENGLISH, ...names]) list.add(new Option(nameOf(name, names), name));
  for (const option of list.options) option.translate = false;
  list.addEventListener("change", () => {
    remember(localStorage, CHOSEN, list.value);
    use(list.value);
  });
  byId("footer")?.after(list);
}

// A language as those call it who speak it.
function nameOf(name, all) {
  if (name === ENGLISH) return "English";
  const tag = tagOf(name);
  if (!tag) return name;
  const own = new Intl.DisplayNames([tag], { type: "language", fallback: "none" }).of(tag.split("-")[0]);
  const alone = all.filter((other) => tagOf(other).split("-")[0] === tag.split("-")[0]).length === 1;
  return own ? (alone ? own : `${own} (${name})`) : name;
}
