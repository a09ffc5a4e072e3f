#!/usr/bin/python3
"""`./dev bench [NAME]`: runs benchmark programs, those that need a gateway inside a lab of their own."""
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lab import Lab, LabError  # noqa: E402


def grants(arguments):
    lab = Lab(name=f"bench{os.getpid()}")
    lab.up()
    try:
        policy = f"{lab.folder}/policy"
        done = lab.run("policy", "bench_grants", "--gateway", "gw1", "--client", "10.77.1.2", "--remote", "10.77.2.2", "--dir", policy,
                       "--cert", f"{policy}/server.pem", "--key", f"{policy}/server-key.pem", "--ca", f"{policy}/ca.pem", *arguments,
                       check=False, timeout=600)
        sys.stdout.write(done.stdout)
        sys.stderr.write(done.stderr)
        return done.returncode
    finally:
        lab.down()


def rpc(arguments):
    """Needs no gateway, only a certificate: posternd init makes one."""
    build = Lab(name=f"bench{os.getpid()}").build
    with tempfile.TemporaryDirectory() as folder:
        made = f"{folder}/postern"
        subprocess.run([f"{build}/server/posternd", "init", made], check=True, stdout=subprocess.DEVNULL)
        return subprocess.run([f"{build}/tests/bench/bench_rpc", "--cert", f"{made}/server.pem", "--key", f"{made}/server-key.pem",
                               "--ca", f"{made}/ca.pem", *arguments], check=False).returncode


BENCHES = {"grants": grants, "rpc": rpc}


def main():
    names = [sys.argv[1]] if len(sys.argv) > 1 else sorted(BENCHES)
    for name in names:
        if name not in BENCHES:
            raise LabError(f"{name}: no such benchmark: {', '.join(sorted(BENCHES))}")
    return max(BENCHES[name](sys.argv[2:]) for name in names)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LabError as error:
        print(f"bench: {error}", file=sys.stderr)
        sys.exit(1)
