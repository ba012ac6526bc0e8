"""The rules there are, by name."""

from collections.abc import Mapping, MutableMapping
from typing import Any

from bnn.errors import InputError, choose, shown
from bnn.rules.abstention import AbstentionRule, Calibration, RefuseAll
from bnn.rules.calibrated import CalibratedRule
from bnn.rules.promise import Promise
from bnn.rules.thresholds import ConfidenceRule, EntropyRule, MedianRule

RULES: MutableMapping[str, type[AbstentionRule]] = {
    rule.name: rule for rule in (CalibratedRule, EntropyRule, ConfidenceRule, MedianRule, RefuseAll)
}


def fit_rule(name: str, calibration: Calibration, promise: Promise) -> AbstentionRule:
    """The rule called `name`, fitted on `calibration` to keep `promise`.

    Raises:
        InputError: no rule has that name, or these images cannot promise that.
    """
    return choose(RULES, name, "abstention rule").fit_on(calibration, promise)


def rule_from_dict(values: Mapping[str, Any]) -> AbstentionRule:
    """The rule that `values`, the result of `to_dict`, stand for.

    Raises:
        InputError: they stand for none.
    """
    fields = dict(values)
    try:
        return RULES[fields.pop("name")](**fields)
    except (KeyError, TypeError, OverflowError) as error:
        raise InputError(f"{shown(dict(values))} stands for no abstention rule.") from error
