// Render one Iconify emoji set to raw RGBA.
//   node render.mjs <node_modules> <package> <size> <out>
// writes <out>.rgba (pictures one after another) and <out>.json (their hexcodes, in order).
// The renderer aborts the process on a handful of files, so a child draws and the parent restarts it past those.
import { spawnSync } from "node:child_process";
import { appendFileSync, existsSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const [modules, name, sizeText, out, startText] = process.argv.slice(2);
const size = Number(sizeText);
const require = createRequire(join(modules, "x.js"));
const folder = join(modules, name);
const set = JSON.parse(readFileSync(join(folder, "icons.json")));
const chars = JSON.parse(readFileSync(join(folder, "chars.json")));
const skinTone = /1f3f[b-f]/;
const plain = (hex) => hex.split("-").filter((part) => part !== "fe0f").join("-").toUpperCase();
const jobs = Object.entries(chars).filter(([hex]) => !skinTone.test(hex)).sort((a, b) => (a[0] < b[0] ? -1 : 1));

function icon(key) {
  let alias = set.aliases?.[key];
  let found = set.icons[key];
  while (!found && alias) {
    found = set.icons[alias.parent];
    alias = set.aliases?.[alias.parent];
  }
  return found;
}

function draw(from) {
  const { Resvg } = require("@resvg/resvg-js");
  for (let i = from; i < jobs.length; i++) {
    const [hex, key] = jobs[i];
    writeFileSync(out + ".at", String(i));
    const body = icon(key);
    if (!body) continue;
    const width = body.width ?? set.width ?? 16;
    const height = body.height ?? set.height ?? 16;
    const side = Math.max(width, height);
    const box = `${(body.left ?? 0) - (side - width) / 2} ${(body.top ?? 0) - (side - height) / 2} ${side} ${side}`;
    const svg = `<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="${box}" width="${size}" height="${size}">${body.body}</svg>`;
    let picture;
    try {
      picture = new Resvg(svg, { fitTo: { mode: "width", value: size }, font: { loadSystemFonts: false } }).render();
    } catch (error) {
      console.error(`skipped ${hex}: ${error.message ?? error}`);
      continue;
    }
    if (picture.width !== size || picture.height !== size) continue;
    const pixels = Buffer.from(picture.pixels); // premultiplied
    for (let p = 0; p < pixels.length; p += 4) {
      const alpha = pixels[p + 3];
      if (alpha > 0 && alpha < 255) {
        for (let c = 0; c < 3; c++) pixels[p + c] = Math.min(255, Math.round((pixels[p + c] * 255) / alpha));
      }
    }
    appendFileSync(out + ".rgba", pixels);
    appendFileSync(out + ".names", plain(hex) + "\n");
  }
  rmSync(out + ".at");
}

if (startText !== undefined) {
  draw(Number(startText));
} else {
  for (const end of [".rgba", ".names", ".at"]) if (existsSync(out + end)) rmSync(out + end);
  let from = 0;
  for (;;) {
    const child = spawnSync(process.execPath, [fileURLToPath(import.meta.url), modules, name, sizeText, out, String(from)], { stdio: "inherit" });
    if (child.status === 0) break;
    if (!existsSync(out + ".at")) throw new Error(`the renderer of ${name} could not start`);
    const at = Number(readFileSync(out + ".at", "utf8"));
    console.error(`skipped ${jobs[at][0]}: the renderer aborted`);
    from = at + 1;
  }
  const names = readFileSync(out + ".names", "utf8").trim().split("\n");
  if (statSync(out + ".rgba").size !== names.length * size * size * 4) throw new Error("pictures and names disagree");
  writeFileSync(out + ".json", JSON.stringify(names));
  rmSync(out + ".names");
}
