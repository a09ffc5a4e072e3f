#!/usr/bin/python3
"""Downloads go on while agent, server and inspector are killed at random moments, alone and together; then all is accounted for:
nothing acknowledged is lost, no door is open that the journal does not know, each flow is journalled once (I1, I2, I5, I6)."""
import random
import threading

from e2e import REMOTE, main, wait_until

ROUNDS = 12
PARTS = {"agent": [("gw1", "postern-agent")], "server": [("policy", "posternd")], "inspector": [("gw1", "postern-ftp")],
         "all": [("gw1", "postern-ftp"), ("policy", "posternd"), ("gw1", "postern-agent")]}


class Downloads(threading.Thread):
    """One after the other until told to stop; some fail while something is dead, and that is all right."""

    def __init__(self, lab, url):
        super().__init__()
        self.lab, self.url, self.stop, self.passed, self.failed = lab, url, threading.Event(), 0, 0

    def run(self):
        while not self.stop.is_set():
            done = self.lab.curl(self.url, "--connect-timeout", "2", deadline=6)
            if done.returncode == 0 and done.stdout == "10240":
                self.passed += 1
            else:
                self.failed += 1


def killed_at_random_moments(lab):
    seed = random.randrange(1 << 30)
    chance = random.Random(seed)
    print(f"seed {seed}")
    workers = [Downloads(lab, f"ftp://{REMOTE[4]}/small.bin"), Downloads(lab, f"ftp://[{REMOTE[6]}]/small.bin")]
    for worker in workers:
        worker.start()
    try:
        for _ in range(ROUNDS):
            workers[0].stop.wait(chance.uniform(0.05, 0.5))
            parts = PARTS[chance.choice(list(PARTS))]
            for host, name in parts:
                lab.kill(host, name)
            workers[0].stop.wait(chance.uniform(0, 0.2))
            for host, name in reversed(parts):
                lab.start(host, name)
            lab.joined("gw1")
    finally:
        for worker in workers:
            worker.stop.set()
        for worker in workers:
            worker.join()
    wait_until(lambda: lab.curl(f"ftp://{REMOTE[4]}/small.bin").returncode == 0, "downloads pass again", 20)
    passed = sum(w.passed for w in workers) + 1
    assert passed > ROUNDS, f"only {passed} passed"
    wait_until(lambda: not lab.doors(), "used and unused doors are gone (unused ones by their 60 s, or by their session)", 90)
    wait_until(lambda: lab.json("policy", "gateway", "show", "gw1")[0]["open_flows"] == 0, "every flow is closed in the journal", 20)
    established = [e["grant"] for e in lab.entries("--kind", "established")]
    closed = [e["grant"] for e in lab.entries("--kind", "closed")]
    recovered = lab.entries("--kind", "uses-recovered")
    assert len(established) == len(set(established)), "each flow once: every grant was for one connection"
    assert sorted(established) == sorted(closed), "what began has ended"
    assert len(established) + sum(e["count"] for e in recovered) >= passed, (len(established), recovered, passed)
    installed = {e["grant"] for e in lab.entries("--kind", "granted")}
    assert set(established) <= installed, "no flow without a grant"
    print(f"{passed} downloads passed, {sum(w.failed for w in workers)} failed while something was dead")


if __name__ == "__main__":
    main([killed_at_random_moments])
