"""Tests: unit, integration, e2e, meta and bench; what they share stands here."""
