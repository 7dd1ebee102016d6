// What edits one value: a box, a slider, a list. Settings and trainings are made of these.
//
// A control is {root, get, set, choose}: its element, its value, and, of a list, other choices for it. It is made from a
// spec {id, label, default, choices, ge, le, step, whole, rows, placeholder}; id: of what a label is for.

import { element } from "./card_api.js";

// edited: called when the value was changed by hand.
export const controlOf = (kind, spec, edited) => (CONTROLS[kind] ?? textbox)(spec, edited);

const inputOf = (spec, properties) => element("input", { id: spec.id, ...properties });

export function numberOf(text) {
  return text.trim() === "" || Number.isNaN(Number(text)) ? null : Number(text);
}

function textbox(spec, edited) {
  const root = element("textarea", { id: spec.id, rows: spec.rows ?? 1, spellcheck: false });
  root.addEventListener("input", edited);
  // An empty box is nothing at all where nothing is the default.
  const empty = spec.default === null ? null : "";
  return { root, get: () => root.value || empty, set: (value) => (root.value = value ?? "") };
}

function line(spec, edited) {
  const root = inputOf(spec, { type: "text", placeholder: spec.placeholder ?? "" });
  root.addEventListener("input", edited);
  return { root, get: () => root.value, set: (value) => (root.value = value ?? "") };
}

function number(spec, edited) {
  const limits = { min: spec.ge ?? "", max: spec.le ?? "", step: spec.step ?? (spec.whole ? "1" : "any") };
  const root = inputOf(spec, { type: "number", ...limits });
  root.addEventListener("input", edited);
  return { root, get: () => numberOf(root.value), set: (value) => (root.value = value ?? "") };
}

function slider(spec, edited) {
  const { ge, le, step, label } = spec;
  const range = element("input", { type: "range", min: ge, max: le, step });
  range.setAttribute("aria-label", label);
  const box = inputOf(spec, { type: "number", min: ge, max: le, step });
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

function checkbox(spec, edited) {
  const root = inputOf(spec, { type: "checkbox" });
  root.addEventListener("change", edited);
  return { root, get: () => root.checked, set: (value) => (root.checked = Boolean(value)) };
}

function color(spec, edited) {
  const root = inputOf(spec, { type: "color" });
  root.addEventListener("input", edited);
  return { root, get: () => root.value, set: (value) => (root.value = value) };
}

function dropdown(spec, edited) {
  if (!spec.choices) return textbox(spec, edited);
  const root = element("select", { id: spec.id });
  root.addEventListener("change", edited);
  const nothing = spec.default === null ? [""] : [];
  const choose = (choices) => root.replaceChildren(...options([...new Set([...nothing, ...(choices ?? [])])]));
  const set = (value) => {
    const text = String(value ?? "");
    if (![...root.options].some((known) => known.value === text)) root.prepend(...options([text])); // a file that is gone
    root.value = text;
  };
  const none = nothing.length ? null : "";
  return { root, choose, set, get: () => (typeof spec.default === "number" ? Number(root.value) : root.value || none) };
}

const options = (texts) => texts.map((text) => element("option", { value: text, textContent: text === "" ? "—" : text }));

function boxes(type) {
  return (spec, edited) => {
    const root = element("div", { className: "setting-boxes" });
    root.addEventListener("change", edited);
    const choose = (choices) => root.replaceChildren(...(choices ?? []).map((text) => {
      const box = element("input", { type, name: spec.id, value: text });
      return element("label", {}, box, element("span", { textContent: text }));
    }));
    const ticked = () => [...root.querySelectorAll("input:checked")].map((box) => box.value);
    let shown = null;
    return {
      root,
      choose,
      get: () => (type === "radio" ? (ticked()[0] ?? shown) : ticked()),
      set: (value) => {
        shown = value;
        root.querySelectorAll("input").forEach((box) => (box.checked = [value].flat().includes(box.value)));
      },
    };
  };
}

// Several of a list, in the order in which they were added.
function multiselect(spec, edited) {
  const chosen = element("ul", { className: "setting-chosen" });
  const listed = Boolean(spec.choices);
  const more = listed ? element("select", {}) : element("input", { type: "text", placeholder: "Add…" });
  more.id = spec.id;
  more.setAttribute("aria-label", `Add: ${spec.label}`);
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
  textbox, line, number, slider, checkbox, color, dropdown, multiselect, radio: boxes("radio"), checkboxgroup: boxes("checkbox"),
};
