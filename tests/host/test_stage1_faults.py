"""Faults of the first prototype of this stage1 that no other test here looks for: docs/stage1.md lists all 48 with their tests."""

from __future__ import annotations

import re

import pytest

from field_pods import RKT, FieldPods
from running_pods import leftovers

PODS = "/var/lib/rkt/pods"


def reloads(pods: FieldPods) -> int:
    """How often systemd has read all its units again since it booted."""
    lines = pods.host.check("journalctl --sync; journalctl -q -b -o cat --no-pager _PID=1")
    return sum(bool(re.match(r"Reloading(\.|\.\.\.| requested)", line)) for line in lines.splitlines())


@pytest.mark.parametrize("directory", ["/", "/srv", "/opt/two"])
@pytest.mark.parametrize("path", ["/opt/one:/bin", ":/opt/one::/bin:"])
def test_path_leads_into_the_image_first_and_then_to_the_host(pods: FieldPods, path: str, directory: str) -> None:
    """Fault 7: whatever the working directory, also where the image sets PATH; no empty element, which would be the current directory."""
    environment = [{"name": "PATH", "value": path}]
    result = pods.run(pods.shell("echo $PATH; tool; command -v systemctl", environment=environment, workingDirectory=directory))
    way = f"/run/skim/{result.uuid}/app"
    assert result.lines == [f"{way}/opt/one:{way}/bin:/opt/one:/bin", f"one: {way}/opt/one/tool ", "/bin/systemctl"]


def test_no_program_of_the_host_is_needed(pods: FieldPods) -> None:
    """Fault 20: a pod with everything in it where those that the prototype called do nothing but fail."""
    programs = " ".join(f"/usr/bin/{name}" for name in ("systemctl", "systemd-run", "kill", "cat", "dash"))
    handlers = [{"name": name, "exec": ["/bin/sh", "-c", f"echo {name}"]} for name in ("pre-start", "post-stop")]
    script = "echo runs; while :; do /bin/busybox sleep 0.05; done"
    mounts = [{"volume": "e", "path": "/mnt"}]
    entry = pods.shell(f"trap 'exit 0' TERM; {script}", user="web", eventHandlers=handlers, mounts=mounts)
    pods.write(entry, pods.shell("exec /bin/busybox sleep 1000", "second"), volumes=[{"name": "e", "kind": "empty"}])
    hide = f"for p in {programs}; do [ ! -e $p ] || mount --bind /usr/bin/false $p; done; /bin/sh -c true && echo not hidden"
    show = f"for p in {programs}; do [ ! -e $p ] || umount $p; done"
    steps = (
        f"rm -f /tmp/uuid; {hide}; {pods.command()} > /tmp/output 2>&1 & "
        f"until {RKT} status --wait-ready=20s --uuid-file=/tmp/uuid; do sleep 0.1; done > /dev/null 2>&1; "
        f"{RKT} stop --uuid-file=/tmp/uuid > /dev/null; wait $!; echo run $?; {RKT} rm --uuid-file=/tmp/uuid >/dev/null; echo rm $?; {show}"
    )
    uuid = ""
    try:
        done = pods.host.run(["/bin/busybox", "sh", "-c", steps])
        uuid = pods.host.read("/tmp/uuid").decode()
    finally:
        pods.host.run(["/bin/busybox", "sh", "-c", f"{show} 2>/dev/null"])
    assert done.stdout == "run 0\nrm 0\n", done.stderr
    assert [line for line in pods.host.read("/tmp/output").decode().splitlines() if "journalctl" in line or "false" in line] == []
    assert {"app: pre-start", "app: runs", "app: post-stop"} <= set(pods.host.read("/tmp/output").decode().splitlines())
    assert leftovers(pods.host, uuid) == ""


def test_the_end_of_an_app_that_is_not_root_is_the_pods(pods: FieldPods) -> None:
    """Fault 19."""
    with pods.ended(pods.shell("exit 6", user="web", group="www")) as result:
        assert result.status == 6
        assert "app-app=6" in pods.host.check(f"{RKT} status {result.uuid}")


