"""Headless Chromium for the tests: pages opened, drawn on by mouse, finger and pen, and asked what they complained about."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

__all__ = ["Browser", "Pointer"]

Pointer = Literal["mouse", "touch", "pen"]
Place = tuple[float, float]

# /dev/shm is small in many containers. The rest makes a screenshot the same on every machine.
FLAGS = ("--headless=new", "--disable-dev-shm-usage", "--disable-gpu", "--force-color-profile=srgb", "--hide-scrollbars")


class Browser:
    """One Chromium. `driver` is Selenium's, for what has no method here; `run` is enough for most questions."""

    def __init__(self) -> None:
        from selenium import webdriver

        programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
        if absent := [name for name, path in programs.items() if path is None]:
            raise RuntimeError(f"no {' and no '.join(absent)} on the path; tools/browser installs both")
        options = webdriver.ChromeOptions()
        options.binary_location = programs["chromium"]
        for flag in FLAGS:
            options.add_argument(flag)
        if os.geteuid() == 0:
            options.add_argument("--no-sandbox")  # Chromium's sandbox refuses to run as root, as in a container
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        service = webdriver.ChromeService(programs["chromedriver"])
        self.driver = webdriver.Chrome(options=options, service=service)
        self.driver.set_script_timeout(60)

    def close(self) -> None:
        self.driver.quit()

    def open(self, page: Path | str, width: int = 1280, height: int = 900, *, dark: bool = False, touch: bool = False) -> None:
        """Open a file, or a URL, as new: no log, and no emulation but the one asked for."""
        self.driver.get("about:blank")
        self.size(width, height)
        self.dark(dark)
        self.cdp("Emulation.setTouchEmulationEnabled", enabled=touch)
        self.errors(), self.requests()  # of the page before
        self.address = page.resolve().as_uri() if isinstance(page, Path) else page
        self.driver.get(self.address)

    def run(self, script: str, *arguments: object) -> Any:
        """What a function's body in JavaScript returns; its `arguments` are those given, and a promise is awaited."""
        return self.driver.execute_script(script, *arguments)

    def cdp(self, command: str, **arguments: object) -> Any:
        """A command of the Chrome DevTools Protocol."""
        return self.driver.execute_cdp_cmd(command, arguments)

    def size(self, width: int, height: int) -> None:
        """The page's size in CSS pixels, as narrow as a phone's too, which a window cannot be."""
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def dark(self, dark: bool, *, reduced_motion: bool = False) -> None:
        """What the page's media queries see."""
        features = {
            "prefers-color-scheme": "dark" if dark else "light",
            "prefers-reduced-motion": "reduce" if reduced_motion else "no-preference",
        }
        self.cdp("Emulation.setEmulatedMedia", features=[{"name": name, "value": value} for name, value in features.items()])

    def errors(self) -> list[str]:
        """Warnings and errors on the console since the last call: exceptions, and what a content security policy blocked."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]

    def requests(self) -> list[str]:
        """The URLs that the page asked for since the last call, apart from the page itself and data within it."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        own = (getattr(self, "address", "about:blank").partition("#")[0], "about:blank")
        return [url for url in asked if url.partition("#")[0] not in own and not url.startswith("data:")]

    def overflow(self) -> int:
        """By how many pixels the page is wider than the window; 0 if nobody must scroll sideways."""
        return int(self.run("const e = document.documentElement; return e.scrollWidth - e.clientWidth"))

    def screenshot(self, path: Path) -> None:
        """The whole page as a PNG."""
        import base64

        picture = self.cdp("Page.captureScreenshot", captureBeyondViewport=True, format="png")
        path.write_bytes(base64.b64decode(picture["data"]))

    def stroke(self, element: str, places: Sequence[Place], pointer: Pointer = "mouse", milliseconds: int = 4) -> None:
        """Press at the first place, move through the others, release: real input, as fractions of the element's box.

        element: a CSS selector. milliseconds: between two places.
        """
        from selenium.webdriver.common.actions.action_builder import ActionBuilder
        from selenium.webdriver.common.actions.pointer_input import PointerInput

        script = "arguments[0].scrollIntoView({block: 'nearest'}); const b = arguments[0].getBoundingClientRect()"
        target = self.driver.find_element("css selector", element)
        left, top, width, height = self.run(f"{script}; return [b.left, b.top, b.width, b.height]", target)
        points = [(round(left + x * width), round(top + y * height)) for x, y in places]
        actions = ActionBuilder(self.driver, mouse=PointerInput(pointer, pointer), duration=milliseconds)
        actions.pointer_action.move_to_location(*points[0]).pointer_down()
        for x, y in points[1:]:
            actions.pointer_action.move_to_location(x, y)
        actions.pointer_action.pointer_up()
        actions.perform()

    def keys(self, *keys: str) -> None:
        """Press keys one after the other, for whatever has the focus; selenium's Keys has the special ones."""
        from selenium.webdriver import ActionChains

        chain = ActionChains(self.driver, duration=0)
        for key in keys:
            chain.send_keys(key)
        chain.perform()
