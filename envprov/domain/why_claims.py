"""What keeps a claim from its volume: no class, no provisioner, a volume that is lost, or nobody who uses it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from envprov.domain import telling
from envprov.domain.causes import Cause
from envprov.domain.evidence import Evidence, Fact, Part, Symptom, is_going, name_of
from envprov.domain.loose import Manifest, mappings, text, within
from envprov.domain.pod_faults import short

DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
BY_HAND = "kubernetes.io/no-provisioner"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
_OVER = frozenset({"Succeeded", "Failed"})


def claim_symptoms(evidence: Evidence, *, is_lacking: bool) -> Iterator[Symptom]:
    """
    What keeps claims from their volumes.

    Args:
        evidence: What was seen.
        is_lacking: Whether a workload lacks pods; a claim that no pod mounts only matters then.

    """
    mounted = {
        name: name_of(pod)
        for pod in evidence.of(Part.PODS)
        if text(within(pod, "status").get("phase")) not in _OVER
        for name in _mounts(pod)
    }
    for claim in evidence.of(Part.CLAIMS):
        name, phase = name_of(claim), text(within(claim, "status").get("phase"))
        if is_going(claim) or phase == "Bound":
            continue
        if phase == "Lost":
            said = f"PersistentVolumeClaim {name} has lost its volume, and its data with it"
            advice = ("delete the claim if its data may go: the chart makes a new one with the next deployment",)
            yield Symptom(Cause.VOLUME_LOST, said, (Fact(f"PersistentVolumeClaim {name}", "Lost"),), advice)
        elif is_lacking or name in mounted:
            yield _pending(evidence, claim, mounted.get(name, ""))


@dataclass(frozen=True)
class _Pending:
    """
    A claim without a volume.

    Attributes:
        name: Of the claim.
        wanted: The StorageClass that it names, or empty.
        classes: Those that there are, by name; None if they could not be read.
        events: About the claim, the newest first.
        failures: Those of its provisioner.
        pod: That waits for it, or empty.
        has_node: Whether a node was chosen for it.

    """

    name: str
    wanted: str
    classes: Mapping[str, Manifest] | None
    events: tuple[str, ...]
    failures: tuple[str, ...]
    pod: str
    has_node: bool

    @property
    def chosen(self) -> Manifest:
        """The class that it names, if it is known."""
        return (self.classes or {}).get(self.wanted, {})

    @property
    def waits(self) -> str:
        """Who waits for it, as a clause."""
        return f", and pod {self.pod} waits for it" if self.pod else ""

    @property
    def there(self) -> str:
        """Which classes there are, as a clause."""
        if self.classes is None:
            return ""
        return f"; there are {', '.join(sorted(self.classes))}" if self.classes else "; there are none"


_Read = tuple[Cause, str, str]
"""The cause, a sentence that says it, and what to do."""


def _pending(evidence: Evidence, claim: Manifest, pod: str) -> Symptom:
    classes = {name_of(item): item for item in evidence.of(Part.STORAGE_CLASSES)}
    given = _Pending(
        name=name_of(claim),
        wanted=text(within(claim, "spec").get("storageClassName")),
        classes=classes if evidence.knows(Part.STORAGE_CLASSES) else None,
        events=evidence.events_of(claim),
        failures=evidence.events_of(claim, "ProvisioningFailed"),
        pod=pod,
        has_node=SELECTED_NODE in within(claim, "metadata", "annotations"),
    )
    found = (reader(given) for reader in _READERS)
    otherwise = Cause.CLAIM_UNBOUND, f"PersistentVolumeClaim {given.name} has no volume yet{given.waits}", ""
    cause, said, advice = next((each for each in found if each is not None), otherwise)
    facts = tuple(Fact(f"PersistentVolumeClaim {given.name}", short(message)) for message in given.events[:2])
    describe = telling.describe(evidence, "pvc", given.name)
    return Symptom(cause, said, facts, (advice, describe) if advice else (describe,), frozenset({Part.STORAGE_CLASSES}))


def _without_class(given: _Pending) -> _Read | None:
    told = any("no storage class is set" in message for message in given.events[:1])
    if given.wanted or not (told or (given.classes is not None and not _has_default(given.classes))):
        return None
    said = f"PersistentVolumeClaim {given.name} names no StorageClass, and the cluster has no default one"
    return Cause.CLAIM_WITHOUT_CLASS, f"{said}{given.there}{given.waits}", "name a StorageClass in the chart's values"


def _class_missing(given: _Pending) -> _Read | None:
    told = any(f'"{given.wanted}" not found' in message for message in given.events[:1])
    if not given.wanted or not (told or (given.classes is not None and given.wanted not in given.classes)):
        return None
    said = f"PersistentVolumeClaim {given.name} names the StorageClass {given.wanted}, which is not there"
    advice = "name another StorageClass in the chart's values"
    return Cause.CLAIM_CLASS_MISSING, f"{said}{given.there}{given.waits}", advice


def _waits_for_pod(given: _Pending) -> _Read | None:
    late = text(given.chosen.get("volumeBindingMode")) == "WaitForFirstConsumer"
    told = any("first consumer" in message or "waiting for pod" in message for message in given.events[:1])
    if given.has_node or not (late or told):
        return None
    said = f"PersistentVolumeClaim {given.name} gets its volume only once a pod that mounts it has been given a node"
    who = f"; pod {given.pod} has none yet" if given.pod else ", and no pod mounts it"
    return Cause.CLAIM_WAITS_FOR_POD, said + who, ""


def _fails(given: _Pending) -> _Read | None:
    if not given.failures:
        return None
    said = f"the volume of PersistentVolumeClaim {given.name} cannot be made{given.waits}: {short(given.failures[0])}"
    return Cause.CLAIM_NOT_PROVISIONED, said, "ask who runs the storage"


def _by_hand(given: _Pending) -> _Read | None:
    if text(given.chosen.get("provisioner")) != BY_HAND:
        return None
    said = (
        f"StorageClass {given.wanted} makes no volumes by itself, and none that was made by hand fits "
        f"PersistentVolumeClaim {given.name}{given.waits}"
    )
    return Cause.CLAIM_NOT_PROVISIONED, said, "name another StorageClass, or ask who makes its volumes"


def _not_provisioned(given: _Pending) -> _Read | None:
    told = any("external provisioner" in message for message in given.events[:1])
    provisioner = text(given.chosen.get("provisioner"))
    if not provisioner and not told:
        return None
    who = f"the provisioner {provisioner}" if provisioner else "its provisioner"
    said = f"{who} has not made the volume of PersistentVolumeClaim {given.name} yet{given.waits}"
    return Cause.CLAIM_NOT_PROVISIONED, said, f"ask who runs the storage whether {who} runs"


_READERS: tuple[Callable[[_Pending], _Read | None], ...] = (
    _without_class,
    _class_missing,
    _waits_for_pod,
    _by_hand,  # of such a class Kubernetes says that it knows no plugin of that name
    _fails,
    _not_provisioned,
)


def _has_default(classes: Mapping[str, Manifest]) -> bool:
    return any(within(item, "metadata", "annotations").get(DEFAULT_CLASS) == "true" for item in classes.values())


def _mounts(pod: Manifest) -> Iterator[str]:
    for volume in mappings(within(pod, "spec").get("volumes")):
        name = within(volume, "persistentVolumeClaim").get("claimName")
        if name:
            yield text(name)
