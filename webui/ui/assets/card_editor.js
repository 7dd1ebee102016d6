// The dialog of one card: the user's notes, the file's facts and metadata, its preview.

import { ask, element, previewUrl, sendPreview, tell } from "./card_api.js";
import { byId } from "./dom.js";

const FIELDS = {
  description: ["Description", "textarea"],
  "sd version": ["Stable Diffusion version", ["SD1", "SD2", "SDXL", "Unknown"]],
  "activation text": ["Activation text", "text", "Will be added to the prompt along with the network"],
  "preferred weight": ["Preferred weight", "number", "0 is the default weight"],
  "negative text": ["Negative prompt", "text", "Will be added to the negative prompt"],
  vae: ["Preferred VAE", "vaes"], // a list that the server gives
  notes: ["Notes", "textarea"],
};
const ONLY_LORA = ["sd version", "activation text", "preferred weight", "negative text"];
const fieldsOf = (kind) =>
  Object.keys(FIELDS).filter((key) => (kind === "lora" || !ONLY_LORA.includes(key)) && (kind === "checkpoints" || key !== "vae"));
const HASH_PERIOD = 1500; // milliseconds between questions for a hash that is being computed

// changed: called with the kind when something was written.
export async function openEditor(tab, kind, card, metadataOnly, changed) {
  const content = element("div", { className: "popup-content edit-user-metadata" });
  const dialog = element("div", { id: `${tab}_${kind}_edit_user_metadata`, className: "popup-dialog card-dialog" }, content);
  const close = () => {
    document.removeEventListener("keydown", onKey, true);
    dialog.remove();
  };
  const onKey = (event) => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    close();
  };
  dialog.setAttribute("role", "dialog");
  dialog.setAttribute("aria-modal", "true");
  dialog.setAttribute("data-open", "");
  dialog.addEventListener("click", (event) => event.target === dialog && close());
  document.addEventListener("keydown", onKey, true);
  byId(dialog.id)?.remove();
  (document.querySelector(".gradio-container") ?? document.body).append(dialog);
  content.append(element("p", { textContent: "Reading the file…" }));
  try {
    const facts = await ask("/details", { kind, name: card.name });
    content.replaceChildren(...(metadataOnly ? metadataView(facts, close) : editor(tab, kind, facts, close, changed)));
    content.querySelector("input, textarea, button")?.focus();
  } catch (error) {
    content.replaceChildren(element("p", { className: "error", textContent: error.message }), buttonRow(closing(close)));
  }
}

const button = (text, primary, action) => {
  const made = element("button", { type: "button", textContent: text, className: primary ? "lg primary" : "lg secondary" });
  made.addEventListener("click", action);
  return made;
};
const closing = (close, text = "Close") => button(text, false, close);
const buttonRow = (...buttons) => element("div", { className: "edit-user-metadata-buttons" }, ...buttons);
const heading = (text) => element("h3", { className: "extra-network-name", textContent: text, translate: false });

function metadataView(facts, close) {
  const entries = Object.entries(facts.metadata);
  const text = entries.length ? JSON.stringify(facts.metadata, null, 2) : "This file carries no metadata.";
  return [heading(facts.title), element("pre", { className: "file-metadata", textContent: text, translate: !entries.length }), buttonRow(closing(close))];
}

