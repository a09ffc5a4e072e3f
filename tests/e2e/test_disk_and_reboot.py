#!/usr/bin/python3
"""A full disk refuses and changes nothing; a rebooted gateway gets its doors back and its old flows are closed (I1, I7)."""
import os

from e2e import CLIENT, REMOTE, main, wait_until

PORT = 1046


def listen(lab):
    lab.listen(PORT)


def a_full_disk_refuses_and_changes_nothing(lab):
    filler = f"{lab.folder}/policy/filler"
    fd = os.open(filler, os.O_CREAT | os.O_WRONLY)
    try:
        while True:
            os.write(fd, b"\0" * 4096)
    except OSError:
        os.close(fd)
    refused = None
    opened = []
    # The log of the database has some room of its own left.
    for port in range(2000, 2400):
        refused = lab.grant(REMOTE[4], port, check=False)
        if refused["exit"] != 0:
            break
        opened.append(refused["grant"]["id"])
    assert refused["exit"] == 1 and refused["error"]["reason"] == "journal-unavailable", refused
    assert "full" in refused["error"]["text"], refused
    assert len(lab.doors()) == len(opened), "no door without its journal entry (I1)"
    os.unlink(filler)
    again = lab.grant(REMOTE[4], PORT)
    assert again["grant"]["state"] == "active"
    assert lab.connect(REMOTE[4], PORT, CLIENT[4]) == 1
    lab.wait_entries(1, "--kind", "established")
    lab.verify()


def a_reboot_installs_live_grants_and_closes_old_flows(lab):
    grant = lab.grant(REMOTE[4], PORT, "--max-connections", "5")["grant"]
    child = lab.popen("client1", "python3", "-c", "import socket, sys; s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5); "
                      "print('up', flush=True); sys.stdin.read()", REMOTE[4], str(PORT), stdin=-1)
    lab.children.append(child)
    assert child.stdout.readline().strip() == "up"
    lab.wait_entries(1, "--kind", "established", "--grant", grant["id"])
    lab.reboot(1)
    lab.joined("gw1")
    lab.wait_entries(1, "--kind", "gateway-rebooted")
    lab.wait_entries(1, "--kind", "closed", "--grant", grant["id"])
    closed = lab.entries("--kind", "closed", "--grant", grant["id"])
    assert len(closed) == 1 and not closed[0]["flow"]["accounted"] and "rebooted" in closed[0]["detail"], closed
    wait_until(lambda: any(d for d in lab.doors() if str(PORT) in str(d)), "the live grant is installed again")
    assert lab.connect(REMOTE[4], PORT, CLIENT[4]) == 1, "four of five were left"
    lab.wait_entries(2, "--kind", "established", "--grant", grant["id"])


if __name__ == "__main__":
    main([listen, a_full_disk_refuses_and_changes_nothing, a_reboot_installs_live_grants_and_closes_old_flows], policy_disk="6m")
