// Questions to the server about cards, and elements made of strangers' texts.

import { postJson, route } from "./dom.js";

const ROUTE = "easel/v1/cards";

// How one part of the server is asked and told: JSON both ways, errors as the server's sentence.
export const questions = (root) => ({
  ask: async (path, question = {}) => answered(await fetch(`${route(root)}${path}?${new URLSearchParams(question)}`)),
  tell: async (path, content) => answered(await postJson(`${root}${path}`, content)),
});

export const { ask, tell } = questions(ROUTE);

async function answered(answer) {
  const content = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(content.errors || content.detail || `The server answered ${answer.status}.`);
  return content;
}

export function element(tag, properties = {}, ...children) {
  const { dataset = {}, ...rest } = properties;
  const made = Object.assign(document.createElement(tag), rest);
  Object.assign(made.dataset, dataset);
  made.append(...children);
  return made;
}

export const previewUrl = (kind, card) =>
  `${route(ROUTE)}/preview?${new URLSearchParams({ kind, name: card.name, v: card.preview })}`;

// Makes a picture one file's preview.
export async function sendPreview(kind, name, picture) {
  const address = await new Promise((resolve, reject) => {
    const reader = Object.assign(new FileReader(), { onload: () => resolve(reader.result), onerror: () => reject(reader.error) });
    reader.readAsDataURL(picture);
  });
  return tell("/preview", { kind, name, picture: address.slice(address.indexOf(",") + 1) });
}
