// The full-window viewer of a gallery's pictures. Element ids are A1111's.
//
// The gallery stays the one that knows its pictures: to move on is to click its thumbnail, and whatever picture it
// shows is shown here.

import { buttonOf, byId, click, sleep } from "./dom.js";
import { settings } from "./settings.js";

const PICTURE = "img[data-testid=detailed-image]";
const STEP = 1.25; // of one turn of the wheel, one press of + or -
const CLICKED = 2; // how much a click enlarges
const MOST = 32;
const STILL = 6; // pixels that a click may move
const SWIPE = 50;
const STICK = 0.5; // of a gamepad, pushed far enough

let gallery = null; // whose pictures are shown
let opener = null;
let view = { scale: 1, x: 0, y: 0 }; // image pixels -> window pixels
let fits = true; // whether the picture fills the window, or has its own size where that is smaller
let watcher = null;
let saving = null; // watches for the server's answer
let stick = 0;
const fingers = new Map(); // pointer id -> {x, y}
let start = null; // of a gesture

const dialog = build();
const image = dialog.querySelector("#modalImage");
const note = dialog.querySelector("#modalNote");
const stage = dialog.querySelector("#modalStage");

function build() {
  const made = document.createElement("dialog");
  made.id = "lightboxModal";
  made.setAttribute("aria-label", "Picture in the full window");
  made.innerHTML = `
    <div class="modalControls" role="toolbar" aria-label="Picture">
      <button id="modal_zoom" class="modalZoom" title="Fill the window, or show the picture's own size">⤡</button>
      <button id="modal_tile_image" class="modalTileImage" title="Show the picture as tiles">⊞</button>
      <button id="modal_save" class="modalSave" title="Save the picture (s)">⤓</button>
      <button id="modal_toggle_live_preview" class="modalToggleLivePreview" title="Show the live preview here">◉</button>
      <span id="modalNote" role="status"></span>
      <button id="modal_close" class="modalClose" title="Close (Esc)">×</button>
    </div>
    <button id="modalPrev" class="modalPrev" title="Previous picture (left arrow)">❮</button>
    <div id="modalStage"><img id="modalImage" alt="" draggable="false"></div>
    <button id="modalNext" class="modalNext" title="Next picture (right arrow)">❯</button>`;
  for (const button of made.querySelectorAll("button")) {
    button.type = "button";
    button.setAttribute("aria-label", button.title);
  }
  document.body.append(made);
  return made;
}

const tabOf = () => gallery?.id.replace(/_gallery$/, "") ?? "";
const shown = () => gallery?.querySelector(PICTURE);
const thumbnails = (of = gallery) => [...(of?.querySelectorAll(".thumbnails button.thumbnail-item") ?? [])];
const current = (of = gallery) => thumbnails(of).findIndex((item) => item.classList.contains("selected"));

function open(picture) {
  gallery = picture.closest(".block");
  opener = picture.closest("button") ?? picture;
  note.textContent = "";
  fits = settings.js_modal_lightbox_initially_zoomed;
  const style = dialog.style;
  style.setProperty("--icons", settings.sd_webui_modal_lightbox_icon_opacity);
  style.setProperty("--toolbar", settings.sd_webui_modal_lightbox_toolbar_opacity);
  dialog.classList.remove("modalImageTiling");
  byId("modal_save").hidden = !buttonOf(`save_${tabOf()}`);
  setLive(settings.js_live_preview_in_modal_lightbox);
  dialog.showModal();
  byId("modal_close").focus();
  watcher = new MutationObserver(follow);
  watcher.observe(gallery, { subtree: true, childList: true, attributes: true, attributeFilter: ["src", "class"] });
  follow();
  if (settings.js_modal_lightbox_gamepad) stick = setInterval(readGamepads, settings.js_modal_lightbox_gamepad_repeat);
}

function closed() {
  watcher?.disconnect();
  saving?.disconnect();
  clearInterval(stick);
  fingers.clear();
  image.removeAttribute("src");
  (opener?.isConnected ? opener : shown()?.closest("button"))?.focus();
  gallery = null;
}

