// ------------------------------------------------------------------------------------------ the page
const STEPS = 9, SECONDS = 4, SLIDERS = 6, ROAD = 60;
const PAINTED = { columns: [40, 30], pictures: 44 };
const $ = (id) => document.getElementById(id);

const data = JSON.parse($("data").textContent);
data.columns.forEach((column) => { column.levels = column.levels || []; });
const flatCodes = new Float32Array(bytesOf(data.codes)), bases = basesOf(data.basis);
const decodeNumbers = decoderOf(data.decoder, data.latent);
const gridAlone = Boolean(data.decoder.grid);

const model = {
  codes: Array.from({ length: data.rows.length }, (_, at) => Float64Array.from(flatCodes.subarray(at * data.latent, (at + 1) * data.latent))),
  z: Float64Array.from(data.basis.mean), level: 0, ends: [-1, -1], t: 0, spherical: false, playing: 0,
  basis: gridAlone || data.latent > 2 ? bases.principal : bases.latents, across: 0, up: 1, colourBy: "", ground: "",
  columnNamed(key) { return key === "given" ? data.colour : data.columns[Number(key)]; },
  colouring() {
    if (this.colourBy === "" || this.colourBy === "hidden") return { colour: null, cells: null };
    return { colour: this.columnNamed(this.colourBy), cells: this.colourBy === "given" ? data.colour.cells : data.cells[Number(this.colourBy)] };
  },
  road() {
    const [a, b] = this.ends;
    return a < 0 || b < 0 ? [] : Array.from({ length: ROAD + 1 }, (_, at) => this.onRoad(at / ROAD));
  },
  onRoad(t) { return between(this.codes[this.ends[0]], this.codes[this.ends[1]], t, this.spherical); },
  painted() { return this.ground !== ""; },
};

const tint = (column, code) => rgb(levelColour(plane.theme, code));
const plane = new Plane($("plane"), model);
const sample = new Sample($("sample"), data, tint);
const strip = new Strip($("strip"), data, STEPS, tint, (t) => { stop(); travel(t); });
const decodeColumns = (z, level) => columnsOf(data.columns, decodeNumbers(z, level));

// ---- the ground under the points: painted bit by bit, so that slow decoders hold nothing up
let painting = 0, busy = false;
function paintGround() {
  const turn = ++painting, old = plane.sheet;
  busy = model.painted();
  plane.sheet = null;
  if (!busy) { plane.drawGround(); return; }
  const painter = (model.ground === "pictures" ? paintedPictures : paintedColumn)(plane.inner);
  if (old && old.kind === model.ground) painter.canvas.getContext("2d").drawImage(old.canvas, 0, 0, painter.canvas.width, painter.canvas.height);
  plane.sheet = { kind: model.ground, canvas: painter.canvas, smooth: painter.smooth };
  let next = 0;
  const some = () => {
    if (turn !== painting) return;
    const until = performance.now() + 16;
    do painter.paint(next++); while (next < painter.count && performance.now() < until);
    busy = next < painter.count;
    plane.drawGround();
    if (busy) requestAnimationFrame(some);
  };
  some();
}

const decodedAt = (x, y) => { const { left, right, top, bottom } = plane.inner; return decodeNumbers(plane.moved(model.z, plane.plane([left + x * (right - left), top + y * (bottom - top)])), model.level); };

function paintedColumn() { // what is expected of one column all over the plane, a line at a time
  const [wide, tall] = PAINTED.columns, canvas = element("canvas", { width: wide, height: tall }), pen = canvas.getContext("2d"), image = pen.createImageData(wide, 1);
  const column = data.columns[Number(model.ground)];
  return {
    canvas, count: tall, smooth: true,
    paint(j) {
      for (let i = 0; i < wide; i++) {
        const [value] = columnsOf([column], decodedAt((i + 0.5) / wide, (j + 0.5) / tall));
        const mixed = column.levels.length ? value.reduce((sum, share, code) => sum.map((v, c) => v + share * levelColour(plane.theme, code)[c]), [0, 0, 0]) : valueColour(plane.theme, column, value);
        image.data.set([...mixed.map(Math.round), 82], 4 * i);
      }
      pen.putImageData(image, 0, j);
    },
  };
}

