// Captions of a folder of pictures, each beside its picture, to be edited, searched and replaced together.

import { element, questions } from "./card_api.js";
import { route } from "./dom.js";

const ROUTE = "easel/v1/training/captions";
const { ask, tell } = questions(ROUTE);

const button = (text, id, action) => {
  const made = element("button", { id, type: "button", textContent: text });
  made.addEventListener("click", action);
  return made;
};
const input = (id, label, placeholder = "") => {
  const made = element("input", { id, type: "text", placeholder });
  made.setAttribute("aria-label", label);
  return made;
};

export class CaptionEditor {
  // start: called with what submits a job of captioning, and draws its id.
  constructor(root, start) {
    this.start = start;
    this.folder = input("captions_folder", "Folder with pictures", "folder on the machine that runs Easel");
    this.folder.addEventListener("keydown", (event) => event.key === "Enter" && this.open());
    this.search = input("captions_search", "Search captions", "show only captions with…");
    this.search.addEventListener("input", () => this.filter());
    this.old = input("captions_old", "Replace", "replace…");
    this.fresh = input("captions_new", "By", "by…");
    this.front = input("captions_front", "Put in front of every caption", "put in front of every caption…");
    this.captioner = element("select", { id: "captions_captioner" });
    this.captioner.setAttribute("aria-label", "Captioner");
    const number = (id, label, value, max) => {
      const made = element("input", { id, type: "number", min: 1, max, step: 1, value });
      return [made, element("label", { className: "made-field" }, element("span", { textContent: label }), made)];
    };
    const [batch, batchRow] = number("captions_batch_size", "Batch size", 8, 64);
    const [workers, workersRow] = number("captions_workers", "Loader workers", 2, 16);
    Object.assign(this, { batch, workers });
    this.note = element("p", { id: "captions_note" });
    this.list = element("div", { className: "captions", id: "captions_list" });
    const row = (...parts) => element("div", { className: "train-buttons made-field" }, ...parts);
    root.classList.add("caption-editor");
    root.replaceChildren(
      row(this.folder, button("Open", "captions_open", () => this.open()), button("Save", "captions_save", () => this.save())),
      row(this.search, this.old, this.fresh, button("Replace in those shown", "captions_replace", () => this.replace())),
      row(this.front, button("Put in front of those shown", "captions_prepend", () => this.prepend())),
      row(this.captioner, batchRow, workersRow, button("Describe pictures without a caption", "captions_describe", () => this.describe())),
      this.note, this.list);
  }

  async attempt(action) {
    try {
      await action();
    } catch (error) {
      this.note.textContent = error.message;
    }
  }

  open() {
    return this.attempt(async () => {
      this.opened = this.folder.value.trim();
      const { pictures, captioners, most } = await ask("", { folder: this.opened });
      this.captioner.replaceChildren(...captioners.map(({ name }) => element("option", { value: name, textContent: name })));
      this.list.replaceChildren(...pictures.map((picture) => this.figure(picture)));
      const empty = pictures.filter(({ caption }) => !caption).length;
      const shown = pictures.length === most ? `The first ${most} pictures` : `${pictures.length} pictures`;
      this.note.textContent = `${shown}, ${empty} without a caption.`;
      this.filter();
    });
  }

  figure({ name, caption, problem }) {
    const source = `${route(ROUTE)}/picture?${new URLSearchParams({ folder: this.opened, name })}`;
    const area = element("textarea", { value: caption });
    area.setAttribute("aria-label", `Caption of ${name}`);
    const made = element("figure", { dataset: { name } },
      element("img", { src: source, alt: name, loading: "lazy" }),
      element("figcaption", {}, element("span", { textContent: name, translate: false }), ...(problem ? [": ", element("span", { textContent: problem })] : [])), area);
    area.addEventListener("input", () => (made.dataset.changed = ""));
    return made;
  }

  figures() {
    return [...this.list.children].filter((figure) => !figure.hidden);
  }

  filter() {
    const wanted = this.search.value.toLowerCase();
    for (const figure of this.list.children) {
      figure.hidden = !figure.querySelector("textarea").value.toLowerCase().includes(wanted);
    }
  }

  change(edit) {
    let count = 0;
    for (const figure of this.figures()) {
      const area = figure.querySelector("textarea");
      const text = edit(area.value);
      if (text === area.value) continue;
      area.value = text;
      figure.dataset.changed = "";
      count += 1;
    }
    this.note.textContent = `${count} captions are changed, and written with "Save".`;
  }

  replace() {
    if (this.old.value) this.change((text) => text.replaceAll(this.old.value, this.fresh.value));
  }

  prepend() {
    const front = this.front.value.trim();
    if (front) this.change((text) => (text.startsWith(front) ? text : [front, text].filter(Boolean).join(" ")));
  }

  save() {
    return this.attempt(async () => {
      const changed = [...this.list.querySelectorAll("figure[data-changed]")];
      for (const figure of changed) {
        const text = figure.querySelector("textarea").value;
        await tell("", { folder: this.opened, name: figure.dataset.name, text });
        delete figure.dataset.changed;
      }
      this.note.textContent = `${changed.length} captions are saved.`;
    });
  }

  describe() {
    const wanted = { folder: this.folder.value.trim(), captioner: this.captioner.value || "BLIP" };
    const numbers = { batch_size: Number(this.batch.value), workers: Number(this.workers.value) };
    return this.start((job) => tell("/describe", { ...wanted, ...numbers, job }), () => this.open());
  }
}
