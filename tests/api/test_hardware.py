"""What the driver says of graphics cards: without one, with a card that keeps things to itself, and with a real one."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from pipeline.api.hardware import GpuStats, gpu_stats


class Unsupported(Exception):
    """As pynvml.NVMLError."""


def driver(**answers: Any) -> ModuleType:
    """NVML for one card, of which everything that is not in `answers` cannot be asked."""
    module = ModuleType("pynvml")

    def refuse(*_: Any) -> Any:
        raise Unsupported

    names = ("GetUtilizationRates", "GetPowerUsage", "GetTemperature")
    functions = {name: (lambda *_, name=name: answers[name]) if name in answers else refuse for name in names}
    functions |= {
        "GetCount": lambda: 1,
        "GetHandleByIndex": lambda index: index,
        "GetMemoryInfo": lambda _: SimpleNamespace(total=1000, free=400),
        "GetUUID": lambda _: "GPU-1",
        "GetName": lambda _: "H200",
    }
    for name, function in functions.items():
        setattr(module, f"nvmlDevice{name}", function)
    module.NVMLError = Unsupported
    module.NVML_TEMPERATURE_GPU = 0
    module.nvmlInit = module.nvmlShutdown = lambda: None
    return module


def test_what_a_card_tells_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = SimpleNamespace(gpu=50, memory=20)
    module = driver(GetUtilizationRates=busy, GetPowerUsage=350_500, GetTemperature=61)
    monkeypatch.setitem(sys.modules, "pynvml", module)
    assert gpu_stats() == {0: GpuStats("GPU-1", "H200", 1000, 400, 50, 20, 61, 350.5)}


def test_what_a_card_keeps_to_itself_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", driver())
    assert gpu_stats() == {0: GpuStats("GPU-1", "H200", 1000, 400, None, None)}


def test_without_the_package_or_without_a_driver_there_are_no_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert gpu_stats() == {}
    module = driver()
    module.nvmlInit = module.nvmlDeviceGetTemperature  # It raises.
    monkeypatch.setitem(sys.modules, "pynvml", module)
    assert gpu_stats() == {}


@pytest.mark.gpu
def test_a_real_card_tells_its_memory() -> None:
    pytest.importorskip("pynvml")
    cards = gpu_stats()
    if not cards:
        pytest.skip("no CUDA device")
    for card in cards.values():
        assert 0 <= card.memory_free <= card.memory_total
        assert card.temperature is None or 0 < card.temperature < 120
