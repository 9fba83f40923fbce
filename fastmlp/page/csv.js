"use strict";
// Tables as text: reading and writing CSV, and what the cells of a column mean.

const MISSING_WORDS = new Set(["", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NAN", "-nan", "NULL", "Null", "null", "?"]);
const NUMBER = /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i;

/**
 * Return the records of a CSV text as lists of cells (RFC 4180): cells in quotes may contain
 * delimiters, line breaks and doubled quotes. Empty lines are skipped.
 */
function parseCsv(text, delimiter, limit = Infinity) {
  const records = [];
  let record = [], cell = "", at = 0, line = 1;
  const endCell = () => { record.push(cell); cell = ""; };
  const endRecord = () => {
    endCell();
    if (record.length > 1 || record[0] !== "") records.push(record);
    record = [];
  };
  while (at < text.length && records.length < limit) {
    const letter = text[at];
    if (letter === '"' && cell === "") {
      const opened = line;
      for (at++; ; at++) {
        const end = text.indexOf('"', at);
        if (end < 0) throw new Error(`Line ${opened}: a cell begins with a quote that is not closed.`);
        const part = text.slice(at, end);
        line += part.split("\n").length - 1;
        cell += part;
        at = end + 1;
        if (text[at] !== '"') break;
        cell += '"';
      }
    } else if (letter === delimiter) {
      endCell();
      at++;
    } else if (letter === "\n" || letter === "\r") {
      endRecord();
      at += letter === "\r" && text[at + 1] === "\n" ? 2 : 1;
      line++;
    } else {
      cell += letter;
      at++;
    }
  }
  if (cell !== "" || record.length) endRecord();
  return records;
}

/** Return the delimiter by which the first records have the same number of cells, two or more. */
function delimiterOf(text) {
  let best = ",", bestShare = 0;
  for (const delimiter of ["\t", ";", "|", ","]) {
    let records = [];
    try {
      records = parseCsv(text, delimiter, 50);
    } catch {
      continue;  // a quote that is none by this delimiter
    }
    const n = records[0]?.length ?? 0;
    const share = records.filter((record) => record.length === n).length / records.length;
    if (n > 1 && share > bestShare) [best, bestShare] = [delimiter, share];
  }
  return best;
}

/**
 * Return {delimiter, header, records} of a table of any dialect, with names in its first line. If
 * `isNumbers`, a first line of numbers is a record, and the header null.
 */
function readTable(text, isNumbers = false) {
  const declared = /^sep=(.)\r?\n/.exec(text);
  const body = declared ? text.slice(declared[0].length) : text;
  const delimiter = declared ? declared[1] : delimiterOf(body);
  const records = parseCsv(body, delimiter);
  const isNamed = !isNumbers || records[0]?.some((cell) => Number.isNaN(numberIn(cell, delimiter !== ",")));
  const header = isNamed ? records.shift() ?? [] : null;
  if (!records.length) throw new Error("The file must have a line of names and rows below it, got no rows.");
  const n = (header ?? records[0]).length;
  records.forEach((record, row) => {
    if (record.length === n) return;
    throw new Error(`Row ${row + 1} must have ${n} cells, as the first line, got ${record.length}.`);
  });
  const twice = header?.find((name, place) => header.indexOf(name) !== place);
  if (twice !== undefined) throw new Error(`The columns must have different names, got "${twice}" more than once.`);
  return {delimiter, header, records};
}

function writeCsv(records, delimiter) {
  const quoted = (cell) => (/["\r\n]/.test(cell) || cell.includes(delimiter) ? `"${cell.replaceAll('"', '""')}"` : cell);
  return records.map((record) => record.map((cell) => quoted(String(cell))).join(delimiter) + "\r\n").join("");
}

/** Return the text of a file: UTF-8 or UTF-16 with a mark, otherwise UTF-8 or Windows-1252. */
async function textOf(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const mark = {"255,254": "utf-16le", "254,255": "utf-16be"}[bytes.slice(0, 2).join()];
  try {
    return new TextDecoder(mark ?? "utf-8", {fatal: true}).decode(bytes);
  } catch {
    return new TextDecoder("windows-1252").decode(bytes);
  }
}

// ------------------------------------------------------------------------------ cells of a column

/** Return whether numbers are written with a decimal comma. */
function hasDecimalComma(records, delimiter) {
  const has = (pattern) => records.some((record) => record.some((cell) => pattern.test(cell.trim())));
  return delimiter !== "," && has(/^[-+]?\d+,\d+$/) && !has(/^[-+]?\d+\.\d+$/);
}

/** Return a number as text, NaN if it is none. */
function numberIn(cell, decimalComma) {
  const word = decimalComma ? cell.trim().replace(",", ".") : cell.trim();
  return NUMBER.test(word) ? Number(word) : NaN;
}

/** Return cells as numbers; refuse other cells. */
function numbersIn(cells, decimalComma = false) {
  return cells.map((cell) => {
    const number = numberIn(cell, decimalComma);
    if (Number.isNaN(number)) throw new Error(`The cells must be numbers, got "${cell}".`);
    return number;
  });
}

const DATE_LAYOUTS = [
  /^(?<y>\d{4})-(?<m>\d\d?)-(?<d>\d\d?)/, /^(?<y>\d{4})[/.](?<m>\d\d?)[/.](?<d>\d\d?)/,
  /^(?<d>\d\d?)[-.](?<m>\d\d?)[-.](?<y>\d{4})/, /^(?<m>\d\d?)[-/](?<d>\d\d?)[-/](?<y>\d{4})/,
  /^(?<d>\d\d?)\/(?<m>\d\d?)\/(?<y>\d{4})/,
];

function isoDate(cell, layout) {
  const found = layout.exec(cell);
  if (!found) return null;
  const {y, m, d} = found.groups;
  const text = `${y}-${m.padStart(2, "0")}-${d.padStart(2, "0")}${cell.slice(found[0].length)}`;
  return Number.isNaN(daysOf(text.toLowerCase())) ? null : text;
}

/** Return the values of a column's cells: null if missing, dates in ISO's form, else numbers or text. */
function valuesOf(column, cells, decimalComma) {
  const {name, kind} = column;
  const known = cells.map((cell) => (MISSING_WORDS.has(cell.trim()) ? null : cell));
  const mapped = (convert) => known.map((cell) => (cell === null ? null : convert(cell)));
  if (kind === "date") {
    const dates = DATE_LAYOUTS.map((layout) => mapped((cell) => isoDate(cell.trim(), layout)));
    const fitting = dates.find((values) => values.every((value, row) => value !== null || known[row] === null));
    if (fitting) return fitting;
    const strange = known.find((cell, row) => cell !== null && dates[0][row] === null);
    throw new Error(`The column "${name}" must hold dates such as 2024-12-31, got "${strange}".`);
  }
  if (kind === "category") {
    const numbers = mapped((cell) => numberIn(cell, decimalComma));
    return numbers.some(Number.isNaN) ? known : numbers.map((value) => (value === null ? null : String(value)));
  }
  return mapped((cell) => {
    const number = numberIn(cell, decimalComma);
    return Number.isNaN(number) ? columnNumber(column, cell) : number;
  });
}

if (typeof module === "object") module.exports = {parseCsv, readTable, writeCsv, valuesOf, hasDecimalComma, delimiterOf};
