"""Event handlers, sockets, readiness, order, streams and flags (contract sections 2.6, 4.4, 5.2, 5.6), on a real systemd."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from field_pods import RKT, FieldPods


def handler(name: str, script: str) -> dict[str, Any]:
    return {"name": name, "exec": ["/bin/sh", "-c", script]}


class TestEventHandlers:
    @pytest.mark.parametrize("user", ["0", "web"])
    def test_both_are_root_in_the_apps_directory_with_its_environment(self, pods: FieldPods, user: str) -> None:
        say = 'echo "{}: $(id -u) $(pwd) $ONE"'
        handlers = [handler("pre-start", say.format("pre")), handler("post-stop", say.format("post"))]
        entry = pods.shell(
            say.format("app"),
            user=user,
            workingDirectory="/srv",
            environment=[{"name": "ONE", "value": "a $b"}],
            eventHandlers=handlers,
            isolators=[{"name": "os/linux/capabilities-retain-set", "value": {"set": ["CAP_KILL"]}}],
        )
        result = pods.run(entry)
        directory = f"/run/skim/{result.uuid}/app/srv"
        uid = "0" if user == "0" else "4242"
        assert result.lines == [f"pre: 0 {directory} a $b", f"app: {uid} {directory} a $b", f"post: 0 {directory} a $b"]
        assert result.status == 0

    def test_a_pre_start_that_fails_keeps_the_app_from_starting(self, pods: FieldPods) -> None:
        entry = pods.shell("echo the app", eventHandlers=[handler("pre-start", "echo prepares; exit 3")])
        result = pods.run(entry)
        assert (result.status, result.stdout) == (1, "prepares\n")
        assert 'run: app "app" was not started: its pre-start failed: exit-code' in result.stderr

    def test_post_stop_runs_after_a_failure(self, pods: FieldPods) -> None:
        result = pods.run(pods.shell("exit 7", eventHandlers=[handler("post-stop", "echo tidies")]))
        assert (result.status, result.stdout) == (7, "tidies\n")

    def test_what_the_image_lacks_is_an_error_before_anything_starts(self, pods: FieldPods) -> None:
        entry = pods.shell("echo started", eventHandlers=[{"name": "post-stop", "exec": ["/bin/nosuch"]}])
        result = pods.run(entry)
        assert (result.status, result.stdout) == (254, "")
        assert "has no executable '/bin/nosuch'" in result.stderr


PORT = {"name": "http", "protocol": "tcp", "port": 8765, "socketActivated": True}
# Takes one connection from the descriptor that it was given, which is the listening socket itself (Accept=no).
SERVE = (
    'echo "$LISTEN_FDS $LISTEN_FDNAMES $((LISTEN_PID - $$))"; /bin/busybox grep -c "22:3D" /proc/net/tcp6; ls -l /proc/$$/fd/3; sleep 1000'
)


CONNECT = "bash -c 'exec 3<>/dev/tcp/127.0.0.1/8765'"


class TestSockets:
    @pytest.mark.parametrize("user", ["0", "web"])
    def test_the_app_is_handed_the_listening_sockets(self, pods: FieldPods, user: str) -> None:
        ports = [PORT, {"name": "names", "protocol": "udp", "port": 8770, "count": 2, "socketActivated": True}]
        with pods.running(pods.shell(SERVE, user=user, ports=ports)) as uuid:
            output = pods.host.wait_until("grep socket: /tmp/output > /dev/null && cat /tmp/output").splitlines()
            assert output[0] == f"3 {':'.join([f'app-rkt-{uuid}.socket'] * 3)} 0"
            listening = pods.host.check("ss -ltnu 2>/dev/null || cat /proc/net/tcp6 /proc/net/udp6")
            assert "8765" in listening or ":223D " in listening
            assert pods.host.run(CONNECT).status == 0  # systemd listens: it connects
            units = pods.host.check("ls /run/systemd/system").split()
            assert f"app-rkt-{uuid}.socket" in units
            pods.host.check(f"{RKT} stop {uuid}")
            pods.host.wait_until(f"! systemctl is-active -q app-rkt-{uuid}.socket")
        assert pods.host.run(CONNECT).status != 0
        pods.host.wait_until(f"! (ls /run/systemd/system; systemctl list-units --all --plain --no-legend) | grep {uuid}", timeout=10)

    def test_one_port_is_called_by_its_name(self, pods: FieldPods) -> None:
        with pods.running(pods.shell(SERVE, ports=[PORT])):
            assert pods.host.wait_until("grep http /tmp/output") == "1 http 0\n"

    def test_where_the_pod_manifest_exposes_the_port(self, pods: FieldPods) -> None:
        exposed = [{"name": "http", "hostPort": 8766, "hostIP": "127.0.0.1"}]
        with pods.running(pods.shell("sleep 1000", ports=[PORT]), ports=exposed) as uuid:
            listen = pods.host.check(["systemctl", "show", "--value", "-p", "Listen", f"app-rkt-{uuid}.socket"])
            assert listen == "127.0.0.1:8766 (Stream)\n"

    def test_who_connects_does_not_start_an_app_that_has_ended(self, pods: FieldPods) -> None:
        short = pods.shell("echo once", "short", ports=[PORT], annotations={"skim/after": ""})
        with pods.running(pods.shell("sleep 1000", "long"), short) as uuid:
            pods.host.wait_until(f"! systemctl is-active -q short-rkt-{uuid}.socket")
            assert pods.host.run(CONNECT).status != 0
            assert pods.host.check("cat /tmp/output").count("once") == 1

    def test_an_app_that_is_restarted_keeps_its_socket_until_it_has_ended_for_good(self, pods: FieldPods) -> None:
        unit = "[Service]\nRestart=on-failure\nRestartSec=300ms\n"
        served = pods.shell("exec sleep 1000", "served", ports=[PORT], annotations={"skim/unit": unit, "skim/after": ""})
        with pods.running(pods.shell("sleep 1000", "long"), served) as uuid:
            since = f"systemctl show --value -p ActiveEnterTimestampMonotonic served-rkt-{uuid}.socket"
            up = pods.host.check(since)
            for _ in range(2):
                pid = pods.property(uuid, "served", "MainPID")
                pods.host.check(f"kill -9 {pid}")
                pods.host.wait_until(f"systemctl show -p SubState served-rkt-{uuid}.service | grep auto-restart")
                assert ":223D " in pods.host.check("cat /proc/net/tcp6")  # between two runs, too
                pods.host.wait_until(
                    f"pid=$(systemctl show --value -p MainPID served-rkt-{uuid}.service); [ $pid -gt 0 ] && [ $pid != {pid} ]"
                )
            assert pods.host.check(since) == up
            pods.host.check(f"kill -TERM {pods.property(uuid, 'served', 'MainPID')}")  # which is no failure
            pods.host.wait_until(f"! systemctl is-active -q served-rkt-{uuid}.socket")
            assert pods.host.run(CONNECT).status != 0
            assert "state=running" in pods.host.check(f"{RKT} status {uuid}")

    def test_a_port_that_is_taken_is_an_error(self, pods: FieldPods) -> None:
        with pods.running(pods.shell("sleep 1000", "first", ports=[PORT])):
            pods.write(pods.shell("echo started", "second", ports=[PORT]))
            done = pods.host.run(pods.command().replace("/tmp/uuid", "/tmp/uuid2"))
            assert (done.status != 0, done.stdout) == (True, "")
            assert 'app "second"' in done.stderr
            pods.host.check(f"{RKT} rm --uuid-file=/tmp/uuid2")

    def test_a_socket_that_rkt_run_was_activated_by_reaches_the_app(self, pods: FieldPods) -> None:
        """As TestSocketActivation of rkt: a socket and a service of the host's, the service being `rkt run`."""
        pods.write(pods.shell(SERVE, ports=[PORT]))
        pods.host.write("/run/systemd/system/web.socket", "[Socket]\nListenStream=8765\n")
        pods.host.write(
            "/run/systemd/system/web.service", f"[Service]\nExecStart={pods.command()}\nStandardOutput=append:/tmp/web-output\n"
        )
        pods.host.check("rm -f /tmp/uuid /tmp/web-output; systemctl daemon-reload; systemctl start web.socket")
        try:
            assert pods.host.run(CONNECT).status == 0
            output = pods.host.wait_until("grep socket: /tmp/web-output >/dev/null && cat /tmp/web-output").splitlines()
            assert output[0] == "1 web.socket 0"
            uuid = pods.host.check("cat /tmp/uuid").strip()
            assert ".socket" not in pods.host.check(f"ls /run/systemd/system | grep {uuid}")
        finally:
            pods.host.check("systemctl stop web.socket web.service; rm /run/systemd/system/web.*; systemctl daemon-reload")
            pods.host.check(f"{RKT} rm --uuid-file=/tmp/uuid")


