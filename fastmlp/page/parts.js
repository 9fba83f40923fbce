"use strict";
// What the drawing page and the form share.

/** Return an element. Attributes that are functions or booleans are set as properties. */
function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "string") node.setAttribute(name, value);
    else node[name] = value;
  }
  node.append(...children);
  return node;
}

/** Return the parts of a template's copy by the names that it gives them. */
function partsOf(root) {
  return Object.fromEntries([...root.querySelectorAll("[data-part]")].map((part) => [part.dataset.part, part]));
}

function labelText(label) {
  return typeof label === "boolean" ? (label ? "True" : "False") : String(label);
}

function percent(share) {
  return `${(100 * share).toFixed(1)}%`;
}

/** Return a number with about as many digits as are of use. */
function short(number, digits = 5) {
  if (!Number.isFinite(number)) return String(number);
  const size = Math.abs(number);
  if (size && (size < 1e-4 || size >= 1e12)) return number.toExponential(digits - 1);
  const decimals = size ? Math.max(0, digits - 1 - Math.floor(Math.log10(size))) : 0;
  return number.toLocaleString("en", {maximumFractionDigits: Math.min(decimals, 12)}).replace("-", "\u2212");
}

function largestOf(values) {
  return values.indexOf(Math.max(...values));
}

/** Return a function that calls another one in the next frame, however often it is called before. */
function inNextFrame(call) {
  let isAsked = false;
  return () => {
    if (isAsked) return;
    isAsked = true;
    requestAnimationFrame(() => { isAsked = false; call(); });
  };
}

/** Return a function that calls another one when it has not been called for a while. */
function whenQuiet(call, milliseconds) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(call, milliseconds, ...values);
  };
}

/** Asks a model one question at a time; of those that wait, only the latest is asked. */
class Questions {
  constructor(ask, answered, failed) {
    Object.assign(this, {ask, answered, failed});
    this.waiting = this.current = null;
    this.isBusy = false;
  }

  /** Ask; null drops the questions that wait, and the answer under way. */
  async put(question) {
    this.waiting = this.current = question;
    if (this.isBusy) return;
    this.isBusy = true;
    while (this.waiting !== null) {
      const asked = this.waiting;
      this.waiting = null;
      try {
        const answer = await this.ask(asked);
        if (this.current !== null) this.answered(answer, asked);
      } catch (error) {
        if (this.current !== null) this.failed(error);
      }
    }
    this.isBusy = false;
  }
}

// ------------------------------------------------------------------------------------ predictions

/** The prediction in large type, and a bar for each class, or for the ten most likely of many. */
class Result {
  constructor(parts, about) {
    Object.assign(this, parts);
    this.about = about;
    this.isNumber = about.task === "regression";
    const n = this.isNumber ? 0 : Math.min(about.classes.length, 10);
    this.rows = Array.from({length: n}, () => {
      const [name, fill, share] = ["name", "fill", "share"].map((kind) => element("span", {class: kind}));
      const track = element("span", {class: "track", "aria-hidden": "true"}, fill);
      return {node: element("li", {}, name, track, share), name, fill, share};
    });
    this.bars.replaceChildren(...this.rows.map(({node}) => node));
    this.bars.hidden = !n;
    this.say = whenQuiet((text) => { this.status.textContent = text; }, 500);
  }

  /** Show that there is nothing to predict. */
  empty(hint) {
    this.verdict.replaceChildren(element("span", {class: "hint"}, hint));
    this.verdict.title = "";
    this.barsOf([]);
    this.say("");
  }

  /** Show predicted numbers: of classifiers, probabilities. */
  show(values) {
    const [main, note] = this.texts(values);
    const strong = element("strong", {}, main);
    strong.classList.toggle("long", main.length > 3);
    this.verdict.replaceChildren(strong, element("span", {class: "hint"}, note));
    this.notice.hidden = true;
    this.barsOf(values);
    this.say(`${main}, ${note}`);
  }

  fail(error) {
    this.notice.textContent = error.message;
    this.notice.hidden = false;
  }

  texts(values) {
    const {task, classes, target} = this.about;
    if (task === "regression") return [values.map((value) => short(value)).join(", "), target ?? "predicted"];
    if (task === "multilabel") {
      const labels = classes.filter((_, i) => values[i] > 0.5).map(labelText);
      return [labels.join(", ") || "none", "labels above 50%"];
    }
    const best = largestOf(values);
    return [labelText(classes[best]), percent(values[best])];
  }

  barsOf(values) {
    const {task, classes} = this.about;
    if (this.isNumber) return;
    let places = classes.map((_, place) => place);
    if (classes.length > this.rows.length) places.sort((a, b) => (values[b] ?? 0) - (values[a] ?? 0));
    const best = largestOf(values);
    this.rows.forEach(({node, name, fill, share}, row) => {
      const place = places[row], value = values[place];
      const isShown = value !== undefined;
      name.textContent = isShown || classes.length <= this.rows.length ? labelText(classes[place]) : "\u00a0";
      name.title = name.textContent;
      share.textContent = isShown ? percent(value) : "\u2013";
      fill.style.transform = `scaleX(${isShown ? value : 0})`;
      node.classList.toggle("best", isShown && (task === "multilabel" ? value > 0.5 : place === best));
    });
  }
}
