// The Extensions tab: what is installed, what can be had, backups of the set, and the search for the one at fault.
// Names and texts come from other people: they go into the page as text only.

import { element, questions } from "./card_api.js";
import { route, sleep } from "./dom.js";
import { translated } from "./localization.js";

const { ask, tell } = questions("easel/v1/extensions");
const ORDERS = ["newest first", "oldest first", "a-z", "z-a", "internal order", "update time", "create time", "stars"];
const ALWAYS_TAGS = ["script", "ads", "localization", "installed"];
const HIDDEN_AT_FIRST = ["ads", "localization", "installed"];
const SHOWN_AT_MOST = 1000;

const button = (textContent, act, more = {}) => {
  const made = element("button", { type: "button", textContent, ...more });
  made.addEventListener("click", () => busy(made, act));
  return made;
};

const primary = (text, act, more = {}) => button(text, act, { className: "primary", ...more });

// While something is under way its button can't be pressed again.
async function busy(pressed, act) {
  pressed.disabled = true;
  try {
    await act();
  } finally {
    pressed.disabled = false;
  }
}

const labelled = (text, ...inputs) => element("label", { className: "labelled" }, element("span", { textContent: text }), ...inputs);

// One of several, or several of many, with a heading.
function choices(legend, type, values, chosen, changed, id = "") {
  const name = `extensions_${legend}`;
  const boxes = values.map((value) => {
    const input = element("input", { type, name, value, checked: chosen.includes(value) });
    input.addEventListener("change", () => changed(values.filter((_, index) => inputs[index].checked)));
    return element("label", {}, input, ` ${value}`);
  });
  const inputs = boxes.map((box) => box.querySelector("input"));
  return element("fieldset", { id }, element("legend", { textContent: legend }), ...boxes);
}

const row = (id, ...children) => element("div", { id, className: "extensions-row" }, ...children);
const table = (heads, rows) =>
  element("table", {},
    element("thead", {}, element("tr", {}, ...heads.map((textContent) => element("th", { textContent })))),
    element("tbody", {}, ...rows));
const cell = (...children) => element("td", {}, ...children);
const named = (text) => element("td", { textContent: text, translate: false });
const link = (address) =>
  address.startsWith("https://")
    ? element("a", { href: address, target: "_blank", rel: "noopener noreferrer", textContent: address })
    : document.createTextNode(address);
const day = (seconds) => (seconds ? new Date(seconds * 1000).toISOString().slice(0, 10) : "");
const size = (bytes) => (bytes >= 1e6 ? `${(bytes / 1e6).toFixed(1)} MB` : `${Math.ceil(bytes / 1e3)} KB`);
const list = (sentences) => element("ul", {}, ...sentences.map((textContent) => element("li", { textContent })));

// Waits until the server has gone and answers again, then shows the new page.
async function showNewStart(status, restarts) {
  status.textContent = restarts ? "Easel starts again…" : "Easel has ended; start it again by hand.";
  if (!restarts) return;
  for (let gone = false; ; await sleep(500)) {
    const answers = await fetch(route("internal/ping")).then(({ ok }) => ok, () => false);
    if (!answers) gone = true;
    else if (gone) break;
  }
  location.reload();
}

class Part {
  constructor(root) {
    this.root = root;
    this.status = element("p", { className: "extensions-status" });
    this.status.setAttribute("role", "status");
  }

  // Runs what the user asked for; what went wrong is one sentence.
  async try(act) {
    this.status.textContent = "";
    try {
      return await act();
    } catch (error) {
      this.status.textContent = error.message;
      return undefined;
    }
  }
}

class Installed extends Part {
  constructor(root) {
    super(root);
    this.updates = {};
    this.top = row("extensions_installed_top");
    this.safe = element("div", { id: "extensions_safe_mode" });
    this.list = element("div", { id: "extensions_installed_html", textContent: "Loading..." });
    root.replaceChildren(this.top, this.status, this.safe, this.list);
    this.load();
  }

  load() {
    return this.try(async () => {
      this.state = await ask("");
      this.draw();
    });
  }

  draw() {
    const { extensions, restarts, disable_all: all, folder } = this.state;
    this.disableAll = all;
    this.top.replaceChildren(
      primary(restarts ? "Apply and restart UI" : "Apply and quit", () => this.apply()),
      button("Check for updates", () => this.check()),
      choices("Disable all extensions", "radio", ["none", "extra", "all"], [all], ([chosen]) => (this.disableAll = chosen),
        "extensions_disable_all"),
      button("Refresh", () => this.load()),
    );
    const heads = ["Extension", "URL", "Branch", "Version", "Date", "Start-up", "State", "Update"];
    this.list.replaceChildren(
      table(heads, extensions.map((each) => this.drawRow(each))),
      element("p", { textContent: `Extensions of yours lie in ${folder}.` }),
    );
    this.drawSafe();
  }

