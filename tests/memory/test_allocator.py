"""The process that owns the GPU memory: real processes, whose driver is emulated or, where marked `gpu`, real."""

import os
import select
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from pipeline.memory.allocator import Allocated, AllocationRequest, Allocator, serve
from pipeline.memory.cuda_driver import CudaUnavailable
from pipeline.memory.cuda_slab import CudaSlab

ROOT = Path(__file__).resolve().parents[2]
SLABS = {"raw": 1000, "styled": 3 << 20}
START_AND_WAIT = """
import sys, time
from pipeline.memory.allocator import Allocator
allocator = Allocator(0, "vmm", {"raw": 1})
print(allocator.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def allocator(driver, route):
    with Allocator(0, route, SLABS) as allocator:
        yield allocator


@pytest.fixture
def broken_bindings(monkeypatch, tmp_path):
    """broken_bindings(code): what `import cuda.bindings.driver` runs in the processes started from here."""

    def put(code):
        package = tmp_path / "broken" / "cuda" / "bindings"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "driver.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))

    return put


def open_fds():
    return sorted(os.listdir("/proc/self/fd"))


def dies(pidfd, seconds=10):
    return bool(select.select([pidfd], [], [], seconds)[0])


def test_slabs_come_zeroed_and_by_name(allocator, driver, read):
    assert list(allocator.handles) == list(SLABS)
    for name, handle in allocator.handles.items():
        slab = CudaSlab(driver, handle)
        assert slab.nbytes >= SLABS[name]
        assert read(slab.pointer, slab.nbytes) == bytes(slab.nbytes)
        slab.close()


def test_every_slab_is_memory_of_its_own(allocator, driver, read, write):
    raw, styled = (CudaSlab(driver, handle) for handle in allocator.handles.values())
    write(raw.pointer, b"\x07" * raw.nbytes)
    assert read(styled.pointer, styled.nbytes) == bytes(styled.nbytes)
    raw.close()
    styled.close()


def test_descriptors_are_this_processs_own_and_meant_for_nobody_else(driver):
    with Allocator(0, "vmm", SLABS) as allocator:
        fds = [fd for handle in allocator.handles.values() for fd in handle.fds]
        assert len(set(fds)) == len(SLABS)
        assert not any(os.get_inheritable(fd) for fd in fds)


def test_closing_ends_the_process_and_gives_every_descriptor_back(driver, route):
    before = open_fds()
    allocator = Allocator(0, route, SLABS)
    allocator.close()
    assert allocator.wait() == 0
    assert open_fds() == before
    allocator.close()


def test_its_death_is_seen_and_leaves_the_vmm_route_whole(driver, read):
    with Allocator(0, "vmm", SLABS) as allocator:
        os.kill(allocator.pid, signal.SIGKILL)
        assert dies(allocator.pidfd)
        slab = CudaSlab(driver, allocator.handles["styled"])
        assert read(slab.pointer, slab.nbytes) == bytes(slab.nbytes)
        slab.close()


def test_it_dies_with_the_process_that_started_it(emulated):
    starter = subprocess.Popen(
        [sys.executable, "-c", START_AND_WAIT], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    pidfd = os.pidfd_open(int(starter.stdout.readline()))
    starter.kill()
    starter.communicate()
    assert dies(pidfd)
    os.close(pidfd)


def test_it_runs_nothing_on_the_device_but_the_memset(emulated):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    server = threading.Thread(target=serve, args=[theirs])
    server.start()
    ours.send(msgspec.msgpack.encode(AllocationRequest(0, "vmm", {"raw": 1, "styled": 1})))
    data, fds, _, _ = socket.recv_fds(ours, 65536, 8)
    ours.close()
    server.join()
    theirs.close()
    for fd in fds:
        os.close(fd)
    assert list(msgspec.msgpack.decode(data, type=Allocated).handles) == ["raw", "styled"]
    work = [call for call in emulated.calls if "cpy" in call or "Memset" in call or "Launch" in call]
    assert work == ["cuMemsetD8"] * 2


# Refusals, each one line


def refusal(device=0, route="vmm", slabs=SLABS):
    with pytest.raises(CudaUnavailable) as refused:
        Allocator(device, route, slabs)
    text = str(refused.value)
    assert "\n" not in text
    return text


def test_a_refusal_leaves_nothing_behind(emulated):
    before = open_fds()
    refusal(device=1)
    assert open_fds() == before


def test_a_device_that_is_not_there_is_refused(emulated):
    assert "CUDA device 1 is not there: the driver sees 1" in refusal(device=1)


def test_a_slab_that_does_not_fit_is_named(emulated, route, monkeypatch):
    monkeypatch.setenv("EMULATED_CUDA_BYTES", str(2 << 20))
    call = {"ipc": "cuMemAlloc", "vmm": "cuMemCreate"}[route]
    assert refusal(route=route) == (
        f"CUDA device 0 does not give 3.1 MB of shared memory for link styled: {call}: CUDA_ERROR_OUT_OF_MEMORY"
    )


def test_a_machine_without_the_package_is_told_what_to_install(broken_bindings):
    broken_bindings("raise ModuleNotFoundError(\"No module named 'cuda.bindings'\")")
    assert refusal() == "no cuda-bindings (No module named 'cuda.bindings'): pip install 'livepipe[cuda]'"


def test_whatever_else_goes_wrong_is_told_in_one_line(broken_bindings):
    broken_bindings("raise ValueError('first line\\nsecond line')")
    assert refusal() == "the GPU allocator failed: ValueError: first line second line"


def test_an_allocator_that_dies_before_it_answers_is_a_refusal_too(broken_bindings):
    broken_bindings("import os; os._exit(3)")
    assert refusal() == "the GPU allocator died before it answered, exit code 3"
