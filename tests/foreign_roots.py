"""Images that are not ours: roots of Debian 13's packages as mmdebstrap unpacks them, cached; with a web app that counts in Redis."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from appc.archive_writing import write_archive
from appc.image import parse_image_manifest
from hosts import cache, sources
from hosts.image import remove_tree
from pod_directories import app_section, image_manifest

SUITE = "trixie"
BASE = ("base-files", "libc-bin", "coreutils", "dash")
WEB = (*BASE, "python3", "python3-redis", "redis-tools")
REDIS = (*BASE, "redis-server")
_LEFT_OUT = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/zoneinfo", "dev")  # device files are refused in an image

# Answers /: counts in Redis. /libraries: what is mapped executable here. /children: what the programs that it starts say.
_APP = """\
#!/opt/venv/bin/python
import http.server, json, os, subprocess, sys
import ssl, sqlite3
import redis

here = os.path.dirname(os.path.abspath(__file__))

def mapped():
    with open("/proc/self/maps") as lines:
        fields = [line.split(None, 5) for line in lines]
    return sorted({field[5].strip() for field in fields if "x" in field[1] and len(field) > 5 and field[5].startswith("/")})

def say(*command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    return done.stdout.strip()

def children():
    maps = "import sys, json; sys.path.insert(0, %r); import app; print(json.dumps(app.mapped()))" % here
    return {
        "redis-cli": say("redis-cli", "--version"),
        "by a link": say("ask-redis", "get", "visits"),
        "by env": json.loads(say("env", "python3", "-c", maps)),
        "by its own path": json.loads(say(sys.executable, "-c", maps)),
        "by the host's shell": say("redis-cli --version; env python3 -c 'import sys; print(sys.version_info[:2])'", shell=True),
        "by the image's shell": say("sh", "-c", "readlink /proc/$$/exe; redis-cli get visits"),
        "a script": say(here + "/child.py"),
        "a shell script": say(here + "/child.sh"),
        "conversion": say("iconv", "-f", "latin1", "-t", "utf8", input="\\u00e4"),
        "host": say("busybox", "cat", "/etc/hostname"),
    }

class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        answers = {"/libraries": mapped, "/children": children, "/": lambda: redis.Redis(port=6380).incr("visits")}
        text = json.dumps(answers[self.path]()).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *words):
        pass

if __name__ == "__main__":
    http.server.ThreadingHTTPServer(("127.0.0.1", 8080), Answers).serve_forever()
"""
_CHILD = """\
#!/usr/bin/python3 -I
import json, sys
sys.path.insert(0, __file__.rpartition("/")[0])
import app
print(json.dumps([sys.prefix, *app.mapped()]))
"""


def root(name: str, packages: tuple[str, ...], *, progress: cache.Progress = cache.to_stderr) -> Path:
    """The cached root of these packages; read only by agreement."""
    key = hashlib.sha256(json.dumps([2, SUITE, packages, _LEFT_OUT]).encode()).hexdigest()[:16]
    roots = cache.directory() / "foreign"
    roots.mkdir(exist_ok=True)
    wanted = roots / f"{name}-{key}"
    with cache.locked(roots / f"{wanted.name}.lock"):
        if not wanted.is_dir():
            building = roots / f"{wanted.name}.building"
            remove_tree(building)
            progress(f"{name}: unpacking Debian's packages of {SUITE}, once, into {roots}")
            argv = ["mmdebstrap", "--quiet", "--mode=root", "--variant=extract", "--format=directory", f"--include={','.join(packages)}"]
            argv += ["--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr", *(f"--aptopt={option}" for option in sources.apt_options())]
            argv += [SUITE, os.fspath(building), *sources.lines(SUITE)]
            subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
            for folder in _LEFT_OUT:
                remove_tree(building / folder)
            building.rename(wanted)
    return wanted


def write_web_image(folder: Path, *, progress: cache.Progress = cache.to_stderr) -> Path:
    """The app is a script of a virtual environment; its children are found by name, by link, as scripts."""
    tree = _copy(root("web", WEB, progress=progress), folder / "web")
    (tree / "srv/data").mkdir(parents=True)
    for name, text in (("app.py", _APP), ("child.py", _CHILD), ("child.sh", "#!/bin/sh\nreadlink /proc/$$/exe\n")):
        (tree / "srv" / name).write_text(text)
        (tree / "srv" / name).chmod(0o755)
    (tree / "opt/venv/bin").mkdir(parents=True)
    (tree / "opt/venv/bin/python").symlink_to("/usr/bin/python3")
    (tree / "opt/venv/pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = true\nversion = 3.13\n")
    (tree / "usr/local/bin").mkdir(parents=True, exist_ok=True)
    (tree / "usr/local/bin/ask-redis").symlink_to("/etc/alternatives/ask-redis")
    (tree / "etc/alternatives").mkdir(exist_ok=True)
    (tree / "etc/alternatives/ask-redis").symlink_to("/srv/ask-redis")
    (tree / "srv/ask-redis").write_text('#!/bin/sh\nexec redis-cli -p 6380 "$@"\n')
    (tree / "srv/ask-redis").chmod(0o755)
    (tree / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nweb:x:4242:4242::/srv:/bin/sh\n")
    (tree / "etc/group").write_text("root:x:0:\nweb:x:4242:\n")
    return _pack(tree, folder / "web.aci", "/srv/app.py", user="web", group="web", workingDirectory="/srv")


def write_redis_image(folder: Path, *, progress: cache.Progress = cache.to_stderr) -> Path:
    tree = _copy(root("redis", REDIS, progress=progress), folder / "redis")
    return _pack(tree, folder / "redis.aci", "/usr/bin/redis-server", "--port", "6380", "--save", "")


def _copy(source: Path, target: Path) -> Path:
    subprocess.run(["cp", "-a", "--reflink=auto", "--", source, target], check=True)
    target.chmod(0o755)
    return target


def _pack(tree: Path, image: Path, *words: str, **fields: Any) -> Path:
    manifest = image_manifest(f"example.com/{image.stem}", app=app_section(*words, **fields))
    write_archive(str(tree), parse_image_manifest(json.dumps(manifest)), str(image))
    shutil.rmtree(tree)
    return image