class TestReadiness:
    @pytest.mark.parametrize("user", ["0", "web"])
    def test_what_comes_after_waits_for_an_app_that_notifies(self, pods: FieldPods, user: str) -> None:
        first = pods.shell("sleep 0.7; echo ready; systemd-notify --ready; exec sleep 1000", "first", image="notify", user=user)
        if user != "0":  # systemd-notify that is not root speaks for itself, not for its parent
            first["annotations"] = [{"name": "skim/unit", "value": "[Service]\nNotifyAccess=all\n"}]
        with pods.running(first, pods.shell("echo second; exec sleep 1000", "second")):
            output = pods.host.wait_until("grep second: /tmp/output >/dev/null && cat /tmp/output")
            assert output.splitlines() == ["first: ready", "second: second"]

    def test_the_unit_that_rkt_runs_in_is_ready_when_the_pod_is(self, pods: FieldPods) -> None:
        pods.write(pods.shell("sleep 1; systemd-notify --ready; touch /tmp/was-ready; exec sleep 1000", image="notify"))
        unit = f"[Service]\nType=notify\nNotifyAccess=all\nExecStart={pods.command()}\nExecStopPost={RKT} rm --uuid-file=/tmp/uuid\n"
        pods.host.write("/run/systemd/system/pod.service", unit)
        pods.host.check(
            "rm -f /tmp/uuid /tmp/was-ready; systemctl daemon-reload; systemctl start pod.service; sleep 0.2; ls /tmp/was-ready"
        )
        assert "ActiveState=active" in pods.host.check("systemctl show pod.service")
        pods.host.check("systemctl stop pod.service; rm /run/systemd/system/pod.service; systemctl daemon-reload")


