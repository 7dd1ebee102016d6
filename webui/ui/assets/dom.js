// Small helpers over the page that Gradio renders.

export const byId = (id) => document.getElementById(id);

// Gradio puts the element id on the button itself or on a box around it.
export const buttonOf = (id) => {
  const found = byId(id);
  return found?.tagName === "BUTTON" ? found : (found?.querySelector("button") ?? null);
};

export const click = (id) => buttonOf(id)?.click();

export const textareaOf = (id) => byId(id)?.querySelector("textarea") ?? null;

// Gradio learns of a new text by its input event.
export function setText(area, text, start = text.length, end = start) {
  area.value = text;
  area.setSelectionRange(start, end);
  area.dispatchEvent(new Event("input", { bubbles: true }));
}

export const isShown = (element) => Boolean(element && element.offsetParent);

// Resolves when an element of that id is on the page.
export function appears(id) {
  if (byId(id)) return Promise.resolve();
  return new Promise((resolve) => {
    const observer = new MutationObserver(() => {
      if (!byId(id)) return;
      observer.disconnect();
      resolve();
    });
    observer.observe(document.body, { childList: true, subtree: true });
  });
}

export const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// Where the server's routes begin: below --subpath, whether or not the address ends in a slash.
export const route = (path) => {
  const root = new URL(window.gradio_config?.root ?? ".", document.baseURI).pathname;
  return `${root.replace(/\/$/, "")}/${path}`;
};

export function postJson(path, content) {
  return fetch(route(path), {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(content),
  });
}

// A store that may be forbidden (private windows) or full.
export function remember(store, key, value) {
  try {
    if (value === null) store.removeItem(key);
    else store.setItem(key, value);
  } catch (error) {
    console.warn(`The browser keeps no ${key}: ${error.message}`);
  }
}

export function recall(store, key) {
  try {
    return store.getItem(key);
  } catch {
    return null;
  }
}
