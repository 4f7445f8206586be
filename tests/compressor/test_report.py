import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from ortrim.compressor import report
from ortrim.compressor.report import charts, histogram, html, svg
from ortrim.errors import RunError
from ortrim.runtime import Latency, Ratio

EVIL = "<script>alert('&\"')</script>"
VOID = {"meta", "br", "hr", "img", "link", "input"}


def sample_report(groups=30, trials=80, seed=0):
    """A report as a real run makes it."""
    generator = np.random.default_rng(seed)
    ratios = generator.uniform(0.45, 0.95, trials)
    scores = np.clip(0.93 - 0.4 * (1 - ratios) ** 2 - generator.exponential(0.03, trials), 0, 1)
    rows = [report.TrialFacts(i + 1, float(s), float(r)) for i, (s, r) in enumerate(zip(scores, ratios, strict=True))]
    meeting = [row for row in rows if row.ratio <= 0.6]
    best = max(meeting, key=lambda row: row.score).episode if meeting else None
    before = tuple(4.5 + generator.gamma(2, 0.06, 400))
    after = tuple(2.66 + generator.gamma(2, 0.05, 400))
    size = [int(16 * 2 ** (3 * i // max(groups, 1))) for i in range(groups)]
    return report.ReportData(
        ortrim="0.1.0",
        created="2031-05-06 12:00",
        model=report.ModelFacts("models/resnet56.onnx", "a" * 64, 853_018, 125_485_706, 3_412_000),
        slim=report.ModelFacts("runs/first/slim.onnx", "b" * 64, 402_330, 61_400_000, 1_640_000),
        device=report.DeviceFacts("cpu:threads=1", "CPUExecutionProvider", "1.31.1", "Example CPU @ 2.5 GHz"),
        target=report.TargetFacts(0.6),
        latency=report.LatencyFacts(
            4.61, 2.75, 0.597, 0.594, 0.6, baseline_samples_ms=before, slim_samples_ms=after, clock="thread-cpu"
        ),
        score=report.ScoreFacts("accuracy", 0.934, 0.9125, 1000),
        search=report.SearchFacts("ddpg", trials, 431.0, best),
        groups=tuple(
            report.GroupFacts(f"/layer{i // 9 + 1}/block{i % 9}/conv1", s, int(s * (i % 4) / 3))
            for i, s in enumerate(size)
        ),
        trials=tuple(rows),
        stages=(
            report.StageFacts("analysis and calibration", 31.2),
            report.StageFacts("search", 431.0, 0.893),
            report.StageFacts("sequential refit", 55.0, 0.9125),
            report.StageFacts("verification and final measurement", 21.0),
        ),
        classes=tuple(report.ClassFacts(f"class {i}", 100, 0.93, 0.93 - i / 100) for i in range(10)),
        frozen=(report.FrozenFacts("/fc/Gemm", "its outputs are the model's outputs"),),
        staircases=tuple(
            report.StaircaseFacts(
                f"/layer{i // 9 + 1}/block{i % 9}/conv1",
                tuple(range(0, s + 1, 4)),
                tuple(0.1 * -(-width // 16) for width in range(0, s + 1, 4)),
                tuple(range(0, s + 1, 16)),
            )
            for i, s in enumerate(size)
        ),
        settings={"agent": "ddpg", "seed": "0", "calibration": "500 images"},
        versions={"python": "3.11.7", "numpy": "2.4.6"},
        notes=("only 200 images to score with",),
    )


@pytest.fixture(scope="module")
def data():
    return sample_report()


class Page(HTMLParser):
    """Checks nesting, and collects ids, references and text."""

    def __init__(self, page):
        super().__init__()
        self.open, self.ids, self.references, self.text = [], [], [], []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self.open.append(tag)
        for key, value in attributes:
            if key == "id":
                self.ids.append(value)
            elif key in ("src", "href", "xlink:href", "action", "srcset"):
                self.references.append(value)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, text):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(text.strip())


def page_of(data):
    return Page(report.to_html(data))


# --- report.json


def test_json_holds_what_is_promised(data):
    record = json.loads(report.to_json(data))
    promised = {
        "ortrim": str,
        "model": {"path": str, "sha256": str, "parameters": int, "macs": int},
        "slim": {"path": str, "sha256": str, "parameters": int, "macs": int},
        "device": {"spec": str, "provider": str, "onnxruntime": str, "cpu": str},
        "target": {"ratio": float},
        "latency": {"baseline_ms": float, "slim_ms": float, "ratio": float, "low": float, "high": float},
        "score": {"kind": str, "baseline": float, "slim": float, "images": int},
        "search": {"agent": str, "episodes": int, "seconds": float, "best_episode": int},
    }

    def check(part, wanted):
        for key, kind in wanted.items():
            if isinstance(kind, dict):
                check(part[key], kind)
            else:
                assert isinstance(part[key], kind), key

    check(record, promised)
    assert list(record["plan"]) == [group.name for group in data.groups]
    assert record["plan"]["/layer1/block1/conv1"] == {"size": 16, "kept": 5}


def test_json_reads_back(data, tmp_path):
    report.write_report(data, tmp_path)
    assert report.read_report(tmp_path / "report.json") == data
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]


def test_trials_that_could_not_be_measured(data):
    failed = replace(data, trials=(*data.trials, report.TrialFacts(81, math.nan, math.nan)))
    record = json.loads(report.to_json(failed))
    assert record["trials"][-1] == {"episode": 81, "score": None, "ratio": None}
    assert math.isnan(report.record.from_json(report.to_json(failed)).trials[-1].ratio)
    assert "1 could not be measured" in report.to_html(failed)


def test_unknown_keys_are_ignored(data, tmp_path):
    record = json.loads(report.to_json(data))
    record["new"] = record["model"]["new"] = 1
    (tmp_path / "report.json").write_text(json.dumps(record))
    assert report.read_report(tmp_path / "report.json") == data


def test_reports_that_cannot_be_read(data, tmp_path):
    path = tmp_path / "report.json"
    with pytest.raises(RunError, match=r"report\.json does not exist"):
        report.read_report(path)
    record = json.loads(report.to_json(data))
    wrong = [record | {"latency": {}}, record | {"plan": []}, record | {"model": None}, record | {"trials": [1]}, [], 3]
    wrong.append(record | {"score": record["score"] | {"slim": "high"}})
    wrong.append(record | {"staircases": [record["staircases"][0] | {"widths": [1, 2]}]})
    for content in ("", "{", "[", *map(json.dumps, wrong)):
        path.write_text(content)
        with pytest.raises(RunError, match="not a report") as caught:
            report.read_report(path)
        assert "\n" not in str(caught.value)


def test_facts_of_a_measured_ratio():
    def latency(median, samples):
        return Latency(median, median, median - 0.1, median + 0.1, 0.95, samples, "wall", median, {})

    many = tuple(float(i) for i in range(1, 5001))
    ratio = Ratio(0.5, 0.49, 0.51, 0.95, latency(4.0, many), latency(2.0, (2.0,)), 0.0, True)
    facts = report.LatencyFacts.from_ratio(ratio)
    assert (facts.baseline_ms, facts.slim_ms, facts.ratio, facts.low, facts.high) == (4.0, 2.0, 0.5, 0.49, 0.51)
    assert (facts.baseline_low_ms, facts.slim_high_ms, facts.clock, facts.drifted) == (3.9, 2.1, "wall", True)
    assert len(facts.baseline_samples_ms) <= 2000
    assert np.median(facts.baseline_samples_ms) == pytest.approx(np.median(many), rel=0.01)


# --- report.html


def test_every_section_is_there(data):
    page = page_of(data)
    sections = {"trials", "latency", "progress", "stages", "groups", "staircases", "classes", "frozen", "settings"}
    assert sections <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    text = " ".join(page.text)
    for expected in (
        "resnet56.onnx",
        "0.597×",
        "95 % interval 0.594–0.600×",
        "93.40 %",
        "91.25 %",
        "−2.15 points",
        "402 k",
        "from 853 k",
        "−52.8 %",
        "target 0.6× met",
        "cpu:threads=1",
        "/fc/Gemm",
        "only 200 images to score with",
        "500 images",
        "7 min 11 s",
    ):
        assert expected in text, expected


def test_the_page_needs_no_network(data):
    page = report.to_html(data)
    assert not re.findall(r"https?://(?!www\.w3\.org/)", page)
    assert "@import" not in page
    assert "url(" not in page
    assert page_of(data).references == []


def test_names_are_escaped(data):
    page = report.to_html(
        replace(
            data,
            model=replace(data.model, path=EVIL),
            device=replace(data.device, spec=EVIL, cpu=EVIL),
            groups=(report.GroupFacts(EVIL, 4, 2),),
            frozen=(report.FrozenFacts(EVIL, EVIL),),
            staircases=(report.StaircaseFacts(EVIL, (2, 4), (0.1, 0.2), (4,)),),
            stages=(report.StageFacts(EVIL, 1.0),),
            classes=(report.ClassFacts(EVIL, 1, 1.0, 1.0),),
            search=replace(data.search, agent=EVIL),
            score=replace(data.score, kind=EVIL, detail=EVIL),
            settings={EVIL: EVIL},
            notes=(EVIL,),
        )
    )
    assert "<script" not in page
    assert EVIL in Page(page).text


def test_charts_describe_themselves(data):
    charts_found = re.findall(r"<svg class=\"chart\".*?</svg>", report.to_html(data), re.DOTALL)
    assert len(charts_found) == 3 + len(data.staircases)
    for markup in charts_found:
        chart = ElementTree.fromstring(markup)
        ids = chart.get("aria-labelledby").split()
        assert [chart.find("title").get("id"), chart.find("desc").get("id")] == ids
        assert chart.find("title").text
        assert chart.find("desc").text
        assert "nan" not in markup.lower()


def test_trials_are_drawn(data):
    chart = ElementTree.fromstring(charts.trials_chart(data))
    styles = [circle.get("class") for circle in chart.iter("circle")]
    meeting = sum(trial.ratio <= 0.6 for trial in data.trials)
    assert styles.count("meets") == meeting + 1  # One more in the legend.
    assert styles.count("misses") == len(data.trials) - meeting + 1
    assert styles.count("winner") == 2
    assert [line.get("class") for line in chart.iter("line")].count("target") == 1
    for circle in chart.iter("circle"):
        assert 0 <= float(circle.get("cx")) <= svg.WHOLE.width
        assert 0 <= float(circle.get("cy")) <= svg.WHOLE.height


def test_a_staircase_marks_its_steps_and_what_was_kept():
    stairs = report.StaircaseFacts("g", (0, 4, 8, 12, 16), (0.0, 0.1, 0.1, 0.2, 0.2), (0, 4, 16))
    chart = ElementTree.fromstring(charts.staircase_chart(stairs, 4, "g"))
    dots = {dot.get("class"): [] for dot in chart.iter("circle")}
    for dot in chart.iter("circle"):
        dots[dot.get("class")].append((float(dot.get("cx")), float(dot.get("cy"))))
    assert [len(dots[style]) for style in ("meets", "misses")] == [3, 2]
    (mark,) = (line for line in chart.iter("line") if line.get("class") == "target")
    assert float(mark.get("x1")) == dots["meets"][1][0]
    assert dots["meets"][0][1] > dots["meets"][1][1] > dots["meets"][2][1]
    assert chart.find("desc").text == "Steps at 0, 4, 16; 4 of 16 units are kept."


def test_a_group_that_costs_nothing_is_drawn():
    stairs = report.StaircaseFacts("g", (1,), (0.0,), (1,))
    assert "nan" not in charts.staircase_chart(stairs, 1, "g").lower()


@pytest.mark.parametrize("trials", [0, 1, 2])
def test_few_trials(trials):
    small = sample_report(groups=1, trials=trials)
    page = page_of(small)
    assert ("No trial was recorded." in page.text) == (trials == 0)


def test_a_report_of_the_least():
    data = sample_report(groups=0, trials=1)
    data = replace(
        data,
        trials=(report.TrialFacts(1, 0.0, 1.2),),
        search=report.SearchFacts("random", 1, 0.2, None),
        latency=replace(data.latency, baseline_samples_ms=(), slim_samples_ms=(), ratio=1.2),
        stages=(),
        classes=(),
        frozen=(),
        staircases=(),
        notes=(),
        settings={},
        versions={},
    )
    page = page_of(data)
    text = " ".join(page.text)
    assert "staircases" not in page.ids
    assert "target 0.6× missed" in text
    assert "No samples were recorded." in text
    assert "every layer with channels could be pruned" in text


def test_one_sample_each(data):
    latency = replace(data.latency, baseline_samples_ms=(2.0,), slim_samples_ms=(2.0,))
    assert "nan" not in charts.latency_chart(replace(data, latency=latency)).lower()


@pytest.mark.parametrize("groups", [5, 200])
def test_every_group_has_its_row_and_its_staircase(groups):
    page = page_of(sample_report(groups=groups, trials=3))
    assert len(re.findall(r"^/layer\d+/block\d+/conv1$", "\n".join(page.text), re.MULTILINE)) == 2 * groups


# --- the small parts


def test_samples_in_bins():
    assert histogram.bin_counts([0.0, 0.1, 0.5, 1.0, 1.1, -1.0], 0.0, 1.0, 2) == [2, 2]
    assert histogram.bin_counts([3.0, 3.0], 3.0, 3.0, 3) == [2, 0, 0]
    assert histogram.quantile([4, 1, 3, 2], 0.5) == 3
    assert histogram.quantile([1], 0.99) == 1


def test_the_front():
    trials = [report.TrialFacts(i, s, r) for i, (s, r) in enumerate([(0.5, 0.5), (0.4, 0.6), (0.9, 0.9), (0.7, 0.6)])]
    assert [(t.ratio, t.score) for t in charts.front(trials)] == [(0.5, 0.5), (0.6, 0.7), (0.9, 0.9)]
    assert charts.front([]) == []


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.43, 0.97, [0.5, 0.6, 0.7, 0.8, 0.9]),
        (-3, 12, [-2, 0, 2, 4, 6, 8, 10, 12]),
        (0.8999, 0.9001, [0.8999, 0.89995, 0.9, 0.90005, 0.9001]),
    ],
)
def test_ticks_are_round(low, high, expected):
    assert svg.ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (853_018, "853 k"), (3_412_000, "3.41 M"), (999_999, "1.00 M"), (4.1e9, "4.10 G")],
)
def test_numbers_are_short(number, text):
    assert html.short(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.31, "0.3 s"), (48, "48 s"), (431, "7 min 11 s"), (4800, "1 h 20 min"), (59.7, "1 min 0 s")]
)
def test_durations(seconds, text):
    assert html.duration(seconds) == text
