// The last pages of the Settings tab: what isn't a setting.

import { element, questions } from "./card_api.js";
import { byId, click, route } from "./dom.js";
import { downloadLocalization } from "./localization.js";

const { ask, tell } = questions("easel/v1/settings");

export const extraPages = () => [
  { title: "Defaults", id: "settings_tab_defaults", content: defaults() },
  { title: "Sysinfo", id: "settings_tab_sysinfo", content: sysinfo() },
  { title: "Actions", id: "settings_tab_actions", content: actions() },
  { title: "Licenses", id: "settings_tab_licenses", content: licenses() },
];

function defaults() {
  const button = (id, textContent, act, applies = false) => {
    const made = element("button", { id, type: "button", className: "secondary", textContent });
    made.addEventListener("click", () => {
      applying = applies;
      click(act);
    });
    return made;
  };
  const text = "What the forms of txt2img and img2img hold now can become what a fresh page has. View changes shows what "
    + "that would change, Apply saves it to ui-config.json, Reset takes it all out again.";
  const told = element("div", { id: "ui_defaults_review" });
  told.setAttribute("role", "status");
  return element("div", { className: "settings-actions" },
    element("p", { textContent: text }),
    button("ui_defaults_view", "View changes", "easel_defaults_view"),
    button("ui_defaults_apply", "Apply", "easel_defaults_view", true),
    button("ui_defaults_reset", "Reset", "easel_defaults_reset"),
    told);
}

let applying = false; // whether what changed is to be saved as soon as the server has told it

// Called by Gradio with what the server says of the forms.
export function defaultsTold(json) {
  const { sentence, changes } = JSON.parse(json || "{}");
  if (applying && changes?.length) click("easel_defaults_apply");
  applying = false;
  const rows = (changes ?? []).map(({ key, before, now }) => element("tr", {},
    ...[key, JSON.stringify(before), JSON.stringify(now)].map((textContent) => element("td", { textContent }))));
  const head = element("tr", {}, ...["Field", "Default", "Now"].map((textContent) => element("th", { textContent })));
  const words = sentence || (rows.length ? "" : "Nothing has changed.");
  byId("ui_defaults_review")?.replaceChildren(
    element("p", { textContent: words }), ...(rows.length ? [element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows))] : []));
}

function sysinfo() {
  const download = element("a", { href: route("internal/sysinfo-download"), textContent: "Download system info" });
  download.setAttribute("download", "");
  const open = element("a", { href: route("internal/sysinfo"), target: "_blank", textContent: "(or open as text in a new page)" });
  return element("p", { id: "sysinfo_download" }, download, element("br"), open);
}

function actions() {
  const told = element("p", { id: "settings_action_result" });
  told.setAttribute("role", "status");
  const button = (id, textContent, act) => {
    const made = element("button", { id, type: "button", className: "secondary", textContent });
    made.addEventListener("click", async () => {
      try {
        told.textContent = (await act()) ?? "";
      } catch (error) {
        told.textContent = error.message;
      }
    });
    return made;
  };
  const server = (action) => async () => (await tell("/actions", { action })).told;
  return element("div", { className: "settings-actions" },
    button("request_notifications", "Request browser notifications", async () => NOTIFICATIONS[await Notification.requestPermission()]),
    button("download_localization", "Download localization template", downloadLocalization),
    button("sett_unload_sd_model", "Unload SD checkpoint to RAM", server("unload")),
    button("sett_reload_sd_model", "Load SD checkpoint to VRAM from RAM", server("load")),
    button("calculate_all_checkpoint_hash", "Calculate hash for all checkpoint", server("hash")),
    told);
}

const NOTIFICATIONS = {
  granted: "Notifications are shown while the page is in the background.",
  denied: "The browser refuses notifications for this page.",
  default: "The browser asks again next time.",
};

// Asked for when the page is first looked at.
function licenses() {
  const list = element("dl", { id: "licenses" });
  new IntersectionObserver(async (entries) => {
    if (list.childElementCount || !entries.some((entry) => entry.isIntersecting)) return;
    const found = await ask("/licenses").catch((error) => [{ name: error.message, text: "" }]);
    list.replaceChildren(...found.flatMap(({ name, text }) => [element("dt", { textContent: name }), element("dd", { textContent: text })]));
  }).observe(list);
  return list;
}