def test_a_start_that_fails_half_way_leaves_nothing(pods: FieldPods) -> None:
    """Fault 22: by then files are written, volumes mounted, and the ways to the roots open."""
    pods.host.check("mkdir -p /run/skim/taken")
    entry = pods.shell("true", annotations={"skim/pod-name": "taken"}, mounts=[{"volume": "v", "path": "/mnt"}])
    with pods.ended(entry, volumes=[{"name": "v", "kind": "host", "source": "/srv"}]) as result:
        assert result.status == 254
        assert "/run/skim/taken is a directory" in result.stderr
        assert pods.host.run(f"ls /run/systemd/system /run/skim | grep {result.uuid}").stdout == ""
        assert pods.host.run(f"grep -e /run/skim/{result.uuid} -e rootfs/mnt /proc/self/mountinfo").stdout == ""
    pods.host.check("rmdir /run/skim/taken")


def test_a_unit_that_cannot_be_written_takes_the_others_with_it(pods: FieldPods) -> None:
    """Fault 22: one unit is there already; the second is larger than any file may be."""
    large = "[Service]\n" + "# many words\n" * 1000
    pods.write(pods.shell("echo started", "one"), pods.shell("echo started", "two", annotations={"skim/unit": large}))
    uuid = pods.host.check(f"{RKT} --insecure-options=image prepare --quiet --pod-manifest=/tmp/pod.json").strip()
    done = pods.host.run(f"ulimit -f 16; exec {RKT} run-prepared {uuid}")  # blocks of 512 bytes
    assert (done.status, done.stdout) == (254, "")
    assert "File too large" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert pods.host.run(f"ls /run/systemd/system /run/skim | grep {uuid}").stdout == ""
    pods.host.check(f"{RKT} rm {uuid}")
    assert leftovers(pods.host, uuid) == ""


def test_a_scope_of_that_name_is_an_error_and_leaves_nothing(pods: FieldPods) -> None:
    """Fault 25."""
    pods.write(pods.shell("echo started"))
    uuid = pods.host.check(f"{RKT} --insecure-options=image prepare --quiet --pod-manifest=/tmp/pod.json").strip()
    pods.host.check(f"systemd-run --quiet --unit=rkt-{uuid}.scope --scope sh -c 'sleep 1000 & echo $! > /tmp/sleep-pid' > /dev/null 2>&1")
    done = pods.host.run(f"{RKT} run-prepared {uuid}")
    assert (done.status, done.stdout) == (254, "")
    assert f"rkt-{uuid}.scope" in done.stderr
    assert pods.host.run(f"ls /run/systemd/system /run/skim | grep {uuid}").stdout == ""
    pods.host.check(f"kill $(cat /tmp/sleep-pid); {RKT} rm {uuid}")


def test_whatever_stops_a_start_leaves_nothing_and_says_so_in_one_line(pods: FieldPods) -> None:
    """Beside fault 22: not only what stage1 itself foresaw."""
    pods.write(
        pods.shell("echo started", mounts=[{"volume": "v", "path": "/mnt"}]), volumes=[{"name": "v", "kind": "host", "source": "/srv"}]
    )
    uuid = pods.host.check(f"{RKT} --insecure-options=image prepare --quiet --pod-manifest=/tmp/pod.json").strip()
    pods.host.check(f"mkdir {PODS}/prepared/{uuid}/pid")
    done = pods.host.run(f"{RKT} run-prepared {uuid}")
    assert (done.status, done.stdout, done.stderr) == (254, "", "run: pid: Is a directory\n")
    assert pods.host.run(f"ls /run/systemd/system /run/skim | grep {uuid}").stdout == ""
    assert pods.host.run(f"grep -e /run/skim/{uuid} -e rootfs/mnt /proc/self/mountinfo").stdout == ""
    pods.host.check(f"rmdir {PODS}/run/{uuid}/pid; {RKT} rm {uuid}")


