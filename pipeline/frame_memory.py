"""Where the pixels of all frame links lie when that is on GPUs: in slabs of allocator processes, one for each device
that a replica of inference works on. In host memory they lie behind the slot tables, which is not this file's."""

import contextlib
import select

from pipeline.lane import lane_links
from pipeline.memory.allocator import Allocator
from pipeline.memory.cuda_driver import CudaUnavailable
from pipeline.memory.cuda_handle import CudaSlabHandle, Route, slab_bytes
from pipeline.memory.cuda_probe import probe
from pipeline.replicas import replicas_of
from pipeline.topology import Topology
from pipeline.topology_changes import link_format
from pipeline.topology_values import card_of


class FrameMemory:
    def __init__(self, topology: Topology) -> None:
        """Raises OSError when a process cannot be started."""
        self.handles: dict[str, CudaSlabHandle] = {}
        """The slabs on GPUs by the names of their links; empty: all frames are in host memory."""
        self.on_host_because = ""
        """Why they are although the topology wants them on a GPU."""
        self._allocators: list[Allocator] = []
        if topology.frame_memory == "host":
            return
        route: Route = "ipc" if topology.frame_memory == "cuda-ipc" else "vmm"
        with contextlib.ExitStack() as made:
            try:
                for device, slabs in _slabs_by_device(topology).items():
                    probe(device, route)
                    allocator = made.enter_context(Allocator(device, route, slabs))
                    self._allocators.append(allocator)
                    self.handles |= allocator.handles
            except CudaUnavailable as problem:
                self.on_host_because = str(problem)
                self._allocators, self.handles = [], {}
            else:
                made.pop_all()

    @property
    def pids(self) -> set[int]:
        """Of the allocators that are alive."""
        return {allocator.pid for allocator in self._allocators if allocator.alive}

    @property
    def pidfds(self) -> list[int]:
        """Readable once an allocator has died."""
        return [allocator.pidfd for allocator in self._allocators]

    def bury(self) -> list[int]:
        """Wait for the allocators that have died since the last call. Returns their pidfds."""
        living = [allocator for allocator in self._allocators if allocator.alive]
        dead = [each for each in living if select.select([each.pidfd], [], [], 0)[0]]
        for allocator in dead:
            allocator.wait()
        return [allocator.pidfd for allocator in dead]

    def close(self) -> None:
        """Give the memory back. The workers must be gone."""
        for allocator in self._allocators:
            allocator.close()


def _slabs_by_device(topology: Topology) -> dict[int, dict[str, int]]:
    """Bytes of each link's slab by its name, on the device of the replica that serves the link's lane."""
    slabs: dict[int, dict[str, int]] = {}
    for replica in replicas_of(topology):
        card = card_of(replica.device)
        assert card is not None, "check_graph has seen to that"
        for lane in replica.lanes:
            for own, of in lane_links(topology, lane).items():
                nbytes = slab_bytes(topology.links[of].slots, link_format(topology, of).nbytes)
                slabs.setdefault(card, {})[own] = nbytes
    return slabs
