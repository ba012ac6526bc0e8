// A drawing on white paper in MNIST's layout, as bnn/data/ink.py, quality.py and layout.py make it; their comments
// say why. Here the ground is known to be white, so that nothing has to be guessed of it. A plane is
// {data, width, height}: numbers row by row.
const LAYOUT = { side: 28, box: 20, ink: 0.15, stroke: 0.5, thinnest: 1.5, thin: 2.5, resizeBelow: 17 };
const FAINTEST = 0.06;

const plane = (width, height, kind = Float32Array) => ({ data: new kind(width * height), width, height });
const mapped = (image, change, kind = Float32Array) => ({ ...image, data: kind.from(image.data, change) });

// To the nearest, halves to the even neighbour, as Python rounds.
export function rounded(x) {
    const below = Math.floor(x);
    if (x - below === 0.5) return below % 2 === 0 ? below : below + 1;
    return Math.round(x);
}

// What the network sees of a drawing's brightness (in [0, 1], dark ink on white), and what is wrong with it.
export function laidOut(brightness) {
    const ink = findInk(brightness);
    return { image: inLayout(ink.ink), quality: qualityOf(ink) };
}

// ---- Where the ink is ----

function findInk(brightness) {
    let [small, scale] = shrunk(brightness, 2000);
    const width = guessedWidth(small);
    if (Math.max(small.width, small.height) <= 800 && width > 14) {
        const longest = Math.max(small.width, small.height);
        const [smaller, coarser] = shrunk(small, Math.max(200, rounded((longest * 14) / width)));
        [small, scale] = [smaller, scale * coarser];
    }
    const [strength, noise] = aboveGround(small);
    return { ...parts(strength, scale), noise };
}

function guessedWidth(brightness) {
    const [coarse, scale] = shrunk(brightness, 128);
    const found = sortedOut(aboveGround(coarse)[0]);
    const width = strokeWidth(mapped(found.labels, (label) => label > 0, Uint8Array));
    return width ? (width + 2) * scale : 0;
}

// How far dark ink stands out from the white ground, in [0, 1], and the ground's noise.
function aboveGround(brightness) {
    const { width, height } = brightness;
    const apart = mapped(brightness, (value) => 1 - value);
    const step = Math.max(1, Math.floor(Math.max(width, height) / 128));
    const sample = apart.data.filter((_, i) => i % width % step === 0 && Math.floor(i / width) % step === 0);
    const middle = median(sample);
    const noise = 1.4826 * median(sample.map((value) => Math.abs(value - middle)));
    return [mapped(apart, (value) => Math.min(Math.max(value - middle - 3 * noise, 0), 1)), noise];
}

function median(values) {
    const ordered = values.toSorted();
    return (ordered[(values.length - 1) >> 1] + ordered[values.length >> 1]) / 2;
}

function parts(strength, scale) {
    const found = sortedOut(strength);
    const mask = mapped(found.labels, (label) => label > 0, Uint8Array);
    const width = strokeWidth(mask);
    const reach = widened(mask, Math.max(1, rounded(width / 2)));
    const isInk = (i) => reach.data[i] && !found.lines.data[i] && !found.specks.data[i];
    const soft = mapped(strength, (value, i) => (isInk(i) && value > 0.08 * found.high ? value : 0));
    const top = Math.max(soft.data.reduce((most, value) => Math.max(most, value), 0), FAINTEST);
    return { ...found, ink: mapped(soft, (value) => Math.min(value / top, 1)), width, scale };
}

