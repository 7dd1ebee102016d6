// A form made from a description: sections of fields, each with path, label, kind, default, limits and choices.
// Labels and choices may come from files' names: they go into the page as text only.

import { element } from "./card_api.js";
import { controlOf } from "./controls.js";

const KINDS = { checkbox: "checkbox", longtext: "textbox", checkboxgroup: "checkboxgroup", multiselect: "checkboxgroup" };

// sections: [{title, fields}]. id: the beginning of the fields' element ids, where a field has none of its own.
// changed: called when a value was changed by hand.
export class Form {
  constructor(sections, id, changed = () => {}) {
    this.fields = new Map(); // path -> {field, control, input}; input: the control's element
    this.id = id;
    this.root = element("div", { className: "made-form" }, ...sections.map((section) => this.section(section)));
    this.root.addEventListener("input", changed);
  }

  section({ title, fields, open }) {
    const rows = element("div", { className: "made-fields" }, ...fields.map((field) => this.row(field)));
    if (!title) return rows;
    return element("details", { open: Boolean(open) }, element("summary", { textContent: title }), rows);
  }

  row(field) {
    const { path, label: name, min: ge, max: le, step, choices, placeholder } = field;
    const id = field.elem_id ?? `${this.id}_${path.replaceAll(".", "_")}`;
    const spec = { id, label: name, default: field.default, ge, le, step, choices, placeholder, rows: 3 };
    const control = controlOf(kindOf(field), spec, () => {});
    const input = control.root;
    input.id = id;
    if (field.open) input.classList.add("names");
    control.choose?.(choices);
    control.set(field.default);
    this.fields.set(path, { field, control, input });
    const label = element("span", { textContent: name });
    const help = field.help ? [element("small", { textContent: field.help })] : [];
    if (KINDS[field.kind] === "checkboxgroup") {
      input.setAttribute("role", "group");
      input.setAttribute("aria-label", name);
      return element("div", { className: "made-field wide" }, label, input, ...help);
    }
    if (field.kind === "checkbox") return element("label", { className: "made-field checkbox" }, input, label, ...help);
    const wide = field.kind === "longtext" ? " wide" : "";
    return element("label", { className: `made-field${wide}` }, label, input, ...help);
  }

  // Values by path, all of them.
  read() {
    return Object.fromEntries([...this.fields].map(([path, { field, control }]) => [path, valueOf(field, control)]));
  }

  // Shows these values, and the defaults of fields that aren't named.
  write(values) {
    for (const [path, { field, control }] of this.fields) control.set(path in values ? values[path] : field.default);
  }

  set(path, value) {
    this.fields.get(path).control.set(value);
  }

  // Other choices for a field, such as files that have come.
  offer(path, choices) {
    const { field, control } = this.fields.get(path);
    const value = valueOf(field, control);
    field.choices = choices;
    control.choose(choices);
    control.set(value);
  }
}

function kindOf(field) {
  if (field.kind in KINDS) return KINDS[field.kind];
  if (field.choices) return "dropdown";
  return field.kind === "number" && !field.is_long ? "number" : "line";
}

function valueOf(field, control) {
  const value = control.get();
  if (field.kind !== "number" && typeof field.default !== "number") return value ?? "";
  if (value === null || value === "") return field.optional ? null : field.default;
  return Number(value);
}
