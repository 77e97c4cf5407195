"""
Settings: one YAML file and ``ENVPROV_*`` variables, validated whole before anything starts.

A variable beats the file: ``ENVPROV_WEBHOOK__PORT=9000`` is ``webhook: {port: 9000}``. Secrets come from files.
"""

from __future__ import annotations

from base64 import b64decode
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretBytes, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from envprov.domain.errors import ConfigError
from envprov.domain.platform import Platform
from envprov.domain.project import DnsLabel
from envprov.domain.quantity import Quantity
from envprov.files import parse_yaml, read_bytes

SIZE_LIMIT_BYTES = 1 << 20
TOKEN_LIMIT_BYTES = 4096
SIGNING_MARK = "whsec_"
SIGNING_KEY_BYTES = range(24, 65)

Seconds = Annotated[timedelta, Field(gt=timedelta(0), le=timedelta(hours=1))]
Port = Annotated[int, Field(ge=0, le=65535)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, use_attribute_docstrings=True)


class WebhookSettings(_Frozen):
    """The receiver."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 in a pod."""
    port: Port = 8080
    """Port to listen on; 0 takes a free one."""
    token_files: tuple[Path, ...] = ()
    """Files with one secret token each, or folders of such files. Several are valid at once, for rotation."""
    signing_token_files: tuple[Path, ...] = ()
    """Files with one signing token each (whsec_…, GitLab 19), or folders of such files. Several are valid at once."""
    require_signature: bool = False
    """Whether a delivery must be signed: a secret token alone is not enough then."""
    tls_certificate: Path | None = None
    """PEM file, when the receiver itself speaks TLS."""
    tls_key: Path | None = None
    """PEM file of its key."""


class ControllerSettings(_Frozen):
    """The controller."""

    workers: int = Field(default=8, ge=1, le=256)
    """Environments that are worked on at once."""
    host: str = "127.0.0.1"
    """Address of /healthz, /readyz and /metrics; 0.0.0.0 in a pod."""
    port: Port = 8081
    """Their port; 0 takes a free one."""
    lease_duration: Seconds = timedelta(seconds=15)
    """How long a leader that falls silent stays the leader."""
    drain: Seconds = timedelta(seconds=25)
    """How long passes in work may go on after SIGTERM."""


class HelmSettings(_Frozen):
    """Helm."""

    binary: str = "helm"
    """Name on PATH, or path."""
    chart_root: Path = Path("/charts")
    """Folder below which a Project's local charts must be."""
    history_max: int = Field(default=5, ge=1, le=100)
    """Revisions that Helm keeps of a release."""
    install_timeout: Seconds = timedelta(minutes=10)
    """For an install or upgrade with all its hooks."""
    uninstall_timeout: Seconds = timedelta(minutes=5)
    """For an uninstall with its hooks, and for a rollback."""
    grace: Seconds = timedelta(seconds=30)
    """How long Helm may take to end after it was told to."""


class KubernetesSettings(_Frozen):
    """The API server."""

    timeout: Seconds = timedelta(seconds=10)
    """For one request; watches live longer."""


class GuardSettings(_Frozen):
    """The guard of shared ServiceAccounts."""

    mode: Literal["enforce", "observe"] = "enforce"
    """enforce: nothing is torn down while the API server does not enforce the policies, and envprov does not start on a
    Kubernetes older than 1.30, which has none. observe: holds and teardown plans as ever, and a warning that nothing
    stops others from deleting."""
    interval: Seconds = timedelta(seconds=30)
    """Time between two looks at who uses what, and between two tests of the policies."""
    release_grace: Seconds = timedelta(seconds=60)
    """How long a holder must be seen to use a ServiceAccount no more before its hold goes; at least two looks."""
    fence_settle: Seconds = timedelta(seconds=5)
    """How long ServiceAccounts get no new pods and tokens before the last look of a teardown."""
    auto_release: frozenset[str] = frozenset()
    """Declared holders, by name, whose holds go by themselves when they have run out; all others stay."""


