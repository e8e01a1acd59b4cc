"""A real browser, and a page with made-up studies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from page import Served, config, served
from page_rows import filled
from peers import program
from tabs import FLAGS

from dicom_node.settings.destinations import FolderDestination
from dicom_node.settings.web import WebSettings

#: On a machine with other work a picture takes longer than playwright waits by itself (ms).
PATIENCE = 120_000


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("page")
    (folder / "share").mkdir()
    share = FolderDestination("share", folder=folder / "share")
    with served(config(folder, WebSettings(port=0), destinations=(share,))) as found:
        filled(found)
        yield found


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as found:
        browser = found.chromium.launch(executable_path=program("chromium"), args=FLAGS)
        made = browser.new_context

        def patient(**how: Any) -> Any:
            context = made(**how)
            context.set_default_timeout(PATIENCE)
            return context

        browser.new_context = patient
        yield browser
        browser.close()
