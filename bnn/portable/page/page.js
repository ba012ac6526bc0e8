// The page without a server: the pad's drawing, laid out as MNIST, goes through ensemble.onnx in the visitor's browser.
import { env, InferenceSession, Tensor } from "./ort.wasm.min.mjs";
import { laidOut } from "./ink.js";
import { pad } from "./pad.js";
import { decided, verdict, voices } from "./words.js";

const LUMA = [0.299, 0.587, 0.114];
const shown = Object.fromEntries(["verdict", "headline", "explanation", "voices", "seen", "about"].map((id) => [id, document.getElementById(id)]));
const state = { turn: Promise.resolve(), latest: 0 };

env.wasm.numThreads = 1; // more need headers that not every host sends
const loaded = load();

async function load() {
    const about = await (await fetch("classifier.json")).json();
    const session = await InferenceSession.create("ensemble.onnx");
    shown.about.textContent = about.says;
    return { about, session };
}

// The brightness of the pad's pixels, in [0, 1].
function brightnessOf(canvas) {
    const { data, width, height } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const of = (_, i) => Math.round(LUMA.reduce((sum, share, colour) => sum + share * data[4 * i + colour], 0)) / 255;
    return { data: Float32Array.from({ length: width * height }, of), width, height };
}

// All that is decided on a picture; one after another, as the session runs.
async function classified(brightness) {
    const { about, session } = await loaded;
    const { image, quality } = laidOut(brightness);
    const images = new Tensor("float32", image.data, [1, 1, image.height, image.width]);
    const found = await session.run({ images });
    const row = ({ data, dims }) => (dims.length === 1 ? Number(data[0]) : Array.from(data, Number));
    const outputs = Object.fromEntries(Object.entries(found).map(([name, value]) => [name, row(value)]));
    return { image, decision: decided(outputs, quality, about), about };
}

function show({ image, decision, about }) {
    const blank = decision.quality === "blank";
    [shown.headline.textContent, shown.explanation.textContent] = verdict(decision, about);
    shown.voices.textContent = blank ? "" : voices(decision.votes, about.classes);
    shown.verdict.className = blank ? "blank" : decision.reason;
    const paper = shown.seen.getContext("2d");
    const pixels = paper.createImageData(image.width, image.height);
    image.data.forEach((value, i) => pixels.data.set([255 * value, 255 * value, 255 * value, 255], 4 * i));
    paper.putImageData(pixels, 0, 0);
}

// Only the latest drawing is answered.
function judge(canvas) {
    const mine = ++state.latest;
    const brightness = brightnessOf(canvas);
    state.turn = state.turn.then(async () => {
        if (mine !== state.latest) return;
        const started = performance.now();
        const result = await classified(brightness);
        show(result);
        shown.verdict.dataset.milliseconds = (performance.now() - started).toFixed(0);
        document.dispatchEvent(new CustomEvent("decided", { detail: { ...result.decision, pixels: Array.from(result.image.data) } }));
    }).catch(failed);
}

function failed(error) {
    shown.headline.textContent = "It cannot run here";
    shown.explanation.textContent = `${error.message ?? error}`;
    throw error;
}

const element = document.getElementById("pad");
const canvas = element.querySelector("canvas");
pad(element, { brush: Number(element.dataset.brush), sample: element.dataset.sample, value: "" }, () => judge(canvas));
loaded.then(() => judge(canvas), failed);