class TestOrder:
    def test_an_app_comes_after_those_it_names(self, pods: FieldPods) -> None:
        """Listed first, it starts last; the two others start side by side, which the one that waits for the other shows."""
        wait = "until [ -e /tmp/other-is-up ]; do sleep 0.05; done; echo up; systemd-notify --ready; exec sleep 1000"
        front = pods.shell("echo up; exec sleep 1000", "front", annotations={"skim/after": "store, other"})
        store = pods.shell(wait, "store", image="notify", annotations={"skim/after": ""})
        other = pods.shell("sleep 0.3; echo up; touch /tmp/other-is-up; exec sleep 1000", "other", annotations={"skim/after": ""})
        pods.host.check("rm -f /tmp/other-is-up")
        with pods.running(front, store, other) as uuid:
            lines = pods.host.wait_until("grep front: /tmp/output >/dev/null && cat /tmp/output").splitlines()
            assert lines == ["other: up", "store: up", "front: up"]
            after = pods.property(uuid, "front", "After").split()
            assert {f"store-rkt-{uuid}.service", f"other-rkt-{uuid}.service"} <= set(after)

    @pytest.mark.parametrize("restart", ["no", "always"])
    def test_nothing_is_started_after_an_app_that_never_became_ready(self, pods: FieldPods, restart: str) -> None:
        unit = {"skim/unit": f"[Service]\nRestart={restart}\n"}
        first = pods.shell("echo tries; exit 3", "first", image="notify", annotations=unit)
        result = pods.run(first, pods.shell("echo second", "second"), pods.shell("echo third", "third"))
        assert (result.status, result.lines) == (3, ["first: tries"])
        assert 'app "first" failed with exit status 3' in result.stderr

    def test_what_it_comes_after_is_named_where_it_never_ran(self, pods: FieldPods) -> None:
        first = pods.shell("echo first", "first", annotations={"skim/unit": "[Unit]\nConditionPathExists=/nosuch\n"})
        result = pods.run(first, pods.shell("echo second", "second"), pods.shell("echo third", "third"))
        assert (result.status, result.stdout) == (1, "")
        assert 'app "first" was not started: its unit\'s conditions say no' in result.stderr
        for app in ("second", "third"):
            assert f'app "{app}" was not started: what it comes after failed' in result.stderr

    def test_an_image_can_say_that_it_waits_for_nothing(self, pods: FieldPods) -> None:
        first = pods.shell("until [ -e /tmp/second-is-up ]; do sleep 0.05; done; systemd-notify --ready", "first", image="notify")
        second = pods.shell("touch /tmp/second-is-up", "second", image="after-nothing")
        pods.host.check("rm -f /tmp/second-is-up")
        assert pods.run(first, second).status == 0

    @pytest.mark.parametrize(
        ("after", "said"),
        [
            (("second", ""), None),
            (("second", "first"), "apps wait for each other: first after second, second after first"),
            (("first", ""), "apps wait for each other: first after first"),
            (("third", ""), "app \"first\": annotation skim/after names 'third', which is no app of this pod"),
        ],
    )
    def test_a_circle_or_an_unknown_name_is_an_error_before_anything_starts(
        self, pods: FieldPods, after: tuple[str, str], said: str | None
    ) -> None:
        entries = [
            pods.shell("echo runs", name, annotations={"skim/after": value}) for name, value in zip(("first", "second"), after, strict=True)
        ]
        result = pods.run(*entries)
        assert result.status == (254 if said else 0)
        assert (said or "") in result.stderr
        assert ("runs" in result.stdout) == (said is None)


