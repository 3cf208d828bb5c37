// ------------------------------------------------------------------------------------------ decoder
// Carries out what operations.py wrote down. A tensor is {shape, data}, always contiguous; no operation changes its arguments.

const sizeOf = (shape) => shape.reduce((a, b) => a * b, 1);
const tensor = (shape, data) => ({ shape, data: data || new Float64Array(sizeOf(shape)) });
const axis = (at, shape) => (at < 0 ? at + shape.length : at);

function stridesOf(shape) {
  const strides = new Array(shape.length);
  for (let at = shape.length - 1, step = 1; at >= 0; at--) { strides[at] = step; step *= shape[at]; }
  return strides;
}

// Entries of x along any strides, as a tensor of the given shape.
function strided(x, shape, strides, offset = 0) {
  const out = tensor(shape), n = out.data.length, depth = shape.length, index = new Array(depth).fill(0);
  for (let i = 0, at = offset; i < n; i++) {
    out.data[i] = x.data[at];
    for (let d = depth - 1; d >= 0; d--) {
      at += strides[d];
      if (++index[d] < shape[d]) break;
      at -= strides[d] * shape[d];
      index[d] = 0;
    }
  }
  return out;
}

function broadcast(x, shape) {
  if (typeof x === "number" || typeof x === "boolean") return tensor(shape, new Float64Array(sizeOf(shape)).fill(Number(x)));
  if (x.data.length === sizeOf(shape)) return x;
  const lead = shape.length - x.shape.length, steps = stridesOf(x.shape);
  return strided(x, shape, shape.map((_, d) => (d < lead || x.shape[d - lead] === 1 ? 0 : steps[d - lead])));
}

function mapped(x, f) {
  const out = tensor(x.shape);
  for (let i = 0; i < out.data.length; i++) out.data[i] = f(x.data[i]);
  return out;
}

function paired(a, b, shape, f) {
  const left = broadcast(a, shape).data, right = broadcast(b, shape).data, out = tensor(shape);
  for (let i = 0; i < out.data.length; i++) out.data[i] = f(left[i], right[i]);
  return out;
}

function product(a, b, rows, inner, columns, out, [fromA, fromB, fromOut] = [0, 0, 0]) {
  const left = a.data, right = b.data, made = out.data;
  for (let i = 0; i < rows; i++) for (let k = 0; k < inner; k++) {
    const factor = left[fromA + i * inner + k], end = fromOut + (i + 1) * columns;
    if (factor === 0) continue;
    for (let from = fromB + k * columns, to = fromOut + i * columns; to < end; from++, to++) made[to] += factor * right[from];
  }
  return out;
}

// The parts of a tensor before, along and behind an axis.
function around(x, dim) {
  const d = axis(dim, x.shape);
  return [sizeOf(x.shape.slice(0, d)), x.shape[d], sizeOf(x.shape.slice(d + 1))];
}

function narrow(x, dim, start, length, step = 1) {
  const d = axis(dim, x.shape), shape = x.shape.slice(), strides = stridesOf(x.shape), offset = start * strides[d];
  shape[d] = length; strides[d] *= step;
  return strided(x, shape, strides, offset);
}

function chosenAlong(x, dim, index, shape) {
  const [outer, size, inner] = around(x, dim), out = tensor(shape);
  let to = 0;
  for (let o = 0; o < outer; o++) for (const at of index.data) {
    const from = (o * size + (at < 0 ? at + size : at)) * inner;
    for (let i = 0; i < inner; i++) out.data[to++] = x.data[from + i];
  }
  return out;
}

function splitBy(x, sizes, dim) {
  let start = 0;
  return sizes.map((size) => { const part = narrow(x, dim, start, size); start += size; return part; });
}

function joined(parts, dim, shape) {
  const d = axis(dim, shape), out = tensor(shape), outer = sizeOf(shape.slice(0, d)), inner = sizeOf(shape.slice(d + 1));
  let start = 0;
  for (const part of parts) {
    if (!part.data.length) continue;
    const width = part.shape[d] * inner;
    for (let o = 0; o < outer; o++) out.data.set(part.data.subarray(o * width, (o + 1) * width), o * shape[d] * inner + start);
    start += width;
  }
  return out;
}

