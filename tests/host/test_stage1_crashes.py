"""What a crash leaves: afterwards status tells the truth, stop, gc and the next run work, and nothing of the dead pod is left after gc."""

from __future__ import annotations

import os
import random
import time

import pytest

from hosts.host import Host
from running_pods import PODS, RKT, leftovers, run_command, running

KILLS = 200
KILLS_OF_GC = 15
BATCH = 20

STEPS = [
    # of stage0
    "created",
    "prepared",
    "moved",
    "stage1-mounted",
    "exec",
    # of stage1's run
    "locked",
    "planned",
    "files",
    "volumes",
    "ways",
    "libraries",
    "units",
    "pid",
    "scope",
    "ready",
    "ended",
]

# crash NUMBER DELAY VICTIM: a pod of two apps, somebody of which is killed after a while. Says what became of it, one line.
CRASH = f"""\
crash() {{
    rm -f /tmp/crash.$1
    {RKT} run --uuid-file-save=/tmp/crash.$1 --volume=data,kind=empty example.com/first --mount=volume=data,target=/data \\
        example.com/second >/dev/null 2>&1 </dev/null &
    run=$!
    sleep $2
    uuid=$(cat /tmp/crash.$1 2>/dev/null)
    hit=no
    case $3 in
    run) kill -9 $run && hit=yes ;;
    *)
        for app in first second; do
            case $3 in $app | both) ;; *) continue ;; esac
            pid=$(systemctl show --value -p MainPID $app-rkt-$uuid.service)
            [ "${{pid:-0}}" -gt 0 ] && kill -9 $pid && hit=yes
        done
        ;;
    esac
    if [ $hit = no ]; then # it was too early, even for a stop perhaps
        until {RKT} stop --uuid-file=/tmp/crash.$1 >/dev/null 2>&1; do sleep 0.05; done
        uuid=$(cat /tmp/crash.$1)
    fi
    wait $run 2>/dev/null
    status=$?
    {RKT} stop $uuid >/dev/null 2>&1
    stopped=$?
    state=$({RKT} status $uuid 2>/dev/null | grep -e ^state -e ^app- | tr '\\n' ' ')
    echo "$1 $3 after $2: hit=$hit status=$status stop=$stopped uuid=$uuid $state"
}}
"""


def settled(host: Host, uuid: str) -> None:
    """gc works, and what it was about is gone; a pod that was killed while it was prepared takes the same way."""
    done = host.run(f"{RKT} gc --grace-period=0s", timeout=300)
    assert done.status == 0
    assert "GC" not in done.stderr, done.stderr
    assert leftovers(host, uuid) == ""


def next_run_works(host: Host) -> None:
    done = host.run(run_command("exit -- 3"))
    assert (done.status, done.stdout) == (3, "leaving\n")
    host.check(f"{RKT} rm --uuid-file=/tmp/uuid")


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_a_step_of_the_start(pods_host: Host, step: str) -> None:
    """`run` at its end, too. The apps are bound to the supervisor."""
    apps = "exit -- 0" if step == "ended" else "first second"
    command = run_command(apps).replace("exec ", f"SKIM_STOP_AT={step} ") + " >/dev/null 2>&1 </dev/null & run=$!"
    wait = "until grep -q '^State:.T' /proc/$run/status; do sleep 0.02; done; kill -9 $run; wait $run; cat /tmp/uuid"
    uuid = pods_host.check(f"{command}; {wait}", timeout=60)
    pods_host.wait_until(f"! systemctl is-active -q first-rkt-{uuid}.service", timeout=30)
    state = pods_host.check(f"{RKT} status {uuid} | grep ^state").strip()
    assert state in (["state=aborted prepare"] if step in ("created", "prepared") else ["state=exited"])
    if state == "state=exited":
        assert pods_host.run(f"{RKT} stop {uuid}").status == 0
        assert pods_host.run(f"{RKT} stop --force {uuid}").status == 0
    settled(pods_host, uuid)
    next_run_works(pods_host)


def test_many_kills_at_random(pods_host: Host) -> None:
    seed = int(os.environ.get("SKIM_TEST_SEED") or time.time_ns() % 10**9)
    print(f"repeat with SKIM_TEST_SEED={seed}")
    chance = random.Random(seed)
    begun = time.monotonic()
    with running(pods_host, "first second"):
        span = 3 * (time.monotonic() - begun)  # a third of the kills are of a pod that starts, on whatever machine
    victims = ("run", "run", "first", "second", "both")
    calls = [f"crash {number} {chance.uniform(0, span):.3f} {chance.choice(victims)}" for number in range(KILLS)]
    hits = 0
    for start in range(0, KILLS, BATCH):
        batch = calls[start : start + BATCH]
        lanes = " & ".join(f"({'; '.join(batch[lane::2])})" for lane in range(2))
        lines = pods_host.check(f"{CRASH}\n{lanes} & wait", timeout=240).splitlines()
        assert len(lines) == len(batch)
        for line in lines:
            print(line)
            check_truth(line)
            hits += "hit=yes" in line
        done = pods_host.run(f"{RKT} gc --grace-period=0s", timeout=240)
        assert (done.status, [said for said in done.stderr.splitlines() if "garbage" not in said]) == (0, [])
        uuids = [word.removeprefix("uuid=") for line in lines for word in line.split() if word.startswith("uuid=") and word != "uuid="]
        found = "\\|".join(form for uuid in uuids for form in (uuid, uuid.replace("-", "")))
        places = f"ls /run/systemd/system /run/systemd/transient /run/systemd/units /run/skim {PODS}/*; cat /proc/self/mountinfo"
        look = f"{{ {places}; find /sys/fs/cgroup -type d; systemctl list-units --all --plain --no-legend; }} 2>/dev/null | grep '{found}'"
        pods_host.wait_until(f"! {{ {look}; }}", timeout=20)
    print(f"{hits} of {KILLS} hit somebody; kills within {span:.2f} s of the start")
    assert hits > KILLS / 2
    next_run_works(pods_host)


