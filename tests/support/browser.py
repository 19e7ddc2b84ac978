"""A real browser for the tests of the page: Chromium without a window, driven through Selenium."""

from __future__ import annotations

import base64
import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from selenium.webdriver.remote.webelement import WebElement

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


class Browser:
    """One browser window; ``open`` shows a page in it and holds what went wrong meanwhile."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(
        self, path: Path, fragment: str = "", *, width: int = 1280, dark: bool = False, script: bool = True
    ) -> None:
        """Show a file, anew, as a reader of such a screen sees it."""
        self.driver.get("about:blank")
        self.log("browser")
        self.log("performance")
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        features = {"prefers-color-scheme": "dark" if dark else "light", "prefers-reduced-motion": "reduce"}
        self.cdp("Emulation.setEmulatedMedia", features=[{"name": k, "value": v} for k, v in features.items()])
        self.cdp("Emulation.setScriptExecutionDisabled", value=not script)
        self.driver.get(path.as_uri() + fragment)

    def cdp(self, command: str, **arguments: Any) -> Any:
        """Send a command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(command, arguments)

    def run(self, script: str, *arguments: Any) -> Any:
        """Run JavaScript and return what it returns."""
        return self.driver.execute_script(script, *arguments)

    def all(self, selector: str) -> list[WebElement]:
        """Return the elements of a CSS selector that can be seen."""
        found: list[WebElement] = self.driver.find_elements("css selector", selector)
        return [element for element in found if element.is_displayed()]

    def one(self, selector: str) -> WebElement:
        """Return the only visible element of a CSS selector, which may come a moment after what brings it up."""
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, 10, 0.05).until(lambda _: len(self.all(selector)) == 1)
        return self.all(selector)[0]

    def texts(self, selector: str) -> list[str]:
        """Return the words of the visible elements of a CSS selector."""
        return [element.text for element in self.all(selector)]

    def log(self, kind: str) -> list[Any]:
        """Return, and forget, what the browser has logged."""
        entries: list[Any] = self.driver.get_log(kind)
        return entries

    def requests(self) -> list[str]:
        """Return the addresses that were asked for since the page was opened, but for the page itself.

        What the page's own policy has stopped was not asked for.
        """
        messages = [json.loads(entry["message"])["message"] for entry in self.log("performance")]
        asked = {m["params"]["requestId"]: m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"}
        for message in messages:
            if message["method"] == "Network.loadingFailed" and message["params"].get("blockedReason") == "csp":
                asked.pop(message["params"]["requestId"], None)
        urls = [parameters["request"]["url"] for parameters in asked.values()]
        return [url for url in urls if not url.startswith(("file:", "about:", "data:"))]

    def pdf(self) -> bytes:
        """Print the page."""
        return base64.b64decode(self.cdp("Page.printToPDF", printBackground=True)["data"])


def start() -> Iterator[Browser]:
    """Start the browser; skip the test where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install selenium")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("no chromium or chromedriver found: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=driver)
    running = webdriver.Chrome(options=options, service=service)
    try:
        yield Browser(running)
    finally:
        running.quit()
