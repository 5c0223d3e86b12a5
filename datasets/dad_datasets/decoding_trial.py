"""Images decoded in a process of their own, to find those that end the process which decodes them."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import struct
import subprocess
import sys
from collections.abc import Iterable
from types import TracebackType

from dad_datasets.decoding import UndecodableImageError, decode_image

DECODING_LIMIT_S = 60.0
"""An image that takes longer is taken for one on which the decoder hangs."""

FATAL = "decoding it "
"""How the reason of an image begins that nobody should decode again in a process that is needed."""

_LENGTH = struct.Struct("<Q")


def fatal_images(images: Iterable[bytes], *, max_pixels: int, limit_s: float = DECODING_LIMIT_S) -> dict[int, str]:
    """Position and reason of each image that cannot be decoded without losing the process, or only in vain.

    A corrupt image is none of them: the decoder says so and lives.
    """
    reasons = {}
    with _Decoder(max_pixels) as decoder:
        for position, image in enumerate(images):
            reason = decoder.outlives(image, limit_s)
            if reason:
                reasons[position] = reason
    return reasons


class _Decoder:
    """A child that decodes one image after another; it is started anew after one that it did not outlive."""

    def __init__(self, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> _Decoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def outlives(self, image: bytes, limit_s: float) -> str:
        """Empty where the child is there after decoding `image`, else what happened."""
        child = self._child or self._start()
        assert child.stdin is not None
        assert child.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it died while it was still reading
            child.stdin.write(_LENGTH.pack(len(image)) + image)
            child.stdin.flush()
        ready, _, _ = select.select([child.stdout], [], [], limit_s)
        if ready and child.stdout.read(1):
            return ""
        if ready:
            child.wait()
        code = child.poll()
        self._stop()
        return f"{FATAL}takes more than {limit_s:g} s" if code is None else f"{FATAL}ends the process ({_ending(code)})"

    def _start(self) -> subprocess.Popen[bytes]:
        # Another program, not a fork: the threads of this process may hold any lock at this moment.
        self._child = subprocess.Popen(
            [sys.executable, "-m", __name__, str(self._max_pixels)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": _python_path()},
            start_new_session=True,  # Ctrl-C is for the driver
        )
        return self._child

    def _stop(self) -> None:
        if self._child is None:
            return
        self._child.kill()
        with contextlib.suppress(BrokenPipeError):
            self._child.communicate()
        self._child = None


def _python_path() -> str:
    """Where this process finds its modules, which a cluster may have put anywhere."""
    return os.pathsep.join(path for path in (os.environ.get("PYTHONPATH"), *sys.path) if path)


def _ending(code: int) -> str:
    return signal.Signals(-code).name if -code in set(signal.Signals) else f"exit code {code}"


def _decode_all(max_pixels: int) -> None:
    """The child: an image in, a byte out."""
    source, answer = sys.stdin.buffer, sys.stdout.buffer
    while header := source.read(_LENGTH.size):
        image = source.read(_LENGTH.unpack(header)[0])
        with contextlib.suppress(UndecodableImageError):
            decode_image(image, max_pixels=max_pixels)
        answer.write(b".")
        answer.flush()


if __name__ == "__main__":
    _decode_all(int(sys.argv[1]))
