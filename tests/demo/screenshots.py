"""The pictures of the app in README and docs: `python tests/demo/screenshots.py --run runs/quickstart --output docs/figures`."""

import argparse
import io
import sys
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.demo.browser import opened, serving
from wildreward.demo.settings import DemoConfig

WIDTH, HEIGHT = 1100, 884
COLOURS = 128  # of a picture, which keeps it small


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", required=True)
    parser.add_argument("--output", default="docs/figures")
    parser.add_argument("--search", default="", help="words of the row of the dataset that is shown")
    options = parser.parse_args()
    with serving(DemoConfig(run=options.run)) as address, opened(address, WIDTH, HEIGHT) as seen:
        page = seen.page
        for tab in page.get_by_role("tab").all_inner_texts():
            page.get_by_role("tab", name=tab).click()
            if tab == "Feedback" and options.search:
                page.get_by_label("Search").fill(options.search)
                page.keyboard.press("Enter")
            page.wait_for_timeout(1000)
            page.mouse.move(0, 0)
            bottom = page.evaluate("document.querySelector('main').getBoundingClientRect().bottom")
            shot = page.screenshot(clip={"x": 0, "y": 0, "width": WIDTH, "height": min(HEIGHT, bottom + 8)})
            path = Path(options.output) / f"demo-{tab.split()[0].lower()}.png"
            Image.open(io.BytesIO(shot)).convert("RGB").quantize(COLOURS).save(path, optimize=True)
            print(path, f"{path.stat().st_size / 1000:.0f} kB")
        if seen.complaints:
            sys.exit("\n".join(seen.complaints))


main()
