// A form made from a description: sections of fields, each with path, label, kind, default, limits and choices.
// Labels and choices may come from files' names: they go into the page as text only.

import { element } from "./card_api.js";

// sections: [{title, fields}]. id: the beginning of the fields' element ids, where a field has none of its own.
// changed: called when a value was changed by hand.
export class Form {
  constructor(sections, id, changed = () => {}) {
    this.fields = new Map(); // path -> {field, input}
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
    const input = inputFor(field);
    input.id = field.elem_id ?? `${this.id}_${field.path.replaceAll(".", "_")}`;
    this.fields.set(field.path, { field, input });
    show(field, input, field.default);
    const label = element("span", { textContent: field.label });
    const help = field.help ? [element("small", { textContent: field.help })] : [];
    if (field.kind === "checkboxgroup") {
      input.setAttribute("aria-label", field.label);
      return element("div", { className: "made-field wide" }, label, input, ...help);
    }
    if (field.kind === "checkbox") return element("label", { className: "made-field checkbox" }, input, label, ...help);
    const wide = field.kind === "longtext" ? " wide" : "";
    return element("label", { className: `made-field${wide}` }, label, input, ...help);
  }

  // Values by path, all of them.
  read() {
    return Object.fromEntries([...this.fields].map(([path, { field, input }]) => [path, valueOf(field, input)]));
  }

  // Shows these values, and the defaults of fields that aren't named.
  write(values) {
    for (const [path, { field, input }] of this.fields) show(field, input, path in values ? values[path] : field.default);
  }

  set(path, value) {
    const { field, input } = this.fields.get(path);
    show(field, input, value);
  }

  // Other choices for a field, such as files that have come.
  offer(path, choices) {
    const { field, input } = this.fields.get(path);
    const value = valueOf(field, input);
    field.choices = choices;
    input.replaceChildren(...choices.map(option));
    show(field, input, value);
  }
}

const option = (text) => element("option", { value: text, textContent: text || "—" });

function inputFor(field) {
  if (field.kind === "checkbox") return element("input", { type: "checkbox" });
  if (field.kind === "longtext") return element("textarea", { rows: 3 });
  if (field.kind === "checkboxgroup" || field.kind === "multiselect") return choiceBoxes(field);
  if (field.choices) return element("select", { className: field.open ? "names" : "" }, ...field.choices.map((choice) => option(String(choice))));
  if (field.kind === "number" && !field.is_long) {
    const limits = { min: field.min ?? "", max: field.max ?? "", step: field.step ?? "any" };
    return element("input", { type: "number", ...limits });
  }
  return element("input", { type: "text", placeholder: field.placeholder ?? "" });
}

function choiceBoxes(field) {
  const boxes = field.choices.map((choice) =>
    element("label", {}, element("input", { type: "checkbox", value: choice }), element("span", { textContent: choice })));
  return element("div", { className: "made-choices" }, ...boxes);
}

function show(field, input, value) {
  if (input.classList.contains("made-choices")) {
    for (const box of input.querySelectorAll("input")) box.checked = (value ?? []).includes(box.value);
  } else if (input.type === "checkbox") input.checked = Boolean(value);
  else if (input instanceof HTMLSelectElement) {
    const text = String(value ?? "");
    if (![...input.options].some((known) => known.value === text)) input.prepend(option(text));
    input.value = text;
  } else input.value = value ?? "";
}

function valueOf(field, input) {
  if (input.classList.contains("made-choices")) {
    return [...input.querySelectorAll("input:checked")].map((box) => box.value);
  }
  if (input.type === "checkbox") return input.checked;
  if (field.kind === "number") {
    if (input.value.trim() === "") return field.optional ? null : field.default;
    return Number(input.value);
  }
  if (typeof field.default === "number") return Number(input.value); // chosen from numbers
  return input.value;
}