function editor(tab, kind, facts, close, changed) {
  const status = element("p", { className: "edit-user-metadata-status" });
  const inputs = new Map();
  const rows = fieldsOf(kind).map((key) => {
    const [label, how, help] = FIELDS[key];
    const input = inputFor(facts[how] ?? how, facts[key]);
    inputs.set(key, input);
    return element("label", {}, element("span", { textContent: label, title: help ?? "" }), input);
  });
  const picture = element("div", { className: "card-preview" });
  const showPicture = (mark) => {
    const shown = mark && element("img", { alt: "Preview", src: previewUrl(kind, { name: facts.name, preview: mark }) });
    picture.replaceChildren(shown || element("span", { className: "no-preview", textContent: "No preview" }));
  };
  showPicture(facts.preview);
  const attempt = (action) => async () => {
    try {
      await action();
      changed(kind);
    } catch (error) {
      status.textContent = error.message;
    }
  };
  const save = attempt(async () => {
    const changes = {};
    for (const [key, input] of inputs) changes[key] = input.type === "number" ? Number(input.value) : input.value;
    await tell("/save", { kind, name: facts.name, changes });
    close();
  });
  const replace = attempt(async () => {
    await sendPreview(kind, facts.name, await selectedPicture(tab));
    showPicture((await ask("/details", { kind, name: facts.name })).preview);
    status.textContent = "The preview is replaced.";
  });
  return [
    heading(facts.title),
    element("div", { className: "card-editor-columns" },
      element("div", {}, ...rows),
      element("div", {}, picture, factTable(kind, facts))),
    ...(facts.tags.length ? [trainingTags(facts.tags)] : []),
    status,
    buttonRow(closing(close, "Cancel"), button("Replace preview", true, replace), button("Save", true, save)),
  ];
}

function inputFor(how, value) {
  if (how === "textarea") return element("textarea", { rows: 4, value: value ?? "" });
  if (Array.isArray(how)) {
    const list = element("select", {}, ...how.map((text) => element("option", { value: text, textContent: text })));
    if (!how.includes(value)) list.append(element("option", { value, textContent: value }));
    list.value = value;
    return list;
  }
  return element("input", { type: how, value: value ?? "", ...(how === "number" ? { min: 0, max: 2, step: 0.01 } : {}) });
}

function factTable(kind, facts) {
  const hash = element("td", { textContent: facts.hash || "…" });
  const rows = [["Filename", facts.path], ["File size", size(facts.size)], ["Hash", hash], ["Modified", facts.modified]];
  if (facts.trained_base) rows.push(["Trained on", facts.trained_base]);
  const table = element("table", { className: "file-facts" });
  for (const [name, value] of rows) {
    const cell = value instanceof HTMLElement ? value : element("td", { textContent: value, translate: false });
    table.append(element("tr", {}, element("th", { textContent: name }), cell));
  }
  if (!facts.hash) waitForHash(kind, facts.name, hash);
  return table;
}

// It is computed behind the scenes because of this question.
async function waitForHash(kind, name, cell) {
  for (let tries = 0; tries < 40; tries += 1) {
    await new Promise((resolve) => setTimeout(resolve, HASH_PERIOD));
    if (!cell.isConnected) return;
    const { hash } = await ask("/details", { kind, name }).catch(() => ({ hash: "" }));
    if (hash) {
      cell.textContent = hash;
      return;
    }
  }
  cell.textContent = "not known";
}

const size = (bytes) => (bytes >= 1e9 ? `${(bytes / 1e9).toFixed(2)} GB` : `${(bytes / 1e6).toFixed(1)} MB`);

// What the network was trained on, and a prompt drawn from it: a tag is as likely as it is frequent.
function trainingTags(tags) {
  const shown = tags.slice(0, 60).map(([tag, count]) =>
    element("span", { className: "training-tag", title: `${count} times` }, element("span", { textContent: tag, translate: false }), element("small", { textContent: ` ${count}` })));
  const drawn = element("textarea", { rows: 3, readOnly: true });
  drawn.setAttribute("aria-label", "Random prompt");
  const most = tags[0][1];
  const draw = () => {
    drawn.value = tags.filter(([, count]) => Math.random() * most < count).map(([tag]) => tag).join(", ");
  };
  draw();
  return element("div", { className: "training-tags" },
    element("b", { textContent: "Training dataset tags" }), element("div", {}, ...shown),
    element("b", { textContent: "Random prompt" }), element("div", { className: "random-prompt" }, drawn, button("Generate", false, draw)));
}

async function selectedPicture(tab) {
  const gallery = byId(`${tab}_gallery`);
  const image = gallery?.querySelector("img[data-testid=detailed-image]") ?? gallery?.querySelector("img");
  if (!image?.src) throw new Error("There is no picture in the gallery: generate or select one first.");
  return (await fetch(image.src)).blob();
}