function alongLast(x, dims, f, shape) { // reduce several axes: they are moved to the end
  const gone = (dims === null || dims === undefined ? x.shape.map((_, d) => d) : [].concat(dims).map((d) => axis(d, x.shape)));
  if (!gone.length) gone.push(...x.shape.keys());
  const order = [...x.shape.keys()].filter((d) => !gone.includes(d)).concat(gone), steps = stridesOf(x.shape);
  const moved = strided(x, order.map((d) => x.shape[d]), order.map((d) => steps[d])).data;
  const length = sizeOf(gone.map((d) => x.shape[d])), out = tensor(shape);
  for (let i = 0; i < out.data.length; i++) out.data[i] = f(moved.subarray(i * length, (i + 1) * length));
  return out;
}

function softmaxed(x, dim, log) {
  const [outer, size, inner] = around(x, dim), out = tensor(x.shape);
  for (let o = 0; o < outer; o++) for (let i = 0; i < inner; i++) {
    const base = o * size * inner + i;
    let most = -Infinity, total = 0;
    for (let k = 0; k < size; k++) most = Math.max(most, x.data[base + k * inner]);
    for (let k = 0; k < size; k++) total += Math.exp(x.data[base + k * inner] - most);
    for (let k = 0; k < size; k++) {
      const shifted = x.data[base + k * inner] - most;
      out.data[base + k * inner] = log ? shifted - Math.log(total) : Math.exp(shifted) / total;
    }
  }
  return out;
}

const total = (values) => values.reduce((a, b) => a + b, 0);
const largest = (values) => values.reduce((a, b) => Math.max(a, b), -Infinity);
const sigmoid = (x) => (x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x)));
const softplus = (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));

function erf(x) { // a series near zero, a continued fraction beyond
  const size = Math.abs(x);
  if (size > 6) return Math.sign(x);
  if (size < 2.5) {
    let term = x, sum = x;
    for (let n = 1; n < 60; n++) { term *= -x * x / n; sum += term / (2 * n + 1); }
    return 2 / Math.sqrt(Math.PI) * sum;
  }
  let fraction = 0;
  for (let n = 60; n > 0; n--) fraction = n / 2 / (size + fraction);
  return Math.sign(x) * (1 - Math.exp(-x * x) / Math.sqrt(Math.PI) / (size + fraction));
}

// The first and the last of some places that a step and an offset carry to a place inside.
const inside = (count, limit, step, offset) => [Math.max(0, Math.ceil(-offset / step)), Math.min(count - 1, Math.floor((limit - 1 - offset) / step))];