// What stands out, as parts, lines along the edges and specks.
function sortedOut(strength) {
    const lines = plane(strength.width, strength.height, Uint8Array);
    let rest = strength;
    let [labels, boxes, high] = [];
    for (let round = 0; round < 4; round++) {
        high = highest(rest);
        const least = high >= FAINTEST ? 0.3 * high : 1;
        [labels, boxes] = connected(mapped(rest, (value) => value > least, Uint8Array));
        const hugging = huggingOf(labels, boxes);
        if (!hugging.includes(true)) break;
        const hugged = widened(mapped(labels, (label) => label > 0 && hugging[label - 1], Uint8Array), 1);
        hugged.data.forEach((is, i) => (lines.data[i] |= is));
        rest = mapped(strength, (value, i) => (lines.data[i] ? 0 : value));
    }
    const largest = boxes.reduce((most, box) => Math.max(most, box.area), 0);
    const kept = boxes.map((box) => box.area >= 0.05 * largest);
    const numbers = kept.map((is, i) => (is ? kept.slice(0, i + 1).filter(Boolean).length : 0));
    return {
        lines,
        high,
        specks: mapped(labels, (label) => label > 0 && !kept[label - 1], Uint8Array),
        labels: mapped(labels, (label) => (label ? numbers[label - 1] : 0), Int32Array),
        boxes: boxes.filter((_, i) => kept[i]),
    };
}

// The strength of the few strongest pixels.
function highest(strength) {
    const size = strength.data.length;
    const few = Math.min(Math.max(4, Math.min(200, Math.floor(size / 2000))), size);
    const inked = strength.data.filter((value) => value > 0).sort();
    const least = inked.length >= few ? inked[inked.length - few] : 0;
    return Math.floor((least * 256) / (1 + 1 / 256)) / 255;
}

// The parts of a mask that hang together, corners included, numbered from 1, and the box and area of each.
function connected(mask) {
    const { width, height } = mask;
    const labels = plane(width, height, Int32Array);
    const boxes = [];
    for (let start = 0; start < mask.data.length; start++) {
        if (!mask.data[start] || labels.data[start]) continue;
        const box = { left: width, top: height, right: 0, bottom: 0, area: 0 };
        boxes.push(box);
        labels.data[start] = boxes.length;
        for (const stack = [start]; stack.length; ) {
            const at = stack.pop();
            const [x, y] = [at % width, Math.floor(at / width)];
            box.left = Math.min(box.left, x);
            box.right = Math.max(box.right, x + 1);
            box.top = Math.min(box.top, y);
            box.bottom = Math.max(box.bottom, y + 1);
            box.area++;
            for (let row = Math.max(0, y - 1); row <= Math.min(height - 1, y + 1); row++) {
                for (let column = Math.max(0, x - 1); column <= Math.min(width - 1, x + 1); column++) {
                    const next = row * width + column;
                    if (!mask.data[next] || labels.data[next]) continue;
                    labels.data[next] = boxes.length;
                    stack.push(next);
                }
            }
        }
    }
    return [labels, boxes];
}

// Which parts touch an edge and lie in a narrow band along the edges.
function huggingOf(labels, boxes) {
    const { width, height } = labels;
    const band = Math.max(1, rounded(0.16 * Math.min(height, width)));
    const near = rounded(0.02 * Math.min(height, width));
    const inner = new Array(boxes.length + 1).fill(0);
    for (let y = band; y < height - band; y++) {
        for (let x = band; x < width - band; x++) inner[labels.data[y * width + x]]++;
    }
    return boxes.map((box, i) => {
        const [wide, tall] = [box.right - box.left, box.bottom - box.top];
        if (Math.min(box.left, box.top, width - box.right, height - box.bottom) > near) return false;
        const along = wide >= 0.8 * width || tall >= 0.8 * height;
        const solid = along && box.area >= 0.85 * wide * tall;
        const long = Math.max(wide, tall) >= 0.25 * Math.min(height, width);
        return (long && inner[i + 1] <= 0.02 * box.area) || (solid && box.area < 0.5 * width * height);
    });
}

// ---- Whether it can be judged ----

function qualityOf(ink) {
    if (!ink.boxes.length) {
        const { width, height } = ink.lines;
        const reach = Math.max(reachOf(ink.lines, 0) / width, reachOf(ink.lines, 1) / height);
        if (reach > 0 && reach < 0.8) return "cut off";
        return ink.high > 0.025 || ink.noise > 0.05 ? "faint" : "blank";
    }
    if (sizeOf(ink.boxes) * ink.scale < 6 || isDot(ink)) return "too small";
    if (isCutOff(ink)) return "cut off";
    return ink.boxes.some((box) => isApart(ink, box)) ? "several marks" : "";
}

