// The reviewer's buttons and keys. The value is the latest act, which the server answers by the next image; what
// is shown of it stands in #review-picture. Gradio gives `element`, `props` and `trigger`. While an answer is
// awaited nothing else is done: nobody names an image that they have not seen yet.
const PATIENCE = 15000; // ms that an answer may take before something else may be done
const KEPT = 200; // acts that can be undone
const SURE = "Delete for good?";

const part = (name) => element.querySelector(`[name=${name}]`);
const panel = element.closest("[role=tabpanel]") ?? document.body;
const picture = () => panel.querySelector("#review-picture [data-serial]");
const current = () => Number(picture()?.dataset.number ?? 0); // numbers begin at 1

const stored = sessionStorage.getItem("bnn-reviewer");
const reviewer = stored ?? Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
sessionStorage.setItem("bnn-reviewer", reviewer); // after a reload the same image is still this reviewer's

const done = []; // numbers of images that were labelled or skipped, the latest last
let serial = 0;
let awaited = 0; // when the act that was sent may be forgotten, or 0

function update() {
    const number = current();
    for (const button of element.querySelectorAll(".labels button, [name=none], [name=skip], [name=delete]")) {
        button.disabled = !number;
    }
    part("undo").disabled = done.length === 0;
    part("again").hidden = number > 0;
    part("delete").textContent = "Delete";
}

function send(act, more = {}) {
    if (Date.now() < awaited) return;
    awaited = Date.now() + PATIENCE;
    serial += 1;
    const order = element.querySelector("[name=order][aria-pressed=true]").value;
    element.setAttribute("aria-busy", "true");
    props.value = { act, reviewer, serial, order, ...more };
    trigger("input");
}

function decide(act, more = {}) {
    const number = current();
    if (!number || Date.now() < awaited) return;
    if (act !== "delete" && done.at(-1) !== number) done.push(number); // the same once more, after a lost answer
    done.splice(0, done.length - KEPT);
    send(act, { number, ...more });
}

function undo() {
    if (done.length && Date.now() >= awaited) send("undo", { number: done.pop() });
}

const label = (value) => decide("label", { label: value });

new MutationObserver(() => {
    if (picture()?.dataset.serial !== String(serial)) return;
    if (awaited) {
        awaited = 0;
        element.removeAttribute("aria-busy");
        update();
    }
}).observe(panel, { childList: true, subtree: true, attributes: true, attributeFilter: ["data-serial"] });

props.names.forEach((name, value) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name;
    const digit = props.digits[value];
    if (digit) button.setAttribute("aria-keyshortcuts", digit);
    if (digit && digit !== name) {
        const key = document.createElement("kbd");
        key.textContent = digit;
        key.ariaHidden = "true"; // its shortcut is told already
        button.append(key);
    }
    button.addEventListener("click", () => label(value));
    element.querySelector(".labels").append(button);
});
element.querySelector(".labels").classList.toggle("worded", props.names.some((name) => name.length > 2));
part("none").textContent = props.none;
part("none").addEventListener("click", () => label(props.none_label));
part("skip").addEventListener("click", () => decide("skip"));
part("undo").addEventListener("click", undo);
part("again").addEventListener("click", () => send("take"));
part("delete").addEventListener("click", ({ target }) => {
    if (target.textContent === SURE) decide("delete");
    else target.textContent = SURE;
});
for (const button of element.querySelectorAll("[name=order]")) {
    button.addEventListener("click", () => {
        for (const one of element.querySelectorAll("[name=order]")) one.ariaPressed = String(one === button);
        if (!current()) send("take"); // else from the next image on
    });
}

document.addEventListener("keydown", (event) => {
    const isTyping = event.target.closest("input, textarea, select, [contenteditable]");
    if (!element.offsetParent || isTyping || event.altKey || event.ctrlKey || event.metaKey || event.repeat) return;
    const key = event.key.toLowerCase();
    if (key && props.digits.includes(key)) label(props.digits.indexOf(key));
    else if (key === "n") label(props.none_label);
    else if (key === "s") decide("skip");
    else if (key === "u") undo();
});

new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting) && !current()) send("take");
}).observe(element);

update();
