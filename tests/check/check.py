#!/usr/bin/python3
"""`./dev check`: what a reviewer would otherwise have to remember. Compiles nothing.

Fails on formatting, include rules, dependency direction, banned calls, long files, marks of unfinished work, stale manuals,
changed migrations, and on what cppcheck and mandoc find. Each finding is one line: FILE:LINE: what: what to do instead.
"""
import hashlib
import os
import re
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
os.chdir(ROOT)
findings = []
skipped = []


def find(path, line, text):
    findings.append(f"{path}:{line}: {text}")


def tracked():
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], capture_output=True, text=True)
    if listed.returncode == 0:
        return [p for p in listed.stdout.split("\n") if p and os.path.isfile(p)]
    return [os.path.relpath(os.path.join(d, f)) for d, _, files in os.walk(".") for f in files if "/build" not in d]


FILES = tracked()
SOURCES = [p for p in FILES if p.endswith((".c", ".h"))]
PRODUCT = [p for p in SOURCES if not p.startswith("tests/")]


def lines(path):
    with open(path, encoding="utf-8", errors="replace") as f:
        return f.read().split("\n")


# A third-party header belongs to exactly the files named here: the rest of a program sees our own words.
OWNERS = [
    (r"nng/", ["proto/rpc/stream.c", "tests/bench/"]),
    (r"sqlite3\.h", ["server/store/sqlite.c", "server/store/sqlite.h"]),
    (r"mbedtls/", ["server/init/certificate.c"]),
    (r"libnftnl/", ["agent/datapath/nft"]),
    (r"libmnl/", ["agent/datapath/nft", "tests/bench/"]),
    (r"libnetfilter_conntrack/", ["agent/datapath/conntrack.c"]),
    (r"jansson\.h", ["client/text/json.c", "server/feeds/copy.c"]),
    (r"yaml\.h", ["client/text/yaml"]),
    (r"curl/", ["server/feeds/fetch.c"]),
    (r"ares", ["server/feeds/resolve.c"]),
    (r"glib", ["server/policy/zone.c"]),
    (r"systemd/", ["server/", "agent/", "client/inspectors/"]),
    (r"cap-ng\.h", ["agent/caps.c", "client/inspectors/"]),
    (r"sodium\.h", ["common/", "server/auth/token.c", "server/document/", "server/journal/", "client/lib/", "client/cli/", "proto/rpc/"]),
    (r"protobuf-c/|postern/v1/.*pb-c\.h", ["proto/", "server/service/", "server/journal/", "server/document/", "agent/", "client/", "tests/"]),
]

# Which folders a folder may include from; its own is understood.
MAY_INCLUDE = {
    "common": [],
    "proto": ["common"],
    "server": ["common", "proto"],
    "agent": ["common", "proto"],
    "client/lib": ["common", "proto"],
    "client/text": ["common", "proto"],
    "client/cli": ["common", "proto", "client/text"],
    "client/inspectors/ftp": ["common"],
}
# Pure modules: no I/O, no generated types, so that tables can test them.
PURE = ["server/policy/", "server/grants/", "agent/reconcile.", "agent/flows.", "agent/doors.", "agent/primaries.", "agent/tracked."]
PURE_FORBIDDEN = r"(rpc/|store/store\.h|pb-c\.h|sys/socket|common/loop\.h|common/log\.h|unistd\.h)"

BANNED = {
    "strcpy": "snprintf", "strcat": "snprintf", "sprintf": "snprintf", "vsprintf": "vsnprintf", "gets": "fgets",
    "atoi": "parse_number", "atol": "parse_number", "strtok": "strcspn", "system": "posix_spawn", "popen": "posix_spawn",
    "alloca": "a fixed array", "rand": "randombytes", "usleep": "an event with a deadline", "sleep": "an event with a deadline",
    "nanosleep": "an event with a deadline", "nng_msleep": "an event with a deadline", "mktemp": "mkstemp", "inet_ntoa": "addr_format",
}


