"""The Docker SDK for Python."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Callable, Iterator

import docker as sdk
import pytest
from docker.models.containers import Container

from hosts.host import Host
from hosts.nspawn import NspawnHost

LOOP = ["sh", "-c", "echo started; while :; do /bin/busybox sleep 0.2; done"]


@pytest.fixture
def client(docker: Host) -> Iterator[sdk.DockerClient]:
    """Through the host's own socket."""
    assert isinstance(docker, NspawnHost)
    client = sdk.DockerClient(base_url=f"unix:///proc/{docker.pid1()}/root/run/docker.sock", timeout=60)
    yield client
    client.close()


@pytest.fixture
def box(client: sdk.DockerClient) -> Container:
    """A container that runs."""
    return client.containers.run("busybox", LOOP, name="box", detach=True, init=True)


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_the_version_is_negotiated(client: sdk.DockerClient) -> None:
    found = client.version()
    assert found["Version"]
    assert client.ping()


def test_containers_are_run_listed_stopped_and_removed(client: sdk.DockerClient) -> None:
    assert client.containers.run("busybox", ["/bin/busybox", "echo", "hello"], remove=True) == b"hello\n"
    box = client.containers.run("busybox", LOOP, name="box", detach=True, init=True, labels={"of": "tests"})
    assert [found.name for found in client.containers.list(filters={"label": "of=tests"})] == ["box"]
    box.stop(timeout=5)
    assert box.wait()["StatusCode"] == 143
    box.remove()
    assert client.containers.list(all=True, filters={"label": "of=tests"}) == []


def test_a_failing_container_raises_with_its_status_and_words(client: sdk.DockerClient) -> None:
    with pytest.raises(sdk.errors.ContainerError) as caught:
        client.containers.run("busybox", ["sh", "-c", "echo wrong >&2; exit 7"], remove=True)
    assert (caught.value.exit_status, caught.value.stderr) == (7, b"wrong\n")


def test_exec_gives_status_output_and_a_stream(box: Container) -> None:
    assert tuple(box.exec_run(["sh", "-c", "echo out; echo err >&2; exit 3"], demux=True)) == (3, (b"out\n", b"err\n"))
    # Of a command that ends at once the stream was empty on stock, once in many runs.
    assert b"".join(box.exec_run(["sh", "-c", "/bin/busybox sleep 0.3; echo 1; echo 2"], stream=True).output) == b"1\n2\n"


def test_attach_carries_both_ways(client: sdk.DockerClient) -> None:
    echo = client.containers.create("busybox", ["sh", "-c", "read -r line; echo got $line"], stdin_open=True, name="echo")
    stream = echo.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    echo.start()
    stream._sock.sendall(b"a line\n")
    said = b""
    while b"got a line\n" not in said:
        data = stream._sock.recv(4096)
        assert data, said
        said += data
    assert echo.wait()["StatusCode"] == 0


def test_logs_are_read_and_followed(client: sdk.DockerClient) -> None:
    script = "for n in 1 2 3; do echo $n; /bin/busybox sleep 0.1; done"
    counting = client.containers.run("busybox", ["sh", "-c", script], detach=True, name="counting")
    assert b"".join(counting.logs(stream=True, follow=True)) == b"1\n2\n3\n"
    assert counting.logs(tail=1) == b"3\n"


def test_files_are_put_and_got(box: Container) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        entry = tarfile.TarInfo("file")
        entry.size = 4
        archive.addfile(entry, io.BytesIO(b"data"))
    assert box.put_archive("/", packed.getvalue())
    chunks, stat = box.get_archive("/file")
    assert stat["size"] == 4
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
        member = archive.extractfile("file")
        assert member is not None
        assert member.read() == b"data"


def test_statistics_and_processes_of_a_container_are_given(box: Container) -> None:
    assert box.stats(stream=False)["memory_stats"]["usage"] > 0
    assert any("sleep" in " ".join(line) or "sh -c" in " ".join(line) for line in box.top()["Processes"])


def test_images_are_tagged_saved_and_loaded(client: sdk.DockerClient) -> None:
    image = client.images.get("busybox")
    assert image.tag("travels", "now")
    saved = b"".join(client.images.get("travels:now").save(named="travels:now"))
    client.images.remove("travels:now")
    assert "travels:now" in client.images.load(saved)[0].tags
    client.images.remove("travels:now")
    with pytest.raises(sdk.errors.ImageNotFound):
        client.images.get("travels:now")


def test_images_are_built_with_the_builds_words(client: sdk.DockerClient) -> None:
    recipe = io.BytesIO(b'FROM busybox\nRUN echo built > /made\nCMD ["/bin/busybox", "cat", "/made"]\n')
    image, words = client.images.build(fileobj=recipe, tag="sdk-made", rm=True)
    assert any("Step 2/3" in line.get("stream", "") for line in words)
    assert client.containers.run(image.id, remove=True) == b"built\n"
    client.images.remove("sdk-made")


def test_networks_join_containers(client: sdk.DockerClient) -> None:
    network = client.networks.create("pair", driver="bridge")
    server = client.containers.run(
        "busybox", ["/bin/busybox", "nc", "-ll", "-p", "7", "-e", "/bin/busybox", "cat"], network="pair", name="server", detach=True
    )
    ask = ["sh", "-c", "until echo across | /bin/busybox nc -w 2 server 7; do :; done"]
    assert client.containers.run("busybox", ask, network="pair", remove=True) == b"across\n"
    network.disconnect(server)
    network.remove()
    assert client.networks.list(names=["pair"]) == []


def test_volumes_keep_what_is_written(client: sdk.DockerClient) -> None:
    volume = client.volumes.create("kept")
    mount = {"kept": {"bind": "/data", "mode": "rw"}}
    client.containers.run("busybox", ["sh", "-c", "echo 1 > /data/file"], volumes=mount, remove=True)
    assert client.containers.run("busybox", ["/bin/busybox", "cat", "/data/file"], volumes=mount, remove=True) == b"1\n"
    volume.remove()
    with pytest.raises(sdk.errors.NotFound):
        client.volumes.get("kept")


def test_events_are_told_in_order(client: sdk.DockerClient) -> None:
    since = time.time() - 1
    client.containers.run("busybox", ["/bin/busybox", "true"], name="short")
    client.containers.get("short").remove()
    events = client.events(since=since, until=time.time() + 1, filters={"container": "short"}, decode=True)
    told = [event["Action"] for event in events]
    assert [action for action in told if action in ("create", "start", "die", "destroy")] == ["create", "start", "die", "destroy"]


def test_a_swarm_of_one_runs_a_service(client: sdk.DockerClient) -> None:
    client.swarm.init(advertise_addr="127.0.0.1", listen_addr="127.0.0.1:2377")
    try:
        service = client.services.create("busybox", command=LOOP, name="swarmed", networks=["host"])
        until(lambda: [task for task in service.tasks() if task["Status"]["State"] == "running"])
        service.reload()  # an update names the version that it is of, and the manager has written to the service since it was made
        assert service.scale(2)
        until(lambda: len([task for task in service.tasks() if task["Status"]["State"] == "running"]) == 2)
        service.remove()
        until(lambda: not client.containers.list(filters={"label": "com.docker.swarm.service.name=swarmed"}))
    finally:
        client.swarm.leave(force=True)
    assert client.info()["Swarm"]["LocalNodeState"] == "inactive"
