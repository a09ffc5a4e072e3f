#!/usr/bin/python3
"""Real downloads through the inspector: curl and lftp, PASV and EPSV, IPv4 and IPv6; the journal has each exactly once (I5)."""
from e2e import REMOTE, Bench, main, wait_until  # noqa: F401


def url(family, name="small.bin"):
    return f"ftp://[{REMOTE[6]}]/{name}" if family == 6 else f"ftp://{REMOTE[4]}/{name}"


def flows(lab):
    established, closed = lab.entries("--kind", "established"), lab.entries("--kind", "closed")
    return established, closed


def expect_journal(lab, count, least_bytes):
    lab.wait_entries(count, "--kind", "closed")
    established, closed = flows(lab)
    assert len(established) == count, f"{len(established)} established, expected {count}"
    assert len(closed) == count, f"{len(closed)} closed, expected {count}"
    assert len({e["grant"] for e in established}) == count, "one flow a grant"
    for entry in closed[-least_bytes[1]:]:
        flow = entry["flow"]
        assert flow["accounted"], entry
        # IP and TCP headers come on top: 52 to 72 bytes a packet.
        assert least_bytes[0] <= flow["bytes_received"] - 40 * flow["packets_received"], entry
        assert flow["bytes_received"] <= least_bytes[0] + 80 * flow["packets_received"], entry


def passive_and_extended_downloads_pass(lab):
    for options in ((), ("--disable-epsv",)):
        done = lab.curl(url(4), *options)
        assert done.returncode == 0 and done.stdout == "10240", done
    done = lab.curl(url(6))
    assert done.returncode == 0 and done.stdout == "10240", done
    expect_journal(lab, 3, (10240, 3))


def lftp_downloads_pass(lab):
    for family in (4, 6):
        done = lab.run("client1", "lftp", "-c", f"set net:timeout 5; set net:max-retries 1; set ftp:prefer-epsv {'yes' if family == 6 else 'no'}; "
                       f"cat {url(family)}", text=False, check=False)
        assert done.returncode == 0 and len(done.stdout) == 10240, (family, done.returncode, done.stderr, len(done.stdout))
    lab.wait_entries(5, "--kind", "closed")


def twenty_side_by_side(lab):
    before = len(lab.entries("--kind", "closed"))
    children = [lab.popen("client1", "curl", "-sS", "-o", "/dev/null", "-w", "%{size_download}", "-m", "20", url(4 if i % 2 else 6))
                for i in range(20)]
    for child in children:
        out, err = child.communicate(timeout=30)
        assert child.returncode == 0 and out == "10240", (child.returncode, err)
    expect_journal(lab, before + 20, (10240, 20))


def two_hundred_in_a_row(lab):
    before = len(lab.entries("--kind", "closed"))
    for i in range(10):
        urls = [u for _ in range(20) for u in ("-o", "/dev/null", url(4 if i % 2 else 6))]
        done = lab.run("client1", "curl", "-sS", "-m", "60", *urls, check=False, timeout=90)
        assert done.returncode == 0, done.stderr
    expect_journal(lab, before + 200, (10240, 200))
    assert not lab.doors(), "used doors are gone"


if __name__ == "__main__":
    main([passive_and_extended_downloads_pass, lftp_downloads_pass, twenty_side_by_side, two_hundred_in_a_row])
