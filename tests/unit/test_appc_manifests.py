"""Manifests: what is read, what is refused and where in the document, what is written."""

from __future__ import annotations

import json
import string
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appc.app import Annotation, App, EnvironmentVariable, EventHandler, Label, MountPoint, Port
from appc.errors import ManifestError, UserError
from appc.image import Dependency, ImageManifest, image_manifest_json, parse_image_manifest
from appc.isolators import (
    MEMORY,
    OOM_SCORE_ADJ,
    SECCOMP_REMOVE,
    Isolator,
    capabilities,
    last_isolator,
    number_isolator,
    resource,
    resource_isolator,
    seccomp_isolator,
    seccomp_set,
)
from appc.names import is_ac_identifier, is_ac_name, parse_uuid, sanitize_ac_name
from appc.pod import PodManifest, RuntimeApp, RuntimeImage, Volume, parse_pod_manifest, pod_manifest_json
from unit.image_making import MANIFEST

# What rkt 1.30 wrote for `prepare --volume=data,kind=empty APP --memory=50M --user-annotation=a=b ...` (contract section 4.2).
RKT_POD = (
    '{"acVersion":"1.30.0","acKind":"PodManifest","apps":[{"name":"app1","image":{"name":"example.com/app1","id":"sha512-3e11",'
    '"labels":[{"name":"version","value":"1.0.0"}]},"app":{"exec":["/bin/hello","arg1","extra1"],"user":"0","group":"0",'
    '"environment":[{"name":"FOO","value":"bar"},{"name":"E","value":"1"}],"mountPoints":[{"name":"data","path":"/data"}],'
    '"isolators":[{"name":"resource/memory","value":{"request":"1G","limit":"2G"}},'
    '{"name":"resource/memory","value":{"default":false,"request":"50M","limit":"50M"}}],"userAnnotations":{"a":"b"}},'
    '"annotations":[{"name":"x.y/z","value":"w"}]}],"volumes":[{"name":"data","kind":"empty","mode":"0755","uid":0,"gid":0}],'
    '"isolators":null,"annotations":[{"name":"coreos.com/rkt/stage1/mutable","value":"false"}],"ports":[]}'
)


def image(**changes: Any) -> str:
    return json.dumps({**MANIFEST, **changes})


def app(**changes: Any) -> str:
    return image(app={**MANIFEST["app"], **changes})


def problems_of(text: str | bytes) -> dict[str, str]:
    with pytest.raises(ManifestError) as caught:
        parse_image_manifest(text)
    return {problem.path: problem.message for problem in caught.value.problems}


def test_rkts_own_pod_manifest_is_written_as_it_was_read() -> None:
    manifest = parse_pod_manifest(RKT_POD)
    assert pod_manifest_json(manifest) == RKT_POD
    memory = last_isolator(manifest.apps[0].app.isolators, MEMORY)  # type: ignore[union-attr]
    assert memory is not None
    limit = resource(memory).limit
    assert limit is not None and limit.whole() == 50_000_000
    assert manifest.annotation("coreos.com/rkt/stage1/mutable") == "false"


def test_gos_json_manners() -> None:
    manifest = parse_image_manifest(
        image(
            unknown={"x": [1]},
            annotations=None,
            APP={"EXEC": ["/a"], "User": "0", "group": "0", "supplementaryGids": [4, 5], "ports": None},
            app=None,
        )
    )
    assert manifest.app is None  # the exact key wins over one that differs in case
    manifest = parse_image_manifest(app(supplementaryGids=[400, 500], environment=None))
    assert manifest.app is not None
    assert manifest.app.supplementary_gids == (400, 500)
    assert manifest.app.environment == ()


def test_strings_are_escaped_as_go_does() -> None:
    text = image_manifest_json(
        ImageManifest(ac_version="0.8.11", name="a", app=App(exec=("<&>", '\b\f\n\t\x01"\\\u2028é\\b'), user="0", group="0"))
    )
    assert '["\\u003c\\u0026\\u003e","\\u0008\\u000c\\n\\t\\u0001\\"\\\\\\u2028é\\\\b"]' in text


