"use strict";
// The page of a model of tables: a form for a row, what mattered, and files of many rows.

const FIRST_COLUMNS = 12;  // of many: the others are shown on demand
const LONG_LIST = 12;  // of categories, from which on one can search
const EFFECTS = 8;
const PREVIEW = 5;

// ---------------------------------------------------------------------------------------- fields

/** A control for the value of a column; null is missing. */
class Field {
  constructor(column, place, canBeMissing, changed) {
    this.column = column;
    this.canBeMissing = canBeMissing;
    const id = `column-${place}`;
    const controls = {number: numberControl, date: dateControl, boolean: booleanControl, category: categoryControl};
    this.control = controls[column.kind](column, id);
    this.missing = element("input", {type: "checkbox"});
    const mark = element("label", {class: "missing"}, this.missing, " missing");
    mark.hidden = !canBeMissing;
    const name = element("label", column.kind === "boolean" ? {} : {for: id}, column.name);
    this.node = element("div", {class: "field"}, name, mark,
      element("div", {class: "control"}, ...this.control.nodes));
    this.missing.addEventListener("change", () => {
      this.show(this.missing.checked ? null : this.last);
      changed();
    });
    for (const node of this.control.nodes) {
      node.addEventListener("input", (event) => {
        this.control.follow?.(event);
        this.take();
        changed();
      });
    }
    this.reset();
  }

  /** Whether what was entered is a value of the column, or is missing and may be. */
  get isComplete() {
    return this.missing.checked ? this.canBeMissing : !this.control.isPartial?.();
  }

  get value() {
    return this.missing.checked ? null : this.last;
  }

  reset() {
    const {kind, typical, values} = this.column;
    this.last = typical ?? (kind === "number" ? 0 : values?.[0] ?? null);
    this.show(this.last);
  }

  show(value) {
    this.control.write(value ?? this.last);
    this.mark(value === null);
  }

  /** Take what was entered: nothing is a missing value. */
  take() {
    if (this.control.isPartial?.()) return;
    const value = this.control.read();
    this.mark(value === null);
    if (value !== null) this.last = value;
  }

  mark(isMissing) {
    this.missing.checked = isMissing;
    this.node.classList.toggle("is-missing", isMissing);
  }
}

/** Return a step of 1, 2 or 5 times a power of ten, about a hundredth of the range. */
function stepOf({low, high, typical}) {
  const size = 10 ** Math.floor(Math.log10((high - low) / 100));
  const step = [1, 2, 5, 10].map((n) => n * size).find((s) => (high - low) / s <= 200);
  const areIntegers = [low, high, typical].every(Number.isInteger);
  return areIntegers ? Math.max(1, step) : step;
}

function numberControl(column, id) {
  const hasRange = column.high > column.low;
  const number = element("input", {id, type: "number", step: "any", autocomplete: "off"});
  const read = () => (number.value === "" ? null : Number(number.value));
  const isPartial = () => number.validity.badInput;
  if (!hasRange) return {nodes: [number], read, isPartial, write: (value) => { number.value = value; }};
  const step = stepOf(column);
  const decimals = Math.max(0, -Math.floor(Math.log10(step)));
  const [min, max] = [Math.floor(column.low / step) * step, Math.ceil(column.high / step) * step];
  const range = element("input", {
    type: "range", "aria-label": `${column.name}, slider`, min: String(min), max: String(max), step: "any",
  });
  return {
    nodes: [range, number],
    read,
    isPartial,
    write: (value) => { number.value = range.value = value; },
    follow: ({target}) => {
      if (target === number) range.value = number.value || column.typical;
      else number.value = (Math.round(range.value / step) * step).toFixed(decimals);
    },
  };
}

function dateControl(column, id) {
  const date = element("input", {id, type: "date"});
  return {
    nodes: [date],
    read: () => date.value || null,
    isPartial: () => date.validity.badInput,
    write: (value) => { date.value = value ?? ""; },
  };
}

function booleanControl({name, values}, id) {
  const box = element("span", {class: "choices", role: "radiogroup", "aria-label": name});
  const inputs = values.map((value) => {
    const input = element("input", {type: "radio", name: id});
    box.append(element("label", {}, input, element("span", {}, labelText(value))));
    return input;
  });
  return {
    nodes: [box],
    read: () => values[inputs.findIndex(({checked}) => checked)] ?? null,
    write: (value) => inputs.forEach((input, place) => { input.checked = values[place] === value; }),
  };
}

function categoryControl({values}, id) {
  const options = values.map((value) => element("option", {value}, value));
  if (values.length && values.length < LONG_LIST) {
    const select = element("select", {id}, ...options);
    return {nodes: [select], read: () => select.value, write: (value) => { select.value = value; }};
  }
  const list = element("datalist", {id: `${id}-list`}, ...options);
  const input = element("input", {id, autocomplete: "off", spellcheck: false});
  input.setAttribute("list", list.id);
  const note = element("small", {class: "note"}, "not seen in training");
  const known = new Set(values);
  const judge = () => { note.hidden = !input.value || known.has(input.value); };
  return {
    nodes: [input, list, note],
    read: () => input.value || null,
    write: (value) => { input.value = value ?? ""; judge(); },
    follow: judge,
  };
}

