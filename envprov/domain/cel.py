"""
Pieces of expressions for admission policies, in CEL as Kubernetes 1.30 speaks it.

One evaluation may cost a million units, and an object may have as many annotations as go into 256 KiB: whatever looks
at each of them is cheap.

Source: https://kubernetes.io/docs/reference/using-api/cel/
"""

from __future__ import annotations

SHOWN = 3
"""How many of a list a message names."""


def maps(of: str, *fields: str, prefix: str = "") -> dict[str, str]:
    """
    Variables for labels and annotations, which are empty where there are none.

    Args:
        of: ``object`` or ``oldObject``; it may be null.
        fields: ``labels``, ``annotations`` or both: the names of the variables,
        prefix: after this one.

    """
    return {
        (f"{prefix}{field.capitalize()}" if prefix else field): (
            f"{of} != null && has({of}.metadata.{field}) ? {of}.metadata.{field} : {{}}"
        )
        for field in fields
    }


def subject(of: str) -> dict[str, str]:
    """Variables that name a ServiceAccount or Namespace: the request has no name when a collection is deleted."""
    name = f"(has({of}.metadata.name) ? {of}.metadata.name : '')"
    return {
        "isNamespace": "request.resource.resource == 'namespaces'",
        "path": f"(variables.isNamespace ? '' : request.namespace + '/') + {name}",
        "subject": "(variables.isNamespace ? 'Namespace ' : 'ServiceAccount ') + variables.path",
    }


def may(verb: str, resource: str, group: str) -> str:
    """Whether who asks has a right; for a verb that only policies know. One expression may ask twice at most."""
    return f"authorizer.group('{group}').resource('{resource}').check('{verb}').allowed()"


def is_labelled(of: str, label: str, value: str) -> str:
    """Whether an object has a label with a value."""
    return f"""has({of}.metadata.labels) && '{label}' in {of}.metadata.labels
&& {of}.metadata.labels['{label}'] == '{value}'"""


def names_uid(key: str, annotations: str = "annotations") -> str:
    """Whether an annotation, in the variable *annotations*, says the UID of the object as it was."""
    return f"'{key}' in variables.{annotations} && variables.{annotations}['{key}'] == oldObject.metadata.uid"


def same(path: str) -> str:
    """Whether a field is as it was, or still missing."""
    now, was = (f"(has({of}.{path}) ? {of}.{path} : null)" for of in ("object", "oldObject"))
    return f"{now}\n  == {was}"


def same_keys(field: str, free: str, *, removable: str = "") -> str:
    """
    Whether labels or annotations are as they were.

    Args:
        field: Name of the variable; the one for before is called ``old`` and that.
        free: Expression for a key ``k`` that may come, change and go.
        removable: Key that may go but not come.

    """
    now, was = f"variables.{field}", f"variables.old{field.capitalize()}"
    removed = f"\n  || (k == '{removable}' && !(k in {now}))" if removable else ""
    return f"""{was}.all(k, {free}{removed}
  || (k in {now} && {now}[k] == {was}[k]))
&& {now}.all(k, {free}
  || k in {was})"""


def changed_keys(field: str, reserved: str) -> str:
    """
    Keys of labels or annotations that came, changed or went.

    Args:
        field: As in ``same_keys``.
        reserved: Expression for a key ``k`` that matters.

    """
    now, was = f"variables.{field}", f"variables.old{field.capitalize()}"
    return f"""{was}.filter(k, {reserved}
  && !(k in {now} && {now}[k] == {was}[k]))
+ {now}.filter(k, {reserved} && !(k in {was}))"""


def least(of: str, name: str) -> dict[str, str]:
    """
    Variables for the least of a list of texts; there is no sort before Kubernetes 1.34.

    Args:
        of: Name of the variable with the list; no text is in it twice.
        name: Of the new variables, with 1, 2 and so on after it: the last one has ``SHOWN`` texts if there are so many.

    """
    variables = {f"{name}1": f"size(variables.{of}) == 0 ? [] : [variables.{of}.min()]"}
    for number in range(2, SHOWN + 1):
        before = f"variables.{name}{number - 1}"
        variables[f"{name}{number}"] = f"""
[variables.{of}.filter(t, !(t in {before}))]
.map(rest, size(rest) == 0 ? {before} : {before} + [rest.min()])[0]"""
    return variables


def more(of: str) -> str:
    """Text for those of a list that are not shown."""
    return f"(size(variables.{of}) > {SHOWN} ? ' and ' + string(size(variables.{of}) - {SHOWN}) + ' more' : '')"


def field_pattern(name: str) -> str:
    """
    Pattern of one field of a hold; the language reads no JSON.

    A quote inside a text is escaped there, so that what looks like a field is one. Nothing that moves a cursor or
    turns the direction of writing gets into a terminal.
    """
    texts = {
        "kind": "[A-Za-z0-9]{1,63}",
        "by": r'(?:[^"\\\pC]|\\[^\pC]){1,320}',
        "since": "[0-9TZ:.+-]{10,35}",
    }
    return f"""r'"{name}": ?"{texts[name]}"'"""


def field(of: str, name: str) -> str:
    """Text of one field of a hold, empty if it cannot be read."""
    opening = len(name) + 2
    return (
        f"[{of}.find({field_pattern(name)})]"
        f""".map(f, f == '' ? '' : f.substring(f.indexOf('"', {opening}) + 1, size(f) - 1))[0]"""
    )
