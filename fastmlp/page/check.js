"use strict";
// Predicts rows with the scripts and the networks of an exported page: node check.js PAGE < ROWS
// Rows are a list, in JSON, of lists of inputs or of objects; so are the predictions.

const {readFileSync} = require("fs");

const page = readFileSync(process.argv[2], "utf8");
const rows = JSON.parse(readFileSync(0, "utf8"));

/** Return the content of a script element. */
function contentOf(id) {
  return new RegExp(`<script[^>]* id="${id}">(.*?)</script>`, "s").exec(page)[1];
}

/** Return what a script of the page exports. */
function scriptOf(id) {
  const module = {};
  new Function("module", contentOf(id))(module);
  return module.exports;
}

const {modelOf, predictInputs} = scriptOf("network.js");
const [stored] = Object.values(JSON.parse(contentOf("networks")));
const model = modelOf(stored);
const encode = stored.table ? scriptOf("encoding.js").encodeRow : null;
const predict = (row) => predictInputs(model, encode ? encode(model.table, row) : row);

rows.slice(0, 50).forEach(predict);  // compiled from then on
const start = process.hrtime.bigint();
const predictions = rows.map(predict);
const microseconds = Number(process.hrtime.bigint() - start) / 1000 / rows.length;
const inWords = (number) => (Number.isFinite(number) ? number : String(number));  // JSON has no infinity
process.stdout.write(JSON.stringify({
  predictions: predictions.map((numbers) => Array.from(numbers, inWords)),
  microseconds,
  node: process.versions.node,
}));
