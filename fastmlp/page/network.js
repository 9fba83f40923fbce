"use strict";
// The arithmetic of a model's networks. Node runs this file, too, to check an exported page.

// -------------------------------------------------------------------------------- stored arrays

function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

/** Return float16 numbers as float32. */
function fromHalves(halves) {
  const powers = Float64Array.from({length: 32}, (_, exponent) => 2 ** (Math.max(exponent, 1) - 25));
  return Float32Array.from(halves, (half) => {
    const exponent = (half >> 10) & 31;
    const size = ((half & 1023) + (exponent ? 1024 : 0)) * powers[exponent];
    return half >> 15 ? -size : size;
  });
}

/** Return stored numbers: one that is the same for all stands alone, others are {dtype, base64}. */
function numbersOf(stored, length) {
  if (typeof stored === "number") return new Float64Array(length).fill(stored);
  const {buffer} = bytesOf(stored.base64);
  switch (stored.dtype) {
    case "int8": return new Int8Array(buffer);
    case "float16": return fromHalves(new Uint16Array(buffer));
    case "float32": return new Float32Array(buffer);
    default: return new Float64Array(buffer);
  }
}

function layerOf({units: [nInputs, nUnits], coef, scale, intercept}) {
  const coefs = Float32Array.from(numbersOf(coef, nInputs * nUnits));
  const scales = numbersOf(scale, nUnits);
  for (let at = 0, unit = 0; at < coefs.length; at++, unit = unit + 1 < nUnits ? unit + 1 : 0) {
    coefs[at] *= scales[unit];
  }
  return {nInputs, nUnits, coefs, intercepts: numbersOf(intercept, nUnits)};
}

function networkOf({layers, activation, output, input_scale, target_scale}) {
  const found = layers.map(layerOf);
  const pair = (stored, length) => stored && stored.map((part) => numbersOf(part, length));
  return {
    layers: found,
    activation,
    output,
    inputScale: pair(input_scale, found[0].nInputs),
    targetScale: pair(target_scale, found.at(-1).nUnits),
  };
}

/** Return a model as it is computed with, from what an exported page stores. */
function modelOf(stored) {
  return {...stored, networks: stored.networks.map(networkOf)};
}

// ----------------------------------------------------------------------------------- the networks

const ACTIVATIONS = {
  identity: (z) => z,
  logistic: (z) => 1 / (1 + Math.exp(-z)),
  tanh: Math.tanh,
  relu: (z) => (z < 0 ? 0 : z),
  leaky_relu: (z) => (z > 0 ? z : 0.01 * z),
  gelu: (z) => 0.5 * z * (1 + Math.tanh(0.7978845608028654 * (z + 0.044715 * z * z * z))),
  silu: (z) => z / (1 + Math.exp(-z)),
  exp: Math.exp,
};

function activate(name, values) {
  if (name !== "softmax") return values.map(ACTIVATIONS[name]);
  const largest = values.reduce((a, b) => Math.max(a, b));
  const powers = values.map((z) => Math.exp(z - largest));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}

/** Return inputs times weights, plus intercepts. Inputs that are zero cost nothing. */
function sumsOf({nInputs, nUnits, coefs, intercepts}, inputs) {
  const sums = Float64Array.from(intercepts);
  for (let input = 0; input < nInputs; input++) {
    const value = inputs[input];
    if (value === 0) continue;
    const start = input * nUnits;
    for (let unit = 0; unit < nUnits; unit++) sums[unit] += value * coefs[start + unit];
  }
  return sums;
}

/** Return inputs as the first layer reads them, rounded to the model's dtype as the engine does. */
function scaledInputs({inputScale}, dtype, inputs) {
  const round = dtype === "float32" ? Math.fround : (x) => x;
  const scaled = new Float64Array(inputs.length);
  const [scale, shift] = inputScale ?? [];
  for (let i = 0; i < scaled.length; i++) {
    const x = round(inputs[i]);
    scaled[i] = inputScale ? round(x * scale[i] + shift[i]) : x;
  }
  return scaled;
}

/** Return the values of each layer after the inputs. */
function layerValues(network, dtype, inputs) {
  const {layers, activation, output, targetScale} = network;
  const values = [];
  let last = scaledInputs(network, dtype, inputs);
  layers.forEach((layer, place) => {
    last = activate(place === layers.length - 1 ? output : activation, sumsOf(layer, last));
    values.push(last);
  });
  if (targetScale) {
    const [scale, shift] = targetScale;
    values[values.length - 1] = last.map((value, i) => (value - shift[i]) / scale[i]);
  }
  return values;
}

function probabilitiesOf({task, dtype}, {output}, outputs) {
  if (task === "binary") return Float64Array.of(1 - outputs[0], outputs[0]);
  if (task !== "multiclass" || output !== "logistic") return outputs;
  // Equal if all outputs are 0 in the dtype of the model.
  const isSingle = dtype === "float32";
  const least = isSingle ? 2 ** -126 : 2 ** -1022;
  const positive = outputs.map((value) => (isSingle ? Math.fround(value) : value) + least);
  const sum = positive.reduce((a, b) => a + b);
  return positive.map((value) => value / sum);
}

/** Return the mean of the networks' probabilities, or numbers, for the inputs of a row. */
function predictInputs(model, inputs) {
  const parts = model.networks.map((network) =>
    probabilitiesOf(model, network, layerValues(network, model.dtype, inputs).at(-1)));
  return parts[0].map((_, i) => parts.reduce((sum, part) => sum + part[i], 0) / parts.length);
}

if (typeof module === "object") module.exports = {modelOf, predictInputs, layerValues};
