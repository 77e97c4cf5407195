"""Settings: whole or not at all, all faults at once, and no secret in what is said."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from envprov.domain.errors import ConfigError
from envprov.domain.platform import Platform
from envprov.settings import Settings, WebhookSettings, load_settings, read_tokens

Write = Callable[[str], Path]


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the settings of whoever runs the tests out of them."""
    for name in os.environ:
        if name.startswith("ENVPROV_"):
            monkeypatch.delenv(name)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes a settings file."""

    def written(text: str) -> Path:
        file = tmp_path / "settings.yaml"
        file.write_text(text)
        return file

    return written


def test_without_anything_the_defaults_hold() -> None:
    settings = load_settings(None)
    assert settings == Settings()
    assert settings.platform == Platform()
    assert settings.webhook.host == "127.0.0.1"
    assert settings.helm.install_timeout == timedelta(minutes=10)


def test_the_guard_enforces_and_releases_late_unless_told_otherwise(write: Write) -> None:
    guard = load_settings(None).guard
    assert (guard.mode, guard.auto_release) == ("enforce", frozenset())
    assert guard.interval == timedelta(seconds=30)
    assert guard.release_grace == timedelta(seconds=60)
    assert guard.fence_settle >= timedelta(seconds=5)
    told = load_settings(write("guard: {mode: observe, auto_release: [ci-runner], fence_settle: PT20S}\n")).guard
    assert (told.mode, told.auto_release) == ("observe", frozenset({"ci-runner"}))
    assert (told.fence_settle, told.interval) == (timedelta(seconds=20), timedelta(seconds=30))


@pytest.mark.parametrize("field", ["interval", "release_grace", "fence_settle"])
@pytest.mark.parametrize("text", ["PT0S", "-PT5S", "soon"])
def test_times_of_the_guard_are_times(write: Write, field: str, text: str) -> None:
    with pytest.raises(ConfigError, match=f"guard.{field}"):
        load_settings(write(f"guard: {{{field}: {text}}}\n"))


def test_there_is_no_guard_that_is_off(write: Write) -> None:
    with pytest.raises(ConfigError, match=r"guard\.mode"):
        load_settings(write("guard: {mode: 'off'}\n"))


def test_an_empty_file_is_no_fault(write: Write) -> None:
    assert load_settings(write("# nothing yet\n")) == Settings()


def test_a_file_is_read(write: Write) -> None:
    settings = load_settings(
        write(
            """
            webhook: {port: 9000, token_files: [/run/tokens]}
            helm: {install_timeout: PT3M}
            platform:
              network: {profile: isolated}
              sizes:
                XS: {cpu: 500m, memory: 1Gi, memoryLimit: 1Gi, pods: 5}
            """
        )
    )
    assert settings.webhook.port == 9000
    assert settings.webhook.token_files == (Path("/run/tokens"),)
    assert settings.helm.install_timeout == timedelta(minutes=3)
    assert settings.platform.network.profile == "isolated"
    assert list(settings.platform.sizes) == ["S", "M", "L", "XS"]  # one more, beside the built-in ones


def test_a_variable_beats_the_file_and_leaves_the_rest(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVPROV_WEBHOOK__PORT", "9001")
    monkeypatch.setenv("ENVPROV_WEBHOOK__TOKEN_FILES", '["/run/a", "/run/b"]')
    settings = load_settings(write("webhook: {port: 9000, host: 0.0.0.0}"))
    assert settings.webhook.port == 9001
    assert settings.webhook.host == "0.0.0.0"  # noqa: S104 - what the file says
    assert settings.webhook.token_files == (Path("/run/a"), Path("/run/b"))


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        pytest.param("webhook: {port: 70000}", ["webhook.port"], id="port too large"),
        pytest.param("webhok: {port: 80}", ["webhok"], id="unknown section"),
        pytest.param("webhook: {prot: 80}", ["webhook.prot"], id="unknown field"),
        pytest.param("helm: {install_timeout: PT2H}", ["helm.install_timeout"], id="too long"),
        pytest.param("helm: {install_timeout: PT0S}", ["helm.install_timeout"], id="no time"),
        pytest.param("platform: {sizes: {S: {cpu: many}}}", ["platform.sizes.S.cpu"], id="no quantity"),
        pytest.param("platform: {network: {profile: open}}", ["platform.network.profile"], id="unknown profile"),
        pytest.param("log: {level: loud}", ["log.level"], id="unknown level"),
        pytest.param(
            "webhook: {port: -1}\ncontroller: {workers: 0}\nlog: {format: xml}",
            ["webhook.port", "controller.workers", "log.format"],
            id="three at once",
        ),
    ],
)
def test_all_faults_are_said_at_once_with_file_and_field(write: Write, text: str, fields: list[str]) -> None:
    file = write(text)
    with pytest.raises(ConfigError) as caught:
        load_settings(file)
    said = str(caught.value)
    assert str(file) in said
    assert [field for field in fields if f"  {field}: " not in said] == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("a: [", "is not YAML", id="no YAML"),
        pytest.param("a: 2026-02-31", "is not YAML", id="no date"),
        pytest.param("[" * 5000, "is not YAML", id="too deep"),
        pytest.param("a: b: c", "line 1: is not YAML", id="no YAML, with its line"),
        pytest.param("- a", "must hold fields", id="a list"),
        pytest.param("just words", "must hold fields", id="words"),
        pytest.param("1: 2", "must hold fields", id="a number for a field"),
        pytest.param("!!python/object/apply:os.system [id]", "is not YAML", id="code"),
        pytest.param("a: " + "x" * (1 << 20), "larger than", id="too large"),
    ],
)
def test_a_file_that_cannot_be_read(write: Write, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_settings(write(text))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_settings(tmp_path / "nothing.yaml")


def test_values_are_not_shown(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVPROV_CONTROLLER__WORKERS", "hunter2")
    with pytest.raises(ConfigError) as caught:
        load_settings(write("webhook: {port: hunter3}\nlog: {level: hunter4}"))
    assert "hunter" not in str(caught.value)


def test_a_bad_variable_is_a_fault_and_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVPROV_WEBHOOK__PORT", "many")
    with pytest.raises(ConfigError, match=r"ENVPROV_\* variables"):
        load_settings(None)


# --- Tokens


def tokens(*paths: Path) -> list[str]:
    return [token.get_secret_value() for token in read_tokens(WebhookSettings(token_files=paths))]


def test_tokens_of_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("  first\n")
    folder = tmp_path / "mounted"
    (folder / "..data").mkdir(parents=True)
    (folder / ".hidden").write_text("no token")
    (folder / "b").write_text("third")
    (folder / "a").write_text("second\n")
    assert tokens(tmp_path / "one", folder) == ["first", "second", "third"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"", "is empty", id="empty"),
        pytest.param(b" \n ", "is empty", id="blank"),
        pytest.param(b"x" * 5000, "larger than", id="too large"),
        pytest.param(None, "No such file", id="not there"),
    ],
)
def test_a_token_that_cannot_be_had(tmp_path: Path, content: bytes | None, words: str) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        tokens(file)


def test_no_token_at_all_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no webhook token"):
        tokens()
    with pytest.raises(ConfigError, match="no webhook token"):
        tokens(tmp_path)  # a Secret without keys


def test_tokens_do_not_show_themselves(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hunter2")
    assert "hunter2" not in repr(read_tokens(WebhookSettings(token_files=(tmp_path,))))


def test_the_cluster_has_no_budget_unless_told(write: Write) -> None:
    given = load_settings(None).budget
    assert (given.requests, given.measured, given.patience) == (None, None, timedelta(minutes=10))
    fixed = load_settings(write('budget: {requests: {cpu: "200", memory: 800Gi}, patience: PT5M}\n')).budget
    assert (fixed.requests, fixed.patience) == ({"cpu": "200", "memory": "800Gi"}, timedelta(minutes=5))
    measured = load_settings(write("budget: {measured: {}}\n")).budget.measured
    assert measured is not None
    assert str(measured.share) == "0.2"


@pytest.mark.parametrize(
    ("text", "field"),
    [
        pytest.param('{requests: {cpu: "1"}, measured: {}}', "budget", id="two sources"),
        pytest.param('{requests: {gpu: "1"}}', "budget.requests.gpu", id="what no size costs"),
        pytest.param("{requests: {cpu: many}}", "budget.requests.cpu", id="no quantity"),
        pytest.param('{measured: {reserve: "100%"}}', "budget.measured.reserve", id="nothing is left"),
        pytest.param("{patience: PT0S}", "budget.patience", id="no patience"),
    ],
)
def test_budget_that_cannot_be_is_refused_with_its_field(write: Write, text: str, field: str) -> None:
    with pytest.raises(ConfigError, match=rf"(?m)^  {field}"):
        load_settings(write(f"budget: {text}\n"))
