"""The error tree: as drawn, each with one meaning, and its name fit for a condition."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

from envprov.controller.reconcile import Outcome
from envprov.domain import errors
from envprov.domain.checks.catalogue import RULES
from envprov.domain.environment import Step, Type
from envprov.domain.errors import EnvprovError, RetryableError, TerminalError
from envprov.domain.health import Condition
from envprov.domain.plan import Phase

ROOT = Path(__file__).parent.parent.parent
CLASSES = [found for _, found in inspect.getmembers(errors, inspect.isclass) if issubclass(found, EnvprovError)]
CAMEL_CASE = re.compile(r"[A-Z][A-Za-z0-9]*")


def drawn() -> dict[str, str]:
    """Return the parent of each class in the drawing of the module's docstring."""
    parents: dict[str, str] = {}
    stack: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"    ([| +]*)([A-Z]\w+)", line)
        if match is None:
            continue
        depth = len(match[1]) // 2
        del stack[depth:]
        parents[match[2]] = stack[-1] if stack else "Exception"
        stack.append(match[2])
    return parents


def test_the_tree_is_as_drawn() -> None:
    assert drawn() == {found.__name__: found.__mro__[1].__name__ for found in CLASSES}


@pytest.mark.parametrize("found", CLASSES, ids=lambda found: found.__name__)
def test_each_says_what_it_means(found: type[EnvprovError]) -> None:
    own = found.__dict__.get("__doc__")
    assert own
    assert own.strip().splitlines()[0].strip().endswith(".")


@pytest.mark.parametrize("found", CLASSES, ids=lambda found: found.__name__)
def test_each_is_retried_or_not_and_never_both(found: type[EnvprovError]) -> None:
    assert not (issubclass(found, RetryableError) and issubclass(found, TerminalError))


def test_no_other_module_makes_errors_of_its_own() -> None:
    """Private ones that never leave their module begin with an underscore."""
    strangers = []
    for file in [*(ROOT / "envprov").rglob("*.py"), *(ROOT / "webhooks").rglob("*.py")]:
        if file.name == "errors.py" and file.parent.name == "domain":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                bases = {ast.unparse(base) for base in node.bases}
                if bases & {found.__name__ for found in CLASSES}:
                    strangers.append(f"{file.relative_to(ROOT)}: {node.name}")
    assert strangers == []


REASONS = {
    *(found("x").reason for found in CLASSES if found not in {errors.RejectedDelivery, errors.PlanRefused}),
    errors.PlanRefused(()).reason,
    *(rule.reason for rule in RULES),
    *(phase.value for phase in Phase),
    *(step.value for step in Step),
    *(kind.value for kind in Type),
    *(condition.value for condition in Condition),
}


def written_reasons() -> set[str]:
    """Return the words that stand where a reason is written: of outcomes, facts, Events and teardowns that wait."""
    found = set()
    names = ("domain/report.py", "domain/teardown.py", "controller/reconcile.py", "controller/guardian.py")
    for name in (*names, "kube/records.py"):
        for node in ast.walk(ast.parse((ROOT / "envprov" / name).read_text())):
            match node:
                case ast.Tuple(elts=[_, ast.Constant(value=str() as word), _]):  # (holds, reason, message)
                    found.add(word)
                case ast.Call(func=ast.Name(id=Outcome.__name__), args=[ast.Constant(value=str() as word), *_]):
                    found.add(word)
                case ast.Call(
                    func=ast.Attribute(attr="tell" | "_say"), args=[_, ast.Constant(value=str() as word), *_]
                ):
                    found.add(word)
                case ast.Call(func=ast.Name(id="_blocked"), args=[ast.Constant(value=str() as word), *_]):
                    found.add(word)
                case ast.keyword(arg="blocked", value=ast.Constant(value=str() as word)):
                    found.add(word)
                case _:
                    pass
    return found


def test_every_reason_is_one_word_in_camel_case() -> None:
    written = written_reasons()
    assert {"InPlace", "InSync", "StillThere", "Superseded", "Poison", "Expired"} <= written
    assert {"Disarmed", "UsageUnknown", "HeldByOthers", "OwnerReferencesRemoved", "HoldExpired"} <= written
    assert [reason for reason in sorted(REASONS | written) if not CAMEL_CASE.fullmatch(reason)] == []
