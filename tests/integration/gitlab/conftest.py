"""A GitLab for each test."""

from __future__ import annotations

from tests.gitlab.fixtures import gitlab

__all__ = ["gitlab"]
