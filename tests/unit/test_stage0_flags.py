"""The command line: global flags, flags of images, values. Messages are a real rkt's."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appc.errors import UserError
from appc.pod import Mount, Volume
from stage0 import flag_values
from stage0.commands import find
from stage0.context import parse_insecure_options
from stage0.dns import hosts_file, parse_names, resolv_conf
from stage0.flags import FlagError, FlagSet
from stage0.output import Failure
from stage0.pod_flags import PodFlags
from stage0.request import AppRequest, PodRequest


def request(*arguments: str) -> PodRequest:
    flags = FlagSet(interspersed=False)
    pod_flags = PodFlags()
    pod_flags.declare_preparation(flags)
    pod_flags.declare_running(flags)
    return pod_flags.request(flags, flags.parse(arguments))


def refused(*arguments: str) -> str:
    """The message with its innermost cause."""
    with pytest.raises(UserError) as caught:
        request(*arguments)
    return str(caught.value.__cause__ or caught.value)


def test_images_and_flags_take_turns() -> None:
    found = request("--inherit-env", "one", "--name=a", "--user", "www", "--", "x", "--name=no", "--", "---", "two", "--exec=/e", "three")
    assert found.inherit_environment
    assert found.apps == (
        AppRequest(image="one", name="a", user="www", arguments=("x", "--name=no", "--")),
        AppRequest(image="two", exec="/e"),
        AppRequest(image="three"),
    )


def test_arguments_arrive_unchanged() -> None:
    assert request("image", "--", "", "-", "%n", "$HOME", "a\nb", "\udcff").apps[0].arguments == ("", "-", "%n", "$HOME", "a\nb", "\udcff")


@given(st.lists(st.text().filter(lambda text: text != "---")))
def test_any_arguments_arrive(arguments: list[str]) -> None:
    found = request("image", "--", *arguments, "---", "other")
    assert found.apps == (AppRequest(image="image", arguments=tuple(arguments)), AppRequest(image="other"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--name=x", "i"], 'invalid argument "x" for --name=x: --name must follow an image'),
        (["i", "--memory=16m"], "memory limit of 1 bytes too low. Try a reasonable value, such as --memory=16M"),
        (["i", "--exec=a", "--exec=b"], "--exec specified multiple times for the same image"),
        (["i", "--readonly-rootfs=perhaps"], "--readonly-rootfs must be set with a boolean"),
        (["i", "--supplementary-gids=1,x"], "--supplementary-gids must be integers"),
        (["i", "--annotation=key"], 'invalid format of --annotation flag "key"'),
        (["i", "--frob"], "unknown flag: --frob"),
        (["i", "--name"], "flag needs an argument: --name"),
        (["i", "---name"], "bad flag syntax: ---name"),
        (["i", "-x"], "unknown shorthand flag: 'x' in -x"),
        (["i", "--", "a", "---", "--", "b"], "only one set of app arguments allowed per image"),
        (["", "--", "a"], "an image is required before any app arguments"),
        (["i", "--mount=volume=v,target=/x"], 'dangling mount point "/x": volume "v" not found'),
        (["--net=a", "--net=a", "i"], 'found duplicate netname "a"'),
        (["--net=host:x", "i"], 'arguments are not supported by special netname "host"'),
        (["--net=host", "--port=a:1", "i"], "--port flag does not work with 'host' networking"),
        (["--port=a", "i"], '"a" is not in name:[ip:]port format'),
        (["--port=a:1.2.3:80", "i"], '"1.2.3" is not a valid IP'),
        (["--port=a:70000", "i"], '"70000" is not a valid port number'),
        (["--set-env=A=1", "--set-env=A=2", "i"], 'key "A" already set'),
        (["--stage1-path=a", "--stage1-path=b", "i"], "--stage1-path already used"),
        (["--stage1-path=a", "--stage1-hash=b", "i"], "flags --stage1-hash and --stage1-path are mutually exclusive"),
        (["--pod-manifest=x", "i"], "conflicting flags set with --pod-manifest (see --help)"),
        (["--store-only", "--no-store", "i"], "both --store-only and --no-store specified"),
        (["--private-users", "i"], "--private-users is not supported by this launcher"),
    ],
)
def test_refused(arguments: list[str], message: str) -> None:
    assert message in refused(*arguments)


def test_mounts_before_images_are_for_all() -> None:
    found = request("--volume=v,kind=empty", "--mount=volume=v,target=/a", "one", "--mount=volume=v,target=/b")
    assert found.mounts == (Mount(volume="v", path="/a"),)
    assert found.apps[0].mounts == (Mount(volume="v", path="/b"),)


def test_volumes() -> None:
    assert flag_values.volume("data,kind=empty") == Volume(name="data", kind="empty", mode="0755", uid=0, gid=0)
    assert flag_values.volume("d,kind=host,source=/a+b=c,readOnly=1") == Volume(name="d", kind="host", source="/a+b=c", read_only=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("d", 'unrecognized volume kind: should be one of "empty", "host"'),
        ("D,kind=empty", 'ACName must contain only lower case alphanumeric characters plus "-"'),
        ("d,kind=host", "source for host volume cannot be empty"),
        ("d,kind=host,source=x", "source for host volume must be absolute path"),
        ("d,kind=host,source=/x,uid=1", "uid for host volume cannot be set"),
        ("d,kind=empty,source=/x", "source for empty volume must be empty"),
        ("d,kind=empty,uid=99999999999", "uid 99999999999 is not between 0 and 4294967294"),
        ("d,kind=empty,uid=-7", "uid -7 is not between 0 and 4294967294"),
        ("d,kind=empty,gid=4294967295", "gid 4294967295 is not between 0 and 4294967294"),
        ("d,kind=empty,mode=" + "7" * 30, f'mode "{"7" * 30}" is not made of octal digits up to 07777'),
        ("d,kind=empty,mode=rwx", 'mode "rwx" is not made of octal digits up to 07777'),
        ("d,kind=empty,mode=", 'mode "" is not made of octal digits up to 07777'),
        ("d,kind=empty,uid=x", 'strconv.Atoi: parsing "x": invalid syntax'),
        ("d,kind=empty,kind=host", 'label kind with multiple values ["empty" "host"]'),
        ("d,colour=red", 'unknown volume parameter "colour"'),
        ("d,kind", 'malformed string "name=d,kind" - has a label without a value: kind'),
    ],
)
def test_refused_volumes(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        flag_values.volume(text)
    assert str(caught.value).endswith(f": {message}")


@given(st.text())
def test_values_are_read_or_refused(text: str) -> None:
    for read in (flag_values.volume, flag_values.mount, flag_values.port, flag_values.integer):
        try:
            read(text)
        except ValueError:
            continue


def test_environment_files(tmp_path: Path) -> None:
    path = tmp_path / "env"
    path.write_text("# comment\n;too\n\nA=1\nB=a=b # kept\n")
    assert flag_values.environment_file(str(path), {}) == {"A": "1", "B": "a=b # kept"}
    with pytest.raises(ValueError, match="already set"):
        flag_values.environment_file(str(path), {"A": "2"})
    path.write_text("A\n")
    with pytest.raises(ValueError, match="must be specified as name=value"):
        flag_values.environment_file(str(path), {})


def test_insecure_options() -> None:
    assert parse_insecure_options("none") == frozenset()
    assert parse_insecure_options("Image,paths") == {"image", "paths"}
    assert parse_insecure_options("all-fetch") == {"image", "tls", "http", "pubkey"}
    assert parse_insecure_options("all") == {"image", "tls", "http", "pubkey", "capabilities", "paths", "seccomp"}
    for text, message in (("image,image", 'duplicated option "image"'), ("x", 'unknown option "x"'), ("", 'unknown option ""')):
        with pytest.raises(ValueError, match=message):
            parse_insecure_options(text)


@pytest.mark.parametrize(
    ("arguments", "name", "rest"),
    [
        (["list"], "list", []),
        (["l", "--full"], "list", ["--full"]),
        (["--dir", "list", "--debug", "gc"], "gc", ["--dir", "list", "--debug"]),
        (["run", "list"], "run", ["list"]),
        (["run-p", "x"], "run-prepared", ["x"]),
        (["--dir=/x", "im", "--debug", "l"], "image list", ["--dir=/x", "--debug"]),
        (["image", "frob"], "image", ["frob"]),
    ],
)
def test_commands_by_name(arguments: list[str], name: str, rest: list[str]) -> None:
    command, left = find(arguments)
    assert command is not None
    assert (command.name, left) == (name, rest)


@pytest.mark.parametrize("word", ["frob", "r", "runn"])
def test_unknown_and_ambiguous_commands(word: str) -> None:
    with pytest.raises(FlagError, match=f'unknown command "{word}" for "rkt"'):
        find([word])


def test_names() -> None:
    names = parse_names(["8.8.8.8,::1"], ["a.b", "c"], ["rotate"], "d", ["1.2.3.4=x", "1.2.3.4=y,5.6.7.8=z"])
    assert (names.resolv_mode, names.hosts_mode) == ("stage0", "stage0")
    assert resolv_conf(names) == "# Generated by rkt run\n\nsearch a.b c\nnameserver 8.8.8.8\nnameserver ::1\noptions rotate\ndomain d\n"
    assert hosts_file(names, "base\n") == "base\n\n\n# Added by rkt run --hosts-entry\n1.2.3.4 x y\n5.6.7.8 z\n"
    assert parse_names(["host"], [], [], "", ["host"])[:2] == ("host", "host")
    assert parse_names([], [], [], "", [])[:2] == ("default", "default")
    for arguments, message in (
        ((["host", "1.1.1.1"], [], [], "", []), "no other --dns options allowed when --dns=host is passed"),
        ((["none"], ["x"], [], "", []), "Cannot call --dns-opt, --dns-search, or --dns-domain with --dns=none"),
        ((["x"], [], [], "", []), "Invalid IP passed to --dns: x"),
        (([], [], [], "", ["x"]), "Did not understand --hosts-entry x"),
        (([], [], [], "", ["host", "1.1.1.1=x"]), "cannot pass --hosts-entry=host with multiple hosts-entries"),
    ):
        with pytest.raises(UserError) as caught:
            parse_names(*arguments)
        assert str(caught.value) == message


def test_failure_of_app_flags_has_a_cause() -> None:
    with pytest.raises(Failure, match="error parsing app image arguments"):
        request("i", "--frob")