// ----------------------------------------------------------------------------------- what mattered

/** The columns by how much they changed the prediction, as bars to the right or to the left. */
class Effects {
  constructor({effects, meaning}, about) {
    this.about = about;
    this.list = effects;
    this.meaning = meaning;
    this.rows = Array.from({length: Math.min(EFFECTS, about.columns?.length ?? 0)}, () => {
      const [name, fill, value] = ["name", "fill", "share"].map((kind) => element("span", {class: kind}));
      const node = element("li", {}, name, element("span", {class: "track", "aria-hidden": "true"}, fill), value);
      return {node, name, fill, value};
    });
    this.list.replaceChildren(...this.rows.map(({node}) => node));
  }

  show(columns, values) {
    const {task, classes, target} = this.about;
    const isNumber = task === "regression";
    const sorted = [...columns].sort((a, b) => Math.abs(b.effect) - Math.abs(a.effect));
    const largest = Math.abs(sorted[0]?.effect ?? 0);
    const least = isNumber ? 0 : 0.0005;
    this.rows.forEach(({node, name, fill, value}, row) => {
      const {name: column, effect} = sorted[row] ?? {effect: 0};
      const isShown = Math.abs(effect) > least;
      node.classList.toggle("empty", !isShown);
      node.classList.toggle("minus", effect < 0);
      name.textContent = isShown ? column : "\u00a0";
      value.textContent = isShown ? signed(effect, isNumber) : "";
      fill.style.transform = `scaleX(${isShown ? Math.abs(effect) / largest : 0})`;
    });
    const what = isNumber ? `the predicted ${target ?? "number"}` : `the probability of ${labelText(classes[largestOf(values)])}`;
    this.meaning.textContent = largest > least
      ? `How far each value alone moves ${what} up (right) or down (left), compared with the typical value of its column.`
      : `All values are typical, or hardly matter. Change some to see what moves ${what}.`;
  }
}

function signed(effect, isNumber) {
  const size = isNumber ? short(Math.abs(effect), 4) : `${(100 * Math.abs(effect)).toFixed(1)}%`;
  return (effect < 0 ? "\u2212" : "+") + size;
}

// --------------------------------------------------------------------------------------- the page

class FormView {
  constructor(root, model, signal) {
    const {about} = model;
    Object.assign(this, {model, about, signal, parts: partsOf(root)});
    this.result = new Result(this.parts, about);
    this.effects = new Effects(this.parts, about);
    this.parts.effects.closest("section").hidden = !this.explains;
    this.questions = new Questions(
      (row) => model.explain(row),
      ({values, columns}) => {
        this.result.show(values);
        this.effects.show(columns ?? [], values);
      },
      (error) => this.result.fail(error),
    );
    this.update = inNextFrame(() => this.ask());
    if (about.columns) this.addFields();
    else this.addPasteField();
    this.listenToFiles(signal);
    this.update();
  }

  get explains() {
    return Boolean(this.about.columns?.some(({typical}) => typical !== null));
  }

  // ------------------------------------------------------------------------------------- one row

  async addFields() {
    const {columns, kind} = this.about;
    const {fields, filter, reset, more} = this.parts;
    this.fields = columns.map((column, place) => new Field(column, place, kind === "table", this.update));
    fields.append(...this.fields.map(({node}) => node));
    fields.addEventListener("submit", (event) => event.preventDefault());
    reset.addEventListener("click", () => {
      this.fields.forEach((field) => field.reset());
      this.update();
    });
    const isLong = columns.length > FIRST_COLUMNS;
    filter.hidden = more.hidden = !isLong;
    if (!isLong) return;
    let showsAll = false;
    const show = () => {
      const wanted = filter.value.trim().toLowerCase();
      this.fields.forEach(({node, column}, place) => {
        node.hidden = wanted ? !column.name.toLowerCase().includes(wanted) : !showsAll && place >= FIRST_COLUMNS;
      });
      more.hidden = Boolean(wanted) || showsAll;
    };
    more.textContent = `Show all ${columns.length} columns`;
    more.addEventListener("click", () => { showsAll = true; show(); this.fields[FIRST_COLUMNS].node.querySelector("input, select").focus(); });
    filter.addEventListener("input", show);
    fields.hidden = true;  // instead of moving
    try {
      await this.sortFields();
    } catch (error) {
      this.result.fail(error);
    }
    show();
    fields.hidden = false;
  }

