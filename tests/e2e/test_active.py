#!/usr/bin/python3
"""Active FTP (PORT, EPRT) and translated addresses through the inspector, with vsftpd that connects from port 20, IPv4 and IPv6."""
import os
import re
import select
import socket

from e2e import CLIENT, EXTERNAL, OTHER, REMOTE, REMOTE2, Try, main, run, wait_until
from traffic import make_socket

SIZE = 10240
ACTIVE = ("--ftp-port", "-")


def url(family, name):
    return f"ftp://[{REMOTE[family]}]/{name}" if family == 6 else f"ftp://{REMOTE[family]}/{name}"


class Control:
    """A client's control connection, by hand."""

    def __init__(self, lab, family, source=None):
        self.family = family
        self.socket = make_socket(lab, "client1", source or CLIENT[family], 0, socket.SOCK_STREAM)
        self.socket.settimeout(10)
        self.socket.connect((REMOTE[family], 21))
        self.file = self.socket.makefile("rb")
        assert self.reply().startswith("220"), "the greeting"
        assert self.ask("USER anonymous").startswith("230"), "vsftpd asks for no password"

    def reply(self):
        return self.file.readline().decode().rstrip()

    def ask(self, line):
        self.socket.sendall(line.encode() + b"\r\n")
        return self.reply()

    def eprt(self, port, address=None):
        return self.ask(f"EPRT |{1 if self.family == 4 else 2}|{address or CLIENT[self.family]}|{port}|")

    def close(self):
        self.file.close()
        self.socket.close()


def expect_flows(lab, before, downloads, uploads):
    """Exactly so many more flows since then, each with its bytes: the client's own count, whoever opened them."""
    count = downloads + uploads
    lab.wait_entries(before + count, "--kind", "closed")
    established, closed = (lab.entries("--kind", kind)[before:] for kind in ("established", "closed"))
    assert len(established) == count and len(closed) == count, (len(established), len(closed), count)
    assert len({e["grant"] for e in established}) == count, "one flow a grant"
    assert {e["grant"] for e in established} == {e["grant"] for e in closed}
    got = []
    for entry in closed:
        flow = entry["flow"]
        assert flow["accounted"], entry
        # IP and TCP headers come on top: 52 to 72 bytes a packet, 40 at least.
        got += [side for side in ("received", "sent")
                if SIZE <= flow[f"bytes_{side}"] - 40 * flow[f"packets_{side}"] and flow[f"bytes_{side}"] <= SIZE + 80 * flow[f"packets_{side}"]]
    assert sorted(got) == ["received"] * downloads + ["sent"] * uploads, (got, closed)
    wait_until(lambda: not lab.doors(), "used doors are gone")
    return established


def flows(lab):
    """How many there were so far; what other tests left open has ended."""
    return wait_until(lambda: (n := len(lab.entries("--kind", "closed"))) == len(lab.entries("--kind", "established")) and [n],
                      "every flow is closed")[0]


def data_file(lab):
    path = f"{lab.folder}/upload.bin"
    if not os.path.exists(path):
        with open(path, "wb") as f:
            f.write(os.urandom(SIZE))
    return path


def download(lab, family, *options):
    done = lab.curl(url(family, "small.bin"), *options)
    assert done.returncode == 0 and done.stdout == str(SIZE), (family, options, done)


def upload(lab, family, name, *options):
    done = lab.curl(url(family, f"upload/{name}"), "-T", data_file(lab), *options)
    assert done.returncode == 0, (family, options, done)
    with open(f"{lab.folder}/ftp1/upload/{name}", "rb") as there, open(data_file(lab), "rb") as here:
        assert there.read() == here.read(), f"{name} arrived otherwise"


def port_and_eprt_pass_in_both_directions(lab):
    before = flows(lab)
    for family, options in ((4, ("--disable-eprt",)), (4, ()), (6, ())):
        download(lab, family, *ACTIVE, *options)
        upload(lab, family, f"active{family}{len(options)}", *ACTIVE, *options)
    for entry in expect_flows(lab, before, 3, 3):
        assert entry["flow"]["remote_port"] == 20, f"vsftpd connects from port 20: {entry}"


def lftp_in_active_mode(lab):
    before = flows(lab)
    for family in (4, 6):
        done = lab.run("client1", "lftp", "-c", f"set net:timeout 5; set net:max-retries 1; set ftp:passive-mode off; open ftp://{place(family)}; "
                       f"cat small.bin; cd upload; put {data_file(lab)} -o lftp{family}", text=False, check=False)
        assert done.returncode == 0 and done.stdout[:SIZE] == bytes(range(256)) * 40, (family, done.returncode, done.stderr)
    # lftp lists or asks for sizes as it likes; what it transferred must be there.
    lab.wait_entries(before + 4, "--kind", "closed")
    for family in (4, 6):
        assert os.path.getsize(f"{lab.folder}/ftp1/upload/lftp{family}") == SIZE


