"""Settings of signing tokens: whole or not at all, and never shown."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import pytest

from envprov.domain.errors import ConfigError
from envprov.settings import WebhookSettings, load_settings, read_signing_keys, read_tokens

KEY = bytes(range(32))
TOKEN = "whsec_" + b64encode(KEY).decode()


def write(folder: Path, name: str, content: str) -> Path:
    file = folder / name
    file.write_text(content)
    return file


def keys(*paths: Path) -> list[bytes]:
    return [key.get_secret_value() for key in read_signing_keys(WebhookSettings(signing_token_files=paths))]


def test_signing_tokens_of_files_and_folders(tmp_path: Path) -> None:
    folder = tmp_path / "mounted"
    folder.mkdir()
    write(folder, "old", "whsec_" + b64encode(b"o" * 24).decode())
    write(folder, "newest", "whsec_" + b64encode(b"n" * 64).decode())
    write(folder, ".hidden", "no token")
    assert keys(write(tmp_path, "one", f"  {TOKEN}\n"), folder) == [KEY, b"n" * 64, b"o" * 24]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param("", "is empty", id="empty"),
        pytest.param("hunter2" * 10, "must begin with whsec_", id="a token of the other kind"),
        pytest.param("x" + TOKEN, "must begin with whsec_", id="something before it"),
        pytest.param("whsec_hunter2!" + "A" * 34, "is not base64", id="not base64"),
        pytest.param(TOKEN[:10] + "!" + TOKEN[10:], "is not base64", id="something else among it"),
        pytest.param(TOKEN[:-1], "is not base64", id="without padding"),
        pytest.param("whsec_", "holds a key of 0 bytes", id="no key"),
        pytest.param("whsec_" + b64encode(b"k" * 23).decode(), "holds a key of 23 bytes", id="key too short"),
        pytest.param("whsec_" + b64encode(b"k" * 65).decode(), "holds a key of 65 bytes", id="key too long"),
        pytest.param("whsec_" + "A" * 5000, "larger than", id="too large"),
    ],
)
def test_what_is_no_signing_token_is_said_and_not_shown(tmp_path: Path, content: str, reason: str) -> None:
    file = write(tmp_path, "token", content)
    with pytest.raises(ConfigError) as error:
        keys(file)
    said = str(error.value)
    assert str(file) in said
    assert reason in said
    assert "hunter2" not in said
    assert not content or content.removeprefix("whsec_")[:6] not in said or content == "whsec_"


def test_one_kind_of_secret_is_enough(tmp_path: Path) -> None:
    signing, plain = write(tmp_path, "signing", TOKEN), write(tmp_path, "plain", "secret")
    assert read_tokens(WebhookSettings(signing_token_files=(signing,))) == ()
    assert read_signing_keys(WebhookSettings(token_files=(plain,))) == ()
    with pytest.raises(ConfigError, match=r"webhook\.token_files .* webhook\.signing_token_files"):
        read_tokens(WebhookSettings())


def test_signatures_cannot_be_required_without_a_key(tmp_path: Path) -> None:
    plain = write(tmp_path, "plain", "secret")
    with pytest.raises(ConfigError, match=r"require_signature: .* without webhook\.signing_token_files"):
        read_signing_keys(WebhookSettings(token_files=(plain,), require_signature=True))
    signing = write(tmp_path, "signing", TOKEN)
    assert read_signing_keys(WebhookSettings(signing_token_files=(signing,), require_signature=True))


def test_keys_do_not_show_themselves(tmp_path: Path) -> None:
    found = read_signing_keys(WebhookSettings(signing_token_files=(write(tmp_path, "token", TOKEN),)))
    assert "*" in repr(found)
    assert repr(KEY)[2:-1] not in repr(found)


def test_a_variable_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path, "token", TOKEN)
    monkeypatch.setenv("ENVPROV_WEBHOOK__SIGNING_TOKEN_FILES", f'["{file}"]')
    monkeypatch.setenv("ENVPROV_WEBHOOK__REQUIRE_SIGNATURE", "true")
    webhook = load_settings(None).webhook
    assert (webhook.signing_token_files, webhook.require_signature) == ((file,), True)
