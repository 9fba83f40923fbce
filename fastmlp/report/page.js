"use strict";
// The mistake explorer: shows the cards that match the filter, in pages. Without JavaScript, all
// are shown, and the cells of the confusion matrix are links to them.
(() => {
  const form = document.getElementById("filter");
  if (!form) return;
  const STEP = 24;
  const cards = [...document.querySelectorAll(".mistake")];
  const shown = document.getElementById("shown");
  const more = document.getElementById("more");
  let most = STEP;

  const value = (name) => form.elements[name] ? form.elements[name].value : "";
  const checked = (name) => Boolean(form.elements[name] && form.elements[name].checked);

  const passes = ({dataset}) =>
    ["true", "predicted", "direction"].every((name) => !value(name) || dataset[name] === value(name)) &&
    (!checked("suspected") || "suspected" in dataset);

  function show() {
    const passing = cards.filter(passes);
    cards.forEach((card) => { card.hidden = true; });
    passing.slice(0, most).forEach((card) => { card.hidden = false; });
    const n = Math.min(most, passing.length);
    shown.textContent = passing.length === 0
      ? `None of the ${cards.length} on this page.`
      : `${n} of ${passing.length} shown${passing.length < cards.length ? `, ${cards.length} on this page` : ""}.`;
    more.hidden = n === passing.length;
  }

  const restart = () => { most = STEP; show(); };

  form.hidden = false;
  form.addEventListener("input", (event) => {
    if (event.target.name === "near") {
      cards.forEach((card) => card.querySelectorAll("details").forEach((part) => {
        part.open = event.target.checked;
      }));
    } else {
      restart();
    }
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(restart));  // after the fields have changed
  more.addEventListener("click", () => {
    const next = cards.filter(passes)[most];
    most += STEP;
    show();
    next.tabIndex = -1;
    next.focus({preventScroll: true});
  });

  // A cell of the matrix, or a pair in the list.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-true]");
    if (!link) return;
    for (const name of ["true", "predicted"]) form.elements[name].value = link.dataset[name];
    if (form.elements.suspected) form.elements.suspected.checked = false;
    restart();
  });
  show();
})();
