"""A directory that stands for a host in tests of `skim`, with fake programs of the host."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine import before, host, own_units
from engine.layout import Layout

DIGEST = "0123456789abcdef" * 2
# A host: systemctl and rkt write down what they are asked and do the little that setup looks at.
SYSTEMCTL = """#!/bin/sh
echo "systemctl $*" >>"@/log"
case "$1" in
is-active) cat "@/active-$2" 2>/dev/null || { echo inactive; exit 3; } ;;
is-enabled) [ -e "@/enabled-$2" ] ;;
restart) [ ! -e "@/restart-fails" ] || { echo "Job failed." >&2; exit 1; } ;;
esac
"""
RKT = """#!/bin/sh
echo "rkt $*" >>"@/log"
case "$1 $2" in
"fetch "*) [ ! -e "@/fetch-fails" ] || { echo "run: bad image" >&2; exit 254; }
    for path; do :; done; basename "$path" .aci | sed 's/^/sha512-/' ;;
"image list") cat "@/images" 2>/dev/null || : ;;
"image cat-manifest") for key; do :; done
    printf '{"acKind":"ImageManifest","acVersion":"0.8.11","name":"skim/%s","labels":[{"name":"version","value":"1.2"}],
     "annotations":[{"name":"skim/libraries","value":"%s"}]}' "${key#sha512-}" "$(cat "@/digest")" ;;
esac
"""


def make_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """A host below `tmp_path` with the appliance's files on it and no engine set up; its programs are first on PATH."""
    layout = Layout(root=str(tmp_path))
    monkeypatch.setattr(host, "require_root", lambda command: None)
    monkeypatch.setattr(before, "_group_exists", lambda group: True)
    for directory in ("run/systemd/system", "run/skim/engine", "etc/systemd/system.attached", "etc/skim", "var/lib", "usr/local/bin"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "usr/local/bin/docker").symlink_to("/run/skim/docker/docker/usr/bin/docker")  # as `make install` does
    lines = []
    for role in ("stage1", "containerd", "docker"):
        (tmp_path / f"{role}.aci").write_text(role)
        lines.append(f"{role.upper()}_IMAGE={tmp_path}/{role}.aci\n")
        tree = tmp_path / f"var/lib/rkt/cas/tree/deps-{role}"
        tree.mkdir(parents=True)
        (tree / "image").write_text(f"sha512-{role}")
        (tree / "rendered").touch()
    (tmp_path / "etc/skim/docker.conf").write_text("".join(lines))
    (tmp_path / "digest").write_text(DIGEST)
    programs = {
        "bin/systemctl": SYSTEMCTL,
        "opt/skim/bin/rkt": RKT,
        "opt/skim/libexec/collect-pods": '#!/bin/sh\necho "collect-pods $*" >>"@/log"\n',
        "bin/systemd-sysusers": "#!/bin/sh\n",
        "bin/systemd-tmpfiles": "#!/bin/sh\n",
        "run/skim/engine/docker/usr/bin/docker": "#!/bin/sh\n",
        "run/skim/engine/containerd/usr/bin/containerd": "#!/bin/sh\n",
        "run/skim/engine/docker/usr/libexec/docker/cli-plugins/docker-compose": "#!/bin/sh\n",
        "run/skim/engine/docker/usr/share/zsh/vendor-completions/_docker": "",
        "run/skim/engine/docker/usr/share/man/man5/Dockerfile.5.gz": "",
        "run/skim/engine/docker/usr/share/man/man1/tini.1.gz": "",
        "run/skim/engine/containerd/usr/share/man/man8/ctr.8.gz": "",
        **{f"opt/skim/lib/systemd/system/{name}": f"# {name}\n" for name in own_units.NAMES},
    }
    for name, text in programs.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text.replace("@", str(tmp_path)) if "$" in text else text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    return layout


def log(layout: Layout) -> list[str]:
    """What the programs were asked since the last call."""
    path = Path(layout.root, "log")
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


def unit_files(layout: Layout) -> dict[str, str]:
    """Those of mounts."""
    return {path.name: path.read_text() for path in Path(layout.units).iterdir() if path.name not in own_units.NAMES}


def host_links(layout: Layout) -> dict[str, str]:
    """Every link below /usr/local, and what it says."""
    top = Path(layout.at("/usr/local"))
    return {f"/usr/local/{path.relative_to(top)}": os.readlink(path) for path in top.rglob("*") if path.is_symlink()}


def files(layout: Layout) -> dict[str, str]:
    """What is below /etc and /var/lib/skim: links by what they say."""
    found = {}
    for top in ("etc", "var/lib/skim"):
        for path in Path(layout.root, top).rglob("*"):
            if path.is_symlink() or path.is_file():
                found[str(path.relative_to(layout.root))] = os.readlink(path) if path.is_symlink() else path.read_text()
    return found
