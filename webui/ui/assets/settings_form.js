// The Settings tab: drawn from the server's description when the tab is first opened, saved by what was changed in it.

import { element, questions } from "./card_api.js";
import { appears, byId } from "./dom.js";
import { startAfresh } from "./mine.js";
import { settings as obeyed } from "./settings.js";
import { SettingField } from "./setting_field.js";
import { extraPages } from "./settings_pages.js";

const { ask, tell } = questions("easel/v1/settings");
const ON_TOP = "sd_model_checkpoint"; // always at the top of the page

class SettingsForm {
  constructor(root) {
    this.root = root;
    this.fields = new Map();
    this.pages = [];
  }

  async open() {
    try {
      const form = await ask("");
      if (this.fields.size) this.refresh(form);
      else this.draw(form);
    } catch (error) {
      this.root.replaceChildren(element("p", { className: "error", textContent: error.message }));
    }
  }

  draw({ sections, values }) {
    this.submit = button("settings_submit", "Apply settings", () => this.save(), "primary");
    const reload = button("settings_restart_gradio", "Reload UI", startAfresh, "primary");
    this.result = element("div", { id: "settings_result" });
    this.result.setAttribute("role", "status");
    this.search = element("input", { type: "search", placeholder: "Search..." });
    this.search.setAttribute("aria-label", "Search settings");
    this.search.addEventListener("input", () => this.filter());
    this.changedOnly = element("input", { type: "checkbox", id: "settings_changed_only_input" });
    this.changedOnly.addEventListener("change", () => this.filter());
    this.nav = element("nav", { className: "settings-nav" });
    this.nav.setAttribute("aria-label", "Sections of the settings");
    const changedOnly = element("label", { id: "settings_changed_only" }, this.changedOnly, element("span", { textContent: "Changed only" }));
    this.nav.append(element("div", { id: "settings_search" }, this.search), changedOnly);
    const onTop = [ON_TOP, ...values.quicksettings_list];
    const body = element("div", { className: "settings-pages" });
    for (const section of sections) {
      const page = this.addPage(section.category, section.title, `settings_${section.id}`);
      const column = element("div", { id: page.root.id.replace("settings_", "column_settings_"), className: "settings-column" });
      for (const setting of section.settings.filter(({ key }) => !onTop.includes(key))) {
        const field = new SettingField(setting, values[setting.key], () => this.mark());
        this.fields.set(setting.key, field);
        page.fields.push(field);
        column.append(field.root);
      }
      page.root.append(column);
    }
    for (const { title, id, content } of extraPages()) this.addPage("Other", title, id).root.append(content);
    body.append(...this.pages.map((page) => page.root));
    this.all = button("settings_show_all_pages", "Show all pages", () => this.show(null));
    this.one = button("settings_show_one_page", "Show only one page", () => this.show(this.pages[0]));
    this.nav.append(this.all, this.one);
    const top = element("div", { className: "settings-top" }, this.submit, reload);
    this.root.replaceChildren(top, this.result, element("div", { id: "settings", className: "settings-body" }, this.nav, body));
    this.show(this.pages[0]);
    this.mark();
  }

  // Two sections may share an id, as A1111's "ui" does: the later one gets a number.
  addPage(category, title, id) {
    if (this.pages.at(-1)?.category !== category) {
      this.nav.append(element("p", { className: "settings-category", textContent: category }));
    }
    const taken = this.pages.filter((page) => page.wanted === id).length;
    const root = element("section", { id: taken ? `${id}-${taken + 1}` : id, className: "settings-page" });
    const heading = element("h2", { textContent: title, id: `${root.id}_title` });
    root.setAttribute("aria-labelledby", heading.id);
    root.append(heading);
    const page = { root, title, category, wanted: id, fields: [] };
    page.button = button("", title, () => this.show(page));
    this.nav.append(page.button);
    this.pages.push(page);
    return page;
  }

  // page: null for all of them.
  show(page) {
    this.page = page;
    this.search.value = "";
    this.changedOnly.checked = false;
    this.filter();
    if (this.root.getBoundingClientRect().top < 0) this.root.scrollIntoView();
  }

  // While something is looked for, all pages are looked through.
  filter() {
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const looking = words.length > 0 || this.changedOnly.checked;
    for (const page of this.pages) {
      for (const field of page.fields) field.root.hidden = looking && !this.matches(field, words);
      const found = page.fields.some((field) => !field.root.hidden);
      page.root.hidden = looking ? !found : this.page !== null && this.page !== page;
      if (!looking && this.page === page) page.button.setAttribute("aria-current", "page");
      else page.button.removeAttribute("aria-current");
    }
    this.root.querySelector(".settings-body").toggleAttribute("data-several", looking || this.page === null);
    this.all.hidden = this.page === null;
    this.one.hidden = this.page !== null;
  }

  matches(field, words) {
    if (this.changedOnly.checked && field.isDefault) return false;
    const text = `${field.setting.key} ${field.root.textContent}`.toLowerCase();
    return words.every((word) => text.includes(word));
  }

  get edited() {
    return [...this.fields.values()].filter((field) => field.isEdited);
  }

