"use strict";
// From a drawing or a picture to the pixels that the network is given. Images are objects
// {rows, columns, values} with the gray levels 0 to 255, row by row.

const DARK = 85, LIGHT = 170;  // gray levels below and above which a background is dark or light
const LEAST_INK = 8;  // fainter pixels are not part of the drawing

/** Return, for each of n equal parts of an interval, the [index, share] of the pixels it covers. */
function coverage(start, length, n, limit) {
  const step = length / n;
  return Array.from({length: n}, (_, part) => {
    const from = start + part * step, to = from + step, covered = [];
    for (let i = Math.max(0, Math.floor(from)); i < Math.min(limit, to); i++) {
      const share = (Math.min(i + 1, to) - Math.max(i, from)) / step;
      if (share > 0) covered.push([i, share]);
    }
    return covered;
  });
}

/** Return part of an image in another size: each pixel is the mean of the area that it covers. */
function resampled(image, {top, left, height, width}, [rows, columns]) {
  const across = coverage(left, width, columns, image.columns);
  const down = coverage(top, height, rows, image.rows);
  const between = new Float64Array(image.rows * columns);
  for (let row = 0; row < image.rows; row++) {
    for (let column = 0; column < columns; column++) {
      let sum = 0;
      for (const [i, share] of across[column]) sum += share * image.values[row * image.columns + i];
      between[row * columns + column] = sum;
    }
  }
  const values = new Float64Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    for (const [i, share] of down[row]) {
      for (let column = 0; column < columns; column++) {
        values[row * columns + column] += share * between[i * columns + column];
      }
    }
  }
  return {rows, columns, values};
}

/** Return an image in another size, without keeping its proportions. */
function resized(image, shape) {
  return resampled(image, {top: 0, left: 0, height: image.rows, width: image.columns}, shape);
}

/** Return where an image has ink, and its centre of mass; null if there is none. */
function inkOf({rows, columns, values}) {
  let top = rows, left = columns, bottom = -1, right = -1, mass = 0, downwards = 0, sideways = 0;
  for (let row = 0, at = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++, at++) {
      const ink = values[at];
      if (ink < LEAST_INK) continue;
      top = Math.min(top, row);
      bottom = row;
      left = Math.min(left, column);
      right = Math.max(right, column);
      mass += ink;
      downwards += ink * (row + 0.5);
      sideways += ink * (column + 0.5);
    }
  }
  if (!mass) return null;
  const height = bottom + 1 - top, width = right + 1 - left;
  return {top, left, height, width, mass: [downwards / mass, sideways / mass]};
}

/**
 * Return ink centred and scaled as in MNIST's images: its box is scaled to 20 of 28 pixels, and
 * moved by whole pixels until the middle of the image has its centre of mass. Tiny images are
 * filled, and centred by the box, as the 8 x 8 digits are.
 */
function centred(image, shape) {
  const ink = inkOf(image);
  if (!ink) return resized(image, shape);
  const [rows, columns] = shape;
  const isTiny = Math.max(rows, columns) < 12;
  const side = Math.round(Math.min(rows, columns) * (isTiny ? 1 : 20 / 28));
  const scale = side / Math.max(ink.height, ink.width);
  const offset = (start, length, mass, n) => {
    const own = length * scale;
    const place = isTiny ? (n - own) / 2 : n / 2 + 0.5 - (mass - start) * scale;
    const most = Math.max(0, n - Math.ceil(own - 1e-9));  // so that all ink is inside
    return Math.min(Math.max(Math.round(place), 0), most);
  };
  const down = offset(ink.top, ink.height, ink.mass[0], rows);
  const right = offset(ink.left, ink.width, ink.mass[1], columns);
  return resampled(image, {
    top: ink.top - down / scale,
    left: ink.left - right / scale,
    height: rows / scale,
    width: columns / scale,
  }, shape);
}

/** Return the median gray of an image's border. */
function borderOf({rows, columns, values}) {
  const border = [];
  for (let at = 0; at < values.length; at++) {
    const row = Math.floor(at / columns), column = at % columns;
    if (row % (rows - 1 || 1) === 0 || column % (columns - 1 || 1) === 0) border.push(values[at]);
  }
  return border.sort((a, b) => a - b)[border.length >> 1];
}

/** Return an image, inverted if its border is light and the model's background dark or vice versa. */
function withBackground(image, background) {
  const found = borderOf(image);
  const differs = (background < DARK && found > LIGHT) || (background > LIGHT && found < DARK);
  return differs ? {...image, values: image.values.map((gray) => 255 - gray)} : image;
}

/** Return a picture as ink on black: what is as dark as its border becomes 0, the lightest 255. */
function inkOnBlack(image) {
  const lightest = image.values.reduce((a, b) => Math.max(a, b), 0);
  const paper = borderOf(image);
  const darkest = paper + 0.15 * (lightest - paper);  // paper is not even
  const reach = lightest - darkest || 1;
  const values = image.values.map((gray) => Math.min(Math.max((255 * (gray - darkest)) / reach, 0), 255));
  return {...image, values};
}

/** Return the gray levels of canvas data; transparent pixels become those of the ground. */
function grayOf({width, height, data}, ground) {
  const values = new Float64Array(width * height);
  for (let at = 0; at < values.length; at++) {
    const byte = 4 * at;
    const gray = 0.299 * data[byte] + 0.587 * data[byte + 1] + 0.114 * data[byte + 2];
    values[at] = ground + ((gray - ground) * data[byte + 3]) / 255;
  }
  return {rows: height, columns: width, values};
}

function bytesOfImage({values}) {
  return Uint8Array.from(values, (gray) => Math.round(Math.min(Math.max(gray, 0), 255)));
}

if (typeof module === "object") module.exports = {resized, centred, withBackground, bytesOfImage, inkOnBlack, borderOf};
