// One setting as a field: what edits it, its label, its hint, and what the server said of it.

import { element } from "./card_api.js";

const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

export class SettingField {
  // setting: as the server describes it. changed: called with the field after each change by hand.
  // quick: without hint and reset button, for the row on top of the page. id: of the element.
  constructor(setting, value, changed, { quick = false, id = `setting_${setting.key}` } = {}) {
    this.setting = setting;
    this.id = id;
    this.saved = value;
    this.changed = changed;
    const grouped = ["radio", "checkboxgroup", "multiselect"].includes(setting.kind);
    this.root = element("div", { id: this.id, className: `setting setting-${setting.kind}${setting.names ? " names" : ""}`, dataset: { key: setting.key } });
    this.error = element("p", { className: "setting-error", id: `${this.id}_error` });
    this.error.setAttribute("role", "alert");
    this.note = element("div", { className: "setting-note", id: `${this.id}_note` });
    this.control = (CONTROLS[setting.kind] ?? textbox)(this, () => this.edited());
    this.reset = element("button", { type: "button", className: "setting-reset", textContent: "↺", title: "Back to the default" });
    this.reset.setAttribute("aria-label", `Back to the default: ${setting.label}`);
    this.reset.addEventListener("click", () => {
      this.control.set(setting.default);
      this.edited();
      this.root.querySelector("input, select, textarea, button:not(.setting-reset)")?.focus();
    });
    const label = element(grouped ? "span" : "label", { className: "setting-label", id: `${this.id}_label`, textContent: setting.label });
    if (grouped) {
      this.root.setAttribute("role", setting.kind === "radio" ? "radiogroup" : "group");
      this.root.setAttribute("aria-labelledby", label.id);
    } else label.htmlFor = `${this.id}_input`;
    const head = [label, ...(quick ? [] : [this.reset])];
    if (setting.kind === "checkbox") head.unshift(this.control.root);
    this.root.append(element("div", { className: "setting-head" }, ...head));
    if (setting.kind !== "checkbox") this.root.append(this.control.root);
    if (!quick) this.root.append(this.note);
    this.root.append(this.error);
    this.show(setting, value);
  }

  // What may be chosen, and why it can't be changed, may be others when the tab is opened again.
  show(setting, value) {
    this.setting = setting;
    this.saved = value;
    const words = [setting.help, NOTES[setting.after], setting.idle, setting.locked].filter(Boolean);
    this.note.replaceChildren(...words.map((text) => element("p", { textContent: text })));
    this.control.choose?.(setting.choices);
    this.control.set(value);
    const disabled = Boolean(setting.idle || setting.locked);
    this.root.classList.toggle("setting-disabled", disabled);
    for (const part of this.root.querySelectorAll("input, select, textarea, button")) part.disabled = disabled;
    const described = `${this.note.id} ${this.error.id}`;
    for (const part of this.root.querySelectorAll("input, select, textarea")) part.setAttribute("aria-describedby", described);
    this.mark();
  }

  get value() {
    return this.control.get();
  }

  get isEdited() {
    return !same(this.value, this.saved);
  }

  get isDefault() {
    return same(this.value, this.setting.default);
  }

  edited() {
    this.complain("");
    this.mark();
    this.changed(this);
  }

  mark() {
    this.root.toggleAttribute("data-edited", this.isEdited);
    this.root.toggleAttribute("data-changed", !this.isDefault);
    this.reset.hidden = this.isDefault;
  }

  complain(sentence) {
    this.error.textContent = sentence;
    this.root.toggleAttribute("data-refused", Boolean(sentence));
  }
}

const NOTES = {
  reload: "Takes effect after Reload UI.",
  restart: "Takes effect when Easel is started again.",
};

const inputOf = (field, properties) => element("input", { id: `${field.id}_input`, ...properties });

function numberOf(text) {
  return text.trim() === "" || Number.isNaN(Number(text)) ? null : Number(text);
}

function textbox(field, edited) {
  const root = element("textarea", { id: `${field.id}_input`, rows: 1, spellcheck: false });
  root.addEventListener("input", edited);
  // An empty box is nothing at all where nothing is the default.
  const empty = field.setting.default === null ? null : "";
  return { root, get: () => root.value || empty, set: (value) => (root.value = value ?? "") };
}

