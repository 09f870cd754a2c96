"""The search is a function of its seed and of the scores."""

import math

import pytest

from rbctrl.tuning.search import Trial, best_of, search
from rbctrl.tuning.space import Parameter

SPACE = (Parameter("x", (), 0.01, 100, log=True), Parameter("k", (), 1, 5, whole=True), Parameter("c", ("a", "b")))


def quality(words):
    values = dict(word.split("=") for word in words)
    return -((math.log10(float(values["x"])) - 1) ** 2) - 0.1 * (values["c"] == "a")


def settings(trials):
    return [trial.values for trial in trials]


def test_same_seed_same_trials_and_more_trials_begin_alike():
    first = search(SPACE, 12, 0, quality, "higher")
    assert settings(search(SPACE, 15, 0, quality, "higher"))[:12] == settings(first)
    assert settings(search(SPACE, 12, 1, quality, "higher")) != settings(first)


def test_first_trial_is_the_default():
    (first, *_) = search(SPACE, 2, 0, quality, "higher", {"x": 3.0, "c": "b"})
    assert (first.values["x"], first.values["c"]) == ("3", "b")


def test_it_finds_the_better_side():
    found = best_of(search(SPACE, 30, 0, quality, "higher"), "higher")
    assert abs(math.log10(float(found.values["x"])) - 1) < 0.3
    worst = best_of(search(SPACE, 30, 0, quality, "lower"), "lower")
    assert abs(math.log10(float(worst.values["x"])) - 1) > 1.5


def test_trial_that_diverged_counts_and_never_wins():
    def score(words):
        return math.nan if float(words[0].split("=")[1]) > 1 else quality(words)

    trials = search(SPACE, 12, 0, score, "higher")
    assert len(trials) == 12 and any(math.isnan(trial.score) for trial in trials)
    assert not math.isnan(best_of(trials, "higher").score)
    with pytest.raises(ValueError, match="none of the 1 settings"):
        best_of([Trial(0, {}, math.nan)], "higher")


def test_nothing_to_vary_is_one_trial():
    assert settings(search((), 20, 0, lambda words: 1.0, "higher")) == [{}]
