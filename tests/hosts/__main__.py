"""`python -m hosts`: boot a throw-away host by hand, look into it, and clear up."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from hosts import cache, cgroup, image, nspawn, sources, sweep, vm
from hosts.host import ENVIRONMENT, HostError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m hosts", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    build = verbs.add_parser("build", help="build a cached root (and a VM's disk) if it is not there")
    build.add_argument("flavour", nargs="+", choices=list(image.FLAVOURS))
    boot = verbs.add_parser("boot", help="boot a fresh host and open a shell in it; it is gone after")
    boot.add_argument(
        "--flavour", default="", choices=["", *image.FLAVOURS], help="debian12 (a container) if not given, debian12-vm with --vm"
    )
    boot.add_argument("--vm", action="store_true", help="a virtual machine instead of a container")
    boot.add_argument("--name", help="what to call it")
    boot.add_argument("--root-from", metavar="DIRECTORY", help="copy this directory's content into the host's root before it boots")
    boot.add_argument("--keep", action="store_true", help="leave it up, and say its name")
    boot.add_argument("command", nargs="*", help="run this instead of a shell (after --)")
    verbs.add_parser("list", help="hosts that are up")
    execute = verbs.add_parser("exec", help="run a command, or a shell, in a host that is up")
    execute.add_argument("name")
    execute.add_argument("command", nargs="*")
    stop = verbs.add_parser("stop", help="shut a kept host down and remove it")
    stop.add_argument("name")
    verbs.add_parser("sweep", help="clear away what killed runs left")
    verbs.add_parser("packages", help="the Debian packages that hosts need on this machine")
    arguments = parser.parse_args()
    actions = {"build": _build, "boot": _boot, "list": _list, "exec": _execute, "stop": _stop, "sweep": _sweep, "packages": _packages}
    try:
        return actions[arguments.verb](arguments)
    except (HostError, image.BuildError, sources.NoMirror) as error:
        print(f"hosts: {error}", file=sys.stderr)
        return 1


def _build(arguments: argparse.Namespace) -> int:
    for name in arguments.flavour:
        print(image.disk(image.FLAVOURS[name]).image.parent if "-vm" in name else image.root(image.FLAVOURS[name]))
    return 0


def _boot(arguments: argparse.Namespace) -> int:
    def prepare(root: Path) -> None:
        subprocess.run(["cp", "-a", "--no-target-directory", arguments.root_from, os.fspath(root)], check=True)

    kind: type[vm.VmHost] | type[nspawn.NspawnHost] = vm.VmHost if arguments.vm else nspawn.NspawnHost
    if reason := (vm if arguments.vm else nspawn).lacking():
        print(f"hosts: {reason}", file=sys.stderr)
        return 1
    flavour = image.FLAVOURS[arguments.flavour or ("debian12-vm" if arguments.vm else "debian12")]
    with kind(flavour, prepare=prepare if arguments.root_from else None, name=arguments.name) as host:
        host.boot()
        status = 0
        if arguments.command or not arguments.keep:
            status = _spawn(host.folder, arguments.command)
        if arguments.keep:
            host.keep()
            print(host.name)
            cache.to_stderr(f"a shell in it: python -m hosts exec {host.name}    its end: python -m hosts stop {host.name}")
    return status


def _list(_: argparse.Namespace) -> int:
    for folder, record in sweep.running():
        print(f"{record.name}\t{record.kind}\t{folder}")
    return 0


def _execute(arguments: argparse.Namespace) -> int:
    found = _find(arguments.name)
    return 1 if found is None else _spawn(found, arguments.command)


def _find(name: str) -> Path | None:
    for folder, record in sweep.running():
        if record.name == name:
            return folder
    print(f"hosts: no host {name} is up; see: python -m hosts list", file=sys.stderr)
    return None


def _spawn(folder: Path, command: list[str]) -> int:
    """Run `command`, or a login shell, on the host whose directory this is, with our input and output; the status, as a shell has it."""
    argv = command or ["bash", "-l"]
    environment = ENVIRONMENT | {"TERM": os.environ.get("TERM", "dumb")}
    pid = nspawn.pid1_of(folder)
    if pid is None:
        status = subprocess.run(vm.ssh_argv(folder, argv, environment, tty=os.isatty(0)), check=False).returncode
    else:
        groups = nspawn.session_groups(pid)
        status = subprocess.run(nspawn.nsenter_argv(pid, argv, environment), check=False, preexec_fn=lambda: cgroup.join(groups)).returncode
    return status if status >= 0 else 128 - status


def _stop(arguments: argparse.Namespace) -> int:
    found = _find(arguments.name)
    if found is None:
        return 1
    os.kill(int((found / "guardian.pid").read_text()), signal.SIGTERM)
    while found.exists():
        time.sleep(0.05)
    return 0


def _sweep(_: argparse.Namespace) -> int:
    sweep.sweep()
    return 0


def _packages(_: argparse.Namespace) -> int:
    lines = (Path(__file__).with_name("packages.txt")).read_text().splitlines()
    print("\n".join(line for line in lines if line and not line.startswith("#")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
