"""The table of providers, and where a test notes what a judge and we said."""

from collections.abc import Callable, Mapping

import pytest

from hookbrook.inbound.providers import load
from hookbrook.inbound.recipe import Row

#: Takes provider, judge, column and text.
Note = Callable[[str, str, str, str], None]


@pytest.fixture(scope="session")
def rows() -> Mapping[str, Row]:
    return load()


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Note:
    """One cell of the table that is printed when all tests have run (`tests/conftest.py`)."""

    def write(provider: str, judge: str, column: str, text: str) -> None:
        request.node.user_properties.append(("judged", (provider, judge, column, text)))

    return write
