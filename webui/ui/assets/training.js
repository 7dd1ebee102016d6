// The Train tab. It is made when it is first opened, from descriptions that the server gives.

import { element, questions } from "./card_api.js";
import { CaptionEditor } from "./caption_editor.js";
import { byId, recall, remember, route } from "./dom.js";
import { Form } from "./form.js";
import { LossPlot } from "./loss_plot.js";
import * as progress from "./progress.js";

const ROUTE = "easel/v1/training";
const PLACE = "ti"; // the beginning of the job's element ids
const TYPING_PAUSE = 600; // milliseconds before a folder is looked at
const { ask, tell } = questions(ROUTE);

const button = (text, properties, action) => {
  const made = element("button", { type: "button", textContent: text, className: "lg secondary", ...properties });
  made.addEventListener("click", action);
  return made;
};
const primary = (text, id, action) => button(text, { id, className: "lg primary" }, action);

class TrainTab {
  constructor(root) {
    this.root = root;
    this.panes = new Map(); // name -> {head, body, fill}
    this.heads = element("div", { className: "train-heads" });
    this.heads.setAttribute("role", "tablist");
    this.bodies = element("div", {});
    const tabs = element("div", { id: "train_tabs" }, this.heads, this.bodies);
    root.replaceChildren(element("div", { className: "train-columns" }, tabs, this.results()));
    this.pane("Create embedding", (body) => this.simple(body, "create_embedding", [["Create embedding", "create_embedding"]]));
    this.pane("Create hypernetwork", (body) => this.simple(body, "create_hypernetwork", [["Create hypernetwork", "create_hypernetwork"]]));
    this.pane("Train", (body) => this.simple(body, "train", [["Train Embedding", "train_embedding"], ["Train Hypernetwork", "train_hypernetwork"]]));
    this.pane("LoRA", (body) => new Run(this, body, "lora"));
    this.pane("DreamBooth", (body) => new Run(this, body, "dreambooth"));
    this.pane("Captions", (body) => new CaptionEditor(body, (submit, then) => {
      this.after = then;
      return this.start(() => submit(this.draw()));
    }));
    const last = recall(localStorage, "easel_train_tab");
    this.show(this.panes.has(last) ? last : "Create embedding");
  }

  // What stands on the right: progress, the curves, sample pictures, how the last training ended.
  results() {
    this.output = element("textarea", { id: "ti_output", rows: 1, readOnly: true });
    this.output.setAttribute("aria-label", "Result");
    this.gallery = element("div", { id: "ti_gallery", className: "train-gallery" });
    this.told = element("div", { id: "ti_progress", className: "html-log" });
    this.error = element("div", { id: "ti_error", className: "html-log" });
    this.log = element("div", { id: `html_log_${PLACE}`, className: "html-log" });
    const ended = button("Show the result", { id: `${PLACE}_show_result`, hidden: true }, () => this.ended());
    const pictures = element("div", { id: "ti_gallery_container" }, this.gallery);
    const plot = new LossPlot(ask, async () => (await progress.currentJob(PLACE)) || progress.shownJob(PLACE));
    return element("div", { className: "train-results" },
      this.output, plot.root, pictures, this.told, this.error, this.log, ended);
  }

  pane(name, fill) {
    const head = button(name, { className: "train-head" }, () => this.show(name));
    head.setAttribute("role", "tab");
    const body = element("div", { className: "train-pane", hidden: true });
    body.setAttribute("role", "tabpanel");
    body.setAttribute("aria-label", name);
    this.panes.set(name, { head, body, fill });
    this.heads.append(head);
    this.bodies.append(body);
  }

  async show(name) {
    remember(localStorage, "easel_train_tab", name);
    for (const [other, { head, body }] of this.panes) {
      head.setAttribute("aria-selected", String(other === name));
      body.hidden = other !== name;
    }
    const pane = this.panes.get(name);
    if (pane.filled) return;
    pane.filled = true;
    try {
      await pane.fill(pane.body);
    } catch (error) {
      pane.filled = false;
      pane.body.replaceChildren(element("p", { className: "error", textContent: error.message }));
    }
  }

  // A sub-tab as A1111 has it: a form, and buttons that each hand it to the server.
  async simple(body, name, actions) {
    const { sections, intro } = await ask("/form", { name });
    const form = new Form(sections, "train");
    const buttons = actions.map(([text, action]) =>
      primary(text, `train_${action}`, () =>
        this.start(() => tell(`/${action}`, { values: { ...form.read(), ...previewValues(form) }, job: this.draw() }))));
    if (name === "train") buttons.splice(1, 0, interrupt("train_interrupt_training"));
    const refresh = button("🔄", { className: "tool", id: `refresh_${name}`, title: "Look for new files" }, async () => {
      const fresh = await ask("/form", { name });
      for (const field of fresh.sections.flatMap((section) => section.fields)) if (field.open) form.offer(field.path, field.choices);
    });
    body.replaceChildren(
      ...(intro ? [element("p", { textContent: intro })] : []), form.root,
      element("div", { className: "train-buttons" }, ...buttons, ...(name === "train" ? [refresh] : [])));
  }