def test_every_problem_is_reported_with_its_path() -> None:
    found = problems_of(
        image(
            acVersion="0.0.0",
            name="Upper",
            labels=[{"name": "os", "value": "plan9"}, {"name": "x"}, {"name": "x"}, {"name": "name", "value": "y"}],
            annotations=[{"name": "created", "value": "yesterday"}, {"name": "homepage", "value": "ftp://x"}],
            dependencies=[{"imageName": ""}, {"imageName": "a", "imageID": "md5-1"}],
            app={
                "exec": ["/bin/a", 1, "nul\0"],
                "group": "",
                "workingDirectory": "tmp",
                "environment": [{"name": "1A", "value": ""}, {"name": "B"}, {"name": "B"}],
                "eventHandlers": [{"name": "during", "exec": ["/x"]}],
                "ports": [{"name": "a", "protocol": "tcp", "port": 65535, "count": 2}, {"name": "b", "port": "80"}],
                "mountPoints": [{"name": "data", "path": ""}],
                "isolators": [
                    {"name": "os/linux/unknown", "value": 1},
                    {"name": "resource/memory", "value": {"limit": "1Z"}},
                    {"name": "os/linux/oom-score-adj", "value": 1001},
                    {"name": "os/linux/oom-score-adj", "value": 1},
                    {"name": "resource/block-iops", "value": {"limit": "1", "request": "1"}},
                    {"name": "os/linux/seccomp-retain-set", "value": {"set": [], "errno": "nope"}},
                ],
            },
        )
    )
    for path in (
        "acVersion",
        "name",
        "labels",
        "labels[2].name",
        "labels[3].name",
        "annotations[0].value",
        "annotations[1].value",
        "dependencies[0].imageName",
        "dependencies[1].imageID",
        "app.exec[1]",
        "app.exec[2]",
        "app.user",
        "app.group",
        "app.workingDirectory",
        "app.environment[0].name",
        "app.environment[2].name",
        "app.eventHandlers[0].name",
        "app.ports[0].count",
        "app.ports[1].port",
        "app.mountPoints[0].path",
        "app.isolators[0].name",
        "app.isolators[1].value.limit",
        "app.isolators[2].value",
        "app.isolators[3].name",
        "app.isolators[4].value.default",
        "app.isolators[4].value.request",
        "app.isolators[5].value.set",
        "app.isolators[5].value.errno",
    ):
        assert path in found, path
    assert len(found) == 28


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "nonsense",
        '{"a": NaN}',
        "[" * 100_000,
        b"\xff{}",
        b"\xef\xbb\xbf{}",
        '{"acKind": "\\ud800"}',
        '{"acKind": "\ud800"}',
        "9" * 5000,
        '{"a":' * 900 + '"\\ud800"' + "}" * 900,
    ],
)
def test_what_is_no_manifest_is_one_clear_error(text: str | bytes) -> None:
    with pytest.raises(ManifestError) as caught:
        parse_image_manifest(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_hostile_manifest_cannot_flood_the_terminal() -> None:
    names = [{"name": f"\x1b[2J\n{index}", "value": "x" * 10_000} for index in range(1000)]
    with pytest.raises(ManifestError) as caught:
        parse_image_manifest(image(labels=names, annotations=[{"name": "created", "value": "\x1b\n" * 9999}]))
    assert len(caught.value.problems) == 1001
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 12_000
    assert str(caught.value).endswith("; and 971 more")


def test_pod_problems_name_the_app() -> None:
    document = json.loads(RKT_POD)
    document["apps"].append(document["apps"][0])
    document["apps"][1] = {**document["apps"][1], "app": {"exec": "/bin/sh", "user": "0", "group": "0"}, "image": {}}
    document["volumes"] += [{"name": "data", "kind": "host", "source": "relative", "uid": 1}, {"name": "x", "kind": "tmpfs"}]
    with pytest.raises(ManifestError) as caught:
        parse_pod_manifest(json.dumps(document))
    assert {problem.path for problem in caught.value.problems} == {
        "apps[1].app.exec",
        "apps[1].image.id",
        "apps[1].name",
        "volumes[1].source",
        "volumes[1].uid",
        "volumes[1].name",
        "volumes[2].kind",
    }


def test_empty_volumes_get_their_defaults_and_recursive_stays_unset() -> None:
    document = json.loads(RKT_POD)
    document["volumes"] = [{"name": "a", "kind": "empty"}, {"name": "b", "kind": "host", "source": "/srv", "readOnly": True}]
    first, second = parse_pod_manifest(json.dumps(document)).volumes
    assert first == Volume(name="a", kind="empty", mode="0755", uid=0, gid=0)
    assert second.recursive is None and second.read_only is True


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("uid", -7),
        ("uid", 99999999999),
        ("gid", 2**32 - 1),
        ("mode", ""),
        ("mode", "rwx"),
        ("mode", "0o755"),
        ("mode", "10000"),
        ("mode", "7" * 30),
        ("mode", "²"),
    ],
)
def test_owners_and_modes_that_no_directory_can_have(field: str, value: object) -> None:
    document = json.loads(RKT_POD)
    document["volumes"] = [{"name": "a", "kind": "empty", field: value}]
    document["apps"][0]["mounts"] = [{"volume": "a", "path": "/x", "appVolume": document["volumes"][0]}]
    with pytest.raises(ManifestError) as caught:
        parse_pod_manifest(json.dumps(document))
    assert {problem.path for problem in caught.value.problems} == {f"volumes[0].{field}", f"apps[0].mounts[0].appVolume.{field}"}