class GitLabSettings(_Frozen):
    """GitLab. Without ``url`` nothing is asked of it: branches come from deliveries alone."""

    url: str | None = None
    """Where people open it, such as https://gitlab.example.com."""
    token_file: Path | None = None
    """File with an access token of scope api; read again when it changes."""
    ca_file: Path | None = None
    """PEM file with the certificate authorities to trust instead of the usual ones."""
    timeout: Seconds = timedelta(seconds=10)
    """For one request, from the wait for a connection to the last byte."""
    listing_timeout: Seconds = timedelta(minutes=2)
    """For a whole listing in all its pages, and for an archive."""
    allow_http: bool = False
    """Whether the token may travel in the clear to a host that is not this one."""
    connections: int = Field(default=8, ge=1, le=64)
    """Requests at once."""
    folder: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")] = "envprov"
    """Folder of the environments that are made in GitLab; another one for each installation that serves the same
    projects."""
    hook_url: str | None = None
    """Where GitLab reaches the receiver, for `envprov project add`: https://envprov.example.com/webhooks/gitlab."""


class ChartSettings(_Frozen):
    """Where charts may be fetched from."""

    plain_http: frozenset[str] = frozenset()
    """Hosts, or host:port, that may be spoken to without TLS; this computer always may."""
    private: frozenset[str] = frozenset()
    """Hosts that may have private addresses, and networks such as 10.0.0.0/8."""


class SweepSettings(_Frozen):
    """The branch sweep."""

    interval: Seconds = timedelta(minutes=5)
    """Time between two looks at all branches of a project."""
    grace: Seconds = timedelta(minutes=10)
    """Least time between the two listings without a branch after which its environment goes; also how long a Project or
    the record of a namespace must be away before a cleanup acts on it."""
    brake: float = Field(default=0.2, gt=0, le=1)
    """Share of a project's environments above which a sweep stops and asks; three may always go."""

    @property
    def brake_share(self) -> Fraction:
        """The brake without the noise of binary fractions."""
        return Fraction(self.brake).limit_denominator(1000)


class MeasuredBudget(_Frozen):
    """What the nodes have, less a reserve."""

    reserve: Annotated[str, Field(pattern=r"^[0-9]{1,2}([.][0-9])?%$")] = "20%"
    """Share that is kept for everything that is no environment."""

    @property
    def share(self) -> Decimal:
        """The reserve as a number below one."""
        return Decimal(self.reserve.removesuffix("%")) / 100


class BudgetSettings(_Frozen):
    """What all environments of the cluster may have together. Without requests and measured there is no bound."""

    requests: dict[Literal["cpu", "memory", "ephemeral-storage", "storage"], Quantity] | None = None
    """Sums of what their sizes let them request, fixed."""
    measured: MeasuredBudget | None = None
    """The same, from the nodes as they are: those that take ordinary pods."""
    patience: Seconds = timedelta(minutes=10)
    """How long smaller environments may pass the first in line; after that what it needs is kept for it."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.requests is not None and self.measured is not None:
            raise ValueError("give requests or measured, not both")
        return self


class SealedSecretsSettings(_Frozen):
    """The controller of SealedSecrets, which is asked whether it can unseal those of a chart."""

    namespace: DnsLabel = "kube-system"
    """Its namespace."""
    service: DnsLabel = "sealed-secrets-controller"
    """Its Service, whose port is called http."""


class LogSettings(_Frozen):
    """Logs, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least level that is written."""
    format: Literal["json", "text"] = "json"
    """One JSON object or one line of text for each entry."""


class Settings(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(
        env_prefix="ENVPROV_",
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
        nested_model_default_partial_update=True,
    )

    platform: Platform = Platform()
    """What shapes every environment: sizes, container defaults, network, Pod Security."""
    webhook: WebhookSettings = WebhookSettings()
    """The receiver."""
    controller: ControllerSettings = ControllerSettings()
    """The controller."""
    helm: HelmSettings = HelmSettings()
    """Helm."""
    guard: GuardSettings = GuardSettings()
    """The guard of shared ServiceAccounts."""
    kubernetes: KubernetesSettings = KubernetesSettings()
    """The API server."""
    gitlab: GitLabSettings = GitLabSettings()
    """GitLab."""
    charts: ChartSettings = ChartSettings()
    """Where charts may be fetched from."""
    sweep: SweepSettings = SweepSettings()
    """The branch sweep."""
    budget: BudgetSettings = BudgetSettings()
    """What all environments of the cluster may have together."""
    sealed_secrets: SealedSecretsSettings = SealedSecretsSettings()
    """The controller of SealedSecrets, where there is one."""
    log: LogSettings = LogSettings()
    """Logs."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Variables first, then what the file gave."""
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings


