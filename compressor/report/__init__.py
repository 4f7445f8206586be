"""The report of a run: `report.json` for programs, `report.html` for people."""

from pathlib import Path

from ..files import write_whole
from .content import (
    ClassFacts,
    DeviceFacts,
    DeviceLatencyFacts,
    FrontFacts,
    FrozenFacts,
    GroupFacts,
    LatencyFacts,
    ModelFacts,
    ReportData,
    ScoreFacts,
    SearchFacts,
    SpentFacts,
    StageFacts,
    StaircaseFacts,
    TargetFacts,
    TrialFacts,
)
from .html import to_html
from .record import read_report, to_json

__all__ = [
    "ClassFacts",
    "DeviceFacts",
    "DeviceLatencyFacts",
    "FrontFacts",
    "FrozenFacts",
    "GroupFacts",
    "LatencyFacts",
    "ModelFacts",
    "ReportData",
    "ScoreFacts",
    "SearchFacts",
    "SpentFacts",
    "StageFacts",
    "StaircaseFacts",
    "TargetFacts",
    "TrialFacts",
    "read_report",
    "to_html",
    "to_json",
    "write_report",
]


def write_report(data: ReportData, folder: str | Path) -> None:
    """Write `report.json` and `report.html` into `folder`, each whole or not at all.

    Raises:
        OutputError: they cannot be written.
    """
    write_whole(Path(folder) / "report.json", to_json(data))
    write_whole(Path(folder) / "report.html", to_html(data).encode())
