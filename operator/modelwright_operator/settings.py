"""The installation's settings: parsed once from a YAML file, frozen, passed down.

An installation mounts them from a ConfigMap; `MODELWRIGHT_SETTINGS` names the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

DEFAULT_PATH = Path("/etc/modelwright/settings.yaml")


class SettingsError(Exception):
    """The settings file is missing or wrong; the message says where."""


class _Section(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True
    )


class Images(_Section):
    """The images new builds use; a build keeps the ones it was made with."""

    optimizer: str = Field(min_length=1)
    runtime: str = Field(min_length=1)


class Resources(_Section):
    """CPU and memory as Kubernetes quantities."""

    cpu: str = "1"
    memory: str = "1Gi"


class BuildSettings(_Section):
    """How build Jobs run."""

    deadline_seconds: int = Field(default=3600, ge=60)
    backoff_limit: int = Field(default=2, ge=0, le=10)
    finished_ttl_seconds: int = Field(default=600, ge=0)
    retry_seconds: int = Field(default=300, ge=10)
    max_report_bytes: int = Field(default=1 << 20, ge=1 << 10)
    history_limit: int = Field(default=5, ge=1, le=16)


class LeaderElection(_Section):
    """How replicas of the operator agree on who acts."""

    enabled: bool = True
    lease_duration_seconds: int = Field(default=15, ge=5)
    renew_deadline_seconds: int = Field(default=10, ge=3)
    retry_period_seconds: int = Field(default=2, ge=1)


class Settings(_Section):
    """Everything an installation may decide."""

    artifact_repository: str = Field(min_length=1)
    images: Images
    insecure_registries: tuple[str, ...] = ()
    registry_secret: str = ""  # a dockerconfigjson Secret's name in each served namespace
    ca_bundle_config_map: str = ""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    watch_namespaces: tuple[str, ...] = ()
    cluster_domain: str = "cluster.local"
    serving_resources: Resources = Resources()
    build: BuildSettings = BuildSettings()
    probe_nodes: bool = True
    probe_concurrency: int = Field(default=5, ge=1)
    resync_seconds: int = Field(default=300, ge=10)
    workers: int = Field(default=8, ge=1)
    leader_election: LeaderElection = LeaderElection()
    log_level: Annotated[str, Field(pattern="^(DEBUG|INFO|WARNING|ERROR)$")] = "INFO"


def parse_settings(document: Mapping[str, Any]) -> Settings:
    """Turn a parsed YAML document into settings.

    Raises:
        SettingsError: a field is unknown, missing or out of range.
    """
    try:
        return Settings.model_validate(document)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in issue['loc'])}: {issue['msg']}"
            for issue in error.errors()
        )
        raise SettingsError(f"settings: {problems}") from error


def load_settings(path: Path = DEFAULT_PATH) -> Settings:
    """Read settings from a file.

    Raises:
        SettingsError: the file is missing, no YAML mapping, or holds a wrong field.
    """
    import yaml

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise SettingsError(f"settings file {path}: {error}") from error
    if not isinstance(document, Mapping):
        raise SettingsError(f"settings file {path} holds no mapping")
    return parse_settings(document)