  mark() {
    for (const page of this.pages) {
      page.button.toggleAttribute("data-edited", page.fields.some((field) => field.isEdited));
      page.button.toggleAttribute("data-refused", page.fields.some((field) => field.error.textContent));
    }
  }

  // Only what was changed here is sent, so that what others changed meanwhile stays as they left it.
  async save() {
    const changes = Object.fromEntries(this.edited.map((field) => [field.setting.key, field.value]));
    this.submit.disabled = true;
    try {
      const { saved, refused, notes, values } = await tell("", { changes });
      for (const [key, field] of this.fields) {
        field.complain(refused[key] ?? "");
        // What was typed while the answer was on its way stays typed.
        const untouched = !field.isEdited || JSON.stringify(field.value) === JSON.stringify(changes[key]);
        if (key in refused || !untouched) field.saved = values[key];
        else field.show(field.setting, values[key]);
      }
      obey(saved, values);
      this.tell(Object.keys(saved), Object.values(refused), notes);
    } catch (error) {
      this.result.replaceChildren(element("p", { className: "error", textContent: error.message }));
    }
    this.submit.disabled = false;
    this.mark();
  }

  tell(saved, refused, notes) {
    const lines = [element("p", { textContent: saved.length ? `${saved.length} settings changed: ${saved.join(", ")}.` : "No settings changed." })];
    const later = new Set(saved.map((key) => this.fields.get(key).setting.after));
    if (later.has("reload")) notes = [...notes, "Some of them take effect after Reload UI."];
    if (later.has("restart")) notes = [...notes, "Some of them take effect when Easel is started again."];
    lines.push(...notes.map((textContent) => element("p", { textContent })));
    lines.push(...refused.map((textContent) => element("p", { className: "error", textContent })));
    this.result.replaceChildren(...lines);
  }

  refresh({ sections, values }) {
    for (const setting of sections.flatMap((section) => section.settings)) {
      const field = this.fields.get(setting.key);
      if (field && !field.isEdited) field.show(setting, values[setting.key]);
    }
  }
}

function button(id, textContent, act, className = "secondary") {
  const made = element("button", { type: "button", className, textContent });
  if (id) made.id = id;
  made.addEventListener("click", act);
  return made;
}

// The page's own scripts, and the fields outside the Settings tab, obey a changed setting at once.
function obey(saved, values) {
  for (const [key, value] of Object.entries(saved)) if (key in obeyed) obeyed[key] = value;
  for (const field of quick.filter((field) => field.setting.key in saved)) field.show(field.setting, values[field.setting.key]);
}

const quick = []; // fields at the top of the page and on the tabs: each is saved when it is changed

// Settings at the top of the page, and those that stand on the tabs as well.
export async function showQuickSettings() {
  const onTop = obeyed.quicksettings_list.filter((key) => key !== ON_TOP);
  const onTabs = ["txt2img", "img2img"].filter((tab) => obeyed[`extra_options_${tab}`].length);
  if (!onTop.length && !onTabs.length) return;
  const { sections, values } = await ask("");
  const known = new Map(sections.flatMap((section) => section.settings).map((setting) => [setting.key, setting]));
  const fields = (keys, options) => keys.filter((key) => known.has(key)).map((key) => quickField(known.get(key), values[key], options(key)));
  byId("quicksettings")?.append(...fields(onTop, () => ({})));
  for (const tab of onTabs) showOnTab(tab, fields(obeyed[`extra_options_${tab}`], (key) => ({ id: `extra_options_${tab}_${key}` })));
}

function quickField(setting, value, options) {
  const field = new SettingField(setting, value, () => {}, { quick: true, ...options });
  field.root.classList.add("quick-setting");
  field.root.addEventListener("change", () => field.isEdited && saveQuick(field));
  quick.push(field);
  return field.root;
}

// A tab is built when it is opened for the first time.
async function showOnTab(tab, fields) {
  const grid = element("div", { className: "extra-options-grid" }, ...fields);
  grid.style.setProperty("--columns", obeyed.extra_options_cols);
  const box = obeyed.extra_options_accordion
    ? element("details", { id: `extra_options_${tab}` }, element("summary", { textContent: "Options" }), grid)
    : element("div", { id: `extra_options_${tab}` }, grid);
  await appears(`${tab}_script_container`);
  byId(`${tab}_script_container`).before(box);
}

async function saveQuick(field) {
  const { key } = field.setting;
  try {
    const { saved, refused, values } = await tell("", { changes: { [key]: field.value } });
    field.saved = values[key];
    field.complain(refused[key] ?? "");
    field.mark();
    obey(saved, values);
  } catch (error) {
    field.complain(error.message);
  }
}

// Gradio makes what is in a tab when the tab is first chosen; each time it is opened what it shows is asked for anew.
export function start() {
  const find = () => {
    const root = document.querySelector("#easel_settings_form:not([data-found])");
    if (!root) return;
    root.dataset.found = "";
    const form = new SettingsForm(root);
    new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && form.open()).observe(root.parentElement);
  };
  new MutationObserver(find).observe(document.body, { childList: true, subtree: true });
  find();
}