def check_includes():
    for path in PRODUCT:
        area = next((a for a in sorted(MAY_INCLUDE, key=len, reverse=True) if path.startswith(a + "/")), None)
        for number, line in enumerate(lines(path), 1):
            found = re.match(r'\s*#\s*include\s*[<"]([^>"]+)[>"]', line)
            if not found:
                continue
            header = found.group(1)
            for pattern, owners in OWNERS:
                if re.match(pattern, header) and not any(path.startswith(o) for o in owners):
                    find(path, number, f"<{header}> belongs to {', '.join(owners)}: go through that module")
            top = next((a for a in sorted(MAY_INCLUDE, key=len, reverse=True) if header.startswith(a + "/")), None)
            if area and top and top != area and top not in MAY_INCLUDE[area]:
                find(path, number, f"{area} must not depend on {top}")
            if area and '"' in line and not top and not header.startswith("postern/"):
                find(path, number, f'"{header}": write includes from the root of the tree')
            if any(path.startswith(p) for p in PURE) and re.search(PURE_FORBIDDEN, header):
                find(path, number, f"{header}: this module is pure (no I/O, no generated types)")


def strip_strings_and_comments(text):
    def blank(match):
        return re.sub(r"[^\n]", " ", match.group(0))
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', blank, text, flags=re.S)


def check_banned():
    names = "|".join(BANNED)
    for path in SOURCES:
        original = lines(path)
        code = strip_strings_and_comments("\n".join(original)).split("\n")
        for number, line in enumerate(code, 1):
            for name in re.findall(rf"(?<![\w.>])({names})\s*\(", line):
                context = original[number - 1] + (original[number - 2] if number > 1 else "")
                if "allowed:" not in context:
                    find(path, number, f"{name}() is banned: use {BANNED[name]}, or say `/* allowed: why */`")