def test_a_manifest_that_would_not_parse_is_not_written() -> None:
    entry = RuntimeApp(
        name="a", image=RuntimeImage(id="sha512-ab"), app=App(exec=("/a",), user="0", group="0", working_directory="relative")
    )
    with pytest.raises(ManifestError, match=r"apps\[0\]\.app\.workingDirectory"):
        pod_manifest_json(PodManifest(ac_version="1.30.0", apps=(entry,)))


def test_names_follow_rkts_parser_not_the_specifications_expression() -> None:
    assert is_ac_identifier("a..b") and is_ac_identifier("coreos.com/rkt~x/a--b") and is_ac_name("a--b")
    assert not any(map(is_ac_identifier, ("", "a/", "-ab", "Upper", "a b", "ä")))
    assert not is_ac_name("a.b") and not is_ac_name("a\n")
    assert sanitize_ac_name("-My App.") == "my-app"
    with pytest.raises(UserError):
        sanitize_ac_name("...")
    assert parse_uuid("6733C088A5074694AABFEDBE4FC5266F") == "6733c088-a507-4694-aabf-edbe4fc5266f"
    with pytest.raises(UserError):
        parse_uuid("6733")


def test_isolators_of_the_command_line() -> None:
    assert resource_isolator(MEMORY, "1000M").value == {"default": False, "request": "1G", "limit": "1G"}
    assert seccomp_set(seccomp_isolator(SECCOMP_REMOVE, ["reboot"], "EPERM")).errno == "EPERM"
    with pytest.raises(UserError, match="between -1000 and 1000"):
        number_isolator(OOM_SCORE_ADJ, 2000)
    with pytest.raises(UserError, match="non-empty"):
        seccomp_isolator(SECCOMP_REMOVE, [])
    with pytest.raises(UserError):
        resource_isolator(MEMORY, "much")
    assert capabilities(Isolator(name="os/linux/capabilities-retain-set", value={"set": ["CAP_KILL"]})) == ("CAP_KILL",)


# Round trips.

words = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=8)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
paths = texts.map(lambda text: "/" + text)
maps = st.dictionaries(texts, texts, max_size=3)


