"""What `modelwright plan` assumes of a cluster: from a facts file, from this machine, or asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from modelwright_artifact.hardware import PROFILES, detect, profile_name
from modelwright_operator.cli.preview import offline_settings
from modelwright_operator.observe.models import list_profiles
from modelwright_operator.plan.observed import ProfileView
from modelwright_operator.settings import Settings, SettingsError, parse_settings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from modelwright_operator.kube.cache import Store


class FactsError(Exception):
    """The facts file is missing or wrong."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Hardware profiles and settings to plan with, and a sentence on where they come from."""

    profiles: tuple[ProfileView, ...]
    settings: Settings
    origin: str


def local_facts() -> Facts:
    """A cluster of machines like this one, under placeholder settings."""
    name = profile_name(detect())
    return Facts(
        (_profile({"name": name}),),
        parse_settings(offline_settings()),
        f"nodes like this machine ({name}); --facts FILE says otherwise",
    )


def read_facts(path: Path) -> Facts:
    """Facts from a YAML file: `profiles: [{name, architecture, features, nodes}]`, `settings: {}`.

    Raises:
        FactsError: the file cannot be used; the message says why.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        profiles = tuple(_profile(item) for item in document["profiles"])
        settings = parse_settings({**offline_settings(), **document.get("settings", {})})
    except (OSError, yaml.YAMLError, SettingsError) as error:
        raise FactsError(f"{path}: {error}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise FactsError(
            f"{path}: expected `profiles:`, a list of hardware profiles with a `name` each"
        ) from error
    return Facts(profiles, settings, str(path))


def cluster_facts(store: Store) -> Facts:
    """The profiles of a real cluster; its settings are the installation's business."""
    return Facts(list_profiles(store), parse_settings(offline_settings()), "the cluster")


def _profile(document: Mapping[str, Any]) -> ProfileView:
    name = document["name"]
    known = next((profile for profile in PROFILES if profile.name == name), None)
    return ProfileView(
        name=name,
        architecture=document.get("architecture", known.architecture if known else "amd64"),
        features=tuple(document.get("features", known.features if known else ())),
        nodes=tuple(document.get("nodes", ("some-node",))),
    )
