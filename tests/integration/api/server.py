"""Talks to the API server in plain HTTP, so that a test sees every word of its answers."""

from __future__ import annotations

import base64
import json
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import yaml

from modelwright_operator.api.base import API_VERSION
from modelwright_operator.api.crds import KINDS, Kind

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.api.samples import Object

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
BY_NAME = {kind.name: kind for kind in KINDS}


@dataclass(frozen=True)
class Refusal:
    """Why the API server did not take an object: one (field, message) for each cause."""

    code: int
    message: str
    causes: tuple[tuple[str, str], ...]


class Server:
    """The custom resources of one namespace."""

    def __init__(self, client: httpx.Client, namespace: str) -> None:
        self._client = client
        self.namespace = namespace

    def try_create(self, document: Object) -> Object | Refusal:
        """Ask whether an object would be taken, without keeping it."""
        answer = self._client.post(
            self._path(document, named=False), params=_dry_run(), json=document
        )
        return _outcome(answer)

    def try_replace(self, document: Object) -> Object | Refusal:
        """Ask whether a changed object would be taken, without keeping it."""
        answer = self._client.put(self._path(document), params=_dry_run(), json=document)
        return _outcome(answer)

    def try_replace_status(self, document: Object) -> Object | Refusal:
        """Ask whether a status would be taken, without keeping it."""
        path = f"{self._path(document)}/status"
        return _outcome(self._client.put(path, params=_dry_run(), json=document))

    def try_apply(self, document: Object) -> Object | Refusal:
        """Ask whether server-side apply would take an object, without keeping it."""
        answer = self._client.patch(
            self._path(document),
            params={**_dry_run(), "fieldManager": "user"},
            headers={"Content-Type": APPLY},
            content=json.dumps(document),
        )
        return _outcome(answer)

    def create(self, document: Object) -> Object:
        return _expect(self._client.post(self._path(document, named=False), json=document))

    def get(self, document: Object) -> Object:
        return _expect(self._client.get(self._path(document)))

    def replace(self, document: Object, subresource: str = "") -> Object:
        return _expect(self._client.put(self._path(document) + subresource, json=document))

    def apply(self, document: Object, manager: str, subresource: str = "") -> Object:
        return self._patch(document, APPLY, subresource, fieldManager=manager, force="true")

    def merge(self, document: Object, subresource: str = "") -> Object:
        return self._patch(document, MERGE, subresource)

    def _patch(self, document: Object, form: str, subresource: str, **params: str) -> Object:
        answer = self._client.patch(
            self._path(document) + subresource,
            params={"fieldValidation": "Strict", **params},
            headers={"Content-Type": form},
            # JSON is YAML, and an older YAML takes a name like 0008 for a number.
            content=json.dumps(document),
        )
        return _expect(answer)

    def _path(self, document: Object, *, named: bool = True) -> str:
        kind = BY_NAME[document["kind"]]
        path = f"/apis/{API_VERSION}{self._scope(kind)}/{kind.plural}"
        return f"{path}/{document['metadata']['name']}" if named else path

    def _scope(self, kind: Kind) -> str:
        return "" if kind.scope == "Cluster" else f"/namespaces/{self.namespace}"


def connect(kubeconfig: Path, directory: Path) -> httpx.Client:
    """A client with the administrator's certificate."""
    config = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    for name, text in (
        ("ca", cluster["certificate-authority-data"]),
        ("certificate", user["client-certificate-data"]),
        ("key", user["client-key-data"]),
    ):
        (directory / name).write_bytes(base64.b64decode(text))
    context = ssl.create_default_context(cafile=str(directory / "ca"))
    context.load_cert_chain(directory / "certificate", directory / "key")
    return httpx.Client(base_url=cluster["server"], verify=context, timeout=30)


def _dry_run() -> dict[str, str]:
    return {"dryRun": "All", "fieldValidation": "Strict"}


def _outcome(answer: httpx.Response) -> Object | Refusal:
    body: dict[str, Any] = answer.json()
    if answer.is_success:
        return body
    assert answer.status_code < 500, body
    causes = body.get("details", {}).get("causes", [])
    return Refusal(
        answer.status_code,
        body["message"],
        tuple((cause.get("field", ""), cause["message"]) for cause in causes),
    )


def _expect(answer: httpx.Response) -> Object:
    assert answer.is_success, answer.text
    result: Object = answer.json()
    return result