function convolved(x, weight, bias, stride, padding, dilation, transposed, groups, shape) {
  const flat = x.shape.length === 3; // one axis of space stands as two
  const pad = (list, filler) => (list.length === 1 ? (flat ? [filler, list[0]] : [list[0], list[0]]) : list);
  const [stepY, stepX] = pad(stride, 1), [padY, padX] = pad(padding, 0), [gapY, gapX] = pad(dilation, 1);
  const room = (s) => (flat ? [s[0], s[1], 1, s[2]] : s);
  const [count, channels, height, width] = room(x.shape), [, made, tall, wide] = room(shape), kernel = room(weight.shape);
  const out = tensor(shape), [spanY, spanX] = kernel.slice(2), read = channels / groups, write = made / groups;
  if (bias) for (let n = 0, i = 0; n < count; n++) for (let c = 0; c < made; c++) for (let p = 0; p < tall * wide; p++) out.data[i++] = bias.data[c];
  for (let n = 0; n < count; n++) for (let g = 0; g < groups; g++) for (let i = 0; i < read; i++) for (let o = 0; o < write; o++) {
    const from = (n * channels + g * read + i) * height * width, to = (n * made + g * write + o) * tall * wide;
    const at = (transposed ? (g * read + i) * write + o : (g * write + o) * read + i) * spanY * spanX;
    // the smaller picture is read in whole, with steps on the larger one: what is made, where it is transposed
    const [few, wideFew, many, wideMany] = transposed ? [height, width, tall, wide] : [tall, wide, height, width];
    for (let ky = 0; ky < spanY; ky++) for (let kx = 0; kx < spanX; kx++) {
      const factor = weight.data[at + ky * spanX + kx], offY = ky * gapY - padY, offX = kx * gapX - padX;
      const [top, bottom] = inside(few, many, stepY, offY), [left, right] = inside(wideFew, wideMany, stepX, offX);
      for (let y = top; y <= bottom; y++) {
        let small = (transposed ? from : to) + y * wideFew + left, large = (transposed ? to : from) + (y * stepY + offY) * wideMany + left * stepX + offX;
        if (transposed) for (let v = left; v <= right; v++, small++, large += stepX) out.data[large] += factor * x.data[small];
        else for (let v = left; v <= right; v++, small++, large += stepX) out.data[small] += factor * x.data[large];
      }
    }
  }
  return out;
}

// Rows of equal length to mean 0 and variance 1.
function standardised(x, length, eps) {
  const out = tensor(x.shape);
  for (let start = 0; start < x.data.length; start += length) {
    const part = x.data.subarray(start, start + length), mean = total(part) / length;
    const scale = 1 / Math.sqrt(part.reduce((a, b) => a + (b - mean) ** 2, 0) / length + eps);
    for (let i = 0; i < length; i++) out.data[start + i] = (part[i] - mean) * scale;
  }
  return out;
}

function perChannel(x, f) { // channels are the second axis
  const inner = sizeOf(x.shape.slice(2)), channels = x.shape[1], out = tensor(x.shape);
  for (let i = 0; i < out.data.length; i++) out.data[i] = f(x.data[i], Math.floor(i / inner) % channels);
  return out;
}

const entry = (x, at, filler) => (x ? x.data[at] : filler);
const batchNormal = (x, weight, bias, mean, variance, eps) => perChannel(x, (v, c) =>
  (v - mean.data[c]) / Math.sqrt(variance.data[c] + eps) * entry(weight, c, 1) + entry(bias, c, 0));
const compared = (f) => (shapes, a, b) => paired(a, b, shapes[0], (x, y) => Number(f(x, y)));
const every = (f) => (shapes, x) => mapped(x, f);
const same = (shapes, x) => tensor(shapes[0], x.data);
const clamped = (x, low, high, shape) => {
  const above = low === null || low === undefined ? x : paired(x, low, shape, Math.max);
  return high === null || high === undefined ? above : paired(above, high, shape, Math.min);
};

