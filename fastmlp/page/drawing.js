"use strict";
// The page of a model of images: a surface to draw on, and what the network makes of it.

const SURFACE = 280;  // pixels of the longer side, about
const UNITS = 8;  // that are shown

/** What was drawn: strokes and pictures, with undo; on a canvas, and as gray levels. */
class Surface {
  constructor(canvas, [rows, columns], changed) {
    const factor = Math.max(2, Math.floor(SURFACE / Math.max(rows, columns)));
    this.size = {rows: rows * factor, columns: columns * factor};
    this.step = Math.max(1, Math.round(SURFACE / 28));  // of the keyboard's pen
    this.penWidth = Math.min(this.size.rows, this.size.columns) * (Math.max(rows, columns) < 12 ? 0.12 : 0.08);
    this.canvas = canvas;
    this.changed = changed;
    this.items = [];  // {points}, {picture} or {} where all was cleared
    this.stroke = null;  // that is being drawn
    this.hidden = element("canvas", {width: this.size.columns, height: this.size.rows});
    this.cursor = [this.size.columns / 2, this.size.rows / 2];
    this.isPenDown = false;
    canvas.style.aspectRatio = `${columns} / ${rows}`;
    this.listen();
  }

  /** Return the items since all was cleared, or replaced by a picture. */
  get shown() {
    const start = this.items.findLastIndex(({points}) => !points);
    return this.items.slice(Math.max(start, 0)).filter(({points, picture}) => points || picture);
  }

  get isEmpty() {
    return !this.shown.length;
  }

  get hasPicture() {
    return this.shown.some(({picture}) => picture);
  }

  add(item) {
    this.items.push(item);
    this.changed();
  }

  undo() {
    this.lift();
    this.items.pop();
    this.changed();
  }

  clear() {
    this.lift();
    if (!this.isEmpty) this.add({});
  }

  lift() {
    this.stroke = null;
    this.isPenDown = false;
  }

  // -------------------------------------------------------------------------------------- drawing

  /** Draw everything in the given ink, in surface coordinates. */
  paint(context, ink) {
    Object.assign(context, {lineWidth: this.penWidth, lineCap: "round", lineJoin: "round", strokeStyle: ink});
    for (const {points, picture} of this.shown) {
      if (picture) {
        context.drawImage(picture, 0, 0);
      } else {
        context.beginPath();
        smoothPath(context, points);
        context.stroke();
      }
    }
  }

  /** Return the gray levels of what was drawn: ink is white. */
  gray() {
    const {rows, columns} = this.size;
    const context = this.hidden.getContext("2d", {willReadFrequently: true});
    context.fillRect(0, 0, columns, rows);
    this.paint(context, "#fff");
    return grayOf(context.getImageData(0, 0, columns, rows), 0);
  }

  /** Draw the visible canvas. */
  show() {
    const {canvas} = this;
    const context = canvas.getContext("2d");
    const {clientWidth, clientHeight} = canvas;
    const [width, height] = [clientWidth, clientHeight].map((side) => Math.round(side * devicePixelRatio));
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, {width, height});
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    context.setTransform(width / this.size.columns, 0, 0, height / this.size.rows, 0, 0);
    const {color, accentColor} = getComputedStyle(canvas);
    this.paint(context, this.hasPicture ? "#fff" : color);
    if (!canvas.matches(":focus-visible")) return;
    const [x, y] = this.cursor;
    Object.assign(context, {lineWidth: 2, strokeStyle: accentColor, fillStyle: accentColor});
    context.beginPath();
    context.arc(x, y, this.penWidth / 2, 0, 2 * Math.PI);
    if (this.isPenDown) context.fill();
    else context.stroke();
  }

  // ------------------------------------------------------------------------- pointer and keyboard

  listen() {
    const {canvas} = this;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || this.pointer !== undefined) return;
      event.preventDefault();  // neither selection nor scrolling
      canvas.focus({preventScroll: true, focusVisible: false});
      canvas.setPointerCapture(event.pointerId);
      this.lift();
      this.pointer = event.pointerId;
      this.begin(this.placeOf(event));
    });
    canvas.addEventListener("pointermove", (event) => {
      if (event.pointerId !== this.pointer || !this.stroke) return;
      const events = event.getCoalescedEvents?.() ?? [];
      for (const part of events.length ? events : [event]) this.stroke.push(this.placeOf(part));
      this.changed();
    });
    for (const name of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(name, (event) => {
        if (event.pointerId !== this.pointer) return;
        this.pointer = undefined;
        this.lift();
        this.changed();
      });
    }
    canvas.addEventListener("keydown", (event) => this.press(event));
    canvas.addEventListener("focus", this.changed);
    canvas.addEventListener("blur", () => { this.lift(); this.changed(); });
  }

  placeOf({clientX, clientY}) {
    const {left, top, width, height} = this.canvas.getBoundingClientRect();
    return [((clientX - left) / width) * this.size.columns, ((clientY - top) / height) * this.size.rows];
  }

  begin(point) {
    this.stroke = [point];
    this.add({points: this.stroke});
  }

  press(event) {
    const move = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (move) {
      const step = this.step * (event.shiftKey ? 4 : 1);
      const limits = [this.size.columns, this.size.rows];
      this.cursor = this.cursor.map((at, axis) => Math.min(Math.max(at + step * move[axis], 0), limits[axis]));
      if (this.isPenDown) this.stroke.push(this.cursor);
    } else if (event.key === " ") {
      const isDown = this.isPenDown;
      this.lift();
      if (!isDown) {
        this.isPenDown = true;
        this.begin(this.cursor);
      }
    } else if (event.key === "Escape" && this.isPenDown) {
      this.lift();
    } else {
      return;
    }
    event.preventDefault();
    this.changed();
  }
}

