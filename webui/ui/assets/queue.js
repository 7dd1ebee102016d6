// The Queue tab's buttons: what was clicked, for the hidden button that asks the server.

import { click } from "./dom.js";

let wish = "";

export const queueWish = () => wish;

document.addEventListener("click", (event) => {
  const button = event.target.closest?.("#queue_jobs [data-queue]");
  if (!button) return;
  wish = JSON.stringify({ act: button.dataset.queue, id: button.dataset.id, before: button.dataset.before ?? null });
  click("queue_act");
});