def load_settings(file: Path | None) -> Settings:
    """
    All settings, or nothing.

    Args:
        file: YAML file, or None for variables and defaults alone.

    Raises:
        ConfigError: All faults at once, each with its field; values are not shown.

    """
    given = _read_yaml(file) if file is not None else {}
    try:
        return Settings(**given)
    except ValidationError as error:
        where = f"{file} or ENVPROV_* variables" if file else "ENVPROV_* variables"
        faults = "\n".join(f"  {'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors())
        raise ConfigError(f"settings are wrong ({where}):\n{faults}") from None


def read_tokens(settings: WebhookSettings) -> tuple[SecretStr, ...]:
    """
    The webhook's secret tokens.

    Args:
        settings: Names the files.

    Returns:
        At least one token, unless there is a signing token; surrounding white space is not part of it.

    Raises:
        ConfigError: A file cannot be read, is empty or too large, or no file is named.

    """
    files = [entry for path in settings.token_files for entry in _token_entries(path)]
    tokens = tuple(SecretStr(_read_token(path)) for path in files)
    if not tokens and not read_signing_keys(settings):
        raise ConfigError(
            "no webhook token: set webhook.token_files (or ENVPROV_WEBHOOK__TOKEN_FILES='[\"/path\"]') to the file "
            "that holds the secret token of GitLab's webhook, or webhook.signing_token_files to its signing token's"
        )
    return tokens


def read_signing_keys(settings: WebhookSettings) -> tuple[SecretBytes, ...]:
    """
    The keys of the webhook's signing tokens.

    Args:
        settings: Names the files.

    Returns:
        What the tokens hold in base64; none if no file is named.

    Raises:
        ConfigError: A file cannot be read or holds no signing token, or signatures are required and there is no key.

    Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md#signature-scheme

    """
    files = [entry for path in settings.signing_token_files for entry in _token_entries(path)]
    keys = tuple(SecretBytes(_signing_key(path)) for path in files)
    if settings.require_signature and not keys:
        raise ConfigError("webhook.require_signature: no signature can be good without webhook.signing_token_files")
    return keys


def _read_yaml(file: Path) -> dict[str, Any]:
    called = f"settings file {file}"
    given = parse_yaml(read_bytes(file, SIZE_LIMIT_BYTES, called), called)
    if given is None:
        return {}
    if not isinstance(given, dict) or not all(isinstance(key, str) for key in given):
        raise ConfigError(f"{called}: must hold fields at its top, such as `webhook:`")
    return given


def _token_entries(path: Path) -> list[Path]:
    # A mounted Secret shows each key beside hidden folders of its own.
    if path.is_dir():
        return sorted(entry for entry in path.iterdir() if not entry.name.startswith(".") and entry.is_file())
    return [path]


def _read_token(path: Path) -> str:
    raw = read_bytes(path, TOKEN_LIMIT_BYTES, f"webhook token file {path}")
    token = raw.decode(errors="replace").strip()
    if not token:
        raise ConfigError(f"webhook token file {path}: is empty")
    return token


def _signing_key(path: Path) -> bytes:
    prefix, mark, encoded = _read_token(path).partition(SIGNING_MARK)
    if prefix or not mark:
        raise ConfigError(f"webhook signing token file {path}: must begin with {SIGNING_MARK}")
    try:
        key = b64decode(encoded, validate=True)
    except ValueError:
        raise ConfigError(f"webhook signing token file {path}: what follows {SIGNING_MARK} is not base64") from None
    if len(key) not in SIGNING_KEY_BYTES:
        raise ConfigError(f"webhook signing token file {path}: holds a key of {len(key)} bytes; it must have 24 to 64")
    return key
