"use strict";
// Models whose networks are stored in the page, which computes everything itself.

class HereModel {
  constructor(about, stored) {
    this.about = about;
    this.model = modelOf(stored);
  }

  /** Return the numbers that are predicted for a question: of classifiers, probabilities. */
  predict(question) {
    return Array.from(predictInputs(this.model, this.inputsOf(question)));
  }
}

/** Return the models of the page. */
async function modelsOfPage() {
  const dataOf = (id) => JSON.parse(document.getElementById(id).textContent);
  const networks = dataOf("networks");
  return dataOf("abouts").map((about) =>
    new (about.kind === "images" ? HereImages : HereTable)(about, networks[about.name]));
}
