// The drawing area: strokes by mouse, finger, pen and keys become the canvas's pixels, black on white.

const model = JSON.parse(document.getElementById("model").textContent);
const [C, H, W] = model.input_shape;
const SIDES = Math.max(400, H, W); // pixels of the drawing's longer side
const STEP = 10, SMALL_STEP = 2; // pixels that an arrow key moves the pen by

const element = (id) => document.getElementById(id);
const paper = element("paper"), canvas = element("canvas"), pen = element("pen");
canvas.width = Math.round((SIDES * W) / Math.max(H, W));
canvas.height = Math.round((SIDES * H) / Math.max(H, W));
// The width of a stroke: two pixels of a small image, as in MNIST; of a larger one a share, and never much of a narrow one.
const PEN = Math.min(Math.max(30, (2.1 * SIDES) / Math.max(H, W)), Math.min(canvas.width, canvas.height) / 4);
const ink = canvas.getContext("2d", {alpha: false, willReadFrequently: true});

// ---- strokes: lists of [x, y] in the drawing's pixels

let strokes = [], cleared = [];
let pointer = null; // the mouse, finger or pen that draws

/** Draw all strokes: curves through the middles between places, so that corners are round. */
function drawStrokes() {
  ink.fillStyle = "#fff";
  ink.fillRect(0, 0, canvas.width, canvas.height);
  ink.lineWidth = PEN;
  ink.lineCap = ink.lineJoin = "round";
  for (const stroke of strokes) {
    ink.fillStyle = "#000";
    ink.beginPath();
    ink.arc(...stroke[0], PEN / 2, 0, 2 * Math.PI); // a line of no length would leave no dot
    ink.fill();
    ink.beginPath();
    ink.moveTo(...stroke[0]);
    for (let i = 1; i < stroke.length - 1; i++) {
      const [[x, y], [nextX, nextY]] = [stroke[i], stroke[i + 1]];
      ink.quadraticCurveTo(x, y, (x + nextX) / 2, (y + nextY) / 2);
    }
    ink.lineTo(...stroke.at(-1));
    ink.stroke();
  }
}

function begin(place) {
  strokes.push([place]);
  cleared = [];
  changed();
}

function goOn(place) {
  strokes.at(-1).push(place);
  changed();
}

/** End the stroke that is being drawn; a hand that still presses draws no more. */
function stop() {
  pointer = null;
  liftPen();
}

function undo() {
  stop();
  if (strokes.length > 0) strokes.pop();
  else [strokes, cleared] = [cleared, []];
  announceNext = true;
  changed();
}

function clear() {
  stop();
  if (strokes.length > 0) [strokes, cleared] = [[], strokes];
  announce("Cleared.");
  changed();
}

// ---- mouse, finger and pen

canvas.addEventListener("pointerdown", (event) => {
  if (pointer !== null || event.button !== 0) return;
  pointer = event.pointerId;
  canvas.setPointerCapture(pointer);
  liftPen();
  pen.hidden = true;
  begin(placeOf(event));
});

canvas.addEventListener("pointermove", (event) => {
  if (event.pointerId !== pointer) return;
  const events = event.getCoalescedEvents();
  for (const each of events.length > 0 ? events : [event]) goOn(placeOf(each));
});

for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) {
  canvas.addEventListener(name, (event) => {
    if (event.pointerId !== pointer) return;
    pointer = null;
    announceNext = true;
    changed();
  });
}

canvas.addEventListener("contextmenu", (event) => {
  if (pointer !== null) event.preventDefault(); // which a long press would open
});

function placeOf(event) {
  const box = canvas.getBoundingClientRect();
  return [((event.clientX - box.left) / box.width) * canvas.width, ((event.clientY - box.top) / box.height) * canvas.height];
}

// ---- keyboard

let place = [canvas.width / 2, canvas.height / 4], penIsDown = false;
const ARROWS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};

canvas.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || pointer !== null) return;
  if (event.key in ARROWS) movePen(ARROWS[event.key], event.shiftKey ? SMALL_STEP : STEP);
  else if (event.key === " ") penIsDown ? liftPen() : putPenDown();
  else if (event.key === "Escape" && penIsDown) liftPen();
  else return;
  event.preventDefault();
});

document.querySelector(".drawing").addEventListener("keydown", (event) => {
  const key = event.key.toLowerCase(), command = event.ctrlKey || event.metaKey;
  if (event.altKey || (command && key !== "z")) return;
  if (key === "z" && command && !event.shiftKey) undo();
  else if (key === "u" && !command) undo();
  else if (["c", "delete", "backspace"].includes(key) && !command) clear();
  else return;
  event.preventDefault();
});

canvas.addEventListener("focus", () => {
  if (canvas.matches(":focus-visible")) showPen();
});
canvas.addEventListener("blur", () => {
  liftPen();
  pen.hidden = true;
});

function movePen([x, y], step) {
  const within = (value, most) => Math.min(Math.max(value, 0), most);
  place = [within(place[0] + x * step, canvas.width), within(place[1] + y * step, canvas.height)];
  if (penIsDown) goOn(place);
  showPen();
}

function putPenDown() {
  penIsDown = true;
  begin(place);
  showPen();
  announce("Pen down.");
}

function liftPen() {
  if (!penIsDown) return;
  penIsDown = false;
  announceNext = true;
  showPen();
  changed();
}

function showPen() {
  pen.hidden = false;
  pen.classList.toggle("down", penIsDown);
  pen.style.width = `${(100 * PEN) / canvas.width}%`;
  pen.style.left = `${(100 * place[0]) / canvas.width}%`;
  pen.style.top = `${(100 * place[1]) / canvas.height}%`;
}

element("undo").addEventListener("click", undo);
element("clear").addEventListener("click", clear);
