import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.memory.cuda_driver import CudaDriver, CudaError, CudaUnavailable
from tests.memory import emulated_driver

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_TORCH = """
import sys
import pipeline.memory.allocator, pipeline.memory.cuda_handle, pipeline.memory.cuda_probe, pipeline.memory.staging
print(sorted({name.partition(".")[0] for name in sys.modules} & {"cuda", "torch", "av", "aiohttp"}))
"""


def test_nothing_of_cuda_or_torch_is_imported_before_it_is_needed():
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_context_is_the_devices_primary_one_and_is_given_back(emulated):
    with CudaDriver(0):
        assert emulated.retained == 1
    assert emulated.calls[-2:] == ["cuCtxSetCurrent", "cuDevicePrimaryCtxRelease"]
    assert emulated.retained == 0


def test_a_thread_finds_the_context_again_that_it_had_before(emulated):
    with CudaDriver(0) as outer:
        with CudaDriver(0):
            pass
        assert int(outer.call("cuCtxGetCurrent")) != 0


def test_closing_twice_releases_once(emulated):
    driver = CudaDriver(0)
    driver.close()
    driver.close()
    assert emulated.calls.count("cuDevicePrimaryCtxRelease") == 1


def test_a_call_that_fails_says_which_and_why(driver):
    with pytest.raises(CudaError, match="cuMemAlloc: CUDA_ERROR_INVALID_VALUE") as failure:
        driver.call("cuMemAlloc", 0)
    assert failure.value.name == "CUDA_ERROR_INVALID_VALUE"
    assert failure.value.call == "cuMemAlloc"


def test_what_a_call_gives_comes_without_its_status(driver):
    free, total = driver.call("cuMemGetInfo")
    assert 0 < free <= total
    assert driver.call("cuDeviceGetCount") >= 1
    assert driver.call("cuStreamSynchronize", 0) == ()


def test_a_missing_package_is_named_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", None)
    with pytest.raises(CudaUnavailable, match=r"no cuda-bindings .*: pip install 'livepipe\[cuda\]'"):
        CudaDriver(0)


def test_a_machine_without_a_driver_is_told_from_one_without_the_package(emulated):
    emulated.failing["cuInit"] = emulated_driver.CUresult.CUDA_ERROR_NO_DEVICE
    with pytest.raises(CudaUnavailable, match=r"no NVIDIA driver that works \(cuInit: CUDA_ERROR_NO_DEVICE\)"):
        CudaDriver(0)


def test_a_driver_library_that_cannot_be_loaded_is_no_driver(emulated, monkeypatch):
    def no_library(flags):
        raise RuntimeError("Failed to dlopen libcuda.so.1")  # What cuda-bindings 13 do.

    monkeypatch.setattr(emulated_driver, "cuInit", no_library)
    with pytest.raises(CudaUnavailable, match=r"no NVIDIA driver that works \(Failed to dlopen libcuda.so.1\)"):
        CudaDriver(0)


@pytest.mark.parametrize("device", [-1, 1])
def test_a_device_that_is_not_there_is_named_with_those_that_are(emulated, monkeypatch, device):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    with pytest.raises(CudaUnavailable, match=f"device {device} is not there: the driver sees 1 with CUDA_VISIBLE_DEV"):
        CudaDriver(device)


@pytest.mark.parametrize("call", ["cuDeviceGet", "cuDevicePrimaryCtxRetain", "cuCtxGetCurrent", "cuCtxSetCurrent"])
def test_a_device_that_cannot_be_used_is_left_as_it_was(emulated, call):
    emulated.failing[call] = emulated_driver.CUresult.CUDA_ERROR_UNKNOWN
    with pytest.raises(CudaUnavailable, match=f"device 0 cannot be used \\({call}: CUDA_ERROR_UNKNOWN\\)"):
        CudaDriver(0)
    assert emulated_driver.left() == {}
