"""What `envprov doctor` says of the webhook's tokens."""

from __future__ import annotations

import base64
from pathlib import Path

from envprov.cli.checks import State, check_tokens
from envprov.settings import Settings, WebhookSettings

SIGNING = "whsec_" + base64.b64encode(b"k" * 32).decode()


def written(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "token"
    path.write_text(text)
    path.chmod(mode)
    return path


def said_of(**webhook: Path) -> tuple[State, str]:
    given = {name: (path,) for name, path in webhook.items()}
    check = check_tokens(Settings(webhook=WebhookSettings.model_validate(given)))
    return check.state, check.message


def test_a_receiver_with_signatures_alone_is_in_order(tmp_path: Path) -> None:
    state, found = said_of(signing_token_files=written(tmp_path, SIGNING))
    assert (state, found.startswith("1 can be read")) == (State.OK, True)


def test_a_signing_token_that_is_none_is_told(tmp_path: Path) -> None:
    assert said_of(signing_token_files=written(tmp_path, "secret"))[0] is State.FAILED


def test_a_signing_token_that_everybody_can_read_is_told(tmp_path: Path) -> None:
    path = written(tmp_path, SIGNING, 0o644)
    assert said_of(signing_token_files=path) == (State.WARNING, f"everybody can read {path}")


def test_no_token_at_all_is_told() -> None:
    assert said_of() == (State.WARNING, "none are set")
