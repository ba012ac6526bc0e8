// The control for files: chosen, dropped, or a sample. Its value is a list of {name, path}, a name being the
// path within the folder that was chosen or dropped; what could not be uploaded has no path. Gradio gives
// `element`, `props`, `trigger` and `upload`. Of several choices only the latest is uploaded.
const part = (name) => element.querySelector(`[name=${name}]`);
const [area, progress, message] = [part("choose"), element.querySelector("progress"), element.querySelector("output")];
const panel = element.closest("[role=tabpanel]") ?? element; // where a drop is taken
const clutter = new RegExp(props.clutter);
const AT_ONCE = 4; // uploads

let latest = 0;

const promised = (ask) => new Promise(ask);
const named = (file) => ({ name: file.webkitRelativePath || file.name, file });

async function* within(entry) {
    const name = entry.fullPath.replace(/^\//, "");
    if (clutter.test(name)) return;
    if (entry.isFile) {
        yield { name, file: await promised((done) => entry.file(done, () => done(null))) };
        return;
    }
    const reader = entry.createReader();
    const more = () => promised((done) => reader.readEntries(done, () => done([])));
    for (let some = await more(); some.length; some = await more()) {
        for (const one of some) yield* within(one);
    }
}

async function dropped(items) {
    const found = [];
    for (const entry of items) {
        for await (const one of within(entry)) {
            found.push(one);
            if (found.length > props.most) return found;
        }
    }
    return found;
}

function refusal(found) {
    const bytes = found.reduce((sum, { file }) => sum + (file?.size ?? 0), 0);
    if (found.length === 0) return "Nothing to judge was found: hidden files are left out.";
    if (found.length > props.most) return `Nothing was judged: these are more than ${props.most.toLocaleString("en")} files. Upload them in parts.`;
    if (bytes > props.most_bytes) return `Nothing was judged: these have more than ${props.most_bytes / 1e6} MB. Upload them in parts.`;
    return "";
}

async function sent({ name, file }) {
    const short = name.slice(-props.longest);
    try {
        return { name: short, path: (await upload(file)).path };
    } catch {
        return { name: short };
    }
}

function busy(most) {
    progress.hidden = most === 0;
    progress.max = most;
    progress.value = 0;
}

function handOver(files, words) {
    part("clear").disabled = files.length === 0;
    message.value = words;
    props.value = files;
    trigger("input");
}

async function take(finding) {
    const mine = ++latest;
    message.value = "";
    const found = (await finding).filter(({ name }) => !clutter.test(name));
    if (mine !== latest) return;
    const why = refusal(found);
    busy(why ? 0 : found.length);
    message.value = why || `Uploading ${counted(found)} …`;
    if (why) return;
    found.sort((one, other) => one.name.localeCompare(other.name, "en", { numeric: true }));
    const [files, waiting] = [[], found.entries()];
    const work = async () => {
        for (const [place, one] of waiting) {
            if (mine !== latest) return;
            files[place] = await sent(one);
            if (mine === latest) progress.value += 1;
        }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    if (mine !== latest) return;
    busy(0);
    handOver(files, `Uploaded: ${counted(found)}. The next ones will take their place.`);
}

function counted(found) {
    return found.length === 1 ? found[0].name : `${found.length.toLocaleString("en")} files`;
}

for (const [button, input] of [["choose", "files"], ["whole", "folder"]]) {
    part(button).addEventListener("click", () => part(input).click());
    part(input).addEventListener("change", (event) => {
        take([...event.target.files].map(named));
        event.target.value = ""; // so that the same can be chosen again
    });
}
part("whole").hidden = !("webkitdirectory" in part("folder"));

part("sample").addEventListener("click", async () => {
    const packed = await (await fetch(element.querySelector("a[download]").href)).blob();
    take([named(new File([packed], "sample.zip"))]);
});

part("clear").addEventListener("click", () => {
    latest += 1;
    busy(0);
    handOver([], "");
});

for (const kind of ["dragenter", "dragover"]) {
    panel.addEventListener(kind, (event) => {
        if (!event.dataTransfer.types.includes("Files")) return;
        event.preventDefault();
        area.classList.add("dropping");
    });
}
panel.addEventListener("dragleave", (event) => {
    if (!panel.contains(event.relatedTarget)) area.classList.remove("dropping");
});
panel.addEventListener("drop", (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    area.classList.remove("dropping");
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
    take(dropped(entries)); // the items are gone once this ends: what they stand for was asked for above
});
