// What the buttons with symbols do.

const TOOLTIPS = {
  "↙️": "Read generation parameters from the prompt, or from the last generation if the prompt is empty, into the form",
  "🗑️": "Clear the prompts",
  "📋": "Write the selected styles into the prompts",
  "📎": "Describe the picture with CLIP and put that into the prompt",
  "📦": "Describe the picture with DeepBooru tags and put them into the prompt",
  "🌀": "Show the result of the last generation again",
  "🖌️": "Edit styles",
  "📝": "Copy the current prompts here",
  "🔄": "Refresh the list",
  "🎲️": "Set the seed to -1: a new random number every time",
  "♻️": "Reuse the seed of the selected picture",
  "⇅": "Switch width and height",
  "📂": "Open the output folder",
  "💾": "Save the picture to a folder of its own",
  "🗃️": "Save the pictures and offer them as a zip archive",
  "🖼️": "Send picture and parameters to img2img",
  "🎨️": "Send picture and parameters to inpaint",
  "📐": "Send the picture to Extras",
  "✨": "Make an upscaled version of the picture with the hires fix settings",
  "◀": "Open or close",
  "📒": "Take all values that there are",
};

// Where the symbol means something of its own.
const BY_ID = {
  img2img_detect_image_size_btn: "Set width and height to the picture's",
  extras_send_to_img2img: "Send the picture to img2img",
  extras_send_to_inpaint: "Send the picture to inpaint",
};

// Now and whenever a tab is built, which happens when it is opened for the first time.
export function addTooltips() {
  label(document.querySelectorAll(BUTTONS));
  name(document.querySelectorAll(NAMELESS));
  new MutationObserver((changes) => {
    for (const { addedNodes } of changes) {
      for (const node of addedNodes) {
        if (!node.querySelectorAll) continue;
        label(node.matches(BUTTONS) ? [node] : node.querySelectorAll(BUTTONS));
        name(node.matches(NAMELESS) ? [node] : node.querySelectorAll(NAMELESS));
      }
    }
  }).observe(document.body, { childList: true, subtree: true });
}

const BUTTONS = "button.tool, button.input-accordion-arrow";

// An empty gallery of Gradio's has a label, which only an element with a role may have.
const NAMELESS = ".empty[aria-label]:not([role])";

const name = (empty) => empty.forEach((element) => element.setAttribute("role", "img"));

function label(buttons) {
  for (const button of buttons) {
    const text = BY_ID[button.id] ?? TOOLTIPS[button.textContent.trim()];
    if (text && !button.title) {
      button.title = text;
      button.setAttribute("aria-label", text);
    }
  }
}
