// The units of ControlNet: everything about them that the server needn't know.
//
// Buttons, check boxes and previews are built here into what Gradio draws, so that a page with many units is light.
// What the server must do goes through few hidden components of each form: a command as text, and buttons.

const TAG = /^(.+)_controlnet_ControlNet-(\d+)_unit$/;
const PAUSE = 60; // milliseconds for Gradio to go on drawing
const poses = new Map(); // unit's name -> OpenPose's JSON of the map that its preview shows, or that was sent to it
const waiting = new Map(); // form -> pictures to be put into units: [{number, part, file}]
const jobs = new Map(); // form -> the unit whose preview is made, and what is to be done with it
const sizes = new Map(); // form -> [width, height] to be sent

const byId = (id) => document.getElementById(id);
const buttonOf = (id) => {
  const found = byId(id);
  return found?.tagName === "BUTTON" ? found : found?.querySelector("button");
};

function make(tag, properties = {}, ...children) {
  const { data, ...rest } = properties;
  const element = Object.assign(document.createElement(tag), rest);
  Object.assign(element.dataset, data);
  element.append(...children);
  return element;
}

const button = (text, title, className = "cnet-tool", more = {}) =>
  make("button", { type: "button", className, title, textContent: text, ...(/\w/.test(text) ? {} : { ariaLabel: title }), ...more });

// Where the server's routes begin: below --subpath.
const route = (path) => {
  const root = new URL(window.gradio_config?.root ?? ".", document.baseURI).pathname;
  return `${root.replace(/\/$/, "")}/${path}`;
};

// A unit on the page: its form, its number, and the beginning of its element ids.
function unitOf(element) {
  const [, form, number] = element.id.match(TAG);
  const name = `${form}_controlnet_ControlNet-${number}`;
  return { element, form, number: Number(number), name, part: (end) => byId(`${name}_${end}`) };
}

function unitAt(form, number) {
  const element = byId(`${form}_controlnet_ControlNet-${number}_unit`);
  return element && unitOf(element);
}

// The unit of a form whose tab is open.
function openUnit(form) {
  const units = [...(byId(`${form}_controlnet`)?.querySelectorAll(".cnet-unit") ?? [])].map(unitOf);
  return units.find((unit) => unit.element.offsetParent) ?? units[0];
}

function command(form, content) {
  const area = byId(`${form}_controlnet_command`).querySelector("textarea, input");
  area.value = JSON.stringify(content);
  area.dispatchEvent(new Event("input", { bubbles: true }));
}

function act(form, content) {
  command(form, content);
  buttonOf(`${form}_controlnet_act`).click();
}

function say(form, sentence) {
  for (const place of byId(`${form}_controlnet`).querySelectorAll(".cnet-presets .cnet-told")) {
    place.textContent = sentence ?? "";
  }
}

// Pictures

// A picture made here, as Gradio's components hold one. Throws a sentence.
async function upload(blob, name) {
  const form = new FormData();
  form.append("files", blob, name);
  const answer = await fetch(route("gradio_api/upload"), { method: "POST", body: form });
  if (!answer.ok) throw new Error(`The picture can't be sent to the server (${answer.status}); reload the page.`);
  const [path] = await answer.json();
  return fileAt(path, name, blob.size);
}

const fileAt = (path, name, size) => ({
  path,
  url: route(`gradio_api/file=${path}`),
  orig_name: name,
  mime_type: "image/png",
  size,
  meta: { _type: "gradio.FileData" },
});

// Puts a picture into a unit: part is "image", "mask" or "region".
function putPicture(unit, part, file) {
  waiting.set(unit.form, [...(waiting.get(unit.form) ?? []), { number: unit.number, part, file }]);
  buttonOf(`${unit.form}_controlnet_put`).click();
}

const PARTS = ["image", "mask", "region"];

// Gradio's event: values of all pictures of a form's units, three a unit.
function put(form, values) {
  const changed = [...values];
  for (const { number, part, file } of waiting.get(form) ?? []) changed[number * 3 + PARTS.indexOf(part)] = file;
  waiting.delete(form);
  return changed;
}

const pictureIn = (unit, end) => unit.part(end)?.querySelector("img");

