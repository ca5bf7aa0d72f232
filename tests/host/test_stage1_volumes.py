"""Volumes, mount points and read-only roots (contract sections 4.5 and 5.8), on a real systemd."""

from __future__ import annotations

from typing import Any

import pytest

from field_pods import FieldPods, Result

DATA = "/srv/host-data"


@pytest.fixture(scope="module")
def data(pods: FieldPods) -> FieldPods:
    """A directory on the host with a file, a link out, and a file system mounted in it."""
    pods.host.check(
        f"mkdir -p {DATA}/sub /srv/other /etc/skim-test; echo host file > {DATA}/file; echo other > /srv/other/file;"
        f"ln -sfn /etc/skim-test {DATA}/out; mount -t tmpfs tmpfs {DATA}/sub; echo deep > {DATA}/sub/file; chmod 755 {DATA} {DATA}/sub"
    )
    return pods


def host(name: str = "v", source: str = DATA, **fields: Any) -> dict[str, Any]:
    return {"name": name, "kind": "host", "source": source, **fields}


def mounts(pods: FieldPods, result: Result) -> str:
    """What is mounted of the pod's volumes after it has ended, and before it is removed."""
    return pods.host.check(f"grep -e {result.uuid} /proc/self/mountinfo | grep -e host-data -e sharedVolumes -e /srv/other || :")