def test_no_user_of_the_host_can_hold_up_pods(pods: FieldPods) -> None:
    """Whoever can open a directory can lock it."""
    places = pods.host.check("find /run/skim /var/lib/skim -maxdepth 2 -type d -perm -5 2>/dev/null || :").split()
    assert "/run/skim/lib" in places
    pods.host.check("useradd --no-create-home locker; rm -f /tmp/locked-*; chmod 1777 /tmp")
    hold = "exec flock --no-fork {} sh -c 'echo $$ > /tmp/locked-{}; exec sleep 1000'"
    holders = [pods.host.popen(hold.format(place, number), user="locker") for number, place in enumerate(places)]
    try:
        pods.host.wait_until(f"[ $(cat /tmp/locked-* | wc -l) = {len(places)} ]", timeout=20)
        assert pods.run(pods.shell("echo runs")).stdout == "runs\n"
        assert pods.host.run("ls /run/skim/.lock", user="locker").status != 0
    finally:
        pods.host.run("kill $(cat /tmp/locked-*)")
        for holder in holders:
            holder.wait(10)
        pods.host.check("userdel locker")


def test_the_supervisor_is_in_the_scope_alone_with_the_lock_and_its_environment(pods: FieldPods) -> None:
    """Faults 23, 24, 35, 37: there is no reload, nothing is spawned, there are no FIFOs."""
    before = reloads(pods)
    entries = [pods.shell("exec sleep 1000", name) for name in ("one", "two")]
    with pods.running(*entries, environment={"MARK": "1"}) as uuid:
        pod = f"{PODS}/run/{uuid}"
        pid = pods.host.check(f"cat {pod}/pid")
        assert re.fullmatch(r"[0-9]+\n", pid)
        pid = pid.strip()
        assert f"rkt-{uuid}.scope" in pods.host.check(f"cat /proc/{pid}/cgroup")
        assert "MARK=1" in pods.host.check(f"tr '\\0' '\\n' < /proc/{pid}/environ").splitlines()
        assert pods.host.check(f"cat /proc/{pid}/task/{pid}/children") == ""
        holders = pods.host.check('for fd in /proc/[0-9]*/fd/*; do echo "$fd $(readlink $fd)"; done 2> /dev/null').splitlines()
        assert {line.split("/")[2] for line in holders if line.endswith(f" {pod}")} == {pid}
        assert [pods.property(uuid, app, "NeedDaemonReload") for app in ("one", "two")] == ["no", "no"]
        assert reloads(pods) == before
        assert pods.host.check(f"find {pod} /run/skim/{uuid} -type p") == ""
        assert pods.host.check(f"readlink {pod}/stage1/rootfs/rkt/supervisor-status") == "ready\n"


def test_pid_is_written_once_and_before_the_pod_is_ready(pods: FieldPods) -> None:
    """Fault 29."""
    with pods.running(*(pods.shell("exec sleep 1000", name) for name in ("one", "two")), environment={"SKIM_STOP_AT": "pid"}) as uuid:
        pod = f"{PODS}/run/{uuid}"
        look = f"stat -c '%i %.9Y %s' {pod}/pid; cat {pod}/pid"
        written = pods.host.check(look)
        assert pods.host.run(f"readlink {pod}/stage1/rootfs/rkt/supervisor-status").status != 0
        assert pods.host.run(f"systemctl is-active one-rkt-{uuid}.service").status != 0
        pods.host.check(f"kill -CONT $(cat {pod}/pid); {RKT} status --wait-ready=20s {uuid}")
        assert pods.host.check(look) == written


def test_on_a_terminal_user_and_groups_are_the_images_by_name(pods: FieldPods) -> None:
    """Fault 31: and nothing is left of the caller's groups."""
    script = "echo $(/bin/busybox id -u) $(/bin/busybox id -g) $(/bin/busybox id -G); /bin/busybox tty; read word; echo got $word"
    pods.write(pods.shell(script, user="web", group="www", supplementaryGIDs=[7]))
    pods.host.check("rm -f /tmp/uuid")
    caller = f"setpriv --groups=27,44 {pods.command('--interactive')}; status=$?; sleep 0.5; exit $status"
    with pods.host.terminal(["sh", "-c", caller]) as terminal:
        terminal.expect("4242 4343 4343 7\r\n", timeout=30)
        terminal.expect("/dev/pts/[0-9]+\r\n")
        terminal.send("hello\n")
        terminal.expect("got hello\r\n")
        assert terminal.wait(timeout=30) == 0
    pods.host.check(f"{RKT} rm --uuid-file=/tmp/uuid")