/** Add a line through points to a path, rounded by curves from middle to middle. */
function smoothPath(context, points) {
  const [first, last] = [points[0], points.at(-1)];
  context.moveTo(...first);
  for (let i = 1; i < points.length - 1; i++) {
    const [x, y] = points[i], [nextX, nextY] = points[i + 1];
    context.quadraticCurveTo(x, y, (x + nextX) / 2, (y + nextY) / 2);
  }
  context.lineTo(...last);  // a dot, if it is the first
}

// --------------------------------------------------------------------------------------- the page

class DrawingView {
  constructor(root, model, signal) {
    const {about} = model;
    const {white = 255} = about;
    this.model = model;
    this.parts = partsOf(root);
    this.shape = about.shape;
    this.background = about.background ?? 0;
    this.isLight = this.background > 127;
    const [rows, columns] = this.shape;
    this.centresDrawings = !this.isLight && rows === columns && rows <= 64;
    this.parts.centre.checked = this.centresDrawings;
    this.parts["about-centre"].textContent = `${columns} \u00d7 ${rows} pixels. If this is on, the drawing is scaled and centred as the digits of ${rows < 12 ? "scikit-learn" : "MNIST"} are.`;
    this.parts.hint.textContent = hintOf(about);
    this.result = new Result(this.parts, about);
    this.weights = new Map();
    this.surface = new Surface(this.parts.canvas, this.shape, inNextFrame(() => this.update()));
    this.questions = new Questions(
      (pixels) => model.explain(Array.from(pixels, (pixel) => (pixel * white) / 255)),
      ({values, units}) => {
        this.result.show(values);
        this.parts.units.closest("section").hidden = !units;  // of other models than networks
        this.showUnits(units ?? []);
      },
      (error) => this.result.fail(error),
    );
    this.showUnits = whenQuiet((units) => this.drawUnits(units), 80);
    this.slots = Array.from({length: UNITS}, unitSlot);
    this.parts.units.replaceChildren(...this.slots.map(({node}) => node));
    for (const canvas of [this.parts.saw, ...this.slots.map((slot) => slot.canvas)]) {
      Object.assign(canvas, {width: columns, height: rows});
      canvas.style.aspectRatio = `${columns} / ${rows}`;
    }
    this.listen(signal);
    this.update();
  }

