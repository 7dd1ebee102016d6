// The img2img tab: which sub-tab is in use, and drawings that leave the browser only when they are needed.
//
// Gradio's editor uploads all it holds for every event that takes it. So only hidden "send" buttons take it, one a
// sub-tab, and a drawing that nobody has touched since is not sent again.

import { appears, byId, click, isShown } from "./dom.js";

const MODES = {
  img2img: "img2img_img2img_tab",
  sketch: "img2img_img2img_sketch_tab",
  inpaint: "img2img_inpaint_tab",
  inpaint_sketch: "img2img_inpaint_sketch_tab",
  inpaint_upload: "img2img_inpaint_upload_tab",
  batch: "img2img_batch_tab",
};
const EDITORS = { sketch: "img2img_sketch", inpaint: "img2maskimg", inpaint_sketch: "inpaint_sketch" };
const TOUCHES = ["pointerdown", "keydown", "drop", "paste", "change"];
const PAUSE = 300; // milliseconds of a slider at rest

let mode = "img2img";
let sentMode = null; // whose drawing the server has, as it is now
let waiting = null; // what to do when the drawing on its way has arrived
let timer = 0;

export function chooseMode(chosen) {
  mode = chosen;
  for (const id of ["img2img_settings", "img2img_script_container"]) {
    if (byId(id)) byId(id).dataset.mode = mode;
  }
  refreshScale();
  return mode;
}

export async function showMode(wanted) {
  click("tab_img2img-button");
  const button = `${MODES[wanted]}-button`;
  await appears(button); // a tab is built when it is opened for the first time
  click(button);
  sourceChanged();
}

// Generate: the drawing first, if there is one that the server doesn't have.
export function generateFromPicture() {
  const box = byId("img2img_generate_box");
  box.dataset.state = "sending";
  whenSent(() => {
    if (box.dataset.state !== "sending") return;
    box.dataset.state = "idle";
    click("img2img_submit");
  });
}

export const isSending = (tab) => byId(`${tab}_generate_box`)?.dataset.state === "sending";

// Esc while the drawing is on its way: nothing is generated from it.
export function cancelSending(tab) {
  byId(`${tab}_generate_box`).dataset.state = "idle";
}

// A job's values without the pictures of other sub-tabs: the server refuses all of them when it has lost one.
// placesOf: of each sub-tab's pictures among the values. chosen: the sub-tab.
export function ofThisMode(values, placesOf, chosen = mode) {
  const all = Object.values(placesOf).flat();
  return values.map((value, place) => (all.includes(place) && !placesOf[chosen].includes(place) ? null : value));
}

function whenSent(act) {
  if (waiting) waiting.push(act);
  else if (!(mode in EDITORS) || sentMode === mode) act();
  else {
    waiting = [act];
    sentMode = mode; // a touch while it is on its way takes this back
    click(`img2img_send_${mode}`);
  }
}

export function drawingSent() {
  const acts = waiting ?? [];
  waiting = null;
  for (const act of acts) act();
}

export function drawingLost() {
  waiting = null;
  sentMode = null;
  byId("img2img_generate_box").dataset.state = "idle";
}

// What an editor holds, as files of the server: its picture first, then what was drawn. Gradio takes a list for the
// values of several components, hence a list of the one value.
export function drawnFiles(value) {
  return [[value?.background, ...(value?.layers ?? [])].filter(Boolean)];
}

// A file of the server for an editor to show.
export const intoEditor = (file) => (file ? { background: file, layers: [], composite: null } : null);

// A picture from one sub-tab for another: with what is drawn on it, unless that is a mask. Where nothing is drawn yet an
// editor has no composite.
export function copied(value, from, to) {
  const drawn = from === "inpaint" ? value?.background : (value?.composite ?? value?.background);
  const file = from === "img2img" ? value : drawn;
  return to === "img2img" ? (file ?? null) : intoEditor(file);
}

// Another picture, by whatever way: it has another size, and the server hasn't it yet.
export function sourceChanged() {
  sentMode = null;
  refreshScale();
}

export function scaleChanged() {
  clearTimeout(timer);
  timer = setTimeout(refreshScale, PAUSE);
}

// The line under the Scale slider, while it can be seen.
function refreshScale() {
  clearTimeout(timer);
  timer = setTimeout(() => {
    if (isShown(byId("img2img_scale"))) whenSent(() => click("img2img_update_resize_to"));
  }, PAUSE);
}

export function describePicture(captioner) {
  whenSent(() => click(`img2img_describe_${captioner}`));
}

export function detectSize() {
  whenSent(() => click("img2img_detected_size"));
}

function touched(event) {
  const editor = EDITORS[mode];
  const inside = editor && event.target.closest?.(`#${editor}`);
  const anywhere = event.type === "paste" || (event.type === "keydown" && (event.ctrlKey || event.metaKey));
  if (inside || anywhere) sentMode = null;
  if (inside && event.type === "drop") refreshScale();
}

for (const type of TOUCHES) document.addEventListener(type, touched, true);
