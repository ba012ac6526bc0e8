// What the page says of a decision: as bnn/app/words.py and bnn/explanation.py have it. `about` is classifier.json.
const SPACE = "\u00a0"; // that does not break
const MOST_NAMED = 3;
const NOTHING_LIKE = Math.log(10000);

const percent = (share, digits) => `${(100 * share).toFixed(digits)}${SPACE}%`;
const places = (row) => row.flatMap((is, place) => (is ? [place] : []));
const byMost = (values) => (one, other) => values[other] - values[one];
const article = (name) => `${/^[aeiou8]/i.test(name) ? "an" : "a"} ${name}`;
const areDigits = (names) => names.join() === "0,1,2,3,4,5,6,7,8,9";
const capitalised = (words) => words[0].toUpperCase() + words.slice(1);

// What comes of the graph's outputs (a row each) and of what is wrong with the picture.
export function decided(outputs, quality, about) {
    if (quality) return { ...outputs, label: -1, reason: "unfamiliar", quality };
    const reason = about.reasons[outputs.reason];
    const speaks = about.scores.find((score, place) => outputs.by_itself[place] && score.quality);
    return { ...outputs, reason, quality: (reason === "unfamiliar" && speaks?.quality) || "" };
}

// Headline and explanation.
export function verdict(decision, about) {
    const names = about.classes;
    if (decision.quality === "blank") return ["Nothing drawn yet", `${toDraw(names)}: the answer comes after each stroke.`];
    if (decision.reason === "answered") {
        const probability = decision.probs[decision.label];
        const said = probability > 0.999 ? `more than ${percent(0.999, 1)}` : percent(probability, 1);
        return [names[decision.label], `with a probability of ${said}`];
    }
    if (decision.reason === "ambiguous") return ["I don't know", `Ambiguous: ${doubt(decision, names)}.`];
    const why = about.qualities[decision.quality] ?? strangeness(decision, about);
    return ["I don't know", lead(decision.quality || "unfamiliar", why)];
}

// The word as the start of a sentence, or as a question of its own, and why after it.
function lead(word, why) {
    return word.endsWith("?") ? `${capitalised(word)} ${capitalised(why)}.` : `${capitalised(word)}: ${why}.`;
}

// How the networks vote: such as "31 of 50 networks say 4, 19 say 9".
export function voices(votes, names) {
    const labels = places(votes.map(Boolean)).sort(byMost(votes));
    const total = votes.reduce((sum, count) => sum + count, 0);
    const [first, ...others] = labels;
    const rest = others.slice(MOST_NAMED - 1).reduce((sum, label) => sum + votes[label], 0);
    return [
        `${votes[first]} of ${total} networks say ${names[first]}`,
        ...others.slice(0, MOST_NAMED - 1).map((label) => [votes[label], votes[label] === 1 ? "says" : "say", names[label]].join(SPACE)),
        ...(rest ? [`${rest} something else`] : []),
    ].join(", ");
}

function doubt({ epistemic, aleatoric, candidates, probs }, names) {
    const why = epistemic > aleatoric ? "the networks disagree" : "each network wavers by itself";
    const named = places(candidates).sort(byMost(probs)).map((label) => article(names[label]));
    return `${listed(named)}: ${why}`;
}

function listed(named) {
    if (named.length === 1) return `perhaps ${named[0]}, but not surely enough`;
    if (named.length > MOST_NAMED) return `any of ${named.length}, such as ${named[0]} or ${named[1]}`;
    return `${named.slice(0, -1).join(", ")} or ${named.at(-1)}`;
}

// What the OOD scores say of an image that is unfamiliar.
function strangeness({ surprises, quality }, about) {
    const scores = about.scores.map((score, place) => ({ ...score, surprise: surprises[place] }));
    const speaking = scores.filter((score) => score.quality === quality);
    const asked = speaking.length ? speaking : scores;
    const ofImage = asked.filter((score) => score.sees_image);
    if (ofImage.length && !quality && ofImage.every((score) => !(score.surprise < NOTHING_LIKE))) {
        return `nothing like ${areDigits(about.classes) ? "a digit" : "what it has learnt"}`;
    }
    return asked.reduce((loudest, score) => (score.surprise > loudest.surprise ? score : loudest)).says;
}

const toDraw = (names) => (areDigits(names) ? "Draw a digit from 0 to 9" : `Draw one of its ${names.length} classes`);