  listen(signal) {
    const {undo, clear, choose, file, centre, canvas} = this.parts;
    undo.addEventListener("click", () => this.surface.undo());
    clear.addEventListener("click", () => this.surface.clear());
    choose.addEventListener("click", () => file.click());
    file.addEventListener("change", () => { this.open(file.files[0]); file.value = ""; });
    centre.addEventListener("change", () => this.update());
    document.addEventListener("keydown", (event) => {
      if (event.target.matches("input[type=password]")) return;
      const key = event.key.toLowerCase();
      if ((event.ctrlKey || event.metaKey) && key === "z") this.surface.undo();
      else if (key === "delete") this.surface.clear();
      else return;
      event.preventDefault();
    }, {signal});
    document.addEventListener("paste", ({clipboardData}) => this.open(pictureOf(clipboardData)), {signal});
    onDrop((data) => this.open(pictureOf(data) ?? data.files[0]), signal);
    const observer = new ResizeObserver(() => this.surface.show());
    observer.observe(canvas);
    signal.addEventListener("abort", () => observer.disconnect());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.surface.show(), {signal});
  }

  /** Return the bytes that the network is given. */
  pixels() {
    const gray = this.surface.gray();
    const isCentred = this.parts.centre.checked;
    const ink = isCentred && this.surface.hasPicture ? inkOnBlack(gray) : gray;
    const seen = isCentred ? centred(ink, this.shape) : resized(gray, this.shape);
    return bytesOfImage(seen).map((level) => (this.isLight ? 255 - level : level));
  }

  update() {
    const {surface, parts} = this;
    surface.show();
    parts.hint.hidden = !surface.isEmpty;
    parts.undo.disabled = !surface.items.length;
    parts.clear.disabled = surface.isEmpty;
    const pixels = this.pixels();
    window.fastmlp = {pixels: Array.from(pixels)};  // for tests, and the curious
    paintPixels(parts.saw, (at) => [pixels[at], pixels[at], pixels[at], 255]);
    if (surface.isEmpty) {
      this.questions.put(null);
      this.result.empty("Draw something");
      this.showUnits([]);
      if (!surface.items.length) parts.centre.checked = this.centresDrawings;
    } else {
      this.questions.put(pixels);
    }
  }

  /** Show a picture in place of the drawing, stretched to the shape of the images. */
  async open(file) {
    if (!file) return;
    try {
      const gray = withBackground(await decoded(file), this.background);
      const values = this.isLight ? gray.values.map((level) => 255 - level) : gray.values;
      const {rows, columns} = this.surface.size;
      const image = bytesOfImage(resized({...gray, values}, [rows, columns]));
      const picture = element("canvas", {width: columns, height: rows});
      paintPixels(picture, (at) => [image[at], image[at], image[at], 255]);
      this.parts.centre.checked = false;
      this.surface.add({picture});
    } catch {
      this.result.fail(new Error(`"${file.name}" cannot be read as a picture: use PNG, JPEG, GIF or WebP.`));
    }
  }

  async drawUnits(units) {
    const shown = units.slice(0, UNITS);
    await Promise.all(shown.map(async ({unit}) => {
      if (!this.weights.has(unit)) this.weights.set(unit, await this.model.weights(unit));
    }));
    this.slots.forEach(({canvas, name, value, node}, place) => {
      const found = shown[place];
      node.classList.toggle("empty", !found);
      name.textContent = found ? `unit ${found.unit}` : "\u00a0";
      value.textContent = found ? found.value.toPrecision(3) : "\u00a0";
      const weights = found && this.weights.get(found.unit);
      canvas.setAttribute("aria-label", found ? `Weights of unit ${found.unit}` : "");
      paintPixels(canvas, (at) => (weights ? divergingColor(weights[at] / 127) : [0, 0, 0, 0]));
    });
  }
}

function hintOf({classes, task}) {
  const isDigits = task === "classification" && classes.length === 10 && classes.every((label, i) => String(label) === String(i));
  return isDigits ? "Draw a digit here" : "Draw here";
}

function unitSlot() {
  const canvas = element("canvas", {class: "pixels", role: "img"});
  const [name, value] = ["span", "b"].map((tag) => element(tag, {}, "\u00a0"));
  return {node: element("li", {}, canvas, name, value), canvas, name, value};
}

/** Fill a canvas with colors [red, green, blue, alpha] by pixel. */
function paintPixels(canvas, colorOf) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  for (let at = 0; at < image.data.length / 4; at++) image.data.set(colorOf(at), 4 * at);
  context.putImageData(image, 0, 0);
}

/** Return blue for positive, orange for negative weights, the more transparent the smaller. */
function divergingColor(weight) {
  const rgb = weight > 0 ? [47, 124, 235] : [232, 93, 47];
  return [...rgb, Math.round(255 * Math.abs(weight))];
}

/** Return the picture among dropped or pasted data, if there is one. */
function pictureOf(data) {
  return [...(data?.files ?? [])].find((file) => file.type.startsWith("image/"));
}

/** Return the gray levels of a picture. Transparent parts are white if its ink is dark. */
async function decoded(file) {
  const bitmap = await createImageBitmap(file);
  const scale = Math.min(1, 1024 / Math.max(bitmap.width, bitmap.height));
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
  const context = element("canvas", {width, height}).getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  const data = context.getImageData(0, 0, width, height);
  let ink = 0, covered = 0;
  grayOf(data, 0).values.forEach((gray, at) => {
    ink += gray;
    covered += data.data[4 * at + 3];
  });
  return grayOf(data, ink < covered / 2 ? 255 : 0);
}
