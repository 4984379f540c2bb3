"""What this machine has, and how busy it is: processors by psutil, graphics cards by NVML where its Python package
(`nvidia-ml-py`, imported as pynvml) is installed."""

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import psutil


class GpuInfo(msgspec.Struct, frozen=True):
    """Memory in bytes; `major` and `minor` are the compute capability."""

    id: str
    name: str
    memory_total: int
    memory_free: int
    major: int
    minor: int


class GpuStats(msgspec.Struct, frozen=True):
    """Memory in bytes; utilisation in percent of late; the chip's temperature in degrees Celsius. None: this card does
    not tell, as a part of one (MIG) or one in a virtual machine."""

    id: str
    name: str
    memory_total: int
    memory_free: int
    utilization_compute: int | None
    utilization_memory: int | None
    temperature: int | None = None
    power_watts: float | None = None


class HardwareInfo(msgspec.Struct, frozen=True):
    """`gpu_info` by the card's index; empty without a card or without NVML. Memory in bytes."""

    pipeline: str
    model_id: str
    gpu_info: dict[int, GpuInfo]
    cpu_count: int
    memory_total: int


class HardwareStats(msgspec.Struct, frozen=True):
    """`gpu_stats` by the card's index. `cpu_percent` is of all cores since it was asked for last; memory in bytes."""

    pipeline: str
    model_id: str
    gpu_stats: dict[int, GpuStats]
    cpu_percent: float
    load_average: tuple[float, float, float]
    memory_total: int
    memory_available: int


def hardware_info(pipeline: str, model: str) -> HardwareInfo:
    """Blocks for as long as the driver takes."""
    with _nvml() as nvml:
        gpus = {index: _gpu_info(nvml, card) for index, card in _cards(nvml)}
    return HardwareInfo(pipeline, model, gpus, psutil.cpu_count() or 0, psutil.virtual_memory().total)


def hardware_stats(pipeline: str, model: str) -> HardwareStats:
    """Blocks for as long as the driver takes."""
    memory = psutil.virtual_memory()
    return HardwareStats(
        pipeline, model, gpu_stats(), psutil.cpu_percent(), psutil.getloadavg(), memory.total, memory.available
    )


def gpu_stats() -> dict[int, GpuStats]:
    """By the card's index. Blocks for as long as the driver takes."""
    with _nvml() as nvml:
        return {index: _gpu_stats(nvml, card) for index, card in _cards(nvml)}


@contextmanager
def _nvml() -> Iterator[Any]:
    """NVML, made ready; None where it cannot be had."""
    try:
        nvml: Any = importlib.import_module("pynvml")
    except ImportError:
        yield None
        return
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:  # The package is there, and no driver.
        yield None
        return
    try:
        yield nvml
    finally:
        nvml.nvmlShutdown()


def _cards(nvml: Any) -> list[tuple[int, Any]]:
    if nvml is None:
        return []
    return [(index, nvml.nvmlDeviceGetHandleByIndex(index)) for index in range(nvml.nvmlDeviceGetCount())]


def _gpu_info(nvml: Any, card: Any) -> GpuInfo:
    memory = nvml.nvmlDeviceGetMemoryInfo(card)
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(card)
    return GpuInfo(nvml.nvmlDeviceGetUUID(card), nvml.nvmlDeviceGetName(card), memory.total, memory.free, major, minor)


def _gpu_stats(nvml: Any, card: Any) -> GpuStats:
    memory = nvml.nvmlDeviceGetMemoryInfo(card)
    busy = _told(nvml, nvml.nvmlDeviceGetUtilizationRates, card)
    milliwatts = _told(nvml, nvml.nvmlDeviceGetPowerUsage, card)
    return GpuStats(
        nvml.nvmlDeviceGetUUID(card),
        nvml.nvmlDeviceGetName(card),
        memory.total,
        memory.free,
        busy.gpu if busy is not None else None,
        busy.memory if busy is not None else None,
        _told(nvml, nvml.nvmlDeviceGetTemperature, card, nvml.NVML_TEMPERATURE_GPU),
        milliwatts / 1000 if milliwatts is not None else None,
    )


def _told(nvml: Any, ask: Callable[..., Any], *arguments: Any) -> Any:
    """What the driver answers; None where this card does not."""
    try:
        return ask(*arguments)
    except nvml.NVMLError:
        return None
