"""Which candidates are measured thoroughly, in which order, on steady and on unsteady machines."""

from types import SimpleNamespace

import pytest

from ortrim.compressor.finalists import MOST_MISSES, Finalists
from ortrim.errors import TargetError


def trial(number, score, ratio, low=None):
    return SimpleNamespace(id=number, plan={"g": number}, score=score, ratio=ratio, low=low)


class Machine:
    """An evaluator whose thorough ratios are the quick ones times a factor, or as listed."""

    def __init__(self, trials, factor=1.0, **listed):
        self.quick = {t.id: t.ratio for t in trials}
        self.factor, self.listed, self.measured = factor, listed, []
        self.meter = self
        self.maker = SimpleNamespace(deployed=lambda plan: None)

    def final(self, plan, model, limit):
        number = plan["g"]
        self.measured.append(number)
        return SimpleNamespace(value=self.listed.get(f"t{number}", self.quick[number] * self.factor))


def test_the_best_score_that_meets_the_target():
    trials = [trial(1, 0.9, 0.5), trial(2, 0.95, 0.6), trial(3, 0.99, 0.7, low=0.69)]
    machine = Machine(trials)
    finalists = Finalists(machine, trials, 0.62)
    assert next(finalists).trial.id == 2
    assert next(finalists).trial.id == 1
    with pytest.raises(TargetError, match=r"no candidate out of 3 meets --latency 0\.62x: the fastest .* at 0\.500x"):
        next(finalists)


def test_a_near_miss_is_tried():
    trials = [trial(1, 0.9, 0.5), trial(2, 0.95, 0.61, low=0.595)]
    assert next(Finalists(Machine(trials, t2=0.598), trials, 0.6)).trial.id == 2


def test_a_machine_that_became_busy_does_not_cost_all_of_the_best():
    """Sixty candidates just below the target, by two percent too quick, and some well below it with lower scores."""
    trials = [trial(n, 0.97 - 1e-5 * n, 0.59 + 1e-4 * n) for n in range(60)]
    trials += [trial(100 + n, 0.95 - 1e-4 * n, 0.57 - 0.002 * n) for n in range(10)]
    machine = Machine(trials, 1.025)
    winner = next(Finalists(machine, trials, 0.6))
    assert winner.trial.id == 100
    assert len(machine.measured) <= 4


def test_what_misses_in_the_end_is_learned_from():
    trials = [trial(1, 0.97, 0.585), trial(2, 0.96, 0.59), trial(3, 0.95, 0.56)]
    machine = Machine(trials)
    finalists = Finalists(machine, trials, 0.6)
    first = next(finalists)
    assert first.trial.id == 1
    finalists.missed(SimpleNamespace(trial=first.trial, latency=SimpleNamespace(value=0.615)))
    assert next(finalists).trial.id == 3  # 2 would come to .604


def test_caution_does_not_leave_the_last_one_out():
    trials = [trial(1, 0.97, 0.598), trial(2, 0.96, 0.5975)]
    machine = Machine(trials, t1=0.601, t2=0.599)
    assert next(Finalists(machine, trials, 0.6)).trial.id == 2


def test_the_fastest_is_measured_before_it_is_given_up():
    """One measurement that came out high is no reason to leave out what may be fast enough."""
    trials = [trial(1, 0.97, 0.61, low=0.598), trial(2, 0.96, 0.599, low=0.59), trial(3, 0.95, 0.7, low=0.69)]
    machine = Machine(trials, t1=0.617, t2=0.5995)
    assert next(Finalists(machine, trials, 0.6)).trial.id == 2
    assert machine.measured == [1, 2]


def test_it_is_given_up_in_the_end():
    trials = [trial(n, 0.97 - 1e-3 * n, 0.59 - 0.01 * n) for n in range(40)]
    machine = Machine(trials, **{f"t{n}": 0.601 for n in range(40)})
    with pytest.raises(TargetError, match=f"{MOST_MISSES} candidates that seemed to meet --latency 0.6x missed it"):
        next(Finalists(machine, trials, 0.6))
    assert len(machine.measured) == MOST_MISSES


@pytest.mark.parametrize(("exhausted", "said"), [(True, "nothing else to try"), (False, "more --episodes")])
def test_none_is_fast_enough(exhausted, said):
    trials = [trial(1, 0.9, 0.9)]
    with pytest.raises(TargetError, match=said):
        next(Finalists(Machine(trials), trials, 0.6, exhausted=exhausted))


def test_nothing_was_tried():
    with pytest.raises(TargetError, match="before its first candidate"):
        next(Finalists(Machine([]), [], 0.6))
