import io

import pytest
from rich.console import Console

from pipeline.display import progress_bar, progress_words
from pipeline.messages import Progress


@pytest.mark.parametrize(
    ("progress", "words"),
    [
        (Progress(0.0, 40.0, 0.0), "00:00 of 00:40 (0%)"),
        (Progress(10.0, 40.0, 5.0), "00:10 of 00:40 (25%), 00:15 left"),
        (Progress(3600.0, 7200.0, 7200.0), "1:00:00 of 2:00:00 (50%), 2:00:00 left"),
        (Progress(41.0, 40.0, 5.0), "00:41 of 00:40 (100%), 00:00 left"),
        (Progress(75.0, None, 5.0), "01:15"),
    ],
)
def test_progress_says_how_far_and_how_long(progress, words):
    assert progress_words(progress) == words
    screen = io.StringIO()
    Console(file=screen, width=120, force_terminal=True).print(progress_bar(progress, 24.96))
    assert f"{words}, 25.0 fps" in screen.getvalue()