  drawRow(each) {
    const enabled = element("input", { type: "checkbox", checked: each.enabled, name: `enable_${each.name}`, className: "enabled" });
    enabled.dataset.name = each.name;
    const name = element("label", { translate: false }, enabled, ` ${each.name}`);
    const seconds = each.seconds === null ? "" : `${each.seconds.toFixed(2)} s`;
    const state = element("span", { textContent: each.state });
    const problem = each.problem ? [element("div", { className: "error", textContent: each.problem })] : [];
    const remote = each.built_in ? "built-in" : each.remote;
    return element("tr", { dataset: { name: each.name } },
      cell(name), cell(link(remote)), named(each.branch), named(each.version), cell(day(each.date)), cell(seconds),
      cell(state, ...problem), cell(...this.drawUpdate(each.name)));
  }

  drawUpdate(name) {
    const told = this.updates[name];
    if (!told?.startsWith("new commit")) return told ? [told] : [];
    const box = element("input", { type: "checkbox", checked: true, className: "update" });
    box.dataset.name = name;
    return [element("label", {}, box, ` ${told}`)];
  }

  check() {
    return this.try(async () => {
      this.status.textContent = "Asking each repository…";
      this.updates = await tell("/check", {});
      this.draw();
      const count = Object.values(this.updates).filter((told) => told.startsWith("new commit")).length;
      this.status.textContent = count ? `Extensions that have a newer version: ${count}.` : "No extension has a newer version.";
    });
  }

  names(selector, checked) {
    return [...this.list.querySelectorAll(selector)].filter((box) => box.checked === checked).map((box) => box.dataset.name);
  }

  apply() {
    return this.try(async () => {
      const wish = { disabled: this.names("input.enabled", false), update: this.names("input.update", true), disable_all: this.disableAll };
      this.status.textContent = wish.update.length ? "Updating…" : "";
      const { failed } = await tell("/apply", wish);
      if (!failed.length) return showNewStart(this.status, this.state.restarts);
      await this.load();
      this.status.replaceChildren(list(failed));
    });
  }

  drawSafe() {
    const { told, safe, searching, asked, found, tried, suspects, steps } = this.state.search;
    const act = (name) => () =>
      this.try(async () => {
        await tell("/search", { act: name });
        await showNewStart(this.status, this.state.restarts);
      });
    const parts = told ? [element("p", { textContent: told })] : [];
    if (found) {
      parts.push(element("p", { textContent: `The fault comes with the extension ${found}.` }),
        primary(`Disable ${found} and restart`, act("disable")));
    } else if (asked) {
      parts.push(element("p", { textContent: `In use in this start: ${tried.join(", ")}. Try what went wrong. At most ${steps} more starts.` }),
        primary("The fault is still there", act("faulty")), button("The fault is gone", act("fine")));
    } else if (searching && !suspects.length) {
      parts.push(element("p", { textContent: "The fault comes with none of your extensions alone." }));
    } else if (searching) {
      parts.push(primary("Go on with the search", act("next")));
    } else if (suspects.length) {
      parts.push(element("p", { textContent: "Starts Easel with half of your extensions, then with half of those that are left, until the one at fault is found." }),
        button("Find the extension at fault", act("begin")));
    }
    if (searching) parts.push(button("End the search", act("end")));
    const box = element("details", { open: Boolean(safe || searching) }, element("summary", { textContent: "Safe mode" }), ...parts);
    this.safe.replaceChildren(...(parts.length ? [box] : []));
  }
}

// What an extension is, before it is installed: the user agrees or doesn't.
class Consent extends Part {
  constructor(root) {
    super(root);
    this.box = element("div");
    root.replaceChildren(this.status, this.box);
  }

  fetch(url, branch = "", name = "") {
    return this.try(async () => {
      this.box.replaceChildren();
      this.status.textContent = "Fetching…";
      const found = await tell("/fetch", { url, branch, name });
      this.status.textContent = "";
      this.draw(found);
    });
  }