def place(family):
    return f"[{REMOTE[family]}]" if family == 6 else REMOTE[family]


def low_ports_and_other_hosts_are_refused(lab):
    granted = len(lab.entries("--kind", "granted"))
    for family in (4, 6):
        control = Control(lab, family)
        assert control.eprt(22).startswith("504 Postern: data connections come to ports"), "the trap of the kernel's helper"
        assert control.eprt(1023).startswith("504 Postern")
        for other in (OTHER[family], REMOTE[family], EXTERNAL[family]):
            assert control.eprt(5555, other).startswith("504 Postern: data connections come to your own"), other
        assert control.ask(f"EPRT |{2 if family == 4 else 1}|{CLIENT[10 - family]}|5555|").startswith("522 Postern"), "the other family"
        assert control.ask("EPRT |1|x|5555|").startswith("501 Postern")
        if family == 4:
            assert control.ask("PORT 10,77,1,2,0,22").startswith("504 Postern")
            assert control.ask("PORT 10,77,1,3,21,179").startswith("504 Postern")
        # The server saw none of them: it has no address to connect to.
        assert control.ask("NLST").startswith("425 Use PORT or PASV first"), "vsftpd's own words"
        control.close()
    assert len(lab.entries("--kind", "granted")) == granted, "nobody was asked"
    assert not lab.doors()


def only_the_server_comes_through_and_once(lab):
    for family in (4, 6):
        control = Control(lab, family)
        assert control.eprt(5555).startswith("200")
        listener = lab.listen_at("client1", CLIENT[family], 5555)
        lab.closed(Try("remote1", REMOTE2[family], CLIENT[family], 5555), Try("remote1", REMOTE[family], CLIENT[family], 5556),
                   Try("remote1", REMOTE[family], OTHER[family], 5555))
        pair = lab.pair(Try("remote1", REMOTE[family], CLIENT[family], 5555), listener)
        assert pair.passes()
        lab.closed(Try("remote1", REMOTE[family], CLIENT[family], 5555), why="a second time")
        control.close()
        assert pair.passes(), "a data connection outlives the control connection"
        pair.close()


def doors_close_when_overtaken(lab):
    for family in (4, 6):
        control = Control(lab, family)
        for port in (5001, 5002):
            assert control.eprt(port).startswith("200")
        wait_until(lambda: len(lab.doors()) == 1, "the door of the first EPRT is closed")
        control.socket.sendall(b"\xff\xf4\xff\xf2ABOR\r\n")
        wait_until(lambda: not lab.doors(), "ABOR closes the door")
        assert control.reply().startswith("225")
        assert control.eprt(5003).startswith("200")
        assert control.ask("EPSV").startswith("229")
        wait_until(lambda: len(lab.doors()) == 1, "the passive door is the only one")
        control.close()
        wait_until(lambda: not lab.doors(), "the session's end closes the rest")


def a_port_of_the_inspector_itself_is_a_port_like_others(lab):
    for family in (4, 6):
        control = Control(lab, family)
        listener = lab.listen_at("client1", CLIENT[family], 2121)
        assert control.eprt(2121).startswith("200")
        assert control.ask("NLST").startswith("150"), "vsftpd has connected"
        assert select.select([listener], [], [], 5)[0], "the data connection went elsewhere"
        data = listener.accept()[0]
        data.setblocking(True)
        assert b"small.bin" in data.makefile("rb").read()
        assert control.reply().startswith("226")
        data.close()
        control.close()


def a_session_ends_with_its_control_connection_also_without_the_inspector(lab):
    controls = [Control(lab, family) for family in (4, 6)]
    for control in controls:
        assert control.eprt(5555).startswith("200")
    assert len(lab.doors()) == 2
    lab.kill("gw1", "postern-ftp")
    for control in controls:
        assert control.reply() == "", "the control connection ends with its inspector"
        control.close()
    wait_until(lambda: not lab.doors(), "doors close when the control connections end")
    wait_until(lambda: not lab.json("policy", "session", "list"), "and so do the sessions")
    lab.start("gw1", "postern-ftp")


def a_control_connection_that_the_gateway_does_not_know(lab):
    """An administrator may exempt it from connection tracking; then nothing proves that the client exists."""
    lab.run("gw1", "nft", "-f", "-", input="""table inet untracked {
        chain prerouting { type filter hook prerouting priority raw; iifname "inside" tcp dport 21 notrack; }
        chain output { type filter hook output priority raw; oifname "inside" tcp sport 21 notrack; }
    }""")
    try:
        for family in (4, 6):
            control = Control(lab, family)
            assert control.eprt(5555).startswith("425 Postern: the gateway does not know this control connection")
            assert control.ask("EPSV").startswith("425 Postern: the gateway does not know this control connection")
            assert control.ask("NOOP").startswith("200"), "the control connection itself goes on"
            control.close()
    finally:
        lab.run("gw1", "nft", "delete", "table", "inet", "untracked")
    assert not lab.doors()


