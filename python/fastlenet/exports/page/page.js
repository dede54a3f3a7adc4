// The drawing becomes the network's image; its answer and its activations become words, bars and pictures.

const CERTAIN = 0.6; // least probability of an answer without a note, as in fastlenet.images
const MOST_BARS = 20, BARS = 10; // where there are more classes, the most probable are shown
const MOST_MAPS = 64, MAP_GAP = 5;

const layers = prepared(model.layers, model.bytes);

// ---- from the drawing to the answer

let waiting = false, seen = null, announceNext = false;
const times = [];

function changed() {
  paper.classList.toggle("inked", strokes.length > 0);
  if (!waiting) requestAnimationFrame(look);
  waiting = true;
}

/** The drawing as the network's image: {image, count, cut}. Other images than MNIST's are the drawing, made smaller. */
function framed() {
  const {data} = ink.getImageData(0, 0, canvas.width, canvas.height);
  const page = {h: canvas.height, w: canvas.width, pixels: new Uint8Array(data.length / 4)};
  for (let i = 0; i < page.pixels.length; i++) page.pixels[i] = data[4 * i];
  if (C === 1 && H === SIDE && W === SIDE) return frameFigure(page);
  const figure = frameWhole(page, H, W), image = new Uint8Array(C * H * W);
  for (let channel = 0; channel < C; channel++) image.set(figure.image, channel * H * W);
  return {...figure, image};
}

/** An image of bytes (c, h, w) through the network: {logits, probabilities, activations}, the last one of each layer. */
function predict(image) {
  const outputs = activations(layers, Uint8Array.from(image)), logits = outputs.at(-1);
  return {logits, probabilities: softmax(logits), activations: outputs};
}

function look() {
  waiting = false;
  drawStrokes();
  const start = performance.now(), figure = framed(), answer = predict(figure.image);
  times.push(performance.now() - start);
  if (times.length > 31) times.shift();
  seen = {...figure, ...answer};
  showAnswer();
  showImages();
}

// ---- what is shown

const bars = [];
for (let i = 0; i < (model.class_names.length > MOST_BARS ? BARS : model.class_names.length); i++) {
  const [item, name, track, bar, percent] = ["li", "span", "span", "span", "span"].map((tag) => document.createElement(tag));
  [name.className, track.className, bar.className, percent.className] = ["name", "track", "bar", "percent"];
  track.append(bar);
  item.append(name, track, percent);
  element("bars").append(item);
  bars.push({item, name, bar, percent});
}

function asPercent(probability) {
  return `${(100 * probability).toFixed(1)}\u00a0%`;
}

function showAnswer() {
  const {probabilities, count, cut} = seen, blank = count === 0;
  const order = probabilities.map((_, index) => index).sort((one, other) => probabilities[other] - probabilities[one]);
  const shown = bars.length < order.length ? order : order.map((_, index) => index);
  bars.forEach(({item, name, bar, percent}, row) => {
    const index = shown[row], probability = blank ? 0 : probabilities[index];
    item.classList.toggle("first", !blank && index === order[0]);
    name.textContent = name.title = model.class_names[index];
    bar.style.transform = `scaleX(${probability})`;
    percent.textContent = blank ? "" : asPercent(probability);
  });
  const [first, second] = order.map((index) => model.class_names[index]), certainty = probabilities[order[0]];
  element("label").textContent = blank ? "" : first;
  element("label").classList.toggle("word", first.length > 3);
  element("certainty").textContent = blank ? model.invitation : asPercent(certainty);
  const notes = [];
  if (count > 1) notes.push(`There are ${count} separate figures. The largest is read.`);
  if (cut) notes.push("The edge cuts the figure off.");
  if (!blank && certainty < CERTAIN && second !== undefined) notes.push(`Uncertain: ${first} or ${second}.`);
  if (blank && strokes.length > 0) notes.push("Too small to read.");
  element("note").textContent = notes.join(" ");
  const middleTime = [...times].sort((one, other) => one - other)[times.length >> 1];
  element("time").textContent = blank ? "" : `${middleTime.toFixed(1)} ms for each answer.`;
  if (announceNext && pointer === null && !penIsDown) {
    announceNext = false;
    announce(blank ? "Nothing to read." : `${first}, ${asPercent(certainty)}. ${notes.join(" ")}`);
  }
}

