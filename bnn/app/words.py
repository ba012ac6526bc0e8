"""What the page says: pure functions from a decision to words."""

from collections.abc import Iterator, Sequence
from html import escape

from bnn.core.task import DIGITS, are_digits, worded
from bnn.data.quality import BLANK, QUALITIES
from bnn.explanation import MOST_NAMED, doubt
from bnn.numerals import percent
from bnn.prediction import Prediction
from bnn.reading import Reading

UNLIKE = "this is unlike any digit it has seen"
_DIGITS = DIGITS.names


def verdict(prediction: Prediction, why: str | None = None) -> tuple[str, str]:
    """Headline and explanation of a `prediction` on one image.

    Args:
        prediction: on one image.
        why: what makes it unfamiliar, where it is; by default that nothing like it was learnt.
    """
    why = why or worded(prediction.names, UNLIKE)
    quality = str(prediction.quality[0])
    if quality == BLANK:
        return "Nothing drawn yet", f"{_to_draw(prediction.names)}: the answer comes after each stroke."
    if prediction.reasons[0] == "answered":
        label = int(prediction.labels[0])
        return prediction.names[
            label
        ], f"with a probability of {_probability(float(prediction.probs[0, label]))}"
    if prediction.reasons[0] == "ambiguous":
        return "I don't know", f"Ambiguous: {doubt(prediction)}."
    return "I don't know", _lead(quality or "unfamiliar", QUALITIES.get(quality, why))


def _lead(word: str, why: str) -> str:
    """`word` as the start of a sentence, or as a question of its own, and `why` after it."""
    if word.endswith("?"):
        return f"{word.capitalize()} {why[0].upper()}{why[1:]}."
    return f"{word.capitalize()}: {why}."


def _to_draw(names: Sequence[str]) -> str:
    return "Draw a digit from 0 to 9" if are_digits(names) else f"Draw one of its {len(names)} classes"


def voices(votes: Sequence[int], names: Sequence[str] = _DIGITS) -> str:
    """How the networks vote, `votes` for each class: such as "31 of 50 networks say 4, 19 say 9"."""
    return ", ".join(_voices(votes, names))


def verdict_html(prediction: Prediction, votes: Sequence[int] = (), why: str | None = None) -> str:
    """`verdict` as HTML, and below it the `votes` for each class, if there are any."""
    headline, explanation = verdict(prediction, why)
    state = "blank" if prediction.quality[0] == BLANK else str(prediction.reasons[0])
    counted = f'<p class="voices">{escape(voices(votes, prediction.names))}</p>' if sum(votes) else ""
    return (
        f'<div class="verdict {escape(state)}"><p class="headline">{escape(headline)}</p>'
        f'<div><p class="explanation">{escape(explanation)}</p>{counted}</div></div>'
    )


def reading_html(reading: Reading, names: Sequence[str] = _DIGITS) -> str:
    """What a drawing of several digits reads, as HTML: the number, or each digit that is told."""
    state = "ambiguous" if reading.number is None else "answered"
    headline = reading.number or "I don't know"
    explanation = worded(names, reading.reason if reading.number is None else reading.promise)
    count = worded(names, f"{len(reading.marks)} digits")
    return (
        f'<div class="verdict {state} several"><p class="headline">{escape(headline)}</p>'
        f'<div><p class="voices">{count}: {escape(reading.text)}</p>'
        f'<p class="explanation">{escape(explanation)}</p></div></div>'
    )


def _voices(votes: Sequence[int], names: Sequence[str]) -> Iterator[str]:
    labels = sorted((label for label in range(len(votes)) if votes[label]), key=lambda label: -votes[label])
    first, *others = labels
    yield f"{votes[first]} of {sum(votes)} networks say {names[first]}"
    for label in others[: MOST_NAMED - 1]:
        says = "says" if votes[label] == 1 else "say"
        yield "\N{NO-BREAK SPACE}".join((str(votes[label]), says, names[label]))
    if rest := sum(votes[label] for label in others[MOST_NAMED - 1 :]):
        yield f"{rest} something else"


def _probability(probability: float) -> str:
    return f"more than {percent(0.999)}" if probability > 0.999 else percent(probability, ".1f")
