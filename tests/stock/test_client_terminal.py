"""The client on a terminal, in the background, and its signals."""

from __future__ import annotations

import pytest

from hosts.host import Host

TRAPS = """\
for s in HUP INT QUIT USR1 USR2 TERM TSTP; do trap "echo got $s" $s; done
trap 'echo end; exit 9' ALRM
echo ready
while :; do /bin/busybox sleep 0.1; done
"""


def start(host: Host, options: str, script: str) -> None:
    """`docker run` in the background of the host, its output in /tmp/out."""
    host.write("/tmp/script", script, mode=0o755)
    host.check("rm -f /tmp/out")
    host.popen(f"exec docker run --name box {options} -v /tmp/script:/script busybox sh /script > /tmp/out 2>&1 < /dev/null").poll()
    host.wait_until("grep -q ready /tmp/out")


def client(host: Host) -> str:
    return host.check("pgrep -x -f 'docker run --name box .*'").strip()


@pytest.mark.parametrize("name", ["HUP", "INT", "QUIT", "USR1", "USR2", "TERM", "TSTP"])
def test_a_signal_to_the_client_reaches_the_container(docker: Host, name: str) -> None:
    start(docker, "", TRAPS)
    docker.check(f"kill -{name} {client(docker)}")
    docker.wait_until(f"grep -q 'got {name}' /tmp/out")
    docker.check(f"kill -ALRM {client(docker)}")
    docker.wait_until("grep -q end /tmp/out && ! pgrep -x -f 'docker run --name box .*'")


def test_without_sig_proxy_the_client_ends_alone(docker: Host) -> None:
    start(docker, "--sig-proxy=false", TRAPS)
    docker.check(f"kill -TERM {client(docker)}")
    docker.wait_until("! pgrep -x -f 'docker run --name box .*'")
    assert docker.check("docker inspect -f '{{.State.Running}}' box") == "true\n"
    assert "got TERM" not in docker.check("docker logs box")


@pytest.mark.parametrize(("name", "number"), [("KILL", 9), ("TERM", 15), ("INT", 2), ("USR1", 10)])
def test_a_container_that_a_signal_ends_has_the_status_128_and_its_number(docker: Host, name: str, number: int) -> None:
    script = "docker run --init --name box busybox /bin/busybox sleep 1000 & pid=$!\n"
    script += "until [ \"$(docker inspect -f '{{.State.Running}}' box 2>/dev/null)\" = true ]; do sleep 0.05; done\n"
    # tini, the first process, hands signals on once it has started its child.
    script += "until [ $(docker top box 2>/dev/null | grep -c 'sleep 1000$') = 2 ]; do sleep 0.05; done\n"
    script += f"docker kill -s {name} box >/dev/null; wait $pid; echo $?"
    assert docker.check(script, timeout=20) == f"{128 + number}\n"


def test_the_terminals_size_and_its_change_reach_the_container(docker: Host) -> None:
    with docker.terminal("docker run --rm -it busybox sh", rows=33, columns=101) as terminal:
        terminal.expect("# ")
        terminal.send("/bin/busybox stty size\n")
        terminal.expect("33 101")
        terminal.resize(44, 132)
        terminal.send("until [ \"$(/bin/busybox stty size)\" = '44 132' ]; do :; done; echo size is $(/bin/busybox stty size)\n")
        terminal.expect("size is 44 132")
        terminal.send("exit 5\n")
        assert terminal.wait() == 5


def test_exec_has_the_terminals_size_too(docker: Host) -> None:
    docker.check("docker run -d --name box busybox sh -c 'while :; do /bin/busybox sleep 1; done'")
    with docker.terminal("docker exec -it box sh", rows=20, columns=70) as terminal:
        terminal.expect("# ")
        terminal.send("until [ \"$(/bin/busybox stty size)\" = '20 70' ]; do :; done; echo size is $(/bin/busybox stty size)\n")
        terminal.expect("size is 20 70")


