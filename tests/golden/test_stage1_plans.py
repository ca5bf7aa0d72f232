"""Whole plans of pods, as files: every unit as systemd will read it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from golden.golden import assert_golden
from pod_directories import UUID, add_program, app_entry, app_root, app_section, image_manifest, make_pod
from stage1_skim.cgroups import ControlGroups
from stage1_skim.host_unit import HostUnit, UnitFile
from stage1_skim.limits import Rules
from stage1_skim.plan import Plan, make_plan
from stage1_skim.pod import read_pod
from stage1_skim.request import Request
from stage1_skim.sockets import InheritedSocket
from stage1_skim.units import Streams

HERE = Path(__file__).parent
RECIPES = HERE.parent.parent / "aci-build/recipes"


def two_apps(directory: Path) -> Path:
    """A plain pod: root, no volumes, the second after the first."""
    pod = make_pod(directory, app_entry("first", app_section("/bin/serve", "--port", "80")), app_entry("second", app_section("work")))
    add_program(app_root(pod, "first"), "/bin/serve")
    add_program(app_root(pod, "second"), "/usr/local/bin/work", "#!/bin/sh\n")
    return pod


def docker(directory: Path) -> Path:
    """The docker pod as the dockerd wrapper asks for it."""
    containerd = image_manifest(
        "skim/containerd",
        annotations={"skim/unit": (RECIPES / "containerd.unit").read_text(), "skim/libraries": "0123456789abcdef0123456789abcdef"},
    )
    engine = image_manifest("skim/docker", annotations={"skim/unit": (RECIPES / "docker.unit").read_text()})
    path = {"name": "PATH", "value": "/usr/sbin:/usr/bin"}
    pod = make_pod(
        directory,
        app_entry("containerd", app_section("/usr/bin/containerd", environment=[path])),
        app_entry(
            "docker",
            app_section(
                "/usr/sbin/dockerd", "-H", "fd://", environment=[path], mountPoints=[{"name": "lib-modules", "path": "/lib/modules"}]
            ),
            mounts=[{"volume": "lib-modules", "path": "/lib/modules"}],
            annotations={
                "skim/pod-name": "docker",
                "skim/path-from": "containerd",
                "skim/unit": "[Service]\nSockets=docker.socket\n",
                "skim/host-unit": "docker.service",
            },
        ),
        images={"containerd": containerd, "docker": engine},
        volumes=[{"name": "lib-modules", "kind": "host", "source": "/usr/lib", "readOnly": True}],
    )
    add_program(app_root(pod, "containerd"), "/usr/bin/containerd")
    add_program(app_root(pod, "docker"), "/usr/sbin/dockerd")
    return pod


def every_byte(directory: Path) -> Path:
    """Arguments that mean something to systemd, to a shell, to nobody."""
    words = ("%n", "$HOME", "$$", '"', "'", "\\", "a\nb", " ", "", "Ж", "\x01", ";")
    variables = [{"name": "ODD", "value": '%h "$x" \\ `id`\nsecond line '}]
    app = app_section("/bin/echo", *words, environment=variables, workingDirectory="/100%")
    pod = make_pod(directory, app_entry("a", app))
    add_program(app_root(pod, "a"), "/bin/echo")
    (app_root(pod, "a") / "100%").mkdir()
    return pod


def not_root(directory: Path) -> Path:
    """A user of the image's with limits: the launcher gives up what systemd would take from it too early."""
    isolators = [
        {"name": "resource/memory", "value": {"limit": "1G"}},
        {"name": "resource/memory", "value": {"limit": "64Mi"}},
        {"name": "resource/cpu", "value": {"limit": "250m"}},
        {"name": "os/linux/cpu-shares", "value": 512},
        {"name": "os/linux/oom-score-adj", "value": -5},
        {"name": "os/linux/capabilities-remove-set", "value": {"set": ["CAP_NET_RAW", "CAP_SYS_ADMIN"]}},
        {"name": "os/linux/seccomp-remove-set", "value": {"set": ["@systemd/clock", "reboot"], "errno": "EPERM"}},
    ]
    handlers = [{"name": "pre-start", "exec": ["/bin/prepare", "it"]}]
    app = app_section("/bin/web", user="web", group="33", supplementaryGIDs=[7], isolators=isolators, eventHandlers=handlers)
    pod = make_pod(directory, app_entry("web", app, readOnlyRootFS=True))
    add_program(app_root(pod, "web"), "/bin/web")
    add_program(app_root(pod, "web"), "/bin/prepare")
    (app_root(pod, "web") / "etc").mkdir()
    (app_root(pod, "web") / "etc/passwd").write_text("web:x:1000:33::/srv:/bin/sh\n")
    (app_root(pod, "web") / "srv").mkdir()
    return pod


