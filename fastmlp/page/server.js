"use strict";
// A model on the server that the page comes from.

/** Asks the server, with the token that it wants. */
class Server {
  constructor() {
    const given = new URLSearchParams(location.hash.slice(1)).get("token");
    if (given) {
      this.token = given;
      history.replaceState(null, "", location.pathname + location.search);  // not to be shared
    }
  }

  get token() {
    return sessionStorage.getItem("fastmlp-token") ?? "";
  }

  set token(token) {
    sessionStorage.setItem("fastmlp-token", token);
  }

  /** Return the answer to a request; if it is refused without a token, ask for one and try again. */
  async fetch(path, {headers = {}, ...options} = {}) {
    const authorization = this.token ? {Authorization: `Bearer ${this.token}`} : {};
    let answer;
    try {
      answer = await fetch(path, {...options, headers: {...headers, ...authorization}});
    } catch {
      throw new Error("The server does not answer: is it still running?");
    }
    if (answer.status === 401) {
      this.token = await askForToken(Boolean(this.token));
      return this.fetch(path, {headers, ...options});
    }
    if (!answer.ok) throw new Error(await reasonOf(answer));
    return answer;
  }

  /** Ask with JSON, for JSON. */
  async json(path, content) {
    const options = content === undefined ? {} : {
      method: "POST", body: JSON.stringify(content), headers: {"Content-Type": "application/json"},
    };
    return (await this.fetch(path, options)).json();
  }
}

async function reasonOf(answer) {
  const text = await answer.text();
  try {
    return JSON.parse(text).error ?? text;
  } catch {
    return text || `The server answers ${answer.status} ${answer.statusText}.`;
  }
}

let tokenAsked = null;

/** Return the token that is entered, once for all that wait for it. */
function askForToken(isWrong) {
  const form = document.getElementById("token");
  form.querySelector(".notice").hidden = !isWrong;
  form.hidden = false;
  form.elements.token.focus();
  tokenAsked ??= new Promise((resolve) => {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      form.hidden = true;
      tokenAsked = null;
      resolve(form.elements.token.value.trim());
    }, {once: true});
  });
  return tokenAsked;
}

class ServerModel {
  constructor(about, server) {
    this.about = about;
    this.server = server;
    this.path = `models/${encodeURIComponent(about.name)}`;
  }

  async explain(question) {
    if (this.about.kind !== "images" && Array.isArray(question)) return this.predictRow(question);
    const content = this.about.kind === "images" ? {pixels: question} : {row: question};
    const {probabilities, prediction, ...rest} = await this.server.json(`${this.path}/explain`, content);
    return {values: probabilities ?? [prediction].flat(), ...rest};
  }

  /** Return the prediction for a row of numbers without names, which is not explained. */
  async predictRow(numbers) {
    const {probabilities, predictions} = await this.server.json(`${this.path}/predict`, {rows: [numbers]});
    return {values: probabilities?.[0] ?? predictions.flat()};
  }

  async weights(unit) {
    const {weights} = await this.server.json(`${this.path}/units/${unit}`);
    return new Int8Array(Uint8Array.from(atob(weights), (letter) => letter.charCodeAt(0)).buffer);
  }

  async predictTable(text) {
    const options = {method: "POST", body: text, headers: {"Content-Type": "text/csv", Accept: "text/csv"}};
    return (await this.server.fetch(`${this.path}/predict`, options)).text();
  }
}

/** Return the models of the page or, if it has none, of the server. */
async function modelsOfPage() {
  const server = new Server();
  const form = document.getElementById("token");
  if (form.dataset.required === "yes" && !server.token) server.token = await askForToken(false);
  const known = JSON.parse(document.getElementById("abouts").textContent);
  const abouts = known.length ? known : await server.json("models");
  if (!known.length) document.title = document.querySelector("h1").textContent = abouts[0].name;
  return abouts.map((about) => new ServerModel(about, server));
}
