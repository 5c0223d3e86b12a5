"""Chromium without a window: how wide a page becomes in a frame of given width, and what stands in it."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
"""None where there is none."""

TIMEOUT_S = 240

# The window of a browser has a least width, a frame has none. The script stands in the frames' parent alone.
MEASURE = """<!DOCTYPE html><body><script>
const widths = %s, seen = [];
const measure = frame => {
  const page = frame.contentDocument, root = page.documentElement, colours = getComputedStyle(page.body);
  const spilt = [...page.querySelectorAll("main *, header *")].filter(each =>
    !each.closest(".scroll, pre, svg") && each.getBoundingClientRect().right > root.clientWidth + 1);
  return {
    width: root.scrollWidth,
    spilt: spilt.map(each => each.outerHTML.slice(0, 200)),
    images: page.images.length,
    broken: [...page.images].filter(each => !each.naturalWidth).length,
    small: [...page.querySelectorAll(".chart text")].filter(each => each.getBoundingClientRect().height < 9).length,
    text: colours.color,
    ground: colours.backgroundColor,
  };
};
for (const width of widths) {
  const frame = document.createElement("iframe");
  frame.style = `border: 0; width: ${width}px; height: 800px`;
  frame.onload = () => {
    seen.push({frame: width, ...measure(frame)});
    if (seen.length == widths.length) document.body.textContent = JSON.stringify(seen);
  };
  frame.src = "%s";
  document.body.append(frame);
}
</script>"""


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a server of `folder` on this machine; a page may look into a frame only over HTTP."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Silent, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def measured(page: Path, widths: tuple[int, ...], *, dark: bool, profile: Path) -> list[dict[str, Any]]:
    """What the page is in a frame of each width: its own width, what stands out of it, its pictures and colours."""
    assert CHROMIUM is not None
    measure = page.with_name(f"measure-{page.stem}.html")
    measure.write_text(MEASURE % (list(widths), page.name))
    with served(page.parent) as address:
        command = [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--virtual-time-budget=5000",
            f"--user-data-dir={profile}",
            f"--blink-settings=preferredColorScheme={0 if dark else 1}",
            "--dump-dom",
            f"{address}/{measure.name}",
        ]
        shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=TIMEOUT_S).stdout
    found = re.search(r"<body>(\[.*\])</body>", shown, re.DOTALL)
    assert found is not None, shown[-2000:]
    seen: list[dict[str, Any]] = json.loads(html.unescape(found[1]))
    return seen
