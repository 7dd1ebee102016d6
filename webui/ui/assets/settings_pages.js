// The last pages of the Settings tab: what isn't a setting.

import { element, questions } from "./card_api.js";
import { route } from "./dom.js";

const { ask, tell } = questions("easel/v1/settings");

export const extraPages = () => [
  { title: "Sysinfo", id: "settings_tab_sysinfo", content: sysinfo() },
  { title: "Actions", id: "settings_tab_actions", content: actions() },
  { title: "Licenses", id: "settings_tab_licenses", content: licenses() },
];

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
    button("download_localization", "Download localization template", downloadTemplate),
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

// Every text of the page, as a file for translators: {text: ""}.
function downloadTemplate() {
  const texts = {};
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.nodeValue.trim();
    if (/\p{L}{2}/u.test(text) && !walker.currentNode.parentElement.closest("script, style, textarea, .infotext, .html-log")) texts[text] = "";
  }
  const file = new Blob([JSON.stringify(texts, null, 4)], { type: "application/json" });
  const link = element("a", { href: URL.createObjectURL(file), download: "localization.json" });
  link.click();
  URL.revokeObjectURL(link.href);
}

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