def test_interactive_apps_are_the_images_in_the_pods_slice(pods: FieldPods) -> None:
    """Faults 30 and 32."""
    result = pods.run(pods.shell("echo $AC_APP_NAME $USER; pwd; cat /proc/$$/cgroup"), flags="--interactive")
    assert result.lines[:2] == ["app root", f"/run/skim/{result.uuid}/app"]
    assert f"system-rkt-{result.uuid.replace('-', '')}.slice/app-rkt-{result.uuid}.service" in result.stdout
    refused = pods.run(pods.entry("app", "/bin/bash", "-c", "echo the host's"), flags="--interactive")
    assert (refused.status, refused.stdout) == (254, "")


def test_enter_takes_the_images_script_where_the_host_has_a_program_of_that_name(pods: FieldPods) -> None:
    """Fault 39."""
    assert pods.host.run("nproc").status == 0
    with pods.running(pods.shell("exec sleep 1000", user="web")) as uuid:
        said = f"the image's /run/skim/{uuid}/app/bin/nproc\n"
        for command in ("nproc", "/bin/nproc", "bin/nproc"):
            assert pods.host.check([RKT, "enter", uuid, command]) == said


def test_stop_goes_by_the_units_and_not_by_a_number_in_a_file(pods: FieldPods) -> None:
    """Fault 44."""
    pods.host.check("sleep 1000 > /dev/null 2>&1 < /dev/null & echo $! > /tmp/bystander")
    with pods.running(pods.shell("exec sleep 1000")) as uuid:
        pods.host.check(f"cat /tmp/bystander > {PODS}/run/{uuid}/pid; {RKT} stop --force {uuid}")
        pods.host.wait_until(f"! systemctl is-active -q app-rkt-{uuid}.service")
        pods.host.check("kill $(cat /tmp/bystander)")


def test_gc_where_systemd_has_no_directory_of_units(pods: FieldPods) -> None:
    """Fault 45: as after a reboot."""
    with pods.ended(pods.shell("true")) as result:
        pods.host.check("mv /run/systemd/system /run/systemd/system.away; rm -rf /run/systemd/transient")
        done = pods.host.run(f"{RKT} gc --grace-period=0s")
        pods.host.check(f"mv /run/systemd/system.away /run/systemd/system; mkdir -p {PODS}/exited-garbage/{result.uuid}")
        assert (done.status, "problem" in done.stderr) == (0, False)


def test_gc_ends_what_still_runs_before_it_removes_it(pods: FieldPods) -> None:
    """Fault 46."""
    with pods.running(pods.shell("trap 'sleep 1; exit 0' TERM; while :; do sleep 0.1; done")) as uuid:
        pid = pods.property(uuid, "app", "MainPID")
        pods.host.check(f"kill -9 $(cat {PODS}/run/{uuid}/pid); {RKT} gc --grace-period=0s")
        assert pods.host.run(f"test -e /proc/{pid}").status != 0
        assert pods.host.run(f"ls /run/systemd/system /run/systemd/transient | grep {uuid}").stdout == ""
        pods.host.wait_until(f"! systemctl list-units --all --plain --no-legend | grep {uuid}", timeout=10)
        pods.host.check(f"mkdir -p {PODS}/exited-garbage/{uuid}")


def test_gc_removes_units_of_that_pod_alone(pods: FieldPods) -> None:
    """Fault 47: and systemd is not made to read all its units again, which it need not."""
    before = reloads(pods)
    with pods.ended(pods.shell("true")) as result:
        other = result.uuid[:-1] + ("0" if result.uuid[-1] != "0" else "1")
        pods.host.write(f"/run/systemd/system/app-rkt-{other}.service", "[Service]\nExecStart=/bin/true\n")
    assert pods.host.check(
        f"ls /run/systemd/system | grep -e {other} -e {result.uuid}; rm /run/systemd/system/app-rkt-{other}.service"
    ) == (f"app-rkt-{other}.service\n")
    assert reloads(pods) == before
