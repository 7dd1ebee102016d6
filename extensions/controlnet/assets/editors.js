// What is drawn by hand: poses, masks, empty canvases. Each opens a dialog, and gives what was drawn or null.

const NEXT_TO = 14; // pixels on the screen within which a point is meant
const MOST_UNDO = 200;
const LARGEST_JSON = 4 << 20;

// A standing figure within a square of 1: OpenPose's 18 points of a body.
const FIGURE = [
  [0.5, 0.12], [0.5, 0.24], [0.42, 0.24], [0.37, 0.38], [0.34, 0.51], [0.58, 0.24], [0.63, 0.38], [0.66, 0.51],
  [0.45, 0.51], [0.44, 0.71], [0.43, 0.91], [0.55, 0.51], [0.56, 0.71], [0.57, 0.91], [0.48, 0.1], [0.52, 0.1],
  [0.455, 0.115], [0.545, 0.115],
];
const LIMBS = [
  [1, 2], [1, 5], [2, 3], [3, 4], [5, 6], [6, 7], [1, 8], [8, 9], [9, 10], [1, 11], [11, 12], [12, 13], [1, 0],
  [0, 14], [14, 16], [0, 15], [15, 17],
];
const HUES = [0, 20, 40, 60, 80, 100, 120, 140, 160, 180, 200, 220, 240, 260, 280, 300, 320, 340];
const LISTS = ["pose_keypoints_2d", "hand_left_keypoints_2d", "hand_right_keypoints_2d", "face_keypoints_2d"];
const BODY = LISTS[0];

const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

const tool = (text, title, onclick, className = "cnet-tool") =>
  make("button", { type: "button", className, textContent: text, title, onclick });

// A dialog with a canvas and a row of tools. Resolves with what `close` is given; null by Escape.
function open(title, canvas, tools, prepare) {
  return new Promise((resolve) => {
    const told = make("p", { className: "cnet-told" });
    told.setAttribute("role", "status");
    const row = make("div", { className: "cnet-tools" }, ...tools);
    if (canvas) fit(canvas);
    const stage = canvas ? [make("div", { className: "cnet-stage" }, canvas)] : [];
    const dialog = make("dialog", { className: "cnet-editor" }, make("h2", { textContent: title }), ...stage, row, told);
    const close = (result) => {
      dialog.remove();
      resolve(result);
    };
    dialog.addEventListener("cancel", () => close(null));
    // Keys of the page, such as Esc for Interrupt, don't reach it from here.
    dialog.addEventListener("keydown", (event) => event.stopPropagation());
    document.body.append(dialog);
    row.append(
      tool("Cancel", "Change nothing", () => close(null)),
    );
    prepare({ close, dialog, row, say: (sentence) => (told.textContent = sentence) });
    dialog.showModal();
  });
}

// As large as there is room, whatever its own size.
const fit = (canvas) => (canvas.style.width = `min(100%, ${(62 * canvas.width) / canvas.height}vh)`);

// Where a pointer is on a canvas, in its own pixels.
function spot(canvas, event) {
  const box = canvas.getBoundingClientRect();
  return [((event.clientX - box.left) * canvas.width) / box.width, ((event.clientY - box.top) * canvas.height) / box.height];
}

function field(label, value, low, high, step) {
  const input = make("input", { type: "number", value, min: low, max: high, step });
  return [make("label", {}, label, input), () => Math.min(Math.max(Math.round(Number(input.value)) || value, low), high)];
}

// Canvases

async function askSize() {
  const [width, wide] = field("Width", 512, 64, 2048, 64);
  const [height, high] = field("Height", 512, 64, 2048, 64);
  const size = await open("New canvas", null, [width, height], ({ close, row }) =>
    row.append(tool("Create", "An empty picture of this size", () => close([wide(), high()]), "cnet-tool cnet-main")),
  );
  if (!size) return null;
  const canvas = make("canvas", { width: size[0], height: size[1] });
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, ...size);
  return canvas;
}

