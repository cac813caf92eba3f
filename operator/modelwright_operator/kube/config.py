"""Where the API server is and how to prove who we are: in a pod, or from a kubeconfig.

Client certificates, tokens, token files that rotate, exec plugins, CA bundles by file or data.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import ssl
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

SERVICE_ACCOUNT_DIR = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TOKEN_MAX_AGE_SECONDS = 60.0
_EXPIRY_MARGIN_SECONDS = 30.0
_EXEC_TIMEOUT_SECONDS = 60.0


class ConfigError(Exception):
    """No usable way to the API server; the message says what was looked for."""


class TokenSource(Protocol):
    """Gives the bearer token to send now."""

    async def read(self) -> str | None:
        """The token, or None when the connection itself proves who we are."""

    def invalidate(self) -> None:
        """Forget what is cached: the server did not accept it."""


@dataclass(slots=True)
class StaticToken:
    """A token that never changes, or none."""

    value: str | None = None

    async def read(self) -> str | None:
        """The token."""
        return self.value

    def invalidate(self) -> None:
        """There is nothing to forget."""


@dataclass(slots=True)
class FileToken:
    """A token in a file that the kubelet rotates; read again every minute."""

    path: Path
    _value: str | None = None
    _read_at: float = 0.0

    async def read(self) -> str | None:
        """The token, at most a minute old."""
        if self._value is None or time.monotonic() - self._read_at > _TOKEN_MAX_AGE_SECONDS:
            self._value = await asyncio.to_thread(self._load)
            self._read_at = time.monotonic()
        return self._value

    def _load(self) -> str:
        try:
            return self.path.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigError(f"token file {self.path}: {error}") from error

    def invalidate(self) -> None:
        """Read the file again next time."""
        self._value = None


@dataclass(slots=True)
class ExecToken:
    """A token from an exec plugin, kept until it expires."""

    spec: Mapping[str, Any]
    _value: str | None = None
    _expires: datetime | None = None

    async def read(self) -> str | None:
        """The plugin's token."""
        if self._value is None or self._is_expired():
            status = await asyncio.to_thread(run_exec_plugin, self.spec)
            self._value = status.get("token")
            self._expires = _parse_time(status.get("expirationTimestamp"))
        return self._value

    def _is_expired(self) -> bool:
        if self._expires is None:
            return False
        remaining = (self._expires - datetime.now(UTC)).total_seconds()
        return remaining < _EXPIRY_MARGIN_SECONDS

    def invalidate(self) -> None:
        """Ask the plugin again next time."""
        self._value = None


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """Everything needed to speak to one API server as one identity."""

    server: str
    namespace: str = "default"
    ca_file: Path | None = None
    ca_data: bytes | None = None
    certificate: bytes | None = None
    private_key: bytes | None = field(default=None, repr=False)
    tls_server_name: str | None = None
    is_insecure: bool = False
    tokens: TokenSource = field(default_factory=StaticToken, repr=False)

    def build_ssl_context(self) -> ssl.SSLContext:
        """A TLS context that trusts this cluster's CA and holds our client certificate."""
        ca_text = self.ca_data.decode("ascii") if self.ca_data else None
        context = ssl.create_default_context(
            cafile=str(self.ca_file) if self.ca_file else None, cadata=ca_text
        )
        if self.is_insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.certificate and self.private_key:
            _load_cert_chain(context, self.certificate, self.private_key)
        return context


def load_config(kubeconfig: Path | None = None, context: str | None = None) -> ClusterConfig:
    """Find the way to the API server: the given file, `KUBECONFIG`, the pod, `~/.kube/config`.

    Raises:
        ConfigError: nothing usable was found.
    """
    if kubeconfig is not None:
        return load_kubeconfig([kubeconfig], context)
    if paths := os.environ.get("KUBECONFIG"):
        return load_kubeconfig([Path(path) for path in paths.split(os.pathsep) if path], context)
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        return load_in_cluster()
    return load_kubeconfig([Path.home() / ".kube" / "config"], context)


def load_in_cluster(directory: Path = SERVICE_ACCOUNT_DIR) -> ClusterConfig:
    """Use the pod's service account.

    Raises:
        ConfigError: the token is not mounted.
    """
    host = os.environ.get("KUBERNETES_SERVICE_HOST", "kubernetes.default.svc")
    port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    token = directory / "token"
    if not token.is_file():
        raise ConfigError(f"no service account token at {token}; is its mount switched off?")
    namespace_file = directory / "namespace"
    namespace = namespace_file.read_text().strip() if namespace_file.is_file() else "default"
    return ClusterConfig(
        server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        namespace=namespace,
        ca_file=directory / "ca.crt",
        tokens=FileToken(token),
    )


def load_kubeconfig(paths: list[Path], context: str | None = None) -> ClusterConfig:
    """Read kubeconfig files; where two define the same name, the first one counts.

    Raises:
        ConfigError: a file is missing or wrong, or lacks the context.
    """
    merged = _merge_kubeconfigs(paths)
    name = context or merged.current
    if not name:
        raise ConfigError(f"{_join(paths)}: no current-context; name one")
    chosen = merged.find("contexts", "context", name)
    cluster = merged.find("clusters", "cluster", str(chosen.get("cluster", "")))
    user = merged.find("users", "user", str(chosen["user"])) if chosen.get("user") else {}
    if not cluster.get("server"):
        raise ConfigError(f"{_join(paths)}: cluster {chosen.get('cluster')} has no server")
    certificate, private_key, tokens = _identity(user)
    ca_data = _data_or_file(cluster, "certificate-authority")
    return ClusterConfig(
        server=str(cluster["server"]),
        namespace=str(chosen.get("namespace") or "default"),
        ca_data=ca_data,
        certificate=certificate,
        private_key=private_key,
        tls_server_name=cluster.get("tls-server-name"),
        is_insecure=bool(cluster.get("insecure-skip-tls-verify", False)),
        tokens=tokens,
    )