  draw() {
    this.job = progress.newJob(PLACE);
    return this.job;
  }

  // Runs what submits a job, and says what the server says.
  async start(submit) {
    this.say("");
    this.gallery.replaceChildren();
    try {
      const { message = "" } = await submit();
      this.say(message);
      progress.submitted(PLACE, JSON.stringify({ job: this.job, accepted: true }));
    } catch (error) {
      this.say(error.message, true);
      progress.submitted(PLACE, JSON.stringify({ job: this.job, accepted: false }));
    }
  }

  say(text, wrong = false) {
    this.output.value = text;
    this.error.replaceChildren(...(wrong ? [element("p", { className: "error", textContent: text })] : []));
    this.log.replaceChildren();
  }

  // The job that was started last has ended.
  async ended() {
    const id = progress.shownJob(PLACE);
    const then = this.after;
    this.after = null;
    then?.();
    try {
      const result = await ask("/result", { id });
      this.say(result.message);
      this.told.replaceChildren(...result.comments.map((text) => element("p", { textContent: text })), ...this.trying(result, id));
      const pictures = Array.from({ length: result.samples }, (_, index) =>
        element("img", { alt: "Sample picture", src: `${route(ROUTE)}/sample?${new URLSearchParams({ id, index })}` }));
      this.gallery.replaceChildren(...pictures);
    } catch (error) {
      this.say(error.message, true);
    }
  }

  // What to do with a LoRA that was trained: pictures without it and at each of its saved epochs, side by side.
  trying({ compare }, trained) {
    if (!compare) return [];
    const prompt = element("input", { id: "train_compare_prompt", type: "text", value: this.trigger || compare });
    prompt.setAttribute("aria-label", "Prompt");
    const make = primary("Compare the epochs (X/Y/Z plot)", "train_compare", () =>
      this.start(() => tell("/compare", { trained, prompt: prompt.value, job: this.draw() })));
    return [element("p", {}, "In prompts: ", element("code", { textContent: `<lora:${compare}:1>` })), prompt, make];
  }
}

// What txt2img's tab says, for sample pictures that are to be made by it.
function previewValues(form) {
  if (!form.fields.get("preview_from_txt2img")?.input.checked) return {};
  const box = (name) => byId(`txt2img_${name}`)?.querySelector("textarea, input:not([type=range])")?.value ?? "";
  const number = (name, otherwise) => Number(box(name) || otherwise);
  return {
    preview_prompt: box("prompt"),
    preview_negative_prompt: box("neg_prompt"),
    preview_steps: number("steps", 20),
    preview_sampler_name: box("sampling"),
    preview_cfg_scale: number("cfg_scale", 7),
    preview_seed: number("seed", -1),
    preview_width: number("width", 512),
    preview_height: number("height", 512),
  };
}

const interrupt = (id) => button("Interrupt", { id }, async () => {
  progress.interrupting(PLACE);
  await tell("/stop", { job: await progress.currentJob(PLACE) });
});

// A training with a long form: what a first run needs on top, all else below.
class Run {
  constructor(tab, body, kind) {
    Object.assign(this, { tab, body, kind, looked: 0 });
    body.replaceChildren(element("p", { textContent: "…" }));
    return this.build().then(() => this);
  }

