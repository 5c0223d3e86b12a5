"""One run at a time in a folder on an object store: a lease held by conditional writes."""

from __future__ import annotations

import json
import os
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import TracebackType
from typing import Any

from dad_datasets.conditional_object import ConditionalObject, NoConditionsError, StoredObject
from dad_datasets.errors import UserError
from dad_datasets.layout import LEASE
from dad_datasets.remote_folder import RemoteFolder
from dad_datasets.transfers import is_s3

HEARTBEAT_S = 10.0
EXPIRY_S = 60.0
"""A lease that was not written for so long belongs to a run that died."""

_TRIES = 10  # to take a lease over: each means that another run was quicker, or that an answer was lost
_NO_ETAG = '"0123456789abcdef0123456789abcdef"'


class LeaseLostError(UserError):
    """Another run has the folder now; what this one had finished stays."""


class ObjectLease:
    """Held as a context manager by the one run that writes to `folder`. UserError where another run lives there.

    The lease is an object that is created only where there is none (If-None-Match) and rewritten by its heartbeat only
    where it is the holder's own (If-Match on its ETag). A run that was killed is taken over once its lease has not
    been written for `expiry_s`, by the store's clock (Date less LastModified); of several that try, the first write
    changes the ETag that the others ask for. A holder that was taken for dead finds out before it publishes again:
    `folder` asks whose the lease is before each file. What is between the asking and the end of the upload is open,
    and harmless between runs of equal settings, whose files are equal; other settings are refused by the manifest.
    """

    def __init__(
        self, folder: RemoteFolder, *, heartbeat_s: float = HEARTBEAT_S, expiry_s: float | None = None
    ) -> None:
        self.token = uuid.uuid4().hex
        self._folder = folder
        self._object = ConditionalObject(folder, LEASE)
        self._heartbeat_s = heartbeat_s
        self._expiry_s = EXPIRY_S if expiry_s is None else expiry_s
        self._beats = 0
        self._etag = ""
        self._stop = threading.Event()

    def __enter__(self) -> ObjectLease:
        """NoConditionsError where the store does not heed conditional writes, or does not know them."""
        self._etag = self._take()
        try:
            self._require_conditions()
        except BaseException:
            self._release()
            raise
        self._folder.before_publishing = Claim(self._folder, self.token)
        self._thread = threading.Thread(target=self._beat, name="lease heartbeat", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._folder.before_publishing = None
        self._release()

    def _release(self) -> None:
        with suppress(OSError, UserError):  # a store that is out of reach must not hide what ended the run
            self._object.remove(self._etag)

    def _take(self) -> str:
        for _ in range(_TRIES):
            etag: str | None
            if (found := self._object.read()) is None:
                etag = self._object.create(self._content())
            elif _holder(found).get("token") == self.token:
                return found.etag  # our own write, whose answer was lost
            elif found.age_s < self._expiry_s:
                raise UserError(
                    f"{self._folder.url} is being written by another run ({_who(found)}, heard of {found.age_s:.0f} s "
                    f"ago): wait for it, or stop it first; one that was killed is given up after {self._expiry_s:.0f} s"
                )
            else:
                etag = self._object.replace(self._content(), found.etag)
            if etag is not None:
                return etag
        raise UserError(f"{self._folder.url} is being taken by other runs at this moment: try again")

    def _require_conditions(self) -> None:
        """Ask for what must be refused; a store that heeds no conditions overwrites our own lease with itself."""
        refused = self._object.create(self._content()), self._object.replace(self._content(), _NO_ETAG)
        for etag in refused:
            if etag is not None:
                self._etag = etag
                raise NoConditionsError

    def _content(self) -> bytes:
        # The count makes each ETag new: who has judged the lease dead by an older one cannot take it any more.
        holder = {"host": socket.gethostname(), "pid": os.getpid(), "token": self.token, "beats": self._beats}
        return json.dumps(holder).encode()

    def _beat(self) -> None:
        while not self._stop.wait(self._heartbeat_s):
            # Out of reach: nothing can be published either; whether the lease is still ours shows afterwards.
            with suppress(OSError, UserError):
                if not self._renew():
                    return

    def _renew(self) -> bool:
        """Rewrite the lease; False where it is another's."""
        self._beats += 1
        etag = self._object.replace(self._content(), self._etag)
        if etag is None:
            found = self._object.read()
            if found is None:
                etag = self._object.create(self._content())
            elif _holder(found).get("token") == self.token:
                etag = found.etag
            if etag is None:
                return False
        self._etag = etag
        return True


class Claim:
    """What a folder asks before it publishes, in whatever process: whether its lease still bears the run's token."""

    def __init__(self, folder: RemoteFolder, token: str) -> None:
        self.token = token
        self._url = folder.url
        self._object = ConditionalObject(folder, LEASE)

    def __call__(self) -> None:
        """LeaseLostError where the lease is another run's."""
        found = self._object.read()
        if found is None or _holder(found).get("token") != self.token:
            to = "is gone" if found is None else f"has gone to another run ({_who(found)})"
            raise LeaseLostError(f"{self._url}: the lease of this run {to}: it writes no more; what it finished stays")


@contextmanager
def only_remote_writer(folder: RemoteFolder, warn: Callable[[str], None]) -> Iterator[None]:
    """The lease; where the store has no conditional writes, a warning in its place."""
    unguarded = f"{folder.url}: nothing keeps a second run from writing there at the same time: "
    with ExitStack() as stack:
        if not is_s3(folder.filesystem):
            warn(unguarded + "only of s3:// stores are conditional writes known, which the lease of a run needs")
        else:
            try:
                stack.enter_context(ObjectLease(folder))
            except NoConditionsError:
                warn(unguarded + "its store does not heed conditional writes, which the lease of a run needs")
        yield


def _holder(found: StoredObject) -> dict[str, Any]:
    """Empty where the object is none of ours."""
    try:
        holder = json.loads(found.content)
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) else {}


def _who(found: StoredObject) -> str:
    holder = _holder(found)
    return f"process {holder.get('pid', 'unknown')} on {holder.get('host', 'an unknown host')}"
