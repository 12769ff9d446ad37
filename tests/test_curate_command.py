"""The command line of `curate`."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from dreamontage.cli import app


def test_the_command_reports_what_is_impossible(wild_films: Path, tmp_path: Path) -> None:
    def output_of(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["curate", *arguments, "--out", str(tmp_path / "out")])
        assert done.exit_code
        return f"{done.exception}{done.output}"

    assert "there is no such folder" in output_of(str(tmp_path / "none"))
    (tmp_path / "none").mkdir()
    assert "holds no videos" in output_of(str(tmp_path / "none"))
    folder = str(wild_films)
    assert "--size = '12' must read WIDTHxHEIGHT" in output_of(folder, "--size", "12")
    assert "--size = 8x8 must be at least 16 each way" in output_of(folder, "--size", "8x8")
    assert "--fps = 'many' must be a number" in output_of(folder, "--fps", "many")
    assert "--pose = 'no_such:thing' must name MODULE:FUNCTION" in output_of(
        folder, "--pose", "no_such:thing"
    )
    assert "--stills-every = 3 must be 1, 2 or 4" in output_of(folder, "--stills-every", "3")
    assert "holds no CLIP model" in output_of(folder, "--clip", str(tmp_path))


def test_the_command_only_reports_when_asked_to(wild_films: Path, tmp_path: Path) -> None:
    arguments = [
        "curate",
        str(wild_films),
        "-o",
        str(tmp_path),
        "--size",
        "128x80",
        "--report-only",
    ]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "dropped: more than one shot" in done.output
    assert {path.name for path in tmp_path.iterdir()} == {
        "measured",
        "report.json",
        "report.txt",
        "kept.png",
        "dropped.png",
    }
