// The dropdown "Script": of the scripts' panels only the chosen one's is shown.

import { byId } from "./dom.js";

// panels: the element id of each script's panel by the script's title.
export function chooseScript(panels, title) {
  for (const [name, id] of Object.entries(panels)) {
    const panel = byId(id);
    if (panel) panel.dataset.chosen = String(name === title);
  }
}
