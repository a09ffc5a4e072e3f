#!/usr/bin/python3
"""`./dev bench [NAME]`: runs benchmark programs, those that need a gateway inside a lab of their own."""
import os
import sys

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


BENCHES = {"grants": grants}


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