def check_truth(line: str) -> None:
    """What `rkt run` and `rkt status` said after somebody was killed, against what can be."""
    words = dict(word.split("=", 1) for word in line.split() if "=" in word)
    victim = line.split()[1]
    if not words["uuid"]:
        return
    if victim == "run" and words["hit"] == "yes":
        assert words["status"] == "137", line
    elif words["hit"] == "yes":
        assert words["status"] == "9", line
        assert "9" in (words.get("app-first"), words.get("app-second")), line
    assert words["state"] in ("exited", "aborted"), line  # `aborted prepare`
    if words["status"] == "9":
        assert words["state"] == "exited", line
    assert "running" not in line, line
    if words["state"] == "exited":
        assert words["stop"] == "0", line


def test_after_a_reboot(pods_host: Host) -> None:
    """/run is empty then, and nothing is mounted."""
    uuids = []
    for number in range(3):
        command = run_command("first second", f"/var/tmp/uuid.{number}").replace("exec ", "")
        pods_host.check(f"({command} >/dev/null 2>&1 </dev/null &)")
        pods_host.wait_until(f"[ -s /var/tmp/uuid.{number} ] && {RKT} status --wait-ready=30s $(cat /var/tmp/uuid.{number})", timeout=30)
        uuids.append(pods_host.check(f"cat /var/tmp/uuid.{number}").strip())
    pods_host.stop(force=True)
    pods_host.boot()
    for uuid in uuids:
        assert "state=exited" in pods_host.check(f"{RKT} status {uuid}")
        assert pods_host.run(f"{RKT} stop {uuid}").status == 0
    settled(pods_host, uuids[0])
    assert leftovers(pods_host, uuids[1]) == leftovers(pods_host, uuids[2]) == ""
    next_run_works(pods_host)


