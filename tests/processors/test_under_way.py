from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from pipeline.memory.slab import create_slab
from pipeline.memory.stage_stats import STATS_BYTES, StageStats, Word
from pipeline.processors.under_way import UnderWay


@pytest.fixture
def stats() -> Iterator[StageStats]:
    made = StageStats(create_slab("stats", STATS_BYTES))
    yield made
    made.close()


def test_the_oldest_that_has_not_ended_is_told(stats: StageStats) -> None:
    under_way, first, second = UnderWay(stats), Future[None](), Future[None]()
    assert stats[Word.UNDER_WAY_SINCE_NS] == 0
    under_way.add(first)
    since = stats[Word.UNDER_WAY_SINCE_NS]
    under_way.add(second)
    assert stats[Word.UNDER_WAY_SINCE_NS] == since > 0
    first.set_result(None)
    assert stats[Word.UNDER_WAY_SINCE_NS] > since
    second.set_exception(ValueError())
    assert stats[Word.UNDER_WAY_SINCE_NS] == 0, "though nobody has asked for what came of it"


def test_what_has_ended_at_once_is_not_under_way(stats: StageStats) -> None:
    done = Future[None]()
    done.set_result(None)
    UnderWay(stats).add(done)
    assert stats[Word.UNDER_WAY_SINCE_NS] == 0