def run_exec_plugin(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """Run a client-go credential plugin and return its status.

    Raises:
        ConfigError: it is missing, failed, or answered nonsense.
    """
    command = [str(spec.get("command", "")), *map(str, spec.get("args") or [])]
    version = spec.get("apiVersion", "client.authentication.k8s.io/v1")
    info = {
        "apiVersion": version,
        "kind": "ExecCredential",
        "spec": {"interactive": False},
    }
    extra = {str(item["name"]): str(item["value"]) for item in spec.get("env") or []}
    environment = {**os.environ, **extra, "KUBERNETES_EXEC_INFO": json.dumps(info)}
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            timeout=_EXEC_TIMEOUT_SECONDS,
        )
        status = json.loads(done.stdout)["status"]
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"credential plugin {command[0]}: {error}") from error
    if not isinstance(status, Mapping):
        raise ConfigError(f"credential plugin {command[0]}: status is no mapping")
    return status


@dataclass(frozen=True, slots=True)
class _Merged:
    """Several kubeconfig files seen as one, each entry with the folder its paths start from."""

    current: str
    entries: Mapping[tuple[str, str], Mapping[str, Any]]
    origin: str

    def find(self, section: str, field_name: str, name: str) -> Mapping[str, Any]:
        try:
            entry = self.entries[section, name]
        except KeyError:
            raise ConfigError(f"{self.origin}: {section} has no {name!r}") from None
        return {"_folder": entry["_folder"], **(entry.get(field_name) or {})}


def _merge_kubeconfigs(paths: list[Path]) -> _Merged:
    current = ""
    entries: dict[tuple[str, str], Mapping[str, Any]] = {}
    for path in paths:
        if not path.is_file() and len(paths) > 1:
            continue
        document = _load_yaml(path)
        current = current or str(document.get("current-context") or "")
        for section in ("contexts", "clusters", "users"):
            for entry in document.get(section) or []:
                entries.setdefault(
                    (section, str(entry.get("name"))), {**entry, "_folder": path.parent}
                )
    if not entries:
        raise ConfigError(f"{_join(paths)}: no kubeconfig there; set KUBECONFIG")
    return _Merged(current, entries, _join(paths))


def _load_yaml(path: Path) -> Mapping[str, Any]:
    import yaml  # only people at a terminal need it

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"kubeconfig {path}: {error}") from error
    if not isinstance(document, Mapping):
        raise ConfigError(f"kubeconfig {path} holds no mapping")
    return document


def _identity(user: Mapping[str, Any]) -> tuple[bytes | None, bytes | None, TokenSource]:
    certificate = _data_or_file(user, "client-certificate")
    private_key = _data_or_file(user, "client-key")
    if token := user.get("token"):
        return certificate, private_key, StaticToken(str(token))
    if token_file := user.get("tokenFile"):
        return certificate, private_key, FileToken(_resolve(user, str(token_file)))
    if plugin := user.get("exec"):
        # The certificate form is asked for once: a client certificate outlives a command.
        status = run_exec_plugin(plugin)
        if status.get("clientCertificateData"):
            return (
                str(status["clientCertificateData"]).encode(),
                str(status.get("clientKeyData", "")).encode(),
                StaticToken(),
            )
        return certificate, private_key, ExecToken(plugin)
    return certificate, private_key, StaticToken()


def _data_or_file(section: Mapping[str, Any], name: str) -> bytes | None:
    """The PEM text of `<name>-data` (base64) or of the file `<name>`."""
    if data := section.get(f"{name}-data"):
        try:
            return base64.b64decode(str(data), validate=True)
        except ValueError as error:
            raise ConfigError(f"{name}-data is no base64: {error}") from error
    if path := section.get(name):
        try:
            return _resolve(section, str(path)).read_bytes()
        except OSError as error:
            raise ConfigError(f"{name} {path}: {error}") from error
    return None


def _resolve(section: Mapping[str, Any], path: str) -> Path:
    """Paths in a kubeconfig start from the file's own folder."""
    folder: Path = section["_folder"]
    return folder / path


def _load_cert_chain(context: ssl.SSLContext, certificate: bytes, private_key: bytes) -> None:
    """Python's ssl reads a client certificate only from files, so they exist for a moment."""
    with tempfile.TemporaryDirectory() as folder:
        certificate_file = Path(folder) / "client.crt"
        key_file = Path(folder) / "client.key"
        certificate_file.write_bytes(certificate)
        key_file.touch(mode=0o600)
        key_file.write_bytes(private_key)
        try:
            context.load_cert_chain(certificate_file, key_file)
        except (ssl.SSLError, OSError) as error:
            raise ConfigError(f"client certificate: {error}") from error


def _parse_time(text: object) -> datetime | None:
    return datetime.fromisoformat(text) if isinstance(text, str) else None


def _join(paths: list[Path]) -> str:
    return os.pathsep.join(str(path) for path in paths)
