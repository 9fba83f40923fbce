"use strict";
// The page: a menu of models, the view of the one that is chosen, and its card.

/** Call with dropped files; the page shows that they can be dropped. */
function onDrop(dropped, signal) {
  const mark = (isOver) => document.body.classList.toggle("dropping", isOver);
  document.addEventListener("dragover", (event) => { event.preventDefault(); mark(true); }, {signal});
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) mark(false); }, {signal});
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    mark(false);
    dropped(event.dataTransfer);
  }, {signal});
}

/** Return plain JSON as lists of names and values. */
function cardOf(content) {
  if (content === null || typeof content !== "object") {
    return document.createTextNode(typeof content === "number" ? short(content, 7) : String(content ?? "\u2013"));
  }
  if (Array.isArray(content)) {
    const texts = content.slice(0, 30).map((item) => (item && typeof item === "object" ? JSON.stringify(item) : String(item)));
    return document.createTextNode(texts.join(", ") + (content.length > 30 ? `, ... (${content.length})` : ""));
  }
  const entries = Object.entries(content).map(([name, value]) =>
    element("div", {class: value && typeof value === "object" && !Array.isArray(value) ? "group" : ""},
      element("dt", {}, name), element("dd", {}, cardOf(value))));
  return element("dl", {}, ...entries);
}

function summaryOf({kind, task, classes, shape, target, columns, n_features: n}) {
  const from = kind === "images" ? `images of ${shape[1]} \u00d7 ${shape[0]} pixels`
    : `${columns?.length ?? n} ${kind === "table" ? "columns" : "numbers"}`;
  const what = target ?? (task === "regression" ? "numbers" : `one of ${classes.length} classes`);
  return `Predicts ${task === "multilabel" ? `any of ${classes.length} labels` : what} from ${from}.`;
}

/** Round what is shown of columns: float32 writes 2.4 as 2.4000000953674316. */
function roundColumns({columns}) {
  for (const column of columns ?? []) {
    if (column.kind !== "number") continue;
    for (const name of ["typical", "low", "high"]) {
      column[name] &&= Number(column[name].toPrecision(6));
    }
  }
}

/** Show a model; the signal of the returned controller ends its listeners. */
function showModel(model) {
  const {about} = model;
  const controller = new AbortController();
  const isImages = about.kind === "images";
  const template = document.getElementById(isImages ? "images" : "table");
  const view = document.getElementById("view");
  view.replaceChildren(template.content.cloneNode(true));
  document.getElementById("summary").textContent = summaryOf(about);
  const card = document.getElementById("card");
  card.hidden = !about.card;
  card.querySelector("div").replaceChildren(about.card ? cardOf(about.card) : "");
  new (isImages ? DrawingView : FormView)(view, model, controller.signal);
  return controller;
}

function start(models) {
  const menu = document.getElementById("models");
  const title = document.querySelector("h1");
  let shown = null;
  for (const {about} of models) roundColumns(about);
  const choose = () => {
    shown?.abort();
    const model = models[menu.selectedIndex] ?? models[0];
    if (models.length > 1) title.textContent = document.title = model.about.name;
    shown = showModel(model);
  };
  menu.replaceChildren(...models.map(({about}) => element("option", {}, about.name)));
  menu.parentElement.hidden = models.length < 2;
  menu.addEventListener("change", choose);
  choose();
}

modelsOfPage().then(start);
