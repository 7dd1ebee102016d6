// What the page does by itself, and what Gradio's events ask of it (window.easel).

import { editWeight, moveItems } from "./attention.js";
import { appears, buttonOf, byId, click, isShown, recall, remember, setText, sleep, textareaOf } from "./dom.js";
import * as drop from "./drop.js";
import * as downloads from "./downloads.js";
import * as extensions from "./extensions.js";
import * as gallery from "./gallery.js";
import * as extraNetworks from "./extra_networks.js";
import * as img2img from "./img2img.js";
import { chosenPicture, newlyChosenPicture } from "./lightbox.js";
import { arrange } from "./layout.js";
import * as localization from "./localization.js";
import * as mine from "./mine.js";
import * as progress from "./progress.js";
import * as scripts from "./scripts.js";
import { queueWish } from "./queue.js";
import { settings } from "./settings.js";
import * as settingsForm from "./settings_form.js";
import { defaultsTold } from "./settings_pages.js";
import { addTooltips } from "./tooltips.js";
import * as training from "./training.js";

const TABS = ["txt2img", "img2img"];
const TYPING_PAUSE = 800; // milliseconds before tokens are counted anew
const JUDGE_PAUSE = 500; // milliseconds without a change before the form is judged anew
const DIALOGS = "[data-open], dialog[open]"; // the browser closes the latter
const timers = new Map();
const forms = new Map(); // tab -> the form as it was left, in the order of its fields
let chosenCheckpoint = "";


window.easel = {
  ...img2img,
  ...scripts,
  chosenPicture,
  newlyChosenPicture,
  currentJob: progress.currentJob,
  defaultsTold,
  queueWish,
  shownJob: progress.shownJob,
  translated: localization.translated,
  untranslated: localization.untranslated,
  submitted: progress.submitted,
  notSubmitted: progress.notSubmitted,
  openDialog: (id) => byId(id)?.setAttribute("data-open", ""),
  closeDialog: (id) => byId(id)?.removeAttribute("data-open"),
  showTab: (tab) => click(`tab_${tab}-button`),
  chosenCheckpoint: () => chosenCheckpoint,

  showExtras() {
    click("tab_extras-button");
    click("extras_single_tab-button");
  },

  chooseCheckpoint(title) {
    chosenCheckpoint = title;
    click("change_checkpoint");
  },

  // values: of the job id's box, at the place idPlace, and of all that a job is made from. places: of the form among
  // them, to be shown again on a reloaded page; null keeps nothing.
  newJob(tab, values, idPlace, places) {
    if (places) this.keepForm(tab, places.map((place) => values[place]));
    const id = progress.newJob(tab);
    return values.map((value, place) => (place === idPlace ? id : value));
  },

  keepForm(tab, values) {
    mine.keep(tab, "form", JSON.stringify({ shape: settings.shapes[tab], values }));
  },

  // The form as it was left, with the prompts (its first two) as last typed in this browser tab.
  rememberedForm(tab) {
    const form = forms.get(tab);
    mine.promptIds(tab).forEach((id, index) => {
      form[index] = mine.typed(id) ?? form[index];
    });
    return form;
  },

  clearedPrompts(tab) {
    const areas = mine.promptIds(tab).map(textareaOf);
    return confirm(localization.translated("Delete both prompts?")) ? ["", ""] : areas.map((area) => area.value);
  },

  promptChanged(tab, id, text) {
    mine.keepTyped(id, text);
    if (settings.disable_token_counters) return;
    clearTimeout(timers.get(id));
    const button = id === `${tab}_prompt` ? `${tab}_token_button` : `${tab}_negative_token_button`;
    timers.set(id, setTimeout(() => click(button), TYPING_PAUSE));
  },

  hiresText(width, height, scale, resizeWidth, resizeHeight) {
    const row = byId("txt2img_hires_fix_row2");
    if (row) row.dataset.by = resizeWidth || resizeHeight ? "size" : "scale";
    const [toWidth, toHeight] = hiresSize(width, height, scale, resizeWidth, resizeHeight);
    return `from <b>${Number(width)}x${Number(height)}</b> to <b>${toWidth}x${toHeight}</b>`;
  },
};

function hiresSize(width, height, scale, resizeWidth, resizeHeight) {
  if (!resizeWidth && !resizeHeight) return [Math.trunc(width * scale), Math.trunc(height * scale)];
  if (!resizeHeight) return [resizeWidth, Math.trunc((resizeWidth * height) / width)];
  if (!resizeWidth) return [Math.trunc((resizeHeight * width) / height), resizeHeight];
  return [resizeWidth, resizeHeight];
}

// Called by Gradio once the page has its fresh values.
async function ready(json) {
  Object.assign(settings, JSON.parse(json || "{}"));
  await mine.start();
  arrange(settings);
  addTooltips();
  extraNetworks.start();
  downloads.start();
  settingsForm.start();
  settingsForm.showQuickSettings();
  extensions.start();
  gallery.start();
  training.start();
  document.documentElement.dataset.easel = "ready";
  if (settings.disable_token_counters) document.documentElement.dataset.counters = "off";
  for (const tab of TABS) takeUp(tab);
  for (const tab of mine.placesOfJobs()) if (!TABS.includes(tab)) takeUpJob(tab);
  localization.start();
}

