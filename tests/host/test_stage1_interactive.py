"""`rkt run --interactive`: on a terminal, and with pipes and files."""

from __future__ import annotations

import os
import subprocess
import time

from hosts.host import Host
from running_pods import RKT, leftovers, lingering, run_command, running

SHELL = "--interactive shell"


def one(host: Host, arguments: str, stdin: str = "", **more: object) -> subprocess.CompletedProcess[bytes]:
    process = host.popen(
        run_command(arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        environment={"TERM": "xterm-256color"},
    )
    out, err = process.communicate(stdin.encode(), timeout=60)
    return subprocess.CompletedProcess([], process.returncode, out, err)


class TestTerminal:
    def test_a_shell(self, pods_host: Host) -> None:
        with pods_host.terminal(run_command(f"{SHELL} -- /bin/busybox sh"), rows=33, columns=101) as terminal:
            terminal.expect("# ", timeout=30)
            terminal.send("tty; stty size 2>/dev/null || busybox stty size; echo term $TERM $AC_APP_NAME\n")
            terminal.expect(r"/dev/pts/\d+")
            terminal.expect("33 101")
            terminal.expect("term xterm shell")
            terminal.resize(40, 120)
            terminal.send("busybox stty size\n")
            terminal.expect("40 120")
            terminal.send("busybox sleep 100\n")
            time.sleep(0.3)
            terminal.send("\x03")
            terminal.expect("# ")
            terminal.send("echo status $?\n")
            terminal.expect("status 130")
            terminal.send("busybox sleep 100\n")
            time.sleep(0.3)
            terminal.send("\x1a")
            terminal.expect("Stopped")
            terminal.send("jobs\n")
            terminal.expect(r"\[1\]\+ +Stopped")
            terminal.send("fg\n")
            time.sleep(0.3)
            terminal.send("\x03")
            terminal.expect("# ")
            terminal.send("exit 42\n")
            assert terminal.wait(timeout=30) == 42
            assert "failed with" not in terminal.transcript
        pods_host.check(f"{RKT} rm --uuid-file=/tmp/uuid")

    def test_end_of_input_and_the_callers_terminal_is_as_it_was(self, pods_host: Host) -> None:
        cat = run_command(f"{SHELL} -- /bin/busybox cat").replace("exec ", "")
        script = f"stty -echo; stty -a > /tmp/before; {cat}; echo status $?; stty -a > /tmp/after"
        with pods_host.terminal(["sh", "-c", script]) as terminal:
            pods_host.wait_until(f"{RKT} list --no-legend | grep -q running", timeout=20)
            time.sleep(0.5)
            terminal.send("some words\n")
            terminal.expect("some words")
            terminal.send("\x04")
            terminal.expect("status 0", timeout=30)
            assert terminal.wait() == 0
        pods_host.check("cmp /tmp/before /tmp/after")
        pods_host.check(f"{RKT} rm --uuid-file=/tmp/uuid")

    def test_output_of_any_size_arrives_whole(self, pods_host: Host) -> None:
        with pods_host.terminal(lingering(f"{SHELL} -- /bin/busybox seq 200000")) as terminal:
            assert terminal.wait(timeout=60) == 0
            lines = terminal.transcript.replace("\r", "").splitlines()
        assert lines == [str(number) for number in range(1, 200001)]
        pods_host.check(f"{RKT} rm --uuid-file=/tmp/uuid")

    def test_an_app_that_is_not_root_owns_its_terminal(self, pods_host: Host) -> None:
        script = "'id -u; echo said > $(tty) && exit 3'"
        with pods_host.terminal(lingering(f"{SHELL} --user=77 --group=78 -- /bin/busybox sh -c {script}")) as terminal:
            terminal.expect("77\r?\nsaid", timeout=30)
            assert terminal.wait() == 3
        pods_host.check(f"{RKT} rm --uuid-file=/tmp/uuid")

    def test_stop_from_elsewhere(self, pods_host: Host) -> None:
        for flags, status in ((), 0), (("--force",), None):
            with pods_host.terminal(run_command("--interactive first")) as terminal:
                terminal.expect("first is up", timeout=30)
                uuid = pods_host.check("cat /tmp/uuid").strip()
                pods_host.check([RKT, "stop", *flags, uuid])
                ended = terminal.wait(timeout=30)
                assert ended == status if status is not None else ended in (-9, 137)
            pods_host.check(f"{RKT} rm {uuid}")
            assert leftovers(pods_host, uuid) == ""

    def test_the_way_out_of_an_app_that_hears_nothing(self, pods_host: Host) -> None:
        with pods_host.terminal(run_command("--interactive stubborn")) as terminal:
            terminal.expect("stubborn is up", timeout=30)
            terminal.send("\x03\x03")  # ends the sleep at most
            terminal.send("\x1d\x1d\x1d")
            terminal.wait(timeout=30)
        pods_host.check(f"{RKT} rm --uuid-file=/tmp/uuid")

    def test_a_terminal_that_goes_away_ends_the_pod(self, pods_host: Host) -> None:
        with pods_host.terminal(run_command("--interactive first")) as terminal:
            terminal.expect("first is up", timeout=30)
            uuid = pods_host.check("cat /tmp/uuid").strip()
            os.close(terminal.master)
            terminal.master = -1
            pods_host.wait_until(f"{RKT} status {uuid} | grep -q exited", timeout=30)
        assert (
            "app-first=0" in pods_host.check(f"{RKT} status {uuid}").splitlines()
        )  # a supervisor that had crashed would not have noted it
        pods_host.check(f"{RKT} rm {uuid}")


class TestPipes:
    def test_input_reaches_the_app_to_its_end(self, pods_host: Host) -> None:
        done = one(pods_host, f"{SHELL} -- /bin/busybox sh -c 'busybox wc -c; echo err >&2; exit 6'", stdin="x" * 3_000_000)
        assert (done.returncode, done.stdout, done.stderr) == (6, b"3000000\n", b"err\n")
        pods_host.check(f"{RKT} rm --uuid-file=/tmp/uuid")

    def test_what_goes_in_comes_out(self, pods_host: Host) -> None:
        cat = run_command(f"{SHELL} -- /bin/busybox cat").replace("exec ", "")
        command = f"busybox seq 2000000 > /tmp/in; {cat} < /tmp/in > /tmp/out; cmp /tmp/in /tmp/out"
        pods_host.check(command)
        pods_host.check(f"{RKT} rm --uuid-file=/tmp/uuid")

    def test_a_lasting_pipe_of_questions_and_answers(self, pods_host: Host) -> None:
        process = pods_host.popen(run_command(f"{SHELL} -- /bin/busybox cat"), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdin is not None
        assert process.stdout is not None
        for number in range(100):
            process.stdin.write(b"%d\n" % number)
            process.stdin.flush()
            assert process.stdout.readline() == b"%d\n" % number
        process.stdin.close()
        assert process.wait(30) == 0
        process.stdout.close()
        pods_host.check(f"{RKT} rm --uuid-file=/tmp/uuid")

    def test_an_app_that_reads_nothing_ends_all_the_same(self, pods_host: Host) -> None:
        done = one(pods_host, f"{SHELL} -- /bin/busybox true", stdin="x" * 50_000)
        assert done.returncode == 0
        pods_host.check(f"{RKT} rm --uuid-file=/tmp/uuid")

    def test_an_input_that_cannot_be_read_is_told_of_and_empty(self, pods_host: Host) -> None:
        done = pods_host.run(run_command(f"{SHELL} -- /bin/busybox sh -c 'busybox wc -c; exit 3'") + " 0> /tmp/written")
        assert (done.status, done.stdout) == (3, "0\n")
        assert done.stderr == "run: cannot read standard input: Bad file descriptor; it ends here for the app\n"
        pods_host.check(f"{RKT} rm --uuid-file=/tmp/uuid")

    def test_more_than_one_app_is_refused(self, pods_host: Host) -> None:
        done = one(pods_host, "--interactive first second")
        assert done.returncode == 254
        assert b"interactive option only supports one image" in done.stderr


def test_without_interactive_there_is_nothing_to_read(pods_host: Host) -> None:
    done = one(pods_host, "shell -- /bin/busybox sh -c 'busybox readlink /proc/self/fd/0; busybox cat'", stdin="not for the app\n")
    assert (done.returncode, done.stdout) == (0, b"/dev/null\n")
    pods_host.check(f"{RKT} rm --uuid-file=/tmp/uuid")


def test_ctrl_c_stops_a_pod_that_is_not_interactive(pods_host: Host) -> None:
    # On a terminal the kernel sends it to the whole process group; here that would be nsenter's, too.
    with running(pods_host, "first second") as pod:
        pods_host.check(f"kill -INT {pod.supervisor()}")
        status, _ = pod.finished()
        assert status == 0
        assert pod.ends("first", "second") == ["second", "first"]


def test_a_stopped_interactive_pod_in_a_pipe(pods_host: Host) -> None:
    with running(pods_host, "--interactive first") as pod:
        assert pod.stop().status == 0
        assert pod.finished()[0] == 0
