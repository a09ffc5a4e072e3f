#!/usr/bin/python3
"""The laboratory itself: `down` ends also what is busy at that moment, and labs stand side by side."""
from e2e import REMOTE, Bench, left_behind, main, run, wait_until


def down_ends_a_download_that_runs(lab):
    second = Bench(name=lab.name + "-b")
    second.children = []
    second.up()
    try:
        assert second.json("policy", "audit", "query", "--kind", "established") == [], "a journal of its own"
        child = second.popen("client1", "curl", "-sS", "-o", "/dev/null", "--limit-rate", "1M", "-m", "60", f"ftp://{REMOTE[4]}/large.bin")
        second.wait_entries(1, "--kind", "established")
    finally:
        second.down()
    child.communicate(timeout=10)
    wait_until(lambda: not left_behind(second), "the sessions of vsftpd have ended", 5)
    assert f"postern-{second.name}-" not in run("ip", "netns", "list").stdout
    assert lab.curl(f"ftp://{REMOTE[4]}/small.bin").returncode == 0, "the first lab is untouched"


if __name__ == "__main__":
    main([down_ends_a_download_that_runs])