// How many columns (0) or rows (1) lie between the first and the last that a mask has anything in.
function reachOf(mask, axis) {
    let [first, last] = [Infinity, -1];
    mask.data.forEach((is, i) => {
        if (!is) return;
        const at = axis ? Math.floor(i / mask.width) : i % mask.width;
        [first, last] = [Math.min(first, at), Math.max(last, at)];
    });
    return last < 0 ? 0 : last + 1 - first;
}

const around = (boxes) => ({
    left: Math.min(...boxes.map((box) => box.left)),
    top: Math.min(...boxes.map((box) => box.top)),
    right: Math.max(...boxes.map((box) => box.right)),
    bottom: Math.max(...boxes.map((box) => box.bottom)),
});
const longer = (box) => Math.max(box.right - box.left, box.bottom - box.top);
const sizeOf = (boxes) => longer(around(boxes));
const largestOf = (boxes) => boxes.reduce((most, box) => (box.area > most.area ? box : most));

function isDot(ink) {
    const main = largestOf(ink.boxes);
    if (longer(main) < 1.5 * ink.width) return true;
    if (longer(main) > 2.7 * ink.width) return false;
    const number = ink.boxes.indexOf(main) + 1;
    const points = [];
    ink.labels.data.forEach((label, i) => {
        if (label === number) points.push([i % ink.labels.width, Math.floor(i / ink.labels.width)]);
    });
    const [across, along] = leastRectangle(points);
    return along + 1 < 2.7 * ink.width && across + 1 < 1.35 * ink.width;
}

// The shorter and the longer side of the smallest rectangle, turned as it may be, around the points.
function leastRectangle(points) {
    const hull = hullOf(points);
    let [least, sides] = [Infinity, [0, 0]];
    hull.forEach(([x, y], i) => {
        const [nextX, nextY] = hull[(i + 1) % hull.length];
        const length = Math.hypot(nextX - x, nextY - y) || 1;
        const [c, s] = [(nextX - x) / length, (nextY - y) / length];
        const spans = [([px, py]) => c * px + s * py, ([px, py]) => c * py - s * px].map((of) => {
            const places = hull.map(of);
            return Math.max(...places) - Math.min(...places);
        });
        if (spans[0] * spans[1] < least) [least, sides] = [spans[0] * spans[1], spans];
    });
    return sides.sort((one, other) => one - other);
}

// Andrew's monotone chain.
function hullOf(points) {
    const sorted = points.toSorted((one, other) => one[0] - other[0] || one[1] - other[1]);
    const half = (ordered) => {
        const chain = [];
        for (const point of ordered) {
            const turnsRight = () => {
                const [[ax, ay], [bx, by]] = chain.slice(-2);
                return (bx - ax) * (point[1] - ay) - (by - ay) * (point[0] - ax) <= 0;
            };
            while (chain.length > 1 && turnsRight()) chain.pop();
            chain.push(point);
        }
        return chain.slice(0, -1);
    };
    return [...half(sorted), ...half(sorted.toReversed())];
}

// Whether a stroke runs over one edge or two, and the others are free.
function isCutOff({ ink, boxes, width: stroke }) {
    const { data, width, height } = ink;
    const full = (row, column) => data[row * width + column] > 0.75;
    const count = (length, is) => Array.from({ length }, (_, i) => is(i)).filter(Boolean).length;
    const edges = [
        count(width, (x) => full(0, x)),
        count(width, (x) => full(height - 1, x)),
        count(height, (y) => full(y, 0)),
        count(height, (y) => full(y, width - 1)),
    ];
    const box = around(boxes);
    const room = [box.top / height, 1 - box.bottom / height, box.left / width, 1 - box.right / width];
    const meets = edges.some((met) => met >= Math.max(2, 0.25 * stroke));
    return meets && room.filter((share) => share >= 0.04).length >= 2;
}

