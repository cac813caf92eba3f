from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.runtime import artifacts
from tests.integration.runtime.server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def classifier_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A ready server of the tiny classifier, shared by the tests of a module."""
    folder = tmp_path_factory.mktemp("classifier")
    artifacts.write_classifier(folder / "artifact")
    arguments = ("--model-name", "digits", "--max-body-bytes", "1000000", "--header-seconds", "1")
    with ServerProcess(folder, folder / "artifact", arguments=arguments) as server:
        yield server.wait_ready()
        assert server.stop() == 0, server.logs()


@pytest.fixture(scope="module")
def echo_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A ready server that returns one tensor of every datatype."""
    folder = tmp_path_factory.mktemp("echo")
    artifacts.write_echo(folder / "artifact")
    arguments = ("--model-name", "echo")
    with ServerProcess(folder, folder / "artifact", arguments=arguments) as server:
        yield server.wait_ready()
        assert server.stop() == 0, server.logs()