def restricted(directory: Path) -> Path:
    """Root with isolators, handlers, sockets, a read-only root, and another order than the list's."""
    isolators = [
        {"name": "os/linux/capabilities-retain-set", "value": {"set": ["CAP_NET_BIND_SERVICE"]}},
        {"name": "os/linux/seccomp-retain-set", "value": {"set": ["@rkt/default-whitelist", "mount"], "errno": "ENOSYS"}},
        {"name": "os/linux/no-new-privileges", "value": True},
    ]
    handlers = [{"name": "pre-start", "exec": ["prepare", "100%"]}, {"name": "post-stop", "exec": ["/bin/tidy"]}]
    ports = [
        {"name": "http", "protocol": "tcp", "port": 80, "socketActivated": True},
        {"name": "names", "protocol": "udp", "port": 5300, "count": 2, "socketActivated": True},
        {"name": "given", "protocol": "tcp", "port": 8443, "socketActivated": True},
    ]
    front = app_section("/bin/front", isolators=isolators, eventHandlers=handlers, ports=ports)
    allowed = [{"name": "os/linux/seccomp-retain-set", "value": {"set": ["@systemd/network-io", "write"]}}]
    pod = make_pod(
        directory,
        app_entry("front", front, readOnlyRootFS=True, annotations={"skim/after": "store, queue"}),
        app_entry("store", app_section("/bin/store", isolators=allowed), annotations={"skim/after": ""}),
        app_entry("queue", app_section("/bin/queue"), annotations={"skim/after": ""}),
        images={"queue": image_manifest("example.com/queue", annotations={"appc.io/executor/supports-systemd-notify": "true"})},
        ports=[{"name": "http", "hostPort": 8080, "hostIP": "127.0.0.1"}],
    )
    for app, path in (("front", "/bin/front"), ("front", "/bin/prepare"), ("front", "/bin/tidy"), ("store", "/bin/store")):
        add_program(app_root(pod, app), path)
    add_program(app_root(pod, "queue"), "/bin/queue")
    return pod


def ignored(directory: Path) -> Path:
    """Everything that is not honoured, each named in a warning."""
    isolators = [
        {"name": "os/linux/selinux-context", "value": {"user": "u", "role": "r", "type": "t", "level": "l"}},
        {"name": "os/unix/sysctl", "value": {"kernel.msgmax": "65536"}},
        {"name": "resource/block-bandwidth", "value": {"default": True, "limit": "2M"}},
        {"name": "resource/block-iops", "value": {"default": True, "limit": "1000"}},
        {"name": "resource/network-bandwidth", "value": {"default": True, "limit": "1G"}},
    ]
    modes = {f"coreos.com/rkt/stage2/{name}": mode for name, mode in (("stdin", "stream"), ("stdout", "tty"), ("stderr", "log"))}
    ports = [{"name": "http", "protocol": "tcp", "port": 80}, {"name": "sctp", "protocol": "sctp", "port": 81, "socketActivated": True}]
    points = [{"name": "cache", "path": "/cache"}]
    app = app_section("/bin/app", isolators=isolators, ports=ports, mountPoints=points)
    pod = make_pod(
        directory,
        app_entry("app", app, annotations=modes),
        isolators=[{"name": "resource/memory", "value": {"limit": "1G"}}],
        annotations=[{"name": "coreos.com/rkt/experiment/logmode", "value": "k8s-plain"}],
        ports=[{"name": "http", "hostPort": 8080}],
    )
    add_program(app_root(pod, "app"), "/bin/app")
    return pod