  draw(found) {
    const facts = [
      ["Folder", found.name],
      ["Fetched from", found.url],
      ["Branch", found.branch],
      ["Commit", [found.commit, day(found.date)].filter(Boolean).join(", ")],
      ["Size", `${size(found.size)}, ${found.files} files`],
      ["Installs", found.packages.join(", ") || "no packages"],
    ].filter(([, value]) => value);
    const rows = facts.map(([name, value]) => element("tr", {}, element("th", { textContent: name }), cell(value)));
    this.box.replaceChildren(
      element("table", { className: "extension-facts" }, element("tbody", {}, ...rows)),
      list(found.notes),
      element("p", { textContent: "An extension is a program: once installed it may do whatever you may do on this machine. Nothing of it has run yet." }),
      primary("Install this", () => this.settle("/install", found.id), { id: "extension_consent" }),
      button("Don't install", () => this.settle("/discard", found.id)),
    );
    this.box.scrollIntoView({ block: "nearest" });
  }

  settle(path, id) {
    return this.try(async () => {
      const { told } = await tell(path, { id });
      this.box.replaceChildren();
      this.status.textContent = told;
    });
  }
}

class FromUrl extends Part {
  constructor(root) {
    super(root);
    const url = element("input", { type: "text", id: "extension_url" });
    const branch = element("input", { type: "text", id: "extension_branch", placeholder: "Leave empty for default main branch" });
    const name = element("input", { type: "text", id: "extension_folder", placeholder: "Leave empty for auto" });
    const result = element("div", { id: "extension_install_result" });
    const consent = new Consent(result);
    root.replaceChildren(
      labelled("URL for extension's git repository", url),
      labelled("Specific branch name", branch),
      labelled("Local directory name", name),
      primary("Install", () => consent.fetch(url.value, branch.value, name.value), { id: "extension_install" }),
      result,
    );
  }
}

class Available extends Part {
  constructor(root) {
    super(root);
    this.wish = { tags: HIDDEN_AT_FIRST, order: ORDERS[0], showing: "hide", filtering: "or", search: "" };
    this.address = element("input", { type: "text", value: root.dataset.index });
    this.search = element("input", { type: "text" });
    this.search.addEventListener("input", () => this.change({ search: this.search.value }));
    this.tags = element("div");
    this.list = element("div", { id: "extensions_available_html" });
    const result = element("div");
    this.consent = new Consent(result);
    root.replaceChildren(
      row("", primary("Load from:", () => this.load()), labelled("Extension index URL", this.address)),
      row("", this.tags, choices("Order", "radio", ORDERS, [ORDERS[0]], ([order]) => this.change({ order }))),
      row("", choices("Showing type", "radio", ["hide", "show"], ["hide"], ([showing]) => this.change({ showing })),
        choices("Filtering type", "radio", ["or", "and"], ["or"], ([filtering]) => this.change({ filtering }))),
      labelled("Search", this.search), this.status, result, this.list,
    );
    this.show(() => ask("/index", { url: this.address.value }));
  }

  load() {
    this.status.textContent = "Loading...";
    return this.show(() => tell("/index", { url: this.address.value }));
  }

  show(question) {
    return this.try(async () => {
      const [index, { extensions }] = await Promise.all([question(), ask("")]);
      this.index = index;
      this.installed = new Set(extensions.map(({ remote }) => plain(remote)).filter(Boolean));
      const tags = [...new Set([...ALWAYS_TAGS, ...Object.keys(index.tags)])];
      this.tags.replaceChildren(choices("Extension tags", "checkbox", tags, this.wish.tags, (chosen) => this.change({ tags: chosen })));
      this.draw();
      if (index.note) this.status.textContent = index.note;
    });
  }

  change(part) {
    Object.assign(this.wish, part);
    if (this.index) this.draw();
  }

  draw() {
    const all = this.index.extensions.map((each, place) => ({ ...each, place, installed: this.installed.has(plain(each.url)) }));
    const shown = ordered(all.filter((each) => wanted(each, this.wish)), this.wish.order);
    const hidden = all.length - shown.length;
    const when = this.index.fetched ? `Fetched ${new Date(this.index.fetched * 1000).toLocaleString()}.` : "Not fetched yet.";
    const rows = shown.slice(0, SHOWN_AT_MOST).map((each) => this.drawRow(each));
    this.list.replaceChildren(
      element("p", { textContent: hidden ? `${when} Extensions hidden: ${hidden}.` : when }),
      table(["Extension", "Description", "Action"], rows));
  }

  drawRow(each) {
    const tags = each.tags.map((tag) => element("span", { className: "extension-tag", title: this.index.tags[tag] ?? "", textContent: tag }));
    const facts = [each.added && `Added: ${each.added}`, each.stars && `Stars: ${each.stars}`].filter(Boolean).join("  ");
    const act = each.installed
      ? element("button", { type: "button", disabled: true, textContent: "Installed" })
      : button("Install", () => this.consent.fetch(each.url));
    const title = element("a", { href: each.url, target: "_blank", rel: "noopener noreferrer", textContent: each.name, translate: false });
    return element("tr", { dataset: { name: each.name } },
      cell(title, element("br"), ...tags),
      cell(element("span", { textContent: each.description, translate: false }), element("br"), element("small", { textContent: facts })), cell(act));
  }
}

