// One job of a tab: drawn here, watched here, and its result fetched when it has ended.

import { byId, click, postJson, recall, remember, route, sleep } from "./dom.js";
import * as lightbox from "./lightbox.js";
import { translated } from "./localization.js";
import { keep, kept } from "./mine.js";
import { settings } from "./settings.js";

const TITLE = document.title;
const FAST = 300; // milliseconds between polls of a young job
const YOUNG = 5000;
const GIVE_UP = 40000; // without any sign of the job
const ON_ITS_WAY = 10000; // for a job to arrive at the server after its page was reloaded
const UNTIL_DRAWN = 10000; // from the click on Generate to its job, at most
const ANSWER = 250; // for another browser tab to say that a job is its own
const NOTICE = 10000;
const CRASHED = "easel_crashed_job";
const watched = new Map(); // tab -> {id, accepted, stopped, known, tellKnown}
const clicked = new Map(); // tab -> when Generate was clicked
const shown = new Map(); // tab -> id of the job that ended last, whose pictures are on the page

export const shownJob = (tab) => shown.get(tab) ?? "";
export const isRunning = (tab) => watched.has(tab);

// The job that a click on Interrupt or Skip means, once the server knows it: before, it would stop nothing.
export async function currentJob(tab) {
  const job = watched.get(tab);
  await job?.known;
  return job?.id ?? "";
}

export function newJob(tab) {
  const random = crypto.getRandomValues(new Uint32Array(3));
  const id = `task(${Array.from(random, (number) => number.toString(36).padStart(7, "0")).join("")})`;
  watch(tab, id);
  return id;
}

// Generate was clicked, and Gradio has not called newJob yet.
export const isStarting = (tab) => !watched.has(tab) && Date.now() < clicked.get(tab) + UNTIL_DRAWN;
export const clickedGenerate = (tab) => clicked.set(tab, Date.now());

// The server's answer to Generate: {job, accepted}.
export function submitted(tab, outcome) {
  const { job, accepted } = JSON.parse(outcome || "{}");
  const current = watched.get(tab);
  if (current?.id !== job) return;
  if (accepted) {
    current.accepted = true;
    current.tellKnown();
  } else finish(tab, current);
}

// Generate itself failed, for a reason that Gradio shows: there is no job to watch.
export function notSubmitted(tab) {
  const current = watched.get(tab);
  if (!current) return;
  finish(tab, current);
  forget(tab);
}

// Takes up a job that ran, or ended, while the page was away. One that the server doesn't know may be on its way there
// still, when the page was reloaded right after the click. A browser tab has its own jobs: another's, which a new or a
// copied tab remembers too, is taken up only when that one is closed.
export async function resume(tab) {
  const id = lastJob(tab);
  if (!id || watched.has(tab) || (await belongsElsewhere(id)) || watched.has(tab)) return;
  const crashed = recall(sessionStorage, CRASHED) === id;
  const until = crashed ? 0 : Date.now() + ON_ITS_WAY;
  let state = await ask(id, -1);
  while (state && !isKnown(state) && Date.now() < until) {
    await sleep(FAST);
    if (lastJob(tab) !== id || watched.has(tab)) return;
    state = await ask(id, -1);
  }
  offer(tab, state === null);
  if (!state) return;
  if (isKnown(state)) {
    watch(tab, id, true);
    if (crashed && !state.completed) say(tab, "The server restarted; the job runs again with the same seeds.");
  } else {
    forget(tab);
    say(tab, crashed ? "The server restarted during this job; finished pictures are in the outputs folder." : "");
  }
}

const isKnown = (state) => state.active || state.queued || state.completed;

async function watch(tab, id, accepted = false) {
  const job = { id, accepted, stopped: false };
  job.known = new Promise((resolve) => (job.tellKnown = resolve));
  watched.set(tab, job);
  keep(tab, "job", id);
  setState(tab, "running");
  const lock = keepAwake();
  const started = Date.now();
  let lastSign = started;
  let preview = -1;
  while (!job.stopped) {
    const state = await ask(id, preview);
    if (job.stopped) break;
    if (state === null) {
      remember(sessionStorage, CRASHED, id);
      await serverBack();
      return;
    }
    if (state.completed) {
      finish(tab, job);
      tellOfEnd();
      shown.set(tab, id);
      click(`${tab}_show_result`);
      break;
    }
    if (isKnown(state)) {
      lastSign = Date.now();
      job.tellKnown();
    } else if (Date.now() - lastSign > (job.accepted ? 3000 : GIVE_UP)) {
      finish(tab, job);
      if (job.accepted) forget(tab);
      else offer(tab, true);
      say(tab, "The server doesn't know this job; what was finished is in the outputs folder.");
      break;
    }
    if (state.live_preview) preview = state.id_live_preview;
    draw(tab, state);
    const period = settings.live_preview_refresh_period || 1000;
    await sleep(Date.now() - started < YOUNG ? Math.min(period, FAST) : period);
  }
  (await lock)?.release?.();
}

// Shows or hides the button that looks for the last job again.
function offer(tab, wanted) {
  byId(`${tab}_restore_progress`)?.toggleAttribute("data-offered", wanted);
}

const forget = (tab) => keep(tab, "job", null);

