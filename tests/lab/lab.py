#!/usr/bin/python3
"""The laboratory: a network of namespaces with real programs in them. `./dev lab` is its command line; tests import it.

  client1 ── gw1 ── remote1      gw1 drops everything (postern-agent, enforce mode) and runs postern-ftp
              │
     policy (posternd), inspector     the management network, a bridge in policy

Every lab has a name; its namespaces are postern-NAME-HOST, its files lie in /run/postern-lab/NAME. A program is started with a
NOTIFY_SOCKET and is up when it says READY=1; it is ended by the pid that was started, checked by its start time.
"""
import argparse
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RUN = "/run/postern-lab"
DEADLINE_S = 20


class LabError(Exception):
    pass


def run(*words, check=True, **options):
    options.setdefault("text", True)
    done = subprocess.run(words, capture_output=True, **options)
    if check and done.returncode != 0:
        raise LabError(f"{' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
    return done


def pause(seconds):
    """Between two looks at a condition that sends no event."""
    select.select([], [], [], seconds)


def wait_until(condition, what, deadline_s=DEADLINE_S):
    end = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise LabError(f"not within {deadline_s} s: {what}")
        pause(0.02)


def start_time(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return None if fields[0] == "Z" else fields[19]
    except OSError:
        return None


class Program:
    """A daemon of the lab, known by its pid file."""

    def __init__(self, lab, host, name):
        self.lab, self.host, self.name = lab, host, name
        self.file = f"{lab.folder}/{host}.{name}.pid"
        self.log = f"{lab.folder}/{host}.{name}.log"

    def pid(self):
        try:
            with open(self.file, encoding="ascii") as f:
                pid, started = f.read().split()
        except (OSError, ValueError):
            return None
        return int(pid) if start_time(pid) == started else None

    def start(self, command, notify=True, ready=None):
        path = f"{self.lab.folder}/{self.host}.{self.name}.notify"
        if os.path.exists(path):
            os.unlink(path)
        env = dict(os.environ, PATH=self.lab.path())
        listener = None
        if notify:
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            listener.bind(path)
            env["NOTIFY_SOCKET"] = path
        with open(self.log, "ab") as log:
            child = subprocess.Popen(["ip", "netns", "exec", self.lab.namespace(self.host), *command], stdin=subprocess.DEVNULL,
                                     stdout=log, stderr=log, env=env, start_new_session=True, cwd="/")
        with open(self.file, "w", encoding="ascii") as f:
            f.write(f"{child.pid} {start_time(child.pid)}\n")
        end = time.monotonic() + DEADLINE_S
        while True:
            if child.poll() is not None:
                raise LabError(f"{self.host}: {self.name} ended at once: {self.tail()}")
            if listener and select.select([listener], [], [], 0.1)[0] and b"READY=1" in listener.recv(4096):
                break
            if not listener and (ready is None or ready()):
                break
            if time.monotonic() > end:
                raise LabError(f"{self.host}: {self.name} is not ready after {DEADLINE_S} s: {self.tail()}")
            if not listener:
                pause(0.02)
        if listener:
            listener.close()
        self.child = child

    def end(self, signo=signal.SIGTERM, wait=True):
        pid = self.pid()
        if pid is None:
            return
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            os.kill(pid, signo)
            if wait:
                poll = select.poll()
                poll.register(fd, select.POLLIN)
                if not poll.poll(15000):
                    os.kill(pid, signal.SIGKILL)
                    poll.poll(5000)
        except ProcessLookupError:
            pass
        finally:
            os.close(fd)
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            pass

    def tail(self):
        try:
            with open(self.log, encoding="utf-8", errors="replace") as f:
                return "".join(f.readlines()[-5:]).strip()
        except OSError:
            return ""


class Lab:
    def __init__(self, name=None, build=None):
        self.name = name or os.environ.get("POSTERN_LAB", "lab")
        self.build = os.path.abspath(build or os.environ.get("POSTERN_BUILD", f"{ROOT}/build/gcc"))
        self.folder = f"{RUN}/{self.name}"
        self.gateways = 1
        self.policy_disk = None  # size of a file system of its own for the database, like "4m"
        self.settings = {}  # of programs, from the beginning: {"posternd": {"unused_timeout": "2s"}}

    # ---- names ----

    def namespace(self, host):
        return f"postern-{self.name}-{host}"

    def path(self):
        folders = ["server", "agent", "client/cli", "client/inspectors/ftp", "tests/bench"]
        return ":".join([f"{self.build}/{f}" for f in folders] + ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin",
                                                                  "/bin"])

    def hosts(self):
        return ["policy", "inspector"] + [f"{kind}{n}" for n in range(1, self.gateways + 1) for kind in ("gw", "client", "remote")]

    def environment(self, host):
        env = {"PATH": self.path()}
        if host == "policy":
            env.update(POSTERN_SERVER=f"ipc://{self.folder}/policy/posternd.sock", POSTERN_TOKEN_FILE=f"{self.folder}/policy/admin.token",
                       POSTERN_CA_FILE=f"{self.folder}/policy/ca.pem")
        elif host == "inspector":
            env.update(POSTERN_SERVER="tls+tcp://10.77.0.1:7411", POSTERN_TOKEN_FILE=f"{self.folder}/inspector.token",
                       POSTERN_CA_FILE=f"{self.folder}/policy/ca.pem")
        return env

    # ---- running things ----

    def command(self, host, *words):
        return ["ip", "netns", "exec", self.namespace(host), "env", *[f"{k}={v}" for k, v in self.environment(host).items()], *words]

    def run(self, host, *words, check=True, timeout=60, **options):
        return run(*self.command(host, *words), check=check, timeout=timeout, **options)

    def popen(self, host, *words, **options):
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        options.setdefault("text", True)
        return subprocess.Popen(self.command(host, *words), **options)

    def json(self, host, *words, check=True):
        done = self.run(host, "postern", "-o", "json", *words, check=check)
        return [json.loads(line) for line in done.stdout.splitlines() if line]

    # ---- network ----

    def _ip(self, host, *words):
        run("ip", "-n", self.namespace(host), *words)

    def _host(self, host):
        run("ip", "netns", "add", self.namespace(host))
        # No duplicate address detection: the first packet of a lab that is up waits for nobody.
        self._sysctl(host, "net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.all.accept_dad=0")
        self._ip(host, "link", "set", "lo", "up")

    def _address(self, host, device, *addresses):
        for address in addresses:
            self._ip(host, "addr", "add", address, "dev", device, *(["nodad"] if ":" in address else []))
        self._ip(host, "link", "set", device, "up")

    def _management(self, host, number):
        port = f"m-{host}"[:15]
        run("ip", "-n", self.namespace(host), "link", "add", "mgmt", "type", "veth", "peer", "name", port, "netns",
            self.namespace("policy"))
        self._ip("policy", "link", "set", port, "master", "br0")
        self._ip("policy", "link", "set", port, "up")
        self._address(host, "mgmt", f"10.77.0.{number}/24", f"fd77::{number:x}/64")

    def _cable(self, a, device_a, addresses_a, b, device_b, addresses_b):
        run("ip", "-n", self.namespace(a), "link", "add", device_a, "type", "veth", "peer", "name", device_b, "netns", self.namespace(b))
        self._address(a, device_a, *addresses_a)
        self._address(b, device_b, *addresses_b)

    def _sysctl(self, host, *settings):
        run("ip", "netns", "exec", self.namespace(host), "sysctl", "-qw", *settings)

    def second_client_address(self, n):
        """For "from another client"."""
        self._ip(f"client{n}", "addr", "add", f"10.77.{2 * n - 1}.3/24", "dev", "eth0")
        self._ip(f"client{n}", "addr", "add", f"fd77:{2 * n - 1}::3/64", "dev", "eth0", "nodad", "preferred_lft", "0")

    def build_gateway(self, n):
        """gwN with its client and remote, without programs. Also what a reboot of a gateway is: see reboot()."""
        c, r = 2 * n - 1, 2 * n
        self._host(f"gw{n}")
        self._sysctl(f"gw{n}", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        self._management(f"gw{n}", 10 + n)
        self._cable(f"gw{n}", "inside", [f"10.77.{c}.1/24", f"fd77:{c}::1/64"], f"client{n}", "eth0",
                    [f"10.77.{c}.2/24", f"fd77:{c}::2/64"])
        # The gateway has two addresses outside; the remote two, for "only that address".
        self._cable(f"gw{n}", "outside", [f"10.77.{r}.1/24", f"10.77.{r}.101/24", f"fd77:{r}::1/64", f"fd77:{r}::101/64"],
                    f"remote{n}", "eth0", [f"10.77.{r}.2/24", f"10.77.{r}.3/24", f"fd77:{r}::2/64", f"fd77:{r}::3/64"])
        self.second_client_address(n)
        for host, net in ((f"client{n}", c), (f"remote{n}", r)):
            self._ip(host, "route", "add", "default", "via", f"10.77.{net}.1")
            self._ip(host, "-6", "route", "add", "default", "via", f"fd77:{net}::1")
        for family in ("-4", "-6"):
            self._ip(f"gw{n}", family, "rule", "add", "fwmark", "0x1", "lookup", "100")
            self._ip(f"gw{n}", family, "route", "add", "local", "default", "dev", "lo", "table", "100")

    def network(self):
        for host in self.hosts():
            if not host.startswith("gw"):
                self._host(host)
        self._ip("policy", "link", "add", "br0", "type", "bridge")
        self._address("policy", "br0", "10.77.0.1/24", "fd77::1/64")
        self._management("inspector", 2)
        for n in range(1, self.gateways + 1):
            self.build_gateway(n)

    # ---- programs ----

    def program(self, host, name):
        return Program(self, host, name)

    def start(self, host, name):
        program = self.program(host, name)
        if program.pid():
            raise LabError(f"{host}: {name} runs already")
        if name == "vsftpd":
            program.start(["/usr/sbin/vsftpd", f"{self.folder}/{host}.vsftpd.conf"], notify=False,
                          ready=lambda: ":21 " in run("ip", "netns", "exec", self.namespace(host), "ss", "-Hltn").stdout)
        else:
            program.start([name, "-d", "-c", f"{self.folder}/{self.conf(host, name)}"])
        return program

    def conf(self, host, name):
        return {"posternd": "policy/posternd.conf"}.get(name, f"{host}.{name}.conf")

    def configure(self, host, name, **settings):
        """Sets keys of a program's configuration file; None removes one. It takes them in when it is started again."""
        with open(f"{self.folder}/{self.conf(host, name)}", encoding="utf-8") as f:
            lines = [line for line in f.read().splitlines() if line.partition("=")[0].strip() not in settings]
        lines += [f"{key} = {value}" for key, value in settings.items() if value is not None]
        self.write(self.conf(host, name), "\n".join(lines) + "\n")

    def restart(self, host, name, signo=signal.SIGTERM, **settings):
        """Ends a program and starts it again, with another configuration if settings are given."""
        self.kill(host, name, signo)
        if settings:
            self.configure(host, name, **settings)
        return self.start(host, name)

    def kill(self, host, name, signo=signal.SIGKILL):
        self.program(host, name).end(signo)

    def tproxy(self, host, on=True):
        if on:
            with open(f"{ROOT}/packaging/nft/postern-ftp.nft", encoding="utf-8") as f:
                self.run(host, "nft", "-f", "-", input=f.read().replace('"lan0"', '"inside"'))
        else:
            self.run(host, "nft", "delete", "table", "inet", "postern_ftp", check=False)

    def write(self, name, text, mode=0o644):
        path = f"{self.folder}/{name}"
        with open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, mode), "w", encoding="utf-8") as f:
            f.write(text)
        return path

    def ftp_server(self, n):
        files = f"{self.folder}/ftp{n}"
        os.makedirs(files)
        os.chmod(files, 0o755)
        with open(f"{files}/small.bin", "wb") as f:
            f.write(bytes(range(256)) * 40)
        with open(f"{files}/large.bin", "wb") as f:
            f.truncate(64 * 1024 * 1024)
        os.makedirs(f"{files}/upload")
        os.chmod(f"{files}/upload", 0o777)
        os.makedirs("/var/run/vsftpd/empty", exist_ok=True)
        self.write(f"remote{n}.vsftpd.conf", "\n".join([
            "listen=NO", "listen_ipv6=YES", "background=NO", "anonymous_enable=YES", "local_enable=NO", "no_anon_password=YES",
            f"anon_root={files}", "pasv_min_port=40000", "pasv_max_port=40999", "pasv_enable=YES",
            "port_enable=YES", "connect_from_port_20=YES", "write_enable=YES", "anon_upload_enable=YES",
            "xferlog_enable=YES", "xferlog_std_format=NO", f"vsftpd_log_file={self.folder}/remote{n}.transfers.log",
            "seccomp_sandbox=NO", "isolate=NO", "isolate_network=NO",  # sessions stay where `down` finds them
            "max_per_ip=0", "max_clients=0", "secure_chroot_dir=/var/run/vsftpd/empty", ""]))
        self.start(f"remote{n}", "vsftpd")

    def joined(self, gateway, deadline_s=2 * DEADLINE_S):
        """An agent whose connections did not last pauses up to 15 s, and again when it then comes too early."""
        wait_until(lambda: any(g["name"] == gateway and g["connected"] for g in self.json("policy", "gateway", "list")),
                   f"{gateway} has joined", deadline_s)

    def gateway_programs(self, n):
        gateway = f"gw{n}"
        common = f"server = tls+tcp://10.77.0.1:7411\nca_file = {self.folder}/policy/ca.pem\n"
        self.run("policy", "postern", "gateway", "add", gateway, "--out", f"{self.folder}/{gateway}.agent.token")
        self.run("policy", "postern", "filter", "add", f"ftp-{gateway}", "--gateway", gateway, "--out", f"{self.folder}/{gateway}.ftp.token")
        self.write(f"{gateway}.postern-agent.conf", f"{common}token_file = {self.folder}/{gateway}.agent.token\nmode = enforce\n")
        self.write(f"{gateway}.postern-ftp.conf", f"{common}token_file = {self.folder}/{gateway}.ftp.token\ngateway = {gateway}\n")
        for name in ("postern-agent", "postern-ftp"):
            self.configure(gateway, name, **self.settings.get(name, {}))
            self.start(gateway, name)
        self.tproxy(gateway)
        self.joined(gateway)

    def up(self, gateways=1):
        if os.path.exists(self.folder):
            raise LabError(f"lab {self.name} is up already: `./dev lab down` first, or choose another with POSTERN_LAB=NAME")
        for tool in ("posternd", "postern-agent", "postern", "postern-ftp"):
            if not shutil.which(tool, path=self.path()):
                raise LabError(f"{tool} is not built in {self.build}: run ./dev build")
        self.gateways = gateways
        os.makedirs(self.folder, mode=0o755)
        try:
            self.write("gateways", str(gateways))
            self.write("build", self.build)
            self.network()
            if self.policy_disk:
                os.makedirs(f"{self.folder}/policy", mode=0o700)
                run("mount", "-t", "tmpfs", "-o", f"size={self.policy_disk},mode=0700", "tmpfs", f"{self.folder}/policy")
            self.run("policy", "posternd", "init", f"{self.folder}/policy", "--listen", f"ipc://{self.folder}/policy/posternd.sock",
                     "--listen", "tls+tcp://10.77.0.1:7411", "--listen", "tls+tcp://[fd77::1]:7411", "--listen", "tcp://127.0.0.1:7412", "--name", "10.77.0.1", "--name",
                     "fd77::1", "--name", "policy")
            self.configure("policy", "posternd", **self.settings.get("posternd", {}))
            self.start("policy", "posternd")
            self.run("policy", "postern", "protocol", "register", "ftp", "--transport", "tcp", "--port", "21")
            self.run("policy", "postern", "policy", "allow-protocol", "ftp")
            self.run("policy", "postern", "filter", "add", "inspector", "--out", f"{self.folder}/inspector.token")
            for n in range(1, gateways + 1):
                self.ftp_server(n)
                self.gateway_programs(n)
        except BaseException:
            if not os.environ.get("POSTERN_LAB_KEEP"):
                self.down()
            raise

    def reload(self):
        """For a lab that another process has brought up."""
        try:
            with open(f"{self.folder}/gateways", encoding="ascii") as f:
                self.gateways = int(f.read())
            with open(f"{self.folder}/build", encoding="utf-8") as f:
                self.build = f.read()
        except OSError as err:
            raise LabError(f"lab {self.name} is not up: ./dev lab up") from err
        return self

    def programs(self):
        try:
            names = [f[:-4].split(".", 1) for f in sorted(os.listdir(self.folder)) if f.endswith(".pid")]
        except OSError:
            names = []
        return [self.program(host, name) for host, name in names]

    def end_programs(self):
        for program in reversed(self.programs()):
            program.end()

    def end_others(self, namespace):
        """What outlives its daemon in a namespace of ours, like the sessions of vsftpd, would keep the network alive unseen."""
        for pid in run("ip", "netns", "pids", namespace, check=False).stdout.split():
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                pass

    def down(self):
        self.end_programs()
        prefix = f"postern-{self.name}-"
        for line in run("ip", "netns", "list").stdout.splitlines():
            namespace = line.split()[0]
            # Lab "a" must not take the hosts of a lab "a-b" along.
            if namespace.startswith(prefix) and re.fullmatch(r"policy|inspector|(gw|client|remote)\d+", namespace[len(prefix):]):
                self.end_others(namespace)
                run("ip", "netns", "delete", namespace, check=False)
                shutil.rmtree(f"/etc/netns/{namespace}", ignore_errors=True)  # what a test laid over /etc
        if os.path.ismount(f"{self.folder}/policy"):
            run("umount", f"{self.folder}/policy", check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def reboot(self, n):
        """The gateway's network stack is gone, with its doors and flows, and comes back empty."""
        for name in ("postern-ftp", "postern-agent"):
            self.kill(f"gw{n}", name)
        run("ip", "netns", "delete", self.namespace(f"gw{n}"))
        wait_until(lambda: "eth0" not in run("ip", "-n", self.namespace(f"client{n}"), "-o", "link").stdout, "the old cables are gone")
        self.build_gateway(n)
        self.start(f"gw{n}", "postern-agent")
        self.start(f"gw{n}", "postern-ftp")
        self.tproxy(f"gw{n}")


def main():
    parser = argparse.ArgumentParser(prog="./dev lab", description="A laboratory of network namespaces (POSTERN_LAB=NAME chooses one).")
    verbs = parser.add_subparsers(dest="verb", required=True)
    up = verbs.add_parser("up", help="make the network and start the programs")
    up.add_argument("--gateways", type=int, default=1, metavar="N", help="gw1 to gwN, each with its client and remote")
    verbs.add_parser("down", help="end what runs and remove everything")
    verbs.add_parser("status", help="which programs run")
    execute = verbs.add_parser("exec", help="run a command on a host, with the programs on PATH and tokens in the environment")
    execute.add_argument("host")
    execute.add_argument("command", nargs=argparse.REMAINDER)
    env = verbs.add_parser("env", help="the environment of a host, for `eval`")
    env.add_argument("host", nargs="?", default="policy")
    for verb, text in (("kill", "end a program (default SIGKILL)"), ("start", "start it again")):
        one = verbs.add_parser(verb, help=text)
        one.add_argument("host")
        one.add_argument("program", choices=["posternd", "postern-agent", "postern-ftp", "vsftpd"])
        if verb == "kill":
            one.add_argument("signal", nargs="?", default="KILL")
    words = parser.parse_args()
    lab = Lab()
    if words.verb == "down":
        lab.down()
    elif words.verb == "up":
        lab.up(words.gateways)
        print(f"lab {lab.name} is up: {', '.join(lab.hosts())}")
        print("try: ./dev lab exec policy postern gateway list")
    else:
        lab.reload()
    if words.verb == "status":
        for program in lab.programs():
            print(f"{program.host:10} {program.name:14} {program.pid() or 'not running'}")
    elif words.verb == "exec":
        if words.host not in lab.hosts():
            raise LabError(f"{words.host}: no such host: {', '.join(lab.hosts())}")
        command = lab.command(words.host, *(words.command or ["bash"]))
        os.execvp(command[0], command)
    elif words.verb == "env":
        for key, value in lab.environment(words.host).items():
            print(f"export {key}='{value}'")
    elif words.verb == "kill":
        lab.kill(words.host, words.program, getattr(signal, f"SIG{words.signal.upper().removeprefix('SIG')}"))
    elif words.verb == "start":
        lab.start(words.host, words.program)


if __name__ == "__main__":
    try:
        main()
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        sys.exit(1)