class TestGc:
    def test_twice_and_by_itself(self, pods_host: Host) -> None:
        """The entrypoint alone, as any stage0 calls it: in the pod directory, wherever that has been moved to."""
        assert pods_host.run(run_command("exit -- 0")).status == 0
        uuid = pods_host.check("cat /tmp/uuid").strip()
        moved = f"{PODS}/exited-garbage/{uuid}"
        call = f"stage1/rootfs/skim/gc --local-config /etc/rkt {uuid}"
        pods_host.check(f"mv {PODS}/run/{uuid} {moved}; cd {moved}; {call} && {call} && {call}")
        settled(pods_host, uuid)

    def test_takes_down_what_a_killed_supervisor_left_running(self, pods_host: Host) -> None:
        pods_host.check(f"({run_command('stubborn').replace('exec ', '')} >/dev/null 2>&1 </dev/null &)")
        pods_host.wait_until(f"[ -s /tmp/uuid ] && {RKT} status --wait-ready=30s $(cat /tmp/uuid)", timeout=30)
        uuid = pods_host.check("cat /tmp/uuid").strip()
        unit = f"stubborn-rkt-{uuid}.service"
        pods_host.check(f"systemctl show -p TimeoutStopUSec {unit}; kill -9 $(cat {PODS}/run/{uuid}/pid)")
        collecting = pods_host.popen(f"exec {RKT} gc --grace-period=0s")
        time.sleep(1)
        assert collecting.poll() is None  # it waits for the app, which has as long as its unit says
        pods_host.check(f"systemctl kill -s KILL {unit}")
        assert collecting.wait(30) == 0
        assert leftovers(pods_host, uuid) == ""

    def test_killed_at_random_and_called_again(self, pods_host: Host) -> None:
        """Pods of every kind are there to be collected: some that ended, some whose supervisor was killed."""
        seed = int(os.environ.get("SKIM_TEST_SEED") or time.time_ns() % 10**9)
        print(f"repeat with SKIM_TEST_SEED={seed}")
        chance = random.Random(seed)
        uuids: list[str] = []
        killed = 0
        window = 0.5  # seconds; about as long as the last gc took that ended by itself, whatever the machine's speed
        for number in range(4 * KILLS_OF_GC):
            run = f"{RKT} run --uuid-file-save=/tmp/gc.{number}"
            pods_host.check(f"{run}.a example.com/exit -- 0 >/dev/null; {run}.b example.com/first >/dev/null 2>&1 </dev/null &")
            pods_host.check(f"until {RKT} status --wait-ready=20s --uuid-file=/tmp/gc.{number}.b; do sleep 0.1; done >/dev/null 2>&1")
            uuid = pods_host.check(f"cat /tmp/gc.{number}.b")
            pods_host.check(f"kill -9 $(cat {PODS}/run/{uuid}/pid)")
            uuids += [pods_host.check(f"cat /tmp/gc.{number}.a"), uuid]
            after = chance.uniform(0.01, window)
            done = pods_host.run(f"{RKT} gc --grace-period=0s >/dev/null 2>&1 & sleep {after:.3f}; kill -9 $!; wait $!; echo $?")
            if done.stdout.split()[-1] == "137":
                killed += 1
                if killed == KILLS_OF_GC:
                    break
            else:
                window = max(after, 0.05)
        assert killed == KILLS_OF_GC
        settled(pods_host, uuids[0])
        for uuid in uuids:
            assert leftovers(pods_host, uuid) == ""
        next_run_works(pods_host)

    def test_killed_while_it_deletes_files(self, pods_host: Host) -> None:
        """Stage1's own gc has done its work by then: the next try has no need of files that are gone, and no complaint."""
        assert pods_host.run(run_command("exit -- 0")).status == 0
        uuid = pods_host.check("cat /tmp/uuid").strip()
        gc = f"SKIM_STOP_AT=collected {RKT} gc --grace-period=0s >/dev/null 2>&1 & gc=$!"
        pods_host.check(f"{gc}; until grep -q '^State:.T' /proc/$gc/status; do sleep 0.02; done; kill -9 $gc")
        pods_host.check(f"find {PODS}/exited-garbage/{uuid} -maxdepth 1 -type f -delete")
        settled(pods_host, uuid)

    def test_where_systemd_cannot_be_reached(self, pods_host: Host) -> None:
        """It says so, and removes what it can: stage0 removes the pod then, and nobody comes again."""
        assert pods_host.run(run_command("exit -- 0")).status == 0
        uuid = pods_host.check("cat /tmp/uuid").strip()
        way = f"/run/skim/{uuid}/exit"
        unit = f"/run/systemd/system/exit-rkt-{uuid}.service"
        pods_host.check(f"mkdir -p {way}; mount --bind /srv {way}; echo > {unit}; mv /run/systemd/private /run/systemd/private.away")
        try:
            done = pods_host.run(f"{RKT} gc --grace-period=0s")
        finally:
            pods_host.check("mv /run/systemd/private.away /run/systemd/private; systemctl daemon-reload")
        assert "gc: cannot reach systemd" in done.stderr
        pods_host.check(f"systemctl stop system-rkt-{uuid.replace('-', '')}.slice")  # which systemd alone can
        assert leftovers(pods_host, uuid) == ""

    def test_while_other_pods_start(self, pods_host: Host) -> None:
        gc = f"(for i in $(seq 15); do {RKT} gc --grace-period=0s >/dev/null; done) 2>&1 | grep -v garbage"
        runs = f"for i in $(seq 15); do {RKT} run example.com/exit -- 0 >/dev/null || echo failed; done"
        assert pods_host.run(f"{gc} & {runs}; wait", timeout=240).stdout == ""
        pods_host.check(f"{RKT} gc --grace-period=0s")

    @pytest.mark.slow
    def test_five_hundred_pods(self, pods_host: Host) -> None:
        """Ten that ran, and the rest as a reboot leaves them. The cost is linear: one of five hundred takes as long as one of a hundred."""
        seconds = {}
        for count in (100, 500):
            pods_host.check(f"for i in $(seq 10); do {RKT} run example.com/exit -- 0 >/dev/null; done", timeout=120)
            unmounted = "for m in $(grep $pod /proc/self/mountinfo | cut -d' ' -f5 | sort -r); do umount $m; done"
            copies = f"for i in $(seq {count - 10}); do cp -a $pod $(cat /proc/sys/kernel/random/uuid); done"
            pods_host.check(f"cd {PODS}/run; pod=$(ls | head -n 1); {unmounted}; {copies}", timeout=120)
            start = time.monotonic()
            done = pods_host.run(f"{RKT} gc --grace-period=0s", timeout=240)
            seconds[count] = time.monotonic() - start
            assert done.status == 0
            assert pods_host.check(f"ls {PODS}/run {PODS}/exited-garbage | grep -c -e '-.*-' || :").strip() == "0"
            print(f"{count} pods: {seconds[count]:.1f} s, {seconds[count] / count * 1000:.0f} ms each")
        assert seconds[500] < 60
        assert seconds[500] / 500 <= 1.6 * seconds[100] / 100
        assert pods_host.run("grep -c rkt/pods/ /proc/self/mountinfo").stdout.strip() == "0"