// Whether a part is another mark beside the largest one, and none of its strokes.
function isApart(ink, other) {
    const one = largestOf(ink.boxes);
    if (other === one) return false;
    const gap = Math.max(other.top - one.bottom, other.left - one.right, one.top - other.bottom, one.left - other.right);
    if (gap > 0.25 * longer(one)) return true;
    const [wide, tall] = [(box) => box.right - box.left, (box) => box.bottom - box.top];
    const shared = Math.min(one.right, other.right) - Math.max(one.left, other.left);
    const heights = [tall(one), tall(other)];
    const beside =
        shared < 0.25 * Math.min(wide(one), wide(other)) && Math.min(...heights) > 0.6 * Math.max(...heights);
    const dot = longer(other) < 1.7 * ink.width && gap > 0.3 * ink.width;
    return beside || dot;
}

// ---- MNIST's layout ----

function inLayout(ink) {
    if (!ink.data.some((value) => value > LAYOUT.ink)) return plane(LAYOUT.side, LAYOUT.side);
    return centred(fitted(bold(cropped(ink))));
}

function cropped(ink) {
    const inked = { left: ink.width, top: ink.height, right: 0, bottom: 0 };
    ink.data.forEach((value, i) => {
        if (!(value > LAYOUT.ink)) return;
        const [x, y] = [i % ink.width, Math.floor(i / ink.width)];
        inked.left = Math.min(inked.left, x);
        inked.right = Math.max(inked.right, x + 1);
        inked.top = Math.min(inked.top, y);
        inked.bottom = Math.max(inked.bottom, y + 1);
    });
    const crop = plane(inked.right - inked.left, inked.bottom - inked.top);
    for (let y = 0; y < crop.height; y++) {
        const from = (inked.top + y) * ink.width + inked.left;
        crop.data.set(ink.data.subarray(from, from + crop.width), y * crop.width);
    }
    return crop;
}

// With its strokes widened, where they are finer than in MNIST.
function bold(ink) {
    const unit = Math.max(ink.width, ink.height) / LAYOUT.box;
    if (unit <= 1) return ink;
    const width = strokeWidth(mapped(ink, (value) => value > LAYOUT.stroke, Uint8Array)) / unit;
    if (width >= LAYOUT.thinnest) return ink;
    const by = Math.max(1, rounded(((LAYOUT.thin - width) * unit) / 2));
    const wider = plane(ink.width + 2 * by, ink.height + 2 * by);
    for (let dy = -by; dy <= by; dy++) {
        const reach = rounded(by * Math.sqrt((by * by - dy * dy) / (by * by)));
        for (let y = 0; y < ink.height; y++) {
            for (let x = 0; x < ink.width; x++) {
                const value = ink.data[y * ink.width + x];
                for (let dx = -reach; value > 0 && dx <= reach; dx++) {
                    const at = (y + by + dy) * wider.width + x + by + dx;
                    if (value > wider.data[at]) wider.data[at] = value;
                }
            }
        }
    }
    return wider;
}

function fitted(ink) {
    const most = Math.max(ink.width, ink.height);
    if (most > LAYOUT.resizeBelow && most <= LAYOUT.box) return ink;
    const side = (length) => Math.max(1, rounded((length * LAYOUT.box) / most));
    const [width, height] = [side(ink.width), side(ink.height)];
    const across = resampled(ink, width);
    const resized = turned(resampled(turned(across), height));
    const clipped = mapped(resized, (value) => Math.min(Math.max(value, 0), 1));
    const top = clipped.data.reduce((highestYet, value) => Math.max(highestYet, value), 0);
    return mapped(clipped, (value) => value / top);
}

function turned(image) {
    const other = plane(image.height, image.width);
    image.data.forEach((value, i) => {
        other.data[(i % image.width) * image.height + Math.floor(i / image.width)] = value;
    });
    return other;
}

// Rows made `width` long by bicubic interpolation with an antialiasing support, as Pillow does.
function resampled(image, width) {
    const scale = image.width / width;
    const wide = Math.max(scale, 1);
    const made = plane(width, image.height);
    for (let x = 0; x < width; x++) {
        const middle = (x + 0.5) * scale;
        const from = Math.max(0, Math.trunc(middle - 2 * wide + 0.5));
        const to = Math.min(image.width, Math.trunc(middle + 2 * wide + 0.5));
        const weights = Array.from({ length: to - from }, (_, i) => bicubic((from + i - middle + 0.5) / wide));
        const sum = weights.reduce((total, weight) => total + weight, 0);
        for (let y = 0; y < image.height; y++) {
            const row = y * image.width + from;
            made.data[y * width + x] = weights.reduce((total, w, i) => total + (w / sum) * image.data[row + i], 0);
        }
    }
    return made;
}

