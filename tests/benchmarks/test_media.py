"""The benchmark of the media stages really does the work, and refuses what cannot be right. No times are asserted."""

import sys
from pathlib import Path

import pytest

from benchmarks import media
from benchmarks.media_peers import ours
from benchmarks.media_peers.work import PUBLISH, STAGES, Work
from benchmarks.trickle_peers.catalogue import CLIENTS, PYTRICKLE

SMALL = Work("small", 160, 120, 96, 96, 200_000)
PICTURES = 30


def test_every_stage_of_everybody_has_a_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "PUBLISHED", 5)

    figures = media.measure([SMALL], rounds=1, pictures=PICTURES)

    for name in (media.OURS, media.LIBAV):
        assert set(figures[SMALL.name, name]) == set(STAGES)
    assert all(value > 0 for stages in figures.values() for value in stages.values())
    assert ((SMALL.name, PYTRICKLE) in figures) == CLIENTS[PYTRICKLE].installed
    shown = media.markdown(figures, [SMALL.name])
    assert all(f"| {stage} |" in shown for stage in STAGES)


def test_pictures_that_do_not_come_out_are_no_figure(tmp_path: Path) -> None:
    whole = SMALL.write_source(tmp_path, PICTURES)
    damaged = tmp_path / "damaged.ts"
    data = bytearray(whole.read_bytes())
    middle = len(data) // 376 * 188
    data[middle : middle + 40 * 188] = b""
    damaged.write_bytes(data)

    with pytest.raises(ValueError, match="pictures came out"):
        ours.measure(SMALL, damaged, [])


def test_an_encoder_that_no_longer_converts_where_we_look_is_an_error() -> None:
    with pytest.raises(ValueError, match="mend"):
        ours._Timed(None).taken()


@pytest.mark.parametrize(
    ("work", "crop"),
    [(Work("wide", 1280, 720, 512, 512, 1), (720, 720)), (Work("tall", 600, 800, 512, 512, 1), (600, 600))],
)
def test_the_floor_shows_the_same_part_of_the_source(work: Work, crop: tuple[int, int]) -> None:
    assert work.crop == crop


def test_what_nobody_measured_is_no_row() -> None:
    stages = dict.fromkeys(STAGES, 1.0)
    shown = media.markdown({("a", media.OURS): stages, ("a", media.LIBAV): stages}, ["a"])
    assert f"| {PUBLISH} | 1.000 (1.00) |" in shown
    assert "**pytrickle" not in shown


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--rounds", "0"], "--rounds 0: needed: 1 or more"),
        (["--pictures", "10"], "--pictures 10: needed: 20 or more"),
        (["--works", "8K"], "invalid choice: '8K'"),
        (["--json", "nowhere/at/all.json"], "there is no folder nowhere/at"),
    ],
)
def test_nonsense_is_refused_before_anything_starts(
    arguments: list[str], why: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["media", *arguments])
    with pytest.raises(SystemExit, match="2"):
        media.main()
    assert why in capsys.readouterr().err
