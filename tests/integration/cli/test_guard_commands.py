"""``guard status``, ``explain``, ``hold``, ``release`` and ``adopt`` against a real API server."""

from __future__ import annotations

import base64
import gzip
import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from envprov.domain.holds import Hold, Holder
from envprov.domain.policies import CANARY
from tests.eventually import eventually
from tests.integration.cli.calling import Cli, Ended
from tests.shipped import Installation

NOW = datetime.now(UTC).replace(microsecond=0)
SHOWN = ("serviceaccounts", "namespaces", "environments.envprov.io")
DRY_RUN = ("delete", "serviceaccount", "--dry-run=server")
RULE = "apiGroups: [envprov.io], resources: [holds], verbs: [manage]"


@pytest.fixture
def home(cli: Cli) -> Iterator[str]:
    """Yield a Namespace with the ServiceAccount ``deployer``."""
    with namespace(cli, f"shared-{secrets.token_hex(4)}") as name:
        cli.cluster.kubectl("create", "serviceaccount", "deployer", "-n", name)
        yield name


@contextmanager
def namespace(cli: Cli, name: str, **metadata: Any) -> Iterator[str]:  # noqa: ANN401 - any field
    """Make a Namespace for the time of a test."""
    cli.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, **metadata}})
    try:
        yield name
    finally:
        cli.cluster.discard(name)


def note_on(cli: Cli, what: str, name: str, home: str | None = None, **notes: str) -> None:
    """Write annotations on an object."""
    where = ("-n", home) if home else ()
    body = json.dumps({"metadata": {"annotations": notes}})
    cli.cluster.kubectl("patch", what, name, *where, "--type=merge", "-p", body)


def metadata_of(cli: Cli, what: str, name: str, home: str | None = None) -> dict[str, Any]:
    """Return the metadata of an object."""
    where = ("-n", home) if home else ()
    found: dict[str, Any] = json.loads(cli.cluster.kubectl("get", what, name, *where, "-o", "json"))["metadata"]
    return found


def holds_on(cli: Cli, what: str, name: str, home: str | None = None) -> dict[str, dict[str, str]]:
    """Return the holds on an object, by who holds."""
    notes = metadata_of(cli, what, name, home).get("annotations", {})
    values = [json.loads(value) for key, value in notes.items() if key.startswith("hold.envprov.io/")]
    return {value["by"]: value for value in values}


def deployment(cli: Cli, home: str, name: str = "web") -> None:
    """Make something that runs as ``deployer``."""
    labels = {"app": name}
    pod = {"serviceAccountName": "deployer", "containers": [{"name": "main", "image": "example.invalid/none"}]}
    spec = {
        "replicas": 1,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    metadata = {"name": name, "namespace": home}
    cli.apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec})


def release_of(cli: Cli, home: str, name: str) -> None:
    """Make what Helm stores about a release that has ``deployer`` in its manifest."""
    manifest = f"---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: deployer, namespace: {home}}}\n"
    stored = {"name": name, "namespace": home, "version": 1, "info": {"status": "deployed"}, "manifest": manifest}
    packed = base64.b64encode(gzip.compress(json.dumps(stored).encode()))
    labels = {"owner": "helm", "name": name, "version": "1", "status": "deployed"}
    cli.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "helm.sh/release.v1",
            "metadata": {"name": f"sh.helm.release.v1.{name}.v1", "namespace": home, "labels": labels},
            "data": {"release": base64.b64encode(packed).decode()},
        }
    )