function bicubic(x) {
    const [a, far] = [-0.5, Math.abs(x)];
    if (far < 1) return ((a + 2) * far - (a + 3)) * far * far + 1;
    return far < 2 ? (((far - 5) * far + 8) * far - 4) * a : 0;
}

// In a 28×28 frame, the centre of mass on pixel 14 as far as it fits.
function centred(ink) {
    const frame = plane(LAYOUT.side, LAYOUT.side);
    const [columns, rows] = [new Float64Array(ink.width), new Float64Array(ink.height)];
    ink.data.forEach((value, i) => {
        columns[i % ink.width] += value;
        rows[Math.floor(i / ink.width)] += value;
    });
    const [left, top] = [columns, rows].map((profile) => {
        const total = profile.reduce((sum, value) => sum + value, 0);
        const centre = profile.reduce((sum, value, i) => sum + i * value, 0) / total;
        return Math.min(Math.max(rounded(LAYOUT.side / 2 - centre), 0), LAYOUT.side - profile.length);
    });
    for (let y = 0; y < ink.height; y++) {
        const row = ink.data.subarray(y * ink.width, (y + 1) * ink.width);
        frame.data.set(row, (top + y) * LAYOUT.side + left);
    }
    return frame;
}

// ---- Of all of these ----

// With sides of at most `longest` pixels, and how many pixels make one of these.
function shrunk(image, longest) {
    const scale = Math.max(image.width, image.height) / longest;
    if (scale <= 1) return [image, 1];
    const side = (length) => Math.max(1, rounded(length / scale));
    const across = averaged(image, side(image.width));
    return [turned(averaged(turned(across), side(image.height))), scale];
}

// Rows made `width` long, each pixel the mean of what it covers (OpenCV's INTER_AREA).
function averaged(image, width) {
    const scale = image.width / width;
    const made = plane(width, image.height);
    for (let x = 0; x < width; x++) {
        const [from, to] = [x * scale, Math.min((x + 1) * scale, image.width)];
        for (let y = 0; y < image.height; y++) {
            let sum = 0;
            for (let at = Math.floor(from); at < to - 1e-9; at++) {
                sum += (Math.min(at + 1, to) - Math.max(at, from)) * image.data[y * image.width + at];
            }
            made.data[y * width + x] = sum / (to - from);
        }
    }
    return made;
}

// Pixels across the widest stroke of a mask: a chamfer distance (Borgefors 1986), with OpenCV's steps.
function strokeWidth(mask) {
    const [width, height, straight, slant] = [mask.width + 2, mask.height + 2, 0.955, 1.3693];
    const far = new Float32Array(width * height);
    mask.data.forEach((is, i) => {
        if (is) far[(Math.floor(i / mask.width) + 1) * width + (i % mask.width) + 1] = Infinity;
    });
    const nearer = (at, way) => {
        const before = [far[at - way] + straight, far[at - way * width] + straight];
        const slanting = [far[at - way * (width + 1)] + slant, far[at - way * (width - 1)] + slant];
        if (far[at]) far[at] = Math.min(far[at], ...before, ...slanting);
    };
    for (let at = width + 1; at < far.length - width - 1; at++) nearer(at, 1);
    for (let at = far.length - width - 2; at > width; at--) nearer(at, -1);
    const most = far.reduce((highestYet, value) => Math.max(highestYet, value), 0);
    return most ? 2 * most - 1 : 0;
}

// A mask and what is at most `by` pixels off.
function widened(mask, by) {
    const along = (image) => {
        const wider = { ...image, data: new Uint8Array(image.data.length) };
        for (let y = 0; y < image.height; y++) {
            const row = y * image.width;
            for (let x = 0; x < image.width; x++) {
                if (image.data[row + x]) wider.data.fill(1, row + Math.max(0, x - by), row + Math.min(image.width, x + by + 1));
            }
        }
        return wider;
    };
    return turned(along(turned(along(mask))));
}
