"""An event loop in a thread of its own, for processors that are coroutines: what they start there goes on between
frames, and several frames can be under way at a time."""

import asyncio
import threading
from collections.abc import Awaitable
from concurrent.futures import Future
from typing import Any, TypeVar

import torch

T = TypeVar("T")


class CoroutineThread:
    """Started by the first coroutine. They run in inference mode, as everything that a processor does."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._device: int | None = None  # the CUDA device that "cuda" means to whoever starts it

    def begin(self, awaitable: Awaitable[T]) -> Future[T]:
        """Run it beside whatever runs already."""
        if not self._thread.is_alive():
            self._device = torch.cuda.current_device() if torch.cuda.is_initialized() else None
            self._thread.start()
        return asyncio.run_coroutine_threadsafe(_awaited(awaitable), self._loop)

    def run(self, awaitable: Awaitable[T]) -> T:
        """Run it and wait for what it gives, or raise what it raises."""
        return self.begin(awaitable).result()

    def close(self) -> None:
        """End what still runs, and the thread."""
        if self._thread.is_alive():
            self.run(_end_others())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        if self._device is not None:
            torch.cuda.set_device(self._device)
        with torch.inference_mode():
            self._loop.run_forever()


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


async def _end_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
