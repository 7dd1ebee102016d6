// What this visitor left on the page: the form of each tab, and its last job.
//
// A browser tab has its own, and a new one goes on with those of the tab that was closed. For a user who has logged in the
// server keeps the latter, so that their other devices find them and other users of this browser don't.

import { postJson, recall, remember, route } from "./dom.js";
import { settings } from "./settings.js";

const TABS = ["txt2img", "img2img"];
const OPEN = "easel_page"; // the lock that every open page of this browser holds together with the others
const ANSWER = 250; // milliseconds for another page to say that it is open, where there are no locks
let left = {}; // tab -> {form, job}, as the server has them

// Called when the settings are there: whose page this is is known then.
export async function start() {
  await hold();
  if (!settings.visitor) return;
  const answer = await fetch(route("easel/v1/mine")).catch(() => null);
  if (answer?.ok) left = await answer.json();
}

// what: "form" or "job". text: null takes it away.
export function keep(tab, what, text) {
  remember(sessionStorage, nameOf(tab, what), text);
  if (!settings.visitor) remember(localStorage, nameOf(tab, what), text);
  if (!settings.visitor) return Promise.resolve();
  left[tab] = { ...left[tab], [what]: text };
  const told = postJson("easel/v1/mine", { tab, changes: { [what]: text } });
  return told.catch((error) => console.warn(`The server keeps no ${what}: ${error.message}`));
}

export const kept = (tab, what) => ownOf(tab, what) ?? keptBefore(tab, what);

// The form to go on with: a tab beside another begins afresh.
export const formOf = async (tab) => ownOf(tab, "form") ?? ((await isAlone()) ? keptBefore(tab, "form") : null);

// The prompts as last typed in this browser tab, by their element ids.
export const promptIds = (tab) => [`${tab}_prompt`, `${tab}_neg_prompt`];
export const typed = (id) => recall(sessionStorage, marked(`easel_${id}`));
export const keepTyped = (id, text) => remember(sessionStorage, marked(`easel_${id}`), text);

// Reload UI: a page as nobody has used it yet, but for its last pictures.
export async function startAfresh() {
  for (const tab of TABS) {
    for (const id of promptIds(tab)) keepTyped(id, null);
    await keep(tab, "form", null);
  }
  location.reload();
}

// The places on the page whose last job is known.
export function placesOfJobs() {
  if (settings.visitor) return Object.keys(left).filter((tab) => left[tab].job);
  try {
    return Object.keys(localStorage).flatMap((name) => name.match(/^(.+)_task_id$/)?.[1] ?? []);
  } catch {
    return []; // a store that may not be used
  }
}

const ownOf = (tab, what) => recall(sessionStorage, nameOf(tab, what));

const keptBefore = (tab, what) =>
  (settings.visitor ? left[tab]?.[what] : recall(localStorage, nameOf(tab, what))) ?? null;

// One browser tab may see several users, one after the other.
const nameOf = (tab, what) => marked(what === "job" ? `${tab}_task_id` : `easel_${tab}_form`);

const marked = (name) => (settings.visitor ? `${name}@${settings.visitor}` : name);

// A page that can't be asked for locks, since it comes by http from another machine, asks the others themselves.
const pages = new BroadcastChannel("easel_pages");
pages.addEventListener("message", ({ data }) => data === "anyone?" && pages.postMessage("here"));
let alone = null;

function isAlone() {
  alone ??= navigator.locks ? holdsAlone() : isNotAnswered();
  return alone;
}

// For as long as this page lives.
function hold() {
  const held = (resolve) => navigator.locks.request(OPEN, { mode: "shared" }, () => {
    resolve();
    return new Promise(() => {});
  });
  return navigator.locks && new Promise(held);
}

async function holdsAlone() {
  const { held } = await navigator.locks.query();
  return held.filter(({ name }) => name === OPEN).length === 1;
}

function isNotAnswered() {
  return new Promise((resolve) => {
    pages.addEventListener("message", ({ data }) => data === "here" && resolve(false));
    pages.postMessage("anyone?");
    setTimeout(resolve, ANSWER, true);
  });
}