async function newCanvas(unit) {
  const canvas = await editors.askSize();
  if (!canvas) return;
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  putPicture(unit, "image", await upload(blob, "canvas.png"));
  setChecked(unit, "controlnet_enable_checkbox", true);
}

async function drawMask(unit) {
  const picture = pictureIn(unit, "input_image");
  if (!picture) return say(unit.form, "Load a picture first; the mask is drawn on it.");
  const blob = await editors.drawMask(picture, pictureIn(unit, "mask_image"));
  if (!blob) return;
  setShown(unit, "mask", true);
  putPicture(unit, "mask", await upload(blob, "mask.png"));
}

// Width and height of the form from the unit's picture, to multiples of 8.
function sendDimensions(unit) {
  const picture = pictureIn(unit, "input_image");
  if (!picture?.naturalWidth) return say(unit.form, "There is no picture whose size could be sent; load one first.");
  const rounded = (side) => Math.max(8, side % 8 <= 4 ? side - (side % 8) : side + 8 - (side % 8));
  sizes.set(unit.form, [rounded(picture.naturalWidth), rounded(picture.naturalHeight)]);
  buttonOf(`${unit.form}_controlnet_size`).click();
}

function setChecked(unit, end, wanted) {
  const box = unit.part(end)?.querySelector("input");
  if (box && box.checked !== wanted) box.click();
}

// A check box of our own: shows something of the unit, and when it is cleared takes the picture away that it hides.
const WHOLE_FORMS = ["txt2img", "img2img"];
const CHECKS = [
  { part: "preview", text: "Allow Preview", end: "controlnet_preview_checkbox", only: WHOLE_FORMS },
  { part: "mask", text: "Mask Upload", end: "controlnet_mask_upload_checkbox" },
  { part: "region", text: "Effective Region Mask", end: "controlnet_use_mask_checkbox" },
  { part: "own", text: "Upload independent control image", end: "controlnet_same_img2img_checkbox", only: ["img2img"] },
];
const HIDES = { mask: "mask", region: "region", own: "image" };

function setShown(unit, part, wanted) {
  const box = unit.element.querySelector(`input[data-shows="${part}"]`);
  if (box) box.checked = wanted;
  unit.element.toggleAttribute(`data-${part}`, wanted);
  if (!wanted && HIDES[part]) putPicture(unit, HIDES[part], null);
}

// Previews

function runPreprocessor(unit) {
  setShown(unit, "preview", true);
  startPreview(unit, { unit: unit.number }, "show");
}

function startPreview(unit, content, purpose) {
  const running = byId(`${unit.form}_controlnet_preview_generate_box`)?.dataset.state ?? "idle";
  if (running !== "idle") return say(unit.form, "A preview is being made; wait for it, or stop it.");
  say(unit.form, "");
  jobs.set(unit.form, { number: unit.number, purpose });
  unit.element.querySelector(".cnet-shown").replaceChildren();
  unit.element.querySelector(".cnet-shown").id = `${unit.form}_controlnet_preview_gallery_container`;
  for (const other of document.querySelectorAll(`.cnet-shown[id^="${unit.form}_"]`)) {
    if (!unit.element.contains(other)) other.removeAttribute("id");
  }
  command(unit.form, content);
  buttonOf(`${unit.form}_controlnet_preview_generate`).click();
}

// Gradio's event: a preview has ended. file: the map, null when there is none. answer: JSON.
function previewed(form, file, answer) {
  const told = JSON.parse(answer || "{}");
  const job = jobs.get(form);
  jobs.delete(form);
  const unit = unitAt(form, told.unit ?? job?.number ?? 0);
  if (!unit || !file) return;
  const url = file.url ?? route(`gradio_api/file=${file.path}`);
  if (told.poses) poses.set(unit.name, told.poses);
  else poses.delete(unit.name);
  if (job?.purpose === "send") {
    putPicture(unit, "image", fileAt(file.path, "pose.png", file.size));
    setChecked(unit, "controlnet_enable_checkbox", true);
    if (form === "img2img") setShown(unit, "own", true);
    act(form, { do: "ready", unit: unit.number });
  }
  setShown(unit, "preview", true);
  const box = unit.element.querySelector(".cnet-preview");
  box.toggleAttribute("data-poses", poses.has(unit.name));
  const shown = box.querySelector(".cnet-shown");
  shown.replaceChildren(make("img", { src: url, alt: "Preprocessor Preview" }));
}

