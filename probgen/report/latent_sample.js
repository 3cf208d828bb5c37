// ------------------------------------------------------------------------------------------ samples
// What was decoded, as pictures and as columns: numbers on their range, levels by their probabilities.

const MOST_LEVELS = 6, MOST_COLUMNS = 14;

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in made && typeof value !== "string") made[name] = value; else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

function told(column, value) { // a number as a person writes it
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (column.kind === "datetime") return Math.abs(value) < 1e8 ? new Date(value * 864e5).toISOString().slice(0, 10) : "–";
  return value.toLocaleString("en", { minimumFractionDigits: column.digits, maximumFractionDigits: column.digits }).replace("-", "−");
}

const percent = (share) => (share > 0.995 && share < 1 ? "> 99 %" : share < 0.005 && share > 0 ? "< 1 %" : `${(100 * share).toFixed(0)} %`);
const likeliest = (shares) => shares.indexOf(Math.max(...shares));
const cellText = (column, cell) => (cell === null ? "–" : column.levels.length ? column.levels[cell] : told(column, cell));

// Numbers of the decoder -> one entry a column, in the data's units: a number, or probabilities of its levels.
function columnsOf(columns, output) {
  return columns.map(({ at, size, scale, shift, kind }) => {
    if (size > 1) return Array.from(output.subarray(at, at + size));
    const value = output[at] * scale + shift;
    return kind === "binary" ? [1 - value, value] : value;
  });
}

function drawPicture(canvas, picture, output, columns) {
  const [height, width, channels] = picture.shape, pen = canvas.getContext("2d");
  canvas.width = width; canvas.height = height;
  const image = pen.createImageData(width, height);
  for (let p = 0; p < width * height; p++) {
    for (let c = 0; c < 3; c++) {
      const { at, size, scale, shift } = columns[picture.places[p * channels + (channels === 3 ? c : 0)]];
      const value = size > 1 ? total(Array.from(output.subarray(at, at + size), (share, code) => share * code)) : output[at] * scale + shift;
      image.data[4 * p + c] = 255 * (value - picture.low) / (picture.high - picture.low);
    }
    image.data[4 * p + 3] = 255;
  }
  pen.putImageData(image, 0, 0);
}

function drawRow(canvas, picture, row) { // a row's own picture
  const [height, width] = picture.shape, pen = canvas.getContext("2d"), column = row % picture.across, line = Math.floor(row / picture.across);
  canvas.width = width; canvas.height = height;
  if (picture.image.complete) pen.drawImage(picture.image, column * width, line * height, width, height, 0, 0, width, height);
}

function histogram(column) {
  const bars = column.bins.map((v, at) => `<rect x="${(100 * at / column.bins.length + 0.4).toFixed(2)}" width="${(100 / column.bins.length - 0.8).toFixed(2)}" y="${(24 - 22 * v).toFixed(1)}" height="${(22 * v).toFixed(1)}"/>`);
  return `<svg viewBox="0 0 100 24" preserveAspectRatio="none" aria-hidden="true">${bars.join("")}</svg>`;
}

function numberRow(column) {
  const value = element("output"), mark = element("i"), own = element("b"), bar = element("div", { class: "range" });
  bar.innerHTML = histogram(column);
  bar.append(own, mark);
  const ends = element("div", { class: "ends" }, element("span", {}, told(column, column.low)), element("span", {}, told(column, column.high)));
  const place = (v) => `${Math.min(Math.max(100 * (v - column.low) / (column.high - column.low), 0), 100)}%`;
  const node = element("div", { class: "column number" }, element("h3", {}, column.name, value), bar, ends);
  return {
    node,
    show(found, cell) {
      value.textContent = told(column, found);
      mark.style.left = place(found);
      own.hidden = cell === null || cell === undefined;
      if (!own.hidden) own.style.left = place(cell);
    },
  };
}

function levelRow(column, tint) {
  const value = element("output"), lines = element("div", { class: "levels" }), shown = column.levels.length > MOST_LEVELS ? MOST_LEVELS - 1 : column.levels.length;
  const made = Array.from({ length: shown + Number(shown < column.levels.length) }, () => {
    const line = { name: element("span", { class: "level" }), fill: element("i"), share: element("span", { class: "share" }) };
    line.node = element("div", {}, line.name, element("div", { class: "bar" }, line.fill), line.share);
    lines.append(line.node);
    return line;
  });
  const fill = (line, name, share, colour, own) => {
    line.name.textContent = name; line.name.title = name; line.share.textContent = percent(share);
    line.fill.style.width = `${100 * share}%`; line.fill.style.background = colour; line.node.classList.toggle("own", own);
  };
  return {
    node: element("div", { class: "column" }, element("h3", {}, column.name, value), lines),
    show(shares, cell) {
      value.textContent = column.levels[likeliest(shares)];
      const order = [...shares.keys()];
      const first = shown < shares.length ? order.sort((a, b) => shares[b] - shares[a]).slice(0, shown) : order;
      first.forEach((code, at) => fill(made[at], column.levels[code], shares[code], tint(column, code), code === cell));
      if (shown < shares.length) {
        const rest = Math.max(0, 1 - first.reduce((sum, code) => sum + shares[code], 0));
        fill(made[shown], `${shares.length - shown} others`, rest, "var(--faint)", cell !== null && !first.includes(cell));
      }
    },
  };
}