function announce(text) {
  element("announcement").textContent = text;
}

/** Draw h * w values of 0..255, through `colour(value, index)` as [red, green, blue, opacity]. */
function paint(picture, h, w, colour) {
  if (picture.width !== w || picture.height !== h) [picture.width, picture.height] = [w, h];
  const context = picture.getContext("2d"), image = context.createImageData(w, h);
  for (let i = 0; i < h * w; i++) image.data.set(colour(i), 4 * i);
  context.putImageData(image, 0, 0);
}

/** The maps of each convolution, behind its activation if that is a table of its own. */
const shownLayers = layers.flatMap((layer, index) => {
  if (layer.kind !== "Conv2d") return [];
  const number = layers.slice(0, index + 1).filter(({kind}) => kind === "Conv2d").length;
  const at = layers[index + 1]?.kind === "Table" ? index + 1 : index;
  const [k, p, q] = layer.output_shape, figure = document.createElement("figure"), maps = document.createElement("div");
  const caption = document.createElement("figcaption"), title = document.createElement("h2"), size = document.createElement("span");
  const few = k > MOST_MAPS ? `the first ${MOST_MAPS} of ` : "";
  title.textContent = /^\d+$/.test(layer.name) ? `convolution ${number}` : layer.name;
  const finds = number === 1 ? "where each filter responds to the image" : "where each filter responds to the maps before";
  size.textContent = `${few}${k} ${k === 1 ? "map" : "maps"} of ${p}x${q}: ${finds}`;
  caption.append(title, size);
  maps.className = "maps";
  maps.setAttribute("role", "img");
  maps.setAttribute("aria-label", `${few}${k} feature maps of ${title.textContent}`);
  const pictures = Array.from({length: Math.min(k, MOST_MAPS)}, () => document.createElement("canvas"));
  maps.append(...pictures);
  figure.append(caption, maps);
  element("layers").append(figure);
  return [{at, p, q, maps, zero: layers[at].table ? zeroOf(layer, layers[at].table) : layer.zero_point, pictures}];
});

/** The byte that stands for 0 behind a table: where the layer before it has 0. */
function zeroOf(layer, table) {
  return table[layer.zero_point];
}

/** Put each layer's maps in rows of about the same length, as few rows as there is room for. */
function arrange() {
  for (const {q, maps, pictures} of shownLayers) {
    const least = Math.min(Math.max(1.75 * q, 26), 46) + MAP_GAP;
    const most = Math.max(1, Math.floor((maps.clientWidth + MAP_GAP) / least));
    const rows = Math.ceil(pictures.length / most), columns = Math.ceil(pictures.length / rows);
    maps.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
  }
}

function rgb(name) {
  const hex = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  return [1, 3, 5].map((from) => parseInt(hex.slice(from, from + 2), 16));
}

function showImages() {
  const {image, count, activations: outputs} = seen;
  paint(element("image"), H, W, (i) => [image[i], image[i], image[i], 255]);
  element("image").setAttribute("aria-label", count === 0 ? "Black: nothing is drawn" : `The drawing in ${H}x${W} pixels`);
  const [accent, second] = [rgb("--accent"), rgb("--second")];
  for (const {at, p, q, zero, pictures} of shownLayers) {
    const y = outputs[at];
    let most = 1;
    for (const value of y) most = Math.max(most, Math.abs(value - zero));
    pictures.forEach((picture, map) => {
      paint(picture, p, q, (i) => {
        const value = y[map * p * q + i] - zero;
        return [...(value < 0 ? second : accent), count === 0 ? 0 : 255 * (Math.abs(value) / most) ** 0.7];
      });
    });
  }
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => seen && showImages());
new ResizeObserver(arrange).observe(element("layers"));
look();

/** For scripts and tests: predict(bytes), the last answer, and the pixels that are drawn. */
globalThis.fastlenet = {predict: (image) => predict(image), seen: () => seen, strokes: () => strokes, frameFigure, frameWhole};
