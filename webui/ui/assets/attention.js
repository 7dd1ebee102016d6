// Ctrl+Up / Ctrl+Down: weights of a part of the prompt. Alt+Left / Alt+Right: its place.
// Pure functions from (text, selection) to (text, selection); null means "nothing to do".

const BRACKETS = [["<", ">"], ["(", ")"], ["[", "]"]];
const WEIGHT_AT_END = /:\s*-?(?:\d+\.?\d*|\.\d+)\s*$/;
const WHITESPACE = { Tab: "\t", "Carriage Return": "\r", "Line Feed": "\n" };

// direction: 1 or -1. options: A1111's settings keyedit_*.
export function editWeight(text, start, end, direction, options) {
  let range = start === end ? partAt(text, start, options) : { start, end };
  if (text[range.start - 1] === "<") {
    return steppedWeight(text, range, ">", direction * options.keyedit_precision_extra);
  }
  const precision = options.keyedit_precision_attention;
  ({ text, range } = withExplicitWeight(text, range, precision));
  return range && steppedWeight(text, range, ")", direction * precision);
}

// Without a selection: the content of the block around the cursor, or else the word.
function partAt(text, cursor, options) {
  for (const [open, close] of BRACKETS) {
    const from = unmatched(text, cursor - 1, -1, open, close) + 1;
    const to = unmatched(text, cursor, 1, close, open);
    if (from > 0 && to >= 0) {
      const weight = text.slice(from, to).match(WEIGHT_AT_END);
      return { start: from, end: weight ? from + weight.index : to };
    }
  }
  return wordAt(text, cursor, options);
}

// Where, going from `at` by `step`, the first `wanted` stands that no `other` on the way pairs with; -1 if nowhere.
function unmatched(text, at, step, wanted, other) {
  let depth = 0;
  for (let index = at; index >= 0 && index < text.length; index += step) {
    if (text[index] === other) depth += 1;
    else if (text[index] === wanted && depth === 0) return index;
    else if (text[index] === wanted) depth -= 1;
  }
  return -1;
}

function wordAt(text, cursor, options) {
  const spaces = options.keyedit_delimiters_whitespace.map((name) => WHITESPACE[name] ?? "");
  const delimiters = options.keyedit_delimiters + spaces.join("");
  const ends = (letter) => letter === undefined || delimiters.includes(letter);
  let start = cursor;
  let end = cursor;
  while (!ends(text[start - 1])) start -= 1;
  while (!ends(text[end])) end += 1;
  while (start < end && text[start] === " ") start += 1;
  while (start < end && text[end - 1] === " ") end -= 1;
  return { start, end };
}

// ((x)) and [[x]] become (x:w), bare text becomes (x:1.0); what has a weight stays as it is.
function withExplicitWeight(text, range, precision) {
  const { start, end } = range;
  for (const [open, close, factor] of [["(", ")", 1.1], ["[", "]", 1 / 1.1]]) {
    let depth = 0;
    while (text[start - 1 - depth] === open && text[end + depth] === close) depth += 1;
    if (depth > 0) {
      const weight = Math.round(factor ** depth / precision) * precision;
      return replaced(text, start - depth, end + depth, text.slice(start, end), weight);
    }
  }
  if (text[start - 1] === "(" && text[end] === ":") return { text, range };
  const bare = text.slice(start, end).replace(/ +$/, "");
  return bare ? replaced(text, start, start + bare.length, bare, "1.0") : { text, range: null };
}

function replaced(text, from, to, content, weight) {
  const start = from + 1;
  return {
    text: `${text.slice(0, from)}(${content}:${weight})${text.slice(to)}`,
    range: { start, end: start + content.length },
  };
}

// The weight after text[end] === ":" plus `step`; a weight of 1 takes its parentheses with it.
function steppedWeight(text, { start, end }, close, step) {
  const closing = text.indexOf(close, end);
  if (text[end] !== ":" || closing < 0) return null;
  const old = Number.parseFloat(text.slice(end + 1, closing));
  if (Number.isNaN(old)) return null;
  const weight = Number((old + step).toPrecision(12));
  if (close === ")" && weight === 1) {
    const content = text.slice(start, end);
    return { text: text.slice(0, start - 1) + content + text.slice(closing + 1), start: start - 1, end: end - 1 };
  }
  const printed = Number.isInteger(weight) ? `${weight}.0` : String(weight);
  return { text: text.slice(0, end + 1) + printed + text.slice(closing), start, end };
}

// The comma-separated items under the selection change places with the neighbour on that side.
export function moveItems(text, start, end, direction) {
  const items = text.split(",");
  const bounds = [];
  let position = 0;
  for (const item of items) {
    bounds.push([position, position + item.length]);
    position += item.length + 1;
  }
  const first = bounds.findIndex(([, to]) => start <= to);
  const last = bounds.findIndex(([, to]) => end <= to);
  const neighbour = direction < 0 ? first - 1 : last + 1;
  if (neighbour < 0 || neighbour >= items.length) return null;
  // Spaces belong to the places, words move between them.
  const words = items.map((item) => item.trim());
  const [moved] = words.splice(neighbour, 1);
  words.splice(direction < 0 ? last : first, 0, moved);
  const places = items.map((item, index) => {
    const lead = item.match(/^\s*/)[0];
    const trail = item.trim() ? item.match(/\s*$/)[0] : "";
    return lead + words[index] + trail;
  });
  const from = first + direction;
  const to = last + direction;
  const offset = (index) => places.slice(0, index).reduce((sum, place) => sum + place.length + 1, 0);
  const lead = places[from].length - places[from].trimStart().length;
  const finish = offset(to) + places[to].trimEnd().length;
  return { text: places.join(","), start: offset(from) + lead, end: finish };
}