class TestStreams:
    def test_null_is_silent_and_log_is_the_default(self, pods: FieldPods) -> None:
        def modes(**those: str) -> dict[str, str]:
            return {f"coreos.com/rkt/stage2/{stream}": mode for stream, mode in those.items()}

        script = "echo out; echo err >&2; read line || echo nothing to read"
        quiet = pods.shell(script, "quiet", annotations=modes(stdout="null", stdin="null"))
        loud = pods.shell(script, "loud", annotations=modes(stdout="log", stderr="null"))
        result = pods.run(quiet, loud)
        assert sorted(result.lines) == ["loud: nothing to read", "loud: out"]
        assert result.stderr == "quiet: err\n"

    def test_what_needs_a_multiplexer_is_named(self, pods: FieldPods) -> None:
        result = pods.run(
            pods.shell("echo out", annotations={"coreos.com/rkt/stage2/stdin": "stream", "coreos.com/rkt/stage2/stdout": "tty"})
        )
        assert result.stdout == "out\n"
        assert [line.partition("annotation ")[2].partition(" is")[0] for line in result.stderr.splitlines()] == [
            "coreos.com/rkt/stage2/stdin=stream",
            "coreos.com/rkt/stage2/stdout=tty",
        ]


@contextmanager
def flags_added(pods: FieldPods, *flags: str) -> Iterator[str]:
    """Have stage0 start `run` with more flags than it would pass itself: a program between the two, in the tree that is rendered next."""
    stage1 = pods.host.check("ls -d /var/lib/rkt/cas/tree/*/rootfs/skim/stage1").strip().splitlines()
    assert stage1
    words = " ".join(flags)
    scripts = [path.removesuffix("stage1") + "run" for path in stage1]
    try:
        for script in scripts:
            pods.host.check(f"[ -L {script} ] && mv {script} {script}.real || [ -L {script}.real ]")
            folder = '"${0%/*}"'
            pods.host.write(script, f'#!/bin/bash\nexec -a run {folder}/stage1 "${{@:1:$#-1}}" {words} "${{@:$#}}"\n', mode=0o755)
        yield words
    finally:
        for script in scripts:
            pods.host.check(f"rm {script}; mv {script}.real {script}")


class TestFlags:
    def test_the_metadata_service_is_passed_on(self, pods: FieldPods) -> None:
        with flags_added(pods, "--mds-token=0123abcd"):
            result = pods.run(pods.shell("echo $AC_METADATA_URL"))
        assert (result.stdout, result.stderr) == ("http://127.0.0.1:18112/0123abcd\n", "")

    def test_every_flag_of_every_version_is_taken_and_what_cannot_be_is_named(self, pods: FieldPods) -> None:
        flags = (
            "--debug=false --net=bridge:IP=1.2.3.4 --interactive=false --private-users=1000:65536 --local-config=/etc/rkt --hostname=web "
            "--dns-conf-mode=resolv=stage0,hosts=default --disable-capabilities-restriction --disable-paths --disable-seccomp --ipc=private"
        )
        with flags_added(pods, *flags.split()):
            result = pods.run(pods.shell("echo runs"))
        assert (result.status, result.stdout) == (0, "runs\n")
        assert [line.split()[2].partition("=")[0] for line in result.stderr.splitlines()] == [
            "--net",
            "--hostname",
            "--private-users",
            "--dns-conf-mode",
            "--ipc",
        ]

    def test_the_hosts_network_and_names_are_what_there_is(self, pods: FieldPods) -> None:
        with flags_added(pods, "--net=host", "--dns-conf-mode=resolv=host,hosts=host", "--ipc=parent"):
            result = pods.run(pods.shell("echo runs"))
        assert (result.stdout, result.stderr) == ("runs\n", "")

    def test_mutable_pods_are_refused_with_a_reason(self, pods: FieldPods) -> None:
        with flags_added(pods, "--mutable"):
            result = pods.run(pods.shell("echo runs"))
        assert (result.status, result.stdout) == (254, "")
        assert "mutable pods are not supported by stage1_skim: it has no entrypoints" in result.stderr