def test_ctrl_c_reaches_a_program_in_a_containers_terminal(docker: Host) -> None:
    with docker.terminal("docker run --rm -it busybox sh") as terminal:
        terminal.expect("# ")
        terminal.send("trap 'echo in''terrupted' INT; echo rea''dy; while :; do /bin/busybox sleep 0.1; done\n")
        terminal.expect("ready")
        terminal.send("\x03")
        terminal.expect("interrupted")


def test_ctrl_c_ends_a_container_without_a_terminal(docker: Host) -> None:
    script = "trap \"echo stopping; exit 3\" INT; echo rea''dy; while :; do /bin/busybox sleep 0.1; done"
    docker.write("/tmp/script", script)
    with docker.terminal("bash --norc -i") as shell:
        shell.expect(r"\$ |# ")
        shell.send("docker run --rm -v /tmp/script:/script busybox sh /script\n")
        shell.expect("ready")
        shell.send("\x03")
        shell.expect("stopping")
        shell.send("echo status $?\n")
        shell.expect("status 3")


def test_ctrl_p_ctrl_q_detaches_and_attach_comes_back(docker: Host) -> None:
    with docker.terminal("docker run --name box -it busybox sh") as terminal:
        terminal.expect("# ")
        terminal.send("x=kept\n\x10\x11")
        assert terminal.wait() == 0
    assert docker.check("docker inspect -f '{{.State.Running}}' box") == "true\n"
    with docker.terminal("docker attach box") as terminal:
        terminal.send("echo it is $x\n")
        terminal.expect("it is kept")


def test_other_detach_keys_may_be_asked_for(docker: Host) -> None:
    with docker.terminal("docker run --name box --detach-keys ctrl-a,d -it busybox sh") as terminal:
        terminal.expect("# ")
        terminal.send("\x01d")
        assert terminal.wait() == 0
    assert docker.check("docker inspect -f '{{.State.Running}}' box") == "true\n"


def test_in_the_background_of_a_shell_it_goes_on(docker: Host) -> None:
    with docker.terminal("bash --norc -i") as shell:
        shell.expect(r"\$ |# ")
        shell.send("docker run --rm busybox sh -c '/bin/busybox sleep 0.5; echo do''ne' &\n")
        shell.expect(r"\[1\] \d+")
        shell.send("echo mean''while\n")
        shell.expect("meanwhile")
        shell.expect("done\r\n")
        shell.send("wait; echo status $?; exit\n")
        shell.expect("status 0")


def test_ctrl_z_stops_the_client_and_not_the_container_and_fg_goes_on(docker: Host) -> None:
    script = "while [ ! -e /go ]; do /bin/busybox sleep 0.1; done; echo en''d; exit 6"
    with docker.terminal("bash --norc -i") as shell:
        shell.expect(r"\$ |# ")
        shell.send(f"docker run --name box --sig-proxy=false busybox sh -c '{script}'\n")  # else Ctrl-Z is the container's
        docker.wait_until("docker inspect -f '{{.State.Running}}' box | grep true")
        shell.send("\x1a")
        shell.expect("Stopped")
        assert docker.check(f"ps -o stat= -p {client(docker)}").startswith("T")
        docker.check("docker exec box /bin/busybox touch /go")
        assert docker.check("docker wait box") == "6\n"
        shell.send("fg\n")
        shell.expect("end\r\n")
        shell.send("echo status $?\n")
        shell.expect("status 6")


def test_under_nohup_it_outlives_its_terminal(docker: Host) -> None:
    docker.check("rm -f /tmp/out")
    with docker.terminal("bash --norc -i") as shell:
        shell.expect(r"\$ |# ")
        script = "echo ready; until [ -e /go ]; do /bin/busybox sleep 0.1; done; echo end"
        shell.send(f"nohup docker run --name box busybox sh -c '{script}' > /tmp/out 2>&1 &\n")
        docker.wait_until("grep -q ready /tmp/out")
        shell.send("exit\n")
        shell.wait()
    docker.check("docker exec box /bin/busybox touch /go")
    docker.wait_until("grep -q end /tmp/out")
    docker.wait_until("! pgrep -x -f 'docker run --name box .*'")