// A place that starts jobs but has no form to be restored: the job that ran when the page was left.
async function takeUpJob(tab) {
  await appears(`${tab}_show_result`);
  progress.resume(tab);
}

// A tab as it was left: its form, and the job that ran. A tab is built when it is opened for the first time.
async function takeUp(tab) {
  await appears(`${tab}_restore_form`);
  forms.set(tab, await keptForm(tab));
  if (forms.get(tab)) click(`${tab}_restore_form`);
  else {
    for (const id of mine.promptIds(tab)) {
      const text = mine.typed(id);
      if (text && textareaOf(id)) setText(textareaOf(id), text);
    }
  }
  progress.resume(tab);
}

// The values that were left in a tab; null where there are none, or they are of another form.
async function keptForm(tab) {
  const { shape, values } = JSON.parse((await mine.formOf(tab)) ?? "{}");
  return shape === settings.shapes[tab] ? values : null;
}

const activeTab = () => TABS.find((tab) => isShown(buttonOf(`${tab}_prompt`) ?? byId(`${tab}_prompt`)));

async function generate(tab) {
  if (progress.isRunning(tab)) {
    click(`${tab}_interrupt`);
    while (progress.isRunning(tab)) await sleep(50);
  }
  click(`${tab}_generate`);
}

// Esc, when Generate has only just been clicked.
async function interruptStarting(tab) {
  while (progress.isStarting(tab) && !img2img.isSending(tab)) await sleep(20);
  if (img2img.isSending(tab)) img2img.cancelSending(tab);
  else if (progress.isRunning(tab)) click(`${tab}_interrupt`);
}

function onKey(event) {
  const area = event.target;
  const inPrompt = area instanceof HTMLTextAreaElement && area.closest(".prompt");
  const command = event.ctrlKey || event.metaKey;
  const tab = activeTab();
  if (event.key === "Escape" && document.querySelector(DIALOGS)) {
    document.querySelector("[data-open]")?.removeAttribute("data-open");
    return;
  }
  if (event.key === "Enter" && command && tab) generate(tab);
  else if (event.key === "Enter" && event.altKey && tab) progress.isRunning(tab) && click(`${tab}_skip`);
  else if (event.key === "Escape" && tab && progress.isRunning(tab)) {
    click(`${tab}_interrupt`);
  } else if (event.key === "Escape" && tab && (progress.isStarting(tab) || img2img.isSending(tab))) {
    interruptStarting(tab);
  } else if (inPrompt && command && ["ArrowUp", "ArrowDown"].includes(event.key)) {
    change(area, editWeight, event.key === "ArrowUp" ? 1 : -1);
  } else if (inPrompt && event.altKey && settings.keyedit_move && ["ArrowLeft", "ArrowRight"].includes(event.key)) {
    change(area, moveItems, event.key === "ArrowRight" ? 1 : -1);
  } else return;
  event.preventDefault();
  event.stopPropagation();
}

function change(area, edit, direction) {
  const edited = edit(area.value, area.selectionStart, area.selectionEnd, direction, settings);
  if (edited) setText(area, edited.text, edited.start, edited.end);
}

function onClick(event) {
  const target = event.target.closest("button, [data-easel]");
  const arrow = target?.closest(".input-accordion-arrow");
  if (arrow) arrow.closest(".input-accordion").toggleAttribute("data-flipped");
  if (target?.dataset.easel === "reload") mine.startAfresh();
  if (target?.dataset.easel === "dismiss") {
    remember(localStorage, "easel_hint", "dismissed");
    document.documentElement.dataset.hint = "dismissed";
  }
  const [, tab, what] = target?.id?.match(/^(.+)_(generate|submit|upscale|interrupt|restore_progress)$/) ?? [];
  if (tab && byId(`${tab}_generate_box`)) {
    if (what === "interrupt") progress.interrupting(tab);
    else if (what === "restore_progress") progress.resume(tab);
    else progress.clickedGenerate(tab);
  }
}

// The checkbox of an accordion decides what is open, until its arrow is clicked.
function onChange(event) {
  event.target.closest?.(".input-accordion-head")?.parentElement.removeAttribute("data-flipped");
}

// Whatever was done may have changed the form: what is said of the picture it makes must be true of the form as it is.
function judgeAgain(event) {
  if (event.target.closest?.(".reproduce")) return;
  for (const tab of TABS.filter((tab) => byId(`html_log_${tab}`)?.querySelector(".reproduce"))) {
    clearTimeout(timers.get(`${tab}_judge`));
    timers.set(`${tab}_judge`, setTimeout(() => stillJudged(tab) && click(`${tab}_judge_form`), JUDGE_PAUSE));
  }
}

const stillJudged = (tab) => byId(`html_log_${tab}`)?.querySelector(".reproduce") && !progress.isRunning(tab);

drop.start();
for (const type of ["input", "change", "click", "keyup"]) {
  document.addEventListener(type, (event) => {
    if (event.isTrusted) judgeAgain(event);
  }, true);
}
document.addEventListener("keydown", onKey, true);
document.addEventListener("click", onClick, true);
document.addEventListener("change", onChange, true);
if (recall(localStorage, "easel_hint")) document.documentElement.dataset.hint = "dismissed";

if (window.easelWaiting) ready(...window.easelWaiting);
window.easelReady = ready;
