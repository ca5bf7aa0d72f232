"""What an app is started with: program, words, environment, user, directory (contract sections 4.2, 5.1, 5.4), on a real systemd."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from field_pods import FieldPods, Result

# What systemd tells its services, and what the host's operator gives to all of them.
FROM_SYSTEMD = {"INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID", "LANG", "NOTIFY_SOCKET", "MANAGERPID"}
OURS = {"PATH", "SHELL", "USER", "LOGNAME", "HOME", "AC_APP_NAME"}


class TestExec:
    @pytest.mark.parametrize(
        ("words", "fields", "said"),
        [
            (["/opt/one/tool", "a", "b"], {}, "one: {way}/opt/one/tool a b"),
            (["./tool"], {"workingDirectory": "/opt/two"}, "two: {way}/opt/two/tool "),
            (["opt/one/tool"], {}, "one: {way}/opt/one/tool "),
            (["tool"], {"environment": [{"name": "PATH", "value": "/none:/opt/two:/opt/one"}]}, "two: {way}/opt/two/tool "),
        ],
    )
    def test_every_form_of_exec_finds_the_images_program(
        self, pods: FieldPods, words: list[str], fields: dict[str, Any], said: str
    ) -> None:
        result = pods.run(pods.entry("app", *words, **fields))
        assert (result.status, result.stderr) == (0, "")
        assert result.stdout == said.format(way=f"/run/skim/{result.uuid}/app") + "\n"

    def test_argv0_is_what_the_manifest_says(self, pods: FieldPods) -> None:
        result = pods.run(pods.entry("app", "/bin/sh", "-c", "/bin/busybox tr '\\0' '\\n' < /proc/$$/cmdline; true"))
        assert result.lines[0] == "/bin/sh"

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["/bin/bash"], "has no executable '/bin/bash'"),
            (["nosuch"], "has no executable 'nosuch' on its PATH"),
            (["/etc/passwd"], "has no executable '/etc/passwd'"),
            ([], 'has an empty "exec"'),
        ],
    )
    def test_what_the_image_lacks_is_an_error_though_the_host_has_it(self, pods: FieldPods, words: list[str], said: str) -> None:
        result = pods.run(pods.entry("app", *words))
        assert (result.status, result.stdout) == (254, "")
        assert said in result.stderr
        assert len(result.stderr.splitlines()) == 1

    def test_the_main_process_is_the_app_itself(self, pods: FieldPods) -> None:
        with pods.running(pods.entry("app", "/bin/busybox", "sleep", "1000")) as uuid:
            pid = pods.property(uuid, "app", "MainPID")
            assert pods.host.check(f"tr '\\0' ' ' < /proc/{pid}/cmdline") == "/bin/busybox sleep 1000 "
            assert "lock" not in pods.host.check(f"ls -l /proc/{pid}/fd")
            assert f"pods/run/{uuid}\n" not in pods.host.check(f"readlink /proc/{pid}/fd/* || :")  # the pod's lock is not the app's

    def test_signals_are_as_systemd_starts_a_service_whoever_starts_it(self, pods: FieldPods) -> None:
        """SIGPIPE is ignored unless the unit says otherwise (IgnoreSIGPIPE=), nothing else is."""
        show = "exec /bin/busybox grep SigIgn /proc/self/status"
        of_the_c_library = 0b11 << 31  # signals 32 and 33: it hides them from programs
        for unit, expected in (({}, 1 << 12), ({"skim/unit": "[Service]\nIgnoreSIGPIPE=no\n"}, 0)):
            for user in ("0", "web"):
                result = pods.run(pods.shell(show, user=user, annotations=unit))
                assert int(result.stdout.split()[1], 16) & ~of_the_c_library == expected, (unit, user)


# -- words and variables of any bytes ----------------------------------------------------------------------------------------------------

characters = st.one_of(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]),
    st.sampled_from(list("%$\"'\\ \t\n\r;#=`*~&|<>(){}[]!?\x01\x7f\x85\ufdd0\uffff\ufeff")),
)
words = st.text(characters, max_size=12)
names = st.from_regex(r"[A-Za-z_][A-Za-z_0-9.-]{0,11}", fullmatch=True).filter(lambda name: name not in OURS | FROM_SYSTEMD)
variables = st.dictionaries(names, words, max_size=4)
asked = st.tuples(st.lists(words, max_size=5), variables)
users = st.sampled_from(["0", "web"])  # whom systemd starts, and whom the launcher does

Asked = tuple[list[str], dict[str, str]]


def probe(pods: FieldPods, examples: list[Asked], users: list[str] | None = None) -> list[Asked]:
    """Each example is an app of one pod; what arrived at each."""
    entries = [
        pods.entry(
            f"app{number}",
            "/probe",
            *sent,
            user=(users or ["0"] * len(examples))[number],
            environment=[{"name": name, "value": value} for name, value in environment.items()],
            annotations={"skim/after": ""},
        )
        for number, (sent, environment) in enumerate(examples)
    ]
    pods.host.check("rm -f /tmp/probe/*")
    result = pods.run(*entries)
    assert result.status == 0, result.stderr
    arrived = []
    for number in range(len(examples)):
        line = pods.host.read(f"/tmp/probe/app{number}.words").decode()
        environ = pods.host.read(f"/tmp/probe/app{number}.environ").decode()
        found = dict(item.split("=", 1) for item in environ.split("\0")[:-1])
        assert found["AC_APP_NAME"] == f"app{number}"
        for name in (FROM_SYSTEMD | OURS) & found.keys():
            del found[name]
        arrived.append((line.split("\0")[3:-1], found))  # after busybox, sh and the script
    return arrived


class TestBytes:
    @settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.tuples(asked, users), min_size=25, max_size=25))
    def test_words_and_variables_arrive_as_they_were_asked_for(self, pods: FieldPods, examples: list[tuple[Asked, str]]) -> None:
        sent = [words for words, _ in examples]
        assert probe(pods, sent, [user for _, user in examples]) == sent

    @pytest.mark.parametrize("user", ["0", "web"])
    def test_those_of_an_event_handler_too(self, pods: FieldPods, user: str) -> None:
        sent = ["%n", "$HOME", "$$", "`id`", '"', "'", "\\", "a\nb", " ", "", ";", "é", "\x01"]
        pods.host.check("rm -f /tmp/probe/*")
        handlers = [{"name": "pre-start", "exec": ["/probe", *sent]}]
        assert pods.run(pods.entry("app", "/bin/busybox", "true", user=user, eventHandlers=handlers)).status == 0
        assert pods.host.read("/tmp/probe/app.words").decode().split("\0")[3:-1] == sent

    def test_what_means_something_to_systemd_or_a_shell_means_nothing(self, pods: FieldPods) -> None:
        sent = [
            "%n",
            "%%",
            "$HOME",
            "${HOME}",
            "$$",
            "`id`",
            "$(id)",
            '"',
            "'",
            "\\",
            "\\n",
            "a\nb",
            " ",
            "",
            ";",
            "#",
            "-",
            "Ж",
            "\x01",
            "@",
        ]
        some = {
            "A": "%h",
            "B": "$HOME",
            "C": "a\nb\n",
            "D": " x ",
            "E": "\\",
            "F": "'",
            "G": '"',
            "H": "#",
            "with.dot-and-dash": "1",
            "I": "",
        }
        assert probe(pods, [(sent, some), (sent, {})]) == [(sent, some), (sent, {})]

    @pytest.mark.parametrize("text", ["x", '"', "\n", "%", "\x01", "é"])
    def test_128_kilobytes_in_one_variable_and_in_one_word(self, pods: FieldPods, text: str) -> None:
        most = 128 * 1024 - 1 - len("LONG=")  # MAX_ARG_STRLEN of the kernel, with the zero at the end
        value = text * (most // len(text.encode()))
        sent = [text * ((128 * 1024 - 1) // len(text.encode()))]
        assert probe(pods, [([], {"LONG": value}), (sent, {})]) == [([], {"LONG": value}), (sent, {})]


class TestEnvironment:
    def test_defaults(self, pods: FieldPods) -> None:
        result = pods.run(pods.shell('echo "$SHELL $USER $LOGNAME $HOME $AC_APP_NAME"; echo "$PATH"; echo "${AC_METADATA_URL-none}"'))
        assert result.lines[0] == f"/bin/sh root root /run/skim/{result.uuid}/app/root app"
        way = f"/run/skim/{result.uuid}/app"
        usual = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        assert result.lines[1] == ":".join(way + element for element in usual.split(":")) + ":" + usual
        assert result.lines[2] == "none"

    def test_rkt_env_holds_it_for_others(self, pods: FieldPods) -> None:
        with pods.ended(pods.shell("true", environment=[{"name": "ONE", "value": "first"}])) as result:
            env = f"/var/lib/rkt/pods/run/{result.uuid}/stage1/rootfs/rkt/env/app"
            lines = pods.host.check(f"cat {env}").splitlines()
        assert {"ONE=first", "AC_APP_NAME=app", "USER=root"} <= set(lines)

    def test_nothing_of_ours_is_in_the_apps_root(self, pods: FieldPods) -> None:
        result = pods.run(pods.shell("ls -A /proc/$$/cwd/"))
        assert result.stdout.split() == sorted(["bin", "etc", "home", "link-to-etc", "opt", "probe", "root", "srv", "tmp"])

    def test_libraries_are_not_forced_on_anybody(self, pods: FieldPods) -> None:
        assert pods.run(pods.shell('echo "${LD_LIBRARY_PATH-unset}"')).stdout == "unset\n"


class TestCredentials:
    @pytest.mark.parametrize(
        ("user", "group", "expected"),
        [
            ("web", "www", "4242 4343 7,77 web"),
            ("4242", "4343", "4242 4343 7,77 web"),
            ("12345", "54321", "12345 54321 7,77 12345"),
            ("root", "root", "0 0 7,77 root"),
            ("/home/web/file", "/home/web/file", "4242 4343 7,77 web"),
        ],
    )
    def test_user_and_group_are_the_images(self, pods: FieldPods, user: str, group: str, expected: str) -> None:
        script = (
            "while read key first _ ; do case $key in Uid:|Gid:) echo $first;; Groups:) echo;; esac; done < /proc/$$/status; echo $USER"
        )
        script += "; /bin/busybox grep ^Groups: /proc/$$/status"
        result = pods.run(pods.shell(script, user=user, group=group, supplementaryGIDs=[77, 7]))
        uid, gid, groups, name = expected.split()
        lines = [line for line in result.lines if line]
        assert lines[:3] == [uid, gid, name], result
        assert lines[3].split()[1:] == groups.split(",")

    def test_the_hosts_groups_of_that_number_are_not_given(self, pods: FieldPods) -> None:
        pods.host.check("getent passwd 6000 || useradd -u 6000 -G adm,sys hostuser")
        result = pods.run(pods.shell("/bin/busybox grep ^Groups: /proc/$$/status; echo $USER", user="6000", group="6000"))
        assert result.stdout.split() == ["Groups:", "6000"]

    def test_an_app_that_is_not_root_reaches_its_files_and_its_home(self, pods: FieldPods) -> None:
        script = '/bin/busybox cat "$HOME/file" home/web/file; echo "$HOME"; pwd'
        result = pods.run(pods.shell(script, user="web", group="www"))
        way = f"/run/skim/{result.uuid}/app"
        assert result.lines == ["a file at home", "a file at home", f"{way}/home/web", way]

    def test_a_home_that_the_image_lacks_stays_as_written(self, pods: FieldPods) -> None:
        assert pods.run(pods.shell("echo $HOME", user="lost", group="www")).stdout == "/nowhere\n"

    def test_docker_images_need_no_group(self, pods: FieldPods) -> None:
        script = "/bin/busybox grep ^Gid: /proc/$$/status"
        result = pods.run(pods.shell(script, user="4242", group="nowhere", image="docker"))
        assert result.stdout.split()[1] == "4242"
        assert "group 'nowhere' is not in /etc/group" in pods.run(pods.shell(script, user="4242", group="nowhere")).stderr

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"user": "daemon"}, "user 'daemon' is not in /etc/passwd of image"),
            ({"group": "adm"}, "group 'adm' is not in /etc/group of image"),
            ({"user": "/missing"}, "user '/missing' is the owner of a file that image"),
            ({"supplementaryGIDs": [-1]}, "supplementaryGIDs: -1 is no group ID"),
        ],
    )
    def test_what_the_image_lacks_is_an_error(self, pods: FieldPods, fields: dict[str, Any], said: str) -> None:
        result: Result = pods.run(pods.shell("true", **fields))
        assert result.status == 254
        assert said in result.stderr


class TestWorkingDirectory:
    @pytest.mark.parametrize(("directory", "where"), [("", ""), ("/", ""), ("/srv/data", "/srv/data"), ("/link-to-etc", "/etc")])
    @pytest.mark.parametrize("user", ["0", "web"])
    def test_it_is_inside_the_image(self, pods: FieldPods, directory: str, where: str, user: str) -> None:
        result = pods.run(pods.shell("/bin/busybox pwd -P", workingDirectory=directory, user=user))
        assert result.stdout == f"/run/skim/{result.uuid}/app{where}\n"

    def test_one_that_the_image_lacks_is_an_error(self, pods: FieldPods) -> None:
        assert "no directory '/usr' to work in" in pods.run(pods.shell("true", workingDirectory="/usr")).stderr
