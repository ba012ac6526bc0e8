// The pad: strokes of pen and eraser on a canvas, which can be turned. Its value is the drawing as a PNG data
// URL, or "" when nothing is drawn. Gradio gives `element`, `props` and `trigger`. A "show" event on the canvas
// whose detail is a data URL puts that image on the pad.
const canvas = element.querySelector("canvas");
const tools = Object.fromEntries([...element.querySelectorAll("button, input")].map((tool) => [tool.name, tool]));
const angle = element.querySelector("output");
const hint = element.querySelector(".hint");
const paper = canvas.getContext("2d", { willReadFrequently: true });
const size = canvas.width;

let picture = null; // an image that is shown under the strokes
let strokes = []; // each {erases, points: [[x, y], ...]}, in canvas pixels before turning
let current = null; // the stroke being drawn
let erasing = false;

const radians = () => (tools.turn.value * Math.PI) / 180;

function turned(x, y, by) {
    const [dx, dy, c, s] = [x - size / 2, y - size / 2, Math.cos(by), Math.sin(by)];
    return [size / 2 + c * dx - s * dy, size / 2 + s * dx + c * dy];
}

function drawStroke({ erases, points }) {
    paper.strokeStyle = paper.fillStyle = erases ? "#fff" : "#000";
    paper.lineWidth = props.brush * (erases ? 1.5 : 1);
    paper.lineCap = paper.lineJoin = "round";
    paper.beginPath(); // a dot where it starts: of a line that leads nowhere a canvas draws nothing
    paper.arc(...points[0], paper.lineWidth / 2, 0, 2 * Math.PI);
    paper.fill();
    paper.beginPath();
    paper.moveTo(...points[0]);
    for (const point of points) paper.lineTo(...point);
    paper.stroke();
}

function redraw() {
    paper.resetTransform();
    paper.fillStyle = "#fff";
    paper.fillRect(0, 0, size, size);
    paper.translate(size / 2, size / 2);
    paper.rotate(radians());
    paper.translate(-size / 2, -size / 2);
    if (picture) paper.drawImage(picture, 0, 0, size, size);
    strokes.forEach(drawStroke);
    angle.value = `${tools.turn.value}°`;
    tools.undo.disabled = strokes.length === 0;
    hint.hidden = strokes.length > 0 || Boolean(picture);
    tools.clear.disabled = !hint.hidden;
}

function handOver() {
    redraw();
    props.value = strokes.length || picture ? canvas.toDataURL("image/png") : "";
    trigger("input");
}

function place(event) {
    const box = canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    return turned((x / box.width) * size, (y / box.height) * size, -radians());
}

canvas.addEventListener("pointerdown", (event) => {
    if (current || event.button > 0) return;
    event.preventDefault();
    canvas.setPointerCapture(event.pointerId);
    const erases = erasing || event.buttons === 32; // a pen's own eraser
    current = { erases, points: [place(event)], pointer: event.pointerId };
    hint.hidden = true;
    drawStroke(current);
});

// No stroke is a fling, however fast: Chrome takes the tap after one for what stops it, and nothing is pressed.
canvas.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });

canvas.addEventListener("pointermove", (event) => {
    if (current?.pointer !== event.pointerId) return;
    const steps = event.getCoalescedEvents?.() ?? [];
    const latest = (steps.length ? steps : [event]).map(place);
    drawStroke({ ...current, points: [current.points.at(-1), ...latest] });
    current.points.push(...latest);
});

for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, (event) => {
        if (current?.pointer !== event.pointerId) return;
        strokes.push(current);
        current = null;
        handOver();
    });
}

function choose(eraser) {
    erasing = eraser;
    tools.pen.setAttribute("aria-pressed", String(!eraser));
    tools.eraser.setAttribute("aria-pressed", String(eraser));
    canvas.classList.toggle("erasing", eraser);
}

function empty() {
    strokes = [];
    picture = null;
    tools.turn.value = 0;
    choose(false);
}

async function show(url, turns = false) {
    const shown = new Image();
    shown.src = url;
    await shown.decode();
    const turn = turns ? tools.turn.value : 0; // as it is now: while the image was read it may have moved on
    empty();
    picture = shown;
    tools.turn.value = turn;
    handOver();
}

tools.pen.addEventListener("click", () => choose(false));
tools.eraser.addEventListener("click", () => choose(true));
tools.undo.addEventListener("click", () => {
    strokes.pop();
    handOver();
});
tools.clear.addEventListener("click", () => {
    empty();
    handOver();
});
tools.turn.addEventListener("input", () => {
    if (strokes.length || picture) handOver();
    else show(props.sample, true); // something to turn
});
canvas.addEventListener("show", (event) => show(event.detail));

redraw();
canvas.removeAttribute("aria-busy"); // from here on it can be drawn on
