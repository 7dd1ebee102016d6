// The last pages of the Settings tab: what isn't a setting.

import { element } from "./card_api.js";
import { route } from "./dom.js";

export const extraPages = () => [{ title: "Sysinfo", id: "settings_tab_sysinfo", content: sysinfo() }];

function sysinfo() {
  const download = element("a", { href: route("internal/sysinfo-download"), textContent: "Download system info" });
  download.setAttribute("download", "");
  const open = element("a", { href: route("internal/sysinfo"), target: "_blank", textContent: "(or open as text in a new page)" });
  return element("p", { id: "sysinfo_download" }, download, element("br"), open);
}