function paintedPictures({ left, right, top, bottom }) { // the decoded picture at the crossings of a grid
  const picture = data.pictures[0], [height, width] = picture.shape, ratio = window.devicePixelRatio || 1, canvas = element("canvas", { width: Math.round(ratio * (right - left)), height: Math.round(ratio * (bottom - top)) });
  const wide = Math.max(4, Math.round((right - left) / PAINTED.pictures)), tall = Math.max(2, Math.round((bottom - top) * wide / (right - left) * width / height));
  const pen = canvas.getContext("2d"), [across, down] = [canvas.width / wide, canvas.height / tall], side = Math.min(across / width, down / height), one = element("canvas");
  pen.imageSmoothingEnabled = false; pen.fillRect(0, 0, canvas.width, canvas.height);
  return {
    canvas, count: wide * tall, smooth: false,
    paint(k) {
      const [i, j] = [k % wide, Math.floor(k / wide)];
      drawPicture(one, picture, decodedAt((i + 0.5) / wide, (j + 0.5) / tall), data.columns);
      pen.drawImage(one, (i + 0.5) * across - side * width / 2, (j + 0.5) * down - side * height / 2, side * width, side * height);
    },
  };
}

// ---- what is shown
let wanted = null;
function draw(what) { // once a frame, whatever happened since the last one
  const first = !wanted;
  wanted = wanted || {};
  for (const [name, needed] of Object.entries(what)) wanted[name] = wanted[name] || needed;
  if (!first) return;
  requestAnimationFrame(() => {
    const now = wanted;
    wanted = null;
    if (now.ground) paintGround();
    if (now.dots) { plane.drawDots(); drawLegend(); }
    showSample();
    plane.drawMarks();
    if (now.road) showRoad();
    strip.mark(model.t);
  });
}

const everything = { ground: true, dots: true, road: true };

let speaking = 0;
function showSample() {
  const output = decodeNumbers(model.z, model.level), values = columnsOf(data.columns, output), near = closest(model.z);
  sample.show(output, values, near);
  const c = coordinates(model.basis, model.z), number = (v) => v.toFixed(2).replace("-", "−");
  $("where").textContent = `${model.basis.names[model.across]} ${number(c[model.across])} · ${model.basis.names[model.up]} ${number(c[model.up])} · nearest row ${data.rows[near]}`;
  sliders.forEach((slider) => slider.show(c));
  clearTimeout(speaking);
  speaking = setTimeout(() => { $("spoken").textContent = `${$("where").textContent}. ${sample.words(values)}`; }, 700);
}

function closest(z) { // the row whose code is nearest, in all latents
  let best = -1, least = Infinity;
  model.codes.forEach((code, at) => {
    let gap = 0;
    for (let i = 0; i < code.length && gap < least; i++) gap += (code[i] - z[i]) ** 2;
    if (gap < least) { least = gap; best = at; }
  });
  return best;
}

function showRoad() {
  const [a, b] = model.ends, ready = a >= 0 && b >= 0;
  $("road").disabled = !ready; $("play").disabled = !ready;
  $("road-words").textContent = ready ? `row ${data.rows[a]} to row ${data.rows[b]}` : a >= 0 ? `from row ${data.rows[a]}; click the row to walk to` : "click two points";
  $("strip").hidden = !ready;
  if (ready) strip.show(Array.from({ length: STEPS }, (_, at) => decodeNumbers(model.onRoad(at / (STEPS - 1)), model.level)), model.t);
}