class TestHostVolumes:
    def test_a_directory_with_what_is_mounted_in_it(self, data: FieldPods) -> None:
        script = "cat mnt/file mnt/sub/file; echo written > mnt/new; echo written > mnt/sub/new"
        with data.ended(data.shell(script, mounts=[{"volume": "v", "path": "/mnt"}]), volumes=[host()]) as result:
            assert result.stdout == "host file\ndeep\n"
            assert mounts(data, result) == ""  # unmounted when the pod has ended
            assert "deep" in data.host.check(f"cat {DATA}/sub/file")  # on the host everything is as it was
        assert data.host.check(f"cat {DATA}/new {DATA}/sub/new; rm {DATA}/new {DATA}/sub/new") == "written\nwritten\n"

    def test_without_what_is_mounted_in_it(self, data: FieldPods) -> None:
        script = "cat mnt/file; ls mnt/sub"
        result = data.run(data.shell(script, mounts=[{"volume": "v", "path": "/mnt"}]), volumes=[host(recursive=False)])
        assert result.stdout == "host file\n"

    def test_read_only_is_read_only_also_below(self, data: FieldPods) -> None:
        script = "cat mnt/file mnt/sub/file; touch mnt/new; touch mnt/sub/new; touch two/new && rm two/new && echo two is writable"
        entry = data.shell(script, mounts=[{"volume": "v", "path": "/mnt"}, {"volume": "w", "path": "/two"}])
        result = data.run(entry, volumes=[host(readOnly=True), host("w")])
        assert result.stdout == "host file\ndeep\ntwo is writable\n"
        assert result.stderr.count("Read-only file system") == 2
        assert "rw" in data.host.check(f"findmnt -n -o OPTIONS {DATA}/sub")

    def test_a_source_that_is_a_mount_itself(self, data: FieldPods) -> None:
        entry = data.shell("cat mnt/file; touch mnt/new", mounts=[{"volume": "v", "path": "/mnt"}])
        result = data.run(entry, volumes=[host(source=f"{DATA}/sub", readOnly=True)])
        assert result.stdout == "deep\n"
        assert "Read-only file system" in result.stderr
        data.host.check(f"touch {DATA}/sub/still-writable")

    def test_a_file_on_a_new_name_and_on_a_file_of_the_image(self, data: FieldPods) -> None:
        both = [{"volume": "v", "path": "/new/name"}, {"volume": "v", "path": "/etc/group"}]
        entry = data.shell("cat new/name etc/group; ls -l new | wc -l", mounts=both)
        assert data.run(entry, volumes=[host(source=f"{DATA}/file")]).stdout == "host file\nhost file\n2\n"

    def test_mount_points_take_the_volume_of_their_name(self, data: FieldPods) -> None:
        points = [{"name": "v", "path": "/mnt", "readOnly": True}]
        result = data.run(data.shell("cat mnt/file; touch mnt/new", mountPoints=points), volumes=[host()])
        assert result.stdout == "host file\n"
        assert "Read-only file system" in result.stderr

    def test_an_app_that_is_not_root_sees_them_too(self, data: FieldPods) -> None:
        entry = data.shell("cat mnt/file mnt/sub/file", user="web", group="www", mounts=[{"volume": "v", "path": "/mnt"}])
        assert data.run(entry, volumes=[host()]).stdout == "host file\ndeep\n"

    def test_nested_in_each_other_in_any_order(self, data: FieldPods) -> None:
        wanted = [{"volume": "o", "path": "/mnt/sub/o"}, {"volume": "e", "path": "/mnt/sub"}, {"volume": "v", "path": "/mnt"}]
        entry = data.shell("cat mnt/file mnt/sub/o/file; ls mnt/sub", mounts=wanted)
        volumes = [host(), host("o", "/srv/other"), {"name": "e", "kind": "empty"}]
        with data.ended(entry, volumes=volumes) as result:
            assert result.stdout == "host file\nother\no\n"
            assert mounts(data, result) == ""

    @pytest.mark.parametrize("path", ["/link-to-etc/here", "/mnt/out/here"])
    def test_no_link_leads_a_mount_to_the_host(self, data: FieldPods, path: str) -> None:
        """A link in the image, and one in a volume that is mounted before: both end inside the app's root."""
        before = data.host.check("ls /etc")
        wanted = [{"volume": "v", "path": "/mnt"}, {"volume": "o", "path": path}]
        script = "cat etc/here/file etc/skim-test/here/file; grep -c ' /etc' /proc/self/mountinfo"
        result = data.run(data.shell(script, mounts=wanted), volumes=[host(), host("o", "/srv/other")])
        assert result.lines == ["other", "0"]
        assert data.host.check("ls /etc") == before
        assert data.host.check("ls /etc/skim-test") == ""

    @pytest.mark.parametrize(
        ("path", "volume", "said"),
        [
            ("/mnt", host(source="/srv/missing"), "/srv/missing does not exist on the host"),
            ("/mnt", host("w"), "dangling mount point '/mnt': volume 'v' not found"),
            ("/link-to-etc/..", host(), "cannot be mounted on the root of the image"),
            ("/etc/passwd", host(), "volume 'v' is a directory, and /etc/passwd in the image is a file"),
            ("/srv", host(source=f"{DATA}/file"), "volume 'v' is a file, and /srv in the image is a directory"),
        ],
    )
    def test_what_cannot_be_is_refused_and_nothing_is_left(self, data: FieldPods, path: str, volume: dict[str, Any], said: str) -> None:
        with data.ended(data.shell("true", mounts=[{"volume": "v", "path": path}]), volumes=[volume]) as result:
            assert result.status == 254
            assert said in result.stderr
            assert data.host.run(f"ls /run/skim | grep {result.uuid}").stdout == ""