// Masks: white where it is drawn. before: the mask that is there, an <img>, or null.
function drawMask(picture, before) {
  const [width, height] = [picture.naturalWidth, picture.naturalHeight];
  const mask = make("canvas", { width, height });
  const canvas = make("canvas", { width, height });
  const pen = mask.getContext("2d");
  pen.fillStyle = "#000";
  pen.fillRect(0, 0, width, height);
  if (before?.naturalWidth) pen.drawImage(before, 0, 0, width, height);
  const steps = [];
  const keep = () => {
    steps.push(pen.getImageData(0, 0, width, height));
    if (steps.length > 20) steps.shift();
  };
  const show = () => {
    const context = canvas.getContext("2d");
    context.globalCompositeOperation = "source-over";
    context.globalAlpha = 1;
    context.drawImage(picture, 0, 0, width, height);
    context.globalAlpha = 0.6;
    context.globalCompositeOperation = "lighten";
    context.drawImage(mask, 0, 0);
  };
  const [brush, thickness] = field("Brush", Math.max(4, Math.round(Math.min(width, height) / 16)), 1, 1000, 1);
  const erase = make("input", { type: "checkbox" });
  let last = null;
  const stroke = (event) => {
    const point = spot(canvas, event);
    pen.strokeStyle = erase.checked ? "#000" : "#fff";
    pen.lineWidth = thickness();
    pen.lineCap = pen.lineJoin = "round";
    pen.beginPath();
    pen.moveTo(...(last ?? point));
    pen.lineTo(...point);
    pen.stroke();
    last = point;
    show();
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    keep();
    last = null;
    stroke(event);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (event.buttons) stroke(event);
  });
  const undo = () => {
    const step = steps.pop();
    if (step) pen.putImageData(step, 0, 0);
    show();
  };
  const clear = () => {
    keep();
    pen.fillStyle = "#000";
    pen.fillRect(0, 0, width, height);
    show();
  };
  const tools = [brush, make("label", {}, erase, "Erase"), tool("Undo", "Take the last stroke back", undo), tool("Clear", "Draw anew", clear)];
  show();
  return open("Draw a mask: white is where it acts", canvas, tools, ({ close, row, dialog }) => {
    dialog.addEventListener("keydown", (event) => {
      if ((event.ctrlKey || event.metaKey) && event.key === "z") undo();
    });
    const send = () => mask.toBlob(close, "image/png");
    row.append(tool("Send to ControlNet", "Use this mask in the unit", send, "cnet-tool cnet-main"));
  });
}

// Poses

const triples = (list) => {
  const points = [];
  for (let place = 0; place + 2 < (list?.length ?? 0); place += 3) {
    const [x, y, sure] = list.slice(place, place + 3).map(Number);
    points.push(sure > 0 ? [x, y] : null);
  }
  return points;
};

// What a file or the server says of a pose, in pixels. Throws a sentence.
function readPose(text) {
  let found;
  try {
    found = JSON.parse(text);
  } catch {
    throw new Error("This is no JSON; choose a file that a pose editor has saved.");
  }
  if (Array.isArray(found)) [found] = found;
  const [width, height] = [Number(found?.canvas_width), Number(found?.canvas_height)];
  if (!(width >= 1 && height >= 1 && width <= 16384 && height <= 16384) || !Array.isArray(found.people ?? [])) {
    throw new Error("A pose has people, canvas_width and canvas_height; this JSON hasn't.");
  }
  const people = (found.people ?? []).map((person) =>
    Object.fromEntries(
      LISTS.map((name) => {
        const points = triples(Array.isArray(person?.[name]) ? person[name] : []);
        const there = points.filter(Boolean);
        const shares = there.length > 0 && there.every(([x, y]) => Math.abs(x) <= 1 && Math.abs(y) <= 1);
        return [name, shares ? points.map((point) => point && [point[0] * width, point[1] * height]) : points];
      }),
    ),
  );
  return { width: Math.round(width), height: Math.round(height), people, animals: found.animals ?? [] };
}

function writePose({ width, height, people, animals }) {
  const flat = (points) => (points.length ? points.flatMap((point) => (point ? [...point, 1] : [0, 0, 0])) : null);
  const written = people.map((person) => Object.fromEntries(LISTS.map((name) => [name, flat(person[name])])));
  return JSON.stringify({ people: written, animals, canvas_width: width, canvas_height: height });
}

function newPerson(width, height) {
  const side = Math.min(width, height);
  const [left, top] = [(width - side) / 2, (height - side) / 2];
  return { [BODY]: FIGURE.map(([x, y]) => [left + x * side, top + y * side]), [LISTS[1]]: [], [LISTS[2]]: [], [LISTS[3]]: [] };
}

