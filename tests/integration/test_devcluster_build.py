"""
Building the development cluster's programs: once, resumable, pinned, and clear about what is missing.

A stand-in for Go lets a build of minutes take milliseconds; the checksums are tried with the real one.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster import SCRIPTS
from tests.eventually import eventually

NEEDED = ["etcd", "helm", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kwok", "kwokctl"]
PROGRAMS = sorted([*NEEDED, "helm3"])

# Says which version it is, which tools the go.mod at hand names, and "builds" by writing a file. It notes each build,
# and holds one up for as long as a file of the program's name with the ending .hold is there.
FAKE_GO = """#!/usr/bin/env bash
notes={notes}
tools() {{ sed -nE 's#^(tool )?[[:space:]]*([a-z0-9./-]+)$#\\2#p' go.mod; }}
case "$1 $2" in
  "env GOVERSION") echo {version} ;;
  "mod download") echo "download cgo=$CGO_ENABLED toolchain=$GOTOOLCHAIN$GOFLAGS" >>"$notes/calls" ;;
  "list -f" | "list -deps") tools ;;
  build*)
    while [[ $1 != -o ]]; do shift; done
    name=$(basename "$2")
    echo "build $name" >>"$notes/calls"
    while [[ -e $notes/$name.hold ]]; do sleep 0.01; done
    [[ ! -e $notes/$name.fail ]] || {{ echo "x.go:1:2: no luck with $name" >&2; exit 1; }}
    echo "$name" >"$2" && chmod +x "$2"
    ;;
  *) echo "unexpected: go $*" >&2; exit 9 ;;
