#!/usr/bin/python3
"""`./dev bench [NAME]`: runs benchmark programs, those that need a gateway inside a lab of their own."""
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lab import Lab, LabError, run  # noqa: E402


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


PLAIN = """table inet plain {
  chain forward {
    type filter hook forward priority -10; policy drop;
    ct state new,established accept
  }
}"""


def connect(arguments):
    """Gateways side by side between one client and one remote: gw0 has a plain rule, the others our table. See bench_connect.c."""
    build = Lab(name="bench").build
    doors = [a for i, a in enumerate(arguments) if arguments[max(0, i - 1)] == "--doors"]
    count = 2 + (doors[-1].count(",") if doors else 2)
    prefix = f"pbench{os.getpid()}"
    hosts = ["client", "remote"] + [f"gw{n}" for n in range(count)]
    try:
        for host in hosts:
            run("ip", "netns", "add", f"{prefix}-{host}")
            run("ip", "netns", "exec", f"{prefix}-{host}", "sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0",
                "net.ipv4.ip_local_port_range=10000 65000")
        for n in range(count):
            gateway_of_bench(prefix, n)
        run("ip", "netns", "exec", f"{prefix}-gw0", "nft", "-f", "-", input=PLAIN)
        return subprocess.run([f"{build}/tests/bench/bench_connect", "--prefix", prefix, *arguments], check=False).returncode
    finally:
        for host in hosts:
            run("ip", "netns", "delete", f"{prefix}-{host}", check=False)


def gateway_of_bench(prefix, n):
    gateway = f"{prefix}-gw{n}"
    for side, host, net in (("inside", "client", 80), ("outside", "remote", 81)):
        other = f"{prefix}-{host}"
        run("ip", "-n", gateway, "link", "add", side, "type", "veth", "peer", "name", f"eth{n}", "netns", other)
        for namespace, device, last in ((gateway, side, 1), (other, f"eth{n}", 2)):
            run("ip", "-n", namespace, "addr", "add", f"10.{net}.{n}.{last}/24", "dev", device)
            run("ip", "-n", namespace, "addr", "add", f"fd{net}:{n}::{last}/64", "dev", device, "nodad")
            run("ip", "-n", namespace, "link", "set", device, "up")
        across = 161 - net
        run("ip", "-n", other, "route", "add", f"10.{across}.{n}.0/24", "via", f"10.{net}.{n}.1")
        run("ip", "-n", other, "-6", "route", "add", f"fd{across}:{n}::/64", "via", f"fd{net}:{n}::1")
    run("ip", "netns", "exec", gateway, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")


def policy(arguments):
    """Needs nothing but the program."""
    return subprocess.run([f"{Lab(name='bench').build}/tests/bench/bench_policy", *arguments], check=False).returncode


BENCHES = {"connect": connect, "grants": grants, "policy": policy, "rpc": rpc}


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
