"""What the commands of the guard take, and what they make of what they find."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from envprov.cli.checks import guard_check
from envprov.cli.guard import Sight, way_down, way_out
from envprov.cli.guard_given import declared, parse_account, parse_namespace, parse_ttl, parse_who
from envprov.cli.guard_show import Home, account_data, home_data, home_of, ways_out
from envprov.cli.guard_status import Policed, State, status_data, status_of, version_of
from envprov.cli.main import build
from envprov.domain.claims import Conflict
from envprov.domain.errors import ConfigError, Forbidden
from envprov.domain.explanation import describe
from envprov.domain.guard import Guarded, read_guarded
from envprov.domain.holds import Account, Hold, Holder, read_holds
from envprov.domain.usage import Claim, Strength, Usage
from envprov.kube.arming import REMEDY
from envprov.kube.errors import is_refusal_of
from tests.faults import kubeconfig_of

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
BORN = datetime(2026, 2, 1, tzinfo=UTC)
DEPLOYER = Account("shared", "deployer")
WEB = Holder("Deployment", "shop", "web", "u-web")
CI = Holder("External", "", "night shift")
ENVIRONMENT = Holder("Environment", "envprov-system", "x-abcdefgh", "u-env")
CANARY = Guarded(
    Account("envprov-system", "guard-canary"),
    holds=(Hold(Holder("Canary", "", "envprov"), BORN, read_key="hold.envprov.io/canary"),),
    namespace_holds=(Hold(Holder("Canary", "", "envprov"), BORN, read_key="hold.envprov.io/canary"),),
)
GOOD = (
    Policed("ValidatingAdmissionPolicy", "envprov-delete-guard", "ok"),
    Policed("ValidatingAdmissionPolicy", "envprov-self-limit", "ok"),
)
REFUSED = State.ARMED, "it was refused"


def sight(*claims: Claim, faults: tuple[str, ...] = (), environments: Mapping[str, Holder] | None = None) -> Sight:
    """Return what could be seen."""
    accounts = {claim.account for claim in claims}
    usage = Usage({one: tuple(claim for claim in claims if claim.account == one) for one in accounts}, faults)
    return Sight(usage, environments or {}, {"u-env": "envprov down x"}, faults)


def namespace(
    notes: Mapping[str, str] | None = None, *, labels: Mapping[str, str] | None = None, name: str = "env-x"
) -> dict[str, Any]:
    """Return a Namespace with these annotations."""
    return {"metadata": {"name": name, "uid": f"u-{name}", "labels": labels or {}, "annotations": notes or {}}}


def account(name: str, *holds: Hold, home: str = "env-x") -> dict[str, Any]:
    """Return a ServiceAccount with these holds."""
    return {"metadata": {"name": name, "namespace": home, "uid": f"u-{name}", "annotations": on(*holds)}}


def on(*holds: Hold) -> dict[str, str]:
    """Return the annotations of holds."""
    return {hold.key: hold.value() for hold in holds}


# --- What is given


@pytest.mark.parametrize(
    "text",
    ["", "/", "a", "a/", "/b", "a/b/c", "A/b", "a/B", "a.b/c", "-a/b", "a-/b", "a/b..c", "a/.b", "a/b\n", "a/é", "a/٣"],
)
def test_what_no_account_can_be_called_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_account(text)


@pytest.mark.parametrize(
    ("namespace", "name"), [("a", "b"), ("a-1", "b-2.c"), ("9", "0"), ("n" * 63, "s" * 253), ("a", f"{'s' * 62}.b")]
)
def test_an_account_is_read(namespace: str, name: str) -> None:
    assert parse_account(f"{namespace}/{name}") == Account(namespace, name)


@pytest.mark.parametrize("text", ["n" * 64 + "/a", "a/" + "s" * 254, "n" * 100_000 + "/a", "a/" + "\x1b" * 9_999])
def test_a_name_that_is_too_long_is_told_in_a_short_line(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_account(text)
    assert len(str(caught.value)) < 400
    assert str(caught.value).isprintable()


@settings(deadline=None)
@given(st.text(max_size=70))
def test_no_text_breaks_the_reading_of_a_namespace(text: str) -> None:
    try:
        name = parse_namespace(text)
    except ConfigError as error:
        assert str(error).isprintable()  # noqa: PT017 - every other text is right
    else:
        assert name.isascii()
        assert 0 < len(name) < 64


@pytest.mark.parametrize(
    ("text", "ttl"),
    [
        pytest.param("30d", timedelta(days=30), id="days"),
        pytest.param("12h", timedelta(hours=12), id="hours"),
        pytest.param("1m", timedelta(minutes=1), id="minutes"),
        pytest.param("1w3d", timedelta(days=10), id="weeks and days"),
        pytest.param("1d2h3m", timedelta(days=1, hours=2, minutes=3), id="all"),
        pytest.param("3650d", timedelta(days=3650), id="the longest"),
    ],
)
def test_a_time_is_read(text: str, ttl: timedelta) -> None:
    assert parse_ttl(text) == ttl


@pytest.mark.parametrize(
    "text", ["", "0d", "d", "30", "30s", "-1d", "1.5d", "1h1d", "1 d", "3651d", "3650d1m", "99999d", "9" * 99, "٣d"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--ttl"):
        parse_ttl(text)


@settings(deadline=None)
@given(st.text(max_size=120), st.text(max_size=220))
def test_what_is_declared_is_written_whole_or_refused(by: str, reason: str) -> None:
    try:
        hold = declared(by, reason, "30d", NOW)
    except ConfigError as error:
        assert str(error).isprintable()  # noqa: PT017 - every other text is right
        return
    assert hold == Hold(Holder("External", "", by.strip()), NOW, reason.strip(), expires=NOW + timedelta(days=30))
    assert len(hold.value().encode()) <= 400
    (read,) = read_holds({"metadata": {"annotations": on(hold)}})
    assert (read.holder, read.why, read.since, read.expires) == (hold.holder, hold.why, hold.since, hold.expires)


@pytest.mark.parametrize(
    ("by", "reason"),
    [
        pytest.param("w" * 100, "r" * 200, id="the longest in ASCII"),
        pytest.param("夜" * 40, "夜" * 40, id="other letters"),
        pytest.param("a/b", "", id="a slash"),
    ],
)
def test_who_and_why_are_taken(by: str, reason: str) -> None:
    assert declared(by, reason, "1d", NOW).why == reason


@pytest.mark.parametrize(
    ("by", "reason", "words"),
    [
        pytest.param(" ", "", "it is empty", id="nobody"),
        pytest.param("w" * 101, "", "--by: at most 100", id="a long name"),
        pytest.param("ci", "r" * 201, "--reason: at most 200", id="a long reason"),
        pytest.param("a\nb", "", "--by 'a b'", id="a name of two lines"),
        pytest.param("ci", "\x1b[31m", "--reason ' [31m'", id="a reason that colours"),
        pytest.param("夜" * 80, "夜" * 80, "too long together", id="both together, in bytes"),
        pytest.param("🚀" * 100, "", "too long together", id="a name of many bytes"),
        pytest.param('"' * 100, '"' * 100, "too long together", id="letters that JSON doubles"),
    ],
)
def test_who_and_why_have_limits(by: str, reason: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        declared(by, reason, "1d", NOW)
    assert words in str(caught.value)


def test_a_name_is_read_without_the_spaces_around_it() -> None:
    assert parse_who("  night shift ") == "night shift"


# --- Ways out


@pytest.mark.parametrize(
    ("labels", "notes", "command"),
    [
        pytest.param({}, {"envprov.io/branch": "x"}, "envprov down x", id="a branch"),
        pytest.param(
            {"envprov.io/project": "shop"}, {"envprov.io/branch": "x"}, "envprov down x --project shop", id="a Project"
        ),
        pytest.param({}, {"envprov.io/branch": "a'$(b)"}, "envprov down 'a'\"'\"'$(b)'", id="a branch for no shell"),
        pytest.param({"envprov.io/project": "shop"}, {}, "", id="no branch"),
    ],
)
def test_the_way_down_is_a_command(labels: dict[str, str], notes: dict[str, str], command: str) -> None:
    assert way_down(namespace(notes, labels=labels)) == command


@pytest.mark.parametrize(
    ("holder", "words"),
    [
        pytest.param(WEB, "ends when Deployment shop/web is deleted or uses another one", id="an object"),
        pytest.param(ENVIRONMENT, "ends with its teardown", id="an environment"),
        pytest.param(Holder("Canary", "", "envprov"), "shows whether the guard is in force", id="the canary"),
        pytest.param(
            Holder("Unknown", "", "hold.envprov.io/x"),
            "`kubectl annotate serviceaccount deployer -n shared hold.envprov.io/x-`",
            id="what cannot be read",
        ),
    ],
)
def test_a_hold_that_nobody_declared_has_another_way_out(holder: Holder, words: str) -> None:
    key = "hold.envprov.io/x" if holder.kind == "Unknown" else ""
    assert words in way_out(Guarded(DEPLOYER), Hold(holder, BORN, read_key=key))


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "sa is forbidden: ValidatingAdmissionPolicy 'envprov-hold-integrity' with binding 'x' denied request: y",
            True,
        ),
        ("sa is forbidden: ValidatingAdmissionPolicy 'our-envprov-hold-integrity' with binding 'x' denied", False),
        ("sa is forbidden: User 'envprov-hold-integrity' cannot patch it", False),
    ],
)
def test_a_refusal_is_known_by_the_policy_that_spoke(message: str, *, expected: bool) -> None:
    assert is_refusal_of(Forbidden(message), "envprov-hold-integrity") is expected


def test_the_ways_out_are_commands() -> None:
    inside = Claim(DEPLOYER, Holder("RoleBinding", "env-x", "lent", "u-rb"), Strength.GRANT, "subject")
    seen = sight(inside, environments={"env-x": ENVIRONMENT})
    guarded = Guarded(DEPLOYER, shared=True, holds=(Hold(ENVIRONMENT, BORN), Hold(CI, BORN), Hold(WEB, BORN)))
    assert list(ways_out(guarded, seen)) == [
        "envprov down x, if that environment is no longer needed",
        "envprov guard release shared/deployer --by 'night shift', once it no longer uses it",
    ]


@pytest.mark.parametrize(
    ("guarded", "seen", "expected"),
    [
        pytest.param(
            Guarded(DEPLOYER, shared=True),
            sight(),
            ["envprov guard release shared/deployer, to guard it no longer"],
            id="adopted and unused",
        ),
        pytest.param(Guarded(DEPLOYER), sight(), [], id="not adopted"),
        pytest.param(Guarded(DEPLOYER, shared=True), sight(faults=("Pod: no",)), [], id="not known"),
        pytest.param(Guarded(DEPLOYER, shared=True), sight(Claim(DEPLOYER, WEB, Strength.LIVE, "spec")), [], id="used"),
        pytest.param(Guarded(DEPLOYER, shared=True, holds=(Hold(WEB, BORN),)), sight(), [], id="held"),
        pytest.param(
            Guarded(DEPLOYER),
            sight(
                Claim(DEPLOYER, Holder("RoleBinding", "env-x", "lent", "u-rb"), Strength.GRANT, "subject"),
                environments={"env-x": ENVIRONMENT},
            ),
            ["envprov down x, if that environment is no longer needed"],
            id="used in an environment that has no hold yet",
        ),
        pytest.param(
            Guarded(DEPLOYER),
            sight(
                Claim(DEPLOYER, Holder("VaultRole", "env-x", "db"), Strength.IDENTITY, "annotation"),
                environments={"env-x": ENVIRONMENT},
            ),
            [],
            id="only trusted",
        ),
    ],
)
def test_no_way_out_is_named_that_would_be_refused(guarded: Guarded, seen: Sight, expected: list[str]) -> None:
    assert list(ways_out(guarded, seen)) == expected


# --- explain


def test_an_account_as_json() -> None:
    hold = Hold(CI, BORN, "tags", expires=NOW)
    guarded = Guarded(DEPLOYER, uid="u-1", shared=True, holds=(hold,))
    seen = sight(Claim(DEPLOYER, WEB, Strength.LIVE, "spec", BORN), faults=("Pod: no",))
    explained = describe(guarded, seen.usage, NOW)
    told = account_data(guarded, explained, seen, is_fenced=True)
    assert told == json.loads(json.dumps(told))
    assert told | {"onDelete": "", "advice": []} == {
        "account": "shared/deployer",
        "uid": "u-1",
        "adopted": True,
        "policy": "keep",
        "released": False,
        "fenced": True,
        "terminating": False,
        "users": [
            {
                "who": "shop/web",
                "kind": "Deployment",
                "strength": "live",
                "how": "spec",
                "since": "2026-02-01T00:00:00Z",
                "evidence": "seen",
                "keeps": True,
            },
            {
                "who": "night shift",
                "kind": "External",
                "strength": "declared",
                "how": "tags",
                "since": "2026-02-01T00:00:00Z",
                "evidence": "held, ran out on 2026-03-01 12:00",
                "keeps": True,
            },
        ],
        "onDelete": "",
        "advice": [],
        "unread": ["Pod: no"],
        "notes": [],
    }


def test_a_namespace_as_json() -> None:
    on_both, orphan = Hold(WEB, BORN, "spec"), Hold(CI, BORN, "tags", expires=NOW)
    home = namespace(
        {"envprov.io/branch": "x", **on(on_both, orphan, Hold(ENVIRONMENT, BORN))},
        labels={"envprov.io/guard": "env", "envprov.io/state": "husk"},
    )
    seen = sight(Claim(Account("env-x", "app"), WEB, Strength.LIVE, "spec"), environments={"env-x": ENVIRONMENT})
    found = home_of(home, [account("app", on_both), account("default")], seen)
    told = home_data(found, seen)
    assert told == json.loads(json.dumps(told))
    assert told == {
        "namespace": "env-x",
        "uid": "u-env-x",
        "environment": "envprov-system/x-abcdefgh",
        "branch": "x",
        "state": "husk",
        "guard": "env",
        "holds": told["holds"],
        "kept": [
            {
                "account": "env-x/app",
                "reasons": ["Deployment shop/web (spec)", "Deployment shop/web, held since 2026-02-01 (spec)"],
            }
        ],
        "onDelete": "refused: 3 holds are on it",
        "advice": [
            "envprov guard explain env-x/app",
            "envprov guard release env-x/default --by 'night shift', if it uses nothing in there",
        ],
        "unread": [],
        "notes": [],
    }
    assert {one["who"] for one in told["holds"]} == {"shop/web", "night shift", "envprov-system/x-abcdefgh"}
    assert {"who": "night shift", "kind": "External", "why": "tags"}.items() <= next(
        one for one in told["holds"] if one["expires"] == "2026-03-01T12:00:00Z"
    ).items()


def test_a_declared_hold_that_an_account_has_is_ended_there() -> None:
    hold = Hold(CI, BORN)
    assert home_of(namespace(on(hold)), [account("app", hold), account("default")], sight()).advice == (
        "envprov guard explain env-x/app",
    )


def deleted(home: dict[str, Any], seen: Sight) -> Home:
    return home_of(home, [], seen)


GUARDED = {"envprov.io/guard": "env"}


@pytest.mark.parametrize(
    ("home", "seen", "expected"),
    [
        pytest.param(
            {"metadata": namespace(on(Hold(WEB, BORN)))["metadata"] | {"deletionTimestamp": "2026-03-01T12:00:00Z"}},
            sight(),
            "it is being deleted already",
            id="going",
        ),
        pytest.param(namespace(on(Hold(WEB, BORN))), sight(), "refused: 1 hold is on it", id="held"),
        pytest.param(
            namespace({"envprov.io/branch": "x"}, labels=GUARDED),
            sight(environments={"env-x": ENVIRONMENT}),
            "refused: it is guarded and not released; `envprov down x` takes it down",
            id="an environment",
        ),
        pytest.param(
            namespace({"envprov.io/branch": "x"}, labels=GUARDED),
            sight(),
            "refused: it is guarded and not released",
            id="an environment without a record",
        ),
        pytest.param(
            namespace({"envprov.io/released-uid": "u-env-x"}, labels=GUARDED),
            sight(),
            "it would go with everything in it",
            id="released",
        ),
        pytest.param(
            namespace({"envprov.io/released-uid": "another"}, labels=GUARDED),
            sight(),
            "refused: it is guarded and not released",
            id="released as another one",
        ),
        pytest.param(
            namespace(),
            sight(faults=("Pod: no",)),
            "it would go with everything in it; not all users are known",
            id="not known",
        ),
    ],
)
def test_what_deleting_a_namespace_would_come_to(home: dict[str, Any], seen: Sight, expected: str) -> None:
    assert deleted(home, seen).on_delete == expected


def test_what_was_seen_of_a_namespace_is_shown_although_not_everything_was() -> None:
    seen = sight(Claim(Account("env-x", "app"), WEB, Strength.LIVE, "spec"), faults=("Pod: no",))
    found = home_of(namespace(), [account("app")], seen)
    assert [str(kept.account) for kept in found.verdict.kept] == ["env-x/app"]
    assert not found.is_known


# --- status


@pytest.mark.parametrize(
    ("tried", "policies", "unread", "expected"),
    [
        pytest.param(REFUSED, GOOD, (), (State.ARMED, True), id="refused -> armed"),
        pytest.param(
            REFUSED,
            (Policed("ValidatingAdmissionPolicy", "envprov-delete-guard", "changed"), GOOD[1]),
            (),
            (State.DISARMED, False),
            id="a policy that keeps others out is another -> disarmed",
        ),
        pytest.param(
            REFUSED,
            (GOOD[0], Policed("ValidatingAdmissionPolicyBinding", "envprov-fence", "missing")),
            (),
            (State.DISARMED, False),
            id="a binding is missing -> disarmed",
        ),
        pytest.param(
            REFUSED,
            (GOOD[0], Policed("ValidatingAdmissionPolicy", "envprov-self-limit", "missing")),
            (),
            (State.ARMED, False),
            id="the controller's own limit is missing -> armed, incomplete",
        ),
        pytest.param(
            REFUSED,
            (GOOD[0], Policed("ValidatingAdmissionPolicy", "envprov-fence", "unknown")),
            ("get ValidatingAdmissionPolicy envprov-fence: no",),
            (State.ARMED, False),
            id="a policy cannot be read -> armed, incomplete",
        ),
        pytest.param(REFUSED, GOOD, ("list Pod: no",), (State.ARMED, False), id="users unread -> armed, incomplete"),
        pytest.param(
            (State.UNKNOWN, "no canary"),
            (Policed("ValidatingAdmissionPolicy", "envprov-delete-guard", "missing"),),
            (),
            (State.UNKNOWN, False),
            id="not tried -> unknown, whatever the policies are",
        ),
        pytest.param((State.DISARMED, "it would go"), GOOD, (), (State.DISARMED, True), id="let go -> disarmed"),
    ],
)
def test_whether_the_guard_is_in_force(
    tried: tuple[State, str], policies: tuple[Policed, ...], unread: tuple[str, ...], expected: tuple[State, bool]
) -> None:
    status = status_of(tried, policies, [], NOW, unread=unread)
    assert (status.state, status.is_complete) == expected


def test_what_is_not_as_it_must_be_is_said() -> None:
    missing = Policed("ValidatingAdmissionPolicyBinding", "envprov-fence", "missing")
    status = status_of(REFUSED, (missing,), [], NOW)
    assert status.why == "ValidatingAdmissionPolicyBinding envprov-fence is missing, although it was refused"


def test_what_is_guarded_is_shown_once_and_the_canary_is_not() -> None:
    web, ci = Hold(WEB, BORN), Hold(CI, BORN)
    home = namespace(on(web, ci), name="shared")
    status = status_of(
        REFUSED,
        GOOD,
        [
            CANARY,
            read_guarded(account("deployer", web, home="shared"), home),
            read_guarded(account("default", home="shared"), home),
            Guarded(Account("shared", "adopted"), shared=True, namespace_holds=(web, ci)),
            Guarded(Account("env-y", ""), namespace_holds=(web,)),
        ],
        NOW,
    )
    shown = [(str(item.account), [str(hold.holder) for hold in item.holds]) for item in status.guarded[:2]]
    assert shown == [("shared/deployer", ["Deployment shop/web"]), ("shared/adopted", [])]
    spaces = [(item.account, [str(hold.holder) for hold in item.namespace_holds]) for item in status.guarded[2:]]
    assert spaces == [
        (Account("env-y", ""), ["Deployment shop/web"]),
        (Account("shared", ""), ["External night shift"]),
    ]


def test_somebody_elses_hold_on_the_canary_is_shown() -> None:
    item = Guarded(CANARY.account, holds=(*CANARY.holds, Hold(CI, BORN)), namespace_holds=CANARY.namespace_holds)
    assert [one.account for one in status_of(REFUSED, GOOD, [item], NOW).guarded] == [CANARY.account]


def test_declared_holds_that_end_within_a_week_are_shown_the_next_first() -> None:
    ends = {"later": 7.01, "soon": 6.99, "over": -3, "next": 1}
    holds = tuple(
        Hold(Holder("External", "", name), BORN, expires=NOW + timedelta(days=days)) for name, days in ends.items()
    )
    status = status_of(REFUSED, GOOD, [Guarded(DEPLOYER, holds=(*holds, Hold(WEB, BORN)))], NOW)
    assert [hold.holder.name for _, hold in status.expiring] == ["over", "next", "soon"]


def test_the_status_as_json() -> None:
    hold = Hold(CI, BORN, "tags", expires=NOW)
    status = status_of(
        REFUSED,
        GOOD[:1],
        [Guarded(DEPLOYER, shared=True, used=True, holds=(hold,), namespace_holds=(hold,))],
        NOW,
        husks=(("env-x", (Hold(WEB, BORN),)),),
        owned_twice=(Conflict(DEPLOYER, (Holder("HelmRelease", "a", "b"), Holder("HelmRelease", "c", "d"))),),
        unread=("list Pod: no",),
        notes=("in part",),
    )
    declared_one = {
        "who": "night shift",
        "kind": "External",
        "why": "tags",
        "since": "2026-02-01T00:00:00Z",
        "expires": "2026-03-01T12:00:00Z",
    }
    told = status_data(status, "enforce", NOW)
    assert told == json.loads(json.dumps(told))
    assert told == {
        "state": "armed",
        "why": "it was refused",
        "complete": False,
        "mode": "enforce",
        "policies": [{"kind": "ValidatingAdmissionPolicy", "name": "envprov-delete-guard", "state": "ok"}],
        "guarded": [
            {
                "kind": "ServiceAccount",
                "name": "shared/deployer",
                "policy": "keep",
                "released": False,
                "used": True,
                "oldest": "2026-02-01T00:00:00Z",
                "holds": [declared_one],
            }
        ],
        "husks": [
            {
                "namespace": "env-x",
                "holds": [
                    {
                        "who": "shop/web",
                        "kind": "Deployment",
                        "why": "",
                        "since": "2026-02-01T00:00:00Z",
                        "expires": None,
                    }
                ],
            }
        ],
        "expiring": [{"account": "shared/deployer", **declared_one, "expired": True}],
        "conflicts": [{"account": "shared/deployer", "releases": ["a/b", "c/d"]}],
        "unread": ["list Pod: no"],
        "notes": ["in part"],
    }


@pytest.mark.parametrize(
    ("told", "version"),
    [
        pytest.param({"major": "1", "minor": "30"}, (1, 30), id="a version"),
        pytest.param({"major": "1", "minor": "29+"}, (1, 29), id="a vendor's"),
        pytest.param({"major": "1"}, None, id="half of one"),
        pytest.param({"major": "", "minor": ""}, None, id="an empty one"),
        pytest.param("ok", None, id="a text"),
        pytest.param(None, None, id="nothing"),
    ],
)
def test_the_version_of_a_server_is_read(told: object, version: tuple[int, int] | None) -> None:
    assert version_of(told) == version


# --- The commands


class OldServer(BaseHTTPRequestHandler):
    """A Kubernetes without admission policies, of which nobody may read anything."""

    def do_GET(self) -> None:
        """Say the version, and that there is nothing else."""
        self._answer(200 if self.path == "/version" else 404, {"major": "1", "minor": "29"})

    def do_POST(self) -> None:
        """Allow nothing."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(201, {"status": {"allowed": False}})

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that it has
        """Keep it out of the tests' output."""

    def _answer(self, code: int, body: dict[str, Any]) -> None:
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())