def side_by_side(lab, count, *options):
    before = flows(lab)
    children = [lab.popen("client1", "curl", "-sS", "-o", "/dev/null", "-w", "%{size_download}", "-m", "20", *options,
                          url(4 if i % 2 else 6, "small.bin")) for i in range(count)]
    for child in children:
        out, err = child.communicate(timeout=30)
        assert child.returncode == 0 and out == str(SIZE), (child.returncode, err)
    expect_flows(lab, before, count, 0)


def twenty_side_by_side(lab):
    side_by_side(lab, 20, *ACTIVE)


# ---- translation ----

def transfers(lab):
    with open(f"{lab.folder}/remote1.transfers.log", encoding="utf-8") as f:
        return f.read().splitlines()


def ends_seen(lab, family):
    """Who is at the other end of the server's data connections, and from which of its ports they go."""
    lines = run("ip", "netns", "exec", lab.namespace("remote1"), "ss", "-Htn", "state", "established").stdout.splitlines()
    found = set()
    for line in lines:
        local, peer = line.split()[-2:]
        match = re.fullmatch(r"\[?(?:::ffff:)?([0-9a-f.:]+?)\]?:(\d+)", peer)
        if match and (":" in match[1]) == (family == 6):
            found.add((match[1], int(local.rsplit(":", 1)[1])))
    return found


def the_server_sees_one_external_address(lab):
    lab.restart("gw1", "postern-ftp", external=f"{EXTERNAL[4]}\nexternal = {EXTERNAL[6]}")
    before, logged, count = flows(lab), len(transfers(lab)), 0
    for family, mode in ((4, ()), (4, ("--disable-epsv",)), (6, ()), (4, ACTIVE), (4, (*ACTIVE, "--disable-eprt")), (6, ACTIVE)):
        download(lab, family, *mode)
        upload(lab, family, f"external{count}", *mode)
        count += 1
    for entry in expect_flows(lab, before, count, count):
        family = 6 if ":" in entry["flow"]["client"] else 4
        assert entry["flow"]["client"] == CLIENT[family] and entry["flow"]["external"] == EXTERNAL[family], entry
    clients = {re.search(r'Client "(?:::ffff:)?([^"]+)"', line)[1] for line in transfers(lab)[logged:] if "Client" in line}
    assert clients == {EXTERNAL[4], EXTERNAL[6]}, clients


def twenty_side_by_side_with_one_external_address(lab):
    side_by_side(lab, 20, *ACTIVE)
    side_by_side(lab, 20)


def data_connections_come_from_and_go_to_it(lab):
    for family in (4, 6):
        for mode in ((), ACTIVE):
            child = lab.popen("client1", "curl", "-sS", "-o", "/dev/null", "-m", "60", "--limit-rate", "1M", *mode, url(family, "large.bin"))
            lab.children.append(child)
            wanted = {(EXTERNAL[family], 21)}
            wait_until(lambda: wanted < ends_seen(lab, family), f"a data connection of {EXTERNAL[family]}")
            seen = ends_seen(lab, family)
            assert {address for address, _ in seen} == {EXTERNAL[family]}, seen
            assert not mode or (EXTERNAL[family], 20) in seen, seen
            child.kill()
            child.wait()
            wait_until(lambda: not ends_seen(lab, family), "vsftpd's sessions end")


def a_server_behind_translation_of_its_own(lab):
    conf = f"{lab.folder}/remote1.vsftpd.conf"
    with open(conf, "a", encoding="utf-8") as f:
        f.write("pasv_address=192.168.7.7\n")
    lab.restart("remote1", "vsftpd")
    obey = ("--disable-epsv", "--no-ftp-skip-pasv-ip")
    for external in (None, EXTERNAL[4]):
        lab.restart("gw1", "postern-ftp", external=external, passive_address=None)
        done = lab.curl(url(4, "small.bin"), *obey, "-v")
        assert done.returncode != 0 and "550 Postern: the server named another host" in done.stderr, done
        lab.restart("gw1", "postern-ftp", passive_address="server")
        before = flows(lab)
        download(lab, 4, *obey)
        upload(lab, 4, f"behind{external}", *obey)
        expect_flows(lab, before, 1, 1)


if __name__ == "__main__":
    main([port_and_eprt_pass_in_both_directions, lftp_in_active_mode, low_ports_and_other_hosts_are_refused,
          only_the_server_comes_through_and_once, doors_close_when_overtaken, a_port_of_the_inspector_itself_is_a_port_like_others,
          a_session_ends_with_its_control_connection_also_without_the_inspector, a_control_connection_that_the_gateway_does_not_know,
          twenty_side_by_side, the_server_sees_one_external_address, twenty_side_by_side_with_one_external_address,
          data_connections_come_from_and_go_to_it, a_server_behind_translation_of_its_own])
