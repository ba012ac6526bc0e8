"""What the page says: pure functions from a decision to words."""

from collections.abc import Iterator, Sequence
from html import escape

from bnn.data.quality import BLANK, QUALITIES
from bnn.explanation import MOST_NAMED, doubt
from bnn.numerals import percent
from bnn.prediction import Prediction
from bnn.reading import Reading

UNLIKE = "this is unlike any digit it has seen"


def verdict(prediction: Prediction, why: str = UNLIKE) -> tuple[str, str]:
    """Headline and explanation of a `prediction` on one image.

    Args:
        prediction: on one image.
        why: what makes it unfamiliar, where it is.
    """
    quality = str(prediction.quality[0])
    if quality == BLANK:
        return "Nothing drawn yet", "Draw a digit from 0 to 9: the answer comes after each stroke."
    if prediction.reasons[0] == "answered":
        label = int(prediction.labels[0])
        return str(label), f"with a probability of {_probability(float(prediction.probs[0, label]))}"
    if prediction.reasons[0] == "ambiguous":
        return "I don't know", f"Ambiguous: {doubt(prediction)}."
    if quality:
        return "I don't know", f"{quality.capitalize()}: {QUALITIES.get(quality, why)}."
    return "I don't know", f"Unfamiliar: {why}."


def voices(votes: Sequence[int]) -> str:
    """How the networks vote, `votes` for each digit: such as "31 of 50 networks say 4, 19 say 9"."""
    return ", ".join(_voices(votes))


def verdict_html(prediction: Prediction, votes: Sequence[int] = (), why: str = UNLIKE) -> str:
    """`verdict` as HTML, and below it the `votes` for each digit, if there are any."""
    headline, explanation = verdict(prediction, why)
    state = "blank" if prediction.quality[0] == BLANK else str(prediction.reasons[0])
    counted = f'<p class="voices">{escape(voices(votes))}</p>' if sum(votes) else ""
    return (
        f'<div class="verdict {escape(state)}"><p class="headline">{escape(headline)}</p>'
        f'<div><p class="explanation">{escape(explanation)}</p>{counted}</div></div>'
    )


def reading_html(reading: Reading) -> str:
    """What a drawing of several digits reads, as HTML: the number, or each digit that is told."""
    state = "ambiguous" if reading.number is None else "answered"
    headline = reading.number or "I don't know"
    explanation = reading.reason if reading.number is None else reading.promise
    return (
        f'<div class="verdict {state} several"><p class="headline">{escape(headline)}</p>'
        f'<div><p class="voices">{len(reading.marks)} digits: {escape(reading.text)}</p>'
        f'<p class="explanation">{escape(explanation)}</p></div></div>'
    )


def _voices(votes: Sequence[int]) -> Iterator[str]:
    digits = sorted((digit for digit in range(len(votes)) if votes[digit]), key=lambda digit: -votes[digit])
    first, *others = digits
    yield f"{votes[first]} of {sum(votes)} networks say {first}"
    for digit in others[: MOST_NAMED - 1]:
        says = "says" if votes[digit] == 1 else "say"
        yield "\N{NO-BREAK SPACE}".join((str(votes[digit]), says, str(digit)))
    if rest := sum(votes[digit] for digit in others[MOST_NAMED - 1 :]):
        yield f"{rest} something else"


def _probability(probability: float) -> str:
    return f"more than {percent(0.999)}" if probability > 0.999 else percent(probability, ".1f")
