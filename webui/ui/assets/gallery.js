// The Gallery tab: all outputs, page by page, with what made them.
// Names and texts come from files: they go into the page as text only.

import { element, questions } from "./card_api.js";
import { byId, click, isShown, route, sleep } from "./dom.js";
import { handFile } from "./drop.js";
import { translated } from "./localization.js";

const ROOT = "easel/v1/gallery";
const TYPING_PAUSE = 300; // milliseconds
const PERIOD = 1500; // milliseconds between looks while files are being read
const PATIENCE = 60; // looks, 100 ms apart, whether PNG Info has read a file
const HANDED = 6; // times that a file is handed to it
const SEND = { "Send to txt2img": "txt2img_tab", "Send to img2img": "img2img_tab", "Send to inpaint": "inpaint_tab", "Send to extras": "extras_tab" };
const PNG_INFO = ["#pnginfo_image input[type=file]", "#pnginfo_video input[type=file]", "#pnginfo_generation_info textarea", "#html_info_pnginfo", "#extras_tab"];
const CLEAR = "button[aria-label='Remove Image'], button[aria-label='Clear']";
const { ask, tell } = questions(ROOT);

const address = (what, file) => `${route(ROOT)}/${what}?${new URLSearchParams({ id: file.id, v: file.mtime })}`;

const button = (textContent, act, more = {}) => {
  const made = element("button", { type: "button", textContent, ...more });
  made.addEventListener("click", act);
  return made;
};

const labelled = (text, input) => element("label", {}, element("span", { textContent: text }), input);

// Until something is so, or patience has ended.
async function until(condition) {
  for (let tries = 0; tries < PATIENCE && !condition(); tries += 1) await sleep(100);
}

