// Panes of cards: embeddings, hypernetworks, checkpoints, LoRAs. A pane is filled when it is first looked at.
// All names and texts come from strangers' files: they go into the page as text only.

import { ask, element, previewUrl, tell } from "./card_api.js";
import { openEditor } from "./card_editor.js";
import { click, isShown, setText, textareaOf } from "./dom.js";
import { settings } from "./settings.js";

const TYPING_PAUSE = 250; // milliseconds before a search is sent
const LOOK_PERIOD = 4000; // milliseconds between questions for new files
const AHEAD = 400; // pixels before the last card at which the next ones are asked for
const SORTS = { path: "Path", name: "Name", date_created: "Date Created", date_modified: "Date Modified" };
const SORT_SYMBOLS = { path: "🗂", name: "🔤", date_created: "📅", date_modified: "✏️" };
const TAKES_NEGATIVE = "textual_inversion"; // its cards go into the prompt that was typed in last
const panes = new Map(); // element -> Pane
let versions = {};
let lastPrompt = null;

class Pane {
  constructor(root) {
    this.root = root;
    this.tab = root.dataset.tab;
    this.kind = root.dataset.kind;
    this.id = `${this.tab}_${this.kind}`;
    this.folder = "";
    this.sort = Object.keys(SORTS).find((key) => SORTS[key] === settings.extra_networks_card_order_field) ?? "path";
    this.descending = settings.extra_networks_card_order === "Descending";
    this.asked = 0;
    this.build();
    this.reload();
  }