@contextmanager
def person(cli: Cli, *rules: tuple[str, str]) -> Iterator[Cli]:
    """Yield somebody with a few rights in the whole cluster, as verbs and resource."""
    name = f"person-{secrets.token_hex(4)}"
    listed = []
    for verbs, resource in rules:
        plural, _, group = resource.partition(".")
        listed.append({"apiGroups": [group], "resources": [plural], "verbs": verbs.split(",")})
    kind = "rbac.authorization.k8s.io/v1"
    role = {"apiVersion": kind, "kind": "ClusterRole", "metadata": {"name": name}, "rules": listed}
    binding = {
        "apiVersion": kind,
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": cli.namespace}],
    }
    cli.cluster.kubectl("create", "serviceaccount", name, "-n", cli.namespace)
    cli.apply(role, binding)
    kubeconfig = Installation(cli.cluster, cli.namespace, cli.folder).kubeconfig(name)
    try:
        yield Cli(cli.cluster, cli.namespace, cli.folder, kubeconfig)
    finally:
        cli.cluster.kubectl("delete", "clusterrole,clusterrolebinding", name)


def data(said: Ended, code: int = 0) -> Any:  # noqa: ANN401 - any JSON
    """Return what a command printed as JSON."""
    assert said.returncode == code, said.stdout + said.stderr
    return json.loads(said.stdout)


def refusal(said: Ended, code: int) -> str:
    """Return what a command that printed nothing said instead, on one line."""
    assert (said.returncode, said.stdout) == (code, ""), said.stdout + said.stderr
    assert said.stderr.startswith("error: ")
    assert said.stderr.count("\n") == 1
    return said.stderr


# --- status


