"use strict";
// A model of tables, or of rows of numbers, that is computed in the page.

/** Questions are objects of values by the names of columns, or lists of numbers. */
class HereTable extends HereModel {
  inputsOf(row) {
    if (this.model.table) return encodeRow(this.model.table, row);
    return Array.isArray(row) ? row : this.namesOf().map((name) => row[name]);
  }

  /** Return the names of the features: their own, or x0, x1, ... */
  namesOf() {
    const {columns, names, n_features: n} = this.about;
    return columns?.map(({name}) => name) ?? names ?? Array.from({length: n}, (_, i) => `x${i}`);
  }

  async explain(row) {
    const values = this.predict(row);
    return {values, columns: this.effects(row, values)};
  }

  /** Return what each value adds to the prediction, compared with its column's typical value. */
  effects(row, values) {
    const {columns, task} = this.about;
    if (!columns || Array.isArray(row)) return [];
    const which = task === "regression" ? 0 : largestOf(values);
    return columns.map(({name, typical}) => {
      const same = typical === null || row[name] === typical;
      return {name, effect: same ? 0 : values[which] - this.predict({...row, [name]: typical})[which]};
    });
  }

  /** Return a CSV text with predictions appended to its rows. */
  async predictTable(text, progress) {
    const {delimiter, header, records} = this.readRows(text);
    const rows = this.rowsOf(header, records, hasDecimalComma(records, delimiter));
    const written = [];
    let pause = performance.now() + 30;
    for (const [place, row] of rows.entries()) {
      const values = this.predict(row);
      if (!place) written.push([...header, ...predictedNames(this.about, values.length, header)]);
      written.push([...records[place], ...predictedCells(this.about, values)]);
      if (performance.now() > pause) {
        progress(place / rows.length);
        await new Promise((resume) => setTimeout(resume));
        pause = performance.now() + 30;
      }
    }
    return writeCsv(written, delimiter);
  }

  /** Return the table in a text. Rows of numbers need no names. */
  readRows(text) {
    const table = readTable(text, this.about.kind === "rows");
    return table.header ? table : {...table, header: this.namesOf()};
  }

  /** Return the rows of a table as questions; columns are matched by name. */
  rowsOf(header, records, decimalComma) {
    const {names, kind, n_features: n} = this.about;
    const needed = kind === "table" ? this.model.table.columns : this.namesOf().map((name) => ({name, kind: "number"}));
    const missing = needed.filter(({name}) => !header.includes(name)).map(({name}) => `"${name}"`);
    if (!missing.length) {
      const values = needed.map((column) => {
        const place = header.indexOf(column.name);
        const found = valuesOf(column, records.map((record) => record[place]), decimalComma);
        if (kind === "table" || !found.includes(null)) return found;
        throw new Error(`The column "${column.name}" must have a number in every row, got none in row ${found.indexOf(null) + 1}.`);
      });
      return records.map((_, row) =>
        Object.fromEntries(needed.map(({name}, place) => [name, values[place][row]])));
    }
    if (kind === "table" || names) {
      const more = missing.length > 5 ? ` and ${missing.length - 5} more` : "";
      throw new Error(`The file must have the columns that the model was trained on, but lacks ${missing.slice(0, 5).join(", ")}${more}.`);
    }
    if (header.length !== n) throw new Error(`The rows must have ${n} numbers, got ${header.length}.`);
    return records.map((record) => numbersIn(record, decimalComma));
  }
}

/** Return the names of the columns that are appended, other than those that are there. */
function predictedNames({task, classes}, n, header) {
  const labels = (classes ?? Array.from({length: n}, (_, place) => place)).map(labelText);
  const names = task === "classification" || n === 1 ? ["prediction"] : labels.map((label) => `prediction of ${label}`);
  if (classes) names.push(...labels.map((label) => `probability of ${label}`));
  return names.map((name) => {
    while (header.includes(name)) name += "_";
    return name;
  });
}

function predictedCells({task, classes}, values) {
  const numbers = values.map((value) => Number(value.toPrecision(7)));
  if (task === "regression") return numbers;
  if (task === "multilabel") return [...values.map((value) => (value > 0.5 ? 1 : 0)), ...numbers];
  return [labelText(classes[largestOf(values)]), ...numbers];
}
