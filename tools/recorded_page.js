// Every element of the page that has an id or a label: {id, names, values}, for tools/recorded_page.py.
() => {
  const words = (node) => node?.textContent.replace(/\s+/g, " ").trim() ?? "";
  const declared = new Map(window.gradio_config.components.map(({ props }) => [props?.elem_id, props?.label]));
  const LABELS = ":scope > h2, [data-testid=block-info], [data-testid=block-label], .setting-label, .label-text, label > span, legend, .label-wrap > span, summary";
  const CONTROLS = "input, select, textarea, button";

  const namesOf = (root) => {
    const names = [declared.get(root.id)];
    if (root.matches("button")) names.push(words(root));
    if (root.matches("[role=tabpanel]")) names.push(words(document.getElementById(`${root.id}-button`)));
    if (root.matches(CONTROLS)) names.push(words(root.closest("label")?.querySelector("span")), root.getAttribute("aria-label"));
    else for (const label of [...root.querySelectorAll(LABELS)].slice(0, 3)) names.push(words(label));
    names.push(root.getAttribute("aria-label"), words(root.querySelector(":scope > button")));
    return [...new Set(names.filter(Boolean))];
  };

  const within = (root, selector) => (root.matches(selector) ? [root] : [...root.querySelectorAll(selector)]);
  const textOf = (box) => words(box.closest("label")) || box.value;
  const valuesOf = (root) => {
    const boxes = within(root, "input[type=checkbox], input[type=radio]");
    const fields = within(root, "textarea, select, input:not([type=checkbox], [type=radio], [type=range])");
    const tokens = within(root, ".token, .setting-chosen li > span").map(words);
    return {
      checked: boxes[0]?.checked ?? null,
      ticked: boxes.filter((box) => box.checked).map(textOf),
      number: within(root, "input[type=number]")[0]?.value ?? null,
      text: fields[0]?.value ?? null,
      chosen: tokens,
    };
  };

  const labelled = [...document.querySelectorAll("label, fieldset, .block, button, .setting")].filter((root) => !root.id);
  return [...document.querySelectorAll("[id]"), ...labelled].map((root) => ({ id: root.id, names: namesOf(root), values: valuesOf(root) }));
}