PODS = [two_apps, docker, every_byte, not_root, restricted, ignored]

DROP_IN = """\
[Unit]
After=postgresql.service
[Service]
Environment=HTTP_PROXY=http://127.0.0.1:3128
ExecStart=
ExecStart=/usr/bin/dockerd -H fd:// --debug
MemoryMax=2G
LimitNOFILE=\\
# a comment between
    4096
Slice=big.slice
"""


def plan_of(directory: Path) -> Plan:
    pod = read_pod(str(directory), UUID)
    streams = Streams(stdout="append:/proc/42/fd/9", stderr="append:/proc/42/fd/11")
    request = Request(
        inherited={"NOTIFY_SOCKET": "/run/systemd/notify"},
        rules=Rules(groups=ControlGroups(unified=True, controllers=frozenset(("cpu", "memory")))),
        sockets=(InheritedSocket(unit="web.socket", protocol="tcp", port=8443),),
        host_units={
            app.name: HostUnit(unit, (UnitFile(f"/etc/systemd/system/{unit}.d/10-limits.conf", DROP_IN),))
            for app in pod.apps
            if (unit := app.entry.annotation("skim/host-unit"))
        },
    )
    return make_plan(pod, request, streams=lambda app: streams)


def everything(plan: Plan) -> str:
    files = "".join(
        f"--- {file.path} ({file.mode:04o})\n{file.text}{'' if file.text.endswith(chr(10)) else chr(10)}" for file in plan.files
    )
    warnings = "".join(f"warning: {warning}\n" for warning in plan.warnings)
    return plan.text() + files + warnings


@pytest.mark.parametrize("pod", PODS, ids=lambda make: make.__name__)
def test_plan(pod: Any, tmp_path: Path) -> None:
    directory = pod(tmp_path / "pod")
    text = everything(plan_of(directory)).replace(str(directory), "$POD").replace(UUID, "$UUID").replace(UUID.replace("-", ""), "$UUIDHEX")
    assert_golden(HERE / "stage1" / f"{pod.__name__}.txt", text)


@pytest.mark.parametrize("pod", PODS, ids=lambda make: make.__name__)
def test_units_hold_for_systemd(pod: Any, tmp_path: Path) -> None:
    """`systemd-analyze verify` of every unit, with programs that exist in the place of the pod's."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    paths = []
    for file in plan_of(pod(tmp_path / "pod")).unit_files:
        lines = file.text.splitlines(keepends=True)
        # The programs are not on this machine, and what must be absolute must exist to be verified.
        text = "".join(_with_existing_program(line) for line in lines)
        path = tmp_path / Path(file.path).name
        path.write_text(text)
        paths.append(str(path))
    (tmp_path / f"rkt-{UUID}.scope").write_text("")
    for name in ("docker", "web"):
        (tmp_path / f"{name}.socket").write_text(f"[Socket]\nListenStream=/run/{name}.sock\nService={name}.service\n")
    done = subprocess.run([analyze, "verify", "--man=no", "--generators=no", *paths], capture_output=True, text=True, check=False)
    complaints = [line for line in done.stderr.splitlines() if UUID in line and ".scope" not in line]
    assert complaints == []


def _with_existing_program(line: str) -> str:
    if line.startswith(("ExecStart", "ExecStop")):
        setting, _, command = line.partition("=")
        prefix, _, rest = command.partition('"')
        return f'{setting}={prefix}"/bin/true"{rest.partition(chr(34))[2]}'
    return line
