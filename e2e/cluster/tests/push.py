"""Push a small image over the registry's HTTP API."""

from __future__ import annotations

import base64
import http.client
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from e2e.cluster.oci_archive import CONFIG_TYPE, LAYER_TYPE, MANIFEST_TYPE, OciImage, digest_of

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class RegistryClient:
    host: str
    tls: ssl.SSLContext | None = None
    credentials: str | None = None

    def push(self, repository: str, image: OciImage) -> str:
        """Upload blobs and manifest; return the digest."""
        for media_type, blob in ((CONFIG_TYPE, image.config), (LAYER_TYPE, image.layer)):
            location = self._ask("POST", f"/v2/{repository}/blobs/uploads/", 202, media_type)
            separator = "&" if "?" in location else "?"
            path = location.partition(self.host)[2] or location
            url = f"{path}{separator}digest={digest_of(blob)}"
            self._ask("PUT", url, 201, "application/octet-stream", blob)
        path = f"/v2/{repository}/manifests/{image.digest}"
        self._ask("PUT", path, 201, MANIFEST_TYPE, image.manifest)
        return image.digest

    def status(self, path: str) -> int:
        return self._request("GET", path)[0]

    def _ask(self, method: str, path: str, want: int, media_type: str, body: bytes = b"") -> str:
        status, location = self._request(method, path, body, {"Content-Type": media_type})
        assert status == want, (method, path, status)
        return location

    def _request(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[int, str]:
        """Return status and location."""
        headers = dict(headers or {})
        if self.credentials is not None:
            encoded = base64.b64encode(self.credentials.encode()).decode()
            headers["Authorization"] = f"Basic {encoded}"
        connection: http.client.HTTPConnection
        if self.tls is None:
            connection = http.client.HTTPConnection(self.host, timeout=TIMEOUT_SECONDS)
        else:
            connection = http.client.HTTPSConnection(
                self.host, timeout=TIMEOUT_SECONDS, context=self.tls
            )
        with closing(connection):
            connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            answer.read()
            return answer.status, answer.headers.get("Location") or ""