function drawLegend() {
  const { colour } = model.colouring(), box = $("legend");
  box.replaceChildren();
  if (!colour) return;
  if (!colour.levels.length) {
    const stops = Array.from({ length: 9 }, (_, at) => rgb(ramp(at / 8))).join(",");
    box.append(element("span", {}, told(colour, colour.low)), element("i", { class: "ramp", style: `background:linear-gradient(90deg,${stops})` }), element("span", {}, told(colour, colour.high)));
    return;
  }
  colour.levels.slice(0, plane.theme.levels.length).forEach((level, code) => {
    const last = code === plane.theme.levels.length - 1 && colour.levels.length > code + 1;
    box.append(element("span", {}, element("i", { style: `background:${tint(colour, code)}` }), last ? "others" : level));
  });
}

// ---- moving
function go(z) {
  const onlyPlane = model.painted() && data.latent > 2 && coordinates(model.basis, z).some((v, k) => k !== model.across && k !== model.up && Math.abs(v - coordinates(model.basis, model.z)[k]) > 1e-9);
  model.z = z;
  draw({ ground: onlyPlane });
}

function travel(t) {
  model.t = t;
  $("road").value = String(Math.round(1000 * t));
  if (model.ends.every((end) => end >= 0)) go(model.onRoad(t));
}

function stop() {
  cancelAnimationFrame(model.playing);
  model.playing = 0;
  $("play").textContent = "▶"; $("play").setAttribute("aria-label", "play");
}

function play() {
  if (model.playing) { stop(); return; }
  const from = model.t >= 1 ? 0 : model.t, began = performance.now();
  $("play").textContent = "❚❚"; $("play").setAttribute("aria-label", "pause");
  const step = (now) => {
    const t = Math.min(from + Math.max(now - began, 0) / 1000 / SECONDS, 1);
    travel(t);
    if (t < 1) model.playing = requestAnimationFrame(step); else stop();
  };
  model.playing = requestAnimationFrame(step);
}

function setLevel(code) {
  if (data.label === null || code === null || code === undefined) return;
  const changed = code !== model.level;
  model.level = code;
  $("label").querySelectorAll("input").forEach((input) => { input.checked = Number(input.value) === code; });
  if (changed) draw({ ground: model.painted(), road: true });
}

function pick(point) { // the first is where the walk begins, the second where it ends, the third begins another
  stop();
  const fresh = model.ends[0] < 0 || model.ends[1] >= 0;
  if (!fresh && point === model.ends[0]) return;
  model.ends = fresh ? [point, -1] : [model.ends[0], point];
  model.t = fresh ? 0 : 1;
  $("road").value = String(1000 * model.t);
  if (data.label !== null) setLevel(data.cells[data.label][point]);
  model.z = Float64Array.from(model.codes[point]);
  draw({ road: true, ground: model.painted() && data.latent > 2 });
}

// ---- the pointer and the keys
function pointer() {
  const box = $("plane"), at = (event) => { const r = box.getBoundingClientRect(); return [event.clientX - r.left, event.clientY - r.top]; };
  let down = null;
  box.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    box.setPointerCapture(event.pointerId); box.focus({ preventScroll: true });
    down = { from: at(event), moved: false };
  });
  box.addEventListener("pointermove", (event) => {
    const place = at(event);
    if (!down) { hover(plane.nearest(place), place); return; }
    if (Math.hypot(place[0] - down.from[0], place[1] - down.from[1]) > 4) down.moved = true;
    if (down.moved) { stop(); hover(-1); box.classList.add("dragging"); go(plane.moved(model.z, plane.plane(place))); }
  });
  const up = (event) => {
    if (down && !down.moved && event.type === "pointerup") {
      const point = plane.nearest(down.from);
      if (point >= 0) pick(point); else { stop(); go(plane.moved(model.z, plane.plane(down.from))); }
    }
    down = null; box.classList.remove("dragging");
  };
  box.addEventListener("pointerup", up); box.addEventListener("pointercancel", up);
  box.addEventListener("pointerleave", () => { if (!down) hover(-1); });
  box.addEventListener("keydown", keys);
}

