"""What apps write arrives whole, in order and told apart: at terminals, pipes, files and the journal, whoever reads it and how slowly."""

from __future__ import annotations

import hashlib
import subprocess
import time

from hosts.host import Host
from running_pods import RKT, lingering, run_command, running

GIGABYTE = 1 << 30
MEMORY = 25_000_000  # of a supervisor while it passes that on: docs/stage1-life.md has the number
COUNT = "/bin/busybox seq"


def peak_memory(host: Host, pid: str) -> int:
    """Bytes: the most that was resident since the process exec'ed."""
    return int(host.check(f"grep VmHWM /proc/{pid}/status").split()[1]) * 1024


def remove(host: Host) -> None:
    host.check(f"{RKT} rm --uuid-file=/tmp/uuid")


class TestHowMuch:
    def test_a_gigabyte_at_full_speed_in_little_memory(self, pods_host: Host) -> None:
        numbers = f"/usr/bin/seq 200000000 | /usr/bin/head -c {GIGABYTE}"
        script = f"'{numbers}; until [ -e /tmp/measured ]; do busybox sleep 0.05; done'"
        pods_host.check("rm -f /tmp/measured")
        process = pods_host.popen(
            run_command(f"shell -- /bin/busybox sh -c {script}"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdout is not None
        arrived = hashlib.sha256()
        count = 0
        start = time.monotonic()
        while count < GIGABYTE and (data := process.stdout.read1(1 << 20)):  # type: ignore[attr-defined]
            count += len(data)
            arrived.update(data)
        seconds = time.monotonic() - start
        peak = peak_memory(pods_host, pods_host.check("cat /var/lib/rkt/pods/run/$(cat /tmp/uuid)/pid").strip())
        pods_host.check("touch /tmp/measured")
        assert process.stdout.read() == b""
        assert process.wait(30) == 0
        process.stdout.close()
        assert count == GIGABYTE
        assert arrived.hexdigest() == pods_host.check(f"{numbers} | sha256sum").split()[0]
        print(f"{count / seconds / 1e6:.0f} MB/s, {peak / 1e6:.1f} MB resident at most")
        assert peak < MEMORY
        assert seconds < 60
        remove(pods_host)

    def test_several_apps_into_one_file(self, pods_host: Host) -> None:
        apps = " --- ".join(f"shell --name=app{number} -- {COUNT} 100000" for number in range(3))
        pods_host.check(run_command(apps).replace("exec ", "") + " > /tmp/out 2>&1", timeout=60)
        lines = pods_host.read("/tmp/out").decode().splitlines()
        for number in range(3):
            mine = [line.removeprefix(f"app{number}: ") for line in lines if line.startswith(f"app{number}: ")]
            assert mine == [str(line) for line in range(1, 100001)]
        assert len(lines) == 300_000
        remove(pods_host)

    def test_a_file_is_appended_to_and_both_streams_stay_in_order(self, pods_host: Host) -> None:
        script = "'for i in 1 2 3 4 5 6 7 8 9; do echo out $i; echo err $i >&2; done'"
        command = run_command(f"shell -- /bin/busybox sh -c {script}").replace("exec ", "")
        pods_host.check(f"{{ echo before; {command}; echo after; }} > /tmp/out 2>&1")
        wanted = ["before", *(f"{kind} {number}" for number in range(1, 10) for kind in ("out", "err")), "after"]
        assert pods_host.read("/tmp/out").decode().splitlines() == wanted
        remove(pods_host)

    def test_two_places_for_two_streams(self, pods_host: Host) -> None:
        done = pods_host.run(run_command("shell -- /bin/busybox sh -c 'echo out; echo err >&2'"))
        assert (done.stdout, done.stderr) == ("out\n", "err\n")
        remove(pods_host)


class TestReaders:
    def test_one_that_is_slow_loses_nothing(self, pods_host: Host) -> None:
        process = pods_host.popen(run_command(f"shell -- {COUNT} 300000"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        assert process.stdout is not None
        data = b""
        for _ in range(10):
            time.sleep(0.2)
            data += process.stdout.read(10_000)
        data += process.stdout.read()
        assert process.wait(30) == 0
        process.stdout.close()
        assert data.decode().splitlines() == [str(number) for number in range(1, 300001)]
        remove(pods_host)

    def test_one_that_goes_away_does_not_end_the_pod(self, pods_host: Host) -> None:
        script = "'i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i+1)); done; busybox sleep 0.3; echo again; exit 7'"
        command = run_command(f"shell -- /bin/busybox sh -c {script}").replace("exec ", "")
        pods_host.check(f"({command}; echo $? > /tmp/status) 2>/dev/null | head -n 1")
        pods_host.wait_until("grep -qx 7 /tmp/status", timeout=30)
        remove(pods_host)

    def test_one_that_reads_nothing_does_not_hold_up_the_stop(self, pods_host: Host) -> None:
        process = pods_host.popen(run_command("shell -- /bin/busybox yes"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        pods_host.wait_until(f"{RKT} status --wait-ready=20s $(cat /tmp/uuid)", timeout=30)
        time.sleep(0.5)
        start = time.monotonic()
        pods_host.check(f"{RKT} stop $(cat /tmp/uuid)")
        process.wait(30)
        assert time.monotonic() - start < 25
        assert process.stdout is not None
        process.stdout.close()
        remove(pods_host)

    def test_a_full_disk_holds_nobody_up_and_is_written_to_again(self, pods_host: Host) -> None:
        pods_host.check("mkdir -p /mnt/small; mount -t tmpfs -o size=1m tmpfs /mnt/small; rm -f /tmp/room")
        script = f"'{COUNT} 300000; until [ -e /tmp/room ]; do busybox sleep 0.1; done; echo the end'"
        command = run_command(f"shell -- /bin/busybox sh -c {script}")
        process = pods_host.popen(f"{command} > /mnt/small/out 2> /tmp/said", stdin=subprocess.DEVNULL)
        try:
            pods_host.wait_until("[ -s /tmp/said ]", timeout=30)
            # The app has written all of it: it is not held up by the disk.
            shell = "shell-rkt-$(cat /tmp/uuid).service"
            pods_host.wait_until(f"grep -q busybox.sleep /proc/[0-9]*/cmdline && systemctl is-active -q {shell}", timeout=30)
            pods_host.check("mount -o remount,size=8m /mnt/small")
            pods_host.wait_until("grep -q 'bytes are missing here: no space was left' /mnt/small/out", timeout=30)
            pods_host.check("touch /tmp/room")
            assert process.wait(30) == 0
            head, _, end = pods_host.read("/mnt/small/out").decode().rpartition("\n[")
            number = int(end.split()[0])
            assert end == f"{number} bytes are missing here: no space was left]\nthe end\n"
            whole = "".join(f"{line}\n" for line in range(1, 300001))
            assert head == whole[: len(whole) - number]
            said = "run: cannot write to standard output: No space left on device; trying again until it works\n"
            assert pods_host.read("/tmp/said").decode() == said
        finally:
            process.kill()
            process.wait()
            pods_host.check("umount -l /mnt/small")
        remove(pods_host)

    def test_somebody_who_writes_on_when_the_app_has_ended_does_not_keep_the_pod(self, pods_host: Host) -> None:
        unit = "'--annotation=skim/unit=[Service]\nKillMode=process\n'"
        process = pods_host.popen(
            run_command(f"shell {unit} -- /bin/busybox sh -c 'busybox yes left & exit 4'"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )
        assert process.communicate(timeout=30)[0].startswith(b"left\n")
        assert process.returncode == 4
        remove(pods_host)

    def test_output_that_is_closed(self, pods_host: Host) -> None:
        command = run_command("shell -- /bin/busybox sh -c 'echo nobody hears this; exit 5'").replace("exec ", "")
        assert pods_host.run(f"({command}) >&- 2>&- <&-").status == 5
        remove(pods_host)


class TestJournal:
    def test_apps_under_their_names(self, pods_host: Host) -> None:
        with running(pods_host, "first second") as pod:
            for app in ("first", "second"):
                lines = f"journalctl --sync; journalctl -q -o cat --no-pager _SYSTEMD_UNIT=rkt-{pod.uuid}.scope SYSLOG_IDENTIFIER={app}"
                pods_host.wait_until(f"{lines} | grep -qx '{app} is up'", timeout=20)

    def test_one_that_stands_still_holds_nobody_up(self, pods_host: Host) -> None:
        process = pods_host.popen(run_command(f"shell -- {COUNT} 400000"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        pods_host.check("systemctl kill -s STOP systemd-journald")
        try:
            output, _ = process.communicate(timeout=60)
        finally:
            pods_host.check("systemctl kill -s CONT systemd-journald")
        assert process.returncode == 0
        assert output.decode().splitlines() == [str(number) for number in range(1, 400001)]
        remove(pods_host)

    def test_one_that_is_restarted_or_killed_gets_what_comes_after(self, pods_host: Host) -> None:
        script = "'i=0; while :; do i=$((i+1)); echo number $i; busybox sleep 0.05; done'"
        with running(pods_host, f"shell --name=counts -- /bin/busybox sh -c {script}", stdout=subprocess.DEVNULL) as pod:
            for how in ("systemctl restart systemd-journald", "systemctl kill -s KILL systemd-journald"):
                before = pods_host.check(f"sleep 0.5; {how}; date +%s.%N").strip()
                newer = f"journalctl -q -o cat --no-pager SYSLOG_IDENTIFIER=counts --since=@{before} | grep -q number"
                pods_host.wait_until(newer, timeout=30)
            assert pod.status()["state"] == "running"

    def test_under_a_unit_the_apps_write_to_it_themselves(self, pods_host: Host) -> None:
        command = run_command("exit -- 0").split("exec ")[1]
        pods_host.write("/run/systemd/system/under-a-unit.service", f"[Service]\nType=oneshot\nExecStart={command}\n")
        pods_host.check("rm -f /tmp/uuid; systemctl start under-a-unit.service")
        uuid = pods_host.check("cat /tmp/uuid").strip()
        wanted = f"journalctl --sync; journalctl -q -o cat --no-pager -u exit-rkt-{uuid}.service"
        pods_host.wait_until(f"{wanted} | grep -qx leaving", timeout=20)
        remove(pods_host)


def test_a_pod_of_two_apps_on_a_terminal(pods_host: Host) -> None:
    with pods_host.terminal(lingering("first second")) as terminal:
        terminal.expect("first: first is up\r\n", timeout=30)
        terminal.expect("second: second is up\r\n")
        pods_host.check(f"{RKT} stop --uuid-file=/tmp/uuid")
        ended = {terminal.expect("(first|second): (first|second) ends\r\n", timeout=30)[0] for _ in range(2)}
        assert ended == {"first: first ends\r\n", "second: second ends\r\n"}
        assert terminal.wait(timeout=30) == 0
    remove(pods_host)


def test_no_output_at_all(pods_host: Host) -> None:
    given = {"RKT_EXPERIMENT_ATTACH": "true"}
    for flags, seen in (("", True), ("--stdout=null --stderr=null", False)):
        done = pods_host.run(run_command(f"exit {flags} -- 0"), environment=given)
        uuid = pods_host.check("cat /tmp/uuid").strip()
        assert done.status == 0, done.stderr
        assert ("leaving" in done.stdout + done.stderr) == seen
        written = f"_SYSTEMD_UNIT=rkt-{uuid}.scope + _SYSTEMD_UNIT=exit-rkt-{uuid}.service"  # our copy of it, or the app's own
        journal = pods_host.check(f"journalctl --sync; journalctl -q -o cat --no-pager {written}")
        assert ("leaving" in journal.splitlines()) == seen
        remove(pods_host)