const OPERATIONS = {
  relu: every((x) => Math.max(x, 0)), tanh: every(Math.tanh), sigmoid: every(sigmoid), exp: every(Math.exp), expm1: every(Math.expm1),
  log: every(Math.log), log1p: every(Math.log1p), neg: every((x) => -x), abs: every(Math.abs), sqrt: every(Math.sqrt),
  rsqrt: every((x) => 1 / Math.sqrt(x)), reciprocal: every((x) => 1 / x), sin: every(Math.sin), cos: every(Math.cos), erf: every(erf),
  floor: every(Math.floor), ceil: every(Math.ceil), sign: every(Math.sign),
  silu: every((x) => x * sigmoid(x)), logical_not: every((x) => Number(x === 0)), isnan: every((x) => Number(Number.isNaN(x))),
  log_sigmoid_forward: (shapes, x) => [mapped(x, (v) => -softplus(-v)), tensor([0])],
  gelu: (shapes, x, how) => mapped(x, how === "tanh"
    ? (v) => 0.5 * v * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (v + 0.044715 * v ** 3))) : (v) => 0.5 * v * (1 + erf(v / Math.SQRT2))),
  hardtanh: (shapes, x, low, high) => clamped(x, low, high, shapes[0]),
  elu: (shapes, x, alpha, scale, inner) => mapped(x, (v) => scale * (v > 0 ? v : alpha * Math.expm1(v * inner))),
  leaky_relu: (shapes, x, slope) => mapped(x, (v) => (v > 0 ? v : slope * v)),
  softplus: (shapes, x, beta, threshold) => mapped(x, (v) => (v * beta > threshold ? v : softplus(v * beta) / beta)),
  clamp: (shapes, x, low, high) => clamped(x, low, high, shapes[0]),
  clamp_min: (shapes, x, low) => clamped(x, low, null, shapes[0]), clamp_max: (shapes, x, high) => clamped(x, null, high, shapes[0]),
  add: (shapes, a, b, alpha) => paired(a, b, shapes[0], (x, y) => x + alpha * y),
  sub: (shapes, a, b, alpha) => paired(a, b, shapes[0], (x, y) => x - alpha * y),
  rsub: (shapes, a, b, alpha) => paired(a, b, shapes[0], (x, y) => y - alpha * x),
  mul: (shapes, a, b) => paired(a, b, shapes[0], (x, y) => x * y), pow: (shapes, a, b) => paired(a, b, shapes[0], Math.pow),
  div: (shapes, a, b, how) => paired(a, b, shapes[0], how === "floor" ? (x, y) => Math.floor(x / y) : how === "trunc" ? (x, y) => Math.trunc(x / y) : (x, y) => x / y),
  maximum: (shapes, a, b) => paired(a, b, shapes[0], Math.max), minimum: (shapes, a, b) => paired(a, b, shapes[0], Math.min),
  gt: compared((x, y) => x > y), ge: compared((x, y) => x >= y), lt: compared((x, y) => x < y), le: compared((x, y) => x <= y),
  eq: compared((x, y) => x === y), ne: compared((x, y) => x !== y),
  where: (shapes, chosen, a, b) => {
    const [shape] = shapes, which = broadcast(chosen, shape).data, yes = broadcast(a, shape).data, no = broadcast(b, shape).data;
    return mapped(tensor(shape, Float64Array.from(which.keys())), (i) => (which[i] ? yes[i] : no[i]));
  },
  alias: same, clone: same, detach: same, contiguous: same, _to_copy: same, view: same, _unsafe_view: same, reshape: same, unsqueeze: same,
  squeeze: same, flatten: same, lift_fresh_copy: same,
  t: (shapes, x) => (x.shape.length < 2 ? x : strided(x, shapes[0], stridesOf(x.shape).reverse())),
  transpose: (shapes, x, a, b) => {
    const steps = stridesOf(x.shape), one = axis(a, x.shape), other = axis(b, x.shape);
    [steps[one], steps[other]] = [steps[other], steps[one]];
    return strided(x, shapes[0], steps);
  },
  permute: (shapes, x, order) => { const steps = stridesOf(x.shape); return strided(x, shapes[0], order.map((d) => steps[axis(d, x.shape)])); },
  expand: (shapes, x) => broadcast(x, shapes[0]),
  slice: (shapes, x, dim, start, end, step) => {
    const d = axis(dim, x.shape), size = x.shape[d], from = start === null ? 0 : Math.min(start < 0 ? Math.max(start + size, 0) : start, size);
    return narrow(x, d, from, shapes[0][d], step);
  },
  select: (shapes, x, dim, at) => {
    const d = axis(dim, x.shape), steps = stridesOf(x.shape), offset = (at < 0 ? at + x.shape[d] : at) * steps[d];
    return strided(x, shapes[0], steps.filter((_, i) => i !== d), offset);
  },
  index: (shapes, x, indices) => chosenAlong(x, indices.findIndex((one) => one !== null), indices.find((one) => one !== null), shapes[0]),
  index_select: (shapes, x, dim, index) => chosenAlong(x, dim, index, shapes[0]),
  split: (shapes, x, size, dim) => splitBy(x, shapes.map((s) => s[axis(dim, x.shape)]), dim),
  split_with_sizes: (shapes, x, sizes, dim) => splitBy(x, sizes, dim),
  unbind: (shapes, x, dim) => shapes.map((s, at) => OPERATIONS.select([s], x, dim, at)),
  cat: (shapes, parts, dim) => joined(parts, dim, shapes[0]),
  stack: (shapes, parts, dim) => {
    const d = axis(dim, shapes[0]), shape = shapes[0].slice();
    shape[d] = 1;
    return joined(parts.map((part) => tensor(shape, part.data)), d, shapes[0]);
  },
  constant_pad_nd: (shapes, x, pad, value) => {
    const out = tensor(shapes[0]), steps = stridesOf(shapes[0]), own = stridesOf(x.shape), depth = x.shape.length;
    out.data.fill(value);
    for (let i = 0; i < x.data.length; i++) {
      let to = 0, inside = true;
      for (let d = 0; d < depth; d++) {
        const moved = Math.floor(i / own[d]) % x.shape[d] + (pad[2 * (depth - 1 - d)] || 0);
        inside = inside && moved >= 0 && moved < shapes[0][d];
        to += moved * steps[d];
      }
      if (inside) out.data[to] = x.data[i];
    }
    return out;
  },
  sum: (shapes, x, dims) => alongLast(x, dims, total, shapes[0]),
  mean: (shapes, x, dims) => alongLast(x, dims, (v) => total(v) / v.length, shapes[0]),
  amax: (shapes, x, dims) => alongLast(x, dims, largest, shapes[0]),
  argmax: (shapes, x, dim) => alongLast(x, dim, (v) => v.indexOf(largest(v)), shapes[0]),
  logsumexp: (shapes, x, dims) => alongLast(x, dims, (v) => { const m = largest(v); return m + Math.log(total(v.map((e) => Math.exp(e - m)))); }, shapes[0]),
  cumsum: (shapes, x, dim) => {
    const [outer, size, inner] = around(x, dim), out = tensor(x.shape, x.data.slice());
    for (let o = 0; o < outer; o++) for (let k = 1; k < size; k++) for (let i = 0; i < inner; i++) out.data[(o * size + k) * inner + i] += out.data[(o * size + k - 1) * inner + i];
    return out;
  },
  _softmax: (shapes, x, dim) => softmaxed(x, dim, false), _log_softmax: (shapes, x, dim) => softmaxed(x, dim, true),
  mm: (shapes, a, b) => product(a, b, a.shape[0], a.shape[1], b.shape[1], tensor(shapes[0])),
  addmm: (shapes, bias, a, b, beta, alpha) => {
    const found = product(a, b, a.shape[0], a.shape[1], b.shape[1], tensor(shapes[0]));
    return paired(found, bias, shapes[0], (x, y) => alpha * x + beta * y);
  },
  bmm: (shapes, a, b) => {
    const [count, rows, inner] = a.shape, columns = b.shape[2], out = tensor(shapes[0]);
    for (let n = 0; n < count; n++) product(a, b, rows, inner, columns, out, [n * rows * inner, n * inner * columns, n * rows * columns]);
    return out;
  },
  convolution: (shapes, x, weight, bias, stride, padding, dilation, transposed, extra, groups) =>
    convolved(x, weight, bias, stride, padding, dilation, transposed, groups, shapes[0]),
  native_layer_norm: (shapes, x, shape, weight, bias, eps) => {
    const length = sizeOf(shape), out = standardised(x, length, eps);
    for (let i = 0; i < out.data.length; i++) out.data[i] = out.data[i] * entry(weight, i % length, 1) + entry(bias, i % length, 0);
    return [out];
  },
  native_group_norm: (shapes, x, weight, bias, count, channels, inner, groups, eps) =>
    [perChannel(standardised(x, channels / groups * inner, eps), (v, c) => v * entry(weight, c, 1) + entry(bias, c, 0))],
  native_batch_norm: (shapes, x, weight, bias, mean, variance, training, momentum, eps) => [batchNormal(x, weight, bias, mean, variance, eps)],
  _native_batch_norm_legit_no_training: (shapes, x, weight, bias, mean, variance, momentum, eps) => [batchNormal(x, weight, bias, mean, variance, eps)],
  upsample_nearest2d: (shapes, x) => {
    const [, , height, width] = x.shape, [, , tall, wide] = shapes[0], out = tensor(shapes[0]);
    for (let i = 0; i < out.data.length; i++) {
      const plane = Math.floor(i / (tall * wide)), row = Math.floor(i / wide) % tall, column = i % wide;
      out.data[i] = x.data[(plane * height + Math.floor(row * height / tall)) * width + Math.floor(column * width / wide)];
    }
    return out;
  },
  pixel_shuffle: (shapes, x, by) => {
    const [, channels, tall, wide] = shapes[0].slice(-4), [height, width] = x.shape.slice(-2), out = tensor(shapes[0]);
    for (let i = 0; i < out.data.length; i++) {
      const v = i % wide, y = Math.floor(i / wide) % tall, c = Math.floor(i / (wide * tall)) % channels, n = Math.floor(i / (wide * tall * channels));
      out.data[i] = x.data[((n * channels * by * by + c * by * by + (y % by) * by + (v % by)) * height + Math.floor(y / by)) * width + Math.floor(v / by)];
    }
    return out;
  },
};

