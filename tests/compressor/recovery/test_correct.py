"""Quick corrections."""

import pytest

from ortrim.compressor.recovery.correct import Corrector
from ortrim.compressor.recovery.deviation import OutputDeviation
from ortrim.compressor.recovery.importance import rank
from ortrim.compressor.recovery.moments import gather
from ortrim.compressor.recovery.refit import Refitter
from ortrim.graph import analyze, slim, verify


@pytest.fixture(scope="module")
def tools(residual, images):
    analysis = analyze(residual)
    moments = gather(residual, analysis, images[:64])
    corrector = Corrector(residual, analysis, moments, images[:64], samples=48)
    ranking = rank(residual, analysis, "refit", moments)
    return analysis, moments, ranking, corrector, OutputDeviation(residual, images[64:])


def test_a_corrected_net_is_the_slim_graph_and_closer(residual, tools):
    analysis, moments, ranking, corrector, error = tools
    removal = ranking.removal({group.name: 5 for group in analysis.groups if group.removable})
    alone = slim(Refitter(residual, analysis, moments)(removal), removal, analysis=analysis)
    corrected = corrector(removal)
    shapes = [{t.name: tuple(t.dims) for t in net.graph.initializer} for net in (alone, corrected)]
    assert shapes[0] == shapes[1]
    assert error(corrected) < 0.9 * error(alone) < error(slim(residual, removal, analysis=analysis))


def test_nothing_removed_is_the_original(residual, tools):
    analysis, *_, corrector, error = tools
    verify(residual, corrector({}), {}, analysis=analysis)
    assert error(residual) == 0
