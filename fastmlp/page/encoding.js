"use strict";
// What the pipeline of a model does with a row of a table, before the networks.

/** Return days since 1970 of an ISO date in lower case, with or without a time, in UTC. */
function daysOf(text) {
  const isDate = /^\d{4}-\d\d-\d\d([t ]\d\d:\d\d(:\d\d(\.\d+)?)?)?$/.test(text);
  const time = isDate ? Date.parse(`${text.replace(/[t ]/, "T")}${text.length > 10 ? "Z" : ""}`) : NaN;
  return time / 86_400_000;
}

/** Return the number that a column has for a value; refuse values that it cannot have. */
function columnNumber({name, kind, words}, value) {
  let number = typeof value === "string" ? NaN : Number(value);
  if (typeof value === "string") {
    const [word, ...pair] = [value, ...(words ?? ["False", "True"])].map((w) => w.trim().toLowerCase());
    if (kind === "date") number = daysOf(word);
    if (kind === "boolean" && pair.includes(word)) number = pair.indexOf(word);
  }
  if (!Number.isNaN(number)) return number;
  const rule = {number: "numbers", date: "dates such as 2024-12-31", boolean: words?.join(" or ") ?? "booleans"};
  throw new Error(`The column "${name}" must hold ${rule[kind]}, got "${value}".`);
}

/** Return a number as the network reads it. */
function scaledNumber({center, scale, is_binary}, value) {
  if (is_binary) return Math.min(Math.max(value, 0), 1) - center;
  const x = Math.min(Math.max((value - center) * scale, -1e9), 1e9);
  return x / Math.sqrt(1 + (x / 3) ** 2);
}

/** Return the inputs for a row, an object of values by the names of columns; null is missing. */
function encodeRow({columns, n_inputs}, row) {
  const inputs = new Float32Array(n_inputs);
  const set = (place, value) => { if (place >= 0) inputs[place] = value; };
  for (const column of columns) {
    const value = Object.hasOwn(row, column.name) ? row[column.name] : null;
    if (value === null || Number.isNaN(value)) {
      set(column.missing, 1);
    } else if (column.kind === "category") {
      const word = String(value);
      set(Object.hasOwn(column.inputs, word) ? column.inputs[word] : column.unknown, 1);
    } else {
      set(column.input, scaledNumber(column, columnNumber(column, value)));
    }
  }
  return inputs;
}

if (typeof module === "object") module.exports = {encodeRow, daysOf, columnNumber};
