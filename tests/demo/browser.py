"""The app in a real browser: a page of headless Chromium, what it asked for, and what it complained of."""

import contextlib
import shutil
import socket
from types import SimpleNamespace

from wildreward.demo.app import LAUNCH, build_app

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]


@contextlib.contextmanager
def serving(config):
    """The address of the app, which runs until the block ends."""
    app = build_app(config)
    address = app.launch(server_name="127.0.0.1", server_port=free_port(), prevent_thread_lock=True, **LAUNCH)[1]
    try:
        yield address
    finally:
        app.close(verbose=False)


@contextlib.contextmanager
def opened(address, width=1200, height=900):
    """A page with `.asked` (addresses) and `.complaints` beside it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": width, "height": height})
        seen = SimpleNamespace(page=page, asked=[], complaints=[])
        page.on("request", lambda request: seen.asked.append(request.url))
        page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        page.on("console", lambda said: seen.complaints.append(said.text) if said.type == "error" else None)
        page.on("dialog", lambda dialog: (seen.complaints.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.goto(address)
        page.get_by_role("tab").first.wait_for()
        yield seen
        chromium.close()
