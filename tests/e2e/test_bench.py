#!/usr/bin/python3
"""Benchmarks, briefly: that they run and what they print; connections over IPv4 and IPv6, and decisions, whose scan must agree with them.
No word on how fast: this machine is shared."""
import json
import os
import subprocess
import sys

BENCH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab", "bench.py")

if os.geteuid() != 0:
    print("skipped: network namespaces need root")
    sys.exit(77)
for family in (4, 6):
    options = ["--doors", "0,3000", "--rounds", "3", "--ms", "100", "--json", *(["--ipv6"] if family == 6 else [])]
    done = subprocess.run(["/usr/bin/python3", BENCH, "connect", *options], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["family"] == family and [g["grants"] for g in told["gateways"]] == [0, 0, 3000], told
    assert all(g["rate"] > 0 and g["rate_least"] <= g["rate"] <= g["rate_most"] for g in told["gateways"]), told
    print(f"ok    IPv{family}: {', '.join(str(g['ratio']) for g in told['gateways'])}")

done = subprocess.run(["/usr/bin/python3", BENCH, "policy", "--questions", "2000", "--rules", "1000"], capture_output=True, text=True, timeout=120)
assert done.returncode == 0 and done.stdout.count("rules") == 3 and "all broad" in done.stdout, done.stdout + done.stderr
print(done.stdout)
