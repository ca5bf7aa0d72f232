"""Whole commands of stage0 as processes, with a stage1 of shell scripts.

Those that mount do so in a mount namespace of their own, which every command of a test enters.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from appc.tar import FILE, Header, header_blocks
from stub_stage1 import stub_stage1
from unit.stage0_process import Stage0, lines, needs_root


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


# Without root.


def test_version_and_help(stage0: Stage0) -> None:
    assert stage0.ok("version").splitlines()[:2] == ["rkt Version: 1.30.0", "appc Version: 0.8.11"]
    assert "\tlist - List pods\n" in stage0.ok("help", "list")
    assert stage0.ok("list", "--help") == stage0.ok("help", "list")
    missing = stage0()
    assert (missing.returncode, missing.stderr) == (2, "rkt: missing command\n")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["frob"], 'Error: unknown command "frob" for "rkt"\nRun \'rkt --help\' for usage.\n'),
        (["list", "--frob"], "Error: unknown flag: --frob\n\n"),
        (["status", "x"], 'status: problem retrieving pod: no matches found for "x"\n'),
        (["stop", "x"], 'stop: cannot get pod: no matches found for "x"\nstop: failed to stop 1 pod(s)\n'),
        (["trust"], 'trust: the command "trust" is not implemented by this launcher'),
        (["app", "add", "x"], 'app: the command "app" is not implemented by this launcher (the embedded stage1 has no mutable pods'),
        (["attach", "x"], 'attach: the command "attach" is not implemented by this launcher (no output is held back'),
        (["config", "--x", "y"], 'config: the command "config" is not implemented by this launcher'),
        (["--debug", "status", "x"], 'status: problem retrieving pod\n  └─unable to resolve UUID\n    └─no matches found for "x"\n'),
    ],
)
def test_errors(stage0: Stage0, arguments: list[str], error: str) -> None:
    done = stage0(*arguments)
    assert done.returncode == 254
    assert done.stderr.startswith(error)


def test_empty_lists(stage0: Stage0) -> None:
    assert stage0("list").stdout == "UUID\tAPP\tIMAGE NAME\tSTATE\tCREATED\tSTARTED\tNETWORKS\n"
    assert stage0("list", "--no-legend").stdout == "\n"
    assert stage0("list", "--format=json").stdout == "null\n"


def test_output_is_the_same_in_every_locale(stage0: Stage0) -> None:
    stage0.environment.update(LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert "└─" in stage0("--debug", "status", "x").stderr


def test_unreadable_pod_does_not_hide_the_others(stage0: Stage0) -> None:
    for uuid in ("11111111-0000-4000-8000-000000000000", "22222222-0000-4000-8000-000000000000"):
        stage0.pod(uuid).mkdir(parents=True)
        (stage0.pod(uuid) / "pod").write_text('{"acVersion":"1.30.0","acKind":"PodManifest","apps":[]}' if uuid[0] == "2" else "{")
    done = stage0("list")
    assert done.returncode == 0
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["UUID", "22222222"]
    assert done.stderr.startswith("list: 1 error(s) encountered when listing pods:\nlist: ----")
    assert "Unable to read pod 11111111-0000-4000-8000-000000000000 manifest:" in done.stderr


def test_interrupt_ends_without_traceback(stage0: Stage0) -> None:
    uuid = "11111111-0000-4000-8000-000000000000"
    stage0.pod(uuid).mkdir(parents=True)
    held = os.open(stage0.pod(uuid), os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    waiting = stage0.start("status", "--wait", uuid)
    time.sleep(1)
    waiting.send_signal(signal.SIGINT)
    assert waiting.communicate()[1] == ""
    assert waiting.returncode == -signal.SIGINT
    os.close(held)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_nothing_of_an_import(stage0: Stage0, number: int) -> None:
    large = stage0.directory / "large.aci"
    with large.open("wb") as file:
        file.write(header_blocks(Header(name="rootfs/large", kind=FILE, size=1 << 32)))
        file.truncate(1 << 32)
    scratch = stage0.data / "cas/tmp"
    fetching = stage0.start("fetch", str(large))
    wait_for(lambda: scratch.is_dir() and [path for path in scratch.iterdir() if path.stat().st_size])
    fetching.send_signal(number)
    assert fetching.communicate() == ("", "")
    assert fetching.returncode == -number
    assert not [path for path in (stage0.data / "cas").rglob("*") if path.is_file()]


@needs_root
def test_unsigned_file_is_refused(stage0: Stage0) -> None:
    command = [sys.executable, "-m", "stage0", f"--dir={stage0.data}", "prepare", f"--stage1-path={stage0.stage1}", str(stage0.app)]
    done = subprocess.run(command, env=stage0.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 254
    assert "--insecure-options=image" in done.stderr
    assert len(done.stderr.splitlines()) == 1


# With root, by copies.


@needs_root
def test_prepared_directory_has_what_the_contract_lists(stage0: Stage0) -> None:
    pod = stage0.pod(stage0.prepare("--no-overlay"), "prepared")
    modes = {str(path.relative_to(pod)): path.lstat().st_mode & 0o7777 for path in pod.rglob("*")}
    for name, mode in (
        ("pod", 0o640),
        ("pod.lck", 0o600),
        ("pod-created", 0o640),
        ("stage1TreeStoreID", 0o640),
        ("stage1/manifest", 0o640),
        ("appsinfo", 0o750),
        ("appsinfo/app/manifest", 0o640),
        ("stage1/rootfs/opt/stage2/app", 0o750),
        ("stage1/rootfs/opt/stage2/app/manifest", 0o644),
        ("stage1/rootfs/opt/stage2/app/rootfs/bin/app", 0o755),
    ):
        assert modes.get(name) == mode, name
    assert "overlay-prepared" not in modes
    assert "appsinfo/app/treeStoreID" not in modes
    assert pod.stat().st_mode & 0o7777 == 0o750
    assert not (pod / "pod").read_text().endswith("\n")


@needs_root
def test_run_prepared_hands_over_as_the_contract_says(stage0: Stage0) -> None:
    uuid = stage0.prepare("--no-overlay")
    done = stage0("run-prepared", uuid, "--hostname=h", "--dns=8.8.8.8", "--net=host", STUB_STATUS="5", MINE="1")
    assert (done.returncode, done.stdout) == (5, "ran\n")
    pod = stage0.pod(uuid)
    assert lines(pod / "run-arguments") == [
        str(pod / "stage1/rootfs/stub/run"),
        "--net=host",
        "--hostname=h",
        "--dns-conf-mode=resolv=stage0,hosts=default",
        uuid,
    ]
    assert lines(pod / "run-directory") == lines(pod / "run-lock") == [str(pod)]
    environment = lines(pod / "run-environment")
    assert {"MINE=1", "RKT_SELINUX_CONTEXT=", "RKT_SELINUX_MOUNT_CONTEXT="} <= set(environment)
    # SIGPIPE (13) is not left ignored, as Python itself has it.
    assert int(lines(pod / "run-signals")[0].split()[1], 16) & 1 << 12 == 0
    assert (pod / "stage1/rootfs/etc/rkt-resolv.conf").read_text() == "# Generated by rkt run\n\nnameserver 8.8.8.8\n"
    assert os.readlink(pod / "stage1/rootfs/opt/stage2/app/rootfs/etc/mtab") == "../proc/self/mounts"
    assert stage0("run-prepared", uuid).stderr == f'run-prepared: pod "{uuid}" is not prepared\n'


@needs_root
def test_life_of_a_pod(stage0: Stage0) -> None:
    saved = stage0.directory / "uuid"
    run = ["run", "--no-overlay", f"--stage1-path={stage0.stage1}", f"--uuid-file-save={saved}", str(stage0.app), "--name=app"]
    running = stage0.start(*run, STUB_WAIT="1")
    wait_for(
        lambda: (
            saved.exists() and saved.read_text() and (stage0.pod(saved.read_text()) / "stage1/rootfs/rkt/supervisor-status").is_symlink()
        )
    )
    uuid = saved.read_text()
    pod = stage0.pod(uuid)
    status = stage0.ok("status", f"--uuid-file={saved}").splitlines()
    assert [line.partition("=")[0] for line in status] == ["state", "created", "started", "networks", "pid", "exited"]
    assert (status[0], status[-2], status[-1]) == ("state=running", f"pid={running.pid}", "exited=false")
    assert stage0("status", "--wait=100ms", uuid).stderr == "status: error waiting for pod to finish: context deadline exceeded\n"
    assert stage0("status", "--wait-ready=100ms", uuid).returncode == 0
    assert stage0("rm", uuid).returncode == 254
    assert stage0.ok("enter", uuid, "ls", "-l") == "said"
    tree = (pod / "stage1TreeStoreID").read_text()
    enter = [f"{stage0.data}/cas/tree/{tree}/rootfs/stub/enter", f"--pid={running.pid}", "--appname=app", "--", "ls", "-l"]
    assert lines(pod / "enter-arguments") == enter
    assert lines(pod / "enter-directory") == [str(pod)]
    assert stage0.ok("stop", "--force", uuid[:8]) == f'said\n"{uuid}"'
    assert lines(pod / "stop-arguments") == [f"{pod}/stage1/rootfs/stub/stop", "--force", uuid]
    assert running.communicate()[0] == "ran\n"
    assert running.returncode == 0
    assert stage0.ok("stop", uuid) == f'pod "{uuid}" is already stopped'
    assert stage0.ok("status", uuid).splitlines()[-2:] == ["exited=true", "app-app=0"]
    described = json.loads(stage0.ok("list", "--format=json"))[0]
    assert (described["name"], described["state"], described["apps"][0]["exit_code"]) == (uuid, "exited", 0)
    assert f'gc: moving pod "{uuid}" to garbage\n' in stage0("gc").stderr
    assert stage0.pods() == {"exited-garbage": [uuid]}
    assert stage0.ok("gc", "--grace-period=0s") == f'Garbage collecting pod "{uuid}"'
    assert stage0.pods() == {}


@needs_root
def test_missing_entrypoints(stage0: Stage0) -> None:
    stub_stage1(stage0.stage1, without=("stop", "enter"))
    uuid = stage0.prepare("--no-overlay")
    running = stage0.start("run-prepared", uuid, STUB_WAIT="1")
    pod = stage0.pod(uuid)
    wait_for((pod / "pid").exists)
    missing = 'entrypoint "coreos.com/rkt/stage1/{}" not found\n'
    assert stage0("enter", uuid, "x").stderr == "enter: enter failed: " + missing.format("enter")
    stop = f'stop: error stopping "{uuid}": rkt stop not implemented for pod\'s stage1: ' + missing.format("stop")
    assert stage0("stop", uuid).stderr == stop + "stop: failed to stop 1 pod(s)\n"
    (pod / "stop-arguments").touch()
    running.communicate()
    stub_stage1(stage0.stage1, without=("run",))
    uuid = stage0.prepare("--no-overlay")
    assert "stage0: error determining 'run' entrypoint: " + missing.format("run") in stage0("run-prepared", uuid).stderr
    assert stage0.ok("status", uuid).splitlines()[0] == "state=exited"


@needs_root
def test_user_mistakes_leave_no_pod(stage0: Stage0) -> None:
    prepare = ["prepare", "--no-overlay", f"--stage1-path={stage0.stage1}"]
    for arguments, message in (
        ([str(stage0.app), str(stage0.app)], "error setting up stage0: error: multiple apps with name app"),
        ([str(stage0.app), "--name=Bad"], "error setting up stage0: ACName must contain only lower case"),
        (["--port=http:80", str(stage0.app)], 'error setting up stage0: port name "http" could not be found in any apps'),
        (["example.com/nothing"], "error finding images: "),
        ([str(stage0.directory / "missing.aci")], "error finding images: "),
        ([str(stage0.app), "--working-dir=x"], "error setting up stage0: "),
    ):
        done = stage0(*prepare, *arguments)
        assert done.returncode == 254
        assert done.stderr.startswith(f"prepare: {message}"), done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert not (stage0.data / "pods").exists() or stage0.pods() == {}


@needs_root
def test_pod_manifest_is_taken_byte_for_byte(stage0: Stage0) -> None:
    uuid = stage0.prepare("--no-overlay")
    text = (stage0.pod(uuid, "prepared") / "pod").read_text().replace(',"', ' ,\n"') + "\n\n"
    path = stage0.directory / "pod.json"
    path.write_text(text)
    again = stage0.ok("prepare", "--no-overlay", f"--stage1-path={stage0.stage1}", f"--pod-manifest={path}")
    assert (stage0.pod(again, "prepared") / "pod").read_text() == text
    assert json.loads(stage0.ok("cat-manifest", again)) == json.loads(text)
    path.write_text(re.sub("sha512-[0-9a-f]{64}", "sha512-" + "0" * 64, text))
    done = stage0("prepare", "--no-overlay", f"--stage1-path={stage0.stage1}", f"--pod-manifest={path}")
    assert done.stderr.startswith("prepare: error setting up stage0: could not find image")


# With root, by overlay.


@needs_root
def test_copies_where_overlay_cannot_be(mounting: Stage0) -> None:
    directories = {name: mounting.directory / "on-overlay" / name for name in ("lower", "upper", "work")}
    for directory in (*directories.values(), mounting.data):
        directory.mkdir(parents=True)
    options = ",".join(f"{name}dir={path}" for name, path in directories.items())
    done = subprocess.run([*mounting.prefix, "mount", "-t", "overlay", "none", str(mounting.data), "-o", options], check=False)
    if done.returncode != 0:
        pytest.skip("needs overlay: cannot be mounted here")
    run = mounting("run", f"--stage1-path={mounting.stage1}", str(mounting.app), "--name=app")
    assert (run.returncode, run.stdout) == (0, "ran\n")
    assert run.stderr.startswith('run: disabling overlay support: "unsupported filesystem: overlay"\n')
    assert mounting.ok("gc", "--grace-period=0s").startswith("Garbage collecting pod")