function closePreview(unit) {
  unit.element.querySelector(".cnet-shown").replaceChildren();
  setShown(unit, "preview", false);
}

// Poses

async function editPose(unit) {
  const drawn = await editors.editPose(poses.get(unit.name) ?? "", pictureIn(unit, "input_image"));
  if (!drawn) return;
  poses.set(unit.name, drawn);
  startPreview(unit, { unit: unit.number, poses: drawn, do: "pose" }, "send");
}

async function loadPose(unit) {
  const text = await editors.chooseJson();
  if (text === null) return;
  const drawn = await editors.editPose(text, pictureIn(unit, "input_image"));
  if (!drawn) return;
  startPreview(unit, { unit: unit.number, poses: drawn, do: "pose" }, "send");
}

// Presets

function answered(form, answer) {
  const told = JSON.parse(answer || "{}");
  const row = byId(`${form}_controlnet`)?.querySelector(".cnet-presets");
  if (!row) return;
  const list = row.querySelector("select");
  const chosen = told.chosen || list.value;
  list.replaceChildren(make("option", { value: "", textContent: "Presets" }));
  for (const name of told.presets ?? []) list.append(make("option", { value: name, textContent: name, translate: false }));
  list.value = told.presets?.includes(chosen) ? chosen : "";
  say(form, told.problem);
}

function presets(form) {
  const list = make("select", { ariaLabel: "ControlNet presets", id: `${form}_controlnet_presets` });
  list.append(make("option", { value: "", textContent: "Presets" }));
  const name = make("input", { type: "text", placeholder: "Name", maxLength: 100, ariaLabel: "Name of a preset" });
  name.id = `${form}_controlnet_preset_name`;
  const ask = (what, chosen) => {
    if (!chosen.trim()) return say(form, what === "save" ? "Give the preset a name." : "Choose a preset first.");
    act(form, { do: what, unit: openUnit(form).number, name: chosen });
  };
  const load = button("Load", "Set the unit as the preset says", "cnet-tool", { onclick: () => ask("load", list.value) });
  const save = button("Save", "Keep the unit's settings, without its pictures, under this name", "cnet-tool", {
    onclick: () => ask("save", name.value || list.value),
  });
  const drop = button("Delete", "Delete the chosen preset", "cnet-tool", {
    onclick: () => {
      if (!list.value || confirm(window.easel.translated(`Delete the preset "${list.value}"?`))) ask("delete", list.value);
    },
  });
  return make("div", { className: "cnet-presets" }, list, load, drop, name, save, make("p", { className: "cnet-told" }));
}

// Building. Gradio draws a unit piece by piece: each of ours is added once what it stands beside is there.

const TOOLS = [
  { text: "📄 New canvas", title: "An empty picture to draw on", work: newCanvas, end: "controlnet_open_new_canvas_button" },
  { text: "🖌 Draw mask", title: "Draw a mask, or a scribble, on the picture", work: drawMask, end: "controlnet_draw_mask_button" },
  { text: "🕴 Pose editor", title: "Draw a pose, or change the one that was found", work: editPose, end: "controlnet_edit_pose_button", only: WHOLE_FORMS },
  { text: "📂 Pose JSON", title: "Load a pose from a file of OpenPose's JSON", work: loadPose, end: "controlnet_load_pose_button", only: WHOLE_FORMS },
  { text: "📐 Send dimensions", title: "Set width and height to the picture's", work: sendDimensions, end: "controlnet_send_dimen_button" },
];
const isFor = (unit) => ({ only }) => !only || only.includes(unit.form);

