"""What happens when, and what is refused."""

from dataclasses import replace

import pytest

from ortrim.compressor.joint import Settings
from ortrim.compressor.joint.schedule import Phase, Schedule
from ortrim.errors import InputError


def phases(epochs, **others):
    schedule = Schedule.of(Settings(epochs=epochs, **others))
    return [schedule.phase(epoch) for epoch in range(epochs)]


def test_the_papers_schedule():
    found = phases(200)
    assert [found.count(phase) for phase in Phase] == [10, 10, 70, 110]
    assert found == sorted(found, key=list(Phase).index)
    schedule = Schedule.of(Settings())
    rates = [schedule.rate_at(epoch) for epoch in range(200)]
    assert rates[:100] == [0.1] * 100
    assert rates[100:150] == pytest.approx([0.01] * 50)
    assert rates[150:] == pytest.approx([0.001] * 50)
    assert (schedule.filling, schedule.searching) == (10, 80)
    assert Schedule.of(Settings(drop=0.5)).rate_at(199) == pytest.approx(0.025)


@pytest.mark.parametrize("epochs", [4, 5, 7, 13, 30, 99])
def test_other_lengths_scale_it_and_leave_no_phase_out(epochs):
    found = phases(epochs)
    assert {Phase.FILL, Phase.JOINT, Phase.WEIGHTS} <= set(found)
    assert found == sorted(found, key=list(Phase).index)
    for phase, share in zip(Phase, (0.05, 0.05, 0.35, 0.55), strict=True):
        assert abs(found.count(phase) - share * epochs) <= 2


def test_without_pruning_weights_train_alone_at_the_same_rates():
    assert set(phases(40, prune=False)) == {Phase.WEIGHTS}
    plain, joint = Schedule.of(Settings(epochs=40, prune=False)), Schedule.of(Settings(epochs=40))
    assert [plain.rate_at(epoch) for epoch in range(40)] == [joint.rate_at(epoch) for epoch in range(40)]


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("epochs", 3, "--epochs 3: at least 4"),
        ("joint", 0.95, "more than all"),
        ("first_drop", 1.5, "--first-drop is a share"),
        ("rate", 0.0, "--rate should be above 0"),
        ("rate", float("nan"), "--rate nan: a finite number"),
        ("beta", -1e-5, "--beta should not be below 0"),
        ("episodes", 0, "--episodes should be at least 1"),
        ("batch", 1, "--batch 1"),
        ("reward", 0, "--reward should be at least 1"),
        ("discount", 1.1, "--discount is a share"),
        ("tau", 0.0, "--tau should be above 0"),
        ("agent_batch", 0, "--agent-batch should be at least 1"),
        ("replay_episodes", 0, "--replay-episodes should be at least 1"),
        ("drop", 0.0, "--drop should be above 0"),
        ("agent", "ddpg", "'ddpg'"),
    ],
)
def test_settings_that_cannot_work(field, value, said):
    with pytest.raises(InputError, match=said):
        replace(Settings(), **{field: value}).check()


def test_every_number_says_where_it_comes_from():
    from ortrim.compressor.joint.settings import options

    names = [item.name for item in options()]
    assert {"epochs", "beta", "alpha", "reward", "embedding", "discount", "drop", "decoder_batch"} <= set(names)
    assert all(item.metadata["source"] in ("P", "S", "ours") for item in options())
    Settings().check()