def unique(items: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(items, max_size=3, unique_by=lambda item: item.name).map(tuple)


isolators = st.sampled_from(
    [
        Isolator(name="resource/memory", value={"limit": "1Gi"}),
        Isolator(name="os/linux/capabilities-retain-set", value={"set": ["CAP_KILL"]}),
        Isolator(name="os/linux/no-new-privileges", value=True),
    ]
)
ports = st.builds(Port, name=words, protocol=words, port=st.integers(1, 60000), count=st.integers(1, 5000), socket_activated=st.booleans())
apps = st.builds(
    App,
    exec=st.lists(texts, max_size=3).map(tuple),
    user=texts.filter(bool),
    group=texts.filter(bool),
    event_handlers=unique(
        st.builds(EventHandler, name=st.sampled_from(["pre-start", "post-stop"]), exec=st.lists(texts, max_size=2).map(tuple))
    ),
    supplementary_gids=st.lists(st.integers(0, 2**31), max_size=3).map(tuple),
    working_directory=st.one_of(st.just(""), paths),
    environment=unique(st.builds(EnvironmentVariable, name=words.map(lambda word: "V" + word), value=texts)),
    mount_points=st.lists(st.builds(MountPoint, name=words, path=paths, read_only=st.booleans()), max_size=2).map(tuple),
    ports=st.lists(ports, max_size=2).map(tuple),
    isolators=st.lists(isolators, max_size=3).map(tuple),
    user_annotations=maps,
    user_labels=maps,
)
labels = unique(st.builds(Label, name=words.map(lambda word: "l" + word), value=texts))
images = st.builds(
    ImageManifest,
    ac_version=st.just("0.8.11"),
    name=words,
    labels=labels,
    app=st.none() | apps,
    dependencies=st.lists(
        st.builds(Dependency, image_name=words, image_id=st.none() | st.just("sha512-ab"), labels=labels, size=st.integers(0, 99)),
        max_size=2,
    ).map(tuple),
    annotations=unique(st.builds(Annotation, name=words, value=texts)).filter(
        lambda found: not {"created", "homepage"} & {a.name for a in found}
    ),
    path_whitelist=st.lists(paths, max_size=2).map(tuple),
)
volumes = st.builds(
    Volume,
    name=words,
    kind=st.just("host"),
    source=paths,
    read_only=st.none() | st.booleans(),
    recursive=st.none() | st.booleans(),
    mode=st.none(),
    uid=st.none(),
    gid=st.none(),
)


@settings(deadline=None, max_examples=50)
@given(images)
def test_image_manifests_survive_writing_and_reading(manifest: ImageManifest) -> None:
    text = image_manifest_json(manifest)
    assert parse_image_manifest(text) == manifest
    assert image_manifest_json(parse_image_manifest(text)) == text


@settings(deadline=None, max_examples=50)
@given(st.lists(apps, max_size=2), st.lists(volumes, max_size=1))
def test_pod_manifests_survive_writing_and_reading(sections: list[App], found: list[Volume]) -> None:
    entries = tuple(
        RuntimeApp(name=f"app{index}", image=RuntimeImage(id="sha512-ab"), app=section) for index, section in enumerate(sections)
    )
    manifest = PodManifest(ac_version="1.30.0", apps=entries, volumes=tuple(found))
    assert parse_pod_manifest(pod_manifest_json(manifest)) == manifest


@settings(deadline=None, max_examples=50)
@given(st.recursive(st.none() | st.booleans() | st.integers() | texts, lambda inner: st.lists(inner) | st.dictionaries(texts, inner)))
def test_no_json_breaks_the_parser(value: Any) -> None:
    for document in (value, {**MANIFEST, "app": value}, {**MANIFEST, "labels": value}, {**MANIFEST, "annotations": [value]}):
        try:
            parse_image_manifest(json.dumps(document))
        except ManifestError as error:
            assert error.problems
