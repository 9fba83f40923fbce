"use strict";
// A model of images that is computed in the page.

/** Questions are the gray levels of pixels, on the scale of the training images. */
class HereImages extends HereModel {
  inputsOf(pixels) {
    return pixels;
  }

  async explain(pixels) {
    return {values: this.predict(pixels), units: this.units(pixels)};
  }

  /** Return the units of the first layer by their values times the norm of the weights that read them. */
  units(pixels) {
    const [network] = this.model.networks;
    const [first] = layerValues(network, this.model.dtype, pixels);
    const next = network.layers[1];
    const normOf = (unit) => Math.hypot(...next.coefs.subarray(unit * next.nUnits, (unit + 1) * next.nUnits));
    return Array.from(first, (value, unit) => ({unit, value: next ? value * normOf(unit) : value}))
      .sort((a, b) => Math.abs(b.value) - Math.abs(a.value));
  }

  /** Return the weights of a unit of the first layer, the largest of them 127. */
  async weights(unit) {
    const {nInputs, nUnits, coefs} = this.model.networks[0].layers[0];
    const weights = Array.from({length: nInputs}, (_, input) => coefs[input * nUnits + unit]);
    const largest = weights.reduce((most, weight) => Math.max(most, Math.abs(weight)), 0) || 1;
    return Int8Array.from(weights, (weight) => Math.round((127 * weight) / largest));
  }
}
