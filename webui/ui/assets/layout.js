// How settings arrange the page: tabs, samplers, the order of the form, the gallery. Done once, when the page is ready.

import { appears, byId } from "./dom.js";

const TAB_BUTTONS = "#tabs > .tab-wrapper > .tab-container:not(.visually-hidden) > button[role=tab]";

// Items of the setting "UI item order" -> an element that stands for each in the column of a tab.
const ANCHORS = {
  image: "img2img_image",
  inpaint: "inpaint_controls",
  sampler: "sampler_selection_{tab}",
  accordions: "{tab}_accordions",
  dimensions: "{tab}_column_size",
  cfg: "{tab}_cfg_scale",
  denoising: "{tab}_denoising_strength",
  seed: "{tab}_seed_row",
  batch: "{tab}_column_batch",
  extra_options: "extra_options_{tab}",
  override_settings: "{tab}_override_settings_row",
  scripts: "{tab}_script_container",
};

export function arrange(settings) {
  const rules = [
    ...settings.hide_samplers.map((name) => `:is([id$="_sampling"], #hr_sampler) [role="option"][aria-label=${quoted(name)}] { display: none; }`),
    ...["txt2img", "img2img"].flatMap((tab) => orderOf(tab, settings.ui_reorder_list)),
  ];
  if (!settings.hires_fix_show_sampler) rules.push("#txt2img_hires_fix_row3 { display: none !important; }");
  if (!settings.hires_fix_show_prompts) rules.push("#txt2img_hires_fix_row4 { display: none !important; }");
  if (!settings.dimensions_and_batch_together) {
    rules.push(".row:has(> [id$='_column_batch']) { flex-wrap: wrap; }", "[id$='_column_batch'] { flex-basis: 100% !important; }");
  }
  if (settings.gallery_height && CSS.supports("height", settings.gallery_height)) {
    rules.push(`[id$="_gallery"] { height: ${settings.gallery_height} !important; }`);
  }
  document.head.append(Object.assign(document.createElement("style"), { id: "easel_layout", textContent: rules.join("\n") }));
  arrangeTabs(settings.hidden_tabs, settings.ui_tab_order);
  if (settings.txt2img_settings_accordion) fold("txt2img");
  if (settings.img2img_settings_accordion) fold("img2img");
}

const quoted = (text) => `"${CSS.escape(text)}"`;

// What is named comes first, in that order.
function orderOf(tab, names) {
  return names.filter((name) => name in ANCHORS).map((name, place) => {
    const anchor = ANCHORS[name].replace("{tab}", tab);
    return `#${tab}_settings > :is(#${anchor}, :has(#${anchor})) { order: ${place - names.length}; }`;
  });
}

function arrangeTabs(hidden, first) {
  const buttons = [...document.querySelectorAll(TAB_BUTTONS)];
  const titleOf = (button) => button.textContent.trim();
  for (const button of buttons) {
    if (hidden.includes(titleOf(button))) button.style.display = "none";
    const place = first.indexOf(titleOf(button));
    if (place >= 0) button.style.order = place - first.length;
  }
  if (!hidden.length && !first.length) return;
  const shown = buttons.filter((button) => button.style.display !== "none");
  shown.sort((one, other) => (Number(one.style.order) || 0) - (Number(other.style.order) || 0))[0]?.click();
}

// The form under a heading that opens it.
async function fold(tab) {
  await appears(`${tab}_settings`);
  const column = byId(`${tab}_settings`);
  const button = Object.assign(document.createElement("button"), { type: "button", className: "settings-accordion", textContent: "Settings" });
  const open = (wide) => {
    column.toggleAttribute("data-folded", !wide);
    button.setAttribute("aria-expanded", wide);
  };
  button.addEventListener("click", () => open(column.hasAttribute("data-folded")));
  column.prepend(button);
  open(false);
}