  build() {
    const id = (name) => `${this.id}_extra_${name}`;
    this.search = element("input", {
      id: id("search"), type: "search", className: "extra-network-control--search-text", placeholder: "Search",
    });
    this.search.setAttribute("aria-label", "Search cards");
    let typing = 0;
    this.search.addEventListener("input", () => {
      clearTimeout(typing);
      typing = setTimeout(() => this.reload(), TYPING_PAUSE);
    });
    this.sortButtons = Object.entries(SORTS).map(([key, label]) => {
      const button = control(id(`sort_${key}`), SORT_SYMBOLS[key], `Sort by ${label.toLowerCase()}`);
      button.dataset.sort = key;
      button.addEventListener("click", () => this.sortBy(key));
      return button;
    });
    this.direction = control(id("sort_dir"), "", "Turn the order around");
    this.direction.addEventListener("click", () => this.sortBy(this.sort, !this.descending));
    const tree = control(id("tree_view"), "🌳", "Show or hide the folders");
    tree.addEventListener("click", () => this.showFolders(!this.root.hasAttribute("data-folders")));
    const refresh = control(id("refresh"), "🔄", "Look for new files");
    refresh.addEventListener("click", () => this.refresh());
    const controls = element(
      "div", { id: `${this.id}_controls`, className: "extra-network-control" },
      this.search, element("small", { textContent: "Sort:" }), ...this.sortButtons, this.direction, tree, refresh,
    );
    this.folders = element("div", { id: `${this.id}_dirs`, className: "extra-network-dirs" });
    this.cards = element("div", { id: `${this.id}_cards`, className: "extra-network-cards" });
    this.note = element("div", { className: "extra-network-note" });
    this.end = element("div", { className: "extra-network-end" });
    this.box = element("div", { className: "extra-network-scroll" }, this.cards, this.note, this.end);
    const content = element("div", { className: "extra-network-pane-content" }, this.folders, this.box);
    this.root.dataset.view = settings.extra_networks_tree_view_style === "Tree" ? "tree" : "dirs";
    this.root.style.setProperty("--tree-width", `${settings.extra_networks_tree_view_default_width ?? 180}px`);
    const size = (name, value, unit) => value && this.root.style.setProperty(name, `${value}${unit}`);
    size("--card-width", settings.extra_networks_card_width, "px");
    size("--card-height", settings.extra_networks_card_height, "px");
    size("--card-text", settings.extra_networks_card_text_scale, "em");
    this.root.replaceChildren(controls, content);
    this.showFolders(settings.extra_networks_tree_view_default_enabled !== false);
    this.markSort();
    const near = { root: this.box, rootMargin: `${AHEAD}px` };
    new IntersectionObserver((seen) => seen.some((entry) => entry.isIntersecting) && this.more(), near).observe(this.end);
    this.cards.addEventListener("click", (event) => this.onClick(event));
    this.cards.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && event.target.classList.contains("card")) this.onClick(event);
    });
  }

  showFolders(shown) {
    this.root.toggleAttribute("data-folders", shown);
  }

  sortBy(key, descending = this.descending) {
    Object.assign(this, { sort: key, descending });
    this.markSort();
    this.reload();
  }

  markSort() {
    for (const button of this.sortButtons) {
      button.classList.toggle("extra-network-control--enabled", button.dataset.sort === this.sort);
    }
    this.direction.textContent = this.descending ? "⬇" : "⬆";
  }

  async refresh() {
    try {
      versions = await tell("/refresh", { kind: this.kind });
    } catch (error) {
      this.say(error.message);
    }
    this.reload();
  }

  // From the first card on. The old cards stay until the new ones are there.
  async reload() {
    this.next = 0;
    await this.more(true);
  }

  async more(anew = false) {
    if (this.next === null || (this.loading && !anew)) return;
    const asked = (this.asked += 1);
    this.loading = true;
    try {
      const page = await ask("", {
        kind: this.kind, search: this.search.value, folder: this.folder, sort: this.sort,
        descending: this.descending, start: this.next,
      });
      if (asked !== this.asked) return; // a later question is under way
      this.loading = false;
      if (page.folders) this.drawFolders(page.folders);
      if (anew) this.cards.replaceChildren();
      this.cards.append(...page.cards.map((card) => this.draw(card)));
      this.next = page.next;
      this.version = page.version;
      const empty = !this.cards.childElementCount && page.next === null;
      this.say(empty ? (this.search.value ? "Nothing matches." : "Nothing here yet.") : "");
      // An observer tells of changes only: cards may be needed while its element stays in sight.
      if (this.next !== null && this.endIsNear()) requestAnimationFrame(() => this.more());
    } catch (error) {
      this.loading = false;
      this.say(error.message);
    }
  }

  endIsNear() {
    const limit = this.box.getBoundingClientRect().bottom + AHEAD;
    return isShown(this.root) && this.end.getBoundingClientRect().top < limit;
  }

  say(sentence) {
    this.note.textContent = sentence;
  }

  drawFolders(folders) {
    const all = element("button", { textContent: "all", dataset: { folder: "" } });
    const slash = settings.extra_networks_dir_button_function ? "/" : "";
    const buttons = folders.map((folder) => {
      const depth = folder.split("/").length - 1;
      const name = this.root.dataset.view === "tree" ? folder.split("/").at(-1) : slash + folder;
      const button = element("button", { textContent: name, title: folder, translate: false, dataset: { folder } });
      button.style.setProperty("--depth", depth);
      return button;
    });
    this.folders.replaceChildren(...(folders.length ? [all, ...buttons] : []));
    for (const button of this.folders.children) {
      button.classList.toggle("selected", button.dataset.folder === this.folder);
      button.addEventListener("click", () => {
        this.folder = button.dataset.folder;
        this.reload();
      });
    }
  }

  draw(card) {
    const picture = card.preview
      ? element("img", { className: "preview", loading: "lazy", alt: "", src: previewUrl(this.kind, card) })
      : element("span", { className: "no-preview", textContent: "No preview" });
    const drawn = element(
      "div", { className: "card", tabIndex: 0, title: card.name, dataset: { name: card.name } },
      picture,
      element("div", { className: "button-row" },
        cardButton("copy-path-button", "📋", "Copy the path"),
        cardButton("metadata-button", "ℹ", "Show the file's own metadata"),
        cardButton("edit-button", "🛠", "Edit notes and preview")),
      element("div", { className: "actions" },
        element("span", { className: "name", textContent: card.title, translate: false }),
        element("span", { className: "description", textContent: card.description, translate: false })),
    );
    drawn.setAttribute("role", "button");
    if (card.checkpoint) drawn.dataset.checkpoint = card.checkpoint;
    drawn.card = card;
    return drawn;
  }

  onClick(event) {
    const card = event.target.closest(".card")?.card;
    const button = event.target.closest(".card-button");
    if (!card) return;
    if (button?.classList.contains("copy-path-button")) navigator.clipboard?.writeText(card.path);
    else if (button) openEditor(this.tab, this.kind, card, button.classList.contains("metadata-button"), reloadPanes);
    else if (this.kind === "checkpoints") window.easel.chooseCheckpoint(card.checkpoint);
    else this.insert(card);
  }

  // Into the prompts, or out of them when it is there already.
  insert(card) {
    const separator = settings.extra_networks_add_text_separator ?? " ";
    const positive = textareaOf(`${this.tab}_prompt`);
    const negative = textareaOf(`${this.tab}_neg_prompt`);
    const area = this.kind === TAKES_NEGATIVE && [positive, negative].includes(lastPrompt) ? lastPrompt : positive;
    const { text, inserted } = toggled(area.value, card.insert, card.activation, separator);
    setText(area, text);
    if (card.negative) setText(negative, withPart(negative.value, card.negative, separator, inserted));
  }
}