  /** Move the fields of columns that matter most to the front, where values can differ from typical. */
  async sortFields() {
    if (!this.explains) return;
    const importance = new Map(this.fields.map((field) => [field, 0]));
    for (const end of [0, 1]) {
      const row = Object.fromEntries(this.fields.map(({column}) => [column.name, otherValue(column, end)]));
      const {columns} = await this.model.explain(row);
      const effects = new Map(columns.map(({name, effect}) => [name, Math.abs(effect)]));
      for (const [field, most] of importance) importance.set(field, Math.max(most, effects.get(field.column.name) ?? 0));
    }
    this.fields.sort((a, b) => importance.get(b) - importance.get(a));
    this.parts.fields.append(...this.fields.map(({node}) => node));
  }

  /** One field for all numbers of a row without names. */
  addPasteField() {
    const n = this.about.n_features;
    const {fields, filter, reset, more} = this.parts;
    filter.hidden = more.hidden = true;
    this.text = element("textarea", {id: "numbers", rows: 6, spellcheck: false});
    fields.append(element("div", {class: "field wide"},
      element("label", {for: "numbers"}, `${n} numbers, separated by commas or blanks`), this.text));
    this.text.addEventListener("input", this.update);
    reset.addEventListener("click", () => { this.text.value = ""; this.update(); });
  }

  ask() {
    if (!this.text) {
      const open = this.fields.find((field) => !field.isComplete);
      this.questions.put(open ? null : Object.fromEntries(this.fields.map((field) => [field.column.name, field.value])));
      if (open) this.result.empty(`Enter a ${open.column.kind} for ${open.column.name}`);
      return;
    }
    const words = this.text.value.trim().split(/[\s,;]+/).filter(Boolean);
    const n = this.about.n_features;
    this.questions.put(null);
    this.parts.notice.hidden = true;
    this.result.empty(words.length ? `${words.length} of ${n} numbers` : "Paste a row");
    try {
      const numbers = numbersIn(words);
      if (numbers.length === n) this.questions.put(numbers);
    } catch (error) {
      this.result.fail(error);
    }
  }

  // ------------------------------------------------------------------------------------ many rows

  listenToFiles(signal) {
    const {choose, file} = this.parts;
    choose.addEventListener("click", () => file.click());
    file.addEventListener("change", () => { this.predictFile(file.files[0]); file.value = ""; });
    onDrop(({files}) => this.predictFile(files[0]), signal);
  }

  async predictFile(file) {
    const {batch, complaint} = this.parts;
    if (!file) return;
    complaint.hidden = true;
    try {
      const progress = element("progress", {max: 1, value: 0});
      batch.replaceChildren(element("p", {}, `Predicting ${file.name} `, progress));
      const text = await this.model.predictTable(await textOf(file), (share) => { progress.value = share; });
      this.showTable(text, file.name.replace(/(\.[^.]*)?$/, "-predicted.csv"));
    } catch (error) {
      batch.replaceChildren();
      complaint.textContent = `${file.name}: ${error.message}`;
      complaint.hidden = false;
    }
    this.parts.batch.closest("section").scrollIntoView({block: "nearest"});
  }

  /** Show the first rows of a table, with the predictions in front, and a link to all of it. */
  showTable(text, name) {
    const {header, records} = readTable(text);
    URL.revokeObjectURL(this.url);
    this.url = URL.createObjectURL(new Blob([text], {type: "text/csv"}));
    const isNew = (place) => /^prediction( of .*)?_*$|^probability of /.test(header[place]);
    const places = header.map((_, place) => place).sort((a, b) => isNew(b) - isNew(a));
    const cells = (tag, record) => places.map((place) =>
      element(tag, {class: isNew(place) ? "new" : ""}, tag === "td" && isNew(place) ? shortCell(record[place]) : record[place]));
    this.parts.batch.replaceChildren(
      element("p", {},
        element("a", {class: "button", href: this.url, download: name}, `Download ${name}`),
        ` ${records.length.toLocaleString("en")} rows`),
      element("div", {class: "scroll", tabIndex: 0, role: "region", "aria-label": "First rows with predictions"},
        element("table", {},
          element("thead", {}, element("tr", {}, ...cells("th", header))),
          element("tbody", {}, ...records.slice(0, PREVIEW).map((record) => element("tr", {}, ...cells("td", record)))))),
      element("p", {class: "note"}, records.length > PREVIEW ? `The first ${PREVIEW} rows, predictions first.` : "All rows, predictions first."));
  }
}

/** Return a value of a column other than its typical one: one of two, if there are so many. */
function otherValue({kind, typical, low, high, values}, end) {
  if (kind === "number" || kind === "date") return [low, high][end] ?? typical;
  const others = values.filter((value) => value !== typical);
  return others[Math.min(end, others.length - 1)] ?? typical;
}

function shortCell(cell) {
  return NUMBER.test(cell) ? short(Number(cell)) : cell;
}
