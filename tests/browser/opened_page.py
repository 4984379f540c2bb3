"""The web page, open in a browser, for as long as a `with` block runs; what goes wrong in it unseen fails the test."""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

PATIENCE_MS = 30_000
CARD_PX = 24
"""Around what is in a card."""

READ_INDEX = "async (id) => (await import('/web/block_code.js')).readIndex(document.getElementById(id))"


class OpenedPage:
    """`tab` is Playwright's page. `token` is put where the page keeps it; None: it has none yet."""

    def __init__(self, browser: Any, url: str, token: str | None = None, **context: Any) -> None:
        options = {"viewport": {"width": 1400, "height": 1000}} | context
        self._context = browser.new_context(base_url=url, permissions=["camera", "microphone"], **options)
        if token is not None:
            self._context.add_init_script(f"localStorage.setItem('livepipe-token', '{token}')")
        self.expected: list[str] = []
        """What the browser may say on its console: parts of such lines."""
        self._said: list[str] = []
        self.tab = self._context.new_page()
        self.tab.set_default_timeout(PATIENCE_MS)
        self.tab.on("console", self._hear)
        self.tab.on("pageerror", lambda error: self._said.append(f"uncaught: {error}"))
        self.tab.goto("/")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._context.close()
        if kind is None:
            assert not self.troubles, "\n".join(self.troubles)

    @property
    def troubles(self) -> list[str]:
        """Errors and warnings on the browser's console, but for those that are expected."""
        return [line for line in self._said if not any(part in line for part in self.expected)]

    def until(self, script: str, argument: Any = None, patience_ms: float = PATIENCE_MS) -> Any:
        """Wait until the script, a JavaScript function, gives something true, and give that."""
        found = self.tab.wait_for_function(script, arg=argument, polling=100, timeout=patience_ms)
        return found.json_value()

    def text(self, selector: str) -> str:
        return str(self.tab.locator(selector).inner_text())

    def wait_for_text(self, selector: str, pattern: str) -> str:
        """Until the element's text matches this regular expression."""
        script = "([selector, pattern]) => { const found = document.querySelector(selector);" + (
            " return found && new RegExp(pattern).test(found.textContent) && found.textContent; }"
        )
        from playwright.sync_api import TimeoutError as TookTooLong  # Here: see conftest.

        try:
            return str(self.until(script, [selector, pattern]))
        except TookTooLong as error:
            raise AssertionError(f"{selector} never said {pattern!r}; it says {self.text(selector)!r}") from error

    def stage(self, name: str, figure: str) -> str:
        """What the box of this stage says of it."""
        return self.text(f"#stage-{name} [data-figure='{figure}']")

    def wait_for_video(self, end: str, seconds: float = 1.0) -> None:
        """Until so much of it was played."""
        script = "([id, until]) => document.getElementById(id).currentTime > until"
        begun = self.tab.evaluate("(id) => document.getElementById(id).currentTime", f"{end}-video")
        self.until(script, [f"{end}-video", begun + seconds], PATIENCE_MS + seconds * 1000)

    def read_index(self, end: str) -> int | None:
        """The number that is burnt into the picture on the screen."""
        found: int | None = self.tab.evaluate(READ_INDEX, f"{end}-video")
        return found

    def picture(self, file: Path, first: str, last: str) -> bytes:
        """The page from the top of one element's card to the end of another's, kept in `file`."""
        self.tab.evaluate("() => scrollTo(0, 0)")
        boxes = [self.tab.locator(selector).bounding_box() for selector in (first, last)]
        top, end = max(0, boxes[0]["y"] - CARD_PX), boxes[1]["y"] + boxes[1]["height"] + CARD_PX
        clip = {"x": 0, "y": top, "width": self.tab.viewport_size["width"], "height": end - top}
        return bytes(self.tab.screenshot(path=file, full_page=True, clip=clip))

    def _hear(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self._said.append(f"{message.type}: {message.text} {message.location.get('url', '')}")
