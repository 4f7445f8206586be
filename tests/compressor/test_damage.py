"""What groups are worth, and that it is measured once for the same model and images."""

import pytest

from ortrim.compressor import damage
from ortrim.compressor.damage import Kept, damage_of_groups, key_of
from ortrim.compressor.recovery import Corrector, OutputDeviation, gather, rank
from ortrim.errors import OutputError
from ortrim.graph import analyze


@pytest.fixture(scope="module")
def tools(residual, images):
    analysis = analyze(residual)
    moments = gather(residual, analysis, images[:64])
    corrector = Corrector(residual, analysis, moments, images[:64], samples=32, threads=1)
    error = OutputDeviation(residual, images[64:])
    return analysis, rank(residual, analysis, moments=moments), corrector, error


@pytest.fixture
def found(tools):
    """Damage with some cache, and how often errors were asked for."""
    analysis, ranking, corrector, error = tools

    def find(folder, widths=(4, 8, 12), *, at_a_time=100):
        asked = []

        def errors(places):
            asked.append(places)
            return [error(corrector(ranking.removal(dict([place])))) for place in places]

        offered = {group.name: widths for group in analysis.groups if group.removable}
        kept = Kept(folder, "key")
        return damage_of_groups(ranking, offered, errors, kept, points=2, at_a_time=at_a_time), len(asked)

    return find


def test_a_second_search_finds_what_the_first_measured(found, tmp_path):
    first, again = found(tmp_path / "cache"), found(tmp_path / "cache")
    assert (first[1], again[1]) == (1, 0)
    assert first[0] == again[0]  # to the last bit
    assert all(of[4] > of[8] > of[12] == 0 for of in first[0].values())


def test_only_new_widths_are_measured(found, tmp_path):
    found(tmp_path)
    more, made = found(tmp_path, (2, 8, 12))
    assert made == 1
    assert more == found(None, (2, 8, 12))[0]


def test_places_are_asked_about_a_few_at_a_time(found):
    few, asked = found(None, at_a_time=2)
    many, at_once = found(None)
    assert few == many
    assert asked > at_once == 1


def test_without_a_folder_nothing_is_kept(found, tmp_path):
    assert (found(None)[1], found(None)[1]) == (1, 1)
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_keeps_what_was_measured(tmp_path):
    kept = Kept(tmp_path, "key")

    def interrupted_at_b(places):
        if places != [("a", 1)]:
            raise KeyboardInterrupt
        return [0.1]

    def begin():
        with kept.writing():
            kept.get([("a", 1), ("b", 1)], interrupted_at_b)

    with pytest.raises(KeyboardInterrupt):
        begin()
    assert Kept(tmp_path, "key").get([("a", 1)], None) == [0.1]


@pytest.mark.parametrize("content", [b"", b"[[1]]", b"{}}", b'[["a", 4, NaN]]', b"\xff\xfe", b"[3]"])
def test_what_is_damaged_is_measured_anew(found, tmp_path, content):
    (tmp_path / "key.json").write_bytes(content)
    worth, made = found(tmp_path)
    assert made == 1
    assert worth == found(tmp_path)[0]


def test_a_folder_that_cannot_be_written_is_no_obstacle(found, tmp_path, monkeypatch, caplog):
    """As root, who may write everywhere, the file is refused in its stead."""

    def refuse(path, content):
        raise OutputError(f"output {path} cannot be written: disk full")

    monkeypatch.setattr(damage, "write_whole", refuse)
    assert found(tmp_path)[1] == 1
    assert "disk full" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_no_obstacle(found, tmp_path):
    (tmp_path / "cache").write_text("not a folder")
    assert found(tmp_path / "cache")[1] == 1


def test_the_key_is_of_all_that_matters(residual, build, images, tools):
    analysis, ranking, *_ = tools
    other = rank(residual, analysis, "l1")
    feeds = {"x": images}
    keys = {
        key_of(residual, ranking, [feeds], 0),
        key_of(residual, ranking, [feeds], 1),
        key_of(residual, other, [feeds], 0),
        key_of(residual, ranking, [{"x": images + 1}], 0),
        key_of(residual, ranking, [feeds, feeds], 0),
    }
    assert len(keys) == 5
    assert key_of(residual, ranking, [{"x": images.copy()}], 0) in keys
