"""Contexts, other daemons, TLS, and credentials."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hosts.host import Host

CONFIGURATION = {"DOCKER_CONFIG": "/tmp/configuration"}
VERSION = "docker version -f '{{.Server.Version}}'"


@pytest.fixture
def configured(docker: Host) -> Iterator[Host]:
    """The host, with nothing in the client's configuration that CONFIGURATION names."""
    docker.check("rm -rf /tmp/configuration && mkdir -m 700 /tmp/configuration")
    yield docker
    docker.check("rm -rf /tmp/configuration")


def test_a_context_is_made_used_and_removed(configured: Host) -> None:
    def client(command: str) -> str:
        return configured.check(command, environment=CONFIGURATION)

    client("docker context create elsewhere --docker host=unix:///tmp/nothing.sock && docker context use elsewhere")
    assert client("docker context inspect --format '{{.Name}}'") == "elsewhere\n"
    refused = configured.run("docker ps", environment=CONFIGURATION)
    assert refused.status == 1
    assert "unix:///tmp/nothing.sock" in refused.stderr
    assert client(f"docker --context default {VERSION[7:]}") != ""
    client("docker context use default && docker context rm elsewhere")
    assert client("docker context ls -q") == "default\n"


def test_docker_host_names_another_socket(docker: Host) -> None:
    docker.check("ln -sf /run/docker.sock /tmp/other.sock")
    assert docker.check(VERSION, environment={"DOCKER_HOST": "unix:///tmp/other.sock"}) == docker.check(VERSION)
    assert docker.run(VERSION, environment={"DOCKER_HOST": "unix:///tmp/none.sock"}).status == 1


def set_options(host: Host, options: str) -> None:
    """The fixture `docker` of the next test takes them back."""
    host.check("[ -e /etc/default/docker.test ] || { [ ! -e /etc/default/docker ] || cp /etc/default/docker /etc/default/docker.test; }")
    host.check("touch /etc/default/docker.test")
    host.write("/etc/default/docker", f"DOCKER_OPTS='{options}'\n")
    host.check("systemctl restart docker.service")


def test_docker_host_reaches_a_daemon_by_tcp(docker: Host) -> None:
    set_options(docker, "-H tcp://127.0.0.1:2375 --tls=false")
    assert docker.check(VERSION, environment={"DOCKER_HOST": "tcp://127.0.0.1:2375"}) == docker.check(VERSION)


CERTIFICATES = """\
openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=authority -keyout ca-key.pem -out ca.pem
for name in server client; do
    openssl req -newkey rsa:2048 -nodes -subj /CN=$name -keyout $name-key.pem -out $name.csr
    [ $name = server ] && use='extendedKeyUsage=serverAuth' || use='extendedKeyUsage=clientAuth'
    printf 'subjectAltName=IP:127.0.0.1\\n%s\\n' "$use" > $name.ext
    openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 30 -extfile $name.ext -out $name.pem
done
mkdir of-client && cp ca.pem of-client/ && cp client.pem of-client/cert.pem && cp client-key.pem of-client/key.pem
"""


def test_a_daemon_behind_tls_answers_those_whom_it_knows(docker: Host, tmp_path: Path) -> None:
    subprocess.run(["sh", "-ec", CERTIFICATES], cwd=tmp_path, check=True, capture_output=True)
    docker.check("rm -rf /etc/docker/tls /tmp/of-client")
    docker.push(tmp_path, "/etc/docker/tls")
    docker.check("mv /etc/docker/tls/of-client /tmp/of-client")
    tls = "--tlsverify --tlscacert=/etc/docker/tls/ca.pem --tlscert=/etc/docker/tls/server.pem --tlskey=/etc/docker/tls/server-key.pem"
    set_options(docker, f"-H tcp://127.0.0.1:2376 {tls}")
    known = {"DOCKER_HOST": "tcp://127.0.0.1:2376", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/tmp/of-client"}
    assert docker.check(VERSION, environment=known) == docker.check(VERSION)
    context = "host=tcp://127.0.0.1:2376,ca=/tmp/of-client/ca.pem,cert=/tmp/of-client/cert.pem,key=/tmp/of-client/key.pem"
    docker.check(f"docker context create behind-tls --docker {context}")
    assert docker.check(f"docker --context behind-tls {VERSION[7:]}; docker context rm -f behind-tls >/dev/null") == docker.check(VERSION)
    docker.check("rm /tmp/of-client/cert.pem /tmp/of-client/key.pem")
    stranger = docker.run(
        f"docker --tlsverify --tlscacert /tmp/of-client/ca.pem -H tcp://127.0.0.1:2376 {VERSION[7:]}",
        environment={"DOCKER_CONFIG": "/tmp/none"},
    )
    assert stranger.status == 1
    docker.check("rm -rf /etc/docker/tls /tmp/of-client")


# What a registry says to whoever asks whether it is one.
REGISTRY = """\
#!/bin/sh
while read -r line && [ "${#line}" -gt 1 ]; do :; done
printf 'HTTP/1.1 200 OK\\r\\nDocker-Distribution-Api-Version: registry/2.0\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\n{}'
"""
CREDENTIAL_HELPER = """\
#!/bin/sh
echo "$1 $USER" >> /tmp/helper.log
case $1 in
store) cat > /tmp/helper.stored ;;
get) cat > /dev/null; cat /tmp/helper.stored ;;
erase) cat > /tmp/helper.erased ;;
list) echo '{}' ;;
esac
"""


@pytest.fixture
def registry(configured: Host) -> Iterator[Host]:
    configured.write("/tmp/registry", REGISTRY, mode=0o755)
    configured.write("/tmp/helpers/docker-credential-tests", CREDENTIAL_HELPER, mode=0o755)
    configured.write("/tmp/configuration/config.json", '{"credsStore": "tests"}')
    listening = configured.popen("exec /bin/busybox nc -ll -p 5000 -e /tmp/registry")
    configured.wait_until("/bin/busybox wget -qO- http://127.0.0.1:5000/v2/")
    yield configured
    listening.kill()
    configured.check("pkill -x -f '/bin/busybox nc -ll -p 5000 .*'; rm -rf /tmp/helper* /tmp/registry")
    listening.wait()


def test_a_credential_helper_on_the_callers_path_is_asked(registry: Host) -> None:
    environment = {**CONFIGURATION, "PATH": "/usr/local/bin:/usr/bin:/bin:/tmp/helpers"}
    login = "echo secret | docker login --username me --password-stdin 127.0.0.1:5000"
    assert "Login Succeeded" in registry.check(login, environment=environment)
    assert '"Secret":"secret"' in registry.check("cat /tmp/helper.stored")
    assert "secret" not in registry.check("cat /tmp/configuration/config.json")
    registry.check("docker logout 127.0.0.1:5000", environment=environment)
    assert registry.check("cat /tmp/helper.erased").strip().endswith("127.0.0.1:5000")
    asked = registry.check("cat /tmp/helper.log").splitlines()
    assert asked[-1] == "erase root"
    assert "store root" in asked


def test_a_credential_helper_that_is_not_there_is_named(registry: Host) -> None:
    login = registry.run("echo secret | docker login --username me --password-stdin 127.0.0.1:5000", environment=CONFIGURATION)
    assert login.status == 1
    assert "docker-credential-tests" in login.stderr