// text: of the pose to begin with, "" for a new one. picture: shown dimly behind it, or null.
async function editPose(text, picture) {
  const behind = picture?.naturalWidth ? picture : null;
  const size = behind ? [behind.naturalWidth, behind.naturalHeight] : [512, 512];
  let pose = text ? readPose(text) : { width: size[0], height: size[1], people: [newPerson(...size)], animals: [] };
  const canvas = make("canvas", { width: pose.width, height: pose.height });
  const done = [];
  let chosen = 0; // person
  let held = null; // point: {person, list, place}
  let hover = null;
  let moving = null; // where a whole person is dragged from

  const keep = () => {
    done.push(JSON.stringify(pose));
    if (done.length > MOST_UNDO) done.shift();
  };
  const scale = () => canvas.width / (canvas.getBoundingClientRect().width || canvas.width);

  function draw() {
    const context = canvas.getContext("2d");
    context.fillStyle = "#000";
    context.fillRect(0, 0, canvas.width, canvas.height);
    if (behind) {
      context.globalAlpha = 0.35;
      context.drawImage(behind, 0, 0, canvas.width, canvas.height);
    }
    context.globalAlpha = 1;
    const unit = scale();
    context.lineCap = "round";
    pose.people.forEach((person, number) => {
      context.globalAlpha = number === chosen ? 1 : 0.6;
      LIMBS.forEach(([from, to], index) => {
        const [a, b] = [person[BODY][from], person[BODY][to]];
        if (!a || !b) return;
        context.strokeStyle = `hsl(${HUES[index]} 100% 30%)`;
        context.lineWidth = 6 * unit;
        context.beginPath();
        context.moveTo(...a);
        context.lineTo(...b);
        context.stroke();
      });
      for (const list of LISTS) {
        person[list].forEach((point, place) => {
          if (!point) return;
          const isHeld = hover && hover.person === number && hover.list === list && hover.place === place;
          context.fillStyle = isHeld ? "#fff" : list === BODY ? `hsl(${HUES[place] ?? 0} 100% 50%)` : list === LISTS[3] ? "#ddd" : "#44f";
          context.beginPath();
          context.arc(...point, (list === BODY ? 5 : 2.5) * unit, 0, 2 * Math.PI);
          context.fill();
        });
      }
    });
  }

  function nearest(point) {
    let found = null;
    let near = NEXT_TO * scale();
    pose.people.forEach((person, number) => {
      for (const list of LISTS) {
        person[list].forEach((other, place) => {
          if (!other) return;
          const apart = Math.hypot(other[0] - point[0], other[1] - point[1]);
          if (apart < near || (apart === near && number === chosen)) [near, found] = [apart, { person: number, list, place }];
        });
      }
    });
    return found;
  }

  canvas.addEventListener("pointerdown", (event) => {
    const point = spot(canvas, event);
    held = nearest(point);
    if (!held) return;
    canvas.setPointerCapture(event.pointerId);
    keep();
    chosen = held.person;
    if (event.button === 2) {
      pose.people[held.person][held.list][held.place] = null;
      held = null;
    } else if (event.shiftKey) moving = point;
    draw();
  });
  canvas.addEventListener("pointermove", (event) => {
    const point = spot(canvas, event);
    if (!held) hover = nearest(point);
    else if (moving) {
      const [right, down] = [point[0] - moving[0], point[1] - moving[1]];
      const person = pose.people[held.person];
      for (const list of LISTS) person[list] = person[list].map((other) => other && [other[0] + right, other[1] + down]);
      moving = point;
    } else {
      const inside = (value, most) => Math.min(Math.max(value, 0), most);
      pose.people[held.person][held.list][held.place] = [inside(point[0], pose.width), inside(point[1], pose.height)];
    }
    draw();
  });
  const letGo = () => ([held, moving] = [null, null]);
  canvas.addEventListener("pointerup", letGo);
  canvas.addEventListener("pointercancel", letGo);
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());

  function show(next) {
    pose = next;
    if (canvas.width !== pose.width) canvas.width = pose.width;
    if (canvas.height !== pose.height) canvas.height = pose.height;
    fit(canvas);
    chosen = Math.min(chosen, Math.max(pose.people.length - 1, 0));
    hover = null;
    draw();
  }
  const undo = () => {
    if (done.length) show(JSON.parse(done.pop()));
  };
  const add = () => {
    keep();
    pose.people.push(newPerson(pose.width, pose.height));
    chosen = pose.people.length - 1;
    draw();
  };
  const remove = () => {
    if (!pose.people.length) return;
    keep();
    pose.people.splice(chosen, 1);
    show(pose);
  };

  return open("Pose editor", canvas, [], ({ close, row, dialog, say }) => {
    const guarded = (work) => async () => {
      say("");
      try {
        await work();
      } catch (error) {
        say(error.message);
      }
    };
    const load = guarded(async () => {
      const given = await chooseJson();
      if (given === null) return;
      const next = readPose(given);
      keep();
      show(next);
    });
    row.prepend(
      tool("Add person", "A standing figure", add),
      tool("Remove person", "The one that was touched last", remove),
      tool("Undo", "Take the last change back (Ctrl+Z)", undo),
      tool("Load JSON", "A pose from a file", load),
      tool("Save JSON", "The pose as a file", () => saveJson(writePose(pose))),
    );
    row.append(
      tool("Send to ControlNet", "Draw the pose and use it as the unit's picture", () => close(writePose(pose)), "cnet-tool cnet-main"),
    );
    dialog.addEventListener("keydown", (event) => {
      if ((event.ctrlKey || event.metaKey) && event.key === "z") undo();
      if (event.key === "Delete" && hover) {
        keep();
        pose.people[hover.person][hover.list][hover.place] = null;
        hover = null;
        draw();
      }
    });
    say("Drag points; with Shift the whole person; right click or Delete takes a point away.");
    requestAnimationFrame(draw);
  });
}

// The text of a file that the user chooses, null for none. Throws a sentence.
function chooseJson() {
  return new Promise((resolve, reject) => {
    const input = make("input", { type: "file", accept: ".json,application/json", hidden: true });
    input.addEventListener("cancel", () => (input.remove(), resolve(null)));
    input.addEventListener("change", async () => {
      input.remove();
      const [file] = input.files;
      if (!file) resolve(null);
      else if (file.size > LARGEST_JSON) reject(new Error("This file is larger than any pose; choose another."));
      else resolve(await file.text());
    });
    document.body.append(input);
    input.click();
  });
}

function saveJson(text) {
  if (!text) return;
  const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  make("a", { href: url, download: "pose.json" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

window.easelControlNet.useEditors({ askSize, chooseJson, drawMask, editPose, saveJson });
