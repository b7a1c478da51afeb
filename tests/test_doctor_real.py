"""The doctor on photographs: planted faults, and published sets that have none of its errors."""

from pathlib import Path

import pytest

import nunbit
from nunbit.models.pretrained import LITE0, installed_weights
from planting import found_by, plant

pytestmark = pytest.mark.real


def test_planted_faults_among_flowers(real_data: Path, tmp_path: Path) -> None:
    """docs/doctor.md has the figures of three plantings."""
    if installed_weights(LITE0) is None:
        pytest.skip("needs the extra [offline]")
    planted = plant(real_data / "flowers", tmp_path / "photos")
    diagnosis = nunbit.doctor(tmp_path / "photos", quiet=True)
    report = diagnosis.to_dict()
    found = found_by(report, planted)
    assert (found.exact, found.damaged, found.is_border_named) == (20, 10, True)
    assert found.near >= 16
    assert found.swapped >= 20, "among the first 60 suspects"
    assert diagnosis.report is not None
    assert diagnosis.report.stat().st_size < 5_000_000


def test_flowers_as_they_are(real_data: Path, tmp_path: Path) -> None:
    report = nunbit.doctor(real_data / "flowers", features="none", quiet=True).to_dict()
    assert not [cue["cue"] for cue in report["cues"] if cue["is_shortcut"]]
    assert {issue["kind"] for issue in report["issues"] if issue["severity"] == "error"} <= {
        "conflicting-labels"
    }


def test_birds_have_no_error(real_data: Path) -> None:
    report = nunbit.doctor("birds", features="none", quiet=True).to_dict()
    assert (report["images"], report["exit_code"]) == (12_000, 0)
