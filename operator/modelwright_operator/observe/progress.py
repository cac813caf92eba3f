"""Ask a running build's pod how far it is; an answer is welcome, none changes nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import httpx

from modelwright_operator.plan import names
from modelwright_operator.plan.build import PROGRESS_SECONDS
from modelwright_operator.plan.observed import Object, Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_TIMEOUT_SECONDS = 2.0
_MAX_TEXT = 200


class PodProgressReader:
    """Reads `GET /progress` from a pod's own address."""

    def __init__(
        self, http: httpx.AsyncClient, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Use this client; the caller closes it."""
        self._http = http
        self._clock = clock
        self._last: dict[str, tuple[float, Progress | None]] = {}

    async def read(self, pod: Object) -> Progress | None:
        """How far the build is, or None; a pod is asked at most every 15 seconds."""
        uid, now = pod["metadata"]["uid"], self._clock()
        self._last = {
            key: entry for key, entry in self._last.items() if now - entry[0] < PROGRESS_SECONDS
        }
        if uid not in self._last:
            self._last[uid] = (now, await self._ask(pod))
        return self._last[uid][1]

    async def _ask(self, pod: Object) -> Progress | None:
        address = pod.get("status", {}).get("podIP")
        if not address:
            return None
        host = f"[{address}]" if ":" in address else address
        try:
            answer = await self._http.get(
                f"http://{host}:{names.PROGRESS_PORT}/progress", timeout=_TIMEOUT_SECONDS
            )
            return parse_progress(answer.raise_for_status().json())
        except (httpx.HTTPError, ValueError, TypeError):
            return None


def parse_progress(said: Mapping[str, Any]) -> Progress | None:
    """What a build says of itself, cut to size; it runs strangers' models, so it is not trusted."""
    if not isinstance(said, dict):
        return None
    remaining = said.get("remainingSeconds")
    return Progress(
        step=str(said.get("step", ""))[:_MAX_TEXT],
        percent=max(0, min(100, int(said.get("percent") or 0))),
        message=str(said.get("message", ""))[:_MAX_TEXT],
        remaining_seconds=None if remaining is None else max(0, int(remaining)),
    )