def test_status_says_that_the_guard_is_armed_and_what_it_guards(armed: Cli, home: str) -> None:
    for arguments in (("hold", f"{home}/deployer", "--by", "ci", "--ttl", "3d"), ("adopt", f"{home}/deployer")):
        assert armed.call("guard", *arguments).returncode == 0
    soon = Hold(Holder("External", "", "over"), NOW - timedelta(days=9), "batch", expires=NOW - timedelta(days=1))
    later = Hold(Holder("External", "", "later"), NOW, expires=NOW + timedelta(days=30))
    note_on(armed, "sa", "deployer", home, **{soon.key: soon.value(), later.key: later.value()})
    release_of(armed, home, "one")
    release_of(armed, home, "two")
    husk = Hold(Holder("Deployment", "shop", "web", "u-1"), NOW)
    labels, notes = {"envprov.io/guard": "env", "envprov.io/state": "husk"}, {husk.key: husk.value()}
    with namespace(armed, f"env-husk-{secrets.token_hex(4)}", labels=labels, annotations=notes) as left:
        # Tests beside this one make and delete kinds, whose objects cannot be listed for a moment.
        eventually(lambda: armed.call("guard", "status").returncode == 0, within=60, message="something is unread")
        found = json.loads(armed.call("guard", "status", "-o", "json").stdout)
        table, wide = armed.call("guard", "status"), armed.call("guard", "status", "-o", "wide")
        names = armed.call("guard", "status", "-o", "name").stdout.splitlines()
        assert yaml.safe_load(armed.call("guard", "status", "-o", "yaml").stdout)["state"] == "armed"
    assert (found["state"], found["mode"]) == ("armed", "enforce")
    assert "refused by envprov-delete-guard" in found["why"]
    assert len(found["policies"]) == 8
    assert {one["state"] for one in found["policies"]} == {"ok"}
    assert set(found) == {
        *(
            "state",
            "why",
            "complete",
            "mode",
            "policies",
            "guarded",
            "husks",
            "expiring",
            "conflicts",
            "unread",
            "notes",
        )
    }
    (guarded,) = [one for one in found["guarded"] if one["name"] == f"{home}/deployer"]
    assert (guarded["kind"], guarded["policy"], guarded["released"]) == ("ServiceAccount", "keep", False)
    assert guarded["oldest"] == (NOW - timedelta(days=9)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert guarded["holds"][0]["who"] == "over"
    assert {hold["who"] for hold in guarded["holds"]} == {"ci", "over", "later"}
    assert {"kind": "Namespace", "name": left}.items() <= next(
        one for one in found["guarded"] if one["name"] == left
    ).items()
    assert [one["holds"][0]["who"] for one in found["husks"] if one["namespace"] == left] == ["shop/web"]
    ends = [(one["who"], one["expired"]) for one in found["expiring"] if one["account"] == f"{home}/deployer"]
    assert ends == [("over", True), ("ci", False)]
    conflict = {"account": f"{home}/deployer", "releases": [f"{home}/one", f"{home}/two"]}
    assert conflict in found["conflicts"]
    assert f"{armed.namespace}/{CANARY}" not in {one["name"] for one in found["guarded"]}
    assert table.stdout.startswith("guard: armed")
    for words in ("policies: 8 of 8", "ran out 24h ago", f"owned by 2 Helm releases: {home}/one, {home}/two"):
        assert words in table.stdout
    assert "HELD BY" in wide.stdout
    assert {f"ServiceAccount {home}/deployer", f"Namespace {left}"} <= set(names)


def test_status_does_not_guess_without_a_canary(cli: Cli, enforced: None) -> None:  # noqa: ARG001
    found = data(cli.call("guard", "status", "-o", "json"), 1)
    assert found["state"] == "unknown"
    assert f"no ServiceAccount {cli.namespace}/{CANARY}" in found["why"]
    cli.cluster.kubectl("create", "serviceaccount", CANARY, "-n", cli.namespace)
    found = data(cli.call("guard", "status", "-o", "json"), 1)
    assert found["state"] == "unknown"
    assert "is not held" in found["why"]
    assert cli.call("guard", "status").stdout.startswith("guard: unknown\n")


def test_status_does_not_guess_without_the_rights(armed: Cli) -> None:
    with person(armed, ("get", "serviceaccounts")) as limited:
        found = data(limited.call("guard", "status", "-o", "json"), 1)
        table = limited.call("guard", "status").stdout
    assert found["state"] == "unknown"
    assert "you may not try to delete" in found["why"]
    assert {one["state"] for one in found["policies"]} == {"unknown"}
    assert any("list Pod" in line for line in found["unread"])
    assert any("list Namespace" in line for line in found["unread"])
    assert "could not be read with your rights" in table
    assert "policies: 0 of 8 are as they must be" not in table


def test_status_says_that_the_guard_is_not_in_force(armed: Cli) -> None:
    uid = metadata_of(armed, "sa", CANARY, armed.namespace)["uid"]
    # Whoever may override, as an administrator may, is let through by the policy.
    note_on(armed, "sa", CANARY, armed.namespace, **{"envprov.io/force-delete-uid": uid})
    said = armed.call("guard", "status")
    assert said.returncode == 1
    assert said.stdout.startswith("guard: disarmed\n")
    assert "would delete" in said.stdout
    assert metadata_of(armed, "sa", CANARY, armed.namespace)["uid"] == uid


def test_status_compares_the_policies_with_the_settings(armed: Cli) -> None:
    (armed.folder / "settings.yaml").write_text("platform: {controller_account: another}\nguard: {mode: observe}\n")
    found = data(armed.call("guard", "status", "--settings", "settings.yaml", "-o", "json"), 1)
    assert (found["state"], found["complete"]) == ("armed", False)
    changed = {one["name"] for one in found["policies"] if one["state"] == "changed"}
    assert changed == {"envprov-self-limit"}
    table = armed.call("guard", "status", "--settings", "settings.yaml").stdout
    assert table.startswith("guard: armed, incomplete\n")
    assert "ValidatingAdmissionPolicy envprov-self-limit: changed" in table
    assert "envprov manifests | kubectl apply" in table
    assert "guard.mode is observe" in table


# --- explain


def test_explain_says_who_keeps_an_account(cli: Cli, home: str) -> None:
    deployment(cli, home)
    assert (
        cli.call("guard", "hold", f"{home}/deployer", "--by", "ci", "--ttl", "3d", "--reason", "tags").returncode == 0
    )
    found = data(cli.call("guard", "explain", f"{home}/deployer", "-o", "json"))
    assert set(found) == {
        *("account", "uid", "adopted", "policy", "released", "fenced", "terminating"),
        *("users", "onDelete", "advice", "unread", "notes"),
    }
    assert (found["account"], found["adopted"], found["policy"]) == (f"{home}/deployer", False, None)
    users = {one["who"]: one for one in found["users"]}
    assert set(users) == {f"{home}/web", "ci"}
    used, declared = users[f"{home}/web"], users["ci"]
    assert (used["kind"], used["strength"], used["evidence"], used["keeps"]) == ("Deployment", "live", "seen", True)
    assert used["how"] == "spec.template.spec.serviceAccountName"
    assert (declared["kind"], declared["strength"], declared["how"]) == ("External", "declared", "tags")
    assert found["onDelete"] == "refused: 1 hold is on it"
    assert found["unread"] == []
    table = cli.call("guard", "explain", f"{home}/deployer")
    assert table.stdout.startswith(f"ServiceAccount {home}/deployer: kept by 2\n")
    assert "WHO" in table.stdout
    assert "if it were deleted: refused" in table.stdout
    assert "  ask ci, which declared that it uses it" in table.stdout
    assert f"  envprov guard release {home}/deployer --by ci, once it no longer uses it" in table.stdout
    assert used["since"] in cli.call("guard", "explain", f"{home}/deployer", "-o", "wide").stdout
    names = cli.call("guard", "explain", f"{home}/deployer", "-o", "name").stdout.splitlines()
    assert set(names) == {f"Deployment {home}/web", "External ci"}


def test_explain_says_that_nobody_uses_an_account(cli: Cli, home: str) -> None:
    note_on(cli, "namespace", home, **{"envprov.io/fenced-sa": "deployer"})
    said = cli.call("guard", "explain", f"{home}/deployer")
    assert said.returncode == 0
    assert said.stdout.startswith(f"ServiceAccount {home}/deployer: nobody uses it\n")
    assert "gets no new pods" in said.stdout
    assert "it would go; nothing that can be seen uses it" in said.stdout
    assert data(cli.call("guard", "explain", f"{home}/deployer", "-o", "json"))["fenced"]


def test_explain_says_what_it_could_not_read(cli: Cli, home: str) -> None:
    with person(cli, ("get", "serviceaccounts"), ("get", "namespaces")) as limited:
        said = limited.call("guard", "explain", f"{home}/deployer")
        assert refusal(limited.call("guard", "explain", f"{home}/none"), 1).endswith(f"{home}/none is not there\n")
    assert said.returncode == 0
    assert "not everything could be read" in said.stdout.splitlines()[0]
    assert "list Pod" in said.stdout.partition("could not be read with your rights")[2]


def test_explain_says_what_of_a_namespace_is_kept(cli: Cli, home: str) -> None:
    branch = f"feature-{secrets.token_hex(4)}"
    record = cli.record(branch)
    labels, notes = {"envprov.io/guard": "env", "envprov.io/project": "shop"}, {"envprov.io/branch": branch}
    note_on(cli, "env", record, cli.namespace, **notes)
    with namespace(cli, f"env-{record}", labels=labels, annotations=notes) as there:
        cli.cluster.kubectl("create", "sa", "app", "-n", there)
        cli.cluster.kubectl(
            "create", "rolebinding", "lent", "--clusterrole=view", f"--serviceaccount={there}:app", "-n", home
        )
        cli.cluster.kubectl(
            "create", "rolebinding", "asked", "--clusterrole=view", f"--serviceaccount={home}:deployer", "-n", there
        )
        free = data(cli.call("guard", "explain", there, "-o", "json"))
        used = cli.call("guard", "explain", f"{home}/deployer").stdout
        assert cli.call("guard", "hold", f"{there}/app", "--by", "ci", "--ttl", "1d").returncode == 0
        found = data(cli.call("guard", "explain", there, "-o", "json"))
        table = cli.call("guard", "explain", there).stdout
        names = cli.call("guard", "explain", there, "-o", "name").stdout
    assert set(found) == {
        *("namespace", "uid", "environment", "branch", "state", "guard"),
        *("holds", "kept", "onDelete", "advice", "unread", "notes"),
    }
    assert (found["namespace"], found["environment"]) == (there, f"{cli.namespace}/{record}")
    assert (found["branch"], found["state"], found["guard"]) == (branch, None, "env")
    assert f"`envprov down {branch} --project shop` takes it down" in free["onDelete"]
    assert f"  envprov down {branch}, if that environment is no longer needed" in used
    (kept,) = found["kept"]
    assert kept["account"] == f"{there}/app"
    assert f"RoleBinding {home}/lent" in kept["reasons"][0]
    assert "External ci" in kept["reasons"][1]
    (held,) = found["holds"]
    assert (held["who"], held["kind"]) == ("ci", "External")
    assert found["onDelete"] == "refused: 1 hold is on it"
    assert found["advice"] == [f"envprov guard explain {there}/app"]
    assert f"serves Environment {cli.namespace}/{record}, branch {branch}" in table
    assert f"RoleBinding {home}/lent" in table
    assert f"envprov guard explain {there}/app" in table
    assert names == f"ServiceAccount {there}/app\n"


def test_explain_knows_a_plain_namespace(cli: Cli, home: str) -> None:
    said = cli.call("guard", "explain", home)
    assert said.stdout.startswith(f"Namespace {home}: none of its ServiceAccounts is kept\n")
    assert "it would go with everything in it" in said.stdout


def test_explain_says_what_is_not_there(cli: Cli, home: str) -> None:
    assert "there are default, deployer" in refusal(cli.call("guard", "explain", f"{home}/none"), 1)
    assert "Namespace nowhere is not there" in refusal(cli.call("guard", "explain", "nowhere/none"), 1)
    assert "Namespace nowhere is not there" in refusal(cli.call("guard", "explain", "nowhere"), 1)


# --- hold


def test_a_hold_is_put_on_and_renewed(cli: Cli, home: str) -> None:
    said = cli.call(
        "guard", "hold", f"{home}/deployer", "--by", "夜間 batch", "--ttl", "30d", "--reason", "it runs here"
    )
    assert said.returncode == 0, said.stderr
    assert f"ServiceAccount {home}/deployer is held by 夜間 batch until" in said.stdout
    first = holds_on(cli, "sa", "deployer", home)["夜間 batch"]
    assert holds_on(cli, "namespace", home) == {"夜間 batch": first}
    assert (first["kind"], first["why"]) == ("External", "it runs here")
    lasts = datetime.fromisoformat(first["exp"]) - datetime.fromisoformat(first["since"])
    assert lasts == timedelta(days=30)
    live = data(cli.call("guard", "hold", f"{home}/deployer", "--by", "夜間 batch", "--ttl", "1w3d", "-o", "json"))
    assert (live["kind"], live["metadata"]["name"]) == ("ServiceAccount", "deployer")
    again = holds_on(cli, "sa", "deployer", home)
    assert set(again) == {"夜間 batch"}
    assert again["夜間 batch"]["since"] == first["since"]
    assert again["夜間 batch"]["exp"] < first["exp"]
    name = cli.call("guard", "hold", f"{home}/deployer", "--by", "夜間 batch", "--ttl", "1h", "-o", "name")
    assert name.stdout == "serviceaccount/deployer\n"
    assert cli.call("guard", "hold", f"{home}/deployer", "--by", "x", "--ttl", "1m", "--quiet").stdout == ""


def test_what_goes_cannot_be_held(cli: Cli, home: str) -> None:
    hold = ("--by", "ci", "--ttl", "1d")
    assert "is not there" in refusal(cli.call("guard", "hold", f"{home}/none", *hold), 1)
    assert "Namespace nowhere is not there" in refusal(cli.call("guard", "hold", "nowhere/none", *hold), 1)
    patch = ("patch", "sa", "deployer", "-n", home, "--type=merge", "-p")
    cli.cluster.kubectl(*patch, '{"metadata":{"finalizers":["example.com/wait"]}}')
    try:
        cli.cluster.kubectl("delete", "sa", "deployer", "-n", home, "--wait=false")
        assert "is being deleted" in refusal(cli.call("guard", "hold", f"{home}/deployer", *hold), 1)
        assert "is being deleted" in refusal(cli.call("guard", "adopt", f"{home}/deployer"), 1)
        assert holds_on(cli, "namespace", home) == {}
    finally:
        cli.cluster.kubectl(*patch, '{"metadata":{"finalizers":null}}')


def test_without_the_verb_manage_the_rule_to_grant_is_said(armed: Cli, home: str) -> None:
    rights = ("get,list,patch", "serviceaccounts"), ("get,list,patch", "namespaces")
    with person(armed, *rights) as limited:
        for arguments in (("hold", f"{home}/deployer", "--by", "ci", "--ttl", "1d"), ("adopt", f"{home}/deployer")):
            said = refusal(limited.call("guard", *arguments), 4)
            assert "envprov-hold-integrity" in said
            assert RULE in said
        assert holds_on(armed, "sa", "deployer", home) == {}
    with person(armed, ("get,list", "serviceaccounts"), ("get,list", "namespaces")) as reader:
        assert RULE not in refusal(reader.call("guard", "adopt", f"{home}/deployer"), 4)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("explain", "A"), id="no namespace"),
        pytest.param(("explain", "a/b/c"), id="too many parts"),
        pytest.param(("explain", "a/B"), id="no account"),
        pytest.param(("explain", "../a"), id="a path"),
        pytest.param(("explain", f"a/{'b' * 254}"), id="an account too long"),
        pytest.param(("explain", f"{'a' * 64}/b"), id="a namespace too long"),
        pytest.param(("adopt", "deployer"), id="no slash"),
        pytest.param(("adopt", "a/b", "--policy", "drop"), id="no policy"),
        pytest.param(("release", "a/"), id="no name"),
        pytest.param(("release", "a/b", "--by", " "), id="nobody"),
        pytest.param(("hold", "a/b", "--by", "ci"), id="no ttl"),
        pytest.param(("hold", "a/b", "--ttl", "1d"), id="no holder"),
        pytest.param(("hold", "a/b", "--by", "ci", "--ttl", "0d"), id="ttl of nothing"),
        pytest.param(("hold", "a/b", "--by", "ci", "--ttl", ""), id="empty ttl"),
        pytest.param(("hold", "a/b", "--by", "ci", "--ttl", "soon"), id="no time"),
        pytest.param(("hold", "a/b", "--by", "ci", "--ttl", "3651d"), id="more than ten years"),
        pytest.param(("hold", "a/b", "--by", "c" * 101, "--ttl", "1d"), id="a long holder"),
        pytest.param(("hold", "a/b", "--by", "🚀" * 100, "--ttl", "1d"), id="a holder of many bytes"),
        pytest.param(("hold", "a/b", "--by", "夜" * 80, "--reason", "夜" * 80, "--ttl", "1d"), id="long together"),
        pytest.param(("hold", "a/b", "--by", "c\x1b[31mi", "--ttl", "1d"), id="a holder that colours"),
        pytest.param(("hold", "a/b", "--by", "ci", "--ttl", "1d", "--reason", "r" * 201), id="a long reason"),
        pytest.param(("hold", "a/b", "--by", "ci", "--ttl", "1d", "--reason", "a\nb"), id="a reason of two lines"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_is_asked(cli: Cli, arguments: tuple[str, ...]) -> None:
    # There is no such kubeconfig: whatever asked the cluster, or only opened it, would say that.
    nobody = Cli(cli.cluster, cli.namespace, cli.folder, cli.folder / "none")
    said = nobody.call("guard", *arguments)
    assert (said.returncode, said.stdout) == (2, "")
    assert "kubeconfig" not in said.stderr
    assert "\x1b" not in said.stderr


# --- release


def test_a_declared_hold_is_ended_by_its_name(cli: Cli, home: str) -> None:
    for who in ("ci", "night shift"):
        assert cli.call("guard", "hold", f"{home}/deployer", "--by", who, "--ttl", "1d").returncode == 0
    other = refusal(cli.call("guard", "release", f"{home}/deployer", "--by", "cd"), 1)
    assert "cd has declared no hold" in other
    assert "ci, night shift has" in other
    said = cli.call("guard", "release", f"{home}/deployer", "--by", "ci")
    assert said.stdout == f"ServiceAccount {home}/deployer is no longer held by ci\n"
    assert set(holds_on(cli, "sa", "deployer", home)) == set(holds_on(cli, "namespace", home)) == {"night shift"}
    live = data(cli.call("guard", "release", f"{home}/deployer", "--by", "night shift", "-o", "json"))
    assert live["metadata"]["name"] == "deployer"
    assert "nobody has" in refusal(cli.call("guard", "release", f"{home}/deployer", "--by", "ci"), 1)


def test_only_declared_holds_are_ended_by_hand(cli: Cli, home: str) -> None:
    seen = Hold(Holder("Deployment", "shop", "web", "u-1"), NOW)
    note_on(cli, "sa", "deployer", home, **{seen.key: seen.value()})
    for name in ("shop/web", "Deployment shop/web"):
        said = refusal(cli.call("guard", "release", f"{home}/deployer", "--by", name), 4)
        assert f"ServiceAccount {home}/deployer stays held by Deployment shop/web" in said
        assert "ends when Deployment shop/web is deleted or uses another one" in said
    assert set(holds_on(cli, "sa", "deployer", home)) == {"shop/web"}


def test_what_an_account_that_is_gone_left_on_its_namespace_can_be_ended(cli: Cli, home: str) -> None:
    assert cli.call("guard", "hold", f"{home}/deployer", "--by", "ci", "--ttl", "1d").returncode == 0
    held = Hold(Holder("External", "", "ci"), NOW)
    cli.cluster.kubectl("annotate", "sa", "deployer", "-n", home, f"{held.key}-")
    cli.cluster.kubectl("delete", "sa", "deployer", "-n", home)
    assert set(holds_on(cli, "namespace", home)) == {"ci"}
    advice = f"  envprov guard release {home}/default --by ci, if it uses nothing in there"
    assert advice in cli.call("guard", "explain", home).stdout
    assert cli.call("guard", "release", f"{home}/default", "--by", "ci").returncode == 0
    assert holds_on(cli, "namespace", home) == {}


def test_a_hold_is_not_ended_by_the_name_of_another_account(cli: Cli, home: str) -> None:
    assert cli.call("guard", "hold", f"{home}/deployer", "--by", "ci", "--ttl", "1d").returncode == 0
    for other in ("default", "none"):
        said = refusal(cli.call("guard", "release", f"{home}/{other}", "--by", "ci"), 1)
        assert f"it has on {home}/deployer" in said
    assert set(holds_on(cli, "namespace", home)) == set(holds_on(cli, "sa", "deployer", home)) == {"ci"}


def test_an_adopted_account_is_released_when_nobody_uses_it(cli: Cli, home: str) -> None:
    assert cli.call("guard", "adopt", f"{home}/deployer").returncode == 0
    deployment(cli, home)
    assert cli.call("guard", "hold", f"{home}/deployer", "--by", "ci", "--ttl", "1d").returncode == 0
    refused = refusal(cli.call("guard", "release", f"{home}/deployer"), 4)
    assert "stays guarded" in refused
    assert f"Deployment {home}/web (spec.template.spec.serviceAccountName)" in refused
    assert "External ci" in refused
    cli.cluster.kubectl("delete", "deployment", "web", "-n", home, "--cascade=foreground")
    assert "kept by External ci" in refusal(cli.call("guard", "release", f"{home}/deployer"), 4)
    assert cli.call("guard", "release", f"{home}/deployer", "--by", "ci").returncode == 0
    assert metadata_of(cli, "sa", "deployer", home)["labels"] == {"envprov.io/guard": "shared"}
    said = cli.call("guard", "release", f"{home}/deployer")
    assert (said.returncode, said.stdout) == (0, f"ServiceAccount {home}/deployer is guarded no longer\n")
    found = metadata_of(cli, "sa", "deployer", home)
    assert not any("envprov.io/" in key for key in (*found.get("labels", {}), *found.get("annotations", {})))
    again = cli.call("guard", "release", f"{home}/deployer")
    assert (again.returncode, again.stdout) == (
        0,
        f"ServiceAccount {home}/deployer is not adopted, and nobody holds it\n",
    )


def test_nothing_is_released_by_who_cannot_see_whether_it_is_used(cli: Cli, home: str) -> None:
    assert cli.call("guard", "adopt", f"{home}/deployer").returncode == 0
    rights = (
        ("get,list,patch", "serviceaccounts"),
        ("get,list,patch", "namespaces"),
        ("list", "environments.envprov.io"),
        ("manage", "holds.envprov.io"),
    )
    with person(cli, *rights) as limited:
        said = refusal(limited.call("guard", "release", f"{home}/deployer"), 4)
        assert "what else uses it is not known" in said
        assert "list Pod" in said
        assert metadata_of(cli, "sa", "deployer", home)["labels"] == {"envprov.io/guard": "shared"}
        # What they declared themselves is another matter.
        for arguments in (("hold", "--by", "ci", "--ttl", "1d"), ("release", "--by", "ci")):
            changed = limited.call("guard", arguments[0], f"{home}/deployer", *arguments[1:])
            assert changed.returncode == 0, changed.stderr


def test_what_is_not_there_cannot_be_released(cli: Cli, home: str) -> None:
    assert "is not there" in refusal(cli.call("guard", "release", f"{home}/none"), 1)
    assert "has declared no hold" in refusal(cli.call("guard", "release", f"{home}/none", "--by", "ci"), 1)
    assert "Namespace nowhere is not there" in refusal(cli.call("guard", "release", "nowhere/none", "--by", "ci"), 1)


# --- adopt


@pytest.mark.parametrize("policy", ["keep", "delete-with-last-user"])
def test_an_account_is_adopted(armed: Cli, home: str, policy: str) -> None:
    said = armed.call("guard", "adopt", f"{home}/deployer", "--policy", policy)
    assert said.stdout == f"ServiceAccount {home}/deployer is guarded from now on, with policy {policy}\n"
    found = metadata_of(armed, "sa", "deployer", home)
    assert found["labels"] == {"envprov.io/guard": "shared"}
    assert found["annotations"] == {"envprov.io/guard-policy": policy}
    refused = armed.cluster.kubectl(*DRY_RUN, "deployer", "-n", home, check=False)
    assert f"envprov guard release {home}/deployer" in refused
    explained = data(armed.call("guard", "explain", f"{home}/deployer", "-o", "json"))
    assert (explained["adopted"], explained["policy"]) == (True, policy)
    assert explained["onDelete"] == "refused: it is shared and not released"


def test_adopting_again_changes_the_policy(cli: Cli, home: str) -> None:
    for policy in ("delete-with-last-user", "keep"):
        live = data(cli.call("guard", "adopt", f"{home}/deployer", "--policy", policy, "-o", "json"))
        assert live["metadata"]["annotations"]["envprov.io/guard-policy"] == policy
    assert cli.call("guard", "adopt", f"{home}/deployer", "-o", "name").stdout == "serviceaccount/deployer\n"


def test_only_what_is_there_is_adopted(cli: Cli, home: str) -> None:
    assert "there are default, deployer" in refusal(cli.call("guard", "adopt", f"{home}/none"), 1)
    assert "Namespace nowhere is not there" in refusal(cli.call("guard", "adopt", "nowhere/none"), 1)
