"""What an object store answers or fails to answer, as errors that the rest of the program knows."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from dad_datasets.errors import UserError


class StoreError(OSError):
    """A store that cannot be reached or that fails, after the retries of its client: trying again later may help."""


_FOREIGN = (("botocore.exceptions", "BotoCoreError"), ("aiohttp", "ClientError"))
"""Families of errors that are no OSErrors, by the module that holds them."""

_NO_CREDENTIALS = (
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "TokenRetrievalError",
    "SSOError",
    "ProfileNotFound",
)

_NOT_A_REQUEST = ("ParamValidationError", "NoRegionError", "EndpointProviderError", "InvalidRegionError")


@contextmanager
def plainly_told(url: str) -> Iterator[None]:
    """Errors of a remote filesystem in the block become one sentence that begins with `url`.

    UserError where trying again is no use: no credentials, access refused, no such bucket, an impossible name.
    StoreError where it may be. FileNotFoundError, and what goes wrong on a local disk, stay as they are.
    """
    try:
        yield
    except UserError:
        raise
    except _families() as error:
        told = _told(error, url)
        if told is None:
            raise
        raise told from error


def store_code(error: BaseException) -> str:
    """The code in the answer that led to `error` ("NoSuchBucket", "412"), or an empty string."""
    seen: BaseException | None = error
    while seen is not None:
        response = getattr(seen, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
        seen = seen.__cause__ or seen.__context__
    return ""


def _families() -> tuple[type[Exception], ...]:
    # Looked up when something was raised: only a client that is loaded can have raised its errors.
    loaded = (getattr(sys.modules.get(module), name, None) for module, name in _FOREIGN)
    return (OSError, *(family for family in loaded if family is not None))


def _told(error: Exception, url: str) -> Exception | None:
    """The error to raise instead, or None where it is to stay."""
    names = {kind.__name__ for kind in type(error).__mro__}
    reason = " ".join((getattr(error, "strerror", None) or str(error)).split())
    code = store_code(error)
    if code == "NoSuchBucket":
        return UserError(f"{url}: there is no such bucket")
    if isinstance(error, FileNotFoundError | FileExistsError | IsADirectoryError | NotADirectoryError):
        return None
    if isinstance(error, PermissionError) and error.errno is None:
        return UserError(
            f"{url}: access was refused ({code or 'no code'}: {reason}): check the credentials "
            "(AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE) and what the bucket allows them"
        )
    if names.intersection(_NO_CREDENTIALS):
        return UserError(
            f"{url}: no credentials ({reason.rstrip('.')}): "
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        )
    if names.intersection(_NOT_A_REQUEST):
        return UserError(f"{url}: {reason}")
    if isinstance(error, OSError) and not code and not isinstance(error, ConnectionError | TimeoutError):
        return None
    return StoreError(f"{url}: the store failed or could not be reached ({reason.rstrip('.')})")
