// ------------------------------------------------------------------------------------------ the plane
// Coordinates: principal directions about the mean of the codes, or the latents themselves, those that vary most first.

const RAMP = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
const NEAR = 11; // pixels
const dot = (a, b) => a.reduce((sum, v, i) => sum + v * b[i], 0);

function basesOf({ mean, directions, shares, use, variances }) {
  const L = mean.length, zero = new Array(L).fill(0), unit = (at) => zero.map((_, i) => Number(i === at));
  const said = (share) => (share >= 0.995 ? "100 %" : share < 0.001 ? "0 %" : `${(100 * share).toFixed(share < 0.095 ? 1 : 0)} %`);
  const order = L === 2 ? [0, 1] : use;
  return {
    latents: { centre: zero, axes: order.map(unit), names: order.map((at) => `z${subscript(at + 1)}`), shares: order.map((at) => said(variances[at])) },
    principal: { centre: mean, axes: directions, names: directions.map((_, at) => `direction ${at + 1}`), shares: shares.map(said) },
  };
}

const subscript = (n) => String(n).replace(/\d/g, (d) => "₀₁₂₃₄₅₆₇₈₉"[d]);
const coordinates = (basis, z) => basis.axes.map((a) => a.reduce((sum, v, i) => sum + v * (z[i] - basis.centre[i]), 0));

function latentsAt(basis, c) {
  const z = Float64Array.from(basis.centre);
  basis.axes.forEach((a, k) => { for (let i = 0; i < z.length; i++) z[i] += a[i] * c[k]; });
  return z;
}

function ramp(share) {
  const at = Math.min(Math.max(share, 0), 1) * (RAMP.length - 1), low = Math.min(Math.floor(at), RAMP.length - 2);
  return RAMP[low].map((v, i) => Math.round(v + (RAMP[low + 1][i] - v) * (at - low)));
}

const rgb = (parts, alpha = 1) => `rgba(${parts.map(Math.round).join(",")},${alpha})`;

function themeColours() {
  const style = getComputedStyle(document.documentElement), named = (name) => style.getPropertyValue(name).trim();
  const parts = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  const levels = Array.from({ length: 12 }, (_, at) => parts(named(`--c${at}`)));
  return { levels, ink: named("--ink"), muted: named("--muted"), faint: named("--faint"), grid: named("--grid"), paper: named("--paper") };
}

// A level's colour; the last one stands for all that are left.
const levelColour = (theme, code) => theme.levels[Math.min(code, theme.levels.length - 1)];

function valueColour(theme, column, value) {
  if (value === null || value === undefined) return null;
  return column.levels.length ? levelColour(theme, value) : ramp((value - column.low) / (column.high - column.low));
}