const plain = (address) => address.trim().toLowerCase().replace(/(\.git)?\/*$/, "");

function wanted(each, { tags, showing, filtering, search }) {
  const own = new Set([...each.tags, ...(each.installed ? ["installed"] : [])]);
  if (tags.length) {
    const match = filtering === "and" ? tags.every((tag) => own.has(tag)) : tags.some((tag) => own.has(tag));
    if (match === (showing === "hide")) return false;
  }
  const word = search.trim().toLowerCase();
  return !word || `${each.name} ${each.description}`.toLowerCase().includes(word);
}

function ordered(found, order) {
  const by = (key) => (one, other) => (one[key] < other[key] ? -1 : one[key] > other[key] ? 1 : 0);
  const byName = (one, other) => one.name.toLowerCase().localeCompare(other.name.toLowerCase());
  const ways = {
    "newest first": () => found.sort(by("added")).reverse(),
    "oldest first": () => found.sort(by("added")),
    "a-z": () => found.sort(byName),
    "z-a": () => found.sort(byName).reverse(),
    "internal order": () => found.sort(by("place")),
    "update time": () => found.sort(by("commit_time")).reverse(),
    "create time": () => found.sort(by("created")).reverse(),
    stars: () => found.sort(by("stars")).reverse(),
  };
  return ways[order]();
}

class Backup extends Part {
  constructor(root) {
    super(root);
    this.saved = element("select", {});
    this.kind = "extensions";
    const name = element("input", { type: "text", placeholder: "Config Name" });
    name.setAttribute("aria-label", "Config Name");
    this.steps = element("div", { id: "extension_backup_steps" });
    root.replaceChildren(
      row("extensions_backup_top_row",
        element("div", { id: "extension_backup_saved_configs" }, labelled("Saved Configs", this.saved)),
        button("🔄", () => this.load(), { id: "refresh_config_states", title: "Refresh" }),
        choices("State to restore", "radio", ["extensions", "webui", "both"], ["extensions"], ([kind]) => {
          this.kind = kind;
          this.look();
        }, "extension_backup_restore_type"),
        primary("Restore Selected Config", () => this.restore(), { id: "extension_backup_restore" })),
      row("extensions_backup_top_row2", name, button("Save Current Config", () => this.save(name.value))),
      this.status, this.steps,
    );
    this.saved.addEventListener("change", () => this.look());
    this.load();
  }

  load() {
    return this.try(async () => this.draw(await ask("/states")));
  }

  draw(states, chosen = "Current") {
    this.saved.replaceChildren(...["Current", ...states].map((value) => element("option", { value, textContent: value, selected: value === chosen })));
    this.look();
  }

  save(name) {
    return this.try(async () => {
      const { saved, states } = await tell("/states", { name });
      this.draw(states, saved);
      this.status.textContent = `Saved as ${saved}.`;
    });
  }

  look() {
    return this.try(async () => {
      this.steps.replaceChildren();
      if (this.kind !== "extensions") this.status.textContent = "Easel itself isn't changed from here: its version is that of its own folder.";
      if (this.saved.value === "Current" || this.kind === "webui") return;
      const planned = await ask("/planned", { file: this.saved.value });
      this.steps.replaceChildren(planned.length ? list(planned.map(({ told }) => told)) : element("p", { textContent: "All is as it was saved." }));
    });
  }

  restore() {
    return this.try(async () => {
      if (this.saved.value === "Current" || this.kind === "webui") {
        this.status.textContent = this.kind === "webui" ? "There is nothing to restore of Easel itself." : "Choose a saved config.";
        return;
      }
      if (!confirm(translated("Fetch, change, enable and disable extensions as listed?"))) return;
      this.status.textContent = "Restoring…";
      const { failed } = await tell("/restore", { file: this.saved.value });
      await this.look();
      this.status.replaceChildren("Restored; Installed has the button that starts Easel again.", ...(failed.length ? [list(failed)] : []));
    });
  }
}

const PARTS = { installed: Installed, available: Available, install: FromUrl, backup: Backup };

// Gradio makes what is in a tab when the tab is first chosen.
export function start() {
  const find = () => {
    for (const root of document.querySelectorAll("[data-extensions]:not([data-found])")) {
      root.dataset.found = "";
      new PARTS[root.dataset.extensions](root);
    }
  };
  new MutationObserver(find).observe(document.body, { childList: true, subtree: true });
  find();
}