class Gallery {
  constructor(root) {
    this.root = root;
    this.number = 0;
    this.chosen = new Map();
    this.trashed = false;
    this.search = element("input", { type: "search", id: "gallery_search", placeholder: "words, \"a phrase\", -without" });
    this.model = element("select", { id: "gallery_model" });
    this.lora = element("select", { id: "gallery_lora" });
    this.kind = element("select", { id: "gallery_kind" });
    this.since = element("input", { type: "date", id: "gallery_since" });
    this.until = element("input", { type: "date", id: "gallery_until" });
    this.status = element("p", { id: "gallery_status" });
    this.status.setAttribute("role", "status");
    this.bar = element("div", { id: "gallery_actions", className: "gallery-row" });
    this.list = element("div", { id: "gallery_files" });
    this.pages = element("div", { id: "gallery_pages", className: "gallery-row" });
    this.detail = element("div", { id: "gallery_detail" });
    root.replaceChildren(
      element("div", { className: "gallery-row" },
        labelled("Search", this.search), labelled("Model", this.model), labelled("LoRA", this.lora), labelled("Kind", this.kind),
        labelled("From", this.since), labelled("To", this.until), button("Refresh", () => this.load(), { id: "gallery_refresh" })),
      this.bar, this.status, this.detail, this.list, this.pages,
    );
    this.search.addEventListener("input", () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.show(0), TYPING_PAUSE);
    });
    for (const input of [this.model, this.lora, this.kind, this.since, this.until]) input.addEventListener("change", () => this.show(0));
    new IntersectionObserver(([{ isIntersecting }]) => isIntersecting && this.load()).observe(this.list.parentElement);
  }

  async try(act) {
    try {
      return await act();
    } catch (error) {
      this.status.textContent = error.message;
      return undefined;
    }
  }

  load() {
    return this.try(async () => {
      const choices = await ask("/choices");
      this.mayDelete = choices.may_delete;
      fill(this.model, choices.models, "All models");
      fill(this.lora, choices.loras, "All LoRAs");
      const sections = choices.sections.map((name) => ({ value: `section:${name}`, textContent: name, translate: false }));
      const kinds = [{ value: "kind:image", textContent: "Pictures" }, { value: "kind:video", textContent: "Videos" }];
      fill(this.kind, [...kinds, ...sections], "All kinds");
      await this.show(this.number);
    });
  }

  wish(number) {
    const [sort, kind] = this.kind.value.split(/:(.*)/s);
    const wish = { search: this.search.value, model: this.model.value, lora: this.lora.value, trashed: this.trashed, number };
    if (kind) wish[sort] = kind;
    if (this.since.value) wish.since = new Date(`${this.since.value}T00:00`).getTime() / 1000;
    if (this.until.value) wish.until = new Date(`${this.until.value}T00:00`).getTime() / 1000 + 86_400;
    return wish;
  }

  show(number) {
    return this.try(async () => {
      clearTimeout(this.again);
      const asked = JSON.stringify(this.wish(number));
      this.asked = asked;
      const found = await ask("", JSON.parse(asked));
      if (this.asked !== asked) return; // another question has been asked meanwhile
      this.number = Math.min(number, found.pages - 1);
      this.draw(found);
      if (found.busy) this.again = setTimeout(() => isShown(this.root) && this.load(), PERIOD);
    });
  }

  draw({ files, total, pages, busy, read }) {
    this.status.textContent = busy ? `Files are being read: ${read} so far. Found: ${total}.` : `Found: ${total}.`;
    this.files = files;
    this.list.replaceChildren(...files.map((file) => this.drawFile(file)));
    const to = (number) => () => this.show(number);
    const field = element("input", { type: "number", min: 1, max: pages, value: this.number + 1, id: "gallery_page" });
    field.setAttribute("aria-label", "Page");
    field.addEventListener("change", () => this.show(Math.max(0, Number(field.value) - 1)));
    this.pages.replaceChildren(
      button("Newer", to(this.number - 1), { disabled: this.number === 0 }), field, element("span", { textContent: `of ${pages}` }),
      button("Older", to(this.number + 1), { disabled: this.number >= pages - 1 }));
    this.drawBar();
  }

  drawFile(file) {
    const box = element("input", { type: "checkbox", checked: this.chosen.has(file.id) });
    box.setAttribute("aria-label", `Choose ${file.name}`);
    box.addEventListener("change", () => {
      if (box.checked) this.chosen.set(file.id, file);
      else this.chosen.delete(file.id);
      this.drawBar();
    });
    const picture = element("img", { src: address("thumbnail", file), loading: "lazy", alt: file.name, title: file.path, translate: false });
    const open = element("button", { type: "button", className: "gallery-open" }, picture);
    open.addEventListener("click", () => this.open(file));
    const mark = file.kind === "video" ? [element("span", { className: "gallery-mark", textContent: "▶" })] : [];
    return element("figure", { dataset: { id: file.id, name: file.name } }, open, box, ...mark);
  }

  drawBar() {
    const chosen = [...this.chosen.values()];
    const some = chosen.length > 0;
    const parts = [element("span", { textContent: `Chosen: ${chosen.length}` })];
    parts.push(button("Compare two", () => this.compare(chosen), { disabled: chosen.length !== 2, id: "gallery_compare" }));
    if (this.mayDelete && !this.trashed) {
      parts.push(button("Delete to trash", () => this.act("/delete", chosen), { disabled: !some, id: "gallery_delete" }));
    }
    if (this.trashed) {
      parts.push(button("Restore", () => this.act("/restore", chosen), { disabled: !some, id: "gallery_restore" }));
      parts.push(button("Empty the trash", () => confirm(translated("Delete what is in the trash for good?")) && this.act("/empty", []), { id: "gallery_empty" }));
    }
    if (some) parts.push(button("Choose none", () => this.chooseNone()));
    if (this.mayDelete) {
      parts.push(button(this.trashed ? "Back to the gallery" : "Trash", () => {
        this.trashed = !this.trashed;
        this.detail.replaceChildren();
        this.chooseNone();
      }, { id: "gallery_trash" }));
    }
    this.bar.replaceChildren(...parts);
  }

  chooseNone() {
    this.chosen.clear();
    return this.show(this.number);
  }

  act(path, files) {
    return this.try(async () => {
      await tell(path, path === "/empty" ? {} : { ids: files.map(({ id }) => id) });
      this.detail.replaceChildren();
      await this.chooseNone();
    });
  }

  open(file) {
    return this.try(async () => {
      const { infotext, texts } = await ask("/details", { id: file.id });
      const rows = Object.entries(texts).map(([key, text]) => element("tr", {}, element("th", { textContent: key }), element("td", { textContent: text, translate: false })));
      const sends = file.trashed ? [] : Object.entries(SEND)
        .filter(([, id]) => file.kind === "image" || id === "txt2img_tab")
        .map(([label, id]) => button(label, () => this.send(file, id, infotext)));
      this.detail.replaceChildren(
        shown(file),
        element("div", {},
          element("p", {}, element("b", { textContent: file.path, translate: false })),
          element("p", { className: "gallery-infotext", translate: !infotext, textContent: infotext || "This file carries no generation parameters." }),
          element("table", {}, element("tbody", {}, ...rows)),
          element("div", { className: "gallery-row" }, ...sends, button("Close", () => this.detail.replaceChildren()))),
      );
      this.detail.scrollIntoView({ block: "nearest" });
    });
  }

  // The file goes through PNG Info, which reads all that made it and has a button for each tab.
  send(file, id, infotext) {
    return this.try(async () => {
      const content = await (await fetch(address("file", file))).blob();
      click("tab_pnginfo-button");
      await until(() => PNG_INFO.every((part) => document.querySelector(part)));
      const told = () => byId("pnginfo_generation_info").querySelector("textarea").value.trim();
      const drawn = (id) => byId(id).querySelector("img");
      byId("pnginfo_image").querySelector(CLEAR)?.click();
      byId("pnginfo_video").querySelector(CLEAR)?.click();
      await until(() => !told() && !drawn("pnginfo_image") && !byId("html_info_pnginfo").querySelector("p"));
      const box = file.kind === "video" ? "pnginfo_video" : "pnginfo_image";
      const answered = () => byId("html_info_pnginfo").querySelector("p") && told() === infotext.trim();
      const read = () => answered() && (file.kind === "video" || drawn(box));
      for (let tries = 0; tries < HANDED && !read(); tries += 1) {
        await handFile(box, new File([content], file.name, { type: content.type })); // lost on a box that is being built
        await until(read);
      }
      if (!read()) throw new Error(`${file.name} could not be read by PNG Info; try it again.`);
      click(id);
    });
  }

  // Two side by side, and the parameters in which they differ.
  compare([one, other]) {
    return this.try(async () => {
      const [first, second] = await Promise.all([one, other].map(({ id }) => ask("/details", { id })));
      const keys = [...new Set([...Object.keys(first.fields), ...Object.keys(second.fields)])];
      const rows = keys
        .filter((key) => first.fields[key] !== second.fields[key])
        .map((key) => element("tr", {}, ...[key, first.fields[key] ?? "", second.fields[key] ?? ""].map((textContent) => element("td", { textContent }))));
      const table = element("table", { id: "gallery_differences", translate: false },
        element("thead", {}, element("tr", {}, ...["", one.name, other.name].map((textContent) => element("th", { textContent })))),
        element("tbody", {}, ...rows));
      this.detail.replaceChildren(
        element("div", { className: "gallery-compared" }, shown(one), shown(other)),
        element("div", {}, rows.length ? table : element("p", { textContent: "Their parameters are the same." }),
          button("Close", () => this.detail.replaceChildren())));
    });
  }
}

const shown = (file) =>
  file.kind === "video"
    ? element("video", { src: address("file", file), controls: true, loop: true })
    : element("img", { src: address("file", file), alt: file.name });

function fill(select, choices, everything) {
  const chosen = select.value;
  const rows = choices.map((choice) => (typeof choice === "string" ? { value: choice, textContent: choice, translate: false } : choice));
  select.replaceChildren(...[{ value: "", textContent: everything }, ...rows].map((row) => element("option", row)));
  select.value = rows.some(({ value }) => value === chosen) ? chosen : "";
}

// Gradio makes what is in a tab when the tab is first chosen.
export function start() {
  const find = () => {
    const root = document.querySelector("#easel_gallery:not([data-found])");
    if (!root) return;
    root.dataset.found = "";
    new Gallery(root);
  };
  new MutationObserver(find).observe(document.body, { childList: true, subtree: true });
  find();
}
