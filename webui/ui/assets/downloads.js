// The download page: an address, what is found there, and how far each download is.
// Names and texts come from other people's servers: they go into the page as text only.

import { element, questions } from "./card_api.js";
import { isShown } from "./dom.js";

const KINDS = {
  checkpoints: "Checkpoint",
  lora: "Lora",
  textual_inversion: "Embedding",
  hypernetworks: "Hypernetwork",
  vae: "VAE",
  upscalers: "Upscaler",
  controlnet: "ControlNet",
};
const PERIOD = 700; // milliseconds between questions while something is under way
const { ask, tell } = questions("easel/v1/downloads");

class DownloadPage {
  constructor(root) {
    this.root = root;
    this.address = element("input", {
      id: "download_address", type: "text", placeholder: "https://huggingface.co/…  or  https://civitai.com/models/…  or the address of a file",
    });
    this.address.setAttribute("aria-label", "Address");
    this.button = element("button", { id: "download_look", type: "button", className: "primary", textContent: "Look" });
    this.status = element("p", { id: "download_status" });
    this.offers = element("div", { id: "download_offers" });
    this.list = element("div", { id: "download_list" });
    root.replaceChildren(
      element("div", { className: "download-address" }, this.address, this.button), this.status, this.offers, this.list,
    );
    this.button.addEventListener("click", () => this.look());
    this.address.addEventListener("keydown", (event) => event.key === "Enter" && this.look());
    this.watch();
  }

  async look() {
    this.status.textContent = "Looking…";
    this.offers.replaceChildren();
    this.button.disabled = true;
    try {
      const found = await tell("/look", { address: this.address.value });
      this.status.textContent = "";
      this.offers.replaceChildren(...found.map((offer) => this.drawOffer(offer)));
    } catch (error) {
      this.status.textContent = error.message;
    }
    this.button.disabled = false;
  }

  drawOffer(offer) {
    const kind = element("select", {}, ...options(offer.kind));
    kind.setAttribute("aria-label", "Kind of model");
    const start = element("button", { type: "button", className: "primary", textContent: "Download" });
    start.addEventListener("click", () => this.act("/start", { offer: offer.id, kind: kind.value }));
    kind.addEventListener("change", () => (start.disabled = !kind.value));
    start.disabled = !kind.value;
    const about = element("span", { textContent: offer.about, translate: false });
    const facts = [size(offer.size), offer.checked ? "hash known" : "no hash told"].map((fact) => element("span", { textContent: fact }));
    return element("div", { className: "download-row" },
      element("div", { className: "download-name" }, element("b", { textContent: offer.name, translate: false }),
        element("small", {}, about, " · ", facts[0], ", ", facts[1])),
      kind, start);
  }

  async act(path, content) {
    try {
      this.drawStates(await tell(path, content));
      this.status.textContent = "";
      this.watch();
    } catch (error) {
      this.status.textContent = error.message;
    }
  }

  // Asks on while something is under way.
  async watch() {
    if (this.watching) return;
    this.watching = true;
    try {
      let going = true;
      while (going && this.root.isConnected) {
        const states = await ask("");
        if (isShown(this.root) || !this.list.childElementCount) this.drawStates(states);
        going = states.some(({ state }) => state === "waiting" || state === "running");
        if (going) await new Promise((resolve) => setTimeout(resolve, PERIOD));
        else this.drawStates(states);
      }
    } catch (error) {
      this.status.textContent = error.message;
    }
    this.watching = false;
  }

  drawStates(states) {
    this.list.replaceChildren(...states.toReversed().map((state) => this.drawState(state)));
  }

  drawState({ id, name, kind, state, done, size: whole, error }) {
    const under = state === "waiting" || state === "running";
    const words = {
      waiting: "waiting",
      running: whole ? `${size(done)} / ${size(whole)}` : "asking the server",
      done: `done, ${size(whole)}`,
      failed: error,
      cancelled: `stopped at ${size(done)}`,
    };
    const bar = element("progress", { max: whole || 1, value: state === "done" ? whole || 1 : done });
    const button = element("button", { type: "button", textContent: under ? "Stop" : "Go on" });
    button.addEventListener("click", () => this.act(under ? "/cancel" : "/again", { id }));
    return element("div", { className: `download-row ${state}`, dataset: { state } },
      element("div", { className: "download-name" }, element("b", { textContent: name, translate: false }),
        element("small", {}, element("span", { textContent: KINDS[kind] ?? kind }), ": ", element("span", { textContent: words[state] }))),
      bar, ...(state === "done" ? [] : [button]));
  }
}

function options(chosen) {
  const none = element("option", { value: "", textContent: "Kind of model…" });
  const made = Object.entries(KINDS).map(([value, textContent]) => element("option", { value, textContent }));
  for (const option of made) option.selected = option.value === chosen;
  return [none, ...made];
}

function size(bytes) {
  if (bytes === null || bytes === undefined) return "size unknown";
  if (bytes >= 1e9) return `${(bytes / 1e9).toFixed(2)} GB`;
  return bytes >= 1e6 ? `${(bytes / 1e6).toFixed(1)} MB` : `${Math.ceil(bytes / 1e3)} KB`;
}

// Gradio makes what is in a tab when the tab is first chosen.
export function start() {
  const find = () => {
    const root = document.querySelector("#easel_downloads:not([data-found])");
    if (!root) return;
    root.dataset.found = "";
    new DownloadPage(root);
  };
  new MutationObserver(find).observe(document.body, { childList: true, subtree: true });
  find();
}