// Show what the gallery shows.
function follow() {
  const picture = shown();
  if (!picture) return;
  const several = thumbnails().length > 1;
  for (const id of ["modalPrev", "modalNext"]) byId(id).hidden = !several;
  if (image.dataset.live === undefined) show(picture.src, picture.alt);
}

function show(src, alt) {
  if (image.src === src) return;
  image.alt = alt || (thumbnails().length > 1 ? `Picture ${current() + 1} of ${thumbnails().length}` : "Picture");
  image.onload = fit;
  image.src = src;
  stage.style.backgroundImage = `url("${src}")`;
}

function move(by) {
  const items = thumbnails();
  if (items.length < 2) return;
  delete image.dataset.live;
  items[(current() + by + items.length) % items.length].click();
}

// Index of the picture that a tab's gallery shows; undefined while it shows all. Gradio's own event tells the server
// later than a key or a click may ask for it.
export function chosenPicture(tab) {
  const index = current(byId(`${tab}_gallery`));
  return index < 0 ? undefined : index;
}

// For Gradio's select event, whose own data is that of the first of several quick choices. It comes before the gallery
// is drawn anew.
export async function newlyChosenPicture(tab, info, selected) {
  await sleep(0);
  return [info, chosenPicture(tab) ?? selected];
}

function save() {
  const tab = tabOf();
  const log = byId(`html_log_${tab}`);
  if (byId("modal_save").hidden) return;
  saving?.disconnect();
  saving = new MutationObserver(() => {
    note.textContent = log.querySelector(".saved, .error")?.textContent ?? note.textContent;
  });
  saving.observe(log, { subtree: true, childList: true, characterData: true });
  note.textContent = "Saving…";
  click(`save_${tab}`);
}

// The picture of a job at work, if so chosen.
function setLive(on) {
  byId("modal_toggle_live_preview").setAttribute("aria-pressed", String(Boolean(on)));
  if (!on) delete image.dataset.live;
}

export function livePreview(tab, src) {
  const wanted = byId("modal_toggle_live_preview").getAttribute("aria-pressed") === "true";
  if (!dialog.open || tab !== tabOf() || !wanted) return;
  image.dataset.live = "";
  show(src, "Live preview");
}

export function livePreviewEnded(tab) {
  if (tab !== tabOf()) return;
  delete image.dataset.live;
  follow();
}

// Zoom

function smallest() {
  const contained = Math.min(stage.clientWidth / image.naturalWidth, stage.clientHeight / image.naturalHeight);
  return fits ? contained : Math.min(contained, 1);
}

function fit() {
  const scale = smallest();
  place({
    scale,
    x: (stage.clientWidth - image.naturalWidth * scale) / 2,
    y: (stage.clientHeight - image.naturalHeight * scale) / 2,
  });
}

