"""Tabs of a real browser: logged in by typing, and what they asked elsewhere or were forbidden."""

from __future__ import annotations

from typing import Any

from page import PASSWORD, Served

#: Of a browser without a graphics card, as root.
FLAGS = ["--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader"]


def opened(chromium: Any, page: Served, name: str = "", **how: Any) -> tuple[Any, list[str]]:
    """A tab, logged in by typing where a name is given, and what it asked elsewhere or was forbidden."""
    wrong: list[str] = []
    tab = chromium.new_context(**how).new_page()
    own = (page.base, "data:", "blob:")
    tab.on("request", lambda r: None if r.url.startswith(own) else wrong.append(r.url))
    tab.on("console", lambda m: wrong.append(m.text) if "Content Security Policy" in m.text else None)
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    if name:
        tab.goto(f"{page.base}/studies")
        tab.get_by_label("Name").fill(name)
        tab.get_by_label("Password").fill(PASSWORD)
        tab.get_by_role("button", name="Log in").click()
        tab.get_by_role("heading", name="Worklist").wait_for()
    return tab, wrong