  async build() {
    const { sections, presets } = await ask("/form", { name: this.kind });
    const id = (name) => `train_${this.kind}_${name}`;
    const field = (name, label, placeholder) => {
      const input = element("input", { id: id(name), type: "text", placeholder });
      input.addEventListener("input", () => this.lookSoon());
      return [input, element("label", { className: "made-field" }, element("span", { textContent: label }), input)];
    };
    const [folder, folderRow] = field("folder", "Folder with pictures", "on the machine that runs Easel");
    const [trigger, triggerRow] = field("trigger", "Trigger word", "the word that will mean what is learnt");
    const [name, nameRow] = field("name", "Name", "the trigger word, if empty");
    this.presets = presets;
    this.preset = element("select", { id: id("preset") },
      ...Object.keys(presets).map((text) => element("option", { value: text, textContent: text })),
      element("option", { value: "", textContent: "Defaults" }));
    this.preset.addEventListener("change", () => this.choosePreset());
    const presetRow = element("label", { className: "made-field" }, element("span", { textContent: "Preset" }), this.preset);
    Object.assign(this, { folder, trigger, name });
    this.facts = element("div", { id: id("facts"), className: "train-facts" });
    this.form = new Form(sections, id("form"), () => this.lookSoon());
    for (const taken of ["data.train_data_dir"]) this.form.fields.get(taken)?.input.closest(".made-field").remove();
    this.form.fields.delete("data.train_data_dir");
    const start = primary("Train", id("start"), () => this.start());
    const look = button("Check the pictures", { id: id("look") }, () => this.look());
    this.body.replaceChildren(
      element("div", { className: "made-fields" }, folderRow, triggerRow, nameRow, presetRow),
      element("div", { className: "train-buttons" }, start, interrupt(id("interrupt")), look),
      this.facts, this.files(id), this.form.root);
    this.choosePreset();
  }

  // kohya's TOML, in and out.
  files(id) {
    const chosen = element("input", { id: id("toml_file"), type: "file", accept: ".toml", hidden: true });
    chosen.addEventListener("change", async () => {
      const [file] = chosen.files;
      if (!file) return;
      await this.attempt(async () => {
        const { values, name, folder, comments } = await tell("/import", { text: await file.text() });
        this.form.write(values);
        const taken = ["data.folders", "data.datasets"].filter((path) => values[path]);
        this.extra = Object.fromEntries(taken.map((path) => [path, values[path]]));
        if (folder) this.folder.value = folder;
        if (name) this.name.value = name;
        this.preset.value = "";
        this.tellFacts(comments);
      });
      chosen.value = "";
    });
    const load = button("Load kohya's TOML", { id: id("toml_import") }, () => chosen.click());
    const save = button("Save as kohya's TOML", { id: id("toml_export") }, () => this.attempt(async () => {
      for (const { text, name } of await tell("/export", this.wanted())) {
        const link = element("a", { download: name, href: URL.createObjectURL(new Blob([text], { type: "application/toml" })) });
        link.click();
        URL.revokeObjectURL(link.href);
      }
    }));
    return element("div", { className: "train-buttons" }, load, save, chosen);
  }

  choosePreset() {
    const { values = {}, notes = [] } = this.presets[this.preset.value] ?? {};
    this.extra = {}; // folders of a file that was loaded
    this.form.write(values);
    this.tellFacts(notes);
    this.lookSoon();
  }

  wanted() {
    const values = { ...this.form.read(), ...this.extra, "data.train_data_dir": this.folder.value, name: this.name.value };
    return { kind: this.kind, values, trigger: this.trigger.value };
  }

  start() {
    this.tab.trigger = this.trigger.value.trim();
    this.tab.start(() => tell("/start", { ...this.wanted(), job: this.tab.draw() }));
  }

  lookSoon() {
    clearTimeout(this.waiting);
    if (this.folder?.value.trim()) this.waiting = setTimeout(() => this.look(), TYPING_PAUSE);
  }

  // Says what is in the folder and what is wrong with it. The answer to an older question is dropped.
  async look() {
    const question = (this.looked += 1);
    await this.attempt(async () => {
      const found = await tell("/look", this.wanted());
      if (question === this.looked) this.tellFound(found);
    });
  }

  async attempt(action) {
    try {
      await action();
    } catch (error) {
      this.facts.replaceChildren(element("p", { className: "error", textContent: error.message }));
    }
  }

  tellFacts(texts) {
    this.facts.replaceChildren(...texts.map((textContent) => element("p", { textContent })));
  }

  tellFound(found) {
    const rows = found.facts.map(([label, value]) =>
      element("tr", {}, element("th", { textContent: label }), element("td", { textContent: value })));
    this.facts.replaceChildren(
      ...found.errors.map((textContent) => element("p", { className: "error", textContent })),
      ...(rows.length ? [element("table", { className: "file-facts" }, ...rows)] : []),
      ...found.warnings.map((textContent) => element("p", { textContent })));
  }
}

// Gradio makes what is in a tab when the tab is first chosen.
export function start() {
  const find = () => {
    const root = document.querySelector("#train_pane:not([data-found])");
    if (!root) return;
    root.dataset.found = "";
    const seen = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      seen.disconnect();
      addStyle();
      new TrainTab(root);
    });
    seen.observe(root);
  };
  new MutationObserver(find).observe(document.body, { childList: true, subtree: true });
  find();
}

function addStyle() {
  if (byId("train_style")) return;
  document.head.append(element("link", { id: "train_style", rel: "stylesheet", href: new URL("training.css", import.meta.url).href }));
}