// No side of a large picture comes away from the window's edge, a small one stays in the middle.
function place({ scale, x, y }) {
  const kept = (offset, length, room) =>
    length <= room ? (room - length) / 2 : Math.min(0, Math.max(room - length, offset));
  view = {
    scale,
    x: kept(x, image.naturalWidth * scale, stage.clientWidth),
    y: kept(y, image.naturalHeight * scale, stage.clientHeight),
  };
  image.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.scale})`;
  stage.classList.toggle("zoomed", isZoomed());
}

const isZoomed = () => view.scale > smallest() * 1.001;

// The point of the picture under (x, y) stays there.
function zoom(factor, x = stage.clientWidth / 2, y = stage.clientHeight / 2) {
  const least = smallest();
  const scale = Math.min(Math.max(view.scale * factor, least), Math.max(MOST, least * CLICKED));
  const by = scale / view.scale;
  place({ scale, x: x - (x - view.x) * by, y: y - (y - view.y) * by });
}

function onWheel(event) {
  event.preventDefault();
  zoom(STEP ** -Math.sign(event.deltaY), event.clientX, event.clientY);
}

// Fingers and mouse

const middle = () => {
  const points = [...fingers.values()];
  const mean = (side) => points.reduce((sum, point) => sum + point[side], 0) / points.length;
  const apart = points.length > 1 ? Math.hypot(points[0].x - points[1].x, points[0].y - points[1].y) : 0;
  return { x: mean("x"), y: mean("y"), apart };
};

function onDown(event) {
  if (event.button > 0) return;
  stage.setPointerCapture(event.pointerId);
  fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  if (fingers.size === 1) start = { x: event.clientX, y: event.clientY, moved: false, pinched: false };
  else start.pinched = true;
}

function onMove(event) {
  if (!fingers.has(event.pointerId)) return;
  const before = middle();
  fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  const now = middle();
  if (Math.hypot(now.x - start.x, now.y - start.y) > STILL) start.moved = true;
  if (before.apart && now.apart) zoom(now.apart / before.apart, now.x, now.y);
  if (isZoomed()) place({ scale: view.scale, x: view.x + now.x - before.x, y: view.y + now.y - before.y });
}

function onUp(event) {
  if (!fingers.delete(event.pointerId) || fingers.size || start.pinched) return;
  const across = event.clientX - start.x;
  if (!start.moved) clicked(event);
  else if (!isZoomed() && Math.abs(across) > SWIPE && Math.abs(across) > Math.abs(event.clientY - start.y)) {
    move(across < 0 ? 1 : -1);
  }
}

// Beside the picture a click closes, as A1111's does; on it, it enlarges or takes that back.
function clicked(event) {
  const box = image.getBoundingClientRect();
  const { clientX: x, clientY: y } = event;
  if (x < box.left || x > box.right || y < box.top || y > box.bottom) dialog.close();
  else if (isZoomed()) fit();
  else zoom(CLICKED, x, y);
}

// Keys, buttons, gamepad

const KEYS = {
  ArrowLeft: () => move(-1),
  ArrowRight: () => move(1),
  s: save,
  "+": () => zoom(STEP),
  "=": () => zoom(STEP),
  "-": () => zoom(1 / STEP),
  0: fit,
};

function onKey(event) {
  const act = event.ctrlKey || event.metaKey || event.altKey ? null : KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  event.stopPropagation();
  act();
}

const BUTTONS = {
  modalPrev: () => move(-1),
  modalNext: () => move(1),
  modal_save: save,
  modal_close: () => dialog.close(),
  modal_zoom() {
    fits = !fits;
    fit();
  },
  modal_tile_image: () => dialog.classList.toggle("modalImageTiling"),
  modal_toggle_live_preview(button) {
    setLive(button.getAttribute("aria-pressed") !== "true");
    follow();
  },
};

function readGamepads() {
  for (const pad of navigator.getGamepads?.() ?? []) {
    const pushed = pad?.axes[0] ?? 0;
    if (Math.abs(pushed) > STICK) return move(Math.sign(pushed));
  }
}

function onClickAnywhere(event) {
  if (!settings.js_modal_lightbox || event.button > 0) return;
  const picture = event.target.closest?.("button, img");
  const found = picture?.matches(PICTURE) ? picture : picture?.querySelector(`:scope > ${PICTURE}`);
  if (!found) return;
  event.preventDefault();
  event.stopPropagation();
  open(found);
}

dialog.addEventListener("keydown", onKey);
dialog.addEventListener("close", closed);
dialog.addEventListener("click", ({ target }) => {
  const button = target.closest("button");
  if (button) BUTTONS[button.id]?.(button);
});
stage.addEventListener("wheel", onWheel, { passive: false });
stage.addEventListener("pointerdown", onDown);
stage.addEventListener("pointermove", onMove);
stage.addEventListener("pointerup", onUp);
stage.addEventListener("pointercancel", ({ pointerId }) => fingers.delete(pointerId));
window.addEventListener("resize", () => dialog.open && fit());
document.addEventListener("click", onClickAnywhere, true);