def check_size_and_marks():
    for path in FILES:
        if not path.endswith((".c", ".h", ".proto", ".sql", ".py", ".sh")) and path != "dev":
            continue
        text = lines(path)
        if path.endswith((".c", ".h")) and len(text) > 801:
            find(path, len(text), "over 800 lines: split the module")
        if path.endswith("main.c") and len(text) > 151:
            find(path, len(text), "main.c is over 150 lines: move work into the library")
        for number, line in enumerate(text, 1):
            if re.search(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b", line):
                find(path, number, "a mark of unfinished work: do it or delete it")


def check_format():
    tool = shutil.which("clang-format-14") or shutil.which("clang-format")
    version = subprocess.run([tool, "--version"], capture_output=True, text=True).stdout if tool else ""
    if "version 14." not in version:
        skipped.append("formatting: clang-format 14 (Debian 12) is the judge and is not here")
        return
    done = subprocess.run([tool, "--dry-run", "-Werror", *SOURCES], capture_output=True, text=True)
    for line in done.stderr.split("\n"):
        found = re.match(r"(.*?):(\d+):\d+: error: code should be clang-formatted", line)
        if found:
            find(found.group(1), found.group(2), "not formatted: run ./dev fmt")


def manual_text(name):
    path = f"docs/{name}"
    if not os.path.isfile(path):
        return None
    text = "\n".join(lines(path))
    return text.replace("\\-", "-").replace("\\&", "")


def check_policy_manual():
    """postern-policy(5) has every field of the document, and the example that is applied as it stands there."""
    page, example, source = "postern-policy.5", "docs/examples/policy.yaml", "proto/postern/v1/document.proto"
    text = manual_text(page)
    if text is None:
        find(f"docs/{page}", 1, "missing manual page")
        return
    words = set(re.findall(r"[A-Za-z0-9_]+", text))
    for number, line in enumerate(lines(source), 1):
        found = re.match(r"  (?:repeated )?\w+ (\w+) = \d+;", line)
        if found and found.group(1) not in words:
            find(source, number, f"field {found.group(1)} is not in docs/{page}")
    if not os.path.isfile(example):
        find(f"docs/{page}", 1, f"its example is missing: {example}")
        return
    shown = re.findall(r"^\.Bd -literal\n(.*?)^\.Ed$", "\n".join(lines(f"docs/{page}")), flags=re.S | re.M)
    if "\n".join(lines(example)) not in shown:
        find(example, 1, f"differs from the example in docs/{page}: it must stand there word for word")


def check_manuals():
    keys = [("server/config.c", "posternd.conf.5"), ("agent/config.c", "postern-agent.conf.5"),
            ("client/inspectors/ftp/config.c", "postern-ftp.conf.5")]
    for source, page in keys:
        text = manual_text(page)
        if text is None:
            find(f"docs/{page}", 1, "missing manual page")
            continue
        for number, line in enumerate(lines(source), 1):
            found = re.search(r'"([a-z][a-z0-9_]*)",\s*CONFIG_', line) or re.search(r'\.name = "([a-z0-9_]+)"', line)
            if found and found.group(1) not in text:
                find(source, number, f"option `{found.group(1)}` is not in docs/{page}")
    text = manual_text("libpostern.3")
    for number, line in enumerate(lines("client/include/postern/postern.h"), 1):
        found = re.search(r"\b(postern_[a-z_]+)\(struct|\b(postern_[a-z_]+)\(const|\b(postern_[a-z_]+)\(void", line)
        name = found and next(g for g in found.groups() if g)
        if name and text is not None and name not in text:
            find("client/include/postern/postern.h", number, f"{name} is not in docs/libpostern.3")
    check_policy_manual()
    protocol = manual_text("PROTOCOL.md")
    for path in FILES:
        if path.startswith("proto/") and path.endswith(".proto"):
            for number, line in enumerate(lines(path), 1):
                found = re.match(r"\s*rpc (\w+)\(", line)
                if found and protocol is not None and found.group(1) not in protocol:
                    find(path, number, f"method {found.group(1)} is not in docs/PROTOCOL.md")
    if shutil.which("mandoc"):
        for path in FILES:
            if re.match(r"docs/.*\.[1-8]$", path):
                done = subprocess.run(["mandoc", "-Tlint", "-Wwarning", path], capture_output=True, text=True)
                for line in done.stdout.split("\n"):
                    found = re.match(r"mandoc: (.*?):(\d+):\d+: (.*)", line)
                    # Pages of this tree refer to each other before they are installed.
                    if found and "referenced manual not found" not in line:
                        find(found.group(1), found.group(2), found.group(3))
    else:
        skipped.append("manual pages: mandoc is not here")


def check_migrations():
    sums = {}
    if os.path.isfile("migrations/SHA256SUMS"):
        for line in lines("migrations/SHA256SUMS"):
            if line:
                digest, name = line.split()
                sums[name] = digest
    for path in sorted(p for p in FILES if re.match(r"migrations/.*\.sql$", p)):
        name = os.path.basename(path)
        with open(path, "rb") as f:
            digest = hashlib.sha256(f.read()).hexdigest()
        if sums.get(name) != digest:
            find(path, 1, "differs from migrations/SHA256SUMS: a landed migration never changes; add a new one "
                 f"(a new file's line: {digest}  {name})")


def check_cppcheck():
    if not shutil.which("cppcheck"):
        skipped.append("cppcheck: not here")
        return
    done = subprocess.run(
        ["cppcheck", "-q", "-j2", "--enable=warning,portability", "--inline-suppr", "--std=c11", "-I.", "-Iclient/include",
         "--suppress=missingInclude", "--suppress=missingIncludeSystem", "--suppress=uninitStructMember",
         "--template={file}:{line}: {id}: {message}", *[p for p in PRODUCT if p.endswith(".c")]],
        capture_output=True, text=True)
    for line in done.stderr.split("\n"):
        if re.match(r"\S+:\d+: ", line) and not line.startswith("nofile"):
            findings.append(line)


def main():
    for check in (check_includes, check_banned, check_size_and_marks, check_format, check_manuals, check_migrations,
                  check_cppcheck):
        check()
    for line in findings:
        print(line)
    for line in skipped:
        print(f"skipped: {line}")
    print(f"check: {len(SOURCES)} sources, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