function keys(event) {
  const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
  if (by) {
    const c = coordinates(model.basis, model.z), share = event.shiftKey ? 0.1 : 0.02, spans = plane.spans;
    const held = (v, d) => Math.min(Math.max(v, spans[d][0]), spans[d][1]);
    stop();
    go(plane.moved(model.z, [model.across, model.up].map((k, d) => held(c[k] + by[d] * share * (spans[d][1] - spans[d][0]), d))));
  } else if (event.key === "Enter" || event.key === " ") pick(closest(model.z));
  else if (event.key === "Home") { stop(); go(Float64Array.from(data.basis.mean)); }
  else return;
  event.preventDefault();
}

function hover(point, place) {
  const box = $("tip");
  if (point !== plane.hovered) {
    plane.hovered = point;
    plane.drawMarks();
    box.hidden = point < 0;
    if (point >= 0) box.replaceChildren(...tip(point));
  }
  if (point < 0) return;
  const left = place[0] + 16 + box.offsetWidth > plane.width ? place[0] - box.offsetWidth - 12 : place[0] + 16;
  box.style.left = `${Math.max(left, 2)}px`;
  box.style.top = `${Math.min(Math.max(place[1] - 12, 2), Math.max(plane.height - box.offsetHeight - 2, 2))}px`;
}

function tip(point) {
  const lines = [element("strong", {}, `row ${data.rows[point]}`)];
  data.pictures.forEach((picture) => { const canvas = element("canvas", { class: "picture" }); drawRow(canvas, picture, point); lines.push(canvas); });
  const list = element("dl"), add = (name, text) => list.append(element("dt", {}, name), element("dd", {}, text));
  if (data.colour) add(data.colour.name, cellText(data.colour, data.colour.cells[point]));
  data.columns.forEach((column, at) => {
    if (!column.pixel && list.children.length < 24 && !(data.colour && data.colour.name === column.name)) add(column.name, cellText(column, data.cells[at][point]));
  });
  return [...lines, list];
}

// ---- controls
const sliders = [];

function makeSliders() {
  const box = $("sliders"), rest = model.basis.axes.map((_, k) => k).filter((k) => k !== model.across && k !== model.up);
  sliders.length = 0;
  const lines = gridAlone ? [] : rest.map((k) => {
    const values = model.codes.map((z) => coordinates(model.basis, z)[k]), low = Math.min(...values), high = Math.max(...values), room = 0.15 * (high - low) + 0.5;
    const input = element("input", { type: "range", min: String(low - room), max: String(high + room), step: "any", "aria-label": model.basis.names[k] }), value = element("output");
    input.addEventListener("input", () => {
      const c = coordinates(model.basis, model.z);
      c[k] = Number(input.value);
      stop(); go(latentsAt(model.basis, c));
    });
    sliders.push({ show(c) { if (document.activeElement !== input || Math.abs(Number(input.value) - c[k]) > 1e-6) input.value = String(c[k]); value.textContent = c[k].toFixed(2).replace("-", "−"); } });
    return element("label", {}, element("span", {}, model.basis.names[k], " ", element("small", {}, model.basis.shares[k])), input, value);
  });
  box.replaceChildren(...lines.slice(0, SLIDERS));
  if (lines.length > SLIDERS) box.append(element("details", {}, element("summary", {}, `${lines.length - SLIDERS} more, that vary less`), ...lines.slice(SLIDERS)));
  $("others").hidden = !lines.length;
}

function options(select, entries, chosen) {
  select.replaceChildren(...entries.map(([value, text]) => element("option", { value }, text)));
  select.value = chosen;
}

function fillAxes() {
  const entries = model.basis.names.map((name, k) => [String(k), `${name}, ${model.basis.shares[k]}`]);
  options($("across"), entries, String(model.across)); options($("up"), entries, String(model.up));
}

function axesChanged(changed) {
  [model.across, model.up] = [Number($("across").value), Number($("up").value)];
  if (model.across === model.up) { // the other one makes room
    const other = model.across === 0 ? 1 : 0;
    if (changed === "across") model.up = other; else model.across = other;
    fillAxes();
  }
  relay();
}

function relay() { plane.measure(); makeSliders(); draw(everything); }