// This browser tab's last job, or that of the tab which was closed.
const lastJob = (tab) => kept(tab, "job");

const others = new BroadcastChannel("easel_jobs");
others.addEventListener("message", ({ data }) => {
  const mine = [...watched.values()].map((job) => job.id).concat(...shown.values());
  if (data.whose && mine.includes(data.whose)) others.postMessage({ mine: data.whose });
});

async function belongsElsewhere(id) {
  let found = false;
  const listen = ({ data }) => (found ||= data.mine === id);
  others.addEventListener("message", listen);
  others.postMessage({ whose: id });
  await sleep(ANSWER);
  others.removeEventListener("message", listen);
  return found;
}

function finish(tab, job) {
  job.stopped = true;
  job.tellKnown();
  if (watched.get(tab) === job) {
    watched.delete(tab);
    setState(tab, "idle");
    byId(`${tab}_gallery_container`)?.querySelectorAll(".progressDiv, .livePreview").forEach((part) => part.remove());
    lightbox.livePreviewEnded(tab);
    document.title = TITLE;
  }
}

// The state of a job, or null when the server can't be reached.
async function ask(id, preview) {
  try {
    const answer = await postJson("internal/progress", {
      id_task: id,
      id_live_preview: preview,
      live_preview: Boolean(settings.live_previews_enable) && document.visibilityState === "visible",
    });
    if (answer.status === 401) location.reload();
    return answer.ok ? await answer.json() : answer.status >= 502 ? null : {};
  } catch {
    return null;
  }
}

async function serverBack() {
  const notice = Object.assign(document.createElement("div"), {
    className: "easel-restarting",
    role: "status",
    textContent: "Server restarting… The page comes back by itself; prompts are kept.",
  });
  document.body.append(notice);
  for (;;) {
    await sleep(1000);
    try {
      if ((await fetch(route("internal/ping"))).ok) break;
    } catch {
      continue; // not yet
    }
  }
  location.reload();
}

// By the sound in the data folder, if there is one, and to who looks elsewhere by a notification, if they allowed it.
function tellOfEnd() {
  if (settings.notification_audio && settings.notification_sound) {
    const sound = new Audio(route("easel/v1/settings/notification.mp3"));
    sound.volume = settings.notification_volume / 100;
    sound.play().catch(() => {}); // the browser may allow none
  }
  if (document.hidden && window.Notification?.permission === "granted") new Notification(TITLE, { body: "The pictures are done." });
}

function setState(tab, state) {
  const box = byId(`${tab}_generate_box`);
  if (box) box.dataset.state = state;
}

export function interrupting(tab) {
  if (watched.has(tab)) setState(tab, "interrupting");
}

function say(tab, sentence) {
  if (!sentence) return;
  const log = byId(`html_log_${tab}`);
  const paragraph = Object.assign(document.createElement("p"), { className: "error", textContent: sentence });
  (log?.querySelector(".prose") ?? log)?.replaceChildren(paragraph);
  const notice = Object.assign(document.createElement("div"), { className: "easel-notice", textContent: sentence });
  notice.setAttribute("role", "alert");
  document.body.append(notice);
  setTimeout(() => notice.remove(), NOTICE);
}

function draw(tab, state) {
  const container = byId(`${tab}_gallery_container`);
  if (!container) return;
  const percent = Math.round((state.progress ?? 0) * 100);
  const words = [state.textinfo && !state.active ? state.textinfo : ""];
  if (state.active) {
    words.push(state.textinfo ?? "", `${percent}%`);
    if (state.eta) words.push(`ETA: ${duration(state.eta)}`);
  }
  const text = words.filter(Boolean).map(translated).join(" ");
  if (settings.show_progress_in_title !== false && state.active) document.title = `[${text}] ${TITLE}`;
  if (settings.show_progressbar !== false) {
    const bar = part(container, "progressDiv", () => {
      const div = document.createElement("div");
      div.append(Object.assign(document.createElement("div"), { className: "progress" }));
      div.append(Object.assign(document.createElement("span"), { className: "progressText", translate: false }));
      return div;
    });
    bar.firstChild.style.width = `${percent}%`;
    bar.lastChild.textContent = text;
  }
  if (state.live_preview) {
    const frame = part(container, "livePreview", () => {
      const div = document.createElement("div");
      div.append(Object.assign(document.createElement("img"), { alt: "Live preview" }));
      return div;
    });
    frame.firstChild.src = state.live_preview;
    lightbox.livePreview(tab, state.live_preview);
  }
}

function part(container, name, make) {
  let found = container.querySelector(`:scope > .${name}`);
  if (!found) {
    found = Object.assign(make(), { className: name });
    container.prepend(found);
  }
  return found;
}

export function duration(seconds) {
  const whole = Math.ceil(seconds);
  if (whole <= 60) return `${whole}s`;
  const two = (number) => String(number).padStart(2, "0");
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60].map(two);
  return (whole > 3600 ? parts : parts.slice(1)).join(":");
}

async function keepAwake() {
  try {
    return settings.prevent_screen_sleep_during_generation === false ? null : await navigator.wakeLock?.request("screen");
  } catch {
    return null; // the browser may refuse, e.g. for a page in the background
  }
}