function number(field, edited) {
  const root = inputOf(field, { type: "number", step: field.setting.whole ? "1" : "any" });
  root.addEventListener("input", edited);
  return { root, get: () => numberOf(root.value), set: (value) => (root.value = value) };
}

function slider(field, edited) {
  const { ge, le, step, label } = field.setting;
  const range = element("input", { type: "range", min: ge, max: le, step });
  range.setAttribute("aria-label", label);
  const box = inputOf(field, { type: "number", min: ge, max: le, step });
  range.addEventListener("input", () => {
    box.value = range.value;
    edited();
  });
  box.addEventListener("input", () => {
    range.value = box.value;
    edited();
  });
  return {
    root: element("div", { className: "setting-slider-row" }, range, box),
    get: () => numberOf(box.value),
    set: (value) => (range.value = box.value = value),
  };
}

function checkbox(field, edited) {
  const root = inputOf(field, { type: "checkbox" });
  root.addEventListener("change", edited);
  return { root, get: () => root.checked, set: (value) => (root.checked = value) };
}

function color(field, edited) {
  const root = inputOf(field, { type: "color" });
  root.addEventListener("input", edited);
  return { root, get: () => root.value, set: (value) => (root.value = value) };
}

function dropdown(field, edited) {
  if (!field.setting.choices) return textbox(field, edited);
  const root = element("select", { id: `${field.id}_input` });
  root.addEventListener("change", edited);
  const nothing = field.setting.default === null ? [""] : [];
  const choose = (choices) => root.replaceChildren(...options([...nothing, ...choices]));
  return { root, choose, get: () => root.value || (nothing.length ? null : ""), set: (value) => (root.value = value ?? "") };
}

const options = (texts) => texts.map((text) => element("option", { value: text, textContent: text }));

function boxes(type) {
  return (field, edited) => {
    const root = element("div", { className: "setting-boxes" });
    root.addEventListener("change", edited);
    const choose = (choices) => root.replaceChildren(...(choices ?? []).map((text) => {
      const box = element("input", { type, name: `${field.id}_input`, value: text });
      return element("label", {}, box, element("span", { textContent: text }));
    }));
    const ticked = () => [...root.querySelectorAll("input:checked")].map((box) => box.value);
    return {
      root,
      choose,
      get: () => (type === "radio" ? (ticked()[0] ?? field.saved) : ticked()),
      set: (value) => root.querySelectorAll("input").forEach((box) => (box.checked = [value].flat().includes(box.value))),
    };
  };
}

// Several of a list, in the order in which they were added.
function multiselect(field, edited) {
  const chosen = element("ul", { className: "setting-chosen" });
  const label = `Add: ${field.setting.label}`;
  const listed = Boolean(field.setting.choices);
  const more = listed ? element("select", {}) : element("input", { type: "text", placeholder: "Add…" });
  more.id = `${field.id}_input`;
  more.setAttribute("aria-label", label);
  let values = [];
  let choices = [];
  const draw = () => {
    chosen.replaceChildren(...values.map((value) => {
      const remove = element("button", { type: "button", textContent: "×" });
      remove.setAttribute("aria-label", `Remove ${value}`);
      remove.addEventListener("click", () => change(values.filter((other) => other !== value)));
      return element("li", {}, element("span", { textContent: value }), remove);
    }));
    if (listed) {
      more.replaceChildren(element("option", { value: "", textContent: "Add…" }), ...options(choices.filter((item) => !values.includes(item))));
    }
  };
  const change = (now) => {
    values = now;
    draw();
    edited();
    more.focus();
  };
  more.addEventListener("change", () => {
    const text = more.value.trim();
    more.value = "";
    if (text && !values.includes(text)) change([...values, text]);
  });
  return {
    root: element("div", { className: "setting-several" }, chosen, more),
    choose: (now) => (choices = now ?? []),
    get: () => values,
    set: (value) => {
      values = [...value];
      draw();
    },
  };
}

const CONTROLS = {
  textbox, number, slider, checkbox, color, dropdown, multiselect, radio: boxes("radio"), checkboxgroup: boxes("checkbox"),
};
