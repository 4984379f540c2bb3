"""A table's words under watch: a process that dies between two stores, and one that is overtaken between two loads."""

from collections.abc import Callable

from pipeline.memory.slot_table import SlotTable


class Died(BaseException):
    """Nothing may catch this, as nothing can catch SIGKILL."""


class Life:
    """How many stores a process still makes before it dies; None: it lives on. One life may use several tables."""

    def __init__(self, stores: int | None = None) -> None:
        self.stores_left = stores
        self.stored = 0

    def store(self) -> None:
        if self.stores_left is not None:
            if self.stores_left == 0:
                raise Died
            self.stores_left -= 1
        self.stored += 1


class WatchedWords:
    """Stands in for the memoryview of a table."""

    def __init__(self, words: memoryview, life: Life) -> None:
        self.plain = words
        self.life = life
        self.loads = 0
        self.overtake_at = -1
        self.overtake: Callable[[], None] = lambda: None

    def __getitem__(self, index: int) -> int:
        if self.loads == self.overtake_at:
            self.overtake()
        self.loads += 1
        return self.plain[index]

    def __setitem__(self, index: int, value: int) -> None:
        self.life.store()
        self.plain[index] = value


def watch(table: SlotTable, life: Life | None = None) -> WatchedWords:
    """Put `table` under watch, in the place of a watch before."""
    plain = table._words
    words = WatchedWords(plain.plain if isinstance(plain, WatchedWords) else plain, life or Life())
    table._words = words
    for slot in table.slots:
        slot._words = words
    return words


def survives(move: Callable[[], object]) -> bool:
    """Run `move` and say whether the process lived to see its end."""
    try:
        move()
    except Died:
        return False
    return True
