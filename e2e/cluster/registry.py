"""Two OCI registries in the hub: plain HTTP, and TLS with a password; data outlives the cluster."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from e2e.cluster.commands import run
from e2e.cluster.errors import ClusterError
from e2e.cluster.files import write_atomically, write_if_changed
from e2e.cluster.packages import find_program
from e2e.cluster.pki import Subject
from e2e.cluster.probes import Endpoint
from e2e.cluster.processes import Component
from e2e.cluster.spec import HUB_ADDRESS, REGISTRY_PORT, REGISTRY_TLS_PORT

if TYPE_CHECKING:
    from pathlib import Path

    from e2e.cluster.netns import NetworkNamespace
    from e2e.cluster.pki import Pki
    from e2e.cluster.processes import Supervisor
    from e2e.cluster.progress import Progress
    from e2e.cluster.spec import Layout

DEADLINE_SECONDS: Final = 60.0
PLAIN: Final = "registry"
SECURED: Final = "registry-tls"
# Test data, no secret: the registry lives in a network namespace and on loopback.
USER: Final = "modelwright"
PASSWORD: Final = "modelwright"  # noqa: S105


@dataclass(frozen=True, slots=True)
class Registries:
    layout: Layout
    pki: Pki
    namespace: NetworkNamespace

    def up(self, supervisor: Supervisor, progress: Progress) -> None:
        self._write_configuration()
        ports = {PLAIN: (REGISTRY_PORT, 200), SECURED: (REGISTRY_TLS_PORT, 401)}
        for name, (port, status) in ports.items():
            tls = None
            if name == SECURED:
                tls = self.pki.client_context()
            endpoint = Endpoint(HUB_ADDRESS, port, self.namespace, tls)
            with progress.step(name) as step:
                if not supervisor.ensure(self.component(name)):
                    step.was_done()
                supervisor.wait_ready(
                    name,
                    endpoint.probe("/v2/", status=status),
                    deadline_seconds=DEADLINE_SECONDS,
                )

    def component(self, name: str) -> Component:
        program = find_program("docker-registry")
        if program is None:
            raise ClusterError("docker-registry is not installed")
        configuration = self._configuration(name)
        return Component(
            name,
            (program, "serve", str(configuration)),
            self.namespace,
            environment={"OTEL_TRACES_EXPORTER": "none"},
            configuration=(configuration,),
        )

    def _write_configuration(self) -> None:
        hosts = (HUB_ADDRESS, "127.0.0.1", "localhost")
        self.pki.ensure_issued(SECURED, Subject("registry", hosts=hosts))
        passwords = self._passwords()
        if not passwords.exists():
            write_atomically(passwords, hash_password(USER, PASSWORD))
        plain = build_configuration(self.layout.registry / "plain", port=REGISTRY_PORT)
        secured = build_configuration(
            self.layout.registry / "secured",
            port=REGISTRY_TLS_PORT,
            tls=(self.pki.certificate(SECURED), self.pki.key(SECURED)),
            passwords=passwords,
        )
        write_if_changed(self._configuration(PLAIN), plain)
        write_if_changed(self._configuration(SECURED), secured)

    def _configuration(self, name: str) -> Path:
        # The registry reads YAML, of which JSON is a part.
        return self.layout.configuration / f"{name}.yaml"

    def _passwords(self) -> Path:
        return self.layout.configuration / "registry.htpasswd"


def build_configuration(
    storage: Path,
    *,
    port: int,
    tls: tuple[Path, Path] | None = None,
    passwords: Path | None = None,
) -> str:
    """Return the configuration of one registry; with `passwords` it asks for one."""
    http: dict[str, object] = {"addr": f"{HUB_ADDRESS}:{port}"}
    content: dict[str, object] = {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(storage)},
            "delete": {"enabled": True},
        },
        "http": http,
    }
    if tls is not None:
        certificate, key = tls
        http["tls"] = {"certificate": str(certificate), "key": str(key)}
    if passwords is not None:
        content["auth"] = {"htpasswd": {"realm": "modelwright", "path": str(passwords)}}
    return json.dumps(content, indent=1) + "\n"


def hash_password(user: str, password: str) -> str:
    """Return an htpasswd line; the registry knows bcrypt only."""
    return run(["htpasswd", "-Bbn", user, password])
