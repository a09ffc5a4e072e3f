#!/usr/bin/python3
"""kill -9 of each part and of all at once, while a large download runs and doors are open (I1, I2, I3, I5, I7)."""
from e2e import CLIENT, REMOTE, main, wait_until

PORT = 1046
LARGE = f"ftp://{REMOTE[4]}/large.bin"
SIZE = 64 * 1024 * 1024


def start(lab, host, name):
    lab.start(host, name)


def large_download(lab):
    """A download that takes some seconds, and runs by now."""
    before = len(lab.entries("--kind", "established"))
    child = lab.popen("client1", "curl", "-sS", "-o", "/dev/null", "-w", "%{size_download}", "--limit-rate", "16M", "-m", "60", LARGE)
    lab.wait_entries(before + 1, "--kind", "established")
    return child


def survives(lab, child):
    out, err = child.communicate(timeout=70)
    assert child.returncode == 0 and int(out) == SIZE, (child.returncode, out, err)


def journal_is_whole(lab, downloads):
    """One established and one closed entry for each download, with its bytes."""
    lab.wait_entries(downloads, "--kind", "closed", deadline="20s")
    established = [e for e in lab.entries("--kind", "established") if e["remote_port"] != PORT]
    closed = [e for e in lab.entries("--kind", "closed") if e["remote_port"] != PORT]
    assert [e["grant"] for e in established] == [e["grant"] for e in closed], (established, closed)
    assert len(closed) == downloads, closed
    assert closed[-1]["flow"]["accounted"] and closed[-1]["flow"]["bytes_received"] > SIZE, closed[-1]
    lab.verify()


def the_agent_dies(lab):
    child = large_download(lab)
    grant = lab.grant(REMOTE[4], PORT)["grant"]
    lab.kill("gw1", "postern-agent")
    assert lab.connect(REMOTE[4], PORT, CLIENT[4]) == 1, "its doors stay open (I7)"
    assert lab.connect(REMOTE[4], PORT, CLIENT[4]) == 0, "and count (I4)"
    wait_until(lambda: not lab.json("policy", "gateway", "show", "gw1")[0]["connected"], "the server knows that it is gone")
    refused = lab.grant(REMOTE[4], PORT + 1, check=False)
    assert refused["exit"] == 14, refused
    start(lab, "gw1", "postern-agent")
    lab.joined("gw1")
    lab.wait_entries(1, "--kind", "established", "--grant", grant["id"])
    assert len(lab.entries("--kind", "established", "--grant", grant["id"])) == 1, "told once, by conntrack's dump (I5)"
    survives(lab, child)
    journal_is_whole(lab, 1)


def the_server_dies(lab):
    child = large_download(lab)
    grant = lab.grant(REMOTE[4], PORT)["grant"]
    lab.kill("policy", "posternd")
    assert lab.connect(REMOTE[4], PORT, CLIENT[4]) == 1
    start(lab, "policy", "posternd")
    lab.joined("gw1")
    lab.wait_entries(1, "--kind", "established", "--grant", grant["id"])
    assert len(lab.entries("--kind", "established", "--grant", grant["id"])) == 1
    survives(lab, child)
    journal_is_whole(lab, 2)


def the_inspector_dies(lab):
    # The control connection ends with the inspector; the data connection does not: the bytes all arrive.
    before = len(lab.entries("--kind", "closed"))
    child = large_download(lab)
    lab.kill("gw1", "postern-ftp")
    child.communicate(timeout=70)
    lab.wait_entries(before + 1, "--kind", "closed", deadline="30s")
    last = lab.entries("--kind", "closed")[-1]
    assert last["flow"]["bytes_received"] > SIZE // 8, last
    start(lab, "gw1", "postern-ftp")
    wait_until(lambda: lab.curl(f"ftp://{REMOTE[4]}/small.bin").returncode == 0, "downloads pass again", 15)


def all_die_at_once(lab):
    open_door = lab.grant(REMOTE[4], PORT, "--max-connections", "3")["grant"]
    assert lab.connect(REMOTE[4], PORT, CLIENT[4]) == 1
    lab.wait_entries(1, "--kind", "established", "--grant", open_door["id"])
    for host, name in (("gw1", "postern-ftp"), ("policy", "posternd"), ("gw1", "postern-agent")):
        lab.kill(host, name)
    assert lab.connect(REMOTE[4], PORT, CLIENT[4]) == 1, "the door is the kernel's"
    for host, name in (("policy", "posternd"), ("gw1", "postern-agent"), ("gw1", "postern-ftp")):
        start(lab, host, name)
    lab.joined("gw1")
    lab.wait_entries(2, "--kind", "established", "--grant", open_door["id"])
    assert lab.connect(REMOTE[4], PORT, CLIENT[4]) == 1
    assert lab.connect(REMOTE[4], PORT, CLIENT[4]) == 0, "three and no more (I4)"
    lab.wait_entries(3, "--kind", "established", "--grant", open_door["id"])
    lab.wait_entries(1, "--kind", "ended", "--grant", open_door["id"])
    lab.verify()


def no_door_that_the_journal_does_not_know(lab):
    """I2: a door whose grant ended while the agent was away is closed when it returns."""
    grant = lab.grant(REMOTE[4], PORT)["grant"]
    lab.kill("gw1", "postern-agent")
    wait_until(lambda: not lab.json("policy", "gateway", "show", "gw1")[0]["connected"], "the server knows that it is gone")
    lab.run("inspector", "postern", "grant", "cancel", grant["id"])
    assert len(lab.doors()) == 1
    start(lab, "gw1", "postern-agent")
    wait_until(lambda: not lab.doors(), "the door is gone")


if __name__ == "__main__":
    def listen(lab):
        lab.listen(PORT)
    main([listen, the_agent_dies, the_server_dies, the_inspector_dies, all_die_at_once, no_door_that_the_journal_does_not_know])