function control(id, symbol, title) {
  const button = element("button", { id, type: "button", className: "extra-network-control--button", textContent: symbol, title });
  button.setAttribute("aria-label", title);
  return button;
}

function cardButton(name, symbol, title) {
  const button = element("button", { type: "button", className: `${name} card-button`, textContent: symbol, title });
  button.setAttribute("aria-label", title);
  return button;
}

const escaped = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

// The text with `insert` and the activation words at its end, or without them if it has `insert`.
export function toggled(text, insert, activation, separator) {
  const tag = insert.match(/^<(\w+):([^:>]*)/);
  const found = tag
    ? new RegExp(`(?:${escaped(separator)})?<${tag[1]}:${escaped(tag[2])}(?::[^>]*)?>`, "g")
    : wordPattern(insert, separator);
  const without = text.replace(found, "");
  if (without !== text) {
    return { text: activation ? withPart(without, activation, separator, false) : without, inserted: false };
  }
  const added = withPart(text, insert, separator, true);
  return { text: activation ? withPart(added, activation, separator, true) : added, inserted: true };
}

const wordPattern = (word, separator) =>
  new RegExp(`(?:${escaped(separator)})?(?<![\\w-])${escaped(word)}(?![\\w-])`, "g");

export function withPart(text, part, separator, wanted) {
  const place = text.lastIndexOf(part);
  if (wanted) return text ? `${text}${text.endsWith(separator) ? "" : separator}${part}` : part;
  if (place < 0) return text;
  const before = text.slice(0, place);
  return (before.endsWith(separator) ? before.slice(0, before.length - separator.length) : before) + text.slice(place + part.length);
}

// New files show themselves: in the pane that is looked at, and in the list of checkpoints.
async function look() {
  if (document.hidden) return;
  const known = versions;
  try {
    versions = await ask("/versions");
  } catch {
    return; // the server restarts; the next look finds it
  }
  if (known.checkpoints && known.checkpoints !== versions.checkpoints) click("refresh_sd_model_checkpoint");
  for (const pane of panes.values()) {
    if (isShown(pane.root) && pane.version !== versions[pane.kind]) pane.reload();
  }
}

function reloadPanes(kind) {
  for (const pane of panes.values()) if (pane.kind === kind) pane.reload();
}

export function start() {
  const seen = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      if (!panes.has(target)) panes.set(target, new Pane(target));
      else if (panes.get(target).version !== versions[target.dataset.kind]) panes.get(target).reload();
    }
  });
  // Gradio makes what is in a tab when the tab is first chosen.
  const find = () => {
    for (const root of document.querySelectorAll(".extra-network-pane:not([data-found])")) {
      root.dataset.found = "";
      seen.observe(root);
    }
    for (const root of panes.keys()) if (!root.isConnected) panes.delete(root);
  };
  new MutationObserver(find).observe(document.body, { childList: true, subtree: true });
  find();
  document.addEventListener("focusin", (event) => {
    if (event.target instanceof HTMLTextAreaElement && event.target.closest(".prompt")) lastPrompt = event.target;
  });
  look();
  setInterval(look, LOOK_PERIOD);
}