function ticksOf(low, high, count) {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough)), step = [1, 2, 5, 10].find((m) => m * power >= rough) * power, found = [];
  for (let at = Math.ceil(low / step) * step; at <= high + 1e-9 * step; at += step) found.push(Math.abs(at) < 1e-9 * step ? 0 : at);
  return { found, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

class Plane {
  constructor(box, model) {
    Object.assign(this, { box, model, hovered: -1, sheet: null });
    [this.ground, this.dots, this.marks] = ["ground", "dots", "marks"].map((name) => box.querySelector(`canvas.${name}`));
    this.theme = themeColours();
  }

  measure() { // sizes of the canvases and the map from coordinates to pixels
    const width = this.box.clientWidth, height = this.box.clientHeight, ratio = window.devicePixelRatio || 1;
    Object.assign(this, { width, height, inner: { left: 38, right: width - 12, top: 12, bottom: height - 34 } });
    for (const canvas of [this.ground, this.dots, this.marks]) {
      canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio);
      canvas.getContext("2d").setTransform(ratio, 0, 0, ratio, 0, 0);
    }
    const { basis, across, up, codes } = this.model, { left, right, top, bottom } = this.inner;
    this.seen = codes.map((z) => { const c = coordinates(basis, z); return [c[across], c[up]]; });
    const spans = [0, 1].map((d) => {
      const values = this.seen.map((c) => c[d]), low = values.reduce((a, b) => Math.min(a, b)), high = values.reduce((a, b) => Math.max(a, b));
      const room = 0.07 * (high - low) + 0.05;
      return [low - room, high + room];
    });
    const scales = [(right - left) / (spans[0][1] - spans[0][0]), (bottom - top) / (spans[1][1] - spans[1][0])], least = Math.min(...scales);
    if (Math.max(...scales) < 1.3 * least) { // a circle is a circle, where that leaves little of the plane empty
      [[right - left, 0], [bottom - top, 1]].forEach(([pixels, d]) => {
        const middle = (spans[d][0] + spans[d][1]) / 2;
        spans[d] = [middle - pixels / least / 2, middle + pixels / least / 2];
      });
    }
    this.spans = spans;
  }

  pixel([x, y]) {
    const { left, right, top, bottom } = this.inner, [[a, b], [c, d]] = this.spans;
    return [left + (x - a) / (b - a) * (right - left), bottom - (y - c) / (d - c) * (bottom - top)];
  }

  plane([x, y]) { // the coordinates under a pixel, held inside
    const { left, right, top, bottom } = this.inner, [[a, b], [c, d]] = this.spans, held = (v) => Math.min(Math.max(v, 0), 1);
    return [a + held((x - left) / (right - left)) * (b - a), c + held((bottom - y) / (bottom - top)) * (d - c)];
  }

  place(z) {
    const { basis, across, up } = this.model, c = coordinates(basis, z);
    return this.pixel([c[across], c[up]]);
  }

  moved(z, [x, y]) { // z with other coordinates in the plane
    const { basis, across, up } = this.model, c = coordinates(basis, z);
    c[across] = x; c[up] = y;
    return latentsAt(basis, c);
  }

  nearest([x, y], within = NEAR) {
    let best = -1, least = within ** 2;
    this.seen.forEach((c, at) => {
      const [px, py] = this.pixel(c), gap = (px - x) ** 2 + (py - y) ** 2;
      if (gap < least) { least = gap; best = at; }
    });
    return best;
  }

  drawDots() {
    const pen = this.dots.getContext("2d"), { colour, cells } = this.model.colouring(), { theme } = this;
    pen.clearRect(0, 0, this.width, this.height);
    if (this.model.colourBy === "hidden") return;
    const radius = (this.seen.length > 800 ? 2.6 : 3.4) * (this.model.ground === "pictures" ? 0.75 : 1);
    this.seen.forEach((c, at) => {
      const [x, y] = this.pixel(c), shade = colour && valueColour(theme, colour, cells[at]);
      pen.beginPath();
      pen.arc(x, y, radius, 0, 7);
      pen.fillStyle = colour ? (shade ? rgb(shade, 0.85) : "transparent") : rgb(theme.levels[0], 0.6);
      pen.fill();
      pen.lineWidth = shade || !colour ? 0.6 : 1;
      pen.strokeStyle = shade || !colour ? theme.paper : theme.faint;
      pen.stroke();
    });
  }

  drawGround() {
    const pen = this.ground.getContext("2d"), { left, right, top, bottom } = this.inner;
    pen.clearRect(0, 0, this.width, this.height);
    if (this.sheet) {
      pen.imageSmoothingEnabled = this.sheet.smooth; pen.imageSmoothingQuality = "high";
      pen.drawImage(this.sheet.canvas, left, top, right - left, bottom - top);
    }
    pen.font = "11px " + getComputedStyle(document.body).fontFamily;
    [0, 1].forEach((d) => {
      const { found, digits } = ticksOf(...this.spans[d], d ? 5 : 6);
      for (const value of found) {
        const [x, y] = this.pixel(d ? [this.spans[0][0], value] : [value, this.spans[1][0]]);
        pen.strokeStyle = this.theme.grid; pen.lineWidth = 1; pen.globalAlpha = { "": 1, pictures: 0 }[this.model.ground] ?? 0.35;
        pen.beginPath(); pen.moveTo(x, y); pen.lineTo(d ? right : x, d ? y : top); pen.stroke();
        pen.globalAlpha = 1; pen.fillStyle = this.theme.muted; pen.textAlign = d ? "right" : "center"; pen.textBaseline = d ? "middle" : "top";
        pen.fillText(value.toFixed(digits).replace("-", "−"), d ? left - 6 : x, d ? y : bottom + 5);
      }
    });
    pen.strokeStyle = this.theme.faint; pen.strokeRect(left + 0.5, top + 0.5, right - left - 1, bottom - top - 1);
    const { basis, across, up } = this.model;
    pen.fillStyle = this.theme.muted; pen.textAlign = "right"; pen.textBaseline = "bottom";
    pen.fillText(`${basis.names[across]} →`, right - 2, this.height - 1);
    pen.textAlign = "left"; pen.fillText(`↑ ${basis.names[up]}`, 4, this.height - 1);
  }

  drawMarks() {
    const pen = this.marks.getContext("2d"), { theme, model } = this;
    pen.clearRect(0, 0, this.width, this.height);
    const road = model.road().map((z) => this.place(z));
    if (road.length) {
      for (const [stroke, width] of [[theme.paper, 5], [theme.ink, 2]]) {
        pen.beginPath(); road.forEach(([x, y], at) => (at ? pen.lineTo(x, y) : pen.moveTo(x, y)));
        pen.strokeStyle = stroke; pen.lineWidth = width; pen.lineJoin = "round"; pen.stroke();
      }
    }
    model.ends.forEach((end, which) => { if (end >= 0) this.badge(pen, this.place(model.codes[end]), "AB"[which]); });
    if (this.hovered >= 0) this.ring(pen, this.pixel(this.seen[this.hovered]), 7, theme.ink, 2);
    this.handle(pen, this.place(model.z));
  }

  ring(pen, [x, y], radius, stroke, width) {
    for (const [style, thick] of [[this.theme.paper, width + 3], [stroke, width]]) {
      pen.beginPath(); pen.arc(x, y, radius, 0, 7); pen.strokeStyle = style; pen.lineWidth = thick; pen.stroke();
    }
  }

  handle(pen, [x, y]) {
    const { ink, paper } = this.theme;
    for (const [style, thick] of [[paper, 4.5], [ink, 1.8]]) {
      pen.strokeStyle = style; pen.lineWidth = thick; pen.beginPath();
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) { pen.moveTo(x + 10 * dx, y + 10 * dy); pen.lineTo(x + 16 * dx, y + 16 * dy); }
      pen.stroke();
    }
    this.ring(pen, [x, y], 10, ink, 2.5);
    pen.beginPath(); pen.arc(x, y, 2.4, 0, 7); pen.fillStyle = ink; pen.fill();
  }

  badge(pen, [x, y], letter) {
    pen.beginPath(); pen.arc(x, y, 5, 0, 7); pen.fillStyle = this.theme.ink; pen.fill();
    const dx = x < 40 ? 16 : -16, dy = y < 40 ? 16 : -16;
    pen.beginPath(); pen.arc(x + dx, y + dy, 9, 0, 7); pen.fillStyle = this.theme.ink; pen.fill();
    pen.lineWidth = 1.5; pen.strokeStyle = this.theme.paper; pen.stroke();
    pen.fillStyle = this.theme.paper; pen.textAlign = "center"; pen.textBaseline = "middle"; pen.font = "600 11px " + getComputedStyle(document.body).fontFamily;
    pen.fillText(letter, x + dx, y + dy + 0.5);
  }
}

// Along a straight line, or along an arc about the origin whose radius changes evenly (Shoemake, 1985; White, 2016).
function between(a, b, t, spherical) {
  const line = () => Float64Array.from(a, (v, i) => v + t * (b[i] - v));
  if (!spherical) return line();
  const [one, other] = [Math.hypot(...a), Math.hypot(...b)];
  if (one < 1e-9 || other < 1e-9) return line();
  const angle = Math.acos(Math.min(Math.max(dot(Array.from(a), b) / one / other, -1), 1));
  if (angle < 1e-6 || Math.PI - angle < 1e-6) return line();
  const radius = one + t * (other - one), [p, q] = [Math.sin((1 - t) * angle) / Math.sin(angle) / one, Math.sin(t * angle) / Math.sin(angle) / other];
  return Float64Array.from(a, (v, i) => radius * (p * v + q * b[i]));
}