function argument(told, values, constants) {
  if (Array.isArray(told)) return told.map((one) => argument(one, values, constants));
  if (told === null || typeof told !== "object") return told;
  return "value" in told ? values[told.value] : constants[told.constant];
}

function run(graph, constants, start) {
  const values = { 0: start };
  for (const { name, args, out, shapes } of graph.operations) {
    const made = OPERATIONS[name](shapes, ...args.map((one) => argument(one, values, constants)));
    [].concat(made).forEach((value, at) => { values[out[at]] = value; });
  }
  return argument(graph.result, values, constants);
}

// ------------------------------------------------------------------------------------------ numbers from text
function bytesOf(text) {
  const binary = atob(text), bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes.buffer;
}

function fromHalf(bits) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * fraction / 1024);
}

const numbersOf = (text, half) => (half ? Float64Array.from(new Uint16Array(bytesOf(text)), fromHalf) : Float64Array.from(new Float32Array(bytesOf(text))));

function constantsOf(told) {
  const numbers = numbersOf(told.numbers, told.half);
  let start = 0;
  return told.shapes.map((shape) => tensor(shape, numbers.subarray(start, start += sizeOf(shape))));
}

// Latent values -> numbers of all columns, in model coordinates; (z, level of the label).
function decoderOf(told, latent) {
  if (told.grid) return gridDecoder(told.grid);
  const constants = constantsOf(told.constants);
  return (z, level) => run(told.graphs[level || 0], constants, tensor([1, latent], Float64Array.from(z))).data;
}

// Values at the crossings of a grid, blended between the four around.
function gridDecoder({ steps, low, high, mean, directions, numbers, outputs }) {
  const values = numbersOf(numbers, true);
  return (z) => {
    const place = directions.map((direction, d) => {
      const seen = total(direction.map((v, i) => v * (z[i] - mean[i]))), at = (seen - low[d]) / (high[d] - low[d]) * (steps - 1);
      return Math.min(Math.max(at, 0), steps - 1);
    });
    const [x, y] = place.map((at) => Math.min(Math.floor(at), steps - 2)), [right, up] = [place[0] - x, place[1] - y], out = new Float64Array(outputs);
    for (const [i, j, weight] of [[0, 0, (1 - right) * (1 - up)], [1, 0, right * (1 - up)], [0, 1, (1 - right) * up], [1, 1, right * up]]) {
      const from = ((y + j) * steps + x + i) * outputs;
      for (let k = 0; k < outputs; k++) out[k] += weight * values[from + k];
    }
    return out;
  };
}
