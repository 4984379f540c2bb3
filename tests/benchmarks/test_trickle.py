"""Every client that the trickle benchmark compares really carries segments over our relay. No times are asserted."""

from collections.abc import Iterator

import pytest
from rich.console import Console

from benchmarks.trickle_peers.catalogue import CLIENTS, OURS, PYTRICKLE
from benchmarks.trickle_peers.figures import GAPLESS, Figure, figure, goals, over_rounds
from benchmarks.trickle_peers.job import HEADER, Arrivals, Job, Received, Sent, Usage
from benchmarks.trickle_peers.processes import Carried, Ends, RelayProcess
from benchmarks.trickle_peers.report import figure_table, goal_table

PACED = Job(segments=4, chunks=5, chunk_bytes=4000, chunks_per_second=100)
READERS = Job(segments=2, chunks=3, chunk_bytes=40_000, chunks_per_second=50, readers=3)


@pytest.fixture(scope="module")
def relay() -> Iterator[RelayProcess]:
    with RelayProcess() as relay:
        yield relay


@pytest.fixture(scope="module", params=CLIENTS)
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    entry = CLIENTS[request.param]
    if not entry.installed:
        pytest.skip(f"{request.param} is not installed")
    with Ends(entry) as ends:
        yield ends


def test_every_chunk_arrives_once_and_in_order(ends: Ends, relay: RelayProcess) -> None:
    carried = ends.carry(PACED, relay)

    (reader,) = carried.received.readers
    assert reader.numbers == list(range(PACED.count))
    assert all(
        written < begun <= arrived
        for written, begun, arrived in zip(reader.written_ns, reader.begun_ns, reader.arrived_ns, strict=True)
    )
    first_of_segments = [number for number, switched in enumerate(reader.switched_ns) if switched]
    assert first_of_segments == [5, 10, 15], "the first segment was switched to from none"
    assert carried.relay.accepted >= 2
    assert min(carried.sent.cpu_ns, carried.received.cpu_ns, carried.relay.cpu_ns) > 0


def test_every_reader_gets_every_chunk(ends: Ends, relay: RelayProcess) -> None:
    received = ends.carry(READERS, relay).received

    assert [reader.numbers for reader in received.readers] == [list(range(READERS.count))] * 3


def arrivals_of(job: Job, *numbers: int) -> Arrivals:
    arrivals = Arrivals(job)
    for number in numbers:
        arrivals.begin()
        chunk = HEADER.pack(number, 1000 * number, 500 * number) + bytes(job.chunk_bytes - HEADER.size)
        for at in range(len(chunk)):
            arrivals.feed(chunk[at : at + 1], 2000 * number + at)
    return arrivals


def test_arrivals_are_told_apart_however_the_bytes_are_cut() -> None:
    job = Job(segments=3, chunks=1, chunk_bytes=HEADER.size + 2)
    whole = HEADER.pack(0, 1, 2) + b"xx" + HEADER.pack(1, 3, 4) + b"yy"
    for cut in range(len(whole)):
        arrivals = Arrivals(job)
        arrivals.begin()
        arrivals.feed(whole[:cut], 5)
        arrivals.feed(whole[cut:], 6)
        assert (arrivals.numbers, arrivals.written_ns, arrivals.switched_ns) == ([0, 1], [1, 3], [2, 4])

    arrivals.begin()
    arrivals.feed(HEADER.pack(2, 0, 0), 7)
    arrivals.begin()
    assert not arrivals.complete, "a chunk that was cut is none"


def test_what_is_lost_or_doubled_is_counted_and_shown_as_a_goal_not_met() -> None:
    job = Job(segments=10, chunks=1, chunk_bytes=40)
    readers = [arrivals_of(job, 0, 1, 1, 3, 4, 5, 6, 7, 9)]
    lossy = figure(job, Carried(Sent(cpu_ns=1000), Received(readers, cpu_ns=2000), Usage(accepted=1, cpu_ns=3000)))

    assert (lossy.missing, lossy.duplicates) == (2, 1)
    figures: dict[tuple[str, str], Figure] = {
        (client, name): over_rounds([lossy, lossy])
        for client in (OURS, PYTRICKLE)
        for name in ("saturating", "paced", "switches", "segments", GAPLESS, "fan-out")
    }
    met = {goal.what: goal.met for goal in goals(figures, job.segments)}
    assert met["10 KB segments back to back: duplicates"] is False
    assert met["MB/s, livepipe / pytrickle"] is True
    console = Console(width=160)
    with console.capture() as capture:
        jobs = {name: job for _, name in figures}
        console.print(figure_table(figures, jobs, 2), goal_table(goals(figures, job.segments)))
    shown = capture.get()
    assert "2 / 1" in shown
    assert "10.0" in shown, "connections per 100 segments"
