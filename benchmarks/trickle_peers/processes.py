"""The relay and a client's two ends as the benchmark holds them: processes, each with a pipe to it."""

import http.client
import itertools
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import Self

import msgspec

from benchmarks.trickle_peers.catalogue import Entry
from benchmarks.trickle_peers.end import COMPLETE, OPENED
from benchmarks.trickle_peers.job import Job, Received, Sent, Usage
from pipeline.bench.helper_process import ANSWER_S, HelperProcess

OPENING_S = 0.3
"""From the readers' being about to ask to the publisher's start, so that every GET is at the relay by then."""

GRACE_S = 3.0
"""From the publisher's end until the channel is removed under readers that have not had everything."""


class Carried(msgspec.Struct, frozen=True):
    """One job done: what went in, what came out, and what the relay used meanwhile."""

    sent: Sent
    received: Received
    relay: Usage


class RelayProcess(HelperProcess):
    """Our relay, on a free port of 127.0.0.1."""

    def __init__(self) -> None:
        super().__init__(sys.executable, "benchmarks.trickle_peers.relay")
        self._port: int = self.answer()
        self._names = itertools.count()

    def usage(self) -> Usage:
        self.send("usage")
        usage = self.answer()
        assert isinstance(usage, Usage)
        return usage

    def new_channel(self) -> str:
        """The URL of a channel that nobody has used."""
        name = f"bench-{next(self._names)}"
        self._request("POST", name)
        return f"http://127.0.0.1:{self._port}/{name}"

    def remove_channel(self, url: str) -> None:
        self._request("DELETE", url.rpartition("/")[2])

    def _request(self, method: str, name: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_S)
        connection.request(method, f"/{name}", headers={"Connection": "close"})
        if connection.getresponse().status != 200:
            raise RuntimeError(f"the relay refused {method} /{name}")
        connection.close()


class Ends:
    """A client's publisher and its readers."""

    def __init__(self, entry: Entry) -> None:
        with ExitStack() as stack:
            self._publisher = stack.enter_context(
                HelperProcess(entry.python, "benchmarks.trickle_peers.end", "publisher", entry.module)
            )
            self._reader = stack.enter_context(
                HelperProcess(entry.python, "benchmarks.trickle_peers.end", "reader", entry.module)
            )
            self.versions: dict[str, str] = self._publisher.answer()
            self._reader.answer()
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def carry(self, job: Job, relay: RelayProcess) -> Carried:
        """Do one job, on a channel of its own."""
        url = relay.new_channel()
        job = replace(job, url=url)
        before = relay.usage()
        self._reader.send(job)
        assert self._reader.answer() == OPENED
        time.sleep(OPENING_S)
        self._publisher.send(job)
        sent = self._publisher.answer()
        self._reader.answers_within(GRACE_S)
        used = relay.usage() - before
        # Readers learn of the end by it; in time only those that have had everything do not lose by it.
        relay.remove_channel(url)
        received = self._reader.answer()
        return Carried(sent, self._reader.answer() if received == COMPLETE else received, used)