class TestEmptyVolumes:
    def test_one_that_two_apps_share_with_its_mode_and_owner(self, pods: FieldPods) -> None:
        volume = {"name": "e", "kind": "empty", "mode": "2770", "uid": 4242, "gid": 4343}
        mount = [{"volume": "e", "path": "/shared"}]
        first = pods.shell("stat -c '%a %u %g' shared; echo from first > shared/file", "first", user="web", group="www", mounts=mount)
        second = pods.shell("until [ -s shared/file ]; do sleep 0.1; done; cat shared/file", "second", mounts=mount)
        with pods.ended(first, second, volumes=[volume]) as result:
            assert sorted(result.lines) == ["first: 2770 4242 4343", "second: from first"]
            assert "from first" in pods.host.check(f"cat /var/lib/rkt/pods/run/{result.uuid}/sharedVolumes/e/file")
            assert mounts(pods, result) == ""

    def test_a_mount_point_that_nobody_gave_a_volume_and_one_line_that_says_so(self, pods: FieldPods) -> None:
        result = pods.run(pods.shell("ls -A srv/data; touch srv/data/x", mountPoints=[{"name": "cache", "path": "/srv/data"}]))
        assert (result.status, result.stdout) == (0, "")
        assert result.stderr == "run: warning: app \"app\": no volume for mount point 'cache': it gets an empty one of its own\n"

    def test_docker_images_find_their_files_there(self, pods: FieldPods) -> None:
        script = "ls -A srv/data; cat srv/data/file; readlink srv/data/link; stat -c %a srv/data; touch srv/data/x"
        points = [{"name": "cache", "path": "/srv/data"}]
        result = pods.run(pods.shell(script, image="docker", mountPoints=points))
        assert result.lines == ["deep", "file", "link", "of the image", "/etc/hostname", "2771"]
        given = pods.run(pods.shell("ls -A srv/data", image="docker", mountPoints=points), volumes=[{"name": "cache", "kind": "empty"}])
        assert given.stdout == ""

    def test_a_volume_of_one_apps_own(self, pods: FieldPods) -> None:
        own = {"name": "own", "kind": "empty", "mode": "0711", "uid": 0, "gid": 0}
        entry = pods.shell("stat -c %a mine", mounts=[{"volume": "own", "path": "/mine", "appVolume": own}])
        assert pods.run(entry).stdout == "711\n"


class TestReadOnlyRoot:
    @pytest.mark.parametrize("user", ["0", "web"])
    def test_the_root_is_and_writable_volumes_are_not(self, pods: FieldPods, user: str) -> None:
        volumes = [{"name": "e", "kind": "empty", "mode": "0777", "uid": 0, "gid": 0}, {"name": "r", "kind": "empty", "readOnly": True}]
        mounted = [{"volume": "e", "path": "/tmp"}, {"volume": "r", "path": "/srv/r"}]
        script = "touch /proc/$$/cwd/new; touch home/web/new; touch srv/r/new; touch tmp/new && echo tmp is writable; cat home/web/file"
        entry = pods.shell(script, user=user, readOnlyRootFS=True, mounts=mounted)
        result = pods.run(entry, volumes=volumes)
        assert result.lines == ["tmp is writable", "a file at home"]
        assert result.stderr.count("Read-only file system") == 3

    def test_the_host_stays_writable_for_it(self, pods: FieldPods) -> None:
        """Full access to the host is what this stage1 is for: the image alone is read-only."""
        assert pods.run(pods.shell("touch /tmp/made-by-app && echo yes", readOnlyRootFS=True)).stdout == "yes\n"

    def test_only_that_apps(self, pods: FieldPods) -> None:
        script = "touch new && echo writable || true"
        result = pods.run(pods.shell(script, "one", readOnlyRootFS=True), pods.shell(script, "two"))
        assert result.stdout == "two: writable\n"


def test_gc_of_a_pod_that_was_killed_unmounts_its_volumes(data: FieldPods) -> None:
    with data.running(data.shell("sleep 1000", mounts=[{"volume": "v", "path": "/mnt"}]), volumes=[host()]) as uuid:
        data.host.check(f"kill -9 $(cat /var/lib/rkt/pods/run/{uuid}/pid)")
        data.host.wait_until(f"! systemctl is-active -q app-rkt-{uuid}.service", timeout=20)
        data.host.check(f"/opt/skim/bin/rkt gc --grace-period=0s; mkdir -p /var/lib/rkt/pods/exited-garbage/{uuid}")
        assert data.host.run(f"grep {uuid} /proc/self/mountinfo").stdout == ""
        assert data.host.check(f"cat {DATA}/sub/file") == "deep\n"
