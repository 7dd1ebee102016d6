// One setting as a field: what edits it, its label, its hint, and what the server said of it.

import { element } from "./card_api.js";
import { controlOf } from "./controls.js";

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
    this.control = controlOf(setting.kind, { ...setting, id: `${this.id}_input` }, () => this.edited());
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
