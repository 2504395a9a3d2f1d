"""Bodies of requests while they come in and until they are tokenized: each bounded, and all of them together."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.requests import Request

from wildreward.scoring.server.limits import Limits

FREE = 64 << 10  # bytes of each body that are not counted, so that large ones never shut out a small one


@dataclass(eq=False)
class Upload:
    """A body under way."""

    size: int = 0
    moved: float = 0  # when the last part came
    timer: asyncio.Timeout | None = None  # while it comes in
    displaced: bool = False

    @property
    def counted(self) -> int:
        return 0 if self.displaced else max(0, self.size - FREE)


class Uploads:
    """Reads bodies. Where all of them together become too much, the one gives way that has stood still the longest."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.budget = max(limits.max_uploads, limits.max_body)
        self._under_way: set[Upload] = set()

    @contextmanager
    def opened(self) -> Iterator[Upload]:
        """A body, which counts until the block is left."""
        upload = Upload()
        self._under_way.add(upload)
        try:
            yield upload
        finally:
            self._under_way.remove(upload)

    async def read(self, request: Request, upload: Upload) -> bytes:
        """The body of a request.

        Raises:
            HTTPException: 408 when it takes too long, 413 when it is too large, 429 when it had to give way.
            ClientDisconnect: the client left.
        """
        limits, parts = self.limits, []
        try:
            async with asyncio.timeout(None) as upload.timer:
                deadline = _now() + limits.upload_seconds
                upload.timer.reschedule(min(deadline, _now() + limits.stall_seconds))
                async for part in request.stream():
                    upload.size, upload.moved = upload.size + len(part), _now()
                    if upload.size > limits.max_body:
                        most = f"the body is larger than {limits.max_body} bytes"
                        raise HTTPException(413, f"{most}; send fewer conversations at once")
                    self._make_room()
                    if upload.displaced:
                        raise TimeoutError
                    parts.append(part)
                    upload.timer.reschedule(min(deadline, _now() + limits.stall_seconds))
        except TimeoutError as error:
            if upload.displaced:
                said = f"the bodies under way are larger than {self.budget} bytes together; try again later"
                raise HTTPException(429, said, {"Retry-After": "1"}) from error
            most = f"{limits.upload_seconds:g} s, or stood still for {limits.stall_seconds:g} s"
            raise HTTPException(408, f"the body took longer than {most}") from error
        finally:
            upload.timer = None
        return b"".join(parts)

    def _make_room(self) -> None:
        while sum(upload.counted for upload in self._under_way) > self.budget:
            coming = (upload for upload in self._under_way if upload.timer and upload.counted)
            stalest = min(coming, key=lambda upload: upload.moved)
            assert stalest.timer is not None
            stalest.displaced = True
            stalest.timer.reschedule(_now())


def _now() -> float:
    return asyncio.get_running_loop().time()
