from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="write the golden files as they come out now"
    )


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether to write what comes out instead of comparing it."""
    # Without a path on the command line this file is read too late to add the option.
    return bool(request.config.getoption("--update-golden", default=False))