esac
"""


@dataclass(frozen=True)
class Workshop:
    """A copy of the build with an empty cache and a Go of our own."""

    folder: Path

    @property
    def cache(self) -> Path:
        return self.folder / "cache" / "devcluster"

    @property
    def command(self) -> list[str]:
        return ["env", "--default-signal=INT", str(self.folder / "devcluster" / "build")]

    def environment(self, **more: str) -> dict[str, str]:
        clean = {key: value for key, value in os.environ.items() if key not in {"KUBEBUILDER_ASSETS", "GOFLAGS"}}
        clean.pop("ENVPROV_TEST_KUBECONFIG", None)
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        return clean | {"PATH": path, "ENVPROV_CACHE": str(self.folder / "cache")} | more

    def install_go(self, version: str = "go1.26.8") -> None:
        go = self.folder / "bin" / "go"
        go.write_text(FAKE_GO.format(notes=self.folder, version=version))
        go.chmod(0o755)

    def remove_go(self) -> dict[str, str]:
        """Return an environment with the usual tools and no Go."""
        (self.folder / "bin" / "go").unlink(missing_ok=True)
        for tool in [
            "bash",
            "env",
            "sed",
            "cat",
            "cut",
            "sha256sum",
            "flock",
            "head",
            "sort",
            "mkdir",
            "rm",
            "dirname",
        ]:
            found = shutil.which(tool)
            assert found
            (self.folder / "bin" / tool).symlink_to(found)
        return self.environment(PATH=str(self.folder / "bin"))

    def build(self, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command, env=env or self.environment(), capture_output=True, text=True, check=False, timeout=60
        )

    def start(self, name: str = "first") -> subprocess.Popen[str]:
        """Start a build whose words can be read while it runs, from ``NAME.err``."""
        with (self.folder / f"{name}.err").open("w") as stderr:
            return subprocess.Popen(
                self.command,
                env=self.environment(),
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                start_new_session=True,
            )

    def calls(self, verb: str = "build") -> list[str]:
        notes = self.folder / "calls"
        lines = notes.read_text().splitlines() if notes.exists() else []
        return [line.removeprefix(f"{verb} ") for line in lines if line.startswith(f"{verb} ")]


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    shutil.copytree(SCRIPTS, tmp_path / "devcluster")
    (tmp_path / "bin").mkdir()
    made = Workshop(tmp_path)
    made.install_go()
    return made


def test_all_programs_are_built_once_with_progress(workshop: Workshop) -> None:
    first = workshop.build()
    assert first.returncode == 0, first.stderr
    assert first.stdout == f"{workshop.cache}/bin\n"
    assert sorted(path.name for path in (workshop.cache / "bin").iterdir()) == PROGRAMS
    for name in PROGRAMS:
        assert (workshop.cache / "bin" / name).read_text() == f"{name}\n"
    assert sorted(workshop.calls()) == PROGRAMS
    assert "building kubernetes (about 6 minutes on two cores, once)" in first.stderr
    assert "built kubernetes in " in first.stderr
    assert workshop.calls("download") == ["cgo=0 toolchain=local -mod=readonly"] * 5


def test_a_second_run_needs_neither_go_nor_the_network(workshop: Workshop) -> None:
    workshop.build()
    second = workshop.build(workshop.remove_go())
    assert (second.returncode, second.stdout, second.stderr) == (0, f"{workshop.cache}/bin\n", "")
    assert len(workshop.calls()) == len(PROGRAMS)


@pytest.mark.parametrize(
    "interruption", [pytest.param(signal.SIGINT, id="Ctrl-C"), pytest.param(signal.SIGKILL, id="kill -9")]
)
def test_an_interrupted_build_resumes(workshop: Workshop, interruption: signal.Signals) -> None:
    hold = workshop.folder / "kwokctl.hold"
    hold.touch()
    with workshop.start() as build:
        eventually(lambda: "kwokctl" in workshop.calls(), every=0.01, message="it does not get as far")
        assert list(workshop.cache.glob("kwok-*.building"))
        os.killpg(build.pid, interruption)
        build.wait(timeout=30)
    hold.unlink()
    assert build.returncode != 0
    assert not (workshop.cache / "bin" / "kwok").exists()
    (workshop.cache / "helm-of-another-pin.building").mkdir()
    again = workshop.build()
    assert again.returncode == 0, again.stderr
    assert sorted(path.name for path in (workshop.cache / "bin").iterdir()) == PROGRAMS
    assert not list(workshop.cache.glob("*.building"))
    # etcd and both Helms were whole; kwok began anew, with Go's own cache.
    assert sorted(set(PROGRAMS) - set(workshop.calls())) == []
    assert [name for name in PROGRAMS if workshop.calls().count(name) == 2] == ["kwok", "kwokctl"]


def test_a_second_build_waits_for_the_first(workshop: Workshop) -> None:
    hold = workshop.folder / "helm.hold"
    hold.touch()
    with workshop.start() as first:
        eventually(lambda: "helm" in workshop.calls(), every=0.01, message="the first does not get as far")
        with workshop.start("second") as second:
            try:
                eventually(
                    lambda: "another build is running; waiting" in (workshop.folder / "second.err").read_text(),
                    message="the second does not wait",
                )
            finally:
                hold.unlink()
            assert second.communicate(timeout=60)[0] == f"{workshop.cache}/bin\n"
        assert first.communicate(timeout=60)[0] == f"{workshop.cache}/bin\n"
    assert (first.returncode, second.returncode) == (0, 0)
    assert sorted(workshop.calls()) == PROGRAMS


def test_a_failure_shows_the_compilers_words_and_leaves_no_half_product(workshop: Workshop) -> None:
    (workshop.folder / "kube-scheduler.fail").touch()
    failed = workshop.build()
    assert failed.returncode == 2
    assert "k8s.io/kubernetes/cmd/kube-scheduler did not build; run again to resume." in failed.stderr
    assert "x.go:1:2: no luck with kube-scheduler" in failed.stderr
    assert failed.stdout == ""
    assert not (workshop.cache / "bin" / "kube-apiserver").exists()


def test_a_new_pin_builds_that_product_anew(workshop: Workshop) -> None:
    workshop.build()
    sums = workshop.folder / "devcluster" / "modules" / "helm" / "go.sum"
    sums.write_text(sums.read_text() + "\n")
    workshop.build()
    assert [name for name in PROGRAMS if workshop.calls().count(name) == 2] == ["helm"]
    # The old product stays for another checkout with the old pin.
    assert len(list(workshop.cache.glob("helm-*"))) == 2


@pytest.mark.parametrize(
    ("version", "said"),
    [
        pytest.param(None, "Go is missing; it builds the control plane from source.", id="missing"),
        pytest.param("go1.25.9", "Go 1.25.9 is too old; etcd needs Go 1.26", id="too old"),
        pytest.param("go1.3", "Go 1.3 is too old; etcd needs Go 1.26", id="older, though 3 > 26 as text"),
    ],
)
def test_without_a_fitting_go_both_ways_out_are_named(workshop: Workshop, version: str | None, said: str) -> None:
    env = workshop.remove_go() if version is None else None
    if version:
        workshop.install_go(version)
    refused = workshop.build(env)
    assert refused.returncode == 2
    assert said in refused.stderr
    assert "KUBEBUILDER_ASSETS=DIR" in refused.stderr
    assert all(re.search(rf"\b{name}\b", refused.stderr) for name in NEEDED)
    assert "helm3 is used if it is there" in refused.stderr
    assert "ENVPROV_TEST_KUBECONFIG=FILE" in refused.stderr
    assert not workshop.calls()


def test_a_given_folder_is_printed_and_nothing_is_built(workshop: Workshop) -> None:
    given = workshop.folder / "given"
    given.mkdir()
    for name in NEEDED:
        (given / name).touch(0o755)
    used = workshop.build(workshop.environment(KUBEBUILDER_ASSETS=str(given)))
    assert (used.returncode, used.stdout, used.stderr) == (0, f"{given}\n", "")
    (given / "etcd").chmod(0o644)
    (given / "helm").unlink()
    lacking = workshop.build(workshop.environment(KUBEBUILDER_ASSETS=str(given)))
    assert lacking.returncode == 2
    assert f"KUBEBUILDER_ASSETS names {given}, which lacks: etcd helm." in lacking.stderr
    nowhere = workshop.build(workshop.environment(KUBEBUILDER_ASSETS=f"{given}/nowhere"))
    assert nowhere.returncode == 2
    assert "which is not a folder" in nowhere.stderr
    assert not workshop.calls()


def test_with_a_given_cluster_nothing_is_built(workshop: Workshop) -> None:
    done = workshop.build(workshop.environment(ENVPROV_TEST_KUBECONFIG="/somebody/elses"))
    assert (done.returncode, done.stdout) == (0, "")
    assert not workshop.calls()
    assert not workshop.cache.exists()


@pytest.mark.skipif(shutil.which("go") is None, reason="needs Go: a computer without it does not build")
@pytest.mark.parametrize(
    ("tampered", "code"), [pytest.param(False, 0, id="as pinned"), pytest.param(True, 2, id="other content")]
)
def test_go_refuses_what_does_not_match_its_checksum(workshop: Workshop, *, tampered: bool, code: int) -> None:
    (workshop.folder / "bin" / "go").unlink()
    sums = _serve_module(workshop.folder / "proxy", "example.com/dep", "v1.0.0")
    if tampered:
        sums = sums.replace(sums.split()[2], _h1({"dep.go": "package other\n"}))
    for product in ("etcd", "helm", "helm3", "kwok", "kubernetes"):
        module = workshop.folder / "devcluster" / "modules" / product
        shutil.rmtree(module)
        (module / "tool").mkdir(parents=True)
        (module / "go.mod").write_text(
            f"module example.test/{product}\n\ngo 1.26.0\n\ntool example.test/{product}/tool\n\n"
            "require example.com/dep v1.0.0\n"
        )
        (module / "go.sum").write_text(sums)
        (module / "tool" / "main.go").write_text('package main\n\nimport _ "example.com/dep"\n\nfunc main() {}\n')
    done = workshop.build(
        workshop.environment(
            GOPROXY=f"file://{workshop.folder / 'proxy'}",
            GOMODCACHE=str(workshop.folder / "modcache"),
            GOFLAGS="-modcacherw",
            GOSUMDB="off",
        )
    )
    assert done.returncode == code, done.stderr
    assert ("checksum mismatch" in done.stderr) is tampered, done.stderr
    assert (workshop.cache / "bin" / "tool").exists() is not tampered


def _serve_module(proxy: Path, module: str, version: str) -> str:
    """Write a module the way that a module proxy serves it; return its two lines of go.sum."""
    folder = proxy / module / "@v"
    folder.mkdir(parents=True)
    files = {"go.mod": f"module {module}\n", "dep.go": "package dep\n"}
    (folder / f"{version}.info").write_text(json.dumps({"Version": version}))
    (folder / f"{version}.mod").write_text(files["go.mod"])
    with zipfile.ZipFile(folder / f"{version}.zip", "w") as archive:
        for name, text in files.items():
            archive.writestr(f"{module}@{version}/{name}", text)
    whole = _h1({f"{module}@{version}/{name}": text for name, text in files.items()})
    return f"{module} {version} {whole}\n{module} {version}/go.mod {_h1({'go.mod': files['go.mod']})}\n"


def _h1(files: dict[str, str]) -> str:
    """Source: https://pkg.go.dev/golang.org/x/mod/sumdb/dirhash#Hash1."""
    listing = "".join(f"{hashlib.sha256(text.encode()).hexdigest()}  {name}\n" for name, text in sorted(files.items()))
    return "h1:" + base64.b64encode(hashlib.sha256(listing.encode()).digest()).decode()