function furnish(element) {
  const unit = unitOf(element);
  element.dataset.form = unit.form;
  const guarded = (work) => () => Promise.resolve(work(unit)).catch((error) => say(unit.form, error.message));
  const missing = (end) => !unit.part(end);
  const pictures = element.querySelector(".cnet-pictures");
  if (pictures && missing("generated_image")) pictures.append(previewBox(unit));
  if (pictures && missing("tools")) {
    const tools = TOOLS.filter(isFor(unit)).map(({ text, title, work, end }) =>
      button(text, title, "cnet-tool", { id: `${unit.name}_${end}`, onclick: guarded(work) }),
    );
    pictures.after(make("div", { className: "cnet-tools", id: `${unit.name}_tools` }, ...tools));
  }
  const checks = element.querySelector(".cnet-checks");
  if (checks && missing("checks")) checks.append(ourChecks(unit));
  const module = unit.part("controlnet_preprocessor_dropdown");
  if (module && missing("controlnet_trigger_preprocessor") && WHOLE_FORMS.includes(unit.form)) {
    const id = `${unit.name}_controlnet_trigger_preprocessor`;
    module.after(button("💥", "Run preprocessor", "cnet-tool", { id, onclick: guarded(runPreprocessor) }));
  }
  const model = unit.part("controlnet_model_dropdown");
  if (model && missing("controlnet_refresh_models")) {
    const id = `${unit.name}_controlnet_refresh_models`;
    model.after(button("🔄", "Refresh the list", "cnet-tool", { id, onclick: () => act(unit.form, { do: "refresh" }) }));
  }
  const panel = byId(`${unit.form}_controlnet`);
  if (!panel.querySelector(".cnet-presets")) {
    (panel.querySelector(".cnet-tabs") ?? element).before(presets(unit.form));
  }
}

function ourChecks(unit) {
  const place = make("div", { className: "cnet-checks", id: `${unit.name}_checks` });
  for (const { part, text, end } of CHECKS.filter(isFor(unit))) {
    const box = make("input", { type: "checkbox", data: { shows: part } });
    box.checked = unit.element.hasAttribute(`data-${part}`);
    box.addEventListener("change", () => setShown(unit, part, box.checked));
    place.append(make("label", { className: "cnet-check", id: `${unit.name}_${end}` }, box, text));
  }
  return place;
}

function previewBox(unit) {
  const link = (text, work, className = "") =>
    button(text, text, `cnet-link ${className}`, { onclick: () => work(unit) });
  const header = make("header", {}, make("span", { textContent: "Preprocessor Preview" }));
  header.append(
    link("Edit", (it) => editPose(it).catch((error) => say(it.form, error.message)), "cnet-result"),
    link("JSON", (it) => editors.saveJson(poses.get(it.name)), "cnet-json"),
    link("Close", closePreview),
  );
  return make("div", { className: "cnet-preview", id: `${unit.name}_generated_image` }, header, make("div", { className: "cnet-shown" }));
}

// Gradio's event, whenever a unit is switched on or off: which are on, their control types and preprocessors.
function mark(form, values) {
  const count = values.length / 3;
  const panel = byId(`${form}_controlnet`);
  const tabs = panel?.querySelectorAll(".cnet-tabs > .tab-wrapper .tab-container:not(.visually-hidden) button[role=tab]") ?? [];
  for (const tab of tabs) {
    const number = Number(tab.dataset.tabId.replace("unit_", ""));
    const [on, type, module] = [values[number], values[count + number], values[2 * count + number]];
    tab.classList.toggle("cnet-on", Boolean(on));
    const means = type !== "All" ? type : module;
    tab.querySelector(".cnet-means")?.remove();
    if (on && means !== "none") tab.append(make("span", { className: "cnet-means", textContent: `\u00a0[${means}]` }));
  }
  const head = panel?.querySelector("button.label-wrap > span:first-child");
  head?.querySelector(".cnet-count")?.remove();
  const enabled = values.slice(0, count).filter(Boolean).length;
  if (enabled) head?.append(make("span", { className: "cnet-count", textContent: `${enabled} unit${enabled > 1 ? "s" : ""}` }));
}

// Of the form's units, the one that a preview is asked of: the server gets no other's pictures.
const asking = (form) => String(jobs.get(form)?.number ?? 0);
const size = (form, values) => sizes.get(form) ?? values;
let editors = null;

window.easelControlNet = { answered, asking, mark, previewed, put, size, useEditors: (given) => (editors = given) };

let planned = 0;
function furnishAll() {
  planned = 0;
  for (const element of document.querySelectorAll(".cnet-unit")) if (TAG.test(element.id)) furnish(element);
}
const plan = () => (planned ||= setTimeout(furnishAll, PAUSE));
new MutationObserver(plan).observe(document.body, { childList: true, subtree: true });
plan();