function controls() {
  const named = data.columns.map((column, at) => [String(at), column]).filter(([, column]) => !column.pixel), same = data.colour && named.find(([, column]) => column.name === data.colour.name);
  const entries = named.map(([key, column]) => [key, column.name]);
  model.colourBy = same ? same[0] : data.colour ? "given" : "";
  options($("colour"), [...(data.colour && !same ? [["given", data.colour.name]] : []), ...entries, ["", "one colour"], ["hidden", "no points"]], model.colourBy);
  model.ground = same && !data.pictures.length ? same[0] : "";
  options($("ground"), [["", "nothing"], ...(data.pictures.length ? [["pictures", "decoded pictures"]] : []), ...entries.map(([key, name]) => [key, data.pictures.length ? name : `decoded ${name}`])], model.ground);
  $("ground").parentNode.hidden = $("ground").options.length < 2;
  $("axes").hidden = gridAlone || data.latent < 3;
  $("basis").value = model.basis === bases.principal ? "principal" : "latents";
  $("colour").addEventListener("change", () => { model.colourBy = $("colour").value; draw({ dots: true }); });
  $("ground").addEventListener("change", () => { model.ground = $("ground").value; draw({ ground: true, dots: true }); });
  $("basis").addEventListener("change", () => { model.basis = bases[$("basis").value]; [model.across, model.up] = [0, 1]; fillAxes(); relay(); });
  for (const name of ["across", "up"]) $(name).addEventListener("change", () => axesChanged(name));
  $("road").addEventListener("input", () => { stop(); travel(Number($("road").value) / 1000); });
  $("play").addEventListener("click", play);
  document.querySelectorAll("input[name=way]").forEach((input) => input.addEventListener("change", () => {
    model.spherical = input.value === "spherical";
    draw({ road: true });
    travel(model.t);
  }));
  if (data.label !== null) makeLabel();
}

function makeLabel() {
  const column = data.columns[data.label];
  $("label").hidden = false;
  $("label").append(element("legend", {}, `${column.name}, given to the decoder`), ...column.levels.map((level, code) => {
    const input = element("input", { type: "radio", name: "level", value: String(code), checked: code === 0 });
    input.addEventListener("change", () => setLevel(code));
    return element("label", {}, input, element("span", {}, level));
  }));
}

function firstWalk() { // the page begins with a walk along the direction of largest variance
  const along = model.codes.map((z) => coordinates(bases.principal, z)[0]).sort((a, b) => a - b), { centre, axes } = bases.principal;
  const [a, b] = [0.05, 0.95].map((share) => closest(centre.map((v, i) => v + along[Math.round(share * (along.length - 1))] * axes[0][i])));
  if (a === b) return;
  model.ends = [a, b];
  if (data.label !== null) setLevel(data.cells[data.label][a]);
  model.z = Float64Array.from(model.codes[a]);
}

data.pictures.forEach((picture) => { picture.image = new Image(); picture.image.addEventListener("load", () => draw({})); picture.image.src = picture.sheet; });
controls(); firstWalk(); fillAxes(); pointer(); relay();
new ResizeObserver(() => { if ($("plane").clientWidth !== plane.width || $("plane").clientHeight !== plane.height) relay(); }).observe($("plane"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { plane.theme = themeColours(); draw(everything); });

// For tests and for the console: decode(z) gives every column in the data's units, of levels their probabilities.
window.probgen = {
  decode: decodeColumns, run: (graph, constants, z) => Array.from(run(graph, constantsOf(constants), tensor([1, z.length], Float64Array.from(z))).data),
  state: () => ({ z: Array.from(model.z), t: model.t, ends: model.ends.slice(), level: model.level, playing: model.playing !== 0 }),
  place: (row) => { const box = $("plane").getBoundingClientRect(), [x, y] = plane.pixel(plane.seen[row]); return [x - box.width / 2, y - box.height / 2]; },
  handle: () => { const box = $("plane").getBoundingClientRect(), [x, y] = plane.place(model.z); return [x - box.width / 2, y - box.height / 2]; },
  operations: Object.keys(OPERATIONS), between, drawn: () => wanted === null && !busy,
};