@pytest.fixture
def old_cluster(tmp_path: Path) -> Iterator[Path]:
    """Yield the kubeconfig of a cluster that is too old."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), OldServer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps(kubeconfig_of(f"http://127.0.0.1:{server.server_port}", {"token": "x"})))
    try:
        yield kubeconfig
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_an_old_cluster_has_no_guard_and_nothing_is_guessed(old_cluster: Path) -> None:
    said = CliRunner().invoke(build(), ["guard", "status", "--kubeconfig", str(old_cluster)], env={"NO_COLOR": "1"})
    assert said.exit_code == 1
    assert said.stdout.startswith("guard: disarmed\n  Kubernetes 1.29 has no admission policies: nothing stops others")
    assert "policies: whether they are as they must be could not be read" in said.stdout


@pytest.mark.parametrize("name", ["status", "explain", "hold", "release", "adopt"])
def test_each_command_has_help_with_the_common_options(name: str) -> None:
    said = CliRunner().invoke(build(), ["guard", name, "-h"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert said.exit_code == 0
    options = ("--kubeconfig", "--context", "--namespace", "--settings", "--output", "--quiet", "--debug")
    assert all(option in said.output for option in options)


def test_the_group_names_its_commands() -> None:
    said = CliRunner().invoke(build(), ["guard", "-h"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert said.exit_code == 0
    assert all(name in said.output for name in ("status", "explain", "hold", "release", "adopt"))


# --- What doctor says


@pytest.mark.parametrize(
    ("tried", "policed", "mode", "expected"),
    [
        pytest.param(REFUSED, GOOD, "enforce", ("ok", "armed: it was refused", ""), id="armed"),
        pytest.param(REFUSED, GOOD, "observe", ("ok", "armed: it was refused", ""), id="armed, though it need not be"),
        pytest.param(
            (State.DISARMED, "it would go"), GOOD, "enforce", ("failed", "disarmed: it would go", REMEDY), id="disarmed"
        ),
        pytest.param(
            (State.DISARMED, "it would go"),
            GOOD,
            "observe",
            ("warning", "disarmed: it would go", REMEDY),
            id="disarmed, and that is how it is set",
        ),
        pytest.param(
            (State.UNKNOWN, "you may not try"),
            GOOD,
            "enforce",
            ("warning", "whether it is armed is not known: you may not try", "`envprov guard status` says more"),
            id="nobody knows",
        ),
        pytest.param(
            REFUSED,
            (GOOD[0], replace(GOOD[1], state="changed")),
            "enforce",
            (
                "warning",
                "armed, but ValidatingAdmissionPolicy envprov-self-limit is changed",
                "apply what `envprov manifests` prints; `envprov guard status` says more",
            ),
            id="a policy that is only reported",
        ),
        pytest.param(
            REFUSED,
            (replace(GOOD[0], state="missing"), GOOD[1]),
            "enforce",
            (
                "failed",
                "disarmed: ValidatingAdmissionPolicy envprov-delete-guard is missing, although it was refused",
                REMEDY,
            ),
            id="a policy that matters",
        ),
    ],
)
def test_doctor_says_whether_the_guard_is_armed(
    tried: tuple[State, str], policed: tuple[Policed, ...], mode: str, expected: tuple[str, str, str]
) -> None:
    found = guard_check(status_of(tried, policed, (), NOW), mode)
    assert (found.state.value, found.message, found.remedy) == expected
