"""Network namespaces from Python: make, enter, connect, remove. Needs root and iproute2.

A namespace belongs to a thread, not to a process: `inside()` moves the calling thread and moves it back, so one test can hold
a socket in the client's namespace and another in the remote's. Sockets and children made inside stay there.
"""
import contextlib
import ctypes
import os
import subprocess

CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


class NetnsError(Exception):
    """A command failed."""


def _path(name):
    return "/run/netns/" + name


def run(argv, text=None):
    done = subprocess.run(argv, input=text, text=True, capture_output=True)
    if done.returncode != 0:
        raise NetnsError("%s: %s" % (" ".join(argv), (done.stderr or done.stdout).strip()))
    return done.stdout


def add(name):
    run(["ip", "netns", "add", name])


def delete(name):
    if os.path.exists(_path(name)):
        run(["ip", "netns", "delete", name])


def ip(name, lines, family=None):
    """A batch of `ip` commands in a namespace."""
    argv = ["ip", "-n", name] + (["-" + family] if family else []) + ["-batch", "-"]
    run(argv, "".join(line + "\n" for line in lines))


def veth(left, left_name, right, right_name):
    """A cable between two namespaces."""
    run(["ip", "link", "add", left_name, "netns", left, "type", "veth", "peer", "name", right_name, "netns", right])


def _setns(fd):
    if _libc.setns(fd, CLONE_NEWNET) != 0:
        errno = ctypes.get_errno()
        raise OSError(errno, "setns: " + os.strerror(errno))


@contextlib.contextmanager
def inside(name):
    """The calling thread is in namespace `name` within the block."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        target = os.open(_path(name), os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(target)
        finally:
            os.close(target)
        try:
            yield
        finally:
            _setns(home)
    finally:
        os.close(home)


def sysctl(name, settings):
    with inside(name):
        for key, value in settings.items():
            with open("/proc/sys/" + key.replace(".", "/"), "w", encoding="ascii") as file:
                file.write(str(value))
