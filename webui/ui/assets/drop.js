// A picture or text file dropped or pasted on a prompt: its parameters fill the form, by the tab's hidden file box.
// Boxes that hold a picture already take the one dropped on them in its place.

import { byId, sleep } from "./dom.js";

const BOXES = ["pnginfo_image", "extras_image"];
const PATIENCE = 20; // tries, 50 ms apart

const promptTab = (target) => /^(txt2img|img2img)_(neg_)?prompt$/.exec(target?.closest?.(".prompt")?.id)?.[1];
const filledBox = (target) => BOXES.find((id) => target?.closest?.(`#${id}`) && byId(id).querySelector("img"));
const takes = (transfer) => ["Files", "text/uri-list"].some((type) => transfer?.types.includes(type));

// The file in a drop: one from the system, or a picture of this page that was dragged here.
async function fileIn(transfer) {
  if (transfer.files.length) return transfer.files[0];
  const address = transfer.getData("text/uri-list").split("\n")[0];
  if (!URL.canParse(address) || new URL(address).origin !== location.origin) return null;
  const content = await (await fetch(address)).blob();
  return new File([content], decodeURIComponent(new URL(address).pathname.split("/").pop()), { type: content.type });
}

// Gradio uploads what its file input says has been chosen.
export async function handFile(id, file) {
  for (let tries = 0; tries < PATIENCE; tries += 1) {
    const input = byId(id)?.querySelector("input[type=file]");
    if (input) {
      const chosen = new DataTransfer();
      chosen.items.add(file);
      input.files = chosen.files;
      input.dispatchEvent(new Event("change", { bubbles: true }));
      return;
    }
    await sleep(50);
  }
}

function onDragOver(event) {
  if (!takes(event.dataTransfer) || !(promptTab(event.target) || filledBox(event.target))) return;
  event.preventDefault();
  event.dataTransfer.dropEffect = "copy";
}

async function onDrop(event) {
  const [tab, box] = [promptTab(event.target), filledBox(event.target)];
  if (!takes(event.dataTransfer) || !(tab || box)) return;
  event.preventDefault();
  event.stopPropagation();
  const file = await fileIn(event.dataTransfer);
  if (file) await handFile(tab ? `${tab}_prompt_image` : box, file);
}

function onPaste(event) {
  const tab = promptTab(event.target);
  const file = [...(event.clipboardData?.files ?? [])].find((found) => found.type.startsWith("image/"));
  if (!tab || !file) return;
  event.preventDefault();
  handFile(`${tab}_prompt_image`, file);
}

export function start() {
  document.addEventListener("dragover", onDragOver, true);
  document.addEventListener("drop", onDrop, true);
  document.addEventListener("paste", onPaste, true);
}
