"""In the place of egress's interpreter, as `python -P -m workers.egress ...`: the encoder raises on the 30th picture of
the first process that comes so far, which makes the file that FAILED_ONCE names."""

import os
import runpy
import sys
from pathlib import Path
from typing import Any

from pipeline.media.encoder import EncodedUnit, VideoEncoder

as_usual = VideoEncoder.encode
pictures = 0


def encode(self: VideoEncoder, *arguments: Any) -> list[EncodedUnit]:
    global pictures
    pictures += 1
    mark = Path(os.environ["FAILED_ONCE"])
    if pictures == 30 and not mark.exists():
        mark.touch()
        raise RuntimeError("the encoder broke")
    return as_usual(self, *arguments)


VideoEncoder.encode = encode  # type: ignore[method-assign]
sys.argv = sys.argv[3:]
runpy.run_module(sys.argv[0], run_name="__main__")