class Sample {
  constructor(box, data, tint) {
    Object.assign(this, { box, data });
    this.pictures = data.pictures.map((picture) => {
      const canvas = element("canvas", { class: "picture", role: "img" }), row = element("canvas", { class: "picture" });
      const own = element("figure", { class: "own" }, row, element("figcaption"));
      box.append(element("div", { class: "pictures" }, element("figure", {}, canvas, element("figcaption", {}, data.pictures.length > 1 ? picture.name : "decoded")), own));
      return { picture, canvas, row, own };
    });
    const list = element("div", { class: "columns" });
    this.rows = data.columns.map((column, at) => (column.pixel || at === data.label ? null : column.levels.length ? levelRow(column, tint) : numberRow(column)));
    this.rows.forEach((row) => row && list.append(row.node));
    if (this.rows.some(Boolean)) box.append(list);
  }

  show(output, values, near) {
    for (const { picture, canvas, row, own } of this.pictures) {
      drawPicture(canvas, picture, output, this.data.columns);
      own.style.visibility = near < 0 ? "hidden" : "visible";
      if (near >= 0) { drawRow(row, picture, near); own.lastChild.textContent = `nearest row, ${this.data.rows[near]}`; }
    }
    this.rows.forEach((row, at) => row && row.show(values[at], near < 0 ? null : this.data.cells[at][near]));
  }

  words(values) { // for a screen reader
    return this.data.columns.map((column, at) => (column.pixel ? "" : `${column.name} ${column.levels.length ? `${column.levels[likeliest(values[at])]} ${percent(Math.max(...values[at]))}` : told(column, values[at])}`)).filter(Boolean).slice(0, 12).join(", ");
  }
}

// ------------------------------------------------------------------------------------------ film strip
// Places of the columns that change most along the way, in their order.
function changing(columns, found) {
  const range = (values) => Math.max(...values) - Math.min(...values);
  const change = columns.map((column, at) => (column.levels.length
    ? Math.max(...column.levels.map((_, code) => range(found.map((values) => values[at][code]))))
    : range(found.map((values) => values[at])) / (column.high - column.low)));
  return [...columns.keys()].sort((a, b) => change[b] - change[a]).slice(0, MOST_COLUMNS).sort((a, b) => a - b);
}

class Strip {
  constructor(box, data, steps, tint, choose) {
    Object.assign(this, { box, data, steps, tint, choose });
  }

  show(outputs, at) {
    this.box.replaceChildren(this.data.pictures.length ? this.frames(outputs) : this.table(outputs));
    this.mark(at);
  }

  mark(t) {
    const now = Math.round(t * (this.steps - 1));
    this.box.querySelectorAll("[data-step]").forEach((node) => node.classList.toggle("now", Number(node.dataset.step) === now));
  }

  button(at, ...children) {
    const made = element("button", { type: "button", "data-step": String(at), "aria-label": `step ${at + 1} of ${this.steps}` }, ...children);
    made.addEventListener("click", () => this.choose(at / (this.steps - 1)));
    return made;
  }

  frames(outputs) {
    const row = element("div", { class: "frames" });
    outputs.forEach((output, at) => {
      const canvases = this.data.pictures.map((picture) => {
        const canvas = element("canvas", { class: "picture" });
        drawPicture(canvas, picture, output, this.data.columns);
        return canvas;
      });
      row.append(this.button(at, ...canvases));
    });
    return row;
  }

  table(outputs) {
    const found = outputs.map((output) => columnsOf(this.data.columns, output)), table = element("table"), head = element("tr", {}, element("th"));
    found.forEach((_, at) => head.append(element("th", { scope: "col", "data-step": String(at) }, this.button(at, at === 0 ? "A" : at === this.steps - 1 ? "B" : `${at}/${this.steps - 1}`))));
    table.append(element("thead", {}, head));
    const body = element("tbody"), shown = changing(this.data.columns, found);
    if (shown.length < this.data.columns.length) table.append(element("caption", {}, `the ${shown.length} of ${this.data.columns.length} columns that change most`));
    shown.forEach((place) => {
      const column = this.data.columns[place], line = element("tr", {}, element("th", { scope: "row", title: column.name }, column.name));
      found.forEach((values, at) => line.append(element("td", { "data-step": String(at) }, ...(column.levels.length ? this.shares(column, values[place]) : this.number(column, values[place])))));
      body.append(line);
    });
    table.append(body);
    return table;
  }

  number(column, value) {
    const share = Math.min(Math.max((value - column.low) / (column.high - column.low), 0), 1);
    return [element("span", {}, told(column, value)), element("div", { class: "stack" }, element("i", { style: `width:${100 * share}%` }))];
  }

  shares(column, values) {
    const parts = values.map((share, code) => element("i", { style: `width:${100 * share}%;background:${this.tint(column, code)}`, title: `${column.levels[code]} ${percent(share)}` }));
    return [element("span", { title: column.levels[likeliest(values)] }, column.levels[likeliest(values)]), element("div", { class: "stack" }, ...parts)];
  }
}
