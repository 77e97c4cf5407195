"""Fixtures; import them into a conftest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.gitlab.driver import GitLabStandIn


@pytest.fixture
def gitlab() -> Iterator[GitLabStandIn]:
    """Yield a GitLab of the test's own, with nothing in it."""
    with GitLabStandIn() as standin:
        yield standin
        assert standin.log == ""
